"""Shots of a generated match, with what the goalkeeper does about them."""

from math import hypot

from ingestify.testing.statsbomb_record import (
    FEET,
    GOALKEEPER,
    Name,
    Place,
    Record,
    named,
    on_grid,
    position_reference,
    relate,
)
from ingestify.testing.statsbomb_sheet import POSITIONS, Side
from ingestify.testing.statsbomb_teams import Dice, Json

GOAL: Name = (97, "Goal")
MISSES: tuple[Name, ...] = (
    (100, "Saved"),
    (100, "Saved"),
    (98, "Off T"),
    (98, "Off T"),
    (96, "Blocked"),
    (99, "Post"),
)
KEEPER_ANSWERS: dict[str, tuple[Name, Name]] = {
    "Goal": ((26, "Goal Conceded"), (55, "No Touch")),
    "Saved": ((33, "Shot Saved"), (15, "Success")),
}
SHOT_FACED: Name = (32, "Shot Faced")


def shoot(dice: Dice, record: Record, place: Place, outcome: Name, *, is_brief: bool) -> None:
    """An attacker of the team that has the ball shoots; briefly told, nobody else is mentioned."""
    side = record.owner
    attackers = [position for position in record.on_pitch[side] if POSITIONS[position][1] >= 60]
    shot = record.add("Shot", side, dice.pick(attackers), place, seconds=0.6)
    details: Json = {
        "statsbomb_xg": round(min(0.9, 3.5 / (hypot(120 - place[0], 40 - place[1]) + 4) ** 1.5), 8),
        "end_location": _end_of_shot(dice, outcome[1]),
        "technique": named((93, "Normal")),
        "body_part": named(dice.pick((*FEET, (37, "Head")))),
        "type": named((87, "Open Play")),
        "outcome": named(outcome),
    }
    if not is_brief:
        details["freeze_frame"] = _freeze_frame(dice, record, side)
        relate(shot, _keeper_event(dice, record, outcome[1]))
    shot["shot"] = details
    record.pass_time(600)


def _keeper_event(dice: Dice, record: Record, outcome: str) -> Json:
    kind, result = KEEPER_ANSWERS.get(outcome, (SHOT_FACED, None))
    details = {"position": named((44, "Set")), "type": named(kind)}
    if result:
        details["outcome"] = named(result)
    place = on_grid(dice.between(1, 5), dice.between(36, 44))
    return record.add("Goal Keeper", 1 - record.owner, GOALKEEPER, place, goalkeeper=details)


def _end_of_shot(dice: Dice, outcome: str) -> list[float]:
    """Where the ball goes, with its height unless it is blocked."""

    def tenth(low: float, high: float) -> float:
        return round(dice.between(low, high), 1)

    match outcome:
        case "Goal":
            return [120.0, tenth(36.2, 43.8), tenth(0, 2.4)]
        case "Saved":
            return [tenth(115, 119), tenth(36.2, 43.8), tenth(0, 2.4)]
        case "Post":
            return [119.9, dice.pick((36.0, 44.0)), tenth(0, 2.4)]
        case "Blocked":
            return [tenth(104, 116), tenth(34, 46)]
    return [120.0, tenth(26, 35.5), tenth(0, 5)]


def _freeze_frame(dice: Dice, record: Record, side: Side) -> list[Json]:
    """Who stands around, always with the opponents' goalkeeper."""
    frame = []
    for team in (side, 1 - side):
        for position, player in record.on_pitch[team].items():
            is_keeper = position == GOALKEEPER
            if (is_keeper and team == side) or (not is_keeper and dice.chance(0.4)):
                continue
            place = on_grid(dice.between(98, 119), dice.between(24, 56))
            frame.append(
                {
                    "location": list(place),
                    "player": player.reference,
                    "position": position_reference(position),
                    "teammate": team == side,
                }
            )
    return frame
