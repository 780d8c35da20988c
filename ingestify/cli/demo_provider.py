"""The provider that `ingestify demo` asks: a simulator in a process of its own, on loopback."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from subprocess import DEVNULL, PIPE
from typing import Any
from urllib.error import URLError
from urllib.request import ProxyHandler, Request, build_opener

from anyio import open_process, to_thread
from anyio.streams.text import TextReceiveStream

from ingestify.errors import RunError


class DemoProvider:
    """A simulated provider, and what can be asked of it behind the scenes."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self._opener = build_opener(ProxyHandler({}))  # no proxy knows our loopback

    async def requests(self) -> dict[str, int]:
        """How many requests there were since they were last forgotten, by kind of file."""
        stats = await self._control("stats")
        by_folder: dict[str, int] = stats["by_folder"]
        return by_folder

    async def forget_requests(self) -> None:
        """Count from 0 again."""
        await self._control("reset", {})

    async def evolve(self, what: str, **arguments: int) -> list[int]:
        """Let the provider's data change. Returns the matches concerned."""
        change = await self._control("evolve", {"what": what, "args": arguments})
        match_ids: list[int] = change["match_ids"]
        return match_ids

    async def _control(self, what: str, order: dict[str, Any] | None = None) -> Any:
        body = None if order is None else json.dumps(order).encode()
        request = Request(f"{self.base_url}_simulator/{what}", data=body)  # noqa: S310 (loopback)

        def ask() -> bytes:
            with self._opener.open(request, timeout=30) as answer:
                content: bytes = answer.read()
                return content

        try:
            return json.loads(await to_thread.run_sync(ask))
        except URLError as exc:
            raise RunError(f"the simulated provider does not answer: {exc}") from exc


@asynccontextmanager
async def simulated_provider() -> AsyncIterator[DemoProvider]:
    """A provider with two seasons of made-up matches, which is gone at the end.

    Raises:
        RunError: it did not start.
    """
    command = [sys.executable, "-m", "ingestify.testing"]
    async with await open_process(command, stdin=DEVNULL, stdout=PIPE, stderr=None) as process:
        try:
            base_url = ""
            if process.stdout is not None:
                async for text in TextReceiveStream(process.stdout):
                    base_url += text
                    if base_url.endswith("\n"):
                        break
            if not base_url:
                raise RunError("the simulated provider did not start")
            yield DemoProvider(base_url.strip())
        finally:
            process.terminate()
