"""Subscribers: classes whose methods are called with what was committed."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from typing import Any, TypeAlias

from ingestify.model.event import DatasetEvent
from ingestify.store import DatasetStore

Handler: TypeAlias = Callable[[DatasetEvent], Awaitable[object] | object]
BatchHandler: TypeAlias = Callable[[Sequence[DatasetEvent]], Awaitable[object] | object]


class EventSubscriber:
    """What a configuration names under `event_subscribers` may be derived from this.

    Handlers are called one at a time, in the order of commits, at least once for every event,
    also for those of earlier Runs. One that raises is called again, first after growing waits,
    then by the next Run; no later event comes before. `event.dataset` is the Dataset as it is
    now, or None if it is gone.

    A handler may be a coroutine function, which must not block, or a plain one, which is called
    in a thread (not always the same) and cannot await what `store` returns. At the end of
    a Run handlers are waited for, each call for `timeout` at most (60 s, unless the configuration
    says otherwise). One that is cut off, then or after a stop, is called again by the next Run; a
    plain one may still be at work then.

    Any class with one of these methods will do. A constructor whose first parameter is called
    `store` is given the lake's `DatasetStore`; the configuration's options are its keywords.
    """

    def __init__(self, store: DatasetStore) -> None:
        self.store = store

    async def on_dataset_created(self, event: DatasetEvent) -> None:
        """The lake has a Dataset that it did not have."""

    async def on_revision_added(self, event: DatasetEvent) -> None:
        """The Files `event.changed_feeds` are new or changed, as Revision `event.revision`."""

    async def on_metadata_updated(self, event: DatasetEvent) -> None:
        """Name, state or metadata have changed."""

    async def on_revision_invalidated(self, event: DatasetEvent) -> None:
        """The newest Revision was marked as wrong."""

    async def on_dataset_deleted(self, event: DatasetEvent) -> None:
        """The Dataset was removed from the lake."""


HANDLERS = tuple(name for name in vars(EventSubscriber) if name.startswith("on_"))


def handlers_of(subscriber: Any) -> dict[str, Handler]:
    """The handlers that *subscriber* has by itself, by name."""
    found = {name: getattr(subscriber, name, None) for name in HANDLERS}
    inherited = {getattr(EventSubscriber, name) for name in HANDLERS}
    return {
        name: handler
        for name, handler in found.items()
        if callable(handler) and getattr(handler, "__func__", None) not in inherited
    }


class SubscriberSink:
    """Calls the handlers of a subscriber; a `ports.EventSink`."""

    def __init__(self, subscriber: Any) -> None:
        self._calls = {name: Call(handler) for name, handler in handlers_of(subscriber).items()}

    async def publish(self, events: Sequence[DatasetEvent]) -> None:
        for event in events:
            call = self._calls.get(f"on_{event.type}")
            if call is not None:
                await call(event)


class Call:
    """Calls what users wrote: coroutine functions here, plain ones in a thread."""

    def __init__(self, function: Callable[[Any], Awaitable[object] | object]) -> None:
        self._function = function
        self._is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
            getattr(function, "__call__", None)  # noqa: B004
        )

    async def __call__(self, argument: Any) -> None:
        if self._is_async:
            result = self._function(argument)
        else:
            result = await _in_thread(partial(self._function, argument))
        if inspect.isawaitable(result):
            await result


async def _in_thread(function: Callable[[], object]) -> object:
    """What *function* returns. Whoever is cancelled while waiting leaves it to itself.

    The thread is a daemon, which those of pools are not: one that hangs must not keep a process
    from ending after its Run has ended.
    """
    loop, done, context = asyncio.get_running_loop(), asyncio.Event(), copy_context()
    results: list[object] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(context.run(function))
        except BaseException as exc:
            errors.append(exc)  # raised again where it is waited for
        with suppress(RuntimeError):  # nobody waits any more: the event loop is closed
            loop.call_soon_threadsafe(done.set)

    threading.Thread(target=work, name="ingestify handler", daemon=True).start()
    await done.wait()
    for error in errors:
        raise error
    return results[0]
