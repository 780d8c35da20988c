"""Fetch: get every File of a Task, all of them or none, staged and ready to be committed."""

from __future__ import annotations

import inspect
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from anyio import CancelScope, create_task_group, move_on_after

from ingestify.errors import RunError, SourceError, StopProcessing
from ingestify.model.catalog import DatasetCommit
from ingestify.model.dataset import File, FileKey
from ingestify.model.identity import ordered_key
from ingestify.model.resource import FetchedFile, FileResource, Later
from ingestify.pipeline.body import decoded
from ingestify.pipeline.discover import describe
from ingestify.pipeline.fetch_file import FileFetch, Got
from ingestify.pipeline.plan import check_details, check_file, metadata_of
from ingestify.pipeline.pool import Slot
from ingestify.pipeline.task import Finished, NewBytes, Task
from ingestify.policy import Ask
from ingestify.ports import Catalog, Clock, Source
from ingestify.strays import StrayIsError

log = logging.getLogger("ingestify.fetch")

STRAY_IN_FILE = StrayIsError("fetching the file")
STRAY_IN_SOURCE = StrayIsError("fetch_dataset_files")
STRAY_IN_HOOK = StrayIsError("post_load_files")


@dataclass(slots=True)
class Haul:
    """What has arrived for one Task, and the first thing that went wrong."""

    got: dict[FileKey, Got] = field(default_factory=dict)
    error: Exception | None = None
    failed: FileKey | None = None  # the File that went wrong; None: something else did

    def fail(self, error: Exception, key: FileKey | None = None) -> None:
        """Remember what went wrong first."""
        if self.error is None:
            self.error, self.failed = error, key

    @property
    def new(self) -> dict[FileKey, NewBytes]:
        """The bytes that are staged."""
        return {key: each.new for key, each in self.got.items() if each.new is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetFetch:
    """Fetches the Datasets of one Source. *slot* is the place of the Task that it is about."""

    source: Source
    files: FileFetch
    catalog: Catalog
    clock: Clock
    stage: str

    async def fetch(self, task: Task, slot: Slot) -> Finished:
        """What came of *task*. That it failed is an outcome; nothing of it stays staged then.

        Raises:
            StopProcessing, RunError: the Source, or the Run, cannot go on.
        """
        haul = Haul()
        try:
            await self._fetch_files(task, slot, haul)
            if haul.error is None:
                await self._after_load(task, haul)
            if isinstance(haul.error, StopProcessing | RunError):
                raise haul.error
            if haul.error is None:
                return Finished(task=task, commit=self._success(task, haul), new=haul.new)
        except BaseException:
            with CancelScope(shield=True):
                await self._discard(haul)
            raise
        await self._discard(haul)
        code, message = describe(haul.error)
        if log.isEnabledFor(logging.DEBUG):
            why = task.selector_run.redactor.traceback(haul.error)
            log.debug("%s failed: %s", task.claim.key, why)
        failure = task.failed(code, message, stage=self.stage, at=self.clock.now(), key=haul.failed)
        return Finished(task=task, commit=failure, new={})

    async def _fetch_files(self, task: Task, slot: Slot, haul: Haul) -> None:
        if task.stored is not None and not task.asks:
            return  # its row alone has to change
        task.resource.files = [ask.file for ask in task.asks]
        if leaves_fetching_to_us(self.source):
            await self._fetch_all(task.asks, task, slot, haul)
        else:
            await self._fetch_declared(task, slot, haul)

    async def _fetch_all(self, asks: Sequence[Ask], task: Task, slot: Slot, haul: Haul) -> None:
        if len(asks) == 1:
            await self._fetch_one(asks[0], task, slot, haul, _nothing)
            return
        async with create_task_group() as tg:
            cancel = tg.cancel_scope.cancel
            for ask in asks[1:]:
                tg.start_soon(self._fetch_one, ask, task, slot, haul, cancel)
            for ask in asks[:1]:
                await self._fetch_one(ask, task, slot, haul, cancel)

    async def _fetch_declared(self, task: Task, slot: Slot, haul: Haul) -> None:
        """Fetch what the Source names, which may think of Files only now, or only later."""
        async with create_task_group() as tg:
            cancel = tg.cancel_scope.cancel
            try:
                with STRAY_IN_SOURCE:
                    async with aclosing(self._declared(task, slot)) as asks:
                        async for ask in asks:
                            tg.start_soon(self._fetch_one, ask, task, slot, haul, cancel)
            except Exception as exc:
                haul.fail(exc)
                cancel()

    async def _declared(self, task: Task, slot: Slot) -> AsyncGenerator[Ask]:
        asked = {ask.file.key: ask for ask in task.asks}
        begun: set[FileKey] = set()
        http = self.files.http_for(slot)
        files = self.source.fetch_dataset_files(task.resource, task.stored, http=http)
        async with aclosing(files) as declared:  # type: ignore[type-var]
            async for item in declared:
                if isinstance(item, Later):
                    async with slot.released():
                        await self.clock.sleep(item.after.total_seconds())
                    continue
                ask = asked.get(item.key) or _undeclared(item, task)
                if item.key in begun:
                    raise SourceError(f"{' '.join(item.key)} is to be fetched twice")
                begun.add(item.key)
                yield Ask(item, ask.reason, ask.conditional)

    async def _fetch_one(
        self, ask: Ask, task: Task, slot: Slot, haul: Haul, cancel: Callable[[], object]
    ) -> None:
        key = ask.file.key
        known = task.stored.files.get(key) if task.stored else None
        try:
            with STRAY_IN_FILE:
                haul.got[key] = await self.files.fetch(ask, known, slot)
        except Exception as exc:
            haul.fail(exc, key)
            cancel()  # all or nothing: the other Files are not needed any more

    async def _after_load(self, task: Task, haul: Haul) -> None:
        """Let the hook say what the Dataset is, wherever that will be written down.

        It then sees every File, also those that have not changed: what it makes of them would be
        lost otherwise.
        """
        hook, stored = task.resource.post_load_files, task.stored
        is_told_anew = stored is not None and stored.details_hash != task.details_hash
        if hook is None or not (haul.new or is_told_anew):
            return  # what it has set before stays
        try:
            files = await self._kept_files(task)
            files |= {key: self._fetched_file(key, new) for key, new in haul.new.items()}
            result = hook(task.resource, files)
            if inspect.isawaitable(result):
                with STRAY_IN_HOOK:
                    await self._in_time(result)
            check_details(task.resource, task.selector_run.redactor)
            task.metadata = metadata_of(task.resource, task.selector_run.redactor)
        except Exception as exc:
            haul.fail(exc)

    async def _in_time(self, hook: Awaitable[None]) -> None:
        seconds = self.source.http_settings.total_timeout.total_seconds()
        with move_on_after(seconds):
            await hook
            return
        raise SourceError(f"post_load_files was not done after {seconds:g} s (total_timeout)")

    async def _kept_files(self, task: Task) -> dict[FileKey, FetchedFile]:
        """What the lake has of the Dataset, to be read where it lies."""
        if task.stored is None:
            return {}
        dataset = await self.catalog.get(task.stored.dataset_id)
        return {file.key: self._kept_file(file) for file in (dataset.files if dataset else ())}

    def _kept_file(self, file: File) -> FetchedFile:
        async def read_bytes() -> bytes:
            chunks = decoded(self.files.store.open(file.path), file.codec)
            return b"".join([chunk async for chunk in chunks])

        return FetchedFile(
            key=file.key, size=file.size, sha256=file.sha256, read_bytes=read_bytes, is_new=False
        )

    def _fetched_file(self, key: FileKey, new: NewBytes) -> FetchedFile:
        async def read_bytes() -> bytes:
            chunks = decoded(self.files.store.open_staged(new.staged), new.body.codec)
            return b"".join([chunk async for chunk in chunks])

        return FetchedFile(
            key=key, size=new.body.size, sha256=new.body.sha256, read_bytes=read_bytes
        )

    async def _discard(self, haul: Haul) -> None:
        for new in haul.new.values():
            await self.files.store.discard(new.staged)

    def _success(self, task: Task, haul: Haul) -> DatasetCommit:
        run, resource = task.selector_run, task.resource
        files = [got.checked for got in haul.got.values()]
        return DatasetCommit(
            bucket=run.bucket,
            stage=self.stage,
            provider=resource.provider,
            dataset_type=resource.dataset_type,
            identifier_key=task.claim.key,
            identifier=ordered_key(resource.dataset_resource_id),
            name=resource.name,
            state=resource.state,
            metadata=task.metadata,
            details_hash=task.details_hash,
            base=task.stored.revision if task.stored else None,
            row_id=task.stored.row_id if task.stored else None,
            files=files,
            reason=task.reason,
            run_id=run.run_id,
            at=self.clock.now(),
            agreement=task.agreed(files),
        )


def leaves_fetching_to_us(source: Source) -> bool:
    """Whether *source* wants every File that it declares, and nothing else."""
    written = source.fetch_dataset_files
    return getattr(written, "__func__", written) is Source.fetch_dataset_files


def _nothing() -> None:
    """There is nobody else to cancel."""


def _undeclared(file: FileResource, task: Task) -> Ask:
    """How to ask for a File that the Source thought of only when it was about to fetch."""
    file = check_file(file, task.selector_run.redactor)
    known = task.stored.files.get(file.key) if task.stored else None
    is_sound = known is not None and known.is_stored and not known.check.suspect
    return Ask(file, task.reason, is_sound)
