"""`python -m benchmarks`: measure everything, print the tables, and keep them."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.contenders import CONTENDERS
from benchmarks.machine import describe
from benchmarks.process import BenchmarkError
from benchmarks.report import report
from benchmarks.rounds import measure
from benchmarks.startup import measure_startup, modules_loaded
from benchmarks.workloads import WORKLOADS

RESULTS = Path(__file__).parent / "results"
ROUNDS = 5
STARTS = 15
QUICK_MATCHES = {"small": 4, "real": 2}


def main() -> int:
    """Do what the arguments say. Returns the exit code."""
    arguments = _parser().parse_args()
    at = datetime.now(UTC)
    rounds = arguments.rounds or (1 if arguments.quick else ROUNDS)
    chosen = [each for each in WORKLOADS if each.name in (arguments.workload or each.name)]
    results = []
    parent = arguments.folder or Path(os.environ.get("TMPDIR") or "build")
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="benchmarks-", dir=parent) as name:
        folder = Path(name).resolve()
        for workload in chosen:
            matches = QUICK_MATCHES[workload.name] if arguments.quick else workload.matches
            workload = workload.with_matches(arguments.matches or matches)
            print(f"{workload.name}: {workload.matches} matches", file=sys.stderr)
            results.append(measure(workload, CONTENDERS, rounds=rounds, folder=folder))
        print("start-up", file=sys.stderr)
        startups = measure_startup(rounds=2 if arguments.quick else STARTS, folder=folder)
        text = report(
            results,
            startups,
            modules_loaded(),
            machine=describe(folder),
            rounds=rounds,
            at=at,
        )
    print(text, end="")
    is_partial = arguments.quick or arguments.workload or arguments.matches
    output = arguments.output or (None if is_partial else RESULTS / f"{at:%Y-%m-%d}.md")
    if output is not None:
        output.parent.mkdir(exist_ok=True)
        output.write_text(text)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Load a simulated provider with ingestify and with a bare loop, in turn.",
    )
    parser.add_argument("--rounds", type=_count, help=f"default: {ROUNDS}")
    parser.add_argument("--quick", action="store_true", help="only see whether everything works")
    parser.add_argument("--matches", type=_count, help="other than what each workload has")
    parser.add_argument(
        "--workload",
        action="append",
        choices=[each.name for each in WORKLOADS],
        help="only this one; may be repeated",
    )
    parser.add_argument(
        "--folder", type=Path, help="where the lakes are made; default: $TMPDIR, or build"
    )
    parser.add_argument(
        "--output", type=Path, help="default: results/<date>.md, when all was measured"
    )
    return parser


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1: {text}")
    return count


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BenchmarkError as exc:
        sys.exit(f"Error: {exc}")
