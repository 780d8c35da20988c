"""How fast one host may be asked: an exact rate, a rate that is found out, what a window has left.

Nothing here waits or reads a clock: every method is told the time, in monotonic seconds.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable

PACE = 0.99  # of what is allowed is used, so that no window holds one too many by jitter
CATCH_UP = 0.1  # seconds by which requests may be late, for what else there is to do, and made up
TRUSTED = 20  # answers before a first refusal, from which on their number is that of a window
ROUGHEST = 0.5  # requests a second; a first estimate is not lower
SLOWEST = 0.02  # requests a second; slower than one in 50 s nobody means
LEAP = 2.0  # times the rate, per second, while nearly nothing is known
GROWTH = 1.1  # the same, while it is tried whether there is more
LARGEST_STEP = 1.0  # of the rate, for one answer
USED = 0.3  # of the rate must be made use of before it grows
SPANS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # seconds before a refusal, each looked at
SOON = 2.0  # seconds after a cut in which another refusal means that we are far off
LONG = 10.0  # seconds after which a rate that was held is one that works
NEARER = 0.25  # of the way from a rate that works to one that does not, after a trial
FAR = 0.8  # of the rate held before: a cut below that may have gone too far
DEEPEST = 0.35  # of the rate, for one cut, …
DOUBTFUL = 0.75  # …unless there were too few answers for that
NEAR = 0.9  # of the rate at which one refused that saves up next to nothing: it does so at once
SEVERAL = 10  # answers, evenly spaced, of which such a one gives none at a rate far too high
SMALL = 4  # requests that are next to nothing
BACK_OFF = 0.97
SOME_TIME = 5.0  # seconds until more is tried after a cut that may have gone too far
PATIENCE = 60.0  # seconds until more is tried, doubled each time that there is no more, …
PATIENCE_AFTER_CHANGE = 15.0  # …or these, where the host allows much less than before, …
PATIENCE_BELOW = 10.0  # …or these, below a rate that is said to be allowed, …
LONGEST_PATIENCE = 480.0  # …up to this
SOONER = 8.0  # times sooner, after what may not have been the rate
AT_ONCE = 4.0  # times the rate that was seen is faster than any even spacing
UNEVEN = 0.3  # of a request: so much closer together is a burst, not jitter
A_FEW = 2.0  # times the pause that a refusal asks for, between requests, doubled for each in a row…
HALVINGS = 4  # …up to so often
SAME_RESET = 2.0  # seconds by which two answers may differ about the same reset


class Gcra:
    """The generic cell rate algorithm: never more than *rate* a second after a *burst*. Exact,
    but for a request that comes a moment late: those after it may make up for that."""

    __slots__ = ("_due", "burst", "catch_up", "rate")

    def __init__(self, rate: float | None, burst: int = 1) -> None:
        self.rate = rate  # None: as fast as they come
        self.burst = burst
        self.catch_up = CATCH_UP
        self._due = float("-inf")  # when a steady stream's next request would be sent

    def become(self, rate: float | None, now: float, *, sent: int) -> None:
        """From now on it is this *rate*. Where there was none, *sent* requests have used it up."""
        if self.rate is None and rate is not None:
            self._due = now + min(sent / rate, 1.0)
        self.rate = rate

    def wait(self, now: float) -> float:
        """Seconds until the next request may be sent; 0 and less: now."""
        if self.rate is None:
            return 0.0
        return self._due - (self.burst - 1) / self.rate - now

    def take(self, now: float) -> None:
        """A request is sent."""
        if self.rate is not None:
            is_idle = now - self._due > max(1 / self.rate, CATCH_UP)  # nobody wanted to go
            self._due = max(self._due, now if is_idle else now - self.catch_up) + 1 / self.rate


class LearntRate:
    """Finds a host's rate out of its refusals.

    A host that refuses has admitted all that it allows. What it allows is thus at least what was
    answered since its last refusal, by the time with the pause in it; and for each shorter time,
    what was answered in it, less what the host may have saved up before: no more than all that it
    let pass before its first refusal. After that the rate grows until the next one. Then it is
    held, and only now and then it is tried whether there is more.

    Where requests were refused that came closer together than any that were answered, it is not the
    rate that was too high: from then on they are spaced more evenly, at about the same rate.
    """

    __slots__ = (
        "_answered",
        "_answers",
        "_at_once",
        "_configured",
        "_grows_at",
        "_growth",
        "_held",
        "_mark",
        "_patience",
        "_proven",
        "_rate",
        "_row",
        "_saved",
        "_sent",
        "_since",
        "_soon",
        "_told",
        "_touched",
    )

    def __init__(self, configured: float | None = None) -> None:
        self._rate: float | None = None  # None: no less than is said to be allowed
        self._configured = configured
        self._told: float | None = None  # by the host
        self._sent: deque[float] = deque(maxlen=1000)  # when requests were sent, recently
        self._answers: deque[tuple[float, float]] = deque(maxlen=10_000)  # good ones: came, sent
        self._answered = 0  # since the mark
        self._mark = math.inf  # when the last refusal, or the first answer came
        self._saved = math.inf  # requests that the host lets pass at once, at most
        self._at_once = math.inf  # requests that are known to pass at once, besides the first
        self._row = 0  # refusals in a row, without an answer
        self._growth = GROWTH
        self._grows_at = math.inf  # from when on more is tried
        self._held = 0.0  # the rate until then
        self._proven = 0.0  # a rate that was held for long; 0: none that still counts
        self._soon = 0  # refusals in a row that came soon after the one before
        self._patience = PATIENCE if configured is None else PATIENCE_BELOW
        self._since = -math.inf  # from when on requests are sent at this rate
        self._touched = 0.0

    @property
    def rate(self) -> float | None:
        """Requests a second; None: nobody knows of a limit."""
        return self._said if self._rate is None else self._rate

    @property
    def _said(self) -> float | None:
        """What is said to be allowed."""
        if self._told is None or self._configured is None:
            return self._told or self._configured
        return min(self._told, self._configured)

    def told(self, rate: float) -> None:
        """The host says how many requests a second it allows."""
        if rate != self._told:
            self._told = rate
            self._patience = PATIENCE_BELOW

    @property
    def catch_up(self) -> float:
        """Seconds by which requests may be late and made up, as far as the host is known to let
        several pass at once."""
        return min(CATCH_UP, min(self._at_once, self._saved - 1) / (self.rate or math.inf))

    def sent(self, now: float) -> None:
        """A request is sent."""
        self._sent.append(now)

    def answered(self, now: float, sent: float) -> None:
        """A request sent at *sent* was answered, and not refused."""
        answers = self._answers
        answers.append((now, sent))
        while answers[0][0] < now - SPANS[-1]:
            answers.popleft()
        self._answered += 1
        if self._row:
            self._recover()
        if self._rate is None:
            self._mark = min(self._mark, now)
            return
        if now > self._grows_at and self._observed(1.0, now) >= USED * self._rate:
            passed = min(1.0, now - max(self._touched, self._grows_at))
            self._rate *= 1 + min(LARGEST_STEP, math.pow(self._growth, passed) - 1)
        self._touched = max(now, self._touched)
        if (said := self._said) is not None and self._rate >= said:
            self._rate = None

    def refused(self, sent: float, now: float, *, pause: float, policy: float | None) -> None:
        """A request sent at *sent* was refused for its rate; the next may come after *pause*.

        What was sent before the rate was last cut says nothing about the rate since.
        """
        if sent < self._since:
            return
        known = self.rate
        if policy is not None:
            self.told(policy)
        resumes = now + pause
        self._row += 1
        if known is None and policy is None and not self._answered and self._row == 1:
            self._since = resumes
            return  # nothing is known: somebody else may have used up what there was
        self._saved = self._saved if self._saved < math.inf else self._answered + 1
        if known is not None and (policy is None or policy >= known):
            if self._was_burst(sent, known):
                found = known * BACK_OFF
            else:
                found = self._bounded(self._found(known, now, pause), known, pause)
            self._plan(found, now, resumes)
            self._rate = self._held = found
        elif policy is None:
            self._rate = self._held = self._first_found(sent, now, pause)
            self._grows_at = resumes
        else:
            self._rate = None
        self._since = self._touched = resumes
        self._mark, self._answered = now, 0
        self._answers.clear()

    def _first_found(self, sent: float, now: float, pause: float) -> float:
        """What the host allows, if nothing was known and the pace was only that of its answers."""
        found = max(ROUGHEST, self._window(now, pause))
        lately = max(found, self._observed(1.0, now) if pause <= SOON else 0.0)
        self._growth = GROWTH if self._answered >= TRUSTED else LEAP
        if self._was_burst(sent, AT_ONCE * lately) and self._at_once < TRUSTED:
            self._saved = self._at_once + 2
            self._growth = LEAP
            found = lately
        return found

    def _was_burst(self, sent: float, rate: float) -> bool:
        """Whether the host may well allow *rate*, but not so many at once as there were when a
        request was *sent* that it refused; then there will be fewer at once."""
        passed, _ = _levels(sorted(at for _, at in self._answers if at >= self._since), rate)
        _, refused = _levels([at for at in self._sent if self._since <= at <= sent], rate)
        if refused < max(1.0, passed) + UNEVEN:
            return False
        before = self._at_once
        self._at_once = max(passed - 1, 0.0 if before == math.inf else before)
        return self._at_once < before

    def _bounded(self, found: float, known: float, pause: float) -> float:
        """*found*, but not slower than a few of the pauses that the host asks for. Each refusal in
        a row, without an answer, halves that: it may not mean what it says."""
        in_a_row = min(self._row - 1, HALVINGS)
        if in_a_row:
            found = known / 2 if in_a_row > 1 else max(found, known / 2)
        slowest = max(SLOWEST, 1 / (A_FEW * max(1.0, pause) * 2.0**in_a_row))
        less = known if in_a_row == HALVINGS else known * BACK_OFF
        return max(found, min(slowest, less), SLOWEST)

    def _recover(self) -> None:
        """The first answer after refusals in a row."""
        if self._row > 1 and self._rate is not None:
            self._rate = max(self._rate, ROUGHEST)
            self._growth, self._grows_at = LEAP, self._touched
        self._row = 0

    def _window(self, now: float, pause: float) -> float:
        """What was answered a second, if there is a window that ends with the *pause*, which is
        told in whole seconds."""
        began = self._mark if self._since == -math.inf else self._since
        return self._answered / max(1.0, now - began + pause - 1)

    def _found(self, known: float, now: float, pause: float) -> float:
        """What the host allows, if it refuses at the *known* rate."""
        elapsed = now - self._since
        least = self._answered / max(1.0, now - self._mark)
        for span in SPANS:
            least = max(least, self._observed(span, now) - self._saved / span)
        is_near = self._answered >= SEVERAL or not self._soon
        if self._saved <= SMALL and is_near and not self._proven:
            least = max(least, known * (NEAR if now > self._grows_at else BACK_OFF))
        if now > self._grows_at:
            self._soon = 0
            if self._grows_at - self._since > LONG:
                self._proven = self._held
                least = max(least, self._held + NEARER * (known - self._held))
            elif self._growth < LEAP and (elapsed < SOON or pause > SOON):  # as of a window
                least = max(least, self._held)
            return min(least, known * BACK_OFF)
        self._soon = self._soon + 1 if elapsed < SOON else 0
        if self._soon:
            if self._soon == 1:
                least = max(least, self._window(now, pause))
                if self._saved <= SMALL and self._proven < known:
                    least = max(least, self._proven)
            least = max(least, known * (DEEPEST if self._answered >= TRUSTED else DOUBTFUL))
        elif not self._proven:
            if elapsed > LONG:
                least = known
            least = (least + known) / 2  # it may save up what is not used, or it may not
        elif self._proven < known:
            least = max(least, self._proven)
        else:
            self._proven, least = 0.0, known
        return min(least, known * BACK_OFF)

    def _plan(self, found: float, now: float, resumes: float) -> None:
        """When to try for more."""
        if self._growth == LEAP or found < FAR * self._held:
            was_held = now <= self._grows_at
            self._grows_at = resumes + SOME_TIME
            if was_held:  # what has changed may change again
                self._patience = min(self._patience, PATIENCE_AFTER_CHANGE)
        elif now <= self._grows_at and self._saved <= SMALL and not self._proven:
            # It may have come a little early: that says little.
            self._grows_at = resumes + self._patience / SOONER
        else:
            if found * FAR > self._held:
                self._patience = PATIENCE if self._said is None else PATIENCE_BELOW
            self._grows_at = resumes + self._patience
            self._patience = min(LONGEST_PATIENCE, 2 * self._patience)
        self._growth = GROWTH

    def _observed(self, span: float, now: float) -> float:
        """Good answers a second, lately."""
        count = 0
        for came, _ in reversed(self._answers):
            if came < now - span:
                break
            count += 1
        return count / span


def _levels(moments: Iterable[float], rate: float) -> tuple[float, float]:
    """Of a bucket that holds what came at these *moments* and drains at *rate*: how full it was at
    the most, and how full it is after the last one. Evenly spaced, it is never fuller than 1."""
    level = highest = 0.0
    before = -math.inf
    for at in moments:
        level = max(0.0, level - (at - before) * rate) + 1
        highest = max(highest, level)
        before = at
    return highest, level


class QuotaWindow:
    """What the answers say is left until a reset. Requests in flight may not be counted yet."""

    __slots__ = ("_ends", "_left")

    def __init__(self) -> None:
        self._left = 0
        self._ends = float("-inf")

    def told(self, remaining: int, reset: float, now: float) -> None:
        """An answer said so. Answers overtake each other, so within a window the least counts."""
        ends = now + reset
        is_same = now < self._ends and abs(ends - self._ends) <= SAME_RESET
        self._left = min(self._left, remaining) if is_same else remaining
        self._ends = ends

    def wait(self, now: float, in_flight: int) -> float:
        """Seconds until the next request may be sent; 0 and less: now."""
        return 0.0 if self._left > in_flight else self._ends - now
