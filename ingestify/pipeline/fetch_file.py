"""Fetch one File: from its address, its Source's loader, or bytes that are at hand."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from anyio import CancelScope, move_on_after

from ingestify.client import Answer, Client, ClientHttp
from ingestify.errors import AbsentError, SourceError, TransientFetchError
from ingestify.http.headers import KEPT
from ingestify.http.in_memory import Memory, RunMemory
from ingestify.model.catalog import CheckedFile, StagedFile
from ingestify.model.dataset import CheckOutcome, StoredFile
from ingestify.model.resource import FileResource, HttpOptions, NotModified
from ingestify.pipeline.body import HELD, EncodedBody, encode_whole, store_body
from ingestify.pipeline.pool import Slot
from ingestify.pipeline.room import Room
from ingestify.pipeline.task import NewBytes
from ingestify.policy import Ask
from ingestify.ports import FileStore, Http


@dataclass(frozen=True, slots=True)
class Got:
    """What came of one request for a File, and its bytes if they are new."""

    checked: CheckedFile
    new: NewBytes | None = None


@dataclass(frozen=True, slots=True)
class Arrived:
    """A body that has been validated and staged, and what is kept of the headers it came with."""

    staged: StagedFile
    body: EncodedBody
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFetch:
    """Fetches the Files of one Source, one at a time; as many at once as it is called."""

    client: Client
    store: FileStore
    room: Room | None = None
    parsing: Memory = field(default_factory=lambda: RunMemory().parsing)
    loading: Memory = field(default_factory=lambda: RunMemory().loaders)

    def http_for(self, slot: Slot) -> Http:
        """What a Source asks with while it works on the Task whose place is *slot*."""
        return ClientHttp(self.client, memory=self.loading, slot=slot)

    async def fetch(self, ask: Ask, known: StoredFile | None, slot: Slot) -> Got:
        """The File that *ask* asks for. *known* is what the lake has of it.

        The caller publishes or discards what comes staged.

        Raises:
            FetchError: it cannot be had. Nothing is left staged.
        """
        file = ask.file
        try:
            if file.url is not None:
                arrived = await self._from_url(file.url, ask, known, slot)
            elif file.loader is not None:
                arrived = await self._in_time(ask, known, slot)
            else:
                arrived = await self._stage(file, _once(file.content or b""))
        except AbsentError:
            if not file.optional:
                raise
            return Got(_checked(ask, CheckOutcome.ABSENT))
        if isinstance(arrived, NotModified):
            return Got(_unchanged(ask, known))
        return await self._compare(ask, known, arrived)

    async def _from_url(
        self, url: str, ask: Ask, known: StoredFile | None, slot: Slot
    ) -> Arrived | NotModified:
        staged: list[StagedFile] = []

        async def consume(answer: Answer) -> Arrived:
            if staged:
                await self._discard(staged)  # of an attempt that failed after all had come
            arrived = await self._receive(ask.file, answer)
            staged.append(arrived.staged)
            return arrived

        validators = None
        if ask.conditional and known is not None:
            validators = (known.check.etag, known.check.last_modified)
        try:
            return await self.client.receive(
                url,
                conditional=validators,
                options=ask.file.http_options,
                consume=consume,
                slot=slot,
            )
        except BaseException:
            with CancelScope(shield=True):
                await self._discard(staged)
            raise

    async def _discard(self, staged: list[StagedFile]) -> None:
        while staged:
            await self.store.discard(staged.pop())

    async def _in_time(
        self, ask: Ask, known: StoredFile | None, slot: Slot
    ) -> Arrived | NotModified:
        """What the loader gives, within the time that an exchange may take."""
        options = ask.file.http_options or HttpOptions()
        seconds = (options.total_timeout or self.client.settings.total_timeout).total_seconds()
        with move_on_after(seconds):
            return await self._from_loader(ask, known, slot)
        raise TransientFetchError(
            f"{ask.file.data_feed_key}: its loader was not done after {seconds:g} s (total_timeout)"
        )

    async def _from_loader(
        self, ask: Ask, known: StoredFile | None, slot: Slot
    ) -> Arrived | NotModified:
        load = ask.file.loader
        if load is None:
            raise SourceError(f"{ask.file.data_feed_key}: nothing says where to get it")
        loaded = load(ask.file, known if ask.conditional else None, self.http_for(slot))
        if inspect.isawaitable(loaded):
            result = await loaded
            return result if isinstance(result, NotModified) else await self._loaded(ask, result)
        if not hasattr(loaded, "__anext__"):
            raise _wrong_kind(ask.file, loaded)
        async with AsyncExitStack() as stack:
            if hasattr(loaded, "aclose"):
                stack.push_async_callback(loaded.aclose)
            first = await anext(loaded, b"")
            if isinstance(first, NotModified):
                return first
            if not isinstance(first, bytes):
                raise _wrong_kind(ask.file, first)
            return await self._stage(ask.file, _chain(ask.file, first, loaded))

    async def _loaded(self, ask: Ask, body: bytes) -> Arrived:
        if not isinstance(body, bytes):
            raise _wrong_kind(ask.file, body)
        return await self._stage(ask.file, _once(body))

    async def _receive(self, file: FileResource, answer: Answer) -> Arrived:
        """What is not large goes the short way; what is odd, the long one with all the rest."""
        begun, rest = await answer.begin(HELD)
        if rest is not None:
            return await self._stage(file, _chain(file, begun, rest), answer)
        whole = await encode_whole(
            begun,
            coding=answer.coding,
            format=file.format,
            max_bytes=self._max_bytes(file),
            memory=self.parsing,
        )
        if whole is None:
            return await self._stage(file, _once(begun), answer)
        answer.check(whole.head)
        staged = await self.store.stage(_once(whole.data))
        return Arrived(staged, whole.body, self._kept(answer))

    async def _stage(
        self, file: FileResource, chunks: AsyncIterator[bytes], answer: Answer | None = None
    ) -> Arrived:
        if self.room is not None:
            chunks = self.room.guarded(chunks)
        staged, body = await store_body(
            chunks,
            coding=answer.coding if answer else "",
            format=file.format,
            max_bytes=self._max_bytes(file),
            store=self.store,
            look=answer.check if answer else None,
            parsing=self.parsing,
        )
        return Arrived(staged, body, self._kept(answer) if answer else {})

    def _max_bytes(self, file: FileResource) -> int:
        options = file.http_options
        of_file = options.max_body_bytes if options else None
        return of_file or self.client.settings.max_body_bytes

    def _kept(self, answer: Answer) -> Mapping[str, str]:
        """The headers of *answer* that are kept, unless they hold a credential."""
        holds_credential = self.client.redactor.holds_credential
        return {
            name: text
            for name in KEPT
            if (text := answer.headers.get(name)) and not holds_credential(text)
        }

    async def _compare(self, ask: Ask, known: StoredFile | None, arrived: Arrived) -> Got:
        etag, last_modified = arrived.headers.get("etag"), arrived.headers.get("last-modified")
        is_same = known is not None and known.sha256 == arrived.body.sha256
        damaged_path = known.damaged_path if known is not None and is_same else None
        if is_same and damaged_path is None:
            await self.store.discard(arrived.staged)
            return Got(_checked(ask, CheckOutcome.UNCHANGED, etag, last_modified))
        content_type = ask.file.content_type or arrived.headers.get("content-type")
        new = NewBytes(
            staged=arrived.staged,
            body=arrived.body,
            format=ask.file.format,
            content_type=content_type,
            restores=damaged_path,
        )
        outcome = CheckOutcome.RESTORED if is_same else CheckOutcome.STORED
        return Got(_checked(ask, outcome, etag, last_modified), new)


def _checked(
    ask: Ask, outcome: CheckOutcome, etag: str | None = None, last_modified: str | None = None
) -> CheckedFile:
    return CheckedFile(
        key=ask.file.key,
        outcome=outcome,
        reason=ask.reason,
        token=ask.file.token,
        etag=etag,
        last_modified=last_modified,
    )


def _unchanged(ask: Ask, known: StoredFile | None) -> CheckedFile:
    if known is None or not known.is_stored:
        raise SourceError(f"{ask.file.data_feed_key}: not modified, but nothing of it is stored")
    return _checked(ask, CheckOutcome.UNCHANGED, known.check.etag, known.check.last_modified)


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body


async def _chain(
    file: FileResource, first: bytes, rest: AsyncIterator[bytes | NotModified]
) -> AsyncIterator[bytes]:
    yield first
    async for chunk in rest:
        if isinstance(chunk, NotModified):
            raise SourceError("a loader says that nothing was modified after it gave bytes")
        if not isinstance(chunk, bytes):
            raise _wrong_kind(file, chunk)
        yield chunk


def _wrong_kind(file: FileResource, given: object) -> SourceError:
    return SourceError(
        f"{file.data_feed_key}: its loader must give bytes, not {type(given).__name__}"
    )
