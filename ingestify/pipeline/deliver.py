"""Deliver: tell subscribers what was committed, while a Run goes on and before it ends."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from random import Random

from anyio import CancelScope, Event, create_task_group

from ingestify.errors import IngestifyError
from ingestify.model.catalog import Lease
from ingestify.pipeline.event_reader import EventReader, Subscription
from ingestify.pipeline.stop import Stop
from ingestify.pipeline.undisturbed import undisturbed
from ingestify.ports import Catalog, Clock

log = logging.getLogger("ingestify.events")

ATTEMPTS = 5  # for each event in one Run, with growing waits between them


@dataclass(kw_only=True)
class Delivery:
    """Hands events to subscribers, each in a task of its own and from its own cursor.

    Of several Runs at once, one delivers to a subscriber. A subscriber that fails stays where it
    is, which `warnings` tells; the others go on, and so does the Run. After a stop, and after
    *ends_at* once the Run has nothing else left to do, what waits has *grace_seconds* to be
    delivered; the next Run delivers the rest.
    """

    catalog: Catalog
    clock: Clock
    random: Random
    subscriptions: Sequence[Subscription]
    run_id: int
    redact: Callable[[str], str]
    stop: Stop
    grace_seconds: float
    ends_at: float | None = None  # of the monotonic clock
    warnings: list[str] = field(default_factory=list)
    _news: Event = field(default_factory=Event)
    _stopped: Event = field(default_factory=Event)
    _scope: CancelScope = field(default_factory=CancelScope)
    _is_ending: bool = False

    def wake(self) -> None:
        """Something was committed."""
        self._news.set()
        self._news = Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Deliver while the block runs, and then what is left; nothing more if the block raises."""
        if not self.subscriptions:
            yield
            return
        self.stop.on_request(self._stopped.set)
        done = Event()
        async with create_task_group() as tg:
            tg.start_soon(self._end_grace)
            tg.start_soon(self._serve_all, done)
            yield
            self._is_ending = True
            self.wake()
            tg.start_soon(self._end_in_time)
            await done.wait()
            tg.cancel_scope.cancel()

    async def _end_grace(self) -> None:
        await self._stopped.wait()
        await self.clock.sleep(self.grace_seconds)
        self._scope.cancel()

    async def _end_in_time(self) -> None:
        if self.ends_at is not None:
            await self.clock.sleep(self.ends_at - self.clock.monotonic())
            self._stopped.set()

    async def _serve_all(self, done: Event) -> None:
        unserved = {subscription.name: None for subscription in self.subscriptions}

        async def serve(subscription: Subscription) -> None:
            try:
                await self._serve(subscription)
            except IngestifyError as exc:
                self.warnings.append(
                    self.redact(f"{exc}; its events are kept, and delivered by a later run")
                )
            del unserved[subscription.name]

        with self._scope:
            async with create_task_group() as tg:
                for subscription in self.subscriptions:
                    tg.start_soon(serve, subscription)
        self.warnings += [
            f"{name} was not told everything before the run had to end; the next run goes on"
            for name in unserved
        ]
        done.set()

    async def _serve(self, subscription: Subscription) -> None:
        """Deliver until the Run ends and nothing waits, or another Run sees to that.

        A Run that is refused the lease may leave at its end, with its own commits undelivered:
        whoever holds it looks into the log once more after giving it back.
        """
        while True:
            is_ending, news = self._is_ending, self._news
            async with self._sole_right(subscription.name) as is_ours:
                if is_ours:
                    handled = await self._follow(subscription)
            if is_ours:
                if not await self.catalog.events(after=handled, limit=1):
                    return
            elif is_ending:
                log.info("another Run delivers events to %s", subscription.name)
                return
            else:
                await news.wait()

    async def _follow(self, subscription: Subscription) -> int:
        """Deliver until the Run ends. Returns the last event."""
        reader = EventReader(
            catalog=self.catalog,
            clock=self.clock,
            random=self.random,
            subscription=subscription,
            redact=self.redact,
            attempts=ATTEMPTS,
        )
        await reader.open()
        while True:
            is_ending, news = self._is_ending, self._news
            await reader.catch_up()
            if is_ending:
                return reader.handled
            await news.wait()

    @asynccontextmanager
    async def _sole_right(self, name: str) -> AsyncIterator[bool]:
        """Hold the lease on a reader. It dies with the process, as that on a plan does."""
        leases: list[Lease] = []

        async def acquire() -> None:
            now = self.clock.now()
            lease = await self.catalog.acquire_lease(
                f"events to {name}", run_id=self.run_id, at=now
            )
            leases.extend([lease] if lease is not None else [])

        try:
            await undisturbed(acquire)  # else nobody gave it back
            yield bool(leases)
        finally:
            for lease in leases:
                await undisturbed(partial(self.catalog.release_lease, lease))
