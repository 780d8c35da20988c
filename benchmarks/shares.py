"""Where the CPU goes, by area: `python -m benchmarks.shares small real warm`."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.contenders import INGESTIFY, Job
from benchmarks.machine import describe
from benchmarks.process import run
from benchmarks.report import table
from benchmarks.simulated import serving
from benchmarks.workloads import WORKLOADS, Situation, Workload

ROUNDS = 5
THREADS = "other threads: "


@dataclass
class Shares:
    """CPU seconds by area, summed over some runs."""

    seconds: Counter[str] = field(default_factory=Counter)

    def add(self, seen: dict[str, object]) -> None:
        """Count what one run has shown; see `benchmarks.sampling`."""
        for prefix, who in (("", "main"), (THREADS, "other")):
            looks = seen["main" if who == "main" else "others"]
            used = seen[f"{who}_seconds"]
            if isinstance(looks, dict) and isinstance(used, float):
                total = sum(looks.values()) or 1
                for area, count in looks.items():
                    self.seconds[prefix + area] += used * count / total

    def rows(self) -> list[tuple[str, str]]:
        """The share of each area, the largest first."""
        total = sum(self.seconds.values())
        return [
            (f"{seconds / total * 100:.0f} %", area)
            for area, seconds in self.seconds.most_common()
            if seconds / total > 0.005
        ]


def shares_of(workload: Workload, *, rounds: int, folder: Path) -> Shares:
    """What *rounds* runs of *workload* spend their CPU on."""
    shares = Shares()
    is_cold = Situation.COLD in workload.situations
    with serving(workload) as provider:
        for number in range(rounds):
            lake = folder / f"{workload.name}-{number * is_cold}"
            base_url = provider.base_url + "data/" * (number % 2)
            if not lake.exists():
                lake.mkdir()
                if not is_cold:
                    job = Job(
                        situation=Situation.COLD,
                        base_url=f"{provider.base_url}data/",
                        folder=lake,
                        concurrency=workload.concurrency,
                    )
                    run(INGESTIFY.prepare(job).arguments, log=lake / "log.txt")
            job = Job(
                situation=workload.situations[0],
                base_url=base_url,
                folder=lake,
                concurrency=workload.concurrency,
            )
            # Its own arguments are those after `python -m ingestify`.
            arguments = INGESTIFY.prepare(job).arguments[3:]
            seen = lake / "seen.json"
            command = [sys.executable, "-m", "benchmarks.sampling", str(seen), *arguments]
            run(command, log=lake / "log.txt")
            shares.add(json.loads(seen.read_text()))
    return shares


def main() -> None:
    """Run each workload a few times under the sampler, and print its table."""
    names = [each.name for each in WORKLOADS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shares", description=main.__doc__)
    parser.add_argument("workloads", nargs="+", choices=names, metavar="WORKLOAD")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--folder", help="where the lakes are made, for the time being")
    arguments = parser.parse_args()
    parent = arguments.folder or os.environ.get("TMPDIR") or "."
    with tempfile.TemporaryDirectory(prefix=".benchmark-", dir=parent) as name:
        folder = Path(name).resolve()
        print(describe(folder))
        for workload in WORKLOADS:
            if workload.name in arguments.workloads:
                shares = shares_of(workload, rounds=arguments.rounds, folder=folder)
                seconds = sum(shares.seconds.values()) / arguments.rounds
                print(f"\n{workload.name}, {workload.situations[0].value}: {seconds:.2f} CPU s\n")
                print(table(("share", "where"), shares.rows()))


if __name__ == "__main__":
    main()
