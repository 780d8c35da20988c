"""The generated StatsBomb-format provider."""

import hashlib
import subprocess
import sys
from collections import Counter
from datetime import datetime

import orjson
import pytest
from kloppy import statsbomb
from kloppy.domain import EventDataset, ShotEvent, ShotResult

from ingestify.testing import DEMO_SEASONS, Change, MatchSize, SeasonSpec, StatsBombWorld

FEW = (SeasonSpec(competition_id=11, season_id=42, matches=4),)
WITH_FRAMES = (
    SeasonSpec(competition_id=11, season_id=90, matches=4, with_frames=2, missing_frames=1),
)


def read(world, path):
    resource = world.get(path)
    assert resource is not None, path
    return orjson.loads(resource.body)


def snapshot(world):
    """What every path that is or may soon be there answers: bytes and date, or None."""
    paths = ["competitions.json"]
    for spec in world.seasons:
        paths.append(f"matches/{spec.competition_id}/{spec.season_id}.json")
        first = world.match_ids(spec.competition_id, spec.season_id)[0]
        for match_id in range(first, first + spec.matches + 2):
            paths += [
                f"{folder}/{match_id}.json" for folder in ("events", "lineups", "three-sixty")
            ]
    found = {path: world.get(path) for path in paths}
    return {
        path: resource and (resource.body, resource.last_modified)
        for path, resource in found.items()
    }


def goals_by_team(events):
    return Counter(
        event["team"]["id"]
        for event in events
        if event["type"]["name"] == "Shot" and event["shot"]["outcome"]["name"] == "Goal"
    )


def score_of(entry):
    return {
        entry["home_team"]["home_team_id"]: entry["home_score"],
        entry["away_team"]["away_team_id"]: entry["away_score"],
    }


def load_with_kloppy(world, match_id) -> EventDataset:
    frames = world.get(f"three-sixty/{match_id}.json")
    return statsbomb.load(
        event_data=world.get(f"events/{match_id}.json").body,
        lineup_data=world.get(f"lineups/{match_id}.json").body,
        three_sixty_data=frames and frames.body,
    )


def goals_in_kloppy(dataset):
    return Counter(
        int(event.team.team_id)
        for event in dataset.events
        if isinstance(event, ShotEvent) and event.result is ShotResult.GOAL
    )


@pytest.mark.parametrize(
    ("size", "events_between", "bytes_between"),
    [
        (MatchSize.DEMO, (500, 700), (400_000, 700_000)),
        (MatchSize.REAL, (3_000, 4_000), (2_000_000, 4_000_000)),
    ],
)
def test_kloppy_loads_matches_of_real_proportions(size, events_between, bytes_between):
    """
    Events are as many and as big as said, and the score is the same in list, events and kloppy.
    """
    world = StatsBombWorld(seed=3, size=size, seasons=FEW)
    entry = max(read(world, "matches/11/42.json"), key=lambda entry: sum(score_of(entry).values()))
    body = world.get(f"events/{entry['match_id']}.json").body
    events = orjson.loads(body)

    dataset = load_with_kloppy(world, entry["match_id"])

    assert events_between[0] <= len(events) <= events_between[1]
    assert bytes_between[0] <= len(body) <= bytes_between[1]
    assert sum(score_of(entry).values()) > 0
    assert goals_by_team(events) == Counter(score_of(entry))
    assert goals_in_kloppy(dataset) == Counter(score_of(entry))
    assert [int(team.team_id) for team in dataset.metadata.teams] == list(score_of(entry))
    assert {event.event_id for event in dataset.events} >= {
        event["id"] for event in events if event["type"]["name"] in ("Pass", "Carry", "Shot")
    }


def test_kloppy_loads_tiny_matches():
    """
    The smallest matches are small, and still those of the list.
    """
    world = StatsBombWorld(size=MatchSize.TINY, seasons=FEW)

    for entry in read(world, "matches/11/42.json"):
        match_id = entry["match_id"]
        assert goals_in_kloppy(load_with_kloppy(world, match_id)) == Counter(score_of(entry))
        assert len(world.get(f"events/{match_id}.json").body) < 6_500
        assert 8_000 < len(world.get(f"lineups/{match_id}.json").body) < 12_000


def test_kloppy_loads_360_frames():
    """
    Frames belong to events of the match, so that kloppy attaches them.
    """
    world = StatsBombWorld(size=200, seasons=WITH_FRAMES)
    match_id = world.match_ids(11, 90)[0]

    dataset = load_with_kloppy(world, match_id)

    with_frames = [event for event in dataset.events if event.freeze_frame]
    assert len(with_frames) > 100
    assert all(event.freeze_frame.players_data for event in with_frames)


def test_scores_line_ups_and_events_agree_in_every_match():
    """
    Each listed match has the goals of its score, the lineups of its two teams, and players who are
    in them; the clock of a period never runs backwards.
    """
    world = StatsBombWorld(seed=1, size=150, seasons=DEMO_SEASONS)
    entries = read(world, "matches/11/42.json") + read(world, "matches/11/90.json")
    assert len(entries) == len({entry["match_id"] for entry in entries}) == 33 + 35

    for entry in entries:
        events = read(world, f"events/{entry['match_id']}.json")
        sides = read(world, f"lineups/{entry['match_id']}.json")
        squads = {side["team_id"]: {p["player_id"] for p in side["lineup"]} for side in sides}

        assert list(squads) == list(score_of(entry))
        assert goals_by_team(events) == Counter(score_of(entry))
        assert [event["index"] for event in events] == list(range(1, len(events) + 1))
        assert len({event["id"] for event in events}) == len(events)
        moments = [(event["period"], event["timestamp"]) for event in events]
        assert moments == sorted(moments)
        for event in events:
            if "player" in event:
                assert event["player"]["id"] in squads[event["team"]["id"]]


def test_lineups_tell_the_substitutions_and_cards_of_the_events():
    """
    Who comes on, and who is booked, is the same in both files.
    """
    world = StatsBombWorld(seed=1, size=MatchSize.DEMO, seasons=FEW)
    booked_somewhere = False

    for match_id in world.match_ids(11, 42):
        events = read(world, f"events/{match_id}.json")
        lineup = [p for side in read(world, f"lineups/{match_id}.json") for p in side["lineup"]]

        came_on = {e["substitution"]["replacement"]["id"] for e in events if "substitution" in e}
        booked = {e["player"]["id"] for e in events if "card" in e.get("foul_committed", {})}
        booked_somewhere |= bool(booked)
        assert came_on == {
            p["player_id"] for p in lineup for held in p["positions"] if held["from"] != "00:00"
        }
        assert booked == {p["player_id"] for p in lineup if p["cards"]}

    assert booked_somewhere


def test_a_team_meets_every_other_twice_in_a_season():
    """
    The fixtures of a full season are a double round: each pair once at each ground.
    """
    season = SeasonSpec(competition_id=2, season_id=44, matches=380)
    world = StatsBombWorld(size=MatchSize.TINY, seasons=[season])

    pairs = {tuple(score_of(entry)) for entry in read(world, "matches/2/44.json")}
    pairs_as_met = [
        (entry["home_team"]["home_team_id"], entry["away_team"]["away_team_id"])
        for entry in read(world, "matches/2/44.json")
    ]

    assert len(pairs) == len(set(pairs_as_met)) == 380
    assert all(home != away for home, away in pairs_as_met)


def test_the_same_seed_gives_the_same_bytes_in_another_process():
    """
    Bytes depend on the seed, the size and the evolutions, on nothing of the process.
    """
    program = (
        "import hashlib; from ingestify.testing import *\n"
        "world = StatsBombWorld(7, size=300)\n"
        "match_id = world.match_ids(11, 90)[3]\n"
        "world.correct_events(match_id)\n"
        "for path in ('competitions.json', 'matches/11/90.json', f'events/{match_id}.json',\n"
        "             f'lineups/{match_id}.json'):\n"
        "    print(hashlib.sha256(world.get(path).body).hexdigest())\n"
    )
    elsewhere = [
        subprocess.run(
            [sys.executable, "-c", program],
            check=True,
            capture_output=True,
            text=True,
            env={"PYTHONHASHSEED": hash_seed, "PYTHONPATH": ":".join(filter(None, sys.path))},
        ).stdout.split()
        for hash_seed in ("1", "2")
    ]

    world = StatsBombWorld(7, size=300)
    match_id = world.match_ids(11, 90)[3]
    world.correct_events(match_id)
    paths = ("competitions.json", "matches/11/90.json")
    paths += (f"events/{match_id}.json", f"lineups/{match_id}.json")
    here = [hashlib.sha256(world.get(path).body).hexdigest() for path in paths]

    assert elsewhere == [here, here]


def test_seeds_differ():
    """
    Another seed is another provider, with the same match ids.
    """
    one, other = (StatsBombWorld(seed, size=100, seasons=FEW) for seed in (1, 2))

    assert one.match_ids(11, 42) == other.match_ids(11, 42)
    path = f"events/{one.match_ids(11, 42)[0]}.json"
    assert one.get(path).body != other.get(path).body


@pytest.mark.parametrize(
    "evolve",
    [
        lambda world, match_id: world.add_match(11, 90),
        lambda world, match_id: world.announce_360(match_id),
        lambda world, match_id: world.bump_date(11, 90),
        lambda world, match_id: world.change_events_quietly(match_id),
        lambda world, match_id: world.correct_events(match_id),
        lambda world, match_id: world.remove_file(f"events/{match_id}.json"),
        lambda world, match_id: world.shrink_list(11, 90),
    ],
)
def test_an_evolution_changes_the_paths_it_names_and_no_other(evolve):
    """
    The paths of a Change are exactly those whose bytes, date or presence differ.
    """
    world = StatsBombWorld(size=100, seasons=WITH_FRAMES)
    match_id = world.match_ids(11, 90)[3]
    for _ in range(2):
        before = snapshot(world)

        change = evolve(world, match_id)

        after = snapshot(world)
        changed = {path for path in before if before[path] != after[path]}
        assert changed == set(change.paths)
        match_id = world.match_ids(11, 90)[0]


def test_added_matches_are_listed_with_their_files():
    """
    A new match is at the end of the list, and its files are there at once.
    """
    world = StatsBombWorld(size=100, seasons=FEW)
    before = world.match_ids(11, 42)

    change = world.add_match(11, 42)

    (added,) = change.match_ids
    assert world.match_ids(11, 42) == (*before, added)
    entry = read(world, "matches/11/42.json")[-1]
    assert entry["match_id"] == added
    assert goals_by_team(read(world, f"events/{added}.json")) == Counter(score_of(entry))
    assert read(world, f"lineups/{added}.json")


def test_corrections_are_real_and_announced():
    """
    Corrected events are other bytes each time, of the same events and goals; the entry says so.
    """
    world = StatsBombWorld(seed=5, size=MatchSize.TINY, seasons=FEW)
    match_id = world.match_ids(11, 42)[0]
    path = f"events/{match_id}.json"
    bodies, dates = [world.get(path).body], [entry_of(world, match_id)["last_updated"]]

    for _ in range(5):
        world.correct_events(match_id)
        bodies.append(world.get(path).body)
        dates.append(entry_of(world, match_id)["last_updated"])

    assert len(set(bodies)) == len(set(dates)) == 6
    assert dates == sorted(dates)
    assert len({tuple(event["id"] for event in orjson.loads(body)) for body in bodies}) == 1
    assert len({str(goals_by_team(orjson.loads(body))) for body in bodies}) == 1
    assert competition_of(world)["match_updated"] >= dates[-1]


def test_quiet_changes_are_told_by_the_competition_alone():
    """
    The match list stays byte for byte the same.
    """
    world = StatsBombWorld(size=100, seasons=FEW)
    match_id = world.match_ids(11, 42)[0]
    listed, told = world.get("matches/11/42.json"), competition_of(world)["match_updated"]

    world.change_events_quietly(match_id)

    assert world.get("matches/11/42.json").body == listed.body
    assert world.get("matches/11/42.json").last_modified == listed.last_modified
    assert competition_of(world)["match_updated"] > told


def test_a_shrunken_list_leaves_the_files():
    """
    A match that is no longer listed can still be fetched; a match added later has another id.
    """
    world = StatsBombWorld(size=100, seasons=FEW)
    ids = world.match_ids(11, 42)

    change = world.shrink_list(11, 42)

    assert change.match_ids == ids[-1:]
    assert world.match_ids(11, 42) == ids[:-1]
    assert world.get(f"events/{ids[-1]}.json") is not None
    assert world.add_match(11, 42).match_ids[0] not in ids


def test_frames_may_be_announced_and_absent():
    """
    `match_status_360: available` is said of matches whose file exists, and of some without one.
    """
    world = StatsBombWorld(size=100, seasons=WITH_FRAMES)
    ids = world.match_ids(11, 90)

    said = [entry["match_status_360"] == "available" for entry in read(world, "matches/11/90.json")]
    there = [world.get(f"three-sixty/{match_id}.json") is not None for match_id in ids]
    world.announce_360(ids[3])

    assert said == [True, True, True, False]
    assert there == [True, True, False, False]
    assert entry_of(world, ids[3])["match_status_360"] == "available"
    assert world.get(f"three-sixty/{ids[3]}.json") is not None


def test_timestamps_are_naive_and_only_evolutions_move_them():
    """
    Two worlds with the same history tell the same times, whenever they are asked.
    """
    worlds = [StatsBombWorld(size=100, seasons=FEW) for _ in range(2)]
    changes = [[world.bump_date(11, 42), world.add_match(11, 42)] for world in worlds]

    assert changes[0] == changes[1]
    assert changes[0][0].at < changes[0][1].at
    told = competition_of(worlds[0])["match_updated"]
    assert datetime.fromisoformat(told).tzinfo is None
    assert told == changes[0][1].at.replace(tzinfo=None).isoformat(timespec="microseconds")


def test_evolutions_can_be_named():
    """
    `evolve` does what the method of that name does, and refuses what it does not know.
    """
    world = StatsBombWorld(size=100, seasons=FEW)

    change = world.evolve("add_match", competition_id=11, season_id=42)

    assert isinstance(change, Change)
    assert change.what == "add_match"
    with pytest.raises(ValueError, match="cannot 'get'"):
        world.evolve("get", path="competitions.json")
    with pytest.raises(ValueError, match="unexpected keyword"):
        world.evolve("add_match", league=11)
    with pytest.raises(ValueError, match="No season 11/43"):
        world.evolve("add_match", competition_id=11, season_id=43)
    with pytest.raises(ValueError, match="No match 5"):
        world.evolve("correct_events", match_id=5)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "data",
        "matches/11/43.json",
        "events/3699999.json",
        "events/3700004.json",
        "events/4700000.json",
        "three-sixty/3700000.json",
        "players/3700000.json",
        "../competitions.json",
    ],
)
def test_other_paths_are_not_there(path):
    """
    What the lists do not lead to has no Resource.
    """
    assert StatsBombWorld(seasons=FEW).get(path) is None


def test_many_matches_are_served_with_flat_memory():
    """
    What is kept of the files served so far does not grow with their number.
    """
    season = SeasonSpec(competition_id=11, season_id=42, matches=20_000)
    world = StatsBombWorld(size=MatchSize.TINY, seasons=[season])
    world._cache = type(world._cache)(max_bytes=1_000_000)

    for match_id in world.match_ids(11, 42)[:2_000]:
        world.get(f"events/{match_id}.json")
        world.get(f"lineups/{match_id}.json")

    assert world._cache.held_bytes <= 1_000_000
    assert not world._changed


def test_impossible_seasons_are_refused():
    """
    A season cannot have more frames than matches, nor be named twice.
    """
    with pytest.raises(ValueError, match="do not fit"):
        SeasonSpec(competition_id=1, season_id=1, matches=3, with_frames=4)
    with pytest.raises(ValueError, match="negative"):
        SeasonSpec(competition_id=1, season_id=1, matches=-1)
    with pytest.raises(ValueError, match="twice"):
        StatsBombWorld(seasons=[*FEW, *FEW])


def competition_of(world):
    return read(world, "competitions.json")[0]


def entry_of(world, match_id):
    entries = read(world, "matches/11/42.json") if (11, 42) in seasons_of(world) else []
    entries += read(world, "matches/11/90.json") if (11, 90) in seasons_of(world) else []
    return next(entry for entry in entries if entry["match_id"] == match_id)


def seasons_of(world):
    return [(spec.competition_id, spec.season_id) for spec in world.seasons]
