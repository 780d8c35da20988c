"""The provider of the simulated world: what it has, what it had, what it was asked, how it lies."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, TypeAlias

from ingestify.model.dataset import DatasetState
from ingestify.model.http import Request
from ingestify.model.resource import DatasetResource, DataSpecVersions
from ingestify.model.selector import Selector
from ingestify.ports import Http, Source
from ingestify.testing.fetcher import FakeAnswer

BASE = "http://world.invalid/"
FEEDS = ("events", "lineups", "tracking")

FileId: TypeAlias = tuple[int, str]  # number, feed
Lie: TypeAlias = Callable[[Request, FakeAnswer], FakeAnswer]


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True, slots=True)
class Version:
    """One state of one Dataset, as the provider had it at some time."""

    name: str
    state: str
    metadata: str  # JSON
    files: Mapping[str, str]  # by feed: the sha256 of its bytes


@dataclass(frozen=True, slots=True)
class Thing:
    """One Dataset as the provider has it now. A token changes only when a change is announced."""

    name: str = "a thing"
    state: str = "complete"
    metadata: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    tokens: Mapping[str, str] = field(default_factory=dict)
    etags: Mapping[str, str] = field(default_factory=dict)

    @property
    def version(self) -> Version:
        files = {feed: sha(body) for feed, body in self.files.items()}
        return Version(self.name, self.state, json.dumps(self.metadata, sort_keys=True), files)

    def listed(self, number: int) -> dict[str, Any]:
        return {
            "id": number,
            "name": self.name,
            "state": self.state,
            "metadata": self.metadata,
            "files": self.tokens,
        }


@cache
def body_of(number: int, feed: str, edition: int) -> bytes:
    """What a File says: small, but for the feed that is too large for `world.SMALL`."""
    content = {"of": number, "feed": feed, "edition": edition}
    if feed == "tracking":
        rng = random.Random(f"{number} {feed} {edition}")
        content["frames"] = [rng.randbytes(100).hex() for _ in range(30)]
    return json.dumps(content).encode()


class Provider:
    """What stands at the other end of the wire. Requests are answered at once, and counted."""

    def __init__(self) -> None:
        self.things: dict[int, Thing] = {}
        self.history: dict[int, list[Version]] = {}
        self.served: dict[FileId, set[str]] = {}
        self.asked: list[str] = []  # paths, in order
        self.lies: dict[str, Lie] = {}
        self.silent: set[FileId] = set()  # changed, and nothing says so
        self.deaf: set[FileId] = set()  # answered in full, whatever was asked
        self._editions = 0

    def put(self, number: int, **changes: Any) -> None:
        """Give the Dataset *number* other values; it is new if there is none."""
        self.things[number] = replace(self.things.get(number, Thing()), **changes)
        self._remember(number)

    def put_file(
        self, number: int, feed: str, *, announced: bool = True, same_etag: bool = False
    ) -> None:
        """Change the bytes of a File, or add it, and say so, or not."""
        self._editions += 1
        thing, body = self.things.get(number, Thing()), body_of(number, feed, self._editions)
        tokens, etags = dict(thing.tokens), dict(thing.etags)
        if announced or feed not in tokens:
            tokens[feed] = f"{self._editions}"
            self.silent.discard((number, feed))
        else:
            self.silent.add((number, feed))
        if same_etag and feed in etags:
            self.deaf.add((number, feed))
        else:
            etags[feed] = f'"{sha(body)[:16]}"'
        self.put(number, files={**thing.files, feed: body}, tokens=tokens, etags=etags)

    def announce(self, number: int, feed: str) -> None:
        """Say that a File has changed, be it true or not; its ETag is another one, too."""
        self._editions += 1
        thing, news = self.things[number], f"{self._editions}"
        etags = {**thing.etags, feed: f'"{news}"'}
        self.put(number, tokens={**thing.tokens, feed: news}, etags=etags)
        self.silent.discard((number, feed))

    def heal(self) -> None:
        """Tell the truth from now on, and all of it."""
        self.lies.clear()
        for number, feed in sorted(self.silent):
            if number in self.things:
                self.announce(number, feed)
        self.silent.clear()

    def roll_back(self, number: int, version: Thing) -> None:
        """Have again what there was before, as the same."""
        self.things[number] = version
        self._remember(number)

    def add(self, number: int, *, feeds: tuple[str, ...] = FEEDS, **values: Any) -> None:
        """A new Dataset with a File of each of *feeds*."""
        self.put(number, **{"name": f"thing {number}", "metadata": {"number": number}, **values})
        for feed in feeds:
            self.put_file(number, feed)
        self.history[number] = self.history[number][-1:]  # nobody saw it before it was complete

    def remove(self, number: int) -> None:
        del self.things[number]

    @property
    def now(self) -> dict[int, Version]:
        """What a lake must be equal to."""
        return {number: thing.version for number, thing in self.things.items()}

    def files_asked(self, since: int = 0) -> list[FileId]:
        """The Files that were asked for, in order."""
        parts = [path.split("/") for path in self.asked[since:] if path.startswith("files/")]
        return [(int(number), feed) for _, number, feed in parts]

    def answer(self, request: Request) -> FakeAnswer:
        path = request.url.removeprefix(BASE)
        self.asked.append(path)
        honest = self._honest(path, request)
        return self.lies[path](request, honest) if path in self.lies else honest

    def _honest(self, path: str, request: Request) -> FakeAnswer:
        if path == "things":
            entries = [thing.listed(number) for number, thing in self.things.items()]
            body = json.dumps(entries).encode()
            return _answer(body, f'"{sha(body)}"', request)
        _, number, feed = path.split("/")
        thing = self.things.get(int(number))
        if thing is None or feed not in thing.files:
            return FakeAnswer(status=404)
        is_deaf = (int(number), feed) in self.deaf
        return _answer(thing.files[feed], thing.etags[feed], None if is_deaf else request)

    def _remember(self, number: int) -> None:
        version = self.things[number].version
        self.history.setdefault(number, []).append(version)
        for feed, digest in version.files.items():
            self.served.setdefault((number, feed), set()).add(digest)


@cache
def zipped(body: bytes) -> bytes:
    return gzip.compress(body, 1, mtime=0)


def is_conditional(request: Request) -> bool:
    return any(name.lower() == "if-none-match" for name in request.headers)


def _answer(body: bytes, etag: str, request: Request | None) -> FakeAnswer:
    headers = {name.lower(): value for name, value in request.headers.items()} if request else {}
    if headers.get("if-none-match") == etag:
        return FakeAnswer(status=304, headers={"etag": etag})
    coded = zipped(body) if len(body) > 1000 else body
    coding = {"content-encoding": "gzip"} if coded is not body else {}
    return FakeAnswer(
        body=coded, headers={"etag": etag, "content-length": str(len(coded)), **coding}
    )


class WorldSource(Source):
    """The provider's connector: one list, and an address for each File."""

    provider = "world"

    def __init__(self, name: str = "world") -> None:
        super().__init__(name, base_url=BASE)

    async def discover_datasets(
        self,
        dataset_type: str,
        selector: Selector,
        *,
        data_spec_versions: DataSpecVersions,
        state: dict[str, Any],
        http: Http,
    ) -> AsyncIterator[DatasetResource]:
        async for entry in http.get_json_items("things"):
            yield resource_of(entry, http)


def resource_of(entry: Mapping[str, Any], http: Http) -> DatasetResource:
    """What one entry of the list offers."""
    resource = DatasetResource(
        dataset_resource_id={"id": entry["id"]},
        name=entry["name"],
        state=DatasetState(entry["state"]),
        metadata=entry["metadata"],
    )
    for feed, token in entry["files"].items():
        resource.add_file(feed, url=http.url("files/{}/{}", entry["id"], feed), token=token)
    return resource
