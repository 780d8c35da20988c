"""How finished work becomes true: in groups, each for itself, and never over somebody else's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from anyio import Event, create_task_group, wait_all_tasks_blocked
from lakes import Lake, offer, offering, outcome, plan_of, staged_in

from ingestify.adapters.catalog.memory import MemoryCatalog
from ingestify.errors import CatalogError, StoreError
from ingestify.model.catalog import Conflict, DatasetCommit
from ingestify.model.run import RunSummary
from ingestify.pipeline import commit
from ingestify.testing import FakeSource
from ingestify.testing.fetcher import FakeAnswer, FakeFetcher

BASE = "http://fake.invalid/"


@pytest.fixture
def lake() -> Lake:
    return Lake()


class CountingCatalog:
    """Counts transactions, and may hold them back."""

    def __init__(self, catalog: MemoryCatalog) -> None:
        self.catalog = catalog
        self.batches: list[int] = []
        self.reached = Event()
        self.gate = Event()
        self.gate.set()

    async def commit(self, batch: Sequence[Any], *, leases: Sequence[Any]) -> Any:
        self.batches.append(len(batch))
        self.reached.set()
        await self.gate.wait()
        return await self.catalog.commit(batch, leases=leases)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.catalog, name)


def counting(lake: Lake) -> CountingCatalog:
    assert isinstance(lake.catalog, MemoryCatalog)
    catalog = CountingCatalog(lake.catalog)
    lake.catalog = catalog  # type: ignore[assignment]
    return catalog


async def test_many_finished_tasks_are_few_transactions(lake: Lake) -> None:
    """
    What is finished while a transaction is under way goes into the next one, up to a full batch.
    """
    catalog = counting(lake)
    catalog.gate = Event()
    source = offering(*[offer(number) for number in range(300)])
    async with create_task_group() as tg:
        tg.start_soon(lake.run, source)
        await catalog.reached.wait()
        await wait_all_tasks_blocked()
        catalog.gate.set()
    assert sum(catalog.batches) == 300
    assert catalog.batches[1] == commit.BATCH
    assert max(catalog.batches) == commit.BATCH
    await lake.check()


async def test_a_small_batch_closes_after_a_while(lake: Lake) -> None:
    """
    A finished Task is committed although nothing else comes: nobody waits for a full batch.
    """
    catalog = counting(lake)
    gate = Event()
    lake.fetcher = FakeFetcher({f"{BASE}2.json": FakeAnswer(body=b"{}", after=gate)})
    source = offering(offer(1), offer(2, files={"events": f"{BASE}2.json"}))
    async with create_task_group() as tg:
        tg.start_soon(lake.run, source)
        await catalog.reached.wait()
        await wait_all_tasks_blocked()
        assert catalog.batches == [1]
        assert await lake.ids() == [1]
        gate.set()
    assert await lake.ids() == [1, 2]


async def test_a_full_batch_does_not_wait(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A batch that is full is committed at once.
    """
    monkeypatch.setattr(commit, "LINGER_SECONDS", 3600.0)
    catalog = counting(lake)
    count = 3 * commit.BATCH

    await lake.run(offering(*[offer(number) for number in range(count)]), workers=16)

    assert catalog.batches == [commit.BATCH] * 3


async def test_a_busy_committer_holds_its_workers_back(lake: Lake) -> None:
    """
    While a transaction takes long, no more is fetched than there is room for.
    """
    catalog = counting(lake)
    catalog.gate = Event()
    source = offering(*[offer(number) for number in range(2000)])
    async with create_task_group() as tg:
        tg.start_soon(lambda: lake.run(source, workers=10))
        await catalog.reached.wait()
        await wait_all_tasks_blocked()
        assert len(staged_in(lake.files)) <= 4 * commit.BATCH + 10
        catalog.gate.set()
    assert len(await lake.ids()) == 2000
    await lake.check()


class Rival:
    """Commits somebody else's Revision of a Dataset just before ours, so often as it is told."""

    def __init__(self, catalog: MemoryCatalog, source: FakeSource, times: int) -> None:
        self.catalog = catalog
        self.source = source
        self.times = times
        self.lake: Lake | None = None

    async def commit(self, batch: Sequence[Any], *, leases: Sequence[Any]) -> Any:
        while self.times and self.lake is not None:
            self.times -= 1
            await self.lake.run(plan_of(self.source), forced=True)
        return await self.catalog.commit(batch, leases=leases)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.catalog, name)


async def meet(lake: Lake, ours: str, theirs: str) -> RunSummary:
    """Our Run, whose Dataset a rival commits in the moment before us."""
    assert isinstance(lake.catalog, MemoryCatalog)
    async with lake.catalog.share() as other:
        source = offering(offer(1, body=theirs), name="theirs")
        rival = Rival(lake.catalog, source, times=1)
        rival.lake = Lake(catalog=other, files=lake.files)
        lake = Lake(catalog=rival, files=lake.files)  # type: ignore[arg-type]
        return await lake.run(offering(offer(1, body=ours), name="ours"))


async def test_two_runs_meet_with_different_bytes(lake: Lake) -> None:
    """
    When somebody else commits the same Dataset first, our bytes become the next Revision.
    """
    summary = await meet(lake, "ours", "theirs")

    assert outcome(summary) == {"stored": 1}
    (dataset,) = await lake.datasets()
    revisions = await lake.catalog.revisions(dataset.row_id)
    assert [revision.number for revision in revisions] == [0, 1]
    bodies = [
        await lake.store.content(file).read_bytes()
        for revision in revisions
        for file in revision.files
    ]
    assert [b"theirs" in body for body in bodies] == [True, False]
    assert [b"ours" in body for body in bodies] == [False, True]
    await lake.check()


async def test_two_runs_meet_with_equal_bytes(lake: Lake) -> None:
    """
    Equal bytes are one Revision, whoever came first.
    """
    summary = await meet(lake, "same", "same")

    assert outcome(summary) == {"unchanged": 1}
    assert summary.stored_bytes == 0
    (dataset,) = await lake.datasets()
    assert dataset.revision == 0
    await lake.check()


async def test_two_runs_meet_on_many_datasets() -> None:
    """
    Two Runs of different plans on the same Datasets at the same time: every Dataset is there
    once, with consecutive Revisions, and the last bytes of either are in the lake.
    """
    catalog = MemoryCatalog()
    async with catalog.share() as other:
        one = Lake(catalog=catalog)
        two = Lake(catalog=other, files=one.files)
        offers = [[offer(n, body=body) for n in range(100)] for body in ("one", "two")]
        summaries: list[RunSummary] = []

        async def run(lake: Lake, source: FakeSource) -> None:
            summaries.append(await lake.run(source))

        async with create_task_group() as tg:
            tg.start_soon(run, one, offering(*offers[0], name="one"))
            tg.start_soon(run, two, offering(*offers[1], name="two"))

    assert [outcome(each) for each in summaries] == [{"stored": 100}] * 2
    assert await one.ids() == list(range(100))
    assert {dataset.revision for dataset in await one.datasets()} == {1}
    await one.check()


async def test_somebody_who_never_stops_committing(lake: Lake) -> None:
    """
    A Dataset that others keep committing is given up after a few rounds as a failure, alone, and
    nothing of it stays staged.
    """
    assert isinstance(lake.catalog, MemoryCatalog)
    memory = lake.catalog
    rounds = 0

    async def conflicting(batch: Sequence[Any], *, leases: Sequence[Any]) -> Any:
        nonlocal rounds
        results = list(await memory.commit([], leases=leases))
        for each in batch:
            if isinstance(each, DatasetCommit) and each.identifier_key == '{"id":1}':
                rounds += 1
                results.append(Conflict(stored=None))
            else:
                results += await memory.commit([each], leases=leases)
        return results

    catalog = counting(lake)
    catalog.commit = conflicting  # type: ignore[method-assign]
    summary = await lake.run(offering(offer(1), offer(2)))

    assert outcome(summary) == {"stored": 1, "failed": 1}
    assert rounds == commit.MOST_ROUNDS
    assert summary.failures[0].code == "store"
    assert await lake.ids() == [2]
    await lake.check()


async def test_what_the_database_refuses_fails_alone(lake: Lake) -> None:
    """
    One commit that the database refuses is that Dataset's failure; the rest of its batch is
    stored.
    """
    memory = lake.catalog
    catalog = counting(lake)

    async def refusing(batch: Sequence[Any], *, leases: Sequence[Any]) -> Any:
        spoilt = [
            msgspec.structs.replace(each, name="\ud800")
            if isinstance(each, DatasetCommit) and each.identifier_key == '{"id":2}'
            else each
            for each in batch
        ]
        return await memory.commit(spoilt, leases=leases)

    catalog.commit = refusing  # type: ignore[method-assign]
    summary = await lake.run(offering(*[offer(number) for number in range(5)]))

    assert outcome(summary) == {"stored": 4, "failed": 1}
    assert [each.identifier_key for each in await lake.catalog.failures()] == ['{"id":2}']
    assert await lake.ids() == [0, 1, 3, 4]
    await lake.check()


async def test_bytes_that_cannot_be_published_fail_alone(lake: Lake) -> None:
    """
    A File that cannot be given its place fails its Dataset, and no other; nothing stays staged.
    """
    publish = lake.files.publish

    async def publishing(files: Sequence[Any]) -> Any:
        spoilt = {number for number, (_, path) in enumerate(files) if "/id=2" in path}
        for number in spoilt:
            await lake.files.discard(files[number][0])
        paths = iter(await publish([f for n, f in enumerate(files) if n not in spoilt]))
        return [StoreError("no place") if n in spoilt else next(paths) for n in range(len(files))]

    lake.files.publish = publishing  # type: ignore[method-assign]
    summary = await lake.run(offering(*[offer(number, "a", "b") for number in range(5)]))

    assert outcome(summary) == {"stored": 4, "failed": 1}
    (failure,) = await lake.catalog.failures()
    assert (failure.code, failure.message) == ("store", "no place")
    assert await lake.ids() == [0, 1, 3, 4]
    await lake.check()


async def test_what_is_committed_counts_also_where_failures_cannot_be_written_down(
    lake: Lake,
) -> None:
    """
    A Catalog that fails between the two ends the Run, which says how much is stored.
    """
    publish, catalog = lake.files.publish, counting(lake)
    committing = catalog.commit

    async def publishing(files: Sequence[Any]) -> Any:
        await lake.files.discard(files[0][0])
        return [StoreError("no place"), *await publish(files[1:])]

    async def once(batch: Sequence[Any], *, leases: Sequence[Any]) -> Any:
        if catalog.batches:
            raise CatalogError("the disk is gone")
        return await committing(batch, leases=leases)

    lake.files.publish = publishing  # type: ignore[method-assign]
    catalog.commit = once  # type: ignore[method-assign]
    summary = await lake.run(offering(*[offer(number, "a") for number in range(5)]))

    assert (summary.status, summary.error) == ("failed", "the disk is gone")
    assert outcome(summary) == {"stored": 4, "not_reached": 1}
    assert len(await lake.ids()) == 4
    assert staged_in(lake.files) == []


async def test_bytes_that_are_lost_while_renumbering_fail_alone(lake: Lake) -> None:
    """
    When what we have published is gone as we meet somebody else's Revision, that Dataset fails.
    """

    async def gone(path: str) -> Any:
        raise StoreError(f"cannot read {path}")
        yield b""

    opened = lake.files.open
    lake.files.open = gone  # type: ignore[method-assign]
    summary = await meet(lake, "ours", "theirs")
    lake.files.open = opened  # type: ignore[method-assign]

    assert outcome(summary) == {"failed": 1}
    (dataset,) = await lake.datasets()
    assert dataset.revision == 0
    await lake.check()


async def test_a_failure_that_cannot_be_written_as_it_stands(lake: Lake) -> None:
    """
    A failure whose text no database could keep is written down all the same.
    """

    class Babbling(FakeSource):
        async def fetch_dataset_files(self, *args: Any, **options: Any) -> Any:
            raise ValueError("\ud800")
            yield

    class Mumbling(FakeSource):
        async def discover_datasets(self, *args: Any, **options: Any) -> Any:
            raise ValueError("\ud800")
            yield

    summary = await lake.run(
        offering(offer(1), kind=Babbling), offering(offer(1), kind=Mumbling, name="other")
    )

    assert outcome(summary) == {"failed": 1}
    assert summary.exit_code == 1
    failures = await lake.catalog.failures()
    assert [each.message for each in failures] == ["ValueError: \\ud800"] * 2
