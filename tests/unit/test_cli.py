"""The command line's own part: what it takes, what it refuses, and how it ends."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest

from ingestify import plugins
from ingestify.cli.app import VERBS, app
from ingestify.cli.ending import execute
from ingestify.cli.exit_codes import cause_of, code_of
from ingestify.errors import (
    CatalogError,
    ConfigError,
    FatalError,
    FetchError,
    IngestifyError,
    StopProcessing,
    StoreUnavailableError,
)

CONFIG = """
main:
  metadata_url: sqlite:///lake/catalog.db
  file_url: lake/files
sources:
  open_data:
    type: statsbomb_github
    configuration: {base_url: "https://example.com/data/"}
ingestion_plans:
  - {source: open_data, dataset_type: match}
"""
READ_VERBS = [
    ["list"],
    ["list", "--count"],
    ["show", "match_id=1"],
    ["explain", "match_id=1"],
    ["runs"],
    ["failed", "list"],
    ["invalidate", "match_id=1", "--reason", "wrong"],
]
HEAVY = (
    "aiofiles",
    "aiohttp",
    "aiosqlite",
    "anyio",
    "asyncio",
    "kloppy",
    "msgspec",
    "polars",
    "pydantic",
    "rich",
    "tenacity",
    "uvloop",
    "yaml",
    "yarl",
)


@dataclass(frozen=True, kw_only=True)
class Done:
    code: int
    out: str
    err: str


@pytest.fixture
def ingestify(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Done]]:
    """The command line, in an empty folder."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("INGESTIFY_CONFIG_FILE", raising=False)

    def run(*arguments: str) -> Done:
        capsys.readouterr()
        code = execute(arguments)
        out, err = capsys.readouterr()
        return Done(code=code, out=out, err=err)

    yield run
    root.handlers[:] = handlers
    root.setLevel(level)


def test_help_imports_nothing_heavy() -> None:
    """
    `ingestify --help` loads neither a verb nor what verbs work with.
    """
    code = (
        "import sys; sys.argv = ['ingestify', '--help']\n"
        "try:\n    import ingestify.__main__ as m; m.main()\n"
        "except SystemExit as exc:\n    assert exc.code == 0\n"
        f"found = {{name.partition('.')[0] for name in sys.modules}} & {set(HEAVY)!r}\n"
        "found |= {n for n in sys.modules if n in ('ingestify.cli.run', 'ingestify.engine')}\n"
        "assert not found, found"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Commands:" in done.stdout


@pytest.mark.parametrize("verb", VERBS)
def test_overview_says_what_a_verb_says_of_itself(verb: str) -> None:
    """
    The list of verbs, which imports none of them, has the first line of each one's own help.
    """
    command = app.get_command(click.Context(app), verb)
    assert command is not None
    assert command.name == verb
    assert (command.help or "").partition("\n")[0] == VERBS[verb][1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fly"], "No such command 'fly'"),
        (["run", "--colour"], "No such option '--colour'"),
        (["--config", "x.yaml", "run"], "Options come after the verb"),
        (["run", "--concurrency", "0"], "--concurrency"),
        (["run", "--selector", "season_id"], "NAME=VALUE"),
        (["run", "--selector", "a b=1"], "NAME=VALUE"),
        (["show"], "Missing argument"),
        (["invalidate", "match_id=1"], "--reason"),
        (["init", "--template", "nothing"], "statsbomb_github"),
        (["init"], "statsbomb_github"),
        (["run"], "`ingestify init`"),
        (["list", "--config", "other.yaml"], "other.yaml: no such file"),
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_2(
    ingestify: Callable[..., Done], tmp_path: Path, arguments: list[str], message: str
) -> None:
    """
    What cannot be understood is said on stderr, with nothing on stdout and nothing written.
    """
    done = ingestify(*arguments)
    assert done.code == 2
    assert message in done.err
    assert done.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("file_url: lake/files", "file_url: [lake"), "config.yaml"),
        (("statsbomb_github", "statsbomb_gitlab"), "statsbomb_github"),
        (("source: open_data", "source: other"), "open_data"),
        (("default_bucket", "default_bucket"), None),
        (("match}", "match, data_spec_versions: {360-frames: v9}}"), None),
        (("match}", "match, data_spec_versions: {evnts: v8}}"), 'did you mean "events"?'),
        (("dataset_type: match", "dataset_type: mtch"), 'did you mean "match"?'),
        (("match}", "match, selectors: {match_id: 7, season_id: [1, 2]}}"), None),
        (("match}", "match, selectors: {seson_id: 42}}"), 'did you mean "season_id"?'),
        (("match}", 'match, selectors: {seson_id: ">= 42"}}'), 'did you mean "season_id"?'),
    ],
)
def test_configuration_is_checked(
    ingestify: Callable[..., Done], tmp_path: Path, change: tuple[str, str], message: str | None
) -> None:
    """
    `config check` accepts what a run would accept, and names what it would not.
    """
    (tmp_path / "config.yaml").write_text(CONFIG.replace(*change))
    done = ingestify("config", "check")
    if message is None:
        assert done.code == 0
        assert "type: statsbomb_github" in done.out
        assert "1 source, 1 plan" in done.err
    else:
        assert done.code == 2
        assert message in done.err
        assert done.out == ""


def test_configuration_is_found_by_the_environment(
    ingestify: Callable[..., Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    INGESTIFY_CONFIG_FILE names the configuration where --config does not.
    """
    (tmp_path / "other.yaml").write_text(CONFIG)
    monkeypatch.setenv("INGESTIFY_CONFIG_FILE", "other.yaml")
    assert ingestify("config", "check").code == 0
    assert ingestify("config", "check", "--config", "config.yaml").code == 2


def test_configuration_is_shown_without_secrets(
    ingestify: Callable[..., Done], tmp_path: Path
) -> None:
    """
    What `config check` prints holds no secret, as YAML and as JSON.
    """
    (tmp_path / "my_source.py").write_text(
        "import ingestify\n\n\n"
        "class MySource(ingestify.Source):\n"
        "    provider = 'mine'\n\n"
        "    def __init__(self, name, *, api_key, **options):\n"
        "        super().__init__(name, **options)\n"
    )
    mine = "type: my_source.MySource\n    configuration: {api_key: canary-3f9a}"
    written = CONFIG.replace(
        'type: statsbomb_github\n    configuration: {base_url: "https://example.com/data/"}', mine
    )
    (tmp_path / "config.yaml").write_text(written)
    for arguments in (["config", "check"], ["config", "check", "--json", "--debug"]):
        done = ingestify(*arguments)
        assert done.code == 0, done.err
        assert "canary" not in done.out + done.err
        assert "***" in done.out


@pytest.mark.parametrize("arguments", READ_VERBS, ids=" ".join)
def test_reading_makes_no_lake(
    ingestify: Callable[..., Done], tmp_path: Path, arguments: list[str]
) -> None:
    """
    A verb that reads says that there is no lake yet, and leaves none behind.
    """
    (tmp_path / "config.yaml").write_text(CONFIG)
    done = ingestify(*arguments)
    assert done.code == 2
    assert done.out == ""
    assert "`ingestify run`" in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_schema_is_json(ingestify: Callable[..., Done]) -> None:
    """
    Editors are told what may stand in a configuration.
    """
    schema: dict[str, Any] = json.loads(ingestify("config", "schema").out)
    assert {"main", "sources", "ingestion_plans"} <= set(schema["properties"])


def test_installed_sources_are_listed(ingestify: Callable[..., Done]) -> None:
    """
    Each installed type of source has a line, with its provider.
    """
    lines = ingestify("source", "list").out.splitlines()
    assert ["statsbomb_github", "statsbomb"] in [line.split("\t")[:2] for line in lines]


def test_init_writes_a_folder_to_begin_with(ingestify: Callable[..., Done], tmp_path: Path) -> None:
    """
    A template's files are written, what git ignores included, and the next step is told.
    """
    assert "statsbomb_github" in ingestify("init", "--list").out.split()
    done = ingestify("init", "--template", "statsbomb_github", "my/lake")
    assert done.code == 0
    written = {path.name for path in (tmp_path / "my" / "lake").iterdir()}
    assert written == {"config.yaml", "query.py", "README.md", ".gitignore"}
    assert "ingestify run" in done.err
    assert ingestify("config", "check", "--config", "my/lake/config.yaml").code == 0


def test_init_never_overwrites(ingestify: Callable[..., Done], tmp_path: Path) -> None:
    """
    If one of its files exists, `init` names it and writes none.
    """
    (tmp_path / "query.py").write_text("mine")
    done = ingestify("init", "--template", "statsbomb_github")
    assert done.code == 2
    assert "query.py" in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["query.py"]
    assert (tmp_path / "query.py").read_text() == "mine"


def test_bug_ends_with_3_and_a_hint(
    ingestify: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    What nobody expected is one line that says how to see more; --debug shows where it was.
    """

    def fail() -> None:
        raise RuntimeError("out of cheese")

    monkeypatch.setattr(plugins, "source_types", fail)
    short = ingestify("source", "list")
    assert short.code == 3
    assert short.err == "Error: unexpected RuntimeError: out of cheese; --debug shows where\n"
    long = ingestify("source", "list", "--debug")
    assert long.code == 3
    assert "Traceback" in long.err
    assert long.out == ""


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("x"), 2),
        (CatalogError("x"), 3),
        (StoreUnavailableError("x"), 3),
        (FatalError("x"), 3),
        (FetchError("x"), 3),
        (StopProcessing("x"), 4),
    ],
    ids=lambda value: type(value).__name__,
)
def test_errors_have_exit_codes(error: IngestifyError, code: int) -> None:
    """
    A command that an error ends has the error's exit code, however deep in groups it lies.
    """
    assert code_of(error) == code
    group = ExceptionGroup("", [ValueError("y"), ExceptionGroup("", [error])])
    assert cause_of(group) is error


def test_running_out_of_disk_is_more_than_a_wrong_record() -> None:
    """
    Of several errors at once, the one that ends a run is told.
    """
    worse = StoreUnavailableError("no space")
    assert cause_of(ExceptionGroup("", [FetchError("one file"), worse])) is worse


STOPPING_SOURCE = """
import ingestify
from ingestify import errors


class MySource(ingestify.Source):
    provider = "mine"
    base_url = "http://127.0.0.1:9/"
    data_spec_versions = {"thing": {"data": "v1"}}

    def __init__(self, name, *, error, **options):
        super().__init__(name, **options)
        self.error = error

    async def discover_datasets(
        self, dataset_type, selector, *, data_spec_versions, state, http
    ):
        for number in range(3):
            resource = ingestify.DatasetResource(dataset_resource_id={"id": number}, name="thing")
            yield resource.add_file("data", "v1", content=b"{}", token="a")
        if self.error:
            raise getattr(errors, self.error)("enough of it")
"""


@pytest.mark.parametrize(
    ("error", "run_code", "plan_code"),
    [
        ("", 0, 0),
        ("SourceError", 1, 1),
        ("StopProcessing", 4, 4),
        ("FatalError", 3, 3),
    ],
)
def test_run_and_plan_end_as_their_sources_do(
    ingestify: Callable[..., Done], tmp_path: Path, error: str, run_code: int, plan_code: int
) -> None:
    """
    The exit code tells a source that failed from one that stops on purpose, or stops everything.
    """
    module = f"source_that_raises_{error.lower() or 'nothing'}"  # one name, one module a process
    (tmp_path / f"{module}.py").write_text(STOPPING_SOURCE)
    (tmp_path / "config.yaml").write_text(
        "main: {metadata_url: 'sqlite:///lake/catalog.db', file_url: lake/files}\n"
        f"sources: {{mine: {{type: {module}.MySource, configuration: {{error: '{error}'}}}}}}\n"
        "ingestion_plans: [{source: mine, dataset_type: thing}]\n"
    )
    planned, done = ingestify("plan"), ingestify("run")
    assert (planned.code, done.code) == (plan_code, run_code)
    if error:
        assert "enough of it" in planned.err + planned.out
        assert "enough of it" in done.err + done.out
    assert "Run 1 " in done.out
    assert ingestify("runs").out.startswith("1\t")
