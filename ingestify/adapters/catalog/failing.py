"""What SQLite and the operating system say when they fail, in our own words."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ingestify.errors import CatalogError

WAYS_OUT = {
    sqlite3.SQLITE_BUSY: (
        "is locked by another process. Wait for it, or end it: another run, a backup, or a"
        " database tool with an open transaction"
    ),
    sqlite3.SQLITE_LOCKED: "is locked by another connection of this process",
    sqlite3.SQLITE_FULL: "cannot grow: the disk is full. Make room and run again",
    sqlite3.SQLITE_READONLY: "is read-only. Make the file and its folder writable",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened. Check that its folder exists and is writable",
    sqlite3.SQLITE_IOERR: (
        "cannot be read or written: the disk reports an error, or is full. Check it, make room"
        " and run again"
    ),
    sqlite3.SQLITE_CORRUPT: "is damaged. Restore it from a backup",
    sqlite3.SQLITE_NOTADB: "is not a database any more. Restore it from a backup",
}


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Raise what SQLite or the operating system raises as a `CatalogError` about *path*."""
    try:
        yield
    except (sqlite3.Error, OSError) as exc:
        raise CatalogError(_message(path, exc)) from exc
    except UnicodeEncodeError as exc:  # its text tells one character, spelled out
        raise CatalogError(f"catalog {path} keeps only text that is Unicode: {exc}") from exc


def is_busy(exc: sqlite3.Error) -> bool:
    """Whether another connection was in the way, so that trying again may help."""
    return _primary_code(exc) == sqlite3.SQLITE_BUSY


def _primary_code(exc: BaseException) -> int:
    # An extended code, such as SQLITE_IOERR_FSYNC, carries its primary one in the low byte.
    code: int = getattr(exc, "sqlite_errorcode", 0)
    return code & 0xFF


def _message(path: Path, exc: sqlite3.Error | OSError) -> str:
    way_out = WAYS_OUT.get(_primary_code(exc))
    if way_out is None:
        return f"catalog {path}: {exc}"
    return f"catalog {path} {way_out} ({exc})"
