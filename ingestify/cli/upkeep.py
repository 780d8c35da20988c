"""`ingestify verify`, `gc` and `delete`: looking after a lake."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from ingestify.cli.addresses import parse_address
from ingestify.cli.exit_codes import WRONG_USAGE
from ingestify.cli.lake import Filters, count_some, is_confirmed, read_lake
from ingestify.cli.options import catalog_options, json_option, lake_options
from ingestify.cli.progress import Tally
from ingestify.cli.run import report
from ingestify.cli.screen import Row, plural, say, size, write, write_json, write_records
from ingestify.cli.session import Session, printable
from ingestify.cli.supervise import supervise
from ingestify.errors import ConfigError
from ingestify.model.run import RunStatus
from ingestify.opening import check_catalog

if TYPE_CHECKING:
    from ingestify.engine import Engine
    from ingestify.model.run import RunSummary
    from ingestify.ports import Catalog
    from ingestify.upkeep import Collected, DamagedFile, Verification


@click.command("verify")
@click.pass_obj
@Filters
@click.option("--repair", is_flag=True, help="Ask the providers for what is damaged, at once.")
@json_option
@lake_options
def verify_command(session: Session, *, filters: Sequence[str], repair: bool, as_json: bool) -> int:
    """Read every stored file, and compare it with what the catalog says of it.

    A file that is missing, too short, changed or unreadable is marked as damaged: the next run
    asks for it again, and so does --repair at once. Also counts files that the catalog knows
    nothing about, which `ingestify gc` removes. Exits with 1 while anything is damaged.
    """
    config = session.load_config()
    check_catalog(config)
    is_part = bool(filters or session.bucket)
    query = parse_address(filters, config) if is_part else None
    tally = Tally()
    runs: list[RunSummary] = []

    async def work(engine: Engine) -> Verification:
        def show(done: int, total: int, damaged: int) -> None:
            tally.doing = f"reading files, {damaged} damaged" if damaged else "reading files"
            tally.done, tally.total = done, total

        def show_search(looked_at: int) -> None:
            tally.doing = "looking for files that no revision has"
            tally.done, tally.total = looked_at, None

        if query is not None:
            await count_some(engine.catalog, query, filters)
        found = await engine.verify(query, on_progress=show, on_listed=show_search)
        if repair and found.damaged_current:
            runs.append(await engine.repair(found))
            if runs[0].status is RunStatus.FINISHED:
                found = await engine.verify(query, on_progress=show, on_listed=show_search)
        return found

    outcome = supervise(session, config, work, tally=tally)
    found = outcome.result
    if runs and not as_json:
        report(session, runs[0], as_json=False)
        write("")
    if found is not None:
        if as_json:
            write_json(found)
        else:
            _write_verification(found)
    if outcome.signal_code is not None:
        return outcome.signal_code
    if runs and runs[0].exit_code > 1:
        return runs[0].exit_code
    return int(found is not None and not found.is_sound)


def _write_verification(found: Verification) -> None:
    header = ("DATASET", "FILE", "REVISION", "DAMAGE", "WHAT IS WRONG", "PATH")
    write_records(header, [_damaged_row(each) for each in found.damaged])
    if found.damaged_count > len(found.damaged):
        say(f"and {found.damaged_count - len(found.damaged)} more")
    older = found.damaged_count - found.damaged_current
    if found.damaged_current:
        say("The next run asks for what is damaged, and so does `ingestify verify --repair`.")
    if older:
        say(
            f"{plural(older, 'damaged file')} of superseded revisions: no provider has these bytes"
            " any more. Put them back from a copy, or `ingestify delete` the dataset."
        )
    if found.unreferenced:
        say(
            f"{plural(found.unreferenced, 'file')} ({size(found.unreferenced_bytes or 0)}) that no"
            " revision has: `ingestify gc` removes them."
        )
    for path, reason in found.undeleted.items():
        say(f"{path} of a deleted dataset is still there: {reason}; `ingestify gc` tries again.")
    damaged = f"{found.damaged_count} damaged" if found.damaged_count else "all sound"
    say(f"{plural(found.files, 'file')} ({size(found.bytes)}) read: {damaged}.")


def _damaged_row(each: DamagedFile) -> Row:
    return (
        each.name or each.identifier_key,
        f"{each.data_feed_key} {each.data_spec_version}",
        each.revision,
        each.damage,
        each.detail,
        each.path,
    )


@click.command("gc")
@click.pass_obj
@click.option("--dry-run", is_flag=True, help="Say what would be removed, and remove nothing.")
@json_option
@catalog_options
def gc_command(session: Session, *, dry_run: bool, as_json: bool) -> int:
    """Remove what interrupted runs have left behind.

    That is bytes which no revision refers to: staged files of processes that are gone, files
    that were published and not committed, and files of deleted datasets. Safe while runs go on.
    """
    config = session.load_config()
    check_catalog(config)
    tally = Tally()

    async def work(engine: Engine) -> Collected:
        def show(looked_at: int) -> None:
            tally.doing, tally.done = "looking at files", looked_at

        return await engine.collect_garbage(dry_run=dry_run, on_progress=show)

    outcome = supervise(session, config, work, tally=tally)
    if outcome.result is not None:
        if as_json:
            write_json(outcome.result)
        else:
            _write_collected(outcome.result, dry_run=dry_run)
    return outcome.signal_code or 0


def _write_collected(collected: Collected, *, dry_run: bool) -> None:
    for path in collected.paths:
        write(printable(path))
    total = collected.doomed + collected.staged + collected.unreferenced
    if not total:
        say("Nothing to remove.")
        return
    parts = [
        f"{count} {what}"
        for count, what in (
            (collected.staged, f"never finished ({size(collected.staged_bytes)})"),
            (collected.unreferenced, f"never committed ({size(collected.unreferenced_bytes)})"),
            (collected.doomed, "of deleted datasets"),
        )
        if count
    ]
    deed = "would be removed" if dry_run else "removed"
    say(f"{plural(total, 'file')} {deed}: {', '.join(parts)}.")


@click.command("delete")
@click.pass_obj
@Filters
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@lake_options
def delete_command(session: Session, *, filters: Sequence[str], yes: bool, as_json: bool) -> int:
    """Delete datasets: their rows, revisions and bytes.

    There is no way back but to fetch them again: a run whose plans list them does that. If it is
    interrupted, the next `delete`, `verify` or `gc` finishes it.
    """
    if not filters:
        raise ConfigError("say which datasets: NAME=VALUE or a dataset id")
    config = session.load_config()
    check_catalog(config)
    query = parse_address(filters, config)

    async def check(catalog: Catalog) -> int:
        number = await count_some(catalog, query, filters)
        if yes or is_confirmed(f"delete {plural(number, 'dataset')}"):
            return 0
        say("Nothing was changed.")
        return WRONG_USAGE

    if code := read_lake(config, check):
        return code
    outcome = supervise(session, config, lambda engine: engine.delete(query))
    deleted = outcome.result
    if deleted is not None and as_json:
        write_json(deleted)
    elif deleted is not None:
        write(
            f"{plural(deleted.datasets, 'dataset')} deleted, with"
            f" {plural(deleted.files, 'file')} ({size(deleted.bytes)})."
        )
    return outcome.signal_code or 0
