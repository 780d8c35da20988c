"""A real process, killed for real: what it committed stays, and nothing else can be seen."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
from asyncio.subprocess import Process
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import anyio
import pytest
from processes import IS_LONG, SEED, RealLake, Sight, dice, kill, real_lake, tell

from ingestify.engine import Engine
from ingestify.model.run import RunStatus
from ingestify.testing import MatchSize, ProviderSimulator, SeasonSpec, StatsBombWorld

MATCHES = 30
THINGS = 20
UPDATES_KILLED = 120 if IS_LONG else 12
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


async def test_killed_updates_lose_nothing_and_repeat_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    Datasets that the lake has change all at once, and the Runs that fetch the changes are killed
    at moments left to chance. No row lies, what was committed is not asked for again, and every
    killed Run shows as crashed.
    """
    chance = dice("updates")
    moments: Counter[str] = Counter()
    kills = needless = 0
    async with real_lake(tmp_path, things=THINGS) as lake:
        before = await lake.look()
        while kills < UPDATES_KILLED:
            was_killed = await run_to_its_end(lake, chance)
            kills += was_killed
            needless += asked_needlessly(lake, before)
            sight = await lake.look()
            assert sight.lies == [], f"after {kills} kills"
            assert set(sight.revisions) == set(range(THINGS))
            moments[moment_of(before, sight) if was_killed else "ended by itself"] += 1
            assert moments["ended by itself"] <= UPDATES_KILLED, "it is hardly ever killed"
            before = sight
            if set(sight.revisions.values()) == {lake.things.round - 1}:
                lake.things.change()
        await lake.good_run()
        needless += asked_needlessly(lake, before)
        sight = await lake.look()
        await lake.collect()
        clean = await lake.look()
        told = ", ".join(f"{count} {moment}" for moment, count in sorted(moments.items()))
        tell(
            capsys,
            f"kills of a Run that updates {THINGS} Datasets: {kills} ({told});"
            f" rows that lied: {len(sight.lies)}; needless refetches: {needless};"
            f" debris: {sight.unreferenced} files without rows, {sight.staged} staged;"
            f" after gc: {clean.unreferenced} and {clean.staged} (seed {SEED})",
        )
        rows = await lake.run_rows()

    assert needless == 0
    assert (clean.unreferenced, clean.staged) == (0, 0)
    assert (clean.lies, clean.bodies) == ([], sight.bodies)
    # One that was killed after its last word has finished, whatever became of its process.
    finished = {RunStatus.CRASHED: 0, RunStatus.FINISHED: 0} | Counter(run.status for run in rows)
    assert set(finished) == {RunStatus.CRASHED, RunStatus.FINISHED}
    assert finished[RunStatus.CRASHED] >= kills - moments["after the commits"]
    assert sum(finished.values()) == moments.total() + 2  # the first, and the good one


async def run_to_its_end(lake: RealLake, chance: random.Random) -> bool:
    """A Run, killed at some moment. Whether it was, or ended before that."""
    moment = chance.choice((after_requests, after_names, after_time))
    lake.provider.delay = timedelta(milliseconds=10)  # so that there are several commits
    async with lake.started("--concurrency", "4") as process, anyio.create_task_group() as tg:
        tg.start_soon(moment, lake, process, chance.random())
        await process.communicate()
        tg.cancel_scope.cancel()
    lake.provider.delay = timedelta(0)
    assert process.returncode in (0, -signal.SIGKILL)
    return process.returncode == -signal.SIGKILL


async def after_requests(lake: RealLake, process: Process, part: float) -> None:
    """Kill it when *part* of the requests that it may have to make have been answered."""
    provider, begun = lake.provider, len(lake.provider.requests)
    wanted = begun + 1 + int(part * 2 * THINGS + 2)
    await provider.until(lambda: len(provider.requests) >= wanted)
    kill(process)


async def after_names(lake: RealLake, process: Process, part: float) -> None:
    """Kill it when some of its files have got their names, and maybe none has its row."""
    published = lake.published()
    wanted = published + 1 + int(part * 2 * THINGS)
    await lake.provider.until(lambda: lake.provider.in_flight > 0)
    while lake.published() < wanted:  # noqa: ASYNC110  # nobody tells
        await anyio.sleep(0.0005)
    kill(process)


async def after_time(lake: RealLake, process: Process, part: float) -> None:
    """Kill it some time after its first request."""
    begun = len(lake.provider.requests)
    await lake.provider.until(lambda: len(lake.provider.requests) > begun)
    await anyio.sleep(0.4 * part)
    kill(process)


def asked_needlessly(lake: RealLake, before: Sight) -> int:
    """How many requests since the last look were for Files that had been committed before."""
    done = {
        number for number, revision in before.revisions.items() if revision == lake.things.round - 1
    }
    paths = [request.path for request in lake.provider.requests]
    lake.provider.reset_counts()
    return sum(
        path.startswith("data/") and int(path.split("/")[1].split("-")[0]) in done for path in paths
    )


def moment_of(before: Sight, after: Sight) -> str:
    """How far a killed Run had come."""
    gained = sum(after.revisions[number] > before.revisions[number] for number in after.revisions)
    left = sum(after.revisions[number] == before.revisions[number] for number in after.revisions)
    newest = max(after.revisions.values())
    if all(revision == newest for revision in after.revisions.values()) and gained:
        return "after the commits"
    if after.unreferenced > before.unreferenced or (gained and left):
        return "in the commits"
    return "before the commits"
