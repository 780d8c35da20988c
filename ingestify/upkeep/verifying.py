"""Verifying: read every stored File, and compare it with what the Catalog says of it."""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial

import msgspec
from anyio import create_task_group, to_thread

from ingestify.errors import MissingBytesError, StoreError, StoreUnavailableError
from ingestify.model.catalog import DatasetQuery, KeptFile
from ingestify.model.dataset import File
from ingestify.pipeline.undisturbed import undisturbed
from ingestify.ports import Catalog, FileStore
from ingestify.upkeep.removing import Stuck, count_unreferenced, finish_deletions, is_shared

PAGE = 1000
READERS = 8
SMALL = 64 * 1024  # pieces up to this size are hashed in the event loop
MOST_NAMED = 1000

Progress = Callable[[int, int, int], None]  # Files done, Files in all, damaged ones


class Damage(enum.StrEnum):
    """What is wrong with the bytes of a File."""

    MISSING = "missing"
    SHORT = "short"  # or too long
    CHANGED = "changed"
    UNREADABLE = "unreadable"


class DamagedFile(msgspec.Struct, frozen=True, kw_only=True):
    """A File whose bytes are not those that were put there."""

    dataset_row_id: int
    dataset_id: str
    bucket: str
    provider: str
    dataset_type: str
    identifier_key: str
    name: str
    data_feed_key: str
    data_spec_version: str
    revision: int
    path: str
    is_current: bool  # False: a newer one has followed, so that no provider can be asked for it
    damage: Damage
    detail: str


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """What was found. Counts of unreferenced objects are None where nobody looked for them: the
    query was restricted, or other catalogs have Files in the lake, too."""

    files: int
    bytes: int  # that were read
    damaged: tuple[DamagedFile, ...]  # the first 1,000, current ones before superseded ones
    damaged_count: int
    damaged_current: int  # those of them that a provider can be asked for
    unreferenced: int | None = None  # objects that no File has
    unreferenced_bytes: int | None = None
    undeleted: Mapping[str, str] = {}  # paths of deleted Files whose bytes are there, and why

    @property
    def is_sound(self) -> bool:
        """Whether every File has its bytes."""
        return self.damaged_count == 0


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with one File."""

    damage: Damage
    detail: str


async def verify(
    catalog: Catalog,
    store: FileStore,
    query: DatasetQuery = DatasetQuery(),  # noqa: B008  # a frozen value
    *,
    on_progress: Progress | None = None,
    on_listed: Callable[[int], None] | None = None,
) -> Verification:
    """Read every File of every Revision of what *query* finds, and mark what is damaged.

    A current File that is damaged is asked for at the next Run. Marks of Files that turn out to
    be sound are taken away. Safe while Runs go on. *on_listed* hears how many objects were looked
    at in the search for those that no File has, which comes last.

    Raises:
        StoreUnavailableError: this user may not read a File, which is no damage; nothing was
            marked for it.
    """
    shared = await is_shared(catalog, store)
    stuck = Stuck() if shared else (await finish_deletions(catalog, store)).stuck
    total, _ = await catalog.count_files(query)
    work = _Verifying(catalog, store, total, on_progress)
    after = 0
    while page := await catalog.kept_files(query, after=after, limit=PAGE):
        await work.look_at(page)
        after = page[-1].row_id
    count: tuple[int | None, int | None] = (None, None)
    if not shared and _is_unrestricted(query):
        count = await count_unreferenced(catalog, store, on_progress=on_listed)
    return Verification(
        files=work.files,
        bytes=work.bytes,
        damaged=(*work.damaged, *work.superseded)[:MOST_NAMED],
        damaged_count=work.damaged_count,
        damaged_current=work.damaged_current,
        unreferenced=count[0],
        unreferenced_bytes=count[1],
        undeleted=stuck.reasons,
    )


@dataclass(slots=True)
class _Verifying:
    catalog: Catalog
    store: FileStore
    total: int
    on_progress: Progress | None
    files: int = 0
    bytes: int = 0
    damaged_count: int = 0
    damaged_current: int = 0
    damaged: list[DamagedFile] = field(default_factory=list)  # current ones
    superseded: list[DamagedFile] = field(default_factory=list)
    unreadable: StoreUnavailableError | None = None

    async def look_at(self, page: Sequence[KeptFile]) -> None:
        """Read the Files of *page*, several at a time, and keep what is wrong with them."""
        found: dict[int, Finding | None] = {}
        waiting = iter(page)
        async with create_task_group() as tg:
            for _ in range(READERS):
                tg.start_soon(self._read, waiting, found)
        if self.unreadable is not None:
            raise self.unreadable  # outside of the group, which would wrap it
        if any(finding or each.is_damaged for each, finding in _pairs(page, found)):
            await self._mark(page, found)

    async def _read(self, waiting: Iterator[KeptFile], found: dict[int, Finding | None]) -> None:
        for each in waiting:
            try:
                found[each.row_id] = finding = await examine(self.store, each.file)
            except StoreUnavailableError as exc:
                self.unreadable = exc
            if self.unreadable is not None:
                return
            self.files += 1
            self.bytes += each.file.stored_size if finding is None else 0
            if self.on_progress is not None:
                suspects = sum(finding is not None for finding in found.values())
                self.on_progress(self.files, self.total, self.damaged_count + suspects)

    async def _mark(self, page: Sequence[KeptFile], found: dict[int, Finding | None]) -> None:
        """Write down which Files are damaged, and which are not any more.

        Nobody can put bytes in their place meanwhile. What a delete or a Run has done to a File
        since it was read does not count as damage.
        """
        async with self.store.exclusive():
            await undisturbed(partial(self._mark_alone, page, found))

    async def _mark_alone(self, page: Sequence[KeptFile], found: dict[int, Finding | None]) -> None:
        damaged, sound = [], []
        # By row id: some may not be among what the query finds any more, and others may be now.
        rows = await self.catalog.files_by_row_id([each.row_id for each in page])
        now = {each.row_id: each for each in rows}
        for each, finding in _pairs(page, found):
            row = now.get(each.row_id)
            if row is None or not _is_same(row, each):
                continue
            if finding is not None and finding.damage in (Damage.MISSING, Damage.UNREADABLE):
                finding = await examine(self.store, row.file)
            if finding is not None:
                damaged.append(row.row_id)
                self._keep(row, finding)
            elif row.is_damaged:
                sound.append(row.row_id)
        await self.catalog.mark_files(damaged=damaged, sound=sound)

    def _keep(self, row: KeptFile, finding: Finding) -> None:
        self.damaged_count += 1
        self.damaged_current += row.is_current
        named = self.damaged if row.is_current else self.superseded
        if len(named) < MOST_NAMED:
            named.append(_damaged_file(row, finding))


async def examine(store: FileStore, file: File) -> Finding | None:
    """What is wrong with the bytes of *file*, if anything is. Reads them piece by piece.

    Raises:
        StoreUnavailableError: nobody can tell, since this user may not read them.
    """
    digest, size = hashlib.sha256(), 0
    try:
        async with aclosing(store.open(file.path)) as pieces:  # type: ignore[type-var]
            async for piece in pieces:
                size += len(piece)
                if size > file.stored_size:
                    break
                if len(piece) <= SMALL:
                    digest.update(piece)
                else:
                    await to_thread.run_sync(digest.update, piece)
    except MissingBytesError:
        return Finding(Damage.MISSING, "there is nothing at its path")
    except StoreError as exc:
        return Finding(Damage.UNREADABLE, str(exc))
    if size != file.stored_size:
        have = f"more than {file.stored_size}" if size > file.stored_size else str(size)
        return Finding(Damage.SHORT, f"{have} bytes, where {file.stored_size} were put")
    if digest.hexdigest() != file.stored_sha256:
        return Finding(Damage.CHANGED, f"the sha256 is not {file.stored_sha256} any more")
    return None


def _pairs(
    page: Sequence[KeptFile], found: dict[int, Finding | None]
) -> Iterator[tuple[KeptFile, Finding | None]]:
    for each in page:
        yield each, found[each.row_id]


def _is_same(row: KeptFile, before: KeptFile) -> bool:
    """Whether it is still the File, at the place, that was read."""
    is_file = row.dataset_row_id == before.dataset_row_id and row.file.key == before.file.key
    return is_file and row.file.path == before.file.path


def _damaged_file(row: KeptFile, finding: Finding) -> DamagedFile:
    return DamagedFile(
        dataset_row_id=row.dataset_row_id,
        dataset_id=row.dataset_id,
        bucket=row.bucket,
        provider=row.provider,
        dataset_type=row.dataset_type,
        identifier_key=row.identifier_key,
        name=row.name,
        data_feed_key=row.file.data_feed_key,
        data_spec_version=row.file.data_spec_version,
        revision=row.file.revision,
        path=row.file.path,
        is_current=row.is_current,
        damage=finding.damage,
        detail=finding.detail,
    )


def _is_unrestricted(query: DatasetQuery) -> bool:
    return msgspec.structs.replace(query, stage=None) == DatasetQuery(stage=None)
