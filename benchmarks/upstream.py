"""Upstream: `ingestify` as PyPI has it, in an environment of its own, and pointed at our provider.

Nothing of it is changed or copied: a starter of a few lines sets the address that its StatsBomb
source reads from, and then calls its command line.
"""

from __future__ import annotations

import os
import subprocess
import venv
from pathlib import Path

from benchmarks.contenders import Command, Job
from benchmarks.process import BenchmarkError
from benchmarks.workloads import IN_FLIGHT, Situation

VERSION = "0.19.1"
PLACE = Path(__file__).parents[1] / "build" / f"upstream-{VERSION}"
STARTER = """\
import os

from ingestify.infra.source import statsbomb_github

statsbomb_github.BASE_URL = os.environ["PROVIDER"]

from ingestify.cmdline import main

main()
"""


class Upstream:
    """Its `run`, with the settings that it has by itself; threads as many as there may be requests,
    where that was asked for."""

    def __init__(self, place: Path = PLACE) -> None:
        self.name = "upstream"
        self.situations = frozenset({Situation.COLD, Situation.LISTED})
        self._place = place

    @property
    def _python(self) -> Path:
        return self._place / "bin" / "python"

    def install(self) -> None:
        """Make its environment, unless that is there already.

        Raises:
            BenchmarkError: it cannot be had.
        """
        ready, starter = self._place / "ready", self._place / "starter.py"
        if ready.exists():
            return
        try:
            venv.create(self._place, with_pip=True, clear=True)
            self._run("-m", "pip", "install", "--quiet", f"ingestify=={VERSION}")
            starter.write_text(STARTER)
            self._run(str(starter), "--help")
        except (OSError, subprocess.CalledProcessError) as exc:
            said = getattr(exc, "stderr", None) or str(exc)
            last = said.strip().splitlines()[-1:]
            raise BenchmarkError(f"ingestify {VERSION} cannot be installed: {last}") from exc
        ready.touch()

    def _run(self, *arguments: str) -> None:
        command, environment = [str(self._python), *arguments], {**os.environ, "PROVIDER": ""}
        subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=600, env=environment
        )

    def prepare(self, job: Job) -> Command:
        """See `Contender.prepare`."""
        (job.folder / "files").mkdir(exist_ok=True)
        config = job.folder / "config.yaml"
        config.write_text(
            f"""\
main:
  metadata_url: sqlite:///{job.folder}/catalog.db
  file_url: file://{job.folder}/files
  default_bucket: main
sources:
  provider:
    type: ingestify.statsbomb_github
ingestion_plans:
  - source: provider
    dataset_type: match
"""
        )
        environment = {"PROVIDER": job.base_url.rstrip("/")}
        if job.concurrency != IN_FLIGHT:
            environment["INGESTIFY_CONCURRENCY"] = str(job.concurrency)
        starter = str(self._place / "starter.py")
        arguments = [str(self._python), starter, "run", "--config", str(config)]
        return Command(arguments=arguments, environment=environment)

    def count_files(self, folder: Path) -> int:
        """See `Contender.count_files`. The entries of lists, which it keeps as files, are none."""
        stored = (folder / "files").rglob("*.json.gz")
        return sum(not path.name.startswith("match") for path in stored)


UPSTREAM = Upstream()
