"""How fast one host may be asked: an exact rate, a rate that is found out, a concurrency.

Nothing here waits or reads a clock: every method is told the time, in monotonic seconds.
"""

from __future__ import annotations

import math
from collections import deque

OBSERVED = 10.0  # seconds over which the rate of good answers is measured
BACK_OFF = 0.9  # of the rate that was seen to work, or not to work
STRONG_BACK_OFF = 0.7
TOO_SOON = 5.0  # seconds after a cut in which another refusal means that we are far off
SLOWEST = 0.02  # requests per second; slower than one in 50 s nobody means
USED = 0.3  # of the rate must be made use of before it grows
ROUGHEST = 0.5  # requests per second; a first estimate is not lower
GROWTH = 0.2  # of the rate, per answer, while its estimate is rough
CREEP = 0.01  # of the rate, per second without a refusal
GENTLEST = 0.0005
PATIENCE = 120.0  # seconds without a refusal after which the rate creeps twice as fast
SAME_RESET = 2.0  # seconds by which two answers may differ about the same reset


class Gcra:
    """The generic cell rate algorithm: never more than *rate* a second after a *burst*. Exact."""

    __slots__ = ("_due", "burst", "rate")

    def __init__(self, rate: float | None, burst: int = 1) -> None:
        self.rate = rate  # None: as fast as they come
        self.burst = burst
        self._due = float("-inf")  # when a steady stream's next request would be sent

    def wait(self, now: float) -> float:
        """Seconds until the next request may be sent; 0 and less: now."""
        if self.rate is None:
            return 0.0
        return self._due - (self.burst - 1) / self.rate - now

    def take(self, now: float) -> None:
        """A request is sent."""
        if self.rate is not None:
            self._due = max(self._due, now) + 1 / self.rate


class LearntRate:
    """Finds a host's rate out of its refusals.

    The first estimate is what was answered before the first refusal; from there it grows fast
    until the second one, and after each later one it creeps up more carefully.
    """

    __slots__ = ("_answers", "_ceiling", "_creep", "_is_rough", "_since", "_touched", "rate")

    def __init__(self, ceiling: float | None) -> None:
        self.rate: float | None = None  # None: nothing but the ceiling limits
        self._ceiling = ceiling  # what was configured
        self._answers: deque[float] = deque(maxlen=10_000)  # when good answers came, recently
        self._creep = 2 * CREEP
        self._is_rough = False
        self._since = float("-inf")  # from when on requests are sent at this rate
        self._touched = 0.0

    def answered(self, now: float) -> None:
        """A request was answered, and not refused."""
        answers = self._answers
        answers.append(now)
        while answers[0] < now - OBSERVED:
            answers.popleft()
        if self.rate is None:
            return
        if self._observed(now) >= USED * self.rate:  # else nothing is known about more
            self.rate *= 1 + self._step(now)
        self._touched = max(now, self._touched)
        if self._ceiling is not None and self.rate >= self._ceiling:
            self.rate = None

    def _step(self, now: float) -> float:
        if self._is_rough:
            return GROWTH
        eager = math.pow(2, min(10.0, max(0.0, now - self._since) // PATIENCE))
        return min(GROWTH, self._creep * eager * max(0.0, now - self._touched))

    def refused(self, sent: float, now: float, *, pause: float, policy: float | None) -> None:
        """A request sent at *sent* was refused for its rate; the next may come after *pause*.

        What was sent before the rate was last cut says nothing about the rate since.
        """
        if sent < self._since:
            return
        known = self.rate or self._ceiling
        if known is None and policy is None and not self._answers:
            return  # nothing is known: somebody else may have used up what there was
        if known is None:
            self._is_rough = policy is None
            self.rate = BACK_OFF * (policy or max(ROUGHEST, self._observed(now, pause)))
        else:
            is_far_off = now - self._since < TOO_SOON
            self._is_rough = False
            self._creep = max(GENTLEST, self._creep / 2)
            self.rate = min(policy or known, known) * (STRONG_BACK_OFF if is_far_off else BACK_OFF)
        self.rate = max(SLOWEST, self.rate)
        self._since = self._touched = now + pause

    def _observed(self, now: float, pause: float = 0.0) -> float:
        """Good answers a second, where a pause is part of the time they are paid with."""
        if not self._answers:
            return 0.0
        return len(self._answers) / max(1.0, now - self._answers[0] + pause)


class QuotaWindow:
    """What the answers say is left until a reset. Requests in flight may not be counted yet."""

    __slots__ = ("_ends", "_left")

    def __init__(self) -> None:
        self._left = 0
        self._ends = float("-inf")

    def told(self, remaining: int, reset: float, now: float) -> None:
        """An answer said so. Answers overtake each other, so within a window the least counts."""
        ends = now + reset
        is_same = now < self._ends and abs(ends - self._ends) <= SAME_RESET
        self._left = min(self._left, remaining) if is_same else remaining
        self._ends = ends

    def wait(self, now: float, in_flight: int) -> float:
        """Seconds until the next request may be sent; 0 and less: now."""
        return 0.0 if self._left > in_flight else self._ends - now


class Concurrency:
    """How many requests may be in flight: doubles until the first trouble, then grows by one a
    round and shrinks by a third."""

    __slots__ = ("_allowed", "_cut_at", "_growing", "most")

    def __init__(self, most: int, first: int = 8) -> None:
        self.most = most
        self._allowed = float(min(most, first))
        self._growing = True
        self._cut_at = float("-inf")

    @property
    def allowed(self) -> int:
        """At least 1."""
        return int(self._allowed)

    def good(self, in_flight: int) -> None:
        """A request went well. Room that nobody uses does not grow."""
        if 2 * in_flight >= self.allowed and self._allowed < self.most:
            step = 1.0 if self._growing else 1.0 / self._allowed
            self._allowed = min(float(self.most), self._allowed + step)

    def bad(self, sent: float, now: float) -> None:
        """A request sent at *sent* met trouble. Those sent before the last cut are one trouble."""
        if sent >= self._cut_at:
            self._growing = False
            self._allowed = max(1.0, self._allowed * 2 / 3)
            self._cut_at = now
