"""What the verbs of the command line are made of: addresses, tables, and what is not shown."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from ingestify.cli.addresses import parse_address
from ingestify.cli.logs import configure
from ingestify.cli.screen import duration, plural, size, write_records, write_table
from ingestify.cli.session import Session, printable
from ingestify.config import Config
from ingestify.errors import ConfigError
from ingestify.model.dataset import DatasetState


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A configuration that declares some types of some identities."""
    return Config.from_values(
        metadata_url="memory://",
        file_url=tmp_path,
        dataset_types=[
            {
                "provider": "one",
                "dataset_type": "match",
                "identifier_keys": {"match_id": {"key_type": "int"}, "season": {}},
            },
            {
                "provider": "other",
                "dataset_type": "match",
                "identifier_keys": {"match_id": {"key_type": "str"}},
            },
        ],
    )


def test_addresses_are_ids_or_names_and_values(config: Config) -> None:
    """
    A dataset is meant by its id, by NAME=VALUE, or by several of those joined by slashes.
    """
    assert parse_address(["0af3"], config).dataset_id == "0af3"
    path = "provider=one/dataset_type=match/season=9/match_id=7"
    for written in ([path], path.split("/"), [f"/{path}/"]):
        query = parse_address(written, config)
        assert (query.provider, query.dataset_type) == ("one", "match")
        assert query.identifier == {"season": ["9"], "match_id": [7]}
    query = parse_address(["season=8", "season=9", "state=partial"], config)
    assert query.identifier == {"season": ["8", "9"]}
    assert query.states == [DatasetState.PARTIAL]
    assert (query.bucket, query.stage) == ("main", "raw")
    assert parse_address(["name=a/b"], config).identifier == {"name": ["a/b"]}


@pytest.mark.parametrize(
    ("written", "value", "as_text"),
    [
        (["match_id=7", "provider=one"], 7, False),
        (["match_id=7", "provider=other"], "7", False),
        (["match_id=7"], "7", True),
        (["provider=one", "season=9", "match_id=7"], 7, True),
    ],
)
def test_typed_values_take_the_declared_type(
    config: Config, written: list[str], value: int | str, as_text: bool
) -> None:
    """
    Where the configuration declares a type, it holds; elsewhere stored values of both are found.
    """
    query = parse_address(written, config)
    assert query.identifier["match_id"] == [value]
    assert query.text_values is as_text


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (["a", "b"], "one dataset id"),
        (["provider=one", "provider=other"], "one provider"),
        (["state=lost"], "scheduled"),
        (["match_id=x", "provider=one"], "integer"),
        (["=7"], "NAME=VALUE"),
        (["match_id="], "NAME=VALUE"),
        (["match-id=7"], "NAME=VALUE"),
    ],
)
def test_wrong_addresses_are_refused(config: Config, written: list[str], message: str) -> None:
    """
    What cannot be meant is refused with a word on what can.
    """
    with pytest.raises(ConfigError, match=message):
        parse_address(written, config)


def test_tables_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    """
    A table is aligned, and its empty columns are left out; records are cells between tabs.
    """
    rows = [("a", 1, None), ("long name", 20, None)]
    write_table(("NAME", "COUNT", "NOTE"), rows)
    assert capsys.readouterr().out == "NAME       COUNT\na              1\nlong name     20\n"
    write_records(("NAME", "COUNT", "NOTE"), [("a\tb\nc", 1, None)])
    assert capsys.readouterr().out == "a b c\t1\t\n"
    write_table(("NAME",), [])
    assert capsys.readouterr().out == ""


def test_names_cannot_move_the_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    """
    Control characters in what a provider says reach no terminal.
    """
    assert printable("a\x1b[2Jb\x9b\r\n\t") == "a\\x1b[2Jb\\x9b\\x0d\n\t"
    write_table(("NAME",), [("\x1b]0;title\x07",)])
    assert "\x1b" not in capsys.readouterr().out


def test_numbers_are_for_people() -> None:
    """
    Sizes, durations and counts are rounded, with their units.
    """
    assert [size(n) for n in (0, 999, 1000, 4_899_260, 2.5e9)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "4.9 MB",
        "2.50 GB",
    ]
    assert [duration(timedelta(seconds=n)) for n in (0.24, 59.9, 61, 3725)] == [
        "0.2 s",
        "59.9 s",
        "1:01 min",
        "1:02:05",
    ]
    assert [plural(n, "file") for n in (0, 1, 2)] == ["0 files", "1 file", "2 files"]


@pytest.fixture
def root_logger() -> Iterator[logging.Logger]:
    """The root logger, which is as it was before afterwards."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield root
    root.handlers[:] = before
    root.setLevel(level)


@pytest.mark.shows_canary("a library logs it; what matters is what is made of that")
def test_log_lines_hold_no_secret(
    tmp_path: Path,
    root_logger: logging.Logger,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    Once a configuration is loaded, its secrets are masked in all that is logged or said.
    """
    monkeypatch.setenv("CLUB_PASSWORD", "canary/3f9a")
    monkeypatch.setenv("CLUB_URL", "https://club.example/api/")
    (tmp_path / "config.yaml").write_text(
        "main: {metadata_url: 'memory://', file_url: 'memory://'}\n"
        "sources:\n"
        "  one:\n"
        "    type: some.where\n"
        "    configuration:\n"
        "      login: [{user: me, word: !ENV '${CLUB_PASSWORD}'}]\n"
        "      base_url: !ENV ${CLUB_URL}\n"
        "      api_key: canary-77aa\n"
    )
    session = Session(config_file=tmp_path / "config.yaml")
    configure(session, logging.INFO)
    session.load_config()
    logging.getLogger("some.library").info(
        "GET https://club.example/api/?key=%s&word=%s", "canary-77aa", "canary%2F3f9a"
    )
    logging.getLogger("some.library").debug("not shown")
    line = capsys.readouterr().err
    assert line.endswith("some.library: GET https://club.example/api/?key=***&word=***\n")
    assert " [INFO] " in line
    assert session.shown("canary/3f9a") == "***"


def test_stderr_is_looked_up_for_each_line(
    root_logger: logging.Logger, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """
    What a live display puts in the place of stderr gets the log lines, too.
    """
    configure(Session(), logging.WARNING)
    with (tmp_path / "log").open("w") as other:
        monkeypatch.setattr(sys, "stderr", other)
        logging.getLogger("ingestify").warning("here")
    assert (tmp_path / "log").read_text().endswith("here\n")
