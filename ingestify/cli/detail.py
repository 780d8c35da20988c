"""`ingestify show` and `ingestify explain`: one Dataset, what there is of it, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click
import msgspec

from ingestify.cli.addresses import parse_address
from ingestify.cli.lake import check_names, describe_choice, for_programs, read_lake
from ingestify.cli.options import json_option, lake_options
from ingestify.cli.screen import (
    Row,
    moment,
    plural,
    shortened,
    size,
    write,
    write_json,
    write_table,
)
from ingestify.cli.session import Session, printable
from ingestify.errors import ConfigError
from ingestify.model.dataset import CheckOutcome, Dataset, FileCheck, Revision
from ingestify.model.run import Failure

if TYPE_CHECKING:
    from ingestify.model.catalog import DatasetQuery
    from ingestify.ports import Catalog

MOST_CANDIDATES = 20  # that are named where one Dataset was meant
MOST_REVISIONS = 10

Address = click.argument("address", nargs=-1, required=True, metavar="ID | NAME=VALUE...")


@click.command("show")
@click.pass_obj
@Address
@json_option
@lake_options
def show_command(session: Session, *, address: Sequence[str], as_json: bool) -> int:
    """Show one dataset: its metadata, files and revisions.

    ADDRESS is a dataset id, or what identifies it: match_id=3773386, or
    provider=statsbomb/dataset_type=match/match_id=3773386.
    """
    config = session.load_config()
    query = parse_address(address, config)

    async def work(catalog: Catalog) -> int:
        dataset = await _find_one(catalog, query, address)
        revisions = await catalog.revisions(dataset.row_id)
        if as_json:
            write_json({**for_programs(dataset), "revisions": revisions})
            return 0
        _write_head(dataset)
        write("\nmetadata")
        write(printable(msgspec.json.format(msgspec.json.encode(dataset.metadata)).decode()))
        write(f"\nfiles in {config.main.file_url}")
        write_table(
            ("FILE", "REVISION", "SIZE", "STORED", "SHA256", "PATH"),
            [
                (
                    " ".join(file.key),
                    file.revision,
                    size(file.size),
                    size(file.stored_size),
                    file.sha256,
                    file.path,
                )
                for file in dataset.files
            ],
        )
        _write_revisions(revisions)
        return 0

    return read_lake(config, work)


@click.command("explain")
@click.pass_obj
@Address
@json_option
@lake_options
def explain_command(session: Session, *, address: Sequence[str], as_json: bool) -> int:
    """Explain why the files of a dataset were asked for.

    Says of each file when it was asked for last, why, what came of it, and whether the next run
    asks for it again. Looks into the catalog alone. ADDRESS is as for `ingestify show`.
    """
    config = session.load_config()
    query = parse_address(address, config)

    async def work(catalog: Catalog) -> int:
        dataset = await _find_one(catalog, query, address)
        checks = await catalog.checks(dataset.row_id)
        revisions = await catalog.revisions(dataset.row_id)
        failures = await catalog.failures(dataset_id=dataset.dataset_id)
        if as_json:
            write_json(_explanation(dataset, checks, revisions, failures))
            return 0
        _write_head(dataset)
        write("")
        write_table(
            ("FILE", "REVISION", "ASKED FOR", "RUN", "BECAUSE", "OUTCOME", "TOKEN", "AT NEXT RUN"),
            [_check_row(dataset, check) for check in checks],
        )
        _write_revisions(revisions)
        _write_failures(failures)
        return 0

    return read_lake(config, work)


async def _find_one(catalog: Catalog, query: DatasetQuery, address: Sequence[str]) -> Dataset:
    """The one Dataset that *query* finds.

    Raises:
        ConfigError: it finds none, or several.
    """
    found = await catalog.find(query, limit=MOST_CANDIDATES + 1)
    if not found:
        hint = ""
        if query.dataset_id is not None:
            hint = "; besides by its id, a dataset is found by its identity, as in match_id=3773386"
        await check_names(catalog, query)
        raise ConfigError(f"no dataset in bucket {query.bucket} is {' '.join(address)}{hint}")
    if len(found) > 1:
        few = found[:MOST_CANDIDATES]
        more = "\n  …" if len(found) > len(few) else ""
        raise ConfigError(
            f"{' '.join(address)} is more than one dataset:\n{describe_choice(few)}{more}"
        )
    return found[0]


def _write_head(dataset: Dataset) -> None:
    write(printable(dataset.name))
    lines = (
        ("identity", str(dataset.identifier)),
        ("id", dataset.dataset_id),
        ("where", f"{dataset.bucket}/{dataset.stage}/{dataset.provider}/{dataset.dataset_type}"),
        ("state", dataset.state),
        ("revision", "none" if dataset.revision is None else str(dataset.revision)),
        ("created", moment(dataset.created_at)),
        ("updated", moment(dataset.updated_at)),
    )
    write("\n".join(printable(f"  {name:<9} {value}") for name, value in lines))


def _write_revisions(revisions: Sequence[Revision]) -> None:
    newest_first = revisions[::-1]
    rows: list[Row] = [
        (
            each.number,
            moment(each.created_at),
            each.run_id,
            each.reason,
            each.state,
            ", ".join(" ".join(file.key) for file in each.files),
        )
        for each in newest_first[:MOST_REVISIONS]
    ]
    write("\nrevisions" if rows else "\nno revision yet")
    write_table(("REVISION", "CREATED", "RUN", "BECAUSE", "STATE", "CHANGED FILES"), rows)
    if len(revisions) > MOST_REVISIONS:
        write(f"and {plural(len(revisions) - MOST_REVISIONS, 'older revision')}")


def _write_failures(failures: Sequence[Failure]) -> None:
    write("\nopen failures" if failures else "\nno open failures")
    write_table(
        ("FAILED", "RUN", "FEED", "CODE", "WHAT HAPPENED"),
        [
            (moment(each.failed_at), each.run_id, each.data_feed_key, each.code, each.message)
            for each in failures
        ],
    )


def _check_row(dataset: Dataset, check: FileCheck) -> Row:
    return (
        f"{check.data_feed_key} {check.data_spec_version}",
        _stored_revision(dataset, check),
        moment(check.checked_at),
        check.run_id,
        check.reason,
        check.outcome,
        shortened(check.token),
        _next(check) or "only if announced",
    )


def _stored_revision(dataset: Dataset, check: FileCheck) -> int | None:
    key = (check.data_feed_key, check.data_spec_version)
    return next((file.revision for file in dataset.files if file.key == key), None)


def _next(check: FileCheck) -> str | None:
    """Why the File is asked for at the next Run, whatever its provider says; None: it is not."""
    if check.suspect:
        return "asked for: invalidated, or found damaged"
    if check.outcome is CheckOutcome.FAILED:
        return "asked for: it failed"
    return None


def _explanation(
    dataset: Dataset,
    checks: Sequence[FileCheck],
    revisions: Sequence[Revision],
    failures: Sequence[Failure],
) -> dict[str, Any]:
    return {
        **for_programs(dataset),
        "checks": [
            {
                **msgspec.structs.asdict(check),
                "stored_revision": _stored_revision(dataset, check),
                "asked_for_at_next_run": _next(check),
            }
            for check in checks
        ],
        "revisions": revisions,
        "open_failures": failures,
    }
