"""Figures: what the recorded exchanges say of a provider, and how long a full sync would take.

Plain functions from values to values.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from benchmarks.provider.announced import Announced
from benchmarks.provider.measuring import Step, Weights
from benchmarks.provider.recording import IDENTITY, OTHER_CODINGS, Exchange, Kind
from ingestify.model.http import Limits

GOOD_ENOUGH = 0.9  # of the best rate
LISTS_AT_ONCE = 8  # that a run reads of one Source
DAY = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Milliseconds from sending a request to the last byte of its answer."""

    p50: float
    p90: float
    p99: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Latency | None:
        """Those of *seconds*, each of which was measured; None where there are none."""
        if not seconds:
            return None
        ordered = sorted(seconds)

        def rank(share: float) -> float:
            return round(ordered[math.ceil(share * len(ordered)) - 1] * 1000, 1)

        return cls(p50=rank(0.5), p90=rank(0.9), p99=rank(0.99))


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """What was seen of one kind of address."""

    endpoint: str
    kind: str
    requests: int
    latency: Latency | None  # of answers with a body
    first_byte_ms: float | None  # median
    mean_bytes: float | None  # of a body, on the wire, as a run asks for it
    answers: Mapping[str, int]  # by status; "none" where there was no answer
    compression: str | None  # what it sends to whom accepts gzip; None: nobody knows
    unasked: str | None  # what it sends to whom accepts none
    others: str | None  # what it sends to whom accepts what a run does not ask for
    plain_share: float | None  # of the plain size that is sent to whom accepts gzip
    validators: Sequence[str]
    asked_again: int
    not_modified: int  # of these


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFigures:
    """What came of so many requests at once."""

    width: int
    is_paced: bool  # by the provider's refusals: rates are those of its second half
    in_flight: int  # at most, as it turned out
    requests: int
    answers_per_second: float
    bytes_per_second: float
    latency: Latency | None
    refused: int
    seconds: float
    is_useful: bool = False  # the least in flight that is as good as the best, or nearly so
    useful_rate: float = 0.0  # answers a second of all steps with as many in flight


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedEstimate:
    """What a full sync would bring of one feed."""

    feed: str
    files: int
    sampled: int
    failed: int
    received_bytes: float | None  # None: none was had
    stored_bytes: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a full sync into an empty lake would take."""

    is_exact: bool  # the numbers of Files and lists are those that were announced
    requests: int
    received_bytes: float
    stored_bytes: float
    requests_per_second: float | None
    seconds: float | None  # None: nothing is known about the rate
    bounded_by: str  # what makes it take as long as that
    feeds: Sequence[FeedEstimate]


def endpoints_of(exchanges: Sequence[Exchange]) -> list[Endpoint]:
    """Every kind of address, in the order in which they were first asked."""
    kinds: dict[str, str] = {}
    by_endpoint: dict[str, list[Exchange]] = defaultdict(list)
    for each in exchanges:
        kinds.setdefault(each.endpoint, each.errand.kind)
        by_endpoint[each.endpoint].append(each)
    return [_endpoint(name, kinds[name], some) for name, some in by_endpoint.items()]


def _endpoint(name: str, kind: str, exchanges: Sequence[Exchange]) -> Endpoint:
    usual = [each for each in exchanges if each.errand.accepts is None]
    good = [each for each in usual if each.is_good and not each.is_conditional]
    heads = sorted(each.head_seconds for each in good if each.head_seconds is not None)
    again = [each for each in exchanges if each.is_conditional and not each.is_refused]
    answers: dict[str, int] = defaultdict(int)
    for each in exchanges:
        answers[str(each.status or "none")] += 1
    plain = _coded(exchanges, IDENTITY)
    return Endpoint(
        endpoint=name,
        kind=kind,
        requests=len(exchanges),
        latency=Latency.of([each.seconds for each in good if each.seconds is not None]),
        first_byte_ms=round(heads[(len(heads) - 1) // 2] * 1000, 1) if heads else None,
        mean_bytes=fmean(each.received_bytes for each in good) if good else None,
        answers=dict(sorted(answers.items())),
        compression=_codings(good),
        unasked=_codings(plain),
        others=_codings(_coded(exchanges, OTHER_CODINGS)),
        plain_share=_plain_share(good, plain),
        validators=sorted({each for exchange in good for each in exchange.validators}),
        asked_again=len(again),
        not_modified=sum(each.status == 304 for each in again),
    )


def _coded(exchanges: Sequence[Exchange], accepts: str) -> list[Exchange]:
    return [each for each in exchanges if each.errand.accepts == accepts and each.is_good]


def _codings(exchanges: Sequence[Exchange]) -> str | None:
    found = {each.coding or "none" for each in exchanges}
    return ", ".join(sorted(found)) if found else None


def _plain_share(good: Sequence[Exchange], plain: Sequence[Exchange]) -> float | None:
    """Of a File that was asked for in both ways."""
    by_subject = {each.errand.subject: each for each in good}
    for each in plain:
        same = by_subject.get(each.errand.subject)
        if same is not None and each.received_bytes and not each.coding:
            return same.received_bytes / each.received_bytes
    return None


def steps_of(steps: Sequence[Step], exchanges: Sequence[Exchange]) -> list[StepFigures]:
    """Every step that was taken, the useful one marked."""
    figures = [
        _step(step, [each for each in exchanges if each.errand.step == number])
        for number, step in enumerate(steps, start=1)
    ]
    figures = [each for each in figures if each.requests]
    paced = [each for each in figures if each.is_paced]
    rates = _rates(paced or figures)
    best = max(rates.values(), default=0.0)
    good_enough = [level for level, rate in rates.items() if best and rate >= GOOD_ENOUGH * best]
    if good_enough:
        useful = min(good_enough)
        at = next(
            at
            for at, each in enumerate(figures)
            if each.in_flight == useful and each.is_paced == bool(paced)
        )
        figures[at] = replace(figures[at], is_useful=True, useful_rate=round(rates[useful], 2))
    return figures


def _rates(figures: Sequence[StepFigures]) -> dict[int, float]:
    """Answers a second by what was in flight: a run's own control may have held back steps that
    allowed more."""
    answers: dict[int, float] = defaultdict(float)
    seconds: dict[int, float] = defaultdict(float)
    for each in figures:
        answers[each.in_flight] += each.answers_per_second * each.seconds
        seconds[each.in_flight] += each.seconds
    return {level: answers[level] / seconds[level] for level in answers}


def _step(step: Step, exchanges: Sequence[Exchange]) -> StepFigures:
    good = [each for each in exchanges if each.is_good]
    seconds = max(step.seconds, 1e-6)
    if step.is_paced:  # its first half was spent on finding the pace
        ends = sorted(each.began + (each.seconds or 0.0) for each in good)
        middle = len(ends) // 2
        good = [each for each in good if each.began + (each.seconds or 0.0) > ends[middle]]
        seconds = max(ends[-1] - ends[middle], 1e-6) if good else seconds
    return StepFigures(
        width=step.width,
        is_paced=step.is_paced,
        in_flight=max((each.in_flight for each in exchanges), default=0),
        requests=len(exchanges),
        answers_per_second=round(len(good) / seconds, 2),
        bytes_per_second=round(sum(each.received_bytes for each in good) / seconds),
        latency=Latency.of([each.seconds for each in good if each.seconds is not None]),
        refused=sum(each.is_refused for each in exchanges),
        seconds=round(seconds, 3),
    )


def estimate_of(
    found: Announced,
    exchanges: Sequence[Exchange],
    steps: Sequence[StepFigures],
    weights: Mapping[str, Weights],
    failed: Mapping[str, int],
    limits: Limits,
) -> Estimate:
    """How long a full sync would take, and what it would bring."""
    lists = [each for each in exchanges if each.errand.kind is Kind.LIST and each.is_good]
    list_requests = round(len(lists) * found.factor)
    list_bytes = sum(each.received_bytes for each in lists) * found.factor
    feeds, file_requests = [], 0
    for feed in found.files:
        some = [each for each in exchanges if each.errand.feed == feed]
        asked = [each for each in some if each.errand.kind is Kind.FILE and not each.is_refused]
        known = weights.get(feed, Weights())
        tried = known.files + known.absent + failed.get(feed, 0)
        files = found.total(feed)
        if feed not in found.inline:
            file_requests += round(files * max(1.0, len(asked) / tried)) if tried else files
        received = sum(each.received_bytes for each in asked if each.is_good)
        feeds.append(
            FeedEstimate(
                feed=feed,
                files=files,
                sampled=tried,
                failed=failed.get(feed, 0),
                received_bytes=files * received / tried if tried else None,
                stored_bytes=files * known.stored_bytes / tried if tried else None,
            )
        )
    useful = next((each for each in steps if each.is_useful), None)
    rate, bounded_by = _rate(useful, limits, any(each.is_refused for each in exchanges))
    seconds = None
    if rate is not None:
        lists_seconds = list_requests / _list_rate(lists, rate, limits)
        seconds = lists_seconds + file_requests / rate
        seconds, bounded_by = _with_quota(
            seconds, list_requests + file_requests, limits.daily_quota, bounded_by
        )
    return Estimate(
        is_exact=found.is_exact,
        requests=list_requests + file_requests,
        received_bytes=list_bytes + sum(each.received_bytes or 0 for each in feeds),
        stored_bytes=sum(each.stored_bytes or 0 for each in feeds),
        requests_per_second=None if rate is None else round(rate, 2),
        seconds=None if seconds is None else round(seconds, 1),
        bounded_by=bounded_by,
        feeds=feeds,
    )


def _rate(
    useful: StepFigures | None, limits: Limits, was_refused: bool
) -> tuple[float | None, str]:
    """Answers a second that can be had, and what keeps them from being more."""
    if useful is None or not useful.useful_rate:
        return None, "no file was had"
    seen = useful.useful_rate
    configured = limits.requests_per_second or math.inf
    if was_refused:
        return min(seen, configured), "the provider's own limit, which its 429s tell of"
    if configured <= seen / GOOD_ENOUGH:
        return min(seen, configured), "the configured requests_per_second"
    return seen, f"what {useful.in_flight} requests at once bring"


def _list_rate(lists: Sequence[Exchange], most: float, limits: Limits) -> float:
    """Lists a second: they are read some at once, and each takes its time."""
    mean = fmean([each.seconds or 0.0 for each in lists]) if lists else 0.0
    alone = min(LISTS_AT_ONCE, limits.concurrency) / mean if mean else most
    return min(most, alone)


def _with_quota(
    seconds: float, requests: int, quota: int | None, bounded_by: str
) -> tuple[float, str]:
    """*seconds*, or more where a daily quota spreads *requests* over days."""
    if quota is None or requests <= quota:
        return seconds, bounded_by
    days, rest = divmod(requests, quota)
    if not rest:
        days, rest = days - 1, quota
    return days * DAY + seconds * rest / requests, f"the daily quota of {quota} requests"
