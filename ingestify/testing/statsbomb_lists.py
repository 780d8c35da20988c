"""The lists of the generated StatsBomb-format provider: competitions, and matches of a season."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from ingestify.testing.statsbomb_sheet import Fixture
from ingestify.testing.statsbomb_teams import Dice, Json, Team, referee

FIRST_MATCH_ID = 3_700_000
MATCHES_PER_SEASON = 100_000
PUBLISHED = datetime(2023, 7, 25, 3, 54, 59, 280_826, tzinfo=UTC)  # what is there at first
COMPETITION_NAMES = {11: "La Liga", 16: "Champions League", 43: "FIFA World Cup"}
FIRST_YEARS = {1: 2017, 2: 2016, 4: 2018, 27: 2015, 42: 2019, 90: 2020, 108: 2021}
METADATA = {"data_version": "1.1.0", "shot_fidelity_version": "2", "xy_fidelity_version": "2"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SeasonSpec:
    """One season of a competition, as it is before it evolves."""

    competition_id: int
    season_id: int
    matches: int
    with_frames: int = 0  # the first so many say that 360 frames are available, and have them
    missing_frames: int = 0  # the next so many say the same, but their file is a 404

    def __post_init__(self) -> None:
        if min(self.matches, self.with_frames, self.missing_frames) < 0:
            raise ValueError(f"A season has no negative number of matches: {self}")
        if not self.announced_frames <= self.matches <= MATCHES_PER_SEASON:
            raise ValueError(f"These numbers of matches do not fit: {self}")

    @property
    def announced_frames(self) -> int:
        return self.with_frames + self.missing_frames

    @property
    def competition_name(self) -> str:
        return COMPETITION_NAMES.get(self.competition_id, f"Competition {self.competition_id}")

    @property
    def first_year(self) -> int:
        return FIRST_YEARS.get(self.season_id, 2000 + self.season_id % 25)

    @property
    def season_name(self) -> str:
        return f"{self.first_year}/{self.first_year + 1}"


@dataclass(slots=True, kw_only=True)
class Season:
    """A season at this moment."""

    spec: SeasonSpec
    first_match_id: int
    matches: int  # including those that are no longer listed
    updated: datetime = PUBLISHED
    frames_updated: datetime | None = None
    available: datetime = PUBLISHED
    list_changed: datetime = PUBLISHED
    unlisted: set[int] = field(default_factory=set)

    @property
    def path(self) -> str:
        return f"matches/{self.spec.competition_id}/{self.spec.season_id}.json"

    def listed(self) -> list[int]:
        """The ids of the matches that are listed, oldest first."""
        ids = range(self.first_match_id, self.first_match_id + self.matches)
        return [match_id for match_id in ids if match_id not in self.unlisted]


@dataclass(slots=True, kw_only=True)
class Match:
    """The freshness of a match at this moment."""

    came: datetime
    updated: datetime
    files_changed: datetime
    corrections: int = 0
    frames_updated: datetime | None = None  # None: no frames have been announced
    has_frames: bool = False


def published_match(season: Season, match_id: int) -> Match:
    """A match as it was before anything evolved; the lists' matches came a little apart."""
    number = match_id - season.first_match_id
    came = PUBLISHED - timedelta(minutes=(number * 37) % 9973, microseconds=(number * 811) % 9973)
    is_announced = number < season.spec.announced_frames
    return Match(
        came=came,
        updated=came,
        files_changed=came,
        frames_updated=came + timedelta(minutes=30) if is_announced else None,
        has_frames=number < season.spec.with_frames,
    )


def competition_entry(season: Season) -> Json:
    spec = season.spec
    frames = None if season.frames_updated is None else naive(season.frames_updated)
    return {
        "competition_id": spec.competition_id,
        "season_id": spec.season_id,
        "country_name": "Spain",
        "competition_name": spec.competition_name,
        "competition_gender": "male",
        "competition_youth": False,
        "competition_international": False,
        "season_name": spec.season_name,
        "match_updated": naive(season.updated),
        "match_updated_360": frames,
        "match_available_360": frames,
        "match_available": naive(season.available),
    }


def match_entry(spec: SeasonSpec, fixture: Fixture, match: Match) -> Json:
    dice = Dice("entry", fixture.match_id)
    home, away = fixture.teams
    entry: Json = {
        "match_id": fixture.match_id,
        "match_date": fixture.date.isoformat(),
        "kick_off": fixture.kick_off,
        "competition": {
            "competition_id": spec.competition_id,
            "country_name": "Spain",
            "competition_name": spec.competition_name,
        },
        "season": {"season_id": spec.season_id, "season_name": spec.season_name},
        "home_team": _team_entry("home", home),
        "away_team": _team_entry("away", away),
        "home_score": fixture.score[0],
        "away_score": fixture.score[1],
        "match_status": "available",
        "match_status_360": "available" if match.frames_updated else "scheduled",
        "last_updated": naive(match.updated),
        "last_updated_360": naive(match.frames_updated) if match.frames_updated else None,
        "metadata": METADATA,
        "match_week": 1 + fixture.round % 38,
        "competition_stage": {"id": 1, "name": "Regular Season"},
        "stadium": home.stadium,
    }
    if dice.chance(0.9):
        entry["referee"] = referee(dice)
    return entry


def naive(moment: datetime) -> str:
    """A timestamp as the provider writes it: UTC, without saying so, of varying precision."""
    moment = moment.astimezone(UTC).replace(tzinfo=None)
    if moment.minute % 10 == 3:
        return moment.isoformat(timespec="milliseconds")
    return moment.isoformat(timespec="microseconds")


def _team_entry(ground: str, team: Team) -> Json:
    return {
        f"{ground}_team_id": team.id,
        f"{ground}_team_name": team.name,
        f"{ground}_team_gender": "male",
        f"{ground}_team_group": None,
        "country": team.country,
        "managers": [team.manager],
    }
