"""What is asked of the contenders: how many matches of which size, and what happened before."""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace

COMPETITION_ID = 11
FIRST_MATCH_ID = 3_700_000
IN_FLIGHT = 64  # requests at once, as many as ingestify sends to one host at most by itself

TINY, MIDDLING, FULL = 6, 300, 3200  # events a match


class Situation(enum.Enum):
    """What a contender meets."""

    COLD = "cold"
    """The lake is empty: every file is fetched."""
    LISTED = "warm, lists 200"
    """Nothing has changed, but every list has to be read and compared to find out."""
    UNCHANGED = "warm, lists 304"
    """Nothing has changed, and the provider says so of each list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """So many matches of one size, and how the provider serves them."""

    name: str
    matches: int
    events: int  # a match, about
    events_bytes: int | None = None  # of an events file at most; further events are left out
    frames_every: int = 0  # every so many matches have 360 frames; 0: none has
    matches_per_list: int = 100
    is_gzipped: bool = False  # on the wire
    delay_ms: int = 0  # before each answer
    concurrency: int = IN_FLIGHT  # of everybody
    situations: tuple[Situation, ...] = (Situation.COLD,)
    has_upstream: bool = True
    in_memory: bool = False  # lakes on a tmpfs, where a sync costs nothing: the engine alone

    @property
    def lists(self) -> int:
        """How many lists there are."""
        return -(-self.matches // self.matches_per_list)

    @property
    def files(self) -> int:
        """How many files there are, without the lists: events, lineups and frames."""
        frames = -(-self.matches // self.frames_every) if self.frames_every else 0
        return 2 * self.matches + frames

    def has_frames(self, number: int) -> bool:
        """Whether the match with that *number* has 360 frames; numbers count from 0."""
        return bool(self.frames_every) and number % self.frames_every == 0

    def requests(self, situation: Situation) -> dict[str, int]:
        """How often the provider has to answer with which status, and no more often."""
        if situation is Situation.COLD:
            return {"200": 1 + self.lists + self.files}
        if situation is Situation.UNCHANGED:
            return {"200": 1, "304": self.lists}
        return {"200": 1 + self.lists}

    def with_matches(self, matches: int) -> Workload:
        """The same with another number of matches."""
        return replace(self, matches=matches)


SMALL = Workload(name="small", matches=2000, events=TINY, events_bytes=3000)
MEDIUM = Workload(name="medium", matches=200, events=MIDDLING)
REAL = Workload(name="real", matches=60, events=FULL, frames_every=4)
WARM = replace(
    SMALL,
    name="warm",
    matches_per_list=400,
    situations=(Situation.LISTED, Situation.UNCHANGED),
)
WORKLOADS = (
    SMALL,
    replace(SMALL, name="small, gzipped", is_gzipped=True, has_upstream=False),
    replace(SMALL, name="small, on tmpfs", in_memory=True),
    MEDIUM,
    replace(MEDIUM, name="medium, gzipped", is_gzipped=True),
    REAL,
    replace(REAL, name="real, gzipped", is_gzipped=True),
    replace(SMALL, name="latency", matches=500, delay_ms=50, concurrency=64),
    WARM,
)
