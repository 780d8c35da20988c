"""Session: what one command knows of how it was called, and what must not be shown."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ingestify.config import Config
    from ingestify.redaction import Redactor

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # all but tab and newline
PLAIN_ADDRESS = re.compile(r"https?://[^@?]*\Z")  # hidden where it comes from the environment


@dataclass(kw_only=True)
class Session:
    """One invocation of the command line."""

    debug: bool = False
    quiet: bool = False
    config_file: Path = Path("config.yaml")
    bucket: str | None = None
    _redactor: Redactor | None = field(default=None, repr=False)

    @property
    def is_live(self) -> bool:
        """Whether somebody watches stderr who wants to see progress."""
        return not self.quiet and sys.stderr.isatty()

    def load_config(self) -> Config:
        """The configuration that this command is about. Its secrets are shown no more.

        Raises:
            ConfigError: it cannot be read, or something in it is wrong.
        """
        from ingestify.config import load_config
        from ingestify.redaction import Redactor

        config = load_config(self.config_file)
        self._redactor = Redactor(_secrets(config))
        return config.with_bucket(self.bucket) if self.bucket else config

    def shown(self, text: str) -> str:
        """*text* as a terminal may be given it: no secrets, and nothing that moves its cursor."""
        if self._redactor is not None:
            text = self._redactor.redact(text)
        return printable(text)


def printable(text: str) -> str:
    """*text* with control characters, which could make a terminal do things, spelt out."""
    return CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def in_memory(config: Config) -> Config:
    """*config* with a lake that is empty and leaves nothing behind."""
    main = config.main
    urls = {
        "metadata_url": type(main.metadata_url).parse("memory://"),
        "file_url": type(main.file_url).parse("memory://"),
    }
    return replace(config, main=main.model_copy(update=urls))


def _secrets(config: Config) -> Iterator[str]:
    """Every text that `Config.shown` does not show."""
    shown = config.shown.get("sources") or {}
    for name, source in config.sources.items():
        written = shown.get(name) if isinstance(shown, Mapping) else None
        masked = written.get("configuration") if isinstance(written, Mapping) else None
        yield from _hidden(source.configuration, masked)


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
