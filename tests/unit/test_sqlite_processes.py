"""The Catalog in a SQLite file among processes: who makes it, who holds what, who dies."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from ingestify.adapters.catalog import migrations
from ingestify.adapters.catalog.connection import Session
from ingestify.adapters.catalog.sqlite import SqliteCatalog
from ingestify.adapters.catalog.statements import load_statements
from ingestify.errors import CatalogError
from ingestify.model.catalog import DatasetQuery
from ingestify.model.run import RunStatus
from ingestify.testing.contracts.catalog_values import (
    NOON,
    begin_run,
    commit_all,
    dataset_commit,
    minutes,
    stored_file,
)

IMPATIENT = timedelta(0)


LATER = """
    DROP TRIGGER {prefix}file_check_in_doubt;
    DROP TABLE {prefix}agreement;
    DROP TABLE {prefix}identity_part;
    ALTER TABLE {prefix}selector_state DROP COLUMN settled;
    ALTER TABLE {prefix}selector_state DROP COLUMN listed;
    DROP TABLE {prefix}quota;
    DROP TABLE {prefix}doomed;
    DROP TABLE {prefix}catalog_identity;
    UPDATE {prefix}revision SET metadata = (
        SELECT metadata FROM {prefix}dataset AS dataset
        WHERE dataset.row_id = {prefix}revision.dataset
    ) WHERE metadata = '';
    UPDATE {prefix}catalog_version SET version = 1
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "catalog.db"


@contextmanager
def database(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection of somebody else's."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


def set_back_to_version_1(path: Path, prefix: str) -> None:
    """Take away what later versions have added to the tables."""
    with database(path) as connection:
        for statement in LATER.replace("{prefix}", prefix).split(";"):
            connection.execute(statement)


def python(code: str, *args: object) -> subprocess.Popen[str]:
    """Another process, spoken to in lines."""
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, args)]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )


@contextmanager
def started(process: subprocess.Popen[str], *, says: str) -> Iterator[subprocess.Popen[str]]:
    """*process* from when it has said so until the end of the block."""
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        try:
            assert process.stdout.readline().strip() == says
            yield process
        finally:
            process.kill()


class TestMigrations:
    """How the tables come about."""

    async def test_two_processes_may_make_the_same_catalog(self, path: Path) -> None:
        """
        Whoever opens a new file together with others finds it complete.
        """
        code = """
            import asyncio, sys
            from datetime import UTC, datetime
            from pathlib import Path
            from ingestify.adapters.catalog.sqlite import SqliteCatalog

            async def main():
                print("ready", flush=True)
                sys.stdin.readline()
                async with SqliteCatalog.open(Path(sys.argv[1])) as catalog:
                    await catalog.begin_run(started_at=datetime.now(UTC), fingerprint="")

            asyncio.run(main())
        """
        processes = [python(code, path) for _ in range(4)]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        for process in processes:
            with process:
                assert process.wait(30) == 0

        async with SqliteCatalog.open(path, create=False) as catalog:
            assert len(await catalog.runs()) == 4

    def test_a_migration_is_all_or_nothing(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        A step that fails half way leaves the tables and the version from before.
        """
        migrations.prepare(path, table_prefix="", create=True, patience=IMPATIENT)
        before = path.read_bytes()
        newest = max(migrations.load_migrations(""))
        step = newest + 1
        done = dict.fromkeys(range(1, step), ("never again",))
        broken = {**done, step: ("CREATE TABLE half (x)", "CREATE nonsense")}
        monkeypatch.setattr(migrations, "load_migrations", lambda prefix: broken)
        with pytest.raises(sqlite3.OperationalError):
            migrations.prepare(path, table_prefix="", create=True, patience=IMPATIENT)
        assert path.read_bytes() == before

        mended = {**done, step: ("CREATE TABLE half (x)",)}
        monkeypatch.setattr(migrations, "load_migrations", lambda prefix: mended)
        migrations.prepare(path, table_prefix="", create=True, patience=IMPATIENT)
        with database(path) as connection:
            assert connection.execute("SELECT version FROM catalog_version").fetchall() == [(step,)]
            assert connection.execute("SELECT * FROM half").fetchall() == []

    @pytest.mark.parametrize("prefix", ["", "lake_"])
    async def test_an_older_catalog_is_brought_up_to_date(self, path: Path, prefix: str) -> None:
        """
        What a catalog of version 1 holds is there afterwards, and it has a name that stays.
        """
        async with SqliteCatalog.open(path, table_prefix=prefix) as catalog:
            await commit_all(catalog, dataset_commit(1, stored_file()))
            await commit_all(catalog, dataset_commit(1, stored_file(body="b"), base=0))
            [dataset] = await catalog.find(DatasetQuery())
            events = await catalog.events()
        set_back_to_version_1(path, prefix)
        with database(path) as connection:
            version = load_statements(prefix)["get_version"]
            assert connection.execute(version).fetchone() == (1,)

        for _ in range(2):
            async with SqliteCatalog.open(path, table_prefix=prefix) as catalog:
                assert await catalog.find(DatasetQuery()) == [dataset]
                assert await catalog.events() == events
                assert len(await catalog.kept_files(DatasetQuery())) == 2
                assert await catalog.doomed() == []
                name = await catalog.catalog_id()
                assert len(name) == 32
        async with SqliteCatalog.open(path, table_prefix=prefix) as catalog:
            assert await catalog.catalog_id() == name
            assert (await catalog.delete(DatasetQuery(), at=NOON)).files == 2

    async def test_identities_of_an_older_catalog_can_be_found_by_their_parts(
        self, path: Path
    ) -> None:
        """
        As exactly as those that are new: an integer of any size, text that looks like one, and
        text with whatever JSON has to escape.
        """
        values: list[int | str] = [1, "1", 2**70, str(2**70), -5, "", 'a"b\\c', "é", "e\u0301"]
        async with SqliteCatalog.open(path) as catalog:
            await commit_all(catalog, *[dataset_commit(value) for value in values])
        set_back_to_version_1(path, "")

        async with SqliteCatalog.open(path) as catalog:
            await commit_all(catalog, *[dataset_commit(f"new {value}") for value in values])
            for value in values:
                for wanted in (value, f"new {value}"):
                    query = DatasetQuery(identifier={"match_id": wanted})
                    [found] = await catalog.find(query)
                    assert found.identifier["match_id"] == wanted
                    assert await catalog.count(query) == 1

    async def test_an_update_that_fails_leaves_the_older_catalog(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        A step is made as a whole: the catalog of version 1 is as it was.
        """
        steps = migrations.load_migrations("")
        async with SqliteCatalog.open(path) as catalog:
            await commit_all(catalog, dataset_commit(1, stored_file()))
        set_back_to_version_1(path, "")
        with monkeypatch.context() as patch:
            broken = {1: steps[1], 2: (*steps[2], "SELECT nonsense")}
            patch.setattr(migrations, "load_migrations", lambda _: broken)
            with pytest.raises(CatalogError, match="nonsense"):
                async with SqliteCatalog.open(path):
                    pass
        with database(path) as connection:
            assert connection.execute("SELECT version FROM catalog_version").fetchone() == (1,)
            tables = (
                "SELECT count(*) FROM sqlite_schema WHERE name IN ('doomed', 'catalog_identity')"
            )
            assert connection.execute(tables).fetchone() == (0,)
        async with SqliteCatalog.open(path) as catalog:
            assert await catalog.count(DatasetQuery()) == 1

    def test_a_killed_creation_can_be_repeated(self, tmp_path: Path) -> None:
        """
        Whenever the process that makes a catalog is killed, the next one makes it.
        """
        code = """
            import os, signal, sys
            from contextlib import suppress
            from datetime import timedelta
            from pathlib import Path
            from ingestify.adapters.catalog import migrations

            steps = int(sys.argv[2])
            known = migrations.load_migrations("")

            class Counted(tuple):
                def __iter__(self):
                    for number, statement in enumerate(super().__iter__()):
                        if number == steps:
                            os.kill(os.getpid(), signal.SIGKILL)
                        yield statement

            counted = {number: Counted(steps) for number, steps in known.items()}
            migrations.load_migrations = lambda prefix: counted
            migrations.prepare(
                Path(sys.argv[1]), table_prefix="", create=True, patience=timedelta(seconds=9)
            )
        """
        for steps in (0, 1, 5):
            path = tmp_path / f"{steps}.db"
            with python(code, path, steps) as process:
                assert process.wait(30) == -signal.SIGKILL
            migrations.prepare(path, table_prefix="", create=True, patience=IMPATIENT)
            with database(path) as connection:
                assert connection.execute("SELECT version FROM catalog_version").fetchone()
                assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


HOLDER = """
    import asyncio, sys
    from datetime import UTC, datetime
    from pathlib import Path
    from ingestify.adapters.catalog.sqlite import SqliteCatalog

    async def main():
        at = datetime(2024, 5, 1, 12, tzinfo=UTC)
        async with SqliteCatalog.open(Path(sys.argv[1])) as catalog:
            run_id = await catalog.begin_run(started_at=at, fingerprint="")
            lease = await catalog.acquire_lease("plan", run_id=run_id, at=at)
            print("held" if lease else "refused", flush=True)
            sys.stdin.readline()

    asyncio.run(main())
"""


class TestOtherProcesses:
    """What another process does to us, and its end."""

    async def test_a_lease_is_held_across_processes(self, path: Path) -> None:
        """
        A plan that another process runs cannot be had, however long that process is silent.
        """
        async with SqliteCatalog.open(path) as catalog:
            with started(python(HOLDER, path), says="held"):
                run_id = await begin_run(catalog)
                assert await catalog.acquire_lease("plan", run_id=run_id, at=NOON) is None
                later = {"silent_since": minutes(99), "at": minutes(99)}
                assert await catalog.close_crashed_runs(**later) == [run_id]

    async def test_a_lease_dies_with_its_process(self, path: Path) -> None:
        """
        After kill -9 the next run gets the plan at once, and the dead one shows as crashed.
        """
        async with SqliteCatalog.open(path) as catalog:
            with started(python(HOLDER, path), says="held") as process:
                process.send_signal(signal.SIGKILL)
                process.wait(30)
            run_id = await begin_run(catalog)
            lease = await catalog.acquire_lease("plan", run_id=run_id, at=minutes(1))

            assert lease is not None
            assert lease.token == 2
            alive, dead = await catalog.runs()
            assert (alive.run_id, alive.status) == (run_id, RunStatus.RUNNING)
            assert (dead.status, dead.finished_at) == (RunStatus.CRASHED, minutes(1))

    async def test_a_silent_run_of_a_dead_process_has_crashed(self, path: Path) -> None:
        """
        A Run that left its lease behind by dying is closed by whoever looks.
        """
        async with SqliteCatalog.open(path) as catalog:
            with started(python(HOLDER, path), says="held") as process:
                process.send_signal(signal.SIGKILL)
                process.wait(30)
            closed = await catalog.close_crashed_runs(silent_since=minutes(1), at=minutes(1))
            assert closed == [1]

    async def test_a_child_process_does_not_keep_a_lease(self, path: Path) -> None:
        """
        A program that was started while a lease was held does not hold it.
        """
        child = None
        try:
            async with SqliteCatalog.open(path) as catalog:
                run_id = await begin_run(catalog)
                assert await catalog.acquire_lease("plan", run_id=run_id, at=NOON) is not None
                child = await asyncio.create_subprocess_exec("sleep", "60", close_fds=False)
            async with SqliteCatalog.open(path) as catalog:
                assert await catalog.acquire_lease("plan", run_id=run_id, at=NOON) is not None
        finally:
            if child is not None:
                child.kill()
                await child.wait()

    async def test_a_database_locked_by_another_process_is_named(self, path: Path) -> None:
        """
        Whoever has waited long enough is told which file is locked, and what to do.
        """
        code = """
            import sqlite3, sys
            connection = sqlite3.connect(sys.argv[1], isolation_level=None)
            connection.execute("BEGIN IMMEDIATE")
            print("locked", flush=True)
            sys.stdin.readline()
        """
        async with SqliteCatalog.open(path, patience=IMPATIENT) as catalog:
            await commit_all(catalog, dataset_commit(1))
            with started(python(code, path), says="locked"):
                with pytest.raises(CatalogError, match=r"catalog\.db is locked .* Wait"):
                    await catalog.commit([dataset_commit(2)], leases=[])
                assert await catalog.count(DatasetQuery()) == 1
                async with SqliteCatalog.open(path, patience=IMPATIENT) as reader:
                    assert await reader.count(DatasetQuery()) == 1
            await commit_all(catalog, dataset_commit(2))

    async def test_a_lock_that_ends_in_time_is_waited_for(self, path: Path) -> None:
        """
        Another process that writes for longer than SQLite waits by itself is no error.
        """
        code = """
            import sqlite3, sys, time
            connection = sqlite3.connect(sys.argv[1], isolation_level=None)
            connection.execute("BEGIN IMMEDIATE")
            print("locked", flush=True)
            time.sleep(1.2)
        """
        async with SqliteCatalog.open(path) as catalog:
            with started(python(code, path), says="locked"):
                await commit_all(catalog, dataset_commit(1))

    async def test_whoever_is_in_a_hurry_waits_for_nobody(self, path: Path) -> None:
        """
        Neither whoever waits already, although nothing can cancel it, nor those who come after.
        """
        failed: list[str] = []

        async def begin(catalog: SqliteCatalog) -> None:
            with anyio.CancelScope(shield=True), pytest.raises(CatalogError, match="locked"):
                await begin_run(catalog)
            failed.append("begun")

        async with SqliteCatalog.open(path, patience=timedelta(minutes=10)) as catalog:
            with database(path) as other, anyio.fail_after(60):
                other.execute("BEGIN IMMEDIATE")
                async with anyio.create_task_group() as tg:
                    for _ in range(3):
                        tg.start_soon(begin, catalog)
                    await anyio.wait_all_tasks_blocked()
                    catalog.hurry()
                with pytest.raises(CatalogError, match="still locked"):
                    await begin_run(catalog)
            assert len(failed) == 3

    async def test_opening_a_locked_catalog_can_be_cancelled(self, path: Path) -> None:
        """
        Also while its tables wait to be brought up to date, which is done in a thread.
        """
        with database(path) as other, anyio.fail_after(60):
            other.execute("BEGIN IMMEDIATE")
            with anyio.move_on_after(0.1) as scope:
                async with SqliteCatalog.open(path, patience=timedelta(minutes=10)):
                    pass
            assert scope.cancelled_caught

    async def test_after_a_wait_in_vain_nobody_waits_again(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        A Run that ends since the database is locked does not wait as long again for each of its
        last words; once the lock is gone, everything is as before.
        """
        begun: list[str] = []
        run = Session.run

        async def counting(session: Session, name: str, *params: Any) -> int:
            begun.append(name)
            return await run(session, name, *params)

        monkeypatch.setattr(Session, "run", counting)
        async with SqliteCatalog.open(path, patience=timedelta(seconds=1.5)) as catalog:
            with database(path) as other:
                other.execute("BEGIN IMMEDIATE")
                for tries in (2, 1, 1):
                    begun.clear()
                    with pytest.raises(CatalogError, match="is locked"):
                        await catalog.commit([dataset_commit(1)], leases=[])
                    assert begun == ["begin_writing"] * tries
            await commit_all(catalog, dataset_commit(1))
            with database(path) as other:
                other.execute("BEGIN IMMEDIATE")
                begun.clear()
                with pytest.raises(CatalogError, match="is locked"):
                    await catalog.commit([dataset_commit(2)], leases=[])
                assert begun == ["begin_writing"] * 2
