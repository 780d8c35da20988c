"""Who may ask whom, and when: limits per host and credential that learn from every answer.

A request waits here, and only here, until its host lets it through: first come, first served. The
bound on all exchanges is taken last, so that what waits for a host holds nothing that another
host could use.
"""

from __future__ import annotations

import math
from collections import deque
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import islice
from types import TracebackType
from typing import Any, Protocol, Self, TypeAlias

import anyio

from ingestify.advice import NOTHING, Advice
from ingestify.circuit import Circuit, RetryBudget
from ingestify.errors import StopProcessing, ThrottledError, TransientFetchError
from ingestify.model.http import Limits
from ingestify.pacing import Concurrency, Gcra, LearntRate, QuotaWindow
from ingestify.ports import Clock

TOO_MANY_REQUESTS = 429
UNAVAILABLE = 503
FIRST_PAUSE = 1.0  # seconds after a 429 that says nothing, doubled for each one in a row
LONGEST_PAUSE = 60.0
LOOK_AGAIN = 1.0  # seconds
NO_TIME = 1e-9  # seconds; float sums are off by less than that
UNTIL_A_CHANGE = math.inf

Key: TypeAlias = tuple[str, str]
"""Host (with its port) and a name for the credential; the name is no secret."""


class Slot(Protocol):
    """A share of something scarce, such as a worker, that can be lent while nothing is done."""

    def released(self) -> AbstractAsyncContextManager[Any]:
        """Others may use it inside of this context; leaving it waits until we have it again."""
        ...


class Bound(Protocol):
    """A semaphore: `anyio.Semaphore`, or an `anyio.CapacityLimiter`."""

    def acquire_nowait(self) -> None: ...
    async def acquire(self) -> None: ...
    def release(self) -> Any: ...


class HostDownError(TransientFetchError):
    """A host has failed so often in a row that it is left alone for a while. Not retried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostState:
    """How one host is being asked, for people to look at."""

    host: str
    in_flight: int
    waiting: int
    allowed: int  # in flight at once
    rate: float | None  # requests a second; None: no limit is known
    cooling: float  # seconds until the next request may be sent; 0: now
    is_down: bool
    requests: int
    refused: int  # 429s


class Throttle:
    """The limits of all hosts of one Run."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lanes: dict[Key, _Lane] = {}
        self._health: dict[str, _Health] = {}

    def turn(
        self,
        key: Key,
        limits: Limits,
        *,
        exchanges: Bound | None = None,
        slot: Slot | None = None,
        patience: float = math.inf,
    ) -> Turn:
        """One request's turn, as an async context: entered when it may be sent, left at its end.

        Raises, on entering:
            StopProcessing: the daily quota is used up.
            ThrottledError: the host asks to wait for longer than *patience* seconds.
            HostDownError: the host has failed too often in a row.
        """
        lane = self._lanes.get(key)
        if lane is None:
            health = self._health.setdefault(key[0], _Health())
            lane = self._lanes[key] = _Lane(key[0], limits, health, self._clock)
        return Turn(lane, exchanges, slot, patience)

    def may_retry(self, host: str) -> bool:
        """Whether the retry budget of *host* has room for one more; then it is counted."""
        return self._health.setdefault(host, _Health()).budget.take()

    def cooling_for(self, key: Key) -> float:
        """Seconds until the host lets anybody through; 0: now."""
        lane = self._lanes.get(key)
        return 0.0 if lane is None else lane.cooling()

    def snapshot(self) -> tuple[HostState, ...]:
        """The state of every host asked so far."""
        return tuple(lane.state() for lane in self._lanes.values())


class _Health:
    """What all credentials of one host share."""

    __slots__ = ("budget", "circuit")

    def __init__(self) -> None:
        self.circuit = Circuit()
        self.budget = RetryBudget()


class _Waiter:
    """A place in the queue before a host."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = anyio.Event()

    def wake(self) -> None:
        self._event.set()

    async def wait(self) -> None:
        """Until the next `wake`. Leaves it ready for another one."""
        await self._event.wait()
        self._event = anyio.Event()


class _Lane:
    """The queue before one host, for one credential."""

    def __init__(self, host: str, limits: Limits, health: _Health, clock: Clock) -> None:
        self.host = host
        self.limits = limits
        self.health = health
        self.clock = clock
        self.waiters: deque[_Waiter] = deque()
        self.in_flight = 0
        self.requests = 0
        self.refused = 0
        self.cooling_until = -math.inf
        self.refusals_in_a_row = 0
        self.concurrency = Concurrency(limits.concurrency)
        self.rate = Gcra(limits.requests_per_second, limits.burst)
        self.learnt = LearntRate(limits.requests_per_second)
        self.window = QuotaWindow()
        self.quota_day: date | None = None
        self.quota_used = 0

    def cooling(self) -> float:
        now = self.clock.monotonic()
        return max(0.0, self.cooling_until - now, self.window.wait(now, 0))

    def state(self) -> HostState:
        return HostState(
            host=self.host,
            in_flight=self.in_flight,
            waiting=len(self.waiters),
            allowed=self.concurrency.allowed,
            rate=self.rate.rate,
            cooling=self.cooling(),
            is_down=self.health.circuit.closed_in(self.clock.monotonic()) is not None,
            requests=self.requests,
            refused=self.refused,
        )

    def obstacle(self, patience: float) -> float:
        """Seconds to wait before the next request, 0 for none; or the error that it meets."""
        now = self.clock.monotonic()
        self._refuse_if_down(now)
        self._refuse_if_used_up()
        cooling = self.cooling_until - now
        window = self.window.wait(now, self.in_flight)
        if max(cooling, window if self.in_flight == 0 else 0.0) > patience:
            wait = timedelta(seconds=max(cooling, window))
            raise ThrottledError(
                f"{self.host} asks to wait for {wait.total_seconds():.0f} s", retry_after=wait
            )
        if self.in_flight >= self.concurrency.allowed:
            return UNTIL_A_CHANGE
        if self.in_flight:  # the answers to come may say that more is left
            window = min(window, LOOK_AGAIN)
        wait_for = max(cooling, window, self.rate.wait(now))
        return wait_for if wait_for > NO_TIME else 0.0

    def _refuse_if_down(self, now: float) -> None:
        closed_in = self.health.circuit.closed_in(now)
        if closed_in is not None:
            raise HostDownError(
                f"{self.host} is left alone for {closed_in:.0f} s more,"
                f" since {self.health.circuit.failures} requests in a row failed"
            )

    def _refuse_if_used_up(self) -> None:
        quota = self.limits.daily_quota
        if quota is not None and self.quota_used >= quota:
            if self.quota_day == self.clock.now().date():
                raise StopProcessing(f"the daily quota of {quota} requests to {self.host} is used")
            self.quota_used = 0

    def take(self) -> bool:
        """A request is sent now. Returns whether it probes a host that was down."""
        self.in_flight += 1
        self.requests += 1
        self.rate.take(self.clock.monotonic())
        self.health.budget.count_request()
        if self.limits.daily_quota is not None:
            today = self.clock.now().date()
            if today != self.quota_day:
                self.quota_day, self.quota_used = today, 0
            self.quota_used += 1
        return self.health.circuit.begin()

    def leave(self) -> None:
        """A request has ended, well or not."""
        self.in_flight -= 1
        if self.waiters:
            self.wake()

    def wake(self) -> None:
        """Let as many look as there is room for: the first ones, who then go in their order."""
        free = self.concurrency.allowed - self.in_flight if self.rate.rate is None else 1
        for waiter in islice(self.waiters, max(1, free)):
            waiter.wake()

    def heard(self, status: int, advice: Advice, sent: float) -> float:
        """Learn from an answer. Returns for how many seconds the host newly asks to be left."""
        now = self.clock.monotonic()
        pause: float | None = None
        if status == TOO_MANY_REQUESTS:
            self.refused += 1
            pause = advice.retry_after
            if pause is None:
                pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(self.refusals_in_a_row, 10))
            if sent >= self.cooling_until:  # not one of many sent in the same moment
                self.refusals_in_a_row += 1
            self.learnt.refused(sent, now, pause=pause, policy=advice.rate)
        elif status == UNAVAILABLE:
            pause = advice.retry_after
        else:
            self.refusals_in_a_row = 0
            self.learnt.answered(now)
        rate = self.learnt.rate or self.limits.requests_per_second
        self.rate.rate = rate
        # A reset within the second says nothing about faster hosts, nor one that lies within the
        # time in which the known rate makes up for a burst.
        shortest = 1 + (self.limits.burst / rate if rate else 0)
        if advice.remaining is not None and (advice.reset or 0) > shortest:
            self.window.told(advice.remaining, advice.reset or 0, now)
        if status in (TOO_MANY_REQUESTS, UNAVAILABLE):
            self.concurrency.bad(sent, now)
        if pause is None or now + pause <= self.cooling_until:
            return 0.0
        self.cooling_until = now + pause
        return pause


class Turn:
    """One request that is being made. Not to be entered twice."""

    __slots__ = (
        "_exchanges",
        "_has_failed",
        "_is_probe",
        "_lane",
        "_patience",
        "_sent",
        "_slot",
        "_was_refused",
    )

    def __init__(
        self, lane: _Lane, exchanges: Bound | None, slot: Slot | None, patience: float
    ) -> None:
        self._lane = lane
        self._exchanges = exchanges
        self._slot = slot
        self._patience = patience
        self._sent = 0.0
        self._is_probe = False
        self._has_failed: bool | None = None  # None: nothing is known yet
        self._was_refused = False

    async def __aenter__(self) -> Self:
        lane = self._lane
        if lane.waiters or lane.obstacle(self._patience) or not self._take_exchange():
            await self._wait()
        else:
            self._begin()
        return self

    def _begin(self) -> None:
        self._sent = self._lane.clock.monotonic()
        self._is_probe = self._lane.take()

    async def _wait(self) -> None:
        """Wait until this request may be sent, and begin it."""
        lane = self._lane
        lane.obstacle(self._patience)  # what fails anyway need not queue up for it
        me = _Waiter()
        lane.waiters.append(me)
        try:
            while True:
                is_next = lane.waiters[0] is me
                seconds = lane.obstacle(self._patience) if is_next else UNTIL_A_CHANGE
                if seconds:
                    async with _released(self._slot):
                        await (
                            me.wait() if seconds == UNTIL_A_CHANGE else lane.clock.sleep(seconds)
                        )
                elif self._take_exchange() or await self._is_still_free():
                    self._begin()
                    return
        finally:
            lane.waiters.remove(me)
            lane.wake()

    async def _is_still_free(self) -> bool:
        """Wait for a share of the exchanges, and keep it if the way is free even then."""
        if self._exchanges is None:
            return True
        await self._exchanges.acquire()
        is_free = False
        try:
            is_free = not self._lane.obstacle(self._patience)
        finally:
            if not is_free:
                self._exchanges.release()
        return is_free

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
        lane = self._lane
        if self._exchanges is not None:
            self._exchanges.release()
        if self._has_failed is False:
            lane.health.circuit.good()
            if not self._was_refused:
                lane.concurrency.good(lane.in_flight)
        elif self._has_failed is None and self._is_probe:
            lane.health.circuit.abandon_probe()
        lane.leave()

    def record(self, status: int, advice: Advice = NOTHING) -> float:
        """The host answered: everybody on this lane learns from it at once.

        Returns the seconds for which the host newly asks to be left alone, 0 for none.
        """
        pause = self._lane.heard(status, advice, self._sent)
        self._was_refused = status == TOO_MANY_REQUESTS
        if status >= 500:
            self._fail()
        else:
            self._has_failed = False
        return pause

    def record_failure(self) -> None:
        """No answer came, or its body broke off or came too slowly."""
        self._lane.concurrency.bad(self._sent, self._lane.clock.monotonic())
        self._fail()

    def _fail(self) -> None:
        if not self._has_failed:
            circuit = self._lane.health.circuit
            circuit.bad(self._lane.clock.monotonic(), is_probe=self._is_probe)
        self._has_failed = True


class _Nothing:
    """What is lent where nothing is held."""

    async def __aenter__(self) -> None:
        return None

    async def __aexit__(self, *_: object) -> None:
        return None


_NOTHING = _Nothing()


def _released(slot: Slot | None) -> AbstractAsyncContextManager[Any]:
    return _NOTHING if slot is None else slot.released()
