"""What only the Catalog in a SQLite file does: files, settings, trouble, query plans."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from ingestify.adapters.catalog import migrations
from ingestify.adapters.catalog.sqlite import SqliteCatalog
from ingestify.adapters.catalog.statements import load_statements
from ingestify.errors import CatalogError, ConfigError, ForeignCatalogError
from ingestify.model.catalog import DatasetQuery
from ingestify.model.identity import canonical_key
from ingestify.testing.contracts.catalog_values import (
    NOON,
    PLACE,
    begin_run,
    commit_all,
    dataset_commit,
    key_of,
    look_up,
    stored_file,
)

IMPATIENT = timedelta(0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "catalog.db"


@contextmanager
def database(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection of somebody else's."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of *folder* with its bytes."""
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir()) if file.is_file()}


class TestOpening:
    """Whose file it is, and what is made of an empty one."""

    async def test_a_missing_catalog_is_made_with_its_folders(self, tmp_path: Path) -> None:
        """
        The first run of all makes what it needs.
        """
        path = tmp_path / "a" / "b" / "catalog.db"
        async with SqliteCatalog.open(path) as catalog:
            await commit_all(catalog, dataset_commit(1, stored_file()))
        async with SqliteCatalog.open(path, create=False) as catalog:
            assert await catalog.count(DatasetQuery()) == 1

    async def test_an_empty_file_becomes_a_catalog(self, path: Path) -> None:
        """
        A file without a byte, or a database without a table, is nobody's.
        """
        path.touch()
        other = path.with_name("other.db")
        with database(other) as connection:
            connection.execute("VACUUM")
        for each in (path, other):
            async with SqliteCatalog.open(each) as catalog:
                assert await begin_run(catalog) == 1

    async def test_a_missing_catalog_is_not_made_unasked(self, tmp_path: Path) -> None:
        """
        A command that only reads does not leave an empty catalog behind.
        """
        path = tmp_path / "folder" / "catalog.db"
        with pytest.raises(CatalogError, match="no catalog"):
            async with SqliteCatalog.open(path, create=False):
                pass

        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("journal_mode", ["delete", "wal"])
    async def test_a_foreign_database_is_not_touched(self, path: Path, journal_mode: str) -> None:
        """
        A database of something else stays byte for byte, and gets no files beside it.
        """
        with database(path) as connection:
            connection.execute(f"PRAGMA journal_mode = {journal_mode}")
            connection.execute("CREATE TABLE precious (x)")
        before = contents(path.parent)

        with pytest.raises(ForeignCatalogError, match="not touched"):
            async with SqliteCatalog.open(path):
                pass
        assert contents(path.parent) == before

    async def test_a_foreign_database_in_use_is_not_touched(self, path: Path) -> None:
        """
        What stands in the write-ahead log of a database of something else counts, and stays.
        """
        with database(path) as connection:
            connection.execute("PRAGMA journal_mode = wal")
            connection.execute("CREATE TABLE precious (x)")
            before = contents(path.parent)
            with pytest.raises(ForeignCatalogError, match="something else"):
                async with SqliteCatalog.open(path):
                    pass
            # The shared memory beside the log holds the marks of its readers.
            shm = f"{path.name}-shm"
            assert {**contents(path.parent), shm: b""} == {**before, shm: b""}

    async def test_a_database_of_another_application_is_foreign(self, path: Path) -> None:
        """
        An application id that is not ours is somebody's, also without a table.
        """
        with database(path) as connection:
            connection.execute("PRAGMA application_id = 7")
        with pytest.raises(ForeignCatalogError, match="application id 7"):
            async with SqliteCatalog.open(path):
                pass

    @pytest.mark.parametrize(
        "content", [b"x", b"# notes\n" * 1000, b"SQLite format 3\0" + b"x" * 200]
    )
    async def test_what_is_no_database_is_not_touched(self, path: Path, content: bytes) -> None:
        """
        A file of another kind is never overwritten.
        """
        path.write_bytes(content)
        with pytest.raises(ForeignCatalogError, match="not touched"):
            async with SqliteCatalog.open(path):
                pass

        assert contents(path.parent) == {path.name: content}

    async def test_a_folder_is_no_catalog(self, tmp_path: Path) -> None:
        """
        What is no file at all is told as an error of ours.
        """
        with pytest.raises(CatalogError):
            async with SqliteCatalog.open(tmp_path):
                pass

    async def test_a_newer_catalog_is_not_touched(self, path: Path) -> None:
        """
        A catalog that a newer ingestify has changed is refused, and stays byte for byte.
        """
        async with SqliteCatalog.open(path) as catalog:
            await commit_all(catalog, dataset_commit(1, stored_file()))
        with database(path) as connection:
            connection.execute("UPDATE catalog_version SET version = 99")
        before = contents(path.parent)

        with pytest.raises(ForeignCatalogError, match="version 99"):
            async with SqliteCatalog.open(path):
                pass
        assert contents(path.parent) == before

    async def test_a_newer_catalog_in_use_is_refused(self, path: Path) -> None:
        """
        What a newer ingestify has just written counts, before it lies in the file itself.
        """
        async with SqliteCatalog.open(path):
            with database(path) as connection:
                connection.execute("UPDATE catalog_version SET version = 99")
                with pytest.raises(ForeignCatalogError, match="version 99"):
                    async with SqliteCatalog.open(path):
                        pass

    async def test_a_closed_catalog_leaves_one_file(self, path: Path) -> None:
        """
        A catalog that nobody has open is one file that can be copied.
        """
        async with SqliteCatalog.open(path) as catalog:
            await commit_all(catalog, dataset_commit(1))

        assert list(contents(path.parent)) == [path.name]

    async def test_a_closed_catalog_says_so(self, path: Path) -> None:
        """
        Whoever asks after the end gets an error of ours.
        """
        async with SqliteCatalog.open(path) as catalog:
            pass
        with pytest.raises(CatalogError, match="closed"):
            await catalog.count(DatasetQuery())
        with pytest.raises(CatalogError, match="closed"):
            await begin_run(catalog)

    @pytest.mark.parametrize("prefix", ["A", "1a", "a-b", "a b", "a" * 32, 'a"', "_a", "a\n", "é"])
    async def test_a_prefix_that_is_no_name_is_refused(self, path: Path, prefix: str) -> None:
        """
        Nothing but a plain name is ever put into SQL.
        """
        with pytest.raises(ConfigError, match="table_prefix"):
            async with SqliteCatalog.open(path, table_prefix=prefix):
                pass
        assert not path.exists()

    async def test_prefixes_keep_catalogs_apart(self, path: Path) -> None:
        """
        Several catalogs live in one file and know nothing of each other.
        """
        async with (
            SqliteCatalog.open(path) as plain,
            SqliteCatalog.open(path, table_prefix="other_") as other,
        ):
            await commit_all(plain, dataset_commit(1, stored_file()))
            assert await other.count(DatasetQuery()) == 0
            run_id = await begin_run(other)
            assert await plain.acquire_lease("plan", run_id=await begin_run(plain), at=NOON)
            assert await other.acquire_lease("plan", run_id=run_id, at=NOON)

    async def test_every_connection_has_its_settings(self, path: Path) -> None:
        """
        Writer and readers write ahead, sync fully, wait for locks and check foreign keys.
        """
        async with SqliteCatalog.open(path) as catalog:
            db = catalog._database
            for use in (db.writing, db.reading, db.snapshot):
                async with use() as session:
                    assert await session.row("get_synchronous") == (2,)
                    assert await session.row("get_foreign_keys") == (1,)
                    assert await session.row("get_busy_timeout") == (1000,)
                    [mode] = await session._connection.execute_fetchall("PRAGMA journal_mode")
                    assert mode == ("wal",)

    async def test_readers_cannot_write(self, path: Path) -> None:
        """
        A connection for reading refuses to change anything.
        """
        async with SqliteCatalog.open(path) as catalog:
            with pytest.raises(CatalogError):
                async with catalog._database.reading() as session:
                    await session.run("beat", {"run_id": 1, "at": ""})


class TestTrouble:
    """What SQLite refuses."""

    async def test_a_full_disk_is_named_and_undone(self, path: Path) -> None:
        """
        Where there is no room nothing of the batch is written, and there is a way out.
        """
        async with SqliteCatalog.open(path) as catalog:
            await commit_all(catalog, dataset_commit(1))
            async with catalog._database.writing() as session:
                connection = session._connection
                await connection.execute_fetchall("PRAGMA max_page_count = 1")
            large = dataset_commit(2, metadata=b'"%s"' % (b"x" * 1_000_000))
            with pytest.raises(CatalogError, match="disk is full"):
                await catalog.commit([large], leases=[])

            assert await catalog.count(DatasetQuery()) == 1
            await connection.execute_fetchall("PRAGMA max_page_count = 100000")
            await commit_all(catalog, large)

    async def test_a_native_cancel_tears_nothing(self, path: Path) -> None:
        """
        Task.cancel, which knows no shield, leaves a batch whole or absent, and no lock.
        """
        async with SqliteCatalog.open(path) as catalog:
            outcomes = set()
            for turns in range(60):
                batch = [dataset_commit(f"{turns} {n}", stored_file()) for n in range(8)]
                async with asyncio.TaskGroup() as tasks:
                    task = tasks.create_task(catalog.commit(batch, leases=[]))
                    for _ in range(turns):
                        await asyncio.sleep(0.0001)
                    task.cancel()
                keys = [commit.identifier_key for commit in batch]
                found = {each is not None for each in await look_up(catalog, *keys)}
                assert len(found) == 1
                outcomes |= found
                await commit_all(catalog, dataset_commit(f"{turns} after"))
            assert outcomes == {True, False}

    async def test_a_cancelled_reader_leaves_its_connection_usable(self, path: Path) -> None:
        """
        However many readers give up, the next one is answered.
        """
        async with SqliteCatalog.open(path) as catalog:
            await commit_all(catalog, *[dataset_commit(n, stored_file()) for n in range(500)])
            for turns in range(20):
                async with asyncio.TaskGroup() as tasks:
                    task = tasks.create_task(catalog.find(DatasetQuery()))
                    for _ in range(turns):
                        await asyncio.sleep(0.0001)
                    task.cancel()
            for _ in range(4):
                assert await catalog.count(DatasetQuery()) == 500


class TestQueryPlans:
    """What must never become slow by accident."""

    async def test_look_up_reads_only_what_it_is_asked_for(self, path: Path) -> None:
        """
        Looking up a page of keys goes through the unique index and reads no whole table.
        """
        async with SqliteCatalog.open(path) as catalog:
            await commit_all(catalog, *[dataset_commit(n, stored_file()) for n in range(50)])
        with database(path) as connection:
            connection.execute("ANALYZE")
            plans = {
                name: [
                    detail
                    for *_, detail in connection.execute(
                        f"EXPLAIN QUERY PLAN {load_statements('')[name]}", params
                    )
                ]
                for name, params in {
                    "look_up": {**PLACE, "keys": f"[{canonical_key({'k': 1})}]"},
                    "look_up_identities": {"identities": "[]"},
                    "current_files": {"row_ids": "[]"},
                    "newest_revisions": {"row_ids": "[]"},
                }.items()
            }
        index = "dataset USING INDEX sqlite_autoindex_dataset_2 (bucket=? AND stage=? AND"
        for name in ("look_up", "look_up_identities"):
            assert any(f"SEARCH {index}" in step for step in plans[name]), plans[name]
        for name, plan in plans.items():
            scans = [step for step in plan if step.startswith("SCAN")]
            assert scans == ["SCAN wanted VIRTUAL TABLE INDEX 1:"], (name, plan)

    async def test_foreign_keys_are_whole(self, path: Path) -> None:
        """
        What is deleted by hand takes what belongs to it along, and nothing dangles.
        """
        async with SqliteCatalog.open(path) as catalog:
            await commit_all(catalog, *[dataset_commit(n, stored_file()) for n in (1, 2)])
        with database(path) as connection:
            connection.execute("PRAGMA foreign_keys = on")
            connection.execute("DELETE FROM dataset WHERE row_id = 1")
            assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
            for count in (
                "SELECT count(*) FROM revision",
                "SELECT count(*) FROM file",
                "SELECT count(*) FROM file_check",
            ):
                assert connection.execute(count).fetchone() == (1,)
        async with SqliteCatalog.open(path) as catalog:
            [made] = await commit_all(catalog, dataset_commit(3))
            assert made.row_id == 3
            assert await look_up(catalog, key_of(1)) == [None]


async def test_a_look_that_meets_somebody_writing_is_not_the_last_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Looking takes no lock, so it may see a database half-written by another process that opens it
    at the same moment. Only whoever has the lock can say that it is damaged.
    """
    path = tmp_path / "catalog.db"
    async with SqliteCatalog.open(path):
        pass

    def half_written(*args: object) -> int:
        monkeypatch.undo()  # whoever has the lock sees it whole
        raise sqlite3.DatabaseError("malformed database schema (run) - invalid rootpage")

    monkeypatch.setattr(migrations, "_refuse_if_foreign", half_written)
    async with SqliteCatalog.open(path) as catalog:
        assert await catalog.runs() == []


async def test_opening_a_catalog_twice_gives_no_lock_back(tmp_path: Path) -> None:
    """
    A file that this process closes takes all the locks of this process with it, also those of
    other connections: a catalog that is open already is looked at through SQLite alone.
    """
    locks = Path("/proc/locks")
    if not locks.exists():
        pytest.skip("this system does not show its locks")
    path = tmp_path / "catalog.db"

    def held() -> list[str]:
        inode = f":{path.stat().st_ino} "
        return [line for line in locks.read_text().splitlines() if inode in line]

    async with SqliteCatalog.open(path):
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN")
            other.execute("SELECT * FROM sqlite_schema").fetchall()
            before = held()
            assert before
            async with SqliteCatalog.open(path):
                pass
            assert len(held()) == len(before)


async def test_a_catalog_whose_log_could_not_be_written_back_opens(tmp_path: Path) -> None:
    """
    A full disk may leave a first page that counts a page more than the file has. The log beside it
    is whole, so nothing is lost, and nothing is refused.
    """
    path, crashed = tmp_path / "catalog.db", tmp_path / "crashed" / "catalog.db"
    crashed.parent.mkdir()
    async with SqliteCatalog.open(path):
        pass
    async with SqliteCatalog.open(path) as catalog:
        await catalog.begin_run(started_at=datetime.now(UTC), fingerprint="x" * 100_000)
        shutil.copy(path.with_name("catalog.db-wal"), crashed.with_name("catalog.db-wal"))
        image = bytearray(path.read_bytes())
    pages = int.from_bytes(image[28:32], "big")
    image[28:32] = (pages + 1).to_bytes(4, "big")
    crashed.write_bytes(image)

    async with SqliteCatalog.open(crashed) as catalog:
        assert len(await catalog.runs()) == 1


async def test_a_catalog_that_is_closed_says_so_to_all_who_write(tmp_path: Path) -> None:
    """
    Whoever asks for anything to be written after it was closed is told, also while it is closed
    behind somebody who still writes; nobody waits for ever.
    """
    may_end = threading.Event()
    told = []

    async def write_late(catalog):
        with pytest.raises(CatalogError, match="closed"):
            await catalog.commit([], leases=[])
        told.append("late")

    with anyio.fail_after(30):
        async with (
            anyio.create_task_group() as tg,
            SqliteCatalog.open(tmp_path / "catalog.db") as catalog,
        ):
            tg.start_soon(catalog._database.write, lambda direct: may_end.wait(20))
            await anyio.wait_all_tasks_blocked()
            tg.start_soon(write_late_while_closing, catalog, may_end, told)
        await write_late(catalog)
    assert told == ["closing", "late"]


async def write_late_while_closing(catalog, may_end, told):
    while not catalog._database._closed:
        await anyio.lowlevel.checkpoint()
    with pytest.raises(CatalogError, match="closed"):
        await catalog.commit([], leases=[])
    told.append("closing")
    may_end.set()


async def test_work_that_ends_the_whole_transaction_names_the_cause_to_all(tmp_path: Path) -> None:
    """
    Some errors undo everything: those who were to be committed together are told which it was.
    """
    may_go_on = threading.Event()
    said = []

    def ruin(direct):
        direct._connection.execute("ROLLBACK")
        raise sqlite3.OperationalError("database or disk is full")

    async def ask(catalog, work):
        with pytest.raises(CatalogError) as told:
            await catalog._database.write(work)
        said.append(str(told.value))

    with anyio.fail_after(30):
        async with (
            SqliteCatalog.open(tmp_path / "catalog.db") as catalog,
            anyio.create_task_group() as tg,
        ):
            tg.start_soon(catalog._database.write, lambda direct: may_go_on.wait(20))
            await anyio.wait_all_tasks_blocked()
            for work in (lambda direct: None, ruin, lambda direct: None):
                tg.start_soon(ask, catalog, work)
            await anyio.wait_all_tasks_blocked()
            may_go_on.set()
    assert len(said) == 3
    assert all("disk is full" in each for each in said)


async def test_who_is_cancelled_twice_does_not_undo_the_work_of_others(tmp_path: Path) -> None:
    """
    Work that is done together goes on in its thread; those who were not cancelled learn its end.
    """
    may_go_on, may_end = threading.Event(), threading.Event()

    async with SqliteCatalog.open(tmp_path / "catalog.db") as catalog:
        write = catalog._database.write
        first = asyncio.create_task(write(lambda direct: may_go_on.wait(20)))
        await anyio.wait_all_tasks_blocked()
        leader = asyncio.create_task(write(lambda direct: may_end.wait(20)))
        await anyio.wait_all_tasks_blocked()
        other = asyncio.create_task(write(lambda direct: "done"))
        await anyio.wait_all_tasks_blocked()
        may_go_on.set()
        await first
        await anyio.wait_all_tasks_blocked()
        for _ in range(2):
            leader.cancel()
            await anyio.lowlevel.checkpoint()
        may_end.set()
        with anyio.fail_after(30):
            assert await other == "done"
        with pytest.raises(asyncio.CancelledError):
            await leader
