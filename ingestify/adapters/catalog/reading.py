"""What readers ask: Datasets by their properties, Revisions, checks; and `invalidate`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any

from ingestify.adapters.catalog import deciding, filters, rows
from ingestify.adapters.catalog.connection import Session
from ingestify.adapters.catalog.jobs import Row
from ingestify.model.catalog import Agreed, DatasetQuery
from ingestify.model.dataset import Dataset, FileCheck, Revision, Stored
from ingestify.model.event import EventType

LARGEST_ROW_ID = 2**63 - 1
PAGE = 1000
FEW = 10_000  # Datasets that are looked at one by one, and not by going through all


async def look_up(
    session: Session,
    *,
    bucket: str,
    stage: str,
    provider: str,
    dataset_type: str,
    keys: Sequence[str],
) -> Sequence[Stored | None]:
    """What is stored for each of *keys*, in their order."""
    params = {
        "bucket": bucket,
        "stage": stage,
        "provider": provider,
        "dataset_type": dataset_type,
        "keys": rows.json_text(keys),
    }
    found = rows.stored_by_position(await session.rows("look_up", params))
    return [found.get(position) for position in range(len(keys))]


async def agreements(
    session: Session,
    *,
    bucket: str,
    stage: str,
    provider: str,
    dataset_type: str,
    keys: Sequence[str],
) -> Sequence[Agreed | None]:
    """What is agreed about each of *keys*, in their order."""
    params = {
        "bucket": bucket,
        "stage": stage,
        "provider": provider,
        "dataset_type": dataset_type,
        "keys": rows.json_text(keys),
    }
    found: list[Agreed | None] = [None] * len(keys)
    for row in await session.rows("agreements", params):
        found[row[0]] = (row[1], row[2], row[3])
    return found


async def count(session: Session, query: DatasetQuery) -> int:
    """How many Datasets *query* finds."""
    params = await within(session, query, after=0)
    if params is None:
        return 0
    [(number,)] = await session.rows(variant("count", params), params)
    return int(number)


async def find(
    session: Session, query: DatasetQuery, *, after: int, limit: int
) -> Sequence[Dataset]:
    """The first *limit* Datasets after the row *after*, with their current Files."""
    params = await within(session, query, after=after)
    if params is None:
        return []
    params["limit"] = limit
    return await _with_files(session, await session.rows(variant("find", params), params))


async def get(session: Session, dataset_id: str) -> Dataset | None:
    """The Dataset with that id."""
    found = await _with_files(session, await session.rows("get", {"dataset_id": dataset_id}))
    return found[0] if found else None


async def revisions(session: Session, row_id: int) -> Sequence[Revision]:
    """All Revisions of a Dataset, oldest first."""
    params = {"dataset": row_id}
    files = rows.files_by_owner(await session.rows("revision_files", params))
    found = await session.rows("revisions", params)
    return [rows.revision(row, files.get(row[0], ())) for row in found]


async def checks(session: Session, row_id: int) -> Sequence[FileCheck]:
    """The last check of every File of a Dataset."""
    return [rows.file_check(row) for row in await session.rows("checks", {"dataset": row_id})]


async def invalidate(session: Session, query: DatasetQuery, *, reason: str, at: datetime) -> int:
    """Mark the newest Revision of what *query* finds as failed in validation. Returns how many."""
    params = await within(session, query, after=0)
    marked = 0
    while params is not None:
        found = await session.rows(variant("find", params), {**params, "limit": PAGE})
        page = [row[0] for row in found]
        params = {**params, "after": page[-1]} if len(page) == PAGE else None
        row_ids = {"row_ids": rows.json_text(page)}
        await session.run("fail_newest_revisions", {**row_ids, "reason": reason})
        await session.run("suspect_newest_files", row_ids)
        told = list(_tell(await session.rows("newest_revisions", row_ids), at=rows.moment(at)))
        await session.run_many("insert_event", told)
        marked += len(told)
    return marked


def _tell(found: Sequence[Row], *, at: str) -> Iterator[tuple[Any, ...]]:
    """An event for each Dataset in *found*, which has a row for each File of its Revision."""
    for (dataset_id, *identity, revision), files in groupby(found, key=lambda row: row[:7]):
        bucket, stage, provider, dataset_type, key = identity
        yield deciding.event_row(
            EventType.REVISION_INVALIDATED,
            (bucket, stage, provider, dataset_type, key),
            dataset_id,
            at=at,
            revision=revision,
            changed_feeds=[file[7] for file in files if file[7] is not None],
        )


def variant(name: str, params: Mapping[str, Any]) -> str:
    """Which form of the statement called *name* fits *params*, that `within` has made."""
    return name if params["row_ids"] is None else f"{name}_among"


async def within(session: Session, query: DatasetQuery, *, after: int) -> dict[str, Any] | None:
    """The filters of *query*, and the row ids among which to look; None: there can be none.

    Where a part of the identity leaves few of them, these are named one by one.
    """
    until = LARGEST_ROW_ID
    if query.dataset_id is not None:
        row = await session.row("get", {"dataset_id": query.dataset_id})
        if row is None or row[0] <= after:
            return None
        after, until = row[0] - 1, row[0]
    params: dict[str, Any] = {**filters.parameters(query), "after": after, "until": until}
    few = await _few(session, query, after=after, until=until)
    return {**params, "row_ids": None if few is None else rows.json_text(few)}


async def _few(
    session: Session, query: DatasetQuery, *, after: int, until: int
) -> Sequence[int] | None:
    """The row ids, in order, that have the rarest of the wanted values; None: there are many."""
    few: Sequence[int] | None = None
    for name, values in filters.parts(query).items():
        params = {"name": name, "values": rows.json_text(values), "after": after, "until": until}
        found = await session.rows("find_parts", {**params, "most": FEW + 1})
        if len(found) <= FEW and (few is None or len(found) < len(few)):
            few = sorted(row_id for (row_id,) in found)
    return few


async def _with_files(session: Session, found: Sequence[Row]) -> Sequence[Dataset]:
    row_ids = rows.json_text([row[0] for row in found])
    files = rows.files_by_owner(await session.rows("current_files", {"row_ids": row_ids}))
    return [rows.dataset(row, files.get(row[0], ())) for row in found]
