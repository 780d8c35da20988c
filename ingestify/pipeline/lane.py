"""A lane: one Source's part of a Run, with a stream, a pool and limits of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from anyio import Semaphore, create_task_group

from ingestify.client import Client, ListHttp
from ingestify.errors import FatalError, StopProcessing
from ingestify.model.catalog import ListValidators
from ingestify.model.run import SelectorStatus
from ingestify.pipeline.discover import Found, discover
from ingestify.pipeline.ledger import Ledger
from ingestify.pipeline.pages import Pages
from ingestify.pipeline.plan import PAGE, Planner
from ingestify.pipeline.pool import Pool, Slot
from ingestify.pipeline.selector_run import SelectorRun
from ingestify.pipeline.stop import Stop
from ingestify.pipeline.task import Task
from ingestify.ports import Clock, Source

MOST_LISTS = 8  # in flight for one Source
MOST_FOUND = 256  # Datasets found and not yet planned; more by one page at most
MOST_TASKS = 64  # planned and not yet begun; more by one page at most

Work = Callable[[Task, Slot], Awaitable[None]]


@dataclass(kw_only=True)
class Lane:
    """One Source's part of a Run. What is slow or cooling here holds up nobody else.

    *work* does a Task and sees to it that its outcome is settled, also when it is cancelled.
    """

    source: Source
    client: Client
    selector_runs: Sequence[SelectorRun]
    planner: Planner
    ledger: Ledger
    clock: Clock
    workers: int
    work: Work
    held: Callable[[], Awaitable[None]] | None = None  # waited for before more is planned
    one_by_one: bool = False  # no list is asked for before all is done for the one before
    stop: Stop = field(default_factory=Stop)
    _found: Pages[Found] = field(default_factory=lambda: Pages(MOST_FOUND))
    _tasks: Pages[Task] = field(default_factory=lambda: Pages(MOST_TASKS))
    _undiscovered: int = 0

    async def run(self) -> None:
        """Discover, plan and work until there is nothing left, or a stop was requested.

        Afterwards everything that was listed has its outcome, but for what is being committed.

        Raises:
            RunError: the Run cannot go on.
        """
        self._undiscovered = len(self.selector_runs)
        if not self.selector_runs:
            self._found.close()
        lists = Semaphore(1 if self.one_by_one else MOST_LISTS)
        try:
            async with create_task_group() as tg:
                tg.start_soon(self._plan)
                tg.start_soon(self._work)
                for selector_run in self.selector_runs:
                    await lists.acquire()
                    tg.start_soon(self._see_through, selector_run, lists)
        finally:
            for selector_run, _ in self._found.drain():
                selector_run.miss()
            for task in self._tasks.drain():
                drop(task)

    async def _see_through(self, selector_run: SelectorRun, lists: Semaphore) -> None:
        """Everything about one Selector, from opening its SelectorRun to closing it."""
        try:
            validators = await self.ledger.open(selector_run)
            await self._discover(selector_run, validators)
        finally:
            if not self.one_by_one:
                lists.release()
            self._undiscovered -= 1
            if self._undiscovered == 0:
                self._found.close()
        await selector_run.all_settled()
        if self.one_by_one:
            lists.release()
        await self.ledger.close(selector_run)

    async def _discover(self, selector_run: SelectorRun, validators: ListValidators | None) -> None:
        if selector_run.status is SelectorStatus.FAILED:  # it could not even be resolved
            return
        if self.stop.requested:
            selector_run.status = SelectorStatus.STOPPED
            return
        http = ListHttp(
            self.client,
            on_refused=lambda position, reason: selector_run.refuse(reason),
            validators=validators,
        )
        try:
            with self.stop.cancels():
                await discover(self.source, selector_run, http, self._found)
        except (StopProcessing, FatalError) as exc:
            self._stop_because(exc)

    def _stop_because(self, exc: StopProcessing | FatalError) -> None:
        self.client.redactor.clean(exc)
        self.stop.request(exc)

    async def _plan(self) -> None:
        try:
            while page := await self._take():
                tasks: list[Task] = []
                if not self.stop.requested:
                    tasks = await self._plan_page(page)
                else:
                    for selector_run, _ in page:
                        selector_run.miss()
                try:
                    await self._tasks.put(tasks)
                except BaseException:
                    for task in tasks:
                        drop(task)
                    raise
        finally:
            self._tasks.close()

    async def _take(self) -> Sequence[Found]:
        if self.held is not None and not self.stop.requested:
            with self.stop.cancels():
                await self.held()
        return await self._found.take(PAGE)

    async def _plan_page(self, page: Sequence[Found]) -> list[Task]:
        try:
            return await self.planner.plan(page, now=self.clock.now())
        except BaseException:  # then nothing of the page is planned
            for selector_run, _ in page:
                selector_run.miss()
            raise

    async def _work(self) -> None:
        await Pool(
            self._tasks, self._work_one, workers=self.workers, stop=self.stop, drop=drop
        ).run()

    async def _work_one(self, task: Task, slot: Slot) -> None:
        try:
            await self.work(task, slot)
        except (StopProcessing, FatalError) as exc:
            drop(task)
            self._stop_because(exc)
        except BaseException:
            drop(task)
            raise


def drop(task: Task) -> None:
    """Give up on *task* for this Run: it was listed, and not reached."""
    row_id = task.stored.row_id if task.stored else None
    task.claim.settle(row_id, succeeded=False)
    task.selector_run.counters.not_reached += 1
    task.selector_run.settle(row_id, False)
