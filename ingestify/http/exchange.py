"""One exchange: its deadlines, what its status means, and its body while it arrives."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Self

import anyio

from ingestify.errors import (
    AbsentError,
    FetchError,
    InvalidBodyError,
    RefusedError,
    ThrottledError,
    TransientFetchError,
)
from ingestify.http.advice import Advice, as_timedelta
from ingestify.http.codings import coding_of, too_large
from ingestify.http.headers import without_illegible
from ingestify.model.addresses import masked
from ingestify.model.http import HttpSettings
from ingestify.ports import Response, Source

REDIRECTS = frozenset({301, 302, 303, 307, 308})
PASSING = frozenset({408, 425})  # and 429 and all of 5xx
HEAD_SETTINGS = " (connect_timeout and first_byte_timeout)"
DRAINED = 64 * 1024  # bytes of an unwanted body that are read to keep the connection


class Meaning(enum.Enum):
    """What to do with an answer that is no failure."""

    BODY = enum.auto()
    NOT_MODIFIED = enum.auto()
    REDIRECT = enum.auto()
    LOGIN = enum.auto()


def is_refusal_for_speed(status: int, advice: Advice) -> bool:
    """Whether the provider says that it is asked too often; some say so with a 403."""
    if status == 403:
        return advice.retry_after is not None or advice.remaining == 0
    return status == 429


def meaning_of(status: int, advice: Advice, *, shown: str, was_conditional: bool) -> Meaning:
    """What an answer of *status* from the address *shown* means.

    Raises:
        FetchError: a failure, of the kind that says whether asking again would help.
    """
    if status == 200:
        return Meaning.BODY
    if status == 304 and was_conditional:
        return Meaning.NOT_MODIFIED
    if status in REDIRECTS:
        return Meaning.REDIRECT
    if status == 401:
        return Meaning.LOGIN
    said = f"{shown} answered {status}"
    if is_refusal_for_speed(status, advice) or (status == 503 and advice.retry_after is not None):
        wait = as_timedelta(advice.retry_after)
        raise ThrottledError(said, status=status, retry_after=wait)
    if status >= 500 or status in PASSING:
        raise TransientFetchError(said, status=status)
    if status in (404, 410):
        raise AbsentError(said, status=status)
    if status in (403, 407):
        raise RefusedError(f"{said}: it is not for these credentials", status=status)
    if status == 206:
        raise InvalidBodyError(f"{said}: a part, and all was asked for", status=status)
    if 200 < status < 300:
        raise InvalidBodyError(f"{said}, and not with a body", status=status)
    if status == 304:
        raise FetchError(f"{said}: not modified, which was not asked", status=status)
    raise FetchError(said, status=status)


@dataclass(frozen=True, slots=True)
class Times:
    """How long the parts of an exchange may take, in seconds."""

    total: float
    head: float  # to connect, and until the first byte
    idle: float
    pace: int  # bytes a second, at least; 0: any

    @classmethod
    def of(cls, settings: HttpSettings) -> Self:
        """Those of *settings*."""
        return cls(
            total=settings.total_timeout.total_seconds(),
            head=(settings.connect_timeout + settings.first_byte_timeout).total_seconds(),
            idle=settings.idle_timeout.total_seconds(),
            pace=settings.minimum_bytes_per_second,
        )


class Deadlines:
    """One cancel scope around a whole exchange, whose deadline moves with every chunk.

    Only the time spent waiting for the provider counts as idle or slow: what is done with a chunk
    in between may take as long as the total allows. Moving a scope's own deadline costs two timers
    a chunk, so there is one timer here, which looks again when it finds the deadline moved on.
    """

    __slots__ = (
        "_deadline",
        "_ends",
        "_head",
        "_idle",
        "_loop",
        "_missed",
        "_pace",
        "_received",
        "_scope",
        "_timer",
        "_total",
        "_waited",
        "_waiting",
    )

    def __init__(self, times: Times, total: timedelta | None) -> None:
        self._total = times.total if total is None else total.total_seconds()
        self._idle = times.idle
        self._pace = times.pace
        self._received = 0
        self._waited = 0.0  # seconds, before the present wait
        self._waiting = 0.0  # since when
        self._missed: str | None = None
        self._loop = asyncio.get_running_loop()
        now = self._loop.time()
        self._ends = now + self._total
        self._head = times.head
        self._deadline = min(self._ends, now + self._head)
        self._timer = self._loop.call_at(min(self._deadline, now + self._idle), self._look)
        self._scope = anyio.CancelScope()

    def __enter__(self) -> Self:
        self._scope.__enter__()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        self._timer.cancel()
        return bool(self._scope.__exit__(exc_type, exc, traceback))

    @property
    def missed(self) -> str | None:
        """Which deadline was missed, once the context is left; None if none was."""
        return self._missed if self._scope.cancelled_caught else None

    def end_head(self) -> None:
        """The head of the answer is here."""
        self._head = 0.0
        self._deadline = self._ends

    def begin_wait(self, received: int) -> None:
        """The provider is waited for now; *received* bytes of the body are here."""
        now = self._waiting = self._loop.time()
        self._received = received
        left = self._idle
        if self._pace:
            left = min(left, max(self._idle, received / self._pace) - self._waited)
        self._deadline = deadline = min(self._ends, now + left)
        if deadline < self._timer.when():
            self._timer.cancel()
            self._timer = self._loop.call_at(deadline, self._look)

    def end_wait(self) -> None:
        """The provider has sent something."""
        self._waited += self._loop.time() - self._waiting
        self._deadline = self._ends

    def _look(self) -> None:
        now = self._loop.time()
        if now < self._deadline:  # it has moved on
            self._timer = self._loop.call_at(self._deadline, self._look)
            return
        waited = self._waited + now - self._waiting
        if now >= self._ends:
            self._missed = f"was not complete after {self._total:g} s (total_timeout)"
        elif self._head:
            self._missed = f"did not answer within {self._head:g} s{HEAD_SETTINGS}"
        elif now - self._waiting >= self._idle:
            self._missed = f"sent nothing for {self._idle:g} s (idle_timeout)"
        else:
            slow = f"{self._received} bytes in {waited:.3g} s"
            self._missed = f"is too slow: {slow} (minimum_bytes_per_second)"
        self._scope.cancel()


class Answer:
    """A 200, while its body arrives."""

    __slots__ = (
        "_deadlines",
        "_max_bytes",
        "_response",
        "_source",
        "_url",
        "coding",
        "headers",
        "received",
        "status",
    )

    def __init__(
        self,
        response: Response,
        *,
        url: str,
        source: Source,
        deadlines: Deadlines,
        max_bytes: int,
    ) -> None:
        self.status = response.status
        self.headers = without_illegible(response.headers)  # names in lower case
        self.coding = coding_of(response.headers)  # "", "gzip", "deflate" or something else
        self._url = url
        self.received = 0  # bytes of the body, as they came over the wire
        self._response = response
        self._source = source
        self._deadlines = deadlines
        self._max_bytes = max_bytes

    @property
    def url(self) -> str:
        """The address that answered, as it may be shown."""
        return masked(self._url)

    @property
    def etag(self) -> str | None:
        """The provider's ETag, as it is sent back."""
        return self.headers.get("etag") or None

    @property
    def last_modified(self) -> str | None:
        """The provider's Last-Modified, as it is sent back."""
        return self.headers.get("last-modified") or None

    @property
    def length(self) -> int | None:
        """How many bytes will come over the wire, where that was announced."""
        announced = self.headers.get("content-length", "")
        return int(announced) if announced.isascii() and announced.isdigit() else None

    def check(self, head: bytes) -> None:
        """Ask the Source about *head*: the decoded body's first 64 KiB, or all of it.

        Raises:
            FetchError: the Source says that this is no good answer.
        """
        self._source.check_answer(self.status, self.headers, head[:65536])

    async def begin(self, most: int) -> tuple[bytes, AsyncIterator[bytes] | None]:
        """All of a body of up to *most* bytes; of a larger one the beginning, and what follows.

        It is read from the wire as in `chunks`, which is not to be called then.
        """
        chunks = self.chunks()
        begun: list[bytes] = []
        async for chunk in chunks:
            begun.append(chunk)
            if self.received > most:
                return b"".join(begun), chunks
        return b"".join(begun), None

    async def chunks(self) -> AsyncGenerator[bytes]:
        """The body as it comes over the wire, content coding untouched. Can be read once.

        Raises:
            TransientFetchError: the connection broke, or ended before the announced length.
            InvalidBodyError: there is more than was announced, or than is allowed.
        """
        length = self.length
        if length is not None and length > self._max_bytes:
            raise InvalidBodyError(f"{self.url}: {length} bytes, {too_large(self._max_bytes)}")
        most = self._max_bytes if length is None else length
        deadlines = self._deadlines
        body = self._response.chunks()
        while True:
            deadlines.begin_wait(self.received)
            try:
                chunk = await anext(body)
            except StopAsyncIteration:
                break
            finally:
                deadlines.end_wait()
            self.received += len(chunk)
            if self.received > most:
                said = f"the {most} bytes that it announced"
                said = f"more than {said}" if length is not None else too_large(most)
                raise InvalidBodyError(f"{self.url} sent {said}")
            yield chunk
        if length is not None and self.received < length:
            raise TransientFetchError(f"{self.url} was cut: {self.received} of {length} bytes came")


async def drain(response: Response, *, seconds: float = 1.0) -> None:
    """Read a small body that nobody wants, so that its connection can be used again."""
    size = 0
    try:
        if int(response.headers.get("content-length", "0")) > DRAINED:
            return
        with anyio.move_on_after(seconds):
            async for chunk in response.chunks():
                size += len(chunk)
                if size > DRAINED:
                    return
    except (TransientFetchError, ValueError):
        return
