"""A Source's secrets stay out of all that is written down, whatever it says in its errors."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

import ingestify
from ingestify.config import Config
from ingestify.engine import Engine

CANARY = "canary-4b1f9d"
DIGITS = 987654321012  # a key that was written without quotes


class Careless(ingestify.Source):
    """Tells its key in an error, raised in the method and of the kind that it is told."""

    provider = "careless"

    def __init__(self, name: str, *, api_key: str | int, where: str, kind: str) -> None:
        super().__init__(name, base_url="http://127.0.0.1:9/")
        self.key, self.where, self.kind = api_key, where, kind

    def fail(self, where: str) -> None:
        if where == self.where:
            kinds: dict[str, type[Exception]] = {"RuntimeError": RuntimeError}
            kind = kinds.get(self.kind) or getattr(ingestify, self.kind)
            raise kind(f"the key {self.key} was refused")

    async def discover_selectors(
        self, dataset_type: str, *, http: ingestify.Http
    ) -> AsyncIterator[ingestify.Selector]:
        self.fail("selectors")
        yield ingestify.Selector()

    async def discover_datasets(
        self, dataset_type: str, selector: ingestify.Selector, **_: Any
    ) -> AsyncIterator[ingestify.DatasetResource]:
        self.fail("datasets")
        yield ingestify.DatasetResource(dataset_resource_id={"id": 1}, name="one").add_file(
            "data", content=b"{}"
        )

    async def fetch_dataset_files(
        self, resource: ingestify.DatasetResource, stored: Any, *, http: ingestify.Http
    ) -> AsyncIterator[ingestify.FileResource]:
        self.fail("files")
        for file in resource.files:
            yield file


@pytest.mark.parametrize("kind", ["SourceError", "RuntimeError", "StopProcessing", "FatalError"])
@pytest.mark.parametrize("where", ["selectors", "datasets", "files"])
@pytest.mark.parametrize("key", [CANARY, DIGITS])
async def test_no_secret_is_written_down(
    make_config: Callable[..., Config],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    where: str,
    kind: str,
    key: str | int,
) -> None:
    """
    An error that tells the Source's key is told without it: in the summary, in the Catalog, in
    the failures, and in what is logged at any level.
    """
    caplog.set_level(logging.DEBUG)
    options = {"api_key": key, "where": where, "kind": kind}
    config = make_config(
        sources={"careless": {"type": f"{__name__}.Careless", "configuration": options}},
        ingestion_plans=[{"source": "careless", "dataset_type": "thing"}],
    )
    async with Engine(config) as engine:
        summary = await engine.run()
        failures = await engine.catalog.failures()
        runs = await engine.catalog.runs()

    told = msgspec.json.encode([summary, failures, runs]).decode()
    assert "was refused" in told
    assert str(key) not in told
    assert str(key) not in caplog.text
    for file in (tmp_path / "lake").rglob("*"):
        assert not file.is_file() or str(key).encode() not in file.read_bytes(), file
