"""How much of what a provider allows is used, and how often it has to refuse.

The provider admits 50 requests in any second and answers 429 above that. The limit stands in the
configuration, or in the headers of its answers, or nowhere; one Source asks it, or four at once.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.process import BenchmarkError, Usage, run
from benchmarks.report import Section, table
from benchmarks.simulated import Provider, serving
from benchmarks.workloads import COMPETITION_ID, SMALL, Workload

RATE = 50  # requests a second
SECONDS = 60
SETTLING = 1  # seconds, in which a full bucket may be emptied at once
AT_ONCE = 3  # measurements side by side, since they mostly wait
SOURCES = (1, 4)
TOLD = {
    "configured": "in the configuration",
    "announced": "in headers (RateLimit-*)",
    "found out": "nowhere: to be found out",
}
HEADER = (
    *("where the limit stands", "sources", "share of what is allowed, %", "answers 429"),
    *("requests", "wall s", "CPU s"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One run against a limited provider."""

    limit: str  # one of TOLD
    sources: int
    seconds: int

    @property
    def workload(self) -> Workload:
        """Enough to be busy for longer than is measured."""
        matches = RATE * (self.seconds + 2 * SETTLING + 2) // 2
        return replace(SMALL, name="limits", matches=matches, matches_per_list=20)

    @property
    def provider_limit(self) -> Mapping[str, Any]:
        """As `RateLimit` takes it."""
        limit: dict[str, Any] = {"requests_per_second": RATE, "burst": RATE}
        if self.limit == "announced":
            limit["quota_headers"] = "RateLimit"
        return limit

    def config(self, folder: Path, base_url: str) -> Path:
        """Write the configuration: each Source has its share of the seasons."""
        limits = f"{{requests_per_second: {RATE}}}" if self.limit == "configured" else "{}"
        sources, plans = [], []
        for number in range(self.sources):
            seasons = list(range(1 + number, 1 + self.workload.lists, self.sources))
            sources.append(
                f"""\
  provider{number}:
    type: statsbomb_github
    configuration:
      base_url: {base_url}
    limits: {limits}
"""
            )
            plans.append(
                f"""\
  - source: provider{number}
    dataset_type: match
    data_spec_versions: {{events: v8, lineups: v4}}
    selectors:
      - {{competition_id: {COMPETITION_ID}, season_id: {seasons}}}
"""
            )
        path = folder / "config.yaml"
        path.write_text(
            f"""\
main:
  metadata_url: sqlite:///{folder}/catalog.db
  file_url: {folder}/files
sources:
{"".join(sources)}ingestion_plans:
{"".join(plans)}"""
        )
        return path


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a trial showed."""

    trial: Trial
    usage: Usage
    admitted: Sequence[float]  # when, in seconds
    refused: int

    @property
    def share(self) -> float:
        """Of the requests that are allowed in that time, how many were made; 1 is all.

        More can be admitted only where fewer were made before, and counts no more than all.
        """
        begin = self.admitted[0] + SETTLING
        count = sum(begin <= at < begin + self.trial.seconds for at in self.admitted)
        return min(1.0, count / (RATE * self.trial.seconds))


def limits_section(*, seconds: int, folder: Path) -> Section:
    """All trials."""
    trials = [
        Trial(limit=limit, sources=sources, seconds=seconds)
        for sources in SOURCES
        for limit in TOLD
    ]
    with ThreadPoolExecutor(AT_ONCE) as threads:
        found = list(threads.map(lambda trial: _try(trial, folder), trials))
    figures = {}
    for each in found:
        about = f"limits, {each.trial.limit}, {each.trial.sources} sources: "
        figures[f"{about}share %"] = each.share * 100
        figures[f"{about}429s"] = each.refused
    text = f"""\
{table(HEADER, [_row(each) for each in found])}

{RATE} requests a second are allowed, and as many at once after a pause. Looked at are {seconds} s,
from {SETTLING} s after the first request. {AT_ONCE} of the runs went on at the same time."""
    return Section(title="Limits", text=text, figures=figures)


def _try(trial: Trial, folder: Path) -> Found:
    folder = folder / f"limits-{trial.limit}-{trial.sources}"
    folder.mkdir()
    with serving(trial.workload) as provider:
        return _measure(trial, provider, folder)


def _measure(trial: Trial, provider: Provider, folder: Path) -> Found:
    provider.limit(**trial.provider_limit)
    provider.forget_requests()
    config = trial.config(folder, provider.base_url)
    command = [sys.executable, "-m", "ingestify", "run", "--config", str(config)]
    usage = run(command, log=folder / "log.txt")
    stats = provider.stats()
    expected = trial.sources + trial.workload.lists + trial.workload.files
    if len(stats["admitted"]) != expected:
        raise BenchmarkError(
            f"limits, {trial.limit}: {len(stats['admitted'])} requests, not {expected}"
        )
    return Found(
        trial=trial,
        usage=usage,
        admitted=stats["admitted"],
        refused=stats["by_status"].get("429", 0),
    )


def _row(found: Found) -> Sequence[str]:
    return (
        TOLD[found.trial.limit],
        str(found.trial.sources),
        f"{found.share * 100:.1f}",
        str(found.refused),
        f"{len(found.admitted):,}",
        f"{found.usage.wall_seconds:.1f}",
        f"{found.usage.cpu_seconds:.2f}",
    )
