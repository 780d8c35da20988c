"""Part of the Catalog's contract: Runs, leases and fences."""

from __future__ import annotations

from datetime import date, datetime, timedelta

import pytest

from ingestify.errors import CatalogError, FenceLostError
from ingestify.model.catalog import Holder, Lease
from ingestify.model.run import RunStatus
from ingestify.ports import Catalog
from ingestify.testing.contracts.catalog_values import (
    NOON,
    SCOPE,
    CatalogFixtures,
    Opener,
    begin_run,
    closing,
    commit_all,
    dataset_commit,
    key_of,
    look_up,
    minutes,
    stored_file,
    summary,
)

TODAY = date(2024, 5, 1)


class RunsContract(CatalogFixtures):
    """Runs, leases and fences."""

    async def test_run_ids_grow(self, catalog: Catalog) -> None:
        """
        Every Run has an id above those of all Runs before it.
        """
        ids = [await begin_run(catalog) for _ in range(3)]

        assert ids == sorted(set(ids))

    async def test_a_run_is_remembered_as_it_ended(self, catalog: Catalog) -> None:
        """
        What a Run's summary says can be read back, newest Run first.
        """
        first, second = await begin_run(catalog), await begin_run(catalog, at=minutes(1))
        told = summary(first, status=RunStatus.ABORTED, error="stopped")
        await catalog.close_run(first, told)

        newest, oldest = await catalog.runs()
        assert (newest.run_id, newest.status) == (second, RunStatus.RUNNING)
        assert newest.started_at == minutes(1)
        assert newest.finished_at is None
        assert (oldest.run_id, oldest.status) == (first, RunStatus.ABORTED)
        assert oldest.finished_at == told.finished_at
        assert oldest.counters == told.counters
        assert oldest.counters.is_balanced
        assert (oldest.requests, oldest.received_bytes, oldest.stored_bytes) == (9, 1000, 500)
        assert oldest.error == "stopped"
        assert (newest.exit_code, oldest.exit_code) == (None, told.exit_code)
        assert [run.run_id for run in await catalog.runs(limit=1)] == [second]

    async def test_closing_a_run_that_never_was_is_an_error(self, catalog: Catalog) -> None:
        """
        A summary is not lost in silence where there is no Run to write it to.
        """
        with pytest.raises(CatalogError):
            await catalog.close_run(99, summary(99))

    async def test_moments_without_a_time_zone_are_refused(self, catalog: Catalog) -> None:
        """
        Nobody can tell when noon was without a time zone, so it is not written down.
        """
        with pytest.raises(ValueError, match="timezone"):
            await begin_run(catalog, at=datetime(2024, 5, 1))

        assert await catalog.runs() == []

    async def test_silent_runs_are_closed_as_crashed(self, catalog: Catalog) -> None:
        """
        A Run that neither ended nor gave a sign of life is closed as crashed, others are not.
        """
        silent, beating, ended = [await begin_run(catalog) for _ in range(3)]
        await catalog.beat(beating, at=minutes(10))
        await catalog.close_run(ended, summary(ended))

        assert await catalog.close_crashed_runs(silent_since=minutes(5), at=minutes(11)) == [silent]
        assert await catalog.close_crashed_runs(silent_since=minutes(5), at=minutes(11)) == []

        by_id = {run.run_id: run for run in await catalog.runs()}
        assert by_id[silent].status is RunStatus.CRASHED
        assert by_id[silent].finished_at == minutes(11)
        assert by_id[silent].error
        assert by_id[beating].status is RunStatus.RUNNING
        assert by_id[ended].status is RunStatus.FINISHED

    async def test_a_run_of_before_the_clock_was_set_back_is_closed_as_crashed(
        self, catalog: Catalog
    ) -> None:
        """
        A sign of life from the future is none; one that is a little ahead is.
        """
        far, near = [await begin_run(catalog) for _ in range(2)]
        await catalog.beat(far, at=minutes(60 * 48))
        await catalog.beat(near, at=minutes(12))

        assert await catalog.close_crashed_runs(silent_since=minutes(10), at=minutes(11)) == [far]

    async def test_a_run_whose_lease_is_held_has_not_crashed(
        self, catalog: Catalog, other: Catalog
    ) -> None:
        """
        A Run that is silent but whose process holds a lease is alive, whoever asks.
        """
        run_id = await begin_run(catalog)
        lease = await catalog.acquire_lease("plan", run_id=run_id, at=NOON)
        assert lease is not None

        for each in (other, catalog):
            assert await each.close_crashed_runs(silent_since=minutes(9), at=minutes(9)) == []

        await catalog.release_lease(lease)
        assert await other.close_crashed_runs(silent_since=minutes(9), at=minutes(9)) == [run_id]

    async def test_a_crashed_run_leaves_no_open_selector_run(self, catalog: Catalog) -> None:
        """
        The SelectorRuns of a crashed Run count as ended, so its failures show.
        """
        run_id = await begin_run(catalog)
        await catalog.begin_selector(SCOPE, run_id=run_id, name=None, token=None, at=NOON)
        await catalog.close_crashed_runs(silent_since=minutes(5), at=minutes(5))

        later = await begin_run(catalog)
        state = await catalog.begin_selector(SCOPE, run_id=later, name=None, token=None, at=NOON)
        assert await catalog.finish_selector(closing(state, None, run_id=later)) == 0

    async def test_a_lease_has_one_holder(self, catalog: Catalog, other: Catalog) -> None:
        """
        A plan that somebody holds cannot be had by anyone else; another plan can.
        """
        run_id = await begin_run(catalog)
        lease = await catalog.acquire_lease("plan", run_id=run_id, at=NOON)
        assert lease is not None

        assert await other.acquire_lease("plan", run_id=run_id + 1, at=NOON) is None
        assert await catalog.acquire_lease("plan", run_id=run_id, at=NOON) is None
        assert await other.acquire_lease("plan", run_id=run_id + 1, at=NOON) is None
        assert await other.acquire_lease("another plan", run_id=run_id + 1, at=NOON) is not None

    async def test_who_holds_a_lease_is_known(self, catalog: Catalog, other: Catalog) -> None:
        """
        Others can tell which Run has a plan, and since when, until it is given back.
        """
        run_id = await begin_run(catalog)
        assert await other.lease_holder("plan") is None
        lease = await catalog.acquire_lease("plan", run_id=run_id, at=minutes(2))
        assert lease is not None
        for each in (catalog, other):
            assert await each.lease_holder("plan") == Holder(run_id=run_id, since=minutes(2))

        await catalog.release_lease(lease)
        assert await other.lease_holder("plan") is None

    async def test_a_daily_quota_is_one_for_all(self, catalog: Catalog, other: Catalog) -> None:
        """
        Whoever asks, no more is granted than there is; what is given back is granted again.
        """

        async def spend(each: Catalog, count: int, most: int = 10, source: str = "one") -> int:
            return await each.spend_quota(source, day=TODAY, count=count, most=most)

        assert await spend(catalog, 4) == 4
        assert await spend(other, 4) == 4
        assert await spend(catalog, 4) == 2
        assert await spend(other, 1) == 0
        assert await spend(catalog, 9, source="another") == 9
        assert await spend(catalog, -3) == -3
        assert await spend(other, 4) == 3
        assert await spend(other, 1, most=12) == 1
        assert await spend(catalog, 1, most=5) == 0
        assert await spend(catalog, -100) == -11
        assert await spend(other, 100) == 10

    async def test_each_day_has_its_own_quota(self, catalog: Catalog) -> None:
        """
        A new day begins with all of it, and old days are forgotten after a while.
        """

        async def spend(days: int, count: int) -> int:
            day = TODAY + timedelta(days=days)
            return await catalog.spend_quota("one", day=day, count=count, most=10)

        assert await spend(0, 10) == 10
        assert await spend(1, 10) == 10
        assert await spend(0, 1) == 0
        await spend(30, 1)
        assert await spend(0, 1) == 1

    async def test_fencing_tokens_grow(self, catalog: Catalog, other: Catalog) -> None:
        """
        Every holder of a lease has a token above those of all holders before it.
        """
        tokens = []
        for holder in (catalog, other, catalog):
            run_id = await begin_run(holder)
            lease = await holder.acquire_lease("plan", run_id=run_id, at=NOON)
            assert lease is not None
            tokens.append(lease.token)
            await holder.release_lease(lease)

        assert tokens == sorted(set(tokens))

    async def test_giving_a_lease_back_twice_is_harmless(
        self, catalog: Catalog, other: Catalog
    ) -> None:
        """
        A lease given back a second time does not take it from who holds it now.
        """
        run_id = await begin_run(catalog)
        for holder in (catalog, other):
            old = await catalog.acquire_lease("plan", run_id=run_id, at=NOON)
            assert old is not None
            await catalog.release_lease(old)
            new = await holder.acquire_lease("plan", run_id=run_id, at=NOON)
            assert new is not None
            await catalog.release_lease(old)

            assert await other.acquire_lease("plan", run_id=run_id, at=NOON) is None
            await holder.release_lease(new)

    async def test_a_lease_ends_with_the_catalog_that_holds_it(
        self, catalog: Catalog, open_catalog: Opener
    ) -> None:
        """
        Whoever goes without giving a lease back has crashed: the next holder closes its Run.
        """
        run_id = await begin_run(catalog)
        async with open_catalog() as gone:
            assert await gone.acquire_lease("plan", run_id=run_id, at=NOON) is not None

        next_run = await begin_run(catalog)
        assert await catalog.acquire_lease("plan", run_id=next_run, at=minutes(1)) is not None

        by_id = {run.run_id: run for run in await catalog.runs()}
        assert by_id[run_id].status is RunStatus.CRASHED
        assert by_id[run_id].finished_at == minutes(1)
        assert by_id[next_run].status is RunStatus.RUNNING

    async def test_a_run_that_gave_its_lease_back_has_not_crashed(
        self, catalog: Catalog, other: Catalog
    ) -> None:
        """
        The next holder of a plan leaves a Run alone that goes on with other plans.
        """
        run_id = await begin_run(catalog)
        lease = await catalog.acquire_lease("plan", run_id=run_id, at=NOON)
        assert lease is not None
        await catalog.release_lease(lease)

        next_run = await begin_run(other)
        assert await other.acquire_lease("plan", run_id=next_run, at=NOON) is not None
        statuses = [run.status for run in await catalog.runs()]
        assert statuses == [RunStatus.RUNNING, RunStatus.RUNNING]

    async def test_a_held_lease_lets_commits_through(self, catalog: Catalog) -> None:
        """
        Whoever holds the leases may commit.
        """
        run_id = await begin_run(catalog)
        names = ("one plan", "another plan")
        leases = [await catalog.acquire_lease(name, run_id=run_id, at=NOON) for name in names]
        held = [lease for lease in leases if lease is not None]
        assert len(held) == 2

        await catalog.commit([dataset_commit(1, stored_file())], leases=held)

        assert None not in await look_up(catalog, key_of(1))

    async def test_a_lost_lease_fences_the_whole_batch_off(
        self, catalog: Catalog, other: Catalog
    ) -> None:
        """
        Nothing is written for a holder whose plan is somebody else's by now, or nobody's.
        """
        run_id = await begin_run(catalog)
        lost = await catalog.acquire_lease("plan", run_id=run_id, at=NOON)
        kept = await catalog.acquire_lease("another plan", run_id=run_id, at=NOON)
        assert lost is not None
        assert kept is not None
        batch = [dataset_commit(1, stored_file()), dataset_commit(2)]

        await catalog.release_lease(lost)
        with pytest.raises(FenceLostError):
            await catalog.commit(batch, leases=[kept, lost])
        await other.acquire_lease("plan", run_id=await begin_run(other), at=NOON)
        with pytest.raises(FenceLostError):
            await catalog.commit(batch, leases=[kept, lost])
        with pytest.raises(FenceLostError):
            await catalog.commit(batch, leases=[Lease(name="never given out", token=1)])

        assert await look_up(catalog, key_of(1), key_of(2)) == [None, None]
        assert await catalog.events() == []
        await commit_all(catalog, *batch)
