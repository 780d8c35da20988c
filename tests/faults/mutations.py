"""Break the engine in one place after the other, and see that some test notices each.

Works on a copy of the project in a temporary folder; the checkout itself is only read. Prints a
Markdown table. Ends with 1 when a mutation has survived, or when the text that it replaces is not
there exactly once, because the code has moved on.

    make mutations
    python tests/faults/mutations.py [WORD ...]    only those whose titles hold one of the words
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIST = Path(__file__).with_name("mutations.txt")
SECONDS = 420  # for one round of tests; a mutation that hangs them has been noticed, too


@dataclass(frozen=True, slots=True)
class Mutation:
    """One place broken. Every old text is replaced by the new one behind it."""

    title: str
    promise: str
    edits: Sequence[tuple[str, str, str]]  # file, old, new
    tests: Sequence[str]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of it."""

    mutation: Mutation
    noticed_by: str | None  # None: it has survived
    seconds: float


def read_mutations(text: str) -> Iterator[Mutation]:
    """What mutations.txt says."""
    names: dict[str, list[str]] = {}
    for line in re.findall(r"^let (.*)", text, re.MULTILINE):
        name, _, tests = line.partition(" = ")
        names.setdefault(name, []).extend(tests.split())
    for block in text.split("\n# ")[1:]:
        head, run, *rest = block.rstrip().splitlines()
        title, _, promise = head.rstrip("]").partition(" [")
        tests = [test for name in run.split()[1:] for test in names.get(name, [name])]
        edits: list[tuple[str, list[str], list[str]]] = []
        for line in rest:
            if line.startswith("in "):
                edits.append((line.removeprefix("in "), [], []))
            elif line:
                edits[-1]["-+".index(line[0]) + 1].append(f"{line[1:]}\n")
        joined = [(name, "".join(old), "".join(new)) for name, old, new in edits]
        yield Mutation(title, promise, joined, tests)


def main(words: Sequence[str]) -> int:
    """Try those that *words* choose. Returns the exit code."""
    known = read_mutations(LIST.read_text())
    chosen = [m for m in known if not words or any(word in m.title for word in words)]
    with copied() as copy:
        check_import(copy)
        missing = [f"{m.title}: {why}" for m in chosen for why in misplaced(copy, m)]
        for each in missing:
            say(f"moved: {each}", error=True)
        if missing:
            return 1
        red = {test for test in sorted({t for m in chosen for t in m.tests}) if is_red(copy, test)}
        verdicts = [tried(copy, each) for each in chosen if not red.intersection(each.tests)]
    say("| mutation | promise | first test that went red | seconds |\n| --- | --- | --- | --- |")
    for each in verdicts:
        noticed = f"`{each.noticed_by}`" if each.noticed_by else "**none: it survived**"
        say(f"| {each.mutation.title} | {each.mutation.promise} | {noticed} | {each.seconds:.0f} |")
    survivors = sum(each.noticed_by is None for each in verdicts)
    untried = len(chosen) - len(verdicts)
    say(f"\n{len(verdicts)} mutations, {survivors} survived; {untried} could not be tried.")
    return 1 if survivors or untried else 0


@contextmanager
def copied() -> Iterator[Path]:
    """A folder with the project's files as they are now, committed or not."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, check=True, text=True,
    ).stdout  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="mutations-") as folder:
        copy = Path(folder) / "project"
        for name in filter(None, listed.split("\0")):
            if (ROOT / name).is_file():
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / name, copy / name)
        yield copy


def environment(copy: Path) -> dict[str, str]:
    """What Python needs to run the copy, and to read its sources anew every time."""
    paths = os.pathsep.join([str(copy), str(copy / "sources")])
    temporary = copy.parent / "tmp"
    temporary.mkdir(exist_ok=True)
    return {
        **os.environ,
        "PYTHONPATH": paths,
        "PYTHONDONTWRITEBYTECODE": "1",  # a text of equal length and age would not be compiled
        "TMPDIR": str(temporary),
    }


def check_import(copy: Path) -> None:
    """Make sure that it is the copy that is tested."""
    code = (
        "import ingestify, ingestify_statsbomb as s; print(ingestify.__file__); print(s.__file__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=copy, env=environment(copy), capture_output=True, check=True, text=True,
    )  # fmt: skip
    for line in done.stdout.splitlines():
        if not Path(line).is_relative_to(copy):
            raise SystemExit(f"it is not the copy that would be tested, but {line}")


def misplaced(copy: Path, mutation: Mutation) -> Iterator[str]:
    """What of *mutation* does not fit the code any more."""
    for name, old, _ in mutation.edits:
        path = copy / name
        count = path.read_text().count(old) if path.exists() else 0
        if count != 1:
            yield f"{old!r} is {count} times in {name}"
    for name in mutation.tests:
        if not (copy / name.partition("::")[0]).exists():
            yield f"there is no {name}"


def tried(copy: Path, mutation: Mutation) -> Verdict:
    """Break it, run the tests, mend it."""
    say(mutation.title, error=True)
    before = {name: (copy / name).read_text() for name, _, _ in mutation.edits}
    try:
        for name, old, new in mutation.edits:
            text = (copy / name).read_text()
            (copy / name).write_text(text.replace(old, new))
        began = time.monotonic()
        first = first_red(copy, mutation.tests)
        verdict = Verdict(mutation, first, time.monotonic() - began)
    finally:
        for name, text in before.items():
            (copy / name).write_text(text)
    say(f"  {verdict.noticed_by or 'SURVIVED'}", error=True)
    return verdict


def is_red(copy: Path, test: str) -> bool:
    """Whether *test* fails without any mutation, so that it can tell nothing."""
    first = first_red(copy, [test])
    say(f"{test}: {'green' if first is None else f'RED AS IT IS: {first}'}", error=True)
    return first is not None


def first_red(copy: Path, tests: Sequence[str]) -> str | None:
    """The first of *tests* that fails in *copy*; None: none does."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    try:
        done = subprocess.run(
            command, cwd=copy, env=environment(copy), capture_output=True, text=True,
            timeout=SECONDS,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"nothing within {SECONDS} s of {' '.join(tests)}"
    if done.returncode == 0:
        return None
    found = re.search(r"^(?:FAILED|ERROR) ([^\s\[]+)", done.stdout, re.MULTILINE)
    if found is None:
        raise SystemExit(f"pytest has failed by itself:\n{done.stdout[-3000:]}{done.stderr}")
    return found[1]


def say(text: str, *, error: bool = False) -> None:
    """Progress goes to stderr, so that the table can be kept."""
    stream = sys.stderr if error else sys.stdout
    stream.write(f"{text}\n")
    stream.flush()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
