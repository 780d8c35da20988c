"""Two engines on one lake, each effect of either in its turn, as a seed has it.

Whoever comes second to a plan does nothing and says so; two plans may meet at one Dataset, and
neither undoes what the other has committed (G12); one of them may die (G4, G19), or lose its lease
without noticing, and then its commit is refused.

A failing case says how to play it alone::

    INGESTIFY_CASE=update/die:37:5 pytest tests/faults/test_interleaved_runs.py -k same_plan
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from anyio import Event, create_task_group
from world.faults import Fault
from world.looking import check_converged, check_truth, look
from world.process import Ending, Process
from world.provider import WorldSource
from world.report import tell
from world.scenarios import FIRST, SCENARIOS, UPDATE, Scenario, check_ending, recover
from world.world import World

LONG = os.environ.get("INGESTIFY_FAULTS") == "long"
CASE = os.environ.get("INGESTIFY_CASE", "")
SEEDS = 1000 if LONG else 40
LAST_EFFECT = 170  # of two runs, about


@dataclass
class Played:
    """What was played in a test, and how it ended."""

    cases: int = 0
    held: int = 0
    fenced: int = 0
    died: int = 0
    failed: list[str] = field(default_factory=list)


@pytest.fixture
def played() -> Played:
    return Played()


def run_both(world: World, names: tuple[str, str]) -> list[Process]:
    """Two processes at once, each with the plan of that name. What came of them is in `ending`.

    Where a lease is to be lost, the second one begins when it is.
    """
    processes = [
        Process(world, f"process {n}", [WorldSource(name)]) for n, name in enumerate(names)
    ]

    async def script() -> None:
        first, second = processes
        is_lost = Event()
        first.on_locks_lost = is_lost.set
        if world.fault is None or world.fault.mode != "lose lease":
            is_lost.set()

        async def run(process: Process) -> None:
            process.ending = await process.execute()
            is_lost.set()  # at the latest

        async with create_task_group() as tg:
            tg.start_soon(run, first)
            await is_lost.wait()
            await run(second)

    world.play(script)
    world.fault = None
    world.start += timedelta(hours=1)  # who is silent for that long has died
    return processes


def cases(mode: str | None) -> Iterator[tuple[Scenario, Fault]]:
    """Each seed is a schedule; the fault happens somewhere in it."""
    if CASE:
        name, fault = CASE.split("/")
        yield SCENARIOS[name], Fault.parse(fault)
        return
    rng = random.Random(mode)
    for scenario in (FIRST, UPDATE):
        for seed in range(SEEDS):
            at = rng.randint(1, LAST_EFFECT) if mode else 0
            yield scenario, Fault(at, mode or "none", seed)


@contextmanager
def noting(played: Played, scenario: Scenario, fault: Fault) -> Iterator[None]:
    try:
        yield
    except Exception as exc:
        played.failed.append(f"INGESTIFY_CASE={scenario.name}/{fault}: {type(exc).__name__}: {exc}")
    played.cases += 1


def play_all(
    played: Played,
    mode: str | None,
    names: tuple[str, str],
    guarantees: str,
    check: Callable[[World, list[Ending]], None] | None = None,
) -> None:
    """Play every case, look at what is left, and let one more run heal it."""
    with tell(guarantees, played):
        for scenario, fault in cases(mode):
            with noting(played, scenario, fault), scenario.world(seed=fault.seed) as world:
                world.fault = fault
                processes = run_both(world, names)
                living = [each.ending for each in processes if not each.is_dead]
                played.died += 2 - len(living)
                for ending in living:
                    check_ending(ending)
                    played.held += bool(ending.summary and ending.summary.held_plans)
                lake = world.play(lambda world=world: look(world))
                check_truth(lake, world.provider)
                if check is not None:
                    check(world, living)
                recover(world)
    assert not played.failed, "\n".join(played.failed[:20])


def all_is_done(world: World, endings: list[Ending]) -> None:
    assert all(ending.is_good for ending in endings), endings
    check_converged(world.play(lambda: look(world)), world.provider)


def nothing_is_done_twice(world: World, endings: list[Ending]) -> None:
    all_is_done(world, endings)
    asked = world.provider.files_asked()
    assert len(asked) == len(set(asked)), f"asked twice: {asked}"


def test_the_second_of_the_same_plan_does_nothing_and_says_so(played: Played) -> None:
    """
    Together they ask for every File once.
    """
    play_all(played, None, ("world", "world"), "G1 G2 G4 G5 G12", nothing_is_done_twice)
    assert CASE or played.held > played.cases // 2


def test_two_plans_that_meet_undo_nothing_of_each_other(played: Played) -> None:
    """
    Both look at the same Datasets, and commit to them at about the same time: no Revision has the
    number of another, and none is lost.
    """
    play_all(played, None, ("world", "other"), "G1 G2 G3 G5 G12", all_is_done)


def test_the_death_of_one_of_the_same_plan_stops_nobody(played: Played) -> None:
    """
    Its lease dies with it.
    """
    play_all(played, "die", ("world", "world"), "G1 G2 G3 G4 G5 G12 G19", all_is_done_or_held)
    assert CASE or played.died > played.cases // 3


def test_the_death_of_one_of_two_plans_that_meet_stops_nobody(played: Played) -> None:
    """
    What it has published and not committed is no hindrance to the other.
    """
    play_all(played, "die", ("world", "other"), "G1 G2 G3 G4 G5 G12 G19", all_is_done)
    assert CASE or played.died > played.cases // 3


def all_is_done_or_held(world: World, endings: list[Ending]) -> None:
    """Who was told that the plan is held may have been told so by one who died later."""
    assert all(ending.is_good for ending in endings), endings


def test_who_has_lost_its_lease_commits_nothing(played: Played) -> None:
    """
    Another one got it meanwhile: the old holder's commit is refused, and its run says why.
    """

    def check(world: World, endings: list[Ending]) -> None:
        for ending in endings:
            summary = ending.summary
            assert summary is not None
            if summary.exit_code:
                assert summary.exit_code == 3
                assert "lease" in (summary.error or ""), summary.error
                assert summary.counters.stored == 0
                played.fenced += 1
        assert any(ending.is_good for ending in endings)
        check_converged(world.play(lambda: look(world)), world.provider)

    play_all(played, "lose lease", ("world", "world"), "G1 G2 G5 G6 G12", check)
    assert CASE or played.fenced > 5
