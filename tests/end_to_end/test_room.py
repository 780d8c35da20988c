"""Room to breathe: disks that fill up, few open files, and a lake that is moved elsewhere."""

from __future__ import annotations

import os
import random
import shlex
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from lakes import Lake, offer, offering, outcome
from lists import ListWorld

from ingestify.adapters.catalog.sqlite import SqliteCatalog
from ingestify.adapters.files.disk import SystemDisk
from ingestify.adapters.files.local import LocalFileStore
from ingestify.cli.ending import execute
from ingestify.config import load_config
from ingestify.engine import Engine
from ingestify.errors import ConfigError
from ingestify.model.run import RunStatus
from ingestify.open_files import FIXED, OpenFiles
from ingestify.pipeline import room
from ingestify.pipeline.room import Reserve
from ingestify.testing import ProviderSimulator
from ingestify.testing.clock import VirtualClock
from ingestify.testing.fetcher import FakeAnswer, FakeFetcher

TESTS = Path(__file__).parents[1]
PLENTY = 10**12
RESERVE = Reserve(bytes=10**6, files="the lake's files in /lake", catalog="the catalog")

CONFIG = """
main:
  metadata_url: sqlite:///{lake}/catalog.db
  file_url: {lake}/files
  {more}
sources:
  lists:
    type: lists.ListSource
    configuration: {{base_url: "{base_url}"}}
ingestion_plans:
  - source: lists
    dataset_type: thing
"""


class FillingDisk(SystemDisk):
    """Says how much is free as a test wants it: little once so many files were published."""

    def __init__(self, *, full_after: int = 10**9) -> None:
        self.full_after = full_after
        self.links = 0
        self.looks = 0

    def link(self, source: str, target: str) -> None:
        super().link(source, target)
        self.links += 1

    def free_bytes(self, path: str) -> int | None:
        self.looks += 1
        return 1000 if self.links >= self.full_after else PLENTY


@asynccontextmanager
async def lake_on(folder: Path, disk: FillingDisk, **ports: Any) -> AsyncIterator[Lake]:
    async with (
        SqliteCatalog.open(folder / "catalog.db") as catalog,
        LocalFileStore.at(folder / "files", disk=disk) as files,
    ):
        yield Lake(catalog=catalog, files=files, **ports)


async def test_a_run_does_not_begin_on_a_disk_that_is_nearly_full(tmp_path: Path) -> None:
    """
    Nothing is asked for; the Run has failed, and says where, how much, and what to do.
    """
    source = offering(offer(1))
    async with lake_on(tmp_path, FillingDisk(full_after=0)) as lake:
        summary = await lake.run(source, reserve=RESERVE)
        assert (summary.status, summary.exit_code, source.yielded) == ("failed", 3, 0)
        assert summary.error == (
            "only 1.0 kB are free for the lake's files in /lake, less than the 1.0 MB of"
            " min_free_space: free some space there, or lower min_free_space;"
            " run again to go on from here"
        )
        assert [row.status for row in await lake.catalog.runs()] == [RunStatus.FAILED]

        again = await lake.run(offering(offer(1)), reserve=Reserve(bytes=0))  # 0: never look
        assert again.exit_code == 0


async def test_a_disk_that_fills_up_stops_the_run_in_good_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Nothing new is begun, what is in flight is committed, what was committed stays; with space
    again, the next Run fetches the rest and nothing twice.
    """
    monkeypatch.setattr(room, "LOOK_AGAIN", 0.0)
    urls = {number: f"http://fake.invalid/{number}.json" for number in range(2000)}
    fetcher = FakeFetcher({url: FakeAnswer(body=b"{}") for url in urls.values()})
    offers = [offer(number, files={"a": url}) for number, url in urls.items()]
    disk = FillingDisk(full_after=100)
    async with lake_on(tmp_path, disk, fetcher=fetcher) as lake:
        first = await lake.run(offering(*offers), reserve=RESERVE)
        assert (first.status, first.exit_code) == ("failed", 3)
        assert "of min_free_space" in (first.error or "")
        assert set(outcome(first)) == {"stored", "not_reached"}
        assert first.counters.stored == len(await lake.ids()) == len(fetcher.requests)
        assert 100 <= first.counters.stored < 1000
        await lake.check()

        disk.full_after = 10**9
        second = await lake.run(offering(*offers), reserve=RESERVE)
        assert second.exit_code == 0
        assert await lake.ids() == list(urls)
        assert len(fetcher.requests) == len(urls)
        await lake.check()


async def test_free_space_costs_small_files_nothing(tmp_path: Path) -> None:
    """
    It is looked at once a second, not once a file.
    """
    disk = FillingDisk()
    async with lake_on(tmp_path, disk, clock=VirtualClock(auto=False)) as lake:
        summary = await lake.run(offering(*[offer(n) for n in range(300)]), reserve=RESERVE)
    assert (summary.exit_code, disk.links, disk.looks) == (0, 300, 1)


async def test_a_large_body_is_given_up_when_the_disk_fills_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A body that goes on and on does not eat the reserve; its Dataset is not reached, and nothing
    of it stays.
    """
    monkeypatch.setattr(room, "LOOK_AGAIN", 0.0)
    body = [b'"', *(random.Random(n).randbytes(500_000).hex().encode() for n in range(12)), b'"']
    url = "http://fake.invalid/large.json"
    disk = FillingDisk()

    def begin(request: Any) -> FakeAnswer:
        disk.full_after = 0
        return FakeAnswer(body=body)

    async with lake_on(tmp_path, disk, fetcher=FakeFetcher({url: begin})) as lake:
        summary = await lake.run(offering(offer(1, files={"a": url})), reserve=RESERVE)
        assert (summary.exit_code, outcome(summary)) == (3, {"not_reached": 1})
        await lake.check()


def write_config(folder: Path, lake: Path, provider: ProviderSimulator, more: str = "") -> Path:
    config = folder / "config.yaml"
    config.write_text(CONFIG.format(lake=lake, base_url=provider.base_url, more=more))
    return config


def fill(world: ListWorld, small: int, large: int = 0) -> None:
    world.set_list("a", *[{"id": key} for key in range(small + large)], token="t")
    for key in range(small + large):
        body = random.Random(key).randbytes(700_000).hex() if key >= small else ""
        world.set_data(key, {"x": key, "y": body})


async def run_process(config: Path, *, limit: int) -> tuple[int, str, int]:
    """A run in a process of its own that may open so many files: its exit code, what it said,
    and how many files it had open at most."""
    most = 0
    command = shlex.join([sys.executable, "-m", "ingestify", "run", "--config", str(config)])
    process = await anyio.open_process(
        ["sh", "-c", f"ulimit -n {limit} && exec {command}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
    )
    said: list[bytes] = []

    async def watch() -> None:
        nonlocal most
        while True:
            with suppress(OSError):  # it has ended
                most = max(most, len(os.listdir(f"/proc/{process.pid}/fd")))  # noqa: PTH208
            await anyio.sleep(0.001)

    async with process, anyio.create_task_group() as tg:
        assert process.stdout is not None
        if sys.platform == "linux":
            tg.start_soon(watch)
        async for chunk in process.stdout:
            said.append(chunk)
        tg.cancel_scope.cancel()
    return process.returncode or 0, b"".join(said).decode(), most


@pytest.mark.parametrize("limit", [64, 100, 4096])
async def test_a_run_opens_no_more_files_than_it_may(
    tmp_path: Path, world: ListWorld, provider: ProviderSimulator, limit: int
) -> None:
    """
    With 64 open files a run of 2,000 small files and 20 large ones is finished like any other,
    only with fewer at once; without such a limit it is bounded, too.
    """
    fill(world, small=2000, large=20)
    config = write_config(tmp_path, tmp_path / "lake", provider)

    code, said, most = await run_process(config, limit=limit)

    assert code == 0, said
    assert "2020 stored" in said
    assert provider.count("data/*") == 2020  # nothing had to be asked for twice
    assert most <= min(limit, FIXED + 10 + 3 * 64), said


async def test_too_few_open_files_are_refused_at_the_start(
    tmp_path: Path, world: ListWorld, provider: ProviderSimulator
) -> None:
    """
    A limit that allows not even one request is named, with the way to raise it.
    """
    fill(world, small=1)
    code, said, _ = await run_process(
        write_config(tmp_path, tmp_path / "lake", provider), limit=FIXED
    )
    assert code == 2, said
    assert f"at most {FIXED} files may be open at once, which is too few" in said
    assert "ulimit -n 1024" in said
    assert not provider.requests


@pytest.mark.parametrize(
    ("limit", "hosts", "expected"),
    [
        (4096, 1, OpenFiles(exchanges=256, publishing=128)),
        (1024, 1, OpenFiles(exchanges=256, publishing=128)),
        (1024, 3, OpenFiles(exchanges=172, publishing=128)),
        (256, 1, OpenFiles(exchanges=72)),
        (256, 10, OpenFiles(exchanges=18)),
        (64, 1, OpenFiles(exchanges=8)),
        (64, 10, OpenFiles(exchanges=12, keeps_connections=False)),
        (42, 1, OpenFiles(exchanges=1, keeps_connections=False)),
    ],
)
def test_how_much_a_limit_allows(limit: int, hosts: int, expected: OpenFiles) -> None:
    """
    Connections, idle ones included, and temporary files fit into it together with what is fixed.
    """
    assert OpenFiles.within(limit, 11, wanted=256, hosts=hosts, plans=1) == expected
    with pytest.raises(ConfigError, match="ulimit"):
        OpenFiles.within(41, 11, wanted=256, hosts=hosts, plans=1)


def test_what_is_free_stands_in_the_command_s_last_words(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """
    The command ends with 3 and names the folder; sizes in the configuration have units.
    """
    config = tmp_path / "config.yaml"
    more = "min_free_space: 1000000 TB"
    config.write_text(
        CONFIG.format(lake=tmp_path / "lake", base_url="http://x.invalid/", more=more)
    )
    assert execute(["run", "--config", str(config)]) == 3
    said = capfd.readouterr().err
    assert f"are free for the lake's files in {tmp_path}/lake/files, less than the" in said


@pytest.mark.parametrize("leftovers", [False, True])
async def test_a_lake_opens_where_it_was_moved_to(
    tmp_path: Path,
    world: ListWorld,
    provider: ProviderSimulator,
    leftovers: bool,
) -> None:
    """
    After one change in the configuration everything is there, and no file is asked for again,
    also when the move brought what a crash had left staged.
    """
    fill(world, small=20, large=2)
    before, after = tmp_path / "before", tmp_path / "elsewhere" / "after"
    async with Engine(load_config(write_config(tmp_path, before, provider))) as engine:
        assert (await engine.run()).counters.stored == 22
    if leftovers:
        (before / "files" / ".ingestify" / "staging" / "1-abc-0").write_bytes(b"half a body")
    after.parent.mkdir()
    shutil.move(before, after)
    provider.reset_counts()
    world.bump("a", "t2")  # so that the list is looked through

    async with Engine(load_config(write_config(tmp_path, after, provider))) as engine:
        summary = await engine.run(max_requests=100)
        assert (summary.exit_code, summary.counters.stored) == (0, 0)
        read = 0
        async for dataset in engine.store.iter_datasets():
            for content in await engine.store.load_files(dataset):
                await content.read_bytes()
                assert not Path(content.file.path).is_absolute()
                read += 1
    assert read == 22
    assert not before.exists()


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--max-requests", "0", "--max-requests"),
        ("--max-bytes", "0", "at least 1 byte"),
        ("--max-bytes", "many", "--max-bytes"),
        ("--max-duration", "0s", "must be above 0"),
    ],
)
def test_a_budget_that_is_none_is_wrong_usage(
    capfd: pytest.CaptureFixture[str], option: str, value: str, said: str
) -> None:
    """
    The command names the option, and does nothing.
    """
    assert execute(["run", option, value]) == 2
    err = capfd.readouterr().err
    assert option in err
    assert said in err


async def test_budgets_on_the_command_line(
    tmp_path: Path, world: ListWorld, provider: ProviderSimulator
) -> None:
    """
    A budget that is used up ends the command with 4, and a line that says how to go on.
    """
    fill(world, small=20)
    config = write_config(tmp_path, tmp_path / "lake", provider)
    options = ["--max-requests", "10", "--max-bytes", "1GB", "--max-duration", "1h"]
    done = await anyio.run_process(
        [sys.executable, "-m", "ingestify", "run", "--config", str(config), *options],
        check=False,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
    )
    assert done.returncode == 4, done.stderr
    assert b"Stopped early: the budget max_requests is used up: 10 of 10" in done.stderr
    assert len(provider.requests) == 10
