"""A small provider that lies, a lake that is kept in step with it, and what a user sees of that."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
from anyio import fail_after
from lakes import staged_in
from lists import ListWorld

import ingestify
from ingestify.config import Config
from ingestify.engine import Engine
from ingestify.model.http import HttpSettings, Limits
from ingestify.model.run import Failure, RunSummary
from ingestify.testing import ProviderSimulator

HANG_SECONDS = 60  # only a hang takes so long
CANARY = "canary-4711"
LIED = 3  # the thing that is lied about
GOOD = (1, 2, 4)
ELSEWHERE = (11, 12)  # in a list of their own

QUICK = HttpSettings(
    max_body_bytes=256 * 1024,
    max_list_bytes=256 * 1024,
    attempts=1,
    max_retry_after=timedelta(seconds=3),
    max_redirects=3,
)


IMPATIENT: dict[str, Any] = {  # the others are in no hurry: a busy machine changes nothing for them
    "connect_timeout": timedelta(seconds=0.5),
    "first_byte_timeout": timedelta(seconds=0.5),
    "idle_timeout": timedelta(seconds=1),
    "total_timeout": timedelta(seconds=10),
    "minimum_bytes_per_second": 1000,
}


class Credentials:
    """All the ways at once in which a provider may be told who asks."""

    def headers(self) -> Mapping[str, str]:
        return {"X-Api-Key": f"{CANARY}-key", "Cookie": f"session={CANARY}-cookie"}

    def params(self) -> Mapping[str, str]:
        return {"api_token": f"{CANARY}-token"}


class Listed(msgspec.Struct):
    """A record of ``selectors.json``."""

    list: str
    token: str | None = None


class Entry(msgspec.Struct):
    """A record of a list."""

    id: int | str
    token: str | None = None
    name: str | None = None
    more: Any = None


class ThingSource(ingestify.Source):
    """Finds things in lists, and refuses the records that it cannot use."""

    provider = "things"
    data_spec_versions = {"thing": {"data": "v1"}}  # noqa: RUF012  # as a connector writes it

    async def discover_selectors(
        self, dataset_type: str, *, http: ingestify.Http
    ) -> AsyncIterator[ingestify.Selector]:
        async for each in http.get_json_items("selectors.json", type=Listed):
            yield ingestify.Selector({"list": each.list}, token=each.token)

    async def discover_datasets(
        self,
        dataset_type: str,
        selector: ingestify.Selector,
        *,
        data_spec_versions: ingestify.DataSpecVersions,
        state: dict[str, Any],
        http: ingestify.Http,
    ) -> AsyncIterator[ingestify.DatasetResource]:
        address = http.url("list-{}.json", selector["list"])
        async for entry in http.get_json_items(address, type=Entry):
            try:
                where = http.url("data/{}-v1.json", entry.id)
            except ingestify.FetchError as exc:
                http.refuse(f"thing {entry.id!a:.50}: {exc}")
                continue
            yield ingestify.DatasetResource(
                dataset_resource_id={"id": entry.id},
                name=entry.name or f"thing {entry.id}",
                metadata={"more": entry.more},
            ).add_file("data", url=where, token=entry.token)


def body_of(key: int | str) -> dict[str, Any]:
    """What the honest file of a thing says: some kB, so that half of it is not all of it."""
    return {"id": key, "events": [{"minute": n, "of": str(key)} for n in range(100)]}


@dataclass(kw_only=True)
class Told:
    """What a user is told by one Run, and finds in the lake after it."""

    summary: RunSummary
    failures: list[Failure]  # as `failed list` has them
    stored: dict[int | str, bytes]
    revisions: dict[int | str, int]  # how many
    asked: list[str]  # files, in order

    @property
    def outcome(self) -> dict[str, int]:
        """What became of what was listed, without zeros."""
        counts = msgspec.structs.asdict(self.summary.counters)
        return {name: count for name, count in counts.items() if count and name != "listed"}


@dataclass(kw_only=True)
class Job:
    """Runs against a provider that lies. Each has an Engine of its own, as a process would."""

    world: ListWorld
    provider: ProviderSimulator
    make_config: Callable[..., Config]
    folder: Path  # of the lake
    log: Callable[[], str]
    auth: Any = field(default_factory=Credentials)
    limits: Limits = field(default_factory=Limits)

    def honest(self, *keys: int | str) -> dict[int | str, bytes]:
        """What the provider has of the things called *keys*."""
        return {key: self.world.get(f"data/{key}-v1.json").body for key in keys}  # type: ignore[union-attr]

    def source(self, **settings: Any) -> ThingSource:
        """The Source of a user who is in a hurry, with *settings* of his own."""
        base_url = self.provider.base_url.replace("://", f"://user:{CANARY}-userinfo@")
        return ThingSource(
            "things",
            base_url=base_url,
            auth=self.auth,
            limits=self.limits,
            http_settings=replace(QUICK, **settings),
        )

    async def run(self, **settings: Any) -> Told:
        """One Run, which may take its time but must end, and what is to be seen after it."""
        before = len(self.provider.requests)
        async with self.engine(**settings) as engine:
            with fail_after(HANG_SECONDS):
                summary = await engine.run()
            assert staged_in(engine._ports.store) == []
            told = Told(
                summary=summary,
                failures=list(await engine.catalog.failures()),
                stored={},
                revisions={},
                asked=[
                    request.path
                    for request in self.provider.requests[before:]
                    if request.path.startswith("data/")
                ],
            )
            async for dataset in engine.store.iter_datasets():
                key = dataset.identifier["id"]
                for content in await engine.store.load_files(dataset):
                    told.stored[key] = await content.read_bytes()
                told.revisions[key] = len(await engine.catalog.revisions(dataset.row_id))
        self._check(told)
        return told

    def engine(self, **settings: Any) -> Engine:
        """The lake."""
        config = self.make_config(
            sources={"things": {"type": "lying.ThingSource"}},
            ingestion_plans=[{"source": "things", "dataset_type": "thing"}],
        )
        return Engine(config, sources={"things": self.source(**settings)})

    def _check(self, told: Told) -> None:
        """What holds after every Run, whatever the provider did."""
        summary = told.summary
        assert summary.counters.is_balanced
        assert all(each.counters.is_balanced for each in summary.selectors)
        seen = [*summary.failures, *told.failures]
        for failure in seen:
            assert failure.code
            assert failure.code != "bug"
            assert 10 < len(failure.message) < 1000
            assert failure.message.isprintable()
            assert not any(word in failure.message for word in ("Traceback", 'File "', " at 0x"))
        shown = json.dumps([repr(seen), msgspec.json.encode(summary).decode(), self.log()])
        assert CANARY not in shown
        for file in self.folder.rglob("*"):
            assert not file.is_file() or CANARY.encode() not in file.read_bytes()
