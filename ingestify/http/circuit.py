"""Knows when a host is down, and keeps retries from making it worse.

Nothing here waits or reads a clock: every method is told the time, in monotonic seconds.
"""

from __future__ import annotations

FAILURES = 10  # in a row, …
STREAK = 5.0  # …over at least so many seconds: a blip fails many requests in the same moment
FIRST_PAUSE = 30.0
LONGEST_PAUSE = 300.0
RETRY_SHARE = 0.2
RETRY_FLOOR = 100


class Circuit:
    """Opens after failures in a row; after a pause lets one probe through, and closes by it."""

    __slots__ = ("_failures", "_opened_until", "_pause", "_probing", "_streak_began")

    def __init__(self) -> None:
        self._failures = 0
        self._streak_began = 0.0
        self._opened_until: float | None = None  # None: closed
        self._pause = FIRST_PAUSE
        self._probing = False

    @property
    def failures(self) -> int:
        """How many requests failed in a row."""
        return self._failures

    def closed_in(self, now: float) -> float | None:
        """None: requests may be sent. Otherwise, the seconds until one may try, at least 0."""
        if self._opened_until is None:
            return None
        if self._probing:
            return max(0.0, self._opened_until - now)
        return None if now >= self._opened_until else self._opened_until - now

    def begin(self) -> bool:
        """A request is sent. Returns whether it is the probe of an open circuit."""
        if self._opened_until is None:
            return False
        self._probing = True
        return True

    def abandon_probe(self) -> None:
        """The probe came to no end, good or bad: another may try."""
        self._probing = False

    def good(self) -> None:
        """The host answered."""
        self._failures = 0
        if self._opened_until is not None:
            self._opened_until, self._probing, self._pause = None, False, FIRST_PAUSE

    def bad(self, now: float, *, is_probe: bool = False) -> None:
        """The host did not answer, or that it cannot (5xx)."""
        if self._failures == 0:
            self._streak_began = now
        self._failures += 1
        if self._opened_until is not None:
            if is_probe:  # what was sent before the circuit opened says nothing new
                self._pause = min(LONGEST_PAUSE, self._pause * 2)
                self._opened_until, self._probing = now + self._pause, False
        elif self._failures >= FAILURES and now - self._streak_began >= STREAK:
            self._opened_until = now + self._pause


class RetryBudget:
    """Retries may be a share of all requests, and a few more: not five times as many."""

    __slots__ = ("_requests", "_retries")

    def __init__(self) -> None:
        self._requests = 0
        self._retries = 0

    def count_request(self) -> None:
        self._requests += 1

    def take(self) -> bool:
        """Whether one more retry may be made; then it is counted."""
        if self._retries >= RETRY_FLOOR + RETRY_SHARE * self._requests:
            return False
        self._retries += 1
        return True
