"""The floor: a bounded aiohttp loop that writes every file of a provider into a folder.

It keeps the bytes as they came, compressed or not, under the provider's own paths. Nothing is
hashed, checked, retried, resumed or synced to the disk, and nothing remembers what is there.
`python -m benchmarks.bare URL FOLDER` runs it alone.
"""

import asyncio
import json
import sys
import zlib
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import aiohttp

IN_FLIGHT = 24  # requests, as many as ingestify sends to one host unless it is told otherwise
GZIP = 31  # what zlib calls the framing of gzip
FEEDS = ("events", "lineups")


class Loop:
    """Loads one provider."""

    def __init__(self, base_url: str, folder: Path, session: aiohttp.ClientSession) -> None:
        self._base_url = base_url
        self._folder = folder
        self._session = session
        self._free = asyncio.Semaphore(IN_FLIGHT)

    async def load(self) -> None:
        """Write the lists, one after the other, and then every file that they lead to."""
        paths: list[str] = []
        for season in await self._list("competitions.json"):
            folder, name = str(season["competition_id"]), str(season["season_id"])
            matches = await self._list(f"matches/{folder}/{name}.json")
            paths += [f"{feed}/{match['match_id']}.json" for match in matches for feed in FEEDS]
        for feed in FEEDS:
            (self._folder / feed).mkdir()
        await asyncio.gather(*map(self._get, paths))

    async def _list(self, path: str) -> list[dict[str, int]]:
        (self._folder / path).parent.mkdir(parents=True, exist_ok=True)
        body, is_gzipped = await self._get(path)
        entries: list[dict[str, int]] = json.loads(
            zlib.decompress(body, GZIP) if is_gzipped else body
        )
        return entries

    async def _get(self, path: str) -> tuple[bytes, bool]:
        async with self._free, self._session.get(self._base_url + path) as response:
            response.raise_for_status()
            body = await response.read()
            is_gzipped = response.headers.get("Content-Encoding") == "gzip"
            (self._folder / f"{path}{'.gz' * is_gzipped}").write_bytes(body)
            return body, is_gzipped


async def load(base_url: str, folder: Path) -> None:
    """Write everything that *base_url* has into *folder*, which is empty."""
    connector = aiohttp.TCPConnector(limit=IN_FLIGHT)
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:
        await Loop(base_url, folder, session).load()


def main() -> None:
    """Load the provider at the first argument into the folder named by the second."""
    base_url, folder = sys.argv[1], Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    with asyncio.Runner(loop_factory=fastest_loop()) as runner:
        runner.run(load(base_url, folder))


def fastest_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """The event loop that ingestify takes, too: uvloop's where it is installed."""
    if find_spec("uvloop") is None:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = import_module("uvloop").new_event_loop
    return factory


if __name__ == "__main__":
    main()
