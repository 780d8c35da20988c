"""What joins two stages: a bounded queue whose reader takes whatever is waiting."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Generic, TypeVar

from anyio import ClosedResourceError, move_on_after

T = TypeVar("T")


class Pages(Generic[T]):
    """A queue of at most about *most* items. Writers wait while it is full.

    A page is put as a whole: the queue may exceed *most* by one page for each writer. Who waits
    is served in the order of coming.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._items: deque[T] = deque()
        self._closed = False
        self._takers: deque[tuple[asyncio.Future[None], int]] = deque()  # and what they wait for
        self._putters: deque[asyncio.Future[None]] = deque()

    async def put(self, items: Iterable[T]) -> None:
        """Add all *items*, once there is room. When cancelled, none was added.

        Raises:
            ClosedResourceError: the queue is closed, so that nobody would take them.
        """
        while len(self._items) >= self._most and not self._closed:
            await self._room()
        if self._closed:
            raise ClosedResourceError
        self._items.extend(items)
        self._wake_takers()

    async def take(self, most: int, *, linger: float = 0.0) -> list[T]:
        """At least one item and at most *most*; none means that the queue is closed and empty.

        After the first item has come, *most* are waited for, for *linger* seconds. When
        cancelled, nothing was taken.
        """
        await self._until_filled(1)
        if linger and len(self._items) < most:
            with move_on_after(linger):
                await self._until_filled(most)
        items = self._items
        page = [items.popleft() for _ in range(min(most, len(items)))]
        if items and self._takers:
            self._wake_takers()
        if self._putters and len(items) < self._most:
            _wake(self._putters)
        return page

    def drain(self) -> list[T]:
        """Everything that waits, at once."""
        items = list(self._items)
        self._items.clear()
        return items

    def close(self) -> None:
        """No more will be put. Items that wait can still be taken."""
        self._closed = True
        self._wake_takers()
        _wake(self._putters)

    def __len__(self) -> int:
        return len(self._items)

    async def _room(self) -> None:
        waiting = asyncio.get_running_loop().create_future()
        self._putters.append(waiting)
        try:
            await waiting
        finally:
            if waiting in self._putters:
                self._putters.remove(waiting)

    async def _until_filled(self, count: int) -> None:
        while len(self._items) < count and not self._closed:
            waiting = asyncio.get_running_loop().create_future()
            taker = waiting, count
            self._takers.append(taker)
            try:
                await waiting
            except BaseException:
                if taker in self._takers:
                    self._takers.remove(taker)
                else:  # what it was woken for is for somebody else
                    self._wake_takers()
                raise

    def _wake_takers(self) -> None:
        """Wake those who wait, as far as there is something for them."""
        left = len(self._items)
        while self._takers and (self._closed or left >= self._takers[0][1]):
            waiting, count = self._takers.popleft()
            left -= count
            if not waiting.done():
                waiting.set_result(None)


def _wake(waiting: deque[asyncio.Future[None]]) -> None:
    """Let all look again who wait for room: there are as many of them as stages, which is few."""
    while waiting:
        each = waiting.popleft()
        if not each.done():
            each.set_result(None)
