"""What it costs to start: the command line before it has done anything."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.contenders import INGESTIFY, Job
from benchmarks.process import Usage, run
from benchmarks.report import MB, Section, table
from benchmarks.rounds import Spread
from benchmarks.simulated import serving
from benchmarks.workloads import SMALL, Situation

HEAVY = ("aiohttp", "kloppy", "polars")  # what a look at the help must not load
HELP = [sys.executable, "-m", "ingestify", "--help"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Startup:
    """What one command used, start after start."""

    command: str  # as one would type it
    usages: list[Usage]

    @property
    def wall(self) -> Spread:
        """Seconds."""
        return Spread.of([usage.wall_seconds for usage in self.usages])

    @property
    def cpu(self) -> Spread:
        """Seconds."""
        return Spread.of([usage.cpu_seconds for usage in self.usages])

    @property
    def peak_bytes(self) -> float:
        """The median of the peaks."""
        return Spread.of([usage.peak_bytes for usage in self.usages]).middle


def measure_startup(*, rounds: int, folder: Path) -> list[Startup]:
    """Start each command in turn, *rounds* times."""
    lake, log = folder / "startup", folder / "log.txt"
    lake.mkdir()
    with serving(SMALL.with_matches(1)) as provider:
        job = Job(situation=Situation.UNCHANGED, base_url=provider.base_url, folder=lake)
        up_to_date = INGESTIFY.prepare(job).arguments
        run(up_to_date, log=log)  # from here on there is nothing to do
        commands: dict[str, list[str]] = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "python -c 'import aiohttp'": [sys.executable, "-c", "import aiohttp"],
            "python -m ingestify --help": HELP,
            "python -m ingestify run": up_to_date,
        }
        startups = [Startup(command=name, usages=[]) for name in commands]
        for each in commands.values():
            run(each, log=log)  # once unmeasured: what is compiled or read now stays so
        for _ in range(rounds):
            for startup in startups:
                startup.usages.append(run(commands[startup.command], log=log))
    return startups


def modules_loaded(command: Sequence[str] = HELP) -> set[str]:
    """The names of all modules that *command*, a Python, has imported when it ends."""
    traced = [command[0], "-X", "importtime", *command[1:]]
    ended = subprocess.run(traced, check=True, capture_output=True, text=True)
    lines = [line for line in ended.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip() for line in lines[1:]}


def startup_section(*, rounds: int, folder: Path) -> Section:
    """What each command takes, and what a look at the help loads."""
    startups = measure_startup(rounds=rounds, folder=folder)
    modules = modules_loaded()
    rows = [
        (
            f"`{each.command}`",
            f"{each.wall.middle * 1000:.0f} ({each.wall.least * 1000:.0f})",
            f"{each.cpu.middle * 1000:.0f} ({each.cpu.least * 1000:.0f})",
            f"{each.peak_bytes / MB:.0f}",
        )
        for each in startups
    ]
    loaded = [name for name in HEAVY if name in modules]
    text = f"""\
{table(("command", "wall ms", "CPU ms", "peak MB"), rows)}

Medians of {rounds} starts, with the least in brackets. `run` finds nothing to do.
`python -m ingestify --help` imports {len(modules)} modules; of {", ".join(HEAVY)}: \
{", ".join(loaded) or "none"}."""
    figures = {f"start-up: {each.command} CPU ms": each.cpu.middle * 1000 for each in startups}
    return Section(title="Start-up", text=text, figures=figures)
