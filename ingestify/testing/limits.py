"""The request limit of a simulated provider, and how it tells its clients."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate
from enum import Enum
from math import ceil, floor
from typing import Literal


class RetryAfter(Enum):
    """The form in which a refusal says when to come back."""

    SECONDS = "seconds"
    HTTP_DATE = "http date"
    NONE = "none"

    def header(self, wait: float) -> str | None:
        """The value of Retry-After for *wait* seconds, rounded up, or None for no header."""
        match self:
            case RetryAfter.SECONDS:
                return str(ceil(wait))
            case RetryAfter.HTTP_DATE:
                return formatdate(ceil(time.time() + wait), usegmt=True)
            case RetryAfter.NONE:
                return None


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimit:
    """So many requests a second, and so many at once after a pause; the others are answered 429."""

    requests_per_second: float
    burst: int = 1
    retry_after: RetryAfter | str = RetryAfter.SECONDS  # a str is sent as it stands
    quota_headers: Literal["RateLimit", "X-RateLimit"] | None = None
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        if self.requests_per_second <= 0:
            raise ValueError(f"requests_per_second must be above 0: {self.requests_per_second}")
        if self.burst < 1:
            raise ValueError(f"burst must be at least 1: {self.burst}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the limit says about one request."""

    is_admitted: bool
    wait: float  # seconds until the next request would be admitted; 0 if this one was
    headers: dict[str, str]


class LimitGate:
    """Judges requests as they come (generic cell rate algorithm). A refused one costs nothing."""

    def __init__(self, limit: RateLimit) -> None:
        self.limit = limit
        self._interval = 1 / limit.requests_per_second
        self._tolerance = self._interval * (limit.burst - 1)
        self._due = limit.clock()  # when a steady stream's next request would arrive

    def judge(self) -> Verdict:
        now = self.limit.clock()
        wait = self._due - self._tolerance - now
        if is_admitted := wait <= 1e-9:  # float sums are off by less than that
            self._due = max(now, self._due) + self._interval
            wait = 0.0
        headers = self._quota(self._due - now)
        if not is_admitted and (value := self._retry_after(wait)) is not None:
            headers["Retry-After"] = value
        return Verdict(is_admitted=is_admitted, wait=wait, headers=headers)

    def _retry_after(self, wait: float) -> str | None:
        form = self.limit.retry_after
        return form if isinstance(form, str) else form.header(wait)

    def _quota(self, backlog: float) -> dict[str, str]:
        """Limit, remaining requests, and seconds until all of them are available again."""
        if self.limit.quota_headers is None:
            return {}
        room = (self._tolerance + self._interval - backlog) / self._interval
        return {
            f"{self.limit.quota_headers}-Limit": str(self.limit.burst),
            f"{self.limit.quota_headers}-Remaining": str(max(0, floor(room + 1e-6))),
            f"{self.limit.quota_headers}-Reset": str(max(0, ceil(backlog - 1e-9))),
        }
