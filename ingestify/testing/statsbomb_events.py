"""Plays a generated match: events in the StatsBomb format that agree with the match's sheet."""

from math import atan2, hypot

from ingestify.testing.statsbomb_record import (
    FEET,
    GOALKEEPER,
    Name,
    Place,
    Record,
    mirrored,
    named,
    on_grid,
    position_reference,
    relate,
)
from ingestify.testing.statsbomb_sheet import (
    AWAY,
    HOME,
    POSITIONS,
    Card,
    Goal,
    Sheet,
    Side,
    Stoppage,
    Substitution,
)
from ingestify.testing.statsbomb_shots import GOAL, MISSES, shoot
from ingestify.testing.statsbomb_teams import Dice, Json

FEWEST_EVENTS = 60  # of a match that is played; a briefer one is its frame and its goals
CENTRE: Place = (60.0, 40.0)
INCOMPLETE: Name = (9, "Incomplete")
PASS_TYPES: dict[str, Name] = {
    "From Corner": (61, "Corner"),
    "From Free Kick": (62, "Free Kick"),
    "From Goal Kick": (63, "Goal Kick"),
    "From Kick Off": (65, "Kick Off"),
    "From Throw In": (67, "Throw-in"),
}


def play(seed: int, sheet: Sheet, *, about: int) -> list[Json]:
    """The content of the match's events file, of about so many events."""
    return _Match(Dice(seed, "events", sheet.fixture.match_id), sheet, about).play()


class _Match:
    """A match under way."""

    def __init__(self, dice: Dice, sheet: Sheet, about: int) -> None:
        self.dice = dice
        self.sheet = sheet
        self.about = about
        self.is_brief = about < FEWEST_EVENTS
        self.record = Record(dice, sheet)
        self.set_piece: str | None = None  # how play restarts with the next pass

    def play(self) -> list[Json]:
        for side in (HOME, AWAY):
            self._starting_eleven(side)
        self._half(1, kick_off=HOME)
        if not self.is_brief:
            self._half(2, kick_off=AWAY)
        return self.record.events

    def _half(self, period: int, *, kick_off: Side) -> None:
        record, length = self.record, self.sheet.half_lengths[period - 1]
        begun_with = len(record.events)
        wanted = 0 if self.is_brief else self.about * period // 2 - begun_with
        record.start_period(period)
        self._frame("Half Start")
        self._restart("From Kick Off", kick_off)
        if self.is_brief:
            self._pass(self._anyone(kick_off), CENTRE, self._anyone(kick_off))
        for stoppage in [s for s in self.sheet.stoppages if s.at.period == period] + [None]:
            record.deadline = stoppage.at.milliseconds if stoppage else length
            while (done := len(record.events) - begun_with) < wanted * record.deadline // length:
                record.pass_time(done * length // wanted - record.clock)
                self._possession()
            record.clock = record.deadline
            if stoppage:
                self._stop(stoppage)
        self._frame("Half End")

    def _stop(self, stoppage: Stoppage) -> None:
        match stoppage:
            case Goal(side=side):
                self._restart(None, side)
                place = on_grid(self._between(100, 114), self._between(32, 48))
                shoot(self.dice, self.record, place, GOAL, is_brief=self.is_brief)
                self._restart("From Kick Off", 1 - side)
            case Substitution(side=side, off=off, on=on):
                players = self.record.on_pitch[side]
                position = next(p for p, player in players.items() if player is off)
                change = {"outcome": named((103, "Tactical")), "replacement": on.reference}
                self.record.add("Substitution", side, position, substitution=change)
                players[position] = on
            case Card(side=side, player=booked):
                players = self.record.on_pitch[side]
                position = next(p for p, player in players.items() if player is booked)
                self._foul(side, position, self._near(position), is_booked=True)

    def _starting_eleven(self, side: Side) -> None:
        lineup = [
            {
                "player": player.reference,
                "position": position_reference(position),
                "jersey_number": player.jersey_number,
            }
            for position, player in self.record.on_pitch[side].items()
        ]
        tactics = {"formation": self.sheet.formations[side], "lineup": lineup}
        self.record.add("Starting XI", side, tactics=tactics)

    def _frame(self, kind: str) -> None:
        """A half starts or ends for both teams; a brief match says so once."""
        first = self.record.add(kind, AWAY)
        if not self.is_brief:
            relate(first, self.record.add(kind, HOME))

    def _restart(self, set_piece: str | None, side: Side) -> None:
        self.set_piece = set_piece
        self.record.give_ball(side, set_piece or "Regular Play")

    def _possession(self) -> None:
        """The owner of the ball passes and carries it until it is lost, out, or shot at goal."""
        position = GOALKEEPER if self.set_piece == "From Goal Kick" else self._anyone(self._owner)
        place = self._restart_place() or self._near(position)
        while True:
            receiver = self._anyone(self._owner, but=position)
            if self.dice.chance(0.16):
                return self._misplace(position, place, receiver)
            place = self._pass(position, place, receiver)
            position = receiver
            if self.dice.chance(0.82):
                place = self._carry(position, place)
            if place[0] > 96 and self.dice.chance(0.3):
                return self._miss(place)
            if self.dice.chance(0.05):
                return self._lose_duel(position, place)
            if self.dice.chance(0.015):
                opponent = 1 - self._owner
                return self._foul(opponent, self._anyone(opponent), mirrored(place))

    def _restart_place(self) -> Place | None:
        flank = self.dice.pick((0.1, 80.0))
        match self.set_piece:
            case "From Kick Off":
                return CENTRE
            case "From Corner":
                return (120.0, flank)
            case "From Throw In":
                return on_grid(self._between(20, 110), flank)
        return None

    def _pass(
        self, position: int, place: Place, receiver: int, outcome: Name | None = None
    ) -> Place:
        """A pass, and its receipt unless it goes out; returns where it ends."""
        record, side = self.record, self._owner
        end = self._near(receiver, ahead_of=place[0])
        length = hypot(end[0] - place[0], end[1] - place[1])
        details: Json = {
            "recipient": record.on_pitch[side][receiver].reference,
            "length": round(length, 6),
            "angle": round(atan2(end[1] - place[1], end[0] - place[0]), 6),
            "height": named((1, "Ground Pass") if length < 28 else (3, "High Pass")),
            "end_location": list(end),
        }
        if self.set_piece in PASS_TYPES:
            details["type"] = named(PASS_TYPES[self.set_piece])
        if outcome:
            details["outcome"] = named(outcome)
        details["body_part"] = named(self.dice.pick(FEET))
        self.set_piece = None
        seconds = round(0.4 + length / 18, 6)
        event = record.add("Pass", side, position, place, seconds=seconds)
        event["pass"] = details
        self._press(event, place)
        record.pass_time(int(seconds * 1000))
        if not self.is_brief and outcome in (None, INCOMPLETE):
            failed = {"ball_receipt": {"outcome": named(INCOMPLETE)}} if outcome else {}
            relate(event, record.add("Ball Receipt*", side, receiver, end, seconds=None, **failed))
        return end

    def _carry(self, position: int, place: Place) -> Place:
        end = on_grid(place[0] + self._between(-3, 11), place[1] + self._between(-6, 6))
        seconds = round(0.3 + hypot(end[0] - place[0], end[1] - place[1]) / 5, 6)
        details = {"end_location": list(end)}
        event = self.record.add(
            "Carry", self._owner, position, place, seconds=seconds, carry=details
        )
        self._press(event, place)
        self.record.pass_time(int(seconds * 1000))
        return end

    def _press(self, event: Json, place: Place) -> None:
        if self.is_brief or not self.dice.chance(0.16):
            return
        opponent = 1 - self._owner
        near = on_grid(
            mirrored(place)[0] - self._between(0, 3), mirrored(place)[1] + self._between(-2, 2)
        )
        seconds = round(self._between(0.2, 1.8), 6)
        pressure = self.record.add(
            "Pressure", opponent, self._anyone(opponent), near, seconds=seconds
        )
        event["under_pressure"] = True
        relate(event, pressure)

    def _misplace(self, position: int, place: Place, receiver: int) -> None:
        """A pass goes out, or the other team gets to it."""
        opponent = 1 - self._owner
        if self.dice.chance(0.2):
            self._pass(position, place, receiver, (75, "Out"))
            return self._restart("From Throw In", opponent)
        end = mirrored(self._pass(position, place, receiver, INCOMPLETE))
        thief = self._anyone(opponent)
        match self.dice.below(4):
            case 0:
                won = {"outcome": named((4, "Won"))}
                self.record.add("Interception", opponent, thief, end, interception=won)
            case 1 if end[0] < 40:
                cleared = {"body_part": named(self.dice.pick(FEET))}
                self.record.add("Clearance", opponent, thief, end, clearance=cleared)
            case _:
                self.record.add("Ball Recovery", opponent, thief, end)
        return self._restart(None, opponent)

    def _lose_duel(self, position: int, place: Place) -> None:
        """The ball is tackled away, or dribbled past an opponent and then lost."""
        opponent = 1 - self._owner
        thief = self._anyone(opponent)
        if self.dice.chance(0.4):
            won = {"outcome": named((8, "Complete"))}
            dribble = self.record.add("Dribble", self._owner, position, place, dribble=won)
            past = self.record.add("Dribbled Past", opponent, thief, mirrored(place))
            relate(dribble, past)
        lost = self.record.add("Dispossessed", self._owner, position, place)
        tackle = {"type": named((11, "Tackle")), "outcome": named((4, "Won"))}
        relate(lost, self.record.add("Duel", opponent, thief, mirrored(place), duel=tackle))
        self._restart(None, opponent)

    def _foul(self, side: Side, position: int, place: Place, *, is_booked: bool = False) -> None:
        """*side* commits a foul; the other one goes on with a free kick."""
        foul = self.record.add("Foul Committed", side, position, place)
        if is_booked:
            foul["foul_committed"] = {"card": named((7, "Yellow Card"))}
        victim = self._anyone(1 - side)
        relate(foul, self.record.add("Foul Won", 1 - side, victim, mirrored(place)))
        self._restart("From Free Kick", 1 - side)

    def _miss(self, place: Place) -> None:
        side = self._owner
        shoot(self.dice, self.record, place, self.dice.pick(MISSES), is_brief=self.is_brief)
        if self.dice.chance(0.3):
            self._restart("From Corner", side)
        else:
            self._restart("From Goal Kick", 1 - side)

    @property
    def _owner(self) -> Side:
        return self.record.owner

    def _anyone(self, side: Side, *, but: int = GOALKEEPER) -> int:
        """A position of *side* other than *but*; seldom the goalkeeper."""
        positions = tuple(self.record.on_pitch[side])
        position = self.dice.pick(positions)
        if position == GOALKEEPER and self.dice.chance(0.5):
            position = self.dice.pick(positions)
        while position == but:
            position = self.dice.pick(positions)
        return position

    def _near(self, position: int, *, ahead_of: float | None = None) -> Place:
        """Somewhere about the place of *position*, drawn forward with the ball."""
        _, x, y = POSITIONS[position]
        if ahead_of is not None and position != GOALKEEPER:
            x = 0.5 * x + 0.5 * (ahead_of + 14)
        return on_grid(x + self._between(-12, 12), y + self._between(-10, 10))

    def _between(self, low: float, high: float) -> float:
        return self.dice.between(low, high)
