"""Jobs: what is done on a connection in its own thread, several in one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeAlias, TypeVar

from ingestify.errors import CatalogError

T = TypeVar("T")

Row: TypeAlias = tuple[Any, ...]
Params: TypeAlias = Mapping[str, Any] | Sequence[Any]


class Direct:
    """One connection, spoken to in named statements by who is in its thread."""

    def __init__(self, connection: sqlite3.Connection, statements: Mapping[str, str]) -> None:
        self._connection = connection
        self._statements = statements

    def rows(self, name: str, params: Params = ()) -> list[Row]:
        """Every row that the statement called *name* gives."""
        return self._connection.execute(self._statements[name], params).fetchall()

    def row(self, name: str, params: Params = ()) -> Row | None:
        """The first row, if there is any."""
        rows = self.rows(name, params)
        return rows[0] if rows else None

    def run(self, name: str, params: Params = ()) -> int:
        """Do it. Returns how many rows were changed."""
        return self._connection.execute(self._statements[name], params).rowcount

    def run_many(self, name: str, params: Sequence[Params]) -> None:
        """Do it once for each of *params*, if there are any."""
        if params:
            self._connection.executemany(self._statements[name], params)

    @property
    def is_writing(self) -> bool:
        """Whether there is a transaction: the worst errors end it."""
        return self._connection.in_transaction


class Job(Generic[T]):
    """Work that waits to be done, and what came of it."""

    def __init__(self, work: Callable[[Direct], T]) -> None:
        self.work = work
        self.is_begun = False
        self.is_done = False
        self._result: T
        self.error: Exception | None = None  # that it has raised, or that it was undone for

    def outcome(self) -> T:
        """What the work has returned, or raise what it has raised."""
        if not self.is_done:
            raise CatalogError("what was to be written was interrupted")
        if self.error is not None:
            raise self.error
        return self._result

    def attempt(self, direct: Direct) -> None:
        """Do the work, and keep what comes of it."""
        try:
            self._result = self.work(direct)
        except Exception as exc:
            self.error = exc

    def fail(self, error: Exception) -> None:
        """It was undone because of *error*, unless it has one of its own."""
        self.error = self.error or error


def do_together(jobs: Sequence[Job[Any]], direct: Direct) -> None:
    """Do *jobs* in the transaction that is open, and commit what did not fail."""
    try:
        for job in jobs:
            direct.run("savepoint_of_job")
            job.attempt(direct)
            if job.error is not None:
                if not direct.is_writing:
                    raise job.error  # the whole transaction is gone, for all of them
                direct.run("undo_job")
            direct.run("release_job")
        direct.run("commit")
    except Exception as exc:
        for job in jobs:
            job.fail(exc)
        if direct.is_writing:
            direct.run("undo_all")
    for job in jobs:
        job.is_done = True
