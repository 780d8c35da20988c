"""Knows when a host is down, and keeps retries from making it worse.

Nothing here waits or reads a clock: every method is told the time, in monotonic seconds.
"""

from __future__ import annotations

import math

FAILURES = 10  # in a row, …
STREAK = 5.0  # …over at least so many seconds: a blip fails many requests in the same moment
SPACING = 0.25  # between requests after FAILURES in a row: many more would fail before STREAK ends
FIRST_PAUSE = 5.0
LONGEST_PAUSE = 60.0
RETRY_SHARE = 0.2
RETRY_FLOOR = 100


class Circuit:
    """Opens after failures in a row; after a pause lets one probe through, and closes by it."""

    __slots__ = (
        "_failures",
        "_last_good",
        "_next_try",
        "_opened_until",
        "_pause",
        "_probing",
        "_streak_began",
    )

    def __init__(self) -> None:
        self._failures = 0
        self._last_good = -math.inf
        self._next_try = -math.inf
        self._streak_began = 0.0
        self._opened_until: float | None = None  # None: closed
        self._pause = FIRST_PAUSE
        self._probing = False

    @property
    def failures(self) -> int:
        """How many requests failed in a row."""
        return self._failures

    @property
    def is_open(self) -> bool:
        """Whether the host counts as down."""
        return self._opened_until is not None

    def closed_in(self, now: float) -> float | None:
        """None: requests may be sent. Otherwise, the seconds until one may try, at least 0."""
        if self._opened_until is None:
            return None
        if self._probing:
            return max(0.0, self._opened_until - now)
        return None if now >= self._opened_until else self._opened_until - now

    @property
    def is_probing(self) -> bool:
        """Whether a probe is on its way, whose outcome decides."""
        return self._probing

    def is_given_up(self, now: float, patience: float) -> bool:
        """Whether a host that is down is not waited for: it has been so for too long, or it never
        answered at all, so that it may not even be there."""
        return self._last_good == -math.inf or now - self._streak_began >= patience

    def spacing(self, now: float) -> float:
        """Seconds until the next request, 0 for none, while nothing but failures is seen."""
        return max(0.0, self._next_try - now) if self._failures >= FAILURES else 0.0

    def begin(self, now: float) -> bool:
        """A request is sent. Returns whether it is the probe of an open circuit."""
        self._next_try = now + SPACING
        if self._opened_until is None:
            return False
        self._probing = True
        return True

    def abandon_probe(self) -> None:
        """The probe came to no end, good or bad: another may try."""
        self._probing = False

    def good(self, now: float) -> None:
        """The host answered."""
        self._failures = 0
        self._last_good = now
        if self._opened_until is not None:
            self._opened_until, self._probing, self._pause = None, False, FIRST_PAUSE

    def bad(self, now: float, *, sent: float | None = None, is_probe: bool = False) -> None:
        """The host did not answer what was *sent* then, or answered that it cannot (5xx).

        The streak is as old as that request, unless another one was answered since.
        """
        if self._failures == 0:
            self._streak_began = now if sent is None else max(sent, self._last_good)
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
