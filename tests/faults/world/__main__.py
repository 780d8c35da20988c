"""Plays everything in the simulated world, and prints what was played.

python -m tests.faults.world [pytest options]
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

FAULTS = Path(__file__).parents[1]
PARTS = ("test_crash_matrix.py", "test_interleaved_runs.py", "test_state_machine.py")


class Table:
    """A pytest plugin that ends the session with the table."""

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        from world.report import table

        for line in table():
            terminalreporter.write_line(line)


if __name__ == "__main__":
    files = [str(FAULTS / part) for part in PARTS]
    sys.exit(pytest.main(["-q", *sys.argv[1:], *files], plugins=[Table()]))
