"""What plans and callers want of the Selectors that a Source offers, and what they cannot have."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from lakes import Lake, offer, offering, outcome, plan_of

from ingestify.errors import ConfigError
from ingestify.model.resource import DatasetResource
from ingestify.model.selector import Selector
from ingestify.pipeline.choose import Narrowing
from ingestify.ports import Http, Source
from ingestify.testing import FakeSource


@pytest.fixture
def lake() -> Lake:
    return Lake()


class Seasons(Source):
    """Offers what it is told, and lists one Dataset for each Selector that it is asked for."""

    provider = "seasons"

    def __init__(self, *offered: Selector) -> None:
        super().__init__("seasons")
        self.offered = offered

    async def discover_selectors(self, dataset_type: str, *, http: Http) -> AsyncIterator[Selector]:
        for each in self.offered:
            yield each

    async def discover_datasets(
        self, dataset_type: str, selector: Selector, **_: Any
    ) -> AsyncIterator[DatasetResource]:
        resource = DatasetResource(dataset_resource_id={"key": selector.key}, name=str(selector))
        yield resource.add_file("data", content=b"{}")


class Declaring(Seasons):
    """A Source that says which names its Selectors may have."""

    selector_keys = ("competition_id", "season_id", "match_id")


class Taking(Seasons):
    """A Source that leaves it to plans which Selectors there are."""

    discover_selectors = Source.discover_selectors


def season(competition: int, season: int) -> Selector:
    return Selector({"competition_id": competition, "season_id": season})


OFFERED = (season(11, 42), season(11, 90), season(43, 106))


async def looked_at(lake: Lake, source: Source, selector: object = "*", **order: Any) -> list[str]:
    """The Selectors that a Run looks at for a plan."""
    summary = await lake.run(plan_of(source, selector=selector), **order)
    return [each.selector for each in summary.selectors if each.status == "complete"]


@pytest.mark.parametrize("written", [{"competiton_id": 11}, {"competiton_id": ">= 11"}])
async def test_a_name_that_no_selector_has_selects_nothing(lake: Lake, written: object) -> None:
    """
    A plan with a mistyped name fails by itself, with the name that was meant; other plans go on.
    """
    source = Seasons(*OFFERED)

    summary = await lake.run(
        plan_of(source, selector=written), plan_of(source, selector={"season_id": 106})
    )

    assert outcome(summary) == {"stored": 1}
    assert summary.exit_code == 1
    [failure] = summary.failures
    assert 'no Selector has a name "competiton_id"; did you mean "competition_id"?' in (
        failure.message
    )


async def test_a_name_that_a_caller_mistypes_ends_the_run(lake: Lake) -> None:
    """
    Narrowing by a name that no Selector of any Source can have is an error of its caller.
    """
    run = lake.run_of(Seasons(*OFFERED), narrowing=Narrowing({"seson_id": (90,)}))

    with pytest.raises(ConfigError, match='did you mean "season_id"'):
        await run.execute()
    assert await lake.datasets() == []


async def test_a_name_that_another_source_has_leaves_a_source_alone(lake: Lake) -> None:
    """
    What only the Selectors of one Source have leaves the other without anything to do.
    """
    narrowing = Narrowing({"season_id": (106,)})

    summary = await lake.run(offering(a=[offer(1)]), Seasons(*OFFERED), narrowing=narrowing)

    assert outcome(summary) == {"stored": 1}
    assert summary.exit_code == 0
    assert "fake: nothing of what its plans want has season_id=106" in summary.warnings


async def test_declared_names_extend_what_is_offered(lake: Lake) -> None:
    """
    A Source may take names that its Selectors do not have, if it declares them, or if the
    configuration has them in the identity.
    """
    wanted = {"season_id": 106, "match_id": 7}
    extended = ["competition_id=43/season_id=106/match_id=7"]

    assert await looked_at(lake, Declaring(*OFFERED), wanted) == extended
    assert await looked_at(lake, Seasons(*OFFERED), wanted) == []
    plan = plan_of(Seasons(*OFFERED), selector=wanted)
    plan = type(plan)(
        scope=plan.scope, source=plan.source, policy=plan.policy, identifier_keys=["match_id"]
    )
    summary = await lake.run(plan)
    assert [each.selector for each in summary.selectors] == extended


async def test_a_source_that_offers_nothing_of_its_own_takes_what_a_plan_names(lake: Lake) -> None:
    """
    Where only the empty Selector is offered, the plan's values make the Selectors, and those are
    the names that a caller can narrow by.
    """
    wanted = {"competition_id": [11, 43]}

    for source in (Taking(), Seasons(Selector())):
        assert await looked_at(lake, source, wanted) == ["competition_id=11", "competition_id=43"]
    narrowing = Narrowing({"competition_id": ("43",)}, as_text=True)
    assert await looked_at(lake, Taking(), wanted, narrowing=narrowing) == ["competition_id=43"]
    assert await looked_at(lake, Taking(), narrowing=narrowing) == ["competition_id=43"]
    with pytest.raises(ConfigError, match="competition_id"):
        await looked_at(lake, Taking(), wanted, narrowing=Narrowing({"competiton_id": (11,)}))
    with_comparison = await lake.run(plan_of(Taking(), selector={"competition_id": ">= 11"}))
    assert with_comparison.exit_code == 1
    assert "competition_id that could be compared" in with_comparison.failures[0].message


async def test_a_value_that_nothing_has_is_told(lake: Lake) -> None:
    """
    Of several exact values, those that nothing has fail, and the others are looked at. Two lists
    want what there is of both.
    """
    summary = await lake.run(plan_of(Seasons(*OFFERED), selector={"season_id": [42, 91, "90"]}))

    assert outcome(summary) == {"stored": 1}
    assert summary.exit_code == 1
    assert [each.status for each in summary.selectors] == ["failed", "complete"]
    assert "has season_id=91|90" in summary.failures[0].message
    assert [each.message for each in await lake.catalog.failures()] == [
        each.message for each in summary.failures
    ]

    both = {"competition_id": [11, 43], "season_id": [42, 106]}
    summary = await lake.run(plan_of(Seasons(*OFFERED), selector=both))
    assert (summary.exit_code, len(summary.selectors)) == (0, 2)


async def test_everything_that_a_plan_misses_is_told_at_once(lake: Lake) -> None:
    """
    What several patterns miss is one Selector that failed, for several reasons.
    """
    source = Seasons(*OFFERED)

    summary = await lake.run(
        plan_of(source, selector={"season_id": 1}), plan_of(source, selector={"season_id": 2})
    )

    assert len(summary.selectors) == 1
    assert len(summary.failures) == len(await lake.catalog.failures()) == 2


async def test_a_value_that_a_caller_does_not_get_is_told(lake: Lake) -> None:
    """
    A Run for two values of which nothing has one looks at the other, warns, and is not a success.
    """
    narrowing = Narrowing({"season_id": ("42", "91")}, as_text=True)

    summary = await lake.run(Seasons(*OFFERED), narrowing=narrowing)

    assert outcome(summary) == {"stored": 1}
    assert summary.exit_code == 1
    assert summary.warnings == ("nothing has season_id=91",)
    assert await lake.catalog.failures() == []


async def test_hints_leave_out_what_has_another_value(lake: Lake) -> None:
    """
    A hint narrows Selectors that have the name, and those of Sources that declare it.
    """

    async def hinted(source: Source, **hints: Any) -> list[str]:
        return await looked_at(lake, source, narrowing=Narrowing(hints=hints))

    assert await hinted(Seasons(*OFFERED), season_id=("106",)) == [
        "competition_id=43/season_id=106"
    ]
    assert len(await hinted(Seasons(*OFFERED), match_id=(7,))) == 3
    assert await hinted(Declaring(season(1, 2)), match_id=(7,)) == [
        "competition_id=1/season_id=2/match_id=7"
    ]


class Failing(FakeSource):
    """Cannot say what it has, while it is told so."""

    is_down = False

    async def discover_selectors(self, dataset_type: str, *, http: Http) -> AsyncIterator[Selector]:
        if self.is_down:
            raise ValueError("down")
        async for each in super().discover_selectors(dataset_type, http=http):
            yield each


async def test_a_source_that_can_say_again_what_it_has(lake: Lake) -> None:
    """
    That a Source could not say what it has counts as failed until it can.
    """
    source = Failing({Selector({"slice": "a"}): [offer(1)]})
    source.is_down = True
    await lake.run(source)
    assert len(await lake.catalog.failures()) == 1

    source.is_down = False
    assert outcome(await lake.run(source)) == {"stored": 1}
    assert await lake.catalog.failures() == []


async def test_what_is_not_wanted_any_more_does_not_count_as_failed(lake: Lake) -> None:
    """
    A Selector that failed counts until it succeeds, or no plan wants it; that another one was
    looked at is no reason.
    """

    def broken() -> None:
        raise ValueError("broken")

    source = offering(a=[broken, offer(1)], b=[offer(2)])
    await lake.run(source)
    [failure] = await lake.catalog.failures()

    await lake.run(source, narrowing=Narrowing({"slice": ("b",)}))
    assert await lake.catalog.failures() == [failure]
    await lake.run(plan_of(source, selector={"slice": "b"}))
    assert await lake.catalog.failures() == []


@pytest.mark.parametrize(
    "mistyped", [{"slcie": "a"}, {"slcie": "> 1"}, {"slice": "A"}, {"slice": ["b", "A"]}]
)
async def test_a_mistake_in_a_plan_makes_nothing_count_as_done(
    lake: Lake, mistyped: object
) -> None:
    """
    What failed in a Selector goes on counting while its plan names what nothing has: it may be
    wanted. The mistake itself counts once, until it is mended. Other buckets are not concerned.
    """

    def broken() -> None:
        raise ValueError("broken")

    source = offering(a=[broken], b=[offer(2)])
    await lake.run(plan_of(source), plan_of(source, bucket="other"))
    first, second = await lake.catalog.failures()
    assert (first.code, second.code) == ("bug", "bug")

    for _ in range(2):
        await lake.run(
            plan_of(source, selector=mistyped),
            plan_of(source, selector={"slice": "b"}, bucket="other"),
        )
        assert sorted(each.code for each in await lake.catalog.failures()) == ["bug", "selector"]
    await lake.run(plan_of(source, selector={"slice": "a"}))
    assert [each.code for each in await lake.catalog.failures()] == ["bug"]
    await lake.run(plan_of(source, selector={"slice": "b"}))
    assert await lake.catalog.failures() == []


async def test_a_dataset_whose_feed_is_given_up_does_not_count_as_failed(lake: Lake) -> None:
    """
    A Dataset that failed, and then is found up to date or is not listed any more, has not failed.
    """
    gone = "http://fake.invalid/gone"
    first, second = offer(1), offer(2)
    source = offering(first, second)
    await lake.run(source)
    first.files = {**first.files, "extra": gone}
    third = offer(3, files={"extra": gone})
    source.offers[Selector()] = [first, second, third]
    assert outcome(await lake.run(source)) == {"skipped": 1, "failed": 2}
    assert len(await lake.catalog.failures()) == 2

    del first.files["extra"]
    source.offers[Selector()] = [first, second]
    summary = await lake.run(source)

    assert (summary.exit_code, outcome(summary)) == (0, {"skipped": 2})
    assert await lake.catalog.failures() == []


async def test_a_value_of_very_many_digits_is_a_mistake_of_the_command() -> None:
    """
    An integer that Python does not even read is told as what it is.
    """
    narrowing = Narrowing({"slice": ("1" * 5000,)}, as_text=True)
    source = FakeSource({Selector({"slice": 1}): []})
    with pytest.raises(ConfigError, match="slice: an integer of 5000 digits is too large"):
        await Lake().run(source, narrowing=narrowing)
