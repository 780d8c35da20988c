"""Everything that can go wrong, branching by what the caller should do about it.

IngestifyError
├── ConfigError                 mend the configuration, or the command
├── RunError                    the Run as a whole cannot go on
│   ├── FatalError              …because a Source says so
│   ├── CatalogError            …because the metadata cannot be read or written
│   │   ├── ForeignCatalogError …it is not ours, or newer than we are: nothing was touched
│   │   ├── FenceLostError      …somebody else holds this plan now: nothing was written
│   │   └── ReaderTakenError    …somebody else reads the event log under this name
│   └── StoreUnavailableError   …because no bytes can be kept (disk full, read-only)
├── StopProcessing              stop this Source on purpose; what is finished is kept
├── SourceError                 give up on this Selector: what it answered cannot be used
├── RecordError                 give up on this record: what it says cannot be used
├── DeliveryError               give up on this reader for now: it does not take an event
├── LoadError                   a Dataset cannot be loaded: it lacks a feed, or nobody knows how
├── StoreError                  give up on this File: its bytes could not be kept or read
│   └── MissingBytesError       …there is nothing where they should be
└── FetchError                  give up on this File: asking again now would not help
    ├── AbsentError             …the provider has no such File (404, 410)
    ├── RefusedError            …the credentials are missing or refused (401, 403, 407)
    ├── UnsafeTargetError       …its address leaves where the Source may go
    ├── InvalidBodyError        …what arrived is not what was announced
    └── TransientFetchError     try again later
        └── ThrottledError      …and not before the provider says
"""

from __future__ import annotations

from datetime import timedelta

__all__ = [
    "AbsentError",
    "CatalogError",
    "ConfigError",
    "DeliveryError",
    "FatalError",
    "FenceLostError",
    "FetchError",
    "ForeignCatalogError",
    "IngestifyError",
    "InvalidBodyError",
    "LoadError",
    "MissingBytesError",
    "ReaderTakenError",
    "RecordError",
    "RefusedError",
    "RunError",
    "SourceError",
    "StopProcessing",
    "StoreError",
    "StoreUnavailableError",
    "ThrottledError",
    "TransientFetchError",
    "UnsafeTargetError",
]


class IngestifyError(Exception):
    """The root of every error that ingestify raises on purpose. Its text holds no secret."""

    code = "error"  # a short, stable name for tables and --json


class ConfigError(IngestifyError):
    """The configuration, or a command's argument, is wrong. Nothing was changed."""

    code = "configuration"


class RunError(IngestifyError):
    """The Run cannot go on. What was committed before is kept."""

    code = "run"


class FatalError(RunError):
    """A Source may raise this from any method: the whole Run ends as failed."""

    code = "fatal"


class CatalogError(RunError):
    """The Catalog could not be read or written."""

    code = "catalog"


class ForeignCatalogError(CatalogError):
    """The database is not ingestify's, or was written by a newer ingestify. It was not touched."""

    code = "foreign catalog"


class FenceLostError(CatalogError):
    """The lease on a plan was taken over by another process. Nothing of the batch was written."""

    code = "fence lost"


class ReaderTakenError(CatalogError):
    """Another process moved the cursor of this reader. It was left where that process has it."""

    code = "reader taken"


class StoreUnavailableError(RunError):
    """No bytes can be kept any more: the disk is full, read-only or gone."""

    code = "store unavailable"


class StopProcessing(IngestifyError):
    """A Source may raise this from any method: it is stopped, what is finished is kept."""

    code = "stopped"


class SourceError(IngestifyError):
    """What a provider answered to a discovery request cannot be used."""

    code = "source"


class RecordError(IngestifyError):
    """One record of a list cannot be used. The others are not harmed."""

    code = "record"


class DeliveryError(IngestifyError):
    """A reader of the event log did not take an event. Its cursor stands before it."""

    code = "delivery"


class LoadError(IngestifyError):
    """A Dataset cannot be turned into what was asked for. The lake is as it was."""

    code = "load"


class StoreError(IngestifyError):
    """The bytes of one File could not be kept or read."""

    code = "store"


class MissingBytesError(StoreError):
    """There is nothing where the bytes of a File should be."""

    code = "missing bytes"


class FetchError(IngestifyError):
    """A request was answered in a way that asking again now would not mend."""

    code = "fetch"

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class AbsentError(FetchError):
    """The provider has nothing at this address (404 or 410)."""

    code = "absent"


class RefusedError(FetchError):
    """The provider refuses the credentials, or asks for some (401, 403, 407)."""

    code = "refused"


class UnsafeTargetError(FetchError):
    """An address, redirect or page link leaves where the Source may go. Nothing was sent there."""

    code = "unsafe target"


class InvalidBodyError(FetchError):
    """What arrived is not what was announced: cut, empty, wrong format, too large."""

    code = "invalid body"


class TransientFetchError(FetchError):
    """The request failed in a way that may pass: connection lost, timeout, 5xx."""

    code = "transient"


class ThrottledError(TransientFetchError):
    """The provider asks us to wait (429, or 503 with Retry-After)."""

    code = "throttled"

    def __init__(
        self, message: str, *, status: int | None = None, retry_after: timedelta | None = None
    ) -> None:
        super().__init__(message, status=status)
        self.retry_after = retry_after


def text_of(exc: BaseException) -> str:
    """What *exc* says. Strangers' exceptions may fail at that, which must not add to the harm."""
    try:
        return str(exc)
    except Exception:
        return f"a {type(exc).__name__} that cannot be put into words"
