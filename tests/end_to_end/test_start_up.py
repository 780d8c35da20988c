"""What a run with nothing to do loads, for each module is paid for at every start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from asyncio.subprocess import DEVNULL, PIPE, create_subprocess_exec
from pathlib import Path
from typing import Any

import pytest

from ingestify.testing import MatchSize, ProviderSimulator, SeasonSpec, StatsBombWorld

CONFIG = """
main:
  metadata_url: sqlite:///catalog.db
  file_url: files
sources:
  open_data:
    type: statsbomb_github
    configuration: {{base_url: "{base_url}"}}
ingestion_plans:
  - {{source: open_data, dataset_type: match}}
"""
# The command line, and at its end what the interpreter holds.
RUN = """
import gc, json, sys
from ingestify.__main__ import main
sys.argv = ["ingestify", "run", "--json"]
try:
    main()
finally:
    held = {
        "modules": list(sys.modules),
        "gc_threshold": gc.get_threshold()[0],
        "gc_frozen": gc.get_freeze_count(),
    }
    print(json.dumps(held), file=sys.stderr)
"""
# Of libraries that only other work, a terminal, or a failure needs.
HEAVY = {"aiofiles", "kloppy", "numpy", "pandas", "polars", "rich", "tenacity"}
OF_OTHER_WORK = {
    "difflib",  # for hints at what was meant
    "html",  # for secrets
    "ingestify.cli.demo",
    "ingestify.main",
    "ingestify.pipeline.forecast",
    "ingestify.streaming",
    "ingestify.testing",
    "ingestify.upkeep",
}


async def run_in(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The summary of a run in a process of its own, and what it held at its end."""
    process = await create_subprocess_exec(
        *(sys.executable, "-c", RUN),
        cwd=folder,
        env={name: value for name, value in os.environ.items() if "INGESTIFY" not in name},
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return json.loads(out), json.loads(err.splitlines()[-1])


@pytest.fixture
async def held(tmp_path: Path) -> dict[str, Any]:
    """What the process of a run held that had nothing to do, with stderr no terminal."""
    seasons = (SeasonSpec(competition_id=11, season_id=90, matches=1),)
    async with ProviderSimulator(StatsBombWorld(size=MatchSize.TINY, seasons=seasons)) as provider:
        (tmp_path / "config.yaml").write_text(CONFIG.format(base_url=provider.base_url))
        first, _ = await run_in(tmp_path)
        second, held = await run_in(tmp_path)
    assert first["counters"]["stored"] == 1
    assert second["counters"]["stored"] == 0
    assert second["requests"] == 2  # for lists, of which one has not changed
    return held


async def test_a_run_with_nothing_to_do_loads_nothing_for_other_work(held: dict[str, Any]) -> None:
    """
    Such a run imports the libraries of a run, and none that loading, showing, trying again or
    looking after a lake needs.
    """
    modules = set(held["modules"])
    assert "aiohttp" in modules  # the list is of this run
    assert not modules & OF_OTHER_WORK
    assert not {name.partition(".")[0] for name in modules} & HEAVY


async def test_the_command_line_seldom_looks_for_garbage(held: dict[str, Any]) -> None:
    """
    As a process of its own the command line looks for garbage seldom, and not at all at its end.
    """
    assert held["gc_threshold"] >= 100_000
    assert held["gc_frozen"] > 0


def test_the_library_leaves_the_garbage_collector_alone() -> None:
    """
    Where ingestify is a library, looking for garbage is the program's own matter.
    """
    code = (
        "import gc; before = gc.get_threshold()\n"
        "import ingestify.main, ingestify.cli.ending\n"
        "ingestify.cli.ending.execute(['run', '--config', 'not there'])\n"
        "assert gc.get_threshold() == before and gc.get_freeze_count() == 0"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
