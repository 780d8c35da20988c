"""Bytes that are on their way: temporary files in the lake's own file system."""

from __future__ import annotations

import hashlib
import itertools
import os
import secrets
import threading
from contextlib import suppress

from ingestify.adapters.files.disk import Disk
from ingestify.adapters.files.failures import failing


class Staging:
    """The folder of temporary files. What a crash leaves in it is for `gc` to find."""

    def __init__(self, disk: Disk, folder: str) -> None:
        self.disk = disk
        self._folder = folder
        self._once = secrets.token_hex(6)  # process ids come back
        self._counter = itertools.count()

    def new_path(self) -> str:
        """A path that nothing else uses."""
        return f"{self._folder}/{os.getpid()}-{self._once}-{next(self._counter)}"

    def remove(self, path: str) -> None:
        """Remove a temporary file, if it is there; if that fails, it is left to `gc`."""
        with suppress(OSError):
            self.disk.unlink(path)


class TempFile:
    """One temporary file, written piece by piece from threads.

    A cancelled task may leave while its thread still writes; the lock makes who cleans up wait
    for that thread, so that no path and no descriptor is given back while it is in use.
    """

    def __init__(self, staging: Staging) -> None:
        self.path = staging.new_path()
        self.size = 0
        self._staging = staging
        self._disk = staging.disk
        self._hash = hashlib.sha256()
        self._lock = threading.Lock()
        self._fd: int | None = None
        self._is_begun = False
        self._is_closed = False

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
        with self._lock, failing("write", self.path):
            if self._is_closed:
                return
            if self._fd is None:
                self._is_begun = True
                with failing("write", self.path, own=True):
                    self._fd = self._disk.create(self.path)
            self._disk.write(self._fd, data)
            self._hash.update(data)
            self.size += len(data)
            if last:
                self._close()

    def abandon(self) -> None:
        """Close and remove the file."""
        with self._lock:
            with suppress(OSError):
                self._close()
            if self._is_begun:
                self._staging.remove(self.path)

    def _close(self) -> None:
        self._is_closed = True
        fd, self._fd = self._fd, None
        if fd is not None:
            self._disk.close(fd)
