"""Lakes for tests of the pipeline: Runs on chosen ports, and a look at what they leave behind."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from ingestify.adapters.catalog.memory import MemoryCatalog
from ingestify.adapters.files.local import LocalFileStore
from ingestify.adapters.files.memory import MemoryFileStore
from ingestify.clock import SystemClock
from ingestify.model.catalog import DatasetQuery
from ingestify.model.dataset import Dataset
from ingestify.model.plan import PlanScope
from ingestify.model.resource import DataSpecVersions
from ingestify.model.run import RunSummary
from ingestify.model.selector import Selector, SelectorPattern
from ingestify.pipeline.body import decode_bytes
from ingestify.pipeline.choose import Narrowing, Plan
from ingestify.pipeline.order import Order, Ports
from ingestify.pipeline.run import Run
from ingestify.policy import FetchPolicy
from ingestify.ports import Catalog, Clock, Fetcher, FileStore, Source
from ingestify.store import DatasetStore
from ingestify.testing import FakeSource, Offer
from ingestify.testing.fetcher import FakeFetcher
from ingestify.throttle import Throttle

BUCKET = "main"
Offered = Offer | Callable[[], Any]


def offer(number: int, *feeds: str, body: str = "", **values: Any) -> Offer:
    """A Dataset called *number*, whose Files differ from those of all others."""
    files: dict[str, bytes | str] = {
        feed: f'{{"of": {number}, "feed": "{feed}", "body": "{body}"}}'.encode()
        for feed in feeds or ("events",)
    }
    return Offer(identifier={"id": number}, files=values.pop("files", files), **values)


def offering(
    *offers: Offered,
    name: str = "fake",
    kind: type[FakeSource] = FakeSource,
    **slices: Sequence[Offered],
) -> FakeSource:
    """A Source with one empty Selector, or with one for each of *slices*."""
    if not slices:
        return kind({Selector(): offers}, name=name)
    return kind({Selector({"slice": key}): each for key, each in slices.items()}, name=name)


def plan_of(
    source: Source,
    *,
    versions: Mapping[str, str | Sequence[str]] | None = None,
    policy: FetchPolicy | None = None,
    bucket: str = BUCKET,
    selector: object = "*",
) -> Plan:
    """A plan that wants what *selector* says of *source*."""
    scope = PlanScope(
        source=source.name,
        dataset_type="thing",
        bucket=bucket,
        data_spec_versions=DataSpecVersions(versions or {}),
        patterns=[SelectorPattern.parse(selector)],
    )
    return Plan(scope=scope, source=source, policy=policy or FetchPolicy())


@dataclass(kw_only=True)
class Lake:
    """A lake and the world around it, in memory unless a test says otherwise."""

    catalog: Catalog = field(default_factory=MemoryCatalog)
    files: FileStore = field(default_factory=MemoryFileStore)
    fetcher: Fetcher = field(default_factory=FakeFetcher)
    clock: Clock = field(default_factory=SystemClock)

    def run_of(self, *wanted: Source | Plan, settled: Any = None, **order: Any) -> Run:
        """A Run that wants *wanted*; all of a Source, unless a plan says otherwise."""
        plans = [each if isinstance(each, Plan) else plan_of(each) for each in wanted]
        ports = Ports(
            catalog=self.catalog,
            store=self.files,
            fetcher=self.fetcher,
            throttle=Throttle(self.clock, self.catalog),
            clock=self.clock,
            random=random.Random(0),
        )
        order = {"narrowing": Narrowing(), "transformations": {}, "workers": 8, **order}
        return Run(ports=ports, order=Order(plans=plans, **order), settled=settled)

    async def run(self, *wanted: Source | Plan, **order: Any) -> RunSummary:
        """What came of a Run for *wanted*."""
        return await self.run_of(*wanted, **order).execute()

    @property
    def store(self) -> DatasetStore:
        return DatasetStore(self.catalog, self.files, self.clock, default_bucket=BUCKET)

    async def datasets(self) -> list[Dataset]:
        """Every Dataset, in the order in which the lake got them."""
        return list(await self.catalog.find(DatasetQuery(stage=None), limit=100_000))

    async def ids(self) -> list[Any]:
        """The ids of all Datasets, ascending."""
        return sorted(dataset.identifier.id for dataset in await self.datasets())

    async def bodies(self, dataset: Dataset) -> dict[str, bytes]:
        """The provider's bytes of the current Files, by feed."""
        return {
            content.data_feed_key: await content.read_bytes()
            for content in await self.store.load_files(dataset)
        }

    async def check(self) -> None:
        """Every File that the Catalog knows lies in the store as it says, and nothing is staged."""
        for dataset in await self.datasets():
            revisions = await self.catalog.revisions(dataset.row_id)
            assert [each.number for each in revisions] == list(range(len(revisions)))
            assert dataset.revision == (len(revisions) - 1 if revisions else None)
            for revision in revisions:
                for file in revision.files:
                    stored = await self.files.read(file.path)
                    assert file.stored_size == len(stored)
                    assert file.stored_sha256 == sha256(stored).hexdigest()
                    body = decode_bytes(stored, file.codec)
                    assert (file.size, file.sha256) == (len(body), sha256(body).hexdigest())
        assert staged_in(self.files) == []


def staged_in(files: FileStore) -> list[object]:
    """What is staged in *files* and neither published nor discarded."""
    if isinstance(files, MemoryFileStore):
        return list(files.staged)
    assert isinstance(files, LocalFileStore)
    return list(Path(files.root, ".ingestify", "staging").glob("*/*"))


def outcome(summary: RunSummary) -> dict[str, int]:
    """What became of the Datasets listed, without zeros. The counters must add up."""
    assert summary.counters.is_balanced
    assert all(each.counters.is_balanced for each in summary.selectors)
    names = ("stored", "unchanged", "skipped", "failed", "duplicate", "refused", "not_reached")
    counts = {name: getattr(summary.counters, name) for name in names}
    return {name: count for name, count in counts.items() if count}
