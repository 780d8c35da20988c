"""Streaming: Datasets as they become up to date, while the Run that sees to it goes on."""

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

Settled: TypeAlias = Callable[[str | None], None]
Start: TypeAlias = Callable[[Settled], Awaitable[RunSummary]]


class _Reader:
    """What the Run has settled and the reader has not taken yet."""

    def __init__(self) -> None:
        self.dataset_ids: deque[str] = deque()
        self.news = Event()
        self.ended = Event()
        self.summary: RunSummary | None = None
        self.error: Exception | None = None
        self.scope = CancelScope()

    def settled(self, dataset_id: str | None) -> None:
        if dataset_id is not None:
            self.dataset_ids.append(dataset_id)
            self.news.set()

    async def run(self, start: Start) -> None:
        try:
            with self.scope:
                self.summary = await start(self.settled)
        except Exception as exc:
            self.error = exc  # raised again where the Datasets are read
        finally:
            self.ended.set()
            self.news.set()


async def stream(
    tasks: TaskGroup, start: Start, catalog: Catalog, query: DatasetQuery
) -> AsyncIterator[Dataset]:
    """Every Dataset that *start*'s Run finds or makes up to date and that fulfils *query*.

    The Run is a task of *tasks*, so that nothing here depends on when, or by whom, this
    generator is closed: closing it cancels the Run and waits for its end.

    Raises:
        RunError: the Run could not go on.
    """
    reader = _Reader()
    tasks.start_soon(reader.run, start)
    try:
        while True:
            while reader.dataset_ids:
                wanted = msgspec.structs.replace(query, dataset_id=reader.dataset_ids.popleft())
                for dataset in await catalog.find(wanted, limit=1):
                    yield dataset
            if reader.ended.is_set():
                break
            if reader.news.is_set():
                reader.news = Event()
            await reader.news.wait()
        if reader.error is not None:
            raise reader.error
        if reader.summary is not None and reader.summary.status is RunStatus.FAILED:
            raise RunError(reader.summary.error or "the Run could not go on")
    finally:
        reader.scope.cancel()
        with CancelScope(shield=True):
            await reader.ended.wait()
