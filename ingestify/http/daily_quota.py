"""The requests of a UTC day that a Source has, whichever process makes them."""

from __future__ import annotations

from datetime import date
from typing import Protocol

from ingestify.errors import StopProcessing
from ingestify.ports import Clock


class QuotaBook(Protocol):
    """Who writes down what is used of each day; a Catalog does. See `Catalog.spend_quota`."""

    async def spend_quota(self, source: str, *, day: date, count: int, most: int) -> int: ...


class OwnBook:
    """A QuotaBook for this process alone."""

    def __init__(self) -> None:
        self._used: dict[tuple[str, date], int] = {}

    async def spend_quota(self, source: str, *, day: date, count: int, most: int) -> int:
        used = self._used.get((source, day), 0)
        granted = max(-used, min(count, max(0, most - used)))
        self._used[source, day] = used + granted
        return granted


class DailyQuota:
    """One Source's requests of a day. They are taken from the book in blocks, since each costs a
    transaction; a process that dies loses what is left of its block.

    The day only goes forward: a clock that is set back gives nothing back.
    """

    def __init__(self, source: str, most: int, *, host: str, book: QuotaBook, clock: Clock) -> None:
        self._source = source
        self._most = most
        self._host = host
        self._book = book
        self._clock = clock
        self._block = max(1, most // 100)
        self._day = date.min
        self._left = 0  # of the block
        self._is_used_up = False

    @property
    def is_short(self) -> bool:
        """Whether `refill` comes before the next request."""
        self._turn_page()
        return self._left < 1

    def refuse_if_used_up(self) -> None:
        """Raise StopProcessing where nothing is left of the day."""
        self._turn_page()
        if self._is_used_up and self._left < 1:
            raise StopProcessing(
                f"the daily quota of {self._most} requests to {self._host} is used;"
                " it begins anew at 00:00 UTC"
            )

    def take(self) -> None:
        """A request is sent."""
        self._left -= 1

    async def refill(self) -> None:
        """Take the next block out of the book."""
        day = self._day
        granted = await self._spend(day, self._block)
        if day == self._day:
            self._left += granted
            self._is_used_up = granted < 1

    async def give_back(self) -> None:
        """Give back what is left of the block. Whoever goes on takes another one."""
        left, self._left = self._left, 0
        if left > 0:
            await self._spend(self._day, -left)

    async def _spend(self, day: date, count: int) -> int:
        return await self._book.spend_quota(self._source, day=day, count=count, most=self._most)

    def _turn_page(self) -> None:
        today = self._clock.now().date()
        if today > self._day:
            self._day, self._left, self._is_used_up = today, 0, False
