"""Part of the Catalog's contract: what is agreed about Datasets, and settled about Selectors."""

from __future__ import annotations

from ingestify.model.catalog import Agreed, DatasetCommit, DatasetQuery
from ingestify.model.dataset import CheckOutcome
from ingestify.ports import Catalog
from ingestify.testing.contracts.catalog_upkeep import restored_file
from ingestify.testing.contracts.catalog_values import (
    NOON,
    PLACE,
    SCOPE,
    CatalogFixtures,
    begin_run,
    checked_file,
    closing,
    commit_all,
    completion,
    dataset_commit,
    failure_commit,
    key_of,
    stored_file,
)

SAID = b"what was found"


async def agreed(catalog: Catalog, match_id: int = 1) -> Agreed | None:
    """What is agreed about one match."""
    [found] = await catalog.agreements(**PLACE, keys=[key_of(match_id)])
    return found


def agreeing(run_id: int = 5, base: int | None = None, body: str = "a") -> DatasetCommit:
    """A commit that brings all there is."""
    return dataset_commit(1, stored_file(body=body), run_id=run_id, base=base, agreement=SAID)


class AgreementsContract(CatalogFixtures):
    """What is agreed about Datasets, and settled about Selectors."""

    async def test_agreements_answer_in_the_order_of_keys(self, catalog: Catalog) -> None:
        """
        With the row id and the Run; a Dataset without an agreement has its row id, one that is
        not there has nothing; another place is another Dataset.
        """
        [first] = await commit_all(catalog, agreeing())
        [second] = await commit_all(catalog, dataset_commit(2, stored_file()))
        keys = [key_of(2), key_of(3), key_of(1), key_of(2)]

        found = await catalog.agreements(**PLACE, keys=keys)
        nothing = (second.row_id, None, 0)
        assert list(found) == [nothing, None, (first.row_id, SAID, 5), nothing]
        elsewhere = {**PLACE, "bucket": "elsewhere"}
        assert list(await catalog.agreements(**elsewhere, keys=keys)) == [None] * 4
        assert list(await catalog.agreements(**PLACE, keys=[])) == []

    async def test_a_commit_replaces_what_was_agreed(self, catalog: Catalog) -> None:
        """
        With what it brings, which may be nothing.
        """
        [made] = await commit_all(catalog, agreeing(run_id=5))
        await commit_all(catalog, agreeing(run_id=6, base=0, body="b"))
        assert await agreed(catalog) == (made.row_id, SAID, 6)

        unchanged = checked_file("events", CheckOutcome.UNCHANGED)
        await commit_all(catalog, dataset_commit(1, unchanged, base=1))
        assert await agreed(catalog) == (made.row_id, None, 0)

    async def test_a_failure_ends_what_was_agreed(self, catalog: Catalog) -> None:
        """
        It does not come back by itself, only with a commit.
        """
        [made] = await commit_all(catalog, agreeing())
        await commit_all(catalog, failure_commit(1, ("events", "v1")))
        assert await agreed(catalog) == (made.row_id, None, 0)

        await commit_all(catalog, agreeing(run_id=7, base=0, body="b"))
        assert await agreed(catalog) == (made.row_id, SAID, 7)

    async def test_what_is_invalid_is_not_agreed(self, catalog: Catalog) -> None:
        """
        A Revision that is marked as wrong has to be asked for again.
        """
        [made] = await commit_all(catalog, agreeing())
        await catalog.invalidate(DatasetQuery(), reason="wrong", at=NOON)
        assert await agreed(catalog) == (made.row_id, None, 0)

    async def test_damage_ends_what_was_agreed_until_it_is_mended(self, catalog: Catalog) -> None:
        """
        Neither being told that it was a mistake, nor a commit that brings no bytes, is enough.
        """
        [made] = await commit_all(catalog, agreeing())
        [kept] = await catalog.kept_files(DatasetQuery())
        await catalog.mark_files(damaged=[kept.row_id], sound=[])
        assert await agreed(catalog) == (made.row_id, None, 0)
        unchanged = checked_file("events", CheckOutcome.UNCHANGED)
        await commit_all(catalog, dataset_commit(1, unchanged, base=0, agreement=SAID))
        assert await agreed(catalog) == (made.row_id, None, 0)

        await catalog.mark_files(damaged=[], sound=[kept.row_id])
        assert await agreed(catalog) == (made.row_id, None, 0)
        await catalog.mark_files(damaged=[kept.row_id], sound=[])
        mended = dataset_commit(1, restored_file("events", "a"), base=0, agreement=SAID, run_id=9)
        await commit_all(catalog, mended)
        assert await agreed(catalog) == (made.row_id, SAID, 9)

    async def test_what_is_deleted_is_not_agreed(self, catalog: Catalog) -> None:
        """
        What comes in its place begins anew.
        """
        await commit_all(catalog, agreeing())
        await catalog.delete(DatasetQuery(), at=NOON)
        assert await agreed(catalog) is None

        [made] = await commit_all(catalog, dataset_commit(1, stored_file()))
        assert await agreed(catalog) == (made.row_id, None, 0)

    async def test_a_selector_is_settled_until_something_in_it_is_not(
        self, catalog: Catalog
    ) -> None:
        """
        Whoever trusts that need not look at any Dataset; it is never on while there is a doubt.
        """

        async def list_it() -> bool:
            run_id = await begin_run(catalog)
            state = await catalog.begin_selector(
                SCOPE, run_id=run_id, name=None, token=None, at=NOON
            )
            await catalog.finish_selector(
                closing(state, completion([made.row_id or 0]), run_id=run_id)
            )
            return state.is_settled

        [made] = await commit_all(catalog, agreeing())
        await list_it()
        assert await list_it()
        await commit_all(catalog, failure_commit(1, ("events", "v1")))
        assert not await list_it()
        assert not await list_it()
        await commit_all(catalog, agreeing(base=0, body="b"))
        await list_it()
        assert await list_it()

    async def test_failures_of_one_dataset(self, catalog: Catalog) -> None:
        """
        The newest that counts, as among all; or all of a Run; and none of others.
        """
        commits = [dataset_commit(n, stored_file()) for n in (1, 2)]
        one, other = [each.dataset_id for each in await commit_all(catalog, *commits)]
        for _ in range(2):
            await commit_all(catalog, failure_commit(1, ("events", "v1")))
        everything = await catalog.failures()

        assert list(await catalog.failures(dataset_id=one)) == list(everything)
        assert len(everything) == 1
        run_id = everything[0].run_id
        assert len(await catalog.failures(dataset_id=one, run_id=run_id)) == 2
        assert list(await catalog.failures(dataset_id=other)) == []
        assert list(await catalog.failures(dataset_id="unknown")) == []
        await commit_all(catalog, dataset_commit(1, stored_file(body="b"), base=0))
        assert list(await catalog.failures(dataset_id=one)) == []
