"""Anything may happen in any order: to the provider, to the runs, to the disk. The lake stays true.

Hypothesis writes the stories. At every point of every story: what the catalog says about bytes is
true, unless the machine has damaged the very file since (G2); whatever is there was served by the
provider; equal bytes make no second copy (G10); an identity is one Dataset, and its Revisions have
numbers of their own (G12). At the end the provider tells the truth again, and one good run makes
the lake equal to it (G5), damaged files included (G22); nothing that is needed was collected as
debris (G21).

The stories are the same in every run; with ``INGESTIFY_FAULTS=long`` they are new ones, and more.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Coroutine
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from anyio import create_task_group
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as play_stories
from world.faults import MODES, Fault
from world.looking import Lake, check_converged, look
from world.process import Ending, Process
from world.provider import FEEDS, Provider, Thing, WorldSource, is_conditional
from world.report import tell
from world.scenarios import IN_MEMORY, check_ending, empty_catalog
from world.world import DATABASE, LAKE, World

from ingestify.errors import IngestifyError
from ingestify.model.catalog import DatasetQuery
from ingestify.model.http import Request
from ingestify.pipeline.order import Ports
from ingestify.testing.fetcher import FakeAnswer
from ingestify.upkeep.removing import collect, delete
from ingestify.upkeep.verifying import verify

LONG = os.environ.get("INGESTIFY_FAULTS") == "long"

NUMBERS = st.integers(1, 4)
FEED = st.sampled_from(FEEDS)
SEEDS = st.integers(0, 2**16)
EFFECTS = st.integers(1, 130)


def unasked_304(request: Request, honest: FakeAnswer) -> FakeAnswer:
    return honest if is_conditional(request) else FakeAnswer(status=304)


LIES: dict[str, Callable[[Request, FakeAnswer], FakeAnswer]] = {
    "5xx": lambda request, honest: FakeAnswer(status=503),
    "html": lambda request, honest: FakeAnswer(body=b"<!doctype html><html>Sorry</html>"),
    "empty": lambda request, honest: FakeAnswer(body=b""),
    "cut": lambda request, honest: FakeAnswer(
        body=bytes(honest.body)[:-3], headers=honest.headers, is_cut=True
    ),
    "cut with a length that fits": lambda request, honest: FakeAnswer(
        body=b'[{"id": 1, "na', headers={"etag": '"cut"'}
    ),
    "unasked 304": unasked_304,
}
PATHS = st.one_of(
    st.just("things"), st.builds(lambda number, feed: f"files/{number}/{feed}", NUMBERS, FEED)
)


class Stories:
    """How many were played."""

    cases = 0


class LakeMachine(RuleBasedStateMachine):
    """A lake, its provider and its disk, and everything that may happen to them."""

    def __init__(self) -> None:
        super().__init__()
        Stories.cases += 1
        where = IN_MEMORY if IN_MEMORY.is_dir() else None
        self.folder = Path(tempfile.mkdtemp(prefix="ingestify-machine-", dir=where))
        (self.folder / DATABASE).write_bytes(empty_catalog())
        self.provider = Provider()
        self.world = World(self.folder, self.provider)
        self.before: dict[int, list[Thing]] = {}
        self.damaged: set[str] = set()
        self.was_damaged = False
        self.lake = Lake()

    # The provider

    @initialize()
    def begin(self) -> None:
        self.provider.add(1)

    @rule(number=NUMBERS)
    def add(self, number: int) -> None:
        if number not in self.provider.things:
            self.provider.add(number)

    @rule(number=NUMBERS, feed=FEED, announced=st.booleans(), same_etag=st.booleans())
    def change_bytes(self, number: int, feed: str, announced: bool, same_etag: bool) -> None:
        """Also without a word, and also under an ETag that is not a new one."""
        if self.remember(number):
            self.provider.put_file(number, feed, announced=announced, same_etag=same_etag)

    @rule(number=NUMBERS, feed=FEED)
    def announce_what_has_not_changed(self, number: int, feed: str) -> None:
        """New token, new ETag, same bytes."""
        if self.remember(number):
            self.provider.announce(number, feed)

    @rule(number=NUMBERS, name=st.sampled_from("abc"), value=st.integers(0, 2))
    def change_details(self, number: int, name: str, value: int) -> None:
        if self.remember(number):
            state = ("scheduled", "partial", "complete")[value]
            self.provider.put(number, name=name, state=state, metadata={"value": value})

    @rule(number=NUMBERS, which=st.integers(0, 3))
    def roll_back(self, number: int, which: int) -> None:
        """All that it had before, old tokens included."""
        versions = self.before.get(number, [])
        if number in self.provider.things and which < len(versions):
            self.provider.roll_back(number, versions[which])
            self.provider.silent |= {(number, feed) for feed in FEEDS}

    @rule(number=NUMBERS)
    def remove(self, number: int) -> None:
        if self.remember(number):
            self.provider.remove(number)

    @rule(path=PATHS, lie=st.sampled_from(sorted(LIES)))
    def lie(self, path: str, lie: str) -> None:
        self.provider.lies[path] = LIES[lie]

    @rule()
    def stop_lying(self) -> None:
        self.provider.lies.clear()

    def remember(self, number: int) -> bool:
        thing = self.provider.things.get(number)
        if thing is not None:
            self.before.setdefault(number, []).append(thing)
        return thing is not None

    # Runs

    @rule()
    def run(self) -> None:
        self.play_run(None)

    @rule(at=EFFECTS, mode=st.sampled_from(MODES), seed=SEEDS)
    def run_with_fault(self, at: int, mode: str, seed: int) -> None:
        self.play_run(Fault(at, mode, seed))

    @rule(at=EFFECTS)
    def run_and_stop(self, at: int) -> None:
        self.play_run(Fault(at, "stop"))

    @rule(names=st.sampled_from([("world", "world"), ("world", "other")]), seed=SEEDS)
    def two_runs(self, names: tuple[str, str], seed: int) -> None:
        self.play_two(names, None, seed)

    @rule(at=EFFECTS, seed=SEEDS)
    def two_runs_of_which_one_dies(self, at: int, seed: int) -> None:
        self.play_two(("world", "other"), Fault(at, "die"), seed)

    def play_run(self, fault: Fault | None) -> None:
        self.world.fault, self.world.effects = fault, []
        ending = self.world.play(Process(self.world).execute)
        if self.world.frozen is None:
            self.check_ending(ending)
        self.look_around()

    def play_two(self, names: tuple[str, str], fault: Fault | None, seed: int) -> None:
        self.world.seed, self.world.fault, self.world.effects = seed, fault, []
        processes = [
            Process(self.world, f"p{n}", [WorldSource(name)]) for n, name in enumerate(names)
        ]
        self.world.play(lambda: at_once(*[self.executing(each) for each in processes]))
        for process in processes:
            if not process.is_dead:
                self.check_ending(process.ending, alone=False)
        self.look_around()

    async def executing(self, process: Process) -> None:
        process.ending = await process.execute()

    def check_ending(self, ending: Ending, *, alone: bool = True) -> None:
        check_ending(ending)
        says_all = ending.is_good and alone and not self.provider.silent
        if says_all and not self.was_damaged:
            check_converged(self.world.play(lambda: look(self.world)), self.provider)

    # The disk, and upkeep

    @precondition(lambda self: self.lake.paths)
    @rule(which=SEEDS, how=st.sampled_from(["remove", "cut", "flip"]))
    def damage(self, which: int, how: str) -> None:
        path = self.lake.paths[which % len(self.lake.paths)]
        full = f"{LAKE}/{path}"
        if full not in self.world.disk.files():
            return
        self.damaged.add(path)
        self.was_damaged = True
        data = self.world.disk.read_file(full)
        if how == "remove":
            self.world.disk.unlink(full)
            self.world.disk.fsync_folder(full.rpartition("/")[0])
        else:
            middle = len(data) // 2
            flipped = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
            self.world.disk.damage(full, data[:middle] if how == "cut" else flipped)

    @rule()
    def verify(self) -> None:
        """It finds what was damaged, and nothing else."""
        found = self.upkeep(lambda ports: verify(ports.catalog, ports.store))
        self.look_around()
        assert {each.path for each in found.damaged} == self.lake.bad

    @rule()
    def collect_garbage(self) -> None:
        """It removes all that nothing refers to, and nothing else."""
        self.upkeep(lambda ports: collect(ports.catalog, ports.store))
        self.look_around()
        there = {path.removeprefix(f"{LAKE}/") for path in self.world.disk.files()}
        files = {path for path in there if not path.startswith(".ingestify")}
        assert files <= set(self.lake.paths), "debris is left"

    @rule(number=NUMBERS)
    def delete(self, number: int) -> None:
        query = DatasetQuery(identifier={"id": number})
        now = self.world.now()
        self.upkeep(lambda ports: delete(ports.catalog, ports.store, query, at=now))
        self.look_around()
        assert number not in self.lake.now

    @rule(at=EFFECTS, mode=st.sampled_from(MODES), seed=SEEDS, number=NUMBERS)
    def upkeep_with_fault(self, at: int, mode: str, seed: int, number: int) -> None:
        """Verifying, collecting and deleting may be disturbed like any run."""
        self.world.fault, self.world.effects = Fault(at % 30 + 1, mode, seed), []
        query, now = DatasetQuery(identifier={"id": number}), self.world.now()

        async def work() -> None:
            process = Process(self.world)
            async with process.opened() as ports:
                await verify(ports.catalog, ports.store)
                await delete(ports.catalog, ports.store, query, at=now)
                await collect(ports.catalog, ports.store)

        async def tried() -> None:
            with suppress(IngestifyError):
                await work()

        self.world.play(tried)
        self.look_around()

    @rule(seed=SEEDS)
    def run_beside_collecting(self, seed: int) -> None:
        """What a run has published and not committed yet is no garbage."""
        self.world.seed, self.world.fault, self.world.effects = seed, None, []
        process, collector = Process(self.world, "run"), Process(self.world, "collector")

        async def collecting() -> None:
            async with collector.opened() as ports:
                for _ in range(3):
                    await collect(ports.catalog, ports.store)

        self.world.play(lambda: at_once(self.executing(process), collecting()))
        self.check_ending(process.ending)
        self.look_around()

    def upkeep(self, work: Callable[[Ports], Coroutine[Any, Any, Any]]) -> Any:
        self.world.fault = None

        async def script() -> Any:
            async with Process(self.world).opened() as ports:
                return await work(ports)

        return self.world.play(script)

    # What must always hold

    def look_around(self) -> None:
        """Go on with what is left, and check that it is true."""
        if self.world.frozen is not None:
            self.world = self.world.frozen
        self.world.fault = self.world.met = None
        lake = self.lake = self.world.play(lambda: look(self.world))
        assert lake.bad <= self.damaged, f"the catalog lies: {lake.damaged}"
        for number, version in lake.now.items():
            details = (version.name, version.state, version.metadata)
            had = [(each.name, each.state, each.metadata) for each in self.provider.history[number]]
            assert details in had, f"{number} never was {details}"
            for feed, digest in version.files.items():
                assert digest in self.provider.served[number, feed], f"{number} {feed} is invented"
            if not self.was_damaged:
                check_no_second_copy(lake, number)

    def teardown(self) -> None:
        """The provider is honest again: verify, run, and all is there."""
        try:
            self.provider.heal()
            self.world.start += timedelta(hours=1)
            self.world.fault = None
            if self.was_damaged:
                self.upkeep(lambda ports: verify(ports.catalog, ports.store))
            ending = self.world.play(Process(self.world).execute)
            assert ending.is_good, ending
            self.look_around()
            check_current(self.lake, self.provider)
            asked = len(self.provider.asked)
            again = self.world.play(Process(self.world).execute)
            assert again.is_good, again
            assert not self.provider.files_asked(asked), "asked again for what it had"
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)


def check_no_second_copy(lake: Lake, number: int) -> None:
    """G10: a File is in a Revision because its bytes are others than before."""
    known: dict[str, str] = {}
    for version in lake.past.get(number, []):
        assert version.files != known, f"{number} has a Revision that changes nothing"
        known = dict(version.files)


def check_current(lake: Lake, provider: Provider) -> None:
    """The lake is what the provider has; only Files of older Revisions may be damaged."""
    for number, version in provider.now.items():
        assert lake.now.get(number) == version, f"{number} is {lake.now.get(number)}"
        assert not [path for path in lake.current[number] if path in lake.bad]


async def at_once(*works: Coroutine[Any, Any, Any]) -> None:
    async def do(work: Coroutine[Any, Any, Any]) -> None:
        await work

    async with create_task_group() as tg:
        for work in works:
            tg.start_soon(do, work)


def test_whatever_happens_the_lake_stays_true_and_heals() -> None:
    """
    Fifty stories of up to fifteen events each.
    """
    with tell("G1 G2 G3 G5 G6 G10 G12 G20 G21 G22", Stories):
        play_stories(
            LakeMachine,
            settings=settings(
                max_examples=2000 if LONG else 50,
                stateful_step_count=30 if LONG else 15,
                derandomize=not LONG,
                database=None,
                deadline=None,
                print_blob=True,
                suppress_health_check=list(HealthCheck),
            ),
        )
