"""One reader's place in the event log, and how events are handed to it from there."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from random import Random

from anyio import CancelScope, move_on_after

from ingestify.errors import DeliveryError, ReaderTakenError, text_of
from ingestify.model.event import DatasetEvent, Event
from ingestify.pipeline.stop import Stop
from ingestify.ports import Catalog, Clock, EventSink
from ingestify.retry import full_jitter
from ingestify.strays import StrayIsError

log = logging.getLogger("ingestify.events")

# Moving a cursor is a transaction that is synced to the disk, so it is not moved for each event.
MOST_REPEATED = 100  # handled events that a crash makes come again, at most…
REPEATED_SECONDS = 1.0  # …of those that were handled since that long


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """Somebody who wants events, and the name under which its place in the log is kept."""

    name: str
    sink: EventSink
    starts_now: bool = False  # a new reader gets no events from before; else it gets them all
    timeout: timedelta | None = None  # for handing over a batch; None: as long as it takes


@dataclass(kw_only=True)
class EventReader:
    """Hands events on in the order of the log, and moves the reader's cursor behind them.

    Every event is handed on at least once. What was handled before a crash and after the last
    move of the cursor comes again.

    Args:
        attempts: how often an event is tried; None: until it succeeds.
        batch: how many events are handed on together, at most.
        stop: ends `catch_up` between two batches, and every wait.
    """

    catalog: Catalog
    clock: Clock
    random: Random
    subscription: Subscription
    redact: Callable[[str], str]
    attempts: int | None = None
    batch: int = 1
    stop: Stop = field(default_factory=Stop)
    handled: int = 0  # the last event that the sink has taken
    _cursor: int | None = None  # where the Catalog has it
    _moved: float = 0.0

    async def open(self) -> None:
        """Find the reader's place; for a new one, write it down.

        Raises:
            ReaderTakenError: somebody else did so at the same time.
        """
        cursor = await self.catalog.reader_cursor(self.subscription.name)
        if cursor is None:
            self.handled = await self.catalog.last_event() if self.subscription.starts_now else 0
            self._cursor = None
            await self._move()
        else:
            self.handled = self._cursor = cursor
        self._moved = self.clock.monotonic()

    async def catch_up(self) -> None:
        """Hand on every event up to the end of the log, unless asked to stop.

        Raises:
            DeliveryError: an event failed as often as it may, or took too long; the cursor stands
                before it.
            ReaderTakenError: another process moved the cursor.
        """
        page = max(self.batch, MOST_REPEATED)
        while events := await self.catalog.events(after=self.handled, limit=page):
            try:
                for begin in range(0, len(events), self.batch):
                    batch = events[begin : begin + self.batch]
                    if self.stop.requested or not await self._hand_over(batch):
                        return
                    self.handled = batch[-1].id
                    if self.clock.monotonic() - self._moved >= REPEATED_SECONDS:
                        await self._move()
            finally:
                with CancelScope(shield=True):
                    await self._move()

    async def _hand_over(self, events: Sequence[Event]) -> bool:
        """Returns whether the sink has taken *events*; if not, a stop was requested."""
        told = await self._with_datasets(events)
        for attempt in count(1):
            try:
                if await self._publish(told):
                    return True
            except Exception as exc:  # a stranger's code, which must not harm the others
                problem = self._describe(events, exc)
            else:  # not again at once: a thread may still be at work on it
                raise DeliveryError(self._late(events))
            if attempt == self.attempts:
                raise DeliveryError(f"{problem} (tried {attempt} times)")
            log.warning("%s; it is tried again", problem)
            await self._move()  # what was handled before must not come again after the wait
            with self.stop.cancels():
                await self.clock.sleep(full_jitter(attempt, self.random))
            if self.stop.requested:
                break
        return False

    async def _publish(self, told: Sequence[DatasetEvent]) -> bool:
        """Returns whether the sink has come to its end in time."""
        timeout = self.subscription.timeout
        with move_on_after(None if timeout is None else timeout.total_seconds()) as patience:
            with StrayIsError("the handler", DeliveryError):
                await self.subscription.sink.publish(told)
        return not patience.cancelled_caught

    async def _with_datasets(self, events: Sequence[Event]) -> Sequence[DatasetEvent]:
        found = {
            dataset_id: await self.catalog.get(dataset_id)
            for dataset_id in dict.fromkeys(event.dataset_id for event in events)
        }
        return [DatasetEvent.of(event, found[event.dataset_id]) for event in events]

    async def _move(self) -> None:
        if self.handled != self._cursor:
            name = self.subscription.name
            if not await self.catalog.move_reader(
                name, event=self.handled, expected=self._cursor, at=self.clock.now()
            ):
                raise ReaderTakenError(
                    f'another process reads the event log under the name "{name}", too: its cursor'
                    f" is not at {self._cursor} any more. One of them needs another name"
                )
            self._cursor = self.handled
        self._moved = self.clock.monotonic()

    def _describe(self, events: Sequence[Event], exc: Exception) -> str:
        name, about = self.subscription.name, _in_words(events)
        return self.redact(f"{name} failed at {about}: {type(exc).__name__}: {text_of(exc)}")

    def _late(self, events: Sequence[Event]) -> str:
        name, about, timeout = self.subscription.name, _in_words(events), self.subscription.timeout
        seconds = timeout.total_seconds() if timeout is not None else 0
        return self.redact(
            f"{name} was not done with {about} within {seconds:g} s; if it needs longer, give it a"
            " longer timeout"
        )


def _in_words(events: Sequence[Event]) -> str:
    first, last = events[0], events[-1]
    if len(events) > 1:
        return f"events {first.id} to {last.id}"
    return f"event {first.id} ({first.type})"
