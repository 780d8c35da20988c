"""The Catalog in a SQLite file: nothing to install, and readers on the same machine at any time."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager
from datetime import date, datetime, timedelta
from functools import partial
from pathlib import Path

from anyio import CancelScope, from_thread, to_thread

from ingestify.adapters.catalog import (
    backing_up,
    commits,
    outbox,
    quota,
    reading,
    runs,
    selectors,
    upkeep,
)
from ingestify.adapters.catalog.connection import PATIENCE, Database
from ingestify.adapters.catalog.failing import translated
from ingestify.adapters.catalog.jobs import Direct
from ingestify.adapters.catalog.locks import LeaseLocks
from ingestify.adapters.catalog.migrations import prepare
from ingestify.adapters.catalog.statements import check_prefix, load_statements
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


class SqliteCatalog:
    """A Catalog in one SQLite file, shared by any number of processes of one machine.

    Leases are locks of the operating system, in a folder beside the file. What the methods
    promise stands in `ingestify.ports.Catalog`.
    """

    def __init__(self, database: Database, locks: LeaseLocks, table_prefix: str) -> None:
        self._database = database
        self._locks = locks
        self._prefix = table_prefix

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        path: Path,
        *,
        table_prefix: str = "",
        create: bool = True,
        patience: timedelta = PATIENCE,
    ) -> AsyncIterator[SqliteCatalog]:
        """The catalog at *path*, made with its folders if there is none and *create* is on.

        *table_prefix* keeps several catalogs apart in one file. Another process that writes is
        waited for as long as *patience* lasts. Leases still held at the end are given up.

        Raises:
            ConfigError: *table_prefix* cannot be one.
            ForeignCatalogError: the file is not ours, or newer; it was not touched.
            CatalogError: it cannot be opened.
        """
        check_prefix(table_prefix)
        path = path.absolute()

        def get_ready() -> None:
            with translated(path):
                prepare(
                    path,
                    table_prefix=table_prefix,
                    create=create,
                    patience=patience,
                    go_on=from_thread.check_cancelled,
                )

        await to_thread.run_sync(get_ready)
        locks = LeaseLocks(path.with_name(f"{path.name}.locks"))
        statements = load_statements(table_prefix)
        async with Database.open(path, statements, patience=patience) as database:
            try:
                yield cls(database, locks, table_prefix)
            finally:
                locks.release_all()

    def hurry(self) -> None:
        self._database.hurry()

    # Runs

    async def begin_run(self, *, started_at: datetime, fingerprint: str) -> int:
        async with self._database.writing() as session:
            return await runs.begin(session, started_at=started_at, fingerprint=fingerprint)

    async def beat(self, run_id: int, *, at: datetime) -> None:
        async with self._database.writing() as session:
            await runs.beat(session, run_id, at=at)

    async def close_run(self, run_id: int, summary: RunSummary) -> None:
        async with self._database.writing() as session:
            await runs.close(session, run_id, summary)

    async def close_crashed_runs(self, *, silent_since: datetime, at: datetime) -> Sequence[int]:
        async with self._database.reading() as session:
            silent = await runs.silent(session, since=silent_since, at=at)
        if not silent:
            return []

        def find_dead() -> set[int]:
            return {
                run_id
                for run_id, leases in silent.items()
                if not any(self._locks.is_alive(self._lock_name(name)) for name in leases)
            }

        with translated(self._database.path):
            dead = await to_thread.run_sync(find_dead)
        async with self._database.writing() as session:
            return await runs.close_silent(session, dead, since=silent_since, at=at)

    async def acquire_lease(self, name: str, *, run_id: int, at: datetime) -> Lease | None:
        lock, lease = self._lock_name(name), None
        with CancelScope(shield=True):
            with translated(self._database.path):
                is_ours = await to_thread.run_sync(self._locks.acquire, lock)
            try:
                if is_ours:
                    async with self._database.writing() as session:
                        token = await runs.take_lease(session, name, run_id=run_id, at=at)
                    lease = Lease(name=name, token=token)
            finally:
                if is_ours and lease is None:
                    self._locks.release(lock)
        return lease

    async def release_lease(self, lease: Lease) -> None:
        with CancelScope(shield=True):
            async with self._database.writing() as session:
                is_held = await runs.give_lease_back(session, lease)
            # A lease that was given back before may have been acquired anew, with another token.
            if is_held:
                self._locks.release(self._lock_name(lease.name))

    async def lease_holder(self, name: str) -> Holder | None:
        async with self._database.reading() as session:
            return await runs.lease_holder(session, name)

    async def spend_quota(self, source: str, *, day: date, count: int, most: int) -> int:
        async with self._database.writing() as session:
            return await quota.spend(session, source, day=day, count=count, most=most)

    # Selectors

    async def selector_state(self, scope: Scope) -> SelectorState | None:
        async with self._database.reading() as session:
            return await selectors.state(session, scope)

    async def begin_selector(
        self, scope: Scope, *, run_id: int, name: str | None, token: str | None, at: datetime
    ) -> SelectorState:
        return await self._database.write(
            partial(selectors.begin, scope=scope, run_id=run_id, name=name, token=token, at=at)
        )

    async def has_unsettled(self, scope: Scope, *, older_than: datetime | None) -> bool:
        async with self._database.reading() as session:
            return await selectors.has_unsettled(session, scope, older_than=older_than)

    async def finish_selector(self, closing: SelectorClosing) -> int:
        return await self._database.write(partial(selectors.finish, closing=closing))

    async def settle_failures(
        self,
        *,
        bucket: str,
        source: str,
        dataset_type: str,
        selector_keys: Sequence[str],
        run_id: int,
    ) -> None:
        async with self._database.writing() as session:
            await selectors.settle_failures(
                session,
                bucket=bucket,
                source=source,
                dataset_type=dataset_type,
                selector_keys=selector_keys,
                run_id=run_id,
            )

    # Datasets

    async def look_up(
        self, *, bucket: str, stage: str, provider: str, dataset_type: str, keys: Sequence[str]
    ) -> Sequence[Stored | None]:
        async with self._database.reading() as session:
            return await reading.look_up(
                session,
                bucket=bucket,
                stage=stage,
                provider=provider,
                dataset_type=dataset_type,
                keys=keys,
            )

    async def agreements(
        self, *, bucket: str, stage: str, provider: str, dataset_type: str, keys: Sequence[str]
    ) -> Sequence[Agreed | None]:
        async with self._database.reading() as session:
            return await reading.agreements(
                session,
                bucket=bucket,
                stage=stage,
                provider=provider,
                dataset_type=dataset_type,
                keys=keys,
            )

    async def commit(
        self, batch: Sequence[Commit], *, leases: Sequence[Lease]
    ) -> Sequence[CommitResult]:
        def write(direct: Direct) -> Sequence[CommitResult]:
            commits.check_fences(direct, leases)
            return commits.write_together(direct, batch)

        def write_one_by_one(direct: Direct) -> Sequence[CommitResult]:
            commits.check_fences(direct, leases)
            return commits.write_one_by_one(direct, batch)

        try:
            return await self._database.write(write)
        except commits.BatchRefusedError:
            return await self._database.write(write_one_by_one)

    async def invalidate(self, query: DatasetQuery, *, reason: str, at: datetime) -> int:
        async with self._database.writing() as session:
            return await reading.invalidate(session, query, reason=reason, at=at)

    # Reading

    async def count(self, query: DatasetQuery) -> int:
        async with self._database.snapshot() as session:
            return await reading.count(session, query)

    async def find(
        self, query: DatasetQuery, *, after: int = 0, limit: int = 1000
    ) -> Sequence[Dataset]:
        async with self._database.snapshot() as session:
            return await reading.find(session, query, after=after, limit=limit)

    async def get(self, dataset_id: str) -> Dataset | None:
        async with self._database.snapshot() as session:
            return await reading.get(session, dataset_id)

    async def revisions(self, row_id: int) -> Sequence[Revision]:
        async with self._database.snapshot() as session:
            return await reading.revisions(session, row_id)

    async def checks(self, row_id: int) -> Sequence[FileCheck]:
        async with self._database.reading() as session:
            return await reading.checks(session, row_id)

    async def runs(self, *, limit: int = 20) -> Sequence[RunRow]:
        async with self._database.reading() as session:
            return await runs.newest(session, limit=limit)

    async def failures(
        self, *, run_id: int | None = None, dataset_id: str | None = None, limit: int = 1000
    ) -> Sequence[Failure]:
        async with self._database.reading() as session:
            return await runs.failures(session, run_id=run_id, dataset_id=dataset_id, limit=limit)

    # Upkeep

    async def kept_files(
        self, query: DatasetQuery, *, after: int = 0, limit: int = 1000
    ) -> Sequence[KeptFile]:
        async with self._database.snapshot() as session:
            return await upkeep.kept_files(session, query, after=after, limit=limit)

    async def files_by_row_id(self, row_ids: Sequence[int]) -> Sequence[KeptFile]:
        async with self._database.reading() as session:
            return await upkeep.files_by_row_id(session, row_ids)

    async def count_files(self, query: DatasetQuery) -> tuple[int, int]:
        async with self._database.snapshot() as session:
            return await upkeep.count_files(session, query)

    async def mark_files(self, *, damaged: Sequence[int], sound: Sequence[int]) -> None:
        async with self._database.writing() as session:
            await upkeep.mark_files(session, damaged=damaged, sound=sound)

    async def referenced(self, paths: Sequence[str]) -> AbstractSet[str]:
        async with self._database.reading() as session:
            return await upkeep.referenced(session, paths)

    async def listed_in(self, row_ids: Sequence[int]) -> Mapping[int, Sequence[str]]:
        async with self._database.reading() as session:
            return await upkeep.listed_in(session, row_ids)

    async def catalog_id(self) -> str:
        async with self._database.reading() as session:
            return await upkeep.catalog_id(session)

    async def delete(self, query: DatasetQuery, *, at: datetime) -> Deleted:
        async with self._database.writing() as session:
            return await upkeep.delete(session, query, at=at)

    async def doomed(self, *, after: str = "", limit: int = 1000) -> Sequence[str]:
        async with self._database.reading() as session:
            return await upkeep.doomed(session, after=after, limit=limit)

    async def forget_doomed(self, paths: Sequence[str]) -> None:
        async with self._database.writing() as session:
            await upkeep.forget_doomed(session, paths)

    # Copies

    async def free_bytes(self) -> int | None:
        with translated(self._database.path):
            stat = await to_thread.run_sync(os.statvfs, self._database.path.parent)
        return stat.f_bavail * stat.f_frsize if stat.f_blocks else None

    async def back_up(
        self,
        path: Path,
        *,
        replace: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> CatalogCopy:
        copying = backing_up.Copying(
            self._database.path,
            path.absolute(),
            load_statements(self._prefix),
            progress=progress,
        )
        return await to_thread.run_sync(partial(copying.run, replace=replace))

    # Events

    async def events(self, *, after: int = 0, limit: int = 1000) -> Sequence[Event]:
        async with self._database.reading() as session:
            return await outbox.events(session, after=after, limit=limit)

    async def last_event(self) -> int:
        async with self._database.reading() as session:
            return await outbox.last(session)

    async def reader_cursor(self, name: str) -> int | None:
        async with self._database.reading() as session:
            return await outbox.cursor(session, name)

    async def move_reader(
        self, name: str, *, event: int, expected: int | None, at: datetime
    ) -> bool:
        async with self._database.writing() as session:
            return await outbox.move(session, name, event=event, expected=expected, at=at)

    async def readers(self) -> Sequence[ReaderRow]:
        async with self._database.reading() as session:
            return await outbox.readers(session)

    def _lock_name(self, name: str) -> str:
        return f"{self._prefix}:{name}" if self._prefix else name
