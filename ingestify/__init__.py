"""A data lake of your own for match data: discover, compare, fetch only what is new or changed.

Names are imported when they are first used, so that ``import ingestify`` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ingestify.consumer import EventLogConsumer
    from ingestify.engine import Engine
    from ingestify.errors import (
        AbsentError,
        CatalogError,
        ConfigError,
        DeliveryError,
        FatalError,
        FetchError,
        IngestifyError,
        InvalidBodyError,
        LoadError,
        ReaderTakenError,
        RecordError,
        RefusedError,
        SourceError,
        StopProcessing,
        StoreError,
        ThrottledError,
        TransientFetchError,
    )
    from ingestify.model.catalog import DatasetQuery
    from ingestify.model.dataset import (
        Dataset,
        DatasetState,
        File,
        Revision,
        RevisionState,
        Stored,
        StoredFile,
    )
    from ingestify.model.event import DatasetEvent, Event, EventType
    from ingestify.model.http import (
        BasicAuth,
        BearerAuth,
        HeaderAuth,
        HttpSettings,
        Limits,
        QueryAuth,
        Secret,
    )
    from ingestify.model.identity import Identifier
    from ingestify.model.resource import (
        NOT_MODIFIED,
        DatasetResource,
        DataSpecVersions,
        FetchedFile,
        FileResource,
        HttpOptions,
        JsonObject,
        Later,
        token_of,
    )
    from ingestify.model.run import (
        Counters,
        Failure,
        HeldPlan,
        RunStatus,
        RunSummary,
        SelectorSummary,
    )
    from ingestify.model.selector import Selector
    from ingestify.policy import Ask, Fetch, FetchPolicy, Reason, Skip
    from ingestify.ports import Http, Source
    from ingestify.store import DatasetStore
    from ingestify.subscriber import EventSubscriber

_HOMES = {
    "ingestify.consumer": ["EventLogConsumer"],
    "ingestify.engine": ["Engine"],
    "ingestify.errors": [
        "AbsentError",
        "CatalogError",
        "ConfigError",
        "DeliveryError",
        "FatalError",
        "FetchError",
        "IngestifyError",
        "InvalidBodyError",
        "LoadError",
        "ReaderTakenError",
        "RecordError",
        "RefusedError",
        "SourceError",
        "StopProcessing",
        "StoreError",
        "ThrottledError",
        "TransientFetchError",
    ],
    "ingestify.model.catalog": ["DatasetQuery"],
    "ingestify.model.dataset": [
        "Dataset",
        "DatasetState",
        "File",
        "Revision",
        "RevisionState",
        "Stored",
        "StoredFile",
    ],
    "ingestify.model.event": ["DatasetEvent", "Event", "EventType"],
    "ingestify.model.http": [
        "BasicAuth",
        "BearerAuth",
        "HeaderAuth",
        "HttpSettings",
        "Limits",
        "QueryAuth",
        "Secret",
    ],
    "ingestify.model.identity": ["Identifier"],
    "ingestify.model.resource": [
        "NOT_MODIFIED",
        "DataSpecVersions",
        "DatasetResource",
        "FetchedFile",
        "FileResource",
        "HttpOptions",
        "JsonObject",
        "Later",
        "token_of",
    ],
    "ingestify.model.run": [
        "Counters",
        "Failure",
        "HeldPlan",
        "RunStatus",
        "RunSummary",
        "SelectorSummary",
    ],
    "ingestify.model.selector": ["Selector"],
    "ingestify.policy": ["Ask", "Fetch", "FetchPolicy", "Reason", "Skip"],
    "ingestify.ports": ["Http", "Source"],
    "ingestify.store": ["DatasetStore"],
    "ingestify.subscriber": ["EventSubscriber"],
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "NOT_MODIFIED",
    "AbsentError",
    "Ask",
    "BasicAuth",
    "BearerAuth",
    "CatalogError",
    "ConfigError",
    "Counters",
    "DataSpecVersions",
    "Dataset",
    "DatasetEvent",
    "DatasetQuery",
    "DatasetResource",
    "DatasetState",
    "DatasetStore",
    "DeliveryError",
    "Engine",
    "Event",
    "EventLogConsumer",
    "EventSubscriber",
    "EventType",
    "Failure",
    "FatalError",
    "Fetch",
    "FetchError",
    "FetchPolicy",
    "FetchedFile",
    "File",
    "FileResource",
    "HeaderAuth",
    "HeldPlan",
    "Http",
    "HttpOptions",
    "HttpSettings",
    "Identifier",
    "IngestifyError",
    "InvalidBodyError",
    "JsonObject",
    "Later",
    "Limits",
    "LoadError",
    "QueryAuth",
    "ReaderTakenError",
    "Reason",
    "RecordError",
    "RefusedError",
    "Revision",
    "RevisionState",
    "RunStatus",
    "RunSummary",
    "Secret",
    "Selector",
    "SelectorSummary",
    "Skip",
    "Source",
    "SourceError",
    "StopProcessing",
    "StoreError",
    "Stored",
    "StoredFile",
    "ThrottledError",
    "TransientFetchError",
    "__version__",
    "token_of",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("ingestify")
    try:
        home = _HOME_OF[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
