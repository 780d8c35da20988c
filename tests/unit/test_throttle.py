"""The Throttle: who may ask whom, and when."""

from contextlib import asynccontextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from math import ceil

import anyio
import pytest
from anyio.lowlevel import checkpoint

from ingestify.errors import StopProcessing, ThrottledError
from ingestify.http.advice import Advice
from ingestify.http.concurrency import FIRST
from ingestify.http.host_queue import HostQueue
from ingestify.http.pacing import PACE
from ingestify.model.http import Limits
from ingestify.testing.clock import VirtualClock
from ingestify.throttle import HostDownError, Throttle

HOST = ("api.example.com", "")
OTHER = ("other.example.com", "")


class Unstoppable:
    """What every slot can do, where nobody asks to stop."""

    def dropped_on_stop(self):
        return nullcontext()

    def refuse_after_stop(self):
        pass

    def on_stop(self, tell):
        pass

    def forget(self, tell):
        pass


class Worker(Unstoppable):
    """A slot that counts how long it is lent."""

    def __init__(self):
        self.held = True
        self.releases = 0

    @asynccontextmanager
    async def released(self):
        assert self.held
        self.held = False
        self.releases += 1
        try:
            yield
        finally:
            self.held = True


async def ask(throttle, key=HOST, limits=None, *, status=200, advice=None, during=None, **kwargs):
    async with throttle.turn(key, limits or Limits(), **kwargs) as turn:
        if during is not None:
            await during()
        if status is None:
            turn.record_failure()
            return 0.0
        return turn.record(status, advice or Advice())


async def test_a_configured_rate_is_kept_to_the_moment():
    """
    A hundred requests at 10 a second with a burst of 5 are sent in 9.5 seconds, and a hundredth
    of that, which is kept as a reserve.
    """
    clock = VirtualClock()
    throttle = Throttle(clock)
    limits = Limits(requests_per_second=10, burst=5, concurrency=50)
    sent = []

    async def one():
        async with throttle.turn(HOST, limits) as turn:
            sent.append(clock.monotonic())
            turn.record(200)

    async with anyio.create_task_group() as tg:
        for _ in range(100):
            tg.start_soon(one)

    assert sent[:5] == [0] * 5
    assert sent[-1] == pytest.approx(9.5 / PACE)
    assert all(b - a == pytest.approx(0.1 / PACE) for a, b in pairwise(sent[4:]))


async def test_concurrency_is_bounded_and_first_come_is_first_served():
    """
    No more than allowed are in flight, and nobody is overtaken.
    """
    throttle = Throttle(VirtualClock())
    limits = Limits(concurrency=3)
    order, in_flight, most = [], 0, 0

    async def one(number):
        nonlocal in_flight, most
        async with throttle.turn(HOST, limits) as turn:
            order.append(number)
            in_flight += 1
            most = max(most, in_flight)
            for _ in range(number % 7):
                await checkpoint()
            in_flight -= 1
            turn.record(200)

    async with anyio.create_task_group() as tg:
        for number in range(50):
            tg.start_soon(one, number)
            await checkpoint()

    assert order == list(range(50))
    assert most == 3
    assert throttle.snapshot()[0].requests == 50


@pytest.mark.parametrize("blip", [3.0, 60.0])
async def test_a_host_that_dies_is_asked_a_few_times_more(blip):
    """
    When a host fails whatever it is asked, hundreds of waiting requests are not all sent to fail: a
    few dozen are, over the seconds until it counts as down. A blip costs no more than those.
    """
    clock = VirtualClock()
    throttle = Throttle(clock)
    limits = Limits(concurrency=24)
    outcomes = []

    async def one():
        try:
            async with throttle.turn(HOST, limits) as turn:
                await clock.sleep(0.01)
                status = 500 if clock.monotonic() < blip else 200
                turn.record(status)
                outcomes.append(status)
        except HostDownError:
            outcomes.append("down")

    async with anyio.create_task_group() as tg:
        for _ in range(500):
            tg.start_soon(one)

    assert len(outcomes) == 500
    assert 10 <= outcomes.count(500) <= 24 + 25
    if blip < 5:
        assert outcomes.count("down") == 0
        assert outcomes.count(200) >= 450
    else:
        assert outcomes.count(200) == 0
        assert clock.monotonic() < 10


async def test_a_cooling_host_holds_nothing_that_another_could_use():
    """
    While one host cools for a minute, its requests hold no exchange and no worker.
    """
    clock = VirtualClock(auto=False)
    throttle = Throttle(clock)
    exchanges = anyio.Semaphore(2)
    workers = [Worker() for _ in range(5)]
    await ask(throttle, status=429, advice=Advice(retry_after=60.0), exchanges=exchanges)
    done = []

    async def waiting(worker):
        await ask(throttle, exchanges=exchanges, slot=worker)
        assert worker.held
        done.append(clock.monotonic())

    async with anyio.create_task_group() as tg:
        for worker in workers:
            tg.start_soon(waiting, worker)
        await anyio.wait_all_tasks_blocked()

        assert exchanges.value == 2
        assert not any(worker.held for worker in workers)
        assert throttle.cooling_for(HOST) == 60
        assert throttle.cooling_for(OTHER) == 0
        for _ in range(20):
            await ask(throttle, OTHER, exchanges=exchanges)

        tg.start_soon(clock.advance, 59)
        await anyio.wait_all_tasks_blocked()
        assert done == []
        await clock.advance(60)
    assert len(done) == 5
    assert min(done) == 60


async def test_exchanges_are_bounded_over_all_hosts():
    """
    The bound on all exchanges is kept, whoever asks whom.
    """
    throttle = Throttle(VirtualClock())
    exchanges = anyio.CapacityLimiter(4)
    in_flight = most = 0

    async def during():
        nonlocal in_flight, most
        in_flight += 1
        most = max(most, in_flight)
        await checkpoint()
        in_flight -= 1

    async with anyio.create_task_group() as tg:
        for number in range(60):
            tg.start_soon(
                lambda key: ask(throttle, key, exchanges=exchanges, during=during),
                (f"host{number % 3}", ""),
            )
    assert most == 4
    assert exchanges.borrowed_tokens == 0


@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_slows_everybody_on_the_host_down(status):
    """
    One answer stops all others of the same host and credential until the time is over.
    """
    clock = VirtualClock()
    throttle = Throttle(clock)
    pause = await ask(throttle, status=status, advice=Advice(retry_after=30.0))
    assert pause == 30
    assert throttle.cooling_for(HOST) == 30
    assert throttle.cooling_for((HOST[0], "another credential")) == 0
    await ask(throttle)
    assert clock.monotonic() == 30


async def test_a_shorter_retry_after_does_not_end_a_longer_one():
    """
    Of several answers the longest wait counts, and only what is new is told.
    """
    clock = VirtualClock()
    throttle = Throttle(clock)

    async def one(seconds, told):
        async with throttle.turn(HOST, Limits()) as turn:
            await checkpoint()
            told.append(turn.record(429, Advice(retry_after=seconds)))

    told = []
    async with anyio.create_task_group() as tg:
        tg.start_soon(one, 30.0, told)
        tg.start_soon(one, 5.0, told)
    assert told == [30, 0]
    assert throttle.cooling_for(HOST) == 30


async def test_a_429_that_says_nothing_cools_longer_each_time():
    """
    Without Retry-After the pause doubles from one second up to a minute.
    """
    clock = VirtualClock()
    throttle = Throttle(clock)
    pauses = [await ask(throttle, status=429) for _ in range(8)]
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]
    await ask(throttle)
    assert await ask(throttle, status=429) == 1


async def test_a_volley_of_429s_that_say_nothing_is_one_refusal():
    """
    Requests sent in the same moment cool the host once, for a second.
    """
    clock = VirtualClock()
    throttle = Throttle(clock)
    pauses = []

    async def one():
        async with throttle.turn(HOST, Limits()) as turn:
            await checkpoint()
            pauses.append(turn.record(429))

    async with anyio.create_task_group() as tg:
        for _ in range(FIRST):
            tg.start_soon(one)
    assert pauses == [1] + [0] * (FIRST - 1)


async def test_being_asked_to_wait_for_hours_fails_at_once():
    """
    Nobody waits longer than their patience, also those who were queueing already.
    """
    clock = VirtualClock(auto=False)
    throttle = Throttle(clock)
    await ask(throttle, status=429, advice=Advice(retry_after=7200.0))
    with pytest.raises(
        ThrottledError, match=r"api\.example\.com asks to wait for 7200 s"
    ) as caught:
        await ask(throttle, patience=300.0)
    assert caught.value.retry_after == timedelta(hours=2)
    assert clock.slept == []


async def test_a_used_up_quota_window_stops_everybody_until_its_reset():
    """
    Remaining 0 with a reset in 40 seconds: the next request is sent after 40 seconds.
    """
    clock = VirtualClock()
    throttle = Throttle(clock)
    await ask(throttle, advice=Advice(remaining=0, reset=40.0))
    assert throttle.cooling_for(HOST) == 40
    await ask(throttle)
    assert clock.monotonic() == 40


async def test_no_more_requests_are_sent_than_a_quota_has_left():
    """
    Three are left: of ten that want to go, three go, and seven wait for the reset.
    """
    clock = VirtualClock()
    throttle = Throttle(clock)
    left = 10
    sent = []

    async def one():
        nonlocal left
        async with throttle.turn(HOST, Limits()) as turn:
            if clock.monotonic() < 50:
                left -= 1
                assert left >= 0
            sent.append(clock.monotonic())
            remaining = left
            await checkpoint()
            if clock.monotonic() < 50:
                turn.record(200, Advice(remaining=remaining, reset=50 - clock.monotonic()))
            else:
                turn.record(200)

    await one()
    left = 3
    await one()
    async with anyio.create_task_group() as tg:
        for _ in range(10):
            tg.start_soon(one)
    assert sum(at < 50 for at in sent) == 2 + 2
    assert sum(at >= 50 for at in sent) == 8


async def test_a_reset_within_the_second_does_not_slow_a_fast_host():
    """
    A bucket that refills twelve times a second says "0 left, reset 1": that is no reason to wait.
    """
    clock = VirtualClock()
    throttle = Throttle(clock)
    limits = Limits(requests_per_second=12)
    for _ in range(13):
        await ask(throttle, limits=limits, advice=Advice(remaining=0, reset=1.0))
    assert clock.monotonic() == pytest.approx(1.0 / PACE)


async def test_a_daily_quota_stops_the_source_until_the_next_utc_day():
    """
    The request after the last one of the day raises; midnight in UTC gives the quota back.
    """
    clock = VirtualClock(datetime(2024, 5, 17, 23, 59, 30, tzinfo=UTC))
    throttle = Throttle(clock)
    limits = Limits(daily_quota=3)
    for _ in range(3):
        await ask(throttle, limits=limits)
    with pytest.raises(StopProcessing, match=r"daily quota of 3 requests to api\.example\.com"):
        await ask(throttle, limits=limits)
    await clock.sleep(40)
    for _ in range(3):
        await ask(throttle, limits=limits)
    with pytest.raises(StopProcessing):
        await ask(throttle, limits=limits)


class Book:
    """A book of quotas in which others write, too."""

    def __init__(self, most):
        self.left = most
        self.asked = []

    async def spend_quota(self, source, *, day, count, most):
        await checkpoint()
        self.asked.append((source, count))
        granted = min(count, self.left)
        self.left -= granted
        return granted


async def test_a_daily_quota_is_taken_in_blocks_and_the_rest_given_back():
    """
    Of 1,000 requests 10 are taken at a time, however many wait; what is left at the end is there
    for others, and what others have used is not there for us.
    """
    book = Book(1000)
    throttle = Throttle(VirtualClock(), book)
    limits = Limits(daily_quota=1000, concurrency=50)
    async with anyio.create_task_group() as tg:
        for _ in range(33):
            tg.start_soon(lambda: ask(throttle, limits=limits, source="example"))
    assert book.asked == [("example", 10)] * 4
    await throttle.give_back()
    await throttle.give_back()
    assert book.left == 1000 - 33

    book.left = 3
    for _ in range(3):
        await ask(throttle, limits=limits)
    for _ in range(5):
        with pytest.raises(StopProcessing, match="daily quota of 1000"):
            await ask(throttle, limits=limits)
    assert len(book.asked) == 7  # who has been told that nothing is left does not ask again


async def test_only_a_source_with_a_daily_quota_is_written_down():
    """
    Others take nothing from the book.
    """
    book = Book(1000)
    throttle = Throttle(VirtualClock(), book)
    await ask(throttle)
    await throttle.give_back()
    assert book.asked == []


async def test_a_circuit_opens_on_server_errors_and_closes_by_a_probe():
    """
    Failures in a row make everybody fail at once, without a request; one probe ends that.
    """
    clock = VirtualClock()
    throttle = Throttle(clock)
    for _ in range(10):
        await ask(throttle, status=502)
        await clock.sleep(1)
    assert throttle.snapshot()[0].is_down
    with pytest.raises(HostDownError, match=r"api\.example\.com is left alone"):
        await ask(throttle)
    with pytest.raises(HostDownError):
        await ask(throttle, (HOST[0], "another credential"))
    await ask(throttle, OTHER)
    assert throttle.snapshot()[0].requests == 10

    await clock.sleep(30)
    asking = anyio.Event()

    async def probe():
        await ask(throttle, during=asking.wait)

    async with anyio.create_task_group() as tg:
        tg.start_soon(probe)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(HostDownError):
            await ask(throttle)
        asking.set()
    await ask(throttle)
    assert not throttle.snapshot()[0].is_down


async def test_a_probe_speaks_for_all_credentials_of_a_host():
    """
    Who waits with other credentials goes on when the probe is answered, also before its body is.
    """
    clock = VirtualClock()
    throttle = Throttle(clock)
    other = (HOST[0], "other")
    for key in (HOST, other):
        await ask(throttle, key)
    for _ in range(10):
        await ask(throttle, status=503)
        await clock.sleep(1)
    await clock.sleep(30)

    sent = anyio.Event()

    async def wait_with_others():
        await ask(throttle, other, outage=120)
        sent.set()

    with anyio.fail_after(30):
        async with (
            anyio.create_task_group() as tg,
            throttle.turn(HOST, Limits(), outage=120) as probe,
        ):
            tg.start_soon(wait_with_others)
            await anyio.wait_all_tasks_blocked()
            assert not sent.is_set()
            probe.record(200)
            await sent.wait()


async def test_an_outage_is_waited_for():
    """
    A host that has answered before may fail for a while: what is to be asked waits, one probe
    after the other looks, and then everybody goes on. Nobody is told that it is down.
    """
    clock = VirtualClock()
    throttle = Throttle(clock)
    await ask(throttle)
    for _ in range(10):
        await ask(throttle, status=503)
        await clock.sleep(1)
    answered = []

    async def one():
        status = 0
        while status != 200:
            async with throttle.turn(HOST, Limits(), outage=120) as turn:
                status = 503 if clock.monotonic() < 40 else 200
                turn.record(status)
        answered.append(clock.monotonic())

    async with anyio.create_task_group() as tg:
        for _ in range(50):
            tg.start_soon(one)

    assert len(answered) == 50
    assert 40 <= min(answered) <= max(answered) < 60
    assert throttle.snapshot()[0].requests < 70


async def test_a_host_that_stays_down_is_given_up():
    """
    After some time what waits for it fails, all at once, and hardly anything was asked.
    """
    clock = VirtualClock()
    throttle = Throttle(clock)
    await ask(throttle)
    for _ in range(10):
        await ask(throttle, status=503)
        await clock.sleep(1)
    given_up = []

    async def one():
        try:
            while True:
                await ask(throttle, status=503, outage=120)
        except HostDownError:
            given_up.append(clock.monotonic())

    async with anyio.create_task_group() as tg:
        for _ in range(50):
            tg.start_soon(one)

    assert len(given_up) == 50
    assert 110 < min(given_up) <= max(given_up) < 200
    assert throttle.snapshot()[0].requests < 25


@pytest.mark.parametrize("status", [404, 400, 403, 410, 200, 304])
async def test_a_circuit_never_opens_on_answers_that_are_not_the_hosts_fault(status):
    """
    A thousand missing files are a thousand missing files.
    """
    clock = VirtualClock()
    throttle = Throttle(clock)
    for _ in range(1000):
        await ask(throttle, status=status)
        await clock.sleep(0.1)
    assert not throttle.snapshot()[0].is_down


async def test_lost_connections_open_the_circuit_too():
    """
    No answer at all counts like a server error.
    """
    clock = VirtualClock()
    throttle = Throttle(clock)
    for _ in range(10):
        await ask(throttle, status=None)
        await clock.sleep(1)
    with pytest.raises(HostDownError):
        await ask(throttle)


async def test_the_head_of_a_probes_answer_is_enough():
    """
    Others are let through as soon as the host has answered, not when the whole body is here.
    """
    clock = VirtualClock()
    throttle = Throttle(clock)
    for _ in range(10):
        await ask(throttle, status=500)
        await clock.sleep(1)
    await clock.sleep(30)
    async with throttle.turn(HOST, Limits()) as turn:
        turn.record(200)
        await ask(throttle)


async def test_a_clock_that_is_set_back_gives_no_quota_back():
    """
    The day of the quota only goes forward.
    """
    clock = VirtualClock()
    throttle = Throttle(clock)
    limits = Limits(daily_quota=1)
    await ask(throttle, limits=limits)
    clock.jump(timedelta(days=-1))
    with pytest.raises(StopProcessing):
        await ask(throttle, limits=limits)


async def test_a_probe_that_is_cancelled_leaves_the_way_to_another():
    """
    A host is not written off because nobody waited for its probe.
    """
    clock = VirtualClock()
    throttle = Throttle(clock)
    for _ in range(10):
        await ask(throttle, status=500)
        await clock.sleep(1)
    await clock.sleep(30)
    with anyio.CancelScope() as scope:
        async with throttle.turn(HOST, Limits()):
            scope.cancel()
            await checkpoint()
    await ask(throttle)
    assert not throttle.snapshot()[0].is_down


async def test_cancelled_waiters_leave_no_gap():
    """
    Those behind a waiter that gave up go on, and nothing is lost of any bound.
    """
    throttle = Throttle(VirtualClock(auto=False))
    limits = Limits(concurrency=1)
    exchanges = anyio.Semaphore(1)
    gate = anyio.Event()
    done = []

    async def one(number):
        await ask(throttle, limits=limits, exchanges=exchanges, during=gate.wait)
        done.append(number)

    async def impatient(scope):
        with scope:
            await one("never")

    scope = anyio.CancelScope()
    async with anyio.create_task_group() as tg:
        tg.start_soon(one, 0)
        await anyio.wait_all_tasks_blocked()
        tg.start_soon(impatient, scope)
        await anyio.wait_all_tasks_blocked()
        tg.start_soon(one, 1)
        await anyio.wait_all_tasks_blocked()
        assert throttle.snapshot()[0].waiting == 2
        scope.cancel()
        gate.set()
    assert done == [0, 1]
    assert exchanges.value == 1
    assert throttle.snapshot()[0].in_flight == 0
    assert throttle.snapshot()[0].waiting == 0


async def test_an_unknown_rate_is_found_out_and_refusals_get_rare():
    """
    Against a provider that admits 20 a second, later requests are hardly ever refused.
    """
    clock = VirtualClock()
    throttle = Throttle(clock)
    due = 0.0
    refused, answered = [], []

    async def worker():
        nonlocal due
        while clock.monotonic() < 300:
            async with throttle.turn(HOST, Limits()) as turn:
                now = clock.monotonic()
                if due - 4 / 20 > now:
                    refused.append(now)
                    turn.record(429, Advice(retry_after=1.0))
                else:
                    due = max(due, now) + 1 / 20
                    answered.append(now)
                    await clock.sleep(0.02)
                    turn.record(200)

    async with anyio.create_task_group() as tg:
        for _ in range(20):
            tg.start_soon(worker)
    assert len(answered) > 0.9 * 20 * 300
    assert sum(at > 150 for at in refused) <= 2
    assert len(refused) <= 10


async def test_a_refusal_lowers_a_configured_rate_only_for_a_while():
    """
    The snapshot shows the rate in force.
    """
    clock = VirtualClock()
    throttle = Throttle(clock)
    limits = Limits(requests_per_second=10)
    await ask(throttle, limits=limits)
    assert throttle.snapshot()[0].rate == 10
    await ask(throttle, limits=limits, status=429, advice=Advice(retry_after=0.0))
    assert 9 < throttle.snapshot()[0].rate < 10
    assert throttle.snapshot()[0].refused == 1
    while throttle.snapshot()[0].rate != 10:
        await ask(throttle, limits=limits)
    assert clock.monotonic() < 60


class Window:
    """Admits so many requests in any second."""

    def __init__(self, most):
        self.most = most
        self.admitted = []

    def wait(self, now):
        """0 for a request that is admitted, or the seconds until one would be."""
        recent = [at for at in self.admitted[-self.most :] if at > now - 1]
        if len(recent) < self.most:
            self.admitted.append(now)
            return 0.0
        return recent[0] + 1 - now


@pytest.mark.parametrize(
    ("limits", "advice", "most_refused"),
    [
        (Limits(requests_per_second=50), Advice(), 0),
        (Limits(), Advice(rate=50.0, pace=50.0), 0),
        (Limits(), Advice(), 5),
    ],
    ids=["configured", "announced", "found out"],
)
async def test_what_a_provider_allows_is_used(limits, advice, most_refused):
    """
    Of 50 requests a second, 97 of 100 and more are made over a minute, from the first one on. None
    is refused where the limit is known, and a handful where it is to be found out. It does not
    matter how many ask.
    """
    clock = VirtualClock()
    throttle = Throttle(clock)
    window = Window(50)
    refused = 0

    async def worker():
        nonlocal refused
        while clock.monotonic() < 60:
            async with throttle.turn(HOST, limits) as turn:
                wait = window.wait(clock.monotonic())
                await clock.sleep(0.004)
                if wait:
                    refused += 1
                    turn.record(429, Advice(retry_after=float(ceil(wait))))
                else:
                    turn.record(200, advice)

    async with anyio.create_task_group() as tg:
        for _ in range(12):
            tg.start_soon(worker)

    assert refused <= most_refused
    assert 0.97 * 50 * 60 <= sum(at < 60 for at in window.admitted) <= 50 * 60


async def test_who_waits_for_a_moment_keeps_its_worker():
    """
    A worker is lent to others when a host takes its time, and not while others are being answered.
    """
    clock = VirtualClock(auto=False)
    throttle = Throttle(clock)
    limits = Limits(concurrency=1)
    first, second = Worker(), Worker()
    gate = anyio.Event()

    async def cooled():
        async with throttle.turn(HOST, limits, slot=first) as turn:
            await gate.wait()
            turn.record(429, Advice(retry_after=30.0))

    async with anyio.create_task_group() as tg:
        tg.start_soon(cooled)
        await anyio.wait_all_tasks_blocked()
        tg.start_soon(lambda: ask(throttle, limits=limits, slot=second))
        await anyio.wait_all_tasks_blocked()
        assert second.held

        gate.set()
        await anyio.wait_all_tasks_blocked()
        assert not second.held

        await clock.advance(30)
        await anyio.wait_all_tasks_blocked()
        assert second.held


async def test_a_worker_that_is_lent_comes_back_while_others_queue():
    """
    With one worker for all: who has lent it gets it back although others came to wait meanwhile,
    since these lend it, too.
    """
    clock = VirtualClock()
    throttle = Throttle(clock)
    places = anyio.Semaphore(1)
    done = []

    class Shared(Unstoppable):
        @asynccontextmanager
        async def released(self):
            places.release()
            try:
                yield
            finally:
                await places.acquire()

    async def one(number):
        async with places:
            await ask(throttle, limits=Limits(concurrency=2), slot=Shared())
            done.append(number)

    await ask(throttle, status=429, advice=Advice(retry_after=30.0))
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tg:
            for number in range(20):
                tg.start_soon(one, number)
    assert sorted(done) == list(range(20))


async def test_a_host_that_is_as_fast_as_it_is_asked_is_asked_more():
    """
    What each request waits for the host is learnt from, also while the limit is far away.
    """
    clock = VirtualClock()
    throttle = Throttle(clock)

    async def worker():
        while clock.monotonic() < 2:
            async with throttle.turn(HOST, Limits(concurrency=32)) as turn:
                await clock.sleep(0.1)
                turn.record(200)

    async with anyio.create_task_group() as tg:
        for _ in range(40):
            tg.start_soon(worker)
    state = throttle.snapshot()[0]
    assert state.allowed == 32
    assert state.seconds == pytest.approx(0.1)


async def test_a_busy_event_loop_keeps_a_host_from_being_asked_more():
    """
    Where this process is late, more in flight would only wait here.
    """
    clock = VirtualClock()
    throttle = Throttle(clock)
    for _ in range(100):
        throttle.lag.saw(1.0)

    async def worker():
        while clock.monotonic() < 2:
            async with throttle.turn(HOST, Limits()) as turn:
                await clock.sleep(0.1)
                turn.record(200)

    async with anyio.create_task_group() as tg:
        for _ in range(40):
            tg.start_soon(worker)
    assert throttle.snapshot()[0].allowed == FIRST


async def test_a_burst_of_answers_is_followed_by_a_burst_of_requests():
    """
    When several end in the same turn of the event loop, as many begin together, not one a turn.
    """
    throttle = Throttle(VirtualClock())
    gate = anyio.Event()
    begun = 0

    async def one(wait):
        nonlocal begun
        async with throttle.turn(HOST, Limits()) as turn:
            begun += 1
            await wait()
            turn.record(200)

    async with anyio.create_task_group() as tg:
        for _ in range(FIRST):
            tg.start_soon(one, gate.wait)
        await anyio.wait_all_tasks_blocked()
        second = anyio.Event()
        for _ in range(FIRST):
            tg.start_soon(one, second.wait)
        await anyio.wait_all_tasks_blocked()
        assert begun == FIRST

        gate.set()
        turns = 0
        while begun < 2 * FIRST:
            await checkpoint()
            turns += 1
        second.set()
    assert turns <= 2


@pytest.mark.parametrize("broken", ["wake", "obstacle", "take", "leave"])
async def test_a_defect_leaves_nobody_asleep(broken, monkeypatch):
    """
    Where the throttle itself is broken, those who wait fail or go on; none waits for ever, and
    nothing stays taken.
    """
    throttle = Throttle(VirtualClock())
    exchanges = anyio.CapacityLimiter(2)
    limits = Limits(concurrency=1)
    gate = anyio.Event()
    outcomes = []

    async def one():
        try:
            await ask(throttle, limits=limits, exchanges=exchanges, during=gate.wait)
            outcomes.append("made")
        except ZeroDivisionError:
            outcomes.append("failed")

    def defective(self, *args, **kwargs):
        if broken == "leave":
            real(self, *args, **kwargs)
        raise ZeroDivisionError

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tg:
            for _ in range(10):
                tg.start_soon(one)
            await anyio.wait_all_tasks_blocked()
            real = getattr(HostQueue, broken)
            monkeypatch.setattr(HostQueue, broken, defective)
            gate.set()
    assert len(outcomes) == 10
    assert "failed" in outcomes
    assert exchanges.borrowed_tokens == 0
