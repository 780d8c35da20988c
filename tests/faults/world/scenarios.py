"""The two runs that the crash matrix is made of, and what is left after each of their faults."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path

from ingestify.errors import IngestifyError
from ingestify.model.run import SelectorStatus
from ingestify.pipeline.order import Ports
from ingestify.testing.disk import SimulatedDisk

from .faults import Effect, Fault
from .looking import (
    check_converged,
    check_runs,
    check_truth,
    out_of_date,
    read_lake,
    staged,
)
from .loop import play
from .process import Ending, Process
from .provider import FileId, Provider
from .world import DATABASE, START, World, opened_catalog, opened_store

IN_MEMORY = Path("/dev/shm")  # noqa: S108  # the database's own syncs need not be waited for


@contextmanager
def folder() -> Iterator[Path]:
    """A folder for databases, in memory where there is one."""
    where = IN_MEMORY if IN_MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(dir=where, prefix="ingestify-world-") as name:
        yield Path(name)


@cache
def empty_catalog() -> bytes:
    """The database of a new catalog: making its tables takes longer than everything else."""
    with folder() as where:
        world = World(where, Provider())

        async def make() -> None:
            async with opened_catalog(world):
                pass

        play(make)
        return (where / DATABASE).read_bytes()


@dataclass(frozen=True)
class Scenario:
    """A lake and a provider before a run. *provider* is made anew for each."""

    name: str
    make_provider: Callable[[], Provider]
    update: Callable[[Provider], None] | None = None

    @contextmanager
    def world(self, *, seed: int = 0) -> Iterator[World]:
        """The world before the run."""
        database, disk, start = _before(self)
        provider = self.make_provider()
        if self.update is not None:
            self.update(provider)
        with folder() as where:
            (where / DATABASE).write_bytes(database)
            world = World(where, provider, seed=seed, start=start)
            world.disk = disk.copy(now=world.now)
            yield world

    def effects(self) -> tuple[Effect, ...]:
        """What a clean run does, in order."""
        return _effects_of(self)

    def played_effects(self) -> tuple[Effect, ...]:
        """The same, played anew."""
        with self.world() as world:
            ending = world.play(Process(world).execute)
            assert ending.is_good, ending
            return tuple(world.effects)


@cache
def _before(scenario: Scenario) -> tuple[bytes, SimulatedDisk, datetime]:
    if scenario.update is None:
        return empty_catalog(), SimulatedDisk(), START
    with folder() as where:
        (where / DATABASE).write_bytes(empty_catalog())
        world = World(where, scenario.make_provider())
        ending = world.play(Process(world).execute)
        assert ending.is_good, ending
        return (where / DATABASE).read_bytes(), world.disk, world.start


@cache
def _effects_of(scenario: Scenario) -> tuple[Effect, ...]:
    return scenario.played_effects()


def two_datasets() -> Provider:
    provider = Provider()
    provider.add(1)
    provider.add(2)
    return provider


def one_changed_one_new(provider: Provider) -> None:
    """Dataset 1 has a new name, metadata and one new File; 2 is as it was; 3 is new."""
    provider.put_file(1, "events")
    provider.put(1, name="thing 1, corrected", metadata={"number": 1, "corrected": True})
    del provider.history[1][-2]  # both changes were made at once
    provider.add(3)


FIRST = Scenario("first", two_datasets)
UPDATE = Scenario("update", two_datasets, one_changed_one_new)
SCENARIOS = {scenario.name: scenario for scenario in (FIRST, UPDATE)}


def run_with_fault(world: World, fault: Fault | None) -> Ending:
    """One run in which *fault* happens, and what the world must be like at its end."""
    world.fault = fault
    left_before = set(staged(world))
    ending = world.play(Process(world).execute)
    if world.frozen is None:
        check_ending(ending)
        assert world.disk.open_files == 0, "descriptors were not closed"
        left = set(staged(world)) - left_before
        assert not left or (world.met and world.met.name == "unlink"), f"temporary files: {left}"
    return ending


def check_ending(ending: Ending) -> None:
    """G6, G20: what went wrong has a name, and the counters add up."""
    summary = ending.summary
    if summary is None:
        error = ending.error
        assert isinstance(error, IngestifyError | asyncio.CancelledError), repr(error)
        assert str(error) or isinstance(error, asyncio.CancelledError)
        return
    assert summary.counters.is_balanced, summary.counters
    assert all(each.counters.is_balanced for each in summary.selectors)
    if summary.exit_code == 1:
        reasons = [failure.message for failure in summary.failures]
        reasons += [each.error for each in summary.selectors if each.error]
        assert reasons, "something failed, and nobody says what"
        assert all(reasons)
    elif summary.exit_code == 3:
        assert summary.error, "the run could not go on, and nobody says why"


def recover(world: World, *, claims_all: bool = False) -> None:
    """A fresh engine on what is left: it shows no lie, converges, and repeats nothing.

    Args:
        claims_all: the process before said that all is done.
    """
    provider = world.provider

    async def script() -> None:
        async with opened_catalog(world) as catalog, opened_store(world) as files:
            lake = await read_lake(world, catalog, files)
            check_truth(lake, provider)
            if claims_all:
                check_converged(lake, provider)
            wanted = out_of_date(lake, provider)
            process = Process(world)
            async with process.opened(catalog) as ports:
                asked = await good_run(process, ports)
                assert asked == wanted, f"asked for {asked} where {wanted} is missing"
                lake = await read_lake(world, catalog, files)
                check_truth(lake, provider)
                check_converged(lake, provider)
                asked = await good_run(process, ports)
                assert not asked, f"asked again for {asked}"
            check_runs(await read_lake(world, catalog, files, bytes_too=False))

    world.play(script)
    assert world.disk.open_files == 0


async def good_run(process: Process, ports: Ports) -> set[FileId]:
    """A run without faults. Returns which Files it asked for; each of them once."""
    provider = process.world.provider
    asked_before = len(provider.asked)
    ending = await process.run_with(ports)
    assert ending.is_good, ending
    check_ending(ending)
    assert ending.summary is not None
    if any(each.status is SelectorStatus.COMPLETE for each in ending.summary.selectors):
        assert ending.summary.counters.listed == len(provider.things)
    asked = provider.files_asked(asked_before)
    assert len(asked) == len(set(asked)), f"asked twice: {asked}"
    return set(asked)


class Matrix:
    """Plays cases, and recovers from what they leave: from equal worlds only once."""

    def __init__(self, *, thorough: bool = False) -> None:
        self.cases = 0
        self.recoveries = 0
        self._thorough = thorough
        self._recovered: set[tuple[str, str, bool]] = set()

    def play(self, scenario: Scenario, fault: Fault, second: Fault | None = None) -> bool:
        """One case. Returns whether its faults make sense where they are.

        With a *second* fault, the recovery from the first one meets that.
        """
        with scenario.world(seed=fault.seed) as world:
            ending = run_with_fault(world, fault)
            if world.met is None:
                return False
            left = world.left()
            if second is not None:
                ending = run_with_fault(left, second)
                if left.met is None:
                    return False
                world, left = left, left.left()
            self.cases += 1
            is_good = world.fault is not None and not world.fault.is_crash and ending.is_good
            state = (scenario.name, left.print(), is_good)
            if self._thorough or state not in self._recovered:
                recover(left, claims_all=is_good)
                self.recoveries += 1
                self._recovered.add(state)
        return True
