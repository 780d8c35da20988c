"""What a provider costs that dies in the middle: `python -m benchmarks.dying --help`."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import ingestify
from benchmarks.machine import describe
from benchmarks.process import BenchmarkError
from benchmarks.troubles import Lake, listening, served, table
from ingestify.testing import reset_connection

DATASETS = 1000
LIVES_FOR = 500  # good answers for files
BODY = b'{"some": "%s"}' % (b"x" * 5000)
DEATHS = {
    "refused": "connections are refused",
    "reset": "connections are reset",
    "hanging": "nothing is answered",
    "500": "500 for ever",
}
HEADER = (
    *("how it dies", "requests after", "of them arrived", "s until the run ended", "exit code"),
    *("stored", "failed", "not reached", "next run asks for", "for one stored", "exit code"),
)


class Mortal(ingestify.Source):
    """Finds many small Datasets."""

    provider = "mortal"

    async def discover_datasets(
        self, dataset_type: str, selector: ingestify.Selector, *, http: ingestify.Http, **_: Any
    ) -> AsyncIterator[ingestify.DatasetResource]:
        for number in await http.get_json("list.json"):
            resource = ingestify.DatasetResource(dataset_resource_id={"id": number}, name="one")
            yield resource.add_file("data", url=http.url("data/{}", number))


class Provider:
    """Lives for so many answers, dies, and is healed by an order."""

    def __init__(self) -> None:
        self.death: str | None = None
        self.died_at: float | None = None
        self.asked: Counter[str] = Counter()  # files, since the last order
        self.arrived_later = 0  # requests, or connections where those are closed at once
        self.port = 0
        self._data = AsyncExitStack()
        self._server: Any = None
        self._closing: asyncio.Task[None] | None = None

    async def open(self) -> str:
        """Listen, at the same address as before. Returns it."""
        data = listening(self.answer, port=self.port)
        base_url, self._server = await self._data.enter_async_context(data)
        self.port = int(base_url.split(":")[2].strip("/"))
        return base_url

    async def answer(self, request: Any) -> Any:
        """An honest answer, as long as it lives."""
        from aiohttp import web

        if request.path == "/list.json":
            return web.json_response(list(range(DATASETS)))
        if self.died_at is None and self.death and self.asked.total() == LIVES_FOR:
            self._die()
        if self.died_at is not None:
            self.arrived_later += 1
            if self.death == "500":
                return web.Response(status=500)
            if self.death == "hanging":
                await asyncio.Event().wait()
            return await reset_connection(request, _never)
        self.asked[request.path] += 1
        return web.Response(body=BODY, content_type="application/json")

    def _die(self) -> None:
        self.died_at = time.time()
        if self.death in ("refused", "reset"):
            for connection in self._server.connections:
                if connection.transport is not None:
                    connection.transport.abort()
        if self.death == "refused":
            self._closing = asyncio.create_task(self._data.aclose())

    async def obey(self, request: Any) -> Any:
        """Tell what happened, and begin anew: to die in a certain way, or to live."""
        from aiohttp import web

        told = {
            "died_at": self.died_at,
            "asked": dict(self.asked),
            "arrived_later": self.arrived_later,
        }
        if self._closing is not None:
            await self._closing
            self._closing, self._data = None, AsyncExitStack()
            await self.open()
        death = request.path.strip("/")
        self.death = death if death in DEATHS else None
        self.died_at, self.arrived_later = None, 0
        self.asked.clear()
        return web.json_response(told)


async def _never() -> Any:
    raise AssertionError


async def serve() -> None:
    """Serve until terminated."""
    provider = Provider()
    base_url = await provider.open()
    async with listening(provider.obey) as (orders, _):
        print(base_url, orders.split("/")[2], flush=True)
        await asyncio.Event().wait()


def measure(death: str, folder: Path) -> list[str]:
    """A row: a run in which the provider dies, and one with the provider healed."""
    with served("benchmarks.dying") as provider:
        lake = Lake(folder=folder, source="benchmarks.dying.Mortal", base_url=provider.base_url)
        provider.order(death)
        first = lake.run(ends_with=(0, 1, 3, 4))
        ended_at = time.time()
        told = provider.order("live")
        run = lake.last_run()
        second = lake.run(ends_with=(0, 1, 3, 4))
        again = provider.order("live")["asked"]
    if told["died_at"] is None:
        raise BenchmarkError(f"{death}: the provider did not die")
    counters = run["counters"]
    stored = counters["stored"]
    known_twice = len(again) - (DATASETS - stored)
    return [
        DEATHS[death],
        str(run["requests"] - LIVES_FOR - 1),
        str(told["arrived_later"]),
        f"{ended_at - told['died_at']:.1f}",
        str(first.code),
        *(str(counters[each]) for each in ("stored", "failed", "not_reached")),
        str(sum(again.values())),
        str(max(0, known_twice)),
        str(second.code),
    ]


def main() -> None:
    """Let a provider of 1,000 datasets die after 500, in several ways, and print what it costs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dying", description=main.__doc__)
    parser.add_argument("deaths", nargs="*", choices=[*DEATHS, []], metavar="DEATH")
    parser.add_argument("--folder", help="where the lakes are made, for the time being")
    arguments = parser.parse_args()
    parent = arguments.folder or os.environ.get("TMPDIR") or "."
    with tempfile.TemporaryDirectory(prefix=".benchmark-", dir=parent) as name:
        folder = Path(name).resolve()
        print(describe(folder))
        rows = [measure(each, folder / each) for each in arguments.deaths or DEATHS]
        print(table(HEADER, rows))


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        asyncio.run(serve())
    else:
        main()
