"""What is to be done: IngestionPlans as configured, Tasks and decisions as planned."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from ingestify.model.resource import DataSpecVersions
from ingestify.model.run import SelectorStatus
from ingestify.model.selector import SelectorPattern


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanKey:
    """What a plan is called, in locks and in messages."""

    source: str
    dataset_type: str
    bucket: str
    digest: str

    def __str__(self) -> str:
        return f"{self.source}/{self.dataset_type}/{self.bucket}/{self.digest}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanScope:
    """What one plan looks at, and where it keeps it."""

    source: str
    dataset_type: str
    bucket: str
    data_spec_versions: DataSpecVersions
    patterns: Sequence[SelectorPattern] = field(default=(SelectorPattern(),))

    @property
    def key(self) -> PlanKey:
        """Equal for equal plans, in any process."""
        versions = sorted(
            (feed, sorted(wanted)) for feed, wanted in self.data_spec_versions.items()
        )
        text = f"{versions}{sorted(repr(pattern) for pattern in self.patterns)}"
        return PlanKey(
            source=self.source,
            dataset_type=self.dataset_type,
            bucket=self.bucket,
            digest=hashlib.sha256(text.encode()).hexdigest()[:12],
        )


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What a Run would do about one Dataset."""

    provider: str
    dataset_type: str
    identifier_key: str
    name: str
    reason: str
    files: Mapping[str, str]  # "feed version" to the reason it would be asked for


class SelectorForecast(msgspec.Struct, frozen=True, kw_only=True):
    """What a Run would do about one Selector."""

    source: str
    provider: str
    dataset_type: str
    bucket: str
    selector: str
    name: str | None
    status: SelectorStatus
    listed: int
    fetch: Mapping[str, int]  # Datasets by reason
    skip: Mapping[str, int]  # Datasets by reason
    duplicate: int
    refused: int
    requests: int  # that fetching would take, without retries
    error: str | None = None


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """What a Run would do. No Dataset's File was asked for to find out."""

    selectors: tuple[SelectorForecast, ...]
    decisions: tuple[Decision, ...]  # the first 10,000
    warnings: tuple[str, ...]
    exit_code: int
    error: str | None = None

    @property
    def tasks(self) -> int:
        """How many Datasets would be fetched."""
        return sum(sum(each.fetch.values()) for each in self.selectors)

    @property
    def requests(self) -> int:
        """How many requests for Files that would take, without retries."""
        return sum(each.requests for each in self.selectors)
