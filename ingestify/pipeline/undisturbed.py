"""Work that has to come to its end, whatever becomes of the task that waits for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from anyio import CancelScope, create_task_group, get_cancelled_exc_class

from ingestify.errors import RunError
from ingestify.strays import StrayIsError

T = TypeVar("T")


async def undisturbed(work: Callable[[], Awaitable[T]]) -> T:
    """What *work* returns. It is not cut short when its caller is cancelled.

    A shield alone holds off what anyio cancels; a native cancellation reaches the very task that
    it is aimed at, so the work is done in another one. The caller is cancelled afterwards, and
    what was returned is lost then: *work* itself must keep what somebody has to know.
    """
    results: list[T] = []
    errors: list[Exception] = []

    async def run() -> None:
        with CancelScope(shield=True):
            try:
                with StrayIsError("what must come to its end", RunError):
                    results.append(await work())
            except Exception as exc:
                errors.append(exc)

    with CancelScope(shield=True):
        async with create_task_group() as tg:
            tg.start_soon(run)
    for error in errors:
        raise error
    if not results:  # somebody has cancelled its own task, such as the end of the event loop
        raise get_cancelled_exc_class()
    return results[0]
