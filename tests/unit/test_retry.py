"""Trying again: how often, how long, and when not."""

import random
import subprocess
import sys
from contextlib import asynccontextmanager
from datetime import timedelta

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestify.errors import AbsentError, ThrottledError, TransientFetchError
from ingestify.model.http import HttpSettings
from ingestify.retry import FIRST_WAIT, LONGEST_WAIT, full_jitter, with_retries
from ingestify.testing.clock import VirtualClock
from ingestify.throttle import HostDownError


class Attempts:
    """Raises what it was given, one after the other, and then returns "done"."""

    def __init__(self, *outcomes, clock=None, takes=0.0):
        self.made = 0
        self._outcomes = list(outcomes)
        self._clock, self._takes = clock, takes

    async def __call__(self):
        self.made += 1
        if self._takes:
            await self._clock.sleep(self._takes)
        if self._outcomes:
            raise self._outcomes.pop(0)
        return "done"


def retrying(attempts, clock, **options):
    settings = options.pop("settings", HttpSettings())
    return with_retries(attempts, settings=settings, clock=clock, rng=random.Random(7), **options)


async def test_what_passes_is_tried_again():
    """
    Two lost connections and then an answer: that is an answer.
    """
    clock = VirtualClock()
    attempts = Attempts(TransientFetchError("lost"), TransientFetchError("lost"))
    assert await retrying(attempts, clock) == "done"
    assert attempts.made == 3
    assert len(clock.slept) == 2


async def test_the_last_error_is_raised_as_it_is():
    """
    After all attempts the last failure itself is raised, with its status.
    """
    clock = VirtualClock()
    errors = [TransientFetchError(f"{n}", status=500 + n) for n in range(9)]
    attempts = Attempts(*errors)
    with pytest.raises(TransientFetchError) as caught:
        await retrying(attempts, clock, settings=HttpSettings(attempts=5))
    assert caught.value is errors[4]
    assert attempts.made == 5


@pytest.mark.parametrize(
    "error",
    [AbsentError("gone"), HostDownError("down"), ValueError("a bug"), KeyboardInterrupt()],
)
async def test_what_does_not_pass_is_not_tried_again(error):
    """
    Answers that mean no, hosts that are down and bugs are raised at once.
    """
    clock = VirtualClock()
    for before in ([], [TransientFetchError("lost")]):
        attempts = Attempts(*before, error)
        with pytest.raises(type(error)):
            await retrying(attempts, clock)
        assert attempts.made == len(before) + 1


async def test_the_time_for_retries_is_bounded():
    """
    When the next attempt would begin after the budget of time, there is none.
    """
    clock = VirtualClock()
    attempts = Attempts(*[TransientFetchError("slow")] * 50, clock=clock, takes=40.0)
    settings = HttpSettings(attempts=50, retry_budget=timedelta(seconds=100))
    with pytest.raises(TransientFetchError):
        await retrying(attempts, clock, settings=settings)
    assert attempts.made <= 4
    assert clock.monotonic() <= 40 + 100 + 40


async def test_a_time_to_wait_is_honoured():
    """
    An attempt is not made before the provider said that it may be.
    """
    clock = VirtualClock()
    wait = timedelta(seconds=90)
    attempts = Attempts(ThrottledError("slow down", retry_after=wait))
    assert await retrying(attempts, clock) == "done"
    assert 90 <= clock.monotonic() <= 90 + FIRST_WAIT


async def test_being_asked_to_wait_too_long_fails_now():
    """
    A wait beyond the cap is not begun, also when it is a later attempt that is asked.
    """
    clock = VirtualClock()
    long = ThrottledError("tomorrow", retry_after=timedelta(hours=20))
    for before in ([], [TransientFetchError("lost")]):
        attempts = Attempts(*before, long)
        with pytest.raises(ThrottledError) as caught:
            await retrying(attempts, clock)
        assert caught.value.retry_after == timedelta(hours=20)
    assert clock.monotonic() < 60


async def test_the_budget_of_the_host_is_asked_before_each_retry():
    """
    Without room in it there is no second attempt.
    """
    clock = VirtualClock()
    room = iter([True, False])
    attempts = Attempts(*[TransientFetchError("lost")] * 9)
    with pytest.raises(TransientFetchError):
        await retrying(attempts, clock, may_retry=lambda: next(room))
    assert attempts.made == 2


async def test_waiting_is_done_where_it_holds_nothing():
    """
    Every wait happens inside of the given context, every attempt outside of it.
    """
    clock = VirtualClock()
    inside = False
    seen = []

    @asynccontextmanager
    async def waiting():
        nonlocal inside
        inside = True
        try:
            yield
        finally:
            inside = False

    async def attempt():
        seen.append(inside)
        if len(seen) < 3:
            raise TransientFetchError("lost")

    await retrying(attempt, clock, waiting=waiting)
    assert seen == [False] * 3


async def test_cancelling_a_wait_ends_it():
    """
    A cancelled retry is cancelled, not tried again.
    """
    clock = VirtualClock(auto=False)
    attempts = Attempts(TransientFetchError("lost"))
    async with anyio.create_task_group() as tg:
        tg.start_soon(retrying, attempts, clock)
        await anyio.wait_all_tasks_blocked()
        tg.cancel_scope.cancel()
    assert attempts.made == 1


@given(st.integers(min_value=1, max_value=10_000), st.integers())
def test_jitter_is_full_and_bounded(attempt, seed):
    """
    A wait lies anywhere between nothing and a bound that doubles up to its own.
    """
    wait = full_jitter(attempt, random.Random(seed))
    assert 0 <= wait <= min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(attempt - 1, 30))


def test_tenacity_is_loaded_only_when_something_failed():
    """
    A run in which nothing fails does not pay for it.
    """
    script = (
        "import sys, ingestify.client; print('tenacity' in sys.modules, 'aiohttp' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "False"]
