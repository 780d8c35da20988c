"""Reads a provider's JSON so that one bad record harms no other, and integers stay exact.

msgspec reads integers of any size exactly (orjson turns those beyond 64 bits into floats), up to
the 4,300 digits that Python itself admits. Its `Raw` finds the ends of a list's entries in one
fast pass, without looking at their UTF-8 or at the size of their numbers. It stumbles over NaN,
lone surrogates and the like; then `json_parts` takes over for that piece of the list. It makes an
object for each entry, which is much for one of a digit: long lists are gone through in pieces.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Sequence
from functools import lru_cache
from typing import Any, TypeAlias

import msgspec

from ingestify.errors import RecordError, SourceError
from ingestify.http.json_parts import WHITE, Span, UnbalancedError, parts_of, within

BOM = b"\xef\xbb\xbf"
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, ValueError, RecursionError)
NAMED = re.compile(rb'\s*+("(?:[^"\\]++|\\.)*+")\s*+:', re.DOTALL)  # a member and its name
BEGINNING = re.compile(rb'\s*+(\{\s*+"[^"\\]{0,100}+"|[\[{]?)')  # of an entry: others may have it
PIECE = 120 * 1024  # bytes of a list to find entries in; from 128 KiB on, a copy is a new mapping
MOST_NAMES = 10  # that an object has, and are told where it lacks one

Entry: TypeAlias = bytes | msgspec.Raw

_entries = msgspec.json.Decoder(list[msgspec.Raw])


def read_json(body: bytes, wanted: Any, *, url: str) -> Any:
    """*body* as JSON of the type *wanted*.

    Raises:
        SourceError: it is not that; names *url*.
    """
    try:
        return msgspec.json.decode(body.removeprefix(BOM), type=wanted)
    except UNREADABLE as exc:
        raise SourceError(f"{url} answered {kind_of(body)}: {exc}") from None


def read_entries(body: bytes, key: str | None, *, url: str) -> Iterator[Sequence[Entry]]:
    """The entries of the JSON list *body*, or of the list under *key* in it, not yet decoded.

    They come in pages, some of which may be empty: whoever takes them lets others work between
    two. A page of a long list is looked for when it is asked for, so that what is wrong with the
    brackets of the list shows only after the entries before that.

    Raises:
        SourceError: there is no such list; names *url* and what came instead.
    """
    text = body.removeprefix(BOM)
    if key is not None:
        text = yield from _member(text, key, url=url)
    told: Exception | None = None
    if len(text) <= PIECE:
        try:
            yield _entries.decode(text)
            return
        except UNREADABLE as exc:
            told = exc
    try:
        yield from _in_pieces(text, *within(text, b"["))
    except UnbalancedError as exc:
        where = "" if key is None else f" under {key!r}"
        kind = kind_of(text)
        raise SourceError(f"{url} answered {kind}{where} for a list: {told or exc}") from None


def _in_pieces(text: bytes, begin: int, end: int) -> Iterator[Sequence[Entry]]:
    """The entries from *begin* on, a piece of *text* at a time.

    A piece ends where the next entry seems to begin: if it does not, or if something in it is
    unreadable, the piece is no list by itself. Then its entries are found by their brackets.
    """
    alike = BEGINNING.match(text, begin, end)
    is_first = True
    while begin < end:
        cut = end - 1
        if end - begin > PIECE:
            cut = _comma_before(text, alike[1] if alike else b"", begin, begin + PIECE)
        if entries := _decoded(text, begin, cut):
            yield entries
            begin = cut + 1
        else:
            begin = yield from _by_brackets(text, begin, end, is_first=is_first)
        is_first = False


def _decoded(text: bytes, begin: int, end: int) -> Sequence[Entry]:
    """The entries between *begin* and *end*; none where these are no list."""
    try:
        return _entries.decode(b"".join((b"[", memoryview(text)[begin:end], b"]")))
    except UNREADABLE:
        return ()


def _comma_before(text: bytes, alike: bytes, begin: int, stop: int) -> int:
    """Where the last comma before something *alike* stands, or *begin*."""
    at = text.rfind(alike, begin + 1, stop) if alike else stop
    return max(begin, text.rfind(b",", begin, at) if at > begin else begin)


def _by_brackets(
    text: bytes, begin: int, end: int, *, is_first: bool
) -> Generator[Sequence[Entry], None, int]:
    """The entries of one piece. Returns where the next one begins."""
    for spans in parts_of(text, (begin, end), is_first=is_first):
        yield [text[start:stop] for start, stop in spans]
        if spans and spans[-1][1] - begin >= PIECE:
            return spans[-1][1] + 1
    return end


def _member(text: bytes, key: str, *, url: str) -> Generator[Sequence[Entry], None, bytes]:
    """The last member *key* of the object *text*. Yields empty pages while it looks for it."""
    try:
        found = _only(key).decode(text).value
        if found is not msgspec.UNSET:
            return bytes(found)
    except UNREADABLE as exc:
        told: Exception | None = exc
    else:
        told = None
    try:
        span = yield from _look_for(key, text, url=url)
    except UnbalancedError as exc:
        kind = kind_of(text)
        raise SourceError(f"{url} answered {kind} for an object: {told or exc}") from None
    return text[slice(*span)]


@lru_cache(maxsize=64)
def _only(key: str) -> msgspec.json.Decoder[Any]:
    """A decoder that keeps the member *key* of an object alone, whatever others there are.

    Raises:
        ValueError: *key* is nothing that could be looked for so.
    """
    value = ("value", msgspec.Raw | msgspec.UnsetType, msgspec.UNSET)
    return msgspec.json.Decoder(msgspec.defstruct("Only", [value], rename={"value": key}))


def _look_for(key: str, text: bytes, *, url: str) -> Generator[Sequence[Entry], None, Span]:
    found: Span | None = None
    names: set[str] = set()
    for spans in parts_of(text, within(text, b"{")):
        for begin, end in spans:
            named = NAMED.match(text, begin, end)
            name = _name(named[1]) if named else None
            if named and name == key:
                found = named.end(), end
            elif name is not None and len(names) < MOST_NAMES:
                names.add(name)
        yield ()
    if found is None:
        shown = ", ".join(map(repr, sorted(names))) or "nothing"
        raise SourceError(f"{url} answered an object without {key!r}; it has: {shown}")
    return found


def _name(quoted: bytes) -> str | None:
    try:
        return msgspec.json.decode(quoted, type=str)
    except UNREADABLE:
        return None


def read_entry(entry: Entry, decoder: msgspec.json.Decoder[Any]) -> Any:
    """One entry, as the type of *decoder*; as `msgspec.Raw` it is a copy that stands alone.

    Raises:
        RecordError: the entry cannot be read.
    """
    if decoder.type is msgspec.Raw and type(entry) is msgspec.Raw:
        return entry.copy()  # it was looked at when the list was
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
