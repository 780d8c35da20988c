"""`ingestify source`: which types of Source are installed."""

from __future__ import annotations

import click

from ingestify.cli.options import common_options, json_option
from ingestify.cli.screen import say, write_json, write_records
from ingestify.cli.session import Session


@click.group("source")
def source_command() -> None:
    """Look at the sources that can be used."""


@source_command.command("list")
@click.pass_obj
@json_option
@common_options
def source_list_command(session: Session, *, as_json: bool) -> int:
    """List the installed types of source, as `type` in a configuration names them."""
    import dataclasses

    from ingestify.plugins import source_types

    types = source_types()
    if as_json:
        write_json([dataclasses.asdict(each) for each in types])
        return 0
    header = ("TYPE", "PROVIDER", "PACKAGE", "CLASS", "PROBLEM")
    write_records(
        header,
        [
            (each.name, each.provider, each.distribution, each.class_path, each.error)
            for each in types
        ],
    )
    if not types:
        say("No type of source is installed.")
    return 0
