"""A disk in memory that can lose power: what was not synced is kept, dropped or torn.

It stands in for `ingestify.adapters.files.disk.SystemDisk`, so that a LocalFileStore can be tested
against the worst that a disk may do::

    disk = SimulatedDisk()
    async with LocalFileStore.at(Path("/lake"), disk=disk) as store:
        ...
    disk.lose_power(seed=1)  # what a reboot shows
"""

from __future__ import annotations

import errno
import os
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeAlias

from ingestify.adapters.files.disk import Entry

BLOCK = 512  # bytes that a disk writes, or does not write, as a whole


@dataclass(slots=True, eq=False)
class SimulatedFile:
    """Bytes, and those of them that outlast a loss of power."""

    modified_at: datetime
    data: bytes = b""
    synced: bytes = b""
    has_failed: bool = False  # to be synced, once: from then on syncing does nothing


@dataclass(slots=True, eq=False)
class SimulatedFolder:
    """Names, and those of them that outlast a loss of power."""

    modified_at: datetime
    names: dict[str, Node] = field(default_factory=dict)
    synced: dict[str, Node] = field(default_factory=dict)


Node: TypeAlias = SimulatedFile | SimulatedFolder


@dataclass(slots=True, eq=False)
class _Opened:
    node: Node
    can_read: bool = False
    can_write: bool = False


def _now() -> datetime:
    return datetime.now(UTC)


class SimulatedDisk:
    """A `Disk` whose files have a synced and an unsynced side. Safe to use from threads.

    The bytes of a file last once the file was synced, its names once the folders were synced in
    which they stand. A folder whose own name does not last takes with it all that is in it.
    Nobody may rely on any other order: effects that were not synced get lost one by one.

    Args:
        now: the wall clock, for the times of files.
        room: what it says about the bytes that are free; None: that nobody can tell.
    """

    def __init__(self, *, now: Callable[[], datetime] = _now, room: int | None = None) -> None:
        self.room = room
        self._now = now
        self._root = SimulatedFolder(now())
        self._opened: dict[int, _Opened] = {}
        self._locks: dict[int, bool] = {}  # descriptor: whether it locks exclusively
        self._next_fd = 3
        self._lock = threading.RLock()

    # What a LocalFileStore asks for; see `ingestify.adapters.files.disk.Disk`

    def create(self, path: str) -> int:
        with self._lock:
            folder, name = self._place(path)
            if name in folder.names:
                raise _error(errno.EEXIST, path)
            file = folder.names[name] = SimulatedFile(self._now())
            return self._open(file, can_write=True)

    def append(self, path: str) -> int:
        with self._lock:
            return self._open(self._node(path), can_write=True)

    def open(self, path: str) -> int:
        with self._lock:
            return self._open(self._node(path), can_read=True)

    def write(self, fd: int, data: bytes) -> None:
        with self._lock:
            opened = self._get(fd)
            if not opened.can_write or isinstance(opened.node, SimulatedFolder):
                raise _error(errno.EBADF, fd)
            opened.node.data += data
            opened.node.modified_at = self._now()

    def read(self, fd: int, count: int, offset: int) -> bytes:
        with self._lock:
            opened = self._get(fd)
            if not opened.can_read:
                raise _error(errno.EBADF, fd)
            if isinstance(opened.node, SimulatedFolder):
                raise _error(errno.EISDIR, fd)
            return opened.node.data[offset : offset + count]

    def size(self, fd: int) -> int:
        with self._lock:
            node = self._get(fd).node
            return len(node.data) if isinstance(node, SimulatedFile) else 0

    def fsync(self, fd: int) -> None:
        with self._lock:
            _sync(self._get(fd).node)

    def close(self, fd: int) -> None:
        with self._lock:
            self._get(fd)
            self._locks.pop(fd, None)
            del self._opened[fd]

    def link(self, source: str, target: str) -> None:
        with self._lock:
            node = self._node(source)
            folder, name = self._place(target)
            if name in folder.names:
                raise _error(errno.EEXIST, source, target)
            if isinstance(node, SimulatedFolder):
                raise _error(errno.EPERM, source, target)
            folder.names[name] = node

    def rename(self, source: str, target: str) -> None:
        with self._lock:
            node = self._node(source)
            old_folder, old_name = self._place(source)
            folder, name = self._place(target)
            if isinstance(node, SimulatedFolder) and self._is_below(node, folder):
                raise _error(errno.EINVAL, source, target)
            taken = folder.names.get(name)
            if taken is node:
                return
            if taken is not None:
                _refuse_to_replace(node, taken, source, target)
            del old_folder.names[old_name]
            folder.names[name] = node

    def unlink(self, path: str) -> None:
        with self._lock:
            if isinstance(self._node(path), SimulatedFolder):
                raise _error(errno.EISDIR, path)
            folder, name = self._place(path)
            del folder.names[name]

    def mkdir(self, path: str) -> None:
        with self._lock:
            if not path.strip("/"):
                raise _error(errno.EEXIST, path)
            folder, name = self._place(path)
            if name in folder.names:
                raise _error(errno.EEXIST, path)
            folder.names[name] = SimulatedFolder(self._now())

    def rmdir(self, path: str) -> None:
        with self._lock:
            if self._folder(path).names:
                raise _error(errno.ENOTEMPTY, path)
            folder, name = self._place(path)
            del folder.names[name]

    def fsync_folder(self, path: str) -> None:
        with self._lock:
            _sync(self._folder(path))

    def entries(self, path: str) -> Sequence[Entry]:
        with self._lock:
            return [
                Entry(name, True, 0, node.modified_at)
                if isinstance(node, SimulatedFolder)
                else Entry(name, False, len(node.data), node.modified_at)
                for name, node in self._folder(path).names.items()
            ]

    def free_bytes(self, path: str) -> int | None:
        self._folder(path)
        return self.room

    def open_lock(self, path: str) -> int:
        with self._lock:
            folder, name = self._place(path)
            node = folder.names.setdefault(name, SimulatedFile(self._now()))
            if isinstance(node, SimulatedFolder):
                raise _error(errno.EISDIR, path)
            return self._open(node, can_read=True, can_write=True)

    def try_lock(self, fd: int, *, exclusive: bool) -> bool:
        with self._lock:
            node = self._get(fd).node
            self._locks.pop(fd, None)  # a lock that is asked for anew is given up first
            for other, is_exclusive in self._locks.items():
                if self._opened[other].node is node and (exclusive or is_exclusive):
                    return False
            self._locks[fd] = exclusive
            return True

    def overwrite(self, fd: int, data: bytes) -> None:
        with self._lock:
            node = self._get(fd).node
            if isinstance(node, SimulatedFolder):
                raise _error(errno.EISDIR, fd)
            node.data = data + node.data[len(data) :]

    # What a test asks for

    @property
    def open_files(self) -> int:
        """How many descriptors were not closed."""
        return len(self._opened)

    def read_file(self, path: str) -> bytes:
        """All bytes of a file, synced or not.

        Raises:
            OSError: there is no file.
        """
        with self._lock:
            return self._file(path).data

    def damage(self, path: str, data: bytes) -> None:
        """Put *data* in the place of a file's bytes, as a disk that rots does: without a call."""
        with self._lock:
            file = self._file(path)
            file.data = file.synced = data

    def fail_sync(self, fd: int) -> None:
        """Fail to sync, as systems do: from now on they say that all is well, and it is not."""
        with self._lock:
            node = self._get(fd).node
            if isinstance(node, SimulatedFile):
                node.has_failed = True
        raise _error(errno.EIO, fd)

    def files(self) -> list[str]:
        """The paths of all files, sorted."""
        with self._lock:
            return sorted(_paths(self._root, ""))

    def tree(self) -> object:
        """Everything that is there, on both sides: equal for equal disks, whatever their times."""
        with self._lock:
            return _content(self._root, {})

    def copy(self, *, now: Callable[[], datetime] | None = None) -> SimulatedDisk:
        """The disk as it is at this moment, for another machine: nothing is open or locked.

        Args:
            now: the other machine's clock, if it has one of its own.
        """
        with self._lock:
            twin = SimulatedDisk(now=now or self._now, room=self.room)
            twin._root = _copied(self._root, {})
            return twin

    def close_all(self, descriptors: Sequence[int]) -> None:
        """What the operating system does for a process that is gone. Closed ones are skipped."""
        with self._lock:
            for fd in descriptors:
                if fd in self._opened:
                    self.close(fd)

    def lose_power(self, seed: int | None = None) -> None:
        """Become what a reboot shows.

        Args:
            seed: decides for each effect that was not synced whether it is kept, dropped or
                torn. None drops them all.
        """
        with self._lock:
            _Outage(random.Random(seed) if seed is not None else None).meet(self._root)
            self._opened.clear()
            self._locks.clear()

    def _open(self, node: Node, *, can_read: bool = False, can_write: bool = False) -> int:
        fd, self._next_fd = self._next_fd, self._next_fd + 1
        self._opened[fd] = _Opened(node, can_read, can_write)
        return fd

    def _get(self, fd: int) -> _Opened:
        opened = self._opened.get(fd)
        if opened is None:
            raise _error(errno.EBADF, fd)
        return opened

    def _node(self, path: str) -> Node:
        node: Node = self._root
        for name in _parts(path):
            if not isinstance(node, SimulatedFolder):
                raise _error(errno.ENOTDIR, path)
            if name not in node.names:
                raise _error(errno.ENOENT, path)
            node = node.names[name]
        return node

    def _folder(self, path: str) -> SimulatedFolder:
        node = self._node(path)
        if not isinstance(node, SimulatedFolder):
            raise _error(errno.ENOTDIR, path)
        return node

    def _file(self, path: str) -> SimulatedFile:
        node = self._node(path)
        if isinstance(node, SimulatedFolder):
            raise _error(errno.EISDIR, path)
        return node

    def _place(self, path: str) -> tuple[SimulatedFolder, str]:
        """The folder in which *path* stands, or would stand, and its name there."""
        *above, name = _parts(path)
        return self._folder("/".join(above)), name

    def _is_below(self, top: SimulatedFolder, folder: SimulatedFolder) -> bool:
        below = [top]
        while below:
            each = below.pop()
            if each is folder:
                return True
            below += [node for node in each.names.values() if isinstance(node, SimulatedFolder)]
        return False


class _Outage:
    """One loss of power, and what it does to each effect that was not synced."""

    def __init__(self, rng: random.Random | None) -> None:
        self._rng = rng
        self._met: set[int] = set()

    def meet(self, folder: SimulatedFolder) -> None:
        """Let *folder*, and all that is left in it, become what is on the disk."""
        self._met.add(id(folder))
        folder.names = folder.synced = dict(self._surviving(folder))
        for node in folder.names.values():
            if id(node) in self._met:
                continue
            if isinstance(node, SimulatedFolder):
                self.meet(node)
            else:
                self._met.add(id(node))
                node.data = node.synced = self._surviving_bytes(node)

    def _surviving(self, folder: SimulatedFolder) -> Iterator[tuple[str, Node]]:
        for name in sorted(folder.names.keys() | folder.synced.keys()):
            before, after = folder.synced.get(name), folder.names.get(name)
            node = after if before is after or self._is_kept() else before
            if node is not None:
                yield name, node

    def _is_kept(self) -> bool:
        return self._rng is not None and self._rng.random() < 0.5

    def _surviving_bytes(self, file: SimulatedFile) -> bytes:
        if self._rng is None or file.data == file.synced:
            return file.synced
        kinds = [_kept, _dropped, _cut, _zeroed, _patched]
        return self._rng.choice(kinds)(file, self._rng)


def _kept(file: SimulatedFile, rng: random.Random) -> bytes:
    return file.data


def _dropped(file: SimulatedFile, rng: random.Random) -> bytes:
    return file.synced


def _cut(file: SimulatedFile, rng: random.Random) -> bytes:
    return file.data[: rng.randint(len(file.synced), len(file.data))]


def _zeroed(file: SimulatedFile, rng: random.Random) -> bytes:
    """The length got to the disk, the bytes did not."""
    return file.synced.ljust(len(file.data), b"\0")


def _patched(file: SimulatedFile, rng: random.Random) -> bytes:
    """Some blocks got to the disk; where others should be, something else is."""
    old = file.synced.ljust(len(file.data), b"\0")
    blocks = []
    for start in range(0, len(file.data), BLOCK):
        new = file.data[start : start + BLOCK]
        choices = (new, old[start : start + BLOCK], rng.randbytes(len(new)))
        blocks.append(new if start < len(file.synced) // BLOCK * BLOCK else rng.choice(choices))
    return b"".join(blocks)


def _sync(node: Node) -> None:
    if isinstance(node, SimulatedFolder):
        node.synced = dict(node.names)
    elif not node.has_failed:
        node.synced = node.data


def _copied(folder: SimulatedFolder, known: dict[int, Node]) -> SimulatedFolder:
    def copy(node: Node) -> Node:
        if id(node) in known:
            return known[id(node)]
        if isinstance(node, SimulatedFolder):
            return _copied(node, known)
        twin = known[id(node)] = SimulatedFile(
            node.modified_at, node.data, node.synced, node.has_failed
        )
        return twin

    twin = SimulatedFolder(folder.modified_at)
    known[id(folder)] = twin
    twin.names.update({name: copy(node) for name, node in folder.names.items()})
    twin.synced.update({name: copy(node) for name, node in folder.synced.items()})
    return twin


def _content(node: Node, known: dict[int, int]) -> object:
    if id(node) in known:  # another name of a file that was met before
        return known[id(node)]
    known[id(node)] = len(known)
    if isinstance(node, SimulatedFile):
        return (node.data, node.synced, node.has_failed)
    return [
        [(name, _content(names[name], known)) for name in sorted(names)]
        for names in (node.names, node.synced)
    ]


def _paths(folder: SimulatedFolder, above: str) -> Iterator[str]:
    for name, node in folder.names.items():
        if isinstance(node, SimulatedFolder):
            yield from _paths(node, f"{above}/{name}")
        else:
            yield f"{above}/{name}"


def _refuse_to_replace(node: Node, taken: Node, source: str, target: str) -> None:
    if isinstance(taken, SimulatedFolder):
        if not isinstance(node, SimulatedFolder):
            raise _error(errno.EISDIR, source, target)
        if taken.names:
            raise _error(errno.ENOTEMPTY, source, target)
    elif isinstance(node, SimulatedFolder):
        raise _error(errno.ENOTDIR, source, target)


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part]


def _error(code: int, *what: object) -> OSError:
    return OSError(code, os.strerror(code), " -> ".join(map(str, what)))
