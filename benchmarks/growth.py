"""Whether cost grows with the lake: warm runs, one more list, and looks into the catalog.

Each lake's catalog is filled through our own code by `benchmarks.seeding`, without any HTTP, and
`benchmarks.lists` serves what it lists, 400 matches a list. What a command takes beyond start-up is
what it takes more than the like of it on a lake of one match, which is measured in the same rounds.
"""

from __future__ import annotations

import json
import shutil
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from benchmarks.lists import LONGEST, serving
from benchmarks.process import BenchmarkError, Usage, run
from benchmarks.report import MB, Section, cpu_of, peak_of, table
from benchmarks.seeding import config

COMPETITION = "competition_id=11"
LOOKS = {
    "list": ["list", COMPETITION, "season_id=1"],
    "show": ["show", "match_id=3700000"],
    "explain": ["explain", "match_id=3700000"],
}
HEADER = (
    *("stored", "warm, lists 200: CPU s", "µs a dataset", "peak MB"),
    *("lists 304: CPU s", "ms a selector", "add 400: CPU s", "its peak MB"),
    *("list ms", "show ms", "explain ms", "catalog bytes a dataset"),
)
NOTE = """\
Medians; rounds: {rounds}. µs, ms a selector, and those of `list` (one season, 400 datasets), `show`
and `explain` are CPU beyond start-up: beyond what a run (or `show`) takes on a lake of one match,
which is {start:.2f} s ({look:.2f} s). Adding is a whole run, start-up included, that finds one new
list of 400 matches, and nothing else is looked at."""


@dataclass(kw_only=True)
class Lake:
    """A lake of so many *datasets*, and what was measured with it."""

    folder: Path
    address: str  # of the lists
    datasets: int
    bytes_each: float = 0.0
    usages: dict[str, list[Usage]] = field(default_factory=dict)

    def fill(self) -> None:
        """Make it."""
        self.folder.mkdir()
        command = [sys.executable, "-m", "benchmarks.seeding"]
        run([*command, str(self.folder), str(self.datasets)], log=self.folder / "log.txt")
        self.bytes_each = (self.folder / "catalog.db").stat().st_size / self.datasets

    @property
    def lists(self) -> int:
        """How many lists it was filled from."""
        return -(-self.datasets // LONGEST)

    def measure_adding(self, rounds: int) -> None:
        """Have the provider offer one more list each time, and fetch that alone."""
        for number in range(rounds):
            season = self.lists + 1 + number
            selector = f"{{competition_id: 11, season_id: {season}}}"
            expected = {"200": 2 + 2 * LONGEST}
            self._run("add", f"{season * LONGEST}/bare", selector, expected)

    def prepare_unchanged(self) -> None:
        """Have every list been read once, and its validator be known."""
        self._run("prepare", f"{self.datasets}/tagged", '"*"', None)

    def measure_unchanged(self) -> None:
        """A run in which every list answers 304."""
        expected = {"200": 1, "304": self.lists + 1}
        self._run("304", f"{self.datasets}/tagged", '"*"', expected)

    def measure_listed(self) -> None:
        """A run in which every list is sent, and nothing has changed."""
        expected = {"200": 2 + self.lists}
        self._run("200", f"{self.datasets}/bare", '"*"', expected)

    def measure_looks(self) -> None:
        """Commands that read the catalog."""
        for name, arguments in LOOKS.items():
            self._ingestify(name, *arguments)

    def median(self, name: str) -> float:
        """CPU seconds."""
        return median(map(cpu_of, self.usages[name]))

    def peak(self, name: str) -> float:
        """Bytes."""
        return median(map(peak_of, self.usages[name]))

    def _run(
        self, name: str, provider: str, selector: str, expected: dict[str, int] | None
    ) -> None:
        config(self.folder, f"{self.address}/{provider}/", selector)
        self._answers()
        self._ingestify(name, "run")
        answers = self._answers()
        if expected is not None and answers != expected:
            raise BenchmarkError(f"{name}, {self.datasets}: {answers} answers, not {expected}")

    def _answers(self) -> dict[str, int]:
        with urllib.request.urlopen(f"{self.address}/stats") as answer:  # noqa: S310  # loopback
            counted: dict[str, int] = json.load(answer)
        return counted

    def _ingestify(self, name: str, *arguments: str) -> None:
        command = [sys.executable, "-m", "ingestify", *arguments]
        command += ["--config", str(self.folder / "config.yaml")]
        usage = run(command, log=self.folder / "log.txt")
        self.usages.setdefault(name, []).append(usage)


def growth_section(sizes: Sequence[int], *, rounds: int, folder: Path) -> Section:
    """What lakes of all *sizes* cost."""
    with serving() as address:
        start = Lake(folder=folder / "lake-1", address=address, datasets=1)
        start.fill()
        start.prepare_unchanged()
        lakes = []
        for size in sizes:
            print(f"growth: {size:,} datasets", file=sys.stderr)
            lakes.append(_measured(size, start, rounds=rounds, folder=folder))
    at_start = start.median("304")
    looking = start.median("show")
    rows = [_row(lake, at_start, looking) for lake in lakes]
    note = NOTE.format(rounds=rounds, start=at_start, look=looking)
    figures = {name: value for lake in lakes for name, value in _figures(lake, at_start, looking)}
    for name in ("warm peak MB", "add CPU s"):
        first, last = (figures[f"growth, {size:,}: {name}"] for size in (sizes[0], sizes[-1]))
        figures[f"growth, {sizes[-1]:,}: {name} / {sizes[0]:,}"] = last / first
    return Section(title="Growth", text=f"{table(HEADER, rows)}\n\n{note}", figures=figures)


def _measured(size: int, start: Lake, *, rounds: int, folder: Path) -> Lake:
    lake = Lake(folder=folder / f"lake-{size}", address=start.address, datasets=size)
    lake.fill()
    lake.measure_adding(rounds)
    lake.prepare_unchanged()
    for _ in range(rounds):
        start.measure_unchanged()
        lake.measure_unchanged()
    for _ in range(rounds):
        lake.measure_listed()
    for _ in range(rounds):
        start.measure_looks()
        lake.measure_looks()
    shutil.rmtree(lake.folder)
    return lake


def _figures(lake: Lake, start: float, look: float) -> Iterator[tuple[str, float]]:
    about = f"growth, {lake.datasets:,}: "
    # What the preparing run has found beside it belongs to it, too: the new season.
    yield f"{about}warm µs a dataset", (lake.median("200") - start) / _looked_at(lake) * 1e6
    yield f"{about}warm peak MB", lake.peak("200") / MB
    yield f"{about}304 ms a selector", (lake.median("304") - start) / (lake.lists + 1) * 1e3
    yield f"{about}add CPU s", lake.median("add")
    for name in LOOKS:
        yield f"{about}{name} ms", (lake.median(name) - look) * 1e3
    yield f"{about}catalog bytes a dataset", lake.bytes_each


def _looked_at(lake: Lake) -> int:
    """How many Datasets a warm run finds: those of NEW_SEASON, too."""
    return lake.datasets + LONGEST


def _row(lake: Lake, start: float, look: float) -> Sequence[str]:
    figures = {name.partition(": ")[2]: each for name, each in _figures(lake, start, look)}
    return (
        f"{lake.datasets:,}",
        f"{lake.median('200'):.2f}",
        f"{figures['warm µs a dataset']:.1f}",
        f"{figures['warm peak MB']:.0f}",
        f"{lake.median('304'):.2f}",
        f"{figures['304 ms a selector']:.2f}",
        f"{figures['add CPU s']:.2f}",
        f"{lake.peak('add') / MB:.0f}",
        *(f"{figures[f'{name} ms']:.0f}" for name in LOOKS),
        f"{figures['catalog bytes a dataset']:,.0f}",
    )
