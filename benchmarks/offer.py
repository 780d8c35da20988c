"""What the measured provider offers: every answer as bytes that only have to be sent.

Bodies are made once by `StatsBombWorld`, until there are enough; further matches have the same
ones again, in turn. Lists are put together when asked for, of entries that wait for their ids.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import orjson
from isal import igzip

from benchmarks.workloads import COMPETITION_ID, FIRST_MATCH_ID, Workload
from ingestify.testing import SeasonSpec, StatsBombWorld

ENOUGH = 40_000_000  # bytes of bodies, decoded
FEEDS = ("events", "lineups", "three-sixty")
MODIFIED = "Tue, 25 Jul 2023 03:54:59 GMT"
ID_TO_COME = 987_654_321  # in the entries of lists
SEPARATOR = b",\n"  # of those; there is no line end in them
FILE = re.compile(r"(events|lineups|three-sixty)/(\d+)\.json")
LIST = re.compile(rf"matches/{COMPETITION_ID}/(\d+)\.json")


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent for one path: to who does not know it, and to who has it already."""

    etag: str
    head: bytes
    body: bytes
    unchanged: bytes

    @classmethod
    def of(cls, content: bytes, *, etag: str, is_gzipped: bool) -> Answer:
        """The answers for *content*."""
        body = igzip.compress(content, 2, mtime=0) if is_gzipped else content
        about = f"ETag: {etag}\r\nLast-Modified: {MODIFIED}\r\n"
        coding = "Content-Encoding: gzip\r\nVary: Accept-Encoding\r\n" if is_gzipped else ""
        head = (
            f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{about}{coding}"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        unchanged = f"HTTP/1.1 304 Not Modified\r\n{about}\r\n"
        return cls(etag, head.encode(), body, unchanged.encode())


@dataclass
class Offer:
    """All that there is to *workload*."""

    workload: Workload
    file_bytes: int = 0  # of all files together, decoded
    _bodies: dict[str, list[Answer]] = field(default_factory=lambda: {feed: [] for feed in FEEDS})
    _pieces: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        workload = self.workload
        world = _world(workload)
        self._pieces = _pieces(workload, world)
        self._find_list = lru_cache(maxsize=64)(self._make_list)
        self._make_bodies(world)

    def find(self, path: str) -> Answer | None:
        """The answer for *path*, which has no leading slash; None where there is nothing."""
        path = path.removeprefix("data/")
        if found := FILE.fullmatch(path):
            bodies = self._bodies[found[1]]
            number = int(found[2]) - FIRST_MATCH_ID
            if found[1] == "three-sixty":
                if not self.workload.has_frames(number):
                    return None
                number //= self.workload.frames_every
            return bodies[number % len(bodies)]
        if found := LIST.fullmatch(path):
            return self._find_list(int(found[1]))
        if path == "competitions.json":
            return self._competitions()
        return None

    def _competitions(self) -> Answer:
        entries = [_season(number) for number in range(1, self.workload.lists + 1)]
        return self._answer(orjson.dumps(entries), '"competitions"')

    def _make_list(self, season: int) -> Answer | None:
        per_list, matches = self.workload.matches_per_list, self.workload.matches
        first = (season - 1) * per_list
        count = min(per_list, matches - first)
        if count <= 0:
            return None
        parts = [
            b"%b%d" % (self._pieces[number], FIRST_MATCH_ID + first + number)
            for number in range(count)
        ]
        parts.append(self._pieces[count].partition(SEPARATOR)[0].removesuffix(b"]") + b"]")
        content = b"".join(parts)
        return self._answer(content, f'"list-{season}-{count}"')

    def _make_bodies(self, world: StatsBombWorld) -> None:
        made = 0
        sizes: dict[str, list[int]] = {feed: [] for feed in FEEDS}
        for number in range(self.workload.matches):
            for feed in FEEDS:
                if feed == "three-sixty" and not self.workload.has_frames(number):
                    continue
                found = world.get(f"{feed}/{FIRST_MATCH_ID + number}.json")
                if found is None:
                    raise ValueError(f"the simulated provider has no {feed} of match {number}")
                content = found.body
                if feed == "events" and self.workload.events_bytes is not None:
                    content = _cut(content, self.workload.events_bytes)
                made += len(content)
                sizes[feed].append(len(content))
                etag = f'"{feed}-{number}"'
                self._bodies[feed].append(self._answer(content, etag))
            if made > ENOUGH:
                break
        for feed, each in sizes.items():
            wanted = self.workload.matches
            if feed == "three-sixty":
                wanted = self.workload.files - 2 * self.workload.matches
            self.file_bytes += sum(each[at % len(each)] for at in range(wanted))

    def _answer(self, content: bytes, etag: str) -> Answer:
        return Answer.of(content, etag=etag, is_gzipped=self.workload.is_gzipped)


def _world(workload: Workload) -> StatsBombWorld:
    matches = max(workload.matches_per_list, min(workload.matches, 100_000))
    spec = SeasonSpec(
        competition_id=COMPETITION_ID,
        season_id=1,
        matches=matches,
        with_frames=matches if workload.frames_every else 0,
    )
    return StatsBombWorld(size=workload.events, seasons=(spec,))


def _pieces(workload: Workload, world: StatsBombWorld) -> list[bytes]:
    """A list's text, cut where the ids of its matches come."""
    found = world.get(f"matches/{COMPETITION_ID}/1.json")
    entries = orjson.loads(found.body if found else b"[]")[: workload.matches_per_list]
    for number, entry in enumerate(entries):
        entry["match_id"] = ID_TO_COME
        if not workload.has_frames(number):
            entry["match_status_360"], entry["last_updated_360"] = "scheduled", None
    text = b"[" + SEPARATOR.join(orjson.dumps(entry) for entry in entries) + b"]"
    return text.split(str(ID_TO_COME).encode())


def _season(season_id: int) -> dict[str, object]:
    updated = "2023-07-25T03:54:59.280826"
    return {
        "competition_id": COMPETITION_ID,
        "season_id": season_id,
        "country_name": "Spain",
        "competition_name": "La Liga",
        "season_name": f"{1900 + season_id}/{1901 + season_id}",
        "match_updated": updated,
        "match_updated_360": None,
        "match_available_360": None,
        "match_available": updated,
    }


def _cut(content: bytes, most: int) -> bytes:
    """As many of the events in *content* as fit into *most* bytes."""
    kept: list[bytes] = []
    size = 2
    entries: Sequence[object] = orjson.loads(content)
    for entry in entries:
        text = orjson.dumps(entry)
        if size + len(text) + 1 <= most:
            kept.append(text)
            size += len(text) + 1
    return b"[" + b",".join(kept) + b"]"
