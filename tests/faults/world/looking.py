"""What a lake shows to whoever looks, and whether it is true."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ingestify.model.catalog import DatasetQuery
from ingestify.model.dataset import Dataset, Revision
from ingestify.model.event import Event, EventType
from ingestify.model.run import RunRow, RunStatus
from ingestify.ports import Catalog, FileStore
from ingestify.store import DatasetStore

from .provider import FileId, Provider, Version, sha
from .world import STAGING, World, WorldClock, loop, opened_catalog, opened_store


@dataclass
class Lake:
    """Everything that a reader finds, read to the last byte."""

    now: dict[int, Version] = field(default_factory=dict)
    past: dict[int, list[Version]] = field(default_factory=dict)  # after each Revision
    metadata: dict[int, list[str]] = field(default_factory=dict)  # of each Revision
    events: dict[int, list[Event]] = field(default_factory=dict)
    runs: Sequence[RunRow] = ()
    damaged: list[str] = field(default_factory=list)  # paths whose bytes are not what is said
    paths: list[str] = field(default_factory=list)
    current: dict[int, list[str]] = field(default_factory=dict)  # paths of the current Files

    @property
    def bad(self) -> set[str]:
        """The paths of Files that are damaged."""
        return {each.partition(": ")[0] for each in self.damaged}

    @property
    def files(self) -> dict[FileId, str]:
        """The sha256 of every current File."""
        return {
            (number, feed): digest
            for number, version in self.now.items()
            for feed, digest in version.files.items()
        }


async def look(world: World) -> Lake:
    """Read the whole lake, as a reader does who opens it now."""
    async with opened_catalog(world) as catalog, opened_store(world) as files:
        return await read_lake(world, catalog, files)


async def read_lake(
    world: World, catalog: Catalog, files: FileStore, *, bytes_too: bool = True
) -> Lake:
    """The same, for whoever has opened it."""
    with loop().undisturbed():
        return await _read_lake(world, catalog, files, bytes_too)


async def _read_lake(world: World, catalog: Catalog, files: FileStore, bytes_too: bool) -> Lake:
    store = DatasetStore(catalog, files, WorldClock(world), default_bucket="main")
    lake = Lake(runs=await catalog.runs(limit=1000))
    events = await catalog.events(limit=100_000)
    for dataset in await catalog.find(DatasetQuery(stage=None), limit=1000):
        number = int(dataset.identifier["id"])
        assert number not in lake.now, f"{number} is there twice"
        lake.now[number] = version_of(dataset)
        lake.current[number] = [file.path for file in dataset.files]
        lake.events[number] = [each for each in events if each.dataset_id == dataset.dataset_id]
        revisions = await catalog.revisions(dataset.row_id)
        if bytes_too:
            await _read_revisions(lake, number, revisions, store)
        _check_dataset(dataset, revisions, lake.events[number])
    return lake


def version_of(dataset: Dataset) -> Version:
    files = {file.data_feed_key: file.sha256 for file in dataset.files}
    return Version(dataset.name, dataset.state, _text(dataset.metadata), files)


async def _read_revisions(
    lake: Lake, number: int, revisions: Sequence[Revision], store: DatasetStore
) -> None:
    files: dict[str, str] = {}
    for revision in revisions:
        for file in revision.files:
            files[file.data_feed_key] = file.sha256
            lake.paths.append(file.path)
            try:
                body = await store.content(file).read_bytes()
            except Exception as exc:
                lake.damaged.append(f"{file.path}: {exc}")
            else:
                if (len(body), sha(body)) != (file.size, file.sha256):
                    lake.damaged.append(f"{file.path}: other bytes")
        lake.past.setdefault(number, []).append(
            Version("", "", _text(revision.metadata), dict(files))
        )


def _check_dataset(
    dataset: Dataset, revisions: Sequence[Revision], events: Sequence[Event]
) -> None:
    """G1: row, Revisions, Files and events of one Dataset were written together."""
    numbers = [revision.number for revision in revisions]
    assert numbers == list(range(len(revisions))), f"Revisions are numbered {numbers}"
    assert dataset.revision == (numbers[-1] if numbers else None)
    newest = {file.key: file.sha256 for revision in revisions for file in revision.files}
    assert newest == {file.key: file.sha256 for file in dataset.files}
    kinds = [event.type for event in events]
    assert kinds.count(EventType.DATASET_CREATED) == 1, kinds
    assert kinds[0] is EventType.DATASET_CREATED
    added = [each.revision for each in events if each.type is EventType.REVISION_ADDED]
    assert added == numbers, f"Revisions {numbers}, events tell of {added}"
    feeds = [each.changed_feeds for each in events if each.type is EventType.REVISION_ADDED]
    assert [set(each) for each in feeds] == [
        {file.data_feed_key for file in revision.files} for revision in revisions
    ]


def check_truth(lake: Lake, provider: Provider) -> None:
    """G1, G2: whatever can be seen is whole, and is a state that the provider really had."""
    assert not lake.damaged, f"the catalog lies: {lake.damaged}"
    for number, version in lake.now.items():
        history = provider.history[number]
        assert version in history, f"{number} is a mixture: {version}"
        had = [(each.metadata, each.files) for each in history]
        for past in lake.past.get(number, []):
            assert (past.metadata, past.files) in had, f"{number} was a mixture: {past}"


def check_converged(lake: Lake, provider: Provider) -> None:
    """G5: the lake is equal to what the provider announces; what it had before is still there."""
    assert not lake.damaged
    for number, version in provider.now.items():
        assert lake.now.get(number) == version, f"{number} is {lake.now.get(number)}"


def out_of_date(lake: Lake, provider: Provider) -> set[FileId]:
    """The Files whose bytes the lake does not have."""
    wanted: Mapping[FileId, str] = {
        (number, feed): digest
        for number, version in provider.now.items()
        for feed, digest in version.files.items()
    }
    have = lake.files
    return {file for file, digest in wanted.items() if have.get(file) != digest}


def check_runs(lake: Lake) -> None:
    """G19: no Run says that it is still running, when none is."""
    running = [run.run_id for run in lake.runs if run.status is RunStatus.RUNNING]
    assert not running, f"Runs {running} say that they are running"


def staged(world: World) -> list[str]:
    """What lies in the staging area."""
    found = [path for path in world.disk.files() if path.startswith(STAGING)]
    return [path for path in found if not path.endswith(".lock")]


def _text(metadata: Mapping[str, object]) -> str:
    return json.dumps(metadata, sort_keys=True)
