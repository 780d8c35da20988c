"""Whose a database file is, and the steps that bring it to the tables we know."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path

from ingestify.adapters.catalog.failing import is_busy
from ingestify.adapters.catalog.statements import load_migrations, load_statements
from ingestify.errors import CatalogError, ForeignCatalogError

APPLICATION_ID = 0x696E6765  # "inge"; also in set_application_id
SMALLEST_PAGE = 512  # bytes; https://sqlite.org/fileformat.html, 1.3.2
OLDEST_SQLITE = (3, 37, 0)  # the first one with STRICT tables


def prepare(
    path: Path,
    *,
    table_prefix: str,
    create: bool,
    patience: timedelta,
    go_on: Callable[[], None] = lambda: None,
) -> None:
    """Make sure that *path* is a catalog with all our tables. Blocks.

    *go_on* is called now and then while another process is waited for; it may raise.

    A database that is not ours, or newer than we are, is only ever read, and in a way that
    leaves no file beside it.

    Raises:
        ForeignCatalogError: it is not ours, or newer.
        CatalogError: there is none and *create* is off, or it cannot be made.
    """
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        raise CatalogError(
            f"SQLite {sqlite3.sqlite_version} is too old: at least"
            f" {'.'.join(map(str, OLDEST_SQLITE))} is needed"
        )
    version = 0
    if path.exists() and path.stat().st_size:
        version = _look(path, table_prefix)
    elif not create:
        raise CatalogError(f"there is no catalog at {path}")
    else:
        _make_folder(path.parent)
    if version < max(load_migrations(table_prefix)):
        _migrate(path, table_prefix, patience, go_on)


def _look(path: Path, table_prefix: str) -> int:
    """The version of our tables in the database at *path*, which is only read."""
    if path.stat().st_size < SMALLEST_PAGE:  # to SQLite, that is an empty database
        raise ForeignCatalogError(f"{path} is not a catalog. It was not touched")
    try:
        is_ours = _application_id(path) == APPLICATION_ID
    except sqlite3.DatabaseError as exc:
        raise ForeignCatalogError(f"{path} is not a catalog ({exc}). It was not touched") from exc
    if is_ours and path.with_name(f"{path.name}-journal").exists():
        return 0  # its creation was interrupted: only a connection that may write can undo it
    try:
        with closing(_connect_to_look(path, at_log=True)) as connection:
            return _refuse_if_foreign(connection, path, table_prefix)
    except sqlite3.DatabaseError as exc:
        if is_ours:
            return 0  # perhaps somebody writes it right now: whoever may lock it will see
        raise ForeignCatalogError(f"{path} is not a catalog ({exc}). It was not touched") from exc


def _application_id(path: Path) -> int:
    """Whose the database is, by what its first page says.

    Asked through SQLite: closing a file of our own would give back all locks that this process
    has on it, also those of other connections (https://sqlite.org/howtocorrupt.html, 2.2).
    """
    sql = load_statements("")
    with closing(_connect_to_look(path, at_log=False)) as connection:
        connection.execute(sql["take_what_is_there"])
        found: int = connection.execute(sql["get_application_id"]).fetchone()[0]
    return found


def _connect_to_look(path: Path, *, at_log: bool) -> sqlite3.Connection:
    """A connection that changes nothing, and leaves nothing beside the file.

    Even a reader would create a write-ahead log where there is none, unless the file is declared
    immutable; then what a log holds is not seen. While there is one, it stays where it is.
    """
    log = path.with_name(f"{path.name}-wal")
    has_log = at_log and log.exists() and log.stat().st_size > 0
    mode = "mode=ro" if has_log else "immutable=1"
    return sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", uri=True, isolation_level=None)


def _refuse_if_foreign(connection: sqlite3.Connection, path: Path, table_prefix: str) -> int:
    """The version of our tables; 0 where there are none yet."""
    sql = load_statements(table_prefix)
    (application_id,) = connection.execute(sql["get_application_id"]).fetchone()
    (tables,) = connection.execute(sql["count_tables"]).fetchone()
    if application_id != APPLICATION_ID and (application_id or tables):
        raise ForeignCatalogError(
            f"{path} is a database of something else (application id {application_id},"
            f" {tables} tables and indexes). It was not touched; choose another metadata_url"
        )
    if not connection.execute(sql["has_version"]).fetchone()[0]:
        return 0
    version: int = connection.execute(sql["get_version"]).fetchone()[0]
    newest = max(load_migrations(table_prefix))
    if version > newest:
        raise ForeignCatalogError(
            f"{path} was written by a newer ingestify: its tables have version {version}, this"
            f" one knows {newest}. It was not touched; update ingestify"
        )
    return version


def _migrate(path: Path, table_prefix: str, patience: timedelta, go_on: Callable[[], None]) -> None:
    """Bring the tables up to date, each step in a transaction of its own.

    Another process may do the same: whose turn it is, and what is left to do, is looked at
    under the write lock. A new file gets its write-ahead log only afterwards, so that its
    application id is in the file itself from the first moment it has tables.
    """
    migrations = load_migrations(table_prefix)
    with closing(sqlite3.connect(path, timeout=1, isolation_level=None)) as connection:
        while True:
            with _transaction(connection, load_statements(table_prefix), patience, go_on):
                version = _refuse_if_foreign(connection, path, table_prefix)
                due = [number for number in migrations if number > version]
                if not due:
                    return
                _apply(connection, table_prefix, due[0], migrations[due[0]])


def _apply(
    connection: sqlite3.Connection, table_prefix: str, number: int, migration: tuple[str, ...]
) -> None:
    sql = load_statements(table_prefix)
    if not connection.execute(sql["has_version"]).fetchone()[0]:
        connection.execute(sql["set_application_id"])
        connection.execute(sql["create_version"])
        connection.execute(sql["insert_version"])
    for statement in migration:
        connection.execute(statement)
    connection.execute(sql["set_version"], {"version": number})


@contextmanager
def _transaction(
    connection: sqlite3.Connection,
    sql: Mapping[str, str],
    patience: timedelta,
    go_on: Callable[[], None],
) -> Iterator[None]:
    deadline = time.monotonic() + patience.total_seconds()
    while True:
        try:
            connection.execute(sql["begin_writing"])
            break
        except sqlite3.OperationalError as exc:
            if not is_busy(exc) or time.monotonic() > deadline:
                raise
        go_on()
    try:
        yield
        connection.execute(sql["commit"])
    finally:
        connection.rollback()  # does nothing after the commit


def _make_folder(folder: Path) -> None:
    """Make *folder* and its parents, durably: what lies in a lost folder is lost."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for made in missing:
        descriptor = os.open(made.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
