"""Subscribers that a configuration names, and consumers that read the log on their own."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from lists import ListWorld

import ingestify
from ingestify import DatasetEvent, EventLogConsumer, EventSubscriber
from ingestify.adapters.catalog.sqlite import SqliteCatalog
from ingestify.cli.ending import execute
from ingestify.config import Config
from ingestify.engine import Engine
from ingestify.errors import ConfigError, DeliveryError, ReaderTakenError
from ingestify.model.catalog import DatasetQuery
from ingestify.pipeline import event_reader
from ingestify.testing.contracts.catalog_values import NOON, dataset_commit, stored_file

Open = Callable[..., Engine]
COUNT = 5


class Everything(EventSubscriber):
    """Is told everything, and reads what the events are about."""

    told: list[tuple[str, Any]]

    def __init__(self, store: ingestify.DatasetStore, *, topic: str = "none") -> None:
        super().__init__(store)
        self.topic = topic

    async def on_dataset_created(self, event: DatasetEvent) -> None:
        self.told.append((event.type, event.dataset and event.dataset.identifier.id))

    async def on_revision_added(self, event: DatasetEvent) -> None:
        assert event.dataset is not None
        files = await self.store.load_files(event.dataset)
        self.told.append((event.type, await files.get_file("data").read_json()))

    async def on_revision_invalidated(self, event: DatasetEvent) -> None:
        self.told.append((event.type, event.revision))

    async def on_dataset_deleted(self, event: DatasetEvent) -> None:
        assert '"identifier":{"id":3}' in event.subject
        self.told.append((event.type, event.dataset))


class Blocking:
    """Has one plain handler, which blocks the thread that calls it."""

    threads: set[int]
    may_go_on: threading.Event

    def on_revision_added(self, event: DatasetEvent) -> None:
        self.threads.add(threading.get_ident())
        assert self.may_go_on.wait(60)


class Picky:
    """Refuses every event with a text that nobody may read."""

    def __init__(self, password: str) -> None:
        self.password = password

    def on_dataset_created(self, event: DatasetEvent) -> None:
        raise RuntimeError(f"cannot log in with {self.password}")


class Deaf(EventSubscriber):
    """Wants to know nothing."""

    def on_revision_updated(self, event: DatasetEvent) -> None:
        """Nobody calls this."""


@pytest.fixture
def full(world: ListWorld) -> ListWorld:
    """A provider with some Datasets."""
    world.set_list("a", *[{"id": key} for key in range(COUNT)])
    for key in range(COUNT):
        world.set_data(key, {"x": key})
    return world


@pytest.fixture(autouse=True)
def classes(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The subscribers above, as a module that a configuration can name."""
    module = ModuleType("club_events")
    for kind in (Everything, Blocking, Picky, Deaf):
        setattr(module, kind.__name__, kind)
    monkeypatch.setitem(__import__("sys").modules, "club_events", module)
    Everything.told, Blocking.threads, Blocking.may_go_on = [], set(), threading.Event()
    return iter([module])


def subscribed(*written: Any) -> dict[str, Any]:
    return {"event_subscribers": list(written)}


async def test_a_subscriber_is_told_what_its_lake_does(full: ListWorld, open_lake: Open) -> None:
    """
    Handlers that a class has are called, in order, and can read the lake; others are not missed.
    """
    written = {"type": "club_events.Everything", "configuration": {"topic": "lake"}}
    async with open_lake(**subscribed(written)) as engine:
        summary = await engine.run()
        assert (summary.exit_code, summary.warnings) == (0, ())
        created = [what for kind, what in Everything.told if kind == "dataset_created"]
        added = [what for kind, what in Everything.told if kind == "revision_added"]
        assert sorted(created) == list(range(COUNT))
        assert added == [{"x": key} for key in created]

        await engine.catalog.invalidate(DatasetQuery(identifier={"id": 3}), reason="wrong", at=NOON)
        await engine.run()
        assert Everything.told[2 * COUNT :] == [("revision_invalidated", 0)]
        await engine.catalog.delete(DatasetQuery(identifier={"id": 3}), at=NOON)
        await engine.run(source="lists", disable_events=False)
        assert ("dataset_deleted", None) in Everything.told
        [reader] = await engine.catalog.readers()
        assert (reader.name, reader.behind) == ("club_events.Everything", 0)


async def test_a_plain_handler_blocks_nobody(full: ListWorld, open_lake: Open) -> None:
    """
    It is called in a thread of its own: everything is committed while it blocks.
    """
    async with open_lake(**subscribed("club_events.Blocking")) as engine:
        async with anyio.create_task_group() as tg:
            tg.start_soon(engine.run)
            while not Blocking.threads or await engine.store.count() < COUNT:
                await checkpoint()
            Blocking.may_go_on.set()
        [reader] = await engine.catalog.readers()
        assert reader.behind == 0
    assert threading.get_ident() not in Blocking.threads


async def test_a_plain_handler_that_hangs_does_not_hold_a_stopped_run(
    full: ListWorld, open_lake: Open
) -> None:
    """
    A Run that is stopped ends after its grace, and says who was not told everything.
    """
    async with open_lake(**subscribed("club_events.Blocking")) as engine:
        summaries = []

        async def run() -> None:
            summaries.append(await engine.run(grace_seconds=0.1))

        with anyio.fail_after(60):
            async with anyio.create_task_group() as tg:
                tg.start_soon(run)
                while not Blocking.threads or await engine.store.count() < COUNT:
                    await checkpoint()
                engine.request_stop()
        assert "club_events.Blocking was not told everything" in summaries[0].warnings[0]
        assert await engine.catalog.reader_cursor("club_events.Blocking") in (0, 1)
    Blocking.may_go_on.set()


async def test_a_subscriber_may_be_given_more_time_or_less(
    full: ListWorld, open_lake: Open, make_config: Callable[..., Config]
) -> None:
    """
    A minute for each call, unless the configuration says otherwise.
    """
    written = {"type": "club_events.Blocking", "timeout": "20ms"}
    async with open_lake(**subscribed(written)) as engine:
        summary = await engine.run()
    Blocking.may_go_on.set()
    assert (summary.exit_code, summary.counters.stored) == (1, COUNT)
    assert "within 0.02 s" in summary.warnings[0]
    config = make_config(**subscribed("club_events.Blocking"))
    assert config.event_subscribers[0].timeout == timedelta(minutes=1)


async def test_a_subscriber_that_refuses_is_told_of_in_the_summary(
    full: ListWorld, open_lake: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    With its name, the event and the reason, but without its password; the exit code is 1.
    """
    monkeypatch.setattr(event_reader, "full_jitter", lambda attempt, rng: 0.0)
    picky = {
        "type": "club_events.Picky",
        "name": "queue",
        "configuration": {"password": "tiki-taka-1"},
    }
    async with open_lake(**subscribed(picky, "club_events.Everything")) as engine:
        summary = await engine.run()
    assert len(Everything.told) == 2 * COUNT
    assert (summary.exit_code, summary.counters.stored) == (1, COUNT)
    [warning] = summary.warnings
    assert "queue failed at event 1 (dataset_created): RuntimeError: cannot log in" in warning
    assert "tiki-taka" not in repr(summary)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("club_events.Deaf", "has no handler; it may have any of on_dataset_created, on_revision_"),
        ("club_events.Nobody", "has no Nobody"),
        ({"type": "club_events.Picky"}, "Picky is missing the option(s) password"),
        ("os.path", "os.path is not a class"),
    ],
)
async def test_a_subscriber_that_cannot_be_used_is_refused(
    full: ListWorld, open_lake: Open, written: Any, said: str
) -> None:
    """
    Before anything is fetched, with what is wrong and what would be right.
    """
    async with open_lake(**subscribed(written)) as engine:
        with pytest.raises(ConfigError, match="event_subscribers: ") as caught:
            await engine.run()
        assert said in str(caught.value)
        assert await engine.catalog.runs() == []


async def test_a_forecast_builds_no_subscriber(full: ListWorld, open_lake: Open) -> None:
    """
    `plan` tells nobody anything, so it needs none of them.
    """
    async with open_lake(**subscribed("club_events.Nobody")) as engine:
        await engine.plan()


async def test_the_event_log_of_older_configurations_is_accepted(
    full: ListWorld, open_lake: Open
) -> None:
    """
    It asks for what there is always, and is no reader.
    """
    log = "ingestify.infra.event_log.EventLogSubscriber"
    async with open_lake(**subscribed(log)) as engine:
        assert (await engine.run()).exit_code == 0
        assert await engine.catalog.readers() == []


async def test_disabled_events_come_later(full: ListWorld, open_lake: Open) -> None:
    """
    A Run with disable_events calls no subscriber; the next one tells what it did.
    """
    async with open_lake(**subscribed("club_events.Everything")) as engine:
        await engine.run(disable_events=True)
        assert Everything.told == []
        await engine.run()
        assert len(Everything.told) == 2 * COUNT


@pytest.fixture
def lake(full: ListWorld, open_lake: Open) -> Engine:
    return open_lake()


async def ids_in(engine: Engine) -> list[int]:
    return [event.id for event in await engine.catalog.events()]


async def test_consumers_of_different_names_each_get_everything(lake: Engine) -> None:
    """
    One by one or in batches, by a plain callable or a coroutine function; once each.
    """
    plain: list[DatasetEvent] = []
    batches: list[list[int]] = []

    async def on_events(events: Sequence[DatasetEvent]) -> None:
        batches.append([event.id for event in events])

    async with lake:
        await lake.run()
        one = EventLogConsumer.from_config(lake.config, reader_name="one")
        two = EventLogConsumer.from_config(lake.config, reader_name="two")
        for _ in range(2):
            await one.run(plain.append, once=True)
            await two.run_batched(on_events, batch_size=4, once=True)
        assert [event.id for event in plain] == await ids_in(lake)
        assert batches == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10]]
        assert {event.dataset and event.dataset.dataset_type for event in plain} == {"thing"}


async def test_a_consumer_sees_what_a_run_commits_meanwhile(lake: Engine) -> None:
    """
    It looks into the log again and again, until it is asked to stop.
    """
    told: list[int] = []
    stop = asyncio.Event()

    async def on_event(event: DatasetEvent) -> None:
        told.append(event.id)
        if len(told) == 2 * COUNT:
            stop.set()

    with anyio.fail_after(60):
        async with lake, EventLogConsumer(lake.config, reader_name="app") as consumer:
            async with anyio.create_task_group() as tg:

                async def consume() -> None:
                    await consumer.run(on_event, poll_interval=timedelta(seconds=0.01), stop=stop)

                tg.start_soon(consume)
                await lake.run()
            assert told == await ids_in(lake)
            assert await lake.catalog.reader_cursor("app") == told[-1]


async def test_a_consumer_does_not_end_with_what_its_handler_cancels(lake: Engine) -> None:
    """
    A handler that awaits a task of its own that it has cancelled did not take the event.
    """

    async def on_event(event: DatasetEvent) -> None:
        inner = asyncio.ensure_future(asyncio.sleep(3600))
        inner.cancel()
        await inner

    async with lake:
        await lake.run()
        consumer = EventLogConsumer.from_config(lake.config, reader_name="app")
        with pytest.raises(DeliveryError, match="did not come from ingestify"):
            await consumer.run(on_event, once=True, attempts=1)


async def test_a_consumer_that_is_cancelled_ends_cleanly(lake: Engine) -> None:
    """
    What was handled is written down; the next one begins behind it.
    """
    told: list[int] = []
    reached = anyio.Event()

    async def on_event(event: DatasetEvent) -> None:
        if event.id == 4 and not reached.is_set():
            reached.set()
            await anyio.sleep_forever()
        told.append(event.id)

    async with lake:
        await lake.run()
        consumer = EventLogConsumer.from_config(lake.config, reader_name="app")
        with anyio.fail_after(60):
            async with anyio.create_task_group() as tg:
                tg.start_soon(consumer.run, on_event)
                await reached.wait()
                tg.cancel_scope.cancel()
            assert await lake.catalog.reader_cursor("app") == 3
            await consumer.run(on_event, once=True)
        assert told == await ids_in(lake)


async def test_a_failing_callable_is_called_again_with_the_same_event(
    lake: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """
    It stays before that event until it succeeds; each failure is logged.
    """
    monkeypatch.setattr(event_reader, "full_jitter", lambda attempt, rng: 0.0)
    told: list[int] = []
    failures = iter(range(20))

    def on_event(event: DatasetEvent) -> None:
        if event.id == 3 and next(failures, None) is not None:
            raise OSError("the queue is full")
        told.append(event.id)

    async with lake:
        await lake.run()
        consumer = EventLogConsumer.from_config(lake.config, reader_name="app")
        await consumer.run(on_event, once=True)
        assert told == await ids_in(lake)
    assert caplog.text.count("app failed at event 3 (dataset_created): OSError: the queue") == 20


async def test_attempts_may_be_bounded(lake: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Then the consumer ends with an error, and the cursor stands before what failed.
    """
    monkeypatch.setattr(event_reader, "full_jitter", lambda attempt, rng: 0.0)

    def on_events(events: Sequence[DatasetEvent]) -> None:
        if events[0].id > 4:
            raise OSError("the queue is full")

    async with lake:
        await lake.run()
        consumer = EventLogConsumer.from_config(lake.config, reader_name="app")
        with pytest.raises(DeliveryError, match=r"app failed at events 5 to 8: .* \(tried 2 times"):
            await consumer.run_batched(on_events, batch_size=4, attempts=2)
        assert await lake.catalog.reader_cursor("app") == 4


async def test_two_consumers_of_one_name_do_not_both_go_on(lake: Engine) -> None:
    """
    The one that finds the cursor moved by the other ends, and says why.
    """
    async with lake:
        await lake.run()
        other = EventLogConsumer.from_config(lake.config, reader_name="app")

        async def on_event(event: DatasetEvent) -> None:
            if event.id == 3:
                await other.run(lambda event: None, once=True)

        consumer = EventLogConsumer.from_config(lake.config, reader_name="app")
        with pytest.raises(ReaderTakenError, match='under the name "app", too'):
            await consumer.run(on_event, once=True)
        assert await lake.catalog.reader_cursor("app") == 2 * COUNT


async def test_a_new_consumer_may_begin_now(lake: Engine, full: ListWorld) -> None:
    """
    It is told nothing of what was there before.
    """
    told: list[int] = []

    async def on_event(event: DatasetEvent) -> None:
        told.append(event.id)

    async with lake:
        await lake.run()
        consumer = EventLogConsumer.from_config(lake.config, reader_name="app", start="now")
        await consumer.run(on_event, once=True)
        assert told == []
        full.set_list("a", *[{"id": key} for key in range(COUNT + 1)])
        full.set_data(COUNT, {"x": COUNT})
        await lake.run()
        await consumer.run(on_event, once=True)
        assert told == [2 * COUNT + 1, 2 * COUNT + 2]


async def test_a_waiting_consumer_stops_at_once(lake: Engine) -> None:
    """
    Neither its interval nor the wait after a failure holds it up.
    """

    def fail(event: DatasetEvent) -> None:
        raise ValueError

    async with lake:
        for on_event in (fail, lambda event: None):
            stop = anyio.Event()
            consumer = EventLogConsumer.from_config(lake.config, reader_name="app")
            with anyio.fail_after(60):
                async with anyio.create_task_group() as tg:

                    async def consume(
                        on_event: Any = on_event, stop: Any = stop, consumer: Any = consumer
                    ) -> None:
                        await consumer.run(on_event, poll_interval=3600, stop=stop)

                    tg.start_soon(consume)
                    await lake.run()
                    while await lake.catalog.reader_cursor("app") is None:
                        await checkpoint()
                    stop.set()


def test_the_log_and_its_readers_can_be_looked_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    `ingestify events list` and `events readers`, for people, pipes and programs.
    """
    file = tmp_path / "config.yaml"
    file.write_text(f"main: {{metadata_url: 'sqlite:///{tmp_path}/c.db', file_url: {tmp_path}}}")

    async def fill() -> None:
        async with SqliteCatalog.open(tmp_path / "c.db") as catalog:
            await catalog.commit([dataset_commit(1, stored_file())], leases=[])
            await catalog.move_reader("app", event=1, expected=None, at=NOON)

    def said(*arguments: str) -> str:
        assert execute(["events", *arguments, "--config", str(file)]) == 0
        return capsys.readouterr().out

    asyncio.run(fill())
    created = "1\t2024-05-01 12:00:00Z\tdataset_created\tacme/match\tmatch_id=1\t\t\n"
    added = "2\t2024-05-01 12:00:00Z\trevision_added\tacme/match\tmatch_id=1\t0\tevents\n"
    assert said("list") == created + added
    assert said("list", "--after", "1") == added
    assert said("list", "--limit", "1") == created
    assert said("list", "--after", "2") == ""
    assert [event["id"] for event in json.loads(said("list", "--json"))] == [1, 2]
    assert said("readers") == "app\t1\t2024-05-01 12:00:00Z\t1\n"
    assert json.loads(said("readers", "--json"))[0]["behind"] == 1


def test_what_a_consumer_cannot_be_is_refused(make_config: Callable[..., Config]) -> None:
    """
    A lake in memory, no name, a start that there is not, an interval of nothing.
    """
    config = make_config()
    memory = Config.from_values(metadata_url="memory://", file_url="memory://")
    with pytest.raises(ConfigError, match="in memory"):
        EventLogConsumer(memory, reader_name="app")
    with pytest.raises(ConfigError, match="needs a name"):
        EventLogConsumer(config, reader_name="")
    with pytest.raises(ConfigError, match="start must be"):
        EventLogConsumer(config, reader_name="app", start="later")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="poll_interval"):
        asyncio.run(EventLogConsumer(config, reader_name="app").run(print, poll_interval=0))
    with pytest.raises(ValueError, match="batch_size"):
        asyncio.run(EventLogConsumer(config, reader_name="a").run_batched(print, batch_size=0))


def test_a_consumer_reads_the_configuration_from_a_file(tmp_path: Path) -> None:
    """
    As the engine does; what is wrong with the file is said at once.
    """
    with suppress(ConfigError):
        EventLogConsumer.from_config(tmp_path / "none.yaml", reader_name="app")
        pytest.fail("there is no such file")
    file = tmp_path / "config.yaml"
    file.write_text(f"main: {{metadata_url: 'sqlite:///{tmp_path}/c.db', file_url: {tmp_path}}}")
    told: list[DatasetEvent] = []
    consumer = EventLogConsumer.from_config(file, reader_name="a")

    async def make_lake() -> None:
        async with Engine.from_config(file):
            pass

    asyncio.run(make_lake())
    asyncio.run(consumer.run(told.append, once=True))
    assert told == []


async def test_a_consumer_makes_no_lake(make_config: Callable[..., Config], tmp_path: Path) -> None:
    """
    Where the address of the catalog is wrong it would wait for ever for events.
    """
    config = make_config()
    path = config.main.metadata_url.path
    assert path is not None
    consumer = EventLogConsumer(config, reader_name="app")
    with pytest.raises(ConfigError, match=f"{path} is missing"):
        await consumer.run(print, once=True)
    with pytest.raises(ConfigError, match=f"{path} is missing"):
        async with consumer:
            pass
    assert not path.exists()
