"""Looking after the lake: what should lie in it, what is damaged, and what is deleted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from typing import Any

from ingestify.adapters.catalog import deciding, reading, rows
from ingestify.adapters.catalog.connection import Session
from ingestify.adapters.catalog.jobs import Params, Row
from ingestify.adapters.catalog.subjects import identity_parts
from ingestify.model.catalog import DatasetQuery, Deleted, KeptFile
from ingestify.model.event import EventType

DELETED_RUN = 0  # resolves failures where no Run did


async def kept_files(
    session: Session, query: DatasetQuery, *, after: int, limit: int
) -> Sequence[KeptFile]:
    """The first *limit* Files with a row id above *after* of what *query* finds."""
    params = await reading.within(session, query, after=0)
    if params is None:
        return []
    params |= {"after_file": after, "limit": limit}
    found = await session.rows(reading.variant("kept_files", params), params)
    return [_kept_file(row) for row in found]


async def files_by_row_id(session: Session, row_ids: Sequence[int]) -> Sequence[KeptFile]:
    """Those of *row_ids* that are Files still."""
    found = await session.rows("files_by_row_id", {"row_ids": rows.json_text(row_ids)})
    return [_kept_file(row) for row in found]


async def count_files(session: Session, query: DatasetQuery) -> tuple[int, int]:
    """How many Files there are of what *query* finds, and how many bytes."""
    params = await reading.within(session, query, after=0)
    if params is None:
        return 0, 0
    [(files, size)] = await session.rows(reading.variant("count_files", params), params)
    return files, size


async def mark_files(session: Session, *, damaged: Sequence[int], sound: Sequence[int]) -> None:
    """Mark current Files as damaged, or as sound again."""
    await session.run("mark_damaged", {"files": rows.json_text(damaged)})
    await session.run("mark_sound", {"files": rows.json_text(sound)})


async def referenced(session: Session, paths: Sequence[str]) -> AbstractSet[str]:
    """Those of *paths* that a File has."""
    found = await session.rows("referenced", {"paths": rows.json_text(paths)})
    return {path for (path,) in found}


async def listed_in(session: Session, row_ids: Sequence[int]) -> Mapping[int, Sequence[str]]:
    """The keys of the Selectors that have listed each Dataset."""
    found: dict[int, list[str]] = {row_id: [] for row_id in row_ids}
    for row_id, key in await session.rows("listed_in", {"row_ids": rows.json_text(row_ids)}):
        found[row_id].append(key)
    return found


async def catalog_id(session: Session) -> str:
    """What this catalog is called in its lakes."""
    [(name,)] = await session.rows("catalog_id")
    return str(name)


async def delete(session: Session, query: DatasetQuery, *, at: datetime) -> Deleted:
    """Remove the rows of what *query* finds, and remember which bytes have to go."""
    params = await reading.within(session, query, after=0)
    datasets = files = size = 0
    while params is not None:
        statement = reading.variant("find", params)
        found = await session.rows(statement, {**params, "limit": reading.PAGE})
        page = [row[0] for row in found]
        params = {**params, "after": page[-1]} if len(page) == reading.PAGE else None
        row_ids = {"row_ids": rows.json_text(page)}
        [(page_files, page_size)] = await session.rows("weigh_files", row_ids)
        identities = await session.rows("identities", row_ids)
        await _tell(session, identities, at=rows.moment(at))
        await session.run_many("delete_identity_part", _parts(identities))
        for statement in ("doom_files", "forget_lists", "delete_datasets"):
            await session.run(statement, row_ids)
        datasets, files, size = datasets + len(page), files + page_files, size + page_size
    return Deleted(datasets=datasets, files=files, bytes=size)


async def doomed(session: Session, *, after: str, limit: int) -> Sequence[str]:
    """Paths of Files that were deleted and whose bytes may still be there."""
    params = {"after": after, "limit": limit}
    return [path for (path,) in await session.rows("doomed", params)]


async def forget_doomed(session: Session, paths: Sequence[str]) -> None:
    """The bytes at *paths* are gone, or belong to a File again."""
    await session.run("forget_doomed", {"paths": rows.json_text(paths)})


async def _tell(session: Session, found: Sequence[Row], *, at: str) -> None:
    """Resolve the failures of the Datasets in *found*, and write an event for each."""
    identities: list[tuple[Any, ...]] = [tuple(row[2:7]) for row in found]
    resolved = [(DELETED_RUN, *identity) for identity in identities]
    await session.run_many("resolve_failures", resolved)
    events = []
    for _, dataset_id, bucket, stage, provider, dataset_type, key, revision in found:
        identity = (bucket, stage, provider, dataset_type, key)
        kind = EventType.DATASET_DELETED
        events.append(deciding.event_row(kind, identity, dataset_id, at=at, revision=revision))
    await session.run_many("insert_event", events)


def _parts(identities: Sequence[Row]) -> list[Params]:
    """What `delete_identity_part` is given for rows of `identities`."""
    return [
        (name, value, row_id)
        for row_id, _, _, _, _, _, key, _ in identities
        for name, value in identity_parts(key)
    ]


def _kept_file(row: Row) -> KeptFile:
    return KeptFile(
        row_id=row[0],
        dataset_row_id=row[1],
        dataset_id=row[2],
        bucket=row[3],
        provider=row[4],
        dataset_type=row[5],
        identifier_key=row[6],
        name=row[7],
        is_current=bool(row[8]),
        is_damaged=bool(row[9]),
        file=rows.file(row[10:]),
    )
