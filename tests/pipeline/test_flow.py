"""What flows from a Source to the lake: how far ahead, how concurrently, and what becomes of it."""

from __future__ import annotations

import gzip
import json
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from io import BytesIO
from typing import Any

import anyio
import pytest
from anyio import Event, create_task_group, sleep_forever, wait_all_tasks_blocked
from lakes import Lake, Offered, offer, offering, outcome, plan_of

import ingestify
from ingestify.clock import SystemClock
from ingestify.errors import FetchError, TransientFetchError
from ingestify.model.catalog import DatasetQuery
from ingestify.model.dataset import DatasetState, Stored, StoredFile
from ingestify.model.http import HttpSettings, Request
from ingestify.model.resource import (
    NOT_MODIFIED,
    DatasetResource,
    FileResource,
    HttpOptions,
    Later,
    NotModified,
)
from ingestify.model.selector import Selector
from ingestify.pipeline import lane, plan
from ingestify.pipeline.choose import Narrowing
from ingestify.policy import Fetch, FetchPolicy, Skip
from ingestify.testing import FakeSource, Offer
from ingestify.testing.clock import VirtualClock
from ingestify.testing.fetcher import FakeAnswer, FakeFetcher

BASE = "http://fake.invalid/"
Http = ingestify.Http


@pytest.fixture
def lake() -> Lake:
    return Lake()


class GatedSource(FakeSource):
    """Holds every Dataset's files back until `gate` is set, and counts who waits."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.gate = Event()
        self.at_work = 0
        self.most_at_work = 0

    async def fetch_dataset_files(
        self, resource: DatasetResource, stored: Stored | None, *, http: Http
    ) -> AsyncIterator[FileResource | Later]:
        self.at_work += 1
        self.most_at_work = max(self.most_at_work, self.at_work)
        await self.gate.wait()
        self.at_work -= 1
        for file in resource.files:
            yield file


async def test_a_source_runs_ahead_of_busy_workers_by_what_its_stream_holds(lake: Lake) -> None:
    """
    While every worker is busy, a Source is asked for no more than what waits between the stages.
    """
    source = offering(*[offer(number) for number in range(8000)], kind=GatedSource)
    run = lake.run_of(source, workers=4)
    held = lane.MOST_FOUND + lane.MOST_TASKS + 3 * plan.PAGE
    async with create_task_group() as tg:
        tg.start_soon(run.execute)
        await wait_all_tasks_blocked()

        assert source.at_work == 4
        assert lane.MOST_FOUND < source.yielded <= held + 4 + 1
        ahead = source.yielded
        await wait_all_tasks_blocked()
        assert source.yielded == ahead

        run.stop.request()
        source.gate.set()
    assert source.most_at_work == 4
    assert run.progress().counters.is_balanced
    assert run.progress().counters.listed == source.yielded


@pytest.mark.parametrize("pages", [1, 7, 3000])
async def test_pages_and_single_datasets_are_all_the_same(lake: Lake, pages: int) -> None:
    """
    A Source may yield Datasets one by one, or in pages of any size, also empty ones.
    """

    class Paging(FakeSource):
        async def discover_datasets(self, *args: Any, **options: Any) -> AsyncIterator[Any]:
            page: list[Any] = []
            async for resource in super().discover_datasets(*args, **options):
                page.append(resource)
                if len(page) == pages:
                    yield tuple(page)
                    page = []
            yield page

    source = offering(*[offer(number) for number in range(20)], kind=Paging)

    assert outcome(await lake.run(source)) == {"stored": 20}
    assert await lake.ids() == list(range(20))
    await lake.check()


async def test_generators_are_closed_at_the_end(lake: Lake) -> None:
    """
    No generator of a Source is left open when a Run has ended.
    """
    source = offering(a=[offer(1)], b=[offer(2)])
    await lake.run(source)
    assert source.open_generators == 0


@pytest.mark.parametrize("way", ["stop", "cancel"])
async def test_generators_are_closed_when_a_run_is_cut_short(lake: Lake, way: str) -> None:
    """
    A Source that is held back when its Run is stopped or cancelled finds its generators closed.
    """
    many = [offer(number) for number in range(8000)]
    source = offering(kind=GatedSource, a=many, b=many)
    run = lake.run_of(source, workers=2)
    async with create_task_group() as tg:
        tg.start_soon(run.execute)
        await wait_all_tasks_blocked()
        assert source.open_generators == 2
        if way == "stop":
            run.stop.request()
            source.gate.set()
        else:
            tg.cancel_scope.cancel()
    assert source.open_generators == 0
    assert run.progress().counters.is_balanced
    await lake.check()


async def test_files_of_one_dataset_are_fetched_concurrently(lake: Lake) -> None:
    """
    One worker asks for all Files of its Dataset at once.
    """
    gate = Event()
    fetcher = FakeFetcher()
    files: dict[str, bytes | str] = {}
    for feed in ("events", "lineups", "frames"):
        files[feed] = f"{BASE}{feed}.json"
        fetcher.answer(f"{BASE}{feed}.json", FakeAnswer(body=b"{}", after=gate))
    lake.fetcher = fetcher
    async with create_task_group() as tg:
        tg.start_soon(lambda: lake.run(offering(offer(1, files=files)), workers=8))
        await wait_all_tasks_blocked()
        assert fetcher.in_flight == 3
        gate.set()
    await lake.check()


async def test_all_files_or_none(lake: Lake) -> None:
    """
    When one of three Files fails, the Dataset is not stored, nothing stays staged, and the
    failure says which feed it was.
    """
    lake.fetcher = FakeFetcher(
        {
            f"{BASE}events.json": FakeAnswer(body=b'{"x": 1}'),
            f"{BASE}lineups.json": FakeAnswer(status=403),
            f"{BASE}frames.json": FakeAnswer(body=b"[1, 2]"),
        }
    )
    files: dict[str, bytes | str] = {
        feed: f"{BASE}{feed}.json" for feed in ("events", "lineups", "frames")
    }
    summary = await lake.run(offering(offer(1, files=files), offer(2)))

    assert outcome(summary) == {"stored": 1, "failed": 1}
    assert summary.exit_code == 1
    assert await lake.ids() == [2]
    (failure,) = await lake.catalog.failures()
    assert (failure.code, failure.data_feed_key) == ("refused", "lineups")
    assert failure.identifier_key == '{"id":1}'
    await lake.check()


async def test_a_cut_body_leaves_nothing_behind(lake: Lake) -> None:
    """
    A body that breaks off is tried again from its beginning, and stored once.
    """
    url = f"{BASE}events.json"
    good = FakeAnswer(body=[b'{"x": ', b"1}"])
    fetcher = FakeFetcher({url: [FakeAnswer(body=b'{"x"', is_cut=True), good]})
    lake.fetcher, lake.clock = fetcher, SlowlessClock()

    assert outcome(await lake.run(offering(offer(1, files={"events": url})))) == {"stored": 1}
    assert fetcher.count(url) == 2
    await lake.check()


async def test_an_exchange_that_fails_after_its_body_leaves_nothing_behind(lake: Lake) -> None:
    """
    When all of a body has come, and its exchange fails all the same, what was staged is
    discarded, and the body is asked for again.
    """

    class BreakingLate(FakeFetcher):
        @asynccontextmanager
        async def send(self, request: Request) -> AsyncIterator[Any]:
            async with super().send(request) as response:
                yield response
            if self.count() == 1:
                raise TransientFetchError("the connection broke")

    lake.fetcher = fetcher = BreakingLate({f"{BASE}x.json": FakeAnswer(body=b"{}")})
    lake.clock = SlowlessClock()

    summary = await lake.run(offering(offer(1, files={"events": f"{BASE}x.json"})))

    assert outcome(summary) == {"stored": 1}
    assert fetcher.count() == 2
    await lake.check()


class SlowlessClock(SystemClock):
    """Whoever sleeps a little on it wakes at once."""

    async def sleep(self, seconds: float) -> None:
        if seconds >= 10:  # heartbeats and graces
            await anyio.sleep_forever()
        await anyio.lowlevel.checkpoint()


async def test_who_waits_for_later_holds_no_worker(lake: Lake) -> None:
    """
    More Datasets than workers may wait for something to be prepared, and all make progress.
    """
    asked: list[int] = []
    resumed: list[int] = []

    class Preparing(FakeSource):
        async def fetch_dataset_files(
            self, resource: DatasetResource, stored: Stored | None, *, http: Http
        ) -> AsyncIterator[FileResource | Later]:
            number = int(resource.dataset_resource_id["id"])
            asked.append(number)
            yield Later(after=timedelta(seconds=1))
            resumed.append(number)
            for file in resource.files:
                yield file

    lake.clock = clock = VirtualClock(auto=False)
    source = offering(*[offer(number) for number in range(20)], kind=Preparing)
    async with create_task_group() as tg:
        tg.start_soon(lambda: lake.run(source, workers=2))
        await wait_all_tasks_blocked()
        assert sorted(asked) == list(range(20))
        assert resumed == []
        await clock.advance(1)
    assert sorted(resumed) == await lake.ids() == list(range(20))


async def from_coroutine(file: FileResource, known: StoredFile | None, http: Http) -> bytes:
    return b'{"by": "coroutine"}'


async def from_generator(
    file: FileResource, known: StoredFile | None, http: Http
) -> AsyncIterator[bytes | NotModified]:
    yield b'{"by": '
    yield b'"generator"}'


async def only_if_new(
    file: FileResource, known: StoredFile | None, http: Http
) -> bytes | NotModified:
    return b'{"by": "first"}' if known is None else NOT_MODIFIED


async def only_if_new_in_chunks(
    file: FileResource, known: StoredFile | None, http: Http
) -> AsyncIterator[bytes | NotModified]:
    if known is None:
        yield b'{"by": "first"}'
    else:
        yield NOT_MODIFIED


async def text(file: FileResource, known: StoredFile | None, http: Http) -> Any:
    return '{"by": "text"}'


async def chunks_of_text(
    file: FileResource, known: StoredFile | None, http: Http
) -> AsyncIterator[Any]:
    yield b"{"
    yield "}"


async def not_modified_after_bytes(
    file: FileResource, known: StoredFile | None, http: Http
) -> AsyncIterator[bytes | NotModified]:
    yield b"{}"
    yield NOT_MODIFIED


async def nothing_at_all(
    file: FileResource, known: StoredFile | None, http: Http
) -> AsyncIterator[bytes]:
    for chunk in ():
        yield chunk


def no_awaitable(file: FileResource, known: StoredFile | None, http: Http) -> Any:
    return b"{}"


def loading(load: Any, token: str = "t") -> FakeSource:  # noqa: S107
    resource = DatasetResource(dataset_resource_id={"id": 1}, name="loaded")
    resource.add_file("events", loader=load, token=token)
    return offering(lambda: resource)


@pytest.mark.parametrize(
    ("load", "by"), [(from_coroutine, "coroutine"), (from_generator, "generator")]
)
async def test_loaders_give_bytes(lake: Lake, load: Any, by: str) -> None:
    """
    A loader gives a File's bytes at once, or in chunks.
    """
    assert outcome(await lake.run(loading(load))) == {"stored": 1}
    (dataset,) = await lake.datasets()
    assert json.loads((await lake.bodies(dataset))["events"]) == {"by": by}
    await lake.check()


@pytest.mark.parametrize("load", [only_if_new, only_if_new_in_chunks])
async def test_a_loader_may_say_that_nothing_was_modified(lake: Lake, load: Any) -> None:
    """
    A loader is told what is stored, and may answer that it is still what the provider has.
    """
    await lake.run(loading(load, "a"))

    assert outcome(await lake.run(loading(load, "b"))) == {"unchanged": 1}
    assert outcome(await lake.run(loading(load, "b"))) == {"skipped": 1}


@pytest.mark.parametrize(
    "load",
    [text, chunks_of_text, not_modified_after_bytes, nothing_at_all, no_awaitable],
    ids=lambda load: load.__name__,
)
async def test_a_loader_that_gives_something_else_fails_alone(lake: Lake, load: Any) -> None:
    """
    A loader that gives no bytes, or the wrong thing, is a failure of its Dataset with a reason.
    """
    summary = await lake.run(loading(load), offering(offer(2), name="other"))

    assert outcome(summary) == {"stored": 1, "failed": 1}
    assert summary.failures[0].data_feed_key == "events"
    assert summary.failures[0].code in ("source", "invalid body")
    await lake.check()


async def hanging(file: FileResource, known: StoredFile | None, http: Http) -> bytes:
    await sleep_forever()
    return b"{}"


async def hanging_in_chunks(
    file: FileResource, known: StoredFile | None, http: Http
) -> AsyncIterator[bytes]:
    yield b"{"
    await sleep_forever()


@pytest.mark.parametrize("by", ["source", "file"])
@pytest.mark.parametrize("load", [hanging, hanging_in_chunks])
async def test_a_loader_that_hangs_fails_alone(lake: Lake, load: Any, by: str) -> None:
    """
    A loader has as long as an exchange, be that said of its Source or of its File.
    """
    soon = timedelta(milliseconds=20)
    options = HttpOptions(total_timeout=soon) if by == "file" else None
    resource = DatasetResource(dataset_resource_id={"id": 1}, name="loaded")
    resource.add_file("events", loader=load, http_options=options)
    source = offering(lambda: resource, offer(2))
    if by == "source":
        source.http_settings = HttpSettings(total_timeout=soon)

    summary = await lake.run(source)

    assert outcome(summary) == {"failed": 1, "stored": 1}
    assert "its loader was not done after 0.02 s (total_timeout)" in summary.failures[0].message
    assert summary.failures[0].code == "transient"
    await lake.check()


async def test_a_post_load_hook_that_hangs_fails_alone(lake: Lake) -> None:
    """
    A hook has as long as an exchange; what had arrived for it is not kept.
    """

    async def hook(resource: DatasetResource, files: Any) -> None:
        await sleep_forever()

    source = offering(offer(1, post_load_files=hook), offer(2))
    source.http_settings = HttpSettings(total_timeout=timedelta(milliseconds=20))

    summary = await lake.run(source)

    assert outcome(summary) == {"failed": 1, "stored": 1}
    assert "post_load_files was not done after 0.02 s" in summary.failures[0].message
    await lake.check()


async def test_a_loaders_generator_is_closed(lake: Lake) -> None:
    """
    A loader's generator is closed when its Run has ended, also if it was not read to its end.
    """
    closed: list[str] = []

    async def load(
        file: FileResource, known: StoredFile | None, http: Http
    ) -> AsyncIterator[bytes | NotModified]:
        try:
            yield b"<html>"
            yield NOT_MODIFIED
        finally:
            closed.append("closed")

    assert outcome(await lake.run(loading(load))) == {"failed": 1}
    assert closed == ["closed"]


async def test_datasets_without_files(lake: Lake) -> None:
    """
    A Dataset that has no Files yet is kept, has no Revision, and is skipped until it has one.
    """
    source = offering(Offer(identifier={"id": 1}, state=DatasetState.SCHEDULED))
    assert outcome(await lake.run(source)) == {"stored": 1}
    (dataset,) = await lake.datasets()
    assert (dataset.revision, dataset.files, dataset.state) == (None, (), "scheduled")
    assert outcome(await lake.run(source)) == {"skipped": 1}

    assert outcome(await lake.run(offering(offer(1)))) == {"stored": 1}
    (dataset,) = await lake.datasets()
    assert (dataset.revision, dataset.state) == (0, "complete")


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_post_load_hook_says_what_arrived(lake: Lake, is_async: bool) -> None:
    """
    A hook reads what has arrived and sets state, name and metadata; later Runs neither undo nor
    rewrite that until there are new bytes.
    """
    calls: list[set[Any]] = []

    async def after(resource: DatasetResource, files: Any) -> None:
        calls.append(set(files))
        body = json.loads(await files["events", "v1"].read_bytes())
        resource.name = f"{resource.name} ({body['goals']})"
        resource.metadata = {**resource.metadata, **body}
        resource.state = DatasetState.PARTIAL

    def after_sync(resource: DatasetResource, files: Any) -> None:
        calls.append(set(files))
        resource.name, resource.state = "one (3)", DatasetState.PARTIAL
        resource.metadata = {"home": "A", "goals": 3}

    def match(token: str, body: bytes = b'{"goals": 3}') -> FakeSource:
        return offering(
            Offer(
                identifier={"id": 1},
                name="one",
                files={"events": body},
                token=token,
                metadata={"home": "A"},
                post_load_files=after if is_async else after_sync,
            )
        )

    assert outcome(await lake.run(match("a"))) == {"stored": 1}
    (first,) = await lake.datasets()
    assert (first.name, first.state) == ("one (3)", "partial")
    assert first.metadata == {"home": "A", "goals": 3}
    assert calls == [{("events", "v1")}]

    assert outcome(await lake.run(match("a"))) == {"skipped": 1}
    assert outcome(await lake.run(match("b"))) == {"unchanged": 1}

    assert await lake.datasets() == [first]
    assert calls == [{("events", "v1")}]
    assert [each.type for each in await lake.catalog.events()] == [
        "dataset_created",
        "revision_added",
    ]


async def test_what_a_post_load_hook_has_set_outlives_changes_of_the_list(lake: Lake) -> None:
    """
    When the list alone says something new, the hook sees the Files that the lake has, and what it
    makes of them is not lost; nothing is asked for.
    """
    seen: list[dict[Any, Any]] = []

    async def hook(resource: DatasetResource, files: Any) -> None:
        goals = json.loads(await files["sheet", "v1"].read_bytes())["goals"]
        resource.metadata = {**resource.metadata, "goals": goals}
        resource.state = DatasetState.COMPLETE
        seen.append({key[0]: file.is_new for key, file in files.items()})

    def match(**changes: Any) -> FakeSource:
        values: dict[str, Any] = {"token": "a", "metadata": {"minute": 1}, **changes}
        files = {"sheet": f"{BASE}sheet.json", "events": f"{BASE}events.json"}
        kept = offer(1, files=files, state=DatasetState.SCHEDULED, post_load_files=hook, **values)
        return offering(kept)

    lake.fetcher = fetcher = FakeFetcher(
        {
            f"{BASE}sheet.json": FakeAnswer(body=b'{"goals": 3}'),
            f"{BASE}events.json": [FakeAnswer(body=b"[]"), FakeAnswer(body=b"[1]")],
        }
    )

    async def now() -> tuple[Any, ...]:
        (dataset,) = await lake.datasets()
        return dataset.state, dataset.metadata, dataset.revision

    await lake.run(match())
    assert await now() == ("complete", {"minute": 1, "goals": 3}, 0)

    assert outcome(await lake.run(match(metadata={"minute": 2}))) == {"unchanged": 1}
    assert await now() == ("complete", {"minute": 2, "goals": 3}, 0)
    assert fetcher.count() == 2

    await lake.run(match(metadata={"minute": 3}, token="b"))  # one File is new, the other is not
    assert await now() == ("complete", {"minute": 3, "goals": 3}, 1)

    await lake.run(match(metadata={"minute": 4}, token="c"))  # both are what they were
    assert await now() == ("complete", {"minute": 4, "goals": 3}, 1)
    kept, new = {"sheet": False, "events": False}, {"sheet": True, "events": True}
    assert seen == [new, kept, {"sheet": False, "events": True}, kept]
    await lake.check()


async def test_a_post_load_hook_that_fails(lake: Lake) -> None:
    """
    A hook that raises, or sets what cannot be kept, fails its Dataset alone.
    """

    def broken(resource: DatasetResource, files: Any) -> None:
        raise ZeroDivisionError

    def wrong_state(resource: DatasetResource, files: Any) -> None:
        resource.state = "finished"  # type: ignore[assignment]

    def wrong_metadata(resource: DatasetResource, files: Any) -> None:
        resource.metadata = {"x": object()}

    hooks = [broken, wrong_state, wrong_metadata]
    offers = [offer(number, post_load_files=hook) for number, hook in enumerate(hooks)]
    summary = await lake.run(offering(*offers, offer(7)))

    assert outcome(summary) == {"stored": 1, "failed": 3}
    assert await lake.ids() == [7]
    await lake.check()


async def test_metadata_alone_may_change(lake: Lake) -> None:
    """
    Other metadata, or another state or name, changes the row and tells it, makes no Revision,
    asks for no File, and counts as unchanged.
    """
    fetcher = FakeFetcher({f"{BASE}1.json": FakeAnswer(body=b"{}")})
    lake.fetcher = fetcher
    files: dict[str, bytes | str] = {"events": f"{BASE}1.json"}
    await lake.run(offering(offer(1, files=files, metadata={"minute": 1})))

    changed = offering(offer(1, files=files, metadata={"minute": 90}, name="ended"))
    summary = await lake.run(changed)

    assert outcome(summary) == {"unchanged": 1}
    assert summary.selectors[0].reasons == {"metadata changed": 1}
    (dataset,) = await lake.datasets()
    assert (dataset.name, dataset.metadata, dataset.revision) == ("ended", {"minute": 90}, 0)
    events = [each.type for each in await lake.catalog.events()]
    assert events == ["dataset_created", "revision_added", "metadata_updated"]
    assert fetcher.count() == 1
    assert outcome(await lake.run(changed)) == {"skipped": 1}


async def test_http_options_reach_the_server(lake: Lake) -> None:
    """
    A File's own headers, parameters and size limit hold for its requests alone.
    """
    fetcher = FakeFetcher({f"{BASE}{n}.json": FakeAnswer(body=b'{"x": 1}') for n in (1, 2, 3)})
    lake.fetcher = fetcher
    resource = DatasetResource(dataset_resource_id={"id": 1}, name="one")
    own = HttpOptions(headers={"X-Version": "8"}, params={"page": 2})
    resource.add_file("a", url="1.json", http_options=own).add_file("b", url="2.json")
    small = DatasetResource(dataset_resource_id={"id": 2}, name="two")
    small.add_file("a", url="3.json", http_options=HttpOptions(max_body_bytes=4))

    summary = await lake.run(offering(lambda: resource, lambda: small))

    assert outcome(summary) == {"stored": 1, "failed": 1}
    asked = {request.url: request.headers for request in fetcher.requests}
    assert asked[f"{BASE}1.json?page=2"]["x-version"] == "8"
    assert "x-version" not in asked[f"{BASE}2.json"]
    await lake.check()


async def test_a_source_may_refuse_an_answer_that_looks_good(lake: Lake) -> None:
    """
    What a Source says about an answer's first bytes holds for Files as it does for lists.
    """

    class Suspicious(FakeSource):
        def check_answer(self, status: int, headers: Any, head: bytes) -> None:
            assert len(head) <= 65536
            if b"error" in head:
                raise FetchError("the provider says so in a 200")

    large = b'{"error": "' + b"x" * 300_000 + b'"}'
    lake.fetcher = FakeFetcher(
        {
            f"{BASE}1.json": FakeAnswer(
                body=gzip.compress(large), headers={"Content-Encoding": "gzip"}
            ),
            f"{BASE}2.json": FakeAnswer(body=b'{"error": 1}'),
            f"{BASE}3.json": FakeAnswer(body=b'{"fine": 1}'),
        }
    )
    offers = [offer(n, files={"events": f"{BASE}{n}.json"}) for n in (1, 2, 3)]

    summary = await lake.run(offering(*offers, kind=Suspicious))

    assert outcome(summary) == {"stored": 1, "failed": 2}
    assert "says so in a 200" in summary.failures[0].message
    await lake.check()


async def test_what_a_source_tells_the_policy_alone(lake: Lake) -> None:
    """
    `fetch_policy_config` reaches the FetchPolicy, and is not stored.
    """

    class Picky(FetchPolicy):
        def decide(
            self, found: DatasetResource, stored: Stored | None, *, now: datetime, forced: bool
        ) -> Fetch | Skip:
            if found.fetch_policy_config["skip"]:
                return Skip("not wanted")
            return super().decide(found, stored, now=now, forced=forced)

    def resource(number: int, **config: Any) -> Offered:
        return lambda: DatasetResource(
            dataset_resource_id={"id": number}, name="x", fetch_policy_config=config
        )

    source = offering(resource(1, skip=True), resource(2, skip=False), resource(3))
    summary = await lake.run(plan_of(source, policy=Picky()))

    assert outcome(summary) == {"skipped": 1, "stored": 1, "refused": 1}
    assert summary.selectors[0].reasons == {"not wanted": 1, "new": 1}
    assert "KeyError" in summary.failures[0].message  # of the policy, for that Dataset alone
    assert await lake.ids() == [2]


def boom() -> None:
    raise ZeroDivisionError("by the Source")


async def test_a_source_that_fails_fails_for_that_selector_alone(lake: Lake) -> None:
    """
    An error in one Selector's list keeps what was found before it, and harms no other Selector;
    nothing of the failed one counts as gone.
    """
    await lake.run(offering(a=[offer(1), offer(3)], b=[offer(2)]))

    summary = await lake.run(offering(a=[offer(1), boom, offer(3)], b=[offer(2), offer(4)]))

    assert outcome(summary) == {"skipped": 2, "stored": 1}
    assert summary.exit_code == 1
    failed, fine = summary.selectors
    assert (failed.status, fine.status) == ("failed", "complete")
    assert "ZeroDivisionError: by the Source" in (failed.error or "")
    assert summary.counters.gone == 0
    assert [each.selector for each in await lake.catalog.failures()] == ["slice=a"]


async def test_a_source_that_cannot_say_what_it_has(lake: Lake) -> None:
    """
    A Source whose Selectors cannot be found out fails alone, and the Run says so.
    """

    class Mute(FakeSource):
        async def discover_selectors(self, dataset_type: str, *, http: Http) -> AsyncIterator[Any]:
            raise FetchError("no answer")
            yield

    summary = await lake.run(offering(offer(1), kind=Mute), offering(offer(2), name="other"))

    assert outcome(summary) == {"stored": 1}
    assert summary.exit_code == 1
    assert {each.status for each in summary.selectors} == {"failed", "complete"}


SELECTORS = {
    "surrogate name": Selector({"slice": "odd"}, name="\ud800"),
    "surrogate token": Selector({"slice": "odd"}, token="\ud800"),
    "number as token": Selector({"slice": "odd"}, token=5),  # type: ignore[arg-type]
    "no Selector": {"slice": "odd"},
}


@pytest.mark.parametrize("odd_one", SELECTORS.values(), ids=SELECTORS.keys())
async def test_a_selector_that_cannot_be_used_fails_alone(lake: Lake, odd_one: Any) -> None:
    """
    What a Source offers and nobody could write down, is a failed Selector among good ones.
    """

    class Odd(FakeSource):
        async def discover_selectors(self, dataset_type: str, *, http: Http) -> AsyncIterator[Any]:
            yield odd_one
            async for selector in super().discover_selectors(dataset_type, http=http):
                yield selector

    source = offering(kind=Odd, a=[offer(1)], b=[offer(2)])
    summary = await lake.run(source)

    assert outcome(summary) == {"stored": 2}
    assert summary.exit_code == 1
    assert [each.status for each in summary.selectors] == ["failed", "complete", "complete"]
    assert outcome(await lake.run(source)) == {"skipped": 2}


async def test_narrowing_down_to_nothing_is_said(lake: Lake) -> None:
    """
    A Run for values that no Selector has does nothing, and warns that they were not found.
    """
    narrowing = Narrowing({"slice": ("b", "c")})

    summary = await lake.run(offering(a=[offer(1)]), narrowing=narrowing)

    assert (summary.exit_code, outcome(summary)) == (0, {})
    assert summary.warnings == ("fake: nothing of what its plans want has slice=b|c",)


async def test_a_cursor_that_cannot_be_kept_fails_its_selector(lake: Lake) -> None:
    """
    A Source that leaves a state which is no JSON fails for that Selector; the Run goes on.
    """

    class Careless(FakeSource):
        async def discover_datasets(self, *args: Any, **options: Any) -> AsyncIterator[Any]:
            async for each in super().discover_datasets(*args, **options):
                yield each
            options["state"]["at"] = object() if args[1]["slice"] == "a" else "fine"

    summary = await lake.run(offering(kind=Careless, a=[offer(1)], b=[offer(2)]))

    assert outcome(summary) == {"stored": 2}
    assert [each.status for each in summary.selectors] == ["failed", "complete"]
    assert summary.exit_code == 1


def odd(**changes: Any) -> Offered:
    """A DatasetResource with something wrong about it."""

    def make() -> Any:
        resource = offer(99).resource(ingestify.DataSpecVersions())
        for name, value in changes.items():
            setattr(resource, name, value)
        return resource

    return make


def twice() -> Any:
    resource = offer(99).resource(ingestify.DataSpecVersions())
    return resource.add_file("events", content=b"{}")


REFUSED = {
    "float identity": odd(dataset_resource_id={"id": 1.5}),
    "bool identity": odd(dataset_resource_id={"id": True}),
    "no identity": odd(dataset_resource_id={}),
    "identity of another kind": odd(dataset_resource_id=7),
    "surrogate identity": odd(dataset_resource_id={"id": "\ud800"}),
    "odd name of a value": odd(dataset_resource_id={"a b": 1}),
    "surrogate name": odd(name="\udfff"),
    "no name": odd(name=None),
    "unknown state": odd(state="done"),
    "surrogate provider": odd(provider="\ud800"),
    "metadata that is no JSON": odd(metadata={"x": object()}),
    "surrogate metadata": odd(metadata={"x": "\ud800"}),
    "files of another kind": odd(files=[7]),
    "number as token": odd(
        files=[FileResource(data_feed_key="a", data_spec_version="v1", token=7)]
    ),  # type: ignore[arg-type]
    "duplicate feed": twice,
    "no resource": lambda: "a string",
    "a mapping": lambda: {"id": 1},
}


@pytest.mark.parametrize("record", REFUSED.values(), ids=REFUSED.keys())
@pytest.mark.parametrize("paged", [False, True])
async def test_records_that_cannot_be_used_are_refused_alone(
    lake: Lake, record: Any, paged: bool
) -> None:
    """
    A record that cannot be used is counted and reported; those around it are stored.
    """
    good = [offer(n).resource(ingestify.DataSpecVersions()) for n in (1, 2)]
    offers = (
        [lambda: [good[0], record(), good[1]]] if paged else [lambda: good[0], record, offer(2)]
    )

    summary = await lake.run(offering(*offers))

    assert outcome(summary) == {"stored": 2, "refused": 1}
    assert summary.exit_code == 1
    assert summary.failures[0].code == "record"
    assert await lake.ids() == [1, 2]
    assert len(await lake.catalog.failures()) == 1


def zipped() -> bytes:
    target = BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("a.txt", "content")
    return target.getvalue()


BODIES = {
    "zip": zipped(),
    "mp4": b"\0\0\0\x18ftypmp42" + bytes(range(256)) * 400,
    "csv": b"minute,player\n1,Messi\n",
    "json.gz": gzip.compress(b'{"x": 1}'),
    "xml": b"<?xml version='1.0'?><match/>",
    "parquet": b"PAR1" + bytes(1000) + b"PAR1",
    "bin": bytes(range(256)),
}


@pytest.mark.parametrize("format_", BODIES)
async def test_bodies_of_all_kinds_come_back_verbatim(lake: Lake, format_: str) -> None:
    """
    Whatever a provider sends is kept byte for byte, and compressed only where that pays.
    """
    resource = DatasetResource(dataset_resource_id={"id": 1}, name="one")
    resource.add_file("data", content=BODIES[format_], format=format_)

    assert outcome(await lake.run(offering(lambda: resource))) == {"stored": 1}

    (dataset,) = await lake.datasets()
    assert await lake.bodies(dataset) == {"data": BODIES[format_]}
    (file,) = dataset.files
    assert file.format == format_
    assert file.codec == ("gzip" if format_ in ("csv", "xml", "bin") else "")
    await lake.check()


@pytest.mark.parametrize("format_", ["json", "zip", "mp4", "json.gz", "xml", "parquet"])
async def test_bodies_that_are_not_what_they_should_be(lake: Lake, format_: str) -> None:
    """
    A body that is not of the declared format is a failure, and nothing of it is kept.
    """
    resource = DatasetResource(dataset_resource_id={"id": 1}, name="one")
    resource.add_file("data", content=b"plainly something else", format=format_)

    summary = await lake.run(offering(lambda: resource))

    assert outcome(summary) == {"failed": 1}
    assert summary.failures[0].code == "invalid body"
    await lake.check()


async def test_a_dataset_in_several_selectors_counts_once(lake: Lake) -> None:
    """
    A Dataset that three Selectors list is stored once and a duplicate twice, and belongs to all
    of their lists: it is gone only where it is no longer listed.
    """
    source = offering(a=[offer(1)], b=[offer(1), offer(2)], c=[offer(2), offer(1)])
    assert outcome(await lake.run(source)) == {"stored": 2, "duplicate": 3}
    assert outcome(await lake.run(source)) == {"skipped": 2, "duplicate": 3}

    summary = await lake.run(offering(a=[], b=[offer(2)], c=[offer(2), offer(1)]))

    assert outcome(summary) == {"skipped": 2, "duplicate": 1}
    assert summary.counters.gone == 2


async def test_two_sources_of_one_provider_share_their_datasets(lake: Lake) -> None:
    """
    A Dataset that two plans find in different Sources is fetched once; what only one of them
    offers is added.
    """
    one = offering(offer(1, "events"), name="one")
    other = offering(offer(1, "events", "lineups"), name="other")
    summary = await lake.run(one, other)

    assert summary.counters.is_balanced
    (dataset,) = await lake.datasets()
    assert set(await lake.bodies(dataset)) == {"events", "lineups"}
    assert summary.counters.stored + summary.counters.duplicate == 2
    await lake.check()
    assert set(outcome(await lake.run(one, other))) <= {"skipped", "duplicate"}


async def test_two_plans_with_different_policies(lake: Lake) -> None:
    """
    Equal Selectors of two plans are one SelectorRun, in which either policy may want a Dataset.
    """

    class Never(FetchPolicy):
        def decide(self, *args: Any, **options: Any) -> Fetch | Skip:
            return Skip("never")

    source = offering(offer(1))
    plans = plan_of(source, policy=Never()), plan_of(source, versions={"events": "v1"})
    summary = await lake.run(*plans)

    assert outcome(summary) == {"stored": 1}
    assert len(summary.selectors) == 1


async def test_what_a_source_yields_late_is_fetched_too(lake: Lake) -> None:
    """
    `fetch_dataset_files` may yield Files that were not declared; one File twice is a failure,
    and so is one that nobody could name.
    """

    class Late(FakeSource):
        async def fetch_dataset_files(
            self, resource: DatasetResource, stored: Stored | None, *, http: Http
        ) -> AsyncIterator[FileResource | Later]:
            names = {1: ["late"], 2: ["late", "late"], 3: ["\ud800"]}
            for file in resource.files:
                yield file
            for name in names[int(resource.dataset_resource_id["id"])]:
                yield FileResource(data_feed_key=name, data_spec_version="v1", content=b"{}")

    summary = await lake.run(offering(offer(1), offer(2), offer(3), kind=Late))

    assert outcome(summary) == {"stored": 1, "failed": 2}
    (dataset,) = await lake.datasets()
    assert [file.data_feed_key for file in dataset.files] == ["events", "late"]
    await lake.check()


async def test_an_optional_file_that_is_not_there(lake: Lake) -> None:
    """
    A File that is announced and optional may be absent; the others are stored, nothing failed.
    """
    lake.fetcher = FakeFetcher({f"{BASE}1.json": FakeAnswer(body=b"{}")})
    files: dict[str, bytes | str] = {"events": f"{BASE}1.json", "frames": f"{BASE}2.json"}
    source = offering(offer(1, files=files, optional=True))

    assert outcome(await lake.run(source)) == {"stored": 1}
    assert outcome(await lake.run(source)) == {"skipped": 1}

    (dataset,) = await lake.datasets()
    checks = await lake.catalog.checks(dataset.row_id)
    assert {check.data_feed_key: check.outcome for check in checks} == {
        "events": "stored",
        "frames": "absent",
    }


async def test_memory_between_the_stages_does_not_grow_with_the_lake(lake: Lake) -> None:
    """
    The queues hold a bounded number of Datasets, however many are listed.
    """
    made = 0
    done = 0
    most_between = 0

    def lazily(number: int) -> Offered:
        def make() -> DatasetResource:
            nonlocal made, most_between
            made += 1
            most_between = max(most_between, made - done)
            return DatasetResource(dataset_resource_id={"id": number}, name="x")

        return make

    def settled(dataset_id: str | None) -> None:
        nonlocal done
        done += 1

    source = offering(*[lazily(number) for number in range(5_000)])
    summary = await lake.run_of(source, settled=settled).execute()

    assert outcome(summary) == {"stored": 5_000}
    assert done == 5_000
    assert most_between <= lane.MOST_FOUND + lane.MOST_TASKS + 3 * plan.PAGE
    assert await lake.catalog.count(DatasetQuery()) == 5_000
