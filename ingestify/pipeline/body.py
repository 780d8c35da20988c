"""From a body on the wire to bytes in the store, and back.

On the way the content coding is undone under our own control, the decoded bytes are hashed, counted
and checked against their format, and compressed where that pays. Memory does not grow with the
body; JSON alone is held while it is small, and once more when it is parsed as a whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Protocol, TypeAlias

from anyio import CancelScope, to_thread
from isal import isal_zlib

from ingestify.errors import InvalidBodyError, StoreError
from ingestify.http.codings import (
    DAMAGED,
    PLAIN_MEMBER,
    STEP,
    Gunzip,
    Plain,
    decoder_for,
    too_large,
)
from ingestify.http.in_memory import Memory, RunMemory
from ingestify.model.catalog import StagedFile
from ingestify.pipeline.formats import (
    SELF_COMPRESSED,
    STILL_TO_PARSE,
    WHOLE,
    check_for,
    is_json,
    kind_of,
    parse_json,
)
from ingestify.ports import FileStore

SMALL = 64 * 1024  # bodies up to this size are worked on in the event loop
STEPS_IN_LOOP = 3  # …as long as they do not grow to more than this many steps
STEPS_IN_THREAD = 64  # then the thread comes back, so that a cancelled caller waits no longer
LOOKED_AT = 64 * 1024  # bytes of a body that are enough to know a provider's excuse by
COMPRESSION_LEVEL = 2
GZIP_CONTAINER = 31
LEAST_MEMBER = 20  # bytes: a header of 10, a trailer of 8, and something between them
HELD = 4 * 1024**2  # bodies that take more on the wire are not held while they come
MOST_AT_ONCE = 16 * 1024**2  # decoded; what is larger is worked on step by step
SMALL_DECODED = 128 * 1024

Look: TypeAlias = Callable[[bytes], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedBody:
    """What is known of a body once all of it has passed."""

    codec: str  # "gzip" or "": what has to be undone to get the provider's bytes
    size: int  # of the provider's bytes, decoded
    sha256: str  # of the provider's bytes, decoded
    validation: str  # "whole", or checked at its "ends" only


class Stage(Protocol):
    """Something that bytes are led through, step by step."""

    def feed(self, data: bytes) -> Iterator[bytes]: ...

    def finish(self) -> Iterator[bytes]: ...


class BodyEncoder:
    """Turns one wire body into the bytes to store.

    A gzipped body of a format that can be compressed is kept as it came; any other coding is
    undone. What is not compressed then is, unless its format compresses itself.
    """

    def __init__(
        self,
        *,
        coding: str,
        format: str,  # noqa: A002
        max_bytes: int,
        look: Look | None = None,
    ) -> None:
        self._decoder = decoder_for(coding)
        self._check = check_for(format)
        self._look = look
        self._head = b""
        self._max_bytes = max_bytes
        compresses = kind_of(format) not in SELF_COMPRESSED
        self._keeps_wire = compresses and isinstance(self._decoder, Gunzip)
        self._compressor = (
            isal_zlib.compressobj(COMPRESSION_LEVEL, wbits=GZIP_CONTAINER)
            if compresses and not self._keeps_wire
            else None
        )
        self._hash = hashlib.sha256()
        self._wire_size = 0
        self._size = 0
        self._result: EncodedBody | None = None

    @property
    def result(self) -> EncodedBody:
        """What came of it. To be asked for after `finish`."""
        if self._result is None:
            raise RuntimeError("the body has not been read to its end")
        return self._result

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The bytes to store for the next wire bytes; empty ones mark a step of work done."""
        self._wire_size += len(data)
        # A coding may be longer than what it codes, but not for ever.
        if self._wire_size > self._max_bytes + self._max_bytes // 512 + SMALL:
            raise self._too_large()
        for decoded in self._decoder.feed(data):
            self._size += len(decoded)
            if self._size > self._max_bytes:
                raise self._too_large()
            self._hash.update(decoded)
            if self._look:
                self._head += decoded[: LOOKED_AT - len(self._head)]
                if len(self._head) == LOOKED_AT:
                    self._look_at_head()
            self._check.feed(decoded)
            yield self._stored(decoded)
        if self._keeps_wire:
            yield data

    def finish(self) -> Iterator[bytes]:
        """The last bytes to store.

        Raises:
            InvalidBodyError: the body is not complete, or not what it was said to be.
        """
        if not self._wire_size:
            raise InvalidBodyError("the body is empty")
        yield from map(self._stored, self._decoder.finish())
        if not self._size:
            raise InvalidBodyError("the body is empty once it is decoded")
        self._look_at_head()
        self._result = EncodedBody(
            codec="gzip" if self._keeps_wire or self._compressor else "",
            size=self._size,
            sha256=self._hash.hexdigest(),
            validation=self._check.finish(),
        )
        if self._compressor:
            yield self._compressor.flush()

    def _look_at_head(self) -> None:
        if self._look:
            self._look(self._head)
            self._look, self._head = None, b""

    def _stored(self, decoded: bytes) -> bytes:
        if self._compressor:
            return bytes(self._compressor.compress(decoded))
        return b"" if self._keeps_wire else decoded

    def _too_large(self) -> InvalidBodyError:
        return InvalidBodyError(f"the body is {too_large(self._max_bytes)}")


@dataclass(frozen=True, slots=True)
class Whole:
    """A body that was encoded in one go: the bytes to store, and how the decoded ones begin."""

    data: bytes
    body: EncodedBody
    head: bytes


async def encode_whole(
    data: bytes,
    *,
    coding: str,
    format: str,  # noqa: A002
    max_bytes: int,
    memory: Memory,
) -> Whole | None:
    """What `BodyEncoder` makes of a body that is all here, in one go: *data* as it came.

    None where anything is out of the ordinary: the long way has a name for all that can be wrong.
    What is not small is worked on in a thread, as far as *memory* has room for it.
    """
    size = _decoded_size(data, coding)
    if size is None or size > min(max_bytes, MOST_AT_ONCE) or kind_of(format) != "json":
        return None
    if size <= SMALL_DECODED:
        return _encode_whole(data, coding, size)
    async with memory.held(size):
        return await to_thread.run_sync(_encode_whole, data, coding, size)


def _encode_whole(data: bytes, coding: str, size: int) -> Whole | None:
    body = _gunzip(data, size) if coding else data
    if body is None or not is_json(body):
        return None
    return Whole(
        data if coding else isal_zlib.compress(body, COMPRESSION_LEVEL, GZIP_CONTAINER),
        EncodedBody(
            codec="gzip",
            size=len(body),
            sha256=hashlib.sha256(body).hexdigest(),
            validation=WHOLE,
        ),
        body[:LOOKED_AT],
    )


def _decoded_size(data: bytes, coding: str) -> int | None:
    """What *data* says about its size without *coding*; None where that takes more than a look."""
    if not coding:
        return len(data)
    if coding != "gzip" or data[:4] != PLAIN_MEMBER or len(data) < LEAST_MEMBER:
        return None
    return int.from_bytes(data[-4:], "little")


def _gunzip(data: bytes, size: int) -> bytes | None:
    """*data* decoded, if it is one whole member of *size* bytes and nothing else."""
    inflater = isal_zlib.decompressobj(GZIP_CONTAINER)
    try:
        body: bytes = inflater.decompress(data, size + 1)
    except DAMAGED:
        return None
    is_all = inflater.eof and not inflater.unused_data and 0 < len(body) == size
    return body if is_all else None


async def store_body(
    chunks: AsyncIterable[bytes],
    *,
    coding: str,
    format: str,  # noqa: A002  # the field's own term
    max_bytes: int,
    store: FileStore,
    look: Look | None = None,
    parsing: Memory | None = None,
) -> tuple[StagedFile, EncodedBody]:
    """Stage a wire body in *store*, and say what it is. Nothing stays staged after an error.

    Args:
        coding: the Content-Encoding of *chunks*.
        max_bytes: of the decoded body.
        look: called with the decoded body's first 64 KiB, or all of it; may raise.
        parsing: bounds what is read back to be parsed as a whole, over all who do so.

    Raises:
        InvalidBodyError: the body is not what was announced.
        StoreError: it could not be kept.
        StoreUnavailableError: nothing can be kept any more.
    """
    encoder = BodyEncoder(coding=coding, format=format, max_bytes=max_bytes, look=look)
    async with aclosing(lead_through(chunks, encoder)) as encoded:
        staged = await store.stage(encoded)
    body = encoder.result
    if body.validation != STILL_TO_PARSE:
        return staged, body
    try:
        async with (parsing or RunMemory().parsing).held(body.size):
            await _parse(store.open_staged(staged), body)
    except BaseException:
        with CancelScope(shield=True):
            await store.discard(staged)
        raise
    return staged, replace(body, validation=WHOLE)


async def _parse(stored: AsyncIterator[bytes], body: EncodedBody) -> None:
    """Parse a body that lies in the store, all of it at once and held once."""
    whole, size = bytearray(body.size), 0
    async with aclosing(decoded(stored, body.codec)) as pieces:
        async for piece in pieces:
            whole[size : size + len(piece)] = piece
            size += len(piece)
    await to_thread.run_sync(parse_json, whole)


async def decoded(chunks: AsyncIterable[bytes], codec: str) -> AsyncGenerator[bytes]:
    """The provider's bytes again, of stored ones. Undoes only what we or the wire added.

    Raises:
        StoreError: what is stored is damaged.
    """
    async with aclosing(lead_through(chunks, _undoing(codec))) as pieces:
        try:
            async for piece in pieces:
                yield piece
        except InvalidBodyError as exc:
            raise StoreError(f"what is stored is damaged: {exc}") from exc


def decode_bytes(data: bytes, codec: str) -> bytes:
    """`decoded` for bytes that are at hand, at once."""
    if not codec:
        return data
    decoder = _undoing(codec)
    try:
        return b"".join(chain(decoder.feed(data), _late(decoder)))
    except InvalidBodyError as exc:
        raise StoreError(f"what is stored is damaged: {exc}") from exc


async def lead_through(chunks: AsyncIterable[bytes], stage: Stage) -> AsyncGenerator[bytes]:
    """What becomes of *chunks* in *stage*. Small bodies in the loop, large ones in threads.

    A hop to a thread costs as much as the work on some 50 kB, so chunks are gathered first.
    """
    waiting: list[bytes] = []
    size, is_small = 0, True
    async for chunk in chunks:
        waiting.append(chunk)
        size += len(chunk)
        if size >= STEP:
            steps = stage.feed(b"".join(waiting))
            waiting, size, is_small = [], 0, False
            async for piece in _take_steps(steps, in_loop=0):
                yield piece
    steps = chain(stage.feed(b"".join(waiting)), _late(stage))
    in_loop = STEPS_IN_LOOP if is_small and size <= SMALL else 0
    async for piece in _take_steps(steps, in_loop=in_loop):
        yield piece


def _late(stage: Stage) -> Iterator[bytes]:
    """`Stage.finish`, not called before what was fed has been used up."""
    yield from stage.finish()


async def _take_steps(steps: Iterator[bytes], *, in_loop: int) -> AsyncGenerator[bytes]:
    is_done = False
    if in_loop:
        first = list(islice(steps, in_loop))
        is_done = len(first) < in_loop
        if piece := b"".join(first):
            yield piece
    while not is_done:
        piece, is_done = await to_thread.run_sync(_some, steps)
        if piece:
            yield piece


def _some(steps: Iterator[bytes]) -> tuple[bytes, bool]:
    """The next bytes of *steps*, a few hundred kB at most, and whether they were the last."""
    taken: list[bytes] = []
    size = 0
    for number, piece in enumerate(steps, start=1):
        taken.append(piece)
        size += len(piece)
        if size >= STEP or number == STEPS_IN_THREAD:
            return b"".join(taken), False
    return b"".join(taken), True


def _undoing(codec: str) -> Gunzip | Plain:
    if codec not in ("gzip", ""):
        raise StoreError(f"a codec that this ingestify does not know: {codec!r}")
    return Gunzip() if codec else Plain()
