"""Session: what one command knows of how it was called, and what must not be shown."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ingestify.config import Config
    from ingestify.redaction import Redactor

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # all but tab and newline


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
        from ingestify.config.secrets import secrets_in
        from ingestify.redaction import Redactor

        config = load_config(self.config_file)
        self._redactor = Redactor(secrets_in(config))
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
