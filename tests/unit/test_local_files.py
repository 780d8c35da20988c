"""Files on a local disk: what is done to the disk, in which order, and what when it fails."""

import asyncio
import errno
import os
import shutil
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from ingestify.adapters.files.disk import SystemDisk
from ingestify.adapters.files.local import PIECE, SMALL, LocalFileStore
from ingestify.errors import StoreError, StoreUnavailableError
from ingestify.testing.contracts.files import paths, pattern, publish, stage
from ingestify.testing.disk import SimulatedDisk

CHANGING = ("create", "write", "fsync", "link", "rename", "unlink", "mkdir", "fsync_folder")


@dataclass
class TestedDisk:
    """The real disk, which writes down every call, and fails where it is told to."""

    __test__ = False

    fail: object = lambda name, what, number: None  # the errno to fail with
    calls: list[tuple[str, str]] = field(default_factory=list)  # what was done to which path
    opened: dict[int, str] = field(default_factory=dict)

    def __getattr__(self, name):
        def call(*args, **options):
            what = self.opened.get(args[0], "") if isinstance(args[0], int) else args[0]
            number = len(self.calls)
            self.calls.append((name, what if name not in ("link", "rename") else args[1]))
            if code := self.fail(name, what, number):
                raise OSError(code, "told to fail", what)
            result = getattr(SystemDisk(), name)(*args, **options)
            if name in ("create", "append", "open", "open_lock"):
                self.opened[result] = args[0]
            return result

        return call

    def done(self, name):
        """The paths that *name* was called on, in order."""
        return [what for called, what in self.calls if called == name]


@pytest.fixture
def root(tmp_path):
    return tmp_path / "lake"


def staged_files(root):
    return sorted((root / ".ingestify" / "staging").glob("*/*"))


def failing(name, code, *, after=0):
    """Fails every call of *name* but the first few."""
    seen = Counter()

    def fail(called, what, number):
        seen[called] += 1
        return code if called == name and seen[called] > after else None

    return fail


async def test_bytes_are_on_the_disk_before_names_and_names_before_the_answer(root):
    """
    Each file is synced before it gets its name; each folder with new names once, after them all.
    """
    disk = TestedDisk()
    async with LocalFileStore.at(root, disk=disk) as store:
        wanted = [f"main/t/{number % 2}/{number}" for number in range(6)]
        files = [(await stage(store, pattern(70_000 * (n % 3))), p) for n, p in enumerate(wanted)]
        disk.calls.clear()

        await store.publish(files)

    position = {call: number for number, call in enumerate(disk.calls)}
    links = [position["link", f"{root}/{path}"] for path in wanted]
    syncs = [number for number, (name, _) in enumerate(disk.calls) if name == "fsync"]
    folder_syncs = [n for n, (name, _) in enumerate(disk.calls) if name == "fsync_folder"]
    assert len(syncs) == 6
    assert max(syncs) < min(links)
    assert max(links) < min(folder_syncs)
    assert sorted(disk.done("fsync_folder")) == sorted(
        [f"{root}", f"{root}/main", f"{root}/main/t", f"{root}/main/t/0", f"{root}/main/t/1"]
    )
    assert staged_files(root) == []


async def test_each_file_is_synced_before_it_is_linked(root):
    """
    The very file that gets the name, not only another one.
    """
    disk = TestedDisk()
    links = []
    async with LocalFileStore.at(root, disk=disk, threads=1) as store:
        disk.fail = lambda name, what, number: links.append(what) if name == "link" else None
        await store.publish([(await stage(store, b"%d" % n), f"a/{n}") for n in range(3)])

    assert disk.done("fsync") == links


async def test_folders_that_are_known_to_last_are_not_synced_again(root):
    """
    The second batch pays for its own folder alone.
    """
    disk = TestedDisk()
    async with LocalFileStore.at(root, disk=disk) as store:
        await publish(store, await stage(store, b"1"), "a/b/1")
        disk.calls.clear()
        await publish(store, await stage(store, b"2"), "a/b/2")

    assert disk.done("fsync_folder") == [f"{root}/a/b"]
    assert disk.done("mkdir") == []


async def test_a_folder_that_somebody_else_made_is_synced_too(root):
    """
    That it is there does not mean that it would outlast a loss of power.
    """
    disk = TestedDisk()
    async with LocalFileStore.at(root, disk=disk) as store:
        (root / "a" / "b").mkdir(parents=True)
        await publish(store, await stage(store, b"1"), "a/b/1")

    assert {f"{root}", f"{root}/a", f"{root}/a/b"} <= set(disk.done("fsync_folder"))


async def test_folders_of_a_lake_that_was_begun_are_synced(root):
    """
    Who made them may have crashed before they were on the disk: a loss of power would take all.
    Once a catalog has its mark in the lake, they are known to last.
    """
    for folder in (root, root / ".ingestify", root / ".ingestify" / "staging"):
        folder.mkdir()
    disk = TestedDisk()
    async with LocalFileStore.at(root, disk=disk, make=False) as store:
        await store.register("mine")
        synced = [what for name, what in disk.calls if name == "fsync_folder"]
        assert {str(root.parent), str(root), str(root / ".ingestify")} <= set(synced)
        disk.calls.clear()
        await store.register("mine")
    synced = [what for name, what in disk.calls if name == "fsync_folder"]
    assert synced == [str(root / ".ingestify" / "catalogs")]


async def test_a_folder_above_the_lake_that_may_not_be_opened_is_left_alone(root):
    """
    It was there long before, and is not ours to sync.
    """

    def fail(name, what, number):
        is_above = name == "fsync_folder" and what == str(root.parent.parent)
        return errno.EACCES if is_above else None

    root.mkdir()
    async with LocalFileStore.at(root, disk=TestedDisk(fail)) as store:
        await publish(store, await stage(store, b"1"), "a/b")


async def test_a_folder_whose_sync_failed_is_synced_again(root):
    """
    Only what has succeeded counts as lasting.
    """
    disk = TestedDisk()
    async with LocalFileStore.at(root, disk=disk) as store:
        disk.fail = lambda name, what, number: (
            errno.EIO if (name, what) == ("fsync_folder", f"{root}/a") else None
        )
        with pytest.raises(StoreError, match="sync the folder of a/b/1"):
            await publish(store, await stage(store, b"1"), "a/b/1")
        disk.fail = lambda name, what, number: None
        disk.calls.clear()
        await publish(store, await stage(store, b"1"), "a/b/1")

    assert f"{root}/a" in disk.done("fsync_folder")


async def test_a_folder_that_was_removed_is_made_again(root):
    """
    And synced again, with all its levels.
    """
    disk = TestedDisk()
    async with LocalFileStore.at(root, disk=disk) as store:
        await publish(store, await stage(store, b"1"), "a/b/1")
        shutil.rmtree(root / "a")
        disk.calls.clear()
        await publish(store, await stage(store, b"2"), "a/b/2")

        assert await paths(store) == ["a/b/2"]
    assert {f"{root}", f"{root}/a", f"{root}/a/b"} <= set(disk.done("fsync_folder"))


async def test_a_folder_that_came_back_while_others_had_the_lake_is_synced_again():
    """
    Who had the lake alone may have removed it, and who made it anew may not have synced it yet.
    """
    disk, place = SimulatedDisk(), Path("/lake")
    async with (
        LocalFileStore.at(place, disk=disk) as store,
        LocalFileStore.at(place, disk=disk) as collector,
    ):
        await publish(store, await stage(store, b"1"), "a/b/1")
        async with collector.exclusive():
            await collector.delete(["a/b/1"])
        disk.mkdir(f"{place}/a")
        disk.mkdir(f"{place}/a/b")
        async with store.publishing():
            await publish(store, await stage(store, b"2"), "a/b/2")

    disk.lose_power()
    async with LocalFileStore.at(place, disk=disk) as store:
        assert await store.read("a/b/2") == b"2"


async def test_folders_stay_where_nobody_can_be_told_that_they_go(root):
    """
    As on a full disk, where removing files has to go on.
    """
    disk = TestedDisk()
    async with LocalFileStore.at(root, disk=disk) as store:
        for name in ("1", "2"):
            await publish(store, await stage(store, b"x"), f"{name}/a")
        disk.fail = failing("overwrite", errno.ENOSPC)
        async with store.exclusive():
            await store.delete(["1/a"])
        disk.fail = lambda name, what, number: None
        async with store.exclusive():
            await store.delete(["2/a"])

        assert await paths(store) == []
    assert sorted(each.name for each in root.iterdir()) == [".ingestify", "1"]


async def test_adopting_makes_sure_that_it_lasts(root):
    """
    What an earlier try left is synced like a file of our own, and its folder too.
    """
    disk = TestedDisk()
    (root / "a").mkdir(parents=True)
    (root / "a" / "b.json").write_bytes(b"left")
    async with LocalFileStore.at(root, disk=disk) as store:
        assert await publish(store, await stage(store, b"left"), "a/b.json") == "a/b.json"

    assert f"{root}/a/b.json" in disk.done("fsync")
    assert f"{root}/a" in disk.done("fsync_folder")


@pytest.mark.parametrize("left", [b"", b"le", b"lefT", b"left and more", None])
async def test_what_is_damaged_or_different_is_not_adopted(root, left):
    """
    Cut, changed, longer, or a folder: the new file gets a suffix, the old thing is left alone.
    """
    (root / "a").mkdir(parents=True)
    taken = root / "a" / "b.json"
    taken.mkdir() if left is None else taken.write_bytes(left)
    async with LocalFileStore.at(root) as store:
        assert await publish(store, await stage(store, b"left"), "a/b.json") == "a/b.1.json"

    assert taken.is_dir() if left is None else taken.read_bytes() == left


async def test_what_cannot_be_synced_is_not_adopted(root):
    """
    A file that the disk may lose is no better than none.
    """
    disk = TestedDisk()
    async with LocalFileStore.at(root, disk=disk) as store:
        await publish(store, await stage(store, b"x"), "a/b")
        disk.fail = lambda name, what, number: (
            errno.EIO if (name, what) == ("fsync", f"{root}/a/b") else None
        )

        assert await publish(store, await stage(store, b"x"), "a/b") == "a/b.1"


async def test_small_bodies_wait_in_memory(root):
    """
    They cost no disk call before their batch is published; large ones lie in the staging area.
    """
    disk = TestedDisk()
    async with LocalFileStore.at(root, disk=disk) as store:
        disk.calls.clear()
        small = await stage(store, bytes(SMALL))
        assert disk.calls == []

        large = await stage(store, bytes(SMALL + 1))
        assert len(staged_files(root)) == 1
        await store.discard(small)
        await store.discard(large)
        assert staged_files(root) == []


async def test_a_staged_file_that_changed_is_not_published(root):
    """
    What is on the disk must be as long as what was staged.
    """
    async with LocalFileStore.at(root) as store:
        staged = await stage(store, pattern(SMALL + 1))
        staged_files(root)[0].write_bytes(b"cut")
        other = await stage(store, b"other")

        failed, published = await store.publish([(staged, "a/1"), (other, "a/2")])

        assert "65537 bytes were staged, 3 are on the disk" in str(failed)
        assert published == "a/2"
        assert await paths(store) == ["a/2"]


async def test_a_staged_file_that_is_gone_fails_alone(root):
    """
    The others of its batch are published.
    """
    async with LocalFileStore.at(root) as store:
        staged, other = await stage(store, pattern(SMALL + 1)), await stage(store, b"other")
        await store.discard(staged)

        failed, published = await store.publish([(staged, "a/1"), (other, "a/2")])

        assert isinstance(failed, StoreError)
        assert published == "a/2"


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOTSUP, errno.EMLINK])
async def test_without_links_nothing_is_overwritten_either(root, code):
    """
    On a file system that has none, files still adopt equal bytes and get suffixes for others.
    """
    disk = TestedDisk(failing("link", code))
    async with LocalFileStore.at(root, disk=disk) as store:
        got = [await publish(store, await stage(store, data), "a/b.json") for data in (b"1", b"2")]
        again = await publish(store, await stage(store, b"2"), "a/b.json")

        assert [*got, again] == ["a/b.json", "a/b.1.json", "a/b.1.json"]
        assert [await store.read(path) for path in got] == [b"1", b"2"]
        assert staged_files(root) == []
        assert disk.done("rename") == [f"{root}/a/b.json", f"{root}/a/b.1.json"]


async def test_without_links_a_failed_move_gives_the_name_back(root):
    """
    The name is taken with an empty file first; that file must not stay.
    """
    codes = {"link": errno.EPERM, "rename": errno.EIO}
    disk = TestedDisk(lambda name, what, number: codes.get(name))
    async with LocalFileStore.at(root, disk=disk) as store:
        with pytest.raises(StoreError, match="cannot publish a/b"):
            await publish(store, await stage(store, b"1"), "a/b")

        assert await paths(store) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
@pytest.mark.parametrize("name", ["create", "write", "fsync", "link", "mkdir", "fsync_folder"])
async def test_a_disk_that_takes_nothing_more_is_said_to_be_unavailable(root, name, code):
    """
    The error says what to do; the staging area is left clean, and it heals alone.
    """
    disk = TestedDisk()
    async with LocalFileStore.at(root, disk=disk) as store:
        sizes = (10, 100_000, 20, 300_000)
        files = [(await stage(store, pattern(n)), f"a/{n}") for n in sizes]
        disk.fail = failing(name, code, after=1 if name in ("create", "write") else 0)
        with pytest.raises(StoreUnavailableError, match=f"{root}/.*keep the lake elsewhere"):
            await store.publish(files)
        assert staged_files(root) == []

        disk.fail = lambda name, what, number: None
        files = [(await stage(store, pattern(n)), f"a/{n}") for n in sizes]
        assert list(await store.publish(files)) == [path for _, path in files]


@pytest.mark.parametrize("name", ["create", "write", "fsync", "link", "size"])
async def test_a_bad_spot_on_the_disk_harms_one_file(root, name):
    """
    EIO at one file is that file's error alone, is not tried again, and names the path.
    """
    disk = TestedDisk()
    async with LocalFileStore.at(root, disk=disk, threads=1) as store:
        files = [(await stage(store, b"%d" % n), f"a/{n}") for n in range(3)]
        seen = Counter()

        def once(called, what, number):
            seen[called] += 1
            return errno.EIO if called == name and seen[called] == 2 else None

        disk.fail = once
        first, failed, last = await store.publish(files)

        assert (first, last) == ("a/0", "a/2")
        assert isinstance(failed, StoreError)
        assert staged_files(root) == []
        assert await paths(store) == ["a/0", "a/2"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EMFILE, errno.EACCES])
async def test_any_disk_call_may_fail(root, code):
    """
    Whichever call of staging and publishing fails: nothing stays in the staging area, an answer
    is true, and the next try succeeds.
    """
    sizes = (10, 70_000, 300_000)
    number = 0
    while True:
        place = root / str(number)
        disk = TestedDisk()
        async with LocalFileStore.at(place, disk=disk, threads=1) as store:
            start = len(disk.calls) + number
            disk.fail = lambda name, what, at, start=start: (
                code if at == start and name not in ("unlink", "close") else None
            )
            files, answers = [], []
            try:
                for size in sizes:
                    files.append((await stage(store, pattern(size)), f"a/b/{size}"))
                async with store.publishing():
                    given, files = files, []
                    answers = await store.publish(given)
            except (StoreError, StoreUnavailableError):
                for staged, _ in files:  # those that publish did not get
                    await store.discard(staged)
            calls, disk.fail = len(disk.calls), lambda name, what, at: None
            for answer, size in zip(answers, sizes, strict=False):
                if isinstance(answer, str):
                    assert await store.read(answer) == pattern(size)
            assert staged_files(place) == []
            if calls <= start:
                break
            for size in sizes:
                path = await publish(store, await stage(store, pattern(size)), f"a/b/{size}")
                assert await store.read(path) == pattern(size)
        number += 1
    assert number > 40


@pytest.mark.parametrize("name", ["create", "write"])
@pytest.mark.parametrize("after", [0, 1])
async def test_staging_that_fails_leaves_nothing(root, name, after):
    """
    At the first piece or a later one.
    """
    disk = TestedDisk()
    async with LocalFileStore.at(root, disk=disk) as store:
        disk.fail = failing(name, errno.ENOSPC, after=after if name == "write" else 0)
        with pytest.raises(StoreUnavailableError, match="free some space"):
            await stage(store, pattern(1_000_000))

        assert staged_files(root) == []


async def test_a_lake_that_is_gone_is_not_made_anew(root):
    """
    Where a disk was unmounted, nothing is written into the folder below.
    """
    async with LocalFileStore.at(root) as store:
        small = await stage(store, b"small")
        shutil.rmtree(root)
        root.mkdir()

        with pytest.raises(StoreUnavailableError, match="is the disk mounted"):
            await store.publish([(small, "a/b")])
        with pytest.raises(StoreUnavailableError, match="is the disk mounted"):
            await stage(store, bytes(SMALL + 1))
        with pytest.raises(StoreUnavailableError, match="is the disk mounted"):
            async with store.publishing():
                pass

        assert list(root.iterdir()) == []


async def test_permissions_are_named(root):
    """
    One folder that may not be written is that file's error; the staging area is everybody's.
    """
    disk = TestedDisk()
    async with LocalFileStore.at(root, disk=disk) as store:
        disk.fail = failing("mkdir", errno.EACCES)
        with pytest.raises(StoreUnavailableError, match="let this user write there"):
            await publish(store, await stage(store, b"1"), "c")

        disk.fail = lambda name, what, number: (
            errno.EACCES if (name, what) == ("mkdir", f"{root}/a") else None
        )
        with pytest.raises(StoreError, match="cannot publish a/b: told to fail"):
            await publish(store, await stage(store, b"1"), "a/b")

        disk.fail = failing("create", errno.EACCES)
        with pytest.raises(StoreUnavailableError, match="let this user write there"):
            await publish(store, await stage(store, b"1"), "c")

        disk.fail = failing("open", errno.EACCES)
        with pytest.raises(StoreUnavailableError, match=r"/a: told to fail; let this user read it"):
            await store.read("a")

        disk.fail = failing("entries", errno.EACCES)
        with pytest.raises(StoreError, match="cannot list"):
            await paths(store)


async def test_deleting_goes_on_after_an_error(root):
    """
    One that cannot be removed is told, the others are gone.
    """
    disk = TestedDisk()
    async with LocalFileStore.at(root, disk=disk) as store:
        for name in ("1", "2", "3"):
            await publish(store, await stage(store, b"x"), f"a/{name}")
        disk.fail = lambda name, what, number: (
            errno.EACCES if (name, what) == ("unlink", f"{root}/a/2") else None
        )

        failed = await store.delete(["a/1", "a/2", "a/3"])
        assert failed == {"a/2": "told to fail; let this user write there"}

        assert await paths(store) == ["a/2"]


async def test_a_lake_is_made_with_all_its_folders(tmp_path):
    """
    Each new level outlasts a loss of power; opening again makes nothing.
    """
    disk = TestedDisk()
    async with LocalFileStore.at(tmp_path / "x" / "y", disk=disk):
        pass
    assert {str(tmp_path), str(tmp_path / "x")} <= set(disk.done("fsync_folder"))

    made = sorted(tmp_path.rglob("*"))
    async with LocalFileStore.at(tmp_path / "x" / "y"):
        pass
    assert sorted(tmp_path.rglob("*")) == made


async def test_a_lake_cannot_be_where_a_file_is(tmp_path):
    """
    The error names the path.
    """
    (tmp_path / "file").write_bytes(b"")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StoreUnavailableError, match=f"cannot keep a lake in {place}"):
            async with LocalFileStore.at(place):
                pass


async def test_a_lake_that_is_read_only_can_be_read(root):
    """
    Opening writes nothing where everything is there.
    """
    async with LocalFileStore.at(root) as store:
        await publish(store, await stage(store, b"1"), "a/b")

    disk = TestedDisk(
        lambda name, what, number: errno.EROFS if name in CHANGING and name != "mkdir" else None
    )
    async with LocalFileStore.at(root, disk=disk) as store:
        assert await store.read("a/b") == b"1"
        assert await paths(store) == ["a/b"]


async def test_cleaning_up_waits_for_every_thread(root):
    """
    Also after an error that nobody expects, while other threads still write.
    """

    class BrokenDisk(SystemDisk):
        def write(self, fd, data):
            if data == b"0":
                raise RuntimeError("a mistake of ours")
            time.sleep(0.05)
            super().write(fd, data)

    async with LocalFileStore.at(root, disk=BrokenDisk(), threads=4) as store:
        files = [(await stage(store, b"%d" % n), f"a/{n}") for n in range(12)]
        with pytest.raises(RuntimeError, match="a mistake of ours"):
            await store.publish(files)

    assert staged_files(root) == []


class SlowDisk(SystemDisk):
    """Waits in one call until it is let go."""

    def __init__(self, name):
        self.name, self.begun, self.go_on = name, threading.Event(), threading.Event()
        self.calls = []
        self.is_armed = False

    def __getattribute__(self, name):
        found = super().__getattribute__(name)
        if name in ("write", "unlink", "fsync", "link") and self.is_armed:
            self.calls.append(name)
            if name == self.name:
                self.begun.set()
                self.go_on.wait(10)
                self.calls.append(f"{name} goes on")
        return found


@pytest.mark.parametrize("how", ["scope", "task"])
async def test_a_temporary_file_is_not_removed_while_it_is_written(root, how):
    """
    However the task is cancelled, its thread comes first.
    """
    disk = SlowDisk("write")
    async with LocalFileStore.at(root, disk=disk) as store:
        scope = anyio.CancelScope()
        disk.is_armed = True

        async def work():
            with scope:
                await stage(store, pattern(3_000_000))

        task = asyncio.ensure_future(work())
        await anyio.to_thread.run_sync(disk.begun.wait, 10)
        scope.cancel() if how == "scope" else task.cancel()
        for _ in range(10):
            await asyncio.sleep(0)
        assert "unlink" not in disk.calls
        disk.go_on.set()
        await asyncio.wait([task])

        assert disk.calls.index("unlink") > disk.calls.index("write goes on")
        assert staged_files(root) == []


@pytest.mark.parametrize("how", ["scope", "task"])
@pytest.mark.parametrize("call", ["write", "fsync", "link", "unlink"])
async def test_a_batch_that_has_begun_is_finished(root, how, call):
    """
    A caller who is cancelled in the middle leaves no half batch behind.
    """
    disk = SlowDisk(call)
    async with LocalFileStore.at(root, disk=disk, threads=1) as store:
        files = [(await stage(store, b"%d" % n), f"a/{n}") for n in range(5)]
        scope = anyio.CancelScope()
        disk.is_armed = True

        async def work():
            with scope:
                await store.publish(files)

        task = asyncio.ensure_future(work())
        await anyio.to_thread.run_sync(disk.begun.wait, 10)
        scope.cancel() if how == "scope" else task.cancel()
        await asyncio.sleep(0)
        disk.go_on.set()
        await asyncio.wait([task])
        while disk.calls.count("unlink") < 5:  # noqa: ASYNC110  # a thread's work
            await asyncio.sleep(0.001)

        assert await paths(store) == [f"a/{n}" for n in range(5)]
    assert staged_files(root) == []


async def test_a_lock_dies_with_its_process(root):
    """
    A process that is killed while it publishes holds nobody off.
    """
    async with LocalFileStore.at(root) as store:
        code = (
            "import fcntl, sys, time\n"
            f"held = open({str(root / '.ingestify' / 'lake.lock')!r}, 'w')\n"
            "fcntl.flock(held, fcntl.LOCK_SH)\n"
            "print('held', flush=True)\n"
            "time.sleep(60)\n"
        )
        async with await anyio.open_process([sys.executable, "-c", code]) as process:
            await process.stdout.receive()
            async with store.publishing():
                pass  # shared with the other process
            with anyio.move_on_after(0.1) as scope:
                async with store.exclusive():
                    pass
            assert scope.cancelled_caught
            process.kill()
        with anyio.fail_after(10):
            async with store.exclusive():
                pass


async def test_who_wants_the_lake_alone_gets_it_from_overlapping_publishers(root):
    """
    New publishers wait behind it, also those of another store in the same folder.
    """
    seen = []
    async with LocalFileStore.at(root) as one, LocalFileStore.at(root) as other:

        async def keep_publishing(store):
            while "alone" not in seen:
                async with store.publishing():
                    await anyio.sleep(0.005)

        async def delete():
            async with one.exclusive():
                seen.append("alone")

        with anyio.fail_after(20):
            async with anyio.create_task_group() as tg:
                for number in range(8):
                    tg.start_soon(keep_publishing, (one, other)[number % 2])
                await anyio.sleep(0.02)
                tg.start_soon(delete)


async def test_a_file_system_without_locks_is_named(root):
    """
    Instead of working without them.
    """
    disk = TestedDisk()
    async with LocalFileStore.at(root, disk=disk) as store:
        disk.fail = failing("try_lock", errno.ENOLCK)
        with pytest.raises(StoreUnavailableError, match="has no locks"):
            async with store.publishing():
                pass


async def test_published_files_have_ordinary_permissions(root):
    """
    People and other programs may read them.
    """
    async with LocalFileStore.at(root) as store:
        await publish(store, await stage(store, b"1"), "a/b")

    (probe := Path(root, "probe")).touch()
    assert (root / "a" / "b").stat().st_mode == probe.stat().st_mode
    assert (root / "a" / "b").stat().st_nlink == 1


@pytest.mark.parametrize("name", ["open_lock", "try_lock"])
async def test_a_lake_that_cannot_be_locked_is_said_to_be_unavailable(root, name):
    """
    Whatever the reason: without the lock nothing can be published, so the Run cannot go on.
    """
    disk = TestedDisk()
    async with LocalFileStore.at(root, disk=disk) as store:
        disk.fail = failing(name, errno.EMFILE)
        with pytest.raises(StoreUnavailableError, match=f"cannot lock {root}/.*: told to fail"):
            async with store.publishing():
                pass


LEFT = "101-abcdef012345"


def leave_behind(root, name=LEFT, *, files=2, lock=True):
    """What a process that was killed has left."""
    folder = root / ".ingestify" / "staging" / name
    folder.mkdir(parents=True)
    for number in range(files):
        (folder / str(number)).write_bytes(b"12345")
    if lock:
        folder.with_name(f"{name}.lock").touch()


async def clean(store):
    """What the debris is said to be, and what was removed of it."""
    async with store.exclusive():
        return [each.path for each in await store.staged_debris()], await store.remove_debris()


async def test_an_idle_store_stages_nowhere(root):
    """
    Its folder is made with the first file on its way, and goes when the store is closed.
    """
    staging = root / ".ingestify" / "staging"
    async with LocalFileStore.at(root) as store:
        assert list(staging.iterdir()) == []
        staged = await stage(store, pattern(300_000))
        assert sorted(path.suffix for path in staging.iterdir()) == ["", ".lock"]
        await publish(store, staged, "a")
        await publish(store, await stage(store, b"1"), "b")
        assert len(list(staging.iterdir())) == 2
    assert list(staging.iterdir()) == []


@pytest.mark.parametrize("lock", [True, False], ids=["lock", "no lock"])
async def test_what_the_dead_leave_is_debris(root, lock):
    """
    Also where the loss of power has taken its lock.
    """
    leave_behind(root, lock=lock)
    leave_behind(root, "102-abcdef012345", files=0, lock=lock)
    (root / ".ingestify" / "staging" / "103-abcdef012345.lock").touch()
    async with LocalFileStore.at(root) as store:
        said, removed = await clean(store)
        assert said == [
            f".ingestify/staging/{LEFT}/0",
            f".ingestify/staging/{LEFT}/1",
            ".ingestify/staging/102-abcdef012345",
        ]
        assert removed == (3, 10)
        assert await clean(store) == ([], (0, 0))
    assert list((root / ".ingestify" / "staging").iterdir()) == []


async def test_what_others_are_about_to_publish_is_left_alone(root):
    """
    Another store, be it of this process, holds the lock of its folder.
    """
    async with LocalFileStore.at(root) as store, LocalFileStore.at(root) as other:
        staged = await stage(other, pattern(300_000))
        assert await clean(store) == ([], (0, 0))
        assert await publish(other, staged, "a") == "a"


async def test_a_store_that_just_begins_is_not_cleaned_away(root):
    """
    Who cleans up may take its lock before it does; it then makes another folder.
    """
    disk = TestedDisk()
    async with LocalFileStore.at(root, disk=disk) as store, LocalFileStore.at(root) as cleaner:
        cleaned = []

        def clean_up(name, what, number):
            if name == "try_lock" and "staging" in what and not cleaned:
                cleaned.append(cleaner._staging.remove_debris())

        disk.fail = clean_up
        staged = await stage(store, pattern(300_000))
        assert cleaned == [(0, 0)]
        assert await clean(cleaner) == ([], (0, 0))
        assert await publish(store, staged, "a") == "a"
        assert len([what for what in disk.done("open_lock") if "staging" in what]) == 2


@pytest.mark.parametrize("name", ["entries", "unlink", "rmdir"])
async def test_a_store_that_closes_while_others_clean_up_is_gone(root, name):
    """
    Whatever of it was there a moment ago: it is no error, and nothing is left.
    """
    disk = TestedDisk()
    folder = root / ".ingestify" / "staging" / "1-x"
    async with LocalFileStore.at(root, disk=disk) as cleaner:
        folder.mkdir()
        (folder / "0").write_bytes(b"1")

        def close(called, what, number):
            if called == name and what.startswith(str(folder)):
                shutil.rmtree(folder, ignore_errors=True)

        async with cleaner.exclusive():
            disk.fail = close if name == "entries" else disk.fail
            debris = await cleaner.staged_debris()
            disk.fail = close
            await cleaner.remove_debris()
        assert len(debris) == (name != "entries")
        assert not folder.exists()
        assert list(folder.parent.iterdir()) == []


async def test_a_lock_that_a_cleaner_holds_is_not_waited_for(root):
    """
    While somebody looks whether its owner lives, the owner takes another name.
    """
    disk = TestedDisk()
    async with LocalFileStore.at(root, disk=disk) as store:
        refused = []

        def refuse(name, what, number):
            if name == "try_lock" and "staging" in what and len(refused) < 3:
                refused.append(SystemDisk().open_lock(what))
                SystemDisk().try_lock(refused[-1], exclusive=True)

        disk.fail = refuse
        try:
            staged = await stage(store, pattern(300_000))
        finally:
            for fd in refused:
                SystemDisk().close(fd)
        assert len(refused) == 3
        assert await publish(store, staged, "a") == "a"
        assert await clean(store) == ([], (0, 0))
    assert list((root / ".ingestify" / "staging").iterdir()) == []


async def test_files_of_the_first_layout_belong_to_their_process(root):
    """
    They lay in the staging folder itself: what a living process may still need stays.
    """
    gone = await anyio.open_process([sys.executable, "-c", ""])
    await gone.wait()
    staging = root / ".ingestify" / "staging"
    staging.mkdir(parents=True)
    for name in (f"{gone.pid}-abcdef012345-7", f"{os.getpid()}-abcdef012345-0", "notes.txt"):
        (staging / name).write_bytes(b"123")
    async with LocalFileStore.at(root) as store:
        said, removed = await clean(store)
    assert said == [f".ingestify/staging/{gone.pid}-abcdef012345-7"]
    assert removed == (1, 3)
    assert len(list(staging.iterdir())) == 2


async def test_a_killed_process_leaves_debris_and_a_living_one_does_not(root):
    """
    The lock tells, from the moment the process is gone.
    """
    code = (
        "import sys, anyio\n"
        "from pathlib import Path\n"
        "from ingestify.adapters.files.local import LocalFileStore\n"
        "async def chunks():\n"
        "    yield b'x' * 500_000\n"
        "    yield b'x'  # what came before is written now\n"
        "    print('staging', flush=True)\n"
        "    await anyio.Event().wait()\n"
        "async def main():\n"
        "    async with LocalFileStore.at(Path(sys.argv[1])) as store:\n"
        "        await store.stage(chunks())\n"
        "anyio.run(main)\n"
    )
    async with LocalFileStore.at(root) as store:
        command = [sys.executable, "-c", code, str(root)]
        async with await anyio.open_process(command, stderr=None) as process:
            try:
                assert (await process.stdout.receive()).startswith(b"staging")
                assert await clean(store) == ([], (0, 0))
                assert len(staged_files(root)) == 1
            finally:
                process.kill()
        said, removed = await clean(store)
        assert (len(said), removed) == (1, (1, 500_000))
    assert list((root / ".ingestify" / "staging").iterdir()) == []


async def test_emptied_folders_go_with_the_last_of_their_files(root):
    """
    As far up as they are empty; the lake itself stays.
    """
    async with LocalFileStore.at(root) as store:
        for path in ("a/b/c/1", "a/b/2", "x/y/3"):
            await publish(store, await stage(store, path.encode()), path)
        async with store.exclusive():
            await store.delete(["a/b/c/1", "x/y/3"])
        assert sorted(path.name for path in root.iterdir()) == [".ingestify", "a"]
        assert [path.name for path in (root / "a" / "b").iterdir()] == ["2"]


async def test_a_body_that_waits_keeps_no_file_open_against_others(root):
    """
    It may wait for what they hold while they wait for a file. What is open stays bounded.
    """
    disk, piece = TestedDisk(), os.urandom(PIECE)
    ended = anyio.Event()

    async def slow():
        yield piece
        await ended.wait()
        yield piece
        yield b"rest"

    async def quick():
        yield piece
        yield piece

    async with LocalFileStore.at(root, disk=disk, temp_files=1) as store:
        staged = []

        async def keep(chunks):
            staged.append(await store.stage(chunks))

        with anyio.fail_after(20):
            async with anyio.create_task_group() as tg:
                tg.start_soon(keep, slow())
                tg.start_soon(keep, slow())
                tg.start_soon(keep, quick())
                while not staged:
                    await anyio.lowlevel.checkpoint()
                ended.set()
        assert [each.size for each in staged] == [2 * PIECE, 2 * PIECE + 4, 2 * PIECE + 4]
        for each in staged[1:]:
            assert Path(each.handle).read_bytes() == piece + piece + b"rest"
        is_open, most = set(), 0
        for name, what in disk.calls:
            if name in ("create", "append"):
                is_open.add(what)
            elif name == "close":
                is_open.discard(what)
            most = max(most, len(is_open))
        assert most == 1
        assert store._open == {}
        assert store._writing.value == 1


@pytest.mark.parametrize("failing", ["close", "append"])
async def test_a_file_that_cannot_be_set_aside_fails_its_own_body_only(root, failing):
    """
    Closing it may tell that its bytes were lost, and opening it again that it is gone.
    """
    first: list[str] = []

    def fail(name, what, number):
        if name == "create":
            first.append(what)
        if name == failing and first and what == first[0]:
            first[0] = ""  # only once
            return errno.EIO
        return None

    is_waiting, others_ended = anyio.Event(), anyio.Event()

    async def slow():
        yield os.urandom(PIECE)
        yield b"more"  # what came before is written now
        is_waiting.set()
        await others_ended.wait()
        yield b"rest"

    async def quick():
        yield os.urandom(PIECE)

    async with LocalFileStore.at(root, disk=TestedDisk(fail), temp_files=1) as store:

        async def be_slow():
            with pytest.raises(StoreError):
                await store.stage(slow())

        with anyio.fail_after(20):
            async with anyio.create_task_group() as tg:
                tg.start_soon(be_slow)
                await is_waiting.wait()
                staged = await store.stage(quick())
                others_ended.set()
        assert staged.size == PIECE
        assert (store._open, store._writing.value) == ({}, 1)
