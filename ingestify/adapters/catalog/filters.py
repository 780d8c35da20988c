"""Which Datasets a DatasetQuery admits: as values for a statement, and as a claim in Python."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from ingestify.errors import ConfigError, RecordError
from ingestify.model.catalog import DatasetQuery
from ingestify.model.dataset import Dataset
from ingestify.model.identity import NAME, Value, canonical_key


def parameters(query: DatasetQuery) -> dict[str, Any]:
    """What `find` and `count` are given for *query*, except for the range of row ids.

    Raises:
        ConfigError: a name or a value in it cannot be asked for.
    """
    identifier = {name: list(map(_twice, texts)) for name, texts in parts(query).items()}
    lead = max(identifier, key=lambda name: len(identifier[name]), default=None)
    lead_values = [] if lead is None else identifier.pop(lead)
    metadata = {
        name: [f"text {v}" if isinstance(v, str) else _twice(_json_of(name, v)) for v in values]
        for name, values in _alternatives(query.metadata)
    }
    return {
        "bucket": query.bucket,
        "stage": query.stage,
        "provider": query.provider,
        "dataset_type": query.dataset_type,
        "states": _json(query.states) if query.states else None,
        "lead": lead,
        "lead_values": _json(lead_values),
        "identifier": _json(identifier) if identifier else None,
        "metadata": _json(metadata) if metadata else None,
    }


def parts(query: DatasetQuery) -> dict[str, list[str]]:
    """By name, the JSON texts of which an identity has to have one.

    Raises:
        ConfigError: a name or a value cannot be asked for.
    """
    return {
        name: [text for value in values for text in _texts(name, value, query.text_values)]
        for name, values in _alternatives(query.identifier)
    }


def admits(query: DatasetQuery, dataset: Dataset) -> bool:
    """Whether *query* finds *dataset*.

    Raises:
        ConfigError: a name or a value in the query cannot be asked for.
    """
    return (
        _is_wanted(query.bucket, dataset.bucket)
        and _is_wanted(query.stage, dataset.stage)
        and _is_wanted(query.provider, dataset.provider)
        and _is_wanted(query.dataset_type, dataset.dataset_type)
        and _is_wanted(query.dataset_id, dataset.dataset_id)
        and (not query.states or dataset.state in query.states)
        and _have(dataset.identifier, query.identifier, as_text=query.text_values)
        and _have(dataset.metadata, query.metadata, as_text=False)
    )


def _is_wanted(wanted: str | None, value: str) -> bool:
    return wanted is None or wanted == value


def _have(
    values: Mapping[str, Any], wanted: Mapping[str, Value | Sequence[Value]], *, as_text: bool
) -> bool:
    return all(
        any(_equal(values.get(name), choice, as_text=as_text) for choice in choices)
        for name, choices in _alternatives(wanted)
    )


def _equal(value: Any, wanted: Value, *, as_text: bool) -> bool:
    if type(value) is type(wanted):
        return bool(value == wanted)
    return as_text and value is not None and str(value) == str(wanted)


def _alternatives(
    wanted: Mapping[str, Value | Sequence[Value]],
) -> Iterator[tuple[str, Sequence[Value]]]:
    for name, given in wanted.items():
        values = (given,) if isinstance(given, int | str) else tuple(given)
        for value in values:
            _json_of(name, value)
        if not NAME.match(name):
            raise ConfigError(f"not a name that can be asked for: {name!r}")
        yield name, values


def _texts(name: str, value: Value, as_text: bool) -> Iterable[str]:
    """The JSON texts of the stored values that *value* finds."""
    yield _json_of(name, value)
    if as_text and isinstance(value, int):
        yield _json_of(name, str(value))
    elif as_text and isinstance(value, str) and _is_integer(value):
        yield value


def _is_integer(text: str) -> bool:
    """Whether *text* is how an integer is written as JSON."""
    digits = text.removeprefix("-")
    return digits.isascii() and digits.isdigit() and (digits[0] != "0" or text == "0")


def _json_of(name: str, value: Value) -> str:
    try:
        return canonical_key({name: value}).partition(":")[2][:-1]
    except RecordError as exc:
        raise ConfigError(f"cannot be asked for: {exc}") from None


def _twice(text: str) -> str:
    """How json_extract with two equal paths writes a value that is *text* as JSON."""
    return f"[{text},{text}]"


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
