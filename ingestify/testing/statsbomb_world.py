"""A generated provider in the StatsBomb open-data format, deterministic, which can evolve."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any

import orjson

from ingestify.testing.statsbomb_events import FEWEST_EVENTS, play
from ingestify.testing.statsbomb_frames import correct, three_sixty
from ingestify.testing.statsbomb_lists import (
    FIRST_MATCH_ID,
    MATCHES_PER_SEASON,
    PUBLISHED,
    Match,
    Season,
    SeasonSpec,
    competition_entry,
    match_entry,
    published_match,
)
from ingestify.testing.statsbomb_sheet import Fixture, Sheet, fixture, lineups, sheet
from ingestify.testing.statsbomb_teams import Dice, Json
from ingestify.testing.worlds import Resource, ResourceCache

EVOLVING_SINCE = datetime(2024, 3, 1, 6, 0, 0, 120_457, tzinfo=UTC)
EVOLUTION_STEP = timedelta(hours=6, minutes=1, seconds=7, microseconds=1_003)
DEMO_SEASONS = (
    SeasonSpec(competition_id=11, season_id=42, matches=33),
    SeasonSpec(competition_id=11, season_id=90, matches=35),
)


class MatchSize(Enum):
    """How big a match is: its number of events."""

    TINY = 6  # one half with its frame, a pass and at most one goal; compact JSON
    DEMO = 600
    REAL = 3500


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What one evolution changed."""

    what: str
    at: datetime  # aware, UTC
    match_ids: tuple[int, ...]
    paths: tuple[str, ...]  # those that answer differently now


class StatsBombWorld:
    """Serves `competitions.json`, `matches/`, `events/`, `lineups/` and `three-sixty/`.

    A leading `data/` is optional. All bytes follow from *seed*, *size*, *seasons* and the
    evolutions so far, in any process. A file is made when asked for; only the last ones are kept.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        size: MatchSize | int = MatchSize.DEMO,  # a number: of events in each match
        seasons: Sequence[SeasonSpec] = DEMO_SEASONS,
    ) -> None:
        self.seed = seed
        self.size = size
        self._events = size.value if isinstance(size, MatchSize) else size
        self._is_brief = self._events < FEWEST_EVENTS
        self._seasons = {
            (spec.competition_id, spec.season_id): Season(
                spec=spec,
                first_match_id=FIRST_MATCH_ID + index * MATCHES_PER_SEASON,
                matches=spec.matches,
                frames_updated=PUBLISHED if spec.announced_frames else None,
            )
            for index, spec in enumerate(seasons)
        }
        if len(self._seasons) != len(seasons):
            raise ValueError("A season is named twice")
        self._in_order = list(self._seasons.values())
        self._changed: dict[int, Match] = {}  # the others are as they were published
        self._removed: set[str] = set()
        self._evolutions = 0
        self._now = PUBLISHED
        self._cache = ResourceCache()

    @property
    def seasons(self) -> tuple[SeasonSpec, ...]:
        """As they were before they evolved."""
        return tuple(season.spec for season in self._in_order)

    def match_ids(self, competition_id: int, season_id: int) -> tuple[int, ...]:
        """The matches that are listed at this moment, in the order of the list."""
        return tuple(self._season(competition_id, season_id).listed())

    def get(self, path: str) -> Resource | None:
        path = path.removeprefix("data/")
        found = None if path in self._removed else self._find(path)
        if found is None:
            return None
        changed_at, content = found

        def make() -> Resource:
            indent = 0 if self._is_brief else orjson.OPT_INDENT_2
            body = orjson.dumps(content(), option=indent)
            return Resource(body=body, last_modified=changed_at).compacted()

        return self._cache.get(path, changed_at, make)

    # How it evolves

    def add_match(self, competition_id: int, season_id: int) -> Change:
        """A match is played and listed, with its files."""
        season = self._season(competition_id, season_id)
        match_id, at = season.first_match_id + season.matches, self._tick()
        season.matches += 1
        season.updated = season.available = season.list_changed = at
        self._changed[match_id] = Match(came=at, updated=at, files_changed=at)
        lineup = f"lineups/{match_id}.json"
        return self._change("add_match", (match_id,), season.path, lineup, *self._files(match_id))

    def correct_events(self, match_id: int) -> Change:
        """Some events change, and the match entry and its competition say so."""
        season, match, at = self._evolving(match_id)
        match.corrections += 1
        match.files_changed = match.updated = season.updated = season.list_changed = at
        return self._change("correct_events", (match_id,), season.path, *self._files(match_id))

    def change_events_quietly(self, match_id: int) -> Change:
        """Some events change; only the `match_updated` of the competition says so."""
        season, match, at = self._evolving(match_id)
        match.corrections += 1
        match.files_changed = season.updated = at
        return self._change("change_events_quietly", (match_id,), *self._files(match_id))

    def bump_date(self, competition_id: int, season_id: int) -> Change:
        """The `match_updated` of the competition changes, and nothing else."""
        season = self._season(competition_id, season_id)
        season.updated = self._tick()
        return self._change("bump_date", ())

    def shrink_list(
        self, competition_id: int, season_id: int, match_id: int | None = None
    ) -> Change:
        """A match, by default the last one, disappears from the list; its files stay."""
        season = self._season(competition_id, season_id)
        listed = season.listed()
        gone = listed[-1] if match_id is None and listed else match_id
        if gone is None or gone not in listed:
            raise ValueError(f"{season.path} does not list match {gone}")
        season.unlisted.add(gone)
        season.updated = season.list_changed = self._tick()
        return self._change("shrink_list", (gone,), season.path)

    def announce_360(self, match_id: int) -> Change:
        """The 360 frames of a match become available; its entry and its competition say so."""
        season, match, at = self._evolving(match_id)
        match.has_frames = True
        match.frames_updated = season.frames_updated = season.list_changed = at
        frames = f"three-sixty/{match_id}.json"
        return self._change("announce_360", (match_id,), season.path, frames)

    def remove_file(self, path: str) -> Change:
        """A file is answered with 404 from now on, and nothing says so."""
        path = path.removeprefix("data/")
        self._removed.add(path)
        return Change(what="remove_file", at=self._now, match_ids=(), paths=(path,))

    def evolve(self, what: str, **arguments: Any) -> Change:
        """One of the changes above, by its name; see EvolvingWorld."""
        changes: dict[str, Callable[..., Change]] = {
            "add_match": self.add_match,
            "announce_360": self.announce_360,
            "bump_date": self.bump_date,
            "change_events_quietly": self.change_events_quietly,
            "correct_events": self.correct_events,
            "remove_file": self.remove_file,
            "shrink_list": self.shrink_list,
        }
        if what not in changes:
            raise ValueError(f"A StatsBombWorld cannot {what!r}, only {sorted(changes)}")
        try:
            return changes[what](**arguments)
        except TypeError as exc:
            raise ValueError(str(exc)) from exc

    def _season(self, competition_id: int, season_id: int) -> Season:
        try:
            return self._seasons[competition_id, season_id]
        except KeyError:
            raise ValueError(f"No season {competition_id}/{season_id}") from None

    def _season_of(self, match_id: int) -> Season | None:
        index, number = divmod(match_id - FIRST_MATCH_ID, MATCHES_PER_SEASON)
        if not 0 <= index < len(self._in_order) or number >= self._in_order[index].matches:
            return None
        return self._in_order[index]

    def _match(self, season: Season, match_id: int) -> Match:
        return self._changed.get(match_id) or published_match(season, match_id)

    def _evolving(self, match_id: int) -> tuple[Season, Match, datetime]:
        season = self._season_of(match_id)
        if season is None:
            raise ValueError(f"No match {match_id}")
        match = self._changed[match_id] = self._match(season, match_id)
        return season, match, self._tick()

    def _tick(self) -> datetime:
        self._now = EVOLVING_SINCE + self._evolutions * EVOLUTION_STEP
        self._evolutions += 1
        return self._now

    def _change(self, what: str, match_ids: tuple[int, ...], *paths: str) -> Change:
        changed = ("competitions.json", *paths)
        return Change(what=what, at=self._now, match_ids=match_ids, paths=changed)

    def _files(self, match_id: int) -> tuple[str, ...]:
        """The files that change with the events."""
        paths = (f"events/{match_id}.json", f"three-sixty/{match_id}.json")
        return tuple(path for path in paths if self._find(path))

    # What it is asked for

    def _find(self, path: str) -> tuple[datetime, Callable[[], object]] | None:
        """When the content of *path* last changed, and how to make it."""
        if path == "competitions.json":
            return self._now, lambda: [competition_entry(season) for season in self._in_order]
        if found := re.fullmatch(r"matches/(\d+)/(\d+)\.json", path):
            listed = self._seasons.get((int(found[1]), int(found[2])))
            return None if listed is None else (listed.list_changed, lambda: self._list(listed))
        if found := re.fullmatch(r"(events|lineups|three-sixty)/(\d+)\.json", path):
            match_id = int(found[2])
            season = self._season_of(match_id)
            return None if season is None else self._find_file(found[1], season, match_id)
        return None

    def _find_file(
        self, folder: str, season: Season, match_id: int
    ) -> tuple[datetime, Callable[[], object]] | None:
        match = self._match(season, match_id)
        if folder == "events":
            return match.files_changed, lambda: self._play(season, match_id)
        if folder == "lineups":
            return match.came, lambda: lineups(self._sheet(season, match_id))
        if match.frames_updated is None or not match.has_frames:
            return None
        changed_at = max(match.files_changed, match.frames_updated)
        return changed_at, lambda: three_sixty(self.seed, match_id, self._play(season, match_id))

    def _list(self, season: Season) -> list[Json]:
        return [
            match_entry(season.spec, self._fixture(season, match_id), self._match(season, match_id))
            for match_id in season.listed()
        ]

    def _fixture(self, season: Season, match_id: int) -> Fixture:
        return fixture(
            self.seed,
            match_id=match_id,
            competition_id=season.spec.competition_id,
            number=match_id - season.first_match_id,
            first_year=season.spec.first_year,
            most_goals=1 if self._is_brief else 12,
        )

    def _sheet(self, season: Season, match_id: int) -> Sheet:
        return sheet(self.seed, self._fixture(season, match_id), is_brief=self._is_brief)

    def _play(self, season: Season, match_id: int) -> list[Json]:
        about = self._events
        if isinstance(self.size, MatchSize) and not self._is_brief:
            about += int(Dice(self.seed, "size", match_id).between(-0.1, 0.1) * about)
        events = play(self.seed, self._sheet(season, match_id), about=about)
        correct(self.seed, match_id, events, times=self._match(season, match_id).corrections)
        return events
