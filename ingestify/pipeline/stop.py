"""How a Run, or one Source's part of it, is asked to take up no new work."""

from __future__ import annotations

from collections.abc import Callable

from ingestify.errors import IngestifyError


class Stop:
    """A request to stop, made once; what is in flight may end.

    Those who have to be told leave a callback, which is called at once if it is too late.
    """

    def __init__(self) -> None:
        self.requested = False
        self.cause: IngestifyError | None = None
        self._told: list[Callable[[], None]] = []

    def request(self, cause: IngestifyError | None = None) -> None:
        """Ask to stop because of *cause*. Only the first request counts."""
        if self.requested:
            return
        self.requested = True
        self.cause = cause
        for tell in self._told:
            tell()

    def on_request(self, tell: Callable[[], None]) -> None:
        """Call *tell* when a stop is requested."""
        self._told.append(tell)
        if self.requested:
            tell()
