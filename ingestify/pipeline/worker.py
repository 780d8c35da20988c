"""The worker: does the Tasks of one Source, as far as the budget has room for them."""

from __future__ import annotations

from dataclasses import dataclass

from ingestify.client import Client, ClientHttp
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


@dataclass(frozen=True, slots=True, kw_only=True)
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

    async def work(self, task: Task, slot: Slot) -> None:
        """Fetch *task*; once it is handed on, the committer answers for it.

        What the budget has no room for is not reached.
        """
        if not self.spending.budget.is_limited:
            await self._fetch(task, slot, self.client)
            return
        requests = sum(ask.file.content is None for ask in task.asks)
        allowance = await self.spending.admit(requests, slot)
        if allowance is None:
            drop(task)
            return
        try:
            await self._fetch(task, slot, self.client.spending(allowance))
        except BudgetUsedUpError:
            drop(task)
        finally:
            self.spending.leave(allowance)

    async def _fetch(self, task: Task, slot: Slot, client: Client) -> None:
        fetch = DatasetFetch(
            source=self.source,
            files=FileFetch(
                client=client,
                http=ClientHttp(client, memory=self.memory.loaders, slot=slot),
                store=self.store,
                room=self.room,
                parsing=self.memory.parsing,
            ),
            catalog=self.catalog,
            clock=self.clock,
            stage=self.stage,
        )
        await self.committer.take_over(await fetch.fetch(task, slot))
