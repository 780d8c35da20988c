"""The disk that can lose power: it does what a real one does, until the power goes."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingestify.adapters.files.disk import Disk, SystemDisk
from ingestify.adapters.files.local import LocalFileStore
from ingestify.testing.contracts.files import FileStoreContract
from ingestify.testing.disk import BLOCK, SimulatedDisk

PATHS = st.sampled_from(["a", "b", "a/a", "a/b", "b/a", "a/b/a", "none/a"])
CONTENT = st.binary(max_size=4)
DESCRIPTORS = st.integers(0, 5)  # the n-th that was opened
STEPS = st.one_of(
    *[st.tuples(st.just(name), PATHS) for name in ("create", "open", "unlink", "mkdir", "rmdir")],
    *[st.tuples(st.just(name), PATHS) for name in ("fsync_folder", "entries", "open_lock")],
    *[st.tuples(st.just(name), PATHS, PATHS) for name in ("link", "rename")],
    *[st.tuples(st.just(name), DESCRIPTORS) for name in ("size", "fsync", "close")],
    st.tuples(st.just("write"), DESCRIPTORS, CONTENT),
    st.tuples(st.just("read"), DESCRIPTORS, st.integers(0, 4), st.integers(0, 4)),
    st.tuples(st.just("lock"), DESCRIPTORS, st.booleans()),
)


class Script:
    """Plays steps on a disk, and says what each of them led to."""

    def __init__(self, disk: Disk, root: str) -> None:
        self.disk = disk
        self.root = root
        self.opened: list[int | None] = []
        self.of_folder: set[int] = set()

    def play(self, name: str, *args: object) -> object:
        """What the step gives: a value, or the number of an error."""
        try:
            return self._call(name, *args)
        except OSError as exc:
            # Some systems forbid with another number what concerns folders.
            same = {errno.EPERM: errno.EISDIR, errno.EACCES: errno.EISDIR}
            return same.get(exc.errno or 0, exc.errno)

    def _call(self, name: str, *args: object) -> object:
        if isinstance(args[0], str):
            paths = [f"{self.root}/{path}" for path in args]
            result = getattr(self.disk, name)(*paths)
            if name == "entries":
                return sorted((e.name, e.is_folder, e.size * (not e.is_folder)) for e in result)
            if name in ("create", "open", "open_lock"):
                self.opened.append(result)
                return "opened"
            return result
        number = args[0]
        assert isinstance(number, int)
        fd = self.opened[number] if number < len(self.opened) else None
        if fd is None:
            return "not open"
        if name == "close":
            self.opened[number] = None
        if name == "lock":
            return self.disk.try_lock(fd, exclusive=bool(args[1]))
        if name == "size" and self._is_folder(fd):
            return "the size of a folder is anybody's guess"
        return getattr(self.disk, name)(fd, *args[1:])

    def _is_folder(self, fd: int) -> bool:
        try:
            self.disk.read(fd, 0, 0)
        except IsADirectoryError:
            return True
        except OSError:
            return False
        return False

    def close(self) -> None:
        for fd in self.opened:
            if fd is not None:
                self.disk.close(fd)


@settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=st.lists(STEPS, min_size=3, max_size=25))
def test_it_answers_as_the_operating_system_does(
    steps: list[tuple[object, ...]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """
    Any script of calls gives the same results and the same errors as on the real disk.
    """
    folder = tmp_path_factory.mktemp("disk")
    simulated = SimulatedDisk()
    simulated.mkdir("/disk")
    real, ours = Script(SystemDisk(), str(folder)), Script(simulated, "/disk")
    try:
        for step in [("mkdir", "a"), ("mkdir", "b"), *steps]:
            assert ours.play(*step) == real.play(*step), step  # type: ignore[arg-type]
    finally:
        real.close()


class TestLocalFilesOnASimulatedDisk(FileStoreContract):
    """A LocalFileStore cannot tell it from a real one."""

    def opened(self, tmp_path: Path) -> object:  # type: ignore[override]
        self.disk = SimulatedDisk()
        return LocalFileStore.at(Path("/lake"), disk=self.disk)

    def count_staged(self, store: LocalFileStore) -> int:
        folder = "/lake/.ingestify/staging/"
        return len(
            [
                path
                for path in self.disk.files()
                if path.startswith(folder) and not path.endswith(".lock")
            ]
        )


@pytest.fixture
def disk() -> SimulatedDisk:
    """A disk with a folder that lasts."""
    disk = SimulatedDisk()
    disk.mkdir("/a")
    disk.fsync_folder("/")
    return disk


def written(disk: SimulatedDisk, path: str, data: bytes) -> int:
    fd = disk.create(path)
    disk.write(fd, data)
    return fd


def test_what_was_synced_outlasts_a_loss_of_power(disk: SimulatedDisk) -> None:
    """
    The bytes by the file's sync, its name by the folder's; whatever the seed.
    """
    disk.fsync(written(disk, "/a/1", b"one"))
    disk.fsync_folder("/a")
    for seed in [None, *range(20)]:
        rebooted = disk.copy()
        rebooted.lose_power(seed)
        assert rebooted.read_file("/a/1") == b"one"


def test_a_synced_file_without_a_synced_name_is_lost(disk: SimulatedDisk) -> None:
    """
    Syncing a file does not sync the folder in which it stands.
    """
    disk.fsync(written(disk, "/a/1", b"one"))
    disk.lose_power()
    assert disk.files() == []


def test_a_synced_name_without_synced_bytes_is_an_empty_file(disk: SimulatedDisk) -> None:
    """
    Syncing a folder does not sync the files in it.
    """
    written(disk, "/a/1", b"one")
    disk.fsync_folder("/a")
    disk.lose_power()
    assert disk.read_file("/a/1") == b""


def test_a_folder_whose_name_was_not_synced_is_lost_with_all_that_is_in_it(
    disk: SimulatedDisk,
) -> None:
    """
    However well its content was synced.
    """
    disk.mkdir("/a/b")
    disk.fsync(written(disk, "/a/b/1", b"one"))
    disk.fsync_folder("/a/b")
    disk.lose_power()
    assert disk.files() == []


def test_a_name_that_was_removed_comes_back_unless_that_was_synced(disk: SimulatedDisk) -> None:
    """
    Removing is an effect like any other; a rename is two of them.
    """
    for name in ("1", "2", "3"):
        disk.fsync(written(disk, f"/a/{name}", name.encode()))
    disk.fsync_folder("/a")
    disk.unlink("/a/1")
    disk.rename("/a/2", "/a/3")
    lost = disk.copy()
    lost.lose_power()
    assert [lost.read_file(path) for path in lost.files()] == [b"1", b"2", b"3"]
    disk.fsync_folder("/a")
    disk.lose_power()
    assert (disk.files(), disk.read_file("/a/3")) == (["/a/3"], b"2")


def test_each_unsynced_effect_is_kept_or_dropped_by_itself(disk: SimulatedDisk) -> None:
    """
    In whatever order they were made: every combination occurs for some seed.
    """
    for name in ("1", "2", "3"):
        written(disk, f"/a/{name}", b"")
    seen = set()
    for seed in range(100):
        rebooted = disk.copy()
        rebooted.lose_power(seed)
        seen.add(tuple(rebooted.files()))
    assert len(seen) == 8


def test_unsynced_bytes_may_be_torn(disk: SimulatedDisk) -> None:
    """
    Kept, dropped, cut, zeros of the right length, or a patchwork of blocks.
    """
    data = bytes(range(1, 256)) * 10
    written(disk, "/a/1", data)
    disk.fsync_folder("/a")
    seen = set()
    for seed in range(60):
        rebooted = disk.copy()
        rebooted.lose_power(seed)
        found = rebooted.read_file("/a/1")
        if found == data[: len(found)]:
            seen.add("whole" if found == data else "cut" if found else "gone")
        else:
            assert len(found) == len(data)
            seen.add("zeros" if not any(found) else "patched")
            assert any(found[i : i + BLOCK] != data[i : i + BLOCK] for i in range(0, 2550, BLOCK))
    assert seen == {"whole", "gone", "cut", "zeros", "patched"}


def test_a_seed_tells_what_becomes_of_everything(disk: SimulatedDisk) -> None:
    """
    The same seed on equal disks shows equal disks.
    """
    for number in range(10):
        written(disk, f"/a/{number}", bytes(2000))
    first, second = disk.copy(), disk.copy()
    first.lose_power(7)
    second.lose_power(7)
    assert first.files() == second.files()
    assert [first.read_file(each) for each in first.files()] == [
        second.read_file(each) for each in second.files()
    ]


def test_locks_die_with_their_holder(disk: SimulatedDisk) -> None:
    """
    With its descriptor, with its process, with the power; a copy has none.
    """
    held, other = disk.open_lock("/a/lock"), disk.open_lock("/a/lock")
    assert disk.try_lock(held, exclusive=True)
    assert not disk.try_lock(other, exclusive=False)
    twin = disk.copy()
    assert twin.try_lock(twin.open_lock("/a/lock"), exclusive=True)
    disk.close_all([held, 999])
    assert disk.try_lock(other, exclusive=False)
    disk.lose_power(1)
    assert disk.open_files == 0


def test_a_sync_that_failed_is_not_mended_by_another(disk: SimulatedDisk) -> None:
    """
    The second one says that all is well, and the bytes are lost all the same.
    """
    fd = written(disk, "/a/1", b"one")
    disk.fsync_folder("/a")
    with pytest.raises(OSError, match="Input/output"):
        disk.fail_sync(fd)
    disk.fsync(fd)
    assert disk.read_file("/a/1") == b"one"
    disk.lose_power()
    assert disk.read_file("/a/1") == b""


def test_damage_is_done_without_a_call(disk: SimulatedDisk) -> None:
    """
    And it lasts.
    """
    disk.fsync(written(disk, "/a/1", b"one"))
    disk.fsync_folder("/a")
    disk.damage("/a/1", b"0ne")
    disk.lose_power()
    assert disk.read_file("/a/1") == b"0ne"
