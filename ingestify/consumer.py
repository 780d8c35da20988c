"""EventLogConsumer: reads the event log of a lake, in a process of its own."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self

from anyio import create_task_group

from ingestify.clock import SystemClock
from ingestify.errors import ConfigError, IngestifyError
from ingestify.model.event import DatasetEvent
from ingestify.opening import check_catalog, open_catalog
from ingestify.pipeline.event_reader import EventReader, Subscription
from ingestify.pipeline.stop import Stop
from ingestify.ports import Catalog, EventSink
from ingestify.redaction import Redactor
from ingestify.subscriber import BatchHandler, Call, Handler

if TYPE_CHECKING:
    from ingestify.config import Config

POLL_SECONDS = 5.0


class StopEvent(Protocol):
    """An `asyncio.Event`, or an `anyio.Event`."""

    async def wait(self) -> Any:
        """Return once it is set."""
        ...


class EventLogConsumer:
    """Hands every event of a lake to a callable, while others write and in whichever process.

    At least once, and in the order of commits. The place in the log is kept in the Catalog under
    *reader_name*; it is moved after the callable has returned, at the latest after a second or
    100 events, so that no more than these come again after a crash. Of two consumers with one
    name at the same time, one ends with a `ReaderTakenError`; each application needs its own.
    The Catalog must be there already: one that is missing is a `ConfigError`.

    As an async context manager it keeps one Catalog open; else every call opens it.

    Args:
        start: where a new reader begins: at the "beginning" of the log, or "now".
    """

    def __init__(
        self, config: Config, *, reader_name: str, start: Literal["beginning", "now"] = "beginning"
    ) -> None:
        if config.main.metadata_url.path is None:
            raise ConfigError("this lake is in memory: no other process can read its events")
        if not reader_name:
            raise ConfigError("a reader of the event log needs a name")
        if start not in ("beginning", "now"):
            raise ConfigError(f'start must be "beginning" or "now": {start!r}')
        self._config = config
        self._name = reader_name
        self._starts_now = start == "now"
        self._stack = AsyncExitStack()
        self._catalog: Catalog | None = None

    @classmethod
    def from_config(
        cls,
        config: Config | Path | str,
        *,
        reader_name: str,
        start: Literal["beginning", "now"] = "beginning",
    ) -> Self:
        """The consumer for the lake of a configuration, or of the file that holds it.

        Raises:
            ConfigError: the file cannot be read, or something in it is wrong.
        """
        if isinstance(config, Path | str):
            from ingestify.config import load_config

            config = load_config(config)
        return cls(config, reader_name=reader_name, start=start)

    async def __aenter__(self) -> Self:
        self._catalog = await self._stack.enter_async_context(self._open())
        return self

    def _open(self) -> AbstractAsyncContextManager[Catalog]:
        check_catalog(self._config)
        return open_catalog(self._config)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._catalog = None
        await self._stack.aclose()

    async def run(
        self,
        on_event: Handler,
        *,
        poll_interval: timedelta | float = POLL_SECONDS,
        once: bool = False,
        stop: StopEvent | None = None,
        attempts: int | None = None,
    ) -> None:
        """Call *on_event* with each event, and go on until cancelled.

        A plain callable is called in a worker thread. One that raises is called again with the
        same event after a growing wait (up to a minute), as often as *attempts* says; by default
        until it succeeds. Each time is logged as a warning.

        Args:
            poll_interval: how often the log is looked at, as a timedelta or in seconds.
            once: return when the log is read to its end.
            stop: return after the present event when this is set.

        Raises:
            DeliveryError: an event failed *attempts* times. It comes again the next time.
            ReaderTakenError: another process reads under this name.
            CatalogError: the log cannot be read.
        """
        sink = _OneByOne(on_event)
        await self._consume(sink, 1, poll_interval, once=once, stop=stop, attempts=attempts)

    async def run_batched(
        self,
        on_events: BatchHandler,
        *,
        batch_size: int = 100,
        poll_interval: timedelta | float = POLL_SECONDS,
        once: bool = False,
        stop: StopEvent | None = None,
        attempts: int | None = None,
    ) -> None:
        """Call *on_events* with a list of at most *batch_size* events that wait; else as `run`."""
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1: {batch_size}")
        sink = _AllAtOnce(on_events)
        await self._consume(
            sink, batch_size, poll_interval, once=once, stop=stop, attempts=attempts
        )

    async def _consume(
        self,
        sink: EventSink,
        batch: int,
        poll_interval: timedelta | float,
        *,
        once: bool,
        stop: StopEvent | None,
        attempts: int | None,
    ) -> None:
        from ingestify.config.secrets import secrets_in

        seconds = _seconds(poll_interval)
        error: IngestifyError | None = None
        async with AsyncExitStack() as stack:
            catalog = self._catalog
            if catalog is None:
                catalog = await stack.enter_async_context(self._open())
            reader = EventReader(
                catalog=catalog,
                clock=SystemClock(),
                random=random.Random(),
                subscription=Subscription(name=self._name, sink=sink, starts_now=self._starts_now),
                redact=Redactor(secrets_in(self._config)).redact,
                attempts=attempts,
                batch=batch,
            )
            async with create_task_group() as tg:
                if stop is not None:
                    tg.start_soon(_pass_on, stop, reader.stop)
                try:
                    await _follow(reader, None if once else seconds)
                except IngestifyError as exc:
                    error = exc  # raised outside of the group, which would wrap it
                tg.cancel_scope.cancel()
        if error is not None:
            raise error


async def _follow(reader: EventReader, seconds: float | None) -> None:
    await reader.open()
    while True:
        await reader.catch_up()
        if seconds is None or reader.stop.requested:
            return
        with reader.stop.cancels():
            await reader.clock.sleep(seconds)


async def _pass_on(event: StopEvent, stop: Stop) -> None:
    await event.wait()
    stop.request()


def _seconds(interval: timedelta | float) -> float:
    seconds = interval.total_seconds() if isinstance(interval, timedelta) else float(interval)
    if not seconds > 0:
        raise ValueError(f"poll_interval must be more than 0: {interval}")
    return seconds


class _OneByOne:
    def __init__(self, on_event: Handler) -> None:
        self._call = Call(on_event)

    async def publish(self, events: Sequence[DatasetEvent]) -> None:
        for event in events:
            await self._call(event)


class _AllAtOnce:
    def __init__(self, on_events: BatchHandler) -> None:
        self._call = Call(on_events)

    async def publish(self, events: Sequence[DatasetEvent]) -> None:
        await self._call(events)
