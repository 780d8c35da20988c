"""Open files: how much a Run may do at once, so that the process is never out of descriptors.

What is counted: for each exchange in flight a connection to each host, idle ones included, and a
temporary file that its body is written to; a lock for each plan; and what is always there.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Collection
from dataclasses import dataclass

from ingestify.errors import ConfigError

FIXED = 28  # event loop 3, SQLite 8, lake locks 4, files synced 4 and read, look-ups of names
BATCH = 124  # files of one batch that are open together, beside the 4 above
PLENTY = 64  # exchanges; fewer are not made of it for the sake of a batch
ENOUGH = 8  # exchanges; with fewer, connections are rather not kept than be fewer still
GUESSED_OPEN = 16  # where the system does not tell what is open
DESCRIPTORS = ("/proc/self/fd", "/dev/fd")


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenFiles:
    """What may be open at once."""

    exchanges: int  # connections in use, and temporary files that are being written
    keeps_connections: bool = True  # open for the next request to the same host
    publishing: int = 4  # files of one batch

    @classmethod
    def within_limit(cls, *, wanted: int, hosts: int, plans: int) -> OpenFiles:
        """As much as the process' limit on open files allows, at most *wanted* exchanges.

        Raises:
            ConfigError: it does not even allow one.
        """
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if limit == resource.RLIM_INFINITY:
            return cls(exchanges=wanted, publishing=BATCH + 4)
        is_open = _open_now()
        return cls.within(limit, is_open, wanted=wanted, hosts=hosts, plans=plans)

    @classmethod
    def within(cls, limit: int, is_open: int, *, wanted: int, hosts: int, plans: int) -> OpenFiles:
        """The same for a *limit* of which so many are taken already."""
        room = limit - is_open - FIXED - plans
        needed = hosts + 2  # its file, a connection to each host, and one where redirects lead
        beside_batch = min(wanted, (room - BATCH) // needed)
        if beside_batch >= min(PLENTY, wanted):
            return cls(exchanges=beside_batch, publishing=BATCH + 4)
        if room // needed >= min(ENOUGH, wanted):
            return cls(exchanges=min(wanted, room // needed))
        if room < 2:
            raise ConfigError(
                f"at most {limit} files may be open at once, which is too few: {is_open} are open"
                f" already, and a run takes at least {FIXED + plans + 2} more. Raise the limit:"
                " ulimit -n 1024"
            )
        return cls(exchanges=min(wanted, room // 2), keeps_connections=False)


def _open_now() -> int:
    for folder in DESCRIPTORS:
        try:
            found: Collection[str] = os.listdir(folder)  # noqa: PTH208  # names are all it takes
        except OSError:
            continue
        return len(found) - 1  # without the one that it takes to look
    return GUESSED_OPEN
