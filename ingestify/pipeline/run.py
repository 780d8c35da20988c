"""Run: one invocation, from its plans to its summary."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

import msgspec
from anyio import (
    CancelScope,
    create_task_group,
    get_cancelled_exc_class,
    move_on_after,
)

from ingestify.client import Client
from ingestify.errors import CatalogError, IngestifyError, RunError, text_of
from ingestify.http.in_memory import RunMemory
from ingestify.model.catalog import Committed, Lease
from ingestify.model.run import (
    Counters,
    Failure,
    HeldPlan,
    RunStatus,
    RunSummary,
    SelectorStatus,
)
from ingestify.pipeline.budget import BudgetUsedUpError, Spending
from ingestify.pipeline.choose import Plan
from ingestify.pipeline.commit import Committer
from ingestify.pipeline.crawl import (
    LAST_WORDS_SECONDS,
    MOST_FAILURES,
    Crawl,
    Outcomes,
    Settled,
)
from ingestify.pipeline.deliver import Delivery
from ingestify.pipeline.lane import Lane
from ingestify.pipeline.ledger import RunLedger
from ingestify.pipeline.order import RAW, Order, Ports
from ingestify.pipeline.plan import Planner
from ingestify.pipeline.resolve import Resolution, resolve
from ingestify.pipeline.room import Room
from ingestify.pipeline.selector_run import SelectorRun, writable
from ingestify.pipeline.stop import Stop
from ingestify.pipeline.task import Finished
from ingestify.pipeline.turns import in_turn
from ingestify.pipeline.undisturbed import undisturbed
from ingestify.pipeline.worker import Worker
from ingestify.ports import Source
from ingestify.redaction import Redactor

log = logging.getLogger("ingestify.run")

SILENCE = timedelta(seconds=60)  # without a beat for that long, a Run counts as crashed


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a Run is."""

    counters: Counters
    selectors: int
    selectors_done: int
    requests: int
    received_bytes: int
    stored_bytes: int


@dataclass(kw_only=True)
class Run:
    """One invocation. `stop` may be requested at any time; `execute` is called once."""

    ports: Ports
    order: Order
    settled: Settled | None = None
    held: Callable[[], Awaitable[None]] | None = None  # by whoever is told what was settled
    stop: Stop = field(default_factory=Stop)
    started_at: datetime = field(init=False)
    run_id: int = 0
    _leases: list[Lease] = field(default_factory=list)
    _held: list[HeldPlan] = field(default_factory=list)
    _warnings: list[str] = field(default_factory=list)
    _misses: bool = False  # something that was asked for by name is nowhere
    _is_unresolved: bool = False  # nobody knows which Selectors there are
    _selector_runs: list[SelectorRun] = field(default_factory=list)
    _clients: dict[Source, Client] = field(default_factory=dict)
    _lanes: list[Lane] = field(default_factory=list)
    _outcomes: Outcomes = field(init=False)
    _spending: Spending = field(init=False)
    _room: Room = field(init=False)
    _memory: RunMemory = field(default_factory=RunMemory)
    _committer: Committer | None = None
    _delivery: Delivery | None = None

    def __post_init__(self) -> None:
        self._outcomes = Outcomes(settled=self.settled)
        ports, order = self.ports, self.order
        self._spending = Spending(order.budget, ports.clock)
        self._clients = order.clients(ports, self._spending, self._memory)
        self._room = Room(
            store=ports.store,
            catalog=ports.catalog,
            clock=ports.clock,
            reserve=order.reserve,
            stop=self.stop,
        )

    async def execute(self) -> RunSummary:
        """Do what was ordered, and write down how it ended.

        That the Run could not go on stands in the summary. Cancelling it closes it as aborted;
        what was committed is kept.

        Raises:
            ConfigError: a Source cannot be used as it is configured.
            CatalogError: the Run could not even be begun.
        """
        try:
            await undisturbed(self._begin)  # else nobody would know which Run to close
            error = await self._attempt()
        except get_cancelled_exc_class():
            await self._close(RunStatus.ABORTED, None)
            raise
        except BaseException as exc:
            await self._close(RunStatus.FAILED, f"{type(exc).__name__}: {text_of(exc)}")
            raise
        if error is not None:
            return await self._close(RunStatus.FAILED, text_of(error))
        causes = [lane.stop.cause for lane in self._lanes if lane.stop.requested]
        stopped = self.stop.requested or self._short_of_budget is not None
        stopped = stopped or not all(isinstance(each, BudgetUsedUpError) for each in causes)
        return await self._close(RunStatus.ABORTED if stopped else RunStatus.FINISHED, None)

    async def _begin(self) -> None:
        self.started_at = self.ports.clock.now()
        text = repr(sorted(str(plan.scope.key) for plan in self.order.plans))
        self.run_id = await self.ports.catalog.begin_run(
            started_at=self.started_at, fingerprint=hashlib.sha256(text.encode()).hexdigest()[:32]
        )

    async def _attempt(self) -> RunError | None:
        """Run the plans. Returns what kept the Run from going on, if anything did."""
        try:
            self._delivery = self._make_delivery()
            async with self._delivery.running():
                if await self._room.look():
                    await self._crawl_in_time(await self._acquire())
                    await self._give_back()  # who is told of events must not keep others waiting
        except (IngestifyError, BaseExceptionGroup) as exc:
            error = first_of(exc)
            if isinstance(error, RunError):
                return error
            raise error from exc
        cause = self.stop.cause
        return cause if isinstance(cause, RunError) else None

    def _make_delivery(self) -> Delivery:
        return Delivery(
            catalog=self.ports.catalog,
            clock=self.ports.clock,
            random=self.ports.random,
            subscriptions=self.order.subscriptions,
            run_id=self.run_id,
            redact=Redactor(self.order.secrets).redact,
            stop=self.stop,
            grace_seconds=self.order.grace_seconds,
            ends_at=self._spending.ends_at,
        )

    def _settle(self, finished: Finished, result: Committed | None) -> None:
        self._outcomes.settle(finished, result)
        if self._delivery is not None:
            self._delivery.wake()

    async def _acquire(self) -> list[Plan]:
        """The plans that nobody else is running."""
        catalog, now = self.ports.catalog, self.ports.clock.now()
        await catalog.close_crashed_runs(silent_since=now - SILENCE, at=now)
        mine = []
        for plan in self.order.plans:
            name = str(plan.scope.key)
            if name in {lease.name for lease in self._leases}:
                mine.append(plan)
                continue
            if await undisturbed(partial(self._take_lease, name)):  # else nobody gave it back
                mine.append(plan)
            else:
                self._held.append(await self._who_holds(plan))
                log.info("another Run holds %s: nothing is done for it", name)
        return mine

    async def _who_holds(self, plan: Plan) -> HeldPlan:
        key = plan.scope.key
        holder = await self.ports.catalog.lease_holder(str(key))
        return HeldPlan(
            source=key.source,
            dataset_type=key.dataset_type,
            bucket=key.bucket,
            run_id=holder.run_id if holder else None,
            since=holder.since if holder else None,
        )

    async def _take_lease(self, name: str) -> bool:
        now = self.ports.clock.now()
        lease = await self.ports.catalog.acquire_lease(name, run_id=self.run_id, at=now)
        if lease is not None:
            self._leases.append(lease)
        return lease is not None

    async def _give_back(self) -> None:
        for lease in self._leases:
            await self.ports.catalog.release_lease(lease)

    async def _crawl_in_time(self, plans: Sequence[Plan]) -> None:
        async with create_task_group() as tg:
            tg.start_soon(self._spending.watch)
            await self._crawl(plans)
            tg.cancel_scope.cancel()

    async def _crawl(self, plans: Sequence[Plan]) -> None:
        resolution = await self._resolve(plans)
        ports, order = self.ports, self.order
        ledger = RunLedger(
            ports.catalog,
            ports.clock,
            run_id=self.run_id,
            forced=order.forced,
            sees_all=self.settled is not None,
        )
        planner = Planner(
            ports.catalog,
            stage=RAW,
            forced=order.forced,
            skipped=self.settled,
            wanted=order.only,
        )
        self._committer = Committer(
            catalog=ports.catalog,
            store=ports.store,
            clock=ports.clock,
            leases=self._leases,
            transformations=order.transformations,
            outcome=self._settle,
            before_batch=self._room.look,
        )
        self._lanes = self._make_lanes(resolution, ledger, planner, self._committer)
        crawl = Crawl(
            catalog=ports.catalog,
            clock=ports.clock,
            run_id=self.run_id,
            lanes=self._lanes,
            committer=self._committer,
            ledger=ledger,
            stop=self.stop,
            spending=self._spending,
            grace_seconds=order.grace_seconds,
        )
        await crawl.run()
        self._look_for_unmet(planner)

    async def _resolve(self, plans: Sequence[Plan]) -> Resolution:
        """What there is to look at, in which order; nothing, where a stop comes first."""
        resolution = Resolution()
        with CancelScope() as scope:
            self.stop.on_request(scope.cancel)
            self._spending.stop.on_request(scope.cancel)
            resolution = await resolve(plans, self._clients, self.order.narrowing)
        self._is_unresolved = scope.cancelled_caught
        if not self._held:  # else some of what is wanted is unknown here
            await resolution.settle(self.ports.catalog, run_id=self.run_id)
        self._misses = resolution.misses
        self._warnings.extend(resolution.warnings)
        if self.order.only is not None:
            resolution.narrow_to(self.order.only)
        if self.order.budget.is_limited:
            for source, each in resolution.selector_runs.items():
                ordered = await in_turn(self.ports.catalog, each)
                resolution.selector_runs[source] = ordered
        return resolution

    def _look_for_unmet(self, planner: Planner) -> None:
        """Tell which of the Datasets that the Run is about nothing lists, where that is known."""
        only, complete = self.order.only, SelectorStatus.COMPLETE
        is_whole = all(each.status is complete for each in self._selector_runs)
        if only is None or self._held or self.order.narrowing.values or not is_whole:
            return
        if unmet := sorted(only.datasets - planner.met):
            self._misses = True
            self._warnings.append(only.unmet(unmet))

    def _make_lanes(
        self, resolution: Resolution, ledger: RunLedger, planner: Planner, committer: Committer
    ) -> list[Lane]:
        lanes = []
        for source, selector_runs in resolution.selector_runs.items():
            self._selector_runs.extend(selector_runs)
            lane = Lane(
                source=source,
                client=self._clients[source],
                selector_runs=selector_runs,
                planner=planner,
                ledger=ledger,
                clock=self.ports.clock,
                workers=self.order.workers,
                work=self._worker(source, committer).work,
                held=self.held,
                one_by_one=self.order.budget.spares_lists,
            )
            if source in resolution.stopped:
                lane.stop.request(resolution.stopped[source])
            lanes.append(lane)
        return lanes

    def _worker(self, source: Source, committer: Committer) -> Worker:
        return Worker(
            source=source,
            client=self._clients[source],
            store=self.ports.store,
            catalog=self.ports.catalog,
            clock=self.ports.clock,
            stage=RAW,
            committer=committer,
            spending=self._spending,
            room=self._room,
            memory=self._memory,
        )

    async def _close(self, status: RunStatus, error: str | None) -> RunSummary:
        """Give back the leases and write down how the Run ended, for a bounded time."""
        summary = self._summary(status, error)
        if not self.run_id:  # it was not even begun
            return summary
        try:
            await undisturbed(partial(self._write_end, summary))
        except RunError as exc:
            log.error("the end of Run %s could not be written down: %s", self.run_id, exc)
            return self._summary(RunStatus.FAILED, error or str(exc))
        except Exception as exc:  # something in the summary cannot be kept: the end itself can be
            kind = type(exc).__name__
            log.error("the summary of Run %s could not be kept: %s", self.run_id, kind)
            summary = self._summary(RunStatus.FAILED, error or f"{kind}: {text_of(exc)}")
            bare = msgspec.structs.replace(summary, warnings=(), error=kind)
            with suppress(Exception):
                await undisturbed(partial(self._write_end, bare))
        return summary

    async def _write_end(self, summary: RunSummary) -> None:
        with move_on_after(LAST_WORDS_SECONDS) as patience:
            await self._give_back()
            await self.ports.throttle.give_back()
            await self.ports.catalog.close_run(self.run_id, summary)
        if patience.cancelled_caught:
            raise CatalogError("the catalog did not answer in time")

    def progress(self) -> Progress:
        """How far the Run is now."""
        counters = Counters()
        for selector_run in self._selector_runs:
            counters.add(selector_run.counters)
        done = sum(each.status is not SelectorStatus.RUNNING for each in self._selector_runs)
        return Progress(
            counters=counters,
            selectors=len(self._selector_runs),
            selectors_done=done,
            requests=sum(client.requests for client in self._clients.values()),
            received_bytes=sum(client.received_bytes for client in self._clients.values()),
            stored_bytes=self._committer.stored_bytes if self._committer else 0,
        )

    def _summary(self, status: RunStatus, error: str | None) -> RunSummary:
        progress = self.progress()
        failures: list[Failure] = [
            failure for each in self._selector_runs for failure in each.failures
        ]
        failures += self._outcomes.failures
        return RunSummary(
            run_id=self.run_id,
            status=status,
            exit_code=self._exit_code(status, progress.counters),
            started_at=self.started_at,
            finished_at=self.ports.clock.now(),
            counters=progress.counters,
            selectors=tuple(each.summary() for each in self._selector_runs),
            failures=tuple(failures[:MOST_FAILURES]),
            requests=progress.requests,
            received_bytes=progress.received_bytes,
            stored_bytes=progress.stored_bytes,
            warnings=tuple(map(self._redacted, (*self._warnings, *self._undelivered()))),
            held_plans=tuple(self._held),
            error=self._redacted(error or self._stopped_because() or "") or None,
        )

    def _redacted(self, text: str) -> str:
        for client in self._clients.values():
            text = client.redactor.redact(text)
        return writable(text)

    def _exit_code(self, status: RunStatus, counters: Counters) -> int:
        if status is RunStatus.FAILED:
            return 3
        if status is RunStatus.ABORTED:
            return 4
        # One that was cut short where nobody asked for a stop is not known to be whole, either.
        seen = (SelectorStatus.COMPLETE, SelectorStatus.UNCHANGED)
        is_whole = all(each.status in seen for each in self._selector_runs)
        incomplete = counters.failed or counters.refused or counters.not_reached
        incomplete = incomplete or not is_whole or self._misses
        return int(bool(incomplete or self._undelivered()))

    def _undelivered(self) -> Sequence[str]:
        return self._delivery.warnings if self._delivery else ()

    def _stopped_because(self) -> str | None:
        causes = [lane.stop.cause for lane in self._lanes if lane.stop.cause is not None]
        said = [text_of(cause) for cause in causes if not isinstance(cause, BudgetUsedUpError)]
        if self._short_of_budget is not None:
            said.append(self._short_of_budget)
        return "; ".join(dict.fromkeys(said)) or None

    @property
    def _short_of_budget(self) -> str | None:
        """What the budget says, if it kept the Run from something: all may be done nevertheless."""
        is_cut_short = self._spending.has_refused or self._is_unresolved
        is_cut_short = is_cut_short or any(
            each.status is SelectorStatus.STOPPED or each.counters.not_reached
            for each in self._selector_runs
        )
        return self._spending.error if is_cut_short else None


def first_of(exc: BaseException) -> BaseException:
    """What a task group failed of: the first error of ours in it, else the first of any kind."""
    if not isinstance(exc, BaseExceptionGroup):
        return exc
    errors = [first_of(each) for each in exc.exceptions]
    for kind in (RunError, IngestifyError):
        for each in errors:
            if isinstance(each, kind):
                return each
    return errors[0]
