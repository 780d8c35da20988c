"""Answers written onto the connection byte by byte, where a server is too polite to lie."""

import asyncio
import enum
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from aiohttp import web

from ingestify.testing.behaviours import Behaviour, Serve, reset_connection


class Then(enum.Enum):
    """What a lie does besides sending bytes."""

    HANG = "send nothing more, and keep the connection"
    RESET = "end the connection with a TCP reset"
    KEEP = "end the answer, and go on with the connection"


@dataclass(frozen=True, slots=True)
class Pause:
    """Seconds in which nothing is sent."""

    seconds: float


Step = bytes | Pause | Then
NOTHING: Mapping[str, str | None] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Honest:
    """What the provider would answer if it were honest; by it a lie is made."""

    body: bytes  # in its content coding
    headers: Mapping[str, str] = field(default_factory=dict)

    def head(self, changes: Mapping[str, str | None] = NOTHING, *, status: int = 200) -> bytes:
        """A status line and headers; of *changes*, None takes a header away.

        The connection is said to end with the answer, so that no other request is sent on it.
        """
        length = str(len(self.body))
        headers = {**self.headers, "Content-Length": length, "Connection": "close", **changes}
        lines = [f"{name}: {value}" for name, value in headers.items() if value is not None]
        return "\r\n".join([f"HTTP/1.1 {status} Said", *lines, "", ""]).encode()


Script = Callable[[Honest], Iterable[Step]]


class RawAnswer(web.StreamResponse):
    """An answer whose bytes are on the connection already; the server adds nothing to it."""

    def __init__(self) -> None:
        super().__init__()
        self.code = 0  # until a status line was sent
        self.sent = 0
        self.keeps_connection = False

    @property
    def status(self) -> int:
        return self.code

    @property
    def prepared(self) -> bool:
        return True

    @property
    def keep_alive(self) -> bool | None:
        return self.keeps_connection

    @property
    def body_length(self) -> int:
        return self.sent

    async def prepare(self, request: web.BaseRequest) -> None:
        """All is sent."""

    async def write_eof(self, data: bytes = b"") -> None:
        """All is sent."""


def raw(script: Script) -> Behaviour:
    """Send what *script* makes of the honest answer, and close the connection.

    An honest answer that is no 200 is given as it is.
    """

    async def answer(request: web.BaseRequest, serve: Serve) -> web.StreamResponse:
        honest = await serve()
        if not isinstance(honest, web.Response) or not isinstance(honest.body, bytes):
            return honest
        if honest.status != 200:
            return honest
        steps = script(Honest(body=honest.body, headers=dict(honest.headers)))
        lie = RawAnswer()
        async for piece in _paced(steps, lie):
            if piece is None:
                return await reset_connection(request, serve)
            if request.transport is None or request.transport.is_closing():
                raise asyncio.CancelledError
            if not lie.sent and piece[:9] == b"HTTP/1.1 ":
                lie.code = int(piece[9:12])
            request.transport.write(piece)
            lie.sent += len(piece)
            await asyncio.sleep(0)
        return lie

    return answer


async def _paced(steps: Iterable[Step], lie: RawAnswer) -> AsyncIterator[bytes | None]:
    """The bytes of *steps*, each in its time; None for a reset."""
    for step in steps:
        match step:
            case bytes():
                yield step
            case Pause(seconds=seconds):
                await asyncio.sleep(seconds)
            case Then.HANG:
                await asyncio.Event().wait()
            case Then.RESET:
                await asyncio.sleep(0.05)  # else what was sent before is dropped with it
                yield None
            case Then.KEEP:
                lie.keeps_connection = True
