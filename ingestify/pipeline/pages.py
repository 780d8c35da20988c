"""What joins two stages: a bounded queue whose reader takes whatever is waiting."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Generic, TypeVar

from anyio import ClosedResourceError, Event, move_on_after

T = TypeVar("T")


class Pages(Generic[T]):
    """A queue of at most about *most* items. Writers wait while it is full.

    A page is put as a whole: the queue may exceed *most* by one page for each writer.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._items: deque[T] = deque()
        self._closed = False
        self._filled = Event()
        self._drained = Event()

    async def put(self, items: Iterable[T]) -> None:
        """Add all *items*, once there is room. When cancelled, none was added.

        Raises:
            ClosedResourceError: the queue is closed, so that nobody would take them.
        """
        while len(self._items) >= self._most and not self._closed:
            self._drained = self._drained if not self._drained.is_set() else Event()
            await self._drained.wait()
        if self._closed:
            raise ClosedResourceError
        self._items.extend(items)
        self._filled.set()

    async def take(self, most: int, *, linger: float = 0.0) -> list[T]:
        """At least one item and at most *most*; none means that the queue is closed and empty.

        After the first item has come, *most* are waited for, for *linger* seconds. When
        cancelled, nothing was taken.
        """
        await self._until_filled(1)
        if linger and len(self._items) < most:
            with move_on_after(linger):
                await self._until_filled(most)
        count = min(most, len(self._items))
        page = [self._items.popleft() for _ in range(count)]
        self._drained.set()
        return page

    def drain(self) -> list[T]:
        """Everything that waits, at once."""
        items = list(self._items)
        self._items.clear()
        return items

    def close(self) -> None:
        """No more will be put. Items that wait can still be taken."""
        self._closed = True
        self._filled.set()
        self._drained.set()

    async def _until_filled(self, count: int) -> None:
        while len(self._items) < count and not self._closed:
            self._filled = self._filled if not self._filled.is_set() else Event()
            await self._filled.wait()

    def __len__(self) -> int:
        return len(self._items)
