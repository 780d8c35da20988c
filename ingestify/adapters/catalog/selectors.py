"""What is known of Selectors: tokens, validators, cursors, and the Datasets they list."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from ingestify.adapters.catalog import deciding, rows
from ingestify.adapters.catalog.connection import Params, Session
from ingestify.errors import CatalogError
from ingestify.model.catalog import Completion, Scope, SelectorClosing, SelectorState


async def state(session: Session, scope: Scope) -> SelectorState | None:
    """What is known of a Selector, or None before its first Run."""
    row = await session.row("selector_state", msgspec.structs.asdict(scope))
    return None if row is None else rows.selector_state(row)


async def begin(
    session: Session,
    scope: Scope,
    *,
    run_id: int,
    name: str | None,
    token: str | None,
    at: datetime,
) -> SelectorState:
    """Open a SelectorRun, and keep a token that differs from the one that is known.

    Returns what was known until now. From now on there is no complete Run to rely on, until a
    SelectorRun is complete: a list that goes back to what it was would else be answered with 304,
    while this SelectorRun may have stored what it was in between.
    """
    met = {**msgspec.structs.asdict(scope), "name": name, "token": token, "run_id": run_id}
    [(selector,)] = await session.rows("meet_selector", met)
    opened = {"run_id": run_id, "selector": selector, "at": rows.moment(at)}
    await session.run("open_selector_run", opened)
    [row] = await session.rows("selector_state", msgspec.structs.asdict(scope))
    await session.run("distrust_selector", {"selector": selector})
    return rows.selector_state(row)


async def has_unsettled(session: Session, scope: Scope, *, older_than: datetime | None) -> bool:
    """Whether a File of a listed Dataset has to be asked for, whatever the list says."""
    since = None if older_than is None else rows.moment(older_than)
    params = {**msgspec.structs.asdict(scope), "older_than": since}
    [(answer,)] = await session.rows("has_unsettled", params)
    return bool(answer)


async def finish(session: Session, closing: SelectorClosing) -> int:
    """Close a SelectorRun with all it leaves behind. Returns how many Datasets are newly gone."""
    params = {
        "selector_run_id": closing.selector_run_id,
        "run_id": closing.run_id,
        "status": closing.status,
        "at": rows.moment(closing.at),
        "counters": rows.json_text(closing.counters),
        "reasons": rows.json_text(closing.reasons),
        "error": closing.error,
    }
    row = await session.row("close_selector_run", params)
    if row is None:
        run = f"SelectorRun {closing.selector_run_id} of Run {closing.run_id}"
        raise CatalogError(f"there is no {run} to close")
    await session.run_many("insert_failure", _failures(closing))
    if closing.completion is None:
        return 0
    settled = {"run_id": closing.run_id, "bucket": closing.scope.bucket, "selector": row[0]}
    await session.run("resolve_failures_of_selector", settled)
    gone = await _complete(session, row[0], closing.completion, at=closing.at)
    if gone != closing.counters.gone:
        counters = msgspec.structs.replace(closing.counters, gone=gone)
        params["counters"] = rows.json_text(counters)
        await session.row("close_selector_run", params)
    return gone


async def settle_failures(
    session: Session,
    *,
    bucket: str,
    source: str,
    dataset_type: str,
    selector_keys: Sequence[str],
    run_id: int,
) -> None:
    """Resolve what failed in Selectors that are none of *selector_keys*, in earlier Runs."""
    params = {
        "bucket": bucket,
        "source": source,
        "dataset_type": dataset_type,
        "selector_keys": rows.json_text(selector_keys),
        "run_id": run_id,
    }
    await session.run("resolve_failures_of_other_selectors", params)


async def _complete(
    session: Session, selector: int, completion: Completion, *, at: datetime
) -> int:
    validators = completion.validators
    clean = completion.clean and not await _some_are_gone(session, completion)
    params = {
        "selector": selector,
        "clean": clean,
        "unchanged": completion.row_ids is None,
        "fingerprint": completion.fingerprint,
        "validators": None if validators is None else rows.json_text(validators),
        "state": _json_of_state(completion),
    }
    await session.run("complete_selector", params)
    if completion.row_ids is None:
        return 0
    listed = {
        "selector": selector,
        "row_ids": rows.json_text(completion.row_ids),
        "at": rows.moment(at),
    }
    await session.run("list_met", listed)
    return await session.run("list_gone", listed)


async def _some_are_gone(session: Session, completion: Completion) -> bool:
    """Whether a Dataset was deleted after it was met: the list then has to be looked at again."""
    if not completion.row_ids:
        return False
    params = {"row_ids": rows.json_text(completion.row_ids)}
    [(answer,)] = await session.rows("some_are_gone", params)
    return bool(answer)


def _json_of_state(completion: Completion) -> str:
    try:
        return rows.json_text(completion.state)
    except (TypeError, ValueError, RecursionError) as exc:
        raise CatalogError(f"a Source's state cannot be kept, it is no JSON: {exc}") from exc


def _failures(closing: SelectorClosing) -> list[Params]:
    """A Selector's failures happened in its own Run, and now, unless they say otherwise."""
    return [
        deciding.failure_row(
            msgspec.structs.replace(
                failure,
                run_id=failure.run_id or closing.run_id,
                failed_at=failure.failed_at or closing.at,
            ),
            selector_run_id=closing.selector_run_id,
            bucket=closing.scope.bucket,
            stage=None,
        )
        for failure in closing.failures
    ]
