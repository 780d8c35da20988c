"""The floor: a bounded aiohttp loop that writes every file of a provider into a folder.

It is what aiohttp's own documentation leads to, with a bound on the requests in flight: bodies are
undone by aiohttp where they arrive gzipped, and written under the provider's own paths. Nothing is
hashed, checked, retried, resumed or synced to the disk, and nothing remembers what is there.
`python -m benchmarks.bare URL FOLDER [CONCURRENCY]` runs it alone.
"""

import asyncio
import json
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks.workloads import IN_FLIGHT

FEEDS = ("events", "lineups")
FRAMES = "three-sixty"  # which not every match has


class Loop:
    """Loads one provider."""

    def __init__(
        self, base_url: str, folder: Path, session: aiohttp.ClientSession, in_flight: int
    ) -> None:
        self._base_url = base_url
        self._folder = folder
        self._session = session
        self._free = asyncio.Semaphore(in_flight)

    async def load(self) -> None:
        """Write the lists, one after the other, and then every file that they lead to."""
        paths: list[str] = []
        for season in await self._list("competitions.json"):
            folder, name = str(season["competition_id"]), str(season["season_id"])
            for match in await self._list(f"matches/{folder}/{name}.json"):
                paths += [f"{feed}/{match['match_id']}.json" for feed in FEEDS]
                if match["match_status_360"] == "available":
                    paths.append(f"{FRAMES}/{match['match_id']}.json")
        for feed in (*FEEDS, FRAMES):
            (self._folder / feed).mkdir()
        await asyncio.gather(*map(self._get, paths))

    async def _list(self, path: str) -> list[dict[str, Any]]:
        (self._folder / path).parent.mkdir(parents=True, exist_ok=True)
        entries: list[dict[str, Any]] = json.loads(await self._get(path))
        return entries

    async def _get(self, path: str) -> bytes:
        async with self._free, self._session.get(self._base_url + path) as response:
            response.raise_for_status()
            body = await response.read()
            (self._folder / path).write_bytes(body)
            return body


async def load(base_url: str, folder: Path, in_flight: int) -> None:
    """Write everything that *base_url* has into *folder*, which is empty."""
    connector = aiohttp.TCPConnector(limit=in_flight)
    async with aiohttp.ClientSession(connector=connector) as session:
        await Loop(base_url, folder, session, in_flight).load()


def main() -> None:
    """Load the provider at the first argument into the folder named by the second."""
    base_url, folder = sys.argv[1], Path(sys.argv[2])
    in_flight = int(sys.argv[3]) if len(sys.argv) > 3 else IN_FLIGHT
    folder.mkdir(parents=True, exist_ok=True)
    with asyncio.Runner(loop_factory=fastest_loop()) as runner:
        runner.run(load(base_url, folder, in_flight))


def fastest_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """The event loop that ingestify takes, too: uvloop's where it is installed."""
    if find_spec("uvloop") is None:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = import_module("uvloop").new_event_loop
    return factory


if __name__ == "__main__":
    main()
