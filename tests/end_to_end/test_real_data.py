"""The main job on real provider data, served from this machine."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from ingestify.config import Config
from ingestify.engine import Engine
from ingestify.model.dataset import Dataset
from ingestify.testing import FolderWorld, ProviderSimulator

COMPLETE = {42: 33, 90: 35}  # season of La Liga: matches


@pytest.fixture
def real_world(shared_data: Path) -> FolderWorld:
    """The provider's open data, as it was published."""
    return FolderWorld(shared_data / "statsbomb-open-data")


@pytest.fixture
async def real_provider(real_world: FolderWorld) -> AsyncIterator[ProviderSimulator]:
    async with ProviderSimulator(real_world) as simulator:
        yield simulator


@pytest.fixture
def open_real(
    make_config: Callable[..., Config], real_provider: ProviderSimulator
) -> Callable[..., Engine]:
    """An Engine whose one plan looks at *selectors*."""

    def make(*selectors: dict[str, Any] | str, **plan: Any) -> Engine:
        return Engine(
            make_config(
                sources={
                    "statsbomb": {
                        "type": "statsbomb_github",
                        "configuration": {"base_url": real_provider.base_url + "data/"},
                    }
                },
                ingestion_plans=[
                    {
                        "source": "statsbomb",
                        "dataset_type": "match",
                        "selectors": list(selectors),
                        **plan,
                    }
                ],
            )
        )

    return make


def served(world: FolderWorld, path: str) -> bytes:
    """The provider's own bytes."""
    resource = world.get("data/" + path)
    assert resource is not None, path
    return resource.body


def file_requests(provider: ProviderSimulator, status: int | None = None) -> int:
    folders = ("events", "lineups", "three-sixty")
    return sum(provider.count(f"data/{each}/*", status=status) for each in folders)


async def check_bytes(engine: Engine, world: FolderWorld, dataset: Dataset) -> None:
    """Every File of *dataset* is byte for byte what the provider serves."""
    match_id = dataset.identifier.match_id
    for content in await engine.store.load_files(dataset):
        body = await content.read_bytes()
        if content.data_feed_key == "match":
            season = f"matches/{dataset.identifier.competition_id}/{dataset.identifier.season_id}"
            assert body in served(world, season + ".json")
            assert json.loads(body)["match_id"] == match_id
        else:
            folder = content.data_feed_key.replace("360-frames", "three-sixty")
            assert body == served(world, f"{folder}/{match_id}.json")


async def test_two_seasons_are_stored_verbatim(
    open_real: Callable[..., Engine], real_provider: ProviderSimulator, real_world: FolderWorld
) -> None:
    """
    Two complete seasons give 68 Datasets whose every File is the provider's, byte for byte; the
    announced frames that do not exist are absent, which is no failure; nothing is fetched twice.
    """
    async with open_real({"competition_id": 11, "season_id": [42, 90]}) as engine:
        summary = await engine.run()

        assert summary.exit_code == 0
        assert summary.counters.stored == summary.counters.listed == 68
        datasets = await engine.store.get_dataset_collection(provider="statsbomb")
        assert len(datasets) == 68
        for dataset in datasets:
            await check_bytes(engine, real_world, dataset)
        announced = [d for d in datasets if d.metadata.get("match_status_360") == "available"]
        assert len(announced) == COMPLETE[90]
        for dataset in announced:
            checks = await engine.catalog.checks(dataset.row_id)
            outcomes = {check.data_feed_key: check.outcome for check in checks}
            assert outcomes["360-frames"] == "absent"

        real_provider.reset_counts()
        again = await engine.run()
        assert again.exit_code == 0
        assert file_requests(real_provider) == 0


async def test_a_season_loads_in_kloppy(
    open_real: Callable[..., Engine], real_world: FolderWorld
) -> None:
    """
    A stored match loads in kloppy with its own events, id and score.
    """
    pytest.importorskip("kloppy")
    selector = {"competition_id": 16, "season_id": [4, 22, 44]}
    async with open_real(selector) as engine:
        await engine.run()
        datasets = await engine.store.get_dataset_collection()
        assert len(datasets) == 3
        for dataset in datasets:
            loaded = await engine.store.load_with_kloppy(dataset)
            match_id = dataset.identifier.match_id
            events = json.loads(served(real_world, f"events/{match_id}.json"))
            assert {str(e.event_id) for e in loaded.events} >= {
                e["id"] for e in events if e["type"]["name"] == "Shot"
            }
            assert loaded.metadata.game_id == str(match_id)


def bumped(body: bytes, stamp: str) -> bytes:
    """The competitions, each with another ``match_updated``."""
    competitions = json.loads(body)
    for each in competitions:
        each["match_updated"] = stamp
    return json.dumps(competitions).encode()


async def test_corrections_become_revisions_exactly_where_bytes_differ(
    open_real: Callable[..., Engine],
    real_provider: ProviderSimulator,
    real_world: FolderWorld,
    shared_data: Path,
) -> None:
    """
    Older files first, then the newer ones: a File gets a Revision exactly where its bytes
    differ, the older bytes stay readable, and a third Run asks for no File.
    """
    older = shared_data / "statsbomb-open-data-older"
    real_world.shadow(older)
    selectors = [
        {"competition_id": 11, "season_id": [4, 42, 90]},
        {"competition_id": 16, "season_id": [4, 22]},
    ]
    async with open_real(*selectors) as engine:
        first = await engine.run()
        assert (first.exit_code, first.counters.stored) == (0, 104)
        datasets = await engine.store.get_dataset_collection()
        before = {d.dataset_id: {f.key: f.sha256 for f in d.files} for d in datasets}

        real_world.unshadow(older)
        competitions = served(real_world, "competitions.json")
        real_world.put("data/competitions.json", bumped(competitions, "2025-01-01T00:00"))
        second = await engine.run()

        assert second.exit_code == 0
        assert second.counters.is_balanced
        changed: dict[str, set[str]] = {"match": set(), "events": set(), "lineups": set()}
        for dataset in await engine.store.get_dataset_collection():
            await check_bytes(engine, real_world, dataset)
            known = before[dataset.dataset_id]
            for file in dataset.files:
                is_new = file.sha256 != known[file.key]
                assert file.revision == int(is_new)
                if is_new:
                    changed[file.data_feed_key].add(str(dataset.identifier.match_id))
        for folder in ("events", "lineups"):
            shadowed = {p.name.split(".")[0] for p in (older / "data" / folder).iterdir()}
            assert changed[folder] == shadowed
        # 33 entries of 11/42 and the one of 16/4 were published anew
        assert len(changed["match"]) == 34
        assert second.counters.stored == len(set().union(*changed.values()))

        gzipped = (older / "data/events/3773387.json.gz").read_bytes()
        old = (await engine.store.get_dataset_collection(match_id=3773387)).first()
        assert old is not None
        revision = (await engine.store.revisions(old))[0]
        (events,) = [f for f in revision.files if f.data_feed_key == "events"]
        assert await engine.store.content(events).read_bytes() == gzip.decompress(gzipped)

        real_provider.reset_counts()
        third = await engine.run()
        assert third.exit_code == 0
        assert file_requests(real_provider) == 0


async def test_every_list_of_the_provider(
    open_real: Callable[..., Engine], real_provider: ProviderSimulator
) -> None:
    """
    All 71 lists hold 3,316 matches. Those whose files the provider does not have fail alone, with
    their reasons, and exactly those are tried again by the next Run.
    """
    async with open_real("*", data_spec_versions={"match": "v6", "lineups": "v4"}) as engine:
        first = await engine.run()

        assert len(first.selectors) == 71
        assert first.counters.listed == 3316
        assert first.counters.is_balanced
        assert first.exit_code == 1
        assert first.counters.stored == 432  # as many as have lineups
        failures = await engine.catalog.failures(limit=5000)
        assert len(failures) == first.counters.failed == 3316 - 432
        assert {failure.code for failure in failures} == {"absent"}
        assert {failure.data_feed_key for failure in failures} == {"lineups"}

        real_provider.reset_counts()
        second = await engine.run()

        assert second.counters.failed == first.counters.failed
        assert file_requests(real_provider) == file_requests(real_provider, status=404) == 2884
        assert second.exit_code == 1
