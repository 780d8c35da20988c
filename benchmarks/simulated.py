"""The provider that everybody loads, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from http.client import HTTPConnection
from typing import Any
from urllib.parse import quote, urlsplit

from benchmarks.process import BenchmarkError
from benchmarks.workloads import Workload

CONTROL = "/_control/"  # below which the server takes orders


class Provider:
    """A running server."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self._address = urlsplit(base_url).netloc

    @property
    def file_bytes(self) -> int:
        """How many bytes all files have together, decoded."""
        size: int = self.stats()["file_bytes"]
        return size

    def stats(self) -> dict[str, Any]:
        """What it has counted since the last `forget_requests`."""
        return self.order("stats")

    def forget_requests(self) -> None:
        """Count from zero."""
        self.order("reset")

    def limit(self, **asked: Any) -> None:
        """Limit requests as `RateLimit` says; no longer, where nothing is said."""
        self.order(f"limit/{quote(json.dumps(asked))}")

    def answers(self) -> dict[str, int]:
        """How many requests there were since, by the status of the answer."""
        answers: dict[str, int] = self.stats()["by_status"]
        return answers

    def order(self, what: str) -> dict[str, Any]:
        """Tell it something; it answers with what it has counted."""
        connection = HTTPConnection(self._address)
        connection.request("GET", CONTROL + what)
        answer: dict[str, Any] = json.loads(connection.getresponse().read())
        connection.close()
        return answer


@contextmanager
def serving(workload: Workload) -> Iterator[Provider]:
    """A provider with *workload*'s matches, on loopback."""
    asked = {**asdict(workload), "situations": []}
    command = [sys.executable, "-m", "benchmarks.server", json.dumps(asked)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            address = process.stdout.readline().strip() if process.stdout else ""
            if not address:
                raise BenchmarkError(f"{' '.join(command)} does not listen")
            yield Provider(address)
        finally:
            process.terminate()
