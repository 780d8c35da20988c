"""`ingestify config`: whether a configuration holds, and what may stand in one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ingestify.cli.options import common_options, json_option, lake_options
from ingestify.cli.screen import plural, say, write, write_json
from ingestify.cli.session import Session

if TYPE_CHECKING:
    from ingestify.config import Config


@click.group("config")
def config_command() -> None:
    """Check a configuration, or see what may stand in one."""


@config_command.command("check")
@click.pass_obj
@json_option
@lake_options
def config_check_command(session: Session, *, as_json: bool) -> int:
    """Check the configuration, without asking any provider, and print it.

    What is printed is what is in effect, with *** for everything that may be secret.
    """
    config = session.load_config()
    _build(config)
    if as_json:
        write_json(config.shown)
    else:
        import yaml

        write(yaml.safe_dump(config.shown, sort_keys=False, allow_unicode=True).rstrip())
    say(
        f"{session.config_file} is good: {plural(len(config.sources), 'source')},"
        f" {plural(len(config.ingestion_plans), 'plan')};"
        f" the lake is {config.main.metadata_url} and {config.main.file_url}"
    )
    return 0


@config_command.command("schema")
@click.pass_obj
@common_options
def config_schema_command(session: Session) -> int:
    """Print the JSON schema of configuration files, for editors."""
    from ingestify.config import config_schema

    write_json(config_schema())
    return 0


def _build(config: Config) -> None:
    """Everything that the configuration names.

    Raises:
        ConfigError: something in it cannot be built.
    """
    from ingestify.plugins import build_source, load_fetch_policy
    from ingestify.plugins.plans import check_plan

    sources = {
        name: build_source(name, written, config.folder) for name, written in config.sources.items()
    }
    for plan in config.ingestion_plans:
        source = sources[plan.source]
        check_plan(source, plan, config.identifier_keys(source.provider, plan.dataset_type))
        load_fetch_policy(plan.fetch_policy, recheck=config.recheck_of(plan), folder=config.folder)
