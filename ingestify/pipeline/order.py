"""Order: what a Run is asked to do, and the world that it does it in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from anyio import Semaphore

from ingestify.client import Client
from ingestify.http.in_memory import RunMemory
from ingestify.pipeline.budget import Budget, Spending
from ingestify.pipeline.choose import Narrowing, Plan
from ingestify.pipeline.commit import Transformations
from ingestify.pipeline.event_reader import Subscription
from ingestify.pipeline.only import Only
from ingestify.pipeline.room import Reserve
from ingestify.ports import Catalog, Clock, Fetcher, FileStore, Source
from ingestify.throttle import Throttle

RAW = "raw"  # the stage of what providers have


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """The world that a Run works on. Whoever opened these closes them."""

    catalog: Catalog
    store: FileStore
    fetcher: Fetcher
    throttle: Throttle
    clock: Clock
    random: Random


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a Run is asked to do, and how."""

    plans: Sequence[Plan]
    narrowing: Narrowing
    transformations: Transformations
    forced: bool = False
    only: Only | None = None  # what the Run is about; None: all that its plans want
    workers: int = 64  # exchanges in flight, over all Sources; and Tasks at work for each
    secrets: frozenset[str] = field(default=frozenset(), repr=False)  # that no text may hold
    credentials: frozenset[str] = field(default=frozenset(), repr=False)  # …and no data
    grace_seconds: float = 10.0
    subscriptions: Sequence[Subscription] = ()  # who is told of events
    budget: Budget = field(default_factory=Budget)
    reserve: Reserve = field(default_factory=Reserve)

    def clients(
        self, ports: Ports, spending: Spending | None = None, memory: RunMemory | None = None
    ) -> dict[Source, Client]:
        """A client for each Source, all under one bound on exchanges, and one budget."""
        memory = memory or RunMemory()
        exchanges = Semaphore(self.workers, fast_acquire=True)
        clients = {
            source: Client(
                source,
                fetcher=ports.fetcher,
                throttle=ports.throttle,
                clock=ports.clock,
                random=ports.random,
                exchanges=exchanges,
                allowance=spending if self.budget.is_limited else None,
                memory=memory.lists,
            )
            for source in dict.fromkeys(plan.source for plan in self.plans)
        }
        for client in clients.values():
            client.redactor.learn(self.secrets)
            client.redactor.learn_credentials(tuple(self.credentials))
        return clients
