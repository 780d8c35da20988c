"""`ingestify list` and `ingestify invalidate`: many Datasets of the lake at once."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

import anyio
import click
import msgspec

from ingestify.cli.addresses import parse_address
from ingestify.cli.exit_codes import WRONG_USAGE
from ingestify.cli.options import json_option, lake_options
from ingestify.cli.screen import (
    Row,
    as_json,
    moment,
    plural,
    say,
    write,
    write_json,
    write_records,
)
from ingestify.cli.session import Session, printable
from ingestify.errors import ConfigError
from ingestify.model.catalog import DatasetQuery
from ingestify.model.dataset import Dataset

if TYPE_CHECKING:
    from ingestify.config import Config
    from ingestify.ports import Catalog

PAGE = 1000

Filters = click.argument("filters", nargs=-1, metavar="[NAME=VALUE | ID]...")


@click.command("list")
@click.pass_obj
@Filters
@click.option("--provider", metavar="NAME", help="Only this provider's datasets.")
@click.option("--state", metavar="STATE", help="Only datasets in this state.")
@click.option("--count", is_flag=True, help="Print only how many there are.")
@json_option
@lake_options
def list_command(
    session: Session,
    *,
    filters: Sequence[str],
    provider: str | None,
    state: str | None,
    count: bool,
    as_json: bool,
) -> int:
    """List the datasets that the lake has.

    Narrow it down with what identifies them, such as season_id=90 or provider=statsbomb. Several
    values for one name: any of them. In a pipe, the columns are separated by tabs: id, provider,
    dataset type, identity, name, state, revision, files, stored bytes, updated.
    """
    config = session.load_config()
    extra = [f"{k}={v}" for k, v in (("provider", provider), ("state", state)) if v]
    query = parse_address([*filters, *extra], config)

    async def work(catalog: Catalog) -> int:
        if count:
            number = await catalog.count(query)
            write(str(number))
        else:
            number = await _write_json(catalog, query) if as_json else await _write(catalog, query)
        if not number:
            await check_names(catalog, query)
            say(f"No dataset in bucket {query.bucket}{' fits that' if filters else ''}.")
        return 0

    return read_lake(config, work)


@click.command("invalidate")
@click.pass_obj
@Filters
@click.option("--reason", required=True, metavar="TEXT", help="Why; it is kept.")
@click.option("--yes", is_flag=True, help="Do not ask, however many they are.")
@json_option
@lake_options
def invalidate_command(
    session: Session, *, filters: Sequence[str], reason: str, yes: bool, as_json: bool
) -> int:
    """Mark the newest revision of datasets as wrong.

    Nothing is deleted: their files are asked for again, unconditionally, at the next run.
    """
    if not filters:
        raise ConfigError("say which datasets: NAME=VALUE or a dataset id")
    config = session.load_config()
    query = parse_address(filters, config)

    async def work(catalog: Catalog) -> int:
        from ingestify.clock import SystemClock

        number = await count_some(catalog, query, filters)
        if number > 1 and not yes and not is_confirmed(f"invalidate {number} datasets"):
            say("Nothing was changed.")
            return WRONG_USAGE
        marked = await catalog.invalidate(query, reason=reason, at=SystemClock().now())
        if as_json:
            write_json({"found": number, "invalidated": marked})
            return 0
        write(f"{plural(marked, 'dataset')} invalidated; the next run asks for their files again.")
        if marked < number:
            say(f"{number - marked} had no revision to invalidate, or it was invalid before.")
        return 0

    return read_lake(config, work)


def read_lake(config: Config, work: Callable[[Catalog], Awaitable[int]]) -> int:
    """Do *work* on the catalog of *config*, which is not made if there is none.

    Raises:
        ConfigError: there is no lake.
    """
    from ingestify.opening import check_catalog, open_catalog

    check_catalog(config)

    async def open_and_work() -> int:
        async with open_catalog(config) as catalog:
            return await work(catalog)

    return anyio.run(open_and_work)


def is_confirmed(deed: str) -> bool:
    """Whether somebody who can be asked says yes to *deed*.

    Raises:
        ConfigError: nobody can be asked.
    """
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise ConfigError(f"this would {deed}; say --yes if that is meant")
    return click.confirm(f"{deed[0].upper()}{deed[1:]}?", err=True)


async def count_some(catalog: Catalog, query: DatasetQuery, written: Sequence[str]) -> int:
    """How many Datasets *query*, which was *written* so, finds: at least one.

    Raises:
        ConfigError: it finds none.
    """
    number = await catalog.count(query)
    if not number:
        await check_names(catalog, query)
        fits = f" fits {' '.join(written)}" if written else ""
        raise ConfigError(f"no dataset in bucket {query.bucket}{fits}")
    return number


async def check_names(catalog: Catalog, query: DatasetQuery) -> None:
    """Where *query* finds nothing, see that it is not for a name that no dataset has.

    Raises:
        ConfigError: it is, as far as the oldest datasets tell.
    """
    everywhere = DatasetQuery(bucket=query.bucket, stage=query.stage)
    known = {
        name for each in await catalog.find(everywhere, limit=PAGE) for name in each.identifier
    }
    for name in query.identifier if known else ():
        if name not in known:
            there = ", ".join(sorted(known))
            raise ConfigError(f"no dataset has a name '{name}'; there are: {there}")


async def find_pages(catalog: Catalog, query: DatasetQuery) -> AsyncIterator[Sequence[Dataset]]:
    """What *query* finds, in pages; memory does not grow with their number."""
    after = 0
    while page := await catalog.find(query, after=after, limit=PAGE):
        yield page
        after = page[-1].row_id


def for_programs(dataset: Dataset) -> dict[str, Any]:
    """*dataset* as JSON shows it."""
    shown = msgspec.structs.asdict(dataset)
    del shown["row_id"]  # its place in this one catalog, which means nothing elsewhere
    return shown


async def _write(catalog: Catalog, query: DatasetQuery) -> int:
    is_terminal = sys.stdout.isatty()
    header = ("IDENTITY", "DATASET", "STATE", "REVISION", "UPDATED")
    number = 0
    async for page in find_pages(catalog, query):
        number += len(page)
        rows = [_for_people(each) if is_terminal else _for_pipes(each) for each in page]
        if not write_records(header, rows):
            break
    return number


def _for_people(dataset: Dataset) -> Row:
    return (
        str(dataset.identifier),
        dataset.name,
        dataset.state,
        dataset.revision,
        f"{dataset.updated_at:%Y-%m-%d}",
    )


def _for_pipes(dataset: Dataset) -> Row:
    return (
        dataset.dataset_id,
        dataset.provider,
        dataset.dataset_type,
        str(dataset.identifier),
        dataset.name,
        dataset.state,
        dataset.revision,
        len(dataset.files),
        sum(file.stored_size for file in dataset.files),
        moment(dataset.updated_at),
    )


async def _write_json(catalog: Catalog, query: DatasetQuery) -> int:
    """One list, a Dataset a line, so that line-wise tools can read it, too."""
    number = 0
    async for page in find_pages(catalog, query):
        lines = ",\n".join(as_json(for_programs(each)).decode() for each in page)
        if not write(("[\n" if number == 0 else ",\n") + lines):
            return number + len(page)
        number += len(page)
    write("]" if number else "[]")
    return number


def describe_choice(datasets: Sequence[Dataset]) -> str:
    """Datasets that could be meant, a line each."""
    return "\n".join(
        printable(
            f"  {each.dataset_id}  {each.provider}/{each.dataset_type}/{each.identifier}"
            f"  {each.name}"
        )
        for each in datasets
    )
