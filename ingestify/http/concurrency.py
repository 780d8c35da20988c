"""How many requests may be in flight to one host: as many as make it faster, and no more.

By Little's law, answers a second are requests in flight over the seconds each takes. So a level is
judged by the mean time that one flight of requests took, without waiting for a rate to show: if
twice as many take twice as long, the host, the wire or this process has no more to give.

Nothing here waits or reads a clock: every method is told the time, in monotonic seconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

FIRST = 4  # before anything is known: what an unknown limit is met with is refused at most
ROUND = 0.1  # seconds for which a level is watched at least, so that nobody is run over, …
SLOW = 0.04  # …unless an exchange takes as long as that: then one flight is enough
HELD_ROUND = 0.5  # seconds, for a level that is held
JUDGES = 4  # exchanges that a level is judged by, at least
USED = 0.7  # of a level must be in flight, or nothing is known about it
WORTH = 1.1  # by which doubling must speed up the host
SPARE = 1.25  # in flight for each one that the host is at work on
SLOWER = 2.0  # times the time that an exchange takes at which a level gives way
LEAST_CUT = 0.5
TROUBLE_CUT = 2 / 3
STEP = 1.5  # to a level that is tried after one has been held
PATIENCE = 2.0  # seconds until more is tried, doubled each time that it was of no use, …
LONGEST_PATIENCE = 60.0  # …up to this


@dataclass(frozen=True, slots=True)
class Level:
    """What one flight of requests has shown."""

    allowed: int
    in_flight: int  # at the most: answers often come in bursts, between which it is full
    seconds: float  # that an exchange took, on the average

    @property
    def speed(self) -> float:
        """Exchanges a second."""
        return self.in_flight / self.seconds

    def is_worth(self, other: Level) -> bool:
        """Whether this is so much faster than *other* that having more in flight was right."""
        doublings = math.log2(max(1.0, self.in_flight / other.in_flight))
        return self.speed >= other.speed * math.pow(WORTH, max(1.0, doublings))


class Concurrency:
    """Doubles as long as that pays, and holds what was found; now and then tries for more.

    It gives way when exchanges fail, are refused, or take twice as long as they did.
    """

    __slots__ = (
        "_answers",
        "_before",
        "_began",
        "_cut_at",
        "_held",
        "_in_flight",
        "_is_growing",
        "_is_trial",
        "_least",
        "_patience",
        "_seconds",
        "_settles",
        "_try_at",
        "_until",
        "allowed",
        "most",
        "seconds",
    )

    def __init__(self, most: int, first: int = FIRST) -> None:
        self.most = most
        self.allowed = min(most, first)
        self.seconds: float | None = None  # that an exchange took lately; None: nothing is known
        self._is_growing = True
        self._is_trial = False  # whether what is surpassed has been held before
        self._settles = False  # a level that is tried: its first flight meets what was before
        self._before: Level | None = None  # the level that is to be surpassed
        self._held: float | None = None  # seconds that an exchange took when a level was found
        self._least = math.inf  # seconds, of all levels
        self._cut_at = -math.inf
        self._patience = PATIENCE
        self._try_at = math.inf
        self._answers = 0  # of the flight that is watched, as is what follows
        self._seconds = 0.0
        self._in_flight = 1
        self._began = self._until = -math.inf

    def ended(self, sent: float, now: float, in_flight: int, *, may_grow: bool = True) -> None:
        """An exchange that was *sent* then went well; *in_flight* counts it, too.

        Without *may_grow* something else than the host is known to be in the way.
        """
        if sent < self._began:
            return  # it was one of another flight
        if self._until == -math.inf:
            self._until = sent + ROUND
        self._answers += 1
        self._seconds += now - sent
        if in_flight > self._in_flight:
            self._in_flight = in_flight
        if self._answers < max(JUDGES, self.allowed):
            return
        is_slow = self._is_growing and self._seconds >= SLOW * self._answers
        if now >= self._until or is_slow:
            self._judge(now, may_grow)

    def bad(self, sent: float, now: float) -> None:
        """A request sent at *sent* met trouble. Those sent before the last cut are one trouble."""
        if sent < self._cut_at:
            return
        if self._is_growing:
            self._lose_patience()
        self._hold(max(1, int(self.allowed * TROUBLE_CUT)), now)
        self._cut_at = now

    def _judge(self, now: float, may_grow: bool) -> None:
        level = Level(
            self.allowed,
            self._in_flight,
            max(1e-6, self._seconds / self._answers),
        )
        self.seconds = level.seconds
        if level.in_flight < USED * level.allowed or self._settles:
            self._settles = False
            self._watch(now)
        elif self._is_growing:
            self._grow(level, now, may_grow)
        else:
            self._keep(level, now, may_grow)

    def _grow(self, level: Level, now: float, may_grow: bool) -> None:
        before, self._before = self._before, level
        self._least = min(self._least, level.seconds)
        if before is not None and not level.is_worth(before):
            self._lose_patience()
            at_work = level.in_flight * self._least / level.seconds
            found = min(level.allowed, math.ceil(SPARE * at_work))
            # At first levels are seen for a moment only, and the last one may have seemed better.
            least = before.allowed if self._is_trial else before.allowed // 2
            self._hold(max(least, found), now)
            return
        if before is not None:
            self._patience = PATIENCE
        if level.allowed == self.most:
            self._hold(level.allowed, now)
            return
        if may_grow:
            self.allowed = min(self.most, 2 * level.allowed)
        else:
            self._before = before
        self._watch(now)

    def _keep(self, level: Level, now: float, may_grow: bool) -> None:
        if self._held is None:
            self._held = level.seconds
        elif level.seconds > SLOWER * self._held:
            share = max(LEAST_CUT, self._held / level.seconds)
            self._hold(max(1, int(level.allowed * share)), now)
            return
        if now >= self._try_at and may_grow and level.allowed < self.most:
            self.allowed = min(self.most, math.ceil(STEP * level.allowed))
            self._before = level
            self._is_growing = self._is_trial = self._settles = True
        self._watch(now)

    def _hold(self, allowed: int, now: float) -> None:
        self.allowed = allowed
        self._is_growing = self._is_trial = self._settles = False
        self._before = self._held = None
        self._try_at = now + self._patience
        self._watch(now)

    def _lose_patience(self) -> None:
        self._patience = min(LONGEST_PATIENCE, 2 * self._patience)

    def _watch(self, now: float) -> None:
        """Watch those that are sent from now on."""
        self._began = now
        self._until = now + (ROUND if self._is_growing else HELD_ROUND)
        self._answers = 0
        self._seconds = 0.0
        self._in_flight = 1
