"""Room: a Run ends before the disks of its lake are full, while there is room to end well."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from anyio import Lock

from ingestify.errors import StopProcessing, StoreUnavailableError
from ingestify.model.settings import size_in_words
from ingestify.pipeline.budget import GO_ON
from ingestify.pipeline.stop import Stop
from ingestify.ports import Catalog, Clock, FileStore

log = logging.getLogger("ingestify.run")

LOOK_AGAIN = 1.0  # seconds
LARGE = 4 * 1024**2  # bytes of one body between two looks


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserve:
    """How many bytes have to stay free, and what people call the two places. 0: no matter."""

    bytes: int = 0
    files: str = "the lake's files"
    catalog: str = "the lake's catalog"


@dataclass(kw_only=True)
class Room:
    """Looks how much is free, at most once a second, and requests a *stop* where it is too little.

    What is in flight then may end, and is committed; bodies that are large are given up.
    """

    store: FileStore
    catalog: Catalog
    clock: Clock
    reserve: Reserve
    stop: Stop
    _next: float | None = None  # look; None: at once
    _looking: Lock = field(default_factory=lambda: Lock(fast_acquire=True))
    _is_low: bool = False

    async def look(self) -> bool:
        """Whether there is enough room to go on."""
        now = self.clock.monotonic()
        if not self.reserve.bytes or self._is_low or (self._next is not None and now < self._next):
            return not self._is_low
        async with self._looking:
            if self._next is None or now >= self._next:
                self._next = now + LOOK_AGAIN
                shortage = await self._shortage()
                if shortage is not None:
                    self._is_low = True
                    log.warning("%s", shortage)
                    self.stop.request(shortage)
        return not self._is_low

    async def guarded(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """*chunks* of one body, looking now and then if they are many.

        Raises:
            StopProcessing: there is no room for a body of that size.
        """
        size = 0
        async for chunk in chunks:
            size += len(chunk)
            if size >= LARGE:
                size = 0
                if not await self.look():
                    raise StopProcessing("there is no room left for a large body")
            yield chunk

    async def _shortage(self) -> StoreUnavailableError | None:
        for place, free in (
            (self.reserve.files, await self.store.free_bytes()),
            (self.reserve.catalog, await self.catalog.free_bytes()),
        ):
            if free is not None and free < self.reserve.bytes:
                return StoreUnavailableError(
                    f"only {size_in_words(free)} are free for {place}, less than the"
                    f" {size_in_words(self.reserve.bytes)} of min_free_space: free some space"
                    f" there, or lower min_free_space; {GO_ON}"
                )
        return None
