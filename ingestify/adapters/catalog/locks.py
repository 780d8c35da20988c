"""Operating-system locks for leases: they die with their process, however it ends."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import time
from pathlib import Path

# Whoever looks whether a holder still lives has its lock for an instant, if it does not.
GLANCES, GLANCE_SECONDS = 4, 0.01


class LeaseLocks:
    """The locks that one open Catalog holds; each is a file in *folder*.

    Two of these in one process exclude each other as two processes do. Lock files are never
    removed: someone may be waiting on the very file.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: dict[str, int] = {}

    def acquire(self, name: str) -> bool:
        """Take the lock called *name*, unless a living process has it."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for glance in range(GLANCES):
            if glance:
                time.sleep(GLANCE_SECONDS)
            descriptor = self._try(name)
            if descriptor is not None:
                self._held[name] = descriptor
                return True
        return False

    def release(self, name: str) -> None:
        """Give the lock back, if it is held."""
        descriptor = self._held.pop(name, None)
        if descriptor is not None:
            os.close(descriptor)

    def release_all(self) -> None:
        """Give every lock back."""
        for name in list(self._held):
            self.release(name)

    def is_alive(self, name: str) -> bool:
        """Whether a living process has the lock called *name*, be it this one."""
        if not self._path(name).exists():
            return False
        descriptor = self._try(name)
        if descriptor is not None:
            os.close(descriptor)
        return descriptor is None

    def _try(self, name: str) -> int | None:
        # Python opens files close-on-exec, so that no child keeps a lock beyond its holder's end.
        descriptor = os.open(self._path(name), os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            os.close(descriptor)
            if exc.errno in (errno.EWOULDBLOCK, errno.EACCES):
                return None
            raise
        return descriptor

    def _path(self, name: str) -> Path:
        return self._folder / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.lock"
