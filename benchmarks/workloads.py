"""What is asked of the contenders: how many matches of which size, and what happened before."""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace

COMPETITION_ID = 11
MATCHES_PER_SEASON = 100  # a list of this length is some 130 kB of JSON
FILES_PER_MATCH = 2  # events and lineups


class Situation(enum.Enum):
    """What a contender meets. Each follows on the one before, in the same lake."""

    COLD = "cold"
    """The lake is empty: every file is fetched."""
    UNCHANGED = "warm, lists 304"
    """Nothing has changed, and the provider says so of each list."""
    LISTED = "warm, lists 200"
    """Nothing has changed, but every list has to be read and compared to find out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """So many matches of one size."""

    name: str
    size: str  # as the simulator calls it
    matches: int

    @property
    def seasons(self) -> dict[int, int]:
        """How many matches each season has, by its id."""
        full, rest = divmod(self.matches, MATCHES_PER_SEASON)
        counts = [MATCHES_PER_SEASON] * full + [rest] * bool(rest)
        return dict(enumerate(counts, start=1))

    @property
    def files(self) -> int:
        """How many files there are, without the lists."""
        return self.matches * FILES_PER_MATCH

    def requests(self, situation: Situation) -> dict[str, int]:
        """How often the provider has to answer with which status, and no more often."""
        lists = len(self.seasons)
        if situation is Situation.COLD:
            return {"200": 1 + lists + self.files}
        if situation is Situation.UNCHANGED:
            return {"200": 1, "304": lists}
        return {"200": 1 + lists}

    def with_matches(self, matches: int) -> Workload:
        """The same with another number of matches."""
        return replace(self, matches=matches)


SMALL = Workload(name="small", size="tiny", matches=2000)
REAL = Workload(name="real", size="real", matches=60)
WORKLOADS = (SMALL, REAL)
