"""A lake whose files are not where the configuration says: nothing is made, marked or fetched."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from lists import ListWorld

from ingestify import opening
from ingestify.adapters.catalog.sqlite import SqliteCatalog
from ingestify.engine import Engine
from ingestify.errors import StoreUnavailableError
from ingestify.testing import ProviderSimulator

Open = Callable[..., Engine]


@pytest.fixture
async def lake(world: ListWorld, open_lake: Open, tmp_path: Path) -> Path:
    """The folder of a lake with some Datasets."""
    world.set_list("a", *[{"id": key} for key in range(3)])
    for key in range(3):
        world.set_data(key, {"x": key})
    async with open_lake() as engine:
        await engine.run()
    return tmp_path / "lake"


async def test_a_folder_that_is_gone_is_not_made_anew(lake: Path, open_lake: Open) -> None:
    """
    As where its disk is not mounted. Nothing is marked as damaged, and once it is there again
    all is as before.
    """
    files = lake / "files"
    files.rename(lake / "elsewhere")
    for _ in range(2):
        with pytest.raises(StoreUnavailableError, match=f"{files} has none .* is the disk mounted"):
            async with open_lake():
                pass
        assert not files.exists()
    files.mkdir()  # the bare mount point
    with pytest.raises(StoreUnavailableError, match="is file_url right"):
        async with open_lake():
            pass
    assert list(files.iterdir()) == []

    files.rmdir()
    (lake / "elsewhere").rename(files)
    async with open_lake() as engine:
        assert (await engine.verify()).is_sound


async def test_files_that_are_lost_for_good_can_be_fetched_again(
    lake: Path, open_lake: Open, provider: ProviderSimulator
) -> None:
    """
    Somebody has to say so, in the way that the message tells.
    """
    shutil.rmtree(lake / "files")
    with pytest.raises(StoreUnavailableError) as caught:
        async with open_lake():
            pass
    note = Path(str(caught.value).partition("empty file ")[2].partition(";")[0])
    note.parent.mkdir(parents=True)
    note.touch()
    async with open_lake() as engine:
        found = await engine.verify()
        assert found.damaged_current == 3
        await engine.repair(found)
        assert (await engine.verify()).is_sound


@pytest.mark.parametrize("kept", ["all", "one of the last", "one of the first"])
async def test_a_copy_of_a_catalog_finds_the_files(
    lake: Path, open_lake: Open, kept: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    It has a name that the folder does not know, as an old catalog has. Any File will do.
    """
    monkeypatch.setattr(opening, "SAMPLE", 1)
    async with SqliteCatalog.open(lake / "catalog.db") as catalog:
        await catalog.back_up(lake / "copy.db")
    for each in lake.glob("catalog.db*"):
        if each.is_file():
            each.unlink()
    (lake / "copy.db").rename(lake / "catalog.db")
    shutil.rmtree(lake / "files" / ".ingestify" / "catalogs")
    if kept != "all":
        paths = sorted((lake / "files").rglob("*.gz"))
        paths.remove(paths[0 if kept == "one of the first" else -1])
        for path in paths:
            path.unlink()
    async with open_lake() as engine:
        found = await engine.verify()
    assert found.damaged_count == (0 if kept == "all" else 2)
