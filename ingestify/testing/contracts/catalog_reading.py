"""Part of the Catalog's contract: history, failures, events and invalidation."""

from __future__ import annotations

import json

from ingestify.model.catalog import DatasetQuery
from ingestify.model.dataset import CheckOutcome, RevisionState, Suspicion
from ingestify.model.event import Event, EventType
from ingestify.ports import Catalog
from ingestify.testing.contracts.catalog_values import (
    NOON,
    PLACE,
    CatalogFixtures,
    begin_run,
    checked_file,
    commit_all,
    dataset_commit,
    failure_commit,
    key_of,
    minutes,
    stored_file,
    stored_match,
)


class ReadingContract(CatalogFixtures):
    """History, failures, events and invalidation."""

    async def test_revisions_hold_what_changed(self, catalog: Catalog) -> None:
        """
        The history of a Dataset is read oldest first; the current view is the newest of each File.
        """
        await commit_all(catalog, dataset_commit(1, stored_file("lineups"), stored_file()))
        second = dataset_commit(
            1, stored_file(body="b"), base=0, reason="token", run_id=2, at=minutes(1)
        )
        [made] = await commit_all(catalog, second)
        await commit_all(catalog, dataset_commit(2, stored_file()))

        first, last = await catalog.revisions(made.row_id or 0)
        assert (first.number, first.created_at, first.run_id) == (0, NOON, 1)
        assert [file.key for file in first.files] == [("events", "v1"), ("lineups", "v1")]
        assert (last.number, last.created_at, last.run_id) == (1, minutes(1), 2)
        assert (last.reason, last.state) == ("token", RevisionState.PENDING)
        assert [(file.key, file.revision) for file in last.files] == [(("events", "v1"), 1)]
        [dataset] = await catalog.find(DatasetQuery(identifier={"match_id": 1}))
        assert [file.revision for file in dataset.files] == [1, 0]
        assert await catalog.revisions(99) == []

    async def test_names_keep_the_order_of_the_source(self, catalog: Catalog) -> None:
        """
        An identity is read with its names in the order in which it was given, which decides
        nothing: in another order it is the same Dataset.
        """
        ordered = '{"season_id":90,"match_id":1}'
        key = key_of(1, season_id=90)
        await commit_all(catalog, dataset_commit(1, identifier_key=key, identifier=ordered))
        await commit_all(catalog, dataset_commit(1, identifier_key=key, identifier=key))

        [dataset] = await catalog.find(DatasetQuery())
        assert list(dataset.identifier) == ["season_id", "match_id"]
        assert dataset.identifier.key == key

    async def test_checks_are_those_that_planning_sees(self, catalog: Catalog) -> None:
        """
        The checks of a Dataset can be read in the order of feeds and versions.
        """
        absent = checked_file("lineups", CheckOutcome.ABSENT)
        [made] = await commit_all(catalog, dataset_commit(1, absent, stored_file()))

        checks = await catalog.checks(made.row_id or 0)
        stored = await stored_match(catalog, 1)
        assert [check.data_feed_key for check in checks] == ["events", "lineups"]
        assert checks == [file.check for _, file in sorted(stored.files.items())]
        assert await catalog.checks(99) == []

    async def test_a_failure_counts_until_a_later_success(self, catalog: Catalog) -> None:
        """
        Of everything that failed, the newest of each Dataset shows until it succeeded.
        """
        await commit_all(
            catalog,
            failure_commit(1, message="first", run_id=1),
            failure_commit(2, run_id=1),
            failure_commit("1", run_id=1),
        )
        await commit_all(catalog, failure_commit(1, message="second", run_id=2))

        told = [(each.identifier_key, each.message) for each in await catalog.failures()]
        assert told == [
            (key_of(1), "second"),
            (key_of("1"), "answered 500"),
            (key_of(2), "answered 500"),
        ]
        assert len(await catalog.failures(limit=2)) == 2
        await commit_all(catalog, dataset_commit(1, stored_file(), run_id=3))
        assert [each.identifier_key for each in await catalog.failures()] == [
            key_of("1"),
            key_of(2),
        ]
        assert [each.message for each in await catalog.failures(run_id=2)] == ["second"]
        assert len(await catalog.failures(run_id=1)) == 3

        await commit_all(catalog, failure_commit(1, message="third", run_id=4))
        assert [each.message for each in await catalog.failures(limit=1)] == ["third"]

    async def test_a_success_settles_its_own_place_alone(self, catalog: Catalog) -> None:
        """
        The same identity in another bucket may still have failed.
        """
        await commit_all(catalog, failure_commit(1), dataset_commit(1, bucket="test"))

        assert len(await catalog.failures()) == 1

    async def test_within_a_batch_the_later_word_counts(self, catalog: Catalog) -> None:
        """
        A failure and a success of one Dataset in one batch are as if one came after the other.
        """
        await commit_all(catalog, failure_commit(1), dataset_commit(1, stored_file()))
        assert await catalog.failures() == []

        await commit_all(
            catalog, dataset_commit(1, checked_file(), base=0), failure_commit(1, ("events", "v1"))
        )
        assert len(await catalog.failures()) == 1
        check = (await stored_match(catalog, 1)).files["events", "v1"].check
        assert check.outcome is CheckOutcome.FAILED

    async def test_a_conflict_settles_nothing(self, catalog: Catalog) -> None:
        """
        A commit that was left out does not make a failure disappear.
        """
        await commit_all(catalog, failure_commit(1))
        await catalog.commit([dataset_commit(1, base=3)], leases=[])

        assert len(await catalog.failures()) == 1

    async def test_a_failure_is_read_as_it_was_told(self, catalog: Catalog) -> None:
        """
        Everything that was said about a failure can be read back.
        """
        commit = failure_commit(
            1, name="Ajax", data_feed_key="events", selector="season=1", failed_at=minutes(1)
        )
        await commit_all(catalog, commit)

        assert await catalog.failures() == [commit.failure]

    async def test_a_failure_is_told_whatever_its_words(self, catalog: Catalog) -> None:
        """
        Text that is no Unicode does not keep a failure from being written down.
        """
        await commit_all(catalog, failure_commit(1, message="half \ud800", name="\udfff"))

        [told] = await catalog.failures()
        assert (told.message, told.name) == ("half \\ud800", "\\udfff")

    async def test_events_tell_what_happened_in_order(self, catalog: Catalog) -> None:
        """
        Every change of the lake is told once, in the order of commits.
        """
        await commit_all(catalog, dataset_commit(1))
        await commit_all(
            catalog,
            dataset_commit(1, stored_file("lineups"), stored_file(), at=minutes(1)),
            dataset_commit(2, stored_file(), at=minutes(1)),
        )
        both = dataset_commit(1, stored_file(body="b"), base=0, name="new", at=minutes(2))
        await commit_all(catalog, both)
        await commit_all(catalog, dataset_commit(1, checked_file(), base=1), failure_commit(1))
        details = dataset_commit(2, base=0, name="new", details_hash="new")
        await commit_all(catalog, details)

        one, two = await stored_match(catalog, 1), await stored_match(catalog, 2)
        events = await catalog.events()
        told = [(each.dataset_id, each.type, each.revision) for each in events]
        assert told == [
            (one.dataset_id, EventType.DATASET_CREATED, None),
            (one.dataset_id, EventType.REVISION_ADDED, 0),
            (two.dataset_id, EventType.DATASET_CREATED, None),
            (two.dataset_id, EventType.REVISION_ADDED, 0),
            (one.dataset_id, EventType.REVISION_ADDED, 1),
            (one.dataset_id, EventType.METADATA_UPDATED, 1),
            (two.dataset_id, EventType.METADATA_UPDATED, 0),
        ]
        assert [each.changed_feeds for each in events[:2]] == [(), ("lineups", "events")]
        assert [each.time for each in events[:2]] == [NOON, minutes(1)]
        assert {each.schema_version for each in events} == {1}
        assert json.loads(events[0].subject) == {**PLACE, "identifier": {"match_id": 1}}

    async def test_events_can_be_followed(self, catalog: Catalog) -> None:
        """
        Whoever remembers the last id he saw misses nothing and sees nothing twice.
        """
        seen: list[Event] = []
        after = 0
        for number in range(5):
            await commit_all(catalog, dataset_commit(number, stored_file()))
            while page := await catalog.events(after=after, limit=1):
                seen += page
                after = page[-1].id

        assert seen == list(await catalog.events())
        assert [each.id for each in seen] == sorted({each.id for each in seen})
        assert len(seen) == 10

    async def test_invalidation_marks_the_newest_revision(self, catalog: Catalog) -> None:
        """
        Only the newest Revision has failed, and only Files that it brought are suspect.
        """
        await commit_all(catalog, dataset_commit(1, stored_file("lineups"), stored_file()))
        [made] = await commit_all(catalog, dataset_commit(1, stored_file(body="b"), base=0))
        await commit_all(catalog, dataset_commit(2), dataset_commit(3, stored_file()))
        query = DatasetQuery(identifier={"match_id": [1, 2]})

        assert await catalog.invalidate(query, reason="wrong teams", at=minutes(5)) == 1

        first, last = await catalog.revisions(made.row_id or 0)
        assert (first.state, last.state) == (
            RevisionState.PENDING,
            RevisionState.VALIDATION_FAILED,
        )
        checks = await catalog.checks(made.row_id or 0)
        assert [(each.data_feed_key, each.suspect) for each in checks] == [
            ("events", Suspicion.INVALIDATED),
            ("lineups", Suspicion.NONE),
        ]
        assert not (await stored_match(catalog, 3)).files["events", "v1"].check.suspect
        event = (await catalog.events())[-1]
        assert (event.type, event.revision) == (EventType.REVISION_INVALIDATED, 1)
        assert (event.dataset_id, event.time) == (made.dataset_id, minutes(5))
        assert event.changed_feeds == ("events",)
        assert json.loads(event.subject) == {**PLACE, "identifier": {"match_id": 1}}

    async def test_invalidation_of_many_counts_each(self, catalog: Catalog) -> None:
        """
        However many Datasets a query finds, each is marked and told once.
        """
        await commit_all(catalog, *[dataset_commit(n, stored_file()) for n in range(1001)])
        before = len(await catalog.events(limit=9999))

        assert await catalog.invalidate(DatasetQuery(), reason="all", at=NOON) == 1001
        assert len(await catalog.events(limit=9999)) == before + 1001
        nothing = DatasetQuery(dataset_id="no such id")
        assert await catalog.invalidate(nothing, reason="none", at=NOON) == 0

    async def test_runs_do_not_mix(self, catalog: Catalog) -> None:
        """
        What failed in one Run is not what failed in another.
        """
        first, second = await begin_run(catalog), await begin_run(catalog)
        await commit_all(catalog, failure_commit(1, run_id=first))

        assert len(await catalog.failures(run_id=first)) == 1
        assert await catalog.failures(run_id=second) == []
