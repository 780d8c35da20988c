"""The queue before one host: what is in the way of the next request, and what answers teach."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice

from ingestify.errors import ThrottledError, TransientFetchError
from ingestify.http.advice import Advice
from ingestify.http.circuit import Circuit, RetryBudget
from ingestify.http.concurrency import Concurrency
from ingestify.http.daily_quota import DailyQuota
from ingestify.http.loop_lag import LoopLag
from ingestify.http.pacing import PACE, Gcra, LearntRate, QuotaWindow
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
    seconds: float | None = None  # that an exchange takes lately; None: nothing is known


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
    """A place in the queue before a host. A bare future costs a third of an event."""

    __slots__ = ("_is_woken", "_sleep")

    def __init__(self) -> None:
        self._is_woken = False
        self._sleep: asyncio.Future[None] | None = None

    def wake(self) -> None:
        if not self._is_woken:
            self._is_woken = True
            if self._sleep is not None and not self._sleep.done():
                self._sleep.set_result(None)

    async def wait(self) -> None:
        """Until the next `wake`, or at once after one that nobody has waited for."""
        if not self._is_woken:
            self._sleep = asyncio.get_running_loop().create_future()
            await self._sleep
        self._is_woken = False


class HostQueue:
    """Who waits for one host with one credential, and what is known about it.

    Who waits for others to end keeps its worker: it will be its turn in a moment. Once there is
    something to wait for that takes its time, all who wait lend their workers, and so does who
    comes after them, until nobody waits any more: nobody ever waits for a worker that somebody
    behind it holds.
    """

    def __init__(
        self,
        host: str,
        limits: Limits,
        health: Health,
        clock: Clock,
        quota: DailyQuota | None = None,
        lag: LoopLag | None = None,
    ) -> None:
        self.host = host
        self.limits = limits
        self.health = health
        self.clock = clock
        self.lag = lag or LoopLag()
        self.waiters: deque[Waiter] = deque()
        self.is_lending = False
        health.queues.append(self)
        self.in_flight = 0
        self.requests = 0
        self.refused = 0
        self.cooling_until = -math.inf
        self.refusals_in_a_row = 0
        self.concurrency = Concurrency(limits.concurrency)
        self.learnt = LearntRate(limits.requests_per_second)
        rate = self.learnt.rate
        self.rate = Gcra(None if rate is None else PACE * rate, limits.burst)
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
            rate=self.learnt.rate,
            cooling=self.cooling(),
            is_down=self.health.circuit.closed_in(self.clock.monotonic()) is not None,
            requests=self.requests,
            refused=self.refused,
            seconds=self.concurrency.seconds,
        )

    def obstacle(self, patience: float, outage: float = 0.0) -> float:
        """Seconds to wait before the next request, 0 for none, or one of the `UNTIL_…`.

        Raises what the request meets where waiting is of no use.
        """
        now = self.clock.monotonic()
        circuit = self.health.circuit
        if circuit.is_open and (down := self._while_down(now, outage)) is not None:
            return down
        if self.quota is not None:
            self.quota.refuse_if_used_up()
        cooling = self.cooling_until - now
        window = self.window.wait(now, self.in_flight)
        if cooling > patience or (window > patience and not self.in_flight):
            wait = timedelta(seconds=max(cooling, window))
            raise ThrottledError(
                f"{self.host} asks to wait for {wait.total_seconds():.0f} s", retry_after=wait
            )
        if self.in_flight >= self.concurrency.allowed:
            return UNTIL_A_CHANGE
        if window > LOOK_AGAIN and self.in_flight:  # the answers to come may say that more is left
            window = LOOK_AGAIN
        wait_for = max(cooling, window, self.rate.wait(now), circuit.spacing(now))
        if wait_for > NO_TIME:
            return wait_for
        return UNTIL_REFILLED if self.quota is not None and self.quota.is_short else 0.0

    def _while_down(self, now: float, outage: float) -> float | None:
        """Seconds to wait because the host is down, or None where a probe may be sent."""
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

    def take(self, now: float) -> bool:
        """A request is sent now. Returns whether it probes a host that was down."""
        self.rate.take(now)
        self.learnt.sent(now)
        self.health.budget.count_request()
        if self.quota is not None:
            self.quota.take()
        is_probe = self.health.circuit.begin(now)
        self.in_flight += 1
        self.requests += 1
        return is_probe

    def leave(self) -> None:
        """A request has ended, well or not: let as many look as there is room for.

        They all look in the loop's next turn, in their order. If each woke the one behind it, a
        burst of answers would take as many turns to be followed by requests.
        """
        self.in_flight -= 1
        if self.waiters:
            room = 1
            if self.rate.rate is None:
                room = max(1, self.concurrency.allowed - self.in_flight)
            for waiter in islice(self.waiters, room):
                waiter.wake()

    def wake(self) -> None:
        """Let the first one look, since the one before it has gone, or given up."""
        if self.waiters:
            self.waiters[0].wake()
        else:
            self.is_lending = False

    def lend(self) -> None:
        """There is something to wait for that takes its time."""
        if not self.is_lending:
            self.is_lending = True
            for waiter in self.waiters:
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
            self.learnt.answered(now, sent)
        if status == UNAVAILABLE or (status == TOO_MANY_REQUESTS and self.learnt.rate is None):
            self.concurrency.bad(sent, now)  # else the rate sees to it
        if advice.pace is not None:
            self.learnt.told(advice.pace)
        rate = self.learnt.rate
        self.rate.become(None if rate is None else PACE * rate, now, sent=self.requests)
        self.rate.catch_up = self.learnt.catch_up
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
