"""Real processes for tests that harm them: Runs that are killed, traced, limited or locked out.

Everything that is left to chance follows from SEED, so that a failure can be had again; what the
machine does in the meantime cannot, and no test depends on it.
"""

from __future__ import annotations

import functools
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process, create_subprocess_exec
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import pytest
from lists import ListWorld

from ingestify.adapters.catalog.sqlite import SqliteCatalog
from ingestify.adapters.files.local import LocalFileStore
from ingestify.model.catalog import DatasetQuery
from ingestify.model.run import RunRow, RunStatus
from ingestify.pipeline.body import decode_bytes
from ingestify.testing import ProviderSimulator
from ingestify.upkeep import Collected, collect

IS_LONG = os.environ.get("INGESTIFY_FAULTS") == "long"
SEED = int(os.environ.get("INGESTIFY_SEED", "1"))
TESTS = Path(__file__).parents[1]
VERSIONS = ("v1", "v2")
LARGE = 200_000  # bytes of a body that is staged on its way; all others wait in memory
LIST = "all"

CONFIG = """
main:
  metadata_url: sqlite:///{catalog}
  file_url: {files}
  min_free_space: {min_free_space}
sources:
  things:
    type: lists.ListSource
    configuration: {{base_url: "{base_url}"}}
ingestion_plans:
  - source: things
    dataset_type: thing
    data_spec_versions: {{data: [v1, v2]}}
"""


def dice(name: str) -> random.Random:
    """What a test leaves to chance. Says how to have the same again, for when it fails."""
    how = f"INGESTIFY_SEED={SEED} INGESTIFY_FAULTS={os.environ.get('INGESTIFY_FAULTS', '')}"
    sys.stdout.write(f"to have this again: {how}\n")
    return random.Random(f"{SEED} {name}")


@dataclass(kw_only=True)
class Things:
    """What the provider has: *count* Datasets of two Files each, which all change at once."""

    world: ListWorld
    count: int
    size: int = 100  # of a body, in bytes; every tenth Dataset has a LARGE one
    round: int = 0

    def change(self) -> None:
        """New bytes in every File, and a list that says so."""
        self.round += 1
        for number in range(self.count):
            size = max(self.size, LARGE) if number % 10 == 0 else self.size
            for version in VERSIONS:
                text = random.Random(f"{self.round} {number} {version}").randbytes(size // 2).hex()
                self.world.set_data(number, {"round": self.round, "text": text}, version)
        entries = [{"id": number, "token": str(self.round)} for number in range(self.count)]
        self.world.set_list(LIST, *entries, token=str(self.round))

    def body(self, number: int, version: str) -> bytes:
        """What is served now."""
        resource = self.world.get(f"data/{number}-{version}.json")
        assert resource is not None
        return resource.body


@dataclass(kw_only=True)
class Sight:
    """What a lake shows to a reader, and what else lies in it."""

    revisions: dict[int, int] = field(default_factory=dict)  # Dataset -> its newest Revision
    lies: list[str] = field(default_factory=list)  # rows whose bytes are not as they say
    bodies: dict[tuple[int, str], bytes] = field(default_factory=dict)  # of the newest Files
    unreferenced: int = 0  # files that no row names
    staged: int = 0
    runs: dict[RunStatus, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Done:
    """A process that has ended."""

    code: int  # as subprocess has it: negative for the signal that killed it
    out: str
    err: str


@dataclass(kw_only=True)
class RealLake:
    """A lake that only other processes write to, and the provider that they ask."""

    folder: Path
    provider: ProviderSimulator
    things: Things
    min_free_space: int = 0  # so that it is the disk that says no
    files: Path = field(init=False)
    catalog: Path = field(init=False)

    def __post_init__(self) -> None:
        self.files = self.folder / "files"
        self.catalog = self.folder / "catalog" / "catalog.db"
        self.folder.mkdir(parents=True, exist_ok=True)

    @property
    def config(self) -> Path:
        """The configuration, written anew."""
        path = self.folder / "config.yaml"
        text = CONFIG.format(
            catalog=self.catalog,
            files=self.files,
            min_free_space=self.min_free_space,
            base_url=self.provider.base_url,
        )
        path.write_text(text)
        return path

    @asynccontextmanager
    async def started(
        self, *arguments: str, before: Sequence[str] = (), program: Sequence[str] = ()
    ) -> AsyncIterator[Process]:
        """`ingestify run` as a process, which is gone at the end.

        Args:
            before: a command that starts it, such as one that limits it.
            program: in place of ``-m ingestify``.
        """
        kept = {name: text for name, text in os.environ.items() if "INGESTIFY" not in name}
        path = os.pathsep.join([str(TESTS), *filter(None, [kept.get("PYTHONPATH", "")])])
        process = await create_subprocess_exec(
            *(*before, sys.executable, *(program or ("-m", "ingestify"))),
            *("run", "--config", str(self.config), *arguments),
            env={**kept, "PYTHONPATH": path},
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=PIPE,
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
                await process.communicate()

    async def run(
        self, *arguments: str, before: Sequence[str] = (), program: Sequence[str] = ()
    ) -> Done:
        """A Run that goes as far as it gets."""
        async with self.started(*arguments, before=before, program=program) as process:
            return await ended(process)

    async def good_run(self) -> None:
        """A Run that meets no fault. Afterwards the lake has what the provider has."""
        done = await self.run()
        assert done.code == 0, done.out + done.err
        sight = await self.look()
        assert sight.lies == []
        assert sight.bodies == {
            (number, version): self.things.body(number, version)
            for number in range(self.things.count)
            for version in VERSIONS
        }

    async def look(self) -> Sight:
        """What a reader sees. Every row of every Revision is compared with its bytes."""
        sight = Sight()
        async with (
            SqliteCatalog.open(self.catalog) as catalog,
            LocalFileStore.at(self.files) as store,
        ):
            referenced = set()
            for dataset in await catalog.find(DatasetQuery(stage=None), limit=100_000):
                number = dataset.identifier["id"]
                sight.revisions[number] = -1 if dataset.revision is None else dataset.revision
                for revision in await catalog.revisions(dataset.row_id):
                    for file in revision.files:
                        referenced.add(file.path)
                        try:
                            stored = (self.files / file.path).read_bytes()
                            body = decode_bytes(stored, file.codec)
                        except Exception as exc:
                            sight.lies.append(f"{file.path}: {exc}")
                            continue
                        said = (file.stored_size, file.stored_sha256, file.size, file.sha256)
                        if said != (*measured(stored), *measured(body)):
                            sight.lies.append(f"{file.path}: other bytes")
                        sight.bodies[number, file.data_spec_version] = body
            sight.unreferenced = sum([each.path not in referenced async for each in store.list()])
            for run in await catalog.runs(limit=10_000):
                sight.runs[run.status] = sight.runs.get(run.status, 0) + 1
        sight.staged = len(self.staged())
        return sight

    def staged(self) -> list[Path]:
        """Files on their way, and what is left of some that never arrived."""
        folder = self.files / ".ingestify" / "staging"
        return [path for path in folder.glob("**/*") if path.is_file() and path.suffix != ".lock"]

    def published(self) -> int:
        """How many files have got their names."""
        folder = self.files / "main/stage=raw/provider=lists/dataset_type=thing"
        return len(os.listdir(folder)) if folder.is_dir() else 0  # noqa: PTH208  # often, and soon

    async def collect(self) -> Collected:
        """Remove the debris."""
        async with (
            SqliteCatalog.open(self.catalog) as catalog,
            LocalFileStore.at(self.files) as store,
        ):
            return await collect(catalog, store)

    async def run_rows(self) -> Sequence[RunRow]:
        """All Runs, the newest first."""
        async with SqliteCatalog.open(self.catalog) as catalog:
            return await catalog.runs(limit=10_000)


@asynccontextmanager
async def real_lake(
    folder: Path, *, things: int, size: int = 100, filled: bool = True
) -> AsyncIterator[RealLake]:
    """A lake in *folder* with revision 0 of everything, whose provider has just changed.

    Without *filled* there is no lake yet.
    """
    (folder / "provider").mkdir(parents=True, exist_ok=True)
    world = ListWorld(folder / "provider")
    async with ProviderSimulator(world) as provider:
        lake = RealLake(
            folder=folder / "lake",
            provider=provider,
            things=Things(world=world, count=things, size=size),
        )
        lake.things.change()
        if filled:
            await lake.good_run()
            lake.things.change()
        provider.reset_counts()
        yield lake


async def ended(process: Process) -> Done:
    """What a process leaves behind."""
    with anyio.fail_after(120):
        out, err = await process.communicate()
    assert process.returncode is not None
    return Done(code=process.returncode, out=out.decode(), err=err.decode())


def measured(data: bytes) -> tuple[int, str]:
    """Length and hash of *data*."""
    return len(data), hashlib.sha256(data).hexdigest()


def kill(process: Process) -> None:
    """kill -9, unless it has ended."""
    with suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGKILL)


def tell(capsys: pytest.CaptureFixture[str], text: str) -> None:
    """Say *text* to whoever runs the tests, also when they succeed."""
    with capsys.disabled():
        sys.stdout.write(f"\n  {text}\n")


@functools.cache
def strace() -> str:
    """The path of strace. Skips the test where it cannot be used."""
    found = shutil.which("strace")
    if found is None:
        pytest.skip("there is no strace")
    with subprocess.Popen(["sleep", "60"]) as sleeper:
        try:
            command = [found, "-p", str(sleeper.pid), "-o", "/dev/null"]
            with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
                try:
                    assert tracer.stderr is not None
                    said = tracer.stderr.readline().strip()
                finally:
                    tracer.terminate()
        finally:
            sleeper.kill()
    if "attached" not in said:
        pytest.skip(f"strace cannot attach to a process: {said}")
    return found


def need_mounts() -> None:
    """Skip the test where file systems cannot be mounted."""
    if shutil.which("mount") is None or os.geteuid() != 0:
        pytest.skip("only root can mount a file system")


def mount(*arguments: str) -> None:
    """mount(8). Skips the test where it is not allowed."""
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"cannot mount: {done.stderr.strip()}")


def unmount(path: Path) -> None:
    """umount(8), also while something there is open."""
    subprocess.run(["umount", "--lazy", str(path)], check=True)
