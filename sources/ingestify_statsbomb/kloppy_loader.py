"""StatsBomb files as kloppy's EventDataset. kloppy is imported when something is loaded."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from ingestify import Dataset, LoadError

if TYPE_CHECKING:
    from kloppy.domain import EventDataset, Metadata

EVENTS, LINEUPS, FRAMES = "events", "lineups", "360-frames"
LEAGUE_STAGE = "Regular Season"


class Named(msgspec.Struct, frozen=True):
    """A manager, referee or competition stage."""

    id: int
    name: str


class Side(msgspec.Struct, frozen=True):
    """A team of the match."""

    home_team_id: int | None = None
    away_team_id: int | None = None
    managers: tuple[Named, ...] = ()

    @property
    def team_id(self) -> str:
        """As kloppy has it."""
        return str(self.home_team_id if self.away_team_id is None else self.away_team_id)


class MatchDetails(msgspec.Struct, frozen=True):
    """What the match list knows and the files do not."""

    match_date: dt.date | None = None
    home_team: Side = Side()
    away_team: Side = Side()
    home_score: int | None = None
    away_score: int | None = None
    match_week: int | None = None
    competition_stage: Named | None = None
    referee: Named | None = None

    @property
    def game_week(self) -> str | None:
        """The match week of a league, the name of the stage of anything else."""
        stage = self.competition_stage
        if stage is not None and stage.name != LEAGUE_STAGE:
            return stage.name
        return None if self.match_week is None else str(self.match_week)


def load(
    dataset: Dataset,
    files: Mapping[str, bytes],
    *,
    three_sixty: bool = True,
    **options: Any,
) -> EventDataset:
    """The events of *dataset*, from the decoded bytes of each of its feeds.

    Takes about a second of CPU, and five more with 360 frames; blocks meanwhile. What kloppy
    leaves empty is filled from the match list's entry: game id, date (midnight UTC, since
    kick-off times are local and name no zone), score, game week, referee and coaches.

    Args:
        three_sixty: whether to attach 360 frames where there are some.
        options: those of `kloppy.statsbomb.load`, such as `event_types`, `coordinates`, and
            `additional_metadata`, which comes before what the entry says.

    Raises:
        LoadError: a feed is missing, kloppy is not installed, or it cannot load the files.
    """
    missing = [feed for feed in (EVENTS, LINEUPS) if feed not in files]
    if missing:
        raise LoadError(
            f"{dataset.name}: kloppy needs {' and '.join(missing)}, which this Dataset lacks; "
            f"it has: {', '.join(files) or 'no files'}"
        )
    try:
        from kloppy import statsbomb
    except ImportError as exc:
        raise LoadError("kloppy is not installed; try: pip install 'ingestify[kloppy]'") from exc

    try:
        loaded: EventDataset = statsbomb.load(
            event_data=files[EVENTS],
            lineup_data=files[LINEUPS],
            three_sixty_data=files.get(FRAMES) if three_sixty else None,
            **options,
        )
    except Exception as exc:
        # Files that it does not expect end in a KeyError, or in a StopIteration, which no future
        # can carry: whoever waits for this in another thread would never hear of it.
        reason = f"{type(exc).__name__}: {exc}"
        raise LoadError(f"{dataset.name}: kloppy cannot load it: {reason}") from exc
    _complete(loaded.metadata, dataset)
    return loaded


def _details(metadata: Mapping[str, Any]) -> MatchDetails:
    try:
        return msgspec.convert(metadata, MatchDetails)
    except msgspec.ValidationError:
        return MatchDetails()  # the events can be read without; what is unknown stays empty


def _complete(metadata: Metadata, dataset: Dataset) -> None:
    # Filled in afterwards, since kloppy before 3.19 refuses a score as additional metadata.
    details = _details(dataset.metadata)
    known = {"game_id": str(dataset.identifier["match_id"]), **_known_metadata(details)}
    for name, value in known.items():
        if not getattr(metadata, name):
            setattr(metadata, name, value)

    sides = {side.team_id: side for side in (details.home_team, details.away_team)}
    for team in metadata.teams:
        managers = sides[team.team_id].managers if team.team_id in sides else ()
        names = ", ".join(manager.name for manager in managers)
        team.coach = getattr(team, "coach", None) or names or None  # since kloppy 3.19


def _known_metadata(details: MatchDetails) -> dict[str, Any]:
    from kloppy.domain import Official, OfficialType, Score

    known: dict[str, Any] = {"game_week": details.game_week}
    if details.match_date is not None:
        known["date"] = dt.datetime.combine(details.match_date, dt.time(), dt.UTC)
    if details.home_score is not None and details.away_score is not None:
        known["score"] = Score(home=details.home_score, away=details.away_score)
    if details.referee is not None:
        role = OfficialType.MainReferee
        name = details.referee.name
        known["officials"] = [Official(official_id=str(details.referee.id), name=name, role=role)]
    return known
