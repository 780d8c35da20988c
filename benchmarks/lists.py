"""A provider of long match lists, for lakes of any size: `python -m benchmarks.lists`.

`http://127.0.0.1:PORT/<datasets>/<kind>/` is the base URL of a provider in the StatsBomb form that
has so many matches, 400 a list, and one more season of 400, NEW_SEASON. With *kind* "tagged" its
lists have an ETag, and are answered with 304 when nothing has changed; with "bare" they have not,
and are sent whole each time. `/stats` counts the answers by status, and forgets them.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
from aiohttp import web
from isal import igzip

from benchmarks.process import BenchmarkError
from ingestify.testing.statsbomb_lists import SeasonSpec
from ingestify.testing.statsbomb_world import MatchSize, StatsBombWorld

COMPETITION_ID = 11
LONGEST = 400  # matches in a list
NEW_SEASON = 999_999
FIRST_MATCH_ID = 3_700_000
TAG = '"unchanged"'
GZIP_LEVEL = 1
PATH = re.compile(r"/(\d+)/(tagged|bare)/(\w+)(?:/(\d+))?(?:/(\d+))?\.json")


class MatchLists:
    """The entries of generated lists. Those of all seasons are alike but for their ids."""

    def __init__(self) -> None:
        spec = SeasonSpec(competition_id=COMPETITION_ID, season_id=1, matches=LONGEST)
        world = StatsBombWorld(size=MatchSize.TINY, seasons=[spec])
        listed = world.get(f"matches/{COMPETITION_ID}/1.json")
        season = world.get("competitions.json")
        if listed is None or season is None:
            raise BenchmarkError("the simulated provider has no lists")
        self._entries = [
            bytes(each).split(b'"match_id":', 1)[1].partition(b",")[2]
            for each in msgspec.json.decode(listed.body, type=list[msgspec.Raw])
        ]
        self._season = json.loads(season.body)[0]

    def seasons(self, datasets: int) -> list[int]:
        """The seasons that *datasets* fill, without the new one."""
        return list(range(1, 1 + -(-datasets // LONGEST)))

    def competitions(self, datasets: int) -> bytes:
        """`competitions.json`."""
        seasons = [*self.seasons(datasets), NEW_SEASON]
        return msgspec.json.encode([{**self._season, "season_id": each} for each in seasons])

    def entries(self, datasets: int, season_id: int) -> list[bytes]:
        """The entries of one list."""
        first = (season_id - 1) * LONGEST
        count = LONGEST if season_id == NEW_SEASON else min(LONGEST, datasets - first)
        return [
            b'{"match_id":%d,%b' % (FIRST_MATCH_ID + first + number, rest)
            for number, rest in enumerate(self._entries[:count])
        ]


class Provider:
    """Answers requests."""

    def __init__(self) -> None:
        self._lists = MatchLists()
        self._answers: Counter[str] = Counter()
        self._file = igzip.compress(json.dumps([{"type": "Pass", "x": 1.5}] * 100).encode())

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """One answer."""
        if request.path == "/stats":
            counted, self._answers = self._answers, Counter()
            return web.json_response(counted)
        response = self._answer(request)
        self._answers[str(response.status)] += 1
        return response

    def _answer(self, request: web.BaseRequest) -> web.Response:
        found = PATH.fullmatch(request.path)
        if found is None:
            return web.Response(status=404)
        datasets, kind, what, first, second = found.groups()
        headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        if what == "competitions":
            body = igzip.compress(self._lists.competitions(int(datasets)), GZIP_LEVEL)
        elif what == "matches" and first and second:
            if kind == "tagged":
                headers["ETag"] = TAG
                if request.headers.get("If-None-Match") == TAG:
                    return web.Response(status=304, headers={"ETag": TAG})
            entries = self._lists.entries(int(datasets), int(second))
            body = igzip.compress(b"[%b]" % b",".join(entries), GZIP_LEVEL)
        else:
            body = self._file
        return web.Response(body=body, headers=headers)


@contextmanager
def serving() -> Iterator[str]:
    """The address of such a provider in a process of its own; no slash at its end."""
    command = [sys.executable, "-m", "benchmarks.lists"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            address = process.stdout.readline().strip() if process.stdout else ""
            if not address:
                raise BenchmarkError(f"{' '.join(command)} does not listen")
            yield address
        finally:
            process.terminate()


async def _serve() -> None:
    runner = web.ServerRunner(web.Server(Provider().answer))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    _, port = runner.addresses[0]
    print(f"http://127.0.0.1:{port}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve())
