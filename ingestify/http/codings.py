"""Content codings undone step by step, with their ends checked.

What a library calls the end of a gzip stream is not enough: a body that is cut between two reads
looks finished to many of them. A coding counts as complete here when its stream says so, its
checksum and length are right, and nothing follows it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from io import BytesIO
from typing import Protocol, cast

from isal import igzip_lib, isal_zlib

from ingestify.errors import InvalidBodyError

STEP = 256 * 1024  # decoded bytes that are in memory at once
SLICE = 64 * 1024  # coded bytes given to a decoder at once; it copies what it does not use
LONGEST_HEADER = 128 * 1024  # of a gzip member; its optional fields have no bound of their own

ACCEPTED = "gzip"  # what we ask for; deflate is understood where a server sends it unasked

DAMAGED = cast("type[Exception]", igzip_lib.IsalError)  # its stub takes it for an instance
GZIP_MAGIC = b"\x1f\x8b\x08"
PLAIN_MEMBER = GZIP_MAGIC + b"\0"  # its header has no optional fields
FLAG_CHECKSUM, FLAG_EXTRA, FLAG_NAME, FLAG_COMMENT = 2, 4, 8, 16
FLAGS_RESERVED = 0xE0


class TooLargeError(InvalidBodyError):
    """There is more of a body than may be decoded."""


class Decoder(Protocol):
    """Undoes one coding. Its memory does not grow with the body."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What *data* decodes to, in pieces of at most `STEP` bytes. To be used up.

        Raises:
            InvalidBodyError: that is not how the coding looks.
        """
        ...

    def finish(self) -> Iterator[bytes]:
        """What is left at the end.

        Raises:
            InvalidBodyError: the coding is not complete.
        """
        ...


def decoder_for(coding: str) -> Decoder:
    """What undoes a Content-Encoding.

    Raises:
        InvalidBodyError: we cannot undo it, and did not ask for it.
    """
    match coding.strip().lower():
        case "" | "identity":
            return Plain()
        case "gzip" | "x-gzip":
            return Gunzip()
        case "deflate":
            return Inflate()
    raise InvalidBodyError(f"the content coding {coding!r} was not asked for")


class Plain:
    """No coding at all."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        for start in range(0, len(data), STEP):
            yield data[start : start + STEP]

    def finish(self) -> Iterator[bytes]:
        return iter(())


class Gunzip:
    """gzip (RFC 1952) of one or many members.

    Headers are read here and not by the library, which loses its way in an optional field that
    is split between two reads.
    """

    def __init__(self) -> None:
        self._frame = bytearray()  # of a header or trailer, until it is complete
        self._inflater: igzip_lib.IgzipDecompressor | None = None  # None: a header comes next
        self._crc = 0
        self._size = 0
        self._members = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        for start in range(0, len(data), SLICE):
            rest = data[start : start + SLICE]
            while rest:
                if self._inflater is None:
                    rest = self._begin_member(rest)
                elif self._inflater.eof:
                    rest = self._end_member(rest)
                else:
                    yield from self._inflate(self._inflater, rest)
                    rest = self._inflater.unused_data if self._inflater.eof else b""

    def finish(self) -> Iterator[bytes]:
        if self._inflater is not None or self._frame or not self._members:
            raise InvalidBodyError("the gzip coding ends before its end: the body is cut")
        return iter(())

    def _begin_member(self, data: bytes) -> bytes:
        self._frame += data
        length = self._header_length()
        if length is None:
            if len(self._frame) > LONGEST_HEADER:
                raise InvalidBodyError(f"a gzip header of more than {LONGEST_HEADER} bytes")
            return b""
        rest = bytes(self._frame[length:])
        self._frame.clear()
        self._inflater = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_DEFLATE)
        self._crc = self._size = 0
        return rest

    def _header_length(self) -> int | None:
        """The length of the header at the start of the frame, or None while it is not all there."""
        head = self._frame
        if not GZIP_MAGIC.startswith(head[:3]):
            if self._members:
                raise InvalidBodyError("other bytes follow the end of the gzip coding")
            raise InvalidBodyError("said to be gzip coded, but is not")
        if len(head) < 10:
            return None
        flags, end = head[3], 10
        if flags & FLAGS_RESERVED:
            raise InvalidBodyError("a gzip header with flags that do not exist")
        if flags & FLAG_EXTRA:
            if len(head) < 12:
                return None
            end += 2 + int.from_bytes(head[10:12], "little")
        for flag in (FLAG_NAME, FLAG_COMMENT):
            if flags & flag:
                zero = head.find(0, end)
                if zero < 0:
                    return None
                end = zero + 1
        if flags & FLAG_CHECKSUM:
            wanted, end = int.from_bytes(head[end : end + 2], "little"), end + 2
            if len(head) >= end and isal_zlib.crc32(head[: end - 2]) & 0xFFFF != wanted:
                raise InvalidBodyError("the checksum of a gzip header is wrong")
        return end if len(head) >= end else None

    def _inflate(self, inflater: igzip_lib.IgzipDecompressor, data: bytes) -> Iterator[bytes]:
        for piece in inflate(inflater, data):
            self._crc = isal_zlib.crc32(piece, self._crc)
            self._size += len(piece)
            yield piece

    def _end_member(self, data: bytes) -> bytes:
        missing = 8 - len(self._frame)
        self._frame += data[:missing]
        if len(self._frame) == 8:
            crc, size = struct.unpack("<II", self._frame)
            if crc != self._crc or size != self._size & 0xFFFFFFFF:
                raise InvalidBodyError("the checksum or length of the gzip coding is wrong")
            self._frame.clear()
            self._inflater = None
            self._members += 1
        return data[missing:]


class Inflate:
    """The "deflate" of HTTP: zlib (RFC 1950) by the letter, raw deflate from some servers."""

    def __init__(self) -> None:
        self._head = b""
        self._inflater: igzip_lib.IgzipDecompressor | None = None

    def feed(self, data: bytes) -> Iterator[bytes]:
        for start in range(0, len(data), SLICE):
            rest = self._head + data[start : start + SLICE]
            if self._inflater is None:
                if len(rest) < 2:
                    self._head = rest
                    continue
                self._head = b""
                is_zlib = rest[0] & 0x8F == 8 and int.from_bytes(rest[:2], "big") % 31 == 0
                flag = igzip_lib.DECOMP_ZLIB if is_zlib else igzip_lib.DECOMP_DEFLATE
                self._inflater = igzip_lib.IgzipDecompressor(flag=flag)
            if not self._inflater.eof:
                yield from inflate(self._inflater, rest)
                rest = self._inflater.unused_data
            if self._inflater.eof and rest:
                raise InvalidBodyError("other bytes follow the end of the deflate coding")

    def finish(self) -> Iterator[bytes]:
        if self._inflater is None or not self._inflater.eof:
            raise InvalidBodyError("the deflate coding ends before its end: the body is cut")
        return iter(())


def inflate(inflater: igzip_lib.IgzipDecompressor, data: bytes) -> Iterator[bytes]:
    """What *data* inflates to, in pieces of at most `STEP` bytes.

    Raises:
        InvalidBodyError: it is not deflated.
    """
    try:
        piece = inflater.decompress(data, STEP)
        while piece:
            yield piece
            if inflater.eof or inflater.needs_input:
                return
            piece = inflater.decompress(b"", STEP)
    except DAMAGED as exc:
        raise InvalidBodyError(f"the compressed body is damaged: {exc}") from exc


def coding_of(headers: Mapping[str, str]) -> str:
    """The content coding that *headers* (names in lower case) announce; "" for none."""
    named = headers.get("content-encoding", "").replace(" ", "").lower()
    codings = [part for part in named.split(",") if part and part != "identity"]
    return ",".join("gzip" if part == "x-gzip" else part for part in codings)


def too_large(max_bytes: int) -> str:
    """What is said of a body of more than *max_bytes*, and which setting would let it in."""
    return f"larger than {max_bytes} bytes (max_body_bytes; for lists, max_list_bytes)"


def decode_body(raw: bytes, coding: str, max_bytes: int) -> bytes:
    """*raw* without its *coding*; never more than *max_bytes* are made of it.

    Raises:
        InvalidBodyError: it is cut, broken or too large, or its coding is not known.
    """
    if coding == "gzip" and raw[:4] == PLAIN_MEMBER:
        whole = _gunzip(raw, max_bytes)
        if whole is not None:
            return whole
    decoder = decoder_for(coding)
    body = BytesIO()
    for part in decoder.feed(raw):
        if body.tell() + len(part) > max_bytes:
            raise TooLargeError(f"the body is {too_large(max_bytes)}")
        body.write(part)
    for part in decoder.finish():
        body.write(part)
    return body.getvalue()  # not a copy


def _gunzip(raw: bytes, max_bytes: int) -> bytes | None:
    """What *raw*, one whole member, decodes to, in one go; None where it is anything else."""
    inflater = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
    try:
        body = inflater.decompress(raw, max_bytes)
    except DAMAGED:
        return None
    return bytes(body) if inflater.eof and not inflater.unused_data else None
