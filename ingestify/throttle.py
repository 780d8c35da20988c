"""Who may ask whom, and when: limits per host and credential that learn from every answer.

A request waits here, and only here, until its host lets it through: first come, first served. The
bound on all exchanges is taken last, so that what waits for a host holds nothing that another
host could use.

Sources that ask one host with the same credential, or with none, share its limits. With different
credentials each has limits of its own; where a host limits the address they come from, it refuses
all of them, and each learns its part. Whether a host is down is the same for all.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from types import TracebackType
from typing import Any, Protocol, Self, TypeAlias

import anyio

from ingestify.http.advice import NOTHING, Advice
from ingestify.http.daily_quota import DailyQuota, OwnBook, QuotaBook
from ingestify.http.host_queue import (
    TOO_MANY_REQUESTS,
    UNTIL_A_CHANGE,
    UNTIL_REFILLED,
    Health,
    HostDownError,
    HostQueue,
    HostState,
    Waiter,
)
from ingestify.http.loop_lag import LoopLag
from ingestify.model.http import Limits
from ingestify.ports import Clock

__all__ = ["Bound", "HostDownError", "HostState", "Key", "Slot", "Throttle", "Turn", "released"]

Key: TypeAlias = tuple[str, str]
"""Host (with its port) and a name for the credential; the name is no secret."""


class Slot(Protocol):
    """A share of something scarce, such as a worker, that can be lent while nothing is done."""

    def released(self) -> AbstractAsyncContextManager[Any]:
        """Others may use it inside of this context; leaving it waits until we have it again."""
        ...

    def dropped_on_stop(self) -> AbstractContextManager[Any]:
        """What is done inside ends when nothing is wanted any more, by raising StopProcessing."""
        ...

    def refuse_after_stop(self) -> None:
        """Raise StopProcessing when nothing is wanted any more."""
        ...

    def on_stop(self, tell: Callable[[], None]) -> None:
        """Call *tell* then."""
        ...

    def forget(self, tell: Callable[[], None]) -> None:
        """Do not."""
        ...


class Bound(Protocol):
    """A semaphore: `anyio.Semaphore`, or an `anyio.CapacityLimiter`."""

    def acquire_nowait(self) -> None: ...
    async def acquire(self) -> None: ...
    def release(self) -> Any: ...


class Throttle:
    """The limits of all hosts of one Run.

    Args:
        book: keeps daily quotas; None: they are this process' own.
    """

    def __init__(self, clock: Clock, book: QuotaBook | None = None) -> None:
        self.lag = LoopLag()  # watched by whoever runs the event loop
        self._clock = clock
        self._book = book or OwnBook()
        self._queues: dict[Key, HostQueue] = {}
        self._health: dict[str, Health] = {}

    def turn(
        self,
        key: Key,
        limits: Limits,
        *,
        exchanges: Bound | None = None,
        slot: Slot | None = None,
        patience: float = math.inf,
        outage: float = 0.0,
        source: str = "",
    ) -> Turn:
        """One request's turn, as an async context: entered when it may be sent, left at its end.

        The limits that come with the first request for a key are those of the key, and its daily
        quota goes by the name of its *source*.

        Raises, on entering:
            StopProcessing: the daily quota is used up.
            ThrottledError: the host asks to wait for longer than *patience* seconds.
            HostDownError: the host has failed too often in a row; if it ever answered, that
                has gone on for *outage* seconds.
        """
        queue = self._queues.get(key)
        if queue is None:
            health = self._health.setdefault(key[0], Health())
            quota = self._quota(key[0], limits, source or key[0])
            queue = HostQueue(key[0], limits, health, self._clock, quota, self.lag)
            self._queues[key] = queue
        return Turn(queue, exchanges, slot, patience, outage)

    def _quota(self, host: str, limits: Limits, source: str) -> DailyQuota | None:
        if limits.daily_quota is None:
            return None
        return DailyQuota(source, limits.daily_quota, host=host, book=self._book, clock=self._clock)

    async def give_back(self) -> None:
        """Give back what was taken of daily quotas and not used, at the end of a Run."""
        for queue in self._queues.values():
            if queue.quota is not None:
                await queue.quota.give_back()

    def may_retry(self, host: str) -> bool:
        """Whether the retry budget of *host* has room for one more; then it is counted."""
        return self._health.setdefault(host, Health()).budget.take()

    def cooling_for(self, key: Key) -> float:
        """Seconds until the host lets anybody through; 0: now."""
        queue = self._queues.get(key)
        return 0.0 if queue is None else queue.cooling()

    def snapshot(self) -> tuple[HostState, ...]:
        """The state of every host asked so far."""
        return tuple(queue.state() for queue in self._queues.values())


class Turn:
    """One request that is being made. Not to be entered twice."""

    __slots__ = (
        "_exchanges",
        "_has_begun",
        "_has_failed",
        "_is_probe",
        "_outage",
        "_patience",
        "_queue",
        "_sent",
        "_slot",
        "_was_refused",
    )

    def __init__(
        self,
        queue: HostQueue,
        exchanges: Bound | None,
        slot: Slot | None,
        patience: float,
        outage: float,
    ) -> None:
        self._queue = queue
        self._exchanges = exchanges
        self._slot = slot
        self._patience = patience
        self._outage = outage
        self._sent = 0.0
        self._is_probe = False
        self._has_begun = False
        self._has_failed: bool | None = None  # None: nothing is known yet
        self._was_refused = False

    async def __aenter__(self) -> Self:
        queue = self._queue
        # What fails anyway need not queue up for it.
        seconds = queue.obstacle(self._patience, self._outage)
        if seconds or queue.waiters or not self._take_exchange():
            await self._wait()
        else:
            self._begin()
        return self

    def _begin(self) -> None:
        """With a share of the exchanges: this request is sent."""
        try:
            self._sent = now = self._queue.clock.monotonic()
            self._is_probe = self._queue.take(now)
            self._has_begun = True
        except BaseException:
            self._give_exchange_back()
            raise

    async def _wait(self) -> None:
        """Wait until this request may be sent, and begin it."""
        queue, slot = self._queue, self._slot
        me = Waiter()
        queue.waiters.append(me)
        try:
            if slot is not None:
                slot.on_stop(me.wake)
            while True:
                if slot is not None:
                    slot.refuse_after_stop()
                is_next = queue.waiters[0] is me
                seconds = (
                    queue.obstacle(self._patience, self._outage) if is_next else UNTIL_A_CHANGE
                )
                if seconds == UNTIL_REFILLED and queue.quota is not None:
                    await queue.quota.refill()
                elif seconds:
                    await self._wait_for(seconds, me)
                elif self._take_exchange() or await self._is_still_free():
                    self._begin()
                    return
        finally:
            if slot is not None:
                slot.forget(me.wake)
            self._stop_waiting(me)

    def _stop_waiting(self, me: Waiter) -> None:
        """Let the next one look. Whatever is wrong here, nobody is left asleep, nor anything held
        by a request that is not made."""
        queue = self._queue
        try:
            queue.waiters.remove(me)
            queue.wake()
        except BaseException:
            if self._has_begun:
                self._give_exchange_back()
                queue.in_flight -= 1
            for waiter in queue.waiters:
                waiter.wake()
            raise

    async def _wait_for(self, seconds: float, me: Waiter) -> None:
        """Wait as long as that, or for a change, in which case one has to look again."""
        queue = self._queue
        if seconds != UNTIL_A_CHANGE or queue.health.circuit.is_open:
            queue.lend()
        if not queue.is_lending:
            await me.wait()
            return
        async with released(self._slot):
            if seconds == UNTIL_A_CHANGE:
                await me.wait()
            else:
                await queue.clock.sleep(seconds)

    async def _is_still_free(self) -> bool:
        """Wait for a share of the exchanges, and keep it if the way is free even then."""
        if self._exchanges is None:
            return True
        with _NOTHING if self._slot is None else self._slot.dropped_on_stop():
            await self._exchanges.acquire()
        is_free = False
        try:
            is_free = not self._queue.obstacle(self._patience, self._outage)
        finally:
            if not is_free:
                self._give_exchange_back()
        return is_free

    def _give_exchange_back(self) -> None:
        if self._exchanges is not None:
            self._exchanges.release()

    def _take_exchange(self) -> bool:
        if self._exchanges is not None:
            try:
                self._exchanges.acquire_nowait()
            except anyio.WouldBlock:
                return False
        return True

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._give_exchange_back()
        try:
            self._learn()
        finally:
            self._queue.leave()
        if self._is_probe:
            self._queue.health.tell()

    def _learn(self) -> None:
        """What the end of the request shows."""
        queue = self._queue
        if self._has_failed is False:
            now = queue.clock.monotonic()
            queue.health.circuit.good(now)
            if not self._was_refused:
                may_grow = not queue.lag.is_high
                queue.concurrency.ended(self._sent, now, queue.in_flight, may_grow=may_grow)
        elif self._has_failed is None and self._is_probe:
            queue.health.circuit.abandon_probe()

    def record(self, status: int, advice: Advice = NOTHING) -> float:
        """The host answered: everybody on this queue learns from it at once.

        Returns the seconds for which the host newly asks to be left alone, 0 for none.
        """
        pause = self._queue.heard(status, advice, self._sent)
        self._was_refused = status == TOO_MANY_REQUESTS
        if status >= 500:
            self._fail()
        else:
            self._has_failed = False
            if self._is_probe:  # others need not wait for its body
                self._queue.health.circuit.good(self._queue.clock.monotonic())
                self._queue.health.tell()
        return pause

    def record_failure(self) -> None:
        """No answer came, or its body broke off or came too slowly."""
        self._queue.concurrency.bad(self._sent, self._queue.clock.monotonic())
        self._fail()

    def _fail(self) -> None:
        if not self._has_failed:
            circuit = self._queue.health.circuit
            now = self._queue.clock.monotonic()
            circuit.bad(now, sent=self._sent, is_probe=self._is_probe)
        self._has_failed = True


class _Nothing:
    """What is lent where nothing is held."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None

    async def __aenter__(self) -> None:
        return None

    async def __aexit__(self, *_: object) -> None:
        return None


_NOTHING = _Nothing()


def released(slot: Slot | None) -> AbstractAsyncContextManager[Any]:
    """*slot*, lent to others inside of this context."""
    return _NOTHING if slot is None else slot.released()
