"""Budgets: a Run spends no more than it may, ends in good order, and the next one goes on."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web
from anyio import Event, create_task_group, fail_after, wait_all_tasks_blocked
from lakes import Lake, offer, offering, outcome, plan_of
from lists import ListSource, ListWorld

from ingestify.adapters.http.aiohttp_fetcher import AiohttpFetcher
from ingestify.engine import Engine
from ingestify.errors import ConfigError
from ingestify.model.http import Limits
from ingestify.model.resource import DatasetResource
from ingestify.model.run import RunSummary
from ingestify.model.selector import Selector
from ingestify.pipeline.budget import Budget
from ingestify.ports import Http
from ingestify.testing import FakeSource, ProviderSimulator
from ingestify.testing.clock import VirtualClock
from ingestify.testing.fetcher import FakeAnswer, FakeFetcher

BASE = "http://fake.invalid/"


def fill(world: ListWorld, lists: int, datasets: int) -> list[str]:
    """So many lists with so many Datasets each. Returns the paths of all files."""
    keys = []
    for number in range(lists):
        entries = [{"id": number * 1000 + each} for each in range(datasets)]
        world.set_list(f"l{number}", *entries, token="t")
        keys += [entry["id"] for entry in entries]
    for key in keys:
        world.set_data(key, {"x": key})
    return [f"data/{key}-v1.json" for key in keys]


def asked(provider: ProviderSimulator, glob: str = "data/*") -> Counter[str]:
    """How often each path was asked for."""
    prefix = glob.rstrip("*")
    return Counter(each.path for each in provider.requests if each.path.startswith(prefix))


def redirect_to(place: str) -> Any:
    """Answer that the file is at *place* now."""

    async def answer(request: web.BaseRequest, serve: Any) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": place})

    return answer


async def run_until_done(
    open_lake: Callable[..., Engine], provider: ProviderSimulator, most: int = 60, **budget: Any
) -> list[RunSummary]:
    """Runs with the same budget, until one of them has not used it up."""
    summaries: list[RunSummary] = []
    while not summaries or summaries[-1].exit_code == 4:
        assert len(summaries) < most, "no end in sight"
        async with open_lake() as engine:
            summaries.append(await engine.run(**budget))
        outcome(summaries[-1])  # the counters add up
    return summaries


@pytest.mark.parametrize("most", [3, 4, 10, 11])
async def test_runs_with_a_request_budget_converge(
    world: ListWorld, provider: ProviderSimulator, open_lake: Callable[..., Engine], most: int
) -> None:
    """
    No Run sends more requests than it may, each brings files or comes to the end of a list, and
    together they fetch everything once, although the lists alone are more than one budget.
    """
    paths = fill(world, lists=12, datasets=3)
    sent: list[int] = []
    summaries: list[RunSummary] = []
    while not summaries or summaries[-1].counters.not_reached or summaries[-1].exit_code == 4:
        before = len(provider.requests)
        async with open_lake() as engine:
            summaries.append(await engine.run(max_requests=most))
            stored = await engine.catalog.count(engine.store.query())
        sent.append(len(provider.requests) - before)
        assert sent[-1] == summaries[-1].requests <= most
        if stored < len(paths):
            done = [each for each in summaries[-1].selectors if each.status == "complete"]
            assert summaries[-1].counters.stored or done, sent
        elif most < 13:
            break  # all is there, and looking at every list takes more than the budget
        assert summaries[-1].exit_code == 4
        assert len(summaries) < 60
    assert set(sent) == {most}
    assert asked(provider) == Counter(paths)
    assert summaries[0].error == (
        f"the budget max_requests is used up: {most} of {most} requests were made;"
        " run again to go on from here"
    )


async def test_a_budget_that_goes_on_lists_alone_is_said_to_be_too_small(
    world: ListWorld, provider: ProviderSimulator, open_lake: Callable[..., Engine]
) -> None:
    """
    Running again would ask for the same lists again.
    """
    fill(world, lists=1, datasets=3)
    async with open_lake() as engine:
        summary = await engine.run(max_requests=2)
    assert (summary.exit_code, summary.requests, summary.counters.stored) == (4, 2, 0)
    assert summary.error == (
        "max_requests = 2 is too small for the lists alone: they took 2 requests, and no dataset"
        " was begun; raise it"
    )


async def test_a_budget_that_is_enough_changes_nothing(
    world: ListWorld, provider: ProviderSimulator, open_lake: Callable[..., Engine]
) -> None:
    """
    A Run that needs exactly what it may spend has done all.
    """
    fill(world, lists=2, datasets=3)
    async with open_lake() as engine:
        summary = await engine.run(max_requests=1 + 2 + 6)
    assert (summary.exit_code, summary.error, summary.requests) == (0, None, 9)
    assert outcome(summary) == {"stored": 6}


async def test_one_request_less_than_enough(
    world: ListWorld, provider: ProviderSimulator, open_lake: Callable[..., Engine]
) -> None:
    """
    What a request is missing for is not reached, rather than failed.
    """
    fill(world, lists=2, datasets=3)
    async with open_lake() as engine:
        summary = await engine.run(max_requests=8)
        assert not await engine.catalog.failures()
    assert (summary.exit_code, summary.status, summary.requests) == (4, "aborted", 8)
    assert outcome(summary) == {"stored": 5, "not_reached": 1}


async def test_a_dataset_is_begun_only_if_all_its_files_can_be_had() -> None:
    """
    With a budget for two and a half Datasets two are fetched: no request is wasted on a part.
    """
    urls = {n: {f: f"{BASE}{n}-{f}.json" for f in ("a", "b", "c")} for n in range(4)}
    answers = {url: FakeAnswer(body=b"{}") for each in urls.values() for url in each.values()}
    fetcher = FakeFetcher(answers)
    lake = Lake(fetcher=fetcher)

    def source() -> Any:
        return offering(*[offer(n, files=dict(files)) for n, files in urls.items()])

    first = await lake.run(source(), budget=Budget(max_requests=8))
    assert outcome(first) == {"stored": 2, "not_reached": 2}
    assert (first.requests, len(fetcher.requests)) == (6, 6)

    second = await lake.run(source(), budget=Budget(max_requests=8))
    assert outcome(second) == {"stored": 2, "skipped": 2}
    assert (second.exit_code, len(fetcher.requests)) == (0, 12)
    await lake.check()


async def test_a_dataset_that_takes_more_than_the_budget_stops_nobody_else() -> None:
    """
    It is passed over and said so; all others are fetched.
    """
    large = {f"f{n}": f"{BASE}large-{n}.json" for n in range(5)}
    small = [{"a": f"{BASE}{n}.json"} for n in range(3)]
    every = [*large.values(), *(each["a"] for each in small)]
    lake = Lake(fetcher=FakeFetcher({url: FakeAnswer(body=b"{}") for url in every}))
    offers = [offer(0, files=large), *(offer(n + 1, files=f) for n, f in enumerate(small))]

    summary = await lake.run(offering(*offers), budget=Budget(max_requests=4))

    assert outcome(summary) == {"stored": 3, "not_reached": 1}
    assert (summary.exit_code, summary.requests) == (4, 3)
    assert "max_requests = 4 is too little for 1 of the datasets" in (summary.error or "")


async def test_retries_and_redirects_are_counted(
    world: ListWorld, provider: ProviderSimulator, open_lake: Callable[..., Engine]
) -> None:
    """
    What has to be asked twice counts twice, and a request that is not allowed any more leaves
    its Dataset as not reached.
    """
    paths = fill(world, lists=1, datasets=8)
    for path in paths:
        provider.script(path, redirect_to(f"/moved/{path}"))
        world.put(f"moved/{path}", b'{"x": 1}')
    summaries = await run_until_done(open_lake, provider, max_requests=9)
    assert [each.requests <= 9 for each in summaries] == [True] * len(summaries)
    assert sum(each.counters.stored for each in summaries) == 8
    assert sum(each.counters.failed for each in summaries) == 0
    assert [each.counters.stored for each in summaries[:-1]] == [3] * (len(summaries) - 1)


async def test_a_last_request_that_fails_is_not_tried_again() -> None:
    """
    There is no request left for the second try: the Dataset is not reached, and the answer that
    came counts.
    """
    fetcher = FakeFetcher({f"{BASE}1.json": FakeAnswer(status=503)})
    lake = Lake(fetcher=fetcher, clock=VirtualClock())
    summary = await lake.run(
        offering(offer(1, files={"a": f"{BASE}1.json"})), budget=Budget(max_requests=1)
    )
    assert outcome(summary) == {"not_reached": 1}
    assert (summary.exit_code, summary.requests, len(fetcher.requests)) == (4, 1, 1)
    assert not await lake.catalog.failures()


async def test_a_byte_budget_lets_what_has_begun_end() -> None:
    """
    Once so much has come, no further Dataset is begun; all files of those that have begun to
    arrive are still fetched, and committed.
    """
    gate = Event()
    first = FakeAnswer(body=[b'{"a":', b"1}"], body_after=gate)
    fetcher = FakeFetcher({f"{BASE}0.json": first})
    for number in range(1, 40):
        fetcher.answer(f"{BASE}{number}.json", FakeAnswer(body=b'"' + b"x" * 98 + b'"'))
    offers = [offer(n, files={"a": f"{BASE}{n}.json"}) for n in range(40)]
    lake = Lake(fetcher=fetcher)
    summaries = []

    async def execute() -> None:
        run = lake.run_of(offering(*offers), budget=Budget(max_bytes=500), workers=2)
        summaries.append(await run.execute())

    async with create_task_group() as tg:
        tg.start_soon(execute)
        await wait_all_tasks_blocked()
        assert not summaries  # the first one is waited for
        assert len(fetcher.requests) == 1 + 5
        gate.set()
    (summary,) = summaries
    assert (summary.exit_code, summary.status) == (4, "aborted")
    assert outcome(summary)["stored"] == 6
    assert summary.received_bytes == 5 * 100 + 7
    assert summary.error == (
        "the budget max_bytes is used up: 507 B were received, of 500 B;"
        " run again to go on from here"
    )
    await lake.check()


async def test_a_byte_budget_less_than_one_dataset_still_brings_it() -> None:
    """
    Each Run fetches a whole Dataset, however little it may receive.
    """
    files = {n: {f: f"{BASE}{n}-{f}.json" for f in ("a", "b")} for n in range(3)}
    fetcher = FakeFetcher(
        {url: FakeAnswer(body=b'"1234567890"') for each in files.values() for url in each.values()}
    )
    lake = Lake(fetcher=fetcher)
    for done in range(1, 4):
        source = offering(*[offer(n, files=dict(each)) for n, each in files.items()])
        await lake.run(source, budget=Budget(max_bytes=1), workers=1)
        assert len(await lake.ids()) == done
    assert len(fetcher.requests) == 6


def two_lists() -> FakeFetcher:
    """What `ListSource` asks for to find one Dataset in each of two lists: 26 B, 11 B, 11 B."""
    return FakeFetcher(
        {
            f"{BASE}selectors.json": FakeAnswer(body=b'[{"list":"a"},{"list":"b"}]'),
            f"{BASE}list-a.json": FakeAnswer(body=b'[{"id": 1}]'),
            f"{BASE}list-b.json": FakeAnswer(body=b'[{"id": 2}]'),
            f"{BASE}data/1-v1.json": FakeAnswer(body=b'"1234567890"'),
            f"{BASE}data/2-v1.json": FakeAnswer(body=b'"1234567890"'),
        }
    )


async def test_a_byte_budget_that_is_just_enough_has_kept_the_run_from_nothing() -> None:
    """
    A Run that has done all is finished, although its last body has used up the budget. One that
    has not looked at a list is not, although it has left out nothing that was listed.
    """
    source = ListSource("lists", base_url=BASE)
    whole = await Lake(fetcher=two_lists()).run(source)
    total = whole.received_bytes
    assert outcome(whole) == {"stored": 2}

    summary = await Lake(fetcher=two_lists()).run(source, budget=Budget(max_bytes=total))
    assert (summary.exit_code, summary.status, summary.error) == (0, "finished", None)
    assert outcome(summary) == {"stored": 2}

    least = total - len(b'[{"id": 2}]') - len(b'"1234567890"')
    summary = await Lake(fetcher=two_lists()).run(source, budget=Budget(max_bytes=least))
    assert (summary.exit_code, outcome(summary)) == (4, {"stored": 1})
    assert [each.status for each in summary.selectors] == ["complete", "stopped"]
    assert "run again to go on from here" in (summary.error or "")


async def test_time_that_is_up_in_the_last_file_has_kept_the_run_from_nothing() -> None:
    """
    What is in flight then is all there was: the Run is finished.
    """
    clock, gate = VirtualClock(auto=False), Event()
    fetcher = FakeFetcher({f"{BASE}1.json": FakeAnswer(body=b"{}", after=gate)})
    lake = Lake(fetcher=fetcher, clock=clock)
    summaries = []

    async def execute() -> None:
        source = offering(offer(1, files={"a": f"{BASE}1.json"}))
        summaries.append(await lake.run(source, budget=Budget(max_duration=timedelta(seconds=30))))

    async with create_task_group() as tg:
        tg.start_soon(execute)
        await wait_all_tasks_blocked()
        await clock.advance(40)
        assert not summaries
        gate.set()
    (summary,) = summaries
    assert (summary.exit_code, summary.error, outcome(summary)) == (0, None, {"stored": 1})


@pytest.mark.parametrize("most", [1, 30])
async def test_a_byte_budget_that_goes_on_lists_alone_is_said_to_be_too_small(most: int) -> None:
    """
    Running again would receive the same lists again.
    """
    lake, source = Lake(fetcher=two_lists()), ListSource("lists", base_url=BASE)
    for _ in range(2):
        summary = await lake.run(source, budget=Budget(max_bytes=most))
        assert (summary.exit_code, summary.counters.stored) == (4, 0)
        assert summary.error == (
            f"max_bytes = {most} B is too small for the lists alone: {summary.received_bytes} B"
            " came, and no dataset was begun; raise it"
        )


async def test_a_time_that_goes_on_lists_alone_is_said_to_be_too_short() -> None:
    """
    The next Run would begin with the same lists.
    """
    clock, gate = VirtualClock(auto=False), Event()
    fetcher = FakeFetcher({f"{BASE}selectors.json": FakeAnswer(body=b"[]", after=gate)})
    lake = Lake(fetcher=fetcher, clock=clock)
    summaries = []

    async def execute() -> None:
        budget = Budget(max_duration=timedelta(seconds=30))
        summaries.append(await lake.run(ListSource("lists", base_url=BASE), budget=budget))

    async with create_task_group() as tg:
        tg.start_soon(execute)
        await wait_all_tasks_blocked()
        await clock.advance(31)
    (summary,) = summaries
    assert (summary.exit_code, summary.error) == (
        4,
        "max_duration = 0:00:30 is too short: it has passed, and no dataset was begun; raise it",
    )


async def test_a_dataset_that_only_waited_for_its_host_was_not_begun() -> None:
    """
    Where lists take so many turns of a host that the time is up before a file's, so they will in
    the next Run.
    """
    clock = VirtualClock(auto=False)
    fetcher = two_lists()
    lake, source = Lake(fetcher=fetcher, clock=clock), ListSource("lists", base_url=BASE)
    source.limits = Limits(requests_per_second=0.01)
    summaries = []

    async def execute() -> None:
        budget = Budget(max_duration=timedelta(seconds=150), max_bytes=1000)
        summaries.append(await lake.run(source, budget=budget, workers=1))

    with fail_after(30):
        async with create_task_group() as tg:
            tg.start_soon(execute)
            for _ in range(25):
                await wait_all_tasks_blocked()
                if summaries:
                    break
                await clock.advance(10)
    (summary,) = summaries
    assert (summary.exit_code, outcome(summary)) == (4, {"not_reached": 1})
    assert "max_duration = 0:02:30 is too short" in (summary.error or "")


async def test_selectors_that_never_get_clean_do_not_use_up_every_run() -> None:
    """
    Where one Dataset of each fails for ever, and asking for those is all that the budget allows,
    what is new elsewhere is fetched nevertheless, and so are they asked for.
    """
    fetcher = FakeFetcher()
    lake, source = Lake(fetcher=fetcher), ListSource("lists", base_url=BASE)

    def serve(name: str, key: int, answer: FakeAnswer) -> None:
        fetcher.answer(f"{BASE}list-{name}.json", FakeAnswer(body=b'[{"id": %d}]' % key))
        fetcher.answer(f"{BASE}data/{key}-v1.json", answer)

    names = ", ".join(f'{{"list": "{name}"}}' for name in "abcd")
    fetcher.answer(f"{BASE}selectors.json", FakeAnswer(body=f"[{names}]".encode()))
    for name, key in (("a", 1), ("b", 2)):
        serve(name, key, FakeAnswer(status=404))
    for name, key in (("c", 100), ("d", 200)):
        serve(name, key, FakeAnswer(body=b"{}"))
    await lake.run(source)
    assert await lake.ids() == [100, 200]

    for number in range(1, 25):
        for name, key in (("c", 100), ("d", 200)):
            serve(name, key + number, FakeAnswer(body=b"{}"))
        summary = await lake.run(source, budget=Budget(max_requests=5), workers=1)
        assert summary.requests == 5

    stored = await lake.ids()
    assert any(100 < each < 200 for each in stored)
    assert any(each > 200 for each in stored)
    for key in (1, 2):
        url = f"{BASE}data/{key}-v1.json"
        assert sum(each.url == url for each in fetcher.requests) > 6


async def test_time_that_is_up() -> None:
    """
    After its time a Run begins nothing more, and ends once what is in flight has.
    """
    clock, gate = VirtualClock(auto=False), Event()
    fetcher = FakeFetcher({f"{BASE}{n}.json": FakeAnswer(body=b"{}", after=gate) for n in range(9)})
    lake = Lake(fetcher=fetcher, clock=clock)
    source = offering(*[offer(n, files={"a": f"{BASE}{n}.json"}) for n in range(9)])
    summaries = []

    async def execute() -> None:
        budget = Budget(max_duration=timedelta(minutes=30))
        summaries.append(await lake.run(source, budget=budget, workers=2))

    async with create_task_group() as tg:
        tg.start_soon(execute)
        await wait_all_tasks_blocked()
        await clock.advance(29 * 60)
        assert not summaries
        await clock.advance(70)
        await wait_all_tasks_blocked()
        assert not summaries
        assert len(fetcher.requests) == 2
        gate.set()
        for _ in range(20):  # batches wait for company by the real clock
            await wait_all_tasks_blocked()
            if summaries:
                break
            await clock.advance(1)
    (summary,) = summaries
    assert (summary.exit_code, len(fetcher.requests)) == (4, 2)
    assert outcome(summary) == {"stored": 2, "not_reached": 7}
    assert "max_duration is used up: 0:30" in (summary.error or "")


async def test_time_that_is_up_drops_at_once_what_only_waits() -> None:
    """
    A Dataset that waits for its host, and of which nothing has arrived, is not waited for.
    """
    clock = VirtualClock(auto=False)
    fetcher = FakeFetcher({f"{BASE}{n}.json": FakeAnswer(body=b"{}") for n in range(99)})
    lake = Lake(fetcher=fetcher, clock=clock)
    source = offering(*[offer(n, files={"a": f"{BASE}{n}.json"}) for n in range(99)])
    source.limits = Limits(requests_per_second=0.1)
    summaries = []

    async def execute() -> None:
        budget = Budget(max_duration=timedelta(seconds=55))
        summaries.append(await lake.run(source, budget=budget))

    with fail_after(30):
        async with create_task_group() as tg:
            tg.start_soon(execute)
            for begun in range(1, 7):
                await wait_all_tasks_blocked()
                assert len(fetcher.requests) == begun
                await clock.advance(10.2 if begun < 6 else 5)
    (summary,) = summaries  # without any more time
    assert (summary.exit_code, outcome(summary)) == (4, {"stored": 6, "not_reached": 93})


@pytest.mark.parametrize(
    ("budget", "named"),
    [
        ({"max_requests": 0}, "max_requests"),
        ({"max_bytes": -1}, "max_bytes"),
        ({"max_duration": timedelta(0)}, "max_duration"),
    ],
)
def test_a_budget_of_nothing_is_refused(budget: dict[str, Any], named: str) -> None:
    """
    Nothing could be done with it; the message names it.
    """
    with pytest.raises(ConfigError, match=named):
        Budget(**budget)


async def test_several_sources_share_one_budget(
    world: ListWorld, provider: ProviderSimulator
) -> None:
    """
    The requests of all Sources together are what counts.
    """
    fill(world, lists=3, datasets=4)
    async with AiohttpFetcher.open() as fetcher:
        lake = Lake(fetcher=fetcher)
        sources = [ListSource(name, base_url=provider.base_url) for name in ("one", "two")]
        summary = await lake.run(*sources, budget=Budget(max_requests=7))
    assert (summary.exit_code, summary.requests, len(provider.requests)) == (4, 7, 7)
    outcome(summary)


class Paged(FakeSource):
    """Asks for four pages of each list, and remembers in which order it was asked for lists."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.seen: list[str] = []

    async def discover_datasets(
        self, dataset_type: str, selector: Selector, *, http: Http, **_: Any
    ) -> AsyncIterator[DatasetResource]:
        self.seen.append(str(selector["slice"]))
        for page in range(4):
            await http.get_json(f"page-{page}.json")
        return
        yield


async def test_runs_of_others_in_between_take_nobodys_turn() -> None:
    """
    Of two Selectors of which a budget is enough for one, each has its turn, however many Runs of
    another Source come between two Runs.
    """

    for others in range(3):
        fetcher = FakeFetcher({f"{BASE}page-{n}.json": FakeAnswer(body=b"{}") for n in range(4)})
        lake = Lake(fetcher=fetcher)
        source = offering(kind=Paged, name="paged", first=[], second=[])
        for _ in range(12):
            await lake.run(source, budget=Budget(max_requests=3))
            for _ in range(others):
                await lake.run(offering(offer(1)))
        assert source.seen == ["first", "second"] * 6


async def test_runs_for_a_part_in_between_take_nobodys_turn() -> None:
    """
    Of two Selectors of which one has Runs of its own, the other has its turn in those for both.
    """
    fetcher = FakeFetcher({f"{BASE}page-{n}.json": FakeAnswer(body=b"{}") for n in range(4)})
    lake = Lake(fetcher=fetcher)
    source = offering(kind=Paged, name="paged", first=[], second=[])
    for _ in range(4):
        await lake.run(source, budget=Budget(max_requests=3))
        only = plan_of(source, selector={"slice": "first"})
        await lake.run(only, budget=Budget(max_requests=3))
    assert source.seen.count("second") >= 3
