"""The queue before one host: what is in the way of the next request, and what answers teach."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice

import anyio

from ingestify.errors import ThrottledError, TransientFetchError
from ingestify.http.advice import Advice
from ingestify.http.circuit import Circuit, RetryBudget
from ingestify.http.daily_quota import DailyQuota
from ingestify.http.pacing import Concurrency, Gcra, LearntRate, QuotaWindow
from ingestify.model.http import Limits
from ingestify.ports import Clock

TOO_MANY_REQUESTS = 429
UNAVAILABLE = 503
FIRST_PAUSE = 1.0  # seconds after a 429 that says nothing, doubled for each one in a row
LONGEST_PAUSE = 60.0
LOOK_AGAIN = 1.0  # seconds
NO_TIME = 1e-9  # seconds; float sums are off by less than that
UNTIL_A_CHANGE = math.inf
UNTIL_REFILLED = -math.inf  # what is left of the daily quota has to be looked up


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


class Health:
    """What all credentials of one host share."""

    __slots__ = ("budget", "circuit", "queues")

    def __init__(self) -> None:
        self.circuit = Circuit()
        self.budget = RetryBudget()
        self.queues: list[HostQueue] = []  # of all credentials

    def tell(self) -> None:
        """A probe has shown how the host is: let everybody look again."""
        for queue in self.queues:
            if queue.waiters:
                queue.wake()


class Waiter:
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


class HostQueue:
    """Who waits for one host with one credential, and what is known about it."""

    def __init__(
        self,
        host: str,
        limits: Limits,
        health: Health,
        clock: Clock,
        quota: DailyQuota | None = None,
    ) -> None:
        self.host = host
        self.limits = limits
        self.health = health
        self.clock = clock
        self.waiters: deque[Waiter] = deque()
        health.queues.append(self)
        self.in_flight = 0
        self.requests = 0
        self.refused = 0
        self.cooling_until = -math.inf
        self.refusals_in_a_row = 0
        self.concurrency = Concurrency(limits.concurrency)
        self.rate = Gcra(limits.requests_per_second, limits.burst)
        self.learnt = LearntRate(limits.requests_per_second)
        self.window = QuotaWindow()
        self.quota = quota

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

    def obstacle(self, patience: float, outage: float = 0.0) -> float:
        """Seconds to wait before the next request, 0 for none, or one of the `UNTIL_…`.

        Raises what the request meets where waiting is of no use.
        """
        now = self.clock.monotonic()
        if (down := self._while_down(now, outage)) is not None:
            return down
        if self.quota is not None:
            self.quota.refuse_if_used_up()
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
        wait_for = max(cooling, window, self.rate.wait(now), self.health.circuit.spacing(now))
        if wait_for > NO_TIME:
            return wait_for
        return UNTIL_REFILLED if self.quota is not None and self.quota.is_short else 0.0

    def _while_down(self, now: float, outage: float) -> float | None:
        """Seconds to wait because the host is down, or None where it is not."""
        circuit = self.health.circuit
        closed_in = circuit.closed_in(now)
        if closed_in is None:
            return None
        if not circuit.is_given_up(now, outage):
            return UNTIL_A_CHANGE if circuit.is_probing else max(closed_in, NO_TIME)
        raise HostDownError(
            f"{self.host} is left alone for {closed_in:.0f} s more,"
            f" since {circuit.failures} requests in a row failed"
        )

    def take(self) -> bool:
        """A request is sent now. Returns whether it probes a host that was down."""
        self.in_flight += 1
        self.requests += 1
        now = self.clock.monotonic()
        self.rate.take(now)
        self.health.budget.count_request()
        if self.quota is not None:
            self.quota.take()
        return self.health.circuit.begin(now)

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
        pause = 0.0
        if status == TOO_MANY_REQUESTS:
            pause = self._refused(advice, sent, now)
        elif status == UNAVAILABLE:
            pause = advice.retry_after or 0.0
        else:
            self.refusals_in_a_row = 0
            self.learnt.answered(now)
        if status in (TOO_MANY_REQUESTS, UNAVAILABLE):
            self.concurrency.bad(sent, now)
        self.rate.rate = rate = self.learnt.rate or self.limits.requests_per_second
        # A reset within the second says nothing about faster hosts, nor one that lies within the
        # time in which the known rate makes up for a burst.
        shortest = 1 + (self.limits.burst / rate if rate else 0)
        if advice.remaining is not None and (advice.reset or 0) > shortest:
            self.window.told(advice.remaining, advice.reset or 0, now)
        if pause <= 0 or now + pause <= self.cooling_until:
            return 0.0
        self.cooling_until = now + pause
        return pause

    def _refused(self, advice: Advice, sent: float, now: float) -> float:
        """Learn from a 429. Returns for how long to leave the host alone."""
        self.refused += 1
        pause = advice.retry_after
        if pause is None:
            if sent < self.cooling_until:  # one of many sent in the same moment
                pause = 0.0
            else:
                pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(self.refusals_in_a_row, 10))
                self.refusals_in_a_row += 1
        self.learnt.refused(sent, now, pause=pause, policy=advice.rate)
        return pause
