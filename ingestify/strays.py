"""Strays: cancellations that nobody has asked for, out of code that others wrote.

A Source that cancels a task of its own and then awaits it gets its `CancelledError`. `except
Exception` does not see that one, and a task group drops it as if the task had come to its end:
what is left undone would count as done.
"""

from __future__ import annotations

import asyncio
import math
from types import TracebackType

from anyio import current_effective_deadline

from ingestify.errors import IngestifyError, SourceError


class StrayIsError:
    """A block that awaits a stranger's code, called *what* in the error.

    A cancellation passes if it was asked for: by a scope around the block or by `Task.cancel`.
    One that was not is raised as an error of *kind*. Keeps nothing: one instance does for all.
    """

    __slots__ = ("_kind", "_what")

    def __init__(self, what: str, kind: type[IngestifyError] = SourceError) -> None:
        self._what = what
        self._kind = kind

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None or not issubclass(kind, asyncio.CancelledError) or is_cancelled():
            return
        raise self._kind(
            f"{self._what} was cut short by a cancellation that did not come from ingestify; it"
            " must catch the CancelledError of a task that it has cancelled itself"
        ) from exc


def is_cancelled() -> bool:
    """Whether somebody has asked for the cancellation of the present task."""
    task = asyncio.current_task()
    return bool(task and task.cancelling()) or current_effective_deadline() == -math.inf
