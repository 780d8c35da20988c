"""The tables, as Markdown that can also be read on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.contenders import BARE, BY_HAND
from benchmarks.process import Usage
from benchmarks.rounds import Results, Series, Spread
from benchmarks.workloads import Situation

MB = 1_000_000
COMPARED_WITH = (BARE.name, BY_HAND.name, "upstream")
RATIO = "CPU / {}"
HEADER = (
    *("workload", "situation", "contender", "rounds", "wall s", "files/s", "CPU s"),
    *("CPU s / 1,000 files", "peak MB", *map(RATIO.format, COMPARED_WITH), "wall / bare"),
)
NOTE = """\
Medians. Ratios are taken round by round, with the least and the most in brackets; where a contender
took part in fewer rounds than the other, these alone are compared. Warm, files are those that are
known to be up to date; none of them is fetched. The bare loop remembers nothing, and would load
everything again."""


@dataclass(kw_only=True)
class Section:
    """One part of the report: text for people, and figures by name for the goals."""

    title: str
    text: str
    figures: Mapping[str, float] = field(default_factory=dict)


def workload_section(results: Sequence[Results]) -> Section:
    """What all workloads took of all contenders."""
    lines = []
    for each in results:
        workload = each.workload
        size = each.file_bytes / workload.files / 1000
        wire = "gzipped" if workload.is_gzipped else "plain"
        lines.append(
            f"- {workload.name}: {workload.matches:,} matches in {workload.lists} lists,"
            f" {workload.files:,} files of {size:,.0f} kB on average, {wire} on the wire"
            + (f", {workload.delay_ms} ms before each answer" if workload.delay_ms else "")
            + f", {workload.concurrency} requests in flight"
        )
    rows = [row for each in results for row in _rows(each)]
    text = "\n".join([*lines, "", table(HEADER, rows), "", NOTE])
    figures = {name: value for each in results for name, value in _figures(each)}
    return Section(title="Workloads", text=text, figures=figures)


def _rows(results: Results) -> Iterator[Sequence[str]]:
    for each in sorted(results.series, key=lambda each: list(Situation).index(each.situation)):
        yield _row(results, each)


def _row(results: Results, each: Series) -> Sequence[str]:
    files = results.workload.files
    wall, cpu = each.spread(wall_of).middle, each.spread(cpu_of).middle
    others = [results.find(name, each.situation) for name in COMPARED_WITH]
    return (
        *(results.workload.name, each.situation.value, each.contender, str(len(each.usages))),
        f"{wall:.2f}",
        f"{files / wall:,.0f}",
        f"{cpu:.2f}",
        f"{cpu / files * 1000:.2f}",
        f"{each.spread(peak_of).middle / MB:.0f}",
        *(_ratio(each, other, cpu_of) for other in others),
        _ratio(each, others[0], wall_of),
    )


def _figures(results: Results) -> Iterator[tuple[str, float]]:
    """Such as "small, cold: ingestify CPU / bare"."""
    for each in results.series:
        about = f"{results.workload.name}, {each.situation.value}: {each.contender}"
        yield f"{about} CPU s", each.spread(cpu_of).middle
        yield f"{about} wall / CPU", each.ratio(each, wall_of, cpu_of).middle
        for other in results.series:
            if other.situation is each.situation and other is not each:
                yield f"{about} CPU / {other.contender}", each.ratio(other, cpu_of).middle
                yield f"{about} wall / {other.contender}", each.ratio(other, wall_of).middle


def wall_of(usage: Usage) -> float:
    """Seconds."""
    return usage.wall_seconds


def cpu_of(usage: Usage) -> float:
    """Seconds, user and system."""
    return usage.cpu_seconds


def peak_of(usage: Usage) -> float:
    """Bytes."""
    return usage.peak_bytes


def _ratio(each: Series, other: Series | None, measure: Callable[[Usage], float]) -> str:
    if other is None or other is each:
        return ""
    return shown(each.ratio(other, measure))


def shown(spread: Spread) -> str:
    """Such as "1.05 (1.01–1.12)"."""
    return f"{spread.middle:.2f} ({spread.least:.2f}–{spread.most:.2f})"


def shown_ms(spread: Spread) -> str:
    """Such as "52 ms (48–60)"."""
    return f"{spread.middle:.0f} ms ({spread.least:.0f}–{spread.most:.0f})"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    rule = ["-" * width for width in widths]
    return "\n".join(
        f"| {' | '.join(text.ljust(width) for text, width in zip(row, widths, strict=True))} |"
        for row in (header, rule, *rows)
    )
