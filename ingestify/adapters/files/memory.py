"""Files in memory: for tests, and for trying things out. Nothing outlives the store."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Self

from anyio import Event, Lock, lowlevel

from ingestify.errors import MissingBytesError, StoreError
from ingestify.model.catalog import StagedFile, StoredObject
from ingestify.model.layout import path_parts, with_suffix

PIECE = 1024 * 1024


class MemoryFileStore:
    """A FileStore that is a dictionary. Keeps every promise but durability."""

    def __init__(self) -> None:
        self.staged: dict[int, bytes] = {}
        self._objects: dict[str, tuple[bytes, datetime]] = {}
        self._catalogs: dict[str, str] = {}
        self._count = 0
        self._door = Lock()  # held all the while by who has the store alone
        self._publishing = 0
        self._left = Event()

    @classmethod
    @asynccontextmanager
    async def empty(cls) -> AsyncIterator[Self]:
        """A new store, with nothing in it."""
        yield cls()

    async def stage(self, chunks: AsyncIterable[bytes]) -> StagedFile:
        """See `FileStore.stage`."""
        data = b"".join([chunk async for chunk in chunks])
        self._count += 1
        self.staged[self._count] = data
        digest = hashlib.sha256(data).hexdigest()
        return StagedFile(handle=self._count, size=len(data), sha256=digest)

    async def discard(self, staged: StagedFile) -> None:
        """See `FileStore.discard`."""
        self.staged.pop(staged.handle, None)

    async def publish(self, files: Sequence[tuple[StagedFile, str]]) -> Sequence[str | StoreError]:
        """See `FileStore.publish`. Happens at once, before any cancellation is noticed."""
        published = [self._publish(staged, path) for staged, path in files]
        await lowlevel.checkpoint()
        return published

    @asynccontextmanager
    async def publishing(self) -> AsyncIterator[None]:
        """See `FileStore.publishing`."""
        async with self._door:
            self._publishing += 1
        try:
            yield
        finally:
            self._publishing -= 1
            self._left.set()

    @asynccontextmanager
    async def exclusive(self) -> AsyncIterator[None]:
        """See `FileStore.exclusive`."""
        async with self._door:
            while self._publishing:
                self._left = Event()
                await self._left.wait()
            yield

    async def open_staged(self, staged: StagedFile) -> AsyncIterator[bytes]:
        """See `FileStore.open_staged`."""
        data = self.staged.get(staged.handle)
        if data is None:
            raise StoreError("cannot read a staged file: it is not staged any more")
        for start in range(0, len(data), PIECE):
            yield data[start : start + PIECE]

    async def open(self, path: str) -> AsyncIterator[bytes]:
        """See `FileStore.open`."""
        data = await self.read(path)
        for start in range(0, len(data), PIECE):
            yield data[start : start + PIECE]

    async def read(self, path: str) -> bytes:
        """See `FileStore.read`."""
        path_parts(path)
        await lowlevel.checkpoint()
        if path not in self._objects:
            raise MissingBytesError(f"cannot read {path}: there is nothing")
        return self._objects[path][0]

    async def delete(self, paths: Sequence[str]) -> Mapping[str, str]:
        """See `FileStore.delete`."""
        for path in paths:
            path_parts(path)
        for path in paths:
            self._objects.pop(path, None)
        await lowlevel.checkpoint()
        return {}

    async def free_bytes(self) -> int | None:
        """See `FileStore.free_bytes`."""
        await lowlevel.checkpoint()
        return None

    async def staged_debris(self) -> Sequence[StoredObject]:
        """See `FileStore.staged_debris`. Nobody leaves any: it would be gone with the store."""
        await lowlevel.checkpoint()
        return []

    async def remove_debris(self) -> tuple[int, int]:
        """See `FileStore.remove_debris`."""
        await lowlevel.checkpoint()
        return 0, 0

    async def register(self, catalog_id: str) -> None:
        """See `FileStore.register`."""
        await lowlevel.checkpoint()
        self._catalogs[catalog_id] = f"this process, catalog {catalog_id}"

    async def catalogs(self) -> Mapping[str, str]:
        """See `FileStore.catalogs`."""
        await lowlevel.checkpoint()
        return dict(self._catalogs)

    async def list(self, prefix: str = "") -> AsyncIterator[StoredObject]:
        """See `FileStore.list`."""
        folder = prefix.rstrip("/")
        if folder:
            path_parts(folder)
        for path in sorted(self._objects):
            if path in self._objects and (not folder or path.startswith(folder + "/")):
                data, modified_at = self._objects[path]
                yield StoredObject(path=path, size=len(data), modified_at=modified_at)

    def _publish(self, staged: StagedFile, wanted: str) -> str | StoreError:
        data = self.staged.pop(staged.handle, None)
        if data is None:
            return StoreError(f"cannot publish {wanted}: it is not staged")
        try:
            path_parts(wanted)
        except StoreError as exc:
            return exc
        number = 0
        while (path := with_suffix(wanted, number)) in self._objects:
            if self._objects[path][0] == data:
                return path
            number += 1
        self._objects[path] = (data, datetime.now(UTC))
        return path
