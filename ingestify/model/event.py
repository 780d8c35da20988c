"""What the lake tells others: events, written in the transaction that makes them true."""

from __future__ import annotations

import enum
from datetime import datetime

import msgspec


class EventType(enum.StrEnum):
    """What happened to a Dataset."""

    DATASET_CREATED = "dataset_created"
    REVISION_ADDED = "revision_added"
    METADATA_UPDATED = "metadata_updated"
    REVISION_INVALIDATED = "revision_invalidated"


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
