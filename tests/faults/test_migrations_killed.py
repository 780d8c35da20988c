"""kill -9 while the catalog's tables are made, or brought up to date (G26)."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from processes import IS_LONG, dice, strace, tell
from tracing import counts_at, read_log

from ingestify.adapters.catalog import migrations
from ingestify.adapters.catalog.statements import load_migrations

KILLS_EACH = 40 if IS_LONG else 2  # for each kind of call
CALLS = ("openat", "pwrite64", "fsync", "fdatasync", "unlink", "mkdir", "ftruncate", "close")
NEWEST = max(load_migrations(""))

PREPARE = """
import sys
from datetime import timedelta
from pathlib import Path
from ingestify.adapters.catalog.migrations import prepare
prepare(Path(sys.argv[1]), table_prefix="", create=True, patience=timedelta(seconds=9))
"""


def prepare(path: Path) -> None:
    """What every opening of a catalog does first."""
    migrations.prepare(path, table_prefix="", create=True, patience=timedelta(seconds=9))


def version_of(path: Path) -> int:
    """The version of the tables at *path*, which must be a whole database; 0: none."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        names = [row[0] for row in connection.execute("SELECT name FROM sqlite_schema")]
        if "catalog_version" not in names:
            assert names == []
            return 0
        version: int = connection.execute("SELECT version FROM catalog_version").fetchone()[0]
        return version


def tables_of(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as connection:
        return {str(row) for row in connection.execute("SELECT type, name, sql FROM sqlite_schema")}


def make(path: Path, version: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A catalog as an ingestify of that *version* has left it; 0: none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if version:
        known = load_migrations("")
        with monkeypatch.context() as patch:
            old = {number: each for number, each in known.items() if number <= version}
            patch.setattr(migrations, "load_migrations", lambda prefix: old)
            prepare(path)
        assert version_of(path) == version


@pytest.mark.parametrize("version", range(NEWEST))
def test_a_killed_migration_leaves_one_version_or_the_other(
    version: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """
    Whichever disk call is the last one, the database is whole and has the tables of some
    version, old or new; the next opening completes it.
    """
    chance = dice(f"migration {version}")
    log, old = tmp_path / "calls", tmp_path / "old" / "catalog.db"
    make(old, version, monkeypatch)
    whole = tmp_path / "whole" / "catalog.db"
    prepare(whole)

    def killed_at(path: Path, *options: str) -> int:
        path.parent.mkdir(exist_ok=True)
        if version:
            shutil.copyfile(old, path)
        traced = ",".join(f"?{name}" for name in CALLS)
        command = [strace(), "-f", "-y", "-o", str(log), "-e", f"trace={traced}", *options]
        return subprocess.run([*command, sys.executable, "-c", PREPARE, str(path)]).returncode

    assert killed_at(tmp_path / "clean" / "catalog.db") == 0
    moments = counts_at(read_log(log), str(tmp_path / "clean"))
    assert {"pwrite64", "fdatasync"} <= set(moments)
    found: Counter[int] = Counter()
    for name, numbers in moments.items():
        for number in chance.sample(numbers, min(KILLS_EACH, len(numbers))):
            path = tmp_path / f"{name}-{number}" / "catalog.db"
            code = killed_at(path, "-e", f"inject={name}:signal=KILL:when={number}")
            assert code != 0, f"{name} {number} did not kill it"
            if path.exists():
                found[version_of(copy_of(path))] += 1
            prepare(path)
            assert version_of(path) == NEWEST
            assert tables_of(path) == tables_of(whole)
    assert set(found) <= set(range(version, NEWEST + 1))
    told = ", ".join(f"{count} at version {each}" for each, count in sorted(found.items()))
    tell(capsys, f"kills of a migration from version {version}: {found.total()} ({told})")


def copy_of(path: Path) -> Path:
    """Another database like that at *path*, to be looked at: SQLite mends what it opens."""
    copy = path.with_name("copy.db")
    for suffix in ("", "-journal", "-wal"):
        file = path.with_name(path.name + suffix)
        if file.exists():
            shutil.copyfile(file, copy.with_name(copy.name + suffix))
    return copy
