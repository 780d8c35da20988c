"""How far each reader of a MemoryCatalog's events is."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from ingestify.adapters.catalog.memory_datasets import utc
from ingestify.model.event import Event, ReaderRow


class Readers:
    """The cursors of those who read *events*, which grow elsewhere."""

    def __init__(self, events: Sequence[Event]) -> None:
        self._events = events
        self._moved: dict[str, tuple[int, datetime]] = {}

    def cursor(self, name: str) -> int | None:
        """The last event that a reader has handled."""
        return self._moved[name][0] if name in self._moved else None

    def move(self, name: str, *, event: int, expected: int | None, at: datetime) -> bool:
        """Move a reader's cursor, if it is where it was *expected*."""
        if self.cursor(name) != expected:
            return False
        self._moved[name] = (event, utc(at))
        return True

    def rows(self) -> Sequence[ReaderRow]:
        """Every reader, by name."""
        return [
            ReaderRow(name=name, event=event, moved_at=at, behind=len(self._events) - event)
            for name, (event, at) in sorted(self._moved.items())
        ]
