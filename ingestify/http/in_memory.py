"""How many bytes of bodies are held in memory at once, over all of a Run.

Small bodies are not counted; there are at most as many as exchanges in flight. A large one takes
its share before it grows. Nobody waits for a share while it has one, or while it has an exchange,
which others may need to come to an end: so there is always somebody who goes on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from anyio import Event

MEBIBYTE = 1024**2
SMALL = 4 * MEBIBYTE  # a body up to this size is not counted


class Memory:
    """A number of bytes, of which shares are taken: first come, first served.

    What is larger than all there is takes all there is, so it can always go on alone.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.taken = 0
        self._waiting: deque[tuple[int, Event]] = deque()

    def try_take(self, size: int) -> int | None:
        """Take *size* now. Returns the share, to be given back; None: it would have to wait."""
        share = min(size, self.most)
        if self._waiting or self.taken + share > self.most:
            return None
        self.taken += share
        return share

    async def take(self, size: int) -> int:
        """Take *size* when it is there. Returns the share, to be given back."""
        share = self.try_take(size)
        if share is not None:
            return share
        share, granted = min(size, self.most), Event()
        self._waiting.append((share, granted))
        try:
            await granted.wait()
        except BaseException:
            if granted.is_set():
                self.give_back(share)
            else:
                self._waiting.remove((share, granted))
                self._grant()  # those behind may be smaller
            raise
        return share

    def take_more(self, size: int) -> int:
        """Take *size*, be it there or not. Returns the share, to be given back."""
        self.taken += size
        return size

    def give_back(self, share: int) -> None:
        """*share* is free for others."""
        self.taken -= share
        self._grant()

    @asynccontextmanager
    async def held(self, size: int) -> AsyncIterator[None]:
        """A share of *size* within this context."""
        share = await self.take(size)
        try:
            yield
        finally:
            self.give_back(share)

    def _grant(self) -> None:
        while self._waiting and self.taken + self._waiting[0][0] <= self.most:
            share, granted = self._waiting.popleft()
            self.taken += share
            granted.set()


@dataclass(frozen=True, slots=True)
class RunMemory:
    """What a Run may hold of large bodies, 256 MiB in all.

    There are three of them since one waits for the next: a list is read no faster than its
    Datasets are fetched, and a loader's bytes are parsed once they have come.
    """

    lists: Memory = field(default_factory=lambda: Memory(128 * MEBIBYTE))
    loaders: Memory = field(default_factory=lambda: Memory(64 * MEBIBYTE))
    parsing: Memory = field(default_factory=lambda: Memory(64 * MEBIBYTE))


class Holder:
    """One who may hold several bodies at once, such as a Source at work on a Selector.

    As soon as it has a share it gets whatever else it needs: it might never give back what it
    has while it waits for more.
    """

    def __init__(self, memory: Memory | None) -> None:
        self._memory = memory  # None: nothing is counted
        self._shares = 0

    def hold(self) -> Hold:
        """The share of one body."""
        return Hold(self)

    def _try(self, size: int) -> int | None:
        if self._memory is None:
            return 0
        share = self._memory.take_more(size) if self._shares else self._memory.try_take(size)
        self._shares += share or 0
        return share

    async def _take(self, size: int) -> int:
        share = self._try(size)
        if share is None and self._memory is not None:
            share = await self._memory.take(size)
            self._shares += share
        return share or 0

    def _give_back(self, share: int) -> None:
        if self._memory is not None:
            self._shares -= share
            self._memory.give_back(share)


class Hold:
    """What one body has taken. A context: at its end it is given back."""

    __slots__ = ("_holder", "_share", "_size")

    def __init__(self, holder: Holder) -> None:
        self._holder = holder
        self._share = 0
        self._size = 0  # that the share is for

    def try_take(self, size: int) -> bool:
        """Whether there is room now for a body of up to *size* bytes; it is taken then."""
        if size <= max(SMALL, self._size):
            return True
        share = self._holder._try(size - self._size)
        if share is None:
            return False
        self._share += share
        self._size = size
        return True

    async def take(self, size: int) -> None:
        """Wait for room for a body of up to *size* bytes, and take it."""
        if size > max(SMALL, self._size):
            self._share += await self._holder._take(size - self._size)
            self._size = size

    def shrink(self, size: int) -> None:
        """The body is here and has *size* bytes: give back what it does not need."""
        needed = size if size > SMALL else 0
        spare = self._share - needed
        if spare > 0:
            self._share = needed
            self._holder._give_back(spare)
        self._size = min(self._size, needed)

    def release(self) -> None:
        """The body is gone."""
        self.shrink(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()
