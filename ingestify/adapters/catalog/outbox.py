"""The event log, and how far each of its readers is."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from ingestify.adapters.catalog import rows
from ingestify.adapters.catalog.connection import Session
from ingestify.model.event import Event, ReaderRow


async def events(session: Session, *, after: int, limit: int) -> Sequence[Event]:
    """Events with an id above *after*, in the order of ids."""
    found = await session.rows("events", {"after": after, "limit": limit})
    return [rows.event(row) for row in found]


async def last(session: Session) -> int:
    """The id of the newest event, or 0."""
    [(event,)] = await session.rows("last_event")
    return int(event)


async def cursor(session: Session, name: str) -> int | None:
    """The last event that a reader has handled."""
    found = await session.row("reader_cursor", {"name": name})
    return None if found is None else int(found[0])


async def move(
    session: Session, name: str, *, event: int, expected: int | None, at: datetime
) -> bool:
    """Move a reader's cursor, if it is where it was *expected*."""
    params = {"name": name, "event": event, "at": rows.moment(at)}
    if expected is None:
        return await session.run("insert_reader", params) > 0
    return await session.run("move_reader", {**params, "expected": expected}) > 0


async def readers(session: Session) -> Sequence[ReaderRow]:
    """Every reader, by name."""
    return [
        ReaderRow(name=name, event=event, moved_at=datetime.fromisoformat(moved_at), behind=behind)
        for name, event, moved_at, behind in await session.rows("readers")
    ]
