"""`ingestify demo`: the whole story against a simulated provider, checked as it goes."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from subprocess import PIPE
from typing import TYPE_CHECKING, Any

import anyio
import click

from ingestify.cli.options import common_options
from ingestify.cli.screen import write
from ingestify.cli.session import Session
from ingestify.cli.signals import Signals
from ingestify.errors import ConfigError, RunError

if TYPE_CHECKING:
    from ingestify.cli.demo_provider import DemoProvider

MARKER = ".ingestify-demo"
MATCHES = 68
FILES = ("events", "lineups")  # the folders of the provider that hold the files of matches


@click.command("demo")
@click.pass_obj
@click.argument("path", type=click.Path(path_type=Path), default="demo")
@click.option("--force", is_flag=True, help="Clear PATH first, if it is of an earlier demo.")
@common_options
def demo_command(session: Session, *, path: Path, force: bool) -> int:
    """Watch a lake grow, on your machine alone.

    A simulated provider with two seasons of made-up matches runs on loopback. The demo fills a
    new lake in PATH from it, runs again, lets the provider change something, and runs once more.
    It checks what it says, and fails if the counts are not as promised.
    """
    _prepare(path, force=force)
    return anyio.run(_supervise, path)


def _prepare(path: Path, *, force: bool) -> None:
    """Make *path* an empty folder that is marked as a demo's.

    Raises:
        ConfigError: it holds something that is not ours to remove, or that nobody said to remove.
    """
    if path.exists() and not path.is_dir():
        raise ConfigError(f"{path} is not a folder")
    present = list(path.iterdir()) if path.is_dir() else []
    if present and not (path / MARKER).is_file():
        raise ConfigError(f"{path} is not empty, and not of a demo; say where: ingestify demo PATH")
    if present and not force:
        raise ConfigError(f"{path} holds an earlier demo; --force clears it")
    for each in present:
        if each.is_dir() and not each.is_symlink():
            shutil.rmtree(each)
        else:
            each.unlink()
    path.mkdir(parents=True, exist_ok=True)
    (path / MARKER).write_text("`ingestify demo --force` removes everything in this folder.\n")


async def _supervise(path: Path) -> int:
    from ingestify.cli.demo_provider import simulated_provider

    async with anyio.create_task_group() as tg:
        signals = Signals(ask_to_stop=lambda: False, stop_at_once=tg.cancel_scope.cancel)
        await tg.start(signals.watch)
        async with simulated_provider() as provider:
            await Demo(path, provider).tell()
        tg.cancel_scope.cancel()
    return signals.exit_code or 0


class Demo:
    """The story. Every command is a process of its own, as a user would start it."""

    def __init__(self, path: Path, provider: DemoProvider) -> None:
        self._path = path
        self._provider = provider
        self._environment = {**os.environ, "STATSBOMB_BASE_URL": provider.base_url}
        self._environment.pop("INGESTIFY_CONFIG_FILE", None)  # it would name another lake

    async def tell(self) -> None:
        """Tell it from beginning to end.

        Raises:
            RunError: something was not as promised.
        """
        await self._begin()
        await self._fetch_everything()
        await self._fetch_nothing()
        await self._fetch_what_changed()
        await self._look_at_it()

    async def _begin(self) -> None:
        _comment("A folder with a configuration, and a script that reads the lake.")
        folder = str(self._path)
        await self._run("init", "--template", "statsbomb_github", folder, folder=None)
        _show(f"cd {folder}")
        _comment(f"Not StatsBomb itself: a simulated provider, with {MATCHES} made-up matches.")
        _show(f"export STATSBOMB_BASE_URL={self._provider.base_url}")

    async def _fetch_everything(self) -> None:
        _comment("The first run fetches everything.")
        await self._run("run")
        run, asked = await self._newest_run(), await self._provider.requests()
        _check(f"{MATCHES} tasks, all of them stored", _tasks(run) == run["stored"] == MATCHES)
        fetched = {folder: asked.get(folder, 0) for folder in FILES}
        _check(
            f"the provider was asked once for each of the {MATCHES} files of events and lineups",
            fetched == dict.fromkeys(FILES, MATCHES),
        )

    async def _fetch_nothing(self) -> None:
        _comment("Nothing has changed, so the second run asks for lists alone.")
        await self._provider.forget_requests()
        await self._run("run")
        run, asked = await self._newest_run(), await self._provider.requests()
        _check("0 tasks", _tasks(run) == 0)
        _check("0 requests for files of matches", not any(map(asked.get, FILES)))

    async def _fetch_what_changed(self) -> None:
        before = await self._revisions()
        [corrected] = await self._provider.evolve("correct_events", match_id=min(before))
        [quiet] = await self._provider.evolve("change_events_quietly", match_id=max(before))
        _comment(
            f"Meanwhile the provider corrects the events of match {corrected}, and those of match"
            f" {quiet} without a word in its list: only of their seasons it says they were updated."
        )
        await self._run("run")
        run, after = await self._newest_run(), await self._revisions()
        changed = {each: number for each, number in after.items() if before.get(each) != number}
        _check(
            f"exactly 2 matches stored: {corrected} and {quiet} have a second revision",
            run["stored"] == 2 and changed == {corrected: 1, quiet: 1},
        )
        _check(
            f"the other {MATCHES - 2} were asked for with their seasons, and had not changed",
            run["unchanged"] == MATCHES - 2,
        )
        _comment("Why is there a second revision?")
        await self._run("explain", f"match_id={corrected}")

    async def _look_at_it(self) -> None:
        _comment("What is in the lake.")
        await self._run("list")
        _comment("And in Python, through kloppy.")
        _show("python query.py")
        if find_spec("kloppy") is None:
            write("Skipped: kloppy is not installed. pip install 'ingestify[kloppy]' brings it.")
        else:
            loaded = await self._output([sys.executable, "query.py"])
            write(loaded.rstrip())
            lines = loaded.splitlines()
            _check(
                f"{MATCHES} matches loaded, each with its events",
                len(lines) == MATCHES
                and all(each.startswith("Loaded dataset with ") for each in lines)
                and " 0 events" not in loaded,
            )
        _comment(
            f"That was it. The lake is in {self._path}. Its matches are made up, so do not run"
            " it against StatsBomb: begin anew with `ingestify init`."
        )

    async def _run(self, *arguments: str, folder: Path | None = Path()) -> None:
        """Show a command and do it, with our own stdout and stderr as its own."""
        _show(" ".join(["ingestify", *arguments]))
        where = None if folder is None else self._path / folder
        command = [sys.executable, "-m", "ingestify", *arguments]
        done = await anyio.run_process(
            command, cwd=where, env=self._environment, check=False, stdout=None, stderr=None
        )
        if done.returncode:
            raise RunError(f"ingestify {arguments[0]} ended with {done.returncode}")

    async def _output(self, command: list[str]) -> str:
        """What a command writes to stdout."""
        done = await anyio.run_process(
            command, cwd=self._path, env=self._environment, check=False, stdout=PIPE, stderr=None
        )
        if done.returncode:
            raise RunError(f"{' '.join(command[1:])} ended with {done.returncode}")
        return done.stdout.decode()

    async def _ask(self, *arguments: str) -> Any:
        command = [sys.executable, "-m", "ingestify", *arguments, "--json"]
        return json.loads(await self._output(command))

    async def _newest_run(self) -> dict[str, int]:
        [run] = await self._ask("runs", "--limit", "1")
        counters: dict[str, int] = run["counters"]
        return counters

    async def _revisions(self) -> dict[int, int]:
        """The number of the newest revision, by match."""
        datasets = await self._ask("list")
        return {each["identifier"]["match_id"]: each["revision"] for each in datasets}


def _tasks(counters: Mapping[str, int]) -> int:
    return counters["stored"] + counters["unchanged"] + counters["failed"]


def _comment(text: str) -> None:
    write(click.style(f"\n# {text}", dim=True))


def _show(command: str) -> None:
    write(click.style(f"$ {command}", bold=True))


def _check(claim: str, holds: bool) -> None:
    if not holds:
        raise RunError(f"the demo is not as promised: {claim}")
    write(f"✓ {claim}")
