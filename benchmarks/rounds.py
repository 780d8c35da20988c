"""Rounds: every contender does the same work in turn, as often as was asked for."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from benchmarks.contenders import Contender, Job
from benchmarks.process import BenchmarkError, Usage, run
from benchmarks.simulated import Provider, serving
from benchmarks.workloads import Situation, Workload

FEW_FILES = 1000  # that may be removed at once; see `Rounds.play`


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """A median, and between what it lies."""

    middle: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of *values*, of which there is at least one."""
        return cls(middle=median(values), least=min(values), most=max(values))


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """What one contender used in one situation, round by round."""

    contender: str
    situation: Situation
    usages: list[Usage]

    def spread(self, measure: Callable[[Usage], float]) -> Spread:
        """One *measure* over all rounds."""
        return Spread.of([measure(usage) for usage in self.usages])

    def ratio(
        self,
        other: Series,
        measure: Callable[[Usage], float],
        by: Callable[[Usage], float] | None = None,
    ) -> Spread:
        """This series over *other*, each round against itself: machines are never quiet.

        Of one that took part in fewer rounds, these alone are compared. *by* is what is measured
        of the other, where that is not the same.
        """
        pairs = zip(self.usages, other.usages, strict=False)
        return Spread.of([measure(mine) / (by or measure)(theirs) for mine, theirs in pairs])


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """All that was measured with one workload."""

    workload: Workload
    file_bytes: int  # of all files together, uncompressed
    series: tuple[Series, ...]

    def find(self, contender: str, situation: Situation) -> Series | None:
        """What *contender* used, if it took part."""
        for each in self.series:
            if each.contender == contender and each.situation is situation:
                return each
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrant:
    """A contender, and in how many of the rounds it takes part."""

    contender: Contender
    rounds: int


@dataclass
class Rounds:
    """One workload under way. *folder* is on a disk."""

    workload: Workload
    provider: Provider
    folder: Path
    usages: dict[tuple[str, Situation], list[Usage]] = field(default_factory=dict)
    _addresses: dict[str, str] = field(default_factory=dict)  # that a contender used last

    def play(self, contender: Contender, number: int) -> None:
        """Let *contender* do its part of the round with that *number*."""
        situations = [each for each in self.workload.situations if each in contender.situations]
        is_cold = Situation.COLD in situations
        lake = self.folder / "-".join([self.workload.name, contender.name, str(number * is_cold)])
        if not lake.exists():
            lake.mkdir()
            if not is_cold:
                self._do(contender, Situation.COLD, lake)  # filled once, and not measured
        for situation in situations:
            usage = self._do(contender, situation, lake)
            self.usages.setdefault((contender.name, situation), []).append(usage)
        if is_cold and self.workload.files < FEW_FILES:
            # Of many files, ext4 would be slow for minutes after: these are kept until the end.
            shutil.rmtree(lake)

    def _do(self, contender: Contender, situation: Situation, lake: Path) -> Usage:
        """Measure one process, and make sure that it did all of its work and no other."""
        job = Job(
            situation=situation,
            base_url=self._address(contender, situation),
            folder=lake,
            concurrency=self.workload.concurrency,
        )
        command = contender.prepare(job)
        self.provider.forget_requests()
        usage = run(command.arguments, log=lake / "log.txt", environment=command.environment)
        about = f"{contender.name}, {self.workload.name}, {situation.value}"
        answers, expected = self.provider.answers(), self.workload.requests(situation)
        if answers != expected:
            raise BenchmarkError(f"{about}: the provider answered {answers}, not {expected}")
        stored = contender.count_files(lake)
        if stored != self.workload.files:
            raise BenchmarkError(f"{about}: {stored} files are stored, not {self.workload.files}")
        return usage

    def _address(self, contender: Contender, situation: Situation) -> str:
        """Where *contender* finds the provider.

        Where lists are to answer 200 it is an address that is written otherwise than the last
        one: then the settings are not those of the last run, and no list is asked for
        conditionally.
        """
        plain = self.provider.base_url
        last = self._addresses.get(contender.name, plain)
        if situation is Situation.LISTED:
            last = plain if last != plain else f"{plain}data/"
        elif situation is Situation.COLD:
            last = plain
        self._addresses[contender.name] = last
        return last


def measure(workload: Workload, entrants: Sequence[Entrant], *, folder: Path) -> Results:
    """Let all *entrants* do *workload*, one after the other, round by round.

    Raises:
        BenchmarkError: somebody failed, or did not do what the others did.
    """
    with serving(workload) as provider:
        rounds = Rounds(workload, provider, folder)
        for number in range(max(entrant.rounds for entrant in entrants)):
            for entrant in entrants:
                if number < entrant.rounds:
                    rounds.play(entrant.contender, number)
        file_bytes = provider.file_bytes
    series = (
        Series(contender=name, situation=situation, usages=usages)
        for (name, situation), usages in rounds.usages.items()
    )
    return Results(workload=workload, file_bytes=file_bytes, series=tuple(series))
