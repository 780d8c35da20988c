"""Runs about some Datasets ask for these alone, and say which of them nothing lists any more."""

from __future__ import annotations

from lakes import Lake, offer, offering, outcome, plan_of

from ingestify.model.run import RunSummary
from ingestify.pipeline.only import MOST_NAMED
from ingestify.testing import Offer
from ingestify.upkeep import what_failed


def broken(number: int) -> Offer:
    return offer(number, files={"events": b""})


async def retried(lake: Lake, *wanted: object) -> RunSummary:
    only = await what_failed(lake.catalog)
    assert only is not None
    return await lake.run(*wanted, only=only)  # type: ignore[arg-type]


async def test_what_failed_in_one_bucket_is_not_asked_for_in_another() -> None:
    """
    The same identity may be sound there.
    """
    lake, sound = Lake(), offering(offer(1))
    await lake.run(plan_of(sound, bucket="a"))
    await lake.run(plan_of(offering(broken(1)), bucket="b"))

    summary = await retried(lake, plan_of(sound, bucket="a"), plan_of(sound, bucket="b"))

    assert {each.bucket: each.counters.stored for each in summary.selectors}["b"] == 1
    assert outcome(summary) == {"stored": 1, "skipped": 1}
    assert sum(each.counters.unchanged for each in summary.selectors) == 0
    assert (summary.exit_code, summary.warnings) == (0, ())


async def test_what_is_not_listed_any_more_is_said() -> None:
    """
    By name, as far as there is room; the Run is not a success then.
    """
    lake, count = Lake(), MOST_NAMED + 3
    await lake.run(offering(offer(0), *[broken(1 + number) for number in range(count)]))

    summary = await retried(lake, offering(offer(0), offer(1)))

    assert outcome(summary) == {"stored": 1, "skipped": 1}
    assert summary.exit_code == 1
    [warning] = summary.warnings
    assert warning.startswith(f"{count - 1} of {count} datasets were not asked for, since nothing")
    assert "fake thing id=10 in main, " in warning
    assert warning.count("fake thing") == MOST_NAMED
    assert "and 2 more; a run of the whole plan settles" in warning
    assert (await lake.run(offering(offer(0), offer(1)))).exit_code == 0
    assert await what_failed(lake.catalog) is None


async def test_nothing_is_said_of_datasets_where_a_list_could_not_be_read() -> None:
    """
    They may stand in what is missing.
    """
    lake = Lake()
    await lake.run(offering(broken(1)))

    summary = await retried(lake, offering(offer(2), kind=Breaking))

    assert (summary.exit_code, summary.warnings) == (1, ())


class Breaking(type(offering())):  # type: ignore[misc]
    """A list that ends with an error."""

    async def discover_datasets(self, *args: object, **options: object) -> object:
        async for each in super().discover_datasets(*args, **options):
            yield each
        raise ValueError("the end is missing")
