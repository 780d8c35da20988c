"""The measured provider as a process: an HTTP server that does next to nothing for an answer.

It must never be what is measured: answers are bytes that were made before, requests are only
looked at for their path and their validator, and nothing is logged. It knows GET on HTTP/1.1 with
kept connections, which is all that the contenders speak.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from benchmarks.bare import fastest_loop
from benchmarks.offer import Offer
from benchmarks.simulated import CONTROL
from benchmarks.workloads import Workload
from ingestify.testing import RateLimit
from ingestify.testing.limits import LimitGate

VALIDATOR = re.compile(rb"\r\nif-none-match:([^\r]*)", re.IGNORECASE)
NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"


@dataclass
class Desk:
    """Answers requests, and counts them."""

    offer: Offer
    delay_seconds: float
    gate: LimitGate | None = None
    by_status: Counter[str] = field(default_factory=Counter)
    sent: dict[str, float] | None = None  # when what was, where that was asked for
    admitted: list[float] = field(default_factory=list)  # when each was, while there is a limit

    def answer(self, target: str, head: bytes) -> tuple[bytes, bytes]:
        """What to send for *target*: the head, and the body."""
        limited = b""
        if self.gate is not None:
            verdict = self.gate.judge()
            limited = "".join(f"{k}: {v}\r\n" for k, v in verdict.headers.items()).encode()
            if not verdict.is_admitted:
                self.by_status["429"] += 1
                status = b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n"
                return status + limited + b"\r\n", b""
            self.admitted.append(time.monotonic())
        found = self.offer.find(target.lstrip("/"))
        if found is None:
            self.by_status["404"] += 1
            return NOT_FOUND, b""
        known = VALIDATOR.search(head)
        if known and found.etag.encode() in known[1]:
            self.by_status["304"] += 1
            return found.unchanged, b""
        self.by_status["200"] += 1
        if self.sent is not None:
            self.sent[target.lstrip("/")] = time.monotonic()
        if limited:
            return found.head[:-2] + limited + b"\r\n", found.body
        return found.head, found.body

    def control(self, order: str) -> bytes:
        """Do what *order* says, and say how things stand."""
        verb, _, value = order.partition("/")
        if verb == "reset":
            self.by_status.clear()
            self.admitted.clear()
        elif verb == "trace":
            self.sent = {}
        elif verb == "limit":
            asked: dict[str, Any] = json.loads(unquote(value))
            self.gate = LimitGate(RateLimit(**asked)) if asked else None
        return json.dumps(
            {
                "by_status": self.by_status,
                "admitted": self.admitted,
                "sent": self.sent or {},
                "file_bytes": self.offer.file_bytes,
            }
        ).encode()


class Connection(asyncio.Protocol):
    """One kept connection; its requests come one after the other."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._waiting = b""
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._waiting += data
        while True:
            head, end, rest = self._waiting.partition(b"\r\n\r\n")
            if not end:
                return
            self._waiting = rest
            self._take(head)

    def _take(self, head: bytes) -> None:
        target = head.split(b" ", 2)[1].decode()
        if target.startswith(CONTROL):
            body = self._desk.control(target.removeprefix(CONTROL))
            self._send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body), body)
            return
        answer = self._desk.answer(target, head)
        if self._desk.delay_seconds:
            loop = asyncio.get_running_loop()
            loop.call_later(self._desk.delay_seconds, self._send, *answer)
        else:
            self._send(*answer)

    def _send(self, head: bytes, body: bytes) -> None:
        if self._transport is None:
            return
        if len(body) < 65536:
            self._transport.write(head + body)
        else:
            self._transport.write(head)
            self._transport.write(body)


async def serve(workload: Workload) -> None:
    """Serve *workload* until standard input ends; the first line is the address.

    Whoever has started this holds the other end of the input, so that it does not outlive them.
    """
    desk = Desk(Offer(workload), delay_seconds=workload.delay_ms / 1000)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(desk), "127.0.0.1", 0, backlog=4096)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", flush=True)
    given = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(given), sys.stdin)
    async with server:
        await given.read()


def main() -> None:
    """Serve the workload that the first argument describes."""
    workload = Workload(**json.loads(sys.argv[1]))
    with asyncio.Runner(loop_factory=fastest_loop()) as runner:
        runner.run(serve(workload))


if __name__ == "__main__":
    main()
