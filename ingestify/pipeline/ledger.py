"""The ledger: what the Catalog is told of each SelectorRun, and what it says in return."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Protocol

import msgspec
from anyio import CancelScope

from ingestify.errors import RunError
from ingestify.model.catalog import Completion, ListValidators, SelectorClosing
from ingestify.model.run import SelectorStatus
from ingestify.pipeline.selector_run import SelectorRun
from ingestify.ports import Catalog, Clock

log = logging.getLogger("ingestify.run")

NEVER_YET = 2**62  # an id that no Run has had so far


class Ledger(Protocol):
    """Opens and closes SelectorRuns."""

    async def open(self, selector_run: SelectorRun) -> ListValidators | None:
        """Begin. Returns what the list may be asked for conditionally with, if it may."""
        ...

    async def close(self, selector_run: SelectorRun) -> None:
        """Everything that was listed has its outcome, or the Run has ended."""
        ...


class RunLedger:
    """Writes down what a Run does."""

    def __init__(
        self, catalog: Catalog, clock: Clock, *, run_id: int, forced: bool, sees_all: bool = False
    ) -> None:
        self._catalog = catalog
        self._clock = clock
        self._run_id = run_id
        self._forced = forced
        self._sees_all = sees_all  # even what is listed in lists that have not changed
        self._open: dict[int, SelectorRun] = {}

    async def open(self, selector_run: SelectorRun) -> ListValidators | None:
        """Write down that *selector_run* begins, and its Selector's token before anything else:
        a Run that crashes must not make the next one ask again for what it has done."""
        selector = selector_run.selector
        now = self._clock.now()
        state = await self._catalog.begin_selector(
            selector_run.scope,
            run_id=self._run_id,
            name=selector.name,
            token=selector.token,
            at=now,
        )
        selector_run.begin(state, run_id=self._run_id, announced_in=state.token_run_id)
        self._open[id(selector_run)] = selector_run
        log.info("%s: looking at %s", selector_run.source, selector_run.label)
        if self._sees_all:
            return None
        return await trusted_validators(self._catalog, selector_run, now, forced=self._forced)

    async def close(self, selector_run: SelectorRun) -> None:
        """Write down how *selector_run* ended, and what it lists if it saw the whole list."""
        if selector_run.counters.not_reached and selector_run.status is not SelectorStatus.FAILED:
            selector_run.status = SelectorStatus.STOPPED
        now = self._clock.now()
        closing = SelectorClosing(
            scope=selector_run.scope,
            run_id=self._run_id,
            selector_run_id=selector_run.selector_run_id,
            status=selector_run.status,
            counters=selector_run.counters,
            reasons=selector_run.reasons,
            failures=[
                msgspec.structs.replace(failure, failed_at=now) for failure in selector_run.failures
            ],
            error=selector_run.error,
            completion=completion(selector_run),
            at=now,
        )
        with CancelScope(shield=True):  # else it would be closed again, and otherwise
            selector_run.counters.gone = await self._catalog.finish_selector(closing)
            del self._open[id(selector_run)]
        selector_run.forget()
        log.info("%s: %s: %s", selector_run.source, selector_run.label, _account(selector_run))

    async def close_rest(self) -> None:
        """Close the SelectorRuns that the end of the Run has cut short.

        Where they cannot be, closing the Run will say so, or will stop them.
        """
        rest = list(self._open.values())
        for selector_run in rest:
            if selector_run.status is not SelectorStatus.FAILED:
                selector_run.status = SelectorStatus.STOPPED
        try:
            for selector_run in rest:
                await self.close(selector_run)
        except RunError as exc:
            log.warning("what the Run has cut short could not be closed: %s", exc)


class ForecastLedger:
    """Reads what a Run would read, and writes nothing."""

    def __init__(self, catalog: Catalog, clock: Clock, *, forced: bool) -> None:
        self._catalog = catalog
        self._clock = clock
        self._forced = forced

    async def open(self, selector_run: SelectorRun) -> ListValidators | None:
        """Take over what is known, as if a Run began now."""
        state = await self._catalog.selector_state(selector_run.scope)
        token = selector_run.selector.token
        is_new_token = token is not None and (state is None or state.token != token)
        announced_in = NEVER_YET if is_new_token else state.token_run_id if state else 0
        selector_run.begin(state, run_id=0, announced_in=announced_in)
        if is_new_token:
            return None
        return await trusted_validators(
            self._catalog, selector_run, self._clock.now(), forced=self._forced
        )

    async def close(self, selector_run: SelectorRun) -> None:
        """Nothing was begun."""


def _account(selector_run: SelectorRun) -> str:
    """What became of it, in a few words: only what there was any of."""
    counts = msgspec.structs.asdict(selector_run.counters)
    told = [f"{count} {name.replace('_', ' ')}" for name, count in counts.items() if count]
    return f"{selector_run.status}, {', '.join(told) or 'nothing to look at'}"


async def trusted_validators(
    catalog: Catalog, selector_run: SelectorRun, now: datetime, *, forced: bool
) -> ListValidators | None:
    """What the list may be asked for conditionally with: only where a 304 would tell the truth.

    That is when nothing but the list could have changed since the last complete Run, and
    nothing that it listed waits to be asked for again.
    """
    state = selector_run.known
    if state is None or state.validators is None or selector_run.only is not None:
        return None
    if state.fingerprint != selector_run.fingerprint or state.complete_token != state.token:
        return None
    if any(policy.must_list(forced=forced) for policy in selector_run.policies):
        return None
    ages = [each.refetch_after for each in selector_run.policies if each.refetch_after is not None]
    older_than = now - min(ages) if ages else None
    is_settled = state.is_settled and older_than is None
    if is_settled or not await catalog.has_unsettled(selector_run.scope, older_than=older_than):
        return state.validators
    return None


def completion(selector_run: SelectorRun) -> Completion | None:
    """What *selector_run* leaves behind, or None where it did not see all that is listed.

    A record that was refused may be a Dataset of ours: then nobody can say what is gone.
    """
    if selector_run.counters.refused or selector_run.counters.not_reached:
        return None
    if selector_run.only is not None:  # then it did not look at all that it saw
        return None
    if selector_run.status is SelectorStatus.COMPLETE:
        return Completion(
            row_ids=list(selector_run.met),
            clean=selector_run.is_clean,
            fingerprint=selector_run.fingerprint,
            validators=selector_run.validators,
            state=selector_run.state,
        )
    known = selector_run.known
    if selector_run.status is SelectorStatus.UNCHANGED and known is not None:
        return Completion(
            row_ids=None,
            clean=True,
            fingerprint=selector_run.fingerprint,
            validators=known.validators,
            state=dict(known.state),
        )
    return None
