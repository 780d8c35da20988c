"""Adapters that do nothing but answer, so that what is left is the engine itself."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from ingestify.adapters.catalog.memory import MemoryCatalog
from ingestify.adapters.files.memory import MemoryFileStore
from ingestify.errors import StoreError
from ingestify.model.catalog import (
    Commit,
    CommitResult,
    Committed,
    Lease,
    StagedFile,
)
from ingestify.model.dataset import Stored
from ingestify.model.http import Request

BODY = b'{"events":[' + b",".join([b'{"type":"Pass","x":61.2,"y":40.1}'] * 90) + b"]}"
DIGEST = "0" * 64


class NullCatalog(MemoryCatalog):
    """Knows nothing and keeps nothing, but for what it learned before it was told to `repeat`.

    Then it answers each question about stored Datasets as it did the first time.
    """

    def __init__(self) -> None:
        super().__init__()
        self._learns = False
        self._repeats = False
        self._answers: dict[tuple[str, str], Any] = {}
        self._row_id = 0

    def learn(self) -> None:
        """Be a Catalog in memory for now, and remember what is asked."""
        self._learns = True

    def repeat(self) -> None:
        """From now on say again what was said."""
        self._learns, self._repeats = False, True

    async def look_up(self, *, keys: Sequence[str], **shelf: str) -> Sequence[Stored | None]:
        """See `Catalog.look_up`."""
        return await self._answer("stored", super().look_up, keys, shelf)

    async def agreements(self, *, keys: Sequence[str], **shelf: str) -> Sequence[Any]:
        """See `Catalog.agreements`."""
        return await self._answer("agreed", super().agreements, keys, shelf)

    async def _answer(
        self,
        what: str,
        ask: Callable[..., Awaitable[Sequence[Any]]],
        keys: Sequence[str],
        shelf: dict[str, str],
    ) -> Sequence[Any]:
        if self._repeats:
            return [self._answers.get((what, key)) for key in keys]
        if not self._learns:
            return [None] * len(keys)
        answers = await ask(keys=keys, **shelf)
        self._answers.update(zip(((what, key) for key in keys), answers, strict=True))
        return answers

    async def commit(
        self, batch: Sequence[Commit], *, leases: Sequence[Lease]
    ) -> Sequence[CommitResult]:
        """See `Catalog.commit`."""
        if self._learns:
            return await super().commit(batch, leases=leases)
        first = self._row_id
        self._row_id += len(batch)
        return [
            Committed(row_id=row_id, dataset_id="d", revision=0, is_new=True)
            for row_id in range(first + 1, self._row_id + 1)
        ]


class NullFileStore(MemoryFileStore):
    """Takes every byte, and keeps none."""

    async def stage(self, chunks: AsyncIterable[bytes]) -> StagedFile:
        """See `FileStore.stage`."""
        size = 0
        async for chunk in chunks:
            size += len(chunk)
        return StagedFile(handle=None, size=size, sha256=DIGEST)

    async def publish(self, files: Sequence[tuple[StagedFile, str]]) -> Sequence[str | StoreError]:
        """See `FileStore.publish`."""
        return [path for _, path in files]


class NullResponse:
    """A body that is there already."""

    status = 200
    headers = {"content-type": "application/json", "content-length": str(len(BODY))}  # noqa: RUF012

    async def chunks(self) -> AsyncIterator[bytes]:
        """See `Response.chunks`."""
        yield BODY


class NullFetcher:
    """Answers every request at once, with the same body."""

    @asynccontextmanager
    async def send(self, request: Request) -> AsyncIterator[NullResponse]:
        """See `Fetcher.send`."""
        yield NullResponse()
