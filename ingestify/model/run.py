"""One invocation and what came of it: Run, SelectorRun, outcomes and counters."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from datetime import datetime

import msgspec


class RunStatus(enum.StrEnum):
    """How a Run stands, or ended."""

    RUNNING = "running"
    FINISHED = "finished"  # everything was looked at; single Datasets may have failed
    ABORTED = "aborted"  # stopped on purpose or by a signal; what was finished is kept
    FAILED = "failed"  # could not go on
    CRASHED = "crashed"  # its process is gone


class SelectorStatus(enum.StrEnum):
    """How a SelectorRun stands, or ended."""

    RUNNING = "running"
    COMPLETE = "complete"  # the provider's list was seen to its end
    UNCHANGED = "unchanged"  # the provider's list has not changed (304): nothing was looked at
    STOPPED = "stopped"
    FAILED = "failed"


class Counters(msgspec.Struct, kw_only=True):
    """What became of the Datasets listed.

    listed = stored + unchanged + skipped + failed + duplicate + refused + not_reached
    """

    listed: int = 0
    stored: int = 0  # new, or with a new Revision
    unchanged: int = 0  # asked for, and found to be what we have
    skipped: int = 0  # not asked for, since nothing says it changed
    failed: int = 0
    duplicate: int = 0  # met before in this Run
    refused: int = 0  # records that cannot be used
    not_reached: int = 0  # the Run ended before
    gone: int = 0  # listed before, no longer listed; kept

    def add(self, other: Counters) -> None:
        """Count what *other* counted, too."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    @property
    def is_balanced(self) -> bool:
        """Whether every Dataset listed has exactly one outcome."""
        parts = self.stored + self.unchanged + self.skipped + self.failed
        return self.listed == parts + self.duplicate + self.refused + self.not_reached


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Something that could not be done, with the reason. Holds no secret."""

    code: str  # an error's `code`
    message: str
    provider: str
    dataset_type: str
    bucket: str = ""
    identifier_key: str | None = None  # None: it concerns a whole Selector, or a record without one
    name: str | None = None
    data_feed_key: str | None = None
    selector: str | None = None
    run_id: int = 0
    failed_at: datetime | None = None  # aware, UTC


class SelectorSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What one SelectorRun did."""

    source: str
    provider: str
    dataset_type: str
    bucket: str
    selector: str
    name: str | None
    status: SelectorStatus
    counters: Counters
    reasons: Mapping[str, int]  # how many Datasets were fetched or skipped for which reason
    error: str | None = None


class HeldPlan(msgspec.Struct, frozen=True, kw_only=True):
    """A plan that another Run holds; nothing was done for it."""

    source: str
    dataset_type: str
    bucket: str
    run_id: int | None = None  # None: nobody knows
    since: datetime | None = None  # aware, UTC


class RunSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What one Run did. `exit_code` is what the command line ends with."""

    run_id: int | None
    status: RunStatus
    exit_code: int
    started_at: datetime
    finished_at: datetime
    counters: Counters
    selectors: tuple[SelectorSummary, ...]
    failures: tuple[Failure, ...]  # the first 1,000; the Catalog keeps all
    requests: int
    received_bytes: int  # as they came over the wire
    stored_bytes: int  # as they lie on the disk
    warnings: tuple[str, ...] = ()
    held_plans: tuple[HeldPlan, ...] = ()
    error: str | None = None


class RunRow(msgspec.Struct, frozen=True, kw_only=True):
    """A Run as the Catalog remembers it."""

    run_id: int
    status: RunStatus
    started_at: datetime
    finished_at: datetime | None
    counters: Counters
    requests: int
    received_bytes: int
    stored_bytes: int
    error: str | None = None
    exit_code: int | None = None  # None: it runs, or nobody closed it
