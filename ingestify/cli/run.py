"""`ingestify run`: bring the lake in step with its providers."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from ingestify.cli.exit_codes import COULD_NOT_GO_ON
from ingestify.cli.options import (
    budget_options,
    choice_options,
    json_option,
    lake_options,
)
from ingestify.cli.plan import code_of_choice, print_forecast
from ingestify.cli.screen import (
    Row,
    duration,
    moment,
    plural,
    say,
    size,
    write,
    write_json,
    write_table,
)
from ingestify.cli.session import Session, printable
from ingestify.cli.supervise import supervise

if TYPE_CHECKING:
    from ingestify.engine import Choice
    from ingestify.model.run import HeldPlan, RunSummary, SelectorSummary

MOST_FAILURES = 20
MOST_IDLE = 40  # Selectors shown although there was nothing to do for them


@click.command("run")
@click.pass_obj
@choice_options
@click.option("--dry-run", is_flag=True, help="Print what `ingestify plan` prints, and do nothing.")
@click.option(
    "--disable-events",
    is_flag=True,
    help="Call no subscriber; a later run tells them what this one did.",
)
@budget_options
@json_option
@lake_options
def run_command(
    session: Session,
    *,
    choice: Choice,
    dry_run: bool,
    disable_events: bool,
    as_json: bool,
    **budget: Any,
) -> int:
    """Fetch what is new or changed.

    Asks every source what it has, compares it with the lake, and fetches the difference. What is
    finished is kept, however the run ends; running again goes on from there.
    """
    if dry_run:
        return print_forecast(session, choice, as_json=as_json, with_datasets=False)
    choice = replace(choice, disable_events=disable_events, **budget)
    outcome = supervise(session, session.load_config(), lambda engine: engine.run(choice))
    summary = outcome.result
    if summary is not None:
        report(session, summary, as_json=as_json)
    if outcome.signal_code is not None:
        return outcome.signal_code
    if summary is None:
        return 0
    found = bool(summary.selectors or summary.held_plans or summary.error)
    return summary.exit_code or code_of_choice(choice, found=found)


def report(session: Session, summary: RunSummary, *, as_json: bool) -> None:
    """Tell what a Run did, and on stderr what was not as wanted."""
    _complain(session, summary)
    if as_json:
        write_json(summary)
    else:
        _write_summary(summary)


def _complain(session: Session, summary: RunSummary) -> None:
    """Everything that was not as wanted, on stderr."""
    for warning in summary.warnings:
        say(session.shown(f"Warning: {warning}"))
    for line in dict.fromkeys(map(_held, summary.held_plans)):
        say(line)
    if summary.exit_code == COULD_NOT_GO_ON:
        say(session.shown(f"Error: the run could not go on: {summary.error}"))
    elif summary.error:
        say(session.shown(f"Stopped early: {summary.error}"))


def _held(held: HeldPlan) -> str:
    """Who is at work on a plan, and what that means."""
    who = "Another run" if held.run_id is None else f"Run {held.run_id}"
    since = f", at work since {moment(held.since)}," if held.since else ""
    what = f"{held.source} {held.dataset_type} in bucket {held.bucket}"
    return f"{who}{since} holds {what}: nothing was done for it."


def _write_summary(summary: RunSummary) -> None:
    counters = summary.counters
    shown = [each for each in summary.selectors if not _is_idle(each)]
    idle = [each for each in summary.selectors if _is_idle(each)]
    if len(idle) <= MOST_IDLE:
        shown, idle = list(summary.selectors), []
    header = ("SELECTOR", "SOURCE", "LISTED", "TASKS", "SKIPPED", "FAILED", "WHY")
    told_below = {failure.message for failure in summary.failures[:MOST_FAILURES]}
    write_table(header, [_selector_row(each, told_below) for each in shown])
    if idle:
        write(f"and {plural(len(idle), 'selector')} with nothing to do; --json shows them all")
    if shown:
        write("")
    for failure in summary.failures[:MOST_FAILURES]:
        about = failure.name or failure.identifier_key or failure.selector or failure.provider
        feed = f" {failure.data_feed_key}" if failure.data_feed_key else ""
        write(printable(f"failed: {about}{feed}: {failure.message}"))
    if len(summary.failures) > MOST_FAILURES:
        write(f"and more failures; `ingestify failed list --run {summary.run_id}` shows them all")
    parts = [
        f"{counters.listed} listed",
        f"{plural(_tasks(summary), 'task')} ({counters.stored} stored,"
        f" {counters.unchanged} unchanged, {counters.failed} failed)",
        f"{counters.skipped} skipped",
    ]
    for name, count in (
        ("refused", counters.refused),
        ("met twice", counters.duplicate),
        ("not reached", counters.not_reached),
        ("no longer listed", counters.gone),
    ):
        if count:
            parts.append(f"{count} {name}")
    time = duration(summary.finished_at - summary.started_at)
    write(f"Run {summary.run_id} {summary.status} in {time}: {', '.join(parts)}.")
    write(
        f"{plural(summary.requests, 'request')}, {size(summary.received_bytes)} received,"
        f" {size(summary.stored_bytes)} stored."
    )


def _selector_row(each: SelectorSummary, told_below: Collection[str]) -> Row:
    counters = each.counters
    tasks = counters.stored + counters.unchanged + counters.failed
    why = [f"{count} {reason}" for reason, count in each.reasons.items()]
    if each.status == "unchanged":
        why.append("list unchanged")
    elif each.status == "stopped":
        why.append("stopped")
    for name, count in (
        ("unusable", counters.refused),
        ("met twice", counters.duplicate),
        ("not reached", counters.not_reached),
        ("no longer listed", counters.gone),
    ):
        if count:
            why.append(f"{count} {name}")
    if each.error:
        why.append("failed" if each.error in told_below else each.error)
    return (
        selector_name(each.name, each.selector),
        each.source,
        counters.listed,
        tasks,
        counters.skipped,
        counters.failed,
        ", ".join(why),
    )


def selector_name(name: str | None, selector: str) -> str:
    """A Selector as people know it, and as it is written."""
    return f"{name} ({selector})" if name else selector


def _is_idle(each: SelectorSummary) -> bool:
    counters = each.counters
    worth_telling = counters.stored + counters.unchanged + counters.failed + counters.refused
    return not (worth_telling or each.error or each.status in ("failed", "stopped"))


def _tasks(summary: RunSummary) -> int:
    counters = summary.counters
    return counters.stored + counters.unchanged + counters.failed
