"""What can go wrong at one effect, and at which effects it can."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass

CRASHES = ("before", "after", "torn", "lost")
ERRORS = ("EIO", "ENOSPC", "EMFILE", "locked", "ambiguous")
CANCELS = ("cancel", "cancel after", "native", "native after")
TIMES = ("slow", "ahead")
MODES = (*CRASHES, *ERRORS, *CANCELS, *TIMES)
RARE = ("cancel after", "native after")  # almost the same as before the next effect

OPENING = {"create", "open", "open_lock"}
CHANGING = {
    "create",
    "write",
    "fsync",
    "link",
    "rename",
    "unlink",
    "mkdir",
    "rmdir",
    "fsync_folder",
}
TAKES_ROOM = {"create", "write", "fsync", "link", "rename", "mkdir", "fsync_folder", "open_lock"}
TAKES_DESCRIPTOR = {"create", "open", "open_lock", "fsync_folder", "entries"}
CATALOG_WRITES = {
    "begin_run", "beat", "close_run", "close_crashed_runs", "acquire_lease", "release_lease",
    "begin_selector", "finish_selector", "settle_failures", "commit", "invalidate", "forget",
    "mark_damaged",
}  # fmt: skip

CATALOG_ERRORS = {
    "EIO": "cannot be read or written: the disk reports an error (disk I/O error)",
    "ENOSPC": "cannot grow: the disk is full. Make room and run again (database or disk is full)",
    "locked": "is locked by another process. Wait for it, or end it (database is locked)",
    "ambiguous": "cannot be read or written: the disk reports an error (disk I/O error)",
}

HOUR, DAY = 3600.0, 86400.0


@dataclass(frozen=True, slots=True)
class Effect:
    """One thing that is done to the world, by one of its ports."""

    port: str  # disk, catalog, http
    name: str
    what: str = ""

    def __str__(self) -> str:
        return f"{self.port}.{self.name}({self.what})"


@dataclass(frozen=True, slots=True)
class Fault:
    """At effect number *at* (from 1) happens *mode*; *seed* decides what is left open by that."""

    at: int
    mode: str
    seed: int = 0

    @property
    def is_crash(self) -> bool:
        return self.mode in CRASHES

    def __str__(self) -> str:
        return f"{self.mode}:{self.at}:{self.seed}"

    @classmethod
    def parse(cls, text: str) -> Fault:
        mode, at, seed = text.split(":")
        return cls(int(at), mode, int(seed))


def makes_sense(mode: str, effect: Effect) -> bool:
    """Whether *mode* can happen at *effect*. A crash, a cancellation and a delay always can."""
    name, port = effect.name, effect.port
    is_write = name in CATALOG_WRITES if port == "catalog" else name in CHANGING
    match mode:
        case "torn":
            return is_write or name == "body"
        case "EIO":
            return True
        case "ENOSPC":
            return name in TAKES_ROOM or (port == "catalog" and is_write)
        case "EMFILE":
            return name in TAKES_DESCRIPTOR and port == "disk"
        case "locked":
            return port == "catalog"
        case "ambiguous":
            return is_write or name in ("close", "open_lock", "head")
        case _:
            return True


def os_error(mode: str, effect: Effect) -> OSError:
    """What the system says when *effect* fails."""
    code = getattr(errno, mode, errno.EIO)
    return OSError(code, os.strerror(code), effect.what)
