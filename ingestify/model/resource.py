"""What a Source found: a DatasetResource, with a FileResource for each File it offers."""

from __future__ import annotations

import enum
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Self, TypeAlias

import msgspec

from ingestify.errors import RecordError
from ingestify.model.dataset import DatasetState, FileKey, StoredFile
from ingestify.model.identity import Value


class NotModified(enum.Enum):
    """What a loader answers when the stored File is still what the provider has."""

    NOT_MODIFIED = enum.auto()


NOT_MODIFIED = NotModified.NOT_MODIFIED

Loaded: TypeAlias = "AsyncIterator[bytes | NotModified] | Awaitable[bytes | NotModified]"
Loader: TypeAlias = "Callable[[FileResource, StoredFile | None, Any], Loaded]"
"""Called with the File, what is stored of it if `NOT_MODIFIED` would do, and an `Http`.

It has as long as an exchange: `HttpOptions.total_timeout`, or that of the Source's settings.
"""
PostLoadHook: TypeAlias = (
    "Callable[[DatasetResource, Mapping[FileKey, FetchedFile]], Awaitable[None] | None]"
)


def token_of(*parts: str | int | bytes | datetime | None) -> str:
    """A change token made of everything a provider says about freshness.

    Equal parts give equal tokens; a part that is absent (None) differs from every other.
    """
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        if isinstance(part, datetime):
            part = part.isoformat()
        kind, data = type(part).__name__, part if isinstance(part, bytes) else str(part).encode()
        digest.update(f"{kind}:{len(data)}:".encode() + data)
    return digest.hexdigest()


class JsonObject(Mapping[str, Any]):
    """A JSON object as the provider wrote it, which is read only when somebody looks into it.

    A Source that gives a list's entry as metadata in this form spares reading it for each Dataset
    that has not changed.

    Args:
        content: its bytes. Nobody has to know whether they are JSON.
    """

    __slots__ = ("_values", "content", "token")

    def __init__(self, content: bytes) -> None:
        self.content = content
        # That of `token_of`, in one go.
        said = b"bytes:%d:%b" % (len(content), content)
        self.token = hashlib.blake2b(said, digest_size=16).hexdigest()
        self._values: dict[str, Any] | None = None

    @property
    def values_read(self) -> dict[str, Any]:
        """What it holds.

        Raises:
            RecordError: it cannot be read, or is no object.
        """
        if self._values is None:
            try:
                self._values = msgspec.json.decode(self.content, type=dict[str, Any])
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
                raise RecordError(f"cannot be read as a JSON object: {exc}") from None
        return self._values

    def __getitem__(self, name: str) -> Any:
        return self.values_read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.values_read)

    def __len__(self) -> int:
        return len(self.values_read)

    def __repr__(self) -> str:
        return f"JsonObject({self.content!r})"


class HttpOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How one File is asked for, where it differs from the rest of its Source."""

    headers: Mapping[str, str] = {}
    params: Mapping[str, str | int] = {}
    total_timeout: timedelta | None = None
    max_body_bytes: int | None = None


class FileResource(msgspec.Struct, frozen=True, kw_only=True):
    """One File that can be had: by its *url*, from *content*, or from a *loader*."""

    data_feed_key: str
    data_spec_version: str
    url: str | None = None
    content: bytes | None = None  # the provider's own bytes, already at hand
    loader: Loader | None = None
    token: str | None = None
    last_modified: datetime | None = None
    format: str = "json"
    content_type: str | None = None
    optional: bool = False  # announced, but may be absent: a 404 is no failure
    http_options: HttpOptions | None = None

    @property
    def key(self) -> FileKey:
        """What tells this File from the others of its Dataset."""
        return (self.data_feed_key, self.data_spec_version)


class DatasetResource(msgspec.Struct, kw_only=True):
    """A Dataset as the provider offers it now. Built by its Source, not changed once yielded.

    Args:
        dataset_resource_id: names and values that identify the Dataset; int or str.
        metadata: any JSON, perhaps a `JsonObject`; kept with the Dataset as it is now.
        fetch_policy_config: for the FetchPolicy only; never stored.
        post_load_files: called with this resource and every File of the Dataset, before they are
            committed; may set `state`, `name` and `metadata`. That is after new bytes have
            arrived, and when the list says something else than before about name, state or
            metadata: the Files then come from the lake, and the provider is not asked for them.
            What it sets must follow from what it is given. Until it is called again, what it has
            set stays. Where it is async it has `HttpSettings.total_timeout`.
    """

    dataset_resource_id: Mapping[str, Value]
    name: str
    provider: str = ""  # the Source's, unless it speaks for several
    dataset_type: str = ""  # the one that was asked for, unless said otherwise
    state: DatasetState = DatasetState.COMPLETE
    metadata: Mapping[str, Any] = {}
    fetch_policy_config: Mapping[str, Any] = {}
    post_load_files: PostLoadHook | None = None
    files: list[FileResource] = []

    def add_file(
        self,
        data_feed_key: str,
        data_spec_version: str = "v1",
        *,
        url: str | None = None,
        content: bytes | None = None,
        json_content: Any = None,
        loader: Loader | None = None,
        token: str | None = None,
        last_modified: datetime | None = None,
        format: str = "json",  # noqa: A002  # the field's own term
        content_type: str | None = None,
        optional: bool = False,
        http_options: HttpOptions | None = None,
    ) -> Self:
        """Offer one more File. Exactly one of url, content, json_content and loader is given.

        A *last_modified* without a *token* is the token. Returns the resource itself.

        Raises:
            RecordError: the File cannot be had that way, or *last_modified* has no time zone.
        """
        if json_content is not None:
            content = content_of(json_content)
        if (url is not None) + (content is not None) + (loader is not None) != 1:
            raise RecordError(f"{data_feed_key}: give exactly one of url, content and loader")
        if last_modified is not None:
            if last_modified.utcoffset() is None:
                raise RecordError(f"{data_feed_key}: last_modified has no time zone")
            token = token if token is not None else last_modified.isoformat()
        self.files.append(
            FileResource(
                data_feed_key=data_feed_key,
                data_spec_version=data_spec_version,
                url=url,
                content=content,
                loader=loader,
                token=token,
                last_modified=last_modified,
                format=format,
                content_type=content_type,
                optional=optional,
                http_options=http_options,
            )
        )
        return self


def agreement_of(resource: DatasetResource) -> bytes | None:
    """A digest of all that *resource* says, and of freshness with it: two that are equal would
    lead to the same. None where something in it is not what it should be."""
    metadata = resource.metadata
    lazy = metadata.token if type(metadata) is JsonObject else None
    try:
        said = (
            resource.name,
            resource.state,
            lazy,
            metadata if lazy is None else None,
            [(file.data_feed_key, file.data_spec_version, file.token) for file in resource.files],
        )
        text = msgspec.json.encode(said)
    except (AttributeError, TypeError, ValueError, RecursionError):
        return None
    return hashlib.blake2b(text, digest_size=16).digest()


class FetchedFile(msgspec.Struct, frozen=True, kw_only=True):
    """A File that has arrived, before it is committed, or one that the lake has; what a post-load
    hook looks at."""

    key: FileKey
    size: int  # of the decoded bytes
    sha256: str
    read_bytes: Callable[[], Awaitable[bytes]]  # the decoded bytes
    is_new: bool = True  # it has just arrived


class Later(msgspec.Struct, frozen=True, kw_only=True):
    """Yielded by `Source.fetch_dataset_files`: go on *after* a while, and hold no worker."""

    after: timedelta


class DataSpecVersions(Mapping[str, tuple[str, ...]]):
    """Which versions of which data feeds are wanted, such as ``{"events": ("v8",)}``."""

    __slots__ = ("_versions",)

    def __init__(self, versions: Mapping[str, str | Sequence[str]] | None = None) -> None:
        self._versions = {
            feed: (wanted,) if isinstance(wanted, str) else tuple(dict.fromkeys(wanted))
            for feed, wanted in (versions or {}).items()
        }

    def get_version(self, data_feed_key: str) -> str:
        """The only version wanted of *data_feed_key*.

        Raises:
            KeyError: none is wanted, or more than one.
        """
        (version,) = self._versions.get(data_feed_key, ()) or (None,)
        if version is None:
            raise KeyError(data_feed_key)
        return version

    def union(self, other: Mapping[str, tuple[str, ...]]) -> DataSpecVersions:
        """What either of the two wants."""
        feeds = dict.fromkeys([*self, *other])
        return DataSpecVersions(
            {feed: [*self.get(feed, ()), *other.get(feed, ())] for feed in feeds}
        )

    def __getitem__(self, data_feed_key: str) -> tuple[str, ...]:
        return self._versions[data_feed_key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._versions)

    def __len__(self) -> int:
        return len(self._versions)

    def __repr__(self) -> str:
        return f"DataSpecVersions({self._versions})"


def content_of(value: Any) -> bytes:
    """*value* as JSON bytes, for Files that a Source makes itself.

    Raises:
        RecordError: it cannot be written as JSON.
    """
    if isinstance(value, JsonObject):
        value = value.values_read
    try:
        return msgspec.json.encode(value)
    except (TypeError, ValueError, RecursionError) as exc:
        raise RecordError(f"cannot be written as JSON: {exc}") from None
