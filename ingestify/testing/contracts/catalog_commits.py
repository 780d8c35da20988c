"""Part of the Catalog's contract: what commits write, and what planning sees after them."""

from __future__ import annotations

import msgspec
import pytest

from ingestify.model.catalog import Committed, DatasetQuery
from ingestify.model.dataset import CheckOutcome, DatasetState, Suspicion
from ingestify.model.identity import Value
from ingestify.ports import Catalog
from ingestify.testing.contracts.catalog_values import (
    NOON,
    PLACE,
    CatalogFixtures,
    checked_file,
    commit_all,
    dataset_commit,
    failure_commit,
    key_of,
    look_up,
    minutes,
    stored_file,
    stored_match,
)

EVENTS, LINEUPS = ("events", "v1"), ("lineups", "v1")
BIG = 2**80 + 1


class CommitsContract(CatalogFixtures):
    """What commits write, and what planning sees after them."""

    async def test_a_new_dataset_has_revision_0(self, catalog: Catalog) -> None:
        """
        The first Files of a Dataset make its row and its Revision 0.
        """
        [made] = await commit_all(catalog, dataset_commit(1, stored_file(token="t", etag='"e"')))

        assert made.is_new
        assert made.revision == 0
        stored = await stored_match(catalog, 1)
        assert (stored.row_id, stored.dataset_id) == (made.row_id, made.dataset_id)
        assert (stored.revision, stored.details_hash) == (0, "details")
        file = stored.files[EVENTS]
        assert file.sha256 == "a" * 64
        assert (file.check.outcome, file.check.token) == (CheckOutcome.STORED, "t")
        assert (file.check.etag, file.check.last_modified) == ('"e"', None)
        assert (file.check.run_id, file.check.checked_at) == (1, NOON)
        assert (file.check.reason, file.check.suspect) == ("new", Suspicion.NONE)

    async def test_a_dataset_may_have_no_file(self, catalog: Catalog) -> None:
        """
        A Dataset without any File has no Revision, and gets Revision 0 with its first File.
        """
        [made] = await commit_all(catalog, dataset_commit(1))
        assert (made.is_new, made.revision) == (True, None)
        stored = await stored_match(catalog, 1)
        assert (stored.revision, dict(stored.files)) == (None, {})

        [filled] = await commit_all(catalog, dataset_commit(1, stored_file()))
        assert (filled.is_new, filled.revision) == (False, 0)
        assert filled.row_id == made.row_id

    async def test_look_up_answers_in_the_order_of_keys(self, catalog: Catalog) -> None:
        """
        Up to 1,000 keys are looked up at once; unknown ones are None, repeated ones repeat.
        """
        await commit_all(catalog, *[dataset_commit(n, stored_file()) for n in range(0, 600, 2)])
        numbers = [*range(600), *range(399, -1, -1)]
        found = await look_up(catalog, *[key_of(n) for n in numbers])

        assert [each is not None for each in found] == [n % 2 == 0 for n in numbers]
        by_number = {n: each.row_id for n, each in zip(numbers, found, strict=True) if each}
        assert len(set(by_number.values())) == 300
        assert all(
            each.row_id == by_number[n] for n, each in zip(numbers, found, strict=True) if each
        )
        first, last = found[0], found[-1]
        assert first == last
        assert first is not last
        assert await look_up(catalog) == []

    async def test_look_up_stays_in_its_place(self, catalog: Catalog) -> None:
        """
        The same key in another bucket, stage, provider or type is another Dataset.
        """
        await commit_all(catalog, dataset_commit(1, stored_file()))
        for name in PLACE:
            elsewhere = {**PLACE, name: "elsewhere"}
            assert await catalog.look_up(**elsewhere, keys=[key_of(1)]) == [None]
            [made] = await commit_all(
                catalog, msgspec.structs.replace(dataset_commit(1), **elsewhere)
            )
            assert made.is_new

    @pytest.mark.parametrize(
        ("one", "another"),
        [
            (1, "1"),
            ("é", "e\u0301"),
            ("A", "a"),
            (BIG, BIG + 1),
            (BIG, str(BIG)),
            ("", " "),
            (0, "0"),
        ],
    )
    async def test_identities_are_exact(self, catalog: Catalog, one: Value, another: Value) -> None:
        """
        Nothing about an identity is normalised, folded or rounded.
        """
        made = await commit_all(catalog, dataset_commit(one), dataset_commit(another))

        assert [each.is_new for each in made] == [True, True]
        assert (await stored_match(catalog, one)).row_id == made[0].row_id
        assert (await stored_match(catalog, another)).row_id == made[1].row_id

    async def test_new_bytes_make_the_next_revision(self, catalog: Catalog) -> None:
        """
        A Revision holds what changed; the checks of other Files stay as they were.
        """
        await commit_all(
            catalog, dataset_commit(1, stored_file(token="t1"), stored_file("lineups", token="t1"))
        )
        changed = stored_file(body="b", token="t2", reason="token")
        [made] = await commit_all(
            catalog, dataset_commit(1, changed, base=0, run_id=2, at=minutes(1))
        )

        assert made == Committed(row_id=made.row_id, dataset_id=made.dataset_id, revision=1)
        stored = await stored_match(catalog, 1)
        assert stored.revision == 1
        assert stored.files[EVENTS].sha256 == "b" * 64
        assert stored.files[EVENTS].check.token == "t2"
        assert stored.files[EVENTS].check.checked_at == minutes(1)
        assert stored.files[LINEUPS].sha256 == "a" * 64
        assert stored.files[LINEUPS].check.run_id == 1

    async def test_equal_bytes_renew_the_check_alone(self, catalog: Catalog) -> None:
        """
        A File that is unchanged keeps its bytes and Revision, and has a new token and time.
        """
        await commit_all(catalog, dataset_commit(1, stored_file(token="t1", etag='"1"')))
        events = await catalog.events()
        renewed = checked_file(token="t2", last_modified="Tuesday")
        [made] = await commit_all(
            catalog, dataset_commit(1, renewed, base=0, run_id=2, at=minutes(1))
        )

        assert (made.revision, made.is_new, made.details_changed) == (None, False, False)
        stored = await stored_match(catalog, 1)
        assert (stored.revision, stored.files[EVENTS].sha256) == (0, "a" * 64)
        check = stored.files[EVENTS].check
        assert (check.outcome, check.token, check.etag) == (CheckOutcome.UNCHANGED, "t2", None)
        assert (check.last_modified, check.reason) == ("Tuesday", "recheck")
        assert (check.run_id, check.checked_at) == (2, minutes(1))
        assert await catalog.events() == events

    async def test_an_absent_file_keeps_what_is_stored(self, catalog: Catalog) -> None:
        """
        A File that the provider has no more stays for readers; one it never had has no bytes.
        """
        await commit_all(catalog, dataset_commit(1, stored_file()))
        gone = checked_file("events", CheckOutcome.ABSENT, token="t2")
        never = checked_file("lineups", CheckOutcome.ABSENT)
        [made] = await commit_all(catalog, dataset_commit(1, gone, never, base=0))

        assert made.revision is None
        stored = await stored_match(catalog, 1)
        assert stored.files[EVENTS].check.outcome is CheckOutcome.ABSENT
        assert stored.files[EVENTS].is_stored
        assert not stored.files[LINEUPS].is_stored
        [dataset] = await catalog.find(DatasetQuery())
        assert [file.key for file in dataset.files] == [EVENTS]

    async def test_details_change_without_a_revision(self, catalog: Catalog) -> None:
        """
        A new name, state or metadata changes the Dataset and makes no Revision.
        """
        await commit_all(catalog, dataset_commit(1, stored_file(), state=DatasetState.PARTIAL))
        changed = dataset_commit(
            1, base=0, name="final", metadata=b'{"x":1}', details_hash="other", at=minutes(1)
        )
        [made] = await commit_all(catalog, changed)

        assert (made.revision, made.details_changed) == (None, True)
        [dataset] = await catalog.find(DatasetQuery())
        assert (dataset.name, dataset.state) == ("final", DatasetState.COMPLETE)
        assert dataset.metadata == {"x": 1}
        assert (dataset.revision, len(dataset.files)) == (0, 1)
        assert (dataset.created_at, dataset.updated_at) == (NOON, minutes(1))
        assert (await stored_match(catalog, 1)).details_hash == "other"
        [revision] = await catalog.revisions(dataset.row_id)
        assert revision.metadata == {"competition_id": 11, "home": "Ajax"}

    async def test_equal_details_are_no_change(self, catalog: Catalog) -> None:
        """
        Where a Source gives the same in another way its hash is kept, and nothing is told.
        """
        await commit_all(catalog, dataset_commit(1, stored_file()))
        again = dataset_commit(1, checked_file(), base=0, details_hash="new", at=minutes(1))
        [made] = await commit_all(catalog, again)

        assert not made.details_changed
        assert (await stored_match(catalog, 1)).details_hash == "new"
        [dataset] = await catalog.find(DatasetQuery())
        assert dataset.updated_at == NOON

    async def test_details_of_a_hook_stay_until_there_is_something_new(
        self, catalog: Catalog
    ) -> None:
        """
        What was set from a File's content is not undone by a look that brought no new bytes.
        """
        await commit_all(catalog, dataset_commit(1, stored_file(), name="read from the File"))
        await commit_all(catalog, dataset_commit(1, checked_file(), base=0, name="from the list"))
        [dataset] = await catalog.find(DatasetQuery())
        assert dataset.name == "read from the File"

        newer = dataset_commit(1, stored_file(body="b"), base=0, name="read from the new File")
        [made] = await commit_all(catalog, newer)
        assert made.details_changed
        [dataset] = await catalog.find(DatasetQuery())
        assert dataset.name == "read from the new File"

    async def test_new_files_move_updated_at(self, catalog: Catalog) -> None:
        """
        A Dataset is updated when its Files are, and not when they were found unchanged.
        """
        await commit_all(catalog, dataset_commit(1, stored_file()))
        await commit_all(catalog, dataset_commit(1, checked_file(), base=0, at=minutes(1)))
        [dataset] = await catalog.find(DatasetQuery())
        assert dataset.updated_at == NOON

        changed = dataset_commit(1, stored_file(body="b"), base=0, at=minutes(2))
        await commit_all(catalog, changed)
        [dataset] = await catalog.find(DatasetQuery())
        assert (dataset.created_at, dataset.updated_at) == (NOON, minutes(2))

    async def test_a_failure_marks_the_files_it_is_about(self, catalog: Catalog) -> None:
        """
        A failed File keeps its bytes, token and validators, and is known to have failed.
        """
        file = stored_file(token="t1", etag='"1"', last_modified="Monday")
        [made] = await commit_all(catalog, dataset_commit(1, file, stored_file("lineups")))
        failed = failure_commit(1, EVENTS, ("unknown", "v1"), run_id=2, failed_at=minutes(1))
        [told] = await commit_all(catalog, failed)

        assert (told.row_id, told.dataset_id) == (made.row_id, made.dataset_id)
        stored = await stored_match(catalog, 1)
        check = stored.files[EVENTS].check
        assert check.outcome is CheckOutcome.FAILED
        assert (check.token, check.etag, check.last_modified) == ("t1", '"1"', "Monday")
        assert (check.run_id, check.checked_at) == (2, minutes(1))
        assert stored.files[EVENTS].is_stored
        assert stored.files[LINEUPS].check.outcome is CheckOutcome.STORED
        assert set(stored.files) == {EVENTS, LINEUPS}
        [dataset] = await catalog.find(DatasetQuery())
        assert len(dataset.files) == 2

    async def test_what_is_not_stored_can_fail(self, catalog: Catalog) -> None:
        """
        A Dataset that failed before it was ever stored leaves a failure and no Dataset.
        """
        [told] = await commit_all(catalog, failure_commit(1, EVENTS))

        assert told == Committed(row_id=None)
        assert await look_up(catalog, key_of(1)) == [None]
        assert len(await catalog.failures()) == 1
        assert await catalog.events() == []

    async def test_a_commit_clears_suspicion(self, catalog: Catalog) -> None:
        """
        An invalidated File that was asked for again is not suspect any more.
        """
        await commit_all(catalog, dataset_commit(1, stored_file(), stored_file("lineups")))
        await catalog.invalidate(DatasetQuery(), reason="wrong", at=NOON)
        await commit_all(catalog, dataset_commit(1, checked_file(), base=0))

        files = (await stored_match(catalog, 1)).files
        assert not files[EVENTS].check.suspect
        assert files[LINEUPS].check.suspect

    async def test_an_empty_batch_is_nothing(self, catalog: Catalog) -> None:
        """
        Committing nothing is possible and does nothing.
        """
        assert await catalog.commit([], leases=[]) == []
