"""The table in README.md tells the truth about what there is."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent
TESTS = HERE.parent
README = (HERE / "README.md").read_text()
LATER = {"G23", "G24"}


def test_every_guarantee_has_proofs_that_exist() -> None:
    """
    Each of the 27 has a row, and each row names tests that are there.
    """
    rows = dict(re.findall(r"^\| (G\d+) \| (.*) \|$", README, re.MULTILINE))
    assert list(rows) == [f"G{number}" for number in range(1, 28)]
    for guarantee, row in rows.items():
        named = re.findall(r"`([\w/]+\.py)::(\w+)`", row)
        assert bool(named) is (guarantee not in LATER), guarantee
        for file, name in named:
            found = (TESTS / file).read_text()
            assert re.search(rf"(def|class) {name}\b", found), f"{guarantee}: {file}::{name}"


def test_every_file_of_tests_here_is_in_the_table() -> None:
    """
    Whatever is proven here proves some guarantee.
    """
    files = {str(path.relative_to(TESTS)) for path in HERE.rglob("test_*.py")}
    files.remove("faults/test_readme_table.py")
    assert files <= set(re.findall(r"`([\w/]+\.py)::", README))
