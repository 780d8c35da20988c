"""What a simulated provider has to offer: Worlds answer a path with a Resource."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from isal import igzip

GZIP_LEVEL = 2
CACHE_BYTES = 64 * 2**20
FIRST_PUT = datetime(2024, 3, 1, 6, tzinfo=UTC)


class Resource:
    """The answer to one path. Of its plain and gzip form, the missing one is made when asked for.

    Made from `gzipped` alone, the plain form is expanded anew each time, so that holding many
    such Resources holds only their compressed bytes.
    """

    __slots__ = ("_body", "_etag", "_gzipped", "content_type", "last_modified")

    def __init__(
        self,
        *,
        body: bytes | None = None,
        gzipped: bytes | None = None,
        last_modified: datetime,
        content_type: str = "application/json",
    ) -> None:
        if body is None and gzipped is None:
            raise ValueError("A Resource needs a body or a gzipped body")
        if last_modified.utcoffset() is None:
            raise ValueError(f"last_modified must be timezone-aware: {last_modified}")
        self._body = body
        self._gzipped = gzipped
        self._etag: str | None = None
        self.last_modified = last_modified  # aware, UTC
        self.content_type = content_type

    @property
    def body(self) -> bytes:
        """The identity bytes."""
        if self._body is not None:
            return self._body
        expanded: bytes = igzip.decompress(self._gzipped)  # type: ignore[no-untyped-call]
        return expanded

    @property
    def gzipped(self) -> bytes:
        """The same bytes, gzip-compressed without a time stamp."""
        if self._gzipped is None:
            self._gzipped = igzip.compress(self._body, GZIP_LEVEL, mtime=0)
        return self._gzipped

    @property
    def etag(self) -> str:
        """A strong validator made of the identity bytes, quotes included."""
        if self._etag is None:
            self._etag = f'"{sha256(self.body).hexdigest()[:40]}"'
        return self._etag

    @property
    def held_bytes(self) -> int:
        return len(self._body or b"") + len(self._gzipped or b"")

    def compacted(self) -> "Resource":
        """The same Resource, holding only its compressed bytes."""
        compact = Resource(
            gzipped=self.gzipped, last_modified=self.last_modified, content_type=self.content_type
        )
        compact._etag = self.etag
        return compact


class World(Protocol):
    """What a provider has at this moment. Called on the event loop, once per request."""

    def get(self, path: str) -> Resource | None:
        """The Resource at *path*, which has no leading slash, or None where there is none."""
        ...


@runtime_checkable
class EvolvingWorld(World, Protocol):
    """A World that can be told by name to change, as a simulator in another process is."""

    def evolve(self, what: str, **arguments: Any) -> object:
        """Do *what*; the answer is a value that can be written as JSON.

        Raises:
            ValueError: there is no such change, or not with these arguments.
        """
        ...


class ResourceCache:
    """The Resources used last, up to a number of bytes; one made for another version is dropped."""

    def __init__(self, max_bytes: int = CACHE_BYTES) -> None:
        self._max_bytes = max_bytes
        self._held = 0
        self._entries: OrderedDict[Hashable, tuple[Hashable, int, Resource]] = OrderedDict()

    @property
    def held_bytes(self) -> int:
        return self._held

    def get(self, key: Hashable, version: Hashable, make: Callable[[], Resource]) -> Resource:
        entry = self._entries.get(key)
        if entry is not None and entry[0] == version:
            self._entries.move_to_end(key)
            return entry[2]
        resource = make()
        self._forget(key)
        self._entries[key] = (version, resource.held_bytes, resource)
        self._held += resource.held_bytes
        while self._held > self._max_bytes and len(self._entries) > 1:
            self._forget(next(iter(self._entries)))
        return resource

    def _forget(self, key: Hashable) -> None:
        _, size, _ = self._entries.pop(key, (None, 0, None))
        self._held -= size


class FolderWorld:
    """Serves the files of a folder; `<path>.gz` on disk answers for `<path>`.

    Folders in *shadowed_by* are looked at first, in their order, so that a folder of other
    versions can stand in for some files. What is `put` or `remove`d never touches the disk.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        shadowed_by: Sequence[str | Path] = (),
        overrides: Mapping[str, bytes] | None = None,
    ) -> None:
        self.root = Path(root)
        self._shadows = [Path(folder) for folder in shadowed_by]
        self._overrides: dict[str, Resource | None] = {}
        self._cache = ResourceCache()
        for path, body in (overrides or {}).items():
            self.put(path, body)

    def get(self, path: str) -> Resource | None:
        path = path.lstrip("/")
        if path in self._overrides:
            return self._overrides[path]
        for folder in (*self._shadows, self.root):
            if (file := _file_in(folder, path)) is not None:
                return self._read(file, path)
        return None

    def put(self, path: str, body: bytes) -> None:
        """Answer *path* with *body*, a second younger than what it answered with before."""
        path = path.lstrip("/")
        before = self.get(path)
        changed_at = FIRST_PUT if before is None else before.last_modified + timedelta(seconds=1)
        self._overrides[path] = Resource(
            body=body, last_modified=changed_at, content_type=_content_type(path)
        )

    def remove(self, path: str) -> None:
        """Answer *path* with 404."""
        self._overrides[path.lstrip("/")] = None

    def restore(self, path: str) -> None:
        """Undo `put` and `remove`: answer *path* from the folders again."""
        self._overrides.pop(path.lstrip("/"), None)

    def shadow(self, folder: str | Path) -> None:
        """Look into *folder* before all others."""
        self._shadows.insert(0, Path(folder))

    def unshadow(self, folder: str | Path) -> None:
        """Stop looking into *folder*.

        Raises:
            ValueError: it does not shadow this World.
        """
        self._shadows.remove(Path(folder))

    def evolve(self, what: str, **arguments: Any) -> object:
        """Shadow, unshadow, remove or restore by name; see EvolvingWorld."""
        changes: dict[str, Callable[..., None]] = {
            "shadow": self.shadow,
            "unshadow": self.unshadow,
            "remove": self.remove,
            "restore": self.restore,
        }
        if what not in changes:
            raise ValueError(f"A FolderWorld cannot {what!r}, only {sorted(changes)}")
        try:
            changes[what](**arguments)
        except TypeError as exc:
            raise ValueError(str(exc)) from exc
        return {"what": what, **arguments}

    def _read(self, file: Path, path: str) -> Resource:
        stat = file.stat()
        form = "gzipped" if file.suffix == ".gz" and not path.endswith(".gz") else "body"

        def read() -> Resource:
            return Resource(
                **{form: file.read_bytes()},
                last_modified=datetime.fromtimestamp(stat.st_mtime, UTC),
                content_type=_content_type(path),
            )

        version = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        return self._cache.get((file, form), version, read)


def _file_in(folder: Path, path: str) -> Path | None:
    """The file in *folder* that answers for *path*; links that leave the folder do not count."""
    if "\0" in path or "\\" in path or ".." in path.split("/"):
        return None
    root = folder.resolve()
    for name in (path, f"{path}.gz"):
        file = (root / name).resolve()
        if file.is_relative_to(root) and file.is_file():
            return file
    return None


def _content_type(path: str) -> str:
    kinds = {".json": "application/json", ".csv": "text/csv", ".xml": "application/xml"}
    return kinds.get(Path(path).suffix, "application/octet-stream")
