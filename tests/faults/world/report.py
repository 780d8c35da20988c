"""How many cases were played, for which guarantees, and how long that took."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol


class Counts(Protocol):
    """What knows how many cases it has played."""

    cases: int


@dataclass(frozen=True)
class Line:
    """One line of the table."""

    part: str
    cases: int
    guarantees: str
    seconds: float


LINES: list[Line] = []


@contextmanager
def tell(guarantees: str, counts: Counts) -> Iterator[None]:
    """Note what the present test has played."""
    began, before = time.monotonic(), counts.cases
    yield
    test = os.environ.get("PYTEST_CURRENT_TEST", "").split(" ")[0]
    part = test.rpartition("/")[2].replace("::", ": ").replace(".py", "")
    LINES.append(Line(part, counts.cases - before, guarantees, time.monotonic() - began))


def table() -> list[str]:
    """All lines, and their sum."""
    if not LINES:
        return []
    width = max(len(line.part) for line in LINES)
    head = f"{'part':{width}}  cases  seconds  guarantees"
    rows = [
        f"{line.part:{width}}  {line.cases:5}  {line.seconds:7.1f}  {line.guarantees}"
        for line in LINES
    ]
    cases, seconds = sum(line.cases for line in LINES), sum(line.seconds for line in LINES)
    return [head, *rows, f"{'all':{width}}  {cases:5}  {seconds:7.1f}"]
