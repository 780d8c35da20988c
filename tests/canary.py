"""Sees to it that no test lets a credential be seen: in its output, its log, or its errors.

Credentials in tests are texts that nothing else looks like. After every test, what pytest has
captured of it is searched for them, and so are the errors that it expected with `pytest.raises`.
A test that shows one on purpose says so: ``@pytest.mark.shows_canary("why")``.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Generator, Iterator
from typing import Any

import pytest

from ingestify.errors import IngestifyError

CANARIES = ("canary-", "canary/", "canary%2f", "hunter22", "hunter33", "tiki-taka")
"""What the credentials of all tests begin with, in lower case; in capitals they count, too."""


def _coded(text: str) -> Iterator[str]:
    """What base64 makes of *text* wherever it stands: three forms, without their uncertain ends."""
    for before in range(3):
        coded = b64encode(b" " * before + text.encode()).decode().rstrip("=")
        yield coded[(0, 2, 3)[before] : len(coded) - 1]


CODED = tuple(_coded("canary-"))

_expected: list[BaseException] = []  # errors of ours that the present test waited for


def canaries_in(text: str) -> list[str]:
    """Every line of *text* with a credential in it, plain or in base64."""
    lowered = text.lower()
    if not any(mark in lowered for mark in CANARIES) and not any(mark in text for mark in CODED):
        return []
    return [
        line
        for line in text.splitlines()
        if any(mark in line.lower() for mark in CANARIES) or any(mark in line for mark in CODED)
    ]


def told_by(error: BaseException) -> str:
    """All that *error*, what led to it and what it groups says to whoever prints it."""
    texts: list[str] = []
    waiting: list[BaseException | None] = [error]
    seen: set[int] = set()
    while waiting:
        step = waiting.pop()
        if step is None or id(step) in seen:
            continue
        seen.add(id(step))
        notes = getattr(step, "__notes__", ())
        texts += [str(step), repr(step), repr(step.args), *map(str, notes)]
        waiting += [step.__cause__, step.__context__]
        if isinstance(step, BaseExceptionGroup):
            waiting += step.exceptions
    return "\n".join(texts)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "shows_canary(reason): a credential is shown on purpose")
    _remember_expected_errors()


def _remember_expected_errors() -> None:
    """Let `pytest.raises` tell what it has caught."""
    kind: Any = type(pytest.raises(ValueError))
    leave = kind.__exit__
    if getattr(leave, "remembers", False):
        return

    def remembering(self: Any, exc_type: Any, exc: Any, traceback: Any) -> Any:
        if isinstance(exc, IngestifyError):
            _expected.append(exc)
        return leave(self, exc_type, exc, traceback)

    remembering.remembers = True  # type: ignore[attr-defined]
    kind.__exit__ = remembering


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when != "teardown":
        return report
    errors = [("expected error", told_by(error)) for error in _expected]
    _expected.clear()
    if item.get_closest_marker("shows_canary") is None and report.passed:
        seen = [
            f"{name}: {line}"
            for name, text in [*report.sections, *errors]
            for line in canaries_in(text)
        ]
        if seen:
            report.outcome = "failed"
            report.longrepr = "a credential was shown:\n" + "\n".join(seen)
    return report
