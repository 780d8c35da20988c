"""What looks after the tests' credentials sees them, wherever a test may show them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from base64 import b64encode
from pathlib import Path

import pytest
from canary import canaries_in

SHOWING = """
import logging, sys
import pytest
from ingestify.errors import FetchError

SECRET = "canary-4711"

def test_prints(): print("the key is", SECRET)
def test_complains(): print(SECRET.upper(), file=sys.stderr)
def test_logs(): logging.getLogger("some.library").warning("sent %s", {"key": SECRET})
def test_logs_a_debug_line(caplog):
    caplog.set_level(logging.DEBUG)
    logging.getLogger("aiohttp").debug("sent %s", SECRET)
def test_logs_an_error():
    try:
        raise ValueError(SECRET)
    except ValueError:
        logging.getLogger("some.library").exception("failed")
def test_logs_base64(): logging.getLogger("x").warning("Basic bWU6Y2FuYXJ5LTQ3MTE=")
def test_expects_an_error():
    with pytest.raises(FetchError):
        raise FetchError(f"bad key {SECRET}")
def test_expects_an_error_with_a_cause():
    with pytest.raises(FetchError):
        raise FetchError("bad key") from ValueError(SECRET)
@pytest.fixture
def careless():
    yield
    print(SECRET)
def test_prints_at_the_end(careless): pass
@pytest.mark.shows_canary("to be seen here")
def test_prints_on_purpose(): print(SECRET)
def test_shows_nothing():
    with pytest.raises(FetchError):
        raise FetchError("bad key ***")
def test_is_not_blamed_for_others(): print("a canary is a bird")
"""
INNOCENT = {"test_prints_on_purpose", "test_shows_nothing", "test_is_not_blamed_for_others"}


def test_a_test_that_shows_a_credential_fails(tmp_path: Path) -> None:
    """
    Printed, logged at any level that was captured, in an expected error or its cause, at the end
    of a fixture: each fails its test, and no other.
    """
    (tmp_path / "test_showing.py").write_text(SHOWING)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "canary", "-p", "no:cacheprovider", "-q", "-rE"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    blamed = set(re.findall(r"^ERROR test_showing.py::(\w+)", done.stdout, re.MULTILINE))
    everybody = set(re.findall(r"def (test_\w+)", SHOWING))
    assert blamed == everybody - INNOCENT, done.stdout


@pytest.mark.parametrize("before", ["", "m", "me:", "user", "somebody"])
def test_credentials_are_found_in_base64(before: str) -> None:
    """
    Whatever stands before and after a credential: base64 does not hide it.
    """
    coded = b64encode(f"{before}canary-4711".encode()).decode()
    assert canaries_in(f"first\nBasic {coded}\nlast") == [f"Basic {coded}"]
    assert canaries_in("Basic bWU6cGFzc3dvcmQ=") == []
