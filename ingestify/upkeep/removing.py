"""Removing: Datasets that somebody wants to be gone, and bytes that nothing refers to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import TypeVar

import msgspec

from ingestify.errors import ConfigError, StoreError
from ingestify.model.catalog import DatasetQuery, Deleted, StoredObject
from ingestify.model.layout import is_place_of_files
from ingestify.pipeline.undisturbed import undisturbed
from ingestify.ports import Catalog, FileStore

T = TypeVar("T")

PAGE = 50_000  # paths that the Catalog looks up at once
TOLD_AFTER = 1_000  # objects that were listed
AT_ONCE = 5_000  # objects removed while nobody can publish
MOST_NAMED = 1000

Progress = Callable[[int], None]  # how many objects were looked at


class Collected(msgspec.Struct, kw_only=True):
    """What `collect` has removed, or would remove."""

    doomed: int = 0  # files of Datasets that were deleted before
    staged: int = 0  # files on their way, of processes that are gone
    staged_bytes: int = 0
    unreferenced: int = 0  # published files that no File has
    unreferenced_bytes: int = 0
    paths: list[str] = []  # msgspec copies it; the first 1,000

    def name(self, paths: Sequence[str]) -> None:
        """Remember *paths*, as far as there is room."""
        self.paths += paths[: MOST_NAMED - len(self.paths)]


@dataclass(slots=True)
class Stuck:
    """Objects that could not be removed, and why."""

    count: int = 0
    reasons: dict[str, str] = field(default_factory=dict)  # by path; the first 1,000

    def add(self, reasons: Mapping[str, str]) -> None:
        """Count those of *reasons*, too."""
        self.count += len(reasons)
        for path, reason in reasons.items():
            if len(self.reasons) < MOST_NAMED:
                self.reasons[path] = reason

    def error(self, what: str) -> StoreError:
        """What tells of the first one. *what* has happened to the others."""
        path, reason = next(iter(self.reasons.items()))
        more = f" and {self.count - 1} more places" if self.count > 1 else ""
        return StoreError(
            f"{what}; the bytes at {path}{more} are not: {reason}, then `ingestify gc`"
        )


@dataclass(frozen=True, slots=True)
class Finished:
    """What `finish_deletions` has done: how many files it looked at, and which are still there."""

    files: int
    stuck: Stuck


async def collect(
    catalog: Catalog,
    store: FileStore,
    *,
    dry_run: bool = False,
    on_progress: Progress | None = None,
) -> Collected:
    """Remove the bytes that nothing refers to. Safe while Runs go on, here or elsewhere.

    Raises:
        ConfigError: another catalog keeps its Files in the same lake.
        StoreError: something could not be removed; all else was.
    """
    collected, stuck = Collected(), Stuck()
    doomed: frozenset[str] = frozenset()
    if dry_run:
        doomed = frozenset(await catalog.doomed(limit=1_000_000))
        collected.doomed = len(doomed)
        collected.name(sorted(doomed)[:MOST_NAMED])
    else:
        finished = await finish_deletions(catalog, store)
        collected.doomed, stuck = finished.files - finished.stuck.count, finished.stuck

    async def remove_debris() -> None:
        debris = await store.staged_debris()
        collected.name([each.path for each in debris])
        collected.staged = len(debris)
        collected.staged_bytes = sum(each.size for each in debris)
        if not dry_run:
            await store.remove_debris()

    await alone(catalog, store, remove_debris)
    async for candidates in unreferenced(catalog, store, on_progress=on_progress):
        for start in range(0, len(candidates), AT_ONCE):
            chosen = candidates[start : start + AT_ONCE]
            chosen = [each for each in chosen if each.path not in stuck.reasons]
            removal = partial(_remove, catalog, store, chosen, dry_run=dry_run)
            found, failed = await alone(catalog, store, removal)
            stuck.add(failed)
            found = [each for each in found if each.path not in doomed]
            collected.unreferenced += len(found)
            collected.unreferenced_bytes += sum(each.size for each in found)
            collected.name([each.path for each in found])
    if stuck.count:
        raise stuck.error("all other files that nothing refers to are removed")
    return collected


async def _remove(
    catalog: Catalog, store: FileStore, candidates: Sequence[StoredObject], *, dry_run: bool
) -> tuple[Sequence[StoredObject], Mapping[str, str]]:
    """Remove those of *candidates* that still have no File. Returns them, and what failed."""
    found = await _still_unreferenced(catalog, candidates)
    if dry_run:
        return found, {}
    failed = await store.delete([each.path for each in found])
    return [each for each in found if each.path not in failed], failed


async def delete(
    catalog: Catalog, store: FileStore, query: DatasetQuery, *, at: datetime
) -> Deleted:
    """Remove the Datasets that *query* finds, first their rows and then their bytes.

    Whatever keeps it from ending, the next `delete`, `collect` or `verify` does the rest.

    Raises:
        ConfigError: another catalog keeps its Files in the same lake.
        StoreError: the rows are deleted, but not all of the bytes.
    """
    await refuse_shared(catalog, store)
    deleted = await catalog.delete(query, at=at)
    finished = await finish_deletions(catalog, store)
    if finished.stuck.count:
        raise finished.stuck.error("the datasets are deleted")
    return deleted


async def finish_deletions(catalog: Catalog, store: FileStore) -> Finished:
    """Remove the bytes of deleted Files, but for those that are a File's again.

    What cannot be removed stays doomed, and keeps nobody else's bytes from going.
    """
    files, stuck, after = 0, Stuck(), ""
    while paths := await catalog.doomed(after=after, limit=AT_ONCE):
        stuck.add(await alone(catalog, store, partial(_finish, catalog, store, paths)))
        files, after = files + len(paths), paths[-1]
    return Finished(files, stuck)


async def _finish(catalog: Catalog, store: FileStore, paths: Sequence[str]) -> Mapping[str, str]:
    """Remove the bytes at *paths*, where they are nobody's. Returns what failed."""
    again = await catalog.referenced(paths)
    failed = await store.delete([path for path in paths if path not in again])
    await catalog.forget_doomed([path for path in paths if path not in failed])
    return failed


async def unreferenced(
    catalog: Catalog, store: FileStore, *, on_progress: Progress | None = None
) -> AsyncIterator[Sequence[StoredObject]]:
    """Objects that no File seems to have, in pages. Some may be about to be committed.

    What does not lie where Files do is not ours, be it the Catalog itself.
    """
    seen, page = 0, list[StoredObject]()
    async for each in store.list():
        if not is_place_of_files(each.path):
            continue
        page.append(each)
        seen += 1
        if on_progress is not None and seen % TOLD_AFTER == 0:
            on_progress(seen)
        if len(page) == PAGE:
            yield await _still_unreferenced(catalog, page)
            page = []
    if page:
        yield await _still_unreferenced(catalog, page)
    if on_progress is not None and seen % TOLD_AFTER:
        on_progress(seen)


async def count_unreferenced(
    catalog: Catalog, store: FileStore, *, on_progress: Progress | None = None
) -> tuple[int, int]:
    """How many objects no File has, and their bytes."""
    count = size = 0
    async for candidates in unreferenced(catalog, store, on_progress=on_progress):
        if not candidates:
            continue
        async with store.exclusive():  # what was about to be committed is, or never will be
            found = await _still_unreferenced(catalog, candidates)
        count, size = count + len(found), size + sum(each.size for each in found)
    return count, size


async def alone(catalog: Catalog, store: FileStore, work: Callable[[], Awaitable[T]]) -> T:
    """Do *work*, which deletes, while nobody publishes and no other catalog has Files in the lake.

    Once begun it comes to its end: who is cancelled must not give the lake back while a thread
    still removes files that a Run might take for its own.
    """
    async with store.exclusive():
        await refuse_shared(catalog, store)
        return await undisturbed(work)


async def refuse_shared(catalog: Catalog, store: FileStore) -> None:
    """Raise a ConfigError where the lake has Files that only another catalog knows."""
    own = await catalog.catalog_id()
    others = [place for name, place in (await store.catalogs()).items() if name != own]
    if others:
        raise ConfigError(
            "another catalog keeps files in the same lake, and they would be taken for debris."
            " Give each catalog a file_url of its own. If the other one is gone for good, delete"
            f" the note about it: {', '.join(others)}"
        )


async def is_shared(catalog: Catalog, store: FileStore) -> bool:
    """Whether the lake has Files that only another catalog knows."""
    return not set(await store.catalogs()) <= {await catalog.catalog_id()}


async def _still_unreferenced(
    catalog: Catalog, objects: Sequence[StoredObject]
) -> Sequence[StoredObject]:
    known = await catalog.referenced([each.path for each in objects])
    return [each for each in objects if each.path not in known]
