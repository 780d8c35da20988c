"""Rows of the database become values, and values become what a statement can be given."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from ingestify.model.catalog import ListValidators, SelectorState
from ingestify.model.dataset import (
    CheckOutcome,
    Dataset,
    DatasetState,
    File,
    FileCheck,
    Revision,
    RevisionState,
    Stored,
    StoredFile,
    Suspicion,
)
from ingestify.model.event import Event, EventType
from ingestify.model.identity import Identifier
from ingestify.model.run import Counters, Failure, RunRow, RunStatus

OUTCOMES = {outcome.value: outcome for outcome in CheckOutcome}  # quicker than CheckOutcome(…)
SUSPICIONS = tuple(Suspicion)

Row = tuple[Any, ...]


def moment(at: datetime) -> str:
    """*at* as text in UTC, of one width, so that texts sort as moments do.

    Raises:
        ValueError: it has no time zone.
    """
    if at.utcoffset() is None:
        raise ValueError(f"a moment must be timezone-aware: {at}")
    return at.astimezone(UTC).isoformat(timespec="microseconds")[:-6] + "Z"


def json_text(value: Any) -> str:
    """*value* as JSON."""
    return msgspec.json.encode(value).decode()


def stored_by_position(rows: Iterable[Row]) -> dict[int, Stored]:
    """What `look_up` found, by the position of its key. The hot path: one row for each File."""
    found: dict[int, Stored] = {}
    parse = datetime.fromisoformat
    for (
        position, row_id, dataset_id, revision, details_hash, feed, spec, outcome, run_id,
        checked_at, token, etag, last_modified, suspect, reason, sha256, damaged_path,
    ) in rows:  # fmt: skip
        stored = found.get(position)
        if stored is None:
            files: dict[tuple[str, str], StoredFile] = {}
            stored = found[position] = Stored(
                row_id=row_id,
                dataset_id=dataset_id,
                revision=revision,
                details_hash=details_hash,
                files=files,
            )
        if feed is not None:
            check = FileCheck(
                data_feed_key=feed,
                data_spec_version=spec,
                outcome=OUTCOMES[outcome],
                run_id=run_id,
                checked_at=parse(checked_at),
                token=token,
                etag=etag,
                last_modified=last_modified,
                suspect=SUSPICIONS[suspect],
                reason=reason,
            )
            stored.files[feed, spec] = StoredFile(  # type: ignore[index]
                check=check, sha256=sha256, damaged_path=damaged_path
            )
    return found


def file_check(row: Row) -> FileCheck:
    """One row of `checks`."""
    return FileCheck(
        data_feed_key=row[0],
        data_spec_version=row[1],
        outcome=CheckOutcome(row[2]),
        run_id=row[3],
        checked_at=datetime.fromisoformat(row[4]),
        token=row[5],
        etag=row[6],
        last_modified=row[7],
        suspect=Suspicion(row[8]),
        reason=row[9],
    )


def files_by_owner(rows: Iterable[Row]) -> dict[int, list[File]]:
    """Rows of `current_files` or `revision_files`, by their first column."""
    files: dict[int, list[File]] = {}
    for row in rows:
        files.setdefault(row[0], []).append(file(row[1:]))
    return files


def file(row: Row) -> File:
    """What any query says of a File, from its feed on."""
    return File(
        data_feed_key=row[0],
        data_spec_version=row[1],
        revision=row[2],
        path=row[3],
        format=row[4],
        codec=row[5],
        size=row[6],
        sha256=row[7],
        stored_size=row[8],
        stored_sha256=row[9],
        content_type=row[10],
        validation=row[11],
    )


def dataset(row: Row, files: Sequence[File]) -> Dataset:
    """One row of `find` or `get`."""
    return Dataset(
        row_id=row[0],
        dataset_id=row[1],
        bucket=row[2],
        stage=row[3],
        provider=row[4],
        dataset_type=row[5],
        identifier=Identifier.from_key(row[6]),
        name=row[7],
        state=DatasetState(row[8]),
        metadata=msgspec.json.decode(row[9]),
        created_at=datetime.fromisoformat(row[10]),
        updated_at=datetime.fromisoformat(row[11]),
        revision=row[12],
        files=tuple(files),
    )


def revision(row: Row, files: Sequence[File]) -> Revision:
    """One row of `revisions`."""
    return Revision(
        number=row[0],
        created_at=datetime.fromisoformat(row[1]),
        reason=row[2],
        state=RevisionState(row[3]),
        run_id=row[4],
        metadata=msgspec.json.decode(row[5]),
        files=tuple(files),
    )


def selector_state(row: Row) -> SelectorState:
    """One row of `selector_state`."""
    validators = msgspec.json.decode(row[6], type=ListValidators) if row[6] else None
    return SelectorState(
        row_id=row[0],
        selector_run_id=row[1],
        token=row[2],
        token_run_id=row[3],
        complete_token=row[4],
        fingerprint=row[5],
        validators=validators,
        state=msgspec.json.decode(row[7]),
        is_settled=bool(row[8]),
        run_id=row[9],
    )


def run_row(row: Row) -> RunRow:
    """One row of `runs`."""
    return RunRow(
        run_id=row[0],
        status=RunStatus(row[1]),
        started_at=datetime.fromisoformat(row[2]),
        finished_at=datetime.fromisoformat(row[3]) if row[3] else None,
        counters=msgspec.json.decode(row[4], type=Counters),
        requests=row[5],
        received_bytes=row[6],
        stored_bytes=row[7],
        error=row[8],
        exit_code=row[9],
    )


def failure(row: Row) -> Failure:
    """One row of `run_failures` or `open_failures`."""
    return Failure(
        code=row[0],
        message=row[1],
        provider=row[2],
        dataset_type=row[3],
        identifier_key=row[4],
        name=row[5],
        data_feed_key=row[6],
        selector=row[7],
        run_id=row[8],
        failed_at=datetime.fromisoformat(row[9]),
        bucket=row[10],
    )


def event(row: Row) -> Event:
    """One row of `events`."""
    return Event(
        id=row[0],
        type=EventType(row[1]),
        schema_version=row[2],
        time=datetime.fromisoformat(row[3]),
        dataset_id=row[4],
        subject=row[5],
        revision=row[6],
        changed_feeds=tuple(msgspec.json.decode(row[7])),
    )
