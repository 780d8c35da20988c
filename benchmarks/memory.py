"""Whether memory grows with the lake: `python -m benchmarks.memory --help`."""

from __future__ import annotations

import argparse
import os
import tempfile
from dataclasses import replace
from pathlib import Path

from benchmarks.contenders import INGESTIFY, Job
from benchmarks.machine import describe
from benchmarks.process import BenchmarkError, run
from benchmarks.simulated import serving
from benchmarks.workloads import SMALL, Situation

MEBIBYTE = 1024**2
SITUATIONS = (Situation.COLD, Situation.LISTED)


def main() -> None:
    """Fill a small lake and a large one, and print the most memory that either took."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=main.__doc__)
    parser.add_argument("matches", nargs="*", type=int, default=[1000, 20_000])
    parser.add_argument("--folder", help="where the lakes are made, for the time being")
    arguments = parser.parse_args()
    parent = arguments.folder or os.environ.get("TMPDIR") or "."
    with tempfile.TemporaryDirectory(prefix=".benchmark-", dir=parent) as name:
        folder = Path(name).resolve()
        print(describe(folder))
        print("peak of resident memory, MiB")
        print("".join(["matches".rjust(10), *(each.value.rjust(20) for each in SITUATIONS)]))
        found = []
        for matches in arguments.matches:
            found.append(peaks(matches, folder / str(matches)))
            shown = (f"{peak / MEBIBYTE:20.1f}" for peak in found[-1])
            print("".join([f"{matches:10}", *shown]), flush=True)
        ratios = (f"{last / first:20.2f}" for first, last in zip(found[0], found[-1], strict=True))
        print("".join(["ratio".rjust(10), *ratios]))


def peaks(matches: int, folder: Path) -> list[int]:
    """How many bytes it took to fill a lake with *matches*, and to find that it is complete."""
    workload = replace(SMALL, matches=matches)
    folder.mkdir()
    used = []
    with serving(workload) as provider:
        for situation in SITUATIONS:
            provider.forget_requests()
            job = Job(situation=situation, folder=folder, base_url=provider.base_url)
            used.append(run(INGESTIFY.prepare(job), log=folder / "log").peak_bytes)
            answers, expected = provider.answers(), workload.requests(situation)
            if answers != expected:
                raise BenchmarkError(f"{situation.value}: {answers} answers, not {expected}")
    return used


if __name__ == "__main__":
    main()
