"""A large body takes no more memory than a small one, all the way from the wire to the disk."""

from __future__ import annotations

import tracemalloc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from isal import isal_zlib

import ingestify
from ingestify.config import Config
from ingestify.engine import Engine
from ingestify.pipeline import formats
from ingestify.testing import FolderWorld, ProviderSimulator

MEBIBYTE = 1024**2
SMALL, LARGE = 8, 64  # mebibytes
BUFFERS = 16 * MEBIBYTE  # what read-ahead and chunks under way may differ by; far below LARGE


class BigSource(ingestify.Source):
    """Finds one Dataset."""

    provider = "big"

    def __init__(self, name: str, *, base_url: str, form: str) -> None:
        super().__init__(name, base_url=base_url)
        self.form = form

    async def discover_datasets(
        self, dataset_type: str, selector: ingestify.Selector, **_: Any
    ) -> AsyncIterator[ingestify.DatasetResource]:
        resource = ingestify.DatasetResource(dataset_resource_id={"id": 1}, name="big")
        yield resource.add_file("data", url="body", format=self.form)


def chunks(mebibytes: int, form: str, is_gzipped: bool) -> Iterator[bytes]:
    """A body, made while it is sent."""
    coder = isal_zlib.compressobj(1, wbits=31) if is_gzipped else None
    separator = b"," if form == "json" else b"\n"
    chunk = b"".join(separator + b"%d" % (10**9 + number**3 % 10**9) for number in range(24_000))
    parts = [chunk] * (mebibytes * MEBIBYTE // len(chunk))
    for part in [b"[0" if form == "json" else b"0", *parts, b"]" if form == "json" else b"\n"]:
        yield coder.compress(part) if coder else part
    if coder:
        yield coder.flush()


async def peak_of(
    config: Config, provider: ProviderSimulator, mebibytes: int, form: str, is_gzipped: bool
) -> int:
    """The most bytes that a Run had allocated at once which fetched a body of so many mebibytes."""

    async def send(request: web.BaseRequest, serve: Any) -> web.StreamResponse:
        response = web.StreamResponse(
            headers={"Content-Encoding": "gzip"} if is_gzipped else {},
        )
        await response.prepare(request)
        for chunk in chunks(mebibytes, form, is_gzipped):
            await response.write(chunk)
        return response

    provider.script("body", send)
    source = BigSource("big", base_url=provider.base_url, form=form)
    async with Engine(config, sources={"big": source}) as engine:
        tracemalloc.start()
        try:
            summary = await engine.run()
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        [dataset] = await engine.store.get_dataset_collection()
        [revision] = await engine.store.revisions(dataset)
    assert summary.counters.stored == 1
    assert revision.files[0].size >= (mebibytes - 1) * MEBIBYTE
    return peak


@pytest.mark.parametrize(
    ("form", "is_gzipped"), [("csv", False), ("csv", True), ("json", False), ("json", True)]
)
async def test_memory_does_not_grow_with_the_body(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    form: str,
    is_gzipped: bool,
) -> None:
    """
    A body eight times as large is fetched, checked and stored with the same memory; JSON, too, from
    the size on that is not parsed as a whole.
    """
    monkeypatch.setattr(formats.JsonCheck.__init__, "__defaults__", (MEBIBYTE, MEBIBYTE))
    plans = [{"source": "big", "dataset_type": "thing"}]
    peaks = []
    for mebibytes in (SMALL, LARGE):
        folder = tmp_path / str(mebibytes)
        folder.mkdir()
        config = Config.from_values(
            metadata_url=f"sqlite:///{folder}/catalog.db",
            file_url=folder / "files",
            sources={"big": {"type": "test_memory.BigSource"}},
            ingestion_plans=plans,
        )
        async with ProviderSimulator(FolderWorld(folder)) as provider:
            peaks.append(await peak_of(config, provider, mebibytes, form, is_gzipped))
    small, large = peaks
    assert large < small + BUFFERS, f"{small / MEBIBYTE:.1f} and {large / MEBIBYTE:.1f} MiB"
