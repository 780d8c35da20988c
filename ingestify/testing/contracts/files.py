"""What every FileStore must do. An adapter's tests inherit it and say how to open one."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import pytest
from anyio import CancelScope, Event, create_task_group
from anyio.lowlevel import checkpoint

from ingestify.errors import MissingBytesError, StoreError
from ingestify.model.catalog import StagedFile
from ingestify.ports import FileStore

PATH = "main/stage=raw/provider=p/dataset_type=match/match_id=1__events__v8.r0.0a1b2c3d.json.gz"
BIG = 5 * 1024 * 1024


class FileStoreContract(ABC):
    """Inherit, and give `opened` and `count_staged`."""

    @abstractmethod
    def opened(self, tmp_path: Any) -> AbstractAsyncContextManager[FileStore]:
        """A new, empty store."""

    @abstractmethod
    def count_staged(self, store: Any) -> int:
        """How many files are in the staging area, where a crash would leave them."""

    @pytest.fixture
    async def store(self, tmp_path: Any) -> AsyncIterator[FileStore]:
        async with self.opened(tmp_path) as store:
            yield store

    async def test_bytes_come_back_as_they_were(self, store: FileStore) -> None:
        """
        What is staged or published can be read, at once and in chunks, and is described truly.
        """
        for number, data in enumerate([b"{}", b"x" * 70_000, pattern(BIG), b""]):
            staged = await stage(store, data)

            assert (staged.size, staged.sha256) == (len(data), hashlib.sha256(data).hexdigest())
            assert b"".join([chunk async for chunk in store.open_staged(staged)]) == data
            assert await publish(store, staged, f"a/{number}") == f"a/{number}"
            assert await store.read(f"a/{number}") == data
            assert b"".join([chunk async for chunk in store.open(f"a/{number}")]) == data

    async def test_what_is_staged_cannot_be_seen(self, store: FileStore) -> None:
        """
        Only publishing makes a file visible.
        """
        staged = await stage(store, pattern(BIG))

        assert await paths(store) == []
        await store.discard(staged)

    async def test_equal_bytes_under_a_path_are_adopted(self, store: FileStore) -> None:
        """
        A retry finds the file that an earlier try left, and makes no second one.
        """
        for data in (b"small", pattern(BIG)):
            path = f"{PATH}.{len(data)}"
            assert await publish(store, await stage(store, data), path) == path
            assert await publish(store, await stage(store, data), path) == path

        assert len(await paths(store)) == 2
        assert self.count_staged(store) == 0

    async def test_other_bytes_get_a_suffix(self, store: FileStore) -> None:
        """
        What is published is never overwritten; the newcomer's name changes before its first dot.
        """
        first = await publish(store, await stage(store, b"one"), "a/b.json.gz")
        second = await publish(store, await stage(store, b"two"), "a/b.json.gz")
        third = await publish(store, await stage(store, b"six"), "a/b.json.gz")
        again = await publish(store, await stage(store, b"two"), "a/b.json.gz")

        assert (first, second, third, again) == (
            "a/b.json.gz",
            "a/b.1.json.gz",
            "a/b.2.json.gz",
            "a/b.1.json.gz",
        )
        assert await store.read(first) == b"one"
        assert await store.read(second) == b"two"

    async def test_a_batch_keeps_its_order(self, store: FileStore) -> None:
        """
        Each file's answer stands where the file stood.
        """
        files = [
            (await stage(store, b"%d" % number), f"x/{number % 7}/{number}") for number in range(40)
        ]

        async with store.publishing():
            published = await store.publish(files)

        assert list(published) == [path for _, path in files]
        assert [await store.read(path) for _, path in files] == [b"%d" % n for n in range(40)]

    async def test_two_files_of_one_batch_may_want_the_same_path(self, store: FileStore) -> None:
        """
        Equal ones share it, others get another.
        """
        files = [(await stage(store, data), "a/b.json") for data in (b"1", b"1", b"2")]

        assert list(await store.publish(files)) == ["a/b.json", "a/b.json", "a/b.1.json"]

    @pytest.mark.parametrize(
        "path", ["../out", "/etc/out", "a//b", "", "a/../../b", "a\\b", "a/b\0", ".ingestify/x"]
    )
    async def test_a_path_that_leads_elsewhere_fails_alone(
        self, store: FileStore, path: str
    ) -> None:
        """
        The others of its batch are published, and nothing of it stays behind.
        """
        bad, good = await stage(store, pattern(BIG)), await stage(store, b"good")

        failed, published = await store.publish([(bad, path), (good, "good")])

        assert isinstance(failed, StoreError)
        assert published == "good"
        assert await paths(store) == ["good"]
        assert self.count_staged(store) == 0

    @pytest.mark.parametrize("path", ["../out", "/etc/passwd", "missing", "missing/too"])
    async def test_what_is_not_there_cannot_be_read(self, store: FileStore, path: str) -> None:
        """
        Neither is what lies outside of the store.
        """
        kind = MissingBytesError if path.startswith("missing") else StoreError
        with pytest.raises(kind):
            await store.read(path)
        with pytest.raises(kind):
            [chunk async for chunk in store.open(path)]

    async def test_a_discarded_file_is_gone(self, store: FileStore) -> None:
        """
        Also when it is discarded twice.
        """
        for data in (b"small", pattern(BIG)):
            staged = await stage(store, data)
            await store.discard(staged)
            await store.discard(staged)

        assert self.count_staged(store) == 0

    @pytest.mark.parametrize("size", [10, BIG])
    async def test_a_body_that_breaks_off_leaves_nothing(self, store: FileStore, size: int) -> None:
        """
        The error is the caller's own, untouched.
        """

        async def broken() -> AsyncIterator[bytes]:
            yield pattern(size)
            raise ValueError("connection lost")

        with pytest.raises(ValueError, match="connection lost"):
            await store.stage(broken())

        assert self.count_staged(store) == 0

    async def test_a_cancelled_body_leaves_nothing(self, store: FileStore) -> None:
        """
        Cancellation passes through, and cleans up on its way.
        """
        begun = Event()

        async def endless() -> AsyncIterator[bytes]:
            yield pattern(BIG)
            begun.set()
            await Event().wait()

        async with create_task_group() as tg:
            tg.start_soon(store.stage, endless())
            await begun.wait()
            tg.cancel_scope.cancel()

        assert self.count_staged(store) == 0

    async def test_a_cancelled_batch_is_published_or_gone(self, store: FileStore) -> None:
        """
        Nothing stays staged, and what has a name has all its bytes.
        """
        files = [(await stage(store, pattern(BIG)), f"a/{number}") for number in range(3)]
        files.append((await stage(store, b"small"), "a/small"))

        with CancelScope() as scope:
            scope.cancel()
            await store.publish(files)
            await checkpoint()

        assert self.count_staged(store) == 0
        for path in await paths(store):
            assert len(await store.read(path)) in (BIG, 5)

    async def test_publishing_one_path_at_once_keeps_all_bytes(self, store: FileStore) -> None:
        """
        Of many that want the same path with different bytes, each gets a path of its own.
        """
        found: dict[bytes, str] = {}

        async def one(data: bytes) -> None:
            found[data] = await publish(store, await stage(store, data), PATH)

        async with create_task_group() as tg:
            for number in range(20):
                tg.start_soon(one, b"%d" % number)

        assert len(set(found.values())) == 20
        for data, path in found.items():
            assert await store.read(path) == data

    async def test_objects_are_listed_in_the_order_of_paths(self, store: FileStore) -> None:
        """
        Also where a folder's name is the beginning of a file's.
        """
        wanted = ["a/b/c", "a/b.x", "a/b-x", "a.x", "a/b0", "b", "a/b/a/d", "aa/x"]
        before = datetime.now(UTC) - timedelta(seconds=5)
        await store.publish([(await stage(store, path.encode()), path) for path in wanted])

        listed = [each async for each in store.list()]

        assert [each.path for each in listed] == sorted(wanted)
        assert [each.size for each in listed] == [len(path) for path in sorted(wanted)]
        assert all(before < each.modified_at < before + timedelta(hours=1) for each in listed)

    async def test_a_prefix_is_a_folder(self, store: FileStore) -> None:
        """
        Its own name alone is not enough; with or without a slash at its end.
        """
        wanted = ["a/b/c", "a/b/d/e", "a/bb/c", "a/b.x"]
        await store.publish([(await stage(store, path.encode()), path) for path in wanted])

        assert await paths(store, "a/b") == await paths(store, "a/b/") == ["a/b/c", "a/b/d/e"]
        assert await paths(store, "nothing") == await paths(store, "a/b/c") == []
        with pytest.raises(StoreError):
            await paths(store, "../a")

    async def test_deleting_is_for_those_that_are_there(self, store: FileStore) -> None:
        """
        What is not there counts as removed.
        """
        await publish(store, await stage(store, b"1"), "a/1")
        await publish(store, await stage(store, b"2"), "a/2")

        await store.delete(["a/1", "a/1", "missing", "missing/too", "a/2/below"])

        assert await paths(store) == ["a/2"]
        with pytest.raises(StoreError):
            await store.delete(["../a"])

    async def test_what_is_gone_can_be_published_again(self, store: FileStore) -> None:
        """
        Whatever deleting has taken with it.
        """
        await publish(store, await stage(store, b"1"), "a/b/c/1")
        await publish(store, await stage(store, b"2"), "a/2")
        async with store.exclusive():
            await store.delete(["a/b/c/1"])
        assert await publish(store, await stage(store, b"3"), "a/b/c/1") == "a/b/c/1"
        assert await paths(store) == ["a/2", "a/b/c/1"]
        assert await store.read("a/b/c/1") == b"3"

    async def test_what_is_on_its_way_is_no_debris(self, store: FileStore) -> None:
        """
        It can be published after others were cleaned up.
        """
        staged = await stage(store, pattern(BIG))
        async with store.exclusive():
            assert await store.staged_debris() == []
            assert await store.remove_debris() == (0, 0)
        assert await publish(store, staged, "a") == "a"
        assert await store.read("a") == pattern(BIG)

    async def test_catalogs_are_registered_once(self, store: FileStore) -> None:
        """
        Whoever removes what no catalog knows has to ask them all.
        """
        assert await store.catalogs() == {}
        for name in ("one", "two", "one"):
            await store.register(name)
        known = await store.catalogs()
        assert sorted(known) == ["one", "two"]
        assert all(name in place for name, place in known.items())
        assert await paths(store) == []

    async def test_who_deletes_is_held_off_while_others_publish(self, store: FileStore) -> None:
        """
        Publishers overlap; who wants the store alone waits for all of them, and they for it.
        """
        seen: list[str] = []
        waiting, go_on = Event(), Event()

        async def delete() -> None:
            waiting.set()
            async with store.exclusive():
                seen.append("alone")
                for _ in range(10):
                    await checkpoint()
                seen.append("alone no more")

        async def publish_late() -> None:
            await go_on.wait()
            async with store.publishing():
                seen.append("late")

        async with create_task_group() as tg:
            async with store.publishing(), store.publishing():
                tg.start_soon(delete)
                await waiting.wait()
                for _ in range(10):
                    await checkpoint()
                seen.append("published")
                tg.start_soon(publish_late)
            go_on.set()

        assert seen.index("published") < seen.index("alone")
        assert seen.index("alone no more") == seen.index("alone") + 1
        assert "late" in seen


async def stage(store: FileStore, data: bytes, *, piece: int = 100_000) -> StagedFile:
    """*data* staged, in pieces."""

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(data), piece):
            yield data[start : start + piece]

    return await store.stage(chunks())


async def publish(store: FileStore, staged: StagedFile, path: str) -> str:
    """The path that one file got."""
    async with store.publishing():
        (published,) = await store.publish([(staged, path)])
    if isinstance(published, StoreError):
        raise published
    return published


async def paths(store: FileStore, prefix: str = "") -> Sequence[str]:
    """Every path there is, as listed."""
    return [each.path async for each in store.list(prefix)]


@cache
def pattern(size: int) -> bytes:
    """Bytes that tell where they stand."""
    return b"".join(b"%07d " % number for number in range(size // 8 + 1))[:size]
