"""Damaged bytes are stored anew, and deleted Datasets stay deleted, whoever commits meanwhile."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from lakes import Lake, offer, offering, outcome

from ingestify.adapters.catalog.memory import MemoryCatalog
from ingestify.adapters.files.memory import MemoryFileStore
from ingestify.errors import CatalogError
from ingestify.model.catalog import DatasetQuery
from ingestify.model.dataset import Dataset
from ingestify.model.resource import NOT_MODIFIED, DatasetResource
from ingestify.model.run import RunStatus
from ingestify.testing import FakeSource
from ingestify.upkeep import verify

ALL = DatasetQuery()
NOW = datetime(2024, 5, 1, tzinfo=UTC)


class Meddled:
    """A Catalog to which something happens just before the next commit."""

    def __init__(self, catalog: MemoryCatalog, meddle: Callable[[], Awaitable[object]]) -> None:
        self.catalog = catalog
        self.meddle: Callable[[], Awaitable[object]] | None = meddle

    async def commit(self, batch: Sequence[Any], *, leases: Sequence[Any]) -> Any:
        meddle, self.meddle = self.meddle, None
        if meddle is not None:
            await meddle()
        return await self.catalog.commit(batch, leases=leases)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.catalog, name)


def meddled(lake: Lake, meddle: Callable[[], Awaitable[object]]) -> Lake:
    """The same lake, to which *meddle* is done while a Run is about to commit."""
    assert isinstance(lake.catalog, MemoryCatalog)
    return Lake(catalog=Meddled(lake.catalog, meddle), files=lake.files)  # type: ignore[arg-type]


async def only(lake: Lake) -> Dataset:
    (dataset,) = await lake.datasets()
    return dataset


async def damage(lake: Lake, *feeds: str) -> None:
    """Change the bytes of the current Files of the only Dataset, and find that out."""
    assert isinstance(lake.files, MemoryFileStore)
    for file in (await only(lake)).files:
        if not feeds or file.data_feed_key in feeds:
            _, at = lake.files._objects[file.path]
            lake.files._objects[file.path] = (b"\0" * file.stored_size, at)
    await verify(lake.catalog, lake.files)


async def paths(lake: Lake) -> list[str]:
    return [each.path async for each in lake.files.list()]


class Confirming(FakeSource):
    """Says that whatever is stored has not been modified."""

    async def discover_datasets(self, *args: Any, **options: Any) -> Any:
        async for found in super().discover_datasets(*args, **options):
            found.files = [
                msgspec.structs.replace(file, content=None, loader=confirm) for file in found.files
            ]
            yield found


async def confirm(*_: Any) -> Any:
    return NOT_MODIFIED


async def test_two_runs_restore_the_same_file() -> None:
    """
    Both get their bytes to the same place; it is still the one File of the one Revision.
    """
    lake = Lake()
    await lake.run(offering(offer(1)))
    await damage(lake)
    rival = offering(offer(1), name="rival")

    summary = await meddled(lake, lambda: lake.run(rival)).run(offering(offer(1)))

    assert outcome(summary) == {"unchanged": 1}
    assert ((await only(lake)).revision, len(await paths(lake))) == (0, 2)
    await lake.check()


async def test_what_is_damaged_again_and_again_keeps_a_short_name() -> None:
    """
    The number in it is counted on; it is not given one more each time.
    """
    lake = Lake()
    await lake.run(offering(offer(1)))
    names = []
    for _ in range(3):
        await damage(lake)
        await lake.run(offering(offer(1)))
        [file] = (await only(lake)).files
        names.append(file.path.rpartition("/")[2].partition(".r0.")[0])
    assert names == [f"id=1__events__v1.{number}" for number in (1, 2, 3)]
    await lake.check()


async def test_somebody_else_commits_while_a_file_is_restored() -> None:
    """
    A Revision of another File comes between: what is still damaged is restored all the same.
    """
    lake = Lake()
    source, rival = offering(offer(1, "a", "b")), offering(offer(1, "b", body="new"), name="rival")
    await lake.run(source)
    await damage(lake, "a")

    summary = await meddled(lake, lambda: lake.run(rival, forced=True)).run(source)

    assert outcome(summary) == {"unchanged": 1}
    dataset = await only(lake)
    assert [file.revision for file in dataset.files] == [0, 1]
    assert b'"a"' in (await lake.bodies(dataset))["a"]
    await lake.check()


async def test_somebody_else_restores_and_goes_on() -> None:
    """
    Our bytes are not needed any more.
    """
    lake = Lake()
    source, rival = offering(offer(1, "a", "b")), offering(offer(1, "a", "b"), name="rival")
    await lake.run(source)
    await damage(lake, "a")

    async def meddle() -> None:
        await lake.run(rival)
        rival.offers = offering(offer(1, "b", body="new")).offers
        await lake.run(rival, forced=True)

    summary = await meddled(lake, meddle).run(source)

    assert outcome(summary) == {"unchanged": 1}
    assert summary.stored_bytes == 0
    assert (await only(lake)).revision == 1
    await lake.check()


async def test_a_crash_before_the_commit_leaves_bytes_for_the_next_run() -> None:
    """
    The next Run finds what was published, and makes no third copy.
    """
    lake = Lake()
    await lake.run(offering(offer(1)))
    await damage(lake)

    async def crash() -> None:
        raise CatalogError("gone")

    summary = await meddled(lake, crash).run(offering(offer(1)))
    assert summary.status is RunStatus.FAILED
    assert len(await paths(lake)) == 2
    assert not (await verify(lake.catalog, lake.files)).is_sound

    assert outcome(await lake.run(offering(offer(1)))) == {"unchanged": 1}
    assert len(await paths(lake)) == 2
    assert (await only(lake)).files[0].path == (await paths(lake))[0]
    await lake.check()


async def test_a_post_load_hook_does_not_rename_what_is_restored() -> None:
    """
    Bytes that are what they were say nothing new about their Dataset.
    """

    def hook(resource: DatasetResource, files: Any) -> None:
        resource.name = f"seen {len(calls)} times"
        calls.append(files)

    calls: list[Any] = []
    lake = Lake()
    source = offering(offer(1, post_load_files=hook))
    await lake.run(source)
    await damage(lake)
    told = await lake.catalog.events()
    assert outcome(await lake.run(source)) == {"unchanged": 1}
    assert (await only(lake)).name == "seen 0 times"
    assert await lake.catalog.events() == told


async def delete_all(lake: Lake) -> None:
    await lake.catalog.delete(ALL, at=NOW)


async def test_what_was_deleted_is_stored_as_new() -> None:
    """
    A Run that has new bytes for it just when it is deleted makes another Dataset of them.
    """
    lake = Lake()
    await lake.run(offering(offer(1)))
    before = await only(lake)
    late = offering(offer(1, body="new"))

    summary = await meddled(lake, lambda: delete_all(lake)).run(late, forced=True)

    assert outcome(summary) == {"stored": 1}
    after = await only(lake)
    assert after.dataset_id != before.dataset_id
    assert (after.revision, after.files[0].path in await paths(lake)) == (0, True)
    await lake.check()


async def test_what_was_deleted_and_damaged_is_stored_as_new() -> None:
    """
    There is nothing to be restored any more.
    """
    lake = Lake()
    await lake.run(offering(offer(1)))
    await damage(lake)

    summary = await meddled(lake, lambda: delete_all(lake)).run(offering(offer(1)))

    assert outcome(summary) == {"stored": 1}
    assert (await only(lake)).revision == 0
    await lake.check()


async def test_what_was_deleted_cannot_be_confirmed() -> None:
    """
    That nothing has changed tells nothing about bytes that are gone: the next Run gets them.
    """
    lake = Lake()
    await lake.run(offering(offer(1)))
    same = offering(offer(1), kind=Confirming)

    summary = await meddled(lake, lambda: delete_all(lake)).run(same, forced=True)

    assert outcome(summary) == {"failed": 1}
    assert "deleted meanwhile" in summary.failures[0].message
    assert await lake.datasets() == []
    assert outcome(await lake.run(offering(offer(1)))) == {"stored": 1}
    assert await lake.catalog.failures() == []
    await lake.check()
