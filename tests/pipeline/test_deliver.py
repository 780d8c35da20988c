"""Events reach their readers: each at least once, in order, none skipped, and nobody is held up."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from anyio import Event, create_task_group, fail_after
from anyio.lowlevel import checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st
from lakes import Lake, offer, offering

import ingestify
from ingestify.adapters.catalog.memory import MemoryCatalog
from ingestify.adapters.catalog.sqlite import SqliteCatalog
from ingestify.errors import CatalogError
from ingestify.model.catalog import DatasetQuery, Lease
from ingestify.model.dataset import Stored
from ingestify.model.event import DatasetEvent, EventType
from ingestify.model.resource import DatasetResource, FileResource, Later
from ingestify.model.run import RunStatus
from ingestify.pipeline import event_reader
from ingestify.pipeline.budget import Budget
from ingestify.pipeline.deliver import ATTEMPTS, Delivery
from ingestify.pipeline.event_reader import EventReader, Subscription
from ingestify.pipeline.stop import Stop
from ingestify.ports import Catalog
from ingestify.testing import FakeSource
from ingestify.testing.clock import VirtualClock
from ingestify.testing.contracts.catalog_values import NOON, dataset_commit

CREATED, ADDED = EventType.DATASET_CREATED, EventType.REVISION_ADDED


class Notes:
    """A sink that writes down what it was told, once *before* has had its say."""

    def __init__(self, before: Callable[[DatasetEvent], Any] | None = None) -> None:
        self.told: list[DatasetEvent] = []
        self.tried = 0
        self._before = before

    async def publish(self, events: Sequence[DatasetEvent]) -> None:
        for event in events:
            self.tried += 1
            if self._before is not None:
                result = self._before(event)
                if result is not None:
                    await result
            self.told.append(event)

    @property
    def ids(self) -> list[int]:
        return [event.id for event in self.told]


def telling(**sinks: Notes) -> list[Subscription]:
    return [Subscription(name=name, sink=sink) for name, sink in sinks.items()]


def fail(event: DatasetEvent) -> None:
    raise ValueError(f"no room for {event.id}")


async def event_ids(catalog: Catalog) -> list[int]:
    return [event.id for event in await catalog.events(limit=100_000)]


@pytest.fixture
def lake() -> Lake:
    return Lake()


async def test_a_reader_is_told_everything_in_the_order_of_commits(tmp_path: Path) -> None:
    """
    Each event of the log comes once and in its order, with its Dataset; the next Run repeats none.
    """
    async with SqliteCatalog.open(tmp_path / "catalog.db") as catalog:
        lake, notes = Lake(catalog=catalog), Notes()
        offers = [offer(number) for number in range(200)]
        summary = await lake.run(offering(*offers), subscriptions=telling(app=notes))

        assert (summary.exit_code, summary.warnings) == (0, ())
        assert notes.ids == await event_ids(catalog)
        by_dataset: dict[str, list[EventType]] = {}
        for event in notes.told:
            assert event.dataset is not None
            assert event.dataset.dataset_id == event.dataset_id
            by_dataset.setdefault(event.dataset_id, []).append(event.type)
        assert list(by_dataset.values()) == [[CREATED, ADDED]] * 200
        assert await catalog.reader_cursor("app") == notes.ids[-1]

        offers[7].files["events"] = b"{}"
        offers[7].token = "new"
        await lake.run(offering(*offers), subscriptions=telling(app=notes))
        assert notes.ids == await event_ids(catalog)
        last = notes.told[-1]
        assert (last.type, last.revision, last.changed_feeds) == (ADDED, 1, ("events",))
        assert last.dataset is not None
        assert last.dataset.revision == 1


class WaitingSource(FakeSource):
    """Dataset 2 can be fetched once `gate` is open."""

    gate: Event

    async def fetch_dataset_files(
        self, resource: DatasetResource, stored: Stored | None, *, http: ingestify.Http
    ) -> AsyncIterator[FileResource | Later]:
        if resource.dataset_resource_id["id"] == 2:
            await self.gate.wait()
        for file in resource.files:
            yield file


async def test_events_are_delivered_while_the_run_goes_on(lake: Lake) -> None:
    """
    A commit wakes the readers at once, not when the Run ends.
    """
    source = offering(offer(1), offer(2), kind=WaitingSource)
    assert isinstance(source, WaitingSource)
    source.gate = Event()
    notes = Notes(lambda event: source.gate.set())

    with fail_after(20):
        await lake.run(source, subscriptions=telling(app=notes))

    assert [event.type for event in notes.told] == [CREATED, ADDED] * 2


async def test_a_slow_reader_holds_nobody_back(lake: Lake) -> None:
    """
    Everything is committed, and told to another reader, while one is busy with its first event.
    """
    gate, fast = Event(), Notes()
    slow = Notes(lambda event: gate.wait())
    offers = [offer(number) for number in range(300)]
    run = lake.run_of(offering(*offers), subscriptions=telling(slow=slow, fast=fast))

    with fail_after(60):
        async with create_task_group() as tg:
            tg.start_soon(run.execute)
            while await lake.catalog.count(DatasetQuery()) < 300 or len(fast.told) < 600:
                await checkpoint()
            assert slow.told == []
            gate.set()
    assert slow.ids == fast.ids == await event_ids(lake.catalog)


async def test_a_reader_that_fails_stays_where_it_is(lake: Lake) -> None:
    """
    It is asked again after growing waits, then left before the event that it does not take; the
    other reader and the Run go on. The summary names it, and the next Run begins with that event.
    """
    lake.clock = clock = VirtualClock()
    poor, good = Notes(lambda event: fail(event) if event.id >= 3 else None), Notes()
    offers = [offer(number) for number in range(3)]
    summary = await lake.run(offering(*offers), subscriptions=telling(poor=poor, good=good))

    everything = await event_ids(lake.catalog)
    assert good.ids == everything
    assert poor.ids == [1, 2]
    assert poor.tried == 2 + ATTEMPTS
    assert await lake.catalog.reader_cursor("poor") == 2
    assert summary.status is RunStatus.FINISHED
    assert (summary.exit_code, summary.counters.stored, summary.failures) == (1, 3, ())
    [warning] = summary.warnings
    assert "poor failed at event 3 (dataset_created): ValueError: no room for 3" in warning
    assert any(clock.slept)

    healed = Notes()
    summary = await lake.run(offering(*offers), subscriptions=telling(poor=healed, good=good))
    assert healed.ids == everything[2:]
    assert good.ids == everything
    assert (summary.exit_code, summary.warnings) == (0, ())


async def test_a_failure_that_passes_is_told_to_nobody(lake: Lake) -> None:
    """
    A reader that takes an event when it is asked again has missed nothing, and got it once.
    """
    lake.clock = VirtualClock()
    bad = iter([True] * (ATTEMPTS - 1))
    notes = Notes(lambda event: fail(event) if next(bad, False) else None)
    summary = await lake.run(offering(offer(1)), subscriptions=telling(app=notes))

    assert notes.ids == await event_ids(lake.catalog)
    assert (summary.exit_code, summary.warnings) == (0, ())


async def test_what_a_reader_says_tells_no_secret(
    lake: Lake, caplog: pytest.LogCaptureFixture
) -> None:
    """
    An error that quotes a credential is told without it, in the summary and in the log.
    """
    lake.clock = VirtualClock()

    def leak(event: DatasetEvent) -> None:
        raise ValueError("cannot log in with tiki-taka-1")

    secrets = frozenset({"tiki-taka-1"})
    notes = Notes(leak)
    summary = await lake.run(offering(offer(1)), subscriptions=telling(app=notes), secrets=secrets)
    assert "cannot log in with ***" in summary.warnings[0]
    assert "tiki-taka-1" not in caplog.text + repr(summary)
    assert "is tried again" in caplog.text


async def test_a_reader_that_hangs_is_cut_off_after_a_stop(lake: Lake) -> None:
    """
    A Run that was asked to stop waits for its readers as long as its grace lasts. What was
    handled is written down; the next Run begins with the event that was cut off.
    """
    hangs = Event()
    notes = Notes(lambda event: hangs.wait() if event.id == 2 else None)
    source = offering(offer(1))
    run = lake.run_of(source, subscriptions=telling(app=notes), grace_seconds=0.0)
    with fail_after(20):
        async with create_task_group() as tg:

            async def stop() -> None:
                while notes.tried < 2:
                    await checkpoint()
                run.stop.request()

            tg.start_soon(stop)
            summary = await run.execute()
    assert "app was not told everything before the run had to end" in summary.warnings[0]
    assert summary.exit_code == 4
    assert await lake.catalog.reader_cursor("app") == 1

    hangs.set()
    await lake.run(source, subscriptions=telling(app=notes))
    assert notes.ids == [1, 2]


async def test_a_reader_that_hangs_keeps_no_other_run_waiting(lake: Lake) -> None:
    """
    The plans are free for others as soon as everything is committed.
    """
    hangs = Event()
    notes, source = Notes(lambda event: hangs.wait()), offering(offer(1))
    with fail_after(20):
        async with create_task_group() as tg:
            tg.start_soon(lake.run_of(source, subscriptions=telling(app=notes)).execute)
            held = True
            while held:
                await checkpoint()
                held = not notes.tried or bool((await lake.run(source)).held_plans)
            hangs.set()
    assert notes.ids == [1, 2]


async def test_a_handler_that_takes_too_long_is_given_up(lake: Lake) -> None:
    """
    Its Run ends with a warning, without asking again; the next Run begins with that event.
    """
    notes = Notes(lambda event: Event().wait() if event.id == 2 else None)
    slow = Subscription(name="slow", sink=notes, timeout=timedelta(milliseconds=20))
    fast = Notes()
    source = offering(offer(1))
    with fail_after(20):
        summary = await lake.run(source, subscriptions=[slow, *telling(fast=fast)])
    assert (summary.status, summary.exit_code) == (RunStatus.FINISHED, 1)
    [warning] = summary.warnings
    assert "slow was not done with event 2 (revision_added) within 0.02 s" in warning
    assert "longer timeout" in warning
    assert (notes.ids, notes.tried, fast.ids) == ([1], 2, [1, 2])
    assert await lake.catalog.reader_cursor("slow") == 1

    healed = Notes()
    await lake.run(source, subscriptions=telling(slow=healed))
    assert healed.ids == [2]


async def test_a_run_whose_time_is_up_waits_for_its_readers_for_a_while(lake: Lake) -> None:
    """
    As after a stop: what was committed is complete, and the next Run tells the rest.
    """
    lake.clock = VirtualClock()
    notes = Notes(lambda event: Event().wait() if event.id == 2 else None)
    budget = Budget(max_duration=timedelta(hours=1))
    with fail_after(20):
        summary = await lake.run(
            offering(offer(1)), subscriptions=telling(app=notes), budget=budget
        )
    assert summary.counters.stored == 1
    assert "app was not told everything before the run had to end" in summary.warnings[0]
    assert notes.ids == [1]


async def test_a_cancelled_run_leaves_its_readers_where_they_are(lake: Lake) -> None:
    """
    What was handled before a cancellation is written down, and nothing else.
    """
    notes = Notes(lambda event: Event().wait() if event.id == 2 else None)
    run = lake.run_of(offering(offer(1)), subscriptions=telling(app=notes))
    with fail_after(20):
        async with create_task_group() as tg:
            tg.start_soon(run.execute)
            while notes.tried < 2:
                await checkpoint()
            tg.cancel_scope.cancel()

    assert await lake.catalog.reader_cursor("app") == 1
    assert [run.status for run in await lake.catalog.runs()] == [RunStatus.ABORTED]
    healed = Notes()
    await lake.run(offering(offer(1)), subscriptions=telling(app=healed))
    assert healed.ids == [2]


class Forgetful:
    """A Catalog that cannot write down how far a reader is."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def __getattr__(self, name: str) -> Any:
        return getattr(self._catalog, name)

    async def move_reader(self, name: str, *, event: int, **rest: Any) -> bool:
        if event:
            raise CatalogError("the disk is gone")
        return await self._catalog.move_reader(name, event=event, **rest)


async def test_what_was_handled_and_not_written_down_comes_again(lake: Lake) -> None:
    """
    Between handling an event and moving the cursor anything may happen: it is told again.
    """
    notes, catalog = Notes(), lake.catalog
    lake.catalog = Forgetful(catalog)  # type: ignore[assignment]
    summary = await lake.run(offering(offer(1)), subscriptions=telling(app=notes))
    assert "the disk is gone" in summary.warnings[0]
    assert summary.exit_code == 1
    assert notes.ids == [1, 2]

    lake.catalog = catalog
    await lake.run(offering(offer(1)), subscriptions=telling(app=notes))
    assert notes.ids == [1, 2, 1, 2]


async def test_a_crash_repeats_no_more_than_a_hundred_events(lake: Lake) -> None:
    """
    The cursor is moved at least that often, and within a second of slow work.
    """
    lake.clock = clock = VirtualClock(auto=False)
    behind: list[int] = []

    async def look(event: DatasetEvent) -> None:
        if event.id > 500:
            clock._seconds += 0.3
        behind.append(event.id - 1 - (await lake.catalog.reader_cursor("app") or 0))

    batch = [dataset_commit(number) for number in range(600)]
    await lake.catalog.commit(batch, leases=[])
    reader = EventReader(
        catalog=lake.catalog,
        clock=clock,
        random=random.Random(0),
        subscription=Subscription(name="app", sink=Notes(look)),
        redact=str,
    )
    await reader.open()
    await reader.catch_up()
    assert max(behind) == event_reader.MOST_REPEATED - 1
    assert max(behind[505:]) <= 4


async def test_events_of_earlier_runs_come_first(lake: Lake) -> None:
    """
    What no subscriber was there for is kept, and told before anything that happens later.
    """
    await lake.run(offering(offer(1)))
    notes = Notes()
    await lake.run(offering(offer(1), offer(2)), subscriptions=telling(app=notes))

    assert notes.ids == [1, 2, 3, 4]


async def test_a_new_reader_may_begin_now(lake: Lake) -> None:
    """
    It is told what happens from its first Run on; what was there before is not told, ever.
    """
    await lake.run(offering(offer(1)))
    notes = Notes()
    new = [Subscription(name="new", sink=notes, starts_now=True)]
    await lake.run(offering(offer(1)), subscriptions=new)
    assert notes.told == []
    await lake.run(offering(offer(1), offer(2)))
    await lake.run(offering(offer(1)), subscriptions=new)
    assert notes.ids == [3, 4]


async def test_a_cursor_that_somebody_else_moves_ends_the_delivery(lake: Lake) -> None:
    """
    Two who read under one name are told so; the cursor stays where the other has it.
    """

    async def intrude(event: DatasetEvent) -> None:
        if event.id == 1:
            moved = await lake.catalog.move_reader("app", event=9, expected=0, at=NOON)
            assert moved

    summary = await lake.run(offering(offer(1)), subscriptions=telling(app=Notes(intrude)))
    assert 'another process reads the event log under the name "app"' in summary.warnings[0]
    assert summary.exit_code == 1
    assert await lake.catalog.reader_cursor("app") == 9


async def test_of_two_runs_at_once_one_delivers(lake: Lake) -> None:
    """
    Events of both Runs are told once, in order, by whichever has the lease on the reader.
    """
    gate = Event()
    notes = Notes(lambda event: gate.wait())
    first = lake.run_of(offering(offer(1), name="one"), subscriptions=telling(app=notes))
    with fail_after(20):
        async with create_task_group() as tg:
            tg.start_soon(first.execute)
            while not notes.tried:
                await checkpoint()
            summary = await lake.run(
                offering(offer(2), name="two"), subscriptions=telling(app=notes)
            )
            assert summary.exit_code == 0
            assert notes.told == []  # the second leaves it to the first
            gate.set()
    assert notes.ids == [1, 2, 3, 4]


class Clinging:
    """A Catalog that takes a lease on a reader back only once `gate` is open."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self.gate, self.asked = Event(), Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._catalog, name)

    async def release_lease(self, lease: Lease) -> None:
        if lease.name == "events to app":
            self.asked.set()
            await self.gate.wait()
        await self._catalog.release_lease(lease)


async def test_a_commit_between_the_last_look_and_the_end_is_delivered(lake: Lake) -> None:
    """
    A Run that was refused the lease on a reader leaves its events to the holder, which looks
    into the log once more when it has given the lease back.
    """
    notes, catalog = Notes(), lake.catalog
    lake.catalog = clinging = Clinging(catalog)  # type: ignore[assignment]
    first = lake.run_of(offering(offer(1), name="one"), subscriptions=telling(app=notes))
    lake.catalog = catalog
    with fail_after(20):
        async with create_task_group() as tg:
            tg.start_soon(first.execute)
            await clinging.asked.wait()
            await lake.run(offering(offer(2), name="two"), subscriptions=telling(app=notes))
            assert notes.ids == [1, 2]
            clinging.gate.set()
    assert notes.ids == [1, 2, 3, 4]


class Killed(BaseException):
    """The process is gone."""


class Mortal:
    """A Catalog as a process sees it that is killed before its call number *lives*."""

    def __init__(self, catalog: Catalog, lives: int | None) -> None:
        self._catalog = catalog
        self._lives = lives

    def __getattr__(self, name: str) -> Any:
        async def call(*args: Any, **kwargs: Any) -> Any:
            if self._lives is not None:
                if self._lives <= 0:
                    raise Killed
                self._lives -= 1
            return await getattr(self._catalog, name)(*args, **kwargs)

        return call


process = st.fixed_dictionaries(
    {
        "commits": st.lists(st.integers(0, 6), max_size=5),  # turns of the loop before each
        "turns": st.lists(st.integers(0, 6), max_size=8),  # that a handler takes
        "fails": st.sets(st.integers(1, 12), max_size=2),  # events that it never takes
        "stumbles": st.sets(st.integers(1, 12), max_size=3),  # …and that it takes at last
        "lives": st.none() | st.integers(0, 40),
    }
)


class Story:
    """Processes that come and go, one or two at a time, on one log."""

    def __init__(self) -> None:
        self.memory = MemoryCatalog()
        self.handled: list[int] = []
        self.committed = 0

    async def live(self, script: dict[str, Any]) -> bool:
        """One process, from its start to its end. Returns whether it delivered all it could."""
        clock, turns, stumbles = VirtualClock(), iter(script["turns"]), set(script["stumbles"])

        async def handle(event: DatasetEvent) -> None:
            for _ in range(next(turns, 0)):
                await checkpoint()
            if event.id in script["fails"] or event.id in stumbles:
                stumbles.discard(event.id)
                raise ValueError("not now")
            assert set(range(1, event.id)) <= set(self.handled), "an event was skipped"
            self.handled.append(event.id)

        try:
            async with self.memory.share() as shared:
                catalog: Any = Mortal(shared, script["lives"])
                delivery = Delivery(
                    catalog=catalog,
                    clock=clock,
                    random=random.Random(0),
                    subscriptions=telling(app=Notes(handle)),
                    run_id=await catalog.begin_run(started_at=NOON, fingerprint=""),
                    redact=str,
                    stop=Stop(),
                    grace_seconds=0.0,
                )
                async with delivery.running():
                    for wait in script["commits"]:
                        for _ in range(wait):
                            await checkpoint()
                        self.committed += 1
                        await catalog.commit([dataset_commit(self.committed)], leases=[])
                        delivery.wake()
        except Killed:
            return False
        except BaseExceptionGroup as group:
            if group.split(Killed)[1] is not None:
                raise
            return False
        return not delivery.warnings


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(process, min_size=1, max_size=2), max_size=4))
def test_no_event_is_ever_skipped(story: list[list[dict[str, Any]]]) -> None:
    """
    Whatever processes do, side by side or killed at any call, with readers that fail or stumble:
    no event comes before an earlier one was handled, and none is missing in the end. As long as
    nobody fails or dies, nothing waits when the last one has ended.
    """

    async def tell() -> None:
        told = Story()
        for scripts in story:
            ends: list[bool] = []

            async def live(script: dict[str, Any], ends: list[bool] = ends) -> None:
                ends.append(await told.live(script))

            async with create_task_group() as tg:
                for script in scripts:
                    tg.start_soon(live, script)
            if all(ends):
                assert set(told.handled) == set(await event_ids(told.memory))
        last = {"commits": [0], "turns": [], "fails": (), "stumbles": (), "lives": None}
        assert await told.live(last)
        assert set(told.handled) == set(await event_ids(told.memory))
        assert len(told.handled) <= len(set(told.handled)) * (2 * len(story) + 1)

    asyncio.run(tell())
