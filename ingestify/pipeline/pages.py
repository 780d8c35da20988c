"""What joins two stages: a bounded queue whose reader takes whatever is waiting."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Generic, TypeVar

from anyio import Event

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
        """Add *items*, once there is room."""
        while len(self._items) >= self._most:
            self._drained = self._drained if not self._drained.is_set() else Event()
            await self._drained.wait()
        self._items.extend(items)
        self._filled.set()

    async def take(self, most: int) -> list[T]:
        """At least one item and at most *most*; none means that the queue is closed and empty."""
        while not self._items and not self._closed:
            self._filled = self._filled if not self._filled.is_set() else Event()
            await self._filled.wait()
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

    def __len__(self) -> int:
        return len(self._items)
