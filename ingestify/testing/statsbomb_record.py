"""The record of a generated match: the envelope of every StatsBomb event, the clock, the sides."""

from ingestify.testing.statsbomb_sheet import HALF_MINUTES, POSITIONS, Sheet, Side
from ingestify.testing.statsbomb_teams import Dice, Json, Player

Place = tuple[float, float]  # of 120 by 80; each team attacks towards 120
Name = tuple[int, str]

GOALKEEPER = 1  # the position
FEET: tuple[Name, ...] = ((40, "Right Foot"), (40, "Right Foot"), (38, "Left Foot"))
TYPES = {
    "Ball Receipt*": 42, "Ball Recovery": 2, "Carry": 43, "Clearance": 9, "Dispossessed": 3,
    "Dribble": 14, "Dribbled Past": 39, "Duel": 4, "Foul Committed": 22, "Foul Won": 21,
    "Goal Keeper": 23, "Half End": 34, "Half Start": 18, "Interception": 10, "Pass": 30,
    "Pressure": 17, "Shot": 16, "Starting XI": 35, "Substitution": 19,
}  # fmt: skip
PATTERNS = {
    "Regular Play": 1, "From Corner": 2, "From Free Kick": 3, "From Throw In": 4,
    "From Goal Kick": 7, "From Kick Off": 9,
}  # fmt: skip


class Record:
    """The events so far, and what the next one needs to know."""

    def __init__(self, dice: Dice, sheet: Sheet) -> None:
        self.events: list[Json] = []
        self.on_pitch: tuple[dict[int, Player], dict[int, Player]] = (
            sheet.starters(0),
            sheet.starters(1),
        )
        self.owner: Side = 0
        self.pattern = "Regular Play"
        self.clock = 0  # milliseconds of the period
        self.deadline = 0  # the clock does not pass it before the next stoppage
        self._dice = dice
        self._teams = [{"id": team.id, "name": team.name} for team in sheet.fixture.teams]
        self._period = 1
        self._possession = 1

    def start_period(self, period: int) -> None:
        self._period, self.clock = period, 0

    def give_ball(self, side: Side, pattern: str = "Regular Play") -> None:
        """A new possession begins."""
        self._possession += 1
        self.owner, self.pattern = side, pattern

    def pass_time(self, milliseconds: int) -> None:
        self.clock = min(self.deadline, self.clock + max(0, milliseconds))

    def add(
        self,
        kind: str,
        side: Side,
        position: int | None = None,
        place: Place | None = None,
        *,
        seconds: float | None = 0.0,
        **details: object,
    ) -> Json:
        """Write down what the player at *position* does now."""
        whole_seconds, milliseconds = divmod(self.clock, 1000)
        minute, second = divmod(whole_seconds, 60)
        event: Json = {
            "id": self._dice.uuid(),
            "index": len(self.events) + 1,
            "period": self._period,
            "timestamp": f"{minute // 60:02}:{minute % 60:02}:{second:02}.{milliseconds:03}",
            "minute": minute + (self._period - 1) * HALF_MINUTES,
            "second": second,
            "type": {"id": TYPES[kind], "name": kind},
            "possession": self._possession,
            "possession_team": self._teams[self.owner],
            "play_pattern": {"id": PATTERNS[self.pattern], "name": self.pattern},
            "team": self._teams[side],
        }
        if position is not None:
            event["player"] = self.on_pitch[side][position].reference
            event["position"] = position_reference(position)
        if place is not None:
            event["location"] = list(place)
        if seconds is not None:
            event["duration"] = seconds
        event.update(details)
        self.events.append(event)
        return event


def relate(first: Json, second: Json) -> None:
    """Name two events in each other's related events."""
    first.setdefault("related_events", []).append(second["id"])
    second.setdefault("related_events", []).append(first["id"])


def position_reference(position: int) -> Json:
    return {"id": position, "name": POSITIONS[position][0]}


def named(name: Name) -> Json:
    return {"id": name[0], "name": name[1]}


def mirrored(place: Place) -> Place:
    """The same spot, as the other team counts."""
    return (round(120.1 - place[0], 1), round(80.1 - place[1], 1))


def on_grid(x: float, y: float) -> Place:
    """The nearest spot of the pitch, in tenths from 0.1."""
    return (round(min(120.0, max(0.1, x)), 1), round(min(80.0, max(0.1, y)), 1))
