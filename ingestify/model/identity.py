"""Identities: what makes a Dataset, or a Selector, this one and no other."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import TypeAlias

import orjson

from ingestify.errors import RecordError

Value: TypeAlias = int | str

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}\Z")


def canonical_key(values: Mapping[str, Value]) -> str:
    """*values* as JSON with sorted names: equal for equal identities, different for all others.

    Types are kept (1 and "1" differ), integers are exact at any size, and text is compared as
    code points: nothing is normalised or case-folded.

    Raises:
        RecordError: a name or a value cannot be part of an identity.
    """
    return _as_json(values, orjson.OPT_SORT_KEYS)


def ordered_key(values: Mapping[str, Value]) -> str:
    """The same, with the names in the order of *values*: for people and for places, not to compare.

    Raises:
        RecordError: a name or a value cannot be part of an identity.
    """
    return _as_json(values, 0)


def _as_json(values: Mapping[str, Value], option: int) -> str:
    for name, value in values.items():
        kind = type(value)
        if kind is not int and kind is not str:
            raise RecordError(f"{name!r} must be an int or a str to identify something: {value!r}")
        if type(name) is not str or not _is_name(name):
            raise RecordError(f"not a name for a part of an identity: {name!r}")
    try:
        return orjson.dumps(values, option=option).decode()
    except TypeError:  # an integer beyond 64 bits, or text that is not Unicode
        return _as_any_json(dict(values), sort_names=bool(option))


@lru_cache(maxsize=256)
def _is_name(text: str) -> bool:
    return NAME.match(text) is not None


def _as_any_json(values: dict[str, Value], *, sort_names: bool) -> str:
    try:
        text = json.dumps(values, sort_keys=sort_names, separators=(",", ":"), ensure_ascii=False)
        text.encode()
    except UnicodeEncodeError:
        raise RecordError(f"an identity must be valid Unicode: {text!a}") from None
    except ValueError as exc:  # more digits than Python writes
        raise RecordError(f"an integer is too large to identify something: {exc}") from None
    return text


class Identifier(Mapping[str, Value]):
    """The names and values that identify one Dataset, such as ``match_id=3773386``.

    ``identifier.match_id`` and ``identifier["match_id"]`` are the same.
    """

    __slots__ = ("_key", "_values")

    def __init__(self, values: Mapping[str, Value]) -> None:
        if not values:
            raise RecordError("an identity needs at least one name and value")
        self._values = dict(values)
        self._key = canonical_key(self._values)

    @classmethod
    def from_key(cls, key: str) -> Identifier:
        """The Identifier that *key*, made by `canonical_key` or `ordered_key`, belongs to."""
        return cls(json.loads(key))

    @property
    def key(self) -> str:
        """The canonical form, which is also how the Catalog keeps it."""
        return self._key

    def __getitem__(self, name: str) -> Value:
        return self._values[name]

    def __getattr__(self, name: str) -> Value:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self._values[name]
        except KeyError:
            known = ", ".join(self._values)
            raise AttributeError(f"no {name!r} in this identity; it has: {known}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Identifier) and other._key == self._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __str__(self) -> str:
        return "/".join(f"{name}={value}" for name, value in self._values.items())

    def __repr__(self) -> str:
        return f"Identifier({self._key})"

    def __reduce__(self) -> tuple[type[Identifier], tuple[dict[str, Value]]]:
        return Identifier, (self._values,)
