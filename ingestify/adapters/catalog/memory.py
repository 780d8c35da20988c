"""The Catalog in memory: for tests, and for a look at a provider that leaves nothing behind."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager
from datetime import date, datetime
from itertools import islice
from pathlib import Path

from anyio.lowlevel import checkpoint

from ingestify.adapters.catalog.memory_datasets import Datasets, utc
from ingestify.adapters.catalog.memory_outbox import Readers
from ingestify.adapters.catalog.memory_runs import Runs
from ingestify.adapters.catalog.memory_upkeep import Upkeep
from ingestify.errors import CatalogError
from ingestify.model.catalog import (
    Agreed,
    CatalogCopy,
    Commit,
    CommitResult,
    DatasetQuery,
    Deleted,
    Holder,
    KeptFile,
    Lease,
    Scope,
    SelectorClosing,
    SelectorState,
)
from ingestify.model.dataset import Dataset, FileCheck, Revision, Stored
from ingestify.model.event import Event, ReaderRow
from ingestify.model.run import Failure, RunRow, RunSummary


class MemoryCatalog:
    """A Catalog that is gone with its process. Deterministic: ids are counted.

    What the methods promise stands in `ingestify.ports.Catalog`.
    """

    def __init__(self) -> None:
        self._datasets = Datasets()
        self._runs = Runs(self._datasets)
        self._readers = Readers(self._datasets.events)
        self._upkeep = Upkeep(self._datasets, self._runs)
        self._is_closed = False

    @classmethod
    @asynccontextmanager
    async def open(cls) -> AsyncIterator[MemoryCatalog]:
        """An empty catalog."""
        async with cls().share() as catalog:
            yield catalog

    @asynccontextmanager
    async def share(self) -> AsyncIterator[MemoryCatalog]:
        """The same catalog as another process would see it: leases exclude each other."""
        other = MemoryCatalog()
        other._datasets, other._runs = self._datasets, self._runs
        other._readers, other._upkeep = self._readers, self._upkeep
        try:
            yield other
        finally:
            other._is_closed = True
            self._runs.drop_holder(other)

    def hurry(self) -> None:
        """Nothing here waits for anybody."""

    # Runs

    async def begin_run(self, *, started_at: datetime, fingerprint: str) -> int:
        await self._turn()
        return self._runs.begin(started_at=started_at)

    async def beat(self, run_id: int, *, at: datetime) -> None:
        await self._turn()
        self._runs.beat(run_id, at=at)

    async def close_run(self, run_id: int, summary: RunSummary) -> None:
        await self._turn()
        self._runs.close(run_id, summary)

    async def close_crashed_runs(self, *, silent_since: datetime, at: datetime) -> Sequence[int]:
        await self._turn()
        return self._runs.close_crashed(silent_since=silent_since, at=at)

    async def acquire_lease(self, name: str, *, run_id: int, at: datetime) -> Lease | None:
        await self._turn()
        return self._runs.acquire(name, run_id=run_id, at=at, holder=self)

    async def release_lease(self, lease: Lease) -> None:
        await self._turn()
        self._runs.release(lease)

    async def lease_holder(self, name: str) -> Holder | None:
        await self._turn()
        return self._runs.lease_holder(name)

    async def spend_quota(self, source: str, *, day: date, count: int, most: int) -> int:
        await self._turn()
        return self._runs.spend_quota(source, day=day, count=count, most=most)

    # Selectors

    async def selector_state(self, scope: Scope) -> SelectorState | None:
        await self._turn()
        return self._runs.selector_state(scope)

    async def begin_selector(
        self, scope: Scope, *, run_id: int, name: str | None, token: str | None, at: datetime
    ) -> SelectorState:
        await self._turn()
        utc(at)
        return self._runs.begin_selector(scope, run_id=run_id, token=token)

    async def has_unsettled(self, scope: Scope, *, older_than: datetime | None) -> bool:
        await self._turn()
        return self._runs.has_unsettled(scope, older_than=older_than)

    async def finish_selector(self, closing: SelectorClosing) -> int:
        await self._turn()
        return self._runs.finish_selector(closing)

    async def settle_failures(
        self,
        *,
        bucket: str,
        source: str,
        dataset_type: str,
        selector_keys: Sequence[str],
        run_id: int,
    ) -> None:
        await self._turn()
        self._runs.settle_failures(
            lambda scope: (
                (scope.bucket, scope.source, scope.dataset_type) == (bucket, source, dataset_type)
                and scope.selector_key not in selector_keys
            ),
            run_id=run_id,
        )

    # Datasets

    async def look_up(
        self, *, bucket: str, stage: str, provider: str, dataset_type: str, keys: Sequence[str]
    ) -> Sequence[Stored | None]:
        await self._turn()
        place = (bucket, stage, provider, dataset_type)
        found = [self._datasets.by_identity.get((*place, key)) for key in keys]
        return [None if kept is None else kept.stored() for kept in found]

    async def agreements(
        self, *, bucket: str, stage: str, provider: str, dataset_type: str, keys: Sequence[str]
    ) -> Sequence[Agreed | None]:
        await self._turn()
        place = (bucket, stage, provider, dataset_type)
        found = [self._datasets.by_identity.get((*place, key)) for key in keys]
        return [None if kept is None else (kept.shown.row_id, *kept.agreed) for kept in found]

    async def commit(
        self, batch: Sequence[Commit], *, leases: Sequence[Lease]
    ) -> Sequence[CommitResult]:
        await self._turn()
        self._runs.check_fences(leases)
        return [self._datasets.commit(commit) for commit in batch]

    async def invalidate(self, query: DatasetQuery, *, reason: str, at: datetime) -> int:
        await self._turn()
        return self._datasets.invalidate(query, at=at)

    # Reading

    async def count(self, query: DatasetQuery) -> int:
        await self._turn()
        return sum(1 for _ in self._datasets.find(query))

    async def find(
        self, query: DatasetQuery, *, after: int = 0, limit: int = 1000
    ) -> Sequence[Dataset]:
        await self._turn()
        return [kept.view() for kept in islice(self._datasets.find(query, after=after), limit)]

    async def get(self, dataset_id: str) -> Dataset | None:
        found = await self.find(DatasetQuery(stage=None, dataset_id=dataset_id))
        return found[0] if found else None

    async def revisions(self, row_id: int) -> Sequence[Revision]:
        await self._turn()
        kept = self._datasets.by_row.get(row_id)
        return [] if kept is None else list(kept.revisions)

    async def checks(self, row_id: int) -> Sequence[FileCheck]:
        await self._turn()
        kept = self._datasets.by_row.get(row_id)
        return [] if kept is None else [kept.checks[key] for key in sorted(kept.checks)]

    async def runs(self, *, limit: int = 20) -> Sequence[RunRow]:
        await self._turn()
        return self._runs.newest(limit)

    async def failures(
        self, *, run_id: int | None = None, dataset_id: str | None = None, limit: int = 1000
    ) -> Sequence[Failure]:
        await self._turn()
        if dataset_id is None:
            return self._runs.failures(run_id=run_id, limit=limit)
        about = [
            each.identity
            for each in self._datasets.find(DatasetQuery(stage=None, dataset_id=dataset_id))
        ]
        return self._runs.failures(run_id=run_id, limit=limit, about=about)

    # Upkeep

    async def kept_files(
        self, query: DatasetQuery, *, after: int = 0, limit: int = 1000
    ) -> Sequence[KeptFile]:
        await self._turn()
        return self._upkeep.kept_files(query, after=after)[:limit]

    async def files_by_row_id(self, row_ids: Sequence[int]) -> Sequence[KeptFile]:
        await self._turn()
        wanted = set(row_ids)
        every = self._upkeep.kept_files(DatasetQuery(stage=None))
        return [each for each in every if each.row_id in wanted]

    async def count_files(self, query: DatasetQuery) -> tuple[int, int]:
        await self._turn()
        sizes = [each.file.stored_size for each in self._upkeep.kept_files(query)]
        return len(sizes), sum(sizes)

    async def mark_files(self, *, damaged: Sequence[int], sound: Sequence[int]) -> None:
        await self._turn()
        self._upkeep.mark(damaged=damaged, sound=sound)

    async def referenced(self, paths: Sequence[str]) -> AbstractSet[str]:
        await self._turn()
        return self._upkeep.referenced(paths)

    async def listed_in(self, row_ids: Sequence[int]) -> Mapping[int, Sequence[str]]:
        await self._turn()
        return {row_id: self._runs.listed_in(row_id) for row_id in row_ids}

    async def catalog_id(self) -> str:
        await self._turn()
        return self._upkeep.catalog_id

    async def delete(self, query: DatasetQuery, *, at: datetime) -> Deleted:
        await self._turn()
        return self._upkeep.delete(query, at=at)

    async def doomed(self, *, after: str = "", limit: int = 1000) -> Sequence[str]:
        await self._turn()
        return sorted(path for path in self._upkeep.doomed if path > after)[:limit]

    async def forget_doomed(self, paths: Sequence[str]) -> None:
        await self._turn()
        self._upkeep.doomed.difference_update(paths)

    # Copies

    async def free_bytes(self) -> int | None:
        await checkpoint()
        return None

    async def back_up(
        self,
        path: Path,
        *,
        replace: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> CatalogCopy:
        await checkpoint()
        raise CatalogError("this catalog is in memory: there is nothing to copy")

    # Events

    async def events(self, *, after: int = 0, limit: int = 1000) -> Sequence[Event]:
        await self._turn()
        return self._datasets.events[after : after + limit]

    async def last_event(self) -> int:
        await self._turn()
        return len(self._datasets.events)

    async def reader_cursor(self, name: str) -> int | None:
        await self._turn()
        return self._readers.cursor(name)

    async def move_reader(
        self, name: str, *, event: int, expected: int | None, at: datetime
    ) -> bool:
        await self._turn()
        return self._readers.move(name, event=event, expected=expected, at=at)

    async def readers(self) -> Sequence[ReaderRow]:
        await self._turn()
        return self._readers.rows()

    async def _turn(self) -> None:
        """Let others run, and let a caller that is cancelled leave before anything happens."""
        await checkpoint()
        if self._is_closed:
            raise CatalogError("this catalog is closed")
