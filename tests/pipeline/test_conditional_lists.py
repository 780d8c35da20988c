"""When a list may answer 304, when a file may, and when neither may."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from typing import Any

import pytest
from lists import ListSource, ListWorld

from ingestify.engine import Engine
from ingestify.model.dataset import Stored
from ingestify.model.resource import DatasetResource
from ingestify.model.run import RunSummary
from ingestify.policy import Ask, Fetch, FetchPolicy, Skip
from ingestify.testing import ProviderSimulator, status

Open = Callable[..., Engine]


def requested(provider: ProviderSimulator) -> dict[str, int]:
    """How often each path was asked for since the last look, with its status."""
    asked: dict[str, int] = {}
    for request in provider.requests:
        key = f"{request.path.lstrip('/')} {request.status}"
        asked[key] = asked.get(key, 0) + 1
    provider.reset_counts()
    return asked


def outcome(summary: RunSummary) -> dict[str, int]:
    """What became of the Datasets listed, without zeros. The counters must add up."""
    assert summary.counters.is_balanced
    names = ("stored", "unchanged", "skipped", "failed", "duplicate", "refused", "not_reached")
    counts = {name: getattr(summary.counters, name) for name in names}
    return {name: count for name, count in counts.items() if count}


async def test_an_unchanged_list_ends_its_selector(
    world: ListWorld, provider: ProviderSimulator, open_lake: Open
) -> None:
    """
    When nothing changed, the list is asked for conditionally, its 304 ends the Selector, and no
    Dataset is looked at.
    """
    world.set_list("a", {"id": 1}, {"id": 2}, token="t")
    world.set_data(1, {"x": 1})
    world.set_data(2, {"x": 2})
    async with open_lake() as engine:
        assert outcome(await engine.run()) == {"stored": 2}
        requested(provider)

        summary = await engine.run()

        assert requested(provider) == {"selectors.json 200": 1, "list-a.json 304": 1}
        assert summary.counters.listed == 0
        assert [each.status for each in summary.selectors] == ["unchanged"]
        assert summary.exit_code == 0


async def test_a_list_that_ignores_validators_costs_no_file(
    world: ListWorld, provider: ProviderSimulator, open_lake: Open
) -> None:
    """
    A provider that answers 200 with an equal list costs one request: every Dataset is skipped.
    """
    world.set_list("a", {"id": 1, "token": "x"}, token="t")
    world.set_data(1, {"x": 1})
    async with open_lake() as engine:
        await engine.run()
        world.set_list("a", {"token": "x", "id": 1}, token="t")  # other bytes, same content
        requested(provider)

        assert outcome(await engine.run()) == {"skipped": 1}

        assert requested(provider) == {"selectors.json 200": 1, "list-a.json 200": 1}


async def test_only_the_selectors_token_changed(
    world: ListWorld, provider: ProviderSimulator, open_lake: Open
) -> None:
    """
    A Selector's new token asks for every File conditionally, makes no Revision, and is settled
    with that: the next Run asks for the list alone.
    """
    world.set_list("a", {"id": 1}, {"id": 2}, token="t1")
    world.set_data(1, {"x": 1})
    world.set_data(2, {"x": 2})
    async with open_lake() as engine:
        await engine.run()
        world.bump("a", "t2")
        requested(provider)

        assert outcome(await engine.run()) == {"unchanged": 2}
        assert requested(provider) == {
            "selectors.json 200": 1,
            "list-a.json 200": 1,
            "data/1-v1.json 304": 1,
            "data/2-v1.json 304": 1,
        }

        await engine.run()
        assert requested(provider) == {"selectors.json 200": 1, "list-a.json 304": 1}
        dataset = (await engine.store.get_dataset_collection()).first()
        assert dataset is not None
        assert dataset.revision == 0


async def test_files_changed_under_an_unchanged_list(
    world: ListWorld, provider: ProviderSimulator, open_lake: Open
) -> None:
    """
    When only the Selector's token tells that something changed, exactly what has other bytes
    gets a Revision.
    """
    world.set_list("a", {"id": 1}, {"id": 2}, token="t1")
    world.set_data(1, {"x": 1})
    world.set_data(2, {"x": 2})
    async with open_lake() as engine:
        await engine.run()
        world.set_data(2, {"x": "corrected"})
        world.bump("a", "t2")

        assert outcome(await engine.run()) == {"stored": 1, "unchanged": 1}

        one, two = await engine.store.get_dataset_collection()
        assert (one.revision, two.revision) == (0, 1)
        bodies = [
            json.loads(await engine.store.content(revision.files[0]).read_bytes())
            for revision in await engine.store.revisions(two)
        ]
        assert bodies == [{"x": 2}, {"x": "corrected"}]


async def test_a_change_that_nobody_announces_is_found_by_recheck(
    world: ListWorld, provider: ProviderSimulator, open_lake: Open
) -> None:
    """
    Without a token nothing says that a file changed; a recheck share of 1 asks on another day.
    """
    world.set_list("a", {"id": 1}, token="t1")
    world.set_data(1, {"x": 1})
    async with open_lake({"recheck": 1}) as engine:
        await engine.run()
        world.set_data(1, {"x": "changed"})

        assert outcome(await engine.run()) == {"skipped": 1}  # it was asked for today


async def test_two_plans_with_different_versions_share_a_selector(
    world: ListWorld, provider: ProviderSimulator, open_lake: Open
) -> None:
    """
    Equal Selectors of two plans are looked at once, for the versions that either of them wants.
    """
    world.set_list("a", {"id": 1}, token="t")
    world.set_data(1, {"x": 1}, "v1")
    world.set_data(1, {"x": 2}, "v2")
    plans = ({"data_spec_versions": {"data": "v1"}}, {"data_spec_versions": {"data": "v2"}})
    async with open_lake(*plans) as engine:
        assert outcome(await engine.run()) == {"stored": 1}

        assert requested(provider) == {
            "selectors.json 200": 1,
            "list-a.json 200": 1,
            "data/1-v1.json 200": 1,
            "data/1-v2.json 200": 1,
        }


async def test_another_version_makes_the_list_worth_looking_at(
    world: ListWorld, provider: ProviderSimulator, open_lake: Open
) -> None:
    """
    A plan that wants another version asks for its list unconditionally, and for that File alone.
    """
    world.set_list("a", {"id": 1}, token="t")
    world.set_data(1, {"x": 1}, "v1")
    world.set_data(1, {"x": 2}, "v2")
    async with open_lake({"data_spec_versions": {"data": "v1"}}) as engine:
        await engine.run()
    requested(provider)
    async with open_lake({"data_spec_versions": {"data": ["v1", "v2"]}}) as engine:
        summary = await engine.run()

        assert summary.selectors[0].reasons == {"file missing": 1}
        assert requested(provider) == {
            "selectors.json 200": 1,
            "list-a.json 200": 1,
            "data/1-v2.json 200": 1,
        }


async def test_two_buckets_are_two_lakes(
    world: ListWorld, provider: ProviderSimulator, open_lake: Open
) -> None:
    """
    The same Dataset in two buckets is kept twice, and neither list's 304 speaks for the other.
    """
    world.set_list("a", {"id": 1}, token="t")
    world.set_data(1, {"x": 1})
    async with open_lake({"bucket": "one"}) as engine:
        await engine.run()
    requested(provider)
    async with open_lake({"bucket": "one"}, {"bucket": "two"}) as engine:
        assert outcome(await engine.run()) == {"stored": 1}

        assert requested(provider) == {
            "selectors.json 200": 1,
            "list-a.json 304": 1,
            "list-a.json 200": 1,
            "data/1-v1.json 200": 1,
        }
        assert await engine.store.count(bucket="one") == 1
        assert await engine.store.count(bucket="two") == 1


async def test_a_failed_dataset_keeps_its_list_from_being_asked_for_conditionally(
    world: ListWorld, provider: ProviderSimulator, open_lake: Open
) -> None:
    """
    What failed is tried again by the next Run, although the list has not changed.
    """
    world.set_list("a", {"id": 1}, {"id": 2}, token="t")
    world.set_data(1, {"x": 1})  # 2 is listed, but its file is not there
    async with open_lake() as engine:
        first = await engine.run()
        assert outcome(first) == {"stored": 1, "failed": 1}
        assert first.exit_code == 1
        assert [failure.code for failure in await engine.catalog.failures()] == ["absent"]
        world.set_data(2, {"x": 2})
        requested(provider)

        assert outcome(await engine.run()) == {"stored": 1, "skipped": 1}

        assert requested(provider) == {
            "selectors.json 200": 1,
            "list-a.json 200": 1,
            "data/2-v1.json 200": 1,
        }
        assert await engine.catalog.failures() == []
        await engine.run()
        assert requested(provider) == {"selectors.json 200": 1, "list-a.json 304": 1}


async def test_a_stored_dataset_that_failed_under_a_new_token_is_retried(
    world: ListWorld, provider: ProviderSimulator, open_lake: Open
) -> None:
    """
    A File that could not be refreshed keeps its old bytes, is failed in the meantime, and is
    asked for again although its Selector's token has been seen by then.
    """
    world.set_list("a", {"id": 1}, token="t1")
    world.set_data(1, {"x": 1})
    async with open_lake() as engine:
        await engine.run()
        world.bump("a", "t2")
        world.set_data(1, {"x": 2})
        provider.script("data/1-v1.json", status(403), times=1)

        assert outcome(await engine.run()) == {"failed": 1}
        dataset = (await engine.store.get_dataset_collection()).first()
        assert dataset is not None
        assert dataset.revision == 0

        assert outcome(await engine.run()) == {"stored": 1}


async def test_a_file_that_becomes_absent(
    world: ListWorld, provider: ProviderSimulator, open_lake: Open
) -> None:
    """
    An optional File that is gone is absent, no failure; its bytes stay, and it is asked for
    again only when its token changes.
    """
    world.set_list("a", {"id": 1, "optional": True, "token": "x"}, token="t")
    world.set_data(1, {"x": 1})
    async with open_lake() as engine:
        await engine.run()
        world.remove("data/1-v1.json")
        world.set_list("a", {"id": 1, "optional": True, "token": "y"}, token="t")

        summary = await engine.run()
        assert outcome(summary) == {"unchanged": 1}
        assert summary.exit_code == 0
        dataset = (await engine.store.get_dataset_collection()).first()
        assert dataset is not None
        (check,) = await engine.catalog.checks(dataset.row_id)
        assert check.outcome == "absent"
        assert len(await engine.store.load_files(dataset)) == 1
        requested(provider)

        await engine.run()
        assert requested(provider) == {"selectors.json 200": 1, "list-a.json 304": 1}


async def test_a_dataset_in_two_selectors_is_fetched_once(
    world: ListWorld, provider: ProviderSimulator, open_lake: Open
) -> None:
    """
    A Dataset that two Selectors list is fetched once and counted once as a duplicate.
    """
    world.set_list("a", {"id": 1}, {"id": 2}, token="t")
    world.set_list("b", {"id": 2}, {"id": 3}, token="t")
    for key in (1, 2, 3):
        world.set_data(key, {"x": key})
    async with open_lake() as engine:
        assert outcome(await engine.run()) == {"stored": 3, "duplicate": 1}
        asked = requested(provider)
        assert asked["data/2-v1.json 200"] == 1

        await engine.run()

        assert requested(provider) == {
            "selectors.json 200": 1,
            "list-a.json 304": 1,
            "list-b.json 304": 1,
        }


async def test_a_dataset_that_fails_fails_for_every_selector_that_lists_it(
    world: ListWorld, provider: ProviderSimulator, open_lake: Open
) -> None:
    """
    Neither of the two lists may answer 304 afterwards, whichever of them met the Dataset first.
    """
    world.set_list("a", {"id": 1}, token="t")
    world.set_list("b", {"id": 1}, token="t")
    async with open_lake() as engine:
        assert outcome(await engine.run()) == {"failed": 1, "duplicate": 1}
        requested(provider)

        await engine.run()

        asked = requested(provider)
        assert (asked["list-a.json 200"], asked["list-b.json 200"]) == (1, 1)
        assert asked["data/1-v1.json 404"] == 1


async def test_invalidated_files_are_asked_for_unconditionally(
    world: ListWorld, provider: ProviderSimulator, open_lake: Open
) -> None:
    """
    A 304 would never heal what was found to be wrong, so none is asked for.
    """
    world.set_list("a", {"id": 1}, token="t")
    world.set_data(1, {"x": 1})
    async with open_lake() as engine:
        await engine.run()
        assert await engine.store.invalidate_revisions(reason="cut off", id=1) == 1
        requested(provider)

        summary = await engine.run()

        assert summary.selectors[0].reasons == {"invalidated": 1}
        assert requested(provider) == {
            "selectors.json 200": 1,
            "list-a.json 200": 1,
            "data/1-v1.json 200": 1,
        }


async def test_a_forced_run_asks_for_everything_conditionally(
    world: ListWorld, provider: ProviderSimulator, open_lake: Open
) -> None:
    """
    Force looks at every list and asks for every File, but transfers only what has changed.
    """
    world.set_list("a", {"id": 1}, token="t")
    world.set_data(1, {"x": 1})
    async with open_lake() as engine:
        await engine.run()
        requested(provider)

        assert outcome(await engine.run(force=True)) == {"unchanged": 1}

        assert requested(provider) == {
            "selectors.json 200": 1,
            "list-a.json 200": 1,
            "data/1-v1.json 304": 1,
        }


class Everything(FetchPolicy):
    """Wants every File in every Run."""

    def decide(
        self, found: DatasetResource, stored: Stored | None, *, now: datetime, forced: bool
    ) -> Fetch | Skip:
        return Fetch("everything", [Ask(file, "everything", True) for file in found.files])


async def test_a_policy_of_ones_own_is_asked_although_the_list_has_not_changed(
    world: ListWorld, open_lake: Open
) -> None:
    """
    What a policy decides for itself does not depend on what the provider announces.
    """
    world.set_list("a", {"id": 1}, token="t")
    world.set_data(1, {"x": 1})
    async with open_lake({"fetch_policy": f"{__name__}.Everything"}) as engine:
        assert outcome(await engine.run()) == {"stored": 1}
        assert outcome(await engine.run()) == {"unchanged": 1}


async def test_older_than_makes_the_list_worth_looking_at(
    world: ListWorld, provider: ProviderSimulator, open_lake: Open
) -> None:
    """
    A policy with an age looks at a list again once something that it listed is due.
    """
    world.set_list("a", {"id": 1}, token="t")
    world.set_data(1, {"x": 1})
    async with open_lake({"fetch_policy": "lists.AlwaysDue"}) as engine:
        await engine.run()
        requested(provider)

        summary = await engine.run()

        assert summary.selectors[0].reasons == {"older than": 1}
        assert requested(provider)["data/1-v1.json 304"] == 1


async def test_what_is_no_longer_listed_is_gone_but_kept(
    world: ListWorld, provider: ProviderSimulator, open_lake: Open
) -> None:
    """
    A list that shrinks deletes nothing: what it no longer lists is counted as gone, once.
    """
    world.set_list("a", {"id": 1}, {"id": 2}, token="t")
    world.set_data(1, {"x": 1})
    world.set_data(2, {"x": 2})
    async with open_lake() as engine:
        await engine.run()
        world.set_list("a", {"id": 1}, token="t")

        assert (await engine.run()).counters.gone == 1
        assert (await engine.run(force=True)).counters.gone == 0
        assert await engine.store.count() == 2


async def test_a_source_that_catches_everything_does_not_lose_its_datasets(
    world: ListWorld,
    provider: ProviderSimulator,
    open_lake: Open,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    A list that has not changed is no empty list, also where a Source catches what was to end it:
    nothing is gone.
    """
    honest = ListSource.discover_datasets

    async def catching(self: ListSource, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        with contextlib.suppress(Exception):
            async for resource in honest(self, *args, **kwargs):
                yield resource

    monkeypatch.setattr(ListSource, "discover_datasets", catching)
    world.set_list("a", {"id": 1}, token="t")
    world.set_data(1, {"x": 1})
    async with open_lake() as engine:
        await engine.run()

        summary = await engine.run()

        assert [each.status for each in summary.selectors] == ["unchanged"]
        assert summary.counters.gone == 0


async def test_a_list_that_goes_back_after_a_run_that_was_not_complete(
    world: ListWorld, open_lake: Open
) -> None:
    """
    A Run that saw another list and stored some of it may not be forgotten because that list has
    become what it was before: the next Run takes back what was taken back.
    """
    world.set_list("a", {"id": 1, "token": "t1"})
    world.set_data(1, {"x": 1})
    async with open_lake() as engine:
        assert (await engine.run()).exit_code == 0
        world.set_data(1, {"x": 2})
        world.set_list("a", {"id": 1, "token": "t2"}, {"no": "id"})
        assert (await engine.run()).counters.stored == 1

        world.set_data(1, {"x": 1})
        world.set_list("a", {"id": 1, "token": "t1"})
        assert outcome(await engine.run()) == {"stored": 1}

        [dataset] = [dataset async for dataset in engine.iter_datasets()]
        files = await engine.store.load_files(dataset)
        assert json.loads(await files.get_file("data").read_bytes()) == {"x": 1}
