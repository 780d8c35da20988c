"""Undoes content codings of whole bodies: the end of the stream is checked, the size capped."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from typing import Any, cast

from isal import isal_zlib

from ingestify.errors import InvalidBodyError

GZIP_WINDOW = 31  # with the header and trailer of gzip
ZLIB_WINDOW = 15
RAW_WINDOW = -15
STEP = 256 * 1024
DAMAGED = cast("type[Exception]", isal_zlib.error)  # its stub takes it for an instance

ACCEPTED = "gzip"  # what we ask for; deflate is understood where a server sends it unasked


def coding_of(headers: Mapping[str, str]) -> str:
    """The content coding that *headers* (names in lower case) announce; "" for none."""
    named = headers.get("content-encoding", "").replace(" ", "").lower()
    codings = [part for part in named.split(",") if part and part != "identity"]
    return ",".join("gzip" if part == "x-gzip" else part for part in codings)


def decode_body(raw: bytes, coding: str, max_bytes: int) -> bytes:
    """*raw* without its *coding*; never more than *max_bytes* are made of it.

    Raises:
        InvalidBodyError: it is cut, broken or too large, or its coding is not known.
    """
    if coding == "":
        if len(raw) > max_bytes:
            raise InvalidBodyError(f"the body is larger than {max_bytes} bytes")
        return raw
    if coding == "gzip":
        return _inflate(lambda: isal_zlib.decompressobj(wbits=GZIP_WINDOW), raw, coding, max_bytes)
    if coding == "deflate":  # zlib by the book, raw deflate by some servers
        is_zlib = len(raw) > 1 and raw[0] & 0x0F == 8 and (raw[0] << 8 | raw[1]) % 31 == 0
        window = ZLIB_WINDOW if is_zlib else RAW_WINDOW
        return _inflate(lambda: zlib.decompressobj(wbits=window), raw, coding, max_bytes)
    raise InvalidBodyError(f"the body has a content coding that was not asked for: {coding:.40}")


def _inflate(begin: Callable[[], Any], raw: bytes, coding: str, max_bytes: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    rest = raw
    while True:  # a gzip body may have several members, one after the other
        stream = begin()
        try:
            while not stream.eof:
                part = stream.decompress(rest, STEP)
                rest = stream.unused_data if stream.eof else stream.unconsumed_tail
                if not part and not rest and not stream.eof:
                    raise InvalidBodyError(f"the body ends before its {coding} stream does")
                size += len(part)
                if size > max_bytes:
                    raise InvalidBodyError(f"the decoded body is larger than {max_bytes} bytes")
                parts.append(part)
        except (zlib.error, DAMAGED, ValueError) as exc:
            raise InvalidBodyError(f"the body is not {coding}: {exc}") from None
        if not rest or coding != "gzip":
            break
    if rest:
        raise InvalidBodyError(f"the body goes on after the end of its {coding} stream")
    return b"".join(parts)
