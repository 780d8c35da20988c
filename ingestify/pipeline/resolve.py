"""Resolve: from what plans ask for to the Selectors that their Sources have now."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from anyio import create_task_group

from ingestify.client import Client, ClientHttp
from ingestify.errors import ConfigError, RecordError, RunError, SourceError, StopProcessing
from ingestify.model.run import SelectorStatus
from ingestify.model.selector import Selector, no_such_name
from ingestify.pipeline.choose import Choosing, Narrowing, Plan, failed, merged
from ingestify.pipeline.discover import describe
from ingestify.pipeline.only import Only
from ingestify.pipeline.plan import check_text
from ingestify.pipeline.selector_run import MOST_FAILURES, SelectorRun
from ingestify.ports import Catalog, Http, Source
from ingestify.redaction import Redactor
from ingestify.strays import StrayIsError

log = logging.getLogger("ingestify.resolve")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Every Selector that plans want of one dataset type, whatever a caller narrows it to."""

    bucket: str
    source: str
    dataset_type: str
    selector_keys: set[str]


@dataclass(slots=True)
class Resolution:
    """The SelectorRuns to be made for each Source, and what people should know about them."""

    selector_runs: dict[Source, list[SelectorRun]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    stopped: dict[Source, StopProcessing] = field(default_factory=dict)
    misses: bool = False  # a value that was asked for and is nowhere, though others are
    wanted: list[Wanted] = field(default_factory=list)

    async def settle(self, catalog: Catalog, *, run_id: int) -> None:
        """See to it that what is wanted no longer does not count as failed for ever."""
        for each in self.wanted:
            await catalog.settle_failures(
                bucket=each.bucket,
                source=each.source,
                dataset_type=each.dataset_type,
                selector_keys=sorted(each.selector_keys),
                run_id=run_id,
            )

    def narrow_to(self, only: Only) -> None:
        """Keep the SelectorRuns that *only* is about. Those that have failed tell so."""
        for source, selector_runs in self.selector_runs.items():
            kept = []
            for each in selector_runs:
                place = (each.bucket, each.provider, each.dataset_type)
                if each.status is SelectorStatus.FAILED or only.looks_at(place, each.selector):
                    each.only = None if only.is_whole(place, each.selector) else only
                    kept.append(each)
            self.selector_runs[source] = kept


async def resolve(
    plans: Sequence[Plan], clients: Mapping[Source, Client], narrowing: Narrowing
) -> Resolution:
    """Ask every Source what it has, once for each dataset type, and choose what *plans* want.

    Equal Selectors of several plans become one SelectorRun that wants what any of them wants.
    What cannot be resolved becomes a SelectorRun that has failed.

    Raises:
        ConfigError, RunError: a Source says that it cannot be used at all.
        ConfigError: no Selector has a name that *narrowing* has.
    """
    groups: dict[tuple[Source, str], list[Plan]] = defaultdict(list)
    work = _Resolving(clients, narrowing)
    for plan in plans:
        groups[plan.source, plan.scope.dataset_type].append(plan)
        work.resolution.selector_runs.setdefault(plan.source, [])
    async with create_task_group() as tg:
        for (source, dataset_type), group in groups.items():
            tg.start_soon(work.look_at, source, dataset_type, group)
    for (source, dataset_type), group in groups.items():
        if (source, dataset_type) not in work.looked_at:
            work.fail(group, SourceError.code, "it was cut short, and nobody knows by what")
    if len(work.choices) == len(groups):  # else nobody knows what there is
        _check_names(narrowing, work.choices)
        _look_for_values(narrowing, work.choices, work.resolution)
    return work.resolution


@dataclass(slots=True)
class Unread:
    """Records that might have been Selectors: how many, and why the first of them are refused."""

    count: int = 0
    reasons: list[str] = field(default_factory=list)

    def add(self, reason: str) -> None:
        """One more."""
        self.count += 1
        if len(self.reasons) < MOST_FAILURES:
            self.reasons.append(reason)


@dataclass(slots=True)
class _Resolving:
    clients: Mapping[Source, Client]
    narrowing: Narrowing
    resolution: Resolution = field(default_factory=Resolution)
    choices: list[Choosing] = field(default_factory=list)
    looked_at: set[tuple[Source, str]] = field(default_factory=set)

    async def look_at(self, source: Source, dataset_type: str, group: Sequence[Plan]) -> None:
        """Ask *source* what it has, and choose what the plans of *group* want of that."""
        redactor = self.clients[source].redactor
        unread = Unread()
        http = ClientHttp(self.clients[source], on_refused=lambda _, reason: unread.add(reason))
        try:
            with StrayIsError("discover_selectors"):
                offered = await _offered(source, dataset_type, http)
        except (ConfigError, RunError, StopProcessing) as exc:
            redactor.clean(exc)
            if not isinstance(exc, StopProcessing):
                raise
            self.resolution.stopped[source] = exc
        except Exception as exc:
            if log.isEnabledFor(logging.DEBUG):
                log.debug("the Selectors of %s: %s", source.name, redactor.traceback(exc))
            self.fail(group, *describe(exc))
        else:
            unusable = [
                *_unread(group[0], unread, redactor),
                *_refused(group[0], offered, redactor),
            ]
            self._choose(group, offered, unusable, redactor)
        self.looked_at.add((source, dataset_type))

    def fail(self, group: Sequence[Plan], code: str, message: str) -> None:
        """Nobody knows what the Source of *group* has."""
        source = group[0].source
        redactor = self.clients[source].redactor
        text = f"{source.name} could not say what it has: {redactor.redact(message)}"
        self.resolution.selector_runs[source].extend(
            merged([failed(plan, Selector(), code, text, redactor) for plan in group])
        )

    def _choose(
        self,
        group: Sequence[Plan],
        offered: Sequence[Selector],
        unusable: Sequence[SelectorRun],
        redactor: Redactor,
    ) -> None:
        choice = Choosing(group, offered, self.narrowing, redactor)
        source, dataset_type = group[0].source, group[0].scope.dataset_type
        self.choices.append(choice)
        self.resolution.selector_runs[source].extend(merged([*unusable, *choice.selector_runs]))
        self.resolution.warnings.extend(choice.warnings)
        if not unusable:  # else some of what is wanted may be among it
            self.resolution.wanted.extend(
                Wanted(
                    bucket=bucket, source=source.name, dataset_type=dataset_type, selector_keys=keys
                )
                for bucket, keys in choice.wanted.items()
            )


def _check_names(narrowing: Narrowing, choices: Sequence[Choosing]) -> None:
    known = {name for choice in choices for name in choice.names}
    for name in narrowing.values:
        if choices and not any(choice.knows(name) for choice in choices):
            raise ConfigError(no_such_name(name, known))


def _look_for_values(
    narrowing: Narrowing, choices: Sequence[Choosing], resolution: Resolution
) -> None:
    """Tell which values nothing has, unless nothing was chosen at all, which tells itself."""
    chosen = [selector for choice in choices for selector in choice.chosen]
    for name, values in narrowing.values.items() if chosen else ():
        present = {str(selector.get(name)) for selector in chosen}
        if missing := [str(value) for value in values if str(value) not in present]:
            resolution.warnings.append(f"nothing has {name}={'|'.join(missing)}")
            resolution.misses = True


async def _offered(source: Source, dataset_type: str, http: Http) -> list[Selector]:
    async with aclosing(source.discover_selectors(dataset_type, http=http)) as selectors:  # type: ignore[type-var]
        return [selector async for selector in selectors]


def _refused(plan: Plan, offered: list[Selector], redactor: Redactor) -> Iterator[SelectorRun]:
    """Take out of *offered* what is no Selector, or could not be written down."""
    for selector in list(offered):
        try:
            is_ours = isinstance(selector, Selector)
            if not is_ours:
                raise RecordError(f"not a Selector: {type(selector).__name__}")
            for what, said in (("name", selector.name), ("token", selector.token)):
                if said is not None:
                    check_text(f"the {what} of {selector}", said)
            if redactor.holds_credential(selector.key):
                raise RecordError("a Selector with a credential in it cannot be kept")
            selector.name = redactor.conceal(selector.name)
            selector.token = redactor.conceal(selector.token)
        except RecordError as exc:
            offered.remove(selector)
            known = Selector(redactor.conceal(dict(selector)) if is_ours else None)
            yield failed(plan, known, exc.code, str(exc), redactor)


def _unread(plan: Plan, unread: Unread, redactor: Redactor) -> Iterator[SelectorRun]:
    """What tells of the records that might have been Selectors."""
    if unread.count:
        text = f"{plan.source.name}: {unread.count} of its Selectors cannot be read"
        selector_run = failed(plan, Selector(), RecordError.code, unread.reasons[0], redactor)
        selector_run.error = text
        for reason in unread.reasons[1:]:
            selector_run.failures.append(selector_run.failure(RecordError.code, reason))
        yield selector_run
