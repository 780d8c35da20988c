"""How a Run, or one Source's part of it, is asked to take up no new work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from anyio import CancelScope

from ingestify.errors import IngestifyError


class Stop:
    """A request to stop, made once; what is in flight may end.

    Those who have to be told leave a callback, which is called at once if it is too late.
    """

    def __init__(self) -> None:
        self.requested = False
        self.cause: IngestifyError | None = None
        self._told: dict[Callable[[], None], None] = {}  # in the order of their coming

    def request(self, cause: IngestifyError | None = None) -> None:
        """Ask to stop because of *cause*. Only the first request counts."""
        if self.requested:
            return
        self.requested = True
        self.cause = cause
        for tell in list(self._told):
            tell()

    def on_request(self, tell: Callable[[], None]) -> None:
        """Call *tell* when a stop is requested."""
        self._told[tell] = None
        if self.requested:
            tell()

    def forget(self, tell: Callable[[], None]) -> None:
        """Call *tell* no more."""
        self._told.pop(tell, None)

    @contextmanager
    def cancels(self) -> Iterator[CancelScope]:
        """Cancel what is done inside once a stop is requested; the scope tells whether it was."""
        with CancelScope() as scope:
            self.on_request(scope.cancel)
            try:
                yield scope
            finally:
                self.forget(scope.cancel)
