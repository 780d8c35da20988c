"""Real Runs, killed between their commits and the delivery of what they committed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from anyio.abc import Process
from lists import ListWorld

from ingestify.adapters.catalog.sqlite import SqliteCatalog
from ingestify.model.catalog import DatasetQuery
from ingestify.testing import ProviderSimulator

TESTS = Path(__file__).parents[1]
DATASETS = 20
STOPS = (1, 2, 10, 39, 40, 40)  # events after which the subscriber hangs, and is killed

CONFIG = """
main:
  metadata_url: sqlite:///{folder}/catalog.db
  file_url: {folder}/files
sources:
  things:
    type: lists.ListSource
    configuration: {{base_url: "{base_url}"}}
ingestion_plans:
  - source: things
    dataset_type: thing
event_subscribers:
  - type: notebook.{kind}
    name: notebook
    configuration: {{folder: "{folder}"}}
"""
NOTEBOOK = '''
"""Writes down each event, and hangs at the one whose id stands in the file "hang"."""
import threading
from pathlib import Path

import anyio


class Plain:
    def __init__(self, folder):
        self.folder = Path(folder)

    def note(self, event):
        if int((self.folder / "hang").read_text()) == event.id:
            (self.folder / "hanging").touch()
            return True
        with (self.folder / "told").open("a") as told:
            print(event.id, file=told)
        return False

    def on_dataset_created(self, event):
        if self.note(event):
            threading.Event().wait()

    on_revision_added = on_dataset_created


class Async(Plain):
    async def on_dataset_created(self, event):
        if self.note(event):
            await anyio.sleep_forever()

    on_revision_added = on_dataset_created
'''


class Notebook:
    """A lake whose subscriber writes down what it is told."""

    def __init__(self, folder: Path, kind: str, base_url: str) -> None:
        self.folder = folder
        self.config = folder / "config.yaml"
        self.config.write_text(CONFIG.format(folder=folder, kind=kind, base_url=base_url))
        (folder / "notebook.py").write_text(NOTEBOOK)

    @property
    def told(self) -> list[int]:
        path = self.folder / "told"
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    async def events(self) -> list[int]:
        """Every event that the Catalog has."""
        async with SqliteCatalog.open(self.folder / "catalog.db") as catalog:
            return [event.id for event in await catalog.events(limit=100_000)]

    async def run_and_kill(self, at: int) -> None:
        """A Run that has committed everything, and is killed while it delivers event *at*."""
        (self.folder / "hang").write_text(str(at))
        (self.folder / "hanging").unlink(missing_ok=True)
        async with self.started() as process:
            await self.until_it_hangs()
            while await self._count() < DATASETS:
                assert process.returncode is None
            os.kill(process.pid, signal.SIGKILL)
            assert await process.wait() == -signal.SIGKILL

    async def until_it_hangs(self) -> None:
        """Return once the subscriber was told the event at which it hangs."""
        hanging = anyio.Path(self.folder / "hanging")
        while not await hanging.exists():  # noqa: ASYNC110  # it is another process that hangs
            await anyio.sleep(0.01)

    async def run(self, *arguments: str) -> int:
        """A Run whose subscriber takes everything. Returns its exit code."""
        (self.folder / "hang").write_text("0")
        async with self.started(*arguments) as process:
            return await process.wait()

    async def _count(self) -> int:
        async with SqliteCatalog.open(self.folder / "catalog.db") as catalog:
            return await catalog.count(DatasetQuery())

    @asynccontextmanager
    async def started(
        self, *arguments: str, stderr: int = subprocess.DEVNULL
    ) -> AsyncIterator[Process]:
        """`ingestify run` as a process, which is gone at the end."""
        command = [sys.executable, "-m", "ingestify", "run", "--config", str(self.config)]
        process = await anyio.open_process(
            [*command, *arguments],
            env={**os.environ, "PYTHONPATH": str(TESTS)},
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        )
        with anyio.fail_after(120):
            try:
                yield process
            finally:
                if process.returncode is None:
                    process.kill()
                await process.aclose()


@pytest.fixture
async def provider(tmp_path: Path) -> AsyncIterator[ProviderSimulator]:
    (tmp_path / "provider").mkdir()
    world = ListWorld(tmp_path / "provider")
    world.set_list("all", *[{"id": number} for number in range(DATASETS)])
    for number in range(DATASETS):
        world.set_data(number, {"number": number})
    async with ProviderSimulator(world) as simulator:
        yield simulator


@pytest.mark.parametrize("kind", ["Plain", "Async"])
async def test_a_kill_between_commit_and_delivery_skips_no_event(
    tmp_path: Path, provider: ProviderSimulator, kind: str
) -> None:
    """
    Run after run is killed while it delivers. Afterwards the subscriber was told every event of
    the Catalog at least once, none before all earlier ones, and none again by a further Run.
    """
    lake = Notebook(tmp_path, kind, provider.base_url)
    for at in STOPS:
        await lake.run_and_kill(at)
        told = lake.told
        assert set(told) == set(range(1, at))  # whatever the Runs before it did

    assert await lake.run() == 0
    told, events = lake.told, await lake.events()
    assert len(events) == 2 * DATASETS
    assert set(told) == set(events)
    assert list(dict.fromkeys(told)) == events  # in order, where each was told first
    assert await lake.run() == 0
    assert lake.told == told


async def test_a_handler_that_hangs_does_not_keep_the_process(
    tmp_path: Path, provider: ProviderSimulator
) -> None:
    """
    A Run that is interrupted twice ends, and its process with it, whatever a plain handler does.
    """
    lake = Notebook(tmp_path, "Plain", provider.base_url)
    (lake.folder / "hang").write_text("1")
    async with lake.started(stderr=subprocess.PIPE) as process:
        await lake.until_it_hangs()
        process.send_signal(signal.SIGINT)
        said = b""
        while b"press Ctrl-C again" not in said:
            assert process.stderr is not None
            said += await process.stderr.receive()
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 130
    assert await lake.run() == 0
    assert lake.told == await lake.events()


async def test_disabled_events_are_told_by_the_next_run(
    tmp_path: Path, provider: ProviderSimulator
) -> None:
    """
    `run --disable-events` calls no subscriber, and takes nothing away from it.
    """
    lake = Notebook(tmp_path, "Plain", provider.base_url)
    assert await lake.run("--disable-events") == 0
    assert lake.told == []
    assert len(await lake.events()) == 2 * DATASETS
    assert await lake.run() == 0
    assert lake.told == await lake.events()
