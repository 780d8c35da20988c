"""Part of the Catalog's contract: callers that are cancelled, and callers at the same time."""

from __future__ import annotations

import anyio
import anyio.lowlevel
from anyio import CancelScope, create_task_group

from ingestify.model.catalog import DatasetQuery
from ingestify.ports import Catalog
from ingestify.testing.contracts.catalog_values import (
    CatalogFixtures,
    begin_run,
    commit_all,
    commit_one,
    dataset_commit,
    key_of,
    look_up,
    stored_file,
)


class ConcurrencyContract(CatalogFixtures):
    """Callers that are cancelled, and callers at the same time."""

    async def test_a_cancelled_commit_has_happened_or_has_not(self, catalog: Catalog) -> None:
        """
        Whenever a commit's caller is cancelled, the batch is there as a whole or not at all.
        """
        seen = set()
        for number in range(40):
            batch = [dataset_commit(f"{number} {n}", stored_file()) for n in range(8)]
            with CancelScope() as scope:
                async with create_task_group() as tg:
                    tg.start_soon(_cancel_after, scope, number)
                    await catalog.commit(batch, leases=[])
            found = await look_up(catalog, *[commit.identifier_key for commit in batch])
            whole = [each is not None for each in found]
            assert len(set(whole)) == 1, whole
            seen.add(whole[0])
            if whole[0]:
                datasets = await catalog.find(DatasetQuery(), limit=1000)
                assert all(dataset.files for dataset in datasets)
        assert True in seen

    async def test_a_caller_that_is_cancelled_before_its_turn_changes_nothing(
        self, catalog: Catalog
    ) -> None:
        """
        A commit whose caller is cancelled already does not begin.
        """
        with CancelScope() as scope:
            scope.cancel()
            await catalog.commit([dataset_commit(1)], leases=[])

        assert scope.cancelled_caught
        assert await look_up(catalog, key_of(1)) == [None]
        await commit_all(catalog, dataset_commit(1))

    async def test_commits_of_many_callers_all_happen(
        self, catalog: Catalog, other: Catalog
    ) -> None:
        """
        Callers that commit at the same time wait for each other and lose nothing.
        """

        async def commit(through: Catalog, name: str) -> None:
            for number in range(5):
                await commit_all(through, dataset_commit(f"{name} {number}", stored_file()))

        async with create_task_group() as tg:
            for name in "abc":
                tg.start_soon(commit, catalog, name)
                tg.start_soon(commit, other, f"other {name}")

        datasets = await other.find(DatasetQuery())
        assert len(datasets) == len({dataset.dataset_id for dataset in datasets}) == 30
        assert len({event.id for event in await catalog.events()}) == 60

    async def test_readers_see_whole_commits(self, catalog: Catalog, other: Catalog) -> None:
        """
        A Dataset that is read while it changes has the Files of the Revision it says it has.
        """
        both = (stored_file(body="0"), stored_file("lineups", body="0"))
        await commit_all(catalog, dataset_commit(1, *both))
        is_done = anyio.Event()
        seen = set()

        async def read(through: Catalog) -> None:
            while not is_done.is_set():
                [dataset] = await through.find(DatasetQuery())
                assert [file.revision for file in dataset.files] == [dataset.revision] * 2
                assert dataset.name in ("match 1", f"revision {dataset.revision}")
                seen.add(dataset.revision)

        async with create_task_group() as tg:
            tg.start_soon(read, catalog)
            tg.start_soon(read, other)
            for number in range(1, 40):
                body = "123456789"[number % 9]
                both = (stored_file(body=body), stored_file("lineups", body=body))
                name = f"revision {number}"
                await commit_all(catalog, dataset_commit(1, *both, base=number - 1, name=name))
            is_done.set()

        assert len(seen) > 1

    async def test_two_runs_that_commit_the_same_make_one_dataset(
        self, catalog: Catalog, other: Catalog
    ) -> None:
        """
        Of two processes that both found something new, one makes it and one is told.
        """
        results = []

        async def commit(through: Catalog) -> None:
            run_id = await begin_run(through)
            commit = dataset_commit(1, stored_file(), run_id=run_id)
            results.append(await commit_one(through, commit))

        async with create_task_group() as tg:
            tg.start_soon(commit, catalog)
            tg.start_soon(commit, other)

        assert sorted(type(result).__name__ for result in results) == ["Committed", "Conflict"]
        assert await catalog.count(DatasetQuery()) == 1


async def _cancel_after(scope: CancelScope, turns: int) -> None:
    for _ in range(turns):
        await anyio.lowlevel.checkpoint()
    scope.cancel()
