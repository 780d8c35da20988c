"""The commit point: batches of commits are looked up, decided and written in one transaction.

A batch is divided into rounds in which no identity occurs twice, so that a later commit sees
what an earlier one did. A round is looked up, decided without touching the database, and written
with one statement for each table.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence

from ingestify.adapters.catalog import rows
from ingestify.adapters.catalog.deciding import Round
from ingestify.adapters.catalog.jobs import Direct
from ingestify.adapters.catalog.subjects import Identity, identity_of
from ingestify.errors import FenceLostError
from ingestify.model.catalog import (
    Commit,
    CommitResult,
    Conflict,
    DatasetCommit,
    Lease,
    Rejected,
)

# What makes a single commit impossible, whatever the state of the database.
REFUSALS = (sqlite3.IntegrityError, sqlite3.DataError, OverflowError, ValueError)


class BatchRefusedError(Exception):
    """A commit of the batch cannot be written. Which one shows when each is tried alone."""


def check_fences(direct: Direct, leases: Sequence[Lease]) -> None:
    """Make sure that every one of *leases* is still held.

    Raises:
        FenceLostError: one is not.
    """
    if not leases:
        return
    names = rows.json_text([lease.name for lease in leases])
    held: dict[str, int] = dict(direct.rows("held_leases", {"names": names}))
    for lease in leases:
        if held.get(lease.name) != lease.token:
            raise FenceLostError(
                f"the lease on {lease.name!r} is not held any more: token {lease.token} was given"
                f" out, {held.get(lease.name, 'none')} counts now. Nothing was written"
            )


def write_together(direct: Direct, batch: Sequence[Commit]) -> list[CommitResult]:
    """Write *batch* as a whole.

    Raises:
        BatchRefusedError: the database refuses some of it; what was written has to be undone.
    """
    results: list[CommitResult] = []
    try:
        for commits in _rounds(batch):
            results += _write_round(direct, commits)
    except REFUSALS as exc:
        raise BatchRefusedError from exc
    return results


def write_one_by_one(direct: Direct, batch: Sequence[Commit]) -> list[CommitResult]:
    """Write *batch*, and leave out what the database refuses."""
    results: list[CommitResult] = []
    for commit in batch:
        direct.run("savepoint")
        try:
            results += _write_round(direct, [commit])
        except REFUSALS as exc:
            direct.run("undo_to_savepoint")
            results.append(Rejected(message=str(exc)))
        direct.run("release_savepoint")
    return results


def _rounds(batch: Sequence[Commit]) -> Iterator[Sequence[Commit]]:
    seen: set[Identity] = set()
    begin = 0
    for position, commit in enumerate(batch):
        identity = identity_of(commit)
        if identity in seen:
            yield batch[begin:position]
            begin = position
            seen.clear()
        seen.add(identity)
    yield batch[begin:]


def _write_round(direct: Direct, commits: Sequence[Commit]) -> Sequence[CommitResult]:
    identities = rows.json_text([identity_of(commit) for commit in commits])
    found = direct.rows("look_up_identities", {"identities": identities})
    [(dataset, revision, file)] = direct.rows("next_row_ids")
    round_ = Round({row[0]: row[1:] for row in found}, (dataset, revision, file))
    for position, commit in enumerate(commits):
        if isinstance(commit, DatasetCommit):
            round_.decide_dataset(position, commit)
        else:
            round_.decide_failure(position, commit)
    for name, params in round_.writes.items():
        direct.run_many(name, params)
    return [
        _conflict(direct, commit) if result is None else result
        for commit, result in zip(commits, round_.results, strict=True)
    ]


def _conflict(direct: Direct, commit: Commit) -> Conflict:
    bucket, stage, provider, dataset_type, key = identity_of(commit)
    params = {
        "bucket": bucket,
        "stage": stage,
        "provider": provider,
        "dataset_type": dataset_type,
        "keys": rows.json_text([key]),
    }
    stored = rows.stored_by_position(direct.rows("look_up", params))
    return Conflict(stored=stored.get(0))
