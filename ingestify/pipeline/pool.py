"""The pool: a bounded number of Tasks at work, and room for those that can only wait."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from anyio import Semaphore, create_task_group

from ingestify.errors import StopProcessing
from ingestify.pipeline.pages import Pages
from ingestify.pipeline.stop import Stop
from ingestify.pipeline.task import Task

MOST_WAITING = 1000  # Tasks begun, of which most only wait for a host or for a file to be prepared


class Slot:
    """A Task's place among those at work. It is given up while any part of the Task waits.

    A Task that only waits is not in flight: it ends when a stop is requested.
    """

    def __init__(self, workers: Semaphore, stop: Stop) -> None:
        self._workers = workers
        self._stop = stop
        self._waiting = 0
        self._is_held = True

    @asynccontextmanager
    async def released(self) -> AsyncIterator[None]:
        """Let another Task work meanwhile.

        Raises:
            StopProcessing: a stop was requested before the waiting was over.
        """
        self._waiting += 1
        self.leave()
        try:
            with self._stop.cancels() as scope:
                yield
            if scope.cancelled_caught:
                raise StopProcessing("the Run is about to end")
        finally:
            self._waiting -= 1
            if not self._waiting and not self._stop.requested:
                await self._take_back()

    async def _take_back(self) -> None:
        await self._workers.acquire()
        if self._is_held or self._waiting:  # another part has it, or waits again
            self._workers.release()
        else:
            self._is_held = True

    def leave(self) -> None:
        """Give the place up, if it is held."""
        if self._is_held:
            self._is_held = False
            self._workers.release()


async def work_through(
    tasks: Pages[Task],
    work: Callable[[Task, Slot], Awaitable[None]],
    *,
    workers: int,
    stop: Stop,
    drop: Callable[[Task], None],
) -> None:
    """Do *work* on all *tasks*, at most *workers* at a time, and *drop* the rest after a stop."""
    at_work, begun = Semaphore(workers), Semaphore(MOST_WAITING)

    async def one(task: Task) -> None:
        slot = Slot(at_work, stop)
        try:
            await work(task, slot)
        finally:
            slot.leave()
            begun.release()

    async with create_task_group() as tg:
        while page := await tasks.take(1):
            for task in page:
                try:
                    await begun.acquire()
                    await at_work.acquire()
                except BaseException:
                    drop(task)
                    raise
                if stop.requested:
                    at_work.release()
                    begun.release()
                    drop(task)
                else:
                    tg.start_soon(one, task)
