"""Every kind of disk call of a real Run: their order, and what one that kills or fails leaves."""

from __future__ import annotations

import errno
from collections import Counter
from pathlib import Path, PurePath

import pytest
from processes import IS_LONG, dice, real_lake, strace, tell
from tracing import CALLS, Call, counts_at, read_log, traced_run

WATCHED = ("-e", f"trace={','.join(f'?{name}' for name in CALLS)}")
KILLS_EACH = 12 if IS_LONG else 1  # for each kind of call
TRIES = 6  # for a kind of call that has killed nobody: which thread makes it is left to chance
ERRORS_EACH = 6 if IS_LONG else 1  # for each kind of call and of error
THINGS = 5

FULL = ("No space left on device", "disk is full")
BROKEN = ("Input/output error", "disk I/O error", "reports an error")
TOO_MANY = ("Too many open files", "unable to open database file")
ERRORS = [
    *[(call, errno.ENOSPC, FULL) for call in ("openat", "fsync", "link", "mkdir", "pwrite64")],
    *[(call, errno.EIO, BROKEN) for call in ("fsync", "link", "pwrite64", "fdatasync", "unlink")],
    ("openat", errno.EMFILE, TOO_MANY),
]


class TestOrder:
    """G3: durable before acknowledged, seen from outside."""

    async def test_bytes_names_and_folders_are_on_the_disk_before_their_row(
        self, tmp_path: Path
    ) -> None:
        """
        Of every file: written, synced, named, its folder and every new one above it synced; only
        then does its row get to the write-ahead log, which is synced before the lake is let go.
        """
        log = tmp_path / "calls"
        names = [name for name in CALLS if name != "openat"]
        watching = ("-f", "-y", "-s", "9000", "-o", str(log))
        async with real_lake(tmp_path, things=3, filled=False) as lake:
            traced = ",".join(f"?{name}" for name in names)
            done = await lake.run(before=(strace(), *watching, "-e", f"trace={traced}"))
            assert done.code == 0, done.err
            calls = [call for call in read_log(log) if call.succeeded]
            files, catalog_log = str(lake.files), f"{lake.catalog}-wal"

        made = [call.names[0] for call in calls if call.name.startswith("mkdir")]
        assert str(files) in made
        links = [call for call in calls if call.name in ("link", "linkat")]
        assert len(links) == 3 * 2
        for link in links:
            temp, target = link.names
            synced = only(calls, "fsync", temp)
            writes = [call for call in calls if call.name == "write" and call.opened == temp]
            assert writes
            assert all(write.ended < synced.begun for write in writes)
            assert synced.ended < link.begun

            told = [
                call
                for call in calls
                if call.name == "pwrite64"
                and call.opened == catalog_log
                and PurePath(target).name in call.text
            ]
            assert told
            folder = PurePath(target).parent
            assert any(
                link.ended < call.begun and call.ended < told[0].begun
                for call in calls
                if call.name == "fsync" and call.opened == str(folder)
            )
            while str(folder) in made:  # ours, and new: its own name must be on the disk
                mkdir = next(c for c in calls if "mkdir" in c.name and c.names[0] == str(folder))
                assert any(
                    mkdir.ended < call.begun and call.ended < told[0].begun
                    for call in calls
                    if call.name == "fsync" and call.opened == str(folder.parent)
                ), f"{folder.parent} was not synced after {folder.name} was made in it"
                folder = folder.parent
            let_go = next(
                call
                for call in calls
                if call.name == "close"
                and call.opened.endswith("lake.lock")
                and call.begun > told[0].ended
            )
            assert any(
                told[0].ended < call.begun and call.ended < let_go.begun
                for call in calls
                if call.name in ("fsync", "fdatasync") and call.opened == catalog_log
            ), "the commit was not synced"


class TestKills:
    """The process dies at a disk call."""

    async def test_a_process_killed_at_any_kind_of_call_leaves_a_whole_lake(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """
        Whichever call is the last one of a Run, no row lies, and the Runs after it go on. Each
        kind of call has been the last one.
        """
        chance = dice("disk calls")
        kills: dict[str, int] = {}
        async with real_lake(tmp_path, things=THINGS) as lake:
            log = tmp_path / "calls"
            done = await traced_run(lake, log, *WATCHED)
            assert done.code == 0, done.err
            moments = counts_at(read_log(log), str(lake.folder))
            assert {"write", "pwrite64", "fsync", "fdatasync", "link", "unlink"} <= set(moments)
            for name, numbers in moments.items():
                chosen = chance.sample(numbers, min(max(KILLS_EACH, TRIES), len(numbers)))
                for tried, number in enumerate([*chosen, 1]):  # the very first one is always made
                    if tried >= KILLS_EACH and kills.get(name):
                        break
                    lake.things.change()
                    inject = f"inject={name}:signal=KILL:when={number}"
                    done = await traced_run(lake, log, *WATCHED, "-e", inject)
                    sight = await lake.look()
                    assert sight.lies == [], f"{inject}: {last_of(log)}"
                    assert set(sight.revisions) == set(range(THINGS))
                    kills[name] = kills.get(name, 0) + (done.code < 0)
            await lake.good_run()
        told = ", ".join(f"{name} {count}" for name, count in kills.items())
        tell(capsys, f"killed at disk calls: {sum(kills.values())} ({told}); rows that lied: 0")
        assert all(kills.values()), told


class TestErrors:
    """G20: a disk call fails, once in each thread that makes it so often."""

    async def test_a_failing_call_is_told_and_the_next_run_heals(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """
        The error is named with its place, the exit code is 1 or 3, nothing stays staged, no row
        lies; and the next Run has everything.
        """
        chance = dice("errors")
        codes: Counter[int] = Counter()
        async with real_lake(tmp_path, things=THINGS) as lake:
            log = tmp_path / "calls"
            done = await traced_run(lake, log, *WATCHED)
            assert done.code == 0, done.err
            moments = counts_at(read_log(log), str(lake.folder))
            for name, code, words in ERRORS:
                numbers = moments[name]
                for number in chance.sample(numbers, min(ERRORS_EACH, len(numbers))):
                    lake.things.change()
                    left = len(lake.staged())
                    inject = f"inject={name}:error={errno.errorcode[code]}:when={number}"
                    done = await traced_run(lake, log, *WATCHED, "-e", inject)
                    told = done.out + done.err
                    where = f"{inject}: {injured(log)}\n{told}"
                    codes[done.code] += 1
                    sight = await lake.look()
                    assert sight.lies == [], where
                    if name != "unlink":  # what cannot be removed is left to gc
                        assert sight.staged <= left, where
                    if done.code == 0:  # it was of no importance
                        assert set(sight.revisions.values()) == {lake.things.round - 1}, where
                    else:
                        assert done.code in (1, 3), where
                        assert any(word in told for word in words), where
                        is_named = str(lake.folder) in told
                        if done.code == 1:  # where it was to be, or where it was written first
                            is_named = is_named or "main/stage=raw" in told
                        assert is_named, where
                    await lake.good_run()
        told = ", ".join(f"exit code {code}: {count}" for code, count in sorted(codes.items()))
        tell(capsys, f"disk calls that failed: {codes.total()} ({told})")
        assert codes[1]
        assert codes[3]


def only(calls: list[Call], name: str, opened: str) -> Call:
    """The one call of that name about that file."""
    [call] = [call for call in calls if call.name == name and call.opened == opened]
    return call


def last_of(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-3:])


def injured(log: Path) -> str:
    return "\n".join(line for line in log.read_text(errors="replace").splitlines() if "INJ" in line)
