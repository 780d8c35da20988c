"""Scripted behaviours: what a simulated provider does at a path instead of answering honestly."""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Protocol

from aiohttp import web

Serve = Callable[[], Awaitable[web.StreamResponse]]
Behaviour = Callable[[web.BaseRequest, Serve], Awaitable[web.StreamResponse]]


class Waitable(Protocol):
    """An event, such as `asyncio.Event` or `anyio.Event`."""

    async def wait(self) -> object: ...


def status(code: int, *, body: bytes = b"") -> Behaviour:
    """Answer with *code*."""

    async def answer(request: web.BaseRequest, serve: Serve) -> web.StreamResponse:
        return web.Response(status=code, body=body)

    return answer


def too_many_requests(*, retry_after: str | None = None) -> Behaviour:
    """Answer 429, with *retry_after* as it stands."""

    async def answer(request: web.BaseRequest, serve: Serve) -> web.StreamResponse:
        return refusal({} if retry_after is None else {"Retry-After": retry_after})

    return answer


def hang_until(event: Waitable) -> Behaviour:
    """Hold the honest answer back until *event* is set."""

    async def answer(request: web.BaseRequest, serve: Serve) -> web.StreamResponse:
        await event.wait()
        return await serve()

    return answer


async def reset_connection(request: web.BaseRequest, serve: Serve) -> web.StreamResponse:
    """Close the connection with a TCP reset, without an answer."""
    transport = request.transport
    if transport is not None:
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    raise asyncio.CancelledError


def refusal(headers: dict[str, str]) -> web.Response:
    """A provider's 429."""
    return web.json_response(
        {"error": {"code": 429, "message": "Too many requests"}}, status=429, headers=headers
    )
