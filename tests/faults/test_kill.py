"""A real process, killed for real: what it committed stays, and nothing else can be seen."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from ingestify.engine import Engine
from ingestify.model.run import RunStatus
from ingestify.testing import MatchSize, ProviderSimulator, SeasonSpec, StatsBombWorld

MATCHES = 30
KILLS = (1, 2, 3, 10, 25, 45, 59, 60, 61, 62)  # requests answered before the process is killed

CONFIG = """
main:
  metadata_url: sqlite:///{folder}/catalog.db
  file_url: {folder}/files
sources:
  statsbomb:
    type: statsbomb_github
    configuration: {{base_url: "{base_url}"}}
ingestion_plans:
  - source: statsbomb
    dataset_type: match
"""


@pytest.fixture
async def provider() -> AsyncIterator[ProviderSimulator]:
    season = SeasonSpec(competition_id=11, season_id=42, matches=MATCHES)
    world = StatsBombWorld(size=MatchSize.TINY, seasons=[season])
    async with ProviderSimulator(world) as simulator:
        yield simulator


def files_asked_for(provider: ProviderSimulator) -> set[str]:
    """The files of matches that were asked for since the last look."""
    asked = {request.path.lstrip("/") for request in provider.requests}
    provider.reset_counts()
    return {path for path in asked if path.startswith(("events/", "lineups/"))}


async def committed(config: Path) -> set[str]:
    """The files of matches that the lake has. Every one of them is whole, or this fails."""
    found: set[str] = set()
    async with Engine.from_config(config) as engine:
        async for dataset in engine.store.iter_datasets():
            for content in await engine.store.load_files(dataset):
                body = await content.read_bytes()
                assert hashlib.sha256(body).hexdigest() == content.file.sha256
                if content.data_feed_key != "match":
                    found.add(f"{content.data_feed_key}/{dataset.identifier.match_id}.json")
    return found


async def run_and_kill(config: Path, provider: ProviderSimulator, after: int) -> None:
    """Start a Run, and kill its process once *after* more requests were answered."""
    command = [sys.executable, "-m", "ingestify", "run", "--config", str(config)]
    begun = len(provider.requests)
    process = await anyio.open_process(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    async with process, anyio.create_task_group() as tg:

        async def kill() -> None:
            await provider.until(lambda: len(provider.requests) >= begun + after)
            os.kill(process.pid, signal.SIGKILL)

        tg.start_soon(kill)
        await process.wait()
        tg.cancel_scope.cancel()  # it may have had nothing more to ask for


async def test_a_killed_run_loses_nothing_and_repeats_nothing(
    tmp_path: Path, provider: ProviderSimulator
) -> None:
    """
    Run after run is killed, each a little later. Whatever the lake shows is whole, and what it
    shows is never asked for again; the last Run completes it, and the killed ones are seen to
    have crashed.
    """
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG.format(folder=tmp_path / "lake", base_url=provider.base_url))
    have: set[str] = set()
    for after in KILLS:
        await run_and_kill(config, provider, after)
        assert not files_asked_for(provider) & have
        now = await committed(config)
        assert now >= have
        have = now

    async with Engine.from_config(config) as engine:
        summary = await engine.run()
        runs = await engine.catalog.runs(limit=100)

    assert summary.exit_code == 0
    assert not files_asked_for(provider) & have
    assert len(await committed(config)) == 2 * MATCHES
    assert {run.status for run in runs} <= {RunStatus.CRASHED, RunStatus.FINISHED}
    assert RunStatus.CRASHED in {run.status for run in runs}
