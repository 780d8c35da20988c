"""Log lines on stderr. Logging is configured here, and nowhere in the library."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ingestify.cli.session import Session

CHATTY = ("aiosqlite", "asyncio")  # they log every statement and every callback


def configure(session: Session, level: int) -> None:
    """Write what is logged at *level* and above to stderr; everything, when debugging."""
    handler = _Stderr(session)
    formatter = logging.Formatter(
        "%(asctime)s [%(levelname)s] %(name)s: %(message)s", datefmt="%Y-%m-%d %H:%M:%S"
    )
    formatter.converter = time.localtime
    handler.setFormatter(formatter)
    root = logging.getLogger()
    for present in root.handlers[:]:
        if isinstance(present, _Stderr):  # of a command before, in the same process
            root.removeHandler(present)
    root.addHandler(handler)
    root.setLevel(logging.DEBUG if session.debug else level)
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.INFO)


class _Stderr(logging.Handler):
    """Writes to what stderr is at that moment: a live display puts itself in its place."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError, ValueError):  # nobody reads any more
            sys.stderr.write(self._session.shown(self.format(record)) + "\n")
            sys.stderr.flush()
