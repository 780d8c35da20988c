"""The tables, as Markdown that can also be read on a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from benchmarks.contenders import BARE
from benchmarks.process import Usage
from benchmarks.rounds import Results, Series, Spread
from benchmarks.startup import HEAVY, Startup
from benchmarks.workloads import Situation

MB = 1_000_000
HEADER = (
    *("workload", "situation", "contender", "wall s", "files/s", "CPU s"),
    *("CPU s / 1,000 files", "peak MB", "wall / bare", "CPU / bare"),
)

NOTE = """\
Medians; rounds: {rounds}. Ratios are taken round by round, with the least and the most in brackets.
Warm, files are those that are known to be up to date; none of them is fetched. There is nothing to
compare with: the bare loop remembers nothing, and would load everything again."""


def report(
    results: Sequence[Results],
    startups: Sequence[Startup],
    modules: set[str],
    *,
    machine: str,
    rounds: int,
    at: datetime,
) -> str:
    """All that was measured, as one text."""
    lines = [f"# {at:%Y-%m-%d}", "", machine, ""]
    for each in results:
        workload = each.workload
        lines.append(
            f"- {workload.name}: {workload.matches:,} matches, {workload.files:,} files of"
            f" {each.file_bytes / workload.files / 1000:,.0f} kB on average, gzip on the wire"
        )
    rows = [row for each in results for row in _rows(each)]
    lines += ["", *_table(HEADER, rows), "", NOTE.format(rounds=rounds), ""]
    lines += ["## Start-up", "", *_table(_STARTUP_HEADER, list(_startup_rows(startups))), ""]
    lines.append("Medians, with the least in brackets. `run` finds nothing to do.")
    loaded = [name for name in HEAVY if name in modules]
    lines.append(
        f"`python -m ingestify --help` imports {len(modules)} modules;"
        f" of {', '.join(HEAVY)}: {', '.join(loaded) or 'none'}."
    )
    return "\n".join(lines) + "\n"


_STARTUP_HEADER = ("command", "wall ms", "CPU ms", "peak MB")


def _rows(results: Results) -> Iterator[Sequence[str]]:
    bare = results.cold(BARE.name)
    for each in sorted(results.series, key=lambda each: list(Situation).index(each.situation)):
        yield _row(results, each, bare)


def _row(results: Results, each: Series, bare: Series) -> Sequence[str]:
    files = results.workload.files
    wall, cpu = each.spread(_wall).middle, each.spread(_cpu).middle
    is_compared = each.situation is Situation.COLD and each is not bare
    return (
        *(results.workload.name, each.situation.value, each.contender),
        f"{wall:.2f}",
        f"{files / wall:,.0f}",
        f"{cpu:.2f}",
        f"{cpu / files * 1000:.2f}",
        f"{each.spread(_peak).middle / MB:.0f}",
        _ratio(each.ratio(bare, _wall)) if is_compared else "",
        _ratio(each.ratio(bare, _cpu)) if is_compared else "",
    )


def _startup_rows(startups: Sequence[Startup]) -> Iterator[Sequence[str]]:
    for each in startups:
        yield (
            f"`{each.command}`",
            f"{each.wall.middle * 1000:.0f} ({each.wall.least * 1000:.0f})",
            f"{each.cpu.middle * 1000:.0f} ({each.cpu.least * 1000:.0f})",
            f"{each.peak_bytes / MB:.0f}",
        )


def _wall(usage: Usage) -> float:
    return usage.wall_seconds


def _cpu(usage: Usage) -> float:
    return usage.cpu_seconds


def _peak(usage: Usage) -> float:
    return usage.peak_bytes


def _ratio(spread: Spread) -> str:
    return f"{spread.middle:.2f} ({spread.least:.2f}–{spread.most:.2f})"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    rule = ["-" * width for width in widths]
    return [
        f"| {' | '.join(text.ljust(width) for text, width in zip(row, widths, strict=True))} |"
        for row in (header, rule, *rows)
    ]
