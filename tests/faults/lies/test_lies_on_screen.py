"""What stands on the screen, and what the shell is told, where a provider lies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest
from anyio import fail_after
from lying import CANARY, HANG_SECONDS

from ingestify.testing import MatchSize, ProviderSimulator, SeasonSpec, StatsBombWorld
from ingestify.testing.lies import LIES

CONFIG = """
main:
  metadata_url: sqlite:///{folder}/catalog.db
  file_url: {folder}/files
sources:
  statsbomb:
    type: statsbomb_github
    configuration: {{base_url: "{base_url}"}}
    http: {{attempts: 2}}
ingestion_plans:
  - source: statsbomb
    dataset_type: match
"""
SEASON = SeasonSpec(competition_id=11, season_id=42, matches=3)


@dataclass(frozen=True, kw_only=True)
class Screen:
    """What a command has printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err


@dataclass(frozen=True, kw_only=True)
class Shell:
    """A user's shell, with a configuration at hand and a provider to be asked."""

    config: Path
    provider: ProviderSimulator
    world: StatsBombWorld

    async def start(self, *command: str) -> anyio.abc.Process:
        return await anyio.open_process(
            [sys.executable, "-m", "ingestify", *command, "--config", str(self.config)],
            env={**os.environ, "COLUMNS": "300", "NO_COLOR": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    async def end(self, process: anyio.abc.Process, *, hurry_at: str | None = None) -> Screen:
        """What *process* prints until it ends. It is interrupted when it prints *hurry_at*."""
        printed = {"out": b"", "err": b""}

        async def read(name: str, stream: anyio.abc.ByteReceiveStream | None) -> None:
            assert stream is not None
            async for chunk in stream:
                is_known = hurry_at is None or hurry_at.encode() in printed[name]
                printed[name] += chunk
                if hurry_at is not None and not is_known and hurry_at.encode() in printed[name]:
                    process.send_signal(signal.SIGINT)

        with fail_after(HANG_SECONDS):
            async with process, anyio.create_task_group() as tg:
                tg.start_soon(read, "out", process.stdout)
                tg.start_soon(read, "err", process.stderr)
                code = await process.wait()
        screen = Screen(code=code, out=printed["out"].decode(), err=printed["err"].decode())
        assert "Traceback" not in screen.text
        assert CANARY not in screen.text
        return screen

    async def run(self, *command: str) -> Screen:
        return await self.end(await self.start(*command))


@pytest.fixture
async def shell(tmp_path: Path) -> AsyncIterator[Shell]:
    world = StatsBombWorld(size=MatchSize.TINY, seasons=[SEASON])
    async with ProviderSimulator(world) as provider:
        base_url = provider.base_url.replace("://", f"://user:{CANARY}@")
        config = tmp_path / "config.yaml"
        config.write_text(CONFIG.format(folder=tmp_path / "lake", base_url=base_url))
        yield Shell(config=config, provider=provider, world=world)


async def test_html_with_200_on_the_screen(shell: Shell) -> None:
    """
    The run ends with 1 and names the match and the reason; `failed list` repeats it until the
    next good run, which ends with 0.
    """
    match_id = shell.world.match_ids(11, 42)[1]
    shell.provider.script(f"events/{match_id}.json", LIES["html with 200"])
    run = await shell.run("run")
    assert run.code == 1
    assert f"events/{match_id}.json: looks like an HTML page, not like json" in run.text

    failed = await shell.run("failed", "list", "--json")
    (listed,) = json.loads(failed.out)
    assert listed["code"] == "invalid body"
    assert "looks like an HTML page" in listed["message"]

    shell.provider.heal()
    assert (await shell.run("run")).code == 0
    assert json.loads((await shell.run("failed", "list", "--json")).out) == []


async def test_401_for_ever_on_the_screen(shell: Shell) -> None:
    """
    The run ends with 1 after one request, and says what is wrong with which address.
    """
    shell.provider.script("*", LIES["401"])
    run = await shell.run("run")

    assert run.code == 1
    assert "competitions.json answered 401: the credentials are missing or refused" in run.text
    assert len(shell.provider.requests) == 1


async def test_a_hang_is_ended_by_ctrl_c(shell: Shell) -> None:
    """
    The run ends with 130 although the provider never answers: it waits for what is in flight, or
    ends at once when it is asked again. The next run asks for the rest.
    """
    hung = shell.world.match_ids(11, 42)[2]
    script = shell.provider.script(f"events/{hung}.json", LIES["hang in the body"])
    process = await shell.start("run")
    with fail_after(HANG_SECONDS):
        await shell.provider.until(
            lambda: script.taken > 0 and shell.provider.count("lineups/*", status=200) == 3
        )
    process.send_signal(signal.SIGINT)
    screen = await shell.end(process, hurry_at="press Ctrl-C again")
    assert screen.code == 130
    assert "stopping at once: what was finished is kept" in screen.text

    shell.provider.heal()
    shell.provider.reset_counts()
    assert (await shell.run("run")).code == 0
    assert shell.provider.count(f"events/{hung}.json") == 1
    assert shell.provider.count("events/*") <= 3
