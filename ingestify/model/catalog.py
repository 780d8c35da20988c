"""What passes between the core, the Catalog and the FileStore."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, TypeAlias

import msgspec

from ingestify.model.dataset import CheckOutcome, DatasetState, File, FileKey, Stored
from ingestify.model.identity import Value
from ingestify.model.run import Counters, Failure, SelectorStatus


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """The sole right to run one plan. *token* grows with every holder and fences off old ones."""

    name: str
    token: int


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """Who holds a lease."""

    run_id: int
    since: datetime  # aware, UTC


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """What a Selector's state belongs to."""

    bucket: str
    source: str
    dataset_type: str
    selector_key: str


class ListValidators(msgspec.Struct, frozen=True, kw_only=True):
    """What the provider's list can be asked for conditionally with."""

    url: str  # without credentials
    etag: str | None = None
    last_modified: str | None = None


class SelectorState(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one Selector."""

    row_id: int
    selector_run_id: int  # of the SelectorRun just opened, or the newest
    run_id: int  # the Run that it belongs to
    token: str | None  # the present one
    token_run_id: int  # the Run that first saw it
    complete_token: str | None  # the token at its last complete Run
    fingerprint: str | None  # of the plan at its last complete Run; None: there was none
    validators: ListValidators | None
    state: Mapping[str, Any]  # the Source's own cursor
    is_settled: bool  # nothing that it lists has failed or is suspect; off where nobody looked


Agreed: TypeAlias = tuple[int, bytes | None, int]
"""What is known in short of a Dataset: its row id; what the provider said when all the Files that
it offered were last asked for at once and were sound, or None; and the Run that asked."""


class Completion(msgspec.Struct, frozen=True, kw_only=True):
    """What a SelectorRun that saw its whole list leaves behind."""

    row_ids: Sequence[int] | None  # of the Datasets met, ascending; None: the list was unchanged
    clean: bool  # nothing failed and nothing was refused: what follows may be relied on
    fingerprint: str
    validators: ListValidators | None
    state: Mapping[str, Any]


class SelectorClosing(msgspec.Struct, frozen=True, kw_only=True):
    """How a SelectorRun ended. Without a completion, the Selector's state stays as it was."""

    scope: Scope
    run_id: int
    selector_run_id: int
    status: SelectorStatus
    counters: Counters
    reasons: Mapping[str, int]
    failures: Sequence[Failure]  # refused records and the Selector's own; Datasets' come by commit
    error: str | None
    completion: Completion | None
    at: datetime


class StagedFile(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes that are kept, but not yet visible. Known to the FileStore that made it alone."""

    handle: Any
    size: int
    sha256: str  # of the bytes as they will lie in the store


class StoredObject(msgspec.Struct, frozen=True, kw_only=True):
    """One object of a FileStore."""

    path: str
    size: int
    modified_at: datetime  # aware, UTC


class NewFile(msgspec.Struct, frozen=True, kw_only=True):
    """Published bytes that are about to become a File."""

    path: str
    format: str
    codec: str
    size: int
    sha256: str
    stored_size: int
    stored_sha256: str
    content_type: str | None
    validation: str


class CheckedFile(msgspec.Struct, frozen=True, kw_only=True):
    """How the request for one File ended, and its new bytes if there are any."""

    key: FileKey
    outcome: CheckOutcome
    reason: str
    token: str | None = None
    etag: str | None = None
    last_modified: str | None = None
    new: NewFile | None = None  # exactly when the outcome is STORED or RESTORED


class DatasetCommit(msgspec.Struct, frozen=True, kw_only=True):
    """A Dataset that was looked at with success: makes its row, Revision, checks and events.

    A Revision is made when a File is STORED; one that is RESTORED gets its bytes back where it
    stands. Equal name, state and metadata make no event.
    """

    bucket: str
    stage: str
    provider: str
    dataset_type: str
    identifier_key: str
    identifier: str  # the same as JSON whose names are in the Source's order
    name: str
    state: DatasetState
    metadata: bytes  # JSON
    details_hash: str
    base: int | None  # the Revision that was the newest when the work was planned
    row_id: int | None = None  # of the Dataset that the work was planned on, if there was one
    files: Sequence[CheckedFile]
    reason: str
    run_id: int
    at: datetime
    agreement: bytes | None = None  # what was found, where *files* are all that it offers


class FailureCommit(msgspec.Struct, frozen=True, kw_only=True):
    """A Dataset that failed: makes a failure, and the checks of the Files it failed at."""

    bucket: str
    stage: str
    failure: Failure
    files: Sequence[FileKey]
    selector_run_id: int | None  # None: it failed before there was one


Commit: TypeAlias = DatasetCommit | FailureCommit


class Committed(msgspec.Struct, frozen=True, kw_only=True):
    """A commit that is true now. For a failure, *row_id* is None where nothing is stored."""

    row_id: int | None
    dataset_id: str | None = None
    revision: int | None = None  # the one that was made, if any
    is_new: bool = False  # the Dataset was not there before
    details_changed: bool = False


class Conflict(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody else committed a Revision meanwhile: this is what is stored now."""

    stored: Stored | None


class Rejected(msgspec.Struct, frozen=True, kw_only=True):
    """The database refused this one commit; nothing of it was written."""

    message: str


CommitResult: TypeAlias = Committed | Conflict | Rejected


class CatalogCopy(msgspec.Struct, frozen=True, kw_only=True):
    """What a copy of the Catalog holds, counted in the copy itself."""

    path: str
    size: int  # bytes
    datasets: int
    revisions: int
    files: int
    runs: int


class DatasetQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which Datasets to find. What is left out admits everything."""

    bucket: str | None = None
    stage: str | None = "raw"
    provider: str | None = None
    dataset_type: str | None = None
    dataset_id: str | None = None
    states: Sequence[DatasetState] = ()
    identifier: Mapping[str, Value | Sequence[Value]] = {}  # exact values, or any of a list
    metadata: Mapping[str, Value | Sequence[Value]] = {}  # of the metadata's top level
    text_values: bool = False  # compare identifier values as text: 11 finds "11", too


class KeptFile(msgspec.Struct, frozen=True, kw_only=True):
    """One File of one Revision, and whose it is."""

    row_id: int
    dataset_row_id: int
    dataset_id: str
    bucket: str
    provider: str
    dataset_type: str
    identifier_key: str
    name: str
    is_current: bool  # the newest of its feed and version
    is_damaged: bool  # and marked as such; only current Files are
    file: File

    @property
    def revision(self) -> int:
        """The number of the Revision that brought it."""
        return self.file.revision


class Deleted(msgspec.Struct, frozen=True, kw_only=True):
    """What was deleted."""

    datasets: int
    files: int
    bytes: int
