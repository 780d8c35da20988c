"""Measuring: Files are fetched as a run fetches them, more and more at once, and forgotten."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import cast

from anyio import CancelScope, create_task_group

from benchmarks.provider.announced import Announced, Candidate
from benchmarks.provider.ration import Ration, RationUsedUpError
from benchmarks.provider.recording import (
    IDENTITY,
    OTHER_CODINGS,
    Errand,
    Kind,
    RecordingFetcher,
    on_errand,
)
from ingestify.adapters.files.memory import MemoryFileStore
from ingestify.cli.exit_codes import cause_of
from ingestify.client import Answer, Client, Conditional
from ingestify.errors import RunError, StopProcessing
from ingestify.model.catalog import StagedFile
from ingestify.model.resource import FileResource
from ingestify.pipeline.discover import describe
from ingestify.pipeline.fetch_file import FileFetch, Got
from ingestify.pipeline.pool import Slot
from ingestify.policy import Ask, Reason

READ_BACK = 64 * 1024 * 1024  # bytes; nothing larger is read again once it is staged
FEWEST = 8  # Files in each step
PER_PLACE = 2  # Files in a step, for each that is in flight
PACED = 4  # at once, where the provider sets the pace
MOST_REFUSALS = 5  # while the provider sets the pace; then nothing more is fetched…
MOST_IN_A_ROW = 2  # …nor after so many, one after the other
AGAIN = 2  # of each feed, and of lists, that are asked for again
INLINE = 20  # Files of each feed that came with lists, whose size is looked at


class _OwnPlace:
    """A place among those at work that nobody else could use meanwhile."""

    def released(self) -> AbstractAsyncContextManager[None]:
        return nullcontext()

    def dropped_on_stop(self) -> AbstractContextManager[None]:
        return nullcontext()

    def refuse_after_stop(self) -> None:
        """Nobody asks to stop: the whole task is cancelled."""

    def on_stop(self, tell: Callable[[], None]) -> None:
        """See `refuse_after_stop`."""

    def forget(self, tell: Callable[[], None]) -> None:
        """See `refuse_after_stop`."""


OWN_PLACE = _OwnPlace()


class Nowhere(MemoryFileStore):
    """A FileStore that counts, and forgets at once what nobody will read again."""

    async def stage(self, chunks: AsyncIterable[bytes]) -> StagedFile:
        """See `FileStore.stage`."""
        size = 0

        async def counted() -> AsyncIterator[bytes]:
            nonlocal size
            async for chunk in chunks:
                size += len(chunk)
                yield chunk if size <= READ_BACK else b""

        staged = await super().stage(counted())
        return StagedFile(handle=staged.handle, size=size, sha256=staged.sha256)


@dataclass(slots=True)
class Step:
    """So many requests at once, for a while."""

    width: int
    is_paced: bool = False  # the provider has refused some, and sets the pace
    seconds: float = 0.0


@dataclass(slots=True)
class Weights:
    """What the Files of one feed weigh, all that were fetched together."""

    files: int = 0
    bytes: int = 0  # decoded
    stored_bytes: int = 0  # as they would lie in the lake
    absent: int = 0  # optional, and not there


@dataclass(frozen=True, slots=True)
class _Known:
    """A File that was had from its address, and can be asked for again."""

    candidate: Candidate
    url: str
    validators: Conditional


@dataclass(kw_only=True)
class Measuring:
    """Fetches Files of one Source, in steps of 1, 2, 4, 8 … *most* requests at once.

    A step ends with the first request that the provider refuses because it is asked too often.
    Then no more are tried at once; what is left shows which pace it lets us have, unless it goes
    on refusing.
    """

    client: Client
    recorder: RecordingFetcher
    ration: Ration
    most: int
    complain: Callable[[str], None]
    progress: Callable[[str], None]
    steps: list[Step] = field(default_factory=list)
    weights: dict[str, Weights] = field(default_factory=dict)
    failed: Counter[str] = field(default_factory=Counter)  # Files that could not be had, by feed
    _known: dict[str, list[_Known]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._store = Nowhere()
        self._fetch = FileFetch(client=self.client, store=self._store)

    async def look_at_inline(self, found: Announced) -> None:
        """See what is kept of Files that came with the lists. Takes no request."""
        for feed in sorted(found.inline):
            for candidate in found.lots[feed].drawn[:INLINE]:
                await self._try(candidate)

    async def take_steps(self, candidates: Sequence[Candidate]) -> None:
        """Fetch *candidates*, in steps.

        Raises:
            StopProcessing: the Source, or its daily quota, wants no more requests.
            RunError: the Source says that nothing can go on.
        """
        start = 0
        for width, count in planned_steps(len(candidates), self.most):
            if self._refusals:
                break
            await self._take(Step(width), candidates[start : start + count])
            start += count
        if self._refusals and candidates[start:]:
            width = min(self.most, PACED)
            await self._take(Step(width, is_paced=True), candidates[start:])

    @property
    def staged(self) -> int:
        """How many bodies are held at this moment."""
        return len(self._store.staged)

    @property
    def _is_unwelcome(self) -> bool:
        if not (self.steps and self.steps[-1].is_paced):
            return False
        number = len(self.steps)
        paced = [each for each in self.recorder.exchanges if each.errand.step == number]
        known = [each.is_refused for each in paced if each.status is not None]
        return sum(known) > MOST_REFUSALS or sum(known[-MOST_IN_A_ROW:]) == MOST_IN_A_ROW

    @property
    def _refusals(self) -> int:
        return sum(each.is_refused for each in self.recorder.exchanges)

    async def _take(self, step: Step, candidates: Sequence[Candidate]) -> None:
        pace = ", as fast as it lets us" if step.is_paced else ""
        self.progress(f"{len(candidates)} files, {step.width} at once{pace}")
        self.steps.append(step)
        waiting = iter(candidates)
        began = time.monotonic()
        try:
            async with create_task_group() as tg:
                for _ in range(step.width):
                    tg.start_soon(self._work_through, waiting, step, tg.cancel_scope)
        except ExceptionGroup as exc:
            raise cause_of(exc) from exc
        finally:
            step.seconds = time.monotonic() - began

    async def _work_through(
        self, waiting: Iterator[Candidate], step: Step, scope: CancelScope
    ) -> None:
        number = len(self.steps)
        for candidate in waiting:
            try:
                with on_errand(_errand(Kind.FILE, candidate, step=number)):
                    await self._try(candidate)
            except RationUsedUpError:
                return
            if self._is_unwelcome:
                scope.cancel()  # who waits for a turn would wait long by now
            if self._refusals and not step.is_paced:
                return

    async def _try(self, candidate: Candidate) -> None:
        """Fetch *candidate*; that it cannot be had is written down."""
        ask = Ask(candidate.file, Reason.NEW, False)
        try:
            got = await self._fetch.fetch(ask, None, cast(Slot, OWN_PLACE))
        except (StopProcessing, RunError):
            raise
        except Exception as exc:
            self.failed[candidate.feed] += 1
            self.complain(self.client.redactor.redact(describe(exc)[1]))
        else:
            await self._weigh(candidate, got)

    async def _weigh(self, candidate: Candidate, got: Got) -> None:
        weights = self.weights.setdefault(candidate.feed, Weights())
        if got.new is None:
            weights.absent += 1
            return
        weights.files += 1
        weights.bytes += got.new.body.size
        weights.stored_bytes += got.new.staged.size
        await self._store.discard(got.new.staged)
        known = self._known.setdefault(candidate.feed, [])
        if candidate.file.url is not None and len(known) < AGAIN:
            validators = got.checked.etag, got.checked.last_modified
            known.append(_Known(candidate, candidate.file.url, validators))

    # Again

    async def ask_again(self, found: Announced) -> None:
        """Ask for some lists and Files with their validators, and with other codings.

        Raises:
            StopProcessing, RunError: see `take_steps`.
        """
        if self._is_unwelcome:
            return
        self.progress("some of them again, conditionally and with other codings")
        try:
            for each in found.validators[:AGAIN]:
                conditional = each.etag, each.last_modified
                await self._ask(each.url, None, conditional, Errand(Kind.AGAIN))
            for known in (each for some in self._known.values() for each in some):
                if any(known.validators):
                    errand = _errand(Kind.AGAIN, known.candidate)
                    file = known.candidate.file
                    await self._ask(known.url, file, known.validators, errand)
            for first in (some[0] for some in self._known.values() if some):
                for coding in (IDENTITY, OTHER_CODINGS):
                    errand = _errand(Kind.CODING, first.candidate, accepts=coding)
                    await self._ask(first.url, first.candidate.file, None, errand)
        except RationUsedUpError:
            return

    async def _ask(
        self, url: str, file: FileResource | None, conditional: Conditional | None, errand: Errand
    ) -> None:
        async def look_away(answer: Answer) -> None:
            async for _ in answer.chunks():
                pass

        options = file.http_options if file else None
        try:
            with on_errand(errand):
                await self.client.receive(
                    url, consume=look_away, conditional=conditional, options=options
                )
        except (StopProcessing, RunError):
            raise
        except Exception as exc:
            self.complain(self.client.redactor.redact(describe(exc)[1]))


def _errand(
    kind: Kind, candidate: Candidate, *, step: int = 0, accepts: str | None = None
) -> Errand:
    subject = id(candidate.file)
    return Errand(kind, feed=candidate.feed, step=step, accepts=accepts, subject=subject)


def planned_steps(files: int, most: int) -> list[tuple[int, int]]:
    """How many at once and how many Files in each step, for so many *files* and *most* at once.

    Where there are too few files for all steps, the last ones are left out; what is left over
    makes every step longer.
    """
    widths = [1]
    while widths[-1] * 2 <= most:
        widths.append(widths[-1] * 2)
    if widths[-1] < most:
        widths.append(most)
    steps: list[tuple[int, int]] = []
    left = files
    for width in widths:
        count = max(FEWEST, PER_PLACE * width)
        if count > left:
            break
        steps.append((width, count))
        left -= count
    if not steps:
        return [(1, files)] if files else []
    longer = files / (files - left)
    scaled = [(width, int(count * longer)) for width, count in steps]
    width, count = scaled[-1]
    scaled[-1] = width, count + files - sum(each for _, each in scaled)
    return scaled
