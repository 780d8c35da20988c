"""How a Run ends before its time, and what it leaves behind: always a lake that tells the truth."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from anyio import CancelScope, Event, create_task_group, fail_after, wait_all_tasks_blocked
from anyio.lowlevel import checkpoint
from lakes import Lake, offer, offering, outcome, plan_of, staged_in
from lists import ListSource, ListWorld

import ingestify
from ingestify.adapters.catalog.memory import MemoryCatalog
from ingestify.adapters.catalog.sqlite import SqliteCatalog
from ingestify.adapters.files.local import LocalFileStore
from ingestify.adapters.http.aiohttp_fetcher import AiohttpFetcher
from ingestify.config import Config
from ingestify.engine import Engine
from ingestify.errors import CatalogError, FatalError, StopProcessing, StoreUnavailableError
from ingestify.model.catalog import Lease, SelectorClosing
from ingestify.model.dataset import Stored
from ingestify.model.http import Request
from ingestify.model.resource import DatasetResource, FileResource, Later
from ingestify.model.run import RunStatus, RunSummary
from ingestify.pipeline import commit
from ingestify.testing import FakeSource, ProviderSimulator, hang_until
from ingestify.testing.fetcher import FakeAnswer, FakeFetcher

BASE = "http://fake.invalid/"
Http = ingestify.Http


@pytest.fixture
def lake() -> Lake:
    return Lake()


@pytest.fixture
def no_linger(monkeypatch: pytest.MonkeyPatch) -> None:
    """A finished Task waits for no company."""
    monkeypatch.setattr(commit, "LINGER_SECONDS", 0.0)


class RaisingSource(FakeSource):
    """Raises `error` from the method called `where`."""

    where = ""
    error: Exception = StopProcessing("the quota is used up")

    def _reach(self, where: str) -> None:
        if where == self.where:
            raise self.error

    async def discover_selectors(self, *args: Any, **options: Any) -> AsyncIterator[Any]:
        self._reach("discover_selectors")
        async for each in super().discover_selectors(*args, **options):
            yield each

    async def discover_datasets(self, *args: Any, **options: Any) -> AsyncIterator[Any]:
        async for each in super().discover_datasets(*args, **options):
            yield each
        self._reach("discover_datasets")

    async def fetch_dataset_files(
        self, resource: DatasetResource, stored: Stored | None, *, http: Http
    ) -> AsyncIterator[FileResource | Later]:
        is_last = resource.dataset_resource_id["id"] == 2
        for file in resource.files:
            yield file
        if is_last:
            self._reach("fetch_dataset_files")

    async def login(self, http: Http) -> None:
        self._reach("login")

    def check_answer(self, status: int, headers: Any, head: bytes) -> None:
        self._reach("check_answer")


async def raising_loader(*args: Any) -> bytes:
    raise StopProcessing("the quota is used up")


def raising_hook(*args: Any) -> None:
    raise StopProcessing("the quota is used up")


METHODS = [
    "discover_selectors",
    "discover_datasets",
    "fetch_dataset_files",
    "login",
    "check_answer",
]


def raising(where: str, error: Exception | None = None) -> RaisingSource:
    url: dict[str, bytes | str] = {"events": f"{BASE}2.json"}
    needs_request = where in ("login", "check_answer")
    second = offer(2, files=url) if needs_request else offer(2)
    source = offering(offer(1), second, offer(3), name="raising", kind=RaisingSource)
    assert isinstance(source, RaisingSource)
    source.where, source.error = where, error or source.error
    return source


@pytest.mark.parametrize("where", METHODS)
async def test_stop_processing_stops_its_source_alone(lake: Lake, where: str) -> None:
    """
    A Source that asks to be stopped is, from whichever of its methods: what is finished is kept,
    the other Sources go on, and the Run counts as stopped on purpose. Afterwards the rest comes.
    """
    lake.fetcher = FakeFetcher({f"{BASE}2.json": FakeAnswer(body=b'{"x": 1}')})
    other = offering(*[offer(number) for number in range(10, 40)], name="other")

    summary = await lake.run(raising(where), other, workers=1)

    assert (summary.status, summary.exit_code) == ("aborted", 4)
    assert summary.error == "the quota is used up"
    assert summary.counters.is_balanced
    assert summary.counters.failed == 0
    assert set(range(10, 40)) <= set(await lake.ids())
    await lake.check()
    assert [run.status for run in await lake.catalog.runs()] == ["aborted"]

    again = await lake.run(raising("nowhere"), other)
    assert (again.status, again.exit_code) == ("finished", 0)
    assert await lake.ids() == [1, 2, 3, *range(10, 40)]
    assert again.counters.stored + summary.counters.stored == 33


@pytest.mark.parametrize("part", ["loader", "post_load_files"])
async def test_stop_processing_from_what_a_source_hands_out(lake: Lake, part: str) -> None:
    """
    A loader and a post-load hook may ask to stop, too.
    """
    resource = DatasetResource(dataset_resource_id={"id": 2}, name="two")
    if part == "loader":
        resource.add_file("events", loader=raising_loader)
    else:
        resource.add_file("events", content=b"{}")
        resource.post_load_files = raising_hook

    summary = await lake.run(offering(offer(1), lambda: resource, offer(3)), workers=1)

    assert (summary.status, summary.exit_code) == ("aborted", 4)
    assert outcome(summary) == {"stored": 1, "not_reached": 2}
    await lake.check()


@pytest.mark.parametrize("where", METHODS)
async def test_a_fatal_error_ends_the_run(lake: Lake, where: str) -> None:
    """
    A Source that says that the Run cannot go on ends it as failed; what is finished is committed.
    """
    lake.fetcher = FakeFetcher({f"{BASE}2.json": FakeAnswer(body=b'{"x": 1}')})

    summary = await lake.run(raising(where, FatalError("no licence")), workers=1)

    assert (summary.status, summary.exit_code) == ("failed", 3)
    assert summary.error == "no licence"
    assert summary.counters.is_balanced
    assert await lake.ids() == ([] if where == "discover_selectors" else await lake.ids())
    if where in ("fetch_dataset_files", "login", "check_answer"):
        # While 2 waits for a login, 3 may be done; what is done is kept.
        assert await lake.ids() in ([1], [1, 3])
    await lake.check()
    assert [run.status for run in await lake.catalog.runs()] == ["failed"]
    assert (await lake.run(raising("nowhere"))).exit_code == 0
    assert await lake.ids() == [1, 2, 3]


async def test_what_is_in_flight_ends_after_a_stop(lake: Lake) -> None:
    """
    After a request to stop nothing new is begun, what is in flight ends and is committed, and
    the next Run does exactly the rest.
    """
    gate = Event()
    fetcher = FakeFetcher()
    for number in range(20):
        fetcher.answer(f"{BASE}{number}.json", FakeAnswer(body=b'{"x": 1}', after=gate))
    lake.fetcher = fetcher
    source = offering(
        *[offer(number, files={"events": f"{BASE}{number}.json"}) for number in range(20)]
    )
    run = lake.run_of(source, workers=3)
    summaries: list[RunSummary] = []

    async def execute() -> None:
        summaries.append(await run.execute())

    async with create_task_group() as tg:
        tg.start_soon(execute)
        await wait_all_tasks_blocked()
        assert fetcher.in_flight == 3
        run.stop.request()
        await wait_all_tasks_blocked()
        assert fetcher.count() == 3
        gate.set()

    (summary,) = summaries
    assert outcome(summary) == {"stored": 3, "not_reached": 17}
    assert (summary.status, summary.exit_code) == ("aborted", 4)
    await lake.check()

    assert outcome(await lake.run(source)) == {"skipped": 3, "stored": 17}
    assert fetcher.count() == 20


async def test_a_stop_is_not_held_up_by_back_pressure(lake: Lake) -> None:
    """
    A Source that waits for room in its stream is stopped, and what it had found is not reached.
    """
    gate = Event()
    lake.fetcher = FakeFetcher({f"{BASE}x.json": FakeAnswer(body=b"{}", after=gate)})
    many = [offer(number, files={"events": f"{BASE}x.json"}) for number in range(6000)]
    source = offering(a=many, b=many)
    run = lake.run_of(source, workers=1)
    async with create_task_group() as tg:
        tg.start_soon(run.execute)
        await wait_all_tasks_blocked()
        run.stop.request()
        gate.set()
    counters = run.progress().counters
    assert counters.is_balanced
    assert counters.listed == source.yielded


@pytest.mark.parametrize(
    "path", ["selectors.json", "list-a.json", "data/1-v1.json"], ids=["selectors", "list", "file"]
)
async def test_a_provider_that_hangs_does_not_hold_up_a_stop(
    world: ListWorld, provider: ProviderSimulator, open_lake: Any, path: str
) -> None:
    """
    A stop while the provider hangs ends within the grace period, wherever it hangs, and the next
    Run converges.
    """
    world.set_list("a", {"id": 1}, {"id": 2}, token="t")
    world.set_data(1, {"x": 1})
    world.set_data(2, {"x": 2})
    script = provider.script(path, hang_until(asyncio.Event()))
    async with open_lake() as engine:
        summaries: list[RunSummary] = []

        async def execute() -> None:
            summaries.append(await engine.run(grace_seconds=0.05))

        with fail_after(20):
            async with create_task_group() as tg:
                tg.start_soon(execute)
                await provider.until(lambda: script.taken == 1)
                engine.request_stop()

        (summary,) = summaries
        assert (summary.status, summary.exit_code) == ("aborted", 4)
        assert summary.counters.is_balanced
        provider.unscript(script)
        assert (await engine.run()).exit_code == 0
        assert await engine.store.count() == 2


def three() -> FakeSource:
    """Three Datasets of two Files, at hand and to be fetched, in two Selectors that share one."""
    one, two, three = (
        offer(number, files={"events": f"{BASE}x.json", "lineups": b'{"of": %d}' % number})
        for number in (1, 2, 3)
    )
    return offering(a=[one, two], b=[two, three])


class LateCatalog(MemoryCatalog):
    """Answers a turn after it has done what it was asked for, and knows what it has closed."""

    def __init__(self) -> None:
        super().__init__()
        self.closed: list[int] = []

    async def begin_run(self, **run: Any) -> int:
        run_id = await super().begin_run(**run)
        await checkpoint()
        return run_id

    async def acquire_lease(self, name: str, **run: Any) -> Lease | None:
        lease = await super().acquire_lease(name, **run)
        await checkpoint()
        return lease

    async def finish_selector(self, closing: SelectorClosing) -> int:
        gone = await super().finish_selector(closing)
        self.closed.append(closing.selector_run_id)
        await checkpoint()
        return gone


class LateFetcher(FakeFetcher):
    """Takes a turn to end an exchange whose body has been read."""

    @asynccontextmanager
    async def send(self, request: Request) -> AsyncIterator[Any]:
        async with super().send(request) as response:
            yield response
            await checkpoint()


def late_lake() -> Lake:
    fetcher = LateFetcher({f"{BASE}x.json": FakeAnswer(body=b'{"x": 1}')})
    return Lake(catalog=LateCatalog(), fetcher=fetcher)


@asynccontextmanager
async def axe(ticks: int, *, native: bool) -> AsyncIterator[None]:
    """Cancel what is done inside after so many turns of the event loop."""
    if native:
        task = asyncio.current_task()
        assert task is not None
        async with create_task_group() as tg:

            async def cut() -> None:
                for _ in range(ticks):
                    await checkpoint()
                task.cancel()

            tg.start_soon(cut)
            yield
            tg.cancel_scope.cancel()
        return
    with CancelScope() as scope:
        async with create_task_group() as tg:

            async def cancel() -> None:
                for _ in range(ticks):
                    await checkpoint()
                scope.cancel()

            tg.start_soon(cancel)
            yield
            tg.cancel_scope.cancel()


async def run_under_axe(
    lake: Lake, source: FakeSource, ticks: int, *, native: bool = False
) -> tuple[Any, bool]:
    """A Run that is cancelled after *ticks*, and whether it ended before that."""
    run = lake.run_of(source)
    has_ended = False

    async def execute() -> None:
        nonlocal has_ended
        async with axe(ticks, native=native):
            await run.execute()
            has_ended = True

    if native:
        result = await asyncio.gather(asyncio.ensure_future(execute()), return_exceptions=True)
        assert isinstance(result[0], asyncio.CancelledError | None)
    else:
        await execute()
    return run, has_ended


@pytest.mark.usefixtures("no_linger")
@pytest.mark.parametrize("native", [False, True], ids=["scope", "native"])
async def test_a_run_may_be_cancelled_at_any_moment(native: bool) -> None:
    """
    At whichever turn of the event loop a Run is cancelled: nothing stays staged, every File in
    the Catalog has its bytes, the Run is closed as aborted, its counters add up, and the next
    Run makes the lake complete.
    """
    ticks, has_ended = 0, False
    stored_by_cancelled = set()
    while not has_ended:
        lake, source = late_lake(), three()
        run, has_ended = await run_under_axe(lake, source, ticks, native=native)
        await lake.check()
        assert isinstance(lake.catalog, LateCatalog)
        assert len(lake.catalog.closed) == len(set(lake.catalog.closed)), ticks
        rows = await lake.catalog.runs()
        if not has_ended:
            assert [row.status for row in rows] in ([], ["aborted"], ["finished"]), ticks
        counters = run.progress().counters
        assert counters.is_balanced, (ticks, counters)
        assert counters.listed == source.yielded, (ticks, counters)
        if rows:
            assert rows[0].counters.is_balanced, ticks
        stored_by_cancelled.add(len(await lake.ids()))

        again = await lake.run(three())
        assert (again.status, again.exit_code) == ("finished", 0), ticks
        assert again.held_plans == ()
        assert await lake.ids() == [1, 2, 3]
        await lake.check()
        ticks += 1
    assert ticks > 30
    assert stored_by_cancelled >= {0, 3}


@pytest.mark.parametrize("requests", range(1, 10, 2))
async def test_a_run_may_be_cancelled_on_disk(
    world: ListWorld, provider: ProviderSimulator, tmp_path: Path, requests: int
) -> None:
    """
    The same on a real disk, with a database and a provider: whenever a request arrives.
    """
    keys = range(1, 5)
    world.set_list("a", *[{"id": key} for key in keys], token="t")
    world.set_list("b", *[{"id": key} for key in keys], token="t")
    for key in keys:
        world.set_data(key, {"x": random.Random(key).randbytes(200_000).hex()})

    @asynccontextmanager
    async def opened() -> AsyncIterator[Lake]:
        async with (
            SqliteCatalog.open(tmp_path / "lake" / "catalog.db") as catalog,
            LocalFileStore.at(tmp_path / "lake" / "files") as files,
            AiohttpFetcher.open() as fetcher,
        ):
            yield Lake(catalog=catalog, files=files, fetcher=fetcher)

    source = ListSource("lists", base_url=provider.base_url)
    async with opened() as lake:
        with CancelScope() as scope:
            async with create_task_group() as tg:

                async def cut() -> None:
                    await provider.until(lambda: len(provider.requests) >= requests)
                    scope.cancel()

                tg.start_soon(cut)
                await lake.run(source, workers=2)
                tg.cancel_scope.cancel()
        await lake.check()
        kept = await lake.ids()
    provider.reset_counts()
    async with opened() as lake:
        await lake.check()
        (run,) = await lake.catalog.runs()
        assert run.status in ("aborted", "finished")
        summary = await lake.run(source, workers=2)
        assert (summary.status, summary.exit_code) == ("finished", 0)
        assert await lake.ids() == list(keys)
        assert provider.count("data/*") == len(keys) - len(kept)
        await lake.check()


class Wrapped:
    """A Catalog with something else in front of some of its methods."""

    def __init__(self, catalog: MemoryCatalog | None = None) -> None:
        self.catalog = catalog or MemoryCatalog()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.catalog, name)


def failing(method: str, at_call: int = 1) -> Wrapped:
    """A Catalog whose *method* fails from its n-th call on."""
    wrapped = Wrapped()
    calls = 0

    async def fail(*args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls >= at_call:
            await checkpoint()
            raise CatalogError("the disk is gone")
        return await getattr(wrapped.catalog, method)(*args, **options)

    setattr(wrapped, method, fail)
    return wrapped


@pytest.mark.parametrize(
    ("method", "at_call"),
    [
        ("close_crashed_runs", 1),
        ("acquire_lease", 1),
        ("begin_selector", 1),
        ("agreements", 1),
        ("commit", 1),
        ("commit", 2),
        ("settle_failures", 1),
        ("finish_selector", 1),
        ("close_run", 1),
    ],
)
async def test_a_catalog_that_fails_ends_the_run(method: str, at_call: int) -> None:
    """
    When the Catalog cannot be read or written, the Run has failed, says why, and leaves nothing
    staged; with the Catalog back, the next Run converges.
    """
    catalog = failing(method, at_call)
    lake = Lake(catalog=catalog)  # type: ignore[arg-type]
    source = offering(*[offer(number, "a", "b") for number in range(200)])

    summary = await lake.run(source, workers=4)

    assert (summary.status, summary.exit_code) == ("failed", 3)
    assert "the disk is gone" in (summary.error or "")
    assert summary.counters.is_balanced
    healed = Lake(catalog=catalog.catalog, files=lake.files)
    await healed.check()
    again = await healed.run(source)
    assert (again.status, again.exit_code) == ("finished", 0)
    assert again.counters.stored == 200 - summary.counters.stored
    assert await healed.ids() == list(range(200))
    await healed.check()


@pytest.mark.parametrize("way", ["fails", "is cancelled"])
@pytest.mark.parametrize("blocked", [False, True])
async def test_workers_whose_committer_is_gone(blocked: bool, way: str) -> None:
    """
    What is finished when, or after, committing has failed or was cancelled is discarded, also by
    those who waited for the committer.
    """
    catalog = Wrapped()
    reached, gate = Event(), Event()

    batches: list[Any] = []
    kept: list[Any] = []

    async def fail(batch: Any, **options: Any) -> Any:
        batches.append(batch)
        reached.set()
        await gate.wait()
        if way == "fails":
            raise CatalogError("the disk is gone")
        kept.append(batch)
        return await catalog.catalog.commit(batch, **options)

    catalog.commit = fail  # type: ignore[attr-defined]
    lake = Lake(catalog=catalog)  # type: ignore[arg-type]
    count = 1000 if blocked else 100
    run = lake.run_of(offering(*[offer(number) for number in range(count)]), workers=32)
    async with create_task_group() as tg:
        tg.start_soon(run.execute)
        await reached.wait()
        await wait_all_tasks_blocked()
        staged = len(staged_in(lake.files))
        if way == "is cancelled":
            tg.cancel_scope.cancel()
        gate.set()  # before anything is claimed: the committer waits for it behind a shield
    assert staged == min(count - len(batches[0]), 4 * commit.BATCH + 32)
    counters = run.progress().counters
    assert counters.is_balanced
    assert counters.listed == counters.stored + counters.not_reached
    # What the committer had taken over when it was cancelled is finished work, and may be kept.
    assert counters.stored == len(await lake.ids()) == sum(map(len, kept))
    assert (kept == []) == (way == "fails")
    (row,) = await lake.catalog.runs()
    assert row.status == ("failed" if way == "fails" else "aborted")
    await lake.check()


async def test_a_store_that_can_keep_nothing_ends_the_run(lake: Lake) -> None:
    """
    A full disk is the end of the Run, and said so.
    """

    async def full(chunks: Any) -> Any:
        async for _ in chunks:
            pass
        raise StoreUnavailableError("the disk is full")

    lake.files.stage = full  # type: ignore[method-assign]
    summary = await lake.run(offering(offer(1), offer(2)))

    assert (summary.status, summary.exit_code) == ("failed", 3)
    assert summary.error == "the disk is full"
    assert summary.counters.is_balanced


async def test_a_plan_that_another_run_holds(lake: Lake) -> None:
    """
    A second Run of the same plan at the same time does nothing, says so, and has succeeded.
    """
    assert isinstance(lake.catalog, MemoryCatalog)
    gate = Event()
    lake.fetcher = FakeFetcher({f"{BASE}1.json": FakeAnswer(body=b"{}", after=gate)})
    source = offering(offer(1, files={"events": f"{BASE}1.json"}))
    async with lake.catalog.share() as catalog, create_task_group() as tg:
        tg.start_soon(lake.run, source)
        await wait_all_tasks_blocked()

        second = await Lake(catalog=catalog, files=lake.files).run(
            offering(offer(1)), plan_of(offering(offer(7), name="other"))
        )

        assert (second.status, second.exit_code) == ("finished", 0)
        assert len(second.held_plans) == 1
        [held] = second.held_plans
        assert (held.source, held.dataset_type, held.bucket) == ("fake", "thing", "main")
        [first] = [run for run in await catalog.runs() if run.status == "running"]
        assert held.run_id == first.run_id
        assert held.since is not None
        assert first.started_at <= held.since <= second.started_at
        assert outcome(second) == {"stored": 1}  # of the other plan, which nobody held
        gate.set()
    assert await lake.ids() == [1, 7]


async def test_two_engines_on_one_lake(
    world: ListWorld, provider: ProviderSimulator, open_lake: Callable[..., Any]
) -> None:
    """
    The same with two engines on one database: the second one is told, and does nothing.
    """
    world.set_list("a", {"id": 1}, token="t")
    world.set_data(1, {"x": 1})
    answer = asyncio.Event()
    script = provider.script("data/*", hang_until(answer))
    async with open_lake() as one, open_lake() as other, create_task_group() as tg:
        tg.start_soon(one.run)
        await provider.until(lambda: script.taken == 1)
        requests = len(provider.requests)

        summary = await other.run()

        assert (summary.exit_code, summary.counters.listed) == (0, 0)
        assert len(summary.held_plans) == 1
        assert (script.taken, len(provider.requests)) == (1, requests)
        answer.set()


async def test_a_stop_before_anything_has_begun(lake: Lake) -> None:
    """
    A Run that is asked to stop before it begins lists nothing and is closed as aborted.
    """
    source = offering(offer(1))
    run = lake.run_of(source)
    run.stop.request()

    summary = await run.execute()

    assert (summary.status, summary.exit_code, source.yielded) == ("aborted", 4, 0)
    assert [row.status for row in await lake.catalog.runs()] == [RunStatus.ABORTED]


async def test_waiting_for_later_does_not_hold_up_a_stop(lake: Lake) -> None:
    """
    A Dataset that waits for something to be prepared is not reached when the Run is stopped and
    the grace is over.
    """

    class Patient(FakeSource):
        async def fetch_dataset_files(
            self, resource: DatasetResource, stored: Stored | None, *, http: Http
        ) -> AsyncIterator[FileResource | Later]:
            for file in resource.files:
                yield file
            yield Later(after=timedelta(hours=1))

    run = lake.run_of(offering(offer(1), kind=Patient), grace_seconds=0.01)
    summaries: list[RunSummary] = []

    async def execute() -> None:
        summaries.append(await run.execute())

    async with create_task_group() as tg:
        tg.start_soon(execute)
        await wait_all_tasks_blocked()
        run.stop.request()
    assert outcome(summaries[0]) == {"not_reached": 1}
    await lake.check()


async def test_what_waits_for_its_turn_is_dropped_at_once(
    world: ListWorld,
) -> None:
    """
    After a stop only what the provider is answering is waited for: Datasets that wait for their
    turn are not reached, however long the grace would be.
    """
    world.set_list("a", *({"id": key} for key in range(40)))
    for key in range(40):
        world.set_data(key, {"x": key})
    limits = {"requests_per_second": 0.1, "burst": 8}
    async with ProviderSimulator(world) as provider:
        source = {
            "type": "lists.ListSource",
            "configuration": {"base_url": provider.base_url},
            "limits": limits,
        }
        plan = {"source": "lists", "dataset_type": "thing"}
        config = Config.from_values(
            metadata_url="memory://",
            file_url="memory://",
            sources={"lists": source},
            ingestion_plans=[plan],
        )
        async with Engine(config) as engine:
            summaries: list[RunSummary] = []

            async def execute() -> None:
                summaries.append(await engine.run())

            async with create_task_group() as tg:
                tg.start_soon(execute)
                await provider.until(lambda: provider.count("data/*") == 6)
                engine.request_stop()
            asked = provider.count("data/*")
    assert asked == 6  # a burst of 8, less the two lists; the next turn would come 10 s later
    assert outcome(summaries[0]) == {"stored": 6, "not_reached": 34}


async def test_what_waits_for_its_turn_at_a_host_is_dropped_by_a_stop() -> None:
    """
    Also where the host hangs: no further request is sent once a stop was requested, and what is
    in flight may end.
    """
    gate = Event()
    url = "http://fake.invalid/x.json"
    fetcher = FakeFetcher({url: FakeAnswer(body=b"{}", after=gate)})
    lake = Lake(fetcher=fetcher)
    run = lake.run_of(
        offering(*[offer(number, files={"events": url}) for number in range(40)]), workers=20
    )
    async with create_task_group() as tg:
        tg.start_soon(run.execute)
        await wait_all_tasks_blocked()
        in_flight = fetcher.in_flight
        run.stop.request()
        while run.progress().counters.not_reached < 40 - in_flight:
            await checkpoint()
        assert fetcher.in_flight == in_flight
        gate.set()

    assert fetcher.count() == in_flight < 20
    assert run.progress().counters.stored == in_flight
