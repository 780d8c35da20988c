"""Whether decoded bytes are what their declared format says."""

from __future__ import annotations

import codecs
from collections.abc import Callable
from typing import Protocol

import msgspec

from ingestify.errors import InvalidBodyError

LARGEST_PARSED = 64 * 1024**2  # of JSON; what is larger is checked at its ends
LARGEST_HELD = 4 * 1024**2  # of JSON, while it arrives; what is larger is parsed once it is staged
WHOLE, ENDS = "whole", "ends"  # how far a body was checked
STILL_TO_PARSE = "still to be parsed"
UTF8_STEP = 16 * 1024  # bytes
HEAD = 1024  # bytes that are enough to know a format, or a page, by its beginning
ZIP_END = 22  # bytes of the last record of a zip archive, which a comment follows
TAIL = ZIP_END + 65535  # bytes that are enough to know a format by its end

SPACE = b" \t\r\n"
BOM = b"\xef\xbb\xbf"
HTML_STARTS = (b"<!doctype html", b"<html", b"<head", b"<body", b"<title", b"<script", b"<meta")
HTML_FORMATS = frozenset({"html", "htm", "xhtml"})
BRACKETS = {b"{": b"}", b"[": b"]", b'"': b'"'}

SELF_COMPRESSED = frozenset(
    {"7z", "br", "bz2", "gz", "gzip", "lz4", "rar", "tgz", "xz", "zip", "zst"}
    | {"arrow", "feather", "npz", "orc", "parquet", "docx", "kmz", "pdf", "pptx", "xlsx"}
    | {"avif", "gif", "heic", "jpeg", "jpg", "png", "webp"}
    | {"avi", "flac", "m4a", "m4v", "mkv", "mov", "mp3", "mp4", "mpeg", "mpg", "ogg", "ts", "webm"}
)


class Check(Protocol):
    """Looks at decoded bytes as they pass."""

    def feed(self, data: bytes) -> None:
        """Take the next bytes.

        Raises:
            InvalidBodyError: they cannot be what was declared.
        """
        ...

    def finish(self) -> str:
        """How far the body was checked: `WHOLE`, or only at its `ENDS`.

        `STILL_TO_PARSE` leaves that to whoever has kept it.

        Raises:
            InvalidBodyError: it is not what was declared.
        """
        ...


def kind_of(declared: str) -> str:
    """What decides how a format is treated: the last of its endings, such as gz of json.gz."""
    return declared.lower().rpartition(".")[2]


def check_for(declared: str) -> Check:
    """The check for a declared format. Of one that is not known, nothing is expected."""
    match kind_of(declared):
        case "json" | "geojson":
            return JsonCheck()
        case "jsonl" | "ndjson":
            return TextCheck(declared, utf8=True)
        case "csv" | "tsv" | "txt" | "dat":
            return TextCheck(declared)
        case "xml" | "kml" | "gpx":
            return EndsCheck(declared, start=b"<", ended=_ends_like_xml)
        case "zip" | "xlsx" | "kmz":
            return EndsCheck(declared, start=b"PK", ended=_ends_like_zip)
        case "gz" | "gzip" | "tgz":
            return EndsCheck(declared, start=b"\x1f\x8b")
        case "mp4":
            return EndsCheck(declared, start=b"ftyp", offset=4)
        case "parquet":
            return EndsCheck(declared, start=b"PAR1", ended=_ends_like_parquet)
    return EndsCheck(declared, pages=True)


class Utf8:
    """UTF-8, checked as it passes."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._is_between = True  # characters, not inside one

    def feed(self, data: bytes, *, final: bool = False) -> None:
        if self._is_between and data.isascii():
            return
        try:
            self._decoder.decode(data, final)
        except UnicodeDecodeError as exc:
            raise InvalidBodyError(f"not UTF-8: {exc.reason}") from None
        self._is_between = not self._decoder.getstate()[0]


class Head:
    """The beginning of a body, kept until it is enough to judge by."""

    def __init__(self, declared: str, *, pages: bool = False) -> None:
        self.declared = declared
        self.data = b""
        self._pages = pages  # whether HTML is welcome
        self._is_done = False

    def feed(self, data: bytes) -> None:
        if self._is_done:
            return
        self.data += data[: HEAD - len(self.data)]
        if len(self.data) == HEAD:
            self.finish()

    def finish(self) -> None:
        if not self._is_done and not self._pages and looks_like_html(self.data):
            raise InvalidBodyError(f"looks like an HTML page, not like {self.declared}")
        self._is_done = True


class TextCheck:
    """Text of any kind but HTML."""

    def __init__(self, declared: str, *, utf8: bool = False) -> None:
        self._head = Head(declared)
        self._utf8 = Utf8() if utf8 else None

    def feed(self, data: bytes) -> None:
        self._head.feed(data)
        if self._utf8:
            self._utf8.feed(data)

    def finish(self) -> str:
        self._head.finish()
        if self._utf8:
            self._utf8.feed(b"", final=True)
        return ENDS


class EndsCheck:
    """A format that is known by how it begins and ends; of one that is not, nothing is asked."""

    def __init__(
        self,
        declared: str,
        *,
        start: bytes = b"",
        offset: int = 0,
        ended: Callable[[bytes], bool] | None = None,
        pages: bool = False,
    ) -> None:
        self._declared = declared
        self._head = Head(declared, pages=pages)
        self._start, self._offset, self._ended = start, offset, ended
        self._tail = b""

    def feed(self, data: bytes) -> None:
        self._head.feed(data)
        if self._ended:
            self._tail = (self._tail + data[-TAIL:])[-TAIL:]

    def finish(self) -> str:
        self._head.finish()
        head = self._head.data
        if self._start == b"<":  # only text may have something in front of it
            head = significant(head)
        if not head[self._offset :].startswith(self._start):
            raise InvalidBodyError(f"does not begin like {self._declared}: {head[:16]!r}")
        if self._ended and not self._ended(self._tail):
            raise InvalidBodyError(f"does not end like {self._declared}: the body may be cut")
        return ENDS


class JsonCheck:
    """JSON: parsed as a whole, which needs all of it at once, or looked at from both ends.

    What is small is parsed here. What may not be held while it arrives is left to be parsed
    later, unless it is too large for that, too.
    """

    def __init__(
        self, largest_parsed: int = LARGEST_PARSED, largest_held: int = LARGEST_HELD
    ) -> None:
        self._head = Head("json")
        self._utf8 = Utf8()
        self._whole: bytearray | None = bytearray()
        self._largest = largest_parsed
        self._largest_held = min(largest_held, largest_parsed)
        self._size = 0
        self._last: bytes | bytearray = b""

    def feed(self, data: bytes) -> None:
        self._head.feed(data)
        self._utf8.feed(data)
        self._size += len(data)
        if self._whole is not None:
            if self._size <= self._largest_held:
                self._whole += data
                return
            self._last = self._whole.rstrip(SPACE)[-1:]
            self._whole = None
        self._last = data.rstrip(SPACE)[-1:] or self._last

    def finish(self) -> str:
        self._head.finish()
        self._utf8.feed(b"", final=True)
        if self._head.data.startswith(BOM):
            raise InvalidBodyError("not JSON: it begins with a byte order mark")
        if self._whole is not None:
            parse_json(self._whole)
            return WHOLE
        if self._size <= self._largest:
            return STILL_TO_PARSE
        self._check_ends()
        return ENDS

    def _check_ends(self) -> None:
        first = self._head.data.lstrip(SPACE)[:1]
        if first not in BRACKETS:
            raise InvalidBodyError(f"not JSON: it begins with {first!r}")
        last = bytes(self._last)
        if last != BRACKETS[first]:
            raise InvalidBodyError(f"not JSON: it ends with {last!r}, the body may be cut")


def is_json(body: bytes) -> bool:
    """Whether *body* as a whole is JSON, in UTF-8."""
    try:
        parse_json(body)
        if not body.isascii():
            utf8 = Utf8()
            for start in range(0, len(body), UTF8_STEP):  # which stays in the processor's cache
                utf8.feed(body[start : start + UTF8_STEP])
            utf8.feed(b"", final=True)
    except InvalidBodyError:
        return False
    return True


def parse_json(body: bytes | bytearray) -> None:
    """Raise an InvalidBodyError unless *body* is JSON."""
    try:
        msgspec.json.decode(body, type=msgspec.Raw)
    except msgspec.DecodeError as exc:
        raise InvalidBodyError(f"not JSON: {exc}") from None
    except RecursionError:
        raise InvalidBodyError("JSON that is nested too deeply") from None


def significant(head: bytes) -> bytes:
    """*head* from its first byte that is neither space nor a byte order mark."""
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        head = head.decode("utf-16", "ignore").encode()
    return head.removeprefix(BOM).lstrip(SPACE)


def looks_like_html(head: bytes) -> bool:
    """Whether a body that begins with *head* is a page for people."""
    text = significant(head).lower()
    while text.startswith((b"<?xml", b"<!--")):
        end = b"?>" if text.startswith(b"<?") else b"-->"
        text = text.partition(end)[2].lstrip(SPACE)
    return text.startswith(HTML_STARTS)


def _ends_like_xml(tail: bytes) -> bool:
    return tail.rstrip(SPACE + b"\0").endswith(b">")


def _ends_like_parquet(tail: bytes) -> bool:
    return tail.endswith(b"PAR1")


def _ends_like_zip(tail: bytes) -> bool:
    start = tail.rfind(b"PK\x05\x06")
    record = tail[start : start + ZIP_END]
    return start >= 0 and len(tail) >= start + ZIP_END + int.from_bytes(record[20:], "little")
