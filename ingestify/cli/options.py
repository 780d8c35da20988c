"""Options that several verbs share, and what they make of the Session."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import TypeAlias

import click

from ingestify.cli.logs import configure
from ingestify.cli.session import Session
from ingestify.errors import ConfigError
from ingestify.model.settings import duration, size

Verb: TypeAlias = Callable[..., int]  # called with the Session first, then with its options

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def common_options(verb: Verb) -> Verb:
    """Gives a verb --debug and --quiet, and has the log written accordingly."""

    @click.option("--quiet", is_flag=True, help="Only results and warnings.")
    @click.option("--debug", is_flag=True, help="Log everything, and show tracebacks.")
    @wraps(verb)
    def command(session: Session, *, debug: bool, quiet: bool, **rest: object) -> int:
        session.debug, session.quiet = debug, quiet
        configure(session, logging.WARNING)
        return verb(session, **rest)

    return command


def lake_options(verb: Verb) -> Verb:
    """Gives a verb the options that say which lake it is about, and which part of it."""

    @click.option(
        "--bucket", metavar="NAME", help="Another default bucket than the configuration's."
    )
    @wraps(verb)
    def command(session: Session, *, bucket: str | None, **rest: object) -> int:
        session.bucket = bucket
        return verb(session, **rest)

    return catalog_options(command)


def catalog_options(verb: Verb) -> Verb:
    """Gives a verb the options that say which lake it is about, as a whole."""

    @click.option(
        "--config",
        "config_file",
        type=click.Path(path_type=Path),
        default="config.yaml",
        envvar="INGESTIFY_CONFIG_FILE",
        show_default=True,
        show_envvar=True,
        help="The configuration file.",
    )
    @wraps(verb)
    def command(session: Session, *, config_file: Path, **rest: object) -> int:
        session.config_file = config_file
        return verb(session, **rest)

    return common_options(command)


def choice_options(verb: Verb) -> Verb:
    """Gives a verb the options that say which plans to run, as one `Choice`."""

    @click.option("--provider", metavar="NAME", help="Only the plans for this provider.")
    @click.option("--source", metavar="NAME", help="Only the plans on this source.")
    @click.option(
        "--selector",
        "selectors",
        metavar="NAME=VALUE",
        multiple=True,
        help="Only what has this value. Several values for one name: any of them.",
    )
    @click.option("--force", is_flag=True, help="Ask for every file again, changed or not.")
    @click.option(
        "--concurrency",
        type=click.IntRange(min=1),
        metavar="N",
        help="At most so many requests in flight, over all sources.",
    )
    @wraps(verb)
    def command(
        session: Session,
        *,
        provider: str | None,
        source: str | None,
        selectors: Sequence[str],
        force: bool,
        concurrency: int | None,
        **rest: object,
    ) -> int:
        from ingestify.engine import Choice

        choice = Choice(
            provider=provider,
            source=source,
            bucket=session.bucket,
            selectors=by_name(selectors) or None,
            text_values=True,
            force=force,
            concurrency=concurrency,
        )
        return verb(session, choice=choice, **rest)

    return command


def _parsed(parse: Callable[[object], object]) -> Callable[..., object]:
    """A callback for an option whose value people write with a unit."""

    def callback(ctx: click.Context, param: click.Parameter, value: str | None) -> object:
        try:
            return None if value is None else parse(value)
        except ConfigError as exc:
            raise click.BadParameter(str(exc), ctx, param) from exc

    return callback


def budget_options(verb: Verb) -> Verb:
    """Gives a verb the options that say how much a run may spend."""
    options = [
        click.option(
            "--max-requests",
            type=click.IntRange(min=1),
            metavar="N",
            help="Stop before more than N requests are sent, lists and retries included.",
        ),
        click.option(
            "--max-bytes",
            callback=_parsed(size),
            metavar="SIZE",
            help="Begin nothing more once so much was received, such as 500MB.",
        ),
        click.option(
            "--max-duration",
            callback=_parsed(duration),
            metavar="TIME",
            help="Begin nothing more after that time, such as 30m.",
        ),
    ]
    for option in reversed(options):
        verb = option(verb)
    return verb


def by_name(written: Sequence[str]) -> dict[str, list[str]]:
    """Every ``NAME=VALUE`` of *written*: all values by name.

    Raises:
        ConfigError: one of them is something else.
    """
    from ingestify.model.identity import NAME

    found: dict[str, list[str]] = {}
    for each in written:
        name, sign, value = each.partition("=")
        if not sign or not value or not NAME.match(name):
            raise ConfigError(f"{each!r} is not NAME=VALUE, such as season_id=90")
        found.setdefault(name, []).append(value)
    return found
