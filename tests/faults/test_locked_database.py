"""Another process holds the catalog's write lock: a short while, or for ever."""

from __future__ import annotations

import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import anyio
from processes import RealLake, ended, real_lake

from ingestify.testing import hang_until

# `ingestify`, that waits for one second only.
IMPATIENT = """
import functools, sys
from datetime import timedelta
from ingestify.adapters.catalog.sqlite import SqliteCatalog
SqliteCatalog.open = functools.partial(SqliteCatalog.open, patience=timedelta(seconds=1))
from ingestify.__main__ import main
sys.exit(main())
"""
THINGS = 4


@contextmanager
def locked(path: Path) -> Iterator[sqlite3.Connection]:
    """The write lock of the database at *path*, until the end or until it is rolled back."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield connection


async def until_published(lake: RealLake, count: int) -> None:
    """Return when *count* files have got their names: their commit comes next."""
    with anyio.fail_after(60):
        while lake.published() < count:  # noqa: ASYNC110  # nobody tells
            await anyio.sleep(0.01)


async def test_a_lock_that_is_given_back_is_waited_for(tmp_path: Path) -> None:
    """
    A Run that wants to commit while another process writes waits, and then commits. Until then
    readers see what was before.
    """
    async with real_lake(tmp_path, things=THINGS) as lake:
        gate = anyio.Event()
        script = lake.provider.script("data/*", hang_until(gate))
        published = lake.published()
        async with lake.started() as process:
            await lake.provider.until(lambda: script.taken > 0)
            with locked(lake.catalog) as connection:
                gate.set()
                await until_published(lake, published + 2 * THINGS)
                assert set((await lake.look()).revisions.values()) == {0}
                assert process.returncode is None
                connection.execute("ROLLBACK")
            done = await ended(process)
        assert done.code == 0, done.err
        assert set((await lake.look()).revisions.values()) == {1}


async def test_a_lock_that_is_kept_ends_the_run_with_its_name(tmp_path: Path) -> None:
    """
    A Run that cannot commit any more names the file and the way out, ends with 3 and leaves
    nothing staged. What it has published without a row harms nobody; the next Run heals it.
    """
    async with real_lake(tmp_path, things=THINGS) as lake:
        gate = anyio.Event()
        script = lake.provider.script("data/*", hang_until(gate))
        async with lake.started(program=("-c", IMPATIENT)) as process:
            await lake.provider.until(lambda: script.taken > 0)
            with locked(lake.catalog):
                gate.set()
                done = await ended(process)
        assert done.code == 3
        assert f"catalog {lake.catalog} is locked by another process" in done.err
        assert "end it" in done.err
        assert lake.staged() == []
        assert set((await lake.look()).revisions.values()) == {0}
        await lake.good_run()


async def test_a_catalog_locked_from_the_first_moment_is_named(tmp_path: Path) -> None:
    """
    A Run that cannot even be begun asks the provider for nothing.
    """
    async with real_lake(tmp_path, things=THINGS) as lake:
        with locked(lake.catalog):
            done = await lake.run(program=("-c", IMPATIENT))
        assert done.code == 3
        assert f"catalog {lake.catalog} is locked by another process" in done.err
        assert lake.provider.count() == 0
        await lake.good_run()


async def test_a_signal_while_the_catalog_is_locked_ends_the_run(tmp_path: Path) -> None:
    """
    Whoever wants to stop a Run that waits for the catalog gets its end and its exit code, and is
    told what it could not write down; the next Run heals it.
    """
    async with real_lake(tmp_path, things=THINGS) as lake:
        gate = anyio.Event()
        script = lake.provider.script("data/*", hang_until(gate))
        published = lake.published()
        async with lake.started(program=("-c", IMPATIENT)) as process:
            await lake.provider.until(lambda: script.taken > 0)
            with locked(lake.catalog):
                gate.set()
                await until_published(lake, published + 2 * THINGS)
                process.send_signal(signal.SIGINT)
                done = await ended(process)
        assert done.code == 130
        assert f"catalog {lake.catalog} is locked by another process" in done.err
        assert lake.staged() == []
        await lake.good_run()
