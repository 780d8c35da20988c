"""Engine: opens what a configuration names, runs its plans, and stops cleanly.

What only other work than a Run needs is imported by the method that does it.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias

from anyio import CancelScope, Event, create_task_group
from anyio.abc import TaskGroup

from ingestify.clock import SystemClock
from ingestify.errors import ConfigError, RunError
from ingestify.model.catalog import DatasetQuery, Deleted
from ingestify.model.dataset import Dataset
from ingestify.model.identity import Value
from ingestify.model.run import RunStatus, RunSummary
from ingestify.open_files import OpenFiles
from ingestify.opening import open_catalog, open_fetcher, open_store, settle_in
from ingestify.pipeline.budget import Budget
from ingestify.pipeline.choose import Narrowing, Plan
from ingestify.pipeline.event_reader import Subscription
from ingestify.pipeline.only import Only
from ingestify.pipeline.order import Order, Ports
from ingestify.pipeline.room import Reserve
from ingestify.pipeline.run import Progress, Run
from ingestify.plugins import build_source, build_subscriber, load_fetch_policy
from ingestify.plugins.plans import check_data_feeds
from ingestify.ports import Catalog, Source
from ingestify.store import DatasetStore
from ingestify.subscriber import SubscriberSink
from ingestify.throttle import HostState, Throttle

if TYPE_CHECKING:
    from ingestify.config import Config
    from ingestify.model.plan import Forecast
    from ingestify.upkeep import Collected, Verification

Selectors: TypeAlias = Mapping[str, Value | Sequence[Value]]

EVERYTHING = DatasetQuery(stage=None)
WORKERS = 64
MOST_EXCHANGES = 256  # at once, where a Run is asked for more than that


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which of the configured plans to run, and how.

    Args:
        selectors: by name, the value or values that a Selector must have.
        text_values: selector values are text that people typed: 11 and "11" are the same.
        force: ask for everything that is listed, conditionally where a File is stored.
        concurrency: exchanges in flight at most, over all Sources.
        grace_seconds: how long what is in flight may take to end after a stop was requested.
        max_requests, max_bytes, max_duration: what the Run may spend at most (see `Budget`).
        disable_events: call no subscriber; the next Run tells them what this one did.
        only: the Datasets that the Run is about, where that is not all that the plans want.
    """

    provider: str | None = None
    source: str | None = None
    bucket: str | None = None
    dataset_type: str | None = None
    selectors: Selectors | None = None
    text_values: bool = False
    force: bool = False
    concurrency: int | None = None
    grace_seconds: float = 10.0
    max_requests: int | None = None
    max_bytes: int | None = None
    max_duration: timedelta | None = None
    disable_events: bool = False
    only: Only | None = None


class Engine:
    """Keeps one lake in step with its providers. Use it as an async context manager.

    Everything it starts runs in one task group, which ends with the context. Signals are its
    caller's: they may call `request_stop`.

    Args:
        sources: Sources by the name that plans call them, in place of those configured.
    """

    def __init__(self, config: Config, *, sources: Mapping[str, Source] | None = None) -> None:
        self.config = config
        self.store: DatasetStore
        self._stack = AsyncExitStack()
        self._ports: Ports
        self._open_files: OpenFiles
        self._tasks: TaskGroup
        self._sources = dict(sources or {})
        self._runs: list[Run] = []
        self._scopes: set[CancelScope] = set()  # of the Runs that go on, in whichever task
        self._ended = Event()
        self._subscriptions: list[Subscription] | None = None  # None: not built yet

    @classmethod
    def from_config(cls, config: Config | Path | str) -> Self:
        """The engine for a configuration, or for the file that holds it.

        Raises:
            ConfigError: the file cannot be read, or something in it is wrong.
        """
        if isinstance(config, Path | str):
            from ingestify.config import load_config

            config = load_config(config)
        return cls(config)

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            clock = SystemClock()
            self._open_files = self._count_open_files()
            catalog = await stack.enter_async_context(open_catalog(self.config))
            self._ports = Ports(
                catalog=catalog,
                store=await stack.enter_async_context(open_store(self.config, self._open_files)),
                fetcher=await stack.enter_async_context(open_fetcher(self._open_files)),
                throttle=Throttle(clock, catalog),
                clock=clock,
                random=random.Random(),
            )
            await settle_in(self.config, self._ports.catalog, self._ports.store)
            self.store = DatasetStore(
                self._ports.catalog,
                self._ports.store,
                clock,
                default_bucket=self.config.main.default_bucket,
            )
            self._stack = stack.pop_all()
        self._tasks = await create_task_group().__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End every Run and close the lake. What was raised inside stays as it is."""
        self._tasks.cancel_scope.cancel()
        for scope in self._scopes:
            scope.cancel()
        try:
            await self._tasks.__aexit__(None, None, None)
        finally:
            with CancelScope(shield=True):
                while self._scopes:
                    self._ended = Event()
                    await self._ended.wait()
                await self._stack.aclose()

    def _count_open_files(self) -> OpenFiles:
        config = self.config
        return OpenFiles.within_limit(
            wanted=max(MOST_EXCHANGES, config.main.concurrency or 0),
            hosts=len({plan.source for plan in config.ingestion_plans}),
            plans=len(config.ingestion_plans),
        )

    @property
    def catalog(self) -> Catalog:
        """The metadata of the lake."""
        return self._ports.catalog

    async def run(self, choice: Choice | None = None, **chosen: Any) -> RunSummary:
        """Bring the lake in step with what the chosen plans want. See `Choice` for arguments.

        Failures of single Datasets and Selectors stand in the summary, and so does what kept
        the Run from going on. Cancelling is safe: what was committed is kept.

        Raises:
            ConfigError: a plan cannot be run as it is configured.
            CatalogError: the Run could not even be begun.
            RunError: the engine was closed meanwhile.
        """
        return await self._execute(Run(ports=self._ports, order=self._order(choice, chosen)))

    async def plan(self, choice: Choice | None = None, **chosen: Any) -> Forecast:
        """What `run` would do, and why. Asks for lists alone, and writes nothing but what that
        takes of a daily quota.

        Raises:
            ConfigError: a plan cannot be run as it is configured.
            RunError: the Catalog cannot be read, or a Source gives up.
        """
        from ingestify.pipeline.forecast import Forecasting

        choice = replace(choice or Choice(**chosen), disable_events=True)
        return await Forecasting(ports=self._ports, order=self._order(choice, {})).execute()

    async def verify(
        self,
        query: DatasetQuery | None = None,
        *,
        on_progress: Callable[[int, int, int], None] | None = None,
        on_listed: Callable[[int], None] | None = None,
        **filters: Any,
    ) -> Verification:
        """Compare every stored File of what *query*, or *filters*, find with its bytes.

        Without either it is all of the lake. See `ingestify.upkeep.verify`.
        """
        from ingestify.upkeep import verify

        query = query or (self.store.query(**filters) if filters else EVERYTHING)
        return await verify(
            self.catalog, self._ports.store, query, on_progress=on_progress, on_listed=on_listed
        )

    async def repair(self, found: Verification, **chosen: Any) -> RunSummary:
        """Ask the providers for the damaged Files that were *found*, and for nothing else.

        What an older Revision had cannot be asked for. Verifying again tells what is sound now.

        Raises:
            ConfigError: no plan is about any of them.
        """
        from ingestify.upkeep import what_is_damaged

        only = await what_is_damaged(self.catalog, found)
        return await self.run(Choice(only=only, **chosen))

    async def retry(
        self,
        *,
        run_id: int | None = None,
        provider: str | None = None,
        dataset_type: str | None = None,
        **chosen: Any,
    ) -> RunSummary | None:
        """A Run over the Datasets and Selectors that have failed and not succeeded since.

        Returns None, and does nothing, where there are none. With *run_id* only what failed in
        that Run.

        Raises:
            ConfigError: no plan is about any of them.
        """
        from ingestify.upkeep import what_failed

        only = await what_failed(
            self.catalog, run_id=run_id, provider=provider, dataset_type=dataset_type
        )
        return None if only is None else await self.run(Choice(only=only, **chosen))

    async def collect_garbage(
        self, *, dry_run: bool = False, on_progress: Callable[[int], None] | None = None
    ) -> Collected:
        """Remove the bytes that nothing refers to. See `ingestify.upkeep.collect`."""
        from ingestify.upkeep import collect

        store = self._ports.store
        return await collect(self.catalog, store, dry_run=dry_run, on_progress=on_progress)

    async def delete(self, query: DatasetQuery | None = None, **filters: Any) -> Deleted:
        """Remove the Datasets that *query*, or *filters*, find: their rows and their bytes.

        Raises:
            ConfigError: neither says which; or another catalog has Files in the lake, too.
        """
        from ingestify.upkeep import delete

        if query is None and not filters:
            raise ConfigError("say which Datasets to delete: all of them is never meant")
        query = query or self.store.query(**filters)
        return await delete(self.catalog, self._ports.store, query, at=self._ports.clock.now())

    def iter_datasets(
        self,
        *,
        auto_ingest: bool | Literal["streaming"] = False,
        **filters: Any,
    ) -> AsyncIterator[Dataset]:
        """Every Dataset that fulfils *filters* (see `DatasetStore.query`).

        Args:
            auto_ingest: True runs the plans first. "streaming" yields each Dataset as soon as
                it is up to date, in no particular order; it holds the Run back while nothing is
                read, and ends it when its reader stops. Either runs the plans for that provider
                and dataset type, into that bucket where they have none of their own, and leaves
                out Selectors that have another value than a filter of the same name: an
                identity and a Selector mean the same by a name. Filters by names that Selectors
                do not have are applied to what is read alone.

        Raises:
            ConfigError: no plan fits, or one cannot be run as it is configured.
            RunError: the Run could not go on; what was up to date has been yielded.
        """
        if not auto_ingest:
            return self.store.iter_datasets(**filters)
        order = self._order_for(filters)
        if auto_ingest != "streaming":
            return self._ingest_and_iterate(order, filters)
        from ingestify.streaming import stream

        return stream(
            self._tasks,
            lambda unread: self._execute(
                Run(ports=self._ports, order=order, settled=unread.settled, held=unread.held)
            ),
            self.catalog,
            self.store.query(**filters),
        )

    def _order_for(self, filters: Mapping[str, Any]) -> Order:
        """What has to be run before, or while, what fulfils *filters* is read."""
        wanted = self.store.query(**filters)
        choice = Choice(
            provider=wanted.provider,
            bucket=filters.get("bucket"),
            dataset_type=wanted.dataset_type,
        )
        return self._order(choice, {}, hints=wanted.identifier)

    async def _ingest_and_iterate(
        self, order: Order, filters: Mapping[str, Any]
    ) -> AsyncIterator[Dataset]:
        summary = await self._execute(Run(ports=self._ports, order=order))
        async for dataset in self.store.iter_datasets(**filters):
            yield dataset
        if summary.status is RunStatus.FAILED:
            raise RunError(summary.error or "the Run could not go on")

    def request_stop(self) -> None:
        """Ask every Run to take up nothing new, and to end when what is in flight has ended."""
        for run in self._runs:
            run.stop.request()

    def hurry(self) -> None:
        """Before everything is cancelled: let nothing wait for another process that holds the
        catalog. What cannot be written down then is found by the next Run."""
        self._ports.catalog.hurry()

    def progress(self) -> Progress | None:
        """How far the Run is that began last, or None when there is none."""
        return self._runs[-1].progress() if self._runs else None

    def hosts(self) -> Sequence[HostState]:
        """How each host is being asked."""
        return self._ports.throttle.snapshot()

    @property
    def loop_lag(self) -> float:
        """By how many seconds the event loop has been late lately, while a Run goes on."""
        return self._ports.throttle.lag.seconds

    async def _execute(self, run: Run) -> RunSummary:
        scope = CancelScope()
        self._runs.append(run)
        self._scopes.add(scope)
        try:
            with scope, self._ports.throttle.lag.watched():
                return await run.execute()
        finally:
            self._runs.remove(run)
            self._scopes.remove(scope)
            self._ended.set()
        raise RunError("the engine was closed before the Run had ended")

    def _order(
        self, choice: Choice | None, chosen: Mapping[str, Any], hints: Selectors | None = None
    ) -> Order:
        choice = choice or Choice(**chosen)
        config = self.config.with_bucket(choice.bucket) if choice.bucket else self.config
        from ingestify.config.secrets import credentials_in, secrets_in

        plans = [plan for plan in self._plans(config) if _is_chosen(plan, choice)]
        if not plans and (choice.only is None or choice.only):
            known = ", ".join(sorted({plan.source for plan in config.ingestion_plans})) or "none"
            raise ConfigError(f"no plan fits what was chosen; the plans' sources are: {known}")
        kinds = {(plan.source.provider, plan.scope.dataset_type) for plan in plans}
        return Order(
            plans=plans,
            narrowing=Narrowing(
                {name: _values(value) for name, value in (choice.selectors or {}).items()},
                choice.text_values,
                self._key_type,
                {name: _values(value) for name, value in (hints or {}).items()},
            ),
            transformations={kind: config.transformations(*kind) for kind in kinds},
            forced=choice.force,
            only=choice.only,
            secrets=secrets_in(config),
            credentials=credentials_in(config),
            workers=min(
                choice.concurrency or config.main.concurrency or WORKERS,
                self._open_files.exchanges,
            ),
            grace_seconds=choice.grace_seconds,
            budget=Budget(
                max_requests=choice.max_requests,
                max_bytes=choice.max_bytes,
                max_duration=choice.max_duration,
            ),
            reserve=Reserve(
                bytes=config.main.min_free_space,
                files=f"the lake's files in {config.main.file_url.path}",
                catalog=f"the lake's catalog {config.main.metadata_url.path}",
            ),
            subscriptions=() if choice.disable_events else self._subscribe(),
        )

    def _plans(self, config: Config) -> list[Plan]:
        plans = []
        for written in config.ingestion_plans:
            if written.source not in self._sources:
                self._sources[written.source] = build_source(
                    written.source, config.sources[written.source], config.folder
                )
            policy = load_fetch_policy(
                written.fetch_policy, recheck=config.recheck_of(written), folder=config.folder
            )
            source, kind = self._sources[written.source], written.dataset_type
            check_data_feeds(source, written)
            plans.append(
                Plan(
                    scope=config.scope_of(written),
                    source=source,
                    policy=policy,
                    identifier_keys=list(config.identifier_keys(source.provider, kind)),
                )
            )
        return plans

    def _subscribe(self) -> Sequence[Subscription]:
        """Who is told of events; each subscriber is built once."""
        if self._subscriptions is None:
            self._subscriptions = [
                Subscription(
                    name=written.reader_name,
                    sink=SubscriberSink(build_subscriber(written, self.store, self.config.folder)),
                    starts_now=written.start == "now",
                    timeout=written.timeout,
                )
                for written in self.config.event_subscribers
                if not written.is_event_log
            ]
        return self._subscriptions

    def _key_type(self, provider: str, dataset_type: str, name: str) -> str | None:
        keys = self.config.identifier_keys(provider, dataset_type)
        return keys[name].key_type if name in keys else None


def _is_chosen(plan: Plan, choice: Choice) -> bool:
    place = (plan.source.provider, plan.scope.dataset_type)
    if choice.only is not None and not choice.only.concerns((plan.scope.bucket, *place)):
        return False
    wanted = (choice.provider, choice.dataset_type, choice.source)
    return all(
        each in (None, has) for each, has in zip(wanted, (*place, plan.source.name), strict=True)
    )


def _values(value: Value | Sequence[Value]) -> tuple[Value, ...]:
    return (value,) if isinstance(value, int | str) else tuple(value)
