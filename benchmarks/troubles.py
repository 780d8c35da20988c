"""What the measurements of single troubles share: a lake with one Source, run as a process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.process import BenchmarkError, Usage, run

if TYPE_CHECKING:
    from aiohttp import web

INGESTIFY = [sys.executable, "-m", "ingestify"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lake:
    """A lake in *folder*, filled by the Source at the dotted path *source*."""

    folder: Path
    source: str
    base_url: str
    http: str = "{}"  # settings, in YAML's short form

    def run(self, *, ends_with: Sequence[int] = (0,)) -> Usage:
        """What `ingestify run` used."""
        self.folder.mkdir(exist_ok=True)
        self._config.write_text(
            f"""\
main:
  metadata_url: sqlite:///{self.folder}/catalog.db
  file_url: {self.folder}/files
sources:
  provider:
    type: {self.source}
    configuration:
      base_url: {self.base_url}
    http: {self.http}
ingestion_plans:
  - source: provider
    dataset_type: thing
"""
        )
        command = [*INGESTIFY, "run", "--config", str(self._config)]
        return run(command, log=self.folder / "log", ends_with=ends_with)

    def last_run(self) -> Any:
        """What `ingestify runs` tells of the latest one."""
        told = subprocess.run(
            [*INGESTIFY, "runs", "--json", "--limit", "1", "--config", str(self._config)],
            check=True,
            capture_output=True,
        )
        return json.loads(told.stdout)[0]

    @property
    def _config(self) -> Path:
        return self.folder / "config.yaml"


class Served:
    """A provider in a process of its own, and a second address at which it takes orders."""

    def __init__(self, base_url: str, orders: str) -> None:
        self.base_url = base_url
        self._orders = orders

    def order(self, what: str) -> Any:
        """What it answers to an order."""
        connection = HTTPConnection(self._orders)
        connection.request("GET", f"/{what}")
        answer = json.loads(connection.getresponse().read())
        connection.close()
        return answer


@contextmanager
def served(module: str) -> Iterator[Served]:
    """The provider that ``python -m <module> serve`` is."""
    command = [sys.executable, "-m", module, "serve"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            told = process.stdout.readline().split() if process.stdout else []
            if len(told) != 2:
                raise BenchmarkError(f"{' '.join(command)} does not listen")
            yield Served(*told)
        finally:
            process.terminate()


@asynccontextmanager
async def listening(answer: Any, *, port: int = 0) -> AsyncIterator[tuple[str, web.Server]]:
    """A server on loopback that answers as *answer* says; its address, and itself."""
    from aiohttp import web

    server = web.Server(answer)
    runner = web.ServerRunner(server, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port, backlog=4096, reuse_address=True).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/", server
    finally:
        await runner.cleanup()


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [header, ["-" * width for width in widths], *rows]
    return "\n".join(
        f"| {' | '.join(text.ljust(width) for text, width in zip(line, widths, strict=True))} |"
        for line in lines
    )
