"""Fills a lake's catalog with Datasets whose bytes were never fetched: `--help`.

Selectors, Datasets, Revisions, Files, checks and events go through our own Catalog, in batches, and
come from the very lists that `benchmarks.lists` serves: a run afterwards finds everything up to
date. There are no files in such a lake, so it is of use only to what never reads any.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import msgspec

from benchmarks.lists import NEW_SEASON, MatchLists
from ingestify import DataSpecVersions, Selector
from ingestify.adapters.catalog.sqlite import SqliteCatalog
from ingestify.adapters.files.local import LocalFileStore
from ingestify.model.catalog import (
    CheckedFile,
    Completion,
    DatasetCommit,
    NewFile,
    Scope,
    SelectorClosing,
)
from ingestify.model.dataset import CheckOutcome
from ingestify.model.identity import Identifier, canonical_key, ordered_key
from ingestify.model.layout import file_path
from ingestify.model.resource import (
    DatasetResource,
    FileResource,
    agreement_of,
    content_of,
)
from ingestify.model.run import Counters, RunStatus, RunSummary, SelectorStatus
from ingestify.pipeline.task import details_hash
from ingestify_statsbomb import StatsBombOpenData

SOURCE = "provider"
BUCKET = "main"
VERSIONS = DataSpecVersions({"events": "v8", "lineups": "v4"})
_RAW = list[msgspec.Raw]


class _Listed:
    """What a Source calls `http`, over entries that are at hand."""

    def __init__(self, entries: Sequence[bytes]) -> None:
        self._entries = entries

    def url(self, path: str, *segments: int | str) -> str:
        return f"http://127.0.0.1/{path.format(*segments)}"

    async def get_json_items(self, url: str, **options: Any) -> AsyncIterator[Any]:
        kind = options["type"]
        for entry in self._entries:
            yield (
                msgspec.Raw(entry) if kind is msgspec.Raw else msgspec.json.decode(entry, type=kind)
            )


class _Seeding:
    """One Run that has stored everything."""

    def __init__(self, catalog: SqliteCatalog, run_id: int, at: datetime) -> None:
        self._catalog = catalog
        self._run_id = run_id
        self._at = at
        self._source = StatsBombOpenData(SOURCE)
        self._lists = MatchLists()

    async def fill(self, datasets: int) -> None:
        """Store so many *datasets*."""
        offered: Any = _Listed(msgspec.json.decode(self._lists.competitions(datasets), type=_RAW))
        async for selector in self._source.discover_selectors("match", http=offered):
            if selector["season_id"] != NEW_SEASON:
                entries = self._lists.entries(datasets, int(selector["season_id"]))
                await self._fill_season(selector, entries)

    async def _fill_season(self, selector: Selector, entries: Sequence[bytes]) -> None:
        scope = Scope(bucket=BUCKET, source=SOURCE, dataset_type="match", selector_key=selector.key)
        state = await self._catalog.begin_selector(
            scope, run_id=self._run_id, name=selector.name, token=selector.token, at=self._at
        )
        listed: Any = _Listed(entries)
        found: list[DatasetResource] = []
        async for page in self._source.discover_datasets(
            "match", selector, data_spec_versions=VERSIONS, state={}, http=listed
        ):
            found.extend(page)
        results = await self._catalog.commit([self._commit(each) for each in found], leases=[])
        closing = SelectorClosing(
            scope=scope,
            run_id=self._run_id,
            selector_run_id=state.selector_run_id,
            status=SelectorStatus.COMPLETE,
            counters=Counters(listed=len(found), stored=len(found)),
            reasons={"new": len(found)},
            failures=[],
            error=None,
            completion=Completion(
                row_ids=[each.row_id for each in results],  # type: ignore[misc, union-attr]
                clean=True,
                fingerprint="seeded",
                validators=None,
                state={},
            ),
            at=self._at,
        )
        await self._catalog.finish_selector(closing)

    def _commit(self, resource: DatasetResource) -> DatasetCommit:
        metadata = content_of(resource.metadata)
        identifier = ordered_key(resource.dataset_resource_id)
        return DatasetCommit(
            bucket=BUCKET,
            stage="raw",
            provider=self._source.provider,
            dataset_type="match",
            identifier_key=canonical_key(resource.dataset_resource_id),
            identifier=identifier,
            name=resource.name,
            state=resource.state,
            metadata=metadata,
            details_hash=details_hash(resource.name, resource.state, metadata),
            base=None,
            files=[self._checked(identifier, each) for each in resource.files],
            reason="new",
            run_id=self._run_id,
            at=self._at,
            agreement=agreement_of(resource),
        )

    def _checked(self, identifier: str, file: FileResource) -> CheckedFile:
        sha256 = hashlib.sha256((file.url or "").encode()).hexdigest()
        path = file_path(
            bucket=BUCKET,
            stage="raw",
            provider=self._source.provider,
            dataset_type="match",
            identifier=Identifier.from_key(identifier),
            data_feed_key=file.data_feed_key,
            data_spec_version=file.data_spec_version,
            revision=0,
            stored_sha256=sha256,
            format="json",
            codec="gzip",
            transformations={},
        )
        new = NewFile(
            path=path,
            format="json",
            codec="gzip",
            size=3000,
            sha256=sha256,
            stored_size=1000,
            stored_sha256=sha256,
            content_type="application/json",
            validation="whole",
        )
        etag = f'"{sha256[:40]}"'
        return CheckedFile(
            key=file.key,
            outcome=CheckOutcome.STORED,
            reason="new",
            token=file.token,
            etag=etag,
            new=new,
        )


async def seed(folder: Path, datasets: int) -> None:
    """Make a lake of *datasets* in *folder*, as `config` describes it."""
    at = datetime.now(UTC)
    async with SqliteCatalog.open(folder / "catalog.db") as catalog:
        async with LocalFileStore.at(folder / "files") as store:
            await store.register(await catalog.catalog_id())
        run_id = await catalog.begin_run(started_at=at, fingerprint="seeded")
        await _Seeding(catalog, run_id, at).fill(datasets)
        summary = RunSummary(
            run_id=run_id,
            status=RunStatus.FINISHED,
            exit_code=0,
            started_at=at,
            finished_at=at,
            counters=Counters(listed=datasets, stored=datasets),
            selectors=(),
            failures=(),
            requests=0,
            received_bytes=0,
            stored_bytes=0,
        )
        await catalog.close_run(run_id, summary)


def config(folder: Path, base_url: str, selector: str = '"*"') -> Path:
    """Write the configuration of the lake in *folder* for the provider at *base_url*."""
    path = folder / "config.yaml"
    path.write_text(
        f"""\
main:
  metadata_url: sqlite:///{folder}/catalog.db
  file_url: {folder}/files
sources:
  {SOURCE}:
    type: statsbomb_github
    configuration:
      base_url: {base_url}
ingestion_plans:
  - source: {SOURCE}
    dataset_type: match
    data_spec_versions: {{events: v8, lineups: v4}}
    selectors: [{selector}]
"""
    )
    return path


def main() -> None:
    """Fill a lake's catalog."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.seeding", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("datasets", type=int)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    anyio.run(seed, arguments.folder.absolute(), arguments.datasets)
    seconds = time.perf_counter() - began
    size = (arguments.folder / "catalog.db").stat().st_size
    each = size / max(arguments.datasets, 1)
    print(f"{arguments.datasets} datasets in {seconds:.1f} s, {each:.0f} bytes of catalog each")


if __name__ == "__main__":
    main()
