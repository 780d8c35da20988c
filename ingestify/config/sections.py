"""The sections of a configuration file: what may be written, and the values made of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from ingestify.config.fields import (
    CatalogAddress,
    Configuration,
    Count,
    Duration,
    FileAddress,
    Hosts,
    IdentifierName,
    Name,
    Patterns,
    Placing,
    Proxy,
    Rate,
    Redirects,
    Share,
    Size,
    SizeOrNothing,
    TablePrefix,
    UserAgent,
    Versions,
    as_object,
)
from ingestify.model.http import HttpSettings, Limits
from ingestify.model.layout import IdentityTransformation
from ingestify.model.resource import DataSpecVersions
from ingestify.model.selector import SelectorPattern

EVENT_LOG = "ingestify.infra.event_log.EventLogSubscriber"


class Section(BaseModel):
    """A mapping whose keys are all known. A key without a value counts as left out."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", arbitrary_types_allowed=True, hide_input_in_errors=True
    )

    @model_validator(mode="before")
    @classmethod
    def _without_empty_keys(cls, written: Any) -> Any:
        if not isinstance(written, dict):
            return written
        return {k: v for k, v in written.items() if v is not None or k not in cls.model_fields}

    def said(self) -> dict[str, Any]:
        """What was written, without defaults."""
        return {name: getattr(self, name) for name in self.model_fields_set}


class MetadataOptions(Section):
    """How the Catalog names its tables."""

    table_prefix: TablePrefix = ""


class MainConfig(Section):
    """Where the lake is, and what holds for all plans."""

    metadata_url: CatalogAddress
    file_url: FileAddress
    default_bucket: Name = "main"
    metadata_options: MetadataOptions = MetadataOptions()
    concurrency: Count | None = None  # workers in all
    recheck: Share = 0.0
    min_free_space: SizeOrNothing = 256_000_000  # bytes; with less on its disks a Run ends


class LimitsConfig(Section):
    """What replaces single limits of a Source's class."""

    concurrency: Count | None = None
    requests_per_second: Rate | None = None
    burst: Count | None = None
    daily_quota: Count | None = None

    def apply(self, limits: Limits) -> Limits:
        """*limits* with what was written here instead."""
        return replace(limits, **self.said())


class HttpConfig(Section):
    """What replaces single HTTP settings of a Source's class."""

    connect_timeout: Duration | None = None
    first_byte_timeout: Duration | None = None
    idle_timeout: Duration | None = None
    total_timeout: Duration | None = None
    minimum_bytes_per_second: Size | None = None
    max_body_bytes: Size | None = None
    max_list_bytes: Size | None = None
    attempts: Count | None = None
    retry_budget: Duration | None = None
    outage_patience: Duration | None = None
    max_retry_after: Duration | None = None
    max_redirects: Redirects | None = None
    redirect_hosts: Hosts | None = None
    refuse_private_addresses: bool | None = None
    proxy: Proxy | None = Field(default=None, repr=False)  # may hold a password
    ca_file: Name | None = None  # relative to the working folder
    user_agent: UserAgent | None = None

    def apply(self, settings: HttpSettings) -> HttpSettings:
        """*settings* with what was written here instead."""
        return replace(settings, **self.said())


class SourceConfig(Section):
    """One Source: its class, what it is built with, and how hard it may ask."""

    type: Name
    configuration: Configuration = Field(default_factory=dict, repr=False)
    limits: LimitsConfig = LimitsConfig()
    http: HttpConfig = HttpConfig()


class ObjectSpec(Section):
    """A class or function by its dotted path, and what it is called with."""

    type: Name
    configuration: Configuration = Field(default_factory=dict, repr=False)


class SubscriberConfig(ObjectSpec):
    """A class that is told what was committed."""

    name: Name | None = None  # what its place in the event log is kept under; None: its type
    start: Literal["beginning", "now"] = "beginning"  # of the log, where it is new
    timeout: Duration = timedelta(seconds=60)  # for one call of a handler

    @property
    def reader_name(self) -> str:
        """What its place in the event log is kept under."""
        return self.name or self.type

    @property
    def is_event_log(self) -> bool:
        """Whether this asks for the event log, which is always kept here."""
        return self.type == EVENT_LOG


Spec = Annotated[ObjectSpec, BeforeValidator(as_object, json_schema_input_type=ObjectSpec | str)]
Subscriber = Annotated[
    SubscriberConfig, BeforeValidator(as_object, json_schema_input_type=SubscriberConfig | str)
]


class IdentifierKey(Section):
    """One part of an identity: its folder, and its type where people type it."""

    transformation: Placing = Field(default_factory=IdentityTransformation)
    key_type: Literal["str", "int"] | None = None


def _or_empty(written: Any) -> Any:
    return {} if written is None else written


MaybeEmptyKey = Annotated[IdentifierKey, BeforeValidator(_or_empty)]


class DatasetTypeConfig(Section):
    """How the identities of one provider's dataset type are handled."""

    provider: Name
    dataset_type: Name
    identifier_keys: dict[IdentifierName, MaybeEmptyKey] = Field(default_factory=dict)
    identifier_index: bool = False  # accepted: identities are always indexed here


class PlanConfig(Section):
    """One ingestion plan: what to look at, and when to fetch it."""

    source: Name
    dataset_type: Name
    # Empty: the Source's own choice.
    data_spec_versions: Versions = Field(default_factory=DataSpecVersions)
    selectors: Patterns = Field(default_factory=lambda: (SelectorPattern(),))
    fetch_policy: Spec | None = None
    bucket: Name | None = None  # None: the default bucket
    recheck: Share | None = None  # None: what `main` says


class ConfigFile(Section):
    """A whole configuration file."""

    main: MainConfig
    sources: dict[Name, SourceConfig] = Field(default_factory=dict)
    dataset_types: tuple[DatasetTypeConfig, ...] = ()
    ingestion_plans: tuple[PlanConfig, ...] = ()
    extract_jobs: tuple[PlanConfig, ...] = ()  # the older name of ingestion_plans
    event_subscribers: tuple[Subscriber, ...] = ()
