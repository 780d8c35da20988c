"""The Runs, leases and Selectors of a MemoryCatalog."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

import msgspec

from ingestify.adapters.catalog.memory_datasets import Datasets, utc
from ingestify.adapters.catalog.quota import KEPT, granted
from ingestify.adapters.catalog.subjects import Identity
from ingestify.errors import CatalogError, FenceLostError
from ingestify.model.catalog import (
    Completion,
    Holder,
    Lease,
    Scope,
    SelectorClosing,
    SelectorState,
)
from ingestify.model.dataset import CheckOutcome
from ingestify.model.run import (
    Counters,
    Failure,
    RunRow,
    RunStatus,
    RunSummary,
    SelectorStatus,
)


@dataclass
class KeptLease:
    """Who has a lease. A holder that is gone without giving it back leaves its Run behind."""

    token: int
    run_id: int | None
    holder: object | None
    since: datetime | None = None


@dataclass
class KeptSelectorRun:
    """One SelectorRun."""

    run_id: int
    scope: Scope
    status: SelectorStatus = SelectorStatus.RUNNING


@dataclass
class KeptSelector:
    """What is known of a Selector, and since when each Dataset it listed is gone, if it is."""

    state: SelectorState
    listing: dict[int, datetime | None] = field(default_factory=dict)


class Runs:
    """Every Run with its SelectorRuns, every Selector, every lease."""

    def __init__(self, datasets: Datasets) -> None:
        self._datasets = datasets
        self._runs: dict[int, RunRow] = {}
        self._heartbeats: dict[int, datetime] = {}
        self._leases: dict[str, KeptLease] = {}
        self._selector_runs: dict[int, KeptSelectorRun] = {}
        self._selectors: dict[Scope, KeptSelector] = {}
        self._quotas: dict[tuple[date, str], int] = {}

    # Runs

    def begin(self, *, started_at: datetime) -> int:
        run_id, at = len(self._runs) + 1, utc(started_at)
        self._heartbeats[run_id] = at
        self._runs[run_id] = RunRow(
            run_id=run_id,
            status=RunStatus.RUNNING,
            started_at=at,
            finished_at=None,
            counters=Counters(),
            requests=0,
            received_bytes=0,
            stored_bytes=0,
        )
        return run_id

    def beat(self, run_id: int, *, at: datetime) -> None:
        self._heartbeats[run_id] = utc(at)

    def close(self, run_id: int, summary: RunSummary) -> None:
        if run_id not in self._runs:
            raise CatalogError(f"there is no Run {run_id} to close")
        self._runs[run_id] = msgspec.structs.replace(
            self._runs[run_id],
            status=summary.status,
            finished_at=utc(summary.finished_at),
            counters=msgspec.structs.replace(summary.counters),
            requests=summary.requests,
            received_bytes=summary.received_bytes,
            stored_bytes=summary.stored_bytes,
            error=summary.error,
            exit_code=summary.exit_code,
        )
        self._stop_selector_runs(run_id)

    def close_crashed(self, *, silent_since: datetime, at: datetime) -> Sequence[int]:
        since, ahead = utc(silent_since), utc(at + (at - silent_since))
        held = {lease.run_id for lease in self._leases.values() if lease.holder is not None}
        silent = [
            run_id
            for run_id, heartbeat in self._heartbeats.items()
            if not since <= heartbeat <= ahead and run_id not in held and self._is_running(run_id)
        ]
        for run_id in silent:
            self._crash(run_id, at)
        return silent

    def newest(self, limit: int) -> Sequence[RunRow]:
        return list(reversed(self._runs.values()))[:limit]

    # Leases

    def acquire(self, name: str, *, run_id: int, at: datetime, holder: object) -> Lease | None:
        lease = self._leases.setdefault(name, KeptLease(0, None, None))
        if lease.holder is not None:
            return None
        if lease.run_id not in (None, run_id) and self._is_running(lease.run_id or 0):
            self._crash(lease.run_id or 0, at)
        lease.token += 1
        lease.run_id, lease.holder, lease.since = run_id, holder, utc(at)
        return Lease(name=name, token=lease.token)

    def release(self, lease: Lease) -> None:
        kept = self._leases.get(lease.name)
        if kept is not None and kept.token == lease.token:
            kept.run_id = kept.holder = None

    def lease_holder(self, name: str) -> Holder | None:
        lease = self._leases.get(name)
        if lease is None or lease.run_id is None or lease.since is None:
            return None
        return Holder(run_id=lease.run_id, since=lease.since)

    def drop_holder(self, holder: object) -> None:
        """*holder* is gone; whatever it held can be acquired."""
        for lease in self._leases.values():
            if lease.holder is holder:
                lease.holder = None

    def check_fences(self, leases: Sequence[Lease]) -> None:
        for lease in leases:
            kept = self._leases.get(lease.name)
            if kept is None or kept.token != lease.token or kept.run_id is None:
                raise FenceLostError(f"the lease on {lease.name!r} is not held any more")

    # Quotas

    def spend_quota(self, source: str, *, day: date, count: int, most: int) -> int:
        used = self._quotas.get((day, source))
        if used is None:
            for key in [key for key in self._quotas if key[0] < day - KEPT]:
                del self._quotas[key]
        given = granted(used or 0, count=count, most=most)
        self._quotas[day, source] = (used or 0) + given
        return given

    # Selectors

    def selector_state(self, scope: Scope) -> SelectorState | None:
        kept = self._selectors.get(scope)
        return None if kept is None else self._with_settled(scope, kept.state)

    def _with_settled(self, scope: Scope, state: SelectorState) -> SelectorState:
        is_settled = not self.has_unsettled(scope, older_than=None)
        return msgspec.structs.replace(state, is_settled=is_settled)

    def begin_selector(self, scope: Scope, *, run_id: int, token: str | None) -> SelectorState:
        if run_id not in self._runs:
            raise CatalogError(f"there is no Run {run_id}")
        self._selector_runs[len(self._selector_runs) + 1] = KeptSelectorRun(run_id, scope)
        kept = self._selectors.get(scope)
        if kept is None:
            kept = self._selectors[scope] = KeptSelector(
                SelectorState(
                    row_id=len(self._selectors) + 1,
                    selector_run_id=0,
                    run_id=0,
                    token=None,
                    token_run_id=0,
                    complete_token=None,
                    fingerprint=None,
                    validators=None,
                    state={},
                    is_settled=False,
                )
            )
        changes: dict[str, Any] = {"selector_run_id": len(self._selector_runs), "run_id": run_id}
        if token is not None and token != kept.state.token:
            changes |= {"token": token, "token_run_id": run_id}
        state = msgspec.structs.replace(kept.state, **changes)
        kept.state = msgspec.structs.replace(state, fingerprint=None)
        return self._with_settled(scope, state)

    def has_unsettled(self, scope: Scope, *, older_than: datetime | None) -> bool:
        kept = self._selectors.get(scope)
        listed = [] if kept is None else [row for row, gone in kept.listing.items() if gone is None]
        since = None if older_than is None else utc(older_than)
        return any(
            check.outcome is CheckOutcome.FAILED
            or bool(check.suspect)
            or (since is not None and check.checked_at < since)
            for row_id in listed
            for check in self._datasets.by_row[row_id].checks.values()
        )

    def finish_selector(self, closing: SelectorClosing) -> int:
        at, selector_run = utc(closing.at), self._selector_runs.get(closing.selector_run_id)
        if selector_run is None or selector_run.run_id != closing.run_id:
            raise CatalogError(f"there is no SelectorRun {closing.selector_run_id} to close")
        kept, completion = self._selectors[selector_run.scope], closing.completion
        if completion is not None and self._have_gone(completion):
            completion = msgspec.structs.replace(completion, clean=False)
        changes = {} if completion is None else _changes(kept.state, completion)
        selector_run.status = closing.status
        for failure in closing.failures:
            own = msgspec.structs.replace(
                failure, run_id=failure.run_id or closing.run_id, bucket=closing.scope.bucket
            )
            self._datasets.keep_failure(
                own, closing.selector_run_id, None, at=failure.failed_at or at
            )
        kept.state = msgspec.structs.replace(kept.state, **changes)
        if completion is not None:
            self.settle_failures(lambda scope: scope == closing.scope, run_id=closing.run_id)
        if completion is None or completion.row_ids is None:
            return 0
        known = [row for row in completion.row_ids if row in self._datasets.by_row]
        kept.listing |= dict.fromkeys(known)
        gone = [row for row, since in kept.listing.items() if since is None]
        gone = sorted(set(gone) - set(known))
        kept.listing |= dict.fromkeys(gone, at)
        return len(gone)

    def listed_in(self, row_id: int) -> Sequence[str]:
        """The keys of the Selectors that have listed the Dataset."""
        return [
            scope.selector_key for scope, kept in self._selectors.items() if row_id in kept.listing
        ]

    def forget_dataset(self, row_id: int) -> None:
        """It is deleted: whoever has listed it has to look again from the beginning."""
        for kept in self._selectors.values():
            if row_id in kept.listing:
                del kept.listing[row_id]
                kept.state = msgspec.structs.replace(
                    kept.state, fingerprint=None, validators=None, state={}
                )

    def _have_gone(self, completion: Completion) -> bool:
        return any(row not in self._datasets.by_row for row in completion.row_ids or ())

    # Failures

    def failures(
        self, *, run_id: int | None, limit: int, about: Sequence[Identity] | None = None
    ) -> Sequence[Failure]:
        """Those that count, or those of a Run; *about* some Datasets or all."""
        found = []
        seen = set()
        newest = {
            selector_run.scope: row_id
            for row_id, selector_run in self._selector_runs.items()
            if selector_run.status is not SelectorStatus.RUNNING
        }
        for kept in reversed(self._datasets.failures):
            if run_id is not None:
                is_wanted = kept.failure.run_id == run_id
            elif kept.identity is not None:
                is_wanted = not kept.is_resolved and kept.identity not in seen
                seen.add(kept.identity)
            else:
                selector_run = self._selector_runs.get(kept.selector_run_id or 0)
                is_wanted = (
                    not kept.is_resolved
                    and selector_run is not None
                    and newest.get(selector_run.scope) == kept.selector_run_id
                )
            if is_wanted and (about is None or kept.identity in about):
                found.append(kept.failure)
        return found[:limit]

    def settle_failures(self, concerns: Callable[[Scope], bool], *, run_id: int) -> None:
        """Resolve what failed before *run_id* in the Selectors that this *concerns*."""
        for kept in self._datasets.failures:
            selector_run = self._selector_runs.get(kept.selector_run_id or 0)
            if kept.failure.run_id < run_id and selector_run and concerns(selector_run.scope):
                kept.is_resolved = True

    def _is_running(self, run_id: int) -> bool:
        return run_id in self._runs and self._runs[run_id].status is RunStatus.RUNNING

    def _crash(self, run_id: int, at: datetime) -> None:
        self._runs[run_id] = msgspec.structs.replace(
            self._runs[run_id],
            status=RunStatus.CRASHED,
            finished_at=utc(at),
            error="its process ended before the Run was closed",
        )
        self._stop_selector_runs(run_id)

    def _stop_selector_runs(self, run_id: int) -> None:
        for selector_run in self._selector_runs.values():
            if selector_run.run_id == run_id and selector_run.status is SelectorStatus.RUNNING:
                selector_run.status = SelectorStatus.STOPPED


def _changes(state: SelectorState, completion: Completion) -> Mapping[str, Any]:
    """What *completion* changes in a Selector's state."""
    changes = {"complete_token": state.token, "fingerprint": None, "validators": None}
    if not completion.clean:
        return changes
    is_unchanged = completion.row_ids is None
    return {
        **changes,
        "fingerprint": completion.fingerprint,
        "validators": state.validators if is_unchanged else completion.validators,
        "state": state.state if is_unchanged else _through_json(completion.state),
    }


def _through_json(state: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        copied: Mapping[str, Any] = msgspec.json.decode(msgspec.json.encode(state))
    except (TypeError, ValueError, RecursionError) as exc:
        raise CatalogError(f"a Source's state cannot be kept, it is no JSON: {exc}") from exc
    return copied
