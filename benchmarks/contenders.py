"""Who is measured: each is a command that is run as a process of its own."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks.workloads import Situation


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a contender has to do: bring *folder* in step with the provider at *base_url*."""

    situation: Situation
    base_url: str  # ends in a slash
    folder: Path  # its own, empty when it is cold


class Contender(Protocol):
    """Loads events and lineups of every match that a provider has."""

    name: str
    situations: frozenset[Situation]  # what it can be asked for; in others it would start anew

    def prepare(self, job: Job) -> list[str]:
        """Write down what has to be there, and say which command does *job*. Not measured."""
        ...

    def count_files(self, folder: Path) -> int:
        """How many files of matches it has stored below *folder*."""
        ...


class Script:
    """A module of ours that is given the provider's address and a folder."""

    def __init__(self, name: str, module: str) -> None:
        self.name = name
        self.situations = frozenset({Situation.COLD})
        self._module = module

    def prepare(self, job: Job) -> list[str]:
        """See `Contender.prepare`."""
        return [sys.executable, "-m", self._module, job.base_url, str(job.folder / "files")]

    def count_files(self, folder: Path) -> int:
        """See `Contender.count_files`."""
        return sum(len(list((folder / "files" / feed).iterdir())) for feed in ("events", "lineups"))


class Ingestify:
    """`ingestify run`, with the settings that it has by itself, and all its guarantees."""

    def __init__(self) -> None:
        self.name = "ingestify"
        self.situations = frozenset(Situation)

    def prepare(self, job: Job) -> list[str]:
        """See `Contender.prepare`."""
        base_url = job.base_url
        if job.situation is Situation.LISTED:
            # The same files at an address that is written otherwise: the settings are no longer
            # those of the last run, so no list is asked for conditionally.
            base_url += "data/"
        config = job.folder / "config.yaml"
        config.write_text(
            f"""\
main:
  metadata_url: sqlite:///{job.folder}/catalog.db
  file_url: {job.folder}/files
sources:
  provider:
    type: statsbomb_github
    configuration:
      base_url: {base_url}
ingestion_plans:
  - source: provider
    dataset_type: match
    data_spec_versions: {{events: v8, lineups: v4}}
    selectors: ["*"]
"""
        )
        return [sys.executable, "-m", "ingestify", "run", "--config", str(config)]

    def count_files(self, folder: Path) -> int:
        """See `Contender.count_files`."""
        return sum(1 for _ in (folder / "files" / "main").rglob("*.json.gz"))


BARE = Script("bare", "benchmarks.bare")
BY_HAND = Script("by hand, durable", "benchmarks.by_hand")
INGESTIFY = Ingestify()
CONTENDERS: tuple[Contender, ...] = (BARE, BY_HAND, INGESTIFY)
