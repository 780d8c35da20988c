"""The table in README.md and the list of mutations tell the truth about what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from mutations import LIST, ROOT, Mutation, misplaced, read_mutations

HERE = Path(__file__).parent
TESTS = HERE.parent
README = (HERE / "README.md").read_text()
LATER = {"G23", "G24"}
MUTATIONS = list(read_mutations(LIST.read_text()))


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


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.title)
def test_every_mutation_still_applies(mutation: Mutation) -> None:
    """
    What it replaces is in the code exactly once, the tests that should notice are there, and the
    README tells what came of it.
    """
    assert mutation.edits
    assert mutation.tests
    assert all(old != new for _, old, new in mutation.edits)
    assert list(misplaced(ROOT, mutation)) == []
    assert f"\n| {mutation.title} | {mutation.promise} | `tests/" in README


def test_every_block_of_the_list_is_a_mutation() -> None:
    """
    None is passed over, and no two are called the same.
    """
    titles = [mutation.title for mutation in MUTATIONS]
    assert len(titles) == len(set(titles)) == LIST.read_text().count("\nrun ")
    assert f"{len(titles)} mutations, " in README
