"""What commits write, decided without touching the database: rows for every table, and results."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ingestify.adapters.catalog import rows
from ingestify.adapters.catalog.jobs import Row
from ingestify.adapters.catalog.subjects import (
    Identity,
    identity_of,
    identity_parts,
    readable,
    subject_of,
)
from ingestify.model.catalog import (
    CheckedFile,
    CommitResult,
    Committed,
    DatasetCommit,
    FailureCommit,
)
from ingestify.model.dataset import BRINGS_BYTES, CheckOutcome
from ingestify.model.event import EventType
from ingestify.model.run import Failure

EVENT_SCHEMA_VERSION = 1


class Round:
    """What one round writes, by the name of the statement and in the order of writing."""

    def __init__(self, found: Mapping[int, Row], next_ids: tuple[int, int, int]) -> None:
        self.results: list[CommitResult | None] = []  # None: a conflict
        self.writes: dict[str, list[tuple[Any, ...]]] = {
            "insert_dataset": [],
            "insert_identity_part": [],
            "keep_metadata": [],
            "update_dataset": [],
            "insert_revision": [],
            "insert_file": [],
            "restore_file": [],
            "upsert_file_check": [],
            "disagree": [],
            "agree": [],
            "resolve_failures": [],
            "insert_failure": [],
            "fail_file_check": [],
            "insert_event": [],
        }
        self._found = found
        self._next_dataset, self._next_revision, self._next_file = next_ids

    def decide_dataset(self, position: int, commit: DatasetCommit) -> None:
        """Write down what *commit* writes, unless its base is no longer the newest Revision."""
        found = self._found.get(position)
        row_id, newest = (None, None) if found is None else (found[0], found[2])
        if newest != commit.base or commit.row_id not in (None, row_id):
            self.results.append(None)
            return
        new = [file.key for file in commit.files if file.new is not None]
        if len(set(new)) < len(new):
            raise ValueError(f"a File occurs twice: {new}")
        at, metadata = rows.moment(commit.at), commit.metadata.decode()
        has_new = any(file.outcome is CheckOutcome.STORED for file in commit.files)
        number = (-1 if newest is None else newest) + 1 if has_new else None
        if found is None:
            result = self._create(commit, at, metadata, number)
        else:
            result = self._update(commit, found, at, metadata, number)
        self._add_files(commit, result, at)
        self._agree(commit, result)
        self._add_events(commit, result, at, newest if number is None else number)
        self.writes["resolve_failures"].append((commit.run_id, *identity_of(commit)))
        self.results.append(result)

    def decide_failure(self, position: int, commit: FailureCommit) -> None:
        """Write down a failure, and that the Files it is about have failed."""
        failure = commit.failure
        stage = None if failure.identifier_key is None else commit.stage
        self.writes["insert_failure"].append(
            failure_row(
                failure, selector_run_id=commit.selector_run_id, bucket=commit.bucket, stage=stage
            )
        )
        found = self._found.get(position)
        if found is None:
            self.results.append(Committed(row_id=None))
            return
        row_id, dataset_id = found[:2]
        at = rows.moment(failure.failed_at) if failure.failed_at else None
        for feed, spec in commit.files:
            self.writes["fail_file_check"].append((failure.run_id, at, row_id, feed, spec))
        self.results.append(Committed(row_id=row_id, dataset_id=dataset_id))

    def _create(
        self, commit: DatasetCommit, at: str, metadata: str, number: int | None
    ) -> Committed:
        row_id, dataset_id = self._next_dataset, _new_id()
        self._next_dataset += 1
        details = (commit.name, commit.state, metadata, commit.details_hash)
        self.writes["insert_dataset"].append(
            (row_id, dataset_id, *identity_of(commit), commit.identifier, *details, number, at, at)
        )
        self.writes["insert_identity_part"] += [
            (name, value, row_id) for name, value in identity_parts(commit.identifier_key)
        ]
        return Committed(row_id=row_id, dataset_id=dataset_id, revision=number, is_new=True)

    def _update(
        self, commit: DatasetCommit, found: Row, at: str, metadata: str, number: int | None
    ) -> Committed:
        row_id, dataset_id, newest, details_hash, *known = found
        # A post-load hook may have set other details than the Source gives. It runs only on new
        # bytes: without any, and with the Source's word unchanged, what it set stays.
        may_change = number is not None or details_hash != commit.details_hash
        changed = may_change and known != [commit.name, commit.state, metadata]
        name, state, metadata = (commit.name, commit.state, metadata) if changed else known
        if number is not None or details_hash != commit.details_hash or changed:
            newest = newest if number is None else number
            updated_at = at if changed or number is not None else None
            details = (name, state, metadata, commit.details_hash)
            self.writes["update_dataset"].append((*details, newest, updated_at, row_id))
            if metadata != known[2]:
                self.writes["keep_metadata"].append((row_id, row_id))
        return Committed(
            row_id=row_id, dataset_id=dataset_id, revision=number, details_changed=changed
        )

    def _add_files(self, commit: DatasetCommit, result: Committed, at: str) -> None:
        revision = self._next_revision
        if result.revision is not None:
            self._next_revision += 1
            self.writes["insert_revision"].append(
                (revision, result.row_id, result.revision, at, commit.reason, commit.run_id)
            )
        for file in commit.files:
            file_id = self._add_file(file, revision, result.row_id)
            tokens = (file.token, file.etag, file.last_modified)
            outcome = (file.outcome, commit.run_id, at, file.reason)
            self.writes["upsert_file_check"].append(
                (result.row_id, *file.key, file_id, *outcome, *tokens)
            )

    def _agree(self, commit: DatasetCommit, result: Committed) -> None:
        if commit.agreement is not None:
            agreed = (result.row_id, commit.agreement, commit.run_id, result.row_id)
            self.writes["agree"].append(agreed)
        elif not result.is_new:
            self.writes["disagree"].append((result.row_id,))

    def _add_file(self, file: CheckedFile, revision: int, dataset: int | None) -> int | None:
        new = file.new
        if (new is not None) != (file.outcome in BRINGS_BYTES):
            raise ValueError(f"{file.key}: new bytes and outcome {file.outcome} do not fit")
        if new is None:
            return None
        if file.outcome is CheckOutcome.RESTORED:
            lies = (new.path, new.codec, new.stored_size, new.stored_sha256)
            self.writes["restore_file"].append((*lies, new.sha256, dataset, *file.key))
            return None
        file_id = self._next_file
        self._next_file += 1
        self.writes["insert_file"].append(
            (
                *(file_id, revision, *file.key, new.path, new.format, new.codec),
                *(new.size, new.sha256, new.stored_size, new.stored_sha256),
                *(new.content_type, new.validation),
            )
        )
        return file_id

    def _add_events(
        self, commit: DatasetCommit, result: Committed, at: str, newest: int | None
    ) -> None:
        def add(kind: EventType, revision: int | None, feeds: Sequence[str] = ()) -> None:
            identity, dataset_id = identity_of(commit), result.dataset_id or ""
            self.writes["insert_event"].append(
                event_row(kind, identity, dataset_id, at=at, revision=revision, changed_feeds=feeds)
            )

        if result.is_new:
            add(EventType.DATASET_CREATED, None)
        if result.revision is not None:
            feeds = [file.key[0] for file in commit.files if file.outcome is CheckOutcome.STORED]
            add(EventType.REVISION_ADDED, result.revision, feeds)
        if result.details_changed:
            add(EventType.METADATA_UPDATED, newest)


def failure_row(
    failure: Failure, *, selector_run_id: int | None, bucket: str, stage: str | None
) -> tuple[Any, ...]:
    """What `insert_failure` is given. A Selector's failure has no *stage*."""
    return (
        failure.run_id,
        selector_run_id,
        bucket,
        stage,
        failure.provider,
        failure.dataset_type,
        failure.identifier_key,
        failure.code,
        readable(failure.message),
        None if failure.name is None else readable(failure.name),
        failure.data_feed_key,
        failure.selector,
        None if failure.failed_at is None else rows.moment(failure.failed_at),
    )


def event_row(
    kind: EventType,
    identity: Identity,
    dataset_id: str,
    *,
    at: str,
    revision: int | None,
    changed_feeds: Sequence[str] = (),
) -> tuple[Any, ...]:
    """What `insert_event` is given."""
    feeds = rows.json_text(list(dict.fromkeys(changed_feeds)))
    subject = subject_of(identity)
    return (kind, EVENT_SCHEMA_VERSION, at, dataset_id, subject, revision, feeds)


def _new_id() -> str:
    """An id that nobody else has made. Ids made together begin alike, which keeps the pages of
    their index together: ids at random would touch, and write, one page for each Dataset."""
    return f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(10)}"
