"""`python -m benchmarks`: measure everything, print the tables, and keep them."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.machine import describe
from benchmarks.process import BenchmarkError
from benchmarks.suite import PARTS, ROUNDS, SIZES, UPSTREAM_ROUNDS, Suite
from benchmarks.workloads import WORKLOADS

RESULTS = Path(__file__).parent / "results"


def main() -> int:
    """Do what the arguments say. Returns the exit code."""
    arguments = _parser().parse_args()
    at = datetime.now(UTC)
    chosen = arguments.workload or [*(each.name for each in WORKLOADS), *PARTS]
    parent = arguments.folder or Path(os.environ.get("TMPDIR") or "build")
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="benchmarks-", dir=parent) as name:
        folder = Path(name).resolve()
        suite = Suite(
            folder=folder,
            rounds=arguments.rounds or (1 if arguments.quick else ROUNDS),
            upstream_rounds=0 if arguments.quick else arguments.upstream_rounds,
            is_quick=arguments.quick,
            matches=arguments.matches,
            sizes=arguments.sizes,
        )
        lines = [f"# {at:%Y-%m-%d}", "", describe(folder), ""]
        for section in suite.sections(chosen):
            lines += [f"## {section.title}", "", section.text, ""]
    text = "\n".join(lines)
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
        description="Load a simulated provider with ingestify and with others, in turn.",
    )
    parser.add_argument("--rounds", type=_count, help=f"default: {ROUNDS}")
    parser.add_argument(
        "--upstream-rounds",
        type=int,
        default=UPSTREAM_ROUNDS,
        help="in which upstream's ingestify takes part, since it is slow; 0: in none;"
        f" default: {UPSTREAM_ROUNDS}",
    )
    parser.add_argument("--quick", action="store_true", help="only see whether everything works")
    parser.add_argument("--matches", type=_count, help="other than what each workload has")
    parser.add_argument(
        "--workload",
        action="append",
        choices=[*(each.name for each in WORKLOADS), *PARTS],
        help="only this one; may be repeated",
    )
    parser.add_argument(
        "--sizes",
        type=_count,
        nargs="+",
        default=SIZES,
        help="of the lakes that grow, in datasets; default: " + " ".join(map(str, SIZES)),
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
