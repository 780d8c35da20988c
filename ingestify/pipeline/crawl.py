"""A crawl: the lanes of one Run and its committer, under one task group."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from anyio import CancelScope, Event, create_task_group, move_on_after

from ingestify.errors import FatalError
from ingestify.model.catalog import Committed, FailureCommit
from ingestify.model.run import Failure
from ingestify.pipeline.budget import Spending
from ingestify.pipeline.commit import Committer
from ingestify.pipeline.lane import Lane, drop
from ingestify.pipeline.ledger import RunLedger
from ingestify.pipeline.stop import Stop
from ingestify.pipeline.task import Finished
from ingestify.ports import Catalog, Clock

BEAT_SECONDS = 10.0
LAST_WORDS_SECONDS = 10.0  # for writing down how a Run ended that was cut short
MOST_FAILURES = 1000  # kept in memory; the Catalog keeps all

Settled = Callable[[str | None], None]  # the id of a Dataset that is up to date, or None


@dataclass(kw_only=True)
class Crawl:
    """Runs lanes side by side, and lets them end in good order when asked to stop.

    After a stop nothing new is begun; what is in flight has *grace_seconds* to end, and is
    committed if it does. Where a budget is used up, it has as long as it takes.
    """

    catalog: Catalog
    clock: Clock
    run_id: int
    lanes: Sequence[Lane]
    committer: Committer
    ledger: RunLedger
    stop: Stop
    spending: Spending
    grace_seconds: float
    _lanes_scope: CancelScope = field(default_factory=CancelScope)
    _stopped: Event = field(default_factory=Event)

    async def run(self) -> None:
        """Return when every lane has ended and everything finished is committed.

        Raises:
            RunError: it could not be brought to an end.
        """
        self.stop.on_request(self._pass_on_stop)
        self.spending.stop.on_request(self._pass_on_end_of_budget)
        for lane in self.lanes:
            lane.stop.on_request(lambda lane=lane: self._rise(lane))  # type: ignore[misc]
        try:
            async with create_task_group() as tg:
                tg.start_soon(self._beat)
                tg.start_soon(self._end_grace)
                async with create_task_group() as committing:
                    committing.start_soon(self.committer.run)
                    with self._lanes_scope:
                        async with create_task_group() as lanes:
                            for lane in self.lanes:
                                lanes.start_soon(lane.run)
                    self.committer.finished.close()
                tg.cancel_scope.cancel()
        finally:
            with CancelScope(shield=True), move_on_after(LAST_WORDS_SECONDS):
                await self.ledger.close_rest()

    def _pass_on_stop(self) -> None:
        self._stopped.set()
        for lane in self.lanes:
            lane.stop.request(self.stop.cause)

    def _pass_on_end_of_budget(self) -> None:
        for lane in self.lanes:
            lane.stop.request(self.spending.stop.cause)

    def _rise(self, lane: Lane) -> None:
        """A Source that says the Run cannot go on stops all the others, too."""
        if isinstance(lane.stop.cause, FatalError):
            self.stop.request(lane.stop.cause)

    async def _beat(self) -> None:
        while True:
            await self.clock.sleep(BEAT_SECONDS)
            await self.catalog.beat(self.run_id, at=self.clock.now())

    async def _end_grace(self) -> None:
        await self._stopped.wait()
        await self.clock.sleep(self.grace_seconds)
        self._lanes_scope.cancel()


@dataclass(kw_only=True)
class Outcomes:
    """Counts what came of each Task, and passes on which Datasets are up to date now."""

    settled: Settled | None = None
    failures: list[Failure] = field(default_factory=list)

    def settle(self, finished: Finished, result: Committed | None) -> None:
        """*finished* is committed as *result* says, or was given up."""
        task, commit = finished.task, finished.commit
        counters = task.selector_run.counters
        if result is None:
            drop(task)
            return
        row_id = result.row_id
        if isinstance(commit, FailureCommit):
            counters.failed += 1
            if len(self.failures) < MOST_FAILURES:
                self.failures.append(commit.failure)
        elif result.revision is not None or result.is_new:
            counters.stored += 1
        else:
            counters.unchanged += 1
        succeeded = not isinstance(commit, FailureCommit)
        task.claim.settle(row_id, succeeded=succeeded, is_new=task.stored is None)
        task.selector_run.settle(row_id, succeeded)
        if succeeded and self.settled is not None:
            self.settled(result.dataset_id)
