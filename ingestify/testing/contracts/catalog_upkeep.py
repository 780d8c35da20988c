"""Part of the Catalog's contract: damage, deletion, and what should lie in the lake."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

from ingestify.model.catalog import (
    CheckedFile,
    Committed,
    Conflict,
    DatasetQuery,
    Deleted,
    KeptFile,
    ListValidators,
    Rejected,
)
from ingestify.model.dataset import CheckOutcome, Suspicion
from ingestify.model.event import EventType
from ingestify.ports import Catalog
from ingestify.testing.contracts.catalog_values import (
    NOON,
    SCOPE,
    CatalogFixtures,
    Opener,
    begin_run,
    checked_file,
    closing,
    commit_all,
    commit_one,
    completion,
    dataset_commit,
    failure_commit,
    key_of,
    look_up,
    minutes,
    stored_file,
    stored_match,
)

EVENTS, LINEUPS = ("events", "v1"), ("lineups", "v1")
ALL = DatasetQuery()


def restored_file(feed: str = "events", body: str = "a") -> CheckedFile:
    """A File whose bytes are *body* again, somewhere else."""
    file = stored_file(feed, body, outcome=CheckOutcome.RESTORED)
    assert file.new is not None
    new = msgspec.structs.replace(
        file.new, path=f"acme/{feed}.again", codec="", stored_size=7, stored_sha256="7" * 64
    )
    return msgspec.structs.replace(file, new=new)


async def kept(catalog: Catalog, query: DatasetQuery = ALL) -> Sequence[KeptFile]:
    """Every File that *query* finds."""
    return await catalog.kept_files(query)


async def mark_damaged(catalog: Catalog, path: str) -> None:
    """Mark the File at *path* as damaged."""
    [file] = [each for each in await kept(catalog) if each.file.path == path]
    await catalog.mark_files(damaged=[file.row_id], sound=[])


class UpkeepContract(CatalogFixtures):
    """Damage, deletion, and what should lie in the lake."""

    async def test_every_file_of_every_revision_is_kept(self, catalog: Catalog) -> None:
        """
        With whose it is, and whether it is the newest of its kind; in pages, by row id.
        """
        await commit_all(catalog, dataset_commit(1, stored_file(), stored_file("lineups")))
        await commit_all(catalog, dataset_commit(2, stored_file()))
        await commit_all(catalog, dataset_commit(1, stored_file(body="b"), base=0))

        files = await kept(catalog)

        assert [(each.identifier_key, each.file.key, each.revision) for each in files] == [
            (key_of(1), EVENTS, 0),
            (key_of(1), LINEUPS, 0),
            (key_of(2), EVENTS, 0),
            (key_of(1), EVENTS, 1),
        ]
        assert [each.is_current for each in files] == [False, True, True, True]
        assert not any(each.is_damaged for each in files)
        stored = await stored_match(catalog, 2)
        assert (files[2].dataset_row_id, files[2].dataset_id) == (stored.row_id, stored.dataset_id)
        assert (files[2].provider, files[2].dataset_type) == ("acme", "match")
        assert files[2].name == "match 2"
        assert files[3].file == (await catalog.revisions(files[3].dataset_row_id))[1].files[0]
        pages = [await catalog.kept_files(ALL, limit=3)]
        pages.append(await catalog.kept_files(ALL, after=pages[0][-1].row_id, limit=3))
        assert [*pages[0], *pages[1]] == files
        some = DatasetQuery(identifier={"match_id": 2})
        assert await kept(catalog, some) == [files[2]]
        assert await kept(catalog, DatasetQuery(dataset_id="nobody")) == []
        wanted = [files[3].row_id, files[1].row_id, files[3].row_id + 1]
        assert await catalog.files_by_row_id(wanted) == [files[1], files[3]]
        assert await catalog.files_by_row_id([]) == []
        assert await catalog.count_files(ALL) == (4, 4 * 21)
        assert await catalog.count_files(some) == (1, 21)
        assert await catalog.count_files(DatasetQuery(dataset_id="nobody")) == (0, 0)

    async def test_damage_is_marked_at_current_files(self, catalog: Catalog) -> None:
        """
        Where a newer File has followed there is nothing that could be asked for.
        """
        await commit_all(catalog, dataset_commit(1, stored_file(), stored_file("lineups")))
        await commit_all(catalog, dataset_commit(1, stored_file(body="b"), base=0))
        old, lineups, events = await kept(catalog)

        await catalog.mark_files(damaged=[old.row_id, lineups.row_id], sound=[])

        stored = await stored_match(catalog, 1)
        assert stored.files[EVENTS].check.suspect is Suspicion.NONE
        assert stored.files[EVENTS].damaged_path is None
        assert stored.files[LINEUPS].check.suspect is Suspicion.DAMAGED
        assert stored.files[LINEUPS].damaged_path == lineups.file.path
        assert (stored.files[EVENTS].is_stored, stored.files[LINEUPS].is_stored) == (True, False)
        checks = await catalog.checks(stored.row_id)
        assert [each.suspect for each in checks] == [Suspicion.NONE, Suspicion.DAMAGED]
        assert [each.is_damaged for each in await kept(catalog)] == [False, True, False]

        await catalog.mark_files(damaged=[], sound=[lineups.row_id, events.row_id])
        assert not (await stored_match(catalog, 1)).files[LINEUPS].check.suspect

    async def test_what_was_invalidated_stays_so(self, catalog: Catalog) -> None:
        """
        Sound bytes may be wrong all the same; and damaged ones are not healed by being wrong.
        """
        await commit_all(catalog, dataset_commit(1, stored_file(), stored_file("lineups")))
        events, lineups = await kept(catalog)
        await catalog.mark_files(damaged=[lineups.row_id], sound=[])
        await catalog.invalidate(ALL, reason="wrong", at=NOON)
        await catalog.mark_files(damaged=[], sound=[events.row_id])

        files = (await stored_match(catalog, 1)).files
        assert files[EVENTS].check.suspect is Suspicion.INVALIDATED
        assert files[LINEUPS].check.suspect is Suspicion.DAMAGED

    @pytest.mark.parametrize("outcome", [CheckOutcome.UNCHANGED, CheckOutcome.ABSENT])
    async def test_damage_stays_until_bytes_come(
        self, catalog: Catalog, outcome: CheckOutcome
    ) -> None:
        """
        Whatever a provider says, and however a request fails, nothing is there that could be read.
        """
        await commit_all(catalog, dataset_commit(1, stored_file()))
        await mark_damaged(catalog, "acme/events.a.json.gz")
        await commit_all(catalog, dataset_commit(1, checked_file(outcome=outcome), base=0))
        await commit_all(catalog, failure_commit(1, EVENTS))

        file = (await stored_match(catalog, 1)).files[EVENTS]
        assert (file.check.suspect, file.is_stored) == (Suspicion.DAMAGED, False)

        await commit_all(catalog, dataset_commit(1, stored_file(body="b"), base=0))
        file = (await stored_match(catalog, 1)).files[EVENTS]
        assert (file.check.suspect, file.is_stored) == (Suspicion.NONE, True)
        assert [each.is_damaged for each in await kept(catalog)] == [False, False]

    async def test_restored_bytes_make_no_revision(self, catalog: Catalog) -> None:
        """
        The File stays what it was, and lies somewhere else; nobody needs to be told.
        """
        await commit_all(catalog, dataset_commit(1, stored_file(), stored_file("lineups")))
        await commit_all(catalog, dataset_commit(1, stored_file("lineups", "b"), base=0))
        await mark_damaged(catalog, "acme/events.a.json.gz")
        told = await catalog.events()
        before = await stored_match(catalog, 1)

        again = dataset_commit(1, restored_file(), base=1, at=minutes(1), row_id=before.row_id)
        [result] = await commit_all(catalog, again)

        assert result == Committed(row_id=before.row_id, dataset_id=before.dataset_id)
        assert await catalog.events() == told
        file = (await stored_match(catalog, 1)).files[EVENTS]
        assert (file.sha256, file.damaged_path, file.is_stored) == ("a" * 64, None, True)
        assert (file.check.outcome, file.check.checked_at) == (CheckOutcome.RESTORED, minutes(1))
        revisions = await catalog.revisions(before.row_id)
        [first, lineups] = revisions[0].files
        assert (first.path, first.codec) == ("acme/events.again", "")
        assert (first.stored_size, first.stored_sha256) == (7, "7" * 64)
        assert (first.sha256, first.size, first.revision) == ("a" * 64, 1, 0)
        assert lineups.path == "acme/lineups.a.json.gz"
        [dataset] = await catalog.find(ALL)
        assert (dataset.files[0], dataset.revision) == (first, 1)
        assert dataset.updated_at == NOON
        assert first in [each.file for each in await kept(catalog)]

    async def test_other_bytes_restore_nothing(self, catalog: Catalog) -> None:
        """
        The File of a Revision never changes its content; new bytes need the right outcome.
        """
        await commit_all(catalog, dataset_commit(1, stored_file()))
        await commit_all(catalog, dataset_commit(1, restored_file(body="b"), base=0))
        [file] = await kept(catalog)
        assert file.file.path == "acme/events.a.json.gz"
        nothing = checked_file(outcome=CheckOutcome.RESTORED)
        result = await commit_one(catalog, dataset_commit(1, nothing, base=0))
        assert isinstance(result, Rejected)

    async def test_damage_is_unsettled(self, catalog: Catalog) -> None:
        """
        A list that has not changed says nothing about our bytes.
        """
        [made] = await commit_all(catalog, dataset_commit(1, stored_file()))
        run_id = await begin_run(catalog)
        state = await catalog.begin_selector(SCOPE, run_id=run_id, name=None, token=None, at=NOON)
        await catalog.finish_selector(closing(state, completion([made.row_id or 0]), run_id=run_id))
        assert not await catalog.has_unsettled(SCOPE, older_than=None)
        await mark_damaged(catalog, "acme/events.a.json.gz")
        assert await catalog.has_unsettled(SCOPE, older_than=None)

    async def test_referenced_paths_are_told_from_others(self, catalog: Catalog) -> None:
        """
        Those of older Revisions are referenced, too.
        """
        await commit_all(catalog, dataset_commit(1, stored_file()))
        await commit_all(catalog, dataset_commit(1, stored_file(body="b"), base=0))
        paths = ["acme/events.b.json.gz", "acme/events.a.json.gz", "x", "acme/events.a", ""]
        assert await catalog.referenced(paths) == set(paths[:2])
        assert await catalog.referenced([]) == set()
        many = [f"path/{number}" for number in range(50_000)]
        assert await catalog.referenced([*many, paths[0]]) == {paths[0]}

    async def test_a_catalog_has_a_name_of_its_own(
        self, catalog: Catalog, open_catalog: Opener
    ) -> None:
        """
        It never changes.
        """
        name = await catalog.catalog_id()
        assert len(name) == 32
        assert await catalog.catalog_id() == name
        async with open_catalog() as again:
            assert await again.catalog_id() == name

    async def test_lists_of_datasets_are_known(self, catalog: Catalog) -> None:
        """
        Also where they do not list them any more.
        """
        first, second = await commit_all(catalog, dataset_commit(1), dataset_commit(2))
        rows = [first.row_id or 0, second.row_id or 0]
        for listed in ([rows[0]], []):
            run_id = await begin_run(catalog)
            state = await catalog.begin_selector(
                SCOPE, run_id=run_id, name=None, token=None, at=NOON
            )
            await catalog.finish_selector(closing(state, completion(listed), run_id=run_id))
        assert await catalog.listed_in(rows) == {rows[0]: [SCOPE.selector_key], rows[1]: []}

    async def test_a_deleted_dataset_is_gone_with_all_it_had(self, catalog: Catalog) -> None:
        """
        Its paths are doomed, its failures are resolved, and an event tells it; others stay.
        """
        await commit_all(catalog, *[dataset_commit(n, stored_file(body=b)) for n, b in PAIRS])
        await commit_all(catalog, dataset_commit(1, stored_file(body="c"), base=0))
        await commit_all(catalog, failure_commit(1, EVENTS), failure_commit(2, EVENTS))
        first, other = await stored_match(catalog, 1), await stored_match(catalog, 2)
        told = len(await catalog.events())

        query = DatasetQuery(identifier={"match_id": 1})
        deleted = await catalog.delete(query, at=minutes(3))

        assert deleted == Deleted(datasets=1, files=2, bytes=42)
        assert await look_up(catalog, key_of(1)) == [None]
        assert await stored_match(catalog, 2) == other
        assert await catalog.get(first.dataset_id) is None
        assert (await catalog.revisions(first.row_id), await catalog.checks(first.row_id)) == (
            [],
            [],
        )
        assert [each.identifier_key for each in await catalog.failures()] == [key_of(2)]
        [event] = (await catalog.events())[told:]
        assert (event.type, event.dataset_id) == (EventType.DATASET_DELETED, first.dataset_id)
        assert (event.revision, event.time, event.changed_feeds) == (1, minutes(3), ())
        assert '"match_id":1' in event.subject
        paths = ["acme/events.a.json.gz", "acme/events.c.json.gz"]
        assert await catalog.doomed() == paths
        assert await catalog.doomed(limit=1) == paths[:1]
        assert await catalog.doomed(after=paths[0]) == paths[1:]
        assert await catalog.referenced(paths) == set()
        await catalog.forget_doomed(paths[:1])
        assert await catalog.doomed() == paths[1:]
        assert await catalog.delete(query, at=NOON) == Deleted(datasets=0, files=0, bytes=0)

    async def test_a_deleted_row_id_is_never_used_again(self, catalog: Catalog) -> None:
        """
        Whoever still has it must not mean another Dataset by it.
        """
        [made] = await commit_all(catalog, dataset_commit(1, stored_file()))
        await catalog.delete(ALL, at=NOON)
        [again] = await commit_all(catalog, dataset_commit(1, stored_file()))
        assert (again.is_new, again.revision) == (True, 0)
        assert (again.row_id or 0) > (made.row_id or 0)
        assert again.dataset_id != made.dataset_id

    async def test_a_commit_on_a_deleted_dataset_is_a_conflict(self, catalog: Catalog) -> None:
        """
        Also where another Dataset has the same identity, and the same Revision, by now.
        """
        [made, empty] = await commit_all(
            catalog, dataset_commit(1, stored_file()), dataset_commit(2)
        )
        late = dataset_commit(1, checked_file(), base=0, row_id=made.row_id)
        late_too = dataset_commit(2, stored_file(), row_id=empty.row_id)
        await catalog.delete(ALL, at=NOON)

        assert await commit_one(catalog, late) == Conflict(stored=None)
        assert await commit_one(catalog, late_too) == Conflict(stored=None)

        await commit_all(catalog, dataset_commit(1, stored_file(body="b")))
        assert await commit_one(catalog, late) == Conflict(stored=await stored_match(catalog, 1))
        assert (await stored_match(catalog, 1)).files[EVENTS].sha256 == "b" * 64

    async def test_what_was_deleted_is_looked_for_again(self, catalog: Catalog) -> None:
        """
        Whoever listed it forgets how to ask for changes only; a list that is read meanwhile, too.
        """
        validators = ListValidators(url="list", etag='"e"')
        [made] = await commit_all(catalog, dataset_commit(1, stored_file()))
        run_id = await begin_run(catalog)
        for is_deleted_meanwhile in (False, True):
            state = await catalog.begin_selector(
                SCOPE, run_id=run_id, name=None, token="t", at=NOON
            )
            if is_deleted_meanwhile:
                await catalog.delete(ALL, at=NOON)
            whole = completion([made.row_id or 0], validators=validators)
            await catalog.finish_selector(closing(state, whole, run_id=run_id))
            if not is_deleted_meanwhile:
                known = await catalog.selector_state(SCOPE)
                assert known is not None
                assert (known.validators, known.state) == (validators, {"page": 7})
        known = await catalog.selector_state(SCOPE)
        assert known is not None
        assert (known.validators, known.fingerprint, known.state) == (None, None, {})

        unchanged = completion(None, state={"page": 7})
        state = await catalog.begin_selector(SCOPE, run_id=run_id, name=None, token="t", at=NOON)
        await catalog.finish_selector(closing(state, unchanged, run_id=run_id))
        known = await catalog.selector_state(SCOPE)
        assert known is not None
        assert (known.validators, known.state) == (None, {})

    async def test_many_are_deleted_at_once(self, catalog: Catalog) -> None:
        """
        However many there are, it is one transaction.
        """
        count = 2500
        batch = [dataset_commit(number, stored_file()) for number in range(count)]
        await commit_all(catalog, *batch)
        told = await catalog.last_event()
        deleted = await catalog.delete(ALL, at=NOON)
        assert (deleted.datasets, deleted.files) == (count, count)
        assert await catalog.count(ALL) == 0
        assert len(await catalog.events(after=told, limit=10_000)) == count


PAIRS = [(1, "a"), (2, "b")]
