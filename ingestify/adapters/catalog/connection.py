"""Connections to one SQLite file: one that writes, and some that read and never wait for it."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import aiosqlite
import anyio
from anyio import CancelScope
from anyio.lowlevel import checkpoint

from ingestify.adapters.catalog.failing import is_busy, translated
from ingestify.adapters.catalog.jobs import Direct, Job, Params, Row, do_together
from ingestify.errors import CatalogError

T = TypeVar("T")

READERS = 2
MOST_TOGETHER = 64  # jobs in one transaction
PATIENCE = timedelta(seconds=30)  # how long another process may hold the database


class _Connection(aiosqlite.Connection):
    """An aiosqlite connection that takes whole functions, too: each call that it is given costs
    a change of threads, which for most statements is more than the statement."""

    async def do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What *work* returns in the connection's thread."""
        return cast(T, await self._execute(work, self._conn))  # type: ignore[no-untyped-call]


class Session:
    """One connection, spoken to in named statements."""

    def __init__(self, connection: _Connection, statements: Mapping[str, str]) -> None:
        self._connection = connection
        self._statements = statements

    async def do(self, work: Callable[[Direct], T]) -> T:
        """What *work* returns, which is done in the connection's own thread, in one go."""
        return await self._connection.do(lambda raw: work(Direct(raw, self._statements)))

    async def rows(self, name: str, params: Params = ()) -> list[Row]:
        """Every row that the statement called *name* gives."""
        sql = self._statements[name]
        # aiosqlite declares sequences only; sqlite3 takes mappings for named values.
        values = cast(Sequence[Any], params)
        return cast(list[Row], await self._connection.execute_fetchall(sql, values))

    async def row(self, name: str, params: Params = ()) -> Row | None:
        """The first row, if there is any."""
        rows = await self.rows(name, params)
        return rows[0] if rows else None

    async def run(self, name: str, params: Params = ()) -> int:
        """Do it. Returns how many rows were changed."""
        values = cast(Sequence[Any], params)
        cursor = await self._connection.execute(self._statements[name], values)
        return cursor.rowcount

    async def run_many(self, name: str, params: Sequence[Params]) -> None:
        """Do it once for each of *params*, if there are any."""
        if params:
            values = cast(Sequence[Sequence[Any]], params)
            await self._connection.executemany(self._statements[name], values)

    async def rollback(self) -> None:
        """Undo the open transaction; without one, do nothing."""
        await self._connection.rollback()

    async def interrupt(self) -> None:
        """Make a running statement fail instead of waiting for its end."""
        await self._connection.interrupt()


class Database:
    """The connections to one file, and the rules for using them."""

    def __init__(
        self, path: Path, writer: Session, readers: Sequence[Session], patience: timedelta
    ) -> None:
        self.path = path
        self._writer = writer
        self._writing = anyio.Lock()
        self._jobs: list[Job[Any]] = []  # of callers who wait for their turn to write
        self._idle = list(readers)
        self._reading = anyio.Semaphore(len(readers))
        self._patience = patience
        self._was_in_vain = False
        self._is_hurried = False
        self._closed = False

    @classmethod
    @asynccontextmanager
    async def open(
        cls, path: Path, statements: Mapping[str, str], *, patience: timedelta = PATIENCE
    ) -> AsyncIterator[Database]:
        """Connect to the catalog at *path*, which has all its tables."""
        async with AsyncExitStack() as stack:
            writer = await stack.enter_async_context(_connected(path, statements, patience))
            readers = []
            for _ in range(READERS):
                reader = await stack.enter_async_context(_connected(path, statements, patience))
                await reader.rows("set_query_only")
                readers.append(reader)
            database = cls(path, writer, readers, patience)
            try:
                yield database
            finally:
                database._closed = True
                # Whoever still writes is waited for: closing under it would undo its work.
                with CancelScope(shield=True):
                    async with database._writing:
                        pass

    def hurry(self) -> None:
        """From now on wait for no other process, but for as long as SQLite takes to look."""
        self._is_hurried = True

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[Session]:
        """A transaction that is committed at the end, and undone if the block raises.

        A caller that is cancelled while it waits for its turn has changed nothing. From then on
        cancellation waits until the transaction is committed.
        """
        self._refuse_if_closed()
        async with self._writing:
            self._refuse_if_closed()
            with translated(self.path):
                await self._begin()
                with CancelScope(shield=True):
                    try:
                        yield self._writer
                        await self._writer.run("commit")
                    except BaseException:
                        # A native Task.cancel ignores the shield. The connection works in order,
                        # so this comes after whatever was interrupted, be it the COMMIT itself.
                        await self._writer.rollback()
                        raise

    async def write(self, work: Callable[[Direct], T]) -> T:
        """What *work* returns, done in a transaction that is committed then, or undone if it
        raises.

        Whoever gets the turn does the work of all who wait for it, too, in one transaction: one
        sync serves them all. Each of them stands or falls for itself. A caller that is cancelled
        before has changed nothing; one whose work is being done waits for its end, and then does
        not learn what came of it.
        """
        self._refuse_if_closed()
        job = Job(work)
        self._jobs.append(job)
        try:
            async with self._writing:
                if not job.is_begun:
                    await self._write_waiting(job)
                elif not job.is_done:  # who did it was cancelled natively: it goes on in its thread
                    await self._writer.do(_nothing)
        except BaseException:
            if not job.is_begun:
                self._jobs.remove(job)
            elif not job.is_done:
                with CancelScope(shield=True):
                    async with self._writing:
                        pass
            raise
        with translated(self.path):
            return job.outcome()

    async def _write_waiting(self, mine: Job[Any]) -> None:
        self._refuse_if_closed()
        with translated(self.path):
            await self._begin()
            with CancelScope(shield=True):
                others = [job for job in self._jobs if job is not mine][: MOST_TOGETHER - 1]
                jobs = [mine, *others]
                for job in jobs:
                    job.is_begun = True
                    self._jobs.remove(job)
                try:
                    await self._writer.do(partial(do_together, jobs))
                except BaseException:
                    await self._writer.rollback()  # comes after what was interrupted
                    raise

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Session]:
        """A connection for one question."""
        self._refuse_if_closed()
        async with self._reading:
            session = self._idle.pop()
            try:
                with translated(self.path):
                    yield session
            except BaseException:
                with CancelScope(shield=True):
                    await session.interrupt()
                    await session.rollback()
                raise
            finally:
                self._idle.append(session)

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Session]:
        """A connection for several questions about one and the same moment."""
        async with self.reading() as session:
            await session.run("begin_reading")
            yield session
            await session.run("commit")

    async def _begin(self) -> None:
        """Begin writing, or wait for another process in steps of the busy timeout.

        Who comes after somebody that has waited in vain does not wait: each of the last words of
        a Run would take as long again.
        """
        if self._is_hurried and self._was_in_vain:
            raise CatalogError(f"catalog {self.path} is still locked by another process")
        patience = timedelta(0) if self._was_in_vain else self._patience
        deadline = anyio.current_time() + patience.total_seconds()
        while True:
            with CancelScope(shield=True):
                try:
                    await self._writer.run("begin_writing")
                except sqlite3.OperationalError as exc:
                    is_late = self._is_hurried or anyio.current_time() > deadline
                    if not is_busy(exc) or is_late:
                        self._was_in_vain = is_busy(exc)
                        raise
                except BaseException:
                    await self._writer.rollback()
                    raise
                else:
                    self._was_in_vain = False
                    return  # into the caller's shield, without a moment to be cancelled between
            await checkpoint()  # a caller that gives up leaves here, with nothing begun

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise CatalogError(f"catalog {self.path} is closed")


@asynccontextmanager
async def _connected(
    path: Path, statements: Mapping[str, str], patience: timedelta
) -> AsyncIterator[Session]:
    connect = partial(
        sqlite3.connect, path, isolation_level=None, cached_statements=len(statements)
    )
    connection = _Connection(connect, iter_chunk_size=64)
    with translated(path), CancelScope(shield=True):
        await connection
    try:
        session = Session(connection, statements)
        with translated(path), CancelScope(shield=True):
            await _set_up(session, path, patience)
        yield session
    finally:
        with translated(path), CancelScope(shield=True):
            await connection.close()


async def _set_up(session: Session, path: Path, patience: timedelta) -> None:
    """Set what a connection does not have by itself, and make sure that it took effect."""
    await session.rows("set_busy_timeout")
    await session.rows("set_synchronous")
    await session.rows("set_foreign_keys")
    await session.rows("set_cache_size")
    await session.rows("set_autocheckpoint")
    answers = {
        "journal_mode": (await _write_ahead(session, patience), "wal"),
        "synchronous": (await session.row("get_synchronous"), 2),
        "foreign_keys": (await session.row("get_foreign_keys"), 1),
        "busy_timeout": (await session.row("get_busy_timeout"), 1000),
    }
    for setting, (answer, wanted) in answers.items():
        if answer != (wanted,):
            raise CatalogError(
                f"catalog {path}: SQLite answers {setting} = {answer} where {wanted!r} is needed."
                " It must lie on a local file system"
            )


async def _write_ahead(session: Session, patience: timedelta) -> Row | None:
    """Switch to write-ahead logging. SQLite does not wait here for others who just opened it."""
    deadline = anyio.current_time() + patience.total_seconds()
    while True:
        try:
            return await session.row("set_journal_mode")
        except sqlite3.OperationalError as exc:
            if not is_busy(exc) or anyio.current_time() > deadline:
                raise
        await anyio.sleep(0.01)


def _nothing(direct: Direct) -> None:
    """To be done after all that the connection was given before."""
