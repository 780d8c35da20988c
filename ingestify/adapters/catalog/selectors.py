"""What is known of Selectors: tokens, validators, cursors, and the Datasets they list."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence
from datetime import datetime

import msgspec

from ingestify.adapters.catalog import deciding, rows
from ingestify.adapters.catalog.connection import Session
from ingestify.adapters.catalog.jobs import Direct, Params
from ingestify.errors import CatalogError
from ingestify.model.catalog import Completion, Scope, SelectorClosing, SelectorState


async def state(session: Session, scope: Scope) -> SelectorState | None:
    """What is known of a Selector, or None before its first Run."""
    row = await session.row("selector_state", msgspec.structs.asdict(scope))
    return None if row is None else rows.selector_state(row)


def begin(
    direct: Direct,
    *,
    scope: Scope,
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
    [(selector,)] = direct.rows("meet_selector", met)
    opened = {"run_id": run_id, "selector": selector, "at": rows.moment(at)}
    direct.run("open_selector_run", opened)
    [row] = direct.rows("selector_state", msgspec.structs.asdict(scope))
    direct.run("distrust_selector", {"selector": selector})
    return rows.selector_state(row)


async def has_unsettled(session: Session, scope: Scope, *, older_than: datetime | None) -> bool:
    """Whether a File of a listed Dataset has to be asked for, whatever the list says."""
    since = None if older_than is None else rows.moment(older_than)
    params = {**msgspec.structs.asdict(scope), "older_than": since}
    [(answer,)] = await session.rows("has_unsettled", params)
    return bool(answer)


def finish(direct: Direct, *, closing: SelectorClosing) -> int:
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
    row = direct.row("close_selector_run", params)
    if row is None:
        run = f"SelectorRun {closing.selector_run_id} of Run {closing.run_id}"
        raise CatalogError(f"there is no {run} to close")
    direct.run_many("insert_failure", _failures(closing))
    if closing.completion is None:
        return 0
    settled = {"run_id": closing.run_id, "bucket": closing.scope.bucket, "selector": row[0]}
    direct.run("resolve_failures_of_selector", settled)
    gone = _complete(direct, row[0], closing.completion, at=closing.at)
    if gone != closing.counters.gone:
        counters = msgspec.structs.replace(closing.counters, gone=gone)
        params["counters"] = rows.json_text(counters)
        direct.row("close_selector_run", params)
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


def _complete(direct: Direct, selector: int, completion: Completion, *, at: datetime) -> int:
    """Keep what a whole list leaves behind. Returns how many Datasets are newly gone.

    A list of the same Datasets as before is only compared with a digest: that none of them was
    deleted since is known too, for that would have taken the digest away.
    """
    [(is_settled, listed_before)] = direct.rows("what_was_listed", {"selector": selector})
    row_ids, gone = completion.row_ids, 0
    digest = listed_before if row_ids is None else _digest(row_ids)
    is_same = digest == listed_before
    validators = completion.validators
    some_are_gone = not is_same and _some_are_gone(direct, completion)
    is_clean = completion.clean and not some_are_gone
    params = {
        "selector": selector,
        "clean": is_clean,
        "unchanged": row_ids is None,
        "fingerprint": completion.fingerprint,
        "validators": None if validators is None else rows.json_text(validators),
        "state": _json_of_state(completion),
    }
    direct.run("complete_selector", params)
    if not is_same:
        listed = {
            "selector": selector,
            "row_ids": rows.json_text(row_ids),
            "at": rows.moment(at),
        }
        direct.run("list_met", listed)
        gone = direct.run("list_gone", listed)
    if not is_same or not is_settled:
        direct.run(
            "settle_selector", {"selector": selector, "listed": None if some_are_gone else digest}
        )
    return gone


def _digest(row_ids: Sequence[int]) -> bytes:
    return hashlib.blake2b(array("q", row_ids).tobytes(), digest_size=16).digest()


def _some_are_gone(direct: Direct, completion: Completion) -> bool:
    """Whether a Dataset was deleted after it was met: the list then has to be looked at again."""
    if not completion.row_ids:
        return False
    params = {"row_ids": rows.json_text(completion.row_ids)}
    [(answer,)] = direct.rows("some_are_gone", params)
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
