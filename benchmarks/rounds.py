"""Rounds: every contender does the same work in turn, as often as was asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.contenders import Contender, Job
from benchmarks.process import BenchmarkError, Usage, run
from benchmarks.simulated import Provider, serving
from benchmarks.workloads import Situation, Workload


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

    def ratio(self, other: Series, measure: Callable[[Usage], float]) -> Spread:
        """This series over *other*, each round against itself: machines are never quiet."""
        pairs = zip(self.usages, other.usages, strict=True)
        return Spread.of([measure(mine) / measure(theirs) for mine, theirs in pairs])


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """All that was measured with one workload."""

    workload: Workload
    file_bytes: int  # of all files together, uncompressed
    series: tuple[Series, ...]

    def cold(self, contender: str) -> Series:
        """The series that is compared with."""
        return next(
            each
            for each in self.series
            if each.contender == contender and each.situation is Situation.COLD
        )


def measure(
    workload: Workload, contenders: Sequence[Contender], *, rounds: int, folder: Path
) -> Results:
    """Let *contenders* do *workload*, one after the other, *rounds* times. *folder* is on a disk.

    Raises:
        BenchmarkError: somebody failed, or did not do what the others did.
    """
    series = {
        (contender.name, situation): Series(
            contender=contender.name, situation=situation, usages=[]
        )
        for situation in Situation
        for contender in contenders
        if situation in contender.situations
    }
    with serving(workload) as provider:
        file_bytes = provider.warm_up()
        for number in range(rounds):
            for contender in contenders:
                # Kept until the end: ext4 makes files slowly where many were deleted lately.
                lake = folder / f"{workload.name}-{contender.name}-{number}"
                lake.mkdir()
                for situation in Situation:
                    if situation in contender.situations:
                        job = Job(situation=situation, base_url=provider.base_url, folder=lake)
                        usage = _do(contender, job, workload, provider)
                        series[contender.name, situation].usages.append(usage)
    return Results(workload=workload, file_bytes=file_bytes, series=tuple(series.values()))


def _do(contender: Contender, job: Job, workload: Workload, provider: Provider) -> Usage:
    """Measure one process, and make sure that it did all of its work and no other."""
    provider.forget_requests()
    usage = run(contender.prepare(job), log=job.folder / "log.txt")
    about = f"{contender.name}, {workload.name}, {job.situation.value}"
    answers, expected = provider.answers(), workload.requests(job.situation)
    if answers != expected:
        raise BenchmarkError(f"{about}: the provider answered {answers}, not {expected}")
    stored = contender.count_files(job.folder)
    if stored != workload.files:
        raise BenchmarkError(f"{about}: {stored} files are stored, not {workload.files}")
    return usage
