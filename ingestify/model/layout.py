"""Where a File's bytes lie: paths that people can read and no two Files share.

The Catalog keeps each path, so nothing ever recomputes one. Still a path must never lead out of
the lake, must fit on every file system, and must stay distinct where case or Unicode forms are
folded. Text that is safe is shown as it is; all other text shows what can be shown, then "~" and
a hash of its exact form.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol
from urllib.parse import quote

from ingestify.errors import ConfigError, StoreError
from ingestify.model.identity import Value

# What a part may look like to be shown verbatim. It can then be told apart from its neighbours in
# a file name, where "__" stands between parts and ".r" with a digit follows the last of them.
PLAIN = re.compile(r"(?![0-9]+\Z)[a-z0-9_][a-z0-9_.-]*\Z")  # text that is no integer
AMBIGUOUS = re.compile(r"__|[_.]\Z|\.r[0-9]")
RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|\Z)")  # device names on Windows
REVISION = re.compile(r"(?=\.r[0-9])")
LONGEST_PART = 60
LONGEST_FORMAT = 24
LONGEST_STEM = 160  # of a file name, before revision, hash and format
OWN_FOLDER = ".ingestify"  # at the root of a lake: staging and locks, never Files

STAGE = re.compile(r"[^/]+/stage=[^/]+/")  # how every path that file_path makes begins

SUFFIXES = {"gzip": ".gz", "": ""}


def is_place_of_files(path: str) -> bool:
    """Whether Files are put where *path* lies, so that what lies there is one, or debris."""
    return STAGE.match(path) is not None


class Transformation(Protocol):
    """Puts Datasets into folders by one value of their identity, where one folder has too many."""

    def apply(self, name: str, value: Value) -> str:
        """The folder for *value* of the part called *name*; empty where there is none."""
        ...


@dataclass(frozen=True, slots=True)
class IdentityTransformation:
    """No extra folder."""

    def apply(self, name: str, value: Value) -> str:
        return ""


@dataclass(frozen=True, slots=True)
class BucketSizeTransformation:
    """Neighbouring integers together, *size* of them to a folder. Text gets no folder."""

    size: int

    def __post_init__(self) -> None:
        _at_least_one("bucket_size", self.size)

    def apply(self, name: str, value: Value) -> str:
        if isinstance(value, str):
            return ""
        first = value // self.size * self.size
        return f"{part(name)}_bucket={part(f'{first}-{first + self.size - 1}')}"


@dataclass(frozen=True, slots=True)
class BucketCountTransformation:
    """Values spread evenly over *count* folders; the same value always in the same one."""

    count: int

    def __post_init__(self) -> None:
        _at_least_one("bucket_count", self.count)

    def apply(self, name: str, value: Value) -> str:
        number = int(_digest(value), 16) if isinstance(value, str) else value
        return f"{part(name)}_bucket={number % self.count}"


@dataclass(frozen=True, slots=True)
class PrefixTransformation:
    """Values that begin with the same *length* characters together."""

    length: int

    def __post_init__(self) -> None:
        _at_least_one("prefix length", self.length)

    def apply(self, name: str, value: Value) -> str:
        return f"{part(name)}_prefix={part(str(value)[: self.length])}"


def file_path(
    *,
    bucket: str,
    stage: str,
    provider: str,
    dataset_type: str,
    identifier: Mapping[str, Value],
    data_feed_key: str,
    data_spec_version: str,
    revision: int,
    stored_sha256: str,
    format: str,  # noqa: A002  # the field's own term
    codec: str,
    transformations: Mapping[str, Transformation] = {},
) -> str:
    """The path that a new File asks for: ASCII, relative, with "/" between its parts.

    Files of different Datasets, feeds or versions never share a path, also where case is folded.
    There is no folder for a single Dataset: the last part of the identity stands in the file's
    name, since a folder costs as much as a file.
    """
    folders = [_top(bucket, stage, provider, dataset_type)]
    for name, value in identifier.items():
        if (chosen := transformations.get(name)) and (extra := chosen.apply(name, value)):
            folders.append(extra)
        folders.append(f"{part(name)}={part(value)}")
    stem = _stem(folders.pop(), name, value, data_feed_key, data_spec_version)
    folders.append(f"{stem}.r{revision}.{stored_sha256[:8]}.{_ending(format, codec)}")
    return "/".join(folders)


def part(value: Value, longest: int = LONGEST_PART) -> str:
    """*value* as a piece of a path: verbatim where that is safe, else shown in part and hashed.

    Different values, 1 and "1" or "a" and "A" among them, never give the same piece.
    """
    if isinstance(value, str):
        return _text_part(value, longest)
    shown = str(value)
    return shown if len(shown) <= longest else _hashed(shown, value, longest)


@lru_cache(maxsize=1024)
def _text_part(value: str, longest: int) -> str:
    """`part` of text, of which there is little beside identities."""
    plain = len(value) <= longest and bool(PLAIN.match(value))
    if plain and not AMBIGUOUS.search(value) and not RESERVED.match(value):
        return value
    return _hashed(_shown(value[:longest]), value, longest)


def _hashed(shown: str, value: Value, longest: int) -> str:
    return f"{_cut(shown, longest)}~{_digest(value)[:16]}"


@lru_cache(maxsize=256)
def _top(bucket: str, stage: str, provider: str, dataset_type: str) -> str:
    """The folders that Datasets of one kind have in common."""
    return (
        f"{part(bucket)}/stage={part(stage)}"
        f"/provider={part(provider)}/dataset_type={part(dataset_type)}"
    )


@lru_cache(maxsize=256)
def _feed(feed: str, version: str) -> str:
    return f"__{part(feed)}__{part(version)}"


@lru_cache(maxsize=256)
def _ending(format: str, codec: str) -> str:  # noqa: A002
    return part(format.lower(), LONGEST_FORMAT) + SUFFIXES[codec]


def path_parts(path: str) -> list[str]:
    """The parts of *path*, a path inside a lake.

    Raises:
        StoreError: it is not one: absolute, empty, not in its plainest form, or not for Files.
    """
    parts = path.split("/")
    if any(each in ("", ".", "..") for each in parts):
        raise StoreError(f"not a path inside the lake: {path!r}")
    if "\\" in path or not path.isprintable():
        raise StoreError(f"not a path inside the lake, a character is not allowed: {path!r}")
    if parts[0].lower() == OWN_FOLDER:
        raise StoreError(f"{OWN_FOLDER} is not for Files: {path!r}")
    return parts


def with_suffix(path: str, number: int) -> str:
    """*path* with ".number" before the first dot of its file name; as it is for 0."""
    if not number:
        return path
    folder, slash, name = path.rpartition("/")
    stem, dot, rest = name.partition(".")
    return f"{folder}{slash}{stem}.{number}{dot}{rest}"


def without_suffix(path: str, fresh: str) -> str:
    """*path* without the numbers that `with_suffix` has put into it.

    *fresh* is a path made by `file_path` for the same File, of whichever Revision: a number may
    be a part of the name as well.
    """
    folder, slash, name = path.rpartition("/")
    stem = REVISION.split(fresh.rpartition("/")[2], maxsplit=1)[0]
    first, dot, rest = stem.partition(".")
    match = re.match(rf"{re.escape(first)}(?:\.[0-9]+)*{re.escape(dot + rest)}(?=\.r[0-9])", name)
    return f"{folder}{slash}{stem}{name[match.end() :]}" if match else path


def _stem(last: str, name: str, value: Value, feed: str, version: str) -> str:
    stem = last + _feed(feed, version)
    if len(stem) <= LONGEST_STEM:
        return stem
    exact = "/".join(_digest(each) for each in (name, value, feed, version))
    return f"{_cut(stem, LONGEST_STEM - 40)}~~{hashlib.sha256(exact.encode()).hexdigest()[:32]}"


def _shown(text: str) -> str:
    encoded = quote(text, safe="", errors="surrogatepass").replace("~", "%7E")
    return re.sub("_(?=_)", "%5F", encoded.replace(".", "%2E"))


def _cut(shown: str, longest: int) -> str:
    """The first *longest* characters, without a percent sign that has lost its digits."""
    return re.sub(r"%[0-9A-F]?\Z", "", shown[:longest])


def _digest(value: Value) -> str:
    exact = f"{type(value).__name__}:{value}"
    return hashlib.sha256(exact.encode("utf-8", "surrogatepass")).hexdigest()


def _at_least_one(what: str, number: int) -> None:
    if number < 1:
        raise ConfigError(f"{what} must be at least 1, not {number}")
