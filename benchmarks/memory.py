"""Whether memory grows with the lake: `python -m benchmarks.memory --help`."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.contenders import INGESTIFY, Job
from benchmarks.machine import describe
from benchmarks.process import BenchmarkError, run
from benchmarks.report import Section, table
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
            # An address that is written otherwise: else the lists would answer 304.
            base_url = provider.base_url + "data/" * (situation is Situation.LISTED)
            job = Job(situation=situation, folder=folder, base_url=base_url)
            used.append(run(INGESTIFY.prepare(job).arguments, log=folder / "log").peak_bytes)
            answers, expected = provider.answers(), workload.requests(situation)
            if answers != expected:
                raise BenchmarkError(f"{situation.value}: {answers} answers, not {expected}")
    return used


def memory_section(sizes: Sequence[int], bodies: Sequence[str], folder: Path) -> Section:
    """What lakes of *sizes* take, and large *bodies*; see `benchmarks.bodies`."""
    from benchmarks.bodies import HEADER, measure

    figures: dict[str, float] = {}
    found = {size: peaks(size, folder / f"memory-{size}") for size in sizes}
    first, last = sizes[0], sizes[-1]
    for situation, small, large in zip(SITUATIONS, found[first], found[last], strict=True):
        figures[f"memory: {situation.value} {last:,} / {first:,}"] = large / small
    rows = [
        (f"{size:,}", *(f"{peak / MEBIBYTE:.1f}" for peak in each)) for size, each in found.items()
    ]
    rows.append(("ratio", *(f"{figure:.2f}" for figure in figures.values())))
    (folder / "bodies").mkdir()
    large_rows = measure(["idle", *bodies], folder / "bodies")
    if bodies:
        above = [float(row[HEADER.index("above idle")]) for row in large_rows]
        figures["memory: 1 GiB MiB above idle"] = max(above)
    text = f"""\
Peak of resident memory, MiB:

{table(("matches", *(each.value for each in SITUATIONS)), rows)}

{table(HEADER, large_rows)}"""
    return Section(title="Memory", text=text, figures=figures)


if __name__ == "__main__":
    main()
