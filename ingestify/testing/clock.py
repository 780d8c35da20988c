"""A clock for tests: hours pass in no time, and always in the same order."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import anyio
from anyio.lowlevel import checkpoint

SETTLED_AFTER = 25  # turns of the event loop in which others may still do something


@dataclass(order=True, slots=True)
class _Sleeper:
    due: float
    number: int  # of equals, the first to sleep is the first to wake
    awake: anyio.Event = field(default_factory=anyio.Event, compare=False)


class VirtualClock:
    """A `ports.Clock` whose time passes only when everybody sleeps, or when it is advanced.

    By default it jumps to the next sleeper's time as soon as nobody has anything else to do.
    That holds for worlds in memory; where sockets, threads or real time-outs take part, use
    ``auto=False`` and `advance`.
    """

    def __init__(
        self, start: datetime = datetime(2024, 1, 1, tzinfo=UTC), *, auto: bool = True
    ) -> None:
        self.slept: list[float] = []  # what was asked for, in order
        self._wall = start
        self._seconds = 0.0
        self._auto = auto
        self._sleepers: list[_Sleeper] = []
        self._number = 0

    def now(self) -> datetime:
        return self._wall + timedelta(seconds=self._seconds)

    def monotonic(self) -> float:
        return self._seconds

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if seconds <= 0:
            await checkpoint()
            return
        self._number += 1
        sleeper = _Sleeper(self._seconds + seconds, self._number)
        heapq.heappush(self._sleepers, sleeper)
        try:
            while sleeper.due > self._seconds:
                if self._auto:
                    await self._settle()
                    self._skip_to_next()
                else:
                    await sleeper.awake.wait()
            await checkpoint()
        finally:
            if sleeper in self._sleepers:  # cancelled, or woken by the time itself
                self._sleepers.remove(sleeper)
                heapq.heapify(self._sleepers)

    async def advance(self, seconds: float) -> None:
        """Let *seconds* pass: sleepers wake in order, each at its own time."""
        end = self._seconds + seconds
        await self._settle()
        while self._sleepers and self._sleepers[0].due <= end:
            self._skip_to_next()
            await self._settle()
        self._seconds = end
        await self._settle()

    def jump(self, change: timedelta) -> None:
        """Set the wall clock forward or back. `monotonic` and sleepers do not notice."""
        self._wall += change

    def _skip_to_next(self) -> None:
        if self._sleepers:
            sleeper = self._sleepers[0]
            self._seconds = max(self._seconds, sleeper.due)
            sleeper.awake.set()
            if not self._auto:
                heapq.heappop(self._sleepers)

    async def _settle(self) -> None:
        for _ in range(SETTLED_AFTER):
            await checkpoint()
