"""Addresses: how people say on the command line which Datasets they mean."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec

from ingestify.cli.options import by_name
from ingestify.errors import ConfigError
from ingestify.model.catalog import DatasetQuery
from ingestify.model.dataset import DatasetState
from ingestify.model.identity import Value

if TYPE_CHECKING:
    from ingestify.config import Config

PLACES = ("bucket", "stage", "provider", "dataset_type", "state")  # no parts of an identity
STAGE = "raw"


def parse_address(written: Sequence[str], config: Config) -> DatasetQuery:
    """What *written* finds: dataset ids, ``NAME=VALUE``, or several of those joined by slashes.

    Values take the type that the configuration declares for them; others find stored values of
    either type.

    Raises:
        ConfigError: it cannot be understood, or says two things at once.
    """
    parts = [part for each in written for part in _parts(each)]
    ids = [part for part in parts if "=" not in part]
    if len(ids) > 1:
        raise ConfigError(f"one dataset id at a time: {' '.join(ids)}")
    named = by_name([part for part in parts if "=" in part])
    places = {name: _only(name, named.pop(name)) for name in PLACES if name in named}
    state = places.pop("state", None)
    query = DatasetQuery(
        bucket=places.get("bucket", config.main.default_bucket),
        stage=places.get("stage", STAGE),
        provider=places.get("provider"),
        dataset_type=places.get("dataset_type"),
        states=[_state(state)] if state else [],
        dataset_id=ids[0] if ids else None,
    )
    types = {name: _declared_type(config, query, name) for name in named}
    return msgspec.structs.replace(
        query,
        identifier={
            name: [_typed(name, value, types[name]) for value in values]
            for name, values in named.items()
        },
        text_values=None in types.values(),
    )


def _parts(written: str) -> Iterator[str]:
    """``a=1/b=2`` is two parts; where a slash belongs to a value, it is one."""
    parts = written.strip("/").split("/")
    if all("=" in part for part in parts):
        yield from parts
    else:
        yield written


def _only(name: str, values: Sequence[str]) -> str:
    if len(values) > 1:
        raise ConfigError(f"one {name} at a time: {', '.join(values)}")
    return values[0]


def _state(text: str) -> DatasetState:
    try:
        return DatasetState(text)
    except ValueError:
        known = ", ".join(DatasetState)
        raise ConfigError(f"there is no state {text!r}; there are: {known}") from None


def _declared_type(config: Config, query: DatasetQuery, name: str) -> str | None:
    """The one type that the configuration declares for *name*, wherever *query* looks."""
    types = {
        each.identifier_keys[name].key_type
        for each in config.dataset_types
        if name in each.identifier_keys
        and query.provider in (None, each.provider)
        and query.dataset_type in (None, each.dataset_type)
    }
    return types.pop() if len(types) == 1 else None


def _typed(name: str, text: str, declared: str | None) -> Value:
    if declared != "int":
        return text
    try:
        return int(text)
    except ValueError:
        raise ConfigError(f"{name} is an integer, not {text!r}") from None
