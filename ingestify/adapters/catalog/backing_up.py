"""A copy of the database file, as it is at one moment, while others go on writing.

The copy is made page by page from one snapshot, which a read transaction holds: writers neither
wait for it, nor make it begin anew. Their write-ahead log grows meanwhile.
"""

from __future__ import annotations

import errno
import os
import secrets
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from anyio import from_thread

from ingestify.adapters.catalog.failing import translated
from ingestify.errors import CatalogError
from ingestify.model.catalog import CatalogCopy

PAGES = 1000  # copied at once; between two steps a cancelled copy ends
BESIDE = ("-wal", "-shm", "-journal")  # what belongs to a database that somebody has open
NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


@dataclass(frozen=True, slots=True)
class Copying:
    """One copy of the database *source*, to be made at *target*."""

    source: Path
    target: Path
    sql: Mapping[str, str]
    progress: Callable[[int, int], None] | None = None

    def run(self, *, replace: bool) -> CatalogCopy:
        """Make it. Blocks, in one of anyio's threads; ends early if its caller is cancelled.

        Raises:
            CatalogError: see `Catalog.back_up`.
        """
        target = self.target
        _refuse_unless_free(self.source, target, replace=replace)
        temp = target.with_name(f".{target.name}.{secrets.token_hex(6)}.tmp")
        try:
            with translated(target):
                self._copy_pages(temp)
                made = _looked_through(temp, target, self.sql)
                _sync(temp)
                _give_name(temp, target, replace=replace)
                _sync(target.parent)
        finally:
            for left in (temp, *(temp.with_name(temp.name + ending) for ending in BESIDE)):
                with suppress(OSError):
                    left.unlink()
        return made

    def _copy_pages(self, temp: Path) -> None:
        os.close(os.open(temp, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        with (
            closing(sqlite3.connect(self.source, timeout=30, isolation_level=None)) as one,
            closing(sqlite3.connect(temp, isolation_level=None)) as other,
        ):
            one.execute(self.sql["begin_reading"])
            one.execute(self.sql["count_tables"]).fetchall()  # from here on it is one moment
            one.backup(other, pages=PAGES, progress=self._go_on, sleep=0)
            one.execute(self.sql["commit"])
            # What is committed from now on would be debris to the copy: to lakes it is another.
            other.execute(self.sql["rename_copy"])

    def _go_on(self, status: int, remaining: int, total: int) -> None:
        from_thread.check_cancelled()
        if self.progress is not None:
            self.progress(total - remaining, total)


def _refuse_unless_free(source: Path, target: Path, *, replace: bool) -> None:
    if not target.parent.is_dir():
        raise CatalogError(f"there is no folder {target.parent} to put a copy in")
    if target.is_dir():
        raise CatalogError(f"{target} is a folder: name a file in it")
    own = [source, *(source.with_name(source.name + ending) for ending in BESIDE)]
    if target.resolve() in [path.resolve() for path in own]:
        raise CatalogError(f"{target} belongs to the catalog itself: copy it elsewhere")
    if target.exists() and not replace:
        raise CatalogError(f"{target} is there already, and was not touched")
    for ending in BESIDE:
        beside = target.with_name(target.name + ending)
        if beside.exists():
            raise CatalogError(
                f"{beside} is there: somebody has {target.name} open, or left it behind. Nothing"
                " was touched; copy the catalog elsewhere"
            )


def _looked_through(temp: Path, target: Path, sql: Mapping[str, str]) -> CatalogCopy:
    """What is in the copy at *temp*, which is read without leaving anything beside it."""
    uri = f"{temp.absolute().as_uri()}?immutable=1"
    with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as connection:
        try:
            answers = [answer for (answer,) in connection.execute(sql["check_copy"])]
        except sqlite3.DatabaseError as exc:
            answers = [str(exc)]
        if answers != ["ok"]:
            raise CatalogError(
                f"the copy to {target} is not sound, and was thrown away: {answers[0]}. The disk"
                " there, or the catalog itself, is damaged"
            )
        datasets, revisions, files, runs = connection.execute(sql["count_copy"]).fetchone()
    return CatalogCopy(
        path=str(target),
        size=temp.stat().st_size,
        datasets=datasets,
        revisions=revisions,
        files=files,
        runs=runs,
    )


def _give_name(temp: Path, target: Path, *, replace: bool) -> None:
    if replace:
        temp.replace(target)
        return
    try:
        os.link(temp, target)  # unlike a rename, it never takes a name away from another file
    except FileExistsError:
        raise CatalogError(f"{target} is there already, and was not touched") from None
    except OSError as exc:
        if exc.errno not in NO_LINKS:
            raise
        temp.rename(target)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
