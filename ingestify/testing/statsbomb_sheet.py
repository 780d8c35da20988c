"""What is settled about a generated match before it is played: sides, score, changes, cards."""

from dataclasses import dataclass
from datetime import date, timedelta

from ingestify.testing.statsbomb_teams import Dice, Json, Player, Team, teams_of

HALF_MINUTES = 45
POSITIONS: dict[int, tuple[str, float, float]] = {  # id: name, usual place on a pitch of 120 by 80
    1: ("Goalkeeper", 6, 40),
    2: ("Right Back", 38, 70),
    3: ("Right Center Back", 30, 50),
    5: ("Left Center Back", 30, 30),
    6: ("Left Back", 38, 10),
    9: ("Right Defensive Midfield", 48, 50),
    10: ("Center Defensive Midfield", 46, 40),
    11: ("Left Defensive Midfield", 48, 30),
    12: ("Right Midfield", 62, 68),
    13: ("Right Center Midfield", 62, 50),
    15: ("Left Center Midfield", 62, 30),
    16: ("Left Midfield", 62, 12),
    17: ("Right Wing", 80, 68),
    19: ("Center Attacking Midfield", 76, 40),
    21: ("Left Wing", 80, 12),
    22: ("Right Center Forward", 88, 46),
    23: ("Center Forward", 90, 40),
    24: ("Left Center Forward", 88, 34),
}
FORMATIONS: dict[int, tuple[int, ...]] = {
    442: (1, 2, 3, 5, 6, 12, 13, 15, 16, 22, 24),
    433: (1, 2, 3, 5, 6, 10, 13, 15, 17, 21, 23),
    4231: (1, 2, 3, 5, 6, 9, 11, 17, 19, 21, 23),
}
GOALS = (0,) * 25 + (1,) * 34 + (2,) * 24 + (3,) * 11 + (4,) * 5 + (5,)
HOME, AWAY = 0, 1
Side = int


@dataclass(frozen=True, slots=True, kw_only=True)
class Fixture:
    """What the match list says of a match, but for its timestamps."""

    match_id: int
    round: int  # from 0
    teams: tuple[Team, Team]  # home, away
    date: date
    kick_off: str
    score: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Moment:
    """A point of a match; the clock starts again in each period."""

    period: int
    milliseconds: int

    @property
    def match_clock(self) -> str:
        """Minutes and seconds as spectators count them, such as 56:38."""
        seconds = self.milliseconds // 1000 + (self.period - 1) * HALF_MINUTES * 60
        return f"{seconds // 60:02}:{seconds % 60:02}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    at: Moment
    side: Side


@dataclass(frozen=True, slots=True, kw_only=True)
class Substitution:
    at: Moment
    side: Side
    off: Player
    on: Player


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    at: Moment
    side: Side
    player: Player


Stoppage = Goal | Substitution | Card


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """The course of a match that its lineups and its events have to agree on."""

    fixture: Fixture
    formations: tuple[int, int]
    half_lengths: tuple[int, ...]  # milliseconds; two, or one in a brief match
    stoppages: tuple[Stoppage, ...]  # in order of time

    def starters(self, side: Side) -> dict[int, Player]:
        """Who starts at which position."""
        positions = FORMATIONS[self.formations[side]]
        return dict(zip(positions, self.fixture.teams[side].squad[:11], strict=True))


def fixture(
    seed: int, *, match_id: int, competition_id: int, number: int, first_year: int, most_goals: int
) -> Fixture:
    """The match with that *number* in a double round of the competition's clubs."""
    dice = Dice(seed, "fixture", match_id)
    teams = teams_of(seed, competition_id)
    matches_per_round = len(teams) // 2
    round_number, pair = divmod(number, matches_per_round)
    home, away = _pairing(len(teams), round_number, pair)
    season_round = round_number % (2 * (len(teams) - 1))
    day = date(first_year, 8, 17) + timedelta(days=7 * season_round + pair % 3)
    score = dice.pick(GOALS), dice.pick(GOALS)
    return Fixture(
        match_id=match_id,
        round=round_number,
        teams=(teams[home], teams[away]),
        date=day,
        kick_off=dice.pick(("14:00:00.000", "16:15:00.000", "18:30:00.000", "21:00:00.000")),
        score=score if sum(score) <= most_goals else (min(1, most_goals), 0),
    )


def sheet(seed: int, match: Fixture, *, is_brief: bool) -> Sheet:
    """Settle the course of *match*; a brief one is one half without substitutions and cards."""
    dice = Dice(seed, "sheet", match.match_id)
    halves = tuple(
        (HALF_MINUTES * 60 + dice.below(240)) * 1000 + dice.below(1000)
        for _ in range(1 if is_brief else 2)
    )
    stoppages: list[Stoppage] = [
        Goal(at=_moment(dice, halves), side=side)
        for side in (HOME, AWAY)
        for _ in range(match.score[side])
    ]
    if not is_brief:
        for side in (HOME, AWAY):
            stoppages += _changes(dice, side, match.teams[side].squad, halves)
    return Sheet(
        fixture=match,
        formations=(dice.pick(tuple(FORMATIONS)), dice.pick(tuple(FORMATIONS))),
        half_lengths=halves,
        stoppages=tuple(sorted(stoppages, key=lambda stoppage: stoppage.at)),
    )


def lineups(match: Sheet) -> list[Json]:
    """The content of the match's lineups file."""
    return [
        {
            "team_id": team.id,
            "team_name": team.name,
            "lineup": [_lineup_entry(match, side, player) for player in team.squad],
        }
        for side, team in enumerate(match.fixture.teams)
    ]


def _pairing(teams: int, round_number: int, pair: int) -> tuple[int, int]:
    """Who plays at home and who away, by the circle method."""
    turn = round_number % (teams - 1)
    circle = teams - 1
    first, second = (turn + pair) % circle, (turn - pair) % circle
    if pair == 0:
        second = circle
    is_return = (round_number // circle) % 2 == 1
    return (second, first) if is_return != (turn % 2 == 1) else (first, second)


def _moment(dice: Dice, halves: tuple[int, ...]) -> Moment:
    period = 1 + dice.below(len(halves))
    return Moment(
        period=period, milliseconds=int(dice.between(60_000, halves[period - 1] - 30_000))
    )


def _changes(
    dice: Dice, side: Side, squad: tuple[Player, ...], halves: tuple[int, ...]
) -> list[Stoppage]:
    field_players = dice.shuffled(squad[1:11])
    substitutes = dice.shuffled(squad[12:])
    changes: list[Stoppage] = []
    for off, on in zip(field_players[: 2 + dice.below(3)], substitutes, strict=False):
        at = Moment(period=2, milliseconds=int(dice.between(0.1, 0.95) * halves[1]))
        changes.append(Substitution(at=at, side=side, off=off, on=on))
    for player in field_players[6 : 6 + dice.below(4)]:  # these stay until the end
        changes.append(Card(at=_moment(dice, halves), side=side, player=player))
    return changes


def _lineup_entry(match: Sheet, side: Side, player: Player) -> Json:
    return {
        "player_id": player.id,
        "player_name": player.name,
        "player_nickname": player.nickname,
        "jersey_number": player.jersey_number,
        "country": player.country,
        "cards": [
            {
                "time": stoppage.at.match_clock,
                "card_type": "Yellow Card",
                "reason": "Foul Committed",
                "period": stoppage.at.period,
            }
            for stoppage in match.stoppages
            if isinstance(stoppage, Card) and stoppage.player is player
        ],
        "positions": _positions_of(match, side, player),
    }


def _positions_of(match: Sheet, side: Side, player: Player) -> list[Json]:
    held = {starter.id: position for position, starter in match.starters(side).items()}
    entered: Moment | None = None
    left: Moment | None = None
    for stoppage in match.stoppages:
        if isinstance(stoppage, Substitution) and stoppage.side == side:
            held[stoppage.on.id] = held[stoppage.off.id]
            if stoppage.on is player:
                entered = stoppage.at
            if stoppage.off is player:
                left = stoppage.at
    if player.id not in held:
        return []
    return [
        {
            "position_id": held[player.id],
            "position": POSITIONS[held[player.id]][0],
            "from": entered.match_clock if entered else "00:00",
            "to": left.match_clock if left else None,
            "from_period": entered.period if entered else 1,
            "to_period": left.period if left else None,
            "start_reason": "Substitution - On (Tactical)" if entered else "Starting XI",
            "end_reason": "Substitution - Off (Tactical)" if left else "Final Whistle",
        }
    ]
