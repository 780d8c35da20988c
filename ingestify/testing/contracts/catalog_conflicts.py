"""Part of the Catalog's contract: what is left out of a batch, and what that spares."""

from __future__ import annotations

from datetime import datetime

import msgspec
import pytest

from ingestify.model.catalog import Committed, Conflict, DatasetCommit, Rejected
from ingestify.model.dataset import CheckOutcome
from ingestify.ports import Catalog
from ingestify.testing.contracts.catalog_values import (
    CatalogFixtures,
    checked_file,
    commit_all,
    commit_one,
    dataset_commit,
    failure_commit,
    key_of,
    look_up,
    stored_file,
    stored_match,
)

EVENTS = ("events", "v1")


class ConflictsContract(CatalogFixtures):
    """What is left out of a batch, and what that spares."""

    async def test_a_commit_on_an_old_base_is_a_conflict(self, catalog: Catalog) -> None:
        """
        Whoever planned on another Revision than the newest is told what is stored now.
        """
        await commit_all(catalog, dataset_commit(1, stored_file()))
        await commit_all(catalog, dataset_commit(1, stored_file(body="b"), base=0))
        events = await catalog.events()

        for base in (None, 0, 2):
            late = dataset_commit(1, stored_file(body="c"), base=base, name="late")
            result = await commit_one(catalog, late)
            assert result == Conflict(stored=await stored_match(catalog, 1))
        unknown = dataset_commit(2, stored_file(), base=0)
        assert await commit_one(catalog, unknown) == Conflict(stored=None)

        stored = await stored_match(catalog, 1)
        assert (stored.revision, stored.files[EVENTS].sha256) == (1, "b" * 64)
        assert await look_up(catalog, key_of(2)) == [None]
        assert await catalog.events() == events

    async def test_one_conflict_leaves_the_rest_of_its_batch_alone(self, catalog: Catalog) -> None:
        """
        A batch is as good as its parts: a conflict is left out, its neighbours are written.
        """
        await commit_all(catalog, dataset_commit(2, stored_file()))
        batch = [dataset_commit(n, stored_file(body="b")) for n in (1, 2, 3)]
        results = await catalog.commit(batch, leases=[])

        assert [type(result) for result in results] == [Committed, Conflict, Committed]
        assert (await stored_match(catalog, 2)).files[EVENTS].sha256 == "a" * 64
        assert None not in await look_up(catalog, key_of(1), key_of(3))

    async def test_a_later_commit_of_a_batch_sees_the_earlier_ones(self, catalog: Catalog) -> None:
        """
        Two commits about one Dataset are as if they had been made one after the other.
        """
        results = await catalog.commit(
            [
                dataset_commit(1, stored_file()),
                dataset_commit(1, stored_file(body="b")),
                dataset_commit(1, stored_file(body="c"), base=0),
                dataset_commit(2, stored_file()),
            ],
            leases=[],
        )

        first, second, third, fourth = results
        assert isinstance(first, Committed)
        assert isinstance(second, Conflict)
        assert second.stored is not None
        assert second.stored.files[EVENTS].sha256 == "a" * 64
        assert isinstance(third, Committed)
        assert (third.row_id, third.revision, third.is_new) == (first.row_id, 1, False)
        assert isinstance(fourth, Committed)
        assert (await stored_match(catalog, 1)).files[EVENTS].sha256 == "c" * 64

    @pytest.mark.parametrize(
        "changes",
        [
            {"files": [stored_file(), stored_file(body="b")]},
            {"files": [stored_file(), checked_file("lineups", CheckOutcome.STORED)]},
            {"files": [stored_file(outcome=CheckOutcome.UNCHANGED)]},
            {"metadata": b'{"home": '},
            {"metadata": b'{"home": "\xff"}'},
            {"name": "half a \ud800 character"},
            {"at": datetime(2024, 5, 1)},
        ],
        ids=["twice", "no bytes", "odd bytes", "cut json", "no utf-8", "no unicode", "no zone"],
    )
    async def test_what_cannot_be_kept_is_rejected_alone(
        self, catalog: Catalog, changes: dict[str, object]
    ) -> None:
        """
        A commit that the database refuses is left out, with all it says; the others are written.
        """
        batch: list[DatasetCommit] = [dataset_commit(n, stored_file()) for n in (1, 2, 3)]
        batch[1] = msgspec.structs.replace(batch[1], **changes)
        results = await catalog.commit(batch, leases=[])

        assert [type(result) for result in results] == [Committed, Rejected, Committed]
        assert isinstance(results[1], Rejected)
        assert results[1].message
        one, two, three = await look_up(catalog, key_of(1), key_of(2), key_of(3))
        assert one is not None
        assert two is None
        assert three is not None
        assert len(await catalog.events()) == 4

    async def test_a_failure_without_a_time_is_rejected_alone(self, catalog: Catalog) -> None:
        """
        A failure says when; one that does not is left out.
        """
        batch = [failure_commit(1, failed_at=None), failure_commit(2)]
        results = await catalog.commit(batch, leases=[])

        assert [type(result) for result in results] == [Rejected, Committed]
        assert [each.identifier_key for each in await catalog.failures()] == [key_of(2)]
