"""Recording: every exchange with a provider, as it looked from here."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import TracebackType
from urllib.parse import urlsplit

from ingestify.model.http import Request
from ingestify.ports import Fetcher, Response
from ingestify.redaction import Redactor

OTHER_CODINGS = "br, zstd"  # those that a run does not ask for
IDENTITY = "identity"

UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
OPAQUE = re.compile(r"\b(?=[a-zA-Z]*\d)(?=\d*[a-zA-Z])[a-zA-Z0-9]{12,}\b")  # letters and digits
NUMBER = re.compile(r"(?<!\bv)(?<!\d)\d+", re.I)  # but for that of a version
SUFFIX = re.compile(r"(?=\d*[a-zA-Z])[a-zA-Z0-9]{1,5}\Z")
VERSION = re.compile(r"v\d+(?:\.\d+)*\Z", re.I)


class Kind(StrEnum):
    """What a request was made for."""

    LIST = "list"
    FILE = "file"
    AGAIN = "again"  # with the validators of an earlier answer
    CODING = "coding"  # with another Accept-Encoding than a run sends


@dataclass(frozen=True, slots=True)
class Errand:
    """What the requests of the present task are made for."""

    kind: Kind = Kind.LIST
    feed: str = ""  # of a File
    step: int = 0  # number of the step that it is a part of; 0: of none
    accepts: str | None = None  # Accept-Encoding; None: what a run sends
    subject: int = 0  # what it is about: equal for the same File


_NONE = Errand()
_errand: ContextVar[Errand] = ContextVar("errand", default=_NONE)


@contextmanager
def on_errand(errand: Errand) -> Iterator[None]:
    """Requests inside of this context are made for *errand*."""
    before = _errand.set(errand)
    try:
        yield
    finally:
        _errand.reset(before)


@dataclass(slots=True, kw_only=True)
class Exchange:
    """One request and what came of it. Seconds count from its sending."""

    endpoint: str
    errand: Errand
    in_flight: int  # with this one, when it was sent
    is_conditional: bool
    began: float  # monotonic
    status: int | None = None  # None: there was no answer
    head_seconds: float | None = None
    seconds: float | None = None  # None: its body did not come to its end
    received_bytes: int = 0  # of the body, as they came over the wire
    coding: str = ""
    validators: tuple[str, ...] = ()  # the names of those that it came with

    @property
    def is_good(self) -> bool:
        """Whether it brought a body, whole."""
        return self.status == 200 and self.seconds is not None

    @property
    def is_refused(self) -> bool:
        """Whether the provider said that it is asked too often."""
        return self.status == 429


class RecordingFetcher:
    """A `ports.Fetcher` that lets another one do the work, and remembers what happened.

    Of an address its `endpoint_of` is kept, of a body its size.
    """

    def __init__(self, fetcher: Fetcher, base_url: str) -> None:
        self.exchanges: list[Exchange] = []
        self.in_flight = 0
        self.redactor = Redactor()  # the Client's takes its place, once there is one
        self._fetcher = fetcher
        self._base_url = base_url

    def send(self, request: Request) -> AbstractAsyncContextManager[Response]:
        """See `Fetcher.send`."""
        errand = _errand.get()
        if errand.accepts is not None:
            headers = {**request.headers, "accept-encoding": errand.accepts}
            request = replace(request, headers=headers)
        names = {name.lower() for name in request.headers}
        exchange = Exchange(
            endpoint=endpoint_of(request.url, self._base_url, self.redactor),
            errand=errand,
            in_flight=self.in_flight + 1,
            is_conditional=bool(names & {"if-none-match", "if-modified-since"}),
            began=time.monotonic(),
        )
        self.exchanges.append(exchange)
        return _Recorded(self, self._fetcher.send(request), exchange)


@dataclass(slots=True)
class _Recorded:
    """One exchange while it goes on."""

    fetcher: RecordingFetcher
    sending: AbstractAsyncContextManager[Response]
    exchange: Exchange

    async def __aenter__(self) -> Response:
        self.fetcher.in_flight += 1
        try:
            response = await self.sending.__aenter__()
        except BaseException:
            self.fetcher.in_flight -= 1
            raise
        exchange, headers = self.exchange, response.headers
        exchange.head_seconds = time.monotonic() - exchange.began
        exchange.status = response.status
        exchange.coding = headers.get("content-encoding", "").strip().lower()
        known = {"etag": "ETag", "last-modified": "Last-Modified"}
        exchange.validators = tuple(text for name, text in known.items() if headers.get(name))
        return _RecordedResponse(response, exchange)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        self.fetcher.in_flight -= 1
        return await self.sending.__aexit__(exc_type, exc, traceback)


@dataclass(slots=True)
class _RecordedResponse:
    """A `ports.Response` whose body is counted."""

    response: Response
    exchange: Exchange
    status: int = field(init=False)
    headers: Mapping[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.status = self.response.status
        self.headers = self.response.headers

    async def chunks(self) -> AsyncIterator[bytes]:
        async for chunk in self.response.chunks():
            self.exchange.received_bytes += len(chunk)
            yield chunk
        self.exchange.seconds = time.monotonic() - self.exchange.began


def endpoint_of(url: str, base_url: str, redactor: Redactor) -> str:
    """The address *url* without what tells one thing from another of its kind, and no secret.

    Numbers and opaque ids become ``{id}``; of the query the names are left.
    """
    address, _, query = redactor.redact(url).partition("#")[0].partition("?")
    parts, base = urlsplit(address), urlsplit(redactor.redact(base_url))
    host = parts.netloc.rpartition("@")[2]
    path = parts.path
    if host != base.netloc.rpartition("@")[2]:
        path = f"{host}{path}"
    elif path.startswith(folder := base.path.rstrip("/") + "/"):
        path = path.removeprefix(folder)
    shown = "/".join(map(_without_ids, path.split("/"))) or "/"
    names = [pair.partition("=")[0] for pair in query.split("&") if pair]
    return f"{shown}?{'&'.join(dict.fromkeys(names))}" if names else shown


def _without_ids(segment: str) -> str:
    stem, dot, suffix = segment.rpartition(".")
    if not dot or not SUFFIX.match(suffix):
        stem, dot, suffix = segment, "", ""
    if not VERSION.match(stem):
        for pattern in (UUID, OPAQUE, NUMBER):
            # What stands in for an id must not be taken for a part of another one.
            stem = pattern.sub("{}", stem)
        stem = stem.replace("{}", "{id}")
    return f"{stem}{dot}{suffix}"
