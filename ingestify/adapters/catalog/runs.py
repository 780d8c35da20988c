"""How Runs begin and end, and who holds which lease."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from ingestify.adapters.catalog import rows
from ingestify.adapters.catalog.connection import Session
from ingestify.errors import CatalogError
from ingestify.model.catalog import Holder, Lease
from ingestify.model.run import Failure, RunRow, RunSummary

CRASHED = "its process ended before the Run was closed"


async def begin(session: Session, *, started_at: datetime, fingerprint: str) -> int:
    """Write down a Run that begins. Returns its id."""
    params = {"at": rows.moment(started_at), "fingerprint": fingerprint}
    [(run_id,)] = await session.rows("insert_run", params)
    return int(run_id)


async def beat(session: Session, run_id: int, *, at: datetime) -> None:
    """Write down that the Run is still alive."""
    await session.run("beat", {"run_id": run_id, "at": rows.moment(at)})


async def close(session: Session, run_id: int, summary: RunSummary) -> None:
    """Write down how a Run ended, and stop those of its SelectorRuns that nobody closed."""
    finished_at = rows.moment(summary.finished_at)
    params = {
        "run_id": run_id,
        "status": summary.status,
        "finished_at": finished_at,
        "exit_code": summary.exit_code,
        "counters": rows.json_text(summary.counters),
        "requests": summary.requests,
        "received_bytes": summary.received_bytes,
        "stored_bytes": summary.stored_bytes,
        "warnings": rows.json_text(summary.warnings),
        "error": summary.error,
    }
    if not await session.run("close_run", params):
        raise CatalogError(f"there is no Run {run_id} to close")
    await _stop_selector_runs(session, [run_id], at=finished_at, error=summary.error)


async def silent(session: Session, *, since: datetime, at: datetime) -> dict[int, set[str]]:
    """Runs that say they are running but were silent since then, with the leases they hold."""
    found: dict[int, set[str]] = {}
    for run_id, lease in await session.rows("silent_runs", _silence(since, at)):
        found.setdefault(run_id, set()).update({lease} - {None})
    return found


async def close_silent(
    session: Session, run_ids: Collection[int], *, since: datetime, at: datetime
) -> Sequence[int]:
    """Close those of *run_ids* that are still silent as crashed. Returns which."""
    params = {
        "run_ids": rows.json_text(sorted(run_ids)),
        **_silence(since, at),
        "at": rows.moment(at),
        "error": CRASHED,
    }
    closed = sorted(run_id for (run_id,) in await session.rows("crash_silent_runs", params))
    await _stop_selector_runs(session, closed, at=params["at"], error=CRASHED)
    return closed


def _silence(since: datetime, at: datetime) -> dict[str, str]:
    """Between which moments a Run that is alive has given its last sign of life. One that says
    it will be alive tomorrow has ended before the clock was set back."""
    return {"silent_since": rows.moment(since), "ahead": rows.moment(at + (at - since))}


async def take_lease(session: Session, name: str, *, run_id: int, at: datetime) -> int:
    """Give the lease to *run_id*, whose lock says that nobody has it. Returns its token.

    A holder that did not give it back has ended without closing its Run.
    """
    now = rows.moment(at)
    holder = await session.row("lease_holder", {"name": name})
    if holder is not None and holder[0] not in (None, run_id):
        params = {"run_id": holder[0], "at": now, "error": CRASHED}
        if await session.run("crash_run", params):
            await _stop_selector_runs(session, [holder[0]], at=now, error=CRASHED)
    [(token,)] = await session.rows("take_lease", {"name": name, "run_id": run_id, "at": now})
    return int(token)


async def give_lease_back(session: Session, lease: Lease) -> bool:
    """Write down that *lease* is not held any more. Returns whether it was until now."""
    params = {"name": lease.name, "token": lease.token}
    return await session.run("give_lease_back", params) > 0


async def lease_holder(session: Session, name: str) -> Holder | None:
    """Who has the lease called *name*, as far as that is written down."""
    row = await session.row("lease_holder", {"name": name})
    if row is None or row[0] is None:
        return None
    return Holder(run_id=row[0], since=datetime.fromisoformat(row[1]))


async def newest(session: Session, *, limit: int) -> Sequence[RunRow]:
    """The newest Runs, newest first."""
    return [rows.run_row(row) for row in await session.rows("runs", {"limit": limit})]


async def failures(
    session: Session, *, run_id: int | None, dataset_id: str | None, limit: int
) -> Sequence[Failure]:
    """What failed in a Run, or of a Dataset, or what failed at last and has not succeeded since;
    newest first."""
    if dataset_id is not None:
        params = {"dataset_id": dataset_id, "run_id": run_id, "limit": limit}
        name = "dataset_failures" if run_id is None else "dataset_failures_of_run"
        found = await session.rows(name, params)
    elif run_id is None:
        found = await session.rows("open_failures", {"limit": limit})
    else:
        found = await session.rows("run_failures", {"run_id": run_id, "limit": limit})
    return [rows.failure(row) for row in found]


async def _stop_selector_runs(
    session: Session, run_ids: Sequence[int], *, at: str, error: str | None
) -> None:
    params = {"run_ids": rows.json_text(run_ids), "at": at, "error": error}
    await session.run("stop_selector_runs", params)
