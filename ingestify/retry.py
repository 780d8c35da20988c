"""Tries again what may pass: a few times, for a while, and at random moments."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, TypeVar

from ingestify.errors import ThrottledError, TransientFetchError
from ingestify.model.http import HttpSettings
from ingestify.ports import Clock
from ingestify.throttle import HostDownError

if TYPE_CHECKING:
    from tenacity import RetryCallState

T = TypeVar("T")

FIRST_WAIT = 0.5  # seconds; the wait before the n-th retry is anything up to this * 2^(n-1), …
LONGEST_WAIT = 60.0  # …and up to this


async def with_retries(
    attempt: Callable[[], Awaitable[T]],
    *,
    settings: HttpSettings,
    clock: Clock,
    rng: random.Random,
    may_retry: Callable[[], bool] = lambda: True,
    waiting: Callable[[], AbstractAsyncContextManager[Any]] | None = None,
) -> T:
    """What *attempt* returns, tried again as long as it raises a `TransientFetchError`.

    There are at most `settings.attempts` attempts, and `settings.retry_budget` of time counts
    from the first failure; *may_retry* is asked before each further one. The last error is
    raised. `ThrottledError.retry_after` is waited for, unless it is longer than
    `settings.max_retry_after`: then the error is raised at once. Waiting is done inside of
    *waiting*.
    """
    try:
        return await attempt()
    except TransientFetchError as exc:
        if not _may_pass(exc, settings) or settings.attempts < 2:
            raise
        first = exc
    return await _try_again(attempt, first, settings, clock, rng, may_retry, waiting)


async def _try_again(
    attempt: Callable[[], Awaitable[T]],
    first: TransientFetchError,
    settings: HttpSettings,
    clock: Clock,
    rng: random.Random,
    may_retry: Callable[[], bool],
    waiting: Callable[[], AbstractAsyncContextManager[Any]] | None,
) -> T:
    # Imported and entered only here: it costs more than a small request, which mostly succeeds.
    from tenacity import AsyncRetrying, retry_if_exception

    deadline = clock.monotonic() + settings.retry_budget.total_seconds()
    failed: list[TransientFetchError] = [first]

    async def replay() -> T:
        if failed:  # the first attempt was made outside
            raise failed.pop()
        return await attempt()

    async def sleep(seconds: float) -> None:
        if waiting is None:
            await clock.sleep(seconds)
            return
        async with waiting():
            await clock.sleep(seconds)

    def wait(state: RetryCallState) -> float:
        asked = _retry_after(state.outcome.exception() if state.outcome else None)
        return asked + full_jitter(state.attempt_number, rng)

    def is_over(state: RetryCallState) -> bool:
        return (
            state.attempt_number >= settings.attempts
            or clock.monotonic() + state.upcoming_sleep > deadline
            or not may_retry()
        )

    retrying = AsyncRetrying(
        sleep=sleep,
        wait=wait,
        stop=is_over,
        retry=retry_if_exception(lambda exc: _may_pass(exc, settings)),
        reraise=True,
    )
    return await retrying(replay)


def full_jitter(attempt: int, rng: random.Random) -> float:
    """Seconds to wait after the failure of *attempt* (from 1): anything up to a growing bound."""
    return rng.uniform(0.0, min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(attempt - 1, 20)))


def _may_pass(exc: BaseException, settings: HttpSettings) -> bool:
    if not isinstance(exc, TransientFetchError) or isinstance(exc, HostDownError):
        return False
    return _retry_after(exc) <= settings.max_retry_after.total_seconds()


def _retry_after(exc: BaseException | None) -> float:
    if isinstance(exc, ThrottledError) and exc.retry_after is not None:
        return max(0.0, exc.retry_after.total_seconds())
    return 0.0
