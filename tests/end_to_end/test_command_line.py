"""The command line as its users meet it: real processes against a provider on this machine."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process, create_subprocess_exec
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest

from ingestify.testing import (
    MatchSize,
    ProviderSimulator,
    SeasonSpec,
    StatsBombWorld,
    hang_until,
    status,
)

SEASONS = (
    SeasonSpec(competition_id=11, season_id=42, matches=4),
    SeasonSpec(competition_id=11, season_id=90, matches=3),
)
MATCHES = 7


@dataclass(frozen=True, kw_only=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class CommandLine:
    """Runs `ingestify` in a folder."""

    def __init__(self, folder: Path, base_url: str) -> None:
        self.folder = folder
        kept = {name: value for name, value in os.environ.items() if "INGESTIFY" not in name}
        self.catalog = folder / "database" / "catalog.db"
        self.environment = {**kept, "STATSBOMB_BASE_URL": base_url, "PYTHONWARNINGS": "default"}

    async def __call__(self, *arguments: str) -> Done:
        async with self.started(*arguments) as process:
            out, err = await process.communicate()
        assert process.returncode is not None
        return Done(code=process.returncode, out=out.decode(), err=err.decode())

    @asynccontextmanager
    async def started(self, *arguments: str, stdout: int = PIPE) -> AsyncIterator[Process]:
        """A command that goes on, and is gone at the end."""
        process = await create_subprocess_exec(
            *(sys.executable, "-m", "ingestify", *arguments),
            cwd=self.folder,
            env=self.environment,
            stdin=DEVNULL,
            stdout=stdout,
            stderr=PIPE,
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
                await process.communicate()


async def line_with(process: Process, text: str) -> str:
    """The next line on stderr that holds *text*."""
    assert process.stderr is not None
    while line := (await process.stderr.readline()).decode():
        if text in line:
            return line
    raise AssertionError(f"stderr ended without {text!r}")


async def ended(process: Process) -> Done:
    with anyio.fail_after(60):
        out, err = await process.communicate()
    assert process.returncode is not None
    return Done(code=process.returncode, out=out.decode(), err=err.decode())


@pytest.fixture
async def provider() -> AsyncIterator[ProviderSimulator]:
    world = StatsBombWorld(size=MatchSize.TINY, seasons=SEASONS)
    async with ProviderSimulator(world) as simulator:
        yield simulator


@pytest.fixture
async def ingestify(provider: ProviderSimulator, tmp_path: Path) -> CommandLine:
    """The command line in a folder that `init` has made."""
    outside = CommandLine(tmp_path, provider.base_url)
    made = await outside("init", "--template", "statsbomb_github", "lake")
    assert made.code == 0, made.err
    return CommandLine(tmp_path / "lake", provider.base_url)


async def test_init_run_run_list(ingestify: CommandLine, provider: ProviderSimulator) -> None:
    """
    A fresh folder is filled by one command; the next one asks for lists alone.
    """
    first = await ingestify("run", "--json")
    assert first.code == 0, first.err
    assert first.json["counters"]["stored"] == MATCHES
    asked = provider.count("events/*") + provider.count("lineups/*")

    second = await ingestify("run", "--json")
    assert second.code == 0
    assert second.json["counters"]["stored"] == 0
    assert provider.count("events/*") + provider.count("lineups/*") == asked == 2 * MATCHES

    listed = (await ingestify("list", "--json")).json
    assert len(listed) == MATCHES
    assert {each["identifier"]["season_id"] for each in listed} == {42, 90}
    assert (await ingestify("list", "--count")).out == f"{MATCHES}\n"
    assert (await ingestify("list", "--count", "season_id=42")).out == "4\n"


async def test_a_mistyped_name_is_an_error(
    ingestify: CommandLine, provider: ProviderSimulator
) -> None:
    """
    A name that no Selector has selects nothing; one that no dataset has finds nothing. Both are
    said to be wrong, and the second only where nothing is found.
    """
    done = await ingestify("run", "--selector", "seson_id=90")
    assert done.code == 2
    assert 'no Selector has a name "seson_id"; did you mean "season_id"?' in done.err
    assert provider.count("matches/*") == 0

    assert (await ingestify("run", "--selector", "season_id=42")).code == 0
    for verb in (["list"], ["list", "--count"], ["show"], ["invalidate", "--reason", "x"]):
        done = await ingestify(*verb, "seson_id=42")
        assert done.code == 2
        there = "there are: competition_id, match_id, season_id"
        assert f"no dataset has a name 'seson_id'; {there}" in done.err
    done = await ingestify("list", "season_id=1")
    assert (done.code, done.out) == (0, "")
    assert "fits that" in done.err


async def test_one_of_two_values_is_nowhere(ingestify: CommandLine) -> None:
    """
    A run for two seasons, of which one does not exist, fetches the other and does not end well.
    """
    done = await ingestify("run", "--selector", "season_id=42", "--selector", "season_id=91")
    assert done.code == 1
    assert "Warning: nothing has season_id=91" in done.err
    assert (await ingestify("list", "--count")).out == "4\n"


async def test_run_reports_every_selector(ingestify: CommandLine) -> None:
    """
    The report names each selector with what was listed, how many tasks there were, and why.
    """
    done = await ingestify("run")
    [header, one, other, _, summary, _] = done.out.splitlines()
    assert header.split() == ["SELECTOR", "SOURCE", "LISTED", "TASKS", "SKIPPED", "FAILED", "WHY"]
    assert "La Liga 2019/2020 (competition_id=11/season_id=42)" in one
    assert one.split()[-6:] == ["4", "4", "0", "0", "4", "new"]
    assert other.split()[-6:] == ["3", "3", "0", "0", "3", "new"]
    assert "7 listed, 7 tasks (7 stored, 0 unchanged, 0 failed), 0 skipped" in summary


async def test_output_in_a_pipe_is_the_result_alone(ingestify: CommandLine) -> None:
    """
    In a pipe there are no control characters, and stdout holds the result only.
    """
    done = await ingestify("run")
    assert "\x1b" not in done.out + done.err
    assert all(line[:2] == "20" for line in done.err.splitlines()), done.err
    listed = await ingestify("list")
    assert listed.err == ""
    rows = [line.split("\t") for line in listed.out.splitlines()]
    assert len(rows) == MATCHES
    assert {len(row) for row in rows} == {10}
    assert {(row[1], row[2]) for row in rows} == {("statsbomb", "match")}


async def test_plan_and_dry_run_agree_and_change_nothing(
    ingestify: CommandLine, provider: ProviderSimulator
) -> None:
    """
    `plan` and `run --dry-run` print the same, fetch no dataset's file, and make no lake.
    """
    planned, dry = await ingestify("plan"), await ingestify("run", "--dry-run")
    assert planned.code == dry.code == 0
    assert planned.out == dry.out
    assert f"would fetch {MATCHES} datasets with {2 * MATCHES} requests" in planned.out
    assert provider.count("events/*") == 0
    assert not (ingestify.folder / "database").exists()

    forecast = (await ingestify("plan", "--json", "--force")).json
    assert (forecast["tasks"], forecast["requests"]) == (MATCHES, 2 * MATCHES)
    run = (await ingestify("run", "--json")).json
    assert run["counters"]["stored"] == forecast["tasks"]

    detailed = await ingestify("plan", "--datasets", "--force", "--selector", "season_id=90")
    assert detailed.out.count("events v8 (") == 3


async def test_filters_narrow_a_run(ingestify: CommandLine) -> None:
    """
    A run looks only at the selectors that are chosen; several values for a name admit any of them.
    """
    one = await ingestify("run", "--json", "--selector", "season_id=90")
    assert [each["selector"] for each in one.json["selectors"]] == [
        "competition_id=11/season_id=90"
    ]
    both = await ingestify(
        "plan", "--json", "--selector", "season_id=90", "--selector", "season_id=42"
    )
    assert len(both.json["selectors"]) == 2
    for nothing in ("season_id=7", "competition_id=12"):
        done = await ingestify("run", "--selector", nothing)
        assert done.code == 2
        assert nothing in done.err
    for option, name in (("--provider", "opta"), ("--source", "other")):
        done = await ingestify("run", option, name)
        assert done.code == 2
        assert "statsbomb" in done.err


async def test_every_read_verb_speaks_json(ingestify: CommandLine) -> None:
    """
    What a read verb prints with --json is one JSON value, whatever there is to tell.
    """
    await ingestify("run")
    match_id = (await ingestify("list", "--json")).json[0]["identifier"]["match_id"]
    for arguments in (
        ["show", f"match_id={match_id}"],
        ["explain", f"match_id={match_id}"],
        ["runs"],
        ["failed", "list"],
        ["list", "match_id=1"],
        ["plan"],
        ["source", "list"],
        ["config", "check"],
    ):
        done = await ingestify(*arguments, "--json")
        assert done.code == 0, (arguments, done.err)
        assert done.json is not None
    assert (await ingestify("config", "schema")).json["type"] == "object"


async def test_show_and_explain_tell_one_dataset(ingestify: CommandLine) -> None:
    """
    A dataset is found by its id, by its identity, or by its path; more than one is an error.
    """
    await ingestify("run")
    first, other = (await ingestify("list", "--json", "season_id=42")).json[:2]
    match_id, dataset_id = first["identifier"]["match_id"], first["dataset_id"]
    path = f"provider=statsbomb/dataset_type=match/competition_id=11/match_id={match_id}"
    shown = [await ingestify("show", each) for each in (dataset_id, f"match_id={match_id}", path)]
    assert {each.code for each in shown} == {0}
    assert len({each.out for each in shown}) == 1
    assert first["files"][0]["sha256"] in shown[0].out

    explained = (await ingestify("explain", dataset_id, "--json")).json
    assert {check["reason"] for check in explained["checks"]} == {"new"}
    assert {check["asked_for_at_next_run"] for check in explained["checks"]} == {None}

    ambiguous = await ingestify("show", "season_id=42")
    assert ambiguous.code == 2
    assert first["dataset_id"] in ambiguous.err
    assert other["dataset_id"] in ambiguous.err
    assert ambiguous.out == ""
    for unknown in ("match_id=1", "nonsense", "provider=opta/match_id=1"):
        done = await ingestify("explain", unknown)
        assert done.code == 2
        assert unknown in done.err


async def test_invalidated_datasets_are_fetched_again(ingestify: CommandLine) -> None:
    """
    Invalidating says why the next run asks again; many at once need --yes where nobody can answer.
    """
    await ingestify("run")
    match_id = (await ingestify("list", "--json")).json[0]["identifier"]["match_id"]
    one = await ingestify("invalidate", f"match_id={match_id}", "--reason", "wrong")
    assert one.code == 0
    explained = (await ingestify("explain", f"match_id={match_id}", "--json")).json
    assert all("invalidated" in check["asked_for_at_next_run"] for check in explained["checks"])
    assert (await ingestify("plan", "--json")).json["tasks"] == 1

    refused = await ingestify("invalidate", "season_id=42", "--reason", "wrong")
    assert refused.code == 2
    assert "--yes" in refused.err
    meant = await ingestify("invalidate", "season_id=42", "--reason", "wrong", "--yes")
    assert meant.code == 0
    assert (await ingestify("plan", "--json")).json["tasks"] == 4


async def test_failed_datasets_are_told(
    ingestify: CommandLine, provider: ProviderSimulator
) -> None:
    """
    When a dataset fails, the others are stored, the exit code is 1, and `failed list` has it.
    """
    match_id = StatsBombWorld(size=MatchSize.TINY, seasons=SEASONS).match_ids(11, 42)[0]
    broken = provider.script(f"events/{match_id}.json", status(400))
    done = await ingestify("run")
    assert done.code == 1
    assert "6 stored, 0 unchanged, 1 failed" in done.out
    [failure] = (await ingestify("failed", "list", "--json")).json
    assert str(match_id) in failure["identifier_key"]
    assert len((await ingestify("failed", "list", "--run", "1")).out.splitlines()) == 1

    provider.unscript(broken)
    assert (await ingestify("run")).code == 0
    assert (await ingestify("failed", "list", "--json")).json == []


async def test_why_a_selector_failed_is_said_once(
    ingestify: CommandLine, provider: ProviderSimulator
) -> None:
    """
    Where a provider is down, the report says so once; the table's row shows what it is about.
    """
    for glob, rows in (("competitions.json", 1), ("matches/11/*", 2)):
        broken = provider.script(glob, status(403))
        done = await ingestify("run", "--quiet")
        provider.unscript(broken)
        assert done.code == 1
        shown = done.out.splitlines()
        why = [line for line in shown if "answered 403: it is not for these credentials" in line]
        assert len(why) == rows, done.out
        assert all(line.startswith("failed: ") for line in why)
        assert sum(line.endswith("  failed") for line in shown) == rows


async def test_foreign_database_is_not_touched(ingestify: CommandLine) -> None:
    """
    What cannot be used as a catalog ends the command with 3 and one line.
    """
    (ingestify.folder / "database").mkdir()
    with sqlite3.connect(ingestify.folder / "database" / "catalog.db") as database:
        database.execute("CREATE TABLE other (a)")
    database.close()
    for verb in ("run", "list"):
        done = await ingestify(verb)
        assert done.code == 3
        assert done.err.startswith("Error: ")
        assert len(done.err.splitlines()) == 1


async def test_reader_that_leaves_is_no_error(ingestify: CommandLine) -> None:
    """
    A command whose reader has gone ends quietly, with the exit code for what it did.
    """
    await ingestify("run")
    read_end, write_end = os.pipe()
    os.close(read_end)
    for arguments in (["list"], ["list", "--json"], ["run"]):
        async with ingestify.started(*arguments, "--quiet", stdout=write_end) as process:
            _, err = await process.communicate()
        assert (process.returncode, err) == (0, b"")
    os.close(write_end)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
async def test_standard_streams_that_are_closed(ingestify: CommandLine, closed: str) -> None:
    """
    Some supervisors close standard streams: the run does its work all the same.
    """
    process = await create_subprocess_exec(
        *("sh", "-c", f'"$0" -m ingestify run {closed}', sys.executable),
        cwd=ingestify.folder,
        env=ingestify.environment,
    )

    assert await process.wait() == 0

    assert (await ingestify("list", "--count")).out == f"{MATCHES}\n"


async def hanging(provider: ProviderSimulator, glob: str) -> Callable[[], None]:
    """Let the provider hang at *glob*; the answer lets it go on."""
    release = anyio.Event()
    provider.script(glob, hang_until(release))
    return release.set


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_first_signal_lets_finish_what_is_in_flight(
    ingestify: CommandLine, provider: ProviderSimulator, signum: signal.Signals, code: int
) -> None:
    """
    After a signal nothing new is begun; what comes in is kept, and the run is closed as aborted.
    """
    let_go = await hanging(provider, "events/*")
    async with ingestify.started("run", "--concurrency", "2", "--json") as process:
        await provider.until(lambda: provider.in_flight == 2)
        process.send_signal(signum)
        await line_with(process, "stopping")
        let_go()
        done = await ended(process)
    assert done.code == code
    counters = done.json["counters"]
    assert 1 <= counters["stored"] < MATCHES
    assert counters["stored"] + counters["not_reached"] == counters["listed"]
    [run] = (await ingestify("runs", "--json")).json
    assert run["status"] == "aborted"
    assert (await ingestify("list", "--count")).out == f"{counters['stored']}\n"


async def test_signal_ends_a_run_while_the_provider_hangs(
    ingestify: CommandLine, provider: ProviderSimulator
) -> None:
    """
    A provider that never answers holds up the end of a run for the grace period at most.
    """
    await hanging(provider, "events/*")
    async with ingestify.started("run") as process:
        await provider.until(lambda: provider.in_flight > 0)
        process.send_signal(signal.SIGTERM)
        done = await ended(process)
    assert done.code == 143
    assert (await ingestify("runs", "--json")).json[0]["status"] == "aborted"


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_second_signal_ends_a_run_at_once(
    ingestify: CommandLine, provider: ProviderSimulator, signum: signal.Signals, code: int
) -> None:
    """
    The second signal waits for nothing, and still closes the run.
    """
    await hanging(provider, "events/*")
    async with ingestify.started("run") as process:
        await provider.until(lambda: provider.in_flight > 0)
        process.send_signal(signum)
        await line_with(process, "stopping")
        process.send_signal(signum)
        await line_with(process, "at once")
        done = await ended(process)
    assert done.code == code
    assert (await ingestify("runs", "--json")).json[0]["status"] == "aborted"


@pytest.mark.parametrize("glob", ["events/*", "competitions.json"])
async def test_nothing_waits_for_a_locked_catalog_once_a_run_ends_at_once(
    ingestify: CommandLine, provider: ProviderSimulator, glob: str
) -> None:
    """
    Another process that holds the catalog keeps no run alive that is to end at once. What could
    not be written down is found by the next run.
    """
    assert (await ingestify("plan")).code == 0
    script = provider.script(glob, hang_until(anyio.Event()))
    async with ingestify.started("run") as process:
        await provider.until(lambda: script.taken > 0)
        with closing(sqlite3.connect(ingestify.catalog, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            process.send_signal(signal.SIGINT)
            if glob == "events/*":
                await line_with(process, "stopping")
                process.send_signal(signal.SIGINT)
            await line_with(process, "at once")
            with anyio.fail_after(10):  # far from a second, and from the 30 that are its patience
                done = await ended(process)
    assert done.code == 130
    assert "could not be written down" in done.err
    provider.unscript(script)
    assert (await ingestify("run")).code == 0
    assert [run["status"] for run in (await ingestify("runs", "--json")).json] == [
        "finished",
        "crashed",
    ]


@pytest.mark.parametrize("verb", ["run", "plan"])
async def test_signal_before_anything_is_in_flight(
    ingestify: CommandLine, provider: ProviderSimulator, verb: str
) -> None:
    """
    While the sources are still being asked what they have, one signal is enough.
    """
    await hanging(provider, "competitions.json")
    async with ingestify.started(verb) as process:
        await provider.until(lambda: provider.in_flight > 0)
        process.send_signal(signal.SIGINT)
        await line_with(process, "at once")
        done = await ended(process)
    assert done.code == 130
    assert done.out == ""


async def test_second_run_leaves_a_held_plan_alone(
    ingestify: CommandLine, provider: ProviderSimulator
) -> None:
    """
    While one run holds a plan, another does nothing for it, says so, and ends with 0.
    """
    let_go = await hanging(provider, "events/*")
    async with ingestify.started("run", "--json") as first:
        await provider.until(lambda: provider.in_flight > 0)
        second = await ingestify("run", "--json")
        assert second.code == 0
        [held] = second.json["held_plans"]
        who = f"Run 1, at work since {held['since'][:10]} {held['since'][11:19]}Z,"
        what = "holds statsbomb match in bucket main: nothing was done for it."
        assert second.err.splitlines()[-1] == f"{who} {what}"
        assert held["run_id"] == 1
        assert second.json["counters"]["listed"] == 0
        let_go()
        done = await ended(first)
    assert done.code == 0
    assert done.json["counters"]["stored"] == MATCHES


async def test_demo_holds_what_it_promises(tmp_path: Path) -> None:
    """
    The demo runs from beginning to end in a fresh folder, and takes only a folder of its own.
    """
    anywhere = CommandLine(tmp_path, "http://127.0.0.1:9/")
    done = await anywhere("demo")
    assert done.code == 0, done.err
    assert "68 tasks (68 stored" in done.out
    assert done.out.count("Loaded dataset with ") == 68
    assert (await anywhere("demo")).code == 2
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").touch()
    refused = await anywhere("demo", "mine", "--force")
    assert refused.code == 2
    assert (tmp_path / "mine" / "file").exists()


async def test_demo_leaves_no_process_behind(tmp_path: Path) -> None:
    """
    A demo that is ended by a signal takes its simulated provider with it.
    """
    anywhere = CommandLine(tmp_path, "")
    async with anywhere.started("demo") as process:
        assert process.stdout is not None
        address = ""
        while "STATSBOMB_BASE_URL" not in address:
            address = (await process.stdout.readline()).decode()
        process.send_signal(signal.SIGTERM)
        done = await ended(process)
    assert done.code == 143
    port = int(address.strip().rstrip("/").rpartition(":")[2])
    with pytest.raises(OSError, match="onnect"):
        await anyio.connect_tcp("127.0.0.1", port)
