"""Every effect of a run goes wrong in every way; afterwards the lake is whole, and heals alone.

After each case a reader looks at what is left: all that it sees is whole, and was the provider's
(G1, G2, G3, G12). A run then makes the lake equal to the provider (G5) and asks for nothing that
was there already (G4); one more asks for nothing at all. Whatever failed had a name, and the
counters add up (G6, G20); who crashed is shown as crashed (G19); clocks may say what they like
(G27).

A failing case says how to play it alone::

    INGESTIFY_CASE=update/lost:37:37 pytest tests/faults/test_crash_matrix.py -k the_case_asked_for
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterable

import pytest
from world.faults import CANCELS, CRASHES, ERRORS, MODES, RARE, TIMES, Fault, makes_sense
from world.report import tell
from world.scenarios import FIRST, SCENARIOS, UPDATE, Matrix, Scenario

LONG = os.environ.get("INGESTIFY_FAULTS") == "long"
CASE = os.environ.get("INGESTIFY_CASE", "")
PAIRS = 520
FEWEST_PAIRS = 200  # of them: many a recovery is over before it comes to the second fault
FEWEST = 10  # cases of a mode in a scenario; most have about a hundred
ANYWHERE = ("before", "after", "lost", "EIO", "cancel", "native", "slow", "ahead")  # at any effect

GUARANTEES = {
    **dict.fromkeys(CRASHES, "G1 G2 G3 G4 G5 G12 G19"),
    **dict.fromkeys(ERRORS, "G1 G2 G3 G4 G5 G6 G20"),
    **dict.fromkeys(CANCELS, "G1 G2 G4 G5 G6 G18"),
    **dict.fromkeys(TIMES, "G5 G6 G7 G27"),
}


@pytest.fixture(scope="module")
def matrix() -> Matrix:
    return Matrix(thorough=LONG)


def play_all(
    matrix: Matrix,
    cases: Iterable[tuple[Scenario, Fault, Fault | None]],
    about: str,
    *,
    fewest: int,
) -> None:
    """Play *cases*, all of them, and report those that failed; *fewest* at least must happen."""
    failed, played = [], 0
    with tell(about, matrix):
        for scenario, fault, second in cases:
            try:
                played += matrix.play(scenario, fault, second)
            except Exception as exc:
                name = f"{scenario.name}/{fault}" + (f"/{second}" if second else "")
                effect = scenario.effects()[fault.at - 1]
                failed.append(f"INGESTIFY_CASE={name} at {effect}: {type(exc).__name__}: {exc}")
    assert not failed, f"{len(failed)} cases failed:\n" + "\n".join(failed[:20])
    assert played >= fewest, f"{played} cases were played, where {fewest} make sense"


@pytest.mark.parametrize("scenario", [FIRST, UPDATE], ids=lambda scenario: scenario.name)
@pytest.mark.parametrize("mode", [mode for mode in MODES if LONG or mode not in RARE])
def test_whatever_happens_at_any_effect_is_healed_by_the_next_run(
    matrix: Matrix, scenario: Scenario, mode: str
) -> None:
    """
    Nothing is lost, nothing is wrong, nothing is fetched twice.
    """
    effects = scenario.effects()
    faults = [Fault(at, mode, seed=at) for at in range(1, len(effects) + 1)]
    fewest = sum(makes_sense(mode, effect) for effect in effects)
    assert fewest >= FEWEST
    play_all(matrix, [(scenario, fault, None) for fault in faults], GUARANTEES[mode], fewest=fewest)


def test_a_recovery_may_be_disturbed_as_well(matrix: Matrix) -> None:
    """
    A fault, and another one while the next run heals it.
    """
    play_all(matrix, pairs(), "G1 G2 G3 G4 G5 G6 G12 G19 G20", fewest=FEWEST_PAIRS)


def pairs() -> Iterable[tuple[Scenario, Fault, Fault]]:
    """Some of all pairs, chosen by a seed; or every pair of effects, each with some mode.

    A recovery may be over before it comes to the second one, which is not counted then.
    """
    rng = random.Random(1)
    for scenario in (FIRST, UPDATE):
        count = len(scenario.effects())
        if LONG:
            for first in range(1, count + 1):
                for second in range(1, count + 1):
                    mode = rng.choice(CRASHES)
                    yield scenario, Fault(first, mode, first), Fault(second, rng.choice(MODES), 1)
        else:
            for seed in range(PAIRS // 2):
                first, second = rng.randint(1, count), rng.randint(1, count)
                effect = scenario.effects()[first - 1]
                mode = rng.choice([mode for mode in MODES if makes_sense(mode, effect)])
                yield scenario, Fault(first, mode, seed), Fault(second, rng.choice(ANYWHERE), seed)


@pytest.mark.parametrize("scenario", [FIRST, UPDATE], ids=lambda scenario: scenario.name)
def test_the_same_seed_plays_the_same_run(scenario: Scenario) -> None:
    """
    A clean run does the same things in the same order, however busy the machine is: what is
    numbered can be found again.
    """
    once = scenario.effects()
    for _ in range(5):
        assert scenario.played_effects() == once


FOUND = [
    (FIRST, "EIO", "disk.close(.ingestify/lake.door)"),  # came out as an OSError
    (FIRST, "EIO", "disk.close(.ingestify/lake.lock)"),
    (FIRST, "EIO", "disk.close(.ingestify/staging/own.lock)"),
    (UPDATE, "slow", "catalog.release_lease()"),  # said for days that it was running
]


@pytest.mark.parametrize(("scenario", "mode", "name"), FOUND)
def test_what_was_found_stays_mended(scenario: Scenario, mode: str, name: str) -> None:
    """
    Cases that have failed once, by their names.
    """
    at = list(map(str, scenario.effects())).index(name) + 1
    assert Matrix(thorough=True).play(scenario, Fault(at, mode))


@pytest.mark.skipif(not CASE, reason="INGESTIFY_CASE names no case")
def test_the_case_asked_for() -> None:
    """
    The one in INGESTIFY_CASE, alone.
    """
    name, *faults = CASE.split("/")
    assert Matrix(thorough=True).play(SCENARIOS[name], *map(Fault.parse, faults))
