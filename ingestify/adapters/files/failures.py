"""What an operating system's error means for us, and what to do about it."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from ingestify.errors import MissingBytesError, StoreError, StoreUnavailableError

WAYS_OUT = {
    errno.ENOSPC: "free some space there, or keep the lake elsewhere (file_url)",
    errno.EDQUOT: "have the quota raised, or keep the lake elsewhere (file_url)",
    errno.EROFS: "make it writable, or keep the lake elsewhere (file_url)",
}
MISSING = (errno.ENOENT, errno.ENOTDIR)
NOT_OURS = {
    errno.EACCES: "let this user write there",
    errno.EPERM: "let this user write there",
    errno.ENOENT: "it is gone: is the disk mounted?",
    errno.ENOTDIR: "it is not a folder",
    errno.ESTALE: "it is gone: is the disk mounted?",
    errno.ENOLCK: "this file system has no locks: keep the lake elsewhere (file_url)",
    errno.ENOTSUP: "this file system has no locks: keep the lake elsewhere (file_url)",
}

REFUSED = (errno.EACCES, errno.EPERM)


def failure_of(
    exc: OSError, what: str, path: str, *, root: str = ""
) -> StoreError | StoreUnavailableError:
    """*exc*, met at *what* on *path*, as our error: for that File alone, or for all.

    Args:
        root: the folder that *path* lies in. It is named when nothing can be kept there.
    """
    reason = exc.strerror or str(exc)
    if way_out := WAYS_OUT.get(exc.errno or 0):
        place = f"{root}/{path}" if root else path
        return StoreUnavailableError(f"cannot {what} {place}: {reason}; {way_out}")
    kind = MissingBytesError if exc.errno in MISSING and what == "read" else StoreError
    return kind(f"cannot {what} {path}: {reason}")


@contextmanager
def failing(what: str, path: str, *, own: bool = False) -> Iterator[None]:
    """Makes an OSError ours.

    Args:
        own: *path* is the store's own, so that without it nothing can be kept at all.
    """
    try:
        yield
    except OSError as exc:
        if own and (hint := NOT_OURS.get(exc.errno or 0)):
            message = f"cannot {what} {path}: {exc.strerror}; {hint}"
            raise StoreUnavailableError(message) from exc
        raise failure_of(exc, what, path) from exc


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Makes an OSError ours, met at reading a File. Whose bytes are refused has not lost them."""
    try:
        with failing("read", path):
            yield
    except StoreError as exc:
        cause = exc.__cause__
        if isinstance(cause, OSError) and cause.errno in REFUSED:
            raise StoreUnavailableError(f"{exc}; let this user read it") from cause
        raise


def why_it_stays(exc: OSError) -> str:
    """Why a file cannot be removed, and what to do about it."""
    way_out = "let this user write there" if exc.errno in REFUSED else "check the disk"
    way_out = WAYS_OUT.get(exc.errno or 0, way_out)
    return f"{exc.strerror or exc}; {way_out}"


@contextmanager
def needing(what: str, path: str) -> Iterator[None]:
    """Makes an OSError ours, where nothing can be kept without *path*, whatever the reason."""
    try:
        with failing(what, path, own=True):
            yield
    except StoreError as exc:
        raise StoreUnavailableError(str(exc)) from exc.__cause__
