"""By hand: what an expert would write in an afternoon, durable, and without anything around it.

The bare loop, and: every body is decoded, checked as JSON and hashed; it is kept gzipped, synced
and renamed into place; a batch's folders are synced once; then one SQLite transaction remembers the
batch. What is known to the database is not asked for again. No retries, limits, revisions, events
or conditional requests; whatever fails ends it all.
`python -m benchmarks.by_hand URL FOLDER [CONCURRENCY]` runs it alone.
"""

import asyncio
import hashlib
import os
import sqlite3
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import msgspec
from isal import isal_zlib

from benchmarks.bare import FEEDS, FRAMES, fastest_loop
from benchmarks.workloads import IN_FLIGHT

GZIP = 31  # what zlib calls the framing of gzip
BATCH = 64  # files, as many as ingestify commits together
SYNCING = 8  # threads
LEVEL = 2

SCHEMA = """
CREATE TABLE IF NOT EXISTS file (
    path TEXT PRIMARY KEY, size INTEGER NOT NULL, sha256 TEXT NOT NULL, etag TEXT, modified TEXT
) WITHOUT ROWID
"""


class Match(msgspec.Struct):
    """What is needed of a list's entry."""

    match_id: int
    match_status_360: str | None = None


class Season(msgspec.Struct):
    """What is needed of a season."""

    competition_id: int
    season_id: int


@dataclass(frozen=True, slots=True)
class Body:
    """One body that has been checked, as it will be kept."""

    path: str
    stored: bytes
    size: int
    sha256: str
    etag: str | None
    modified: str | None


class Lake:
    """A folder and the database that knows what is in it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._database = sqlite3.connect(folder / "files.db", check_same_thread=False)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.execute(SCHEMA)
        self._pool = ThreadPoolExecutor(SYNCING)

    def missing(self, paths: Sequence[str]) -> list[str]:
        """Those of *paths* that are not there yet."""
        known = {path for (path,) in self._database.execute("SELECT path FROM file")}
        return [path for path in paths if f"{path}.gz" not in known]

    def keep(self, batch: Sequence[Body]) -> None:
        """Make *batch* durable, and then true."""
        shares = [batch[at::SYNCING] for at in range(SYNCING)]
        list(self._pool.map(self._write, shares))
        for folder in {os.path.dirname(body.path) for body in batch}:  # noqa: PTH120
            sync(self._folder / folder)
        rows = [(b.path, b.size, b.sha256, b.etag, b.modified) for b in batch]
        with self._database:
            self._database.executemany("INSERT INTO file VALUES (?, ?, ?, ?, ?)", rows)

    def _write(self, bodies: Sequence[Body]) -> None:
        for body in bodies:
            target = f"{self._folder}/{body.path}"
            fd = os.open(f"{target}.tmp", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
            try:
                os.write(fd, body.stored)
                os.fsync(fd)
            finally:
                os.close(fd)
            os.rename(f"{target}.tmp", target)  # noqa: PTH104


def sync(folder: Path) -> None:
    """Bring the names in *folder* to the disk."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(fd)
    os.close(fd)


class Loop:
    """Loads one provider into a lake."""

    def __init__(
        self, base_url: str, lake: Lake, session: aiohttp.ClientSession, in_flight: int
    ) -> None:
        self._base_url, self._lake, self._session = base_url, lake, session
        self._free = asyncio.Semaphore(in_flight)
        self._arrived: asyncio.Queue[Body | None] = asyncio.Queue(4 * BATCH)

    async def load(self, folder: Path) -> None:
        """Keep every file that the lists lead to."""
        paths: list[str] = []
        for season in msgspec.json.decode(await self._list("competitions.json"), type=list[Season]):
            path = f"matches/{season.competition_id}/{season.season_id}.json"
            for match in msgspec.json.decode(await self._list(path), type=list[Match]):
                paths += [f"{feed}/{match.match_id}.json" for feed in FEEDS]
                if match.match_status_360 == "available":
                    paths.append(f"{FRAMES}/{match.match_id}.json")
        for feed in (*FEEDS, FRAMES):
            (folder / feed).mkdir(exist_ok=True)
        sync(folder)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._commit())
            await asyncio.gather(*map(self._get, self._lake.missing(paths)))
            await self._arrived.put(None)

    async def _list(self, path: str) -> bytes:
        _, body, _ = await self._exchange(path)
        return body

    async def _get(self, path: str) -> None:
        async with self._free:
            wire, body, headers = await self._exchange(path)
        msgspec.json.decode(body, type=msgspec.Raw)
        is_gzipped = headers.get("Content-Encoding") == "gzip"
        await self._arrived.put(
            Body(
                path=f"{path}.gz",
                stored=wire if is_gzipped else isal_zlib.compress(body, LEVEL, GZIP),
                size=len(body),
                sha256=hashlib.sha256(body).hexdigest(),
                etag=headers.get("ETag"),
                modified=headers.get("Last-Modified"),
            )
        )

    async def _exchange(self, path: str) -> tuple[bytes, bytes, Mapping[str, str]]:
        async with self._session.get(self._base_url + path) as response:
            response.raise_for_status()
            wire = await response.read()
        is_gzipped = response.headers.get("Content-Encoding") == "gzip"
        return wire, isal_zlib.decompress(wire, GZIP) if is_gzipped else wire, response.headers

    async def _commit(self) -> None:
        batch: list[Body] = []
        is_open = True
        while is_open:
            body = await self._arrived.get()
            is_open = body is not None
            if body is not None:
                batch.append(body)
            if len(batch) == BATCH or (batch and not is_open):
                await asyncio.to_thread(self._lake.keep, batch)
                batch = []


async def load(base_url: str, folder: Path, in_flight: int) -> None:
    """Keep everything that *base_url* has in *folder*, in which a part of it may be."""
    lake = Lake(folder)
    connector = aiohttp.TCPConnector(limit=in_flight)
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:
        await Loop(base_url, lake, session, in_flight).load(folder)


def main() -> None:
    """Load the provider at the first argument into the folder named by the second."""
    base_url, folder = sys.argv[1], Path(sys.argv[2])
    in_flight = int(sys.argv[3]) if len(sys.argv) > 3 else IN_FLIGHT
    folder.mkdir(parents=True, exist_ok=True)
    with asyncio.Runner(loop_factory=fastest_loop()) as runner:
        runner.run(load(base_url, folder, in_flight))


if __name__ == "__main__":
    main()
