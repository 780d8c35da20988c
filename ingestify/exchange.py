"""One exchange: its deadlines, what its status means, and its body while it arrives."""

from __future__ import annotations

import enum
import math
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from types import TracebackType
from typing import Self

import anyio

from ingestify.advice import Advice, as_timedelta
from ingestify.codings import coding_of
from ingestify.errors import (
    AbsentError,
    FetchError,
    InvalidBodyError,
    RefusedError,
    ThrottledError,
    TransientFetchError,
)
from ingestify.model.http import HttpSettings
from ingestify.ports import Response, Source

REDIRECTS = frozenset({301, 302, 303, 307, 308})
PASSING = frozenset({408, 425})  # and 429 and all of 5xx
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
        raise RefusedError(said, status=status)
    if status == 206:
        raise InvalidBodyError(f"{said}: a part, and all was asked for", status=status)
    if 200 < status < 300:
        raise InvalidBodyError(f"{said}, and not with a body", status=status)
    if status == 304:
        raise FetchError(f"{said}: not modified, which was not asked", status=status)
    raise FetchError(said, status=status)


class Deadlines:
    """One cancel scope around a whole exchange, whose deadline moves with every chunk.

    Only the time spent waiting for the provider counts as idle or slow: what is done with a chunk
    in between may take as long as the total allows.
    """

    __slots__ = ("_ends", "_expires", "_idle", "_pace", "_reason", "_scope", "_waited", "_waiting")

    def __init__(self, settings: HttpSettings, total: timedelta | None) -> None:
        seconds = (total or settings.total_timeout).total_seconds()
        self._idle = settings.idle_timeout.total_seconds()
        pace = settings.minimum_bytes_per_second
        self._pace = 1 / pace if pace > 0 else math.inf  # seconds that a byte may take
        self._expires = f"was not complete after {seconds:g} s"
        self._reason = self._expires
        self._waited = 0.0
        self._waiting = 0.0
        self._ends = anyio.current_time() + seconds
        self._scope = anyio.CancelScope(deadline=self._ends)

    def __enter__(self) -> Self:
        self._scope.__enter__()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        return bool(self._scope.__exit__(exc_type, exc, traceback))

    @property
    def missed(self) -> str | None:
        """What took too long, once the context is left; None if nothing did."""
        return self._reason if self._scope.cancelled_caught else None

    def begin_wait(self, received: int) -> None:
        """The provider is waited for now; *received* bytes of the body are here."""
        now = self._waiting = anyio.current_time()
        deadline, self._reason = self._ends, self._expires
        if now + self._idle < deadline:
            deadline = now + self._idle
            self._reason = f"sent nothing for {self._idle:g} s"
        slow = now - self._waited + max(self._idle, received * self._pace)
        if slow < deadline:
            deadline = slow
            self._reason = f"sent {received} bytes in {slow - now + self._waited:.3g} s: too slow"
        self._scope.deadline = deadline

    def end_wait(self) -> None:
        """The provider has sent something."""
        self._waited += anyio.current_time() - self._waiting
        self._scope.deadline, self._reason = self._ends, self._expires


class Answer:
    """A 200, while its body arrives."""

    __slots__ = (
        "_deadlines",
        "_max_bytes",
        "_response",
        "_source",
        "coding",
        "headers",
        "received",
        "status",
        "url",
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
        self.headers: Mapping[str, str] = response.headers  # names in lower case
        self.coding = coding_of(response.headers)  # "", "gzip", "deflate" or something else
        self.url = url  # masked: for messages
        self.received = 0  # bytes of the body, as they came over the wire
        self._response = response
        self._source = source
        self._deadlines = deadlines
        self._max_bytes = max_bytes

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

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes over the wire, content coding untouched. Can be read once.

        Raises:
            TransientFetchError: the connection broke, or ended before the announced length.
            InvalidBodyError: there is more than was announced, or than is allowed.
        """
        length = self.length
        if length is not None and length > self._max_bytes:
            raise InvalidBodyError(f"{self.url}: {length} bytes, more than {self._max_bytes}")
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
                raise InvalidBodyError(f"{self.url} sent more than {most} bytes")
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
