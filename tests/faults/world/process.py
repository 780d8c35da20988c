"""An engine at work in the simulated world, and how it ends."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from anyio import CancelScope

from ingestify.adapters.catalog.sqlite import SqliteCatalog
from ingestify.adapters.files.local import LocalFileStore
from ingestify.model.plan import PlanScope
from ingestify.model.resource import DataSpecVersions
from ingestify.model.run import RunSummary
from ingestify.model.selector import SelectorPattern
from ingestify.pipeline.choose import Narrowing, Plan
from ingestify.pipeline.order import Order, Ports
from ingestify.pipeline.run import Run
from ingestify.policy import FetchPolicy
from ingestify.ports import Source
from ingestify.throttle import Throttle

from .counted import CountedCatalog, CountedDisk, CountedFetcher
from .faults import (
    Effect,
    Fault,
)
from .provider import WorldSource
from .world import LAKE, World, WorldClock, loop_in, opened_catalog


@dataclass
class Ending:
    """How a process ended: with a summary, with an error, or cancelled."""

    summary: RunSummary | None = None
    error: BaseException | None = None

    @property
    def is_good(self) -> bool:
        """Whether it says that all is done."""
        return self.summary is not None and self.summary.exit_code == 0


@dataclass
class Process:
    """One engine at work in the world. All that it does is numbered, and may go wrong."""

    world: World
    name: str = "process"
    sources: Sequence[Source] = field(default_factory=lambda: [WorldSource()])
    is_dead: bool = False
    ending: Ending = field(default_factory=Ending)
    on_locks_lost: Callable[[], None] | None = None
    run: Run | None = None
    _scope: CancelScope | None = None
    _task: asyncio.Task[Any] | None = None
    _catalog: SqliteCatalog | None = None
    _descriptors: list[int] = field(default_factory=list)

    async def execute(self, *, stop_at: int | None = None, forced: bool = False) -> Ending:
        """Open the lake, run all plans, close the lake."""
        try:
            async with self.opened() as ports:
                return await self.run_with(ports, forced=forced)
        except (Exception, asyncio.CancelledError) as exc:
            return Ending(error=exc)

    @asynccontextmanager
    async def opened(self, catalog: SqliteCatalog | None = None) -> AsyncIterator[Ports]:
        """The ports, each effect on them numbered. *catalog* is one that is open already."""
        world = self.world
        disk: Any = CountedDisk(self)
        store = LocalFileStore.at(LAKE, disk=disk, threads=1)
        opening = nullcontext(catalog) if catalog is not None else opened_catalog(world)
        async with opening as opened, store as files:
            clock = WorldClock(world)
            self._catalog = opened
            counted: Any = CountedCatalog(self, opened)
            yield Ports(
                catalog=counted,
                store=files,
                fetcher=CountedFetcher(self),
                throttle=Throttle(clock),
                clock=clock,
                random=random.Random(world.seed),
            )

    async def run_with(self, ports: Ports, *, forced: bool = False) -> Ending:
        """One Run on *ports*, in a task that can be cancelled."""
        order = Order(
            plans=[plan_of(source) for source in self.sources],
            narrowing=Narrowing(),
            transformations={},
            workers=8,
            forced=forced,
        )
        self.run = Run(ports=ports, order=order)
        self._task = asyncio.current_task()
        ending = Ending()
        try:
            with CancelScope() as self._scope:
                ending.summary = await self.run.execute()
            if self._scope.cancelled_caught:
                ending.error = asyncio.CancelledError()
        except (Exception, asyncio.CancelledError) as exc:
            ending.error = exc
            if self._task is not None and self._task.cancelling():
                self._task.uncancel()
        finally:
            self._scope = None
            self._task = None
        return ending

    def cancel(self, mode: str) -> None:
        """Cancel the Run, by its scope or by its task."""
        if mode.startswith("native") and self._task is not None:
            self._task.cancel()
        elif self._scope is not None:
            self._scope.cancel()

    def begin(self, effect: Effect) -> Fault | None:
        """Number *effect*, unless the process is dead. Returns what goes wrong with it."""
        fault = None if self.is_dead else self.world.begin(effect)
        match fault.mode if fault else None:
            case "die":
                self.kill()
            case "stop" if self.run is not None:
                loop_in(self.world).call_soon_threadsafe(self.run.stop.request)
            case "lose lease":
                self.lose_locks()
            case _:
                return fault
        return None

    def lose_locks(self) -> None:
        """The locks of its leases are gone, as they are when its process is; it goes on."""
        if self.on_locks_lost is not None:
            self.on_locks_lost()
        if self._catalog is not None:
            self._catalog._locks.release_all()

    def crash(self) -> World:
        """Crash now. Returns what is left."""
        left = self.world.freeze()
        self.kill()
        return left

    @contextmanager
    def crashing(self, fault: Fault | None) -> Iterator[None]:
        """Around an effect: crash before it, or after it. What is done after that is in vain."""
        assert fault is not None
        if fault.mode == "before":
            self.crash()
        yield
        if fault.mode != "before":
            left = self.crash()
            if fault.mode == "lost":
                left.disk.lose_power()
            elif fault.mode == "torn":
                left.disk.lose_power(fault.seed)

    def kill(self) -> None:
        """Nothing that it does from now on has any effect; its locks on the disk are gone."""
        self.is_dead = True
        self.lose_locks()
        self.world.disk.close_all(self._descriptors)
        loop_in(self.world).call_soon_threadsafe(self.cancel, "cancel")

    def opens(self, fd: int) -> None:
        self._descriptors.append(fd)


def plan_of(source: Source) -> Plan:
    """A plan that wants all that *source* has."""
    scope = PlanScope(
        source=source.name,
        dataset_type="thing",
        bucket="main",
        data_spec_versions=DataSpecVersions({}),
        patterns=[SelectorPattern.parse("*")],
    )
    return Plan(scope=scope, source=source, policy=FetchPolicy())
