"""What the lake keeps: Datasets, their Revisions, and the Files in them."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeAlias

import msgspec

from ingestify.model.identity import Identifier

FileKey: TypeAlias = tuple[str, str]  # data feed key, data spec version


class DatasetState(enum.StrEnum):
    """How much of a Dataset the provider has, as the Source understands it."""

    SCHEDULED = "scheduled"
    PARTIAL = "partial"
    COMPLETE = "complete"
    MISSING = "missing"

    @property
    def is_complete(self) -> bool:
        """Whether nothing more is expected."""
        return self is DatasetState.COMPLETE


class RevisionState(enum.StrEnum):
    """What is thought of a Revision's content."""

    PENDING = "pending"
    APPROVED = "approved"
    VALIDATION_FAILED = "validation_failed"


class CheckOutcome(enum.StrEnum):
    """How the last request for a File ended."""

    STORED = "stored"
    UNCHANGED = "unchanged"
    RESTORED = "restored"  # unchanged, and stored anew, since the bytes in the store were damaged
    ABSENT = "absent"
    FAILED = "failed"


BRINGS_BYTES = frozenset({CheckOutcome.STORED, CheckOutcome.RESTORED})


class Suspicion(enum.IntEnum):
    """Why a File must be asked for, whatever its provider says about changes."""

    NONE = 0
    INVALIDATED = 1  # its content is thought to be wrong
    DAMAGED = 2  # its bytes in the store are not those that were put there


class File(msgspec.Struct, frozen=True, kw_only=True):
    """One stored File of one Revision. Written once, never changed."""

    data_feed_key: str
    data_spec_version: str
    revision: int  # the number of the Revision that brought it
    path: str  # in the FileStore
    format: str
    codec: str  # "gzip" or "": what has to be undone to get the provider's bytes
    size: int  # of the provider's bytes, decoded
    sha256: str  # of the provider's bytes, decoded; the File's identity
    stored_size: int
    stored_sha256: str
    content_type: str | None = None
    validation: str = "whole"  # or "ends": too large to be parsed, checked at both ends

    @property
    def key(self) -> FileKey:
        """What tells this File from the others of its Dataset."""
        return (self.data_feed_key, self.data_spec_version)


class FileCheck(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The last request for a File: what the provider said about it, and how that ended."""

    data_feed_key: str
    data_spec_version: str
    outcome: CheckOutcome
    run_id: int
    checked_at: datetime  # aware, UTC
    token: str | None = None
    etag: str | None = None
    last_modified: str | None = None  # the header, verbatim
    suspect: Suspicion = Suspicion.NONE
    reason: str = ""  # why it was asked for


class StoredFile(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What planning knows of one File: its last check, and its newest bytes if there are any."""

    check: FileCheck
    sha256: str | None = None  # None: nothing is stored
    damaged_path: str | None = None  # of bytes that were found damaged

    @property
    def is_stored(self) -> bool:
        """Whether there are bytes that a 304 could confirm."""
        return self.sha256 is not None and self.damaged_path is None


class Stored(msgspec.Struct, kw_only=True):
    """What planning knows of a Dataset that the lake has.

    The Catalog says everything but `announced_in`, which belongs to the Selector it was met in.
    """

    row_id: int
    dataset_id: str
    revision: int | None  # the newest Revision's number; None: it never had a File
    details_hash: str  # of name, state and metadata as the Source last gave them
    files: Mapping[FileKey, StoredFile]
    announced_in: int = 0  # the Run that first saw the Selector's present token


class Revision(msgspec.Struct, frozen=True, kw_only=True):
    """One stored version of a Dataset. Written once; only its state may change."""

    number: int  # counts from 0
    created_at: datetime  # aware, UTC
    reason: str
    state: RevisionState
    run_id: int
    metadata: Mapping[str, Any]
    files: tuple[File, ...]  # only those that changed since the previous Revision


class Dataset(msgspec.Struct, frozen=True, kw_only=True):
    """One Dataset of the lake, as it is now."""

    row_id: int
    dataset_id: str
    bucket: str
    stage: str
    provider: str
    dataset_type: str
    identifier: Identifier
    name: str
    state: DatasetState
    metadata: Mapping[str, Any]
    created_at: datetime  # aware, UTC
    updated_at: datetime  # aware, UTC: name, state, metadata or Files changed
    revision: int | None  # the newest Revision's number; None: it never had a File
    files: tuple[File, ...] = ()  # the newest of each (feed, version), in that order
