"""What must be reached, beside what was measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from benchmarks.report import Section, table

HEADER = ("goal", "at most", "measured", "reached")
SEVENTH, TENTH = 1 / 7, 1 / 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """One figure, by the name that it was measured under, and where it has to lie."""

    told: str
    figure: str
    most: float
    least: float | None = None
    digits: int = 2

    @property
    def wanted(self) -> str:
        """Such as "97–100"; without a lower bound, the upper one alone."""
        most = f"{self.most:.{self.digits}f}"
        return most if self.least is None else f"{self.least:.{self.digits}f}–{most}"

    def verdict(self, measured: float) -> str:
        """Whether *measured* is good enough, or by how much it is not."""
        if measured > self.most:
            by = f" ({measured / self.most:.2f} × the goal)" if self.most else ""
            return f"no: {measured - self.most:.{self.digits}f} too many{by}"
        if self.least is not None and measured < self.least:
            return f"no: {self.least - measured:.{self.digits}f} too few"
        return "yes"


def _cpu(workload: str, other: str, most: float, digits: int = 2) -> Goal:
    return Goal(
        told=f"{workload}: CPU / {other}",
        figure=f"{workload}, cold: ingestify CPU / {other}",
        most=most,
        digits=digits,
    )


def _bodies() -> Iterator[Goal]:
    for name in ("medium", "real"):
        for workload in (name, f"{name}, gzipped"):
            yield _cpu(workload, "by hand, durable", 1.05)
            yield _cpu(workload, "upstream", SEVENTH, 3)
            yield Goal(
                told=f"{workload}: wall / CPU (the second core is used)",
                figure=f"{workload}, cold: ingestify wall / CPU",
                most=1.0,
            )
        yield _cpu(f"{name}, gzipped", "bare", 0.7)


def _limits() -> Iterator[Goal]:
    for sources in (1, 4):
        for limit, refused in (("configured", 0), ("announced", 0), ("found out", 5)):
            about = f"limits, {limit}, {sources} sources: "
            told = f"limits, {limit}, {sources} source{'s' * (sources > 1)}: "
            yield Goal(
                told=f"{told}% of what is allowed",
                figure=f"{about}share %",
                least=97.0,
                most=100.0,
                digits=1,
            )
            yield Goal(
                told=f"{told}answers 429",
                figure=f"{about}429s",
                most=refused,
                digits=0,
            )


def _growth() -> Iterator[Goal]:
    for stored in (1_000, 10_000, 100_000, 1_000_000):
        yield Goal(
            told=f"warm, lists 200, {stored:,} stored: µs CPU a dataset",
            figure=f"growth, {stored:,}: warm µs a dataset",
            most=25,
            digits=1,
        )
    yield Goal(
        told="warm, lists 200: peak memory of 1,000,000 / 1,000",
        figure="growth, 1,000,000: warm peak MB / 1,000",
        most=1.2,
    )
    yield Goal(
        told="warm, lists 304, 1,000,000 stored: ms CPU a selector",
        figure="growth, 1,000,000: 304 ms a selector",
        most=1,
    )
    yield Goal(
        told="adding 400 matches: CPU with 1,000,000 stored / 1,000",
        figure="growth, 1,000,000: add CPU s / 1,000",
        most=1.2,
    )
    for look in ("list", "show", "explain"):
        yield Goal(
            told=f"`{look}` with 1,000,000 stored: ms CPU beyond start-up",
            figure=f"growth, 1,000,000: {look} ms",
            most=50,
            digits=0,
        )


GOALS = (
    _cpu("small", "by hand, durable", 1.0),
    _cpu("small", "upstream", SEVENTH, 3),
    _cpu("small, on tmpfs", "bare", 1.6),
    _cpu("small, on tmpfs", "upstream", TENTH, 3),
    *_bodies(),
    Goal(told="latency: wall / bare", figure="latency, cold: ingestify wall / bare", most=1.15),
    *_limits(),
    *_growth(),
    Goal(
        told="cold memory: 20,000 matches / 1,000",
        figure="memory: cold 20,000 / 1,000",
        most=1.1,
    ),
    Goal(
        told="memory: a file of 1 GiB, MiB above idle",
        figure="memory: 1 GiB MiB above idle",
        most=32,
        digits=0,
    ),
    Goal(
        told="start-up: `--help`, ms CPU",
        figure="start-up: python -m ingestify --help CPU ms",
        most=120,
        digits=0,
    ),
    Goal(
        told="start-up: `run` with nothing to do, ms CPU",
        figure="start-up: python -m ingestify run CPU ms",
        most=600,
        digits=0,
    ),
    Goal(
        told="the engine alone: discover, plan, pool, commit, µs CPU a dataset",
        figure="engine: discover, plan, pool, commit µs",
        most=60,
        digits=1,
    ),
    Goal(
        told="first dataset: ms until a reader sees it",
        figure="visible: ms",
        most=200,
        digits=0,
    ),
)


def goals_section(figures: Mapping[str, float]) -> Section:
    """Every goal that something was measured for, and whether that reaches it."""
    rows = []
    for goal in GOALS:
        measured = figures.get(goal.figure)
        if measured is not None:
            shown = f"{measured:.{goal.digits}f}"
            rows.append((goal.told, goal.wanted, shown, goal.verdict(measured)))
    reached = sum(row[3] == "yes" for row in rows)
    text = f"{reached} of {len(rows)} are reached; not measured: {len(GOALS) - len(rows)}."
    if rows:
        text = f"{table(HEADER, rows)}\n\n{text}"
    return Section(title="Goals", text=text)
