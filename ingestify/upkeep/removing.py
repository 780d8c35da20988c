"""Removing: Datasets that somebody wants to be gone, and bytes that nothing refers to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

import msgspec

from ingestify.errors import ConfigError
from ingestify.model.catalog import DatasetQuery, Deleted, StoredObject
from ingestify.ports import Catalog, FileStore

PAGE = 50_000  # paths that the Catalog looks up at once
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
        StoreError: something could not be removed.
    """
    collected = Collected()
    doomed: frozenset[str] = frozenset()
    if dry_run:
        doomed = frozenset(await catalog.doomed(limit=1_000_000))
        collected.doomed = len(doomed)
        collected.name(sorted(doomed)[:MOST_NAMED])
    else:
        collected.doomed = await finish_deletions(catalog, store)
    async with alone(catalog, store):
        debris = await store.staged_debris()
        collected.name([each.path for each in debris])
        collected.staged = len(debris)
        collected.staged_bytes = sum(each.size for each in debris)
        if not dry_run:
            await store.remove_debris()
    async for candidates in unreferenced(catalog, store, on_progress=on_progress):
        for start in range(0, len(candidates), AT_ONCE):
            chosen = candidates[start : start + AT_ONCE]
            async with alone(catalog, store):
                found = await _still_unreferenced(catalog, chosen)
                if not dry_run:
                    await store.delete([each.path for each in found])
            found = [each for each in found if each.path not in doomed]
            collected.unreferenced += len(found)
            collected.unreferenced_bytes += sum(each.size for each in found)
            collected.name([each.path for each in found])
    return collected


async def delete(
    catalog: Catalog, store: FileStore, query: DatasetQuery, *, at: datetime
) -> Deleted:
    """Remove the Datasets that *query* finds, first their rows and then their bytes.

    Whatever keeps it from ending, the next `delete`, `collect` or `verify` does the rest.

    Raises:
        ConfigError: another catalog keeps its Files in the same lake.
    """
    await refuse_shared(catalog, store)
    deleted = await catalog.delete(query, at=at)
    await finish_deletions(catalog, store)
    return deleted


async def finish_deletions(catalog: Catalog, store: FileStore) -> int:
    """Remove the bytes of deleted Files, but for those that are a File's again. Returns how many
    files were looked at."""
    finished = 0
    while paths := await catalog.doomed(limit=AT_ONCE):
        async with alone(catalog, store):
            again = await catalog.referenced(paths)
            await store.delete([path for path in paths if path not in again])
            await catalog.forget_doomed(paths)
        finished += len(paths)
    return finished


async def unreferenced(
    catalog: Catalog, store: FileStore, *, on_progress: Progress | None = None
) -> AsyncIterator[Sequence[StoredObject]]:
    """Objects that no File seems to have, in pages. Some may be about to be committed."""
    seen, page = 0, list[StoredObject]()
    async for each in store.list():
        page.append(each)
        if len(page) == PAGE:
            yield await _still_unreferenced(catalog, page)
            seen, page = seen + len(page), []
            if on_progress is not None:
                on_progress(seen)
    if page:
        yield await _still_unreferenced(catalog, page)
        if on_progress is not None:
            on_progress(seen + len(page))


async def count_unreferenced(catalog: Catalog, store: FileStore) -> tuple[int, int]:
    """How many objects no File has, and their bytes."""
    count = size = 0
    async for candidates in unreferenced(catalog, store):
        if not candidates:
            continue
        async with store.exclusive():  # what was about to be committed is, or never will be
            found = await _still_unreferenced(catalog, candidates)
        count, size = count + len(found), size + sum(each.size for each in found)
    return count, size


@asynccontextmanager
async def alone(catalog: Catalog, store: FileStore) -> AsyncIterator[None]:
    """The lake for whoever deletes: nobody publishes, and no other catalog has Files in it."""
    async with store.exclusive():
        await refuse_shared(catalog, store)
        yield


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
