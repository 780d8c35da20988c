"""Reads a provider's JSON so that one bad record harms no other, and integers stay exact.

msgspec reads integers of any size exactly (orjson turns those beyond 64 bits into floats), up to
the 4,300 digits that Python itself admits. Its `Raw` finds the ends of a list's entries in one
fast pass, without looking at their UTF-8 or at the size of their numbers. It stumbles over NaN,
lone surrogates and the like; then `_split`, which only matches quotes and brackets, takes over.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from ingestify.errors import RecordError, SourceError

BOM = b"\xef\xbb\xbf"
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, ValueError, RecursionError)
WHITE = b" \t\n\r"
TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{},"]', re.DOTALL)

_entries = msgspec.json.Decoder(list[msgspec.Raw])
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])


def read_json(body: bytes, wanted: Any, *, url: str) -> Any:
    """*body* as JSON of the type *wanted*.

    Raises:
        SourceError: it is not that; names *url*.
    """
    try:
        return msgspec.json.decode(body.removeprefix(BOM), type=wanted)
    except UNREADABLE as exc:
        raise SourceError(f"{url} answered {kind_of(body)}: {exc}") from None


def read_entries(body: bytes, key: str | None, *, url: str) -> Sequence[bytes | msgspec.Raw]:
    """The entries of the JSON list *body*, or of the list under *key* in it, not yet decoded.

    Raises:
        SourceError: there is no such list; names *url* and what came instead.
    """
    text: bytes | msgspec.Raw = body.removeprefix(BOM)
    where = "" if key is None else f" under {key!r}"
    if key is not None:
        text = _member(text, key, url=url)
    try:
        return _entries.decode(text)
    except UNREADABLE as exc:
        entries = _split(bytes(text), b"[", b"]")
        if entries is None:
            raise SourceError(
                f"{url} answered {kind_of(bytes(text))}{where} for a list: {exc}"
            ) from None
        return entries


def read_entry(entry: bytes | msgspec.Raw, decoder: msgspec.json.Decoder[Any]) -> Any:
    """One entry, as the type of *decoder*; as `msgspec.Raw` it is a copy that stands alone.

    Raises:
        RecordError: the entry cannot be read.
    """
    try:
        read = decoder.decode(entry)
    except UNREADABLE as exc:
        raise RecordError(str(exc)) from None
    return read.copy() if isinstance(read, msgspec.Raw) else read


def kind_of(body: bytes) -> str:
    """What *body* looks like, for messages: its content is not for everybody's eyes."""
    text = body.removeprefix(BOM).lstrip(WHITE)
    if not text:
        return "an empty body"
    kinds = {b"{": "a JSON object", b"[": "a JSON list", b'"': "a JSON text", b"<": "HTML or XML"}
    if text[:1] in kinds:
        return kinds[text[:1]]
    if text.rstrip(WHITE) in (b"null", b"true", b"false"):
        return text.rstrip(WHITE).decode()
    return "a number" if text[:1] in b"-0123456789" else "no JSON"


def _member(text: bytes, key: str, *, url: str) -> bytes | msgspec.Raw:
    try:
        members = _members.decode(text)
    except UNREADABLE as exc:
        parts = _split(text, b"{", b"}")
        if parts is None:
            raise SourceError(f"{url} answered {kind_of(text)} for an object: {exc}") from None
        members = dict(filter(None, map(_member_of, parts)))
    if key not in members:
        names = ", ".join(repr(name) for name in sorted(members)[:10])
        raise SourceError(f"{url} answered an object without {key!r}; it has: {names or 'nothing'}")
    return members[key]


def _member_of(part: bytes) -> tuple[str, Any] | None:
    found = TOKEN.match(part)
    if found is None or part[found.end() :].lstrip(WHITE)[:1] != b":":
        return None
    try:
        name = msgspec.json.decode(found[0], type=str)
    except UNREADABLE:
        return None
    return name, part[found.end() :].lstrip(WHITE)[1:].strip(WHITE)


def _split(text: bytes, opening: bytes, closing: bytes) -> list[bytes] | None:
    """The parts between the commas of the one list or object that *text* is; None: it is not.

    Slow, and only for texts that hold something unreadable: it looks at nothing but quotes and
    brackets, so that the reason stays within the part where it stands.
    """
    text = text.strip(WHITE)
    if text[:1] != opening:
        return None
    parts: list[bytes] = []
    expected = bytearray()
    begin = 1
    for token in TOKEN.finditer(text):
        sign = token[0]
        if sign in (b"[", b"{"):
            expected += b"]" if sign == b"[" else b"}"
        elif sign in (b"]", b"}"):
            if not expected or expected.pop() != sign[0]:
                return None
            if not expected:
                last = text[begin : token.start()].strip(WHITE)
                is_whole = token.end() == len(text) and sign == closing
                return ([*parts, last] if last or parts else parts) if is_whole else None
        elif sign == b"," and len(expected) == 1:
            parts.append(text[begin : token.start()].strip(WHITE))
            begin = token.end()
        elif sign == b'"':  # one that nothing closes
            return None
    return None
