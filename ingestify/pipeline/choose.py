"""Choose: which of the Selectors that a Source offers its plans, and a caller, want."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from ingestify.errors import ConfigError
from ingestify.model.identity import Value
from ingestify.model.plan import PlanScope
from ingestify.model.resource import DataSpecVersions
from ingestify.model.run import SelectorStatus
from ingestify.model.selector import Selector, SelectorPattern, no_such_name
from ingestify.pipeline.selector_run import SelectorRun
from ingestify.policy import FetchPolicy
from ingestify.ports import Source
from ingestify.redaction import Redactor


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A plan that is ready to be run."""

    scope: PlanScope
    source: Source
    policy: FetchPolicy
    identifier_keys: Collection[str] = ()  # that the configuration knows

    @property
    def data_spec_versions(self) -> DataSpecVersions:
        """What it names, or else what its Source offers."""
        if self.scope.data_spec_versions:
            return self.scope.data_spec_versions
        offered = self.source.data_spec_versions.get(self.scope.dataset_type, {})
        return DataSpecVersions({feed: each for feed, each in offered.items() if each})


@dataclass(frozen=True, slots=True)
class Narrowing:
    """What a caller wants of the plans' Selectors: exact values by name; none admits all.

    With *as_text*, 11 and "11" are the same for values that a Selector has, and for others
    *key_types* tell which one is meant; an integer is, where nothing does. *hints* leave out
    Selectors that have another value, as text, and narrow those without one where their Source
    declares the name; elsewhere they may be about something else, and say nothing.
    """

    values: Mapping[str, Sequence[Value]] = field(default_factory=dict)
    as_text: bool = False
    key_types: Callable[[str, str, str], str | None] = lambda provider, dataset_type, name: None
    hints: Mapping[str, Sequence[Value]] = field(default_factory=dict)

    def apply(self, selector: Selector, source: Source, dataset_type: str) -> Iterator[Selector]:
        """*selector* of *source* narrowed, or nothing where it is not wanted."""
        provider, declared = source.provider, source.selector_keys or ()
        pattern = SelectorPattern(
            {
                name: tuple(
                    self._typed(value, selector.get(name), provider, dataset_type, name)
                    for value in values
                )
                for name, values in self.values.items()
            }
        )
        hinted = SelectorPattern({name: tuple(values) for name, values in self.hints.items()})
        if pattern.admits(selector) and hinted.admits_as_text(selector):
            more = {name: each for name, each in hinted.exact.items() if name in declared}
            yield from SelectorPattern({**more, **pattern.exact}).expand(selector)

    def _typed(
        self, value: Value, present: Value | None, provider: str, dataset_type: str, name: str
    ) -> Value:
        if not self.as_text or not isinstance(value, str):
            return value
        if isinstance(present, str):
            return value
        declared = self.key_types(provider, dataset_type, name)
        is_integer = value.removeprefix("-").isdecimal() and value.isascii()
        if not is_integer or (present is None and declared == "str"):
            return value
        try:
            return int(value)
        except ValueError:
            text = f"{name}: an integer of {len(value)} digits is too large to select something"
            raise ConfigError(text) from None

    def __str__(self) -> str:
        return ", ".join(f"{name}={'|'.join(map(str, v))}" for name, v in self.values.items())


class Choosing:
    """What the plans on one dataset type of a Source want of the Selectors that it offers.

    A name that no Selector can have would select more instead of less, since nothing has a value
    that it could exclude. `ports.Source` says which names Selectors may have.

    Every exact value has to be had by some Selector that its pattern admits. Not every
    combination has: two lists, of competitions and of seasons, want what there is of both.
    """

    def __init__(
        self,
        plans: Sequence[Plan],
        offered: Sequence[Selector],
        narrowing: Narrowing,
        redactor: Redactor,
    ) -> None:
        self.failed: list[SelectorRun] = []
        self.warnings: list[str] = []
        self.wanted: dict[str, set[str]] = {}  # by bucket, if it is known: the keys of all wanted
        self.names = _narrowing_names(plans, offered)  # that a caller may use; none: any
        self._offered = offered
        self._narrowing = narrowing
        self._redactor = redactor
        self._chosen: dict[tuple[str, str], SelectorRun] = {}
        self._unclear: set[str] = set()  # buckets where a plan does not get what it names
        self._source = plans[0].source.name
        for plan in plans:
            for pattern in plan.scope.patterns:
                self._choose(plan, pattern)
        for bucket in self._unclear:  # it may be a mistake: then something else is wanted
            del self.wanted[bucket]
        if narrowing.values and not self._chosen:
            self.warnings.append(f"{self._source}: nothing of what its plans want has {narrowing}")

    @property
    def selector_runs(self) -> list[SelectorRun]:
        """Those to be made, with those that have failed already."""
        return [*self.failed, *self._chosen.values()]

    @property
    def chosen(self) -> Iterator[Selector]:
        """The Selectors to look at."""
        return (each.selector for each in self._chosen.values())

    def knows(self, name: str) -> bool:
        """Whether a Selector may have *name*."""
        return not self.names or name in self.names

    def _choose(self, plan: Plan, pattern: SelectorPattern) -> None:
        scope = plan.scope
        keys = self.wanted.setdefault(scope.bucket, set())
        if self._refuses_names(plan, pattern):
            return
        wanted = [
            extended
            for selector in self._offered
            if pattern.admits(selector)
            for extended in pattern.expand(selector)
        ]
        keys.update(selector.key for selector in wanted)
        self._look_for_values(plan, pattern, wanted)
        if not all(map(self.knows, self._narrowing.values)):
            return
        for selector in wanted:
            for each in self._narrowing.apply(selector, plan.source, scope.dataset_type):
                key = (scope.bucket, each.key)
                present = self._chosen.get(key)
                self._chosen[key] = (
                    _joined(present, plan) if present else selector_run(plan, each, self._redactor)
                )

    def _refuses_names(self, plan: Plan, pattern: SelectorPattern) -> bool:
        present = {name for selector in self._offered for name in selector}
        may_be = selector_names(plan.source, plan.identifier_keys, present)
        if not self._offered or (may_be is None and not pattern.comparisons):
            return False
        known = present if may_be is None else may_be
        for name in (*pattern.exact, *pattern.comparisons):
            if may_be is not None and name not in may_be:
                self._fail(plan, f"{pattern}: {no_such_name(name, known)}")
                return True
            if name in pattern.comparisons and name not in present:
                self._fail(plan, f"{pattern}: no Selector has a {name} that could be compared")
                return True
        return False

    def _look_for_values(
        self, plan: Plan, pattern: SelectorPattern, wanted: Sequence[Selector]
    ) -> None:
        if not wanted:
            text = f"{pattern} matches nothing of the {len(self._offered)} it offers"
            if pattern.exact and any(map(pattern.admits_as_text, self._offered)):
                text += "; it would as text: write numbers without quotes, or text with them"
            if pattern.exact and not pattern.comparisons:
                self._fail(plan, text)
            else:
                self.warnings.append(f"{self._source}: {text}")
            return
        for name, values in pattern.exact.items():
            present = {(type(each[name]), each[name]) for each in wanted}
            missing = [value for value in values if (type(value), value) not in present]
            if missing:
                said = "|".join(map(str, missing))
                self._fail(plan, f"nothing that it offers and {pattern} admits has {name}={said}")

    def _fail(self, plan: Plan, text: str) -> None:
        text = f"{self._source}: {text}"
        self._unclear.add(plan.scope.bucket)
        self.failed.append(failed(plan, Selector(), "selector", text, self._redactor))


def selector_names(
    source: Source, identifier_keys: Collection[str], present: Collection[str]
) -> frozenset[str] | None:
    """The names that Selectors of *source* may have, or None where nobody can tell.

    *present* are the names that those have which it offers.
    """
    if source.selector_keys is None and not present:
        return None
    return frozenset([*(source.selector_keys or ()), *identifier_keys, *present])


def _narrowing_names(plans: Sequence[Plan], offered: Sequence[Selector]) -> frozenset[str]:
    """The names that a caller may narrow by: those of Selectors, and those that plans use."""
    names = {name for selector in offered for name in selector}
    for plan in plans:
        names.update(plan.source.selector_keys or (), plan.identifier_keys)
        for pattern in plan.scope.patterns:
            names.update(pattern.exact, pattern.comparisons)
    return frozenset(names)


def selector_run(plan: Plan, selector: Selector, redactor: Redactor) -> SelectorRun:
    """The SelectorRun that *plan* wants for *selector*."""
    made = SelectorRun(
        source=plan.source.name,
        provider=plan.source.provider,
        dataset_type=plan.scope.dataset_type,
        bucket=plan.scope.bucket,
        selector=selector,
        data_spec_versions=plan.data_spec_versions,
        policies=[plan.policy],
        fingerprint="",
        redactor=redactor,
    )
    made.fingerprint = _fingerprint(plan.source, made)
    return made


def failed(plan: Plan, selector: Selector, code: str, text: str, redactor: Redactor) -> SelectorRun:
    """A SelectorRun that has failed before it began."""
    made = selector_run(plan, selector, redactor)
    failure = made.failure(code, text)
    made.status = SelectorStatus.FAILED
    made.error = failure.message
    made.failures.append(failure)
    return made


def merged(selector_runs: Sequence[SelectorRun]) -> list[SelectorRun]:
    """*selector_runs*, of which those that have failed for one Selector are one."""
    kept: dict[object, SelectorRun] = {}
    for each in selector_runs:
        place = each.scope if each.status is SelectorStatus.FAILED else id(each)
        present = kept.setdefault(place, each)
        if present is not each:
            present.failures.extend(each.failures)
            present.error = f"{present.error}; {each.error}"
    return list(kept.values())


def _joined(present: SelectorRun, plan: Plan) -> SelectorRun:
    """*present*, wanting also what *plan* wants."""
    present.data_spec_versions = present.data_spec_versions.union(plan.data_spec_versions)
    if all(plan.policy.fingerprint != known.fingerprint for known in present.policies):
        present.policies = [*present.policies, plan.policy]
    present.fingerprint = _fingerprint(plan.source, present)
    return present


def _fingerprint(source: Source, made: SelectorRun) -> str:
    """What must be equal for a list that has not changed to mean that nothing has."""
    kind = f"{type(source).__module__}.{type(source).__qualname__} {source.version}"
    versions = sorted((k, sorted(v)) for k, v in made.data_spec_versions.items())
    policies = sorted(policy.fingerprint for policy in made.policies)
    return _digest(f"{kind}\n{source.base_url}\n{versions}\n{policies}")


@lru_cache(maxsize=64)
def _digest(text: str) -> str:
    """Nearly always the same for all of a plan: thousands of SelectorRuns share one."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]
