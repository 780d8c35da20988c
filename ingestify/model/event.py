"""What the lake tells others: events, written in the transaction that makes them true."""

from __future__ import annotations

import enum
from datetime import datetime

import msgspec

from ingestify.model.dataset import Dataset


class EventType(enum.StrEnum):
    """What happened to a Dataset."""

    DATASET_CREATED = "dataset_created"
    REVISION_ADDED = "revision_added"
    METADATA_UPDATED = "metadata_updated"
    REVISION_INVALIDATED = "revision_invalidated"
    DATASET_DELETED = "dataset_deleted"


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One event, with the attribute names of CloudEvents 1.0 where it has them.

    Events of one Dataset are in the order of their `id`s.
    """

    id: int
    type: EventType
    schema_version: int
    time: datetime  # aware, UTC
    dataset_id: str
    subject: str  # the Dataset's identity: bucket, stage, provider, type and identifier as JSON
    revision: int | None
    changed_feeds: tuple[str, ...]


class DatasetEvent(Event, frozen=True, kw_only=True):
    """An Event as its readers get it: with the Dataset that it is about."""

    dataset: Dataset | None  # as it is now, which may be newer than the event; None: it is gone

    @classmethod
    def of(cls, event: Event, dataset: Dataset | None) -> DatasetEvent:
        """*event* with its Dataset."""
        return cls(**msgspec.structs.asdict(event), dataset=dataset)


class ReaderRow(msgspec.Struct, frozen=True, kw_only=True):
    """A reader of the event log, and how far it is."""

    name: str
    event: int  # the last event that it has handled
    moved_at: datetime  # aware, UTC
    behind: int  # how many events wait for it
