"""Resolve: from what plans ask for to the Selectors that their Sources have now."""

from __future__ import annotations

import hashlib
import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from anyio import create_task_group

from ingestify.client import Client, ClientHttp
from ingestify.errors import ConfigError, RecordError, RunError, StopProcessing
from ingestify.model.identity import Value
from ingestify.model.plan import PlanScope
from ingestify.model.resource import DataSpecVersions
from ingestify.model.run import SelectorStatus
from ingestify.model.selector import Selector, SelectorPattern
from ingestify.pipeline.discover import describe
from ingestify.pipeline.plan import check_text
from ingestify.pipeline.selector_run import SelectorRun
from ingestify.policy import FetchPolicy
from ingestify.ports import Http, Source

log = logging.getLogger("ingestify.resolve")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A plan that is ready to be run."""

    scope: PlanScope
    source: Source
    policy: FetchPolicy

    @property
    def data_spec_versions(self) -> DataSpecVersions:
        """What it names, or else what its Source offers."""
        if self.scope.data_spec_versions:
            return self.scope.data_spec_versions
        offered = self.source.data_spec_versions.get(self.scope.dataset_type, {})
        return DataSpecVersions(offered)


@dataclass(frozen=True, slots=True)
class Narrowing:
    """What a caller wants of the plans' Selectors: exact values by name; none admits all.

    With *as_text*, 11 and "11" are the same for values that a Selector has, and for others
    *key_types* tell which one is meant; an integer is, where nothing does.
    """

    values: Mapping[str, Sequence[Value]] = field(default_factory=dict)
    as_text: bool = False
    key_types: Callable[[str, str, str], str | None] = lambda provider, dataset_type, name: None

    def apply(self, selector: Selector, provider: str, dataset_type: str) -> Iterator[Selector]:
        """*selector* narrowed, or nothing where it is not wanted."""
        pattern = SelectorPattern(
            {
                name: tuple(
                    self._typed(value, selector.get(name), provider, dataset_type, name)
                    for value in values
                )
                for name, values in self.values.items()
            }
        )
        if pattern.admits(selector):
            yield from pattern.expand(selector)

    def _typed(
        self, value: Value, present: Value | None, provider: str, dataset_type: str, name: str
    ) -> Value:
        if not self.as_text or not isinstance(value, str):
            return value
        if isinstance(present, str):
            return value
        declared = self.key_types(provider, dataset_type, name)
        is_integer = value.removeprefix("-").isdecimal() and value.isascii()
        return int(value) if is_integer and (present is not None or declared != "str") else value


@dataclass(slots=True)
class Resolution:
    """The SelectorRuns to be made for each Source, and what people should know about them."""

    selector_runs: dict[Source, list[SelectorRun]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    stopped: dict[Source, StopProcessing] = field(default_factory=dict)


async def resolve(
    plans: Sequence[Plan], clients: Mapping[Source, Client], narrowing: Narrowing
) -> Resolution:
    """Ask every Source what it has, once for each dataset type, and choose what *plans* want.

    Equal Selectors of several plans become one SelectorRun that wants what any of them wants.
    What cannot be resolved becomes a SelectorRun that has failed.

    Raises:
        ConfigError, RunError: a Source says that it cannot be used at all.
    """
    resolution = Resolution()
    groups: dict[tuple[Source, str], list[Plan]] = defaultdict(list)
    for plan in plans:
        groups[plan.source, plan.scope.dataset_type].append(plan)
        resolution.selector_runs.setdefault(plan.source, [])

    async def one(source: Source, dataset_type: str, group: list[Plan]) -> None:
        client, found = clients[source], resolution.selector_runs[source]
        try:
            offered = await _offered(source, dataset_type, ClientHttp(client))
        except (ConfigError, RunError, StopProcessing) as exc:
            client.redactor.clean(exc)
            if not isinstance(exc, StopProcessing):
                raise
            resolution.stopped[source] = exc
        except Exception as exc:
            log.debug("the Selectors of %s", source.name, exc_info=exc)
            code, message = describe(exc)
            text = f"{source.name} could not say what it has: {client.redactor.redact(message)}"
            found.extend(_failed(plan, Selector(), code, text) for plan in group)
        else:
            found.extend(_refused(group[0], offered))
            found.extend(_choose(group, offered, narrowing, resolution.warnings))
        for selector_run in found:
            selector_run.redact = client.redactor.redact

    async with create_task_group() as tg:
        for (source, dataset_type), group in groups.items():
            tg.start_soon(one, source, dataset_type, group)
    return resolution


async def _offered(source: Source, dataset_type: str, http: Http) -> list[Selector]:
    async with aclosing(source.discover_selectors(dataset_type, http=http)) as selectors:  # type: ignore[type-var]
        return [selector async for selector in selectors]


def _refused(plan: Plan, offered: list[Selector]) -> Iterator[SelectorRun]:
    """Take out of *offered* what is no Selector, or could not be written down."""
    for selector in list(offered):
        try:
            if not isinstance(selector, Selector):
                raise RecordError(f"not a Selector: {type(selector).__name__}")
            for what, said in (("name", selector.name), ("token", selector.token)):
                if said is not None:
                    check_text(f"the {what} of {selector}", said)
        except RecordError as exc:
            offered.remove(selector)
            known = Selector(dict(selector)) if isinstance(selector, Selector) else Selector()
            yield _failed(plan, known, exc.code, str(exc))


def _choose(
    plans: Sequence[Plan],
    offered: Sequence[Selector],
    narrowing: Narrowing,
    warnings: list[str],
) -> Iterator[SelectorRun]:
    chosen: dict[tuple[str, str], SelectorRun] = {}
    for plan in plans:
        scope = plan.scope
        for pattern in scope.patterns:
            wanted = [
                extended
                for selector in offered
                if pattern.admits(selector)
                for extended in pattern.expand(selector)
            ]
            if not wanted:
                yield from _nothing(plan, pattern, offered, warnings)
            for selector in wanted:
                narrow = narrowing.apply(selector, plan.source.provider, scope.dataset_type)
                for each in narrow:
                    key = (scope.bucket, each.key)
                    present = chosen.get(key)
                    chosen[key] = _joined(present, plan) if present else _selector_run(plan, each)
    if narrowing.values and not chosen:
        asked = ", ".join(f"{name}={'|'.join(map(str, v))}" for name, v in narrowing.values.items())
        warnings.append(f"{plans[0].source.name}: nothing of what its plans want has {asked}")
    yield from chosen.values()


def _nothing(
    plan: Plan, pattern: SelectorPattern, offered: Sequence[Selector], warnings: list[str]
) -> Iterator[SelectorRun]:
    text = f"{plan.source.name}: {pattern} matches nothing of the {len(offered)} it offers"
    if pattern.exact and any(pattern.admits_as_text(selector) for selector in offered):
        text += "; it would as text: write numbers without quotes, or text with them"
    if pattern.exact and not pattern.comparisons:
        yield _failed(plan, Selector(), "selector", text)
    else:
        warnings.append(text)


def _selector_run(plan: Plan, selector: Selector) -> SelectorRun:
    selector_run = SelectorRun(
        source=plan.source.name,
        provider=plan.source.provider,
        dataset_type=plan.scope.dataset_type,
        bucket=plan.scope.bucket,
        selector=selector,
        data_spec_versions=plan.data_spec_versions,
        policies=[plan.policy],
        fingerprint="",
    )
    selector_run.fingerprint = _fingerprint(plan.source, selector_run)
    return selector_run


def _joined(selector_run: SelectorRun, plan: Plan) -> SelectorRun:
    """*selector_run*, wanting also what *plan* wants."""
    versions = selector_run.data_spec_versions.union(plan.data_spec_versions)
    selector_run.data_spec_versions = versions
    if all(plan.policy.fingerprint != known.fingerprint for known in selector_run.policies):
        selector_run.policies = [*selector_run.policies, plan.policy]
    selector_run.fingerprint = _fingerprint(plan.source, selector_run)
    return selector_run


def _failed(plan: Plan, selector: Selector, code: str, text: str) -> SelectorRun:
    selector_run = _selector_run(plan, selector)
    selector_run.status = SelectorStatus.FAILED
    selector_run.error = text
    selector_run.failures.append(selector_run.failure(code, text))
    return selector_run


def _fingerprint(source: Source, selector_run: SelectorRun) -> str:
    """What must be equal for a list that has not changed to mean that nothing has."""
    kind = f"{type(source).__module__}.{type(source).__qualname__} {source.version}"
    versions = sorted((k, sorted(v)) for k, v in selector_run.data_spec_versions.items())
    policies = sorted(policy.fingerprint for policy in selector_run.policies)
    text = f"{kind}\n{source.base_url}\n{versions}\n{policies}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]
