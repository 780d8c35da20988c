"""Which texts of a configuration may be secret: those that it does not show."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

from ingestify.config import ADDRESS, HIDDEN, SECRET_NAME

if TYPE_CHECKING:
    from ingestify.config import Config

PLAIN_ADDRESS = re.compile(r"https?://[^@?]*\Z")  # hidden where it comes from the environment


def secrets_in(config: Config) -> frozenset[str]:
    """Every option of Sources and subscribers that `Config.shown` hides, as text."""
    shown = config.shown.get("sources") or {}
    found: set[str] = set()
    for name, source in config.sources.items():
        written = shown.get(name) if isinstance(shown, Mapping) else None
        masked = written.get("configuration") if isinstance(written, Mapping) else None
        found.update(_hidden(source.configuration, masked))
    subscribers = config.shown.get("event_subscribers")
    for at, subscriber in enumerate(config.event_subscribers):
        written = subscribers[at] if isinstance(subscribers, list) else None
        masked = written.get("configuration") if isinstance(written, Mapping) else None
        found.update(_hidden(subscriber.configuration, masked))
    return frozenset(found)


def credentials_in(config: Config) -> frozenset[str]:
    """Every option of the Sources whose name says that it is a credential, as text."""
    return frozenset(
        text
        for source in config.sources.values()
        for text in _named_so(source.configuration, is_named_so=False)
    )


def _named_so(value: Any, *, is_named_so: bool) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, part in value.items():
            says_so = is_named_so or bool(SECRET_NAME.search(str(name)))
            yield from _named_so(part, is_named_so=says_so)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for part in value:
            yield from _named_so(part, is_named_so=is_named_so)
    elif is_named_so and (text := _text_of(value)) and not PLAIN_ADDRESS.match(text):
        yield text


def _hidden(value: Any, shown: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, part in value.items():
            masked = shown.get(str(name)) if isinstance(shown, Mapping) else shown
            yield from _hidden(part, masked)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for at, part in enumerate(value):
            listed = isinstance(shown, list) and at < len(shown)
            yield from _hidden(part, shown[at] if listed else shown)
    elif (text := _text_of(value)) and text != str(shown) and not PLAIN_ADDRESS.match(text):
        yield text
        if shown != HIDDEN and (address := ADDRESS.match(text)):
            yield from filter(None, re.split(r"[:?#&=]", f"{address[2] or ''}{address[4] or ''}"))


def _text_of(value: Any) -> str | None:
    """What a Source sends where it is given *value*: a password may be written without quotes."""
    is_written = isinstance(value, str | int | float | date) and not isinstance(value, bool)
    return str(value) if is_written else None
