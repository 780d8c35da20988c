"""Streaming: reads Datasets as they come up to date, while the Run that sees to it goes on."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeAlias

import msgspec
from anyio import CancelScope, Event
from anyio.abc import TaskGroup

from ingestify.errors import RunError
from ingestify.model.catalog import DatasetQuery
from ingestify.model.dataset import Dataset
from ingestify.model.run import RunStatus, RunSummary
from ingestify.ports import Catalog

MOST_UNREAD = 256  # ids that wait for their reader; what is planned by then comes on top

Start: TypeAlias = "Callable[[Unread], Awaitable[RunSummary]]"


class Unread:
    """What a Run has settled and its reader has not taken yet.

    Where a Run is held back is before it plans more: nothing is locked there, and what was begun
    goes on to its end.
    """

    def __init__(self) -> None:
        self._dataset_ids: deque[str] = deque()
        self._news = Event()
        self._room = Event()
        self._has_ended = False

    def settled(self, dataset_id: str | None) -> None:
        """The Run has seen to that Dataset, if it is one."""
        if dataset_id is not None:
            self._dataset_ids.append(dataset_id)
            self._news.set()

    async def held(self) -> None:
        """Return once the reader is not too far behind."""
        while len(self._dataset_ids) >= MOST_UNREAD:
            if self._room.is_set():
                self._room = Event()
            await self._room.wait()

    def end(self) -> None:
        """No more will come."""
        self._has_ended = True
        self._news.set()

    async def next(self) -> str | None:
        """The id that has waited for longest, or None at the end."""
        while not self._dataset_ids and not self._has_ended:
            if self._news.is_set():
                self._news = Event()
            await self._news.wait()
        if not self._dataset_ids:
            return None
        if len(self._dataset_ids) <= MOST_UNREAD:
            self._room.set()
        return self._dataset_ids.popleft()


class _Reader:
    """A Run in a task of its own, and what it leaves to be read."""

    def __init__(self) -> None:
        self.unread = Unread()
        self.ended = Event()
        self.summary: RunSummary | None = None
        self.error: Exception | None = None
        self.scope = CancelScope()

    async def run(self, start: Start) -> None:
        try:
            with self.scope:
                self.summary = await start(self.unread)
        except Exception as exc:
            self.error = exc  # raised again where the Datasets are read
        finally:
            self.ended.set()
            self.unread.end()


async def stream(
    tasks: TaskGroup, start: Start, catalog: Catalog, query: DatasetQuery
) -> AsyncIterator[Dataset]:
    """Every Dataset that *start*'s Run finds or makes up to date and that fulfils *query*.

    The Run is a task of *tasks*, so that nothing here depends on when, or by whom, this
    generator is closed: closing it cancels the Run and waits for its end. While nothing is read,
    the Run does not go on for long.

    Raises:
        RunError: the Run could not go on.
    """
    reader = _Reader()
    tasks.start_soon(reader.run, start)
    try:
        while (dataset_id := await reader.unread.next()) is not None:
            wanted = msgspec.structs.replace(query, dataset_id=dataset_id)
            for dataset in await catalog.find(wanted, limit=1):
                yield dataset
        if reader.error is not None:
            raise reader.error
        if reader.summary is not None and reader.summary.status is RunStatus.FAILED:
            raise RunError(reader.summary.error or "the Run could not go on")
    finally:
        reader.scope.cancel()
        with CancelScope(shield=True):
            await reader.ended.wait()
