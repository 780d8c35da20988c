"""What a commit, an event or a failure is about, in words that can be kept."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from ingestify.model.catalog import Commit, DatasetCommit
from ingestify.model.run import Failure

# Bucket, stage, provider, dataset type and identifier key; the last is None for a record that
# nothing identifies.
Identity: TypeAlias = tuple[str, str, str, str, str | None]


def identity_of(commit: Commit) -> Identity:
    """What *commit* is about."""
    about: DatasetCommit | Failure
    about = commit if isinstance(commit, DatasetCommit) else commit.failure
    place = (commit.bucket, commit.stage)
    return (*place, about.provider, about.dataset_type, about.identifier_key)


def identity_parts(identifier_key: str) -> list[tuple[str, str]]:
    """Every name in an identity with its value as JSON, as it stands there."""
    parts = msgspec.json.decode(identifier_key, type=dict[str, msgspec.Raw])
    return [(name, bytes(value).decode()) for name, value in parts.items()]


def subject_of(identity: Identity) -> str:
    """A Dataset's identity as JSON, for others to read."""
    bucket, stage, provider, dataset_type, identifier_key = identity
    values = {
        "bucket": bucket,
        "stage": stage,
        "provider": provider,
        "dataset_type": dataset_type,
        "identifier": msgspec.Raw((identifier_key or "null").encode()),
    }
    return msgspec.json.encode(values).decode()


def readable(text: str) -> str:
    """*text*, with what is no Unicode spelled out: a failure must not fail to be told."""
    return text.encode("utf-8", "backslashreplace").decode()
