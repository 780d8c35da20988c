"""Copies of the catalog: whole, of one moment, and in nobody's way."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from anyio import CancelScope, create_task_group, from_thread
from lakes import Lake, offer, offering, outcome
from lists import ListSource, ListWorld

from ingestify.adapters.catalog import backing_up
from ingestify.adapters.catalog.memory import MemoryCatalog
from ingestify.adapters.catalog.sqlite import SqliteCatalog
from ingestify.adapters.catalog.statements import load_statements
from ingestify.adapters.files.local import LocalFileStore
from ingestify.cli.ending import execute
from ingestify.config import Config
from ingestify.engine import Engine
from ingestify.errors import CatalogError, ConfigError
from ingestify.model.catalog import DatasetQuery
from ingestify.testing import ProviderSimulator
from ingestify.upkeep import collect


async def test_copies_made_while_a_run_commits(tmp_path: Path) -> None:
    """
    Each copy opens, holds only Files whose bytes are in the lake, and goes on from where it was
    made; the run never has to wait for one.
    """
    count = 400
    copies = []
    async with (
        SqliteCatalog.open(tmp_path / "catalog.db") as catalog,
        LocalFileStore.at(tmp_path / "files") as files,
    ):
        lake = Lake(catalog=catalog, files=files)
        summaries = []

        async def run() -> None:
            source = offering(*[offer(number, "a", "b") for number in range(count)])
            summaries.append(await lake.run(source))

        async with create_task_group() as tg:
            tg.start_soon(run)
            while not summaries:
                path = tmp_path / f"copy-{len(copies)}.db"
                copies.append(await catalog.back_up(path))
        assert outcome(summaries[0]) == {"stored": count}

        held = [copy.datasets for copy in copies]
        assert held == sorted(held)
        partial = [copy for copy in copies if 0 < copy.datasets < count]
        assert partial, held
        for copy in copies:
            with closing(sqlite3.connect(copy.path)) as connection:
                rows = connection.execute("SELECT path, stored_size FROM file").fetchall()
            assert len(rows) == copy.files == 2 * copy.datasets == 2 * copy.revisions
            for path, size in rows:
                assert (tmp_path / "files" / path).stat().st_size == size

        for copy in partial[:2]:
            async with SqliteCatalog.open(Path(copy.path), create=False) as copied:
                again = Lake(catalog=copied, files=files)
                source = offering(*[offer(number, "a", "b") for number in range(count)])
                summary = await again.run(source)
                assert summary.exit_code == 0
                assert summary.counters.stored == count - copy.datasets
                await again.check()
    assert not list(tmp_path.glob(".copy*"))


async def test_a_copy_does_not_take_newer_files_for_debris(tmp_path: Path) -> None:
    """
    To the lake a copy is another catalog: what was committed after it was made is not its debris,
    neither beside the original nor in its place.
    """
    async with LocalFileStore.at(tmp_path / "files") as files:
        async with SqliteCatalog.open(tmp_path / "catalog.db") as catalog:
            await files.register(await catalog.catalog_id())
            await catalog.back_up(tmp_path / "copy.db")
            lake = Lake(catalog=catalog, files=files)
            assert outcome(await lake.run(offering(offer(1, "a")))) == {"stored": 1}
        before = [each.path async for each in files.list()]
        async with SqliteCatalog.open(tmp_path / "copy.db") as copy:
            await files.register(await copy.catalog_id())

            with pytest.raises(ConfigError, match="another catalog keeps files"):
                await collect(copy, files)

        assert [each.path async for each in files.list()] == before


async def test_a_copy_is_of_one_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    What is committed while it is made is not in it, and is neither held up by it nor makes it
    begin anew.
    """
    monkeypatch.setattr(backing_up, "PAGES", 1)
    async with SqliteCatalog.open(tmp_path / "catalog.db") as catalog:
        lake = Lake(catalog=catalog)
        await lake.run(offering(*[offer(number) for number in range(50)]))
        other = sqlite3.connect(tmp_path / "catalog.db", isolation_level=None)
        steps = []

        def step(done: int, total: int) -> None:
            steps.append((done, total))
            with closing(sqlite3.connect(tmp_path / "catalog.db", timeout=0)) as writer:
                writer.execute("UPDATE dataset SET name = 'changed'")
                writer.commit()

        copy = await catalog.back_up(tmp_path / "copy.db", progress=step)
        other.close()
    assert [done for done, _ in steps] == list(range(1, len(steps) + 1))
    assert steps[-1][0] == steps[-1][1]
    async with SqliteCatalog.open(tmp_path / "copy.db") as copied:
        names = {dataset.name for dataset in await copied.find(DatasetQuery())}
    assert (copy.datasets, names) == (50, {"a dataset"})


async def test_where_there_can_be_no_copy(tmp_path: Path) -> None:
    """
    A file that is there is not touched unless that is asked for, the catalog's own files never,
    and what is refused leaves nothing behind.
    """
    async with SqliteCatalog.open(tmp_path / "catalog.db") as catalog:
        await Lake(catalog=catalog).run(offering(offer(1)))
        target = tmp_path / "copy.db"
        target.write_text("precious")
        with pytest.raises(CatalogError, match=r"copy\.db is there already"):
            await catalog.back_up(target)
        assert target.read_text() == "precious"
        for replace in (False, True):
            for own in ("catalog.db", "catalog.db-wal"):
                with pytest.raises(CatalogError, match="belongs to the catalog itself"):
                    await catalog.back_up(tmp_path / own, replace=replace)
            with pytest.raises(CatalogError, match="is a folder"):
                await catalog.back_up(tmp_path, replace=replace)
            with pytest.raises(CatalogError, match="no folder"):
                await catalog.back_up(tmp_path / "missing" / "copy.db", replace=replace)
        (tmp_path / "copy.db-wal").write_text("of somebody who has it open")
        with pytest.raises(CatalogError, match=r"copy\.db-wal is there"):
            await catalog.back_up(target, replace=True)
        (tmp_path / "copy.db-wal").unlink()
        assert (await catalog.back_up(target, replace=True)).datasets == 1
        assert (await catalog.find(DatasetQuery()))[0].name == "a dataset"
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"catalog.db", "catalog.db.locks", "copy.db"}


async def test_a_copy_that_is_not_sound_gets_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    It is looked through before it takes the place of an older one.
    """
    copy_pages = backing_up.Copying._copy_pages

    def spoil(self: backing_up.Copying, temp: Path) -> None:
        copy_pages(self, temp)
        data = bytearray(temp.read_bytes())
        data[-4096:] = bytes(4096)
        data[8192:8400] = b"\xff" * 208
        temp.write_bytes(bytes(data))

    async with SqliteCatalog.open(tmp_path / "catalog.db") as catalog:
        await Lake(catalog=catalog).run(offering(*[offer(n) for n in range(200)]))
        (tmp_path / "copy.db").write_text("the one of yesterday")
        monkeypatch.setattr(backing_up.Copying, "_copy_pages", spoil)
        with pytest.raises(CatalogError, match="is not sound"):
            await catalog.back_up(tmp_path / "copy.db", replace=True)
    assert (tmp_path / "copy.db").read_text() == "the one of yesterday"
    assert not list(tmp_path.glob(".copy*"))


async def test_a_copy_that_nobody_waits_for_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Cancelling ends it between two steps, and leaves nothing.
    """
    monkeypatch.setattr(backing_up, "PAGES", 1)
    scope = CancelScope()
    steps = []
    async with SqliteCatalog.open(tmp_path / "catalog.db") as catalog:
        await Lake(catalog=catalog).run(offering(*[offer(n) for n in range(50)]))

        def step(done: int, total: int) -> None:
            steps.append(total - done)
            from_thread.run_sync(scope.cancel)
            from_thread.run_sync(lambda: None)

        with scope:
            await catalog.back_up(tmp_path / "copy.db", progress=step)
    assert scope.cancelled_caught
    assert steps[-1] > 0
    assert {path.name for path in tmp_path.iterdir()} == {"catalog.db", "catalog.db.locks"}


async def test_catalogs_with_a_prefix_are_copied_together(tmp_path: Path) -> None:
    """
    The whole file is copied; what is counted is the catalog that was asked.
    """
    path = tmp_path / "catalog.db"
    async with (
        SqliteCatalog.open(path) as plain,
        SqliteCatalog.open(path, table_prefix="club_") as club,
    ):
        await Lake(catalog=plain).run(offering(offer(1)))
        await Lake(catalog=club).run(offering(offer(1), offer(2)))
        assert (await club.back_up(tmp_path / "copy.db")).datasets == 2
    async with (
        SqliteCatalog.open(tmp_path / "copy.db") as plain,
        SqliteCatalog.open(tmp_path / "copy.db", table_prefix="club_") as club,
    ):
        assert await plain.count(DatasetQuery()) == 1
        assert await club.count(DatasetQuery()) == 2


async def test_a_catalog_in_memory_has_no_copy(tmp_path: Path) -> None:
    """
    There is nothing that could be copied, which is said.
    """
    with pytest.raises(CatalogError, match="in memory"):
        await MemoryCatalog().back_up(tmp_path / "copy.db")


def test_every_table_that_is_counted_has_the_prefix() -> None:
    """
    Several catalogs may live in one file.
    """
    assert load_statements("x_")["count_copy"].count("x_") == 4


CONFIG = """
main: {{metadata_url: "sqlite:///{folder}/{name}", file_url: "{folder}/files"}}
sources:
  lists: {{type: lists.ListSource, configuration: {{base_url: "{base_url}"}}}}
ingestion_plans:
  - {{source: lists, dataset_type: thing}}
"""


async def filled(
    tmp_path: Path, world: ListWorld, provider: ProviderSimulator, make: Callable[..., Config]
) -> Mapping[str, Any]:
    """A lake with three Datasets; the values that its configurations have in common."""
    world.set_list("a", *[{"id": key} for key in range(3)], token="t")
    for key in range(3):
        world.set_data(key, {"x": key})
    source = ListSource("lists", base_url=provider.base_url)
    config = make(
        sources={"lists": {"type": "lists.ListSource"}},
        ingestion_plans=[{"source": "lists", "dataset_type": "thing"}],
    )
    async with Engine(config, sources={"lists": source}) as engine:
        assert (await engine.run()).counters.stored == 3
    return {"folder": tmp_path / "lake", "base_url": provider.base_url}


@pytest.fixture
async def config_file(
    tmp_path: Path,
    world: ListWorld,
    provider: ProviderSimulator,
    make_config: Callable[..., Config],
) -> Path:
    values = await filled(tmp_path, world, provider, make_config)
    for name in ("catalog.db", "copy.db"):
        (tmp_path / f"{name}.yaml").write_text(CONFIG.format(name=name, **values))
    return tmp_path / "catalog.db.yaml"


def test_the_command(config_file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """
    It says what the copy holds and what is not in it, and refuses to replace or to be debris; a
    configuration that names the copy works on the same lake.
    """
    folder = config_file.parent / "lake"
    copy = folder / "copy.db"
    options = ["--config", str(config_file)]
    capfd.readouterr()

    assert execute(["backup", str(copy), *options]) == 0
    said = capfd.readouterr()
    assert said.out.startswith(f"{copy}: 3 datasets, 3 revisions, 3 files, 1 run; ")
    assert f"copy {folder}/files as well" in said.out

    assert execute(["backup", str(copy), *options]) == 2
    assert "copy.db is there already; --force replaces it" in capfd.readouterr().err
    assert execute(["backup", str(folder / "files" / "x.db"), *options]) == 2
    assert "lies among the files of the lake" in capfd.readouterr().err
    assert execute(["backup", str(folder / "missing" / "x.db"), *options]) == 2
    assert "there is no folder" in capfd.readouterr().err

    assert execute(["backup", str(copy), "--force", "--json", *options]) == 0
    shown = json.loads(capfd.readouterr().out)
    assert (shown["copy"]["datasets"], shown["copy"]["path"]) == (3, str(copy))
    assert shown["files_not_included"] == str(folder / "files")

    copied = ["--config", str(config_file.with_name("copy.db.yaml"))]
    assert execute(["list", "--count", *copied]) == 0
    assert capfd.readouterr().out == "3\n"
