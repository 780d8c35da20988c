"""Rates, concurrency, quota windows and circuits, told the time."""

import pytest

from ingestify.http.circuit import (
    FAILURES,
    RETRY_FLOOR,
    SPACING,
    STREAK,
    Circuit,
    RetryBudget,
)
from ingestify.http.pacing import Concurrency, Gcra, LearntRate, QuotaWindow


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
            learnt.answered(now)
        else:
            refused.append(now)
            pause = retry_after(wait)
            learnt.refused(now, now, pause=pause, policy=None)
            cooling = now + pause
        due = now + 1 / (learnt.rate or fastest)
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
    After ten minutes nearly all that the provider admits is used, with hardly a refusal.
    """
    learnt = LearntRate(None)
    answered, refused = ask_for(1800, provider, learnt)
    late = [at for at in answered if at > 600]
    assert len(late) >= 0.8 * fair * 1200
    assert sum(at > 600 for at in refused) <= 0.02 * len(late) + 5


def test_a_provider_that_says_nothing_about_waiting_is_found_out_too():
    """
    Refusals without a time to wait lead to the same rate.
    """
    learnt = LearntRate(None)
    answered, refused = ask_for(900, Provider(rate=20, burst=5), learnt, retry_after=lambda _: 1.0)
    assert sum(at > 300 for at in answered) >= 0.8 * 20 * 600
    assert sum(at > 300 for at in refused) <= 60


def test_a_configured_rate_is_never_exceeded_by_learning():
    """
    A refusal slows down for a while; the ceiling stays what was configured.
    """
    learnt = LearntRate(10.0)
    learnt.refused(0.0, 0.0, pause=1.0, policy=None)
    assert learnt.rate == pytest.approx(9.0)
    now = 1.0
    for _ in range(100_000):
        now += 1 / (learnt.rate or 10.0)
        learnt.answered(now)
        if learnt.rate is None:
            break
        assert learnt.rate < 10.0
    assert learnt.rate is None


def test_refusals_of_one_moment_are_one_refusal():
    """
    A volley that was sent before the rate was cut does not cut it again and again.
    """
    learnt = LearntRate(10.0)
    for _ in range(20):
        learnt.refused(0.0, 0.5, pause=1.0, policy=None)
    assert learnt.rate == pytest.approx(9.0)


def test_a_policy_is_believed():
    """
    Where the provider says how much it admits, that is the rate.
    """
    learnt = LearntRate(None)
    learnt.refused(0.0, 0.0, pause=1.0, policy=100 / 60)
    assert learnt.rate == pytest.approx(1.5)


def test_concurrency_doubles_until_the_first_trouble_and_then_grows_slowly():
    """
    From 8 it reaches its maximum in two rounds; after trouble it loses a third and creeps back.
    """
    concurrency = Concurrency(24)
    assert concurrency.allowed == 8
    for _ in range(16):
        concurrency.good(concurrency.allowed)
    assert concurrency.allowed == 24
    for _ in range(24):
        concurrency.bad(sent=1.0, now=2.0)  # one volley
    assert concurrency.allowed == 16
    for _ in range(16):
        concurrency.good(concurrency.allowed)
    assert concurrency.allowed in (16, 17)
    for second in range(3, 100):
        concurrency.bad(sent=second, now=second)
    assert concurrency.allowed == 1


def test_concurrency_that_nobody_uses_does_not_grow():
    """
    One request at a time says nothing about ten.
    """
    concurrency = Concurrency(24)
    for _ in range(100):
        concurrency.good(in_flight=1)
    assert concurrency.allowed == 8


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
