"""The worker: does the Tasks of one Source, as far as the budget has room for them."""

from __future__ import annotations

from dataclasses import dataclass, field

from ingestify.client import Client
from ingestify.http.in_memory import RunMemory
from ingestify.pipeline.budget import BudgetUsedUpError, Spending
from ingestify.pipeline.commit import Committer
from ingestify.pipeline.fetch import DatasetFetch
from ingestify.pipeline.fetch_file import FileFetch
from ingestify.pipeline.lane import drop
from ingestify.pipeline.pool import Slot
from ingestify.pipeline.room import Room
from ingestify.pipeline.task import Task
from ingestify.ports import Catalog, Clock, FileStore, Source


@dataclass(slots=True, kw_only=True)
class Worker:
    """Does the Tasks of one Source: fetches, and hands on to the committer."""

    source: Source
    client: Client
    store: FileStore
    catalog: Catalog
    clock: Clock
    stage: str
    committer: Committer
    spending: Spending
    room: Room
    memory: RunMemory
    _unlimited: DatasetFetch = field(init=False)

    def __post_init__(self) -> None:
        self._unlimited = self._fetching(self.client)

    async def work(self, task: Task, slot: Slot) -> None:
        """Fetch *task*; once it is handed on, the committer answers for it.

        What the budget has no room for is not reached.
        """
        if not self.spending.budget.is_limited:
            await self._fetch(task, slot, self._unlimited)
            return
        requests = sum(ask.file.content is None for ask in task.asks)
        allowance = await self.spending.admit(requests, slot)
        if allowance is None:
            drop(task)
            return
        try:
            await self._fetch(task, slot, self._fetching(self.client.spending(allowance)))
        except BudgetUsedUpError:
            drop(task)
        finally:
            self.spending.leave(allowance)

    async def _fetch(self, task: Task, slot: Slot, fetch: DatasetFetch) -> None:
        await self.committer.take_over(await fetch.fetch(task, slot))

    def _fetching(self, client: Client) -> DatasetFetch:
        return DatasetFetch(
            source=self.source,
            files=FileFetch(
                client=client,
                store=self.store,
                room=self.room,
                parsing=self.memory.parsing,
                loading=self.memory.loaders,
            ),
            catalog=self.catalog,
            clock=self.clock,
            stage=self.stage,
        )
