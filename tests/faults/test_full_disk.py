"""Disks that take nothing more: full, read-only, or with no open file left for us."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from processes import RealLake, mount, need_mounts, real_lake, unmount

THINGS = 20
MEBIBYTE = 2**20


@contextmanager
def small_disk(path: Path) -> Iterator[Path]:
    """A file system of 6 MiB at *path*."""
    need_mounts()
    path.mkdir(parents=True)
    mount("-t", "tmpfs", "-o", "size=6m", "tmpfs", str(path))
    try:
        yield path
    finally:
        unmount(path)


@contextmanager
def read_only(path: Path) -> Iterator[None]:
    """Nobody can write below *path*, not even root."""
    need_mounts()
    mount("--bind", str(path), str(path))
    try:
        mount("-o", "remount,ro,bind", str(path))
        yield
    finally:
        unmount(path)


def make_room(path: Path) -> None:
    mount("-o", "remount,size=64m", str(path))


async def test_a_disk_that_is_full_ends_the_run_and_keeps_what_is_committed(
    tmp_path: Path,
) -> None:
    """
    The Run ends with 3 and says which path is full and what to do; nothing stays staged, nothing
    that was committed is harmed; with room again, the next Run has everything.
    """
    with small_disk(tmp_path / "lake" / "files") as disk:
        async with real_lake(tmp_path, things=THINGS, size=MEBIBYTE // 2, filled=False) as lake:
            done = await lake.run("--concurrency", "2")  # so that some of it is committed
            assert_full(lake, done.code, done.err, str(disk))
            sight = await lake.look()
            assert sight.lies == []
            fetched = set(sight.revisions)
            assert 0 < len(fetched) < THINGS

            lake.provider.reset_counts()
            make_room(disk)
            await lake.good_run()
            for number in fetched:
                assert lake.provider.count(f"data/{number}-*") == 0


async def test_a_disk_with_less_room_than_is_to_be_kept_is_left_alone(tmp_path: Path) -> None:
    """
    A Run that would use the room that is to be kept free ends with 3 before it stores anything.
    """
    with small_disk(tmp_path / "lake" / "files") as disk:
        async with real_lake(tmp_path, things=1, filled=False) as lake:
            lake.min_free_space = 8 * MEBIBYTE
            done = await lake.run()
            assert done.code == 3
            assert str(disk) in done.err
            assert "min_free_space" in done.err
            assert (lake.published(), lake.staged()) == (0, [])
            make_room(disk)
            await lake.good_run()


@pytest.mark.parametrize("left", [0, 96 * 1024])
async def test_a_disk_that_is_full_for_the_catalog_ends_the_run(tmp_path: Path, left: int) -> None:
    """
    Where the catalog cannot be opened or cannot grow, its path is named, and it stays whole.
    """
    with small_disk(tmp_path / "lake" / "catalog") as disk:
        async with real_lake(tmp_path, things=THINGS) as lake:
            room = disk / "something else"
            fill(room, left)
            done = await lake.run()
            assert_full(lake, done.code, done.err, str(lake.catalog))
            room.unlink()
            sight = await lake.look()
            assert sight.lies == []
            assert set(sight.revisions.values()) == {0}
            await lake.good_run()


def fill(path: Path, left: int) -> None:
    """Write to *path* until *left* bytes are left of its disk."""
    with path.open("wb", buffering=0) as file:
        while (free := os.statvfs(path.parent).f_bavail * 4096) > left:
            file.write(bytes(min(free - left, MEBIBYTE)))


def assert_full(lake: RealLake, code: int, told: str, path: str) -> None:
    assert code == 3, told
    assert path in told
    assert any(hint in told for hint in ("free some space", "Make room", "make room")), told
    assert lake.staged() == []


async def test_a_read_only_lake_ends_the_run(tmp_path: Path) -> None:
    """
    A folder that cannot be written is named, with what to do; the lake can still be read.
    """
    async with real_lake(tmp_path, things=THINGS) as lake:
        with read_only(lake.files):
            done = await lake.run()
            assert set((await lake.look()).revisions.values()) == {0}
        assert done.code == 3
        assert str(lake.files) in done.err
        assert "make it writable" in done.err
        await lake.good_run()


async def test_a_read_only_catalog_ends_the_run(tmp_path: Path) -> None:
    """
    A catalog that cannot be written is named, with what to do, before anything is asked for.
    """
    async with real_lake(tmp_path, things=THINGS) as lake:
        with read_only(lake.catalog.parent):
            done = await lake.run()
        assert done.code == 3
        assert str(lake.catalog) in done.err
        assert "is writable" in done.err
        assert lake.provider.count() == 0
        await lake.good_run()


async def test_few_open_files_are_enough(tmp_path: Path) -> None:
    """
    A process that may have only 64 files open at once brings the same Run to its end.
    """
    async with real_lake(tmp_path, things=150) as lake:
        done = await lake.run(before=("sh", "-c", 'ulimit -n 64 && exec "$0" "$@"'))
        assert done.code == 0, done.err
        assert set((await lake.look()).revisions.values()) == {1}
