"""The pool: a bounded number of Tasks at work, and room for those that can only wait."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from anyio import create_task_group
from anyio.abc import TaskGroup

from ingestify.errors import StopProcessing
from ingestify.pipeline.pages import Pages
from ingestify.pipeline.stop import Stop
from ingestify.pipeline.task import Task

ENDING = "the Run is about to end"
MOST_WAITING = 1000  # Tasks begun, of which most only wait for a host or for a file to be prepared


class Slot:
    """A Task's place among those at work. It is given up while any part of the Task waits.

    A Task that only waits is not in flight: it ends when a stop is requested.
    """

    __slots__ = ("_is_held", "_places", "_stop", "_waiting")

    def __init__(self, places: Places, stop: Stop) -> None:
        self._places = places
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
            with self.dropped_on_stop():
                yield
        finally:
            self._waiting -= 1
            if not self._waiting and not self._stop.requested:
                await self._take_back()

    @contextmanager
    def dropped_on_stop(self) -> Iterator[None]:
        """What is done inside ends when a stop is requested.

        Raises:
            StopProcessing: it did.
        """
        with self._stop.cancels() as scope:
            yield
        if scope.cancelled_caught:
            raise StopProcessing(ENDING)

    def refuse_after_stop(self) -> None:
        """Raise StopProcessing once a stop is requested."""
        if self._stop.requested:
            raise StopProcessing(ENDING)

    def on_stop(self, tell: Callable[[], None]) -> None:
        """Call *tell* when a stop is requested."""
        self._stop.on_request(tell)

    def forget(self, tell: Callable[[], None]) -> None:
        """Call *tell* no more."""
        self._stop.forget(tell)

    async def _take_back(self) -> None:
        await self._places.take()
        if self._is_held or self._waiting:  # another part has it, or waits again
            self._places.leave()
        else:
            self._is_held = True

    def leave(self) -> None:
        """Give the place up, if it is held."""
        if self._is_held:
            self._is_held = False
            self._places.leave()


class Places:
    """A bounded number of places, taken in the order of asking. *freed* is told of free ones."""

    __slots__ = ("_freed", "_waiting", "free")

    def __init__(self, count: int, freed: Callable[[], None] = lambda: None) -> None:
        self.free = count
        self._freed = freed
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def take(self) -> None:
        """Wait for a place, and take it."""
        if self.free:
            self.free -= 1
            return
        place = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            await place
        except BaseException:
            if place.done() and not place.cancelled():  # it came in the same moment
                self.leave()
            elif place in self._waiting:
                self._waiting.remove(place)
            raise

    def leave(self) -> None:
        """Give a place back: to who waits for one, or to the free ones."""
        while self._waiting:
            place = self._waiting.popleft()
            if not place.done():  # else who waited was cancelled, and has not noticed yet
                place.set_result(None)
                return
        self.free += 1
        self._freed()


class Pool:
    """Does *work* on all *tasks*, at most *workers* at a time, and *drops* the rest after a stop.

    Runners take one Task after the other. There are as many as have a place, and one more for
    each Task that only waits.
    """

    def __init__(
        self,
        tasks: Pages[Task],
        work: Callable[[Task, Slot], Awaitable[None]],
        *,
        workers: int,
        stop: Stop,
        drop: Callable[[Task], None],
    ) -> None:
        self._tasks = tasks
        self._work = work
        self._stop = stop
        self._drop = drop
        self._places = Places(workers, self._see_to_runner)
        self._runners = 0
        self._looking = 0  # runners that are about to take a Task
        self._group: TaskGroup

    async def run(self) -> None:
        """Return when all *tasks* are done, and no more will come."""
        async with create_task_group() as self._group:
            self._see_to_runner()

    def _see_to_runner(self) -> None:
        """Where a place is free, somebody looks for a Task to put there."""
        if self._places.free and not self._looking and self._runners < MOST_WAITING:
            self._runners += 1
            self._looking += 1
            self._group.start_soon(self._run_tasks)

    async def _run_tasks(self) -> None:
        try:
            while page := await self._look():
                for task in page:
                    await self._do(task)
        finally:
            self._runners -= 1

    async def _look(self) -> list[Task]:
        try:
            return await self._tasks.take(1)
        finally:
            self._looking -= 1

    async def _do(self, task: Task) -> None:
        try:
            await self._places.take()
        except BaseException:
            self._drop(task)
            raise
        slot = Slot(self._places, self._stop)
        try:
            self._see_to_runner()
            if self._stop.requested:
                self._drop(task)
            else:
                await self._work(task, slot)
        finally:
            self._looking += 1  # and nobody else is sent to look when the place becomes free
            slot.leave()
