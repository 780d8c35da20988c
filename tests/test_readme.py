"""What the README says is so: its Python runs, its YAML loads, its commands and settings exist."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import click
import pytest

from ingestify.cli.app import app
from ingestify.config import Config, load_config
from ingestify.engine import Engine
from ingestify.testing import FolderWorld, ProviderSimulator

README = (Path(__file__).parents[1] / "README.md").read_text()


def blocks(language: str) -> list[str]:
    """The README's code blocks in *language*."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.M | re.S)


def block_with(language: str, text: str) -> str:
    (found,) = [block for block in blocks(language) if text in block]
    return found


@pytest.fixture
def example() -> Iterator[ModuleType]:
    """The module that the README has its readers write."""
    module = ModuleType("example")
    exec(compile(block_with("python", "class ExampleSource"), "example.py", "exec"), vars(module))  # noqa: S102
    sys.modules["example"] = module
    yield module
    del sys.modules["example"]


async def test_the_example_source_runs(
    tmp_path: Path, example: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The README's Source, as it stands there, fills a lake, and fetches nothing the second time.
    """
    monkeypatch.setenv("EXAMPLE_API_KEY", "k")
    source_lines = block_with("python", "class ExampleSource").strip().splitlines()
    assert len(source_lines) <= 34
    world = FolderWorld(tmp_path)
    world.put("seasons.json", json.dumps([{"id": 7, "name": "2025", "updated": "u1"}]).encode())
    matches = [{"id": 1, "name": "A - B", "updated": "m1"}]
    world.put("seasons/7/matches.json", json.dumps(matches).encode())
    world.put("matches/1/events.json", b"[]")
    async with ProviderSimulator(world) as provider:
        config = Config.from_values(
            metadata_url="memory://",
            file_url="memory://",
            sources={
                "example": {
                    "type": "example.ExampleSource",
                    "configuration": {"api_key": "k", "base_url": provider.base_url},
                }
            },
            ingestion_plans=[{"source": "example", "dataset_type": "match"}],
        )
        async with Engine(config) as engine:
            first, second = await engine.run(), await engine.run()
    assert (first.counters.stored, first.exit_code) == (1, 0)
    assert (second.counters.listed, second.exit_code) == (0, 0)
    assert provider.count("matches/1/events.json") == 1


async def test_the_example_subscriber_is_told(
    tmp_path: Path, example: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    The README's subscriber, named as it says, prints what the README's Source has brought.
    """
    text = block_with("python", "class Announce")
    assert len([line for line in text.splitlines() if line]) <= 15
    exec(compile(text, "announce.py", "exec"), vars(example))  # noqa: S102
    world = FolderWorld(tmp_path)
    world.put("seasons.json", json.dumps([{"id": 7, "name": "2025", "updated": "u1"}]).encode())
    matches = [{"id": 1, "name": "A - B", "updated": "m1"}]
    world.put("seasons/7/matches.json", json.dumps(matches).encode())
    world.put("matches/1/events.json", b"[1, 2, 3]")
    async with ProviderSimulator(world) as provider:
        options = {"api_key": "k", "base_url": provider.base_url}
        config = Config.from_values(
            metadata_url="memory://",
            file_url="memory://",
            sources={"example": {"type": "example.ExampleSource", "configuration": options}},
            ingestion_plans=[{"source": "example", "dataset_type": "match"}],
            event_subscribers=[{"type": "example.Announce", "configuration": {"feed": "events"}}],
        )
        async with Engine(config) as engine:
            summary = await engine.run()
    assert (summary.exit_code, summary.warnings) == (0, ())
    assert capsys.readouterr().out == "A - B 0 3\n"


def test_every_python_block_compiles() -> None:
    """
    Nothing in the README is a syntax error.
    """
    assert len(blocks("python")) >= 3
    for block in blocks("python"):
        compile(block, "README.md", "exec", flags=0x2000)  # top-level await, as in a notebook


def test_the_whole_configuration_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The README's reference configuration is one that loads.
    """
    monkeypatch.setenv("EXAMPLE_API_KEY", "k")
    file = tmp_path / "config.yaml"
    file.write_text(block_with("yaml", "ingestion_plans:"))
    assert load_config(file).ingestion_plans


def commands(group: click.Group, prefix: str = "") -> Iterator[str]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}"


def test_every_command_is_documented() -> None:
    """
    Each verb of the command line stands in the README's table.
    """
    missing = [name for name in commands(app) if f"`{name}" not in README]
    assert not missing


def test_every_setting_is_documented() -> None:
    """
    Each key that the configuration knows stands somewhere in the README.
    """
    from ingestify.config import config_schema

    schema = config_schema()
    names = {
        name
        for section in [schema, *schema["$defs"].values()]
        for name in section.get("properties", {})
    }
    missing = sorted(name for name in names if not re.search(rf"\b{name}\b", README))
    assert not missing
