"""Who is measured: each is a command that is run as a process of its own."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from benchmarks.workloads import IN_FLIGHT, Situation

FEEDS = ("events", "lineups", "three-sixty")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a contender has to do: bring *folder* in step with the provider at *base_url*."""

    situation: Situation
    base_url: str  # ends in a slash
    folder: Path  # its own, empty when it is cold
    concurrency: int = IN_FLIGHT  # requests in flight at most


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What to run for a job."""

    arguments: list[str]
    environment: Mapping[str, str] = field(default_factory=dict)  # beside what there is


class Contender(Protocol):
    """Loads events, lineups and 360 frames of every match that a provider has."""

    name: str
    situations: frozenset[Situation]  # what it can be asked for; in others it would start anew

    def prepare(self, job: Job) -> Command:
        """Write down what has to be there, and say which command does *job*. Not measured."""
        ...

    def count_files(self, folder: Path) -> int:
        """How many files of matches it has stored below *folder*."""
        ...


class Script:
    """A module of ours that is given the provider's address and a folder."""

    def __init__(self, name: str, module: str, *situations: Situation) -> None:
        self.name = name
        self.situations = frozenset(situations)
        self._module = module

    def prepare(self, job: Job) -> Command:
        """See `Contender.prepare`."""
        folder, concurrency = str(job.folder / "files"), str(job.concurrency)
        arguments = [sys.executable, "-m", self._module, job.base_url, folder, concurrency]
        return Command(arguments=arguments)

    def count_files(self, folder: Path) -> int:
        """See `Contender.count_files`."""
        return sum(1 for feed in FEEDS for _ in (folder / "files" / feed).iterdir())


class Ingestify:
    """`ingestify run`, with the settings that it has by itself, and all its guarantees."""

    def __init__(self) -> None:
        self.name = "ingestify"
        self.situations = frozenset(Situation)

    def prepare(self, job: Job) -> Command:
        """See `Contender.prepare`."""
        config = job.folder / "config.yaml"
        limits = f"\n    limits: {{concurrency: {job.concurrency}}}"
        config.write_text(
            f"""\
main:
  metadata_url: sqlite:///{job.folder}/catalog.db
  file_url: {job.folder}/files
sources:
  provider:
    type: statsbomb_github
    configuration:
      base_url: {job.base_url}{"" if job.concurrency == IN_FLIGHT else limits}
ingestion_plans:
  - source: provider
    dataset_type: match
    data_spec_versions: {{events: v8, lineups: v4, 360-frames: v2}}
    selectors: ["*"]
"""
        )
        arguments = [sys.executable, "-m", "ingestify", "run", "--config", str(config)]
        return Command(arguments=arguments)

    def count_files(self, folder: Path) -> int:
        """See `Contender.count_files`."""
        return sum(1 for _ in (folder / "files" / "main").rglob("*.json.gz"))


BARE = Script("bare", "benchmarks.bare", Situation.COLD)
BY_HAND = Script("by hand, durable", "benchmarks.by_hand", Situation.COLD, Situation.LISTED)
INGESTIFY = Ingestify()
