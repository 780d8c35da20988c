"""Forecast: what a Run would do. Discovers and plans as a Run does, and does nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field

from anyio import CancelScope, create_task_group, move_on_after

from ingestify.errors import FatalError, text_of
from ingestify.model.plan import Decision, Forecast, SelectorForecast
from ingestify.model.run import SelectorStatus
from ingestify.pipeline.crawl import LAST_WORDS_SECONDS
from ingestify.pipeline.lane import Lane
from ingestify.pipeline.ledger import ForecastLedger
from ingestify.pipeline.order import RAW, Order, Ports
from ingestify.pipeline.plan import Planner
from ingestify.pipeline.pool import Slot
from ingestify.pipeline.resolve import resolve
from ingestify.pipeline.selector_run import SelectorRun
from ingestify.pipeline.task import Task

MOST_DECISIONS = 10_000


@dataclass(kw_only=True)
class Forecasting:
    """Finds out what *order* would do. Takes no lease, and writes nothing but daily quotas."""

    ports: Ports
    order: Order
    _decisions: list[Decision] = field(default_factory=list)

    async def execute(self) -> Forecast:
        """The forecast.

        Raises:
            ConfigError: a Source cannot be used as it is configured.
            RunError: the Catalog cannot be read, or a Source gives up.
        """
        try:
            return await self._look()
        finally:
            with CancelScope(shield=True), move_on_after(LAST_WORDS_SECONDS):
                await self.ports.throttle.give_back()

    async def _look(self) -> Forecast:
        ports, order = self.ports, self.order
        clients = order.clients(ports)
        resolution = await resolve(order.plans, clients, order.narrowing)
        if order.only is not None:
            resolution.narrow_to(order.only)
        ledger = ForecastLedger(ports.catalog, ports.clock, forced=order.forced)
        planner = Planner(ports.catalog, stage=RAW, forced=order.forced)
        lanes = [
            Lane(
                source=source,
                client=clients[source],
                selector_runs=selector_runs,
                planner=planner,
                ledger=ledger,
                clock=ports.clock,
                workers=1,
                work=self._note,
            )
            for source, selector_runs in resolution.selector_runs.items()
        ]
        for lane in lanes:
            if lane.source in resolution.stopped:
                lane.stop.request(resolution.stopped[lane.source])
        async with create_task_group() as tg:
            for lane in lanes:
                tg.start_soon(lane.run)
        causes = [lane.stop.cause for lane in lanes if lane.stop.cause is not None]
        for cause in causes:
            if isinstance(cause, FatalError):
                raise cause
        selector_runs = [each for lane in lanes for each in lane.selector_runs]
        return Forecast(
            selectors=tuple(_forecast(each) for each in selector_runs),
            decisions=tuple(self._decisions),
            warnings=tuple(resolution.warnings),
            exit_code=_exit_code(selector_runs, stopped=bool(causes)) or int(resolution.misses),
            error="; ".join(map(text_of, causes)) or None,
        )

    async def _note(self, task: Task, slot: Slot) -> None:
        run, resource = task.selector_run, task.resource
        if len(self._decisions) < MOST_DECISIONS:
            self._decisions.append(
                Decision(
                    provider=resource.provider,
                    dataset_type=resource.dataset_type,
                    identifier_key=task.claim.key,
                    name=resource.name,
                    reason=task.reason,
                    files={" ".join(ask.file.key): ask.reason for ask in task.asks},
                )
            )
        row_id = task.stored.row_id if task.stored else None
        task.claim.settle(row_id, succeeded=True)
        run.settle(row_id, True)


def _exit_code(selector_runs: list[SelectorRun], *, stopped: bool) -> int:
    if stopped:
        return 4
    seen = (SelectorStatus.COMPLETE, SelectorStatus.UNCHANGED)
    failed = any(each.status not in seen for each in selector_runs)
    return int(failed or any(each.counters.refused for each in selector_runs))


def _forecast(run: SelectorRun) -> SelectorForecast:
    return SelectorForecast(
        source=run.source,
        provider=run.provider,
        dataset_type=run.dataset_type,
        bucket=run.bucket,
        selector=str(run.selector),
        name=run.selector.name,
        status=run.status,
        listed=run.counters.listed,
        fetch=dict(run.fetched_for),
        skip=dict(run.skipped_for),
        duplicate=run.counters.duplicate,
        refused=run.counters.refused,
        requests=run.requests,
        error=run.error,
    )
