"""`ingestify runs` and `ingestify failed`: what happened, and what is still open."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ingestify.cli.lake import read_lake
from ingestify.cli.options import json_option, lake_options
from ingestify.cli.screen import (
    Row,
    duration,
    moment,
    say,
    size,
    write_json,
    write_records,
)
from ingestify.cli.session import Session

if TYPE_CHECKING:
    from ingestify.model.run import Failure, RunRow
    from ingestify.ports import Catalog


@click.command("runs")
@click.pass_obj
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, metavar="N")
@json_option
@lake_options
def runs_command(session: Session, *, limit: int, as_json: bool) -> int:
    """List the newest runs, newest first."""

    async def work(catalog: Catalog) -> int:
        runs = await catalog.runs(limit=limit)
        if as_json:
            write_json(runs)
        elif runs:
            header = (
                "RUN", "STATUS", "STARTED", "TOOK", "LISTED", "STORED", "SAME", "SKIPPED",
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
@lake_options
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


def _run_row(run: RunRow) -> Row:
    counters = run.counters
    return (
        run.run_id,
        run.status,
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
        failure.name or failure.identifier_key or failure.selector,
        failure.data_feed_key,
        failure.code,
        failure.message,
    )
