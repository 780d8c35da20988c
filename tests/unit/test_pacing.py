"""Rates, quota windows and circuits, told the time."""

from itertools import pairwise

import pytest

from ingestify.http.circuit import (
    FAILURES,
    RETRY_FLOOR,
    SPACING,
    STREAK,
    Circuit,
    RetryBudget,
)
from ingestify.http.pacing import BACK_OFF, CATCH_UP, PACE, Gcra, LearntRate, QuotaWindow


def _all_refused(learnt, now, pause, times):
    """Refused so often in a row, each request sent as soon as it may be. Returns rates and time."""
    rates = []
    for _ in range(times):
        learnt.sent(now)
        learnt.refused(now, now, pause=pause, policy=None)
        rates.append(learnt.rate)
        now += max(pause, 1 / learnt.rate)
    return rates, now


class Provider:
    """Admits *rate* requests a second after a *burst*, or *quota* in each *window*, exactly."""

    def __init__(self, *, rate=None, burst=1, quota=None, window=1.0):
        self._gcra = Gcra(rate, burst)
        self._quota, self._window = quota, window
        self._admitted = []

    def admit(self, now):
        """None, or the seconds after which the next request would be admitted."""
        if self._quota is not None:
            begun = now - now % self._window
            self._admitted = [at for at in self._admitted if at >= begun]
            if len(self._admitted) >= self._quota:
                return begun + self._window - now
            self._admitted.append(now)
            return None
        wait = self._gcra.wait(now)
        if wait > 1e-9:
            return wait
        self._gcra.take(now)
        return None


def ask_for(seconds, provider, learnt, *, fastest=200.0, retry_after=lambda wait: -(-wait // 1)):
    """Ask for so long, one request after the other. Returns moments of answers and refusals."""
    now, cooling, due = 0.0, 0.0, 0.0
    answered, refused = [], []
    while now < seconds:
        wait = provider.admit(now)
        if wait is None:
            answered.append(now)
            learnt.answered(now, now)
        else:
            refused.append(now)
            pause = retry_after(wait)
            learnt.refused(now, now, pause=pause, policy=None)
            cooling = now + pause
        due = now + 1 / (PACE * (learnt.rate or fastest))
        now = max(due, cooling)
    return answered, refused


@pytest.mark.parametrize(("rate", "burst"), [(10.0, 1), (3.0, 5), (0.5, 2)])
def test_a_rate_is_exact_over_every_window(rate, burst):
    """
    However one asks, no window holds more than its share and the burst, and none is wasted.
    """
    gcra = Gcra(rate, burst)
    now, sent = 0.0, []
    while len(sent) < 200:
        wait = gcra.wait(now)
        if wait > 1e-9:
            now += wait
            continue
        gcra.take(now)
        sent.append(now)
    for i in range(len(sent)):
        for j in range(i, len(sent)):
            assert j - i + 1 <= burst + (sent[j] - sent[i]) * rate + 1e-6
    assert sent[-1] == pytest.approx((len(sent) - burst) / rate)


def test_a_pause_gives_back_no_more_than_the_burst():
    """
    After an idle hour the burst may be sent at once, not an hour's worth of requests.
    """
    gcra = Gcra(10.0, 3)
    sent = 0
    while gcra.wait(3600.0) <= 0:
        gcra.take(3600.0)
        sent += 1
    assert sent == 3


@pytest.mark.parametrize(
    ("provider", "fair"),
    [
        (Provider(rate=12, burst=1), 12),
        (Provider(rate=12, burst=20), 12),
        (Provider(rate=1, burst=1), 1),
        (Provider(quota=100, window=60.0), 100 / 60),
        (Provider(quota=5, window=1.0), 5),
    ],
)
def test_an_unknown_rate_is_found_and_refusals_get_rare(provider, fair):
    """
    After a minute most of what the provider admits is used, and later nearly all, with hardly a
    refusal, whatever kind of limit it has.
    """
    learnt = LearntRate(None)
    answered, refused = ask_for(1860, provider, learnt)
    assert sum(60 < at <= 660 for at in answered) >= 0.75 * fair * 600
    assert sum(at > 660 for at in answered) >= 0.9 * fair * 1200
    assert sum(at > 60 for at in refused) <= 30  # in half an hour


def test_a_provider_that_says_nothing_about_waiting_is_found_out_too():
    """
    Refusals without a time to wait lead to the same rate.
    """
    learnt = LearntRate(None)
    answered, refused = ask_for(900, Provider(rate=20, burst=5), learnt, retry_after=lambda _: 1.0)
    assert sum(at > 300 for at in answered) >= 0.95 * 20 * 600
    assert sum(at > 300 for at in refused) <= 6


def test_a_configured_rate_is_never_exceeded_by_learning():
    """
    A refusal slows down for a while; the ceiling stays what was configured.
    """
    learnt = LearntRate(10.0)
    learnt.refused(0.0, 0.0, pause=1.0, policy=None)
    assert learnt.rate == pytest.approx(10.0 * BACK_OFF)
    now = 1.0
    while now < 60:
        now += 1 / learnt.rate
        learnt.answered(now, now)
        assert learnt.rate <= 10.0
    assert learnt.rate == 10.0


def test_refusals_of_one_moment_are_one_refusal():
    """
    A volley that was sent before the rate was cut does not cut it again and again.
    """
    learnt = LearntRate(10.0)
    for _ in range(20):
        learnt.refused(0.0, 0.5, pause=1.0, policy=None)
    assert learnt.rate == pytest.approx(10.0 * BACK_OFF)


def test_a_policy_is_believed_until_it_is_refused():
    """
    Where the provider says how much it admits, that is the rate, and no other is tried; if even
    that is refused, less is asked for.
    """
    learnt = LearntRate(None)
    learnt.refused(0.0, 0.0, pause=1.0, policy=100 / 60)
    assert learnt.rate == pytest.approx(100 / 60)
    for second in range(2, 600):
        learnt.answered(float(second), float(second))
    assert learnt.rate == pytest.approx(100 / 60)
    learnt.refused(600.0, 600.0, pause=1.0, policy=100 / 60)
    assert learnt.rate == pytest.approx(100 / 60 * BACK_OFF)


@pytest.mark.parametrize("configured", [20.0, None])
def test_what_a_host_tells_is_never_more_than_what_is_configured(configured):
    """
    Of the two the lower one counts, and a host may change its mind.
    """
    learnt = LearntRate(configured)
    learnt.told(50.0)
    assert learnt.rate == (configured or 50.0)
    learnt.told(5.0)
    assert learnt.rate == 5.0


def test_a_limit_that_changes_is_followed():
    """
    From 50 a second to 20 to 80: soon after each change the new limit is found, and few requests
    are refused on the way.
    """
    learnt = LearntRate(None)
    provider = Provider(quota=50, window=1.0)
    refusals = []
    now, due = 0.0, 0.0
    rates = {}
    while now < 900:
        provider._quota = 50 if now < 100 else 20 if now < 200 else 80
        wait = provider.admit(now)
        if wait is None:
            learnt.answered(now, now)
        else:
            refusals.append(now)
            learnt.refused(now, now, pause=-(-wait // 1), policy=None)
        due = now + 1 / (PACE * (learnt.rate or 200.0))
        now = max(due, now + (0 if wait is None else -(-wait // 1)))
        rates[int(now)] = learnt.rate
    assert rates[50] == pytest.approx(50, rel=0.05)
    assert rates[120] == pytest.approx(20, rel=0.2)
    assert rates[880] == pytest.approx(80, rel=0.15)
    assert len(refusals) < 25


def test_a_late_request_is_made_up_for():
    """
    If each is sent a little late, the rate is kept nevertheless; an idle hour is not made up for.
    """
    gcra = Gcra(50.0)
    now, sent = 0.0, 0
    while now < 60:
        wait = gcra.wait(now)
        now += max(0.0, wait) + (CATCH_UP / 2 if sent % 10 == 0 else 0.0)
        gcra.take(now)
        sent += 1
    assert sent == pytest.approx(50 * 60, rel=0.001)
    gcra.take(3600.0)
    assert gcra.wait(3600.0) == pytest.approx(1 / 50)


def test_a_rate_that_becomes_known_counts_what_was_sent_before():
    """
    A few were sent before the first answer told the limit: they are part of it.
    """
    gcra = Gcra(None)
    gcra.become(50.0, 10.0, sent=4)
    assert gcra.wait(10.0) == pytest.approx(4 / 50)
    gcra.become(25.0, 10.0, sent=100)
    assert gcra.wait(10.0) == pytest.approx(4 / 50)


def test_a_quota_window_holds_back_when_what_is_left_is_in_flight():
    """
    What is left is counted down by requests whose answers are still to come.
    """
    window = QuotaWindow()
    assert window.wait(0.0, in_flight=5) <= 0
    window.told(3, 60.0, now=0.0)
    assert window.wait(1.0, in_flight=2) == 0
    assert window.wait(1.0, in_flight=3) == 59
    window.told(7, 59.0, now=1.0)  # overtaken by the one before
    assert window.wait(1.0, in_flight=3) == 59
    assert window.wait(61.0, in_flight=3) <= 0


def test_a_circuit_opens_after_a_streak_and_closes_by_a_probe():
    """
    Failures in a row and over some time open it; one probe decides, and doubles the pause.
    """
    circuit = Circuit()
    for _ in range(10 * FAILURES):
        circuit.bad(0.0)
    assert circuit.closed_in(0.0) is None  # a blip, however many requests it hits
    circuit.bad(STREAK)
    assert circuit.closed_in(STREAK) == 5
    assert circuit.closed_in(STREAK + 5) is None
    assert circuit.begin(STREAK + 5)
    assert circuit.closed_in(STREAK + 5) == 0  # one probe at a time
    circuit.bad(STREAK + 6)  # a straggler
    circuit.bad(STREAK + 6, is_probe=True)
    assert circuit.closed_in(STREAK + 6) == 10
    assert circuit.begin(STREAK + 16)
    circuit.abandon_probe()
    assert circuit.closed_in(STREAK + 16) is None
    circuit.good(STREAK + 16)
    assert circuit.closed_in(STREAK + 16) is None
    assert not circuit.begin(STREAK + 16)
    assert circuit.failures == 0


def test_requests_are_spaced_while_all_fail():
    """
    After failures in a row the next requests are sent one by one, until one is answered: it may be
    a blip, and nothing is given up for it, but a dead host is not asked as fast as it fails.
    """
    circuit = Circuit()
    for _ in range(FAILURES - 1):
        circuit.begin(1.0)
        circuit.bad(1.0)
    assert circuit.spacing(1.0) == 0
    circuit.begin(1.0)
    circuit.bad(1.0)
    assert circuit.spacing(1.0) == SPACING
    circuit.begin(1.0 + SPACING)
    assert circuit.spacing(1.0 + SPACING) == SPACING
    assert circuit.spacing(1.0 + 3 * SPACING) == 0
    circuit.good(2.0)
    assert circuit.spacing(2.0) == 0


def test_what_hangs_for_long_is_a_streak_by_itself():
    """
    Requests that were waited for in vain for longer than a blip open the circuit together, unless
    others were answered meanwhile.
    """
    circuit = Circuit()
    circuit.good(1.0)
    for _ in range(FAILURES):
        circuit.bad(70.0, sent=0.0)
    assert circuit.closed_in(70.0) == 5
    circuit = Circuit()
    circuit.good(69.0)
    for _ in range(FAILURES):
        circuit.bad(70.0, sent=0.0)
    assert circuit.closed_in(70.0) is None


def test_retries_are_a_share_of_the_requests():
    """
    Beyond a floor, no more than one retry for five requests.
    """
    budget = RetryBudget()
    for _ in range(100):
        budget.count_request()
    taken = 0
    while budget.take():
        taken += 1
    assert taken == RETRY_FLOOR + 20


def test_two_in_the_same_moment_say_nothing_about_the_rate():
    """
    A host that saves nothing up refuses the second of two; what was answered until then is still
    asked for, evenly spaced, and soon much more.
    """
    learnt = LearntRate(None)
    now = 0.0
    for _ in range(15):
        learnt.sent(now)
        learnt.answered(now + 0.05, now)
        now += 1 / 15
    learnt.sent(now)
    learnt.sent(now)
    learnt.refused(now, now + 0.05, pause=1.0, policy=None)
    assert learnt.rate >= 0.9 * 15
    assert learnt.catch_up == 0
    provider = Provider(rate=50)
    provider._gcra.catch_up = 0.0
    now += 1.05
    until = now + 5
    while now < until and provider.admit(now) is None:
        learnt.sent(now)
        learnt.answered(now, now)
        now += 1 / learnt.rate
    assert learnt.rate > 45
    learnt.sent(now)
    learnt.refused(now, now, pause=1.0, policy=None)
    assert 0.8 * 50 <= learnt.rate <= 1.05 * 50


@pytest.mark.parametrize("pause", [0.0, 1.0])
def test_short_pauses_do_not_lead_to_long_waits(pause):
    """
    After a handful of answers all is refused, with a short pause: the pace becomes that of a few
    pauses, then halves with each refusal, but not for ever; and a few answers make up for all.
    """
    learnt = LearntRate(None)
    for second in range(4):
        learnt.sent(second)
        learnt.answered(second + 0.1, second)
    rates, now = _all_refused(learnt, 4.0, pause, 12)
    assert rates[0] >= 0.5
    assert rates[2] >= 0.1
    assert all(0.4 * a <= b <= a for a, b in pairwise(rates))
    assert rates[-1] >= 1 / 32
    began = now
    for _ in range(12):
        learnt.sent(now)
        learnt.answered(now, now)
        now += 1 / learnt.rate
    assert learnt.rate >= 5
    assert now - began < 10
