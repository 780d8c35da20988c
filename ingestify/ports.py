"""What the core needs of the world. Read this to know everything it can touch.

A port is a small Protocol whose docstrings are its contract; adapters need not inherit from it.
`Source` is a class, since it comes with defaults; everything else is structural.
"""

from __future__ import annotations

from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Callable,
    Mapping,
    Sequence,
)
from collections.abc import Set as AbstractSet
from contextlib import AbstractAsyncContextManager
from datetime import date, datetime
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar, overload

from ingestify.errors import StoreError
from ingestify.model.catalog import (
    Agreed,
    CatalogCopy,
    Commit,
    CommitResult,
    DatasetQuery,
    Deleted,
    Holder,
    KeptFile,
    Lease,
    Scope,
    SelectorClosing,
    SelectorState,
    StagedFile,
    StoredObject,
)
from ingestify.model.dataset import Dataset, FileCheck, Revision, Stored
from ingestify.model.event import DatasetEvent, Event, ReaderRow
from ingestify.model.http import Auth, HttpSettings, Limits, NoAuth, Request
from ingestify.model.resource import DatasetResource, DataSpecVersions, FileResource, Later
from ingestify.model.run import Failure, RunRow, RunSummary
from ingestify.model.selector import Selector

T = TypeVar("T")


class Clock(Protocol):
    """Time. `monotonic` is for waiting, `now` for writing down; only `now` may jump."""

    def now(self) -> datetime:
        """The wall clock: aware, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds since some moment; never goes back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after *seconds*; at once, but through the event loop, for 0 and less."""
        ...


class Response(Protocol):
    """The beginning of an answer, and a way to its body."""

    @property
    def status(self) -> int:
        """The HTTP status."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """Header values by lower-case name; values of repeated headers joined by ", "."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes over the wire, content coding untouched. Can be read once.

        Raises:
            TransientFetchError: the connection broke before the announced end.
        """
        ...


class Fetcher(Protocol):
    """Makes one HTTP exchange. Follows no redirect, keeps no cookie, retries nothing."""

    def send(self, request: Request) -> AbstractAsyncContextManager[Response]:
        """The answer to *request*; leaving the context ends the exchange.

        Raises:
            TransientFetchError: no connection, no answer within the connect and first-byte
                deadlines, or one that is not HTTP.
            UnsafeTargetError: the address is one that the settings refuse.
        """
        ...


class FileStore(Protocol):
    """Where the bytes of Files live. What is published is never overwritten.

    Paths are relative, with "/" between parts, and made by the core alone.
    """

    async def stage(self, chunks: AsyncIterable[bytes]) -> StagedFile:
        """Keep *chunks* out of sight until they are published or discarded.

        Raises:
            StoreError: nothing was kept; staging again is safe.
            StoreUnavailableError: nothing can be kept any more.
        """
        ...

    def open_staged(self, staged: StagedFile) -> AsyncIterator[bytes]:
        """The bytes of a staged file, in chunks."""
        ...

    def publishing(self) -> AbstractAsyncContextManager[None]:
        """Holds off those who delete, from before `publish` until after the commit."""
        ...

    async def publish(self, files: Sequence[tuple[StagedFile, str]]) -> Sequence[str | StoreError]:
        """Make staged files durable and visible under the wanted paths, as one batch.

        Returns, in order, for each file the path it has now, or why it has none. A path that is
        taken by equal bytes is adopted; one taken by other bytes gets a suffix before its first
        dot. Whatever happens, no staged file that was given is left behind in the staging area.

        Raises:
            StoreUnavailableError: nothing can be published any more.
        """
        ...

    async def discard(self, staged: StagedFile) -> None:
        """Forget a staged file that will not be published. Doing it twice is harmless."""
        ...

    def open(self, path: str) -> AsyncIterator[bytes]:
        """The stored bytes at *path*, in chunks.

        Raises:
            MissingBytesError: there is nothing at *path*.
            StoreError: it cannot be read.
            StoreUnavailableError: this user may not read it.
        """
        ...

    async def read(self, path: str) -> bytes:
        """All stored bytes at *path*.

        Raises:
            MissingBytesError: there is nothing at *path*.
            StoreError: it cannot be read.
            StoreUnavailableError: this user may not read it.
        """
        ...

    async def delete(self, paths: Sequence[str]) -> Mapping[str, str]:
        """Remove the objects at *paths*; those that are not there count as removed.

        Returns those that could not be removed, and for each the reason with a way out. To be
        called under `exclusive`, since folders that are empty then may go with them.
        """
        ...

    def exclusive(self) -> AbstractAsyncContextManager[None]:
        """The store for whoever deletes: until the end nobody is `publishing`, anywhere."""
        ...

    async def staged_debris(self) -> Sequence[StoredObject]:
        """What was staged by those whose process is gone. To be called under `exclusive`."""
        ...

    async def remove_debris(self) -> tuple[int, int]:
        """Remove it; what is on its way stays. Returns how many objects and bytes there were.
        To be called under `exclusive`."""
        ...

    async def register(self, catalog_id: str) -> None:
        """Write down that the catalog called *catalog_id* keeps its Files here. The first one
        makes the place, if that was not made when the store was opened."""
        ...

    async def catalogs(self) -> Mapping[str, str]:
        """The catalogs that keep their Files here, each with the place where that is noted."""
        ...

    async def free_bytes(self) -> int | None:
        """How many bytes could still be kept; None where nobody can tell, or there is no end."""
        ...

    def list(self, prefix: str = "") -> AsyncIterator[StoredObject]:
        """Every object below *prefix*, in the order of paths; staged ones are not shown."""
        ...


class Catalog(Protocol):
    """Where the metadata lives: what is in the lake, what was asked for, what came of it.

    Every method is atomic and durable when it returns, also when its caller is cancelled:
    it then has happened as a whole or not at all. Every method may raise `CatalogError`.
    """

    def hurry(self) -> None:
        """Wait for no other process any more: from now on, and where it is waited for already,
        whatever cannot be written at once raises `CatalogError`. For those who must end."""
        ...

    # Runs

    async def begin_run(self, *, started_at: datetime, fingerprint: str) -> int:
        """Write down that a Run begins. Returns its id; ids only grow."""
        ...

    async def beat(self, run_id: int, *, at: datetime) -> None:
        """Write down that the Run is still alive."""
        ...

    async def close_run(self, run_id: int, summary: RunSummary) -> None:
        """Write down how the Run ended."""
        ...

    async def close_crashed_runs(self, *, silent_since: datetime, at: datetime) -> Sequence[int]:
        """Close Runs that say they are running but were silent since then. Returns their ids.

        A sign of life from as far ahead of *at* was given before the clock was set back.
        """
        ...

    async def acquire_lease(self, name: str, *, run_id: int, at: datetime) -> Lease | None:
        """The sole right to run the plan called *name*, or None while another has it.

        It dies with its process. A Run that still counts as running although its lease could be
        acquired is closed as crashed.
        """
        ...

    async def release_lease(self, lease: Lease) -> None:
        """Give *lease* back. Doing it twice is harmless."""
        ...

    async def lease_holder(self, name: str) -> Holder | None:
        """Who has the right to run the plan called *name*; None: nobody, or nobody knows.

        Who has just acquired it may not be known yet, and who crashed still counts.
        """
        ...

    async def spend_quota(self, source: str, *, day: date, count: int, most: int) -> int:
        """Grant up to *count* more of the *most* requests that *source* has on a UTC *day*.

        Returns how many are granted, over all who ask: never more than there are. Where *count*
        is negative, as many are given back. What was used is known for some days.
        """
        ...

    # Selectors

    async def selector_state(self, scope: Scope) -> SelectorState | None:
        """What is known of a Selector, or None before its first Run."""
        ...

    async def begin_selector(
        self, scope: Scope, *, run_id: int, name: str | None, token: str | None, at: datetime
    ) -> SelectorState:
        """Open a SelectorRun. A *token* that differs is written down as first seen in this Run.

        Returns what was known until now. From now on the plan's fingerprint is not known any more,
        until a SelectorRun is complete and clean.
        """
        ...

    async def has_unsettled(self, scope: Scope, *, older_than: datetime | None) -> bool:
        """Whether anything that *scope* lists has failed, is suspect, or was last asked for
        before *older_than*: then its list must be looked at even if it has not changed."""
        ...

    async def finish_selector(self, closing: SelectorClosing) -> int:
        """Close a SelectorRun, and write down what it lists now where it saw the whole list.

        What it had failed at in earlier Runs is resolved then: what still fails has failed anew.
        Returns how many Datasets are newly gone: listed before, and not any more.
        """
        ...

    async def settle_failures(
        self,
        *,
        bucket: str,
        source: str,
        dataset_type: str,
        selector_keys: Sequence[str],
        run_id: int,
    ) -> None:
        """Resolve what failed before the Run *run_id* in Selectors of that dataset type that are
        none of *selector_keys*: they are not wanted any more, and nobody would ever try again."""
        ...

    # Datasets

    async def look_up(
        self, *, bucket: str, stage: str, provider: str, dataset_type: str, keys: Sequence[str]
    ) -> Sequence[Stored | None]:
        """What is stored for each identifier key, in the order of *keys*, in one round trip."""
        ...

    async def agreements(
        self, *, bucket: str, stage: str, provider: str, dataset_type: str, keys: Sequence[str]
    ) -> Sequence[Agreed | None]:
        """The same in short, at a fraction of the cost.

        What is agreed holds no longer once a File of the Dataset fails or is suspect, or a commit
        brings another agreement or none.
        """
        ...

    async def commit(
        self, batch: Sequence[Commit], *, leases: Sequence[Lease]
    ) -> Sequence[CommitResult]:
        """Make every commit of *batch* true, in one transaction; results in the same order.

        A commit whose base Revision is no longer the newest, or whose Dataset was deleted, is left
        out and answered with `Conflict`; one that the database refuses is left out and answered
        with `Rejected`.

        Raises:
            FenceLostError: one of *leases* was taken over; nothing was written.
        """
        ...

    async def invalidate(self, query: DatasetQuery, *, reason: str, at: datetime) -> int:
        """Mark the newest Revision of what *query* finds as failed in validation.

        Returns how many were marked; their Files are asked for again at the next Run.
        """
        ...

    # Reading

    async def count(self, query: DatasetQuery) -> int:
        """How many Datasets *query* finds."""
        ...

    async def find(
        self, query: DatasetQuery, *, after: int = 0, limit: int = 1000
    ) -> Sequence[Dataset]:
        """The first *limit* Datasets with a `row_id` above *after*, in that order."""
        ...

    async def get(self, dataset_id: str) -> Dataset | None:
        """The Dataset with that id."""
        ...

    async def revisions(self, row_id: int) -> Sequence[Revision]:
        """All Revisions of a Dataset, oldest first."""
        ...

    async def checks(self, row_id: int) -> Sequence[FileCheck]:
        """The last check of every File of a Dataset."""
        ...

    async def runs(self, *, limit: int = 20) -> Sequence[RunRow]:
        """The newest Runs, newest first."""
        ...

    async def failures(
        self, *, run_id: int | None = None, dataset_id: str | None = None, limit: int = 1000
    ) -> Sequence[Failure]:
        """What failed and has not succeeded since, newest first; or all that failed in a Run; or
        what is so of one Dataset."""
        ...

    # Upkeep

    async def kept_files(
        self, query: DatasetQuery, *, after: int = 0, limit: int = 1000
    ) -> Sequence[KeptFile]:
        """The first *limit* Files with a row id above *after*, in that order: every File of every
        Revision of what *query* finds."""
        ...

    async def files_by_row_id(self, row_ids: Sequence[int]) -> Sequence[KeptFile]:
        """Those of *row_ids* that are Files still, in the order of row ids."""
        ...

    async def count_files(self, query: DatasetQuery) -> tuple[int, int]:
        """How many Files *query* finds in that way, and how many stored bytes."""
        ...

    async def mark_files(self, *, damaged: Sequence[int], sound: Sequence[int]) -> None:
        """Mark the current ones among Files, named by row id, as damaged; or as sound again,
        where they were marked as damaged."""
        ...

    async def referenced(self, paths: Sequence[str]) -> AbstractSet[str]:
        """Those of *paths* that a File has. Reads every File once, for up to 50,000 paths."""
        ...

    async def listed_in(self, row_ids: Sequence[int]) -> Mapping[int, Sequence[str]]:
        """The keys of the Selectors that have ever listed each Dataset."""
        ...

    async def catalog_id(self) -> str:
        """What this catalog is called, and no other one, not even a copy made by `back_up`."""
        ...

    async def delete(self, query: DatasetQuery, *, at: datetime) -> Deleted:
        """Remove the Datasets that *query* finds, resolve their failures, and write an event for
        each. The paths of their Files are `doomed` from then on; their row ids are never used
        again. What is still listed is new to the next Run."""
        ...

    async def doomed(self, *, after: str = "", limit: int = 1000) -> Sequence[str]:
        """The first *limit* paths above *after* of deleted Files, whose bytes may still be there,
        or be somebody else's again."""
        ...

    async def forget_doomed(self, paths: Sequence[str]) -> None:
        """Nothing is left to do about *paths*."""
        ...

    # Events

    async def events(self, *, after: int = 0, limit: int = 1000) -> Sequence[Event]:
        """Events with an id above *after*, in the order of ids.

        Whoever has seen an id has missed none below it: ids become visible in their order.
        """
        ...

    async def last_event(self) -> int:
        """The id of the newest event, or 0 where there is none."""
        ...

    async def reader_cursor(self, name: str) -> int | None:
        """The last event that the reader called *name* has handled; None for a new reader."""
        ...

    async def move_reader(
        self, name: str, *, event: int, expected: int | None, at: datetime
    ) -> bool:
        """Write down that the reader called *name* has handled everything up to *event*.

        Returns False, and changes nothing, where its cursor is not what was *expected*: then
        another process reads under this name.
        """
        ...

    async def readers(self) -> Sequence[ReaderRow]:
        """Every reader that has a cursor, by name."""
        ...

    # Copies

    async def free_bytes(self) -> int | None:
        """How many bytes the Catalog could still grow by; None where nobody can tell."""
        ...

    async def back_up(
        self,
        path: Path,
        *,
        replace: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> CatalogCopy:
        """Put a copy of the whole Catalog at *path*, as it is at one moment, while others write.

        It is complete and durable when it gets its name, and was looked through before. A file
        that is there stays as it is unless *replace* is on. When cancelled, nothing is left.
        *progress* is called now and then, from a thread, with how much is done and how much is
        to be done.

        Raises:
            CatalogError: there can be no copy at *path*, or the copy is not sound.
        """
        ...


class EventSink(Protocol):
    """Who wants to know what was committed."""

    async def publish(self, events: Sequence[DatasetEvent]) -> None:
        """Take *events*, in commit order. Raising means: not taken, ask again."""
        ...


class Http(Protocol):
    """What a Source asks its provider with. Bound to the Source: base URL, credentials, limits.

    Addresses are relative to the Source's base URL, or absolute and below it. Every method may
    raise `FetchError` (give up) or, after all retries, `TransientFetchError`.
    """

    def url(self, path: str, *segments: int | str) -> str:
        """The absolute address of *path*, each ``{}`` in it replaced by one encoded segment.

        Raises:
            UnsafeTargetError: a segment would change the shape of the address.
        """
        ...

    async def get_bytes(
        self, url: str, *, params: Mapping[str, Any] | None = None, headers: Mapping[str, str] = {}
    ) -> bytes:
        """The decoded body of a 200, at most `HttpSettings.max_list_bytes` long."""
        ...

    @overload
    async def get_json(self, url: str, *, params: Mapping[str, Any] | None = None) -> Any: ...
    @overload
    async def get_json(
        self, url: str, *, params: Mapping[str, Any] | None = None, type: type[T]
    ) -> T: ...

    @overload
    def get_json_items(
        self, url: str, *, params: Mapping[str, Any] | None = None, key: str | None = None
    ) -> AsyncIterator[Any]: ...
    @overload
    def get_json_items(
        self,
        url: str,
        *,
        params: Mapping[str, Any] | None = None,
        key: str | None = None,
        type: type[T],
    ) -> AsyncIterator[T]:
        """The entries of a JSON list, or of the list under *key*, one by one.

        An entry that cannot be read (as *type*) is refused alone: it is counted and reported
        with its position and reason, and the others follow. With ``type=msgspec.Raw`` entries
        come as the provider's own bytes.
        """
        ...

    def refuse(self, reason: str) -> None:
        """Count and report one record that cannot be used, and go on."""
        ...


class Source:
    """Finds what one provider offers. The base of every connector.

    A connector sets `provider`, implements `discover_datasets`, and `discover_selectors` where
    the provider can be looked at slice by slice. Methods may run concurrently for different
    Selectors, on one event loop, so they must not block it. `StopProcessing` and `FatalError`
    may be raised from any of them.

    Selectors come from `discover_selectors`. A plan, or a caller, may name values that they do
    not have: each Selector is then extended by these, and `discover_datasets` has to heed them.
    What can be named are the names that offered Selectors have, those in `selector_keys`, and
    the `identifier_keys` of the dataset type in the configuration; any other is taken for a
    mistake, since what nobody heeds would select more instead of less. Where only the empty
    Selector is offered and there are no `selector_keys`, a plan may use any name. A comparison
    needs a name that offered Selectors have.

    Args:
        name: what the configuration calls it.
        base_url, limits, http_settings: replace what the class says.
    """

    provider: ClassVar[str]
    base_url: str = ""
    limits: Limits = Limits()
    http_settings: HttpSettings = HttpSettings()
    version: str = "1"  # raise it when the same answers lead to other Datasets
    data_spec_versions: ClassVar[Mapping[str, Mapping[str, str | Sequence[str]]]] = {}
    """By dataset type: every feed there is, and the versions of it that are fetched when a plan
    does not name any; an empty list for a feed that only a plan may ask for. Where there are any,
    a plan with another feed or dataset type is wrong."""
    selector_keys: ClassVar[Sequence[str] | None] = None
    """Every name that Selectors may have, those of `discover_selectors` included. None: nobody
    can tell before that was asked."""

    def __init__(
        self,
        name: str,
        *,
        auth: Auth | None = None,
        base_url: str | None = None,
        limits: Limits | None = None,
        http_settings: HttpSettings | None = None,
    ) -> None:
        self.name = name
        self.auth: Auth = auth or NoAuth()
        if base_url is not None:
            self.base_url = base_url
        if limits is not None:
            self.limits = limits
        if http_settings is not None:
            self.http_settings = http_settings

    async def discover_selectors(self, dataset_type: str, *, http: Http) -> AsyncIterator[Selector]:
        """Every slice that the provider has now. Default: one empty Selector."""
        yield Selector()

    def discover_datasets(
        self,
        dataset_type: str,
        selector: Selector,
        *,
        data_spec_versions: DataSpecVersions,
        state: dict[str, Any],
        http: Http,
    ) -> AsyncIterator[DatasetResource | Sequence[DatasetResource]]:
        """Every Dataset in *selector*, one by one or in pages; an async generator.

        *state* is the Source's own, for this Selector: what it leaves there is saved when the
        SelectorRun is complete and nothing in it failed, and comes back the next time.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement discover_datasets")

    async def fetch_dataset_files(
        self, resource: DatasetResource, stored: Stored | None, *, http: Http
    ) -> AsyncIterator[FileResource | Later]:
        """The Files to fetch for *resource*. Default: every File that it declares.

        `resource.files` holds only those that the FetchPolicy wants. What is yielded is fetched
        concurrently. `Later` ends the turn: the generator is continued after that while, and no
        worker is held until then.
        """
        for file in resource.files:
            yield file

    async def login(self, http: Http) -> Auth | None:
        """Fresh credentials, asked for before the first request and after a 401.

        Default: None, which means that `auth` is all there is.
        """
        return None

    def check_answer(self, status: int, headers: Mapping[str, str], head: bytes) -> None:
        """Raise a `FetchError` where an answer that looks good says that it is not.

        *head* is the decoded body's first 64 KiB, or all of it.
        """
