"""What upkeep does when others change the lake at the same time, and when there is very much."""

from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from anyio import fail_after, to_thread
from anyio.lowlevel import checkpoint
from lakes import Lake, offer, offering, outcome

from ingestify.adapters.catalog.memory import MemoryCatalog
from ingestify.adapters.catalog.sqlite import SqliteCatalog
from ingestify.adapters.files.disk import SystemDisk
from ingestify.adapters.files.local import LocalFileStore
from ingestify.adapters.files.memory import MemoryFileStore
from ingestify.errors import ConfigError, MissingBytesError, StoreError, StoreUnavailableError
from ingestify.model.catalog import DatasetQuery, KeptFile
from ingestify.model.dataset import DatasetState
from ingestify.model.run import Failure
from ingestify.model.selector import Selector
from ingestify.pipeline.only import Only
from ingestify.testing.contracts.catalog_values import NOON
from ingestify.testing.contracts.files import publish, stage
from ingestify.upkeep import (
    Damage,
    collect,
    delete,
    removing,
    verify,
    verifying,
    what_failed,
    what_is_damaged,
)

ALL = DatasetQuery()


class Watched(MemoryFileStore):
    """Does something once a File has been read, or before the store is held alone."""

    def __init__(self) -> None:
        super().__init__()
        self.after_reading: Callable[[], Awaitable[object]] | None = None
        self.reading = self.most_reading = 0

    async def open(self, path: str) -> AsyncIterator[bytes]:
        self.reading += 1
        self.most_reading = max(self.most_reading, self.reading)
        try:
            async for piece in super().open(path):
                yield piece
        finally:
            self.reading -= 1
            meddle, self.after_reading = self.after_reading, None
            if meddle is not None:
                await meddle()

    def lose(self, path: str) -> None:
        del self._objects[path]

    def spoil(self, path: str) -> None:
        data, at = self._objects[path]
        self._objects[path] = (b"\0" * len(data), at)


@pytest.fixture
def files() -> Watched:
    return Watched()


@pytest.fixture
def lake(files: Watched) -> Lake:
    return Lake(files=files)


async def path_of(lake: Lake, key: int = 1) -> str:
    [path] = [d.files[0].path for d in await lake.datasets() if d.identifier.id == key]
    return path


async def test_a_dataset_that_is_deleted_while_it_is_read_is_not_damaged(
    lake: Lake, files: Watched
) -> None:
    """
    Its bytes are gone, and so is everything that refers to them.
    """
    await lake.run(offering(offer(1), offer(2)))
    query = DatasetQuery(identifier={"id": 2})
    files.after_reading = lambda: delete(lake.catalog, files, query, at=NOON)

    found = await verify(lake.catalog, files)

    assert found.is_sound
    assert await lake.ids() == [1]


async def test_a_file_that_is_restored_while_it_is_read_is_not_damaged(
    lake: Lake, files: Watched
) -> None:
    """
    The bytes that were read are not those that count now, wherever the new ones lie.
    """
    for damage in (files.spoil, files.lose):
        await lake.run(offering(offer(1)))
        damage(await path_of(lake))
        assert (await verify(lake.catalog, files)).damaged_count == 1
        files.after_reading = lambda: lake.run(offering(offer(1)))

        found = await verify(lake.catalog, files)

        assert found.is_sound
        assert outcome(await lake.run(offering(offer(1)))) == {"skipped": 1}


@pytest.mark.parametrize("changed", [1, 2])
async def test_what_a_query_finds_may_change_while_files_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: int
) -> None:
    """
    Damage that was found is told and marked, though the query finds a File more or less by then.
    """
    monkeypatch.setattr(verifying, "PAGE", 2)
    states = DatasetQuery(states=[DatasetState.COMPLETE])
    async with SqliteCatalog.open(tmp_path / "catalog.db") as catalog:
        lake = Lake(catalog=catalog, files=(files := Watched()))
        scheduled = offer(1, state=DatasetState.SCHEDULED)
        await lake.run(offering(offer(0), scheduled, offer(2)))
        files.spoil(await path_of(lake, 2))
        state = {1: DatasetState.COMPLETE, 2: DatasetState.SCHEDULED}[changed]
        again = offering(offer(changed, state=state))
        files.after_reading = lambda: lake.run(again)

        found = await verify(catalog, files, states)

        assert found.damaged_count == 1
        marked = [each for each in await catalog.kept_files(ALL) if each.is_damaged]
        assert [each.file.path for each in marked] == [each.path for each in found.damaged]


async def test_many_files_are_read_at_once_but_not_all(lake: Lake, files: Watched) -> None:
    """
    In pages, and by a bounded number of readers.
    """
    await lake.run(offering(*[offer(number) for number in range(2 * verifying.PAGE + 1)]))
    told: list[tuple[int, int, int]] = []

    found = await verify(lake.catalog, files, on_progress=lambda *how_far: told.append(how_far))

    assert found.files == 2 * verifying.PAGE + 1
    assert files.most_reading == verifying.READERS
    assert told[-1] == (found.files, found.files, 0)
    assert len(told) == found.files


async def test_more_damage_than_can_be_named(lake: Lake, files: Watched) -> None:
    """
    All of it is counted and marked, and repairing asks for all of it.
    """
    source = offering(*[offer(number) for number in range(verifying.MOST_NAMED + 200)])
    await lake.run(source)
    for each in await lake.datasets():
        files.spoil(each.files[0].path)

    found = await verify(lake.catalog, files)

    counts = (len(found.damaged), found.damaged_count, found.damaged_current)
    assert counts == (1000, 1200, 1200)
    only = await what_is_damaged(lake.catalog, found)
    assert len(only.datasets) == 1200
    assert only.selectors == frozenset({"{}"})
    assert outcome(await lake.run(source, only=only)) == {"unchanged": 1200}
    assert (await verify(lake.catalog, files)).is_sound


async def test_damage_that_can_be_repaired_is_named_first(
    lake: Lake, files: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    However much superseded Files there are that nobody has any more.
    """
    monkeypatch.setattr(verifying, "MOST_NAMED", 3)
    for token in ("1", "2"):
        await lake.run(offering(*[offer(n, token=token, body=token) for n in range(4)]))
    for each in await kept(lake):
        files.spoil(each.file.path)

    found = await verify(lake.catalog, files)

    assert (found.damaged_count, found.damaged_current) == (8, 4)
    assert [each.is_current for each in found.damaged] == [True, True, True]
    assert len((await what_is_damaged(lake.catalog, found)).datasets) == 4


async def test_what_this_user_may_not_read_is_not_damaged(lake: Lake, tmp_path: Path) -> None:
    """
    It is said with the way out, and nothing is marked.
    """
    disk = Refusing()
    async with LocalFileStore.at(tmp_path, disk=disk) as store:
        lake.files = store
        await lake.run(offering(offer(1), offer(2)))
        disk.refused = "id=1__"
        with pytest.raises(StoreUnavailableError, match=r"id=1__.*denied; let this user read it"):
            await verify(lake.catalog, store)
        assert not any(each.is_damaged for each in await kept(lake))


class Refusing(SystemDisk):
    """Lets nobody touch what has *refused* in its path."""

    refused = "nothing"

    def open(self, path: str) -> int:
        self._check(path)
        return super().open(path)

    def unlink(self, path: str) -> None:
        self._check(path)
        super().unlink(path)

    def _check(self, path: str) -> None:
        if self.refused in path:
            raise PermissionError(errno.EACCES, "Permission denied", path)


async def test_a_file_that_cannot_be_removed_holds_nobody_up(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Deleting says what is still there; later deletions, verifying and collecting do the rest, and
    collecting says it again. Once it can be removed, it is.
    """
    monkeypatch.setattr(removing, "AT_ONCE", 1)
    disk = Refusing()
    async with LocalFileStore.at(tmp_path, disk=disk) as store:
        lake.files = store
        await lake.run(offering(*[offer(number) for number in range(5)]))
        disk.refused = "id=1__"
        [stuck] = [await path_of(lake)]
        told = "the datasets are deleted; the bytes at .*id=1__.* let this user write there"
        for key in (1, 2):
            with pytest.raises(StoreError, match=told):
                await delete(lake.catalog, store, DatasetQuery(identifier={"id": key}), at=NOON)
            assert await lake.catalog.doomed() == [stuck]
        await publish(store, await stage(store, b"debris"), "main/stage=raw/debris")

        found = await verify(lake.catalog, store)
        assert (found.is_sound, found.files, list(found.undeleted)) == (True, 3, [stuck])
        with pytest.raises(StoreError, match=r"all other files .* the bytes at .*id=1__"):
            await collect(lake.catalog, store)
        assert len([each async for each in store.list()]) == 4

        disk.refused = "nothing"
        assert (await collect(lake.catalog, store)).doomed == 1
        assert await lake.catalog.doomed() == []
        assert (await verify(lake.catalog, store)).undeleted == {}


class Slow(SystemDisk):
    """Removes a File once `go_on` is set."""

    def __init__(self) -> None:
        self.begun, self.go_on, self.removed = (threading.Event() for _ in range(3))
        self.somebody_waits = False

    def unlink(self, path: str) -> None:
        if ".ingestify" in path:
            super().unlink(path)
            return
        self.begun.set()
        assert self.go_on.wait(20)
        super().unlink(path)
        self.removed.set()

    def try_lock(self, fd: int, *, exclusive: bool) -> bool:
        is_ours = super().try_lock(fd, exclusive=exclusive)
        self.somebody_waits = self.somebody_waits or not is_ours
        return is_ours


@pytest.mark.parametrize("how", ["delete", "collect"])
async def test_who_removes_files_keeps_the_lake_until_the_last_one_is_gone(
    tmp_path: Path, how: str
) -> None:
    """
    Also when its task is cancelled meanwhile: a Run that stores the same bytes waits for it, and
    does not adopt what is removed afterwards.
    """
    disk = Slow()
    async with (
        SqliteCatalog.open(tmp_path / "catalog.db") as catalog,
        LocalFileStore.at(tmp_path / "files", disk=disk) as store,
    ):
        lake, source = Lake(catalog=catalog, files=store), offering(offer(1))
        if how == "delete":
            await lake.run(source)
            removal = delete(catalog, store, ALL, at=NOON)
            task: asyncio.Task[object] = asyncio.ensure_future(removal)
        else:
            await Lake(files=store).run(source)
            task = asyncio.ensure_future(collect(catalog, store))
        await to_thread.run_sync(disk.begun.wait, 20)
        task.cancel()
        disk.somebody_waits = False
        run = asyncio.ensure_future(lake.run(source))
        with fail_after(20):
            while not (disk.somebody_waits or run.done()):
                await checkpoint()
            disk.go_on.set()
            await run
            with pytest.raises(asyncio.CancelledError):
                await task
        await to_thread.run_sync(disk.removed.wait, 20)
        assert await lake.ids() == [1]
        assert await catalog.doomed() == []
        await lake.check()


async def test_a_file_that_cannot_be_read_says_why(lake: Lake, files: Watched) -> None:
    """
    What the disk says is passed on.
    """
    await lake.run(offering(offer(1)))

    async def broken(path: str) -> Any:
        raise StoreError(f"cannot read {path}: Input/output error")
        yield b""

    files.open = broken  # type: ignore[method-assign]
    [damaged] = (await verify(lake.catalog, files)).damaged
    assert damaged.damage is Damage.UNREADABLE
    assert damaged.detail.endswith("Input/output error")
    assert (damaged.provider, damaged.identifier_key) == ("fake", '{"id":1}')
    assert (damaged.data_feed_key, damaged.revision, damaged.is_current) == ("events", 0, True)


async def test_missing_bytes_are_told_with_the_way_out(lake: Lake, files: Watched) -> None:
    """
    Whichever way they are read: whose they are, and what mends it.
    """
    await lake.run(offering(offer(7)))
    files.lose(await path_of(lake, 7))
    [dataset] = await lake.datasets()
    [content] = await lake.store.load_files(dataset)
    wanted = r"fake thing id=7 \(a dataset\): events v1 .*nothing.*ingestify verify --repair"
    with pytest.raises(MissingBytesError, match=wanted):
        await content.read_bytes()
    with pytest.raises(MissingBytesError, match=wanted):
        [chunk async for chunk in content.open()]


@pytest.mark.parametrize("look", [collect, verify])
async def test_bytes_that_are_about_to_be_committed_are_no_debris(
    lake: Lake, files: Watched, monkeypatch: pytest.MonkeyPatch, look: Any
) -> None:
    """
    They have no row yet when the lake is listed; who counts and who removes look again.
    """
    await lake.run(offering(offer(1)))
    await lake.catalog.delete(ALL, at=NOON)
    await lake.catalog.forget_doomed(await lake.catalog.doomed())
    referenced = lake.catalog.referenced

    async def then_run(paths: Sequence[str]) -> Any:
        monkeypatch.setattr(lake.catalog, "referenced", referenced)
        known = await referenced(paths)
        await lake.run(offering(offer(1)))  # adopts the bytes that lie there
        return known

    monkeypatch.setattr(lake.catalog, "referenced", then_run)
    done = await look(lake.catalog, files)
    assert done.unreferenced == 0
    assert await lake.ids() == [1]
    await lake.check()


async def test_debris_is_removed_in_portions(
    lake: Lake, files: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    So that nobody who wants to publish waits for long; the first ones are named. How many were
    looked at is told more often than they are looked up.
    """
    monkeypatch.setattr(removing, "PAGE", 20)
    monkeypatch.setattr(removing, "TOLD_AFTER", 8)
    monkeypatch.setattr(removing, "AT_ONCE", 7)
    monkeypatch.setattr(removing, "MOST_NAMED", 10)
    await lake.run(offering(*[offer(number) for number in range(30)]))
    for number in range(30):
        await publish(files, await stage(files, b"%d" % number), f"main/stage=raw/{number:02}")
    told: list[int] = []

    collected = await collect(lake.catalog, files, on_progress=told.append)

    assert (collected.unreferenced, collected.unreferenced_bytes) == (30, 50)
    assert collected.paths == [f"main/stage=raw/{number:02}" for number in range(10)]
    assert told == [8, 16, 24, 32, 40, 48, 56, 60]
    assert len(await kept(lake)) == len([each async for each in files.list()]) == 30
    await lake.check()


async def kept(lake: Lake) -> Sequence[KeptFile]:
    return await lake.catalog.kept_files(ALL)


async def test_a_deletion_that_cannot_be_finished_is_finished_later(
    lake: Lake, files: Watched
) -> None:
    """
    Bytes that cannot be removed stay noted.
    """
    await lake.run(offering(offer(1)))
    path = await path_of(lake)
    removed = files.delete

    async def refused(paths: Sequence[str]) -> Mapping[str, str]:
        return dict.fromkeys(paths, "read-only; make it writable")

    files.delete = refused  # type: ignore[method-assign]
    with pytest.raises(StoreError, match=r"are deleted; the bytes at .* read-only"):
        await delete(lake.catalog, files, ALL, at=NOON)
    assert await lake.catalog.doomed() == [path]
    files.delete = removed  # type: ignore[method-assign]
    assert (await collect(lake.catalog, files)).doomed == 1
    assert [each async for each in files.list()] == []


async def test_nothing_is_deleted_from_a_lake_of_two(lake: Lake, files: Watched) -> None:
    """
    Not even the rows: the other catalog may have adopted the very bytes.
    """
    await lake.run(offering(offer(1)))
    await files.register("somebody else")
    with pytest.raises(ConfigError, match="somebody else"):
        await delete(lake.catalog, files, ALL, at=NOON)
    with pytest.raises(ConfigError, match="file_url"):
        await collect(lake.catalog, files)
    assert await lake.ids() == [1]
    assert (await verify(lake.catalog, files)).unreferenced is None


async def test_what_was_never_listed_is_looked_for_everywhere(lake: Lake) -> None:
    """
    As where the Run that stored it was cut short before its list ended.
    """
    source = offering(offer(1), kind=Broken)
    await lake.run(source)
    assert isinstance(lake.files, Watched)
    lake.files.spoil(await path_of(lake))
    found = await verify(lake.catalog, lake.files)
    only = await what_is_damaged(lake.catalog, found)
    assert (len(only.datasets), only.selectors) == (1, None)
    assert outcome(await lake.run(source, only=only)) == {"unchanged": 1}


class Broken(type(offering())):  # type: ignore[misc]
    """A list that always ends with an error."""

    async def discover_datasets(self, *args: Any, **options: Any) -> Any:
        async for each in super().discover_datasets(*args, **options):
            yield each
        raise ValueError("the end is missing")


def failure(key: str | None, selector: str | None, **changes: Any) -> Failure:
    return Failure(
        code="fetch",
        message="no",
        bucket=changes.get("bucket", "b"),
        provider=changes.get("provider", "p"),
        dataset_type=changes.get("dataset_type", "t"),
        identifier_key=key,
        selector=selector,
        run_id=changes.get("run_id", 1),
    )


async def test_what_to_try_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Failed Datasets in the Selectors that they failed in, failed Selectors as a whole; narrowed by
    provider, dataset type and Run.
    """
    catalog = MemoryCatalog()
    failures = [failure("1", "a=1"), failure("2", "a=2", provider="q"), failure(None, "a=3")]

    async def known(*, run_id: int | None = None, limit: int) -> Sequence[Failure]:
        return failures if run_id is None else failures[:1]

    monkeypatch.setattr(catalog, "failures", known)

    everything = await what_failed(catalog)
    assert everything == Only(
        datasets=frozenset({("b", "p", "t", "1"), ("b", "q", "t", "2")}),
        selectors=frozenset({"a=1", "a=2"}),
        whole=frozenset({("b", "p", "t", "a=3")}),
    )
    some = await what_failed(catalog, provider="q", dataset_type="t")
    assert some is not None
    assert (some.datasets, some.whole) == ({("b", "q", "t", "2")}, frozenset())
    of_run = await what_failed(catalog, run_id=1)
    assert of_run is not None
    assert (of_run.datasets, of_run.whole) == ({("b", "p", "t", "1")}, frozenset())
    assert await what_failed(catalog, dataset_type="other") is None
    failures[0] = failure("1", None)
    unknown = await what_failed(catalog)
    assert unknown is not None
    assert unknown.selectors is None


def test_which_selectors_a_run_looks_at() -> None:
    """
    By key or by text; a failure that names none is about all of its Source.
    """
    one, two = Selector({"a": 1}), Selector({"a": 2})
    only = Only(
        datasets=frozenset({("b", "p", "t", "k")}),
        selectors=frozenset({one.key}),
        whole=frozenset({("b", "q", "t", "*")}),
    )
    p, q = ("b", "p", "t"), ("b", "q", "t")
    assert [only.looks_at(p, each) for each in (one, two)] == [True, False]
    assert [only.looks_at(q, each) for each in (one, two)] == [True, True]
    assert [only.is_whole(q, each) for each in (one, two)] == [True, True]
    assert not only.is_whole(p, one)
    assert not only.is_whole(("c", "q", "t"), one)
    places = (p, q, ("b", "p", "x"), ("c", "p", "t"))
    assert [only.concerns(place) for place in places] == [True, True, False, False]
    assert Only(selectors=frozenset({str(two)})).looks_at(p, two)
    assert Only().looks_at(p, two)
    assert (bool(only), bool(Only())) == (True, False)
