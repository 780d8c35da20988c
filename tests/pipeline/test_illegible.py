"""Text that is no Unicode, in headers and in errors: it harms what it belongs to, at most."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from lakes import Lake, offer, offering, outcome
from lists import ListSource

from ingestify.adapters.catalog.sqlite import SqliteCatalog
from ingestify.config import Config
from ingestify.engine import Engine
from ingestify.errors import CatalogError, FatalError, StopProcessing
from ingestify.model.catalog import Scope
from ingestify.model.dataset import Dataset
from ingestify.model.run import RunSummary
from ingestify.testing import FakeSource

ODD_ETAG = b'ETag: "\xff"\r\n'
PLAIN = {
    "/selectors.json": b'[{"list": "a"}]',
    "/list-a.json": b'[{"id": 1}, {"id": 2}]',
    "/data/1-v1.json": b"{}",
    "/data/2-v1.json": b"{}",
}


@asynccontextmanager
async def answering(headers: Mapping[str, bytes]) -> AsyncIterator[str]:
    """The address of a server that puts *headers* as they stand into its answers."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                path = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
                body = PLAIN[path]
                head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n" % len(body)
                writer.write(head + headers.get(path, b"") + b"\r\n" + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


@pytest.mark.parametrize(
    ("path", "header"),
    [
        ("/selectors.json", ODD_ETAG),
        ("/list-a.json", ODD_ETAG),
        ("/list-a.json", b"Last-Modified: \xff\r\n"),
        ("/data/1-v1.json", ODD_ETAG),
        ("/data/1-v1.json", b"Content-Type: application/\xff\r\n"),
    ],
)
async def test_headers_that_cannot_be_kept_are_left_out(
    make_config: Callable[..., Config], path: str, header: bytes
) -> None:
    """
    A validator or content type that is no Unicode is taken for none.
    """
    config = make_config(
        sources={"lists": {"type": "lists.ListSource"}},
        ingestion_plans=[{"source": "lists", "dataset_type": "thing"}],
    )
    async with answering({path: header}) as base_url:
        sources = {"lists": ListSource("lists", base_url=base_url)}
        async with Engine(config, sources=sources) as engine:
            assert outcome(await engine.run()) == {"stored": 2}
            summary = await engine.run()

    assert (summary.exit_code, outcome(summary)) == (0, {"skipped": 2})


class Garbled(FakeSource):
    """Says what nobody can write down."""

    def __init__(self, error: Exception, where: str) -> None:
        super().__init__({}, name="garbled")
        self.error, self.where = error, where

    async def discover_selectors(self, dataset_type: str, *, http: Any) -> AsyncIterator[Any]:
        if self.where == "selectors":
            raise self.error
        async for each in super(FakeSource, self).discover_selectors(dataset_type, http=http):
            yield each

    async def discover_datasets(self, *_: Any, **__: Any) -> AsyncIterator[Any]:
        raise self.error
        yield


async def run_on_disk(
    folder: Path, *sources: FakeSource, **order: Any
) -> tuple[RunSummary, list[Dataset], list[str]]:
    """A Run with the Catalog that keeps only Unicode: its summary, and what was written down."""
    async with SqliteCatalog.open(folder / "catalog.db") as catalog:
        lake = Lake(catalog=catalog)
        summary = await lake.run(*sources, **order)
        return summary, await lake.datasets(), [run.status for run in await catalog.runs()]


@pytest.mark.parametrize("where", ["selectors", "datasets"])
@pytest.mark.parametrize("kind", [ValueError, StopProcessing, FatalError])
async def test_an_error_that_cannot_be_written_down_as_it_stands(
    tmp_path: Path, where: str, kind: type[Exception]
) -> None:
    """
    The text of an error is spelled out. It ends what such an error always ends, and no more.
    """
    garbled = Garbled(kind("bad \udcff text"), where)

    summary, datasets, statuses = await run_on_disk(tmp_path, garbled, offering(offer(1)))

    said = f"{summary.error}{[each.error for each in summary.selectors]}"
    assert "bad \\udcff text" in said.replace("\\\\", "\\")
    assert statuses == [summary.status]
    if kind is FatalError:
        assert (summary.status, summary.exit_code) == ("failed", 3)
    else:
        assert [each.name for each in datasets] == ["a dataset"]
        assert summary.exit_code == (4 if kind is StopProcessing else 1)


async def test_a_summary_that_cannot_be_kept_does_not_leave_its_run_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Where a defect keeps a summary from being written down, the Run's end is written without it.
    """
    close_run = SqliteCatalog.close_run

    async def choosy(self: SqliteCatalog, run_id: int, summary: RunSummary) -> None:
        if summary.error != "ValueError":
            raise ValueError("what is this?")
        await close_run(self, run_id, summary)

    monkeypatch.setattr(SqliteCatalog, "close_run", choosy)

    summary, datasets, statuses = await run_on_disk(tmp_path, offering(offer(1)))

    assert (summary.status, summary.exit_code) == ("failed", 3)
    assert statuses == ["failed"]
    assert len(datasets) == 1


@pytest.mark.parametrize("name", ["bucket", "source", "dataset_type", "selector_key"])
async def test_the_catalog_says_that_it_cannot_keep_a_text(tmp_path: Path, name: str) -> None:
    """
    Text that is no Unicode is an error of the Catalog's, whichever column it is meant for.
    """
    places = {"bucket": "b", "source": "s", "dataset_type": "t", "selector_key": "{}"}
    scope = Scope(**{**places, name: "odd \ud800"})
    async with SqliteCatalog.open(tmp_path / "catalog.db") as catalog:
        with pytest.raises(CatalogError, match="only text that is Unicode"):
            await catalog.selector_state(scope)
