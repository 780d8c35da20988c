"""Files on a local disk, or on anything that is mounted like one."""

from __future__ import annotations

import errno
import hashlib
import secrets
from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Self

import anyio
import msgspec
from anyio import CancelScope, CapacityLimiter, Semaphore, WouldBlock, to_thread

from ingestify.adapters.files.disk import Disk, SystemDisk
from ingestify.adapters.files.failures import (
    failing,
    failure_of,
    needing,
    reading,
    why_it_stays,
)
from ingestify.adapters.files.publishing import Publisher
from ingestify.adapters.files.staging import Staging, TempFile
from ingestify.errors import StoreError
from ingestify.model.catalog import StagedFile, StoredObject
from ingestify.model.layout import OWN_FOLDER, path_parts

SMALL = 64 * 1024  # bodies up to this size wait for their batch in memory
PIECE = 256 * 1024  # written at once; a hop to a thread costs as much as writing 50 kB
READ_PIECE = 1024 * 1024
_BUSY, _IDLE = 1, 2  # a temporary file that is written to now, or not
LOCK_POLL = 0.01  # seconds
NOT_OURS = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EINVAL}  # said of a folder to be synced
ERA = 16  # bytes in the lock's file, which who holds the lake alone makes anew


class LocalFileStore:
    """A FileStore in a folder. Its own things stand in ``.ingestify`` there.

    Several stores, of one process or many, may work in one folder at the same time.
    """

    def __init__(
        self, root: str, disk: Disk, *, threads: int, batch_files: int, temp_files: int
    ) -> None:
        """Not to be called: `at` makes what is needed, and gives it back."""
        self.root = root
        self._own = f"{root}/{OWN_FOLDER}"
        self._disk = disk
        self._catalogs = f"{self._own}/catalogs"
        self._staging = Staging(disk, f"{self._own}/staging")
        self._publisher = Publisher(
            disk, root, self._staging, threads=threads, open_files=batch_files
        )
        self._publishers = CapacityLimiter(4)
        self._writing = Semaphore(temp_files, fast_acquire=True)
        self._open: dict[TempFile, int] = {}  # as many as have acquired *_writing*
        self._folders_may_go = True
        self._era: bytes | None = None

    @classmethod
    @asynccontextmanager
    async def at(
        cls,
        root: Path,
        *,
        disk: Disk | None = None,
        threads: int = 4,
        batch_files: int = 128,
        temp_files: int = 64,
        make: bool = True,
    ) -> AsyncIterator[Self]:
        """The store in the folder *root*.

        Args:
            make: the folder where it is missing; else that is left to `register`.
            threads: how many files are synced at the same time; more only wait for each other.
            batch_files: how many files of a batch may be open while it is published.
            temp_files: how many of them may be open for writing; others wait.

        Raises:
            StoreUnavailableError: there can be no store.
        """
        store = cls(
            str(root.absolute()),
            disk or SystemDisk(),
            threads=threads,
            batch_files=batch_files,
            temp_files=temp_files,
        )
        try:
            if make:
                await to_thread.run_sync(store._make_root)
            yield store
        finally:
            with CancelScope(shield=True):
                await to_thread.run_sync(store._close)

    async def stage(self, chunks: AsyncIterable[bytes]) -> StagedFile:
        """See `FileStore.stage`. Small bodies stay in memory until they are published."""
        waiting: list[bytes] = []
        size = 0
        temp: TempFile | None = None
        try:
            async for chunk in chunks:
                if size >= PIECE:  # and this is not the last of it
                    temp = temp or TempFile(self._staging)
                    await self._write(temp, b"".join(waiting))
                    waiting, size = [], 0
                waiting.append(chunk)
                size += len(chunk)
            rest = b"".join(waiting)
            if temp is None and size <= SMALL:
                return StagedFile(handle=rest, size=size, sha256=hashlib.sha256(rest).hexdigest())
            temp = temp or TempFile(self._staging)
            await self._write(temp, rest, last=True)
            staged = StagedFile(handle=temp.path, size=temp.size, sha256=temp.sha256)
            self._leave(temp)
            temp = None
            return staged
        finally:
            if temp is not None:
                with CancelScope(shield=True):
                    await to_thread.run_sync(temp.abandon)
                self._leave(temp)

    async def _write(self, temp: TempFile, data: bytes, *, last: bool = False) -> None:
        """Append *data* to *temp*, once another one may be open.

        A body may wait for something that others hold while they wait for a temporary file, so
        nobody keeps one open against them: what is not being written to is closed for a while.
        """
        if self._open.pop(temp, None) is None:
            await self._may_open()
        self._open[temp] = _BUSY
        await to_thread.run_sync(partial(temp.write, data, last=last))
        if self._writing.statistics().tasks_waiting:
            await to_thread.run_sync(temp.rest)
            self._leave(temp)
        else:
            self._open[temp] = _IDLE

    async def _may_open(self) -> None:
        try:
            self._writing.acquire_nowait()
        except WouldBlock:
            idle = next((temp for temp, state in self._open.items() if state == _IDLE), None)
            if idle is None:
                await self._writing.acquire()
                return
            del self._open[idle]
            try:
                await to_thread.run_sync(idle.rest)
            except BaseException:
                self._writing.release()
                raise

    def _leave(self, temp: TempFile) -> None:
        """*temp* is not open any more."""
        if self._open.pop(temp, None) is not None:
            self._writing.release()

    async def discard(self, staged: StagedFile) -> None:
        """See `FileStore.discard`."""
        if isinstance(staged.handle, str):
            with CancelScope(shield=True):
                await to_thread.run_sync(self._staging.remove, staged.handle)

    async def publish(self, files: Sequence[tuple[StagedFile, str]]) -> Sequence[str | StoreError]:
        """See `FileStore.publish`. Once begun, a batch is finished also when cancelled."""
        with CancelScope(shield=True):
            published = await to_thread.run_sync(
                self._publisher.publish, files, limiter=self._publishers
            )
        return published  # noqa: RET504  # inside the scope, mypy thinks it might not be reached

    @asynccontextmanager
    async def publishing(self) -> AsyncIterator[None]:
        """See `FileStore.publishing`."""
        async with self._holding(exclusive=False):
            yield

    @asynccontextmanager
    async def exclusive(self) -> AsyncIterator[None]:
        """See `FileStore.exclusive`: nobody publishes, in this process or another."""
        async with self._holding(exclusive=True):
            yield

    async def open_staged(self, staged: StagedFile) -> AsyncIterator[bytes]:
        """See `FileStore.open_staged`."""
        if isinstance(staged.handle, bytes):
            yield staged.handle
        else:
            async for piece in self._pieces(staged.handle):
                yield piece

    async def open(self, path: str) -> AsyncIterator[bytes]:
        """See `FileStore.open`."""
        path_parts(path)
        async for piece in self._pieces(f"{self.root}/{path}"):
            yield piece

    async def read(self, path: str) -> bytes:
        """See `FileStore.read`."""
        path_parts(path)
        return await to_thread.run_sync(self._read, f"{self.root}/{path}", None, 0)

    async def delete(self, paths: Sequence[str]) -> Mapping[str, str]:
        """See `FileStore.delete`."""
        for path in paths:
            path_parts(path)
        return await to_thread.run_sync(self._delete, paths)

    async def staged_debris(self) -> Sequence[StoredObject]:
        """See `FileStore.staged_debris`."""
        with failing("look for debris in", self._own):
            found = await to_thread.run_sync(self._staging.debris)
        folder = f"{OWN_FOLDER}/staging"
        return [msgspec.structs.replace(each, path=f"{folder}/{each.path}") for each in found]

    async def remove_debris(self) -> tuple[int, int]:
        """See `FileStore.remove_debris`."""
        with failing("remove debris in", self._own):
            return await to_thread.run_sync(self._staging.remove_debris)

    async def register(self, catalog_id: str) -> None:
        """See `FileStore.register`."""
        await to_thread.run_sync(self._register, catalog_id)

    async def catalogs(self) -> Mapping[str, str]:
        """See `FileStore.catalogs`."""
        return await to_thread.run_sync(self._registered)

    async def free_bytes(self) -> int | None:
        """See `FileStore.free_bytes`."""
        with failing("look for room in", self.root, own=True):
            return await to_thread.run_sync(self._disk.free_bytes, self.root)

    async def list(self, prefix: str = "") -> AsyncIterator[StoredObject]:
        """See `FileStore.list`. Only one folder of each level is in memory."""
        folder = prefix.rstrip("/")
        if folder:
            path_parts(folder)
        waiting: list[StoredObject | str] = [folder]
        while waiting:
            item = waiting.pop()
            if isinstance(item, str):
                waiting.extend(reversed(await to_thread.run_sync(self._entries, item)))
            else:
                yield item

    def _make_root(self, *, is_durable: bool = False) -> None:
        with failing("keep a lake in", self.root, own=True):
            self._make_folder(self.root)
            self._make_folder(self._own)
            self._make_folder(f"{self._own}/staging")
            if not is_durable:
                self._sync_way(f"{self._own}/staging")

    def _close(self) -> None:
        self._publisher.close()
        self._staging.close()

    def _register(self, catalog_id: str) -> None:
        is_known = catalog_id in self._registered()
        self._make_root(is_durable=is_known)  # its mark was made after all folders were synced
        if not is_known:
            with failing("write", self._catalogs, own=True):
                self._make_folder(self._catalogs)
                self._disk.close(self._disk.open_lock(f"{self._catalogs}/{catalog_id}"))
        with failing("write", self._catalogs, own=True):
            self._disk.fsync_folder(self._catalogs)

    def _registered(self) -> Mapping[str, str]:
        with failing("read", self._catalogs):
            try:
                entries = self._disk.entries(self._catalogs)
            except FileNotFoundError:
                return {}
        names = sorted(each.name for each in entries if not each.is_folder)
        return {name: f"{self._catalogs}/{name}" for name in names}

    def _sync_way(self, path: str) -> None:
        """Make sure of the folders that lead to *path* and were there already.

        Somebody may have made one a moment before a crash, and not have synced it. What may not
        be opened is not ours, and was there long before.
        """
        while path:
            path = path.rpartition("/")[0]
            try:
                self._disk.fsync_folder(path or "/")
            except OSError as exc:
                if exc.errno not in NOT_OURS:
                    raise

    def _make_folder(self, path: str) -> None:
        parent = path.rpartition("/")[0] or "/"
        try:
            self._disk.mkdir(path)
        except FileExistsError:
            return
        except FileNotFoundError:
            self._make_folder(parent)
            self._disk.mkdir(path)
        self._disk.fsync_folder(parent)

    async def _pieces(self, path: str) -> AsyncIterator[bytes]:
        offset = 0
        # Opened anew for each piece: a reader that is left half-way keeps nothing open.
        while piece := await to_thread.run_sync(self._read, path, READ_PIECE, offset):
            yield piece
            offset += len(piece)

    def _read(self, path: str, count: int | None, offset: int) -> bytes:
        with reading(path):
            fd = self._disk.open(path)
            try:
                return self._disk.read(fd, self._disk.size(fd) if count is None else count, offset)
            finally:
                self._disk.close(fd)

    def _delete(self, paths: Sequence[str]) -> Mapping[str, str]:
        failed = {}
        for path in paths:
            try:
                self._disk.unlink(f"{self.root}/{path}")
                if self._folders_may_go:
                    self._remove_emptied(path)
            except (FileNotFoundError, NotADirectoryError):
                pass
            except OSError as exc:
                failed[path] = why_it_stays(exc)
        return failed

    def _remove_emptied(self, path: str) -> None:
        """Remove the folders that *path* was the last one in."""
        with suppress(OSError):
            while folder := path.rpartition("/")[0]:
                self._disk.rmdir(f"{self.root}/{folder}")
                path = folder

    def _entries(self, folder: str) -> Sequence[StoredObject | str]:
        """What is in *folder*, in the order of paths, which is not that of names."""
        try:
            entries = self._disk.entries(f"{self.root}/{folder}")
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as exc:
            raise failure_of(exc, "list", folder or self.root) from exc
        found: list[StoredObject | str] = []
        for each in sorted(entries, key=lambda entry: entry.name + "/" * entry.is_folder):
            path = f"{folder}/{each.name}" if folder else each.name
            if path == OWN_FOLDER:
                continue
            found.append(
                path
                if each.is_folder
                else StoredObject(path=path, size=each.size, modified_at=each.modified_at)
            )
        return found

    @asynccontextmanager
    async def _holding(self, *, exclusive: bool) -> AsyncIterator[None]:
        # Who wants the lake alone would never get it from a stream of publishers that overlap, so
        # everybody waits at a door first, and who wants it alone keeps the door shut meanwhile.
        async with AsyncExitStack() as stack:
            async with self._locked("lake.door", exclusive=exclusive):
                lock = self._locked("lake.lock", exclusive=exclusive)
                fd = await stack.enter_async_context(lock)
            if exclusive:
                self._begin_era(fd)
            else:
                self._look_at_era(fd)
            yield

    def _begin_era(self, fd: int) -> None:
        """Tell all who publish that folders which they know may be gone from now on.

        Where that cannot be written, as on a full disk, folders stay.
        """
        try:
            self._disk.overwrite(fd, secrets.token_bytes(ERA))
            self._folders_may_go = True
        except OSError:
            self._folders_may_go = False

    def _look_at_era(self, fd: int) -> None:
        """Forget which folders outlast a loss of power, if the lake was held alone meanwhile.

        Who held it may have removed them, and somebody else may have made them anew.
        """
        era: bytes | None = None
        with suppress(OSError):
            era = self._disk.read(fd, ERA, 0)
        if era is None or era != self._era:
            self._publisher.forget_folders()
        self._era = era

    @asynccontextmanager
    async def _locked(self, name: str, *, exclusive: bool) -> AsyncIterator[int]:
        """Hold an operating-system lock, which dies with its process. Yields its descriptor."""
        path = f"{self._own}/{name}"
        # In the loop: neither call waits, and a descriptor cannot get lost with a cancelled hop.
        with needing("lock", path):
            fd = self._disk.open_lock(path)
        try:
            with needing("lock", path):
                while not self._disk.try_lock(fd, exclusive=exclusive):  # noqa: ASYNC110  # of others
                    await anyio.sleep(LOCK_POLL)
            yield fd
        finally:
            with suppress(OSError):  # it is given back even then, and no bytes are at stake
                self._disk.close(fd)
