"""Short ways to say what the Catalog's contract is about."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from ingestify.model.catalog import (
    CheckedFile,
    Commit,
    CommitResult,
    Committed,
    Completion,
    DatasetCommit,
    FailureCommit,
    NewFile,
    Scope,
    SelectorClosing,
    SelectorState,
)
from ingestify.model.dataset import CheckOutcome, DatasetState, FileKey, Stored
from ingestify.model.identity import Value, canonical_key
from ingestify.model.run import Counters, Failure, RunStatus, RunSummary, SelectorStatus
from ingestify.ports import Catalog

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
PLACE: dict[str, str] = {
    "bucket": "main",
    "stage": "raw",
    "provider": "acme",
    "dataset_type": "match",
}
SCOPE = Scope(bucket="main", source="acme", dataset_type="match", selector_key='{"season":1}')


def minutes(number: float) -> datetime:
    """So many minutes after noon."""
    return NOON + timedelta(minutes=number)


def key_of(match_id: Value, **more: Value) -> str:
    """The identifier key of a match."""
    return canonical_key({"match_id": match_id, **more})


def stored_file(feed: str = "events", body: str = "a", **changes: Any) -> CheckedFile:
    """A File whose new bytes are *body*, as far as anyone can tell."""
    new = NewFile(
        path=f"acme/{feed}.{body}.json.gz",
        format="json",
        codec="gzip",
        size=len(body),
        sha256=body * 64,
        stored_size=len(body) + 20,
        stored_sha256=body * 63 + "0",
        content_type="application/json",
        validation="whole",
    )
    file = CheckedFile(key=(feed, "v1"), outcome=CheckOutcome.STORED, reason="new", new=new)
    return msgspec.structs.replace(file, **changes)


def checked_file(
    feed: str = "events", outcome: CheckOutcome = CheckOutcome.UNCHANGED, **changes: Any
) -> CheckedFile:
    """A File that was asked for and brought no new bytes."""
    file = CheckedFile(key=(feed, "v1"), outcome=outcome, reason="recheck")
    return msgspec.structs.replace(file, **changes)


def dataset_commit(
    match_id: Value, *files: CheckedFile, base: int | None = None, **changes: Any
) -> DatasetCommit:
    """A match that was looked at with success."""
    commit = DatasetCommit(
        bucket=PLACE["bucket"],
        stage=PLACE["stage"],
        provider=PLACE["provider"],
        dataset_type=PLACE["dataset_type"],
        identifier_key=key_of(match_id),
        identifier=key_of(match_id),
        name=f"match {match_id}",
        state=DatasetState.COMPLETE,
        metadata=b'{"competition_id":11,"home":"Ajax"}',
        details_hash="details",
        base=base,
        files=files,
        reason="new",
        run_id=1,
        at=NOON,
    )
    return msgspec.structs.replace(commit, **changes)


def failure(match_id: Value | None, **changes: Any) -> Failure:
    """Something about a match, or about a Selector, that could not be done."""
    value = Failure(
        code="fetch",
        message="answered 500",
        bucket="main",
        provider="acme",
        dataset_type="match",
        identifier_key=None if match_id is None else key_of(match_id),
        run_id=1,
        failed_at=NOON,
    )
    return msgspec.structs.replace(value, **changes)


def failure_commit(match_id: Value, *keys: FileKey, **changes: Any) -> FailureCommit:
    """A match that failed at the Files named *keys*."""
    selector_run_id = changes.pop("selector_run_id", None)
    return FailureCommit(
        bucket="main",
        stage="raw",
        failure=failure(match_id, **changes),
        files=keys,
        selector_run_id=selector_run_id,
    )


def completion(row_ids: Sequence[int] | None, **changes: Any) -> Completion:
    """What a clean look at a whole list leaves behind."""
    value = Completion(
        row_ids=row_ids, clean=True, fingerprint="plan", validators=None, state={"page": 7}
    )
    return msgspec.structs.replace(value, **changes)


def closing(
    state: SelectorState, completed: Completion | None, *, run_id: int, **changes: Any
) -> SelectorClosing:
    """The end of the SelectorRun that *state* was opened with."""
    value = SelectorClosing(
        scope=SCOPE,
        run_id=run_id,
        selector_run_id=state.selector_run_id,
        status=SelectorStatus.COMPLETE if completed else SelectorStatus.FAILED,
        counters=Counters(listed=3, stored=2, skipped=1),
        reasons={"new": 2},
        failures=(),
        error=None,
        completion=completed,
        at=NOON,
    )
    return msgspec.structs.replace(value, **changes)


def summary(run_id: int, **changes: Any) -> RunSummary:
    """How a Run ended."""
    value = RunSummary(
        run_id=run_id,
        status=RunStatus.FINISHED,
        exit_code=0,
        started_at=NOON,
        finished_at=minutes(5),
        counters=Counters(listed=6, stored=1, unchanged=2, skipped=2, refused=1),
        selectors=(),
        failures=(),
        requests=9,
        received_bytes=1000,
        stored_bytes=500,
    )
    return msgspec.structs.replace(value, **changes)


async def begin_run(catalog: Catalog, *, at: datetime = NOON) -> int:
    """A Run that begins."""
    return await catalog.begin_run(started_at=at, fingerprint="configuration")


async def commit_all(catalog: Catalog, *batch: Commit) -> list[Committed]:
    """Commit *batch*, all of which must become true."""
    results = await catalog.commit(batch, leases=[])
    committed = [result for result in results if isinstance(result, Committed)]
    assert len(committed) == len(batch), results
    return committed


async def commit_one(catalog: Catalog, commit: Commit) -> CommitResult:
    """Commit it, and see what comes of it."""
    [result] = await catalog.commit([commit], leases=[])
    return result


async def look_up(catalog: Catalog, *keys: str) -> Sequence[Stored | None]:
    """What is stored of matches."""
    return await catalog.look_up(**PLACE, keys=keys)


async def stored_match(catalog: Catalog, match_id: Value) -> Stored:
    """What is stored of a match that is stored."""
    [stored] = await look_up(catalog, key_of(match_id))
    assert stored is not None
    return stored


Opener = Callable[[], AbstractAsyncContextManager[Catalog]]


class CatalogFixtures:
    """Where the catalogs of a contract suite come from. A suite's subclass says what to open."""

    @pytest.fixture
    def open_catalog(self) -> Opener:
        """Opens one and the same catalog, which is empty at first.

        It can be opened again while it is open; that is how another process is played.
        """
        raise NotImplementedError("override open_catalog")

    @pytest_asyncio.fixture
    async def catalog(self, open_catalog: Opener) -> AsyncIterator[Catalog]:
        """A catalog with nothing in it."""
        async with open_catalog() as catalog:
            yield catalog

    @pytest_asyncio.fixture
    async def other(self, catalog: Catalog, open_catalog: Opener) -> AsyncIterator[Catalog]:
        """The same catalog, as another process has it open."""
        async with open_catalog() as other:
            yield other
