"""Lies that a simulated provider tells at a path. `LIES` has them by name.

`ProviderSimulator.script(glob, LIES["html with 200"])` tells one; those that need to be told more,
such as where a redirect leads, are functions.
"""

import asyncio
import gzip
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from itertools import repeat

from aiohttp import web
from isal import isal_zlib

from ingestify.testing.behaviours import Behaviour, Serve, reset_connection, status
from ingestify.testing.raw_answers import Honest, Pause, Step, Then, raw

HTML = b"<!DOCTYPE html>\n<html><body>Down for maintenance</body></html>"
BOMB_BYTES = 64 * 2**20  # of a gzip bomb, decoded
ENDLESS = b" " * 16384
TRICKLE_SECONDS = 0.05
GZIP = {"Content-Encoding": "gzip"}
KEPT = {"Connection": None}

Changes = Mapping[str, str | None]


def replaced(body: bytes, *, content_type: str = "application/json", code: int = 200) -> Behaviour:
    """Answer *body* instead of the honest one, framed as it should be."""

    async def answer(request: web.BaseRequest, serve: Serve) -> web.StreamResponse:
        return web.Response(status=code, body=body, headers={"Content-Type": content_type})

    return answer


def edited(edit: Callable[[bytes], bytes]) -> Behaviour:
    """Answer what *edit* makes of the honest body, with the honest validators."""

    async def answer(request: web.BaseRequest, serve: Serve) -> web.StreamResponse:
        honest = await serve()
        if not isinstance(honest, web.Response) or not isinstance(honest.body, bytes):
            return honest
        body = honest.body
        if honest.headers.pop("Content-Encoding", "") == "gzip":
            body = gzip.decompress(body)
        honest.body = edit(body)
        return honest

    return answer


def redirect(location: str, *, code: int = 302) -> Behaviour:
    """Redirect to *location*, as it stands."""
    there = {"Location": location, "Content-Length": "0"}
    return raw(lambda honest: [honest.head(there, status=code)])


def validators(*, etag: str | None = None, last_modified: str | None = None) -> Behaviour:
    """Answer the honest 200 with other validators, and never 304."""

    async def answer(request: web.BaseRequest, serve: Serve) -> web.StreamResponse:
        honest = await serve()
        for name, value in (("ETag", etag), ("Last-Modified", last_modified)):
            honest.headers.pop(name, None)
            if value is not None:
                honest.headers[name] = value
        return honest

    return answer


async def endless_redirects(request: web.BaseRequest, serve: Serve) -> web.StreamResponse:
    """Redirect to an address that nobody has seen yet."""
    step = int(request.query.get("step", "0")) + 1
    return web.Response(status=302, headers={"Location": f"{request.path}?step={step}"})


def _cut(body: bytes) -> bytes:
    return body[: len(body) // 2]


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _cut_of_gzip(honest: Honest) -> bytes:
    coded = gzip.compress(_decoded(honest))
    return coded[: len(coded) - 12]


def _decoded(honest: Honest) -> bytes:
    is_coded = honest.headers.get("Content-Encoding") == "gzip"
    return gzip.decompress(honest.body) if is_coded else honest.body


def _framed(honest: Honest, body: bytes, changes: Changes | None = None) -> list[Step]:
    changed = Honest(body=body, headers=honest.headers)
    return [changed.head(changes or {}), body]


def _unframed(honest: Honest, body: bytes, changes: Changes | None = None) -> list[Step]:
    return [honest.head({"Content-Length": None, **(changes or {})}), body]


def _chunked(honest: Honest, *parts: bytes) -> list[Step]:
    return [honest.head({"Content-Length": None, "Transfer-Encoding": "chunked"}), *parts]


def _trickle(data: bytes) -> Iterator[Step]:
    for position in range(len(data)):
        yield data[position : position + 1]
        yield Pause(TRICKLE_SECONDS)


def _trickled_head(honest: Honest) -> Iterator[Step]:
    yield from _trickle(honest.head({"X-Slow": "x" * 4000}))
    yield honest.body


def _trickled_body(honest: Honest) -> Iterator[Step]:
    yield honest.head({"Content-Length": "100000"})
    yield from _trickle(b" " * 100_000)


def _early_hints(honest: Honest) -> Iterator[Step]:
    for hint in repeat(b"HTTP/1.1 103 Early Hints\r\n\r\n"):
        yield hint
        yield Pause(TRICKLE_SECONDS)


def _two_answers(honest: Honest) -> list[Step]:
    other = Honest(body=b'{"not": "asked for"}', headers={"Content-Type": "application/json"})
    return [honest.head(KEPT) + honest.body + other.head(KEPT) + other.body, Then.KEEP]


async def endless_body(request: web.BaseRequest, serve: Serve) -> web.StreamResponse:
    """Begin a JSON list that has no end, as fast as it is taken."""
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    await response.write(b"[1")
    while True:
        await response.write(ENDLESS)


async def gzip_bomb(request: web.BaseRequest, serve: Serve) -> web.StreamResponse:
    """Answer a small body that decodes to a JSON text of `BOMB_BYTES`."""
    bomb = await asyncio.to_thread(_bomb)  # made once
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    return web.Response(body=bomb, headers=headers)


@cache
def _bomb() -> bytes:
    packer, pieces = isal_zlib.compressobj(1, wbits=31), [b""]
    for piece in (b'"', *repeat(b"a" * 2**20, BOMB_BYTES // 2**20), b'"'):
        pieces.append(packer.compress(piece))
    return b"".join([*pieces, packer.flush()])


LIES: Mapping[str, Behaviour] = {
    # No answer, or one that takes its time
    "reset before the answer": reset_connection,
    "closed without an answer": raw(lambda h: []),
    "hang before the head": raw(lambda h: [Then.HANG]),
    "hang in the head": raw(lambda h: [h.head()[:-10], Then.HANG]),
    "hang before the body": raw(lambda h: [h.head(), Then.HANG]),
    "hang in the body": raw(lambda h: [h.head(), _cut(h.body), Then.HANG]),
    "one byte at a time in the head": raw(_trickled_head),
    "one byte at a time in the body": raw(_trickled_body),
    "early hints for ever": raw(_early_hints),
    # Heads
    "not http": raw(lambda h: [b"SSH-2.0-OpenSSH_9.6\r\n\r\n"]),
    "one huge header": raw(lambda h: [h.head({"X-Huge": "x" * 2**17}), h.body]),
    "very many headers": raw(lambda h: [h.head({f"X-{n}": "x" for n in range(500)}), h.body]),
    "two lengths": raw(
        lambda h: [h.head({"X": f"x\r\nContent-Length: {len(h.body) - 5}"}), h.body]
    ),
    "a length and chunks": raw(
        lambda h: [h.head({"Transfer-Encoding": "chunked"}), _chunk(h.body), b"0\r\n\r\n"]
    ),
    "a length below zero": raw(lambda h: [h.head({"Content-Length": "-5"}), h.body]),
    # Framing
    "reset in the body": raw(lambda h: [h.head(), _cut(h.body), Then.RESET]),
    "shorter than its length": raw(lambda h: [h.head(), _cut(h.body)]),
    "longer than its length": raw(
        lambda h: [h.head({"Content-Length": str(len(h.body) - 5), **KEPT}) + h.body, Then.KEEP]
    ),
    "two answers to one request": raw(_two_answers),
    "cut chunks": raw(lambda h: _chunked(h, _chunk(_cut(h.body)))),
    "a cut chunk": raw(lambda h: _chunked(h, _chunk(h.body)[:-20])),
    "chunks without sizes": raw(lambda h: _chunked(h, b"many\r\n", h.body, b"\r\n0\r\n\r\n")),
    "ended by closing": raw(lambda h: _unframed(h, h.body)),
    "ended by closing, cut": raw(lambda h: _unframed(h, _cut(h.body))),
    "ended by closing, plain and cut": raw(
        lambda h: _unframed(h, _cut(_decoded(h)), {"Content-Encoding": None})
    ),
    "endless body": endless_body,
    # Codings
    "cut gzip, well framed": raw(lambda h: _framed(h, _cut_of_gzip(h), GZIP)),
    "cut gzip in whole chunks": raw(
        lambda h: [
            h.head({"Content-Length": None, "Transfer-Encoding": "chunked", **GZIP}),
            _chunk(_cut_of_gzip(h)) + b"0\r\n\r\n",
        ]
    ),
    "gzip with a wrong checksum": raw(
        lambda h: _framed(h, gzip.compress(_decoded(h))[:-8] + b"\0" * 8, GZIP)
    ),
    "gzip and something after it": raw(
        lambda h: _framed(h, gzip.compress(_decoded(h)) + b"more", GZIP)
    ),
    "said to be gzip": raw(lambda h: _framed(h, _decoded(h), GZIP)),
    "a coding nobody asked for": raw(lambda h: _framed(h, _decoded(h), {"Content-Encoding": "br"})),
    "gzip twice": raw(
        lambda h: _framed(
            h, gzip.compress(gzip.compress(_decoded(h))), {"Content-Encoding": "gzip, gzip"}
        )
    ),
    "gzip bomb": gzip_bomb,
    # Statuses
    "204": raw(lambda h: [h.head({"Content-Length": None}, status=204)]),
    "206": raw(lambda h: [h.head({"Content-Range": "bytes 0-9/100"}, status=206), h.body]),
    "an unasked 304": raw(lambda h: [h.head(status=304)]),
    "401": status(401),
    "403": status(403),
    "404": status(404),
    "418": status(418),
    "500": status(500),
    "502": status(502),
    "a status of 999": raw(lambda h: [h.head(status=999), h.body]),
    # Bodies
    "empty body": replaced(b""),
    "empty gzip": raw(lambda h: _framed(h, gzip.compress(b""), GZIP)),
    "html with 200": replaced(HTML, content_type="text/html"),
    "html said to be json": replaced(HTML),
    "cut json, well framed": edited(_cut),
    "another charset": edited(lambda body: body.decode().encode("utf-16")),
    "text": replaced(b"Please try again later"),
    "nested too deeply": replaced(b"[" * 100_000 + b"]" * 100_000),
    "not a number": edited(lambda body: body.replace(b"{", b'{"x": NaN, ', 1)),
    "invalid utf-8": edited(lambda body: body.replace(b'"', b'"\xff\xfe', 1)),
    # Redirects; `redirect` leads wherever it is told to
    "a redirect to itself": raw(
        lambda h: [h.head({"Location": "?", "Content-Length": "0"}, status=302)]
    ),
    "redirects for ever": endless_redirects,
    "a redirect to nowhere": raw(lambda h: [h.head({"Content-Length": "0"}, status=302)]),
    "a redirect to a file": redirect("file:///etc/passwd"),
    "a redirect to a private address": redirect("http://169.254.169.254/latest/meta-data/"),
}
