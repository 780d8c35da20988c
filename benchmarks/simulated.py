"""The provider that everybody loads: the simulator, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from urllib.parse import urlsplit

from benchmarks.process import BenchmarkError
from benchmarks.workloads import COMPETITION_ID, Workload


class Provider:
    """A running simulator."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self._address = urlsplit(base_url).netloc

    def warm_up(self) -> int:
        """Ask for everything once, so that it is only served from now on and no longer made.

        Returns how many bytes the files have, uncompressed.
        """
        connection = HTTPConnection(self._address)
        size = 0
        for season in json.loads(_get(connection, "competitions.json")):
            path = f"matches/{season['competition_id']}/{season['season_id']}.json"
            for match in json.loads(_get(connection, path)):
                for feed in ("events", "lineups"):
                    size += len(_get(connection, f"{feed}/{match['match_id']}.json"))
        connection.close()
        return size

    def forget_requests(self) -> None:
        """Count from zero."""
        self._control("POST", "reset")

    def answers(self) -> dict[str, int]:
        """How many requests there were since, by the status of the answer."""
        answers: dict[str, int] = json.loads(self._control("GET", "stats"))["by_status"]
        return answers

    def _control(self, method: str, verb: str) -> bytes:
        connection = HTTPConnection(self._address)
        connection.request(method, f"/_simulator/{verb}")
        body = connection.getresponse().read()
        connection.close()
        return body


@contextmanager
def serving(workload: Workload) -> Iterator[Provider]:
    """A provider with *workload*'s matches, on loopback."""
    seasons = ",".join(f"{COMPETITION_ID}/{id_}:{n}" for id_, n in workload.seasons.items())
    command = [sys.executable, "-m", "ingestify.testing"]
    command += ["--size", workload.size, "--seasons", seasons, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            address = process.stdout.readline().strip() if process.stdout else ""
            if not address:
                raise BenchmarkError(f"{' '.join(command)} does not listen")
            yield Provider(address)
        finally:
            process.terminate()


def _get(connection: HTTPConnection, path: str) -> bytes:
    # Compressed, as everybody asks for it: the simulator makes that form when it is first wanted.
    connection.request("GET", f"/{path}", headers={"Accept-Encoding": "gzip"})
    response = connection.getresponse()
    body = response.read()
    if response.status != 200:
        raise BenchmarkError(f"the provider answers {response.status} for {path}")
    return zlib.decompress(body, 31) if response.getheader("Content-Encoding") == "gzip" else body
