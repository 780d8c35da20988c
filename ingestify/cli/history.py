"""`ingestify runs` and `ingestify failed`: what happened, and what is still open."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from ingestify.cli.lake import read_lake
from ingestify.cli.options import by_name, catalog_options, json_option
from ingestify.cli.run import report
from ingestify.cli.screen import (
    Row,
    duration,
    moment,
    say,
    size,
    write,
    write_json,
    write_records,
)
from ingestify.cli.session import Session, printable
from ingestify.cli.supervise import supervise
from ingestify.opening import check_catalog

if TYPE_CHECKING:
    from ingestify.model.run import Failure, RunRow
    from ingestify.ports import Catalog

MOST_FAILURES = 100_000


@click.command("runs")
@click.pass_obj
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, metavar="N")
@json_option
@catalog_options
def runs_command(session: Session, *, limit: int, as_json: bool) -> int:
    """List the newest runs, newest first."""

    async def work(catalog: Catalog) -> int:
        runs = await catalog.runs(limit=limit)
        if as_json:
            write_json(runs)
        elif runs:
            header = (
                "RUN", "STATUS", "EXIT", "STARTED", "TOOK", "LISTED", "STORED", "SAME", "SKIPPED",
                "FAILED", "REQUESTS", "RECEIVED", "ERROR",
            )  # fmt: skip
            write_records(header, [_run_row(run) for run in runs])
        else:
            say("No run so far.")
        return 0

    return read_lake(session.load_config(), work)


@click.group("failed")
def failed_command() -> None:
    """Look at what could not be done."""


@failed_command.command("list")
@click.pass_obj
@click.option("--run", "run_id", type=int, metavar="N", help="All that failed in that run.")
@click.option("--limit", type=click.IntRange(min=1), default=1000, show_default=True, metavar="N")
@json_option
@catalog_options
def failed_list_command(session: Session, *, run_id: int | None, limit: int, as_json: bool) -> int:
    """List what failed and has not succeeded since, newest first."""

    async def work(catalog: Catalog) -> int:
        failures = await catalog.failures(run_id=run_id, limit=limit)
        if as_json:
            write_json(failures)
        elif failures:
            header = ("FAILED", "RUN", "PROVIDER", "WHAT", "FEED", "CODE", "WHAT HAPPENED")
            write_records(header, [_failure_row(failure) for failure in failures])
        else:
            say("Nothing has failed." if run_id is None else f"Nothing failed in run {run_id}.")
        if len(failures) == limit:
            say(f"These are the newest {limit}; --limit shows more.")
        return 0

    return read_lake(session.load_config(), work)


@failed_command.command("show")
@click.pass_obj
@click.argument("filters", nargs=-1, metavar="[NAME=VALUE]...")
@click.option("--run", "run_id", type=int, metavar="N", help="All that failed in that run.")
@json_option
@catalog_options
def failed_show_command(
    session: Session, *, filters: Sequence[str], run_id: int | None, as_json: bool
) -> int:
    """Show everything that is known of failures, such as those of match_id=3773386."""
    wanted = by_name(filters)

    async def work(catalog: Catalog) -> int:
        failures = await catalog.failures(run_id=run_id, limit=MOST_FAILURES)
        found = [failure for failure in failures if _is_about(failure, wanted)]
        if as_json:
            write_json(found)
            return 0
        if not found:
            say("Nothing has failed that fits that." if wanted else "Nothing has failed.")
        for failure in found:
            lines = [f"  {name:<9} {text}" for name, text in _told(failure) if text]
            if not write(printable("\n".join([_what(failure), *lines, ""]))):
                break
        return 0

    return read_lake(session.load_config(), work)


@failed_command.command("retry")
@click.pass_obj
@click.option("--run", "run_id", type=int, metavar="N", help="Only what failed in that run.")
@click.option("--provider", metavar="NAME", help="Only what this provider's datasets failed at.")
@json_option
@catalog_options
def failed_retry_command(
    session: Session, *, run_id: int | None, provider: str | None, as_json: bool
) -> int:
    """Ask again for what failed and has not succeeded since, and for nothing else.

    A plain `ingestify run` does that, too, beside everything else.
    """
    config = session.load_config()
    check_catalog(config)
    outcome = supervise(
        session, config, lambda engine: engine.retry(run_id=run_id, provider=provider)
    )
    summary = outcome.result
    if summary is not None:
        report(session, summary, as_json=as_json)
    elif outcome.signal_code is None:
        say("Nothing to ask for again: nothing has failed that has not succeeded since.")
        if as_json:
            write_json(None)
    return outcome.signal_code or (summary.exit_code if summary else 0)


def _is_about(failure: Failure, wanted: Mapping[str, Sequence[str]]) -> bool:
    """Whether the identity of what failed has one of the *wanted* values for each name."""
    identity = json.loads(failure.identifier_key or "{}")
    return all(str(identity.get(name)) in values for name, values in wanted.items())


def _told(failure: Failure) -> Sequence[tuple[str, str | None]]:
    identity = json.loads(failure.identifier_key or "{}")
    return (
        ("identity", "/".join(f"{name}={value}" for name, value in identity.items())),
        ("where", f"{failure.provider}/{failure.dataset_type}"),
        ("selector", failure.selector),
        ("feed", failure.data_feed_key),
        ("failed", moment(failure.failed_at)),
        ("run", str(failure.run_id)),
        ("code", failure.code),
        ("because", failure.message),
    )


def _what(failure: Failure) -> str:
    """What has failed, as people call it."""
    return failure.name or failure.identifier_key or failure.selector or failure.provider


def _run_row(run: RunRow) -> Row:
    counters = run.counters
    return (
        run.run_id,
        run.status,
        run.exit_code,
        moment(run.started_at),
        duration(run.finished_at - run.started_at) if run.finished_at else None,
        counters.listed,
        counters.stored,
        counters.unchanged,
        counters.skipped,
        counters.failed,
        run.requests,
        size(run.received_bytes),
        run.error,
    )


def _failure_row(failure: Failure) -> Row:
    return (
        moment(failure.failed_at),
        failure.run_id,
        f"{failure.provider}/{failure.dataset_type}",
        _what(failure),
        failure.data_feed_key,
        failure.code,
        failure.message,
    )
