"""Which texts of a configuration may be secret: those that it does not show."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ingestify.config import Config

PLAIN_ADDRESS = re.compile(r"https?://[^@?]*\Z")  # hidden where it comes from the environment


def secrets_in(config: Config) -> frozenset[str]:
    """Every text among the options of the Sources that `Config.shown` does not show."""
    shown = config.shown.get("sources") or {}
    found: set[str] = set()
    for name, source in config.sources.items():
        written = shown.get(name) if isinstance(shown, Mapping) else None
        masked = written.get("configuration") if isinstance(written, Mapping) else None
        found.update(_hidden(source.configuration, masked))
    return frozenset(found)


def _hidden(value: Any, shown: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, part in value.items():
            masked = shown.get(str(name)) if isinstance(shown, Mapping) else shown
            yield from _hidden(part, masked)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for at, part in enumerate(value):
            listed = isinstance(shown, list) and at < len(shown)
            yield from _hidden(part, shown[at] if listed else shown)
    elif isinstance(value, str) and value != shown and not PLAIN_ADDRESS.match(value):
        yield value
