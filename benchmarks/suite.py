"""The suite: which parts there are, and what each is measured with."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from benchmarks.contenders import BARE, BY_HAND, INGESTIFY
from benchmarks.goals import goals_section
from benchmarks.memory import memory_section
from benchmarks.process import BenchmarkError
from benchmarks.report import Section, workload_section
from benchmarks.rounds import Entrant, Results, measure
from benchmarks.startup import startup_section
from benchmarks.upstream import UPSTREAM
from benchmarks.visible import visible_section
from benchmarks.workloads import WORKLOADS, Workload

ROUNDS = 5
UPSTREAM_ROUNDS = 1
STARTS = 15
SIZES = (1_000, 10_000, 100_000, 1_000_000)  # of the lakes that grow
MEMORY = ((1000, 20_000), ["csv", "gzip", "json"])  # matches, and bodies of 1 GiB
QUICK_MATCHES = 8
TMPFS = Path("/dev/shm")  # noqa: S108  # where a sync costs nothing


@dataclass(kw_only=True)
class Suite:
    """All that can be measured, and how thoroughly. *folder* is on the disk that is measured."""

    folder: Path
    rounds: int
    upstream_rounds: int
    is_quick: bool
    matches: int | None = None  # other than what each workload has
    sizes: Sequence[int] = SIZES  # of the lakes that grow
    notes: list[str] = field(default_factory=list)  # what could not be measured, and why

    def sections(self, chosen: Sequence[str]) -> Iterator[Section]:
        """The sections of the report about what is *chosen*, each as soon as it is measured."""
        figures: dict[str, float] = {}
        for section in self._measured(chosen):
            figures.update(section.figures)
            yield section
        section = goals_section(figures)
        if self.is_quick or self.matches:
            section.text += "\n\nThe workloads were too small for these figures to say anything."
        yield section

    def _measured(self, chosen: Sequence[str]) -> Iterator[Section]:
        results = [self._measure(each) for each in WORKLOADS if each.name in chosen]
        if results:
            section = workload_section(results)
            section.text = "\n\n".join([section.text, *self.notes])
            yield section
        for name, part in PARTS.items():
            if name in chosen:
                print(name, file=sys.stderr)
                yield part(self)

    def _measure(self, workload: Workload) -> Results:
        matches = self.matches or (QUICK_MATCHES if self.is_quick else workload.matches)
        workload = workload.with_matches(matches)
        print(f"{workload.name}: {workload.matches} matches", file=sys.stderr)
        entrants = list(self._entrants(workload))
        if not workload.in_memory or not TMPFS.is_dir():
            return measure(workload, entrants, folder=self.folder)
        with tempfile.TemporaryDirectory(prefix="benchmarks-", dir=TMPFS) as name:
            return measure(workload, entrants, folder=Path(name).resolve())

    def _entrants(self, workload: Workload) -> Iterator[Entrant]:
        for each in (BARE, BY_HAND, INGESTIFY):
            if each.situations & set(workload.situations):
                yield Entrant(contender=each, rounds=self.rounds)
        if workload.has_upstream and self.upstream_rounds and self._has_upstream:
            yield Entrant(contender=UPSTREAM, rounds=min(self.rounds, self.upstream_rounds))

    @cached_property
    def _has_upstream(self) -> bool:
        try:
            UPSTREAM.install()
        except BenchmarkError as exc:
            self.notes.append(f"Upstream took no part: {exc}.")
            return False
        return True


def _startup(suite: Suite) -> Section:
    rounds = 2 if suite.is_quick else STARTS
    return startup_section(rounds=rounds, folder=suite.folder)


def _growth(suite: Suite) -> Section:
    from benchmarks.growth import growth_section

    sizes = suite.sizes[:1] if suite.is_quick else suite.sizes
    return growth_section(sizes, rounds=suite.rounds, folder=suite.folder)


def _limits(suite: Suite) -> Section:
    from benchmarks.limits import SECONDS, limits_section

    return limits_section(seconds=3 if suite.is_quick else SECONDS, folder=suite.folder)


def _engine(suite: Suite) -> Section:
    from benchmarks.engine_alone import engine_section

    return engine_section(rounds=suite.rounds, folder=suite.folder)


def _memory(suite: Suite) -> Section:
    sizes, bodies = ((20, 40), []) if suite.is_quick else MEMORY
    return memory_section(sizes, bodies, suite.folder)


def _visible(suite: Suite) -> Section:
    return visible_section(rounds=suite.rounds, folder=suite.folder)


# Each imports what it needs itself: no process can have a lower peak of memory than this one, so
# nothing large may be imported before the workloads have been measured.
PARTS: Mapping[str, Callable[[Suite], Section]] = {
    "start-up": _startup,
    "memory": _memory,
    "visible": _visible,
    "limits": _limits,
    "growth": _growth,
    "engine": _engine,
}
