"""Budgets: what a Run may spend at most, and how it ends in good order once that is used up.

Datasets that have begun to arrive are finished, nothing else is begun, and only then is the Run
asked to stop. So nothing is asked for in vain, and every Run with a budget gets something done,
unless that is too small for the lists alone, which it says.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType

from anyio import CancelScope, Event, Lock, create_task_group

from ingestify.errors import ConfigError, StopProcessing
from ingestify.model.settings import size_in_words
from ingestify.pipeline.pool import Slot
from ingestify.pipeline.stop import Stop
from ingestify.ports import Clock, Response
from ingestify.throttle import Turn

MOST_SECONDS_TO_END = 60.0  # for what has begun to arrive, and only waits for its host
GO_ON = "run again to go on from here"


class BudgetUsedUpError(StopProcessing):
    """A budget has no room for what was to be asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What one Run may spend at most; None: no limit.

    *max_requests* is exact. *max_bytes* and *max_duration* may be passed by the Datasets that
    have begun to arrive when they are used up: at most as many as requests may be in flight.
    """

    max_requests: int | None = None
    max_bytes: int | None = None  # of bodies, as they come over the wire
    max_duration: timedelta | None = None

    def __post_init__(self) -> None:
        for name in ("max_requests", "max_bytes"):
            amount = getattr(self, name)
            if amount is not None and amount < 1:
                raise ConfigError(f"{name} must be at least 1, not {amount}; leave it out for all")
        if self.max_duration is not None and self.max_duration <= timedelta(0):
            raise ConfigError("max_duration must be above 0; leave it out for any")

    @property
    def is_limited(self) -> bool:
        """Whether there is any limit."""
        return (self.max_requests, self.max_bytes, self.max_duration) != (None, None, None)

    @property
    def spares_lists(self) -> bool:
        """Whether lists must not run ahead of files, which could use up the budget for nothing."""
        return self.max_requests is not None or self.max_bytes is not None


class Spending:
    """What a Run has spent of its budget. `stop` is requested when the Run has to end for it.

    This is the `Allowance` of everything but Tasks: of lists, and of logins.
    """

    def __init__(self, budget: Budget, clock: Clock) -> None:
        self.budget = budget
        self.stop = Stop()
        self.requests = 0
        self.received_bytes = 0
        self._clock = clock
        self._began = clock.monotonic()
        self._free = budget.max_requests  # neither sent nor set aside for a Task
        self._elsewhere = 0  # requests that belong to no Task
        self._tasks: set[TaskAllowance] = set()  # that were begun
        self._admission = Lock()
        self._changed = Event()
        self._closed = Event()
        self._used_up: str | None = None  # which of the limits
        self._passed_over = 0
        self._least_needed: int | None = None  # requests, of a Dataset that was passed over
        self._begun = 0  # Tasks, without those that were dropped again
        self.drops_unbegun = False
        self.has_refused = False  # whether anything was kept from being begun

    @property
    def ends_at(self) -> float | None:
        """When its time is up, on the monotonic clock."""
        duration = self.budget.max_duration
        return None if duration is None else self._began + duration.total_seconds()

    @property
    def error(self) -> str | None:
        """Which budget is used up, how much was used, and how to go on.

        The Run may have done all nevertheless, unless the budget has refused something.
        """
        budget = self.budget
        if self._is_too_small_for_lists:
            return f"{self._too_small}, and no dataset was begun; raise it"
        match self._used_up:
            case "max_requests":
                used = f"{self.requests} of {budget.max_requests} requests were made"
            case "max_bytes":
                received, most = map(size_in_words, (self.received_bytes, budget.max_bytes or 0))
                used = f"{received} were received, of {most}"
            case "max_duration":
                passed = timedelta(seconds=round(self._clock.monotonic() - self._began))
                used = f"{passed} have passed, of {budget.max_duration}"
            case _ if self._passed_over:
                return (
                    f"max_requests = {budget.max_requests} is too little for {self._passed_over}"
                    " of the datasets, which take more requests than that: raise it"
                )
            case _:
                return None
        return f"the budget {self._used_up} is used up: {used}; {GO_ON}"

    @property
    def _is_too_small_for_lists(self) -> bool:
        """Whether another Run like this one would get no further, since lists come first."""
        if self._begun:
            return False
        needed, most = self._least_needed, self.budget.max_requests
        fits = needed is not None and most is not None and needed <= most
        return self._used_up is not None or fits

    @property
    def _too_small(self) -> str:
        budget = self.budget
        match self._used_up:
            case "max_bytes":
                most, received = map(size_in_words, (budget.max_bytes or 0, self.received_bytes))
                return f"max_bytes = {most} is too small for the lists alone: {received} came"
            case "max_duration":
                return f"max_duration = {budget.max_duration} is too short: it has passed"
            case _:
                return (
                    f"max_requests = {budget.max_requests} is too small for the lists alone:"
                    f" they took {self._elsewhere} requests"
                )

    async def watch(self) -> None:
        """Keep an eye on the time, until cancelled."""
        if not self.budget.is_limited:
            return
        async with create_task_group() as tg:
            if self.budget.max_duration is not None:
                tg.start_soon(self._watch_time)
            await self._closed.wait()
            await self._clock.sleep(MOST_SECONDS_TO_END)
            self.stop.request(self._cause())
            tg.cancel_scope.cancel()

    async def _watch_time(self) -> None:
        await self._clock.sleep((self.ends_at or 0.0) - self._clock.monotonic())
        self._close("max_duration", drop=True)

    # Tasks

    async def admit(self, requests: int, slot: Slot) -> TaskAllowance | None:
        """What a Task that takes so many requests may spend, or None if it is not to be begun.

        It may have to wait for what others do not need after all; *slot* is released meanwhile.
        Whoever is admitted leaves.
        """
        if not self._admission.locked() and self._fits(requests):
            return self._begin(requests)
        allowance: TaskAllowance | None = None
        if self._used_up is None:
            try:
                async with slot.released(), self._admission:
                    allowance = await self._wait_for_room(requests)
            except BaseException:
                if allowance is not None:
                    self.leave(allowance)
                raise
        self.has_refused = self.has_refused or allowance is None
        return allowance

    async def _wait_for_room(self, requests: int) -> TaskAllowance | None:
        while self._used_up is None and not self._fits(requests) and self._tasks:
            await self._changed.wait()
        if self._fits(requests):
            return self._begin(requests)
        most = self.budget.max_requests
        if self._used_up is None and most is not None and requests > most - self._elsewhere:
            self._passed_over += 1
            self._least_needed = min(requests, self._least_needed or requests)
        elif self._used_up is None:
            self._close("max_requests")
        return None

    def leave(self, allowance: TaskAllowance) -> None:
        """A Task has ended: what it has not used is for others."""
        self._tasks.discard(allowance)
        if self._free is not None:
            self._free += allowance.left
        self._tell()
        self._end_if_done()

    def _begin(self, requests: int) -> TaskAllowance:
        allowance = TaskAllowance(self, 0 if self._free is None else requests)
        if self._free is not None:
            self._free -= requests
        self._tasks.add(allowance)
        self._begun += 1
        return allowance

    def _fits(self, requests: int) -> bool:
        """Whether a Task may be begun now.

        While others are at work there must be as much again for each of them, so that it is
        finished even if it is redirected, or has to ask again.
        """
        if self._used_up is not None:
            return False
        if self._free is None:
            return True
        if not self._tasks:
            return requests <= self._free
        return 2 * requests <= self._free - sum(task.spare for task in self._tasks)

    # Lists and logins

    async def take(self, *, may_wait: bool) -> None:
        """See `Allowance`. Lists wait until all Tasks have ended: files come first."""
        while True:
            if self._used_up is not None and may_wait and self._tasks:
                await self._changed.wait()
            elif self._used_up is not None and (may_wait or self._free == 0):
                self.has_refused = True
                raise self._cause()
            elif self._free is None or self._free > 0:
                self.take_free()
                self._elsewhere += 1
                return
            elif may_wait and self._tasks:
                await self._changed.wait()
            else:
                self.deny()

    def give_back(self) -> None:
        """A request was not sent."""
        if self._free is not None:
            self._free += 1
            self._elsewhere -= 1

    def begin(self) -> None:
        """A request is about to be sent."""
        self.requests += 1

    def take_free(self) -> None:
        """Take one request that was not set aside."""
        if self._free is not None:
            self._free -= 1

    @property
    def is_any_free(self) -> bool:
        """Whether there is a request that was not set aside."""
        return self._free is None or self._free > 0

    def deny(self) -> None:
        """Raise that no request is left."""
        self.has_refused = True
        self._close("max_requests")
        raise self._cause()

    def drop_begun(self) -> None:
        """A Task that was begun comes too late."""
        self.has_refused = True
        self._begun -= 1

    # For Allowances

    def paid(
        self, turn: AbstractAsyncContextManager[Turn], *, may_wait: bool
    ) -> AbstractAsyncContextManager[Turn]:
        """See `Allowance.paid`."""
        return _Paid(self, turn, may_wait)

    def counting(self, response: Response) -> Response:
        """See `Allowance.counting`."""
        return response if self.budget.max_bytes is None else _Counted(response, self)

    def receive(self, count: int) -> None:
        """So many bytes have come."""
        self.received_bytes += count
        if self.budget.max_bytes is not None and self.received_bytes >= self.budget.max_bytes:
            self._close("max_bytes", drop=True)

    # The end

    def _close(self, used_up: str, *, drop: bool = False) -> None:
        """Begin nothing new, and *drop* what has not begun to arrive."""
        if self._used_up is None:
            self._used_up = used_up
            self._closed.set()
        if drop and not self.drops_unbegun:
            self.drops_unbegun = True
            for task in list(self._tasks):
                task.drop_if_unbegun()
        self._tell()
        self._end_if_done()

    def _end_if_done(self) -> None:
        if self._used_up is not None and not self._tasks:
            self.stop.request(self._cause())

    def _cause(self) -> BudgetUsedUpError:
        return BudgetUsedUpError(self.error or "the budget is used up")

    def _tell(self) -> None:
        self._changed.set()
        self._changed = Event()


class TaskAllowance:
    """The `Allowance` of one Task that was begun: the requests that were set aside for it."""

    def __init__(self, spending: Spending, requests: int) -> None:
        self.left = requests
        self.spare = requests
        self._spending = spending
        self._has_begun = False
        self._is_dropped = False
        self._waiting: set[CancelScope] = set()

    async def take(self, *, may_wait: bool) -> None:
        """Take one request of this Task's own, or else one that nobody has set aside."""
        if self.left:
            self.left -= 1
        elif self._spending.is_any_free:
            self._spending.take_free()
            self.spare = max(0, self.spare - 1)
        else:
            self._spending.deny()

    def give_back(self) -> None:
        """A request was not sent."""
        if self._spending.budget.max_requests is not None:
            self.left += 1

    def begin(self) -> None:
        """A request is about to be sent.

        Raises:
            BudgetUsedUpError: it would be the first one of a Task that comes too late.
        """
        if self._spending.drops_unbegun and not self._has_begun:
            self._drop()
            raise BudgetUsedUpError("the budget is used up")
        self._has_begun = True
        self._spending.begin()

    def drop_if_unbegun(self) -> None:
        """Wait no longer to be let through, unless something of the Task has arrived."""
        if not self._has_begun and self._waiting:
            self._drop()
            for scope in self._waiting:
                scope.cancel()

    def _drop(self) -> None:
        if not self._is_dropped:
            self._is_dropped = True
            self._spending.drop_begun()

    def paid(
        self, turn: AbstractAsyncContextManager[Turn], *, may_wait: bool
    ) -> AbstractAsyncContextManager[Turn]:
        """See `Allowance.paid`."""
        return _Paid(self, turn, may_wait, self._waiting)

    def counting(self, response: Response) -> Response:
        """See `Allowance.counting`."""
        return self._spending.counting(response)


class _Paid:
    """A turn that is entered once its request is allowed. What was not sent is given back."""

    def __init__(
        self,
        allowance: Spending | TaskAllowance,
        turn: AbstractAsyncContextManager[Turn],
        may_wait: bool,
        waiting: set[CancelScope] | None = None,
    ) -> None:
        self._allowance = allowance
        self._turn = turn
        self._may_wait = may_wait
        self._waiting = set() if waiting is None else waiting

    async def __aenter__(self) -> Turn:
        await self._allowance.take(may_wait=self._may_wait)
        turn: Turn | None = None
        scope = CancelScope()
        self._waiting.add(scope)
        try:
            with scope:
                turn = await self._turn.__aenter__()
            if turn is None:
                raise BudgetUsedUpError("the budget is used up")
            self._allowance.begin()
        except BaseException as exc:
            if turn is not None:
                await self._turn.__aexit__(type(exc), exc, exc.__traceback__)
            self._allowance.give_back()
            raise
        finally:
            self._waiting.discard(scope)
        return turn

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        return await self._turn.__aexit__(exc_type, exc, traceback)


class _Counted:
    """A Response whose body is counted while it comes."""

    def __init__(self, response: Response, spending: Spending) -> None:
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        self._response = response
        self._spending = spending

    async def chunks(self) -> AsyncIterator[bytes]:
        async for chunk in self._response.chunks():
            self._spending.receive(len(chunk))
            yield chunk
