"""Staged files made durable and visible, a batch at a time.

The order is the promise: the bytes of every file are on the disk before it gets its name, and
every name, with the folders it stands in, is on the disk before `publish` returns. A name that is
taken is never taken over. All files of a batch are written before the first one is synced, so
that the file system can bring them to the disk together: that takes a quarter less than one by one.
"""

from __future__ import annotations

import errno
import hashlib
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from ingestify.adapters.files.disk import Disk
from ingestify.adapters.files.failures import failing, failure_of
from ingestify.adapters.files.staging import Staging
from ingestify.errors import StoreError, StoreUnavailableError
from ingestify.model.catalog import StagedFile
from ingestify.model.layout import path_parts, with_suffix

T = TypeVar("T")

NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS}
MOST_SUFFIXES = 1000
PIECE = 1024 * 1024


@dataclass(slots=True)
class Job:
    """One file of a batch, and how far it is."""

    staged: StagedFile
    wanted: str
    temp: str
    fd: int | None = None  # while it is written and synced
    path: str = ""  # where it is now
    unsynced: frozenset[str] = frozenset()  # folders whose names must get to the disk
    error: StoreError | StoreUnavailableError | None = None

    def fail(self, exc: OSError, what: str, root: str) -> None:
        """Give up on the file, which was to lie in *root*."""
        self.error = failure_of(exc, what, self.wanted, root=root)
        self.error.__cause__ = exc


class Publisher:
    """Publishes batches. Blocks; made for worker threads, several at a time if need be.

    At most *open_files* of them are open at once.
    """

    def __init__(
        self, disk: Disk, root: str, staging: Staging, *, threads: int, open_files: int
    ) -> None:
        self._disk = disk
        self._root = root
        self._staging = staging
        self._threads = threads
        self._open_files = open_files
        self._syncing = threading.Lock()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="ingestify-fsync")
        # Folders of which we know that they outlast a loss of power. One that is merely there may
        # have been made a moment ago by somebody who has not synced it yet.
        self._durable: set[str] = set()

    def forget_folders(self) -> None:
        """Sync every folder again: none is known any more to outlast a loss of power."""
        self._durable.clear()

    def close(self) -> None:
        """Let the threads end."""
        self._pool.shutdown()

    def publish(self, files: Sequence[tuple[StagedFile, str]]) -> Sequence[str | StoreError]:
        """See `FileStore.publish`. Always leaves the staging area without the files given."""
        jobs = [Job(staged, path, _temp_of(staged)) for staged, path in files]
        try:
            for start in range(0, len(jobs), self._open_files):
                self._make_durable(jobs[start : start + self._open_files])
            self._stop_if_unavailable(jobs)
            ways: dict[str, frozenset[str]] = {}
            for job in jobs:
                self._guarded(job, "publish", lambda job: self._make_visible(job, ways))
            self._stop_if_unavailable(jobs)
            self._sync_folders(jobs)
        finally:
            for job in jobs:
                self._staging.remove(job.temp)
        return [job.error if isinstance(job.error, StoreError) else job.path for job in jobs]

    def _make_durable(self, jobs: Sequence[Job]) -> None:
        with self._syncing:
            try:
                for job in jobs:
                    self._guarded(job, "write", self._write)
                self._in_threads(jobs, lambda job: self._guarded(job, "write", self._sync))
            finally:
                for job in jobs:
                    self._close(job)

    def _write(self, job: Job) -> None:
        """Open the file of *job*; what is still in memory is written to one first."""
        path_parts(job.wanted)
        data, size = job.staged.handle, job.staged.size
        if isinstance(data, bytes):
            job.temp = self._staging.new_path()
            with failing("write", job.temp, own=True):
                job.fd = self._disk.create(job.temp)
            self._disk.write(job.fd, data)
        else:
            with failing("write", job.temp):
                job.fd = self._disk.open(job.temp)
        on_disk = self._disk.size(job.fd)
        if on_disk != size:
            raise StoreError(
                f"cannot publish {job.wanted}: {size} bytes were staged, {on_disk} are on the disk"
            )

    def _sync(self, job: Job) -> None:
        if job.fd is not None:
            self._disk.fsync(job.fd)  # an error is final: what is asked again may say yes and lie

    def _close(self, job: Job) -> None:
        fd, job.fd = job.fd, None
        if fd is None:
            return
        try:
            self._disk.close(fd)
        except OSError as exc:
            if job.error is None:
                job.fail(exc, "write", self._root)

    def _make_visible(self, job: Job, ways: dict[str, frozenset[str]]) -> None:
        folder = job.wanted.rpartition("/")[0]
        way = self._way_to(folder, ways)
        try:
            self._give_name(job)
        except FileNotFoundError:  # somebody removed a folder that we knew
            self._durable.clear()
            ways.clear()
            way = self._way_to(folder, ways)
            self._give_name(job)
        job.unsynced = way

    def _way_to(self, folder: str, ways: dict[str, frozenset[str]]) -> frozenset[str]:
        """Make *folder*. Returns which folders have to be synced for a new name in it to last."""
        if folder in ways:
            return ways[folder]
        way = frozenset([folder])
        if folder and folder not in self._durable:
            parent, _, _ = folder.rpartition("/")
            way |= self._way_to(parent, ways)
            with suppress(FileExistsError):
                self._disk.mkdir(self._full(folder))
        ways[folder] = way
        return way

    def _give_name(self, job: Job) -> None:
        for number in range(MOST_SUFFIXES):
            path = with_suffix(job.wanted, number)
            try:
                self._link(job.temp, self._full(path))
            except FileExistsError:
                if not self._holds(self._full(path), job.staged):
                    continue
            job.path = path
            return
        raise StoreError(f"cannot publish {job.wanted}: all its names are taken")

    def _link(self, temp: str, target: str) -> None:
        try:
            self._disk.link(temp, target)
        except OSError as exc:
            if exc.errno not in NO_LINKS:
                raise
            self._move(temp, target)

    def _move(self, temp: str, target: str) -> None:
        """For file systems without links: take the name with an empty file, then replace that."""
        self._disk.close(self._disk.create(target))
        try:
            self._disk.rename(temp, target)
        except OSError:
            self._staging.remove(target)
            raise

    def _holds(self, target: str, staged: StagedFile) -> bool:
        """Whether *target* has the very bytes of *staged*, and keeps them.

        What cannot be read, or synced, is taken for other bytes, so that it is left alone.
        """
        digest = hashlib.sha256()
        try:
            fd = self._disk.open(target)
            try:
                if self._disk.size(fd) != staged.size:
                    return False
                for offset in range(0, staged.size, PIECE):
                    digest.update(self._disk.read(fd, PIECE, offset))
                if digest.hexdigest() != staged.sha256:
                    return False
                self._disk.fsync(fd)
            finally:
                self._disk.close(fd)
        except OSError:
            return False
        return True

    def _sync_folders(self, jobs: Sequence[Job]) -> None:
        waiting: dict[str, list[Job]] = {}
        for job in jobs:
            if job.error is None:
                for folder in job.unsynced:
                    waiting.setdefault(folder, []).append(job)

        def sync(folder: str) -> None:
            try:
                self._disk.fsync_folder(self._full(folder))
            except OSError as exc:
                for job in waiting[folder]:
                    job.fail(exc, "sync the folder of", self._root)

        self._in_threads(sorted(waiting), sync)
        self._stop_if_unavailable(jobs)
        for job in jobs:
            if job.error is None:
                self._durable.update(self._folders_of(job))

    def _folders_of(self, job: Job) -> Sequence[str]:
        parts = job.wanted.split("/")[:-1]
        return ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]

    def _guarded(self, job: Job, what: str, work: Callable[[Job], None]) -> None:
        """Do *work*, unless the job has failed before; an error is the job's own."""
        if job.error is not None:
            return
        try:
            work(job)
        except (StoreError, StoreUnavailableError) as exc:
            job.error = exc
        except OSError as exc:
            job.fail(exc, what, self._root)

    def _in_threads(self, items: Sequence[T], work: Callable[[T], None]) -> None:
        """Do *work* on all of *items*, several at a time, so that the disk can join their syncs."""

        def take(share: Sequence[T]) -> None:
            for item in share:
                work(item)

        count = min(self._threads, len(items))
        if count <= 1:
            take(items)
            return
        futures = [self._pool.submit(take, items[start::count]) for start in range(count)]
        wait(futures)  # all of them: nothing may be cleaned up while one still works
        for future in futures:
            future.result()

    def _stop_if_unavailable(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            if isinstance(job.error, StoreUnavailableError):
                raise job.error

    def _full(self, path: str) -> str:
        return f"{self._root}/{path}" if path else self._root


def _temp_of(staged: StagedFile) -> str:
    """Where it lies; what is still in memory gets its file when it is published."""
    return staged.handle if isinstance(staged.handle, str) else ""
