"""Corrections of a generated match, and the 360 frames of its events."""

from ingestify.testing.statsbomb_record import on_grid
from ingestify.testing.statsbomb_teams import Dice, Json

CORRECTED_SHARE = 0.03


def correct(seed: int, match_id: int, events: list[Json], *, times: int) -> None:
    """Correct some events in place, *times* over; no two numbers of times give equal events.

    Identities, times and goals stay as they were; places, and durations (which only grow), change.
    """
    placed = [event for event in events if "location" in event and "duration" in event]
    for turn in range(1, times + 1):
        dice = Dice(seed, "correction", match_id, turn)
        for _ in range(max(1, int(len(placed) * CORRECTED_SHARE))):
            event = dice.pick(placed)
            x, y = event["location"]
            event["location"] = list(on_grid(x + dice.between(-2, 2), y + dice.between(-2, 2)))
            event["duration"] = round(event["duration"] + 0.01 + dice.unit() / 10, 6)


def three_sixty(seed: int, match_id: int, events: list[Json]) -> list[Json]:
    """The content of the match's 360 file: a frame for most events that have a place."""
    dice = Dice(seed, "frames", match_id)
    return [_frame(dice, event) for event in events if "location" in event and dice.chance(0.9)]


def _frame(dice: Dice, event: Json) -> Json:
    x, y = event["location"]
    left, right = max(0.0, x - 32), min(120.0, x + 32)
    players = [{"teammate": True, "actor": True, "keeper": False, "location": [x, y]}]
    for _ in range(8 + dice.below(8)):
        spot = on_grid(dice.between(left, right), dice.between(0.1, 80))
        players.append(
            {
                "teammate": dice.chance(0.5),
                "actor": False,
                "keeper": False,
                "location": list(spot),
            }
        )
    return {
        "event_uuid": event["id"],
        "visible_area": [left, 0.0, left, 80.0, right, 80.0, right, 0.0, left, 0.0],
        "freeze_frame": players,
    }
