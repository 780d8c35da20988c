"""Commit: publish the bytes of finished Tasks and make them true, a batch in one transaction."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
from anyio import CancelScope, ClosedResourceError

from ingestify.errors import StoreError
from ingestify.model.catalog import (
    Commit,
    Committed,
    Conflict,
    DatasetCommit,
    Lease,
    NewFile,
    Rejected,
)
from ingestify.model.dataset import CheckOutcome, FileKey, Stored, StoredFile
from ingestify.model.layout import Transformation, file_path, without_suffix
from ingestify.pipeline.pages import Pages
from ingestify.pipeline.task import Finished, NewBytes
from ingestify.ports import Catalog, Clock, FileStore

log = logging.getLogger("ingestify.commit")

BATCH = 64
LINGER_SECONDS = 0.05  # how long a finished Task waits for company
MOST_ROUNDS = 5  # of renumbering, while somebody else commits to the same Dataset

Transformations = Mapping[tuple[str, str], Mapping[str, Transformation]]
Outcome = Callable[[Finished, Committed | None], None]  # None: given up, nothing is committed


@dataclass(slots=True)
class Work:
    """One finished Task on its way: what is published of it, and what came of it."""

    finished: Finished
    commit: Commit
    result: Committed | Rejected | None = None
    stored_bytes: int = 0


@dataclass(kw_only=True)
class Committer:
    """The only one who publishes and commits for a Run. It runs in a task of its own.

    What it takes over is committed in the order of arrival, in batches that close when they are
    full or their first Task has waited for LINGER_SECONDS; then *outcome* is called.
    """

    catalog: Catalog
    store: FileStore
    clock: Clock
    leases: Sequence[Lease]
    transformations: Transformations
    outcome: Outcome
    before_batch: Callable[[], Awaitable[object]] | None = None  # such as a look at the disk
    finished: Pages[Finished] = field(default_factory=lambda: Pages(4 * BATCH))
    stored_bytes: int = 0

    async def take_over(self, finished: Finished) -> None:
        """Answer for *finished* from now on, once there is room for it.

        It is given up where nothing can be committed any more. When cancelled, its staged bytes
        are discarded, and its outcome is left to the caller.
        """
        try:
            await self.finished.put([finished])
        except ClosedResourceError:
            with CancelScope(shield=True):
                await self._give_up([finished])
        except BaseException:
            with CancelScope(shield=True):
                await self._discard(finished)
            raise

    async def run(self) -> None:
        """Commit until `finished` is closed and empty.

        Raises:
            CatalogError, StoreUnavailableError: nothing can be committed any more; staged
                bytes are discarded.
        """
        try:
            while batch := await self.finished.take(BATCH, linger=LINGER_SECONDS):
                with CancelScope(shield=True):
                    await self.commit(batch)
        finally:
            self.finished.close()
            with CancelScope(shield=True):
                while rest := await self.finished.take(BATCH):
                    await self._give_up(rest)

    async def commit(self, batch: Sequence[Finished]) -> None:
        """Make every Task of *batch* true, each for itself.

        Whatever is raised, each of them has its outcome afterwards: what is not committed by then
        is given up.
        """
        works = [Work(finished, finished.commit) for finished in batch]
        try:
            await self._commit(works)
        finally:
            for work in works:
                if isinstance(work.result, Committed):
                    self.stored_bytes += work.stored_bytes
                    self.outcome(work.finished, work.result)
                else:
                    await self._give_up([work.finished])

    async def _commit(self, works: Sequence[Work]) -> None:
        if self.before_batch is not None:
            await self.before_batch()
        async with self.store.publishing():
            waiting = list(works)
            for _ in range(MOST_ROUNDS):
                await self._publish([work for work in waiting if work.finished.new])
                waiting = await self._write([work for work in waiting if work.result is None])
                if not waiting:
                    break
            for work in waiting:
                work.result = Rejected(message="others kept committing to the same Dataset")
                await self._discard(work.finished)
        await self._write_failures([w for w in works if isinstance(w.result, Rejected)])

    async def _publish(self, works: Sequence[Work]) -> None:
        """Give the new bytes of *works* their places, all in one batch of the FileStore."""
        placed = [
            (work, key, new, path)
            for work in works
            if isinstance(work.commit, DatasetCommit)
            for key, new, path in self._placed(work.commit, work.finished.new)
        ]
        paths = await self.store.publish([(new.staged, path) for _, _, new, path in placed])
        published: dict[int, dict[FileKey, NewFile]] = {}
        for (work, key, new, _), path in zip(placed, paths, strict=True):
            if isinstance(path, StoreError):
                work.result = Rejected(message=str(path))
            else:
                published.setdefault(id(work), {})[key] = _new_file(new, path)
        for work in works:
            if isinstance(work.commit, DatasetCommit) and work.result is None:
                work.commit = _with_new(work.commit, published[id(work)])
                work.stored_bytes = sum(new.staged.size for new in work.finished.new.values())

    def _placed(
        self, commit: DatasetCommit, fresh: Mapping[FileKey, NewBytes]
    ) -> Iterator[tuple[FileKey, NewBytes, str]]:
        """Which path each of the *fresh* bytes asks for."""
        identifier = json.loads(commit.identifier)  # which keeps integers of any size exact
        kind = commit.provider, commit.dataset_type
        for key, new in fresh.items():
            path = file_path(
                bucket=commit.bucket,
                stage=commit.stage,
                provider=commit.provider,
                dataset_type=commit.dataset_type,
                identifier=identifier,
                data_feed_key=key[0],
                data_spec_version=key[1],
                revision=0 if commit.base is None else commit.base + 1,
                stored_sha256=new.staged.sha256,
                format=new.format,
                codec=new.body.codec,
                transformations=self.transformations.get(kind, {}),
            )
            yield key, new, path if new.restores is None else without_suffix(new.restores, path)

    async def _write(self, works: Sequence[Work]) -> list[Work]:
        """Commit *works*. Returns those that have to be published anew under another number."""
        if not works:
            return []
        results = await self.catalog.commit([work.commit for work in works], leases=self.leases)
        again = []
        for work, result in zip(works, results, strict=True):
            if not isinstance(result, Conflict):
                work.result = result
                continue
            try:
                await self._rebase(work, result.stored)
            except StoreError as exc:
                await self._discard(work.finished)
                work.result = Rejected(message=str(exc))
            else:
                again.append(work)
        return again

    async def _rebase(self, work: Work, stored: Stored | None) -> None:
        """Put *work* on top of what somebody else has committed meanwhile."""
        if not isinstance(work.commit, DatasetCommit):
            return
        files, kept = [], {}
        for checked in work.commit.files:
            known = stored.files.get(checked.key) if stored else None
            if checked.new is None:
                if known is None and checked.outcome is CheckOutcome.UNCHANGED:
                    raise StoreError("it was deleted meanwhile: the next Run fetches it as new")
                files.append(checked)
                continue
            outcome, restores = _outcome_beside(checked.new, known)
            if outcome is not CheckOutcome.UNCHANGED:
                new = work.finished.new[checked.key]
                new.staged = await self.store.stage(self.store.open(checked.new.path))
                new.restores = restores
                kept[checked.key] = new
            files.append(msgspec.structs.replace(checked, outcome=outcome, new=None))
        work.finished.new = kept
        work.stored_bytes = 0
        work.commit = msgspec.structs.replace(
            work.commit,
            base=stored.revision if stored else None,
            row_id=stored.row_id if stored else None,
            files=files,
        )

    async def _write_failures(self, works: Sequence[Work]) -> None:
        """Write down as failed what could not be published, or what the database refused."""
        for work in works:
            task, message = work.finished.task, getattr(work.result, "message", "")
            work.finished.commit = task.failed(
                "store", message, stage=work.commit.stage, at=self.clock.now()
            )
            work.commit = work.finished.commit
            work.result = None
        await self._write(works)

    async def _give_up(self, batch: Sequence[Finished]) -> None:
        for finished in batch:
            await self._discard(finished)
            self.outcome(finished, None)

    async def _discard(self, finished: Finished) -> None:
        for new in finished.new.values():
            await self.store.discard(new.staged)


def _new_file(new: NewBytes, path: str) -> NewFile:
    return NewFile(
        path=path,
        format=new.format,
        codec=new.body.codec,
        size=new.body.size,
        sha256=new.body.sha256,
        stored_size=new.staged.size,
        stored_sha256=new.staged.sha256,
        content_type=new.content_type,
        validation=new.body.validation,
    )


def _outcome_beside(new: NewFile, known: StoredFile | None) -> tuple[CheckOutcome, str | None]:
    """What *new* is where *known* is stored now, and the damaged bytes it is to stand in for."""
    if known is None or known.sha256 != new.sha256:
        return CheckOutcome.STORED, None
    if known.damaged_path is None:
        return CheckOutcome.UNCHANGED, None
    return CheckOutcome.RESTORED, known.damaged_path


def _with_new(commit: DatasetCommit, published: Mapping[FileKey, NewFile]) -> DatasetCommit:
    files = [
        msgspec.structs.replace(checked, new=published[checked.key])
        if checked.key in published
        else checked
        for checked in commit.files
    ]
    return msgspec.structs.replace(commit, files=files)
