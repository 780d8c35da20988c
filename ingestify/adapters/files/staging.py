"""Bytes that are on their way: temporary files in the lake's own file system."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import secrets
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from ingestify.adapters.files.disk import Disk, Entry
from ingestify.adapters.files.failures import failing
from ingestify.errors import StoreUnavailableError
from ingestify.model.catalog import StoredObject

LOCK = ".lock"
FIRST_LAYOUT = re.compile(r"(\d+)-[0-9a-f]{12}-\d+\Z")  # files that lie in `staging` itself
MOST_TRIES = 10


class Staging:
    """A folder of temporary files for one store, beside those of others.

    Whose it is shows in a lock beside it, which dies with its process: what a crash leaves can be
    told from what is on its way, without looking at any clock. The folder is made when it is
    first needed.
    """

    def __init__(self, disk: Disk, folder: str) -> None:
        self.disk = disk
        self._all = folder
        self._counter = itertools.count()
        self._making = threading.Lock()
        self._own: str | None = None
        self._held = 0  # the lock's descriptor

    def new_path(self) -> str:
        """A path that nothing else uses.

        Raises:
            StoreError, StoreUnavailableError: there is no folder for it, and none can be made.
        """
        with self._making, failing("write", self._all, own=True):
            self._own = self._own or self._make()
            return f"{self._own}/{next(self._counter)}"

    def remove(self, path: str) -> None:
        """Remove a temporary file, if it is there; if that fails, it is left to `gc`."""
        if path:
            with suppress(OSError):
                self.disk.unlink(path)

    def close(self) -> None:
        """Give up the folder. What is still in it is left to `gc`."""
        with self._making:
            own, self._own = self._own, None
            if own is None:
                return
            with suppress(OSError):
                self.disk.rmdir(own)
                self.disk.unlink(own + LOCK)
            with suppress(OSError):
                self.disk.close(self._held)

    def debris(self) -> Sequence[StoredObject]:
        """The files, and the empty folders, of those who are gone.

        This and `remove_debris` are for whoever has the lake alone.
        """
        return [each for found in self._left_behind() for each in found]

    def remove_debris(self) -> tuple[int, int]:
        """Remove it. Returns how many files and empty folders there were, and their bytes."""
        count = size = 0
        for found in self._left_behind(remove=True):
            count, size = count + len(found), size + sum(each.size for each in found)
        return count, size

    def _make(self) -> str:
        for _ in range(MOST_TRIES):
            own = f"{self._all}/{os.getpid()}-{secrets.token_hex(6)}"
            fd = self.disk.open_lock(own + LOCK)
            try:
                # Who cleans up may have taken a lock that is not held yet for one that is no more.
                if self.disk.try_lock(fd, exclusive=True) and self._exists(own + LOCK):
                    self.disk.mkdir(own)
                    self._held, fd = fd, 0
                    return own
            finally:
                if fd:
                    self.disk.close(fd)
        raise StoreUnavailableError(f"cannot write in {self._all}: no folder in it can be kept")

    def _exists(self, path: str) -> bool:
        try:
            self.disk.close(self.disk.open(path))
        except FileNotFoundError:
            return False
        return True

    def _left_behind(self, *, remove: bool = False) -> Iterator[Sequence[StoredObject]]:
        """What each of those who are gone has left, which is removed then if that is wanted."""
        tops = self.disk.entries(self._all)
        for each in tops:
            if not each.is_folder and _is_left_alone(each.name):
                yield [_as_object(each.name, each)]
                if remove:
                    with suppress(FileNotFoundError):
                        self.disk.unlink(f"{self._all}/{each.name}")
        folders = {each.name: each for each in tops if each.is_folder}
        locks = {each.name.removesuffix(LOCK) for each in tops if each.name.endswith(LOCK)}
        for name in sorted(locks | set(folders)):
            with self._held_if_dead(name) as is_dead:
                found = None
                if is_dead and name in folders:
                    found = self._look_into(folders[name], remove=remove)
                if found is not None:
                    yield found
                if is_dead and (remove or found is None):
                    with suppress(FileNotFoundError):
                        self.disk.unlink(f"{self._all}/{name}{LOCK}")

    @contextmanager
    def _held_if_dead(self, name: str) -> Iterator[bool]:
        """Hold the lock of the folder called *name*, unless its owner does."""
        fd = self.disk.open_lock(f"{self._all}/{name}{LOCK}")
        try:
            yield self.disk.try_lock(fd, exclusive=True)
        finally:
            self.disk.close(fd)

    def _look_into(self, folder: Entry, *, remove: bool) -> Sequence[StoredObject] | None:
        """What is in *folder*; None where its owner has just closed it."""
        path = f"{self._all}/{folder.name}"
        try:
            entries = self.disk.entries(path)
        except FileNotFoundError:
            return None
        if remove:
            for entry in entries:
                with suppress(FileNotFoundError):
                    self.disk.unlink(f"{path}/{entry.name}")
            with suppress(FileNotFoundError):
                self.disk.rmdir(path)
        found = [_as_object(f"{folder.name}/{entry.name}", entry) for entry in entries]
        return found or [_as_object(folder.name, folder)]


def _as_object(path: str, entry: Entry) -> StoredObject:
    size = 0 if entry.is_folder else entry.size
    return StoredObject(path=path, size=size, modified_at=entry.modified_at)


def _is_left_alone(name: str) -> bool:
    """Whether *name* is a file of the first layout whose process is gone."""
    match = FIRST_LAYOUT.match(name)
    if match is None:
        return False
    try:
        os.kill(int(match[1]), 0)  # asks, and does nothing
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:
        return False
    return False


class TempFile:
    """One temporary file, written piece by piece from threads.

    A cancelled task may leave while its thread still writes; the lock makes who cleans up wait
    for that thread, so that no path and no descriptor is given back while it is in use.
    """

    def __init__(self, staging: Staging) -> None:
        self.path = ""  # not made yet
        self.size = 0
        self._staging = staging
        self._disk = staging.disk
        self._hash = hashlib.sha256()
        self._lock = threading.Lock()
        self._fd: int | None = None
        self._is_closed = False
        self._failure: OSError | None = None  # on closing it for a while

    @property
    def sha256(self) -> str:
        """Of what was written so far."""
        return self._hash.hexdigest()

    def write(self, data: bytes, *, last: bool = False) -> None:
        """Append *data*. The first call makes the file, the *last* closes it.

        Raises:
            StoreError: that failed.
            StoreUnavailableError: no other file could be written, either.
        """
        with self._lock:
            if self._is_closed:
                return
            if self._failure is not None:
                with failing("write", self.path):
                    raise self._failure
            if self._fd is None and self.path:
                with failing("write", self.path, own=True):
                    self._fd = self._disk.append(self.path)
            elif self._fd is None:
                self.path = self._staging.new_path()
                with failing("write", self.path, own=True):
                    self._fd = self._disk.create(self.path)
            with failing("write", self.path):
                self._disk.write(self._fd, data)
                self._hash.update(data)
                self.size += len(data)
                if last:
                    self._close()

    def rest(self) -> None:
        """Close the file until the next `write`, which tells if that failed."""
        with self._lock:
            fd, self._fd = self._fd, None
            if fd is not None:
                try:
                    self._disk.close(fd)
                except OSError as exc:
                    self._failure = exc

    def abandon(self) -> None:
        """Close and remove the file."""
        with self._lock:
            with suppress(OSError):
                self._close()
            if self.path:
                self._staging.remove(self.path)

    def _close(self) -> None:
        self._is_closed = True
        fd, self._fd = self._fd, None
        if fd is not None:
            self._disk.close(fd)
