"""What the benchmarks say of figures, and what their provider offers; not how fast anything is."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from benchmarks.goals import GOALS, Goal, goals_section
from benchmarks.limits import RATE, SETTLING, Found, Trial
from benchmarks.offer import Offer
from benchmarks.process import Usage
from benchmarks.report import table, workload_section
from benchmarks.rounds import Results, Series
from benchmarks.sampling import area_of, is_waiting
from benchmarks.server import Desk
from benchmarks.shares import Shares
from benchmarks.workloads import FIRST_MATCH_ID, REAL, SMALL, WORKLOADS, Situation


def used(cpu, wall=1.0, peak=50_000_000):
    return Usage(code=0, wall_seconds=wall, cpu_seconds=cpu, peak_bytes=peak)


def series(contender, *cpu):
    return Series(
        contender=contender, situation=Situation.COLD, usages=[used(each) for each in cpu]
    )


def test_ratios_are_taken_round_by_round():
    """A slow moment of the machine weighs on both, and shows in neither ratio."""
    ratio = series("ingestify", 2, 20, 3).ratio(series("bare", 1, 10, 1), lambda u: u.cpu_seconds)

    assert (ratio.least, ratio.middle, ratio.most) == (2, 2, 3)


def test_who_took_part_in_fewer_rounds_is_compared_in_these_alone():
    """Upstream is slow, and runs once."""
    ratio = series("ingestify", 2, 500).ratio(series("upstream", 8), lambda u: u.cpu_seconds)

    assert ratio.most == 0.25


def test_every_goal_of_the_workloads_is_measured_by_its_name():
    """A goal that nothing is measured for would never be missed."""
    contenders = ("bare", "by hand, durable", "ingestify", "upstream")
    figures = {}
    for workload in WORKLOADS:
        taken = tuple(series(name, 1.0) for name in contenders)
        results = Results(workload=workload, file_bytes=1, series=taken)
        figures.update(workload_section([results]).figures)

    wanted = {goal.figure for goal in GOALS if "ingestify" in goal.figure and "cold" in goal.figure}

    assert wanted
    assert wanted <= set(figures)


@pytest.mark.parametrize(
    ("measured", "begins"), [(97.0, "yes"), (100.0, "yes"), (96.5, "no: 0.5"), (102.0, "no: 2.0")]
)
def test_a_goal_with_two_bounds_is_reached_between_them(measured, begins):
    """Too little is missed as too much is."""
    goal = Goal(told="share", figure="share", least=97.0, most=100.0, digits=1)

    assert goal.verdict(measured).startswith(begins)


def test_goals_stand_beside_what_was_measured_and_the_rest_is_counted():
    """Nobody has to look up which figure belongs to which goal."""
    first = GOALS[0]

    text = goals_section({first.figure: first.most * 2}).text

    assert f"| {first.told} | {first.wanted}" in " ".join(text.split()).replace("  ", " ")
    assert "2.00 × the goal" in text
    assert f"not measured: {len(GOALS) - 1}" in text


def test_a_table_is_markdown_in_columns():
    """Every row is as wide as the widest of them."""
    lines = table(("a", "long header"), [("wide cell", "1")]).splitlines()

    assert len({len(line) for line in lines}) == 1
    assert lines[1] == f"| {'-' * 9} | {'-' * 11} |"


def test_what_is_offered_is_what_the_workload_says():
    """Lists name every match once, and each file of each match is there, and no other."""
    workload = replace(REAL, matches=10, events=60, matches_per_list=4, frames_every=4)
    offer = Offer(workload)
    listed = []
    for season in json.loads(offer.find("competitions.json").body):
        path = f"matches/{season['competition_id']}/{season['season_id']}.json"
        listed += json.loads(offer.find(path).body)

    ids = [entry["match_id"] for entry in listed]
    files = [
        path
        for match in ids
        for feed in ("events", "lineups", "three-sixty")
        if offer.find(path := f"{feed}/{match}.json")
    ]
    announced = [e["match_id"] for e in listed if e["match_status_360"] == "available"]

    assert ids == list(range(FIRST_MATCH_ID, FIRST_MATCH_ID + 10))
    assert len(files) == workload.files
    assert [f"three-sixty/{match}.json" for match in announced] == [
        path for path in files if path.startswith("three")
    ]
    assert offer.file_bytes == sum(len(offer.find(path).body) for path in files)
    assert offer.find("matches/11/4.json") is None


def test_small_bodies_are_as_small_as_was_asked_for():
    """The events of the small workload have 3 kB, and are JSON all the same."""
    body = Offer(SMALL.with_matches(3)).find(f"events/{FIRST_MATCH_ID}.json").body

    assert 2000 < len(body) <= 3000
    assert json.loads(body)


def test_the_provider_knows_its_own_validators():
    """Who sends the ETag of a list back is told that nothing has changed, at either address."""
    desk = Desk(Offer(SMALL.with_matches(1)), delay_seconds=0)
    head, body = desk.answer("/matches/11/1.json", b"GET / HTTP/1.1\r\nHost: x")
    etag = head.partition(b"ETag: ")[2].partition(b"\r\n")[0]

    again = desk.answer("/data/matches/11/1.json", b"GET /\r\nIF-NONE-MATCH: " + etag)
    other = desk.answer("/matches/11/1.json", b'GET /\r\nIf-None-Match: "other"')

    assert body
    assert again[0].startswith(b"HTTP/1.1 304")
    assert other == (head, body)
    assert desk.by_status == {"200": 2, "304": 1}


def found(*, admitted, seconds=10):
    trial = Trial(limit="configured", sources=1, seconds=seconds)
    return Found(trial=trial, usage=used(1.0), admitted=admitted, refused=0)


def test_all_that_is_allowed_is_a_share_of_one():
    """What was sent at once at the beginning does not count, and nor does what is admitted later
    since the pace was slow before."""
    at_once = [0.0] * RATE
    paced = [number / RATE for number in range(1, 20 * RATE)]
    late = [0.0, *(5 + number / (2 * RATE) for number in range(20 * RATE))]

    assert found(admitted=[*at_once, *paced]).share == pytest.approx(1, abs=0.01)
    assert found(admitted=late).share == 1.0


def test_half_the_pace_is_half_of_what_is_allowed():
    """Requests before and after the time that is looked at are none of it."""
    slow = [number / (RATE / 2) for number in range(20 * RATE)]

    assert slow[-1] > SETTLING + 10
    assert found(admitted=slow).share == pytest.approx(0.5, abs=0.01)


def frame(*paths, name="work", line=1):
    """A stack, the innermost first."""
    inner = None
    for path in reversed(paths):
        code = SimpleNamespace(co_filename=path, co_name=name)
        inner = SimpleNamespace(f_code=code, f_back=inner, f_lineno=line)
    return inner


@pytest.mark.parametrize(
    ("paths", "area"),
    [
        (("/x/json/decoder.py", "/x/ingestify/pipeline/plan.py"), "lists: discover and plan"),
        (("/x/yarl/_url.py", "/x/ingestify/client.py"), "aiohttp"),
        (("/x/anyio/_tasks.py", "/x/ingestify/pipeline/pool.py"), "pipeline"),
        (("/x/aiohttp/client.py", "<frozen importlib._bootstrap>"), "start-up"),
        (("/x/selectors.py",), "other"),
    ],
)
def test_the_innermost_frame_of_somebody_known_decides_whose_work_it_is(paths, area):
    """The standard library works for whoever called it; an import is part of the start."""
    assert area_of(frame(*paths)) == area


def test_a_thread_that_waits_for_work_does_none(tmp_path):
    """Its CPU is somebody else's."""
    path = tmp_path / "worker.py"
    path.write_text("item = queue.get(block=True)\nwrite(item)\n")

    assert is_waiting(frame(str(path), line=1))
    assert not is_waiting(frame(str(path), line=2))


def test_shares_are_of_the_cpu_of_their_thread():
    """Looks tell areas of one kind of thread apart, and its CPU time how much they weigh."""
    shares = Shares()

    shares.add(
        {
            "main_seconds": 3.0,
            "other_seconds": 1.0,
            "main": {"client": 1, "bodies": 2},
            "others": {"disk": 500},
        }
    )

    assert shares.rows() == [
        ("50 %", "bodies"),
        ("25 %", "client"),
        ("25 %", "other threads: disk"),
    ]
