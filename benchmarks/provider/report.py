"""The report: tables for people, and the same for programs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

from benchmarks.provider.figures import Endpoint, Estimate, Latency, StepFigures
from benchmarks.provider.probe import Findings
from ingestify.cli.screen import Row, duration, plural, size, write, write_table

ENDPOINTS = (
    *("ENDPOINT", "FOR", "REQUESTS", "P50 MS", "P90 MS", "P99 MS", "FIRST BYTE", "MEAN SIZE"),
    "ANSWERS",
)
OFFERS = (
    *("ENDPOINT", "COMPRESSION", "OF PLAIN", "UNASKED", "FOR BR, ZSTD", "VALIDATORS"),
    *("ASKED AGAIN", "304"),
)
STEPS = (
    *("AT ONCE", "IN FLIGHT", "REQUESTS", "ANSWERS/S", "BYTES/S", "P50 MS", "P90 MS", "P99 MS"),
    *("429", ""),
)
NO_LATENCY: Row = (None, None, None)
Shown = Callable[[str], str]


def write_report(found: Findings, shown: Shown) -> None:
    """Write what was found of one Source to stdout. *shown* takes secrets out of texts."""
    write(shown(_summary(found)))
    if endpoints := found.endpoints:
        _write_endpoints(endpoints, shown)
    if steps := found.steps:
        _write_steps(steps)
    if estimate := found.estimate:
        _write_estimate(estimate)
    for problem, count in found.problems.items():
        write(shown(f"Problem ({count} times): {problem}" if count > 1 else f"Problem: {problem}"))
    if found.error:
        write(shown(f"Ended early: {found.error}"))


def for_programs(found: Findings, shown: Shown) -> dict[str, Any]:
    """What was found of one Source, as JSON has it."""
    announced, estimate = found.announced, found.estimate
    return {
        "source": shown(found.source),
        "provider": shown(found.provider),
        "requests": found.requests,
        "most_requests": found.most_requests,
        "lists": announced.lists,
        "lists_read": announced.lists_read,
        "datasets": announced.datasets,
        "endpoints": [_plain(each, shown) for each in found.endpoints],
        "steps": [_plain(each, shown) for each in found.steps],
        "useful_concurrency": next(
            (each.in_flight for each in found.steps if each.is_useful), None
        ),
        "learnt_requests_per_second": found.learnt_rate,
        "estimate": None if estimate is None else _plain(estimate, shown),
        "problems": [
            {"text": shown(text), "times": times} for text, times in found.problems.items()
        ],
        "error": None if found.error is None else shown(found.error),
    }


def _plain(figures: Any, shown: Shown) -> Any:
    def cleaned(value: Any) -> Any:
        match value:
            case str():
                return shown(value)
            case dict():
                return {shown(name): cleaned(each) for name, each in value.items()}
            case list() | tuple():
                return [cleaned(each) for each in value]
        return value

    return cleaned(dataclasses.asdict(figures))


def _summary(found: Findings) -> str:
    announced = found.announced
    limits = [f"{found.limits.concurrency} at once"]
    if found.limits.requests_per_second is not None:
        limits.append(f"{found.limits.requests_per_second:g} requests a second")
    if found.limits.daily_quota is not None:
        limits.append(f"{found.limits.daily_quota} requests a day")
    return (
        f"{found.source} ({found.provider}): {plural(announced.datasets, 'dataset')} in"
        f" {announced.lists_read} of {plural(announced.lists, 'list')};"
        f" {found.requests} of {plural(found.most_requests, 'request')} made;"
        f" limits: {', '.join(limits)}"
    )


def _write_endpoints(endpoints: list[Endpoint], shown: Shown) -> None:
    write("")
    write_table(
        ENDPOINTS,
        [
            (
                shown(each.endpoint),
                each.kind,
                each.requests,
                *_latency(each.latency),
                _milliseconds(each.first_byte_ms),
                None if each.mean_bytes is None else size(each.mean_bytes),
                ", ".join(f"{count} x {status}" for status, count in each.answers.items()),
            )
            for each in endpoints
        ],
    )
    write("")
    write_table(
        OFFERS,
        [
            (
                shown(each.endpoint),
                each.compression,
                None if each.plain_share is None else f"{each.plain_share:.0%}",
                each.unasked,
                each.others,
                ", ".join(each.validators) or "none",
                each.asked_again,
                each.not_modified,
            )
            for each in endpoints
        ],
    )


def _write_steps(steps: list[StepFigures]) -> None:
    write("")
    write_table(
        STEPS,
        [
            (
                each.width,
                each.in_flight,
                each.requests,
                f"{each.answers_per_second:.1f}",
                size(each.bytes_per_second),
                *_latency(each.latency),
                each.refused,
                " ".join(_marks(each)),
            )
            for each in steps
        ],
    )


def _marks(step: StepFigures) -> Iterator[str]:
    if step.is_paced:
        yield "as fast as it lets us"
    if step.is_useful:
        yield "useful"


def _write_estimate(estimate: Estimate) -> None:
    write("")
    about = "" if estimate.is_exact else "about "
    write_table(
        ("FEED", "FILES", "SAMPLED", "FAILED", "RECEIVED", "IN THE LAKE"),
        [
            (
                each.feed,
                f"{about}{each.files}" if about else each.files,
                each.sampled,
                each.failed,
                _size(each.received_bytes),
                _size(each.stored_bytes),
            )
            for each in estimate.feeds
        ],
    )
    write("")
    write(" ".join(_words(estimate)))


def _words(estimate: Estimate) -> Iterator[str]:
    about = "" if estimate.is_exact else "about "
    yield (
        f"A full sync: {about}{plural(estimate.requests, 'request')},"
        f" {size(estimate.received_bytes)} received, {size(estimate.stored_bytes)} in the lake."
    )
    if estimate.seconds is None:
        yield f"How long it takes cannot be told: {estimate.bounded_by}."
    else:
        time = duration(timedelta(seconds=estimate.seconds))
        yield (
            f"The provider's part of it takes some {time} at"
            f" {estimate.requests_per_second:g} requests a second, bounded by"
            f" {estimate.bounded_by}."
        )
    if not estimate.is_exact:
        yield "Not all lists were read: more --requests make that more exact."


def _latency(latency: Latency | None) -> Row:
    if latency is None:
        return NO_LATENCY
    return tuple(map(_milliseconds, (latency.p50, latency.p90, latency.p99)))


def _milliseconds(value: float | None) -> str | None:
    return None if value is None else f"{value:.1f}" if value < 10 else f"{value:.0f}"


def _size(count: float | None) -> str:
    return "?" if count is None else size(count)
