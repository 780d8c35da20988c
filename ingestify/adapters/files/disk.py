"""The handful of disk calls that a local FileStore makes: the seam where disks can be made to fail.

Everything the store does to a disk goes through here, so that a test can count the calls, fail
any one of them, or stand in for the disk.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

FULL_FSYNC: int | None = getattr(fcntl, "F_FULLFSYNC", None)  # macOS: fsync stops at the drive


@dataclass(frozen=True, slots=True)
class Entry:
    """What stands in a folder: a file, or a folder. Other things are not shown."""

    name: str
    is_folder: bool
    size: int
    modified_at: datetime  # aware, UTC


class Disk(Protocol):
    """System calls by their plain names; every one may raise OSError. Called from threads."""

    def create(self, path: str) -> int:
        """A new file to write to; FileExistsError where there is one."""
        ...

    def append(self, path: str) -> int:
        """A file that is there, to write more to."""
        ...

    def open(self, path: str) -> int:
        """A file that is there, to read and to sync."""
        ...

    def write(self, fd: int, data: bytes) -> None:
        """All of *data*, at the end."""
        ...

    def read(self, fd: int, count: int, offset: int) -> bytes:
        """At most *count* bytes from *offset* on; fewer at the end of the file alone."""
        ...

    def size(self, fd: int) -> int:
        """The length of a file."""
        ...

    def fsync(self, fd: int) -> None:
        """Return when the bytes of a file outlast a loss of power."""
        ...

    def close(self, fd: int) -> None:
        """Done with a file. Never called twice."""
        ...

    def link(self, source: str, target: str) -> None:
        """A second name for a file; FileExistsError where the name is taken."""
        ...

    def rename(self, source: str, target: str) -> None:
        """Another name for a file; the one that had it is gone."""
        ...

    def unlink(self, path: str) -> None:
        """Remove a name; FileNotFoundError where it is not there."""
        ...

    def mkdir(self, path: str) -> None:
        """A new folder; FileExistsError where the name is taken."""
        ...

    def rmdir(self, path: str) -> None:
        """Remove an empty folder; OSError (ENOTEMPTY) where it is not."""
        ...

    def fsync_folder(self, path: str) -> None:
        """Return when the names in a folder outlast a loss of power."""
        ...

    def entries(self, path: str) -> Sequence[Entry]:
        """What stands in a folder, in no order."""
        ...

    def free_bytes(self, path: str) -> int | None:
        """What is left for this user in the file system of *path*; None where nobody can tell."""
        ...

    def open_lock(self, path: str) -> int:
        """A file to lock, made where it is missing. Closing it gives the lock back."""
        ...

    def try_lock(self, fd: int, *, exclusive: bool) -> bool:
        """Lock without waiting: whether it could be had."""
        ...

    def overwrite(self, fd: int, data: bytes) -> None:
        """Put *data* at the beginning of a file to lock."""
        ...


class SystemDisk:
    """The operating system's own."""

    def create(self, path: str) -> int:
        return os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)

    def append(self, path: str) -> int:
        return os.open(path, os.O_WRONLY | os.O_APPEND)

    def open(self, path: str) -> int:
        return os.open(path, os.O_RDONLY)

    def write(self, fd: int, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(fd, rest) :]

    def read(self, fd: int, count: int, offset: int) -> bytes:
        parts = []
        while count > 0 and (data := os.pread(fd, count, offset)):
            parts.append(data)
            count -= len(data)
            offset += len(data)
        return b"".join(parts)

    def size(self, fd: int) -> int:
        return os.fstat(fd).st_size

    def fsync(self, fd: int) -> None:
        if FULL_FSYNC is None:
            os.fsync(fd)
        else:
            fcntl.fcntl(fd, FULL_FSYNC)

    def close(self, fd: int) -> None:
        os.close(fd)

    def link(self, source: str, target: str) -> None:
        os.link(source, target)

    def rename(self, source: str, target: str) -> None:
        os.replace(source, target)  # noqa: PTH105  # paths are plain text here

    def unlink(self, path: str) -> None:
        os.unlink(path)  # noqa: PTH108

    def mkdir(self, path: str) -> None:
        os.mkdir(path)  # noqa: PTH102

    def rmdir(self, path: str) -> None:
        os.rmdir(path)  # noqa: PTH106

    def fsync_folder(self, path: str) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self.fsync(fd)
        finally:
            os.close(fd)

    def entries(self, path: str) -> Sequence[Entry]:
        found = []
        with os.scandir(path) as scan:
            for each in scan:
                is_folder = each.is_dir(follow_symlinks=False)
                if is_folder or each.is_file(follow_symlinks=False):
                    try:
                        stat = each.stat(follow_symlinks=False)
                    except FileNotFoundError:  # gone since
                        continue
                    modified = datetime.fromtimestamp(stat.st_mtime, UTC)
                    found.append(Entry(each.name, is_folder, stat.st_size, modified))
        return found

    def free_bytes(self, path: str) -> int | None:
        stat = os.statvfs(path)
        return stat.f_bavail * stat.f_frsize if stat.f_blocks else None

    def open_lock(self, path: str) -> int:
        return os.open(path, os.O_CREAT | os.O_RDWR, 0o666)

    def try_lock(self, fd: int, *, exclusive: bool) -> bool:
        kind = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
        try:
            fcntl.flock(fd, kind | fcntl.LOCK_NB)
        except (BlockingIOError, InterruptedError):
            return False
        return True

    def overwrite(self, fd: int, data: bytes) -> None:
        if os.pwrite(fd, data, 0) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
