"""A provider in memory: answers by address, in the order in which they were scripted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

import anyio
import anyio.lowlevel

from ingestify.errors import TransientFetchError
from ingestify.model.addresses import Origin, masked
from ingestify.model.http import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeAnswer:
    """What is answered to one request. The body comes as it stands: encode it yourself.

    Without a Content-Length among *headers*, none is sent.
    """

    status: int = 200
    body: bytes | Sequence[bytes] = b""  # one chunk, or several
    headers: Mapping[str, str] | Sequence[tuple[str, str]] = field(default_factory=dict)
    is_cut: bool = False  # the connection breaks after *body*
    after: anyio.Event | None = None  # nothing is answered before this is set
    body_after: anyio.Event | None = None  # the body's last chunk is held back until this is set


Scripted: TypeAlias = FakeAnswer | Exception | Callable[[Request], FakeAnswer]


class FakeFetcher:
    """A `ports.Fetcher` without a network.

    Each address has one answer, or a list of answers of which the last one repeats. An answer may
    be an exception, which is raised, or a function of the request. The query is part of the
    address unless only the address without it was scripted. All others are answered 404.
    """

    def __init__(self, answers: Mapping[str, Scripted | Sequence[Scripted]] | None = None) -> None:
        self.requests: list[Request] = []
        self.in_flight = 0
        self.most_in_flight = 0
        self._answers: dict[str, list[Scripted]] = {}
        for url, scripted in (answers or {}).items():
            self.answer(url, *(scripted if isinstance(scripted, Sequence) else (scripted,)))

    def answer(self, url: str, *scripted: Scripted) -> None:
        """Answer *url* with these from now on, one after the other; the last one repeats."""
        self._answers[url] = list(scripted)

    def count(self, url: str = "") -> int:
        """How many requests were made whose address begins with *url*."""
        return sum(request.url.startswith(url) for request in self.requests)

    @asynccontextmanager
    async def send(self, request: Request) -> AsyncIterator[FakeResponse]:
        Origin.of(request.url)
        self.requests.append(request)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            answer = self._next(request)
            await anyio.lowlevel.checkpoint()
            if answer.after is not None:
                await answer.after.wait()
            yield FakeResponse(answer, masked(request.url))
        finally:
            self.in_flight -= 1

    def _next(self, request: Request) -> FakeAnswer:
        url = request.url if request.url in self._answers else request.url.partition("?")[0]
        waiting = self._answers.get(url, [FakeAnswer(status=404)])
        scripted = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        if isinstance(scripted, Exception):
            raise scripted
        return scripted if isinstance(scripted, FakeAnswer) else scripted(request)


class FakeResponse:
    """A `ports.Response` made of a FakeAnswer."""

    def __init__(self, answer: FakeAnswer, shown: str) -> None:
        self.status = answer.status
        pairs = answer.headers.items() if isinstance(answer.headers, Mapping) else answer.headers
        headers: dict[str, str] = {}
        for name, value in pairs:
            name = name.lower()
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        self.headers: Mapping[str, str] = headers
        self._answer = answer
        self._shown = shown

    async def chunks(self) -> AsyncIterator[bytes]:
        body = self._answer.body
        parts = [body] if isinstance(body, bytes) else list(body)
        for number, chunk in enumerate(parts):
            await anyio.lowlevel.checkpoint()
            if number == len(parts) - 1 and self._answer.body_after is not None:
                await self._answer.body_after.wait()
            if chunk:
                yield chunk
        if self._answer.is_cut:
            raise TransientFetchError(f"{self._shown}: the body was cut")
