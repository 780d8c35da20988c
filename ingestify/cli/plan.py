"""`ingestify plan`: what a run would do, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ingestify.cli.exit_codes import WRONG_USAGE
from ingestify.cli.options import choice_options, json_option, lake_options
from ingestify.cli.screen import Row, plural, say, write, write_json, write_table
from ingestify.cli.session import Session, in_memory
from ingestify.cli.supervise import supervise

if TYPE_CHECKING:
    from ingestify.engine import Choice
    from ingestify.model.plan import Forecast, SelectorForecast


@click.command("plan")
@click.pass_obj
@choice_options
@click.option(
    "--datasets", "--verbose", "with_datasets", is_flag=True, help="List every dataset, too."
)
@json_option
@lake_options
def plan_command(session: Session, *, choice: Choice, with_datasets: bool, as_json: bool) -> int:
    """Show what a run would do, and why.

    Asks the sources for their lists, but for no dataset's file, and changes nothing.
    """
    return print_forecast(session, choice, as_json=as_json, with_datasets=with_datasets)


def print_forecast(session: Session, choice: Choice, *, as_json: bool, with_datasets: bool) -> int:
    """Find out what a run would do, and print it. Returns the exit code."""
    config = session.load_config()
    lake = config.main.metadata_url.path
    if lake is not None and not lake.exists():
        config = in_memory(config)  # a lake that is only looked at is not made
    outcome = supervise(session, config, lambda engine: engine.plan(choice))
    forecast = outcome.result
    if forecast is not None:
        _complain(session, forecast)
        if as_json:
            write_json(_for_programs(forecast))
        else:
            _write_forecast(forecast, with_datasets=with_datasets)
    if outcome.signal_code is not None:
        return outcome.signal_code
    if forecast is None:
        return 0
    found = bool(forecast.selectors or forecast.error)
    return forecast.exit_code or code_of_choice(choice, found=found)


def code_of_choice(choice: Choice, *, found: bool) -> int:
    """The exit code for what was chosen, with a word on stderr if it was nothing at all."""
    if found:
        return 0
    if choice.selectors:
        wanted = " ".join(
            f"{name}={value}"
            for name, values in choice.selectors.items()
            for value in ([values] if isinstance(values, int | str) else values)
        )
        say(f"Error: there is nothing with {wanted} in what the plans select.")
        return WRONG_USAGE
    say("Warning: the plans select nothing of what the sources have.")
    return 0


def _complain(session: Session, forecast: Forecast) -> None:
    for warning in forecast.warnings:
        say(session.shown(f"Warning: {warning}"))
    if forecast.error:
        say(session.shown(f"Stopped early: {forecast.error}"))


def _for_programs(forecast: Forecast) -> dict[str, Any]:
    return {
        "tasks": forecast.tasks,
        "requests": forecast.requests,
        "exit_code": forecast.exit_code,
        "error": forecast.error,
        "warnings": forecast.warnings,
        "selectors": forecast.selectors,
        "decisions": forecast.decisions,
    }


def _write_forecast(forecast: Forecast, *, with_datasets: bool) -> None:
    header = ("SELECTOR", "SOURCE", "LISTED", "TO FETCH", "TO SKIP", "REQUESTS", "WHY")
    write_table(header, [_selector_row(each) for each in forecast.selectors])
    if forecast.selectors:
        write("")
    if with_datasets and forecast.decisions:
        from ingestify.model.identity import Identifier

        rows: list[Row] = [
            (
                each.name,
                str(Identifier.from_key(each.identifier_key)),
                each.reason,
                ", ".join(f"{file} ({reason})" for file, reason in each.files.items()),
            )
            for each in forecast.decisions
        ]
        write_table(("DATASET", "IDENTITY", "WHY", "FILES"), rows)
        if len(forecast.decisions) < forecast.tasks:
            write(f"and {forecast.tasks - len(forecast.decisions)} more")
        write("")
    skipped = sum(sum(each.skip.values()) for each in forecast.selectors)
    write(
        f"A run would fetch {plural(forecast.tasks, 'dataset')} with"
        f" {plural(forecast.requests, 'request')} for files, and skip {skipped}."
    )


def _selector_row(each: SelectorForecast) -> Row:
    why = [
        f"{count} {reason}" for part in (each.fetch, each.skip) for reason, count in part.items()
    ]
    if each.refused:
        why.append(f"{each.refused} unusable")
    if each.duplicate:
        why.append(f"{each.duplicate} met twice")
    if each.error:
        why.append(each.error)
    if not why and not each.listed:
        is_unchanged = each.status == "unchanged"
        why.append("list unchanged" if is_unchanged else "nothing listed")
    return (
        f"{each.name} ({each.selector})" if each.name else each.selector,
        each.source,
        each.listed,
        sum(each.fetch.values()),
        sum(each.skip.values()),
        each.requests,
        ", ".join(why),
    )
