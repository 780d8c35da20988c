"""The command `ingestify`: which verbs there are, each loaded when it is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click

VERBS = {  # in the order in which people meet them
    "init": ("init", "Write a configuration and what belongs to it into PATH."),
    "run": ("run", "Fetch what is new or changed."),
    "plan": ("plan", "Show what a run would do, and why."),
    "list": ("lake", "List the datasets that the lake has."),
    "show": ("detail", "Show one dataset: its metadata, files and revisions."),
    "explain": ("detail", "Explain why the files of a dataset were asked for."),
    "invalidate": ("lake", "Mark the newest revision of datasets as wrong."),
    "runs": ("history", "List the newest runs, newest first."),
    "failed": ("history", "Look at what could not be done."),
    "verify": (
        "upkeep",
        "Read every stored file, and compare it with what the catalog says of it.",
    ),
    "gc": ("upkeep", "Remove what interrupted runs have left behind."),
    "delete": ("upkeep", "Delete datasets: their rows, revisions and bytes."),
    "backup": ("backup", "Copy the catalog to PATH, also while a run goes on."),
    "events": ("events", "Look at the event log and its readers."),
    "source": ("source", "Look at the sources that can be used."),
    "config": ("config", "Check a configuration, or see what may stand in one."),
    "demo": ("demo", "Watch a lake grow, on your machine alone."),
}
"""The module that holds a verb, as ``<verb>_command``, and the first line of its help."""


class Verbs(click.Group):
    """Imports a verb's module when it is asked for, so that others cost nothing."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every verb, in the order in which people meet them."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The verb of that name."""
        if cmd_name not in VERBS:
            return None
        home, _ = VERBS[cmd_name]
        module = import_module(f"ingestify.cli.{home}")
        command: click.Command = getattr(module, f"{cmd_name}_command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of verbs, for which none of them has to be imported."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in VERBS.items()])

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """*args*, with a hint where an option stands before its verb."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as exc:
            hint = "Options come after the verb: ingestify run --config config.yaml"
            raise click.UsageError(f"{exc.format_message()}\n{hint}", ctx) from exc


def _print_version(ctx: click.Context, param: click.Parameter, wanted: bool) -> Any:
    if wanted and not ctx.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"ingestify {version('ingestify')}")
        ctx.exit()


@click.group(
    cls=Verbs,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 all done; 1 done, but something failed, or is damaged; 2 wrong usage "
    "or configuration; 3 could not go on; 4 stopped early on purpose; 130, 143 interrupted.",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and exit.",
)
def app() -> None:
    """A data lake of your own for match data.

    Discovers what your providers have, compares it with your lake, and fetches only what is new
    or changed. Begin with `ingestify init`, or watch `ingestify demo`.
    """
