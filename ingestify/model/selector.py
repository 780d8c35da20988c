"""Selectors: the slice of a provider to look at, and the patterns that choose among them."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

from ingestify.errors import ConfigError, RecordError
from ingestify.model.identity import NAME, Value, canonical_key

OPERATORS: dict[str, Callable[[Value, Value], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
COMPARISON = re.compile(r"\s*(==|!=|>=|<=|>|<)\s*(.+?)\s*\Z")
INTEGER = re.compile(r"[+-]?\d+\Z")


class Selector(Mapping[str, Value]):
    """A slice of a provider, such as one competition and season. The empty one is everything.

    Args:
        values: what the Source needs to find the slice; part of the Selector's identity.
        name: for people, such as "La Liga 2020/2021".
        token: what the provider says about the freshness of the whole slice. Opaque; when it
            differs from the one seen before, every File in the slice is asked for again.
    """

    __slots__ = ("_key", "_values", "name", "token")

    def __init__(
        self,
        values: Mapping[str, Value] | None = None,
        *,
        name: str | None = None,
        token: str | None = None,
    ) -> None:
        self._values = dict(values or {})
        self._key = canonical_key(self._values)
        self.name = name
        self.token = token

    @property
    def key(self) -> str:
        """The canonical form. Name and token are not part of it."""
        return self._key

    def with_values(self, extra: Mapping[str, Value]) -> Selector:
        """This Selector narrowed by *extra* values."""
        return Selector({**self._values, **extra}, name=self.name, token=self.token)

    def __getitem__(self, name: str) -> Value:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Selector) and other._key == self._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __str__(self) -> str:
        return "/".join(f"{name}={value}" for name, value in self._values.items()) or "*"

    def __repr__(self) -> str:
        return f"Selector({self._key}, name={self.name!r})"


@dataclass(frozen=True, slots=True)
class Comparison:
    """``>= 27``: one claim about a value. Values of another type never fulfil it."""

    sign: str
    operand: Value

    def admits(self, value: Value) -> bool:
        """Whether *value* fulfils the claim."""
        if type(value) is not type(self.operand):
            return self.sign == "!="
        return OPERATORS[self.sign](value, self.operand)

    def __str__(self) -> str:
        return f"{self.sign}{self.operand}"


@dataclass(frozen=True, slots=True)
class SelectorPattern:
    """What a plan asks for: per name exact values or comparisons; names left out admit all.

    Written in the configuration as a mapping. A value is exact (``11``), a list of exact values
    (``[42, 90]``), ``"*"``, or text with comparisons joined by commas (``">= 27, != 42"``).
    """

    exact: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    comparisons: Mapping[str, tuple[Comparison, ...]] = field(default_factory=dict)

    @classmethod
    def parse(cls, written: object) -> SelectorPattern:
        """The pattern that *written*, a mapping or ``"*"``, stands for.

        Raises:
            ConfigError: it is neither, or a name or value in it cannot select anything.
        """
        if written is None or written == "*":
            return cls()
        if not isinstance(written, Mapping):
            raise ConfigError(f'a selector is a mapping or "*", not {written!r}')
        exact: dict[str, tuple[Value, ...]] = {}
        comparisons: dict[str, tuple[Comparison, ...]] = {}
        for name, value in written.items():
            if not isinstance(name, str) or not NAME.match(name):
                raise ConfigError(f"not a name that a selector can have: {name!r}")
            if value == "*":
                continue
            if isinstance(value, str) and COMPARISON.match(value):
                comparisons[name] = tuple(_comparison(part) for part in value.split(","))
            else:
                exact[name] = _exact_values(name, value)
        return cls(exact, comparisons)

    def admits(self, selector: Selector) -> bool:
        """Whether *selector* has no value that this pattern excludes."""
        return all(
            name not in selector or _is_among(selector[name], values)
            for name, values in self.exact.items()
        ) and all(
            name not in selector or all(claim.admits(selector[name]) for claim in claims)
            for name, claims in self.comparisons.items()
        )

    def admits_as_text(self, selector: Selector) -> bool:
        """Whether *selector* would be admitted if 11 and "11" were the same."""
        return all(
            name not in selector or str(selector[name]) in {str(value) for value in values}
            for name, values in self.exact.items()
        )

    def expand(self, selector: Selector) -> Iterator[Selector]:
        """*selector* narrowed by the exact values it does not have itself, one for each choice."""
        extra = [name for name in self.exact if name not in selector]
        for choice in product(*(self.exact[name] for name in extra)):
            yield selector.with_values(dict(zip(extra, choice, strict=True)))

    def __str__(self) -> str:
        parts = [f"{k}={'|'.join(map(str, v))}" for k, v in self.exact.items()]
        parts += [f"{k}{','.join(map(str, v))}" for k, v in self.comparisons.items()]
        return "/".join(parts) or "*"


def no_such_name(name: str, known: Collection[str]) -> str:
    """What to say of *name*, which is none of the names that are *known*."""
    from difflib import get_close_matches  # which few ever need

    near = get_close_matches(name, known, n=1)
    hint = f'; did you mean "{near[0]}"?' if near else ""
    there = f"; there are: {', '.join(sorted(known))}" if known else ""
    return f'no Selector has a name "{name}"{hint or there}'


def _is_among(value: Value, values: Sequence[Value]) -> bool:
    return any(type(value) is type(other) and value == other for other in values)


def _comparison(part: str) -> Comparison:
    found = COMPARISON.match(part)
    if not found:
        raise ConfigError(f'a comparison is a sign and a value, such as ">= 27", not {part!r}')
    sign, operand = found.groups()
    if operand[0] == operand[-1] and operand[0] in "'\"" and len(operand) > 1:
        return Comparison(sign, operand[1:-1])
    return Comparison(sign, int(operand) if INTEGER.match(operand) else operand)


def _exact_values(name: str, value: object) -> tuple[Value, ...]:
    values = tuple(value) if isinstance(value, list | tuple) else (value,)
    if not values:
        raise ConfigError(f"{name}: an empty list selects nothing")
    try:
        for each in values:
            canonical_key({name: each})
    except RecordError as exc:
        raise ConfigError(f"selector {exc}") from None
    return values
