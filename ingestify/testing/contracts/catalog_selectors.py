"""Part of the Catalog's contract: what is known of Selectors, and what they list."""

from __future__ import annotations

import msgspec
import pytest

from ingestify.errors import CatalogError
from ingestify.model.catalog import DatasetQuery, ListValidators, SelectorState
from ingestify.model.dataset import CheckOutcome
from ingestify.model.run import Counters, SelectorStatus
from ingestify.ports import Catalog
from ingestify.testing.contracts.catalog_values import (
    NOON,
    SCOPE,
    CatalogFixtures,
    begin_run,
    checked_file,
    closing,
    commit_all,
    completion,
    dataset_commit,
    failure,
    failure_commit,
    minutes,
    stored_file,
)

VALIDATORS = ListValidators(url="https://acme.test/matches", etag='"1"', last_modified="Monday")


class SelectorsContract(CatalogFixtures):
    """What is known of Selectors, and what they list."""

    async def begin(self, catalog: Catalog, token: str | None = None) -> tuple[int, SelectorState]:
        """A SelectorRun in a Run of its own."""
        run_id = await begin_run(catalog)
        state = await catalog.begin_selector(
            SCOPE, run_id=run_id, name="Season 1", token=token, at=NOON
        )
        return run_id, state

    async def list_matches(self, catalog: Catalog, *row_ids: int) -> int:
        """A Run that met just these. Returns how many are newly gone."""
        run_id, state = await self.begin(catalog)
        return await catalog.finish_selector(closing(state, completion(row_ids), run_id=run_id))

    async def test_nothing_is_known_of_a_selector_before_its_first_run(
        self, catalog: Catalog
    ) -> None:
        """
        A Selector without a SelectorRun has no state, and nothing of it is unsettled.
        """
        assert await catalog.selector_state(SCOPE) is None
        assert not await catalog.has_unsettled(SCOPE, older_than=minutes(9))

    async def test_a_selector_run_opens_with_the_selectors_state(self, catalog: Catalog) -> None:
        """
        At first a Selector has its token, the Run that saw it, and nothing else.
        """
        run_id, state = await self.begin(catalog, "t1")

        assert (state.token, state.token_run_id) == ("t1", run_id)
        assert (state.complete_token, state.fingerprint, state.validators) == (None, None, None)
        assert state.state == {}
        assert await catalog.selector_state(SCOPE) == state

    async def test_a_token_that_differs_was_first_seen_in_this_run(self, catalog: Catalog) -> None:
        """
        Tokens are opaque: another one counts as new, also one that was seen long ago.
        """
        first, _ = await self.begin(catalog, "t1")
        _, again = await self.begin(catalog, "t1")
        third, other = await self.begin(catalog, "t0")
        fourth, back = await self.begin(catalog, "t1")

        assert (again.token, again.token_run_id) == ("t1", first)
        assert (other.token, other.token_run_id) == ("t0", third)
        assert (back.token, back.token_run_id) == ("t1", fourth)

    async def test_no_token_never_differs(self, catalog: Catalog) -> None:
        """
        A Selector without a token keeps the one it had; one that never had any announces nothing.
        """
        _, never = await self.begin(catalog, None)
        second, _ = await self.begin(catalog, "t1")
        _, kept = await self.begin(catalog, None)

        assert (never.token, never.token_run_id) == (None, 0)
        assert (kept.token, kept.token_run_id) == ("t1", second)

    async def test_a_clean_completion_is_relied_on(self, catalog: Catalog) -> None:
        """
        After a complete and clean Run its token, plan, validators and cursor are known.
        """
        run_id, state = await self.begin(catalog, "t1")
        completed = completion([], validators=VALIDATORS, state={"after": [1, "é"]})
        await catalog.finish_selector(closing(state, completed, run_id=run_id))

        after = await catalog.selector_state(SCOPE)
        assert after is not None
        assert after.complete_token == "t1"
        assert after.fingerprint == "plan"
        assert after.validators == VALIDATORS
        assert after.state == {"after": [1, "é"]}

    async def test_a_completion_that_is_not_clean_is_not_relied_on(self, catalog: Catalog) -> None:
        """
        Where something failed the next list is asked for as a whole, from the old cursor.
        """
        run_id, state = await self.begin(catalog, "t1")
        completed = completion([], validators=VALIDATORS)
        await catalog.finish_selector(closing(state, completed, run_id=run_id))

        run_id, state = await self.begin(catalog, "t2")
        unclean = msgspec.structs.replace(completed, clean=False, state={"page": 99})
        await catalog.finish_selector(closing(state, unclean, run_id=run_id))

        after = await catalog.selector_state(SCOPE)
        assert after is not None
        assert after.complete_token == "t2"
        assert (after.fingerprint, after.validators) == (None, None)
        assert after.state == {"page": 7}

    async def test_without_a_completion_nothing_changes(self, catalog: Catalog) -> None:
        """
        A SelectorRun that was stopped or failed leaves state and listing as they were; only what
        the last complete Run had is not relied on any more.
        """
        [match] = await commit_all(catalog, dataset_commit(1, stored_file()))
        await self.list_matches(catalog, match.row_id or 0)
        before = await catalog.selector_state(SCOPE)
        assert before is not None

        run_id, state = await self.begin(catalog)
        assert await catalog.finish_selector(closing(state, None, run_id=run_id)) == 0

        after = await catalog.selector_state(SCOPE)
        assert after is not None
        assert before.run_id < after.run_id == run_id
        assert msgspec.structs.replace(after, selector_run_id=0, run_id=0) == (
            msgspec.structs.replace(before, selector_run_id=0, run_id=0, fingerprint=None)
        )
        assert await self.list_matches(catalog) == 1

    async def test_an_unchanged_list_keeps_listing_and_validators(self, catalog: Catalog) -> None:
        """
        A list that answers "not modified" lists what it listed before.
        """
        [match] = await commit_all(catalog, dataset_commit(1, stored_file()))
        run_id, state = await self.begin(catalog)
        completed = completion([match.row_id or 0], validators=VALIDATORS)
        await catalog.finish_selector(closing(state, completed, run_id=run_id))

        run_id, state = await self.begin(catalog)
        unchanged = closing(state, completion(None), run_id=run_id, status=SelectorStatus.UNCHANGED)
        assert await catalog.finish_selector(unchanged) == 0

        after = await catalog.selector_state(SCOPE)
        assert after is not None
        assert (after.fingerprint, after.validators) == ("plan", VALIDATORS)
        assert await self.list_matches(catalog) == 1

    async def test_what_is_begun_and_not_completed_leaves_nothing_to_rely_on(
        self, catalog: Catalog
    ) -> None:
        """
        A Run that has begun may store what the list says meanwhile: unless it is complete, the
        next one must not take "not modified" for an answer.
        """
        run_id, state = await self.begin(catalog)
        await catalog.finish_selector(
            closing(state, completion([], validators=VALIDATORS), run_id=run_id)
        )
        _, begun = await self.begin(catalog)
        assert (begun.fingerprint, begun.validators) == ("plan", VALIDATORS)

        _, after = await self.begin(catalog)
        assert after.fingerprint is None

    async def test_a_dataset_is_newly_gone_once(self, catalog: Catalog) -> None:
        """
        What is not listed any more is counted as gone in one Run, and again after a return.
        """
        made = await commit_all(catalog, *[dataset_commit(n, stored_file()) for n in (1, 2, 3)])
        one, two, three = [each.row_id or 0 for each in made]

        assert await self.list_matches(catalog, one, two, three) == 0
        assert await self.list_matches(catalog, two) == 2
        assert await self.list_matches(catalog, two) == 0
        assert await self.list_matches(catalog, one, two) == 0
        assert await self.list_matches(catalog) == 2

    async def test_listings_of_selectors_are_their_own(self, catalog: Catalog) -> None:
        """
        A Dataset that two Selectors list can be gone from one of them alone.
        """
        [match] = await commit_all(catalog, dataset_commit(1, stored_file()))
        await self.list_matches(catalog, match.row_id or 0)
        elsewhere = msgspec.structs.replace(SCOPE, selector_key='{"season":"1"}')
        run_id = await begin_run(catalog)
        state = await catalog.begin_selector(
            elsewhere, run_id=run_id, name=None, token=None, at=NOON
        )
        ending = closing(state, completion([]), run_id=run_id, scope=elsewhere)

        assert await catalog.finish_selector(ending) == 0
        assert await self.list_matches(catalog) == 1

    async def test_closing_an_unknown_selector_run_is_an_error(self, catalog: Catalog) -> None:
        """
        What a SelectorRun leaves behind is not lost in silence.
        """
        run_id, state = await self.begin(catalog)
        with pytest.raises(CatalogError):
            await catalog.finish_selector(closing(state, completion([]), run_id=run_id + 1))

        after = await catalog.selector_state(SCOPE)
        assert after is not None
        assert after.fingerprint is None

    async def test_a_state_that_is_no_json_changes_nothing(self, catalog: Catalog) -> None:
        """
        A cursor that cannot be kept is an error, and the SelectorRun stays open.
        """
        run_id, state = await self.begin(catalog)
        bad = closing(
            state, completion([], state={"at": object()}), run_id=run_id, failures=[failure(None)]
        )
        with pytest.raises(CatalogError):
            await catalog.finish_selector(bad)

        assert await catalog.failures(run_id=run_id) == []
        assert await catalog.finish_selector(closing(state, completion([]), run_id=run_id)) == 0

    async def test_counters_given_are_not_touched(self, catalog: Catalog) -> None:
        """
        Whoever closes a SelectorRun keeps its counters as they are.
        """
        made = await commit_all(catalog, dataset_commit(1, stored_file()))
        await self.list_matches(catalog, made[0].row_id or 0)
        counters = Counters(listed=2, skipped=2)

        run_id, state = await self.begin(catalog)
        ending = closing(state, completion([]), run_id=run_id, counters=counters)
        assert await catalog.finish_selector(ending) == 1
        assert counters == Counters(listed=2, skipped=2)

    async def test_failed_suspect_and_old_files_are_unsettled(self, catalog: Catalog) -> None:
        """
        A list cannot be skipped while a File that it lists has to be asked for anyway.
        """
        made = await commit_all(catalog, *[dataset_commit(n, stored_file()) for n in (1, 2)])
        await self.list_matches(catalog, *[each.row_id or 0 for each in made])
        assert not await catalog.has_unsettled(SCOPE, older_than=None)
        assert not await catalog.has_unsettled(SCOPE, older_than=NOON)
        assert await catalog.has_unsettled(SCOPE, older_than=minutes(1))

        await commit_all(catalog, failure_commit(1, ("events", "v1")))
        assert await catalog.has_unsettled(SCOPE, older_than=None)

        await commit_all(catalog, dataset_commit(1, checked_file(), base=0))
        assert not await catalog.has_unsettled(SCOPE, older_than=None)

        query = DatasetQuery(identifier={"match_id": 2})
        assert await catalog.invalidate(query, reason="wrong teams", at=NOON) == 1
        assert await catalog.has_unsettled(SCOPE, older_than=None)

    async def test_what_is_gone_is_not_unsettled(self, catalog: Catalog) -> None:
        """
        A File that failed and is not listed any more does not keep its list from being skipped.
        """
        [match] = await commit_all(catalog, dataset_commit(1, stored_file()))
        await self.list_matches(catalog, match.row_id or 0)
        await commit_all(catalog, failure_commit(1, ("events", "v1")))
        await self.list_matches(catalog)

        assert not await catalog.has_unsettled(SCOPE, older_than=None)

    async def test_an_absent_file_is_settled(self, catalog: Catalog) -> None:
        """
        A File that the provider does not have is asked for again when its token changes only.
        """
        absent = checked_file("lineups", CheckOutcome.ABSENT)
        [match] = await commit_all(catalog, dataset_commit(1, stored_file(), absent))
        await self.list_matches(catalog, match.row_id or 0)

        assert not await catalog.has_unsettled(SCOPE, older_than=None)

    async def test_a_selectors_failures_are_those_of_its_newest_run(self, catalog: Catalog) -> None:
        """
        A refused record shows until the Selector was looked at again, whatever the Run's failures.
        """
        run_id, state = await self.begin(catalog)
        refused = failure(None, code="record", run_id=0, failed_at=None)
        ending = closing(state, completion([]), run_id=run_id, failures=[refused, refused])
        await catalog.finish_selector(ending)

        told = msgspec.structs.replace(refused, run_id=run_id, failed_at=NOON)
        assert await catalog.failures() == [told, told]

        later, state = await self.begin(catalog)
        assert await catalog.failures() == [told, told]
        await catalog.finish_selector(closing(state, completion([]), run_id=later))
        assert await catalog.failures() == []
        assert await catalog.failures(run_id=run_id) == [told, told]

    async def test_a_list_that_was_seen_settles_what_failed_before(self, catalog: Catalog) -> None:
        """
        A Dataset that failed in a Selector counts until a later Run has seen its whole list, be it
        up to date now or not listed any more. What fails in that Run counts.
        """
        first, state = await self.begin(catalog)
        place = {"selector_run_id": state.selector_run_id}
        await commit_all(catalog, *[failure_commit(n, run_id=first, **place) for n in (1, 2)])
        await catalog.finish_selector(closing(state, completion([]), run_id=first))
        assert len(await catalog.failures()) == 2

        stopped, state = await self.begin(catalog)
        await catalog.finish_selector(closing(state, None, run_id=stopped))
        assert len(await catalog.failures()) == 2

        later, state = await self.begin(catalog)
        place = {"selector_run_id": state.selector_run_id}
        await commit_all(catalog, failure_commit(2, run_id=later, **place))
        await catalog.finish_selector(closing(state, completion([]), run_id=later))
        assert [each.run_id for each in await catalog.failures()] == [later]
        assert len(await catalog.failures(run_id=first)) == 2

    async def test_selectors_that_are_not_wanted_any_more_have_not_failed(
        self, catalog: Catalog
    ) -> None:
        """
        What failed in a Selector, or in its Datasets, counts while that Selector is wanted.
        """
        run_id, state = await self.begin(catalog)
        place = {"selector_run_id": state.selector_run_id}
        await commit_all(catalog, failure_commit(1, run_id=run_id, **place))
        refused = failure(None, code="record", run_id=0, failed_at=None)
        await catalog.finish_selector(closing(state, None, run_id=run_id, failures=[refused]))
        scope = {name: getattr(SCOPE, name) for name in ("bucket", "source", "dataset_type")}
        others: list[tuple[dict[str, str], list[str], int]] = [
            (scope, [SCOPE.selector_key, "{}"], run_id + 1),
            (scope, [], run_id),
            *(({**scope, name: "other"}, [], run_id + 1) for name in scope),
        ]
        for where, wanted, at in others:
            await catalog.settle_failures(**where, selector_keys=wanted, run_id=at)
        assert len(await catalog.failures()) == 2

        await catalog.settle_failures(**scope, selector_keys=["{}"], run_id=run_id + 1)
        assert await catalog.failures() == []
