"""What an answer's headers say about how fast to ask: Retry-After and the RateLimit families.

Pure functions over header values by lower-case name. What makes no sense counts as not said.
Dates are compared with the answer's own Date, so that a wrong clock on either side is harmless.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

SHORT = 10.0  # seconds; what is left of a longer window can be used up, and waited for
LONGEST = 366 * 86400.0  # seconds; what is longer is nonsense or as good as for ever
EPOCH = 1e9  # no delta in seconds is that large; every moment since 2001 is
EPOCH_MILLISECONDS = 1e11

NUMBER = re.compile(r"\s*(\d{1,15}(?:\.\d{0,9})?)\s*\Z", re.ASCII)
SECONDS = re.compile(r"\s*(\d+(?:\.\d*)?)\s*\Z", re.ASCII)  # of any size: it is bounded here
PARAMETER = re.compile(r"\b(q|w|r|t|limit|remaining|reset)\s*=\s*\"?(\d{1,15})", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """How an answer wants to be followed. Seconds; None: nothing was said."""

    retry_after: float | None = None
    remaining: int | None = None  # requests left until the reset
    reset: float | None = None
    rate: float | None = None  # requests per second, where a policy was told with its window
    pace: float | None = None  # the same, of windows so short that what is left says too little


NOTHING = Advice()
SINGLE = frozenset({"retry-after", "x-rate-limit-remaining"})


def read_advice(headers: Mapping[str, str], now: datetime) -> Advice:
    """What *headers* advise at *now*."""
    if not any("ratelimit" in name or name in SINGLE for name in headers):
        return NOTHING
    told = _date(headers.get("date", "")) or now
    remaining, reset = _structured(headers.get("ratelimit", ""))
    for prefix in ("ratelimit", "x-ratelimit", "x-rate-limit"):
        if remaining is None:
            remaining = _integer(headers.get(f"{prefix}-remaining", ""))
            reset = _until(headers.get(f"{prefix}-reset", ""), told)
    return Advice(
        retry_after=parse_retry_after(headers.get("retry-after"), told),
        remaining=remaining,
        reset=reset,
        rate=_rate(headers),
        pace=_rate(headers, SHORT) or _per_second(headers, remaining, reset),
    )


def parse_retry_after(value: str | None, now: datetime) -> float | None:
    """The seconds that a Retry-After of *value*, given at *now*, asks to wait; at least 0.

    None where there is no such header, or one that makes no sense.
    """
    if value is None:
        return None
    if found := SECONDS.match(value):
        return min(float(found[1]), LONGEST)
    moment = _date(value)
    if moment is None:
        return None
    return min(max(0.0, (moment - now).total_seconds()), LONGEST)


def as_timedelta(seconds: float | None) -> timedelta | None:
    """*seconds* as errors carry them."""
    return None if seconds is None else timedelta(seconds=seconds)


def _date(value: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return moment.replace(tzinfo=UTC) if moment.utcoffset() is None else moment


def _integer(value: str) -> int | None:
    """The first number: some send one for each of their limits."""
    found = NUMBER.match(value.split(",")[0].split(";")[0])
    return int(float(found[1])) if found else None


def _until(value: str, now: datetime) -> float | None:
    """A reset in seconds, or as a moment since 1970 in seconds or milliseconds, or as a date."""
    found = NUMBER.match(value.split(",")[0].split(";")[0])
    if not found:
        return parse_retry_after(value or None, now)
    number = float(found[1])
    if number < EPOCH:
        return min(number, LONGEST)
    moment = number / 1000 if number >= EPOCH_MILLISECONDS else number
    return min(max(0.0, moment - now.timestamp()), LONGEST)


def _structured(value: str) -> tuple[int | None, float | None]:
    """Remaining and reset out of ``limit=100, remaining=50, reset=5`` or ``"name";r=50;t=5``.

    Of several policies the one with the least left counts.
    """
    if "remaining" in value:
        told = {name: int(number) for name, number in PARAMETER.findall(value)}
        return told.get("remaining"), _seconds(told.get("reset"))
    left: tuple[int | None, float | None] = (None, None)
    for item in value.split(","):
        told = {name: int(number) for name, number in PARAMETER.findall(item)}
        if "r" in told and (left[0] is None or told["r"] < left[0]):
            left = told["r"], _seconds(told.get("t"))
    return left


def _rate(headers: Mapping[str, str], longest: float = math.inf) -> float | None:
    """The slowest of the policies ``100;w=60`` or ``"name";q=100;w=60``, wherever they stand, whose
    window is not longer than that."""
    rates = []
    for name in ("ratelimit-policy", "ratelimit-limit", "x-ratelimit-policy", "x-ratelimit-limit"):
        for item in headers.get(name, "").split(","):
            told = {key: int(number) for key, number in PARAMETER.findall(item)}
            quota, window = told.get("q", _integer(item)), told.get("w", 0)
            if quota and 0 < window <= longest:
                rates.append(quota / window)
    return min(rates, default=None)


def _per_second(
    headers: Mapping[str, str], remaining: int | None, reset: float | None
) -> float | None:
    """A limit whose window is never told: with a reset within the second it is one of a second."""
    if remaining is None or reset is None or not 0 < reset <= 1:
        return None
    for prefix in ("ratelimit", "x-ratelimit", "x-rate-limit"):
        if limit := _integer(headers.get(f"{prefix}-limit", "")):
            return float(limit)
    return None


def _seconds(number: int | None) -> float | None:
    return None if number is None else min(float(number), LONGEST)
