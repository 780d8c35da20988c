"""A daily quota is kept by all processes together: it stands in the catalog."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from anyio import create_task_group
from lakes import Lake, offering
from lists import ListSource, ListWorld

from ingestify.adapters.catalog.memory import MemoryCatalog
from ingestify.config import Config
from ingestify.engine import Engine
from ingestify.model.http import Limits
from ingestify.ports import Catalog
from ingestify.testing import FakeSource, Offer, ProviderSimulator
from ingestify.testing.clock import VirtualClock
from ingestify.testing.fetcher import FakeAnswer, FakeFetcher

THINGS = 20
BASE = "http://fake.invalid/"


@pytest.fixture
def open_engine(
    world: ListWorld, provider: ProviderSimulator, make_config: Callable[..., Config]
) -> Callable[[int], Engine]:
    """An Engine, as in another process, for a provider with a quota and `THINGS` to fetch."""
    world.set_list("a", *[{"id": number} for number in range(THINGS)])
    for number in range(THINGS):
        world.set_data(number, {"of": number})

    def make(quota: int) -> Engine:
        config = make_config(
            sources={"lists": {"type": "lists.ListSource"}},
            ingestion_plans=[{"source": "lists", "dataset_type": "thing"}],
        )
        limits = Limits(daily_quota=quota)
        source = ListSource("lists", base_url=provider.base_url, limits=limits)
        return Engine(config, sources={"lists": source})

    return make


async def left_of(catalog: Catalog, source: str, quota: int) -> int:
    today = datetime.now(UTC).date()
    left = await catalog.spend_quota(source, day=today, count=quota, most=quota)
    await catalog.spend_quota(source, day=today, count=-left, most=quota)
    return left


async def test_runs_one_after_the_other_share_the_quota(
    open_engine: Callable[[int], Engine], provider: ProviderSimulator
) -> None:
    """
    Three processes on one day send what the quota allows, and not a request more.
    """
    codes = []
    for _ in range(3):
        async with open_engine(8) as engine:
            summary = await engine.run()
            codes.append(summary.exit_code)
            assert "the daily quota of 8 requests" in (summary.error or "")
    assert codes == [4, 4, 4]
    assert provider.count() == 8


async def test_runs_at_the_same_time_share_the_quota(
    open_engine: Callable[[int], Engine], provider: ProviderSimulator
) -> None:
    """
    Processes that look at a provider at once, to plan and to run, have one quota.
    """
    async with open_engine(9) as one, open_engine(9) as other, create_task_group() as tg:
        tg.start_soon(one.run)
        tg.start_soon(other.plan)
    assert provider.count() <= 9


async def test_what_was_not_sent_is_given_back(
    open_engine: Callable[[int], Engine], provider: ProviderSimulator
) -> None:
    """
    Requests are set aside in blocks; at the end of a run, or of a plan, only what was sent counts.
    """
    quota = 100_000  # blocks of 1,000
    async with open_engine(quota) as engine:
        await engine.plan()
        assert await left_of(engine.catalog, "lists", quota) == quota - provider.count()
        assert (await engine.run()).exit_code == 0
        assert await left_of(engine.catalog, "lists", quota) == quota - provider.count()
    assert provider.count() >= THINGS


class Limited(FakeSource):
    limits = Limits(daily_quota=3)


async def test_a_new_day_begins_in_the_middle_of_a_run() -> None:
    """
    What was left of yesterday is gone, and all of today is there.
    """
    clock = VirtualClock(datetime(2024, 5, 17, 23, 59, 0, tzinfo=UTC), auto=False)
    urls = [f"{BASE}{number}.json" for number in range(5)]

    def slow(number: int) -> Callable[[object], FakeAnswer]:
        def answer(request: object) -> FakeAnswer:
            clock.jump(timedelta(seconds=25))
            return FakeAnswer(body=b"%d" % number)

        return answer

    fetcher = FakeFetcher({url: slow(number) for number, url in enumerate(urls)})
    lake = Lake(catalog=MemoryCatalog(), fetcher=fetcher, clock=clock)
    offers = [
        Offer(identifier={"id": number}, files={"events": url}) for number, url in enumerate(urls)
    ]

    summary = await lake.run(offering(*offers, kind=Limited), workers=1)

    assert summary.exit_code == 0
    assert fetcher.count() == 5
