"""The Datasets of a MemoryCatalog: what commits do to them, and their events and failures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec

from ingestify.adapters.catalog.filters import admits, parameters
from ingestify.adapters.catalog.subjects import Identity, identity_of, readable, subject_of
from ingestify.model.catalog import (
    CheckedFile,
    Commit,
    CommitResult,
    Committed,
    Conflict,
    DatasetCommit,
    DatasetQuery,
    FailureCommit,
    NewFile,
    Rejected,
)
from ingestify.model.dataset import (
    BRINGS_BYTES,
    CheckOutcome,
    Dataset,
    File,
    FileCheck,
    FileKey,
    Revision,
    RevisionState,
    Stored,
    StoredFile,
    Suspicion,
)
from ingestify.model.event import Event, EventType
from ingestify.model.identity import Identifier
from ingestify.model.run import Failure


def utc(at: datetime) -> datetime:
    """*at* in UTC.

    Raises:
        ValueError: it has no time zone.
    """
    if at.utcoffset() is None:
        raise ValueError(f"a moment must be timezone-aware: {at}")
    return at.astimezone(UTC)


@dataclass
class KeptDataset:
    """One Dataset with its history. `shown.files` is not kept but made of the current Files."""

    shown: Dataset
    identity: Identity
    details_hash: str
    metadata: bytes
    revisions: list[Revision] = field(default_factory=list)
    checks: dict[FileKey, FileCheck] = field(default_factory=dict)
    current: dict[FileKey, File] = field(default_factory=dict)
    file_ids: dict[tuple[int, FileKey], int] = field(default_factory=dict)
    agreement: tuple[bytes | None, int] = (None, 0)  # and the Run that came to it

    @property
    def agreed(self) -> tuple[bytes | None, int]:
        """What is agreed, which holds as long as no File has failed or is suspect."""
        return (None, 0) if self.is_in_doubt else self.agreement

    @property
    def is_in_doubt(self) -> bool:
        """Whether any File has failed or is suspect."""
        return any(
            check.suspect or check.outcome is CheckOutcome.FAILED for check in self.checks.values()
        )

    def view(self) -> Dataset:
        """The Dataset as readers see it."""
        files = tuple(self.current[key] for key in sorted(self.current))
        return msgspec.structs.replace(self.shown, files=files)

    def stored(self) -> Stored:
        """The Dataset as planning sees it."""
        return Stored(
            row_id=self.shown.row_id,
            dataset_id=self.shown.dataset_id,
            revision=self.shown.revision,
            details_hash=self.details_hash,
            files={
                key: _stored_file(check, self.current.get(key))
                for key, check in self.checks.items()
            },
        )

    def files(self) -> Iterator[File]:
        """Every File of every Revision."""
        for revision in self.revisions:
            yield from revision.files


@dataclass
class KeptFailure:
    """A failure, and whether it still counts. A Selector's failure has no identity."""

    failure: Failure
    selector_run_id: int | None
    identity: Identity | None
    is_resolved: bool = False


class Datasets:
    """Every Dataset, in the order of row ids, and what was told and went wrong about them."""

    def __init__(self) -> None:
        self.by_row: dict[int, KeptDataset] = {}
        self.by_identity: dict[Identity, KeptDataset] = {}
        self.failures: list[KeptFailure] = []
        self.events: list[Event] = []
        self._made = 0  # row ids are never used twice
        self._files_made = 0

    def find(self, query: DatasetQuery, *, after: int = 0) -> Iterator[KeptDataset]:
        """What *query* finds after the row *after*."""
        parameters(query)  # refuses what cannot be asked for, whether there is anything or not
        for row_id, kept in self.by_row.items():
            if row_id > after and admits(query, kept.shown):
                yield kept

    def commit(self, commit: Commit) -> CommitResult:
        """Make *commit* true, or say why not."""
        kept = self.by_identity.get(identity_of(commit))
        try:
            if isinstance(commit, FailureCommit):
                return self._fail(commit, kept)
            if not _is_based_on(commit, kept):
                return Conflict(stored=kept.stored() if kept else None)
            _check(commit)
        except ValueError as exc:
            return Rejected(message=str(exc))
        if kept is None:
            kept = self._create(commit)
            result = Committed(
                row_id=kept.shown.row_id, dataset_id=kept.shown.dataset_id, is_new=True
            )
            self.tell(EventType.DATASET_CREATED, kept, at=commit.at, revision=None)
        else:
            result = Committed(
                row_id=kept.shown.row_id,
                dataset_id=kept.shown.dataset_id,
                details_changed=_change_details(kept, commit),
            )
        for each in self.failures:
            each.is_resolved |= each.identity == identity_of(commit)
        revision = _add_files(kept, commit)
        self._number_files(kept, commit)
        kept.agreement = (None, 0)
        if commit.agreement is not None and not kept.is_in_doubt:
            kept.agreement = (commit.agreement, commit.run_id)
        if revision is not None:
            feeds = [f.key[0] for f in commit.files if f.outcome is CheckOutcome.STORED]
            number = revision.number
            self.tell(EventType.REVISION_ADDED, kept, at=commit.at, revision=number, feeds=feeds)
            result = msgspec.structs.replace(result, revision=number)
        if result.details_changed:
            number_now = kept.shown.revision
            self.tell(EventType.METADATA_UPDATED, kept, at=commit.at, revision=number_now)
        return result

    def invalidate(self, query: DatasetQuery, *, at: datetime) -> int:
        """Mark the newest Revision of what *query* finds as failed in validation."""
        marked = [kept for kept in self.find(query) if kept.revisions]
        for kept in marked:
            newest = kept.revisions[-1]
            failed = msgspec.structs.replace(newest, state=RevisionState.VALIDATION_FAILED)
            kept.revisions[-1] = failed
            for key, file in kept.current.items():
                if file.revision == newest.number:
                    check = kept.checks[key]
                    worst = max(check.suspect, Suspicion.INVALIDATED)
                    kept.checks[key] = msgspec.structs.replace(check, suspect=worst)
                    kept.agreement = (None, 0)
            feeds = [file.data_feed_key for file in newest.files]
            number = newest.number
            self.tell(EventType.REVISION_INVALIDATED, kept, at=at, revision=number, feeds=feeds)
        return len(marked)

    def forget(self, kept: KeptDataset) -> None:
        """Remove *kept*, and resolve its failures."""
        del self.by_row[kept.shown.row_id], self.by_identity[kept.identity]
        for each in self.failures:
            each.is_resolved |= each.identity == kept.identity

    def keep_failure(
        self,
        failure: Failure,
        selector_run_id: int | None,
        identity: Identity | None,
        *,
        at: datetime,
    ) -> None:
        """Add a failure that happened then."""
        name = None if failure.name is None else readable(failure.name)
        message = readable(failure.message)
        kept = msgspec.structs.replace(failure, message=message, name=name, failed_at=utc(at))
        self.failures.append(KeptFailure(kept, selector_run_id, identity))

    def tell(
        self,
        kind: EventType,
        kept: KeptDataset,
        *,
        at: datetime,
        revision: int | None,
        feeds: Sequence[str] = (),
    ) -> None:
        """Add an event."""
        shown = kept.shown
        self.events.append(
            Event(
                id=len(self.events) + 1,
                type=kind,
                schema_version=1,
                time=utc(at),
                dataset_id=shown.dataset_id,
                subject=subject_of(
                    (
                        shown.bucket,
                        shown.stage,
                        shown.provider,
                        shown.dataset_type,
                        shown.identifier.key,
                    )
                ),
                revision=revision,
                changed_feeds=tuple(dict.fromkeys(feeds)),
            )
        )

    def _create(self, commit: DatasetCommit) -> KeptDataset:
        self._made += 1
        row_id, at = self._made, utc(commit.at)
        kept = KeptDataset(
            shown=Dataset(
                row_id=row_id,
                dataset_id=f"{row_id:032x}",
                bucket=commit.bucket,
                stage=commit.stage,
                provider=commit.provider,
                dataset_type=commit.dataset_type,
                identifier=Identifier.from_key(commit.identifier),
                name=commit.name,
                state=commit.state,
                metadata=msgspec.json.decode(commit.metadata),
                created_at=at,
                updated_at=at,
                revision=None,
            ),
            identity=identity_of(commit),
            details_hash=commit.details_hash,
            metadata=commit.metadata,
        )
        self.by_row[row_id] = self.by_identity[identity_of(commit)] = kept
        return kept

    def _number_files(self, kept: KeptDataset, commit: DatasetCommit) -> None:
        places = {checked.key: place for place, checked in enumerate(commit.files)}
        for file in sorted(kept.files(), key=lambda file: places.get(file.key, 0)):
            if (key := (file.revision, file.key)) not in kept.file_ids:
                self._files_made += 1
                kept.file_ids[key] = self._files_made

    def _fail(self, commit: FailureCommit, kept: KeptDataset | None) -> Committed:
        failure = msgspec.structs.replace(commit.failure, bucket=commit.bucket)
        if failure.failed_at is None:
            raise ValueError("failed_at is missing")
        at = utc(failure.failed_at)
        identity = None if failure.identifier_key is None else identity_of(commit)
        self.keep_failure(failure, commit.selector_run_id, identity, at=at)
        if kept is None:
            return Committed(row_id=None)
        for key in commit.files:
            if key in kept.checks:
                kept.agreement = (None, 0)
                kept.checks[key] = msgspec.structs.replace(
                    kept.checks[key],
                    outcome=CheckOutcome.FAILED,
                    run_id=failure.run_id,
                    checked_at=at,
                )
        return Committed(row_id=kept.shown.row_id, dataset_id=kept.shown.dataset_id)


def _stored_file(check: FileCheck, file: File | None) -> StoredFile:
    if file is None:
        return StoredFile(check=check)
    is_damaged = check.suspect is Suspicion.DAMAGED
    damaged_path = file.path if is_damaged else None
    return StoredFile(check=check, sha256=file.sha256, damaged_path=damaged_path)


def _is_based_on(commit: DatasetCommit, kept: KeptDataset | None) -> bool:
    revision, row_id = (None, None) if kept is None else (kept.shown.revision, kept.shown.row_id)
    return commit.base == revision and commit.row_id in (None, row_id)


def _check(commit: DatasetCommit) -> None:
    """Raise the ValueError that says why *commit* cannot be kept."""
    utc(commit.at)
    msgspec.json.decode(commit.metadata.decode())
    _check_text(commit.name, commit.reason)
    new = [file.key for file in commit.files if file.new is not None]
    if len(set(new)) < len(new):
        raise ValueError(f"a File occurs twice: {new}")
    for file in commit.files:
        if (file.new is not None) != (file.outcome in BRINGS_BYTES):
            raise ValueError(f"{file.key}: new bytes and outcome {file.outcome} do not fit")


def _check_text(*texts: str) -> None:
    for text in texts:
        text.encode()


def _change_details(kept: KeptDataset, commit: DatasetCommit) -> bool:
    """Keep new details; returns whether there were any."""
    known = (kept.shown.name, kept.shown.state, kept.metadata)
    # What a post-load hook has set stays until there are new bytes or the Source says otherwise.
    is_stored = any(file.outcome is CheckOutcome.STORED for file in commit.files)
    may_change = commit.details_hash != kept.details_hash or is_stored
    changed = may_change and known != (commit.name, commit.state, commit.metadata)
    kept.details_hash = commit.details_hash
    if changed:
        kept.metadata = commit.metadata
        kept.shown = msgspec.structs.replace(
            kept.shown,
            name=commit.name,
            state=commit.state,
            metadata=msgspec.json.decode(commit.metadata),
            updated_at=utc(commit.at),
        )
    return changed


def _add_files(kept: KeptDataset, commit: DatasetCommit) -> Revision | None:
    """Renew the checks, and make a Revision if there are new bytes."""
    at, number = utc(commit.at), len(kept.revisions)
    files = []
    for checked in commit.files:
        feed, spec = checked.key
        if checked.outcome is CheckOutcome.RESTORED and checked.new is not None:
            _restore(kept, checked.key, checked.new)
        elif checked.new is not None:
            new = msgspec.structs.asdict(checked.new)
            file = File(data_feed_key=feed, data_spec_version=spec, revision=number, **new)
            kept.current[checked.key] = file
            files.append(file)
        kept.checks[checked.key] = FileCheck(
            data_feed_key=feed,
            data_spec_version=spec,
            outcome=checked.outcome,
            run_id=commit.run_id,
            checked_at=at,
            token=checked.token,
            etag=checked.etag,
            last_modified=checked.last_modified,
            suspect=_suspicion_after(checked, kept.checks.get(checked.key)),
            reason=checked.reason,
        )
    if not files:
        return None
    revision = Revision(
        number=number,
        created_at=at,
        reason=commit.reason,
        state=RevisionState.PENDING,
        run_id=commit.run_id,
        metadata=msgspec.json.decode(commit.metadata),
        files=tuple(sorted(files, key=lambda file: file.key)),
    )
    kept.revisions.append(revision)
    kept.shown = msgspec.structs.replace(kept.shown, revision=number, updated_at=at)
    return revision


def _suspicion_after(checked: CheckedFile, before: FileCheck | None) -> Suspicion:
    """Damage stays until bytes come; what was invalidated has been asked for again."""
    is_damaged = before is not None and before.suspect is Suspicion.DAMAGED
    if is_damaged and checked.outcome not in BRINGS_BYTES:
        return Suspicion.DAMAGED
    return Suspicion.NONE


def _restore(kept: KeptDataset, key: FileKey, new: NewFile) -> None:
    """Keep where the bytes of a File lie now, if they are its bytes."""
    file = kept.current.get(key)
    if file is None or file.sha256 != new.sha256:
        return
    restored = msgspec.structs.replace(
        file,
        path=new.path,
        codec=new.codec,
        stored_size=new.stored_size,
        stored_sha256=new.stored_sha256,
    )
    kept.current[key] = restored
    revision = kept.revisions[file.revision]
    files = tuple(restored if each.key == key else each for each in revision.files)
    kept.revisions[file.revision] = msgspec.structs.replace(revision, files=files)
