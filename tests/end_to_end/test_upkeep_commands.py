"""`ingestify verify`, `gc`, `delete`, and `failed show` and `retry`, as somebody types them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ingestify.testing import MatchSize, ProviderSimulator, SeasonSpec, StatsBombWorld, status
from tests.end_to_end.test_command_line import CommandLine

MATCHES = 3
FILES = 3 * MATCHES  # match, lineups and events; there are no frames


@pytest.fixture
async def provider() -> AsyncIterator[ProviderSimulator]:
    seasons = [
        SeasonSpec(competition_id=11, season_id=42, matches=MATCHES - 1),
        SeasonSpec(competition_id=11, season_id=90, matches=1),
    ]
    world = StatsBombWorld(size=MatchSize.TINY, seasons=seasons)
    async with ProviderSimulator(world) as simulator:
        yield simulator


@pytest.fixture
async def ingestify(provider: ProviderSimulator, tmp_path: Path) -> CommandLine:
    """The command line in the folder of a lake that is filled."""
    outside = CommandLine(tmp_path, provider.base_url)
    await outside("init", "--template", "statsbomb_github", "lake")
    inside = CommandLine(tmp_path / "lake", provider.base_url)
    assert (await inside("run")).code == 0
    provider.reset_counts()
    return inside


def stored_files(ingestify: CommandLine) -> list[Path]:
    return sorted((ingestify.folder / "database" / "files" / "main").rglob("*.gz"))


def files_asked_for(provider: ProviderSimulator) -> list[str]:
    paths = [request.path.lstrip("/") for request in provider.requests]
    return [path for path in paths if path.startswith(("events/", "lineups/"))]


async def test_a_sound_lake(ingestify: CommandLine) -> None:
    """
    Nothing is wrong: nothing on stdout, one line on stderr, exit 0.
    """
    done = await ingestify("verify")

    assert (done.code, done.out) == (0, "")
    assert f"{FILES} files" in done.err
    assert "all sound" in done.err


async def test_damage_is_found_and_repaired(
    ingestify: CommandLine, provider: ProviderSimulator
) -> None:
    """
    A file that is missing and one that was changed are named, with exit 1; --repair asks for
    these two alone, and then all is sound.
    """
    events = [path for path in stored_files(ingestify) if "__events" in path.name]
    before = [path.read_bytes() for path in events]
    events[0].unlink()
    events[1].write_bytes(before[1][:-1] + b"x")

    found = await ingestify("verify")

    assert found.code == 1
    assert {line.split("\t")[3] for line in found.out.splitlines()} == {"missing", "changed"}
    assert "2 damaged" in found.err
    assert "verify --repair" in found.err

    repaired = await ingestify("verify", "--repair")

    assert repaired.code == 0, repaired.err
    assert "all sound" in repaired.err
    assert [path.partition("/")[0] for path in files_asked_for(provider)] == ["events", "events"]
    assert (await ingestify("verify")).code == 0


async def test_verify_speaks_json(ingestify: CommandLine) -> None:
    """
    With --json, stdout is one value that says everything.
    """
    stored_files(ingestify)[0].unlink()

    found = await ingestify("verify", "--json", "season_id=90")
    everything = await ingestify("verify", "--json")

    assert (found.code, found.json["files"]) == (0, 3)
    assert everything.code == 1
    assert everything.json["damaged_count"] == 1
    assert everything.json["damaged"][0]["damage"] == "missing"


async def test_what_is_not_there_is_not_sound(ingestify: CommandLine) -> None:
    """
    A filter that finds nothing is a mistake, not a sound lake.
    """
    for wrong in (["match_id=0"], ["seson_id=90"], ["no-such-id"], ["--bucket", "other"]):
        done = await ingestify("verify", *wrong)
        assert (done.code, done.out) == (2, "")
    assert "competition_id, match_id, season_id" in (await ingestify("verify", "seson_id=90")).err


async def test_gc_removes_debris_alone(ingestify: CommandLine) -> None:
    """
    A file that no revision has is shown, then removed; all others stay.
    """
    known = stored_files(ingestify)
    stray = known[0].with_name("stray.json.gz")
    stray.write_bytes(b"nobody knows it")

    shown = await ingestify("gc", "--dry-run")
    assert (shown.code, stray.exists()) == (0, True)
    assert "stray.json.gz" in shown.out
    assert "would be removed" in shown.err

    removed = await ingestify("gc", "--json")
    assert (removed.code, removed.json["unreferenced"]) == (0, 1)
    assert stored_files(ingestify) == known
    assert "Nothing to remove" in (await ingestify("gc")).err


async def test_deleted_datasets_are_gone(ingestify: CommandLine) -> None:
    """
    Nothing is deleted without a yes; then rows and bytes are gone, and a run fetches them anew.
    """
    match_id = json.loads((await ingestify("list", "--json")).out)[0]["identifier"]["match_id"]

    asked = await ingestify("delete", f"match_id={match_id}")
    assert asked.code == 2
    assert "--yes" in asked.err
    assert (await ingestify("delete", "--yes")).code == 2
    assert (await ingestify("delete", "--yes", "match_id=0")).code == 2
    assert len(stored_files(ingestify)) == FILES

    deleted = await ingestify("delete", "--yes", f"match_id={match_id}")
    assert deleted.code == 0, deleted.err
    assert "1 dataset deleted, with 3 files" in deleted.out
    assert len(stored_files(ingestify)) == FILES - 3
    assert (await ingestify("verify")).code == 0

    assert (await ingestify("run")).code == 0
    assert len(stored_files(ingestify)) == FILES


async def test_failures_are_shown_and_retried(
    ingestify: CommandLine, provider: ProviderSimulator
) -> None:
    """
    What failed is told with its reason; a retry asks for it alone, and then it is settled.
    """
    match_id = json.loads((await ingestify("list", "--json")).out)[0]["identifier"]["match_id"]
    assert "Nothing to ask for again" in (await ingestify("failed", "retry")).err
    script = provider.script(f"events/{match_id}.json", status(403))
    assert (await ingestify("run", "--force")).code == 1

    shown = await ingestify("failed", "show", f"match_id={match_id}")
    assert "403" in shown.out
    assert "events" in shown.out
    assert "Nothing has failed that fits" in (await ingestify("failed", "show", "match_id=0")).err
    assert (await ingestify("failed", "retry")).code == 1

    provider.unscript(script)
    provider.reset_counts()
    retried = await ingestify("failed", "retry")
    assert retried.code == 0, retried.err
    assert f"events/{match_id}.json" in files_asked_for(provider)
    assert all(str(match_id) in path for path in files_asked_for(provider))
    assert json.loads((await ingestify("failed", "list", "--json")).out) == []
