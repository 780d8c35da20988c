"""What must never be collected: bytes that are about to be committed, or just were."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path

import anyio
import msgspec
import pytest

from ingestify.adapters.catalog.sqlite import SqliteCatalog
from ingestify.adapters.files.local import LocalFileStore
from ingestify.testing.contracts.catalog_values import commit_all, dataset_commit, stored_file
from ingestify.testing.contracts.files import paths, publish, stage
from ingestify.upkeep import collect

PATH = "main/stage=raw/provider=acme/events.json.gz"
NEW = stored_file().new
assert NEW is not None
FILE = stored_file(new=msgspec.structs.replace(NEW, path=PATH))


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[LocalFileStore]:
    async with LocalFileStore.at(tmp_path / "lake") as opened:
        yield opened


async def test_bytes_that_nothing_refers_to_are_removed(
    store: LocalFileStore, tmp_path: Path
) -> None:
    """
    What was published without a row goes.
    """
    await publish(store, await stage(store, b"x"), PATH)
    async with SqliteCatalog.open(tmp_path / "catalog.db") as catalog:
        assert (await collect(catalog, store)).unreferenced == 1
    assert await paths(store) == []


async def test_bytes_between_publishing_and_commit_are_left_alone(
    store: LocalFileStore, tmp_path: Path
) -> None:
    """
    While anybody publishes, nothing is removed: the row may be the next thing to come.
    """
    await publish(store, await stage(store, b"x"), PATH)
    async with SqliteCatalog.open(tmp_path / "catalog.db") as catalog:
        async with store.publishing():
            with anyio.move_on_after(0.5):
                await collect(catalog, store)
            assert await paths(store) == [PATH]
            await commit_all(catalog, dataset_commit(1, FILE))
        assert (await collect(catalog, store)).unreferenced == 0
    assert await paths(store) == [PATH]


class Late(SqliteCatalog):
    """A Catalog in which a File gets its row right after somebody has looked for it."""

    is_late = True

    async def referenced(self, paths: Sequence[str]) -> AbstractSet[str]:
        found = await super().referenced(paths)
        if self.is_late:
            self.is_late = False
            await commit_all(self, dataset_commit(1, FILE))
        return found


async def test_bytes_that_get_their_row_meanwhile_are_left_alone(
    store: LocalFileStore, tmp_path: Path
) -> None:
    """
    What looked unreferenced a moment ago is looked for again before it is removed.
    """
    await publish(store, await stage(store, b"x"), PATH)
    async with Late.open(tmp_path / "catalog.db") as catalog:
        assert (await collect(catalog, store)).unreferenced == 0
    assert await paths(store) == [PATH]
