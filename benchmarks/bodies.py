"""What bodies of a gibibyte take in memory: `python -m benchmarks.bodies --help`."""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isal import isal_zlib

import ingestify
from benchmarks.machine import describe
from benchmarks.process import BenchmarkError
from benchmarks.troubles import Lake, listening, served, table

MEBIBYTE = 1024**2
CHUNK = 256 * 1024
GZIP = 31
HEADER = (
    *("body", "allowed", "outcome", "peak MiB", "above idle", "wall s"),
    *("received MiB", "stored MiB"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """One body, made while it is sent. An empty *format*: there is none, and nothing to do."""

    told: str
    format: str = ""
    mebibytes: int = 0
    is_gzipped: bool = False
    pattern: bytes = b""  # repeated; else there are numbers that do not compress well
    most: str = "8 GiB"  # that the run allows
    ends_with: int = 0

    def chunks(self) -> Iterator[bytes]:
        """Its bytes as they are sent."""
        coder = isal_zlib.compressobj(1, wbits=GZIP) if self.is_gzipped else None
        for chunk in self._decoded():
            yield coder.compress(chunk) if coder else chunk
        if coder:
            yield coder.flush()

    def _decoded(self) -> Iterator[bytes]:
        is_json = self.format == "json"
        chunk = _numbers(b"," if is_json else b"\n")
        if self.pattern:
            chunk = self.pattern * (CHUNK // len(self.pattern))
        yield b"[0" if is_json else b"0"
        for _ in range(self.mebibytes * MEBIBYTE // len(chunk)):
            yield chunk
        yield b"]" if is_json else b"\n"


def _numbers(separator: bytes) -> bytes:
    numbers = random.Random(7)
    lines = (separator + b"%d" % (10**14 + numbers.getrandbits(46)) for _ in range(CHUNK // 16))
    return b"".join(lines)


BODIES = {
    "idle": Body(told="none: there is nothing to do"),
    "csv": Body(told="1 GiB of CSV", format="csv", mebibytes=1024),
    "gzip": Body(told="1 GiB of CSV, sent gzipped", format="csv", mebibytes=1024, is_gzipped=True),
    "json": Body(told="1 GiB of JSON", format="json", mebibytes=1024),
    "whole": Body(told="60 MiB of JSON, parsed whole", format="json", mebibytes=60),
    "bomb": Body(
        told="gzip bomb of 8 GiB",
        format="csv",
        mebibytes=8192,
        is_gzipped=True,
        pattern=b"\n0000000",
        most="1 GiB",
        ends_with=1,
    ),
}


class BigSource(ingestify.Source):
    """Finds the one Dataset of a provider, if it has any."""

    provider = "big"

    async def discover_datasets(
        self, dataset_type: str, selector: ingestify.Selector, *, http: ingestify.Http, **_: Any
    ) -> AsyncIterator[ingestify.DatasetResource]:
        for form in await http.get_json("list.json"):
            resource = ingestify.DatasetResource(dataset_resource_id={"id": 1}, name="big")
            yield resource.add_file("data", url="body", format=form)


async def serve() -> None:
    """Serve the body that was ordered last."""
    from aiohttp import web

    body = BODIES["idle"]

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/list.json":
            return web.json_response([body.format] if body.format else [])
        response = web.StreamResponse()
        if body.is_gzipped:
            response.headers["Content-Encoding"] = "gzip"
        response.enable_chunked_encoding()
        await response.prepare(request)
        with suppress(ConnectionError):  # it may have had enough
            for chunk in body.chunks():
                await response.write(chunk)
            await response.write_eof()
        return response

    async def take(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal body
        body = BODIES[request.path.strip("/")]
        return web.json_response(None)

    async with listening(answer) as (base_url, _), listening(take) as (orders, _):
        print(base_url, orders.split("/")[2], flush=True)
        await asyncio.Event().wait()


def measure(names: list[str], folder: Path) -> list[list[str]]:
    """A row for each of the bodies, as HEADER says."""
    rows: list[list[str]] = []
    idle = 0.0
    with served("benchmarks.bodies") as provider:
        for name in names:
            body = BODIES[name]
            provider.order(name)
            lake = Lake(
                folder=folder / name,
                source="benchmarks.bodies.BigSource",
                base_url=provider.base_url,
                http=f"{{max_body_bytes: {body.most}}}",
            )
            usage = lake.run(ends_with=[body.ends_with])
            counts = lake.last_run()
            if counts["counters"]["listed"] != bool(body.format):
                raise BenchmarkError(f"{name}: not what was meant to be measured: {counts}")
            peak = usage.peak_bytes / MEBIBYTE
            idle = idle or peak
            rows.append(
                [
                    body.told,
                    body.most,
                    outcome_of(counts["counters"]),
                    f"{peak:.0f}",
                    f"{peak - idle:.0f}",
                    f"{usage.wall_seconds:.1f}",
                    f"{counts['received_bytes'] / MEBIBYTE:.1f}",
                    f"{counts['stored_bytes'] / MEBIBYTE:.1f}",
                ]
            )
            shutil.rmtree(folder / name)
    return rows


def outcome_of(counters: dict[str, int]) -> str:
    """What became of the one Dataset."""
    return next((each for each in ("stored", "failed") if counters[each]), "nothing")


def main() -> None:
    """Fetch large bodies, each in a run of its own, and print what each took."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bodies", description=main.__doc__)
    parser.add_argument("bodies", nargs="*", choices=[*BODIES, []], metavar="BODY")
    parser.add_argument("--folder", help="where the lakes are made; 2 GB for a while")
    arguments = parser.parse_args()
    parent = arguments.folder or os.environ.get("TMPDIR") or "."
    with tempfile.TemporaryDirectory(prefix=".benchmark-", dir=parent) as name:
        folder = Path(name).resolve()
        print(describe(folder))
        print(table(HEADER, measure(["idle", *(arguments.bodies or list(BODIES)[1:])], folder)))


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        asyncio.run(serve())
    else:
        main()
