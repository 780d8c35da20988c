"""How many requests may be in flight, found against simulated hosts in simulated time."""

import heapq
import random
from itertools import pairwise

import pytest

from ingestify.http.concurrency import FIRST, PATIENCE, Concurrency
from ingestify.http.loop_lag import LATE, LoopLag


class Host:
    """Works on so many requests at once, each for about *service* seconds; others wait there."""

    def __init__(self, servers, service, *, seed=1):
        self.servers = servers
        self.service = service
        self._busy = []  # until when, for each request that is there
        self._random = random.Random(seed)

    def take(self, now):
        """When a request that comes now is answered."""
        self._busy = sorted(end for end in self._busy if end > now)
        free = len(self._busy) < self.servers
        begun = now if free else self._busy[-self.servers]
        end = begun + self.service * self._random.uniform(0.7, 1.3)
        self._busy.append(end)
        return end


class Load:
    """Asks a host for as much as *concurrency* lets it."""

    def __init__(self, concurrency, host):
        self.concurrency = concurrency
        self.host = host
        self.now = 0.0
        self.answers = []  # when
        self.levels = []  # (when, how many were allowed from then on)
        self._in_flight = []

    def run(self, until, *, most=10_000, may_grow=True):
        """Go on *until* then, with at most so many in flight."""
        while self.now < until:
            while len(self._in_flight) < min(most, self.concurrency.allowed):
                heapq.heappush(self._in_flight, (self.host.take(self.now), self.now))
            self.now, sent = heapq.heappop(self._in_flight)
            self.concurrency.ended(sent, self.now, len(self._in_flight) + 1, may_grow=may_grow)
            self.answers.append(self.now)
            if not self.levels or self.levels[-1][1] != self.concurrency.allowed:
                self.levels.append((self.now, self.concurrency.allowed))

    def speed(self, since):
        """Answers a second since then."""
        return sum(at > since for at in self.answers) / (self.now - since)


@pytest.mark.parametrize("service", [0.005, 0.05, 0.1])
@pytest.mark.parametrize("servers", [4, 8, 12, 20, 32])
def test_what_saturates_a_host_is_found_and_kept(servers, service):
    """
    Within two seconds there are at least as many in flight as the host works on at once, and at
    most twice as many; a minute later, too.
    """
    load = Load(Concurrency(64), Host(servers, service))
    load.run(2.0)
    assert servers <= load.concurrency.allowed <= 2 * servers
    load.run(60.0)
    held = [level for at, level in load.levels if at > 2.0]
    assert servers <= load.concurrency.allowed <= 2 * servers or max(held) <= 2 * servers
    assert load.speed(2.0) >= 0.93 * servers / service


def test_a_host_that_is_never_saturated_is_asked_as_much_as_is_configured():
    """
    With 50 ms to each answer, 64 are in flight within half a second, and no more ever.
    """
    load = Load(Concurrency(64), Host(1000, 0.05))
    load.run(0.5)
    assert load.concurrency.allowed == 64
    load.run(30.0)
    assert max(level for _, level in load.levels) == 64
    assert load.concurrency.seconds == pytest.approx(0.05, rel=0.1)


@pytest.mark.parametrize("servers", [1, 2])
def test_a_weak_host_is_not_asked_for_more_than_at_first(servers):
    """
    Where nothing is gained by more in flight, there are hardly more than those of the beginning.
    """
    load = Load(Concurrency(64), Host(servers, 0.02))
    load.run(5.0)
    assert load.concurrency.allowed <= FIRST + 2


@pytest.mark.parametrize("most", [1, 2, 3])
def test_what_is_configured_is_never_exceeded(most):
    """
    Also where it is less than one would begin with.
    """
    concurrency = Concurrency(most)
    assert concurrency.allowed == most
    Load(concurrency, Host(100, 0.01)).run(10.0)
    assert concurrency.allowed == most


@pytest.mark.parametrize("then", [Host(8, 0.05), Host(32, 0.2)], ids=["fewer", "slower"])
def test_latency_that_grows_halves_what_is_in_flight(then):
    """
    A host that takes four times as long, because it has less to work with or more to do, is asked
    for half as much; when it has recovered, it is as fast as before.
    """
    load = Load(Concurrency(64), Host(32, 0.05))
    load.run(10.0)
    before, well = load.concurrency.allowed, load.host
    load.host = then
    load.run(13.0)
    assert min(level for at, level in load.levels if at > 10.0) <= before / 2
    load.run(30.0)
    load.host = well
    load.run(40.0)
    assert load.speed(35.0) >= 0.9 * 32 / 0.05


def test_trials_that_are_of_no_use_get_rare():
    """
    Every now and then more is tried; where it brings nothing, the next trial comes later.
    """
    load = Load(Concurrency(64), Host(12, 0.05))
    load.run(600.0)
    found = load.levels[-1][1]
    trials = [at for at, level in load.levels if at > 2.0 and level > found]
    assert 5 <= len(trials) <= 16
    assert all(b - a > PATIENCE for a, b in pairwise(trials))
    assert trials[-1] - trials[-2] > 30


def test_trouble_takes_a_third_away_and_is_forgotten():
    """
    A volley of failures is one trouble; when the host is well again, what was found is found anew.
    """
    load = Load(Concurrency(64), Host(1000, 0.05))
    load.run(2.0)
    for _ in range(30):
        load.concurrency.bad(sent=load.now - 0.01, now=load.now)
    assert load.concurrency.allowed == 42
    load.concurrency.bad(sent=load.now, now=load.now)
    assert load.concurrency.allowed == 28
    load.run(10.0)
    assert load.concurrency.allowed == 64


def test_trouble_without_end_leaves_one():
    """
    However much goes wrong, one request may be in flight.
    """
    concurrency = Concurrency(64)
    for second in range(100):
        concurrency.bad(sent=second, now=second)
    assert concurrency.allowed == 1
    load = Load(concurrency, Host(1000, 0.05))
    load.now = 100.0
    load.run(110.0)
    assert concurrency.allowed > 16


def test_room_that_nobody_uses_does_not_grow():
    """
    One request at a time says nothing about ten.
    """
    load = Load(Concurrency(64), Host(1000, 0.05))
    load.run(20.0, most=1)
    assert load.concurrency.allowed == FIRST


def test_nothing_grows_while_this_process_is_in_the_way():
    """
    Where the event loop is late, more in flight would only wait here; afterwards it grows.
    """
    load = Load(Concurrency(64), Host(1000, 0.05))
    load.run(5.0, may_grow=False)
    assert load.concurrency.allowed == FIRST
    load.run(10.0)
    assert load.concurrency.allowed == 64


def test_lag_has_to_last_to_count():
    """
    One hiccup is nothing; a loop that is always late is high, until it is not late any more.
    """
    lag = LoopLag()
    lag.saw(4 * LATE)
    assert not lag.is_high
    for _ in range(10):
        lag.saw(2 * LATE)
    assert lag.is_high
    for _ in range(10):
        lag.saw(0.0)
    assert not lag.is_high
    assert lag.worst == 4 * LATE


async def test_lag_is_watched_while_somebody_wants_it():
    """
    What blocks the loop is seen. Several may watch at once; the last one to leave ends it.
    """
    import asyncio
    import time

    lag = LoopLag()
    with lag.watched():
        with lag.watched():
            pass
        while lag.worst < 0.05:
            time.sleep(0.2)  # noqa: ASYNC251  # this is what is to be seen
            await asyncio.sleep(0.001)
    assert lag.seconds > 0
    assert not lag.is_high
