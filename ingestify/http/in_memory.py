"""How many bytes of bodies are held in memory at once, over all of a Run.

Small bodies are not counted; there are at most as many as exchanges in flight. A large one takes
its share before it grows. Nobody waits for a share while it has one, or while it has an exchange,
which others may need to come to an end: so there is always somebody who goes on. A list is held
until its Datasets are fetched, which may take hours where a provider is slow; so a Source that
holds nothing waits for no other one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from anyio import Event

MEBIBYTE = 1024**2
SMALL = 4 * MEBIBYTE  # a body up to this size is not counted


class Memory:
    """A number of bytes, of which shares are taken: first come, first served.

    What is larger than all there is takes all there is, so it can always go on alone. Some need
    not wait, see `Holder`: for these there may be more than *most*.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.taken = 0
        self._waiting: list[_Waiting] = []
        self._of_sources: Counter[Hashable] = Counter()

    def try_take(self, size: int, holder: Holder | None = None) -> int | None:
        """Take *size* now. Returns the share, to be given back; None: it would have to wait."""
        share = min(size, self.most)
        is_next = not self._waiting and self.taken + share <= self.most
        if not (is_next or self._need_not_wait(holder)):
            return None
        self._count(share, holder)
        return share

    async def take(self, size: int, holder: Holder | None = None) -> int:
        """Take *size* when it is there. Returns the share, to be given back."""
        share = self.try_take(size, holder)
        if share is not None:
            return share
        me = _Waiting(min(size, self.most), holder)
        self._waiting.append(me)
        try:
            await me.granted.wait()
        except BaseException:
            if me.granted.is_set():
                self.give_back(me.share, holder)
            else:
                self._waiting.remove(me)
                self._grant()  # those behind may be smaller
            raise
        return me.share

    def give_back(self, share: int, holder: Holder | None = None) -> None:
        """*share* is free for others."""
        self._count(-share, holder)
        self._grant()

    @asynccontextmanager
    async def held(self, size: int) -> AsyncIterator[None]:
        """A share of *size* within this context."""
        share = await self.take(size)
        try:
            yield
        finally:
            self.give_back(share)

    def _need_not_wait(self, holder: Holder | None) -> bool:
        if holder is None:
            return False
        is_first = holder.source is not None and not self._of_sources[holder.source]
        return bool(holder.taken) or is_first

    def _count(self, share: int, holder: Holder | None) -> None:
        self.taken += share
        if holder is not None:
            holder.taken += share
            self._of_sources[holder.source] += share

    def _grant(self) -> None:
        while (lucky := self._next()) is not None:
            self._waiting.remove(lucky)
            self._count(lucky.share, lucky.holder)
            lucky.granted.set()

    def _next(self) -> _Waiting | None:
        """Who waits and need not; else the first one, if there is room for it."""
        for each in self._waiting:
            if self._need_not_wait(each.holder):
                return each
        if self._waiting and self.taken + self._waiting[0].share <= self.most:
            return self._waiting[0]
        return None


@dataclass(eq=False, slots=True)
class _Waiting:
    share: int
    holder: Holder | None
    granted: Event = field(default_factory=Event)


@dataclass(frozen=True, slots=True)
class RunMemory:
    """What a Run may hold of large bodies: 256 MiB in all, and one list of each Source.

    There are three of them since one waits for the next: a list is read no faster than its
    Datasets are fetched, and a loader's bytes are parsed once they have come.
    """

    lists: Memory = field(default_factory=lambda: Memory(128 * MEBIBYTE))
    loaders: Memory = field(default_factory=lambda: Memory(64 * MEBIBYTE))
    parsing: Memory = field(default_factory=lambda: Memory(64 * MEBIBYTE))


class Holder:
    """One who may hold several bodies at once, such as a Source at work on a Selector.

    As soon as it has a share it gets whatever else it needs: it might never give back what it
    has while it waits for more. *source* tells whose it is: the first share of a *source* need
    not wait, either; None: it is nobody's.
    """

    def __init__(self, memory: Memory | None, source: Hashable = None) -> None:
        self.source = source
        self.taken = 0  # kept by the memory
        self._memory = memory  # None: nothing is counted

    def hold(self) -> Hold:
        """The share of one body."""
        return Hold(self)

    def _try(self, size: int) -> int | None:
        return 0 if self._memory is None else self._memory.try_take(size, self)

    async def _take(self, size: int) -> int:
        return 0 if self._memory is None else await self._memory.take(size, self)

    def _give_back(self, share: int) -> None:
        if self._memory is not None:
            self._memory.give_back(share, self)


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
