"""What a Source announces: its lists are read as a run reads them, and Files drawn by lot."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random

from benchmarks.provider.ration import Ration, RationUsedUpError
from benchmarks.provider.recording import Errand, Kind, on_errand
from ingestify.client import Client, ClientHttp, ListHttp
from ingestify.errors import RunError, StopProcessing
from ingestify.model.catalog import ListValidators
from ingestify.model.resource import DatasetResource, FileResource, Later
from ingestify.model.run import SelectorStatus
from ingestify.pipeline.choose import Narrowing, Plan
from ingestify.pipeline.discover import describe
from ingestify.pipeline.plan import check, identify
from ingestify.pipeline.resolve import resolve
from ingestify.pipeline.selector_run import SelectorRun
from ingestify.policy import Fetch
from ingestify.ports import Source

log = logging.getLogger("benchmarks.provider")

DRAWN = 1000  # Files of each feed that are remembered, at most
UNFOLDED = 10  # Datasets whose Source is asked which Files they have, where lists do not tell


@dataclass(frozen=True, slots=True)
class Candidate:
    """A File that may be asked for."""

    feed: str
    file: FileResource


class Lot:
    """Some of all that was shown to it, each with the same chance."""

    def __init__(self, most: int, random: Random) -> None:
        self.drawn: list[Candidate] = []
        self.shown = 0
        self._most = most
        self._random = random

    def show(self, candidate: Candidate) -> None:
        """Draw *candidate*, perhaps."""
        self.shown += 1
        if len(self.drawn) < self._most:
            self.drawn.append(candidate)
        elif (at := self._random.randrange(self.shown)) < self._most:
            self.drawn[at] = candidate


@dataclass(slots=True, kw_only=True)
class Announced:
    """What was announced as far as lists were read.

    Where not all of them were, totals are those of the lists that were, times how many more
    there are.
    """

    lists: int = 0  # Selectors that plans want
    lists_read: int = 0  # to their end
    datasets: int = 0  # in the lists that were read to their end, each once
    files: Counter[str] = field(default_factory=Counter)  # of these, by feed
    inline: set[str] = field(default_factory=set)  # feeds that come with the lists
    lots: dict[str, Lot] = field(default_factory=dict)
    validators: list[ListValidators] = field(default_factory=list)  # of some lists
    is_unfolded: bool = False  # only what a few Datasets have is known, not what all of them have

    @property
    def is_exact(self) -> bool:
        """Whether the totals are what was announced, and nothing is extrapolated."""
        return self.lists_read == self.lists and not self.is_unfolded

    @property
    def factor(self) -> float:
        """By how much there is more than what was counted."""
        return self.lists / self.lists_read if self.lists_read else 1.0

    def total(self, feed: str) -> int:
        """How many Files of *feed* there are, as far as can be told."""
        return round(self.files[feed] * self.factor)


@dataclass(kw_only=True)
class Reading:
    """Reads the lists of one Source, in an order drawn by lot, until *ration* has no more."""

    source: Source
    plans: Sequence[Plan]
    client: Client
    ration: Ration
    random: Random
    complain: Callable[[str], None]
    found: Announced = field(default_factory=Announced)
    _seen: set[tuple[object, ...]] = field(default_factory=set)
    _whole: list[DatasetResource] = field(default_factory=list)

    async def read(self) -> None:
        """Fill `found`.

        Raises:
            StopProcessing: the Source, or its daily quota, wants no more requests.
            RunError: the Source gives up.
        """
        with on_errand(Errand(Kind.LIST)):
            try:
                selector_runs = await self._resolve()
                self.found.lists = len(selector_runs)
                self.random.shuffle(selector_runs)
                for selector_run in selector_runs:
                    await self._read(selector_run)
            except RationUsedUpError:
                log.debug("%s: not all lists are read", self.source.name)
            await self._unfold()

    async def _resolve(self) -> list[SelectorRun]:
        resolution = await resolve(self.plans, {self.source: self.client}, Narrowing())
        for warning in resolution.warnings:
            self.complain(warning)
        if self.source in resolution.stopped:
            raise resolution.stopped[self.source]
        selector_runs = resolution.selector_runs[self.source]
        for each in selector_runs:
            if each.status is SelectorStatus.FAILED:
                self.complain(each.error or f"{each.label} cannot be looked at")
        return [each for each in selector_runs if each.status is not SelectorStatus.FAILED]

    async def _read(self, selector_run: SelectorRun) -> None:
        http = ListHttp(
            self.client, on_refused=lambda _, reason: self._refuse(selector_run, reason)
        )
        before = self.found.files.copy()
        datasets = 0
        try:
            async for resource in _listed(self.source, selector_run, http):
                datasets += self._note(selector_run, resource)
        except (StopProcessing, RunError):
            if self.found.lists_read:  # else a part is better than nothing
                self.found.files = before
            else:
                self.found.datasets += datasets
            raise
        except Exception as exc:
            self.complain(f"{selector_run.label}: {describe(exc)[1]}")
            self.found.files = before
            self.found.lists -= 1
        else:
            self.found.lists_read += 1
            self.found.datasets += datasets
            if http.requests_made == 1 and http.validators is not None:
                self.found.validators.append(http.validators)

    def _note(self, selector_run: SelectorRun, resource: DatasetResource) -> bool:
        """Count what a run would ask for of *resource*. Returns whether it is met first now."""
        try:
            key = identify(resource, selector_run)
            check(resource, selector_run.redactor)
            now = datetime.now(UTC)
            decisions = [
                policy.decide(resource, None, now=now, forced=False)
                for policy in selector_run.policies
            ]
        except Exception as exc:  # a Source may yield anything
            self._refuse(selector_run, describe(exc)[1])
            return False
        asks = [ask for each in decisions if isinstance(each, Fetch) for ask in each.asks]
        shelf = (selector_run.bucket, resource.provider, resource.dataset_type, key)
        is_new = shelf not in self._seen
        self._seen.add(shelf)
        wanted = {ask.file.key: ask.file for ask in asks}
        if not self._declares_files:
            resource.files = list(wanted.values())
            if is_new and len(self._whole) < DRAWN:
                self._whole.append(resource)
            return is_new
        for file_key, file in wanted.items():
            if (*shelf, *file_key) not in self._seen:
                self._seen.add((*shelf, *file_key))
                self._show(resource, file)
        return is_new

    def _show(self, resource: DatasetResource, file: FileResource) -> None:
        feed = f"{resource.dataset_type} {' '.join(file.key)}"
        self.found.files[feed] += 1
        if file.content is not None:
            self.found.inline.add(feed)
        lot = self.found.lots.setdefault(feed, Lot(DRAWN, self.random))
        lot.show(Candidate(feed, file))

    @property
    def _declares_files(self) -> bool:
        return type(self.source).fetch_dataset_files is Source.fetch_dataset_files

    async def _unfold(self) -> None:
        """Ask a Source that names Files only when they are fetched for those of some Datasets."""
        if not self._whole:
            return
        http = ClientHttp(self.client)
        some = self.random.sample(self._whole, min(UNFOLDED, len(self._whole)))
        unfolded = 0
        for resource in some:
            try:
                async for file in _named(self.source, resource, http):
                    self._show(resource, file)
            except RationUsedUpError:
                break
            except (StopProcessing, RunError):
                raise
            except Exception as exc:
                self.complain(f"{resource.name}: {describe(exc)[1]}")
            unfolded += 1
        if unfolded:
            share = len(self._whole) / unfolded
            self.found.is_unfolded = unfolded < len(self._whole)
            for feed in self.found.files:
                self.found.files[feed] = round(self.found.files[feed] * share)

    def _refuse(self, selector_run: SelectorRun, reason: str) -> None:
        self.complain(f"{selector_run.label}: a record was refused: {reason}")


async def _listed(
    source: Source, selector_run: SelectorRun, http: ListHttp
) -> AsyncIterator[DatasetResource]:
    generator = source.discover_datasets(
        selector_run.dataset_type,
        selector_run.selector,
        data_spec_versions=selector_run.data_spec_versions,
        state={},
        http=http,
    )
    async with aclosing(generator) as items:  # type: ignore[type-var]
        async for item in items:
            for resource in item if isinstance(item, list | tuple) else (item,):
                yield resource


async def _named(
    source: Source, resource: DatasetResource, http: ClientHttp
) -> AsyncIterator[FileResource]:
    """The Files of *resource*, up to the first that has to be waited for."""
    files = source.fetch_dataset_files(resource, None, http=http)
    async with aclosing(files) as named:  # type: ignore[type-var]
        async for file in named:
            if isinstance(file, Later):
                return
            yield file


def draw(lots: dict[str, Lot], count: int, random: Random, *, least: int = 3) -> list[Candidate]:
    """About *count* of what is in *lots*: as many of each feed as it has a share in all, and at
    least some, in an order drawn by lot."""
    shown = sum(lot.shown for lot in lots.values())
    drawn: list[Candidate] = []
    spare: list[Candidate] = []
    for lot in lots.values():
        wanted = max(least, round(count * lot.shown / shown))
        mixed = random.sample(lot.drawn, len(lot.drawn))
        drawn += mixed[:wanted]
        spare += mixed[wanted:]
    random.shuffle(drawn)
    random.shuffle(spare)
    if len(drawn) > count:  # the first of each feed come first, whatever is cut off
        drawn = _one_of_each_first(drawn)
    return [*drawn, *spare][:count]


def _one_of_each_first(candidates: Sequence[Candidate]) -> list[Candidate]:
    first: dict[str, Candidate] = {}
    rest = [each for each in candidates if first.setdefault(each.feed, each) is not each]
    return [*first.values(), *rest]
