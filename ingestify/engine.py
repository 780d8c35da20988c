"""Engine: opens what a configuration names, runs its plans, and stops cleanly."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias

from anyio import CancelScope, Event, create_task_group
from anyio.abc import TaskGroup

from ingestify.clock import SystemClock
from ingestify.errors import ConfigError, RunError
from ingestify.model.dataset import Dataset
from ingestify.model.identity import Value
from ingestify.model.plan import Forecast
from ingestify.model.run import RunStatus, RunSummary
from ingestify.opening import open_catalog, open_fetcher, open_store
from ingestify.pipeline.forecast import Forecasting
from ingestify.pipeline.resolve import Narrowing, Plan
from ingestify.pipeline.run import Order, Ports, Progress, Run
from ingestify.plugins import build_source, load_fetch_policy
from ingestify.ports import Catalog, Source
from ingestify.store import DatasetStore
from ingestify.streaming import stream
from ingestify.throttle import HostState, Throttle

if TYPE_CHECKING:
    from ingestify.config import Config

Selectors: TypeAlias = Mapping[str, Value | Sequence[Value]]

WORKERS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which of the configured plans to run, and how.

    Args:
        selectors: by name, the value or values that a Selector must have.
        text_values: selector values are text that people typed: 11 and "11" are the same.
        force: ask for everything that is listed, conditionally where a File is stored.
        concurrency: exchanges in flight at most, over all Sources.
        grace_seconds: how long what is in flight may take to end after a stop was requested.
    """

    provider: str | None = None
    source: str | None = None
    bucket: str | None = None
    selectors: Selectors | None = None
    text_values: bool = False
    force: bool = False
    concurrency: int | None = None
    grace_seconds: float = 10.0


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
        self._tasks: TaskGroup
        self._sources = dict(sources or {})
        self._runs: list[Run] = []
        self._scopes: set[CancelScope] = set()  # of the Runs that go on, in whichever task
        self._ended = Event()

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
            self._ports = Ports(
                catalog=await stack.enter_async_context(open_catalog(self.config)),
                store=await stack.enter_async_context(open_store(self.config)),
                fetcher=await stack.enter_async_context(open_fetcher()),
                throttle=Throttle(clock),
                clock=clock,
                random=random.Random(),
            )
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
        """What `run` would do, and why. Asks for lists alone, and writes nothing.

        Raises:
            ConfigError: a plan cannot be run as it is configured.
            RunError: the Catalog cannot be read, or a Source gives up.
        """
        return await Forecasting(ports=self._ports, order=self._order(choice, chosen)).execute()

    def iter_datasets(
        self,
        *,
        auto_ingest: bool | Literal["streaming"] = False,
        **filters: Any,
    ) -> AsyncIterator[Dataset]:
        """Every Dataset that fulfils *filters* (see `DatasetStore.query`).

        Args:
            auto_ingest: True runs the plans first. "streaming" yields each Dataset as soon as
                it is up to date, in no particular order, and ends the Run when its reader stops.

        Raises:
            ConfigError: no plan fits, or one cannot be run as it is configured.
            RunError: the Run could not go on; what was up to date has been yielded.
        """
        if not auto_ingest:
            return self.store.iter_datasets(**filters)
        order = self._order(Choice(provider=filters.get("provider")), {})
        if auto_ingest != "streaming":
            return self._ingest_and_iterate(order, filters)
        return stream(
            self._tasks,
            lambda settled: self._execute(Run(ports=self._ports, order=order, settled=settled)),
            self.catalog,
            self.store.query(**filters),
        )

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

    def progress(self) -> Progress | None:
        """How far the Run is that began last, or None when there is none."""
        return self._runs[-1].progress() if self._runs else None

    def hosts(self) -> Sequence[HostState]:
        """How each host is being asked."""
        return self._ports.throttle.snapshot()

    async def _execute(self, run: Run) -> RunSummary:
        scope = CancelScope()
        self._runs.append(run)
        self._scopes.add(scope)
        try:
            with scope:
                return await run.execute()
        finally:
            self._runs.remove(run)
            self._scopes.remove(scope)
            self._ended.set()
        raise RunError("the engine was closed before the Run had ended")

    def _order(self, choice: Choice | None, chosen: Mapping[str, Any]) -> Order:
        choice = choice or Choice(**chosen)
        config = self.config.with_bucket(choice.bucket) if choice.bucket else self.config
        from ingestify.config.secrets import secrets_in

        _refuse_subscribers(config)
        plans = [plan for plan in self._plans(config) if _is_chosen(plan, choice)]
        if not plans:
            known = ", ".join(sorted({plan.source for plan in config.ingestion_plans})) or "none"
            raise ConfigError(f"no plan fits what was chosen; the plans' sources are: {known}")
        kinds = {(plan.source.provider, plan.scope.dataset_type) for plan in plans}
        return Order(
            plans=plans,
            narrowing=Narrowing(
                {name: _values(value) for name, value in (choice.selectors or {}).items()},
                choice.text_values,
                self._key_type,
            ),
            transformations={kind: config.transformations(*kind) for kind in kinds},
            forced=choice.force,
            secrets=secrets_in(config),
            workers=choice.concurrency or config.main.concurrency or WORKERS,
            grace_seconds=choice.grace_seconds,
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
            plans.append(
                Plan(
                    scope=config.scope_of(written),
                    source=self._sources[written.source],
                    policy=policy,
                )
            )
        return plans

    def _key_type(self, provider: str, dataset_type: str, name: str) -> str | None:
        keys = self.config.identifier_keys(provider, dataset_type)
        return keys[name].key_type if name in keys else None


def _refuse_subscribers(config: Config) -> None:
    for subscriber in config.event_subscribers:
        if not subscriber.is_event_log:
            raise ConfigError(
                f"event_subscribers: {subscriber.type} cannot be called yet; take it out: every"
                " event is kept in the catalog, also for later"
            )


def _is_chosen(plan: Plan, choice: Choice) -> bool:
    return choice.provider in (None, plan.source.provider) and choice.source in (
        None,
        plan.source.name,
    )


def _values(value: Value | Sequence[Value]) -> tuple[Value, ...]:
    return (value,) if isinstance(value, int | str) else tuple(value)
