"""The simulated world: a disk, a catalog, a provider and a clock, each effect on them numbered."""

from __future__ import annotations

import asyncio
import hashlib
import random
import re
import shutil
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

import anyio
from anyio import CancelScope

from ingestify.adapters.catalog.sqlite import SqliteCatalog
from ingestify.adapters.files import local, staging
from ingestify.adapters.files.local import LocalFileStore
from ingestify.ports import FileStore
from ingestify.testing.disk import SimulatedDisk

from .faults import (
    Effect,
    Fault,
    makes_sense,
)
from .loop import WorldLoop, play
from .provider import Provider

T = TypeVar("T")

LAKE = Path("/lake")
STAGING = f"{LAKE}/.ingestify/staging/"
DATABASE = "catalog.db"
SMALL = 1024  # bodies up to this size wait for their batch in memory
START = datetime(2024, 1, 1, tzinfo=UTC)


def loop() -> WorldLoop:
    """The loop that everything in the world runs in."""
    running = asyncio.get_running_loop()
    assert isinstance(running, WorldLoop)
    return running


@dataclass
class World:
    """Everything outside of the engine. *folder* holds the catalog's database, and nothing else.

    What is done to it by `Process`es is numbered from 1. At the number that `fault` names, that
    happens; a crash keeps in `frozen` what is left of the world at that very moment, while the
    process goes on in a world that nobody looks at any more.
    """

    folder: Path
    provider: Provider
    disk: SimulatedDisk = None  # type: ignore[assignment]  # a new one
    seed: int = 0
    start: datetime = START
    running: WorldLoop | None = None
    fault: Fault | None = None
    met: Effect | None = None  # where the fault has happened
    frozen: World | None = None
    effects: list[Effect] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.disk = SimulatedDisk(now=self.now) if self.disk is None else self.disk

    def play(self, script: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What *script* returns. Time has passed, and the next script begins a second later."""

        async def timed() -> T:
            self.running = loop()
            try:
                return await script()
            finally:
                self.start += timedelta(seconds=loop().time() + 1)
                self.running = None

        # What would be large in earnest is large here, too, and costs nothing.
        with patch.multiple(local, SMALL=SMALL, PIECE=2 * SMALL):
            return play(timed, self.seed, locking=[staging])

    def now(self) -> datetime:
        """The wall clock."""
        return self.start + timedelta(seconds=self.running.time() if self.running else 0.0)

    def begin(self, effect: Effect) -> Fault | None:
        """Number *effect*. Returns what goes wrong with it."""
        self.effects.append(effect)
        fault = self.fault
        if fault is None or fault.at != len(self.effects) or not makes_sense(fault.mode, effect):
            return None
        self.met = effect
        return fault

    def freeze(self) -> World:
        """A copy of what there is now, as another machine would find it. Nothing is locked."""
        folder = self.folder / "left"
        folder.mkdir()
        for path in self.folder.glob(f"{DATABASE}*"):
            if path.is_file() and not path.name.endswith("-shm"):
                shutil.copyfile(path, folder / path.name)
        left = World(
            folder=folder,
            provider=self.provider,
            disk=self.disk,
            seed=self.seed + 1,
            start=self.now() + timedelta(hours=1),
        )
        left.disk = self.disk.copy(now=left.now)
        self.frozen = left
        return left

    def left(self) -> World:
        """What is left after the play, whose process is gone.

        Where it did not crash, the power goes at its end: all that it said to be kept must stay.
        """
        if self.frozen is not None:
            return self.frozen
        left = self.freeze()
        left.disk.lose_power()
        return left

    @property
    def log_size(self) -> int:
        """How long the catalog's write-ahead log is."""
        path = self.folder / f"{DATABASE}-wal"
        return path.stat().st_size if path.exists() else 0

    def print(self) -> str:
        """Equal for worlds in which everything that matters is equal."""
        tree = own_names(repr(self.disk.tree()))
        return hashlib.sha256(f"{tree}{dump(self.folder)}".encode()).hexdigest()

    def tear_log(self, since: int, seed: int) -> None:
        """Let only a part of what was appended to the log *since* then be there."""
        rng = random.Random(seed)
        path = self.folder / f"{DATABASE}-wal"
        data = path.read_bytes() if path.exists() else b""
        kept = rng.randrange(since, len(data)) if len(data) > since else len(data)
        rest = rng.choice([b"", bytes(len(data) - kept), rng.randbytes(len(data) - kept)])
        path.write_bytes(data[:kept] + rest)


@dataclass
class WorldClock:
    """A `ports.Clock` by the loop's time."""

    world: World

    def now(self) -> datetime:
        return self.world.now()

    def monotonic(self) -> float:
        return loop().time()

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(max(0.0, seconds))


@asynccontextmanager
async def opened_catalog(world: World) -> AsyncIterator[SqliteCatalog]:
    """The catalog in the world's database. Opening and closing it takes no time."""
    catalog = SqliteCatalog.open(world.folder / DATABASE)
    with loop().undisturbed():
        opened = await catalog.__aenter__()
    try:
        yield opened
    finally:
        with loop().undisturbed(), CancelScope(shield=True):
            await catalog.__aexit__(None, None, None)


@asynccontextmanager
async def opened_store(world: World) -> AsyncIterator[FileStore]:
    """The lake's files, for whoever only looks: nothing is numbered."""
    async with LocalFileStore.at(LAKE, disk=world.disk, threads=1) as store:
        yield store


def loop_in(world: World) -> WorldLoop:
    assert world.running is not None
    return world.running


def own_names(text: str) -> str:
    """*text* without what differs from one process to the next."""
    return re.sub(r"/?\d+-[0-9a-f]{12}", "/own", text)


def dump(folder: Path) -> str:
    """All that the catalog in *folder* says, but for times and ids. Nothing there is changed."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        for path in folder.glob(f"{DATABASE}*"):
            if path.is_file() and not path.name.endswith("-shm"):
                shutil.copyfile(path, Path(scratch) / path.name)
        with closing(sqlite3.connect(Path(scratch) / DATABASE)) as connection:
            text = "\n".join(line for line in connection.iterdump() if "INSERT" in line)
    text = re.sub(r"\d{4}-\d\d-\d\d[T ][0-9:.+Z]+", "then", text)
    return re.sub(r"\b[0-9a-f]{32}\b", "id", text)
