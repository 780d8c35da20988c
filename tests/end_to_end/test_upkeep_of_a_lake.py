"""Looking after a real lake: damage is found and mended, and what is not needed is removed."""

from __future__ import annotations

import hashlib
import secrets
import sys
import textwrap
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from anyio import Event, create_task_group, open_process
from anyio.lowlevel import checkpoint
from anyio.streams.buffered import BufferedByteReceiveStream
from lists import ListWorld

from ingestify.adapters.catalog.sqlite import SqliteCatalog
from ingestify.engine import Engine
from ingestify.errors import ConfigError, StoreError
from ingestify.model.catalog import DatasetQuery
from ingestify.model.dataset import Dataset
from ingestify.model.event import EventType
from ingestify.model.run import RunStatus, RunSummary
from ingestify.testing import ProviderSimulator, hang_until, status
from ingestify.upkeep import Damage, Verification

COUNT = 12
Open = Callable[..., Engine]
DamageIt = Callable[[Path], object]


def flip(at: float) -> DamageIt:
    """Turns one bit around, *at* that share of the file."""

    def damage(path: Path) -> None:
        body = bytearray(path.read_bytes())
        body[int(at * (len(body) - 1))] ^= 1
        path.write_bytes(body)

    return damage


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def extend(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: dict[str, tuple[DamageIt, Damage]] = {
    "missing": (Path.unlink, Damage.MISSING),
    "cut": (cut, Damage.SHORT),
    "empty": (empty, Damage.SHORT),
    "extended": (extend, Damage.SHORT),
    "first": (flip(0.0), Damage.CHANGED),
    "middle": (flip(0.5), Damage.CHANGED),
    "last": (flip(1.0), Damage.CHANGED),
    "folder": (replace_by_folder, Damage.UNREADABLE),
}


@pytest.fixture
def full(world: ListWorld) -> ListWorld:
    """A provider with some Datasets in two lists."""
    for name, keys in (("a", range(COUNT // 2)), ("b", range(COUNT // 2, COUNT))):
        world.set_list(name, *[{"id": key} for key in keys], token="t")
        for key in keys:
            world.set_data(key, {"x": key})
    return world


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Where the lake's files lie."""
    return tmp_path / "lake" / "files"


async def dataset_of(engine: Engine, key: int) -> Dataset:
    found = (await engine.store.get_dataset_collection(id=key)).first()
    assert found is not None
    return found


async def damage(engine: Engine, files: Path, key: int, how: DamageIt) -> Path:
    """Damage the File of Dataset *key*; returns where it lies."""
    path = files / (await dataset_of(engine, key)).files[0].path
    how(path)
    return path


async def contents(engine: Engine) -> dict[Any, Any]:
    """What the lake has now, by Dataset."""
    found = {}
    async for dataset in engine.store.iter_datasets():
        for content in await engine.store.load_files(dataset):
            body = await content.read_bytes()
            assert hashlib.sha256(body).hexdigest() == content.file.sha256
            found[dataset.identifier.id] = (await content.read_json())["x"]
    return found


def named(found: Verification) -> dict[str, Damage]:
    return {each.identifier_key: each.damage for each in found.damaged}


def asked_for(provider: ProviderSimulator) -> list[str]:
    """The paths of Files that were asked for since the last look, unconditionally."""
    asked = [each for each in provider.requests if each.path.startswith("data/")]
    provider.reset_counts()
    assert not any(each.is_conditional for each in asked)
    return sorted(each.path for each in asked)


def unchanged(summary: RunSummary) -> tuple[int, int, int]:
    assert summary.counters.is_balanced
    return summary.exit_code, summary.counters.stored, summary.counters.unchanged


async def test_a_sound_lake_is_said_to_be_sound(
    full: ListWorld, provider: ProviderSimulator, open_lake: Open, files: Path
) -> None:
    """
    Every File is read once; bytes without a row are counted, and told how far it is.
    """
    async with open_lake() as engine:
        await engine.run()
        told: list[tuple[int, int, int]] = []
        (files / "main" / "stage=raw" / "debris.json").write_bytes(b"12345")

        listed: list[int] = []
        found = await engine.verify(
            on_progress=lambda *progress: told.append(progress), on_listed=listed.append
        )

        assert listed == [COUNT + 1]
        size = sum(file.stored_size for d in await datasets(engine) for file in d.files)
        assert (found.files, found.bytes, found.damaged, found.is_sound) == (COUNT, size, (), True)
        assert (found.unreferenced, found.unreferenced_bytes) == (1, 5)
        assert told == [(number, COUNT, 0) for number in range(1, COUNT + 1)]
        some = await engine.verify(id=[1, 2])
        assert (some.files, some.unreferenced) == (2, None)
        assert asked_for(provider)


async def datasets(engine: Engine) -> list[Dataset]:
    return [each async for each in engine.store.iter_datasets()]


@pytest.mark.parametrize("kind", DAMAGES)
async def test_damage_is_found_and_repaired(
    full: ListWorld, provider: ProviderSimulator, open_lake: Open, files: Path, kind: str
) -> None:
    """
    Exactly the damaged File is found and asked for again; its Revision stays what it was.
    """
    how, expected = DAMAGES[kind]
    async with open_lake() as engine:
        await engine.run()
        before = await dataset_of(engine, 7)
        events = await engine.catalog.events()
        path = await damage(engine, files, 7, how)
        provider.reset_counts()

        found = await engine.verify()

        assert named(found) == {'{"id":7}': expected}
        assert (found.damaged_count, found.files, found.is_sound) == (1, COUNT, False)
        with pytest.raises(StoreError, match=r"id=7.*data v1.*ingestify verify --repair"):
            await contents(engine)

        summary = await engine.repair(found)

        assert asked_for(provider) == ["data/7-v1.json"]
        assert provider.count("list-a.json") == 0
        assert unchanged(summary) == (0, 0, 1)
        assert (await engine.verify()).is_sound
        assert (await contents(engine))[7] == 7
        after = await dataset_of(engine, 7)
        assert after.revision == before.revision == 0
        assert after.files[0].sha256 == before.files[0].sha256
        assert len(await engine.store.revisions(after)) == 1
        assert await engine.catalog.events() == events
        assert (files / after.files[0].path == path) == (kind == "missing")
        assert unchanged(await engine.run())[1:] == (0, 0)
        assert asked_for(provider) == []


async def test_any_run_mends_what_was_found_damaged(
    full: ListWorld, provider: ProviderSimulator, open_lake: Open, files: Path
) -> None:
    """
    What is damaged is never up to date, not even where lists are said to have not changed.
    """
    async with open_lake() as engine:
        await engine.run()
        for key in (2, 3, 9):
            await damage(engine, files, key, flip(0.5))
        found = await engine.verify()
        assert found.damaged_count == 3
        provider.reset_counts()

        assert unchanged(await engine.run()) == (0, 0, 3)

        assert asked_for(provider) == [f"data/{key}-v1.json" for key in (2, 3, 9)]
        assert (await engine.verify()).is_sound
        assert await contents(engine) == {key: key for key in range(COUNT)}


async def test_what_has_changed_meanwhile_is_a_new_revision(
    full: ListWorld, provider: ProviderSimulator, open_lake: Open, files: Path
) -> None:
    """
    The damaged bytes of the older Revision cannot be had any more, and stay reported.
    """
    async with open_lake() as engine:
        await engine.run()
        await damage(engine, files, 5, cut)
        full.set_data(5, {"x": "new"})

        summary = await engine.repair(await engine.verify())

        assert unchanged(summary) == (0, 1, 0)
        assert (await contents(engine))[5] == "new"
        assert (await dataset_of(engine, 5)).revision == 1
        again = await engine.verify()
        assert [(each.revision, each.is_current) for each in again.damaged] == [(0, False)]
        provider.reset_counts()
        nothing = await engine.repair(again)
        assert (nothing.status, nothing.counters.listed) == (RunStatus.FINISHED, 0)
        assert provider.requests == []


async def test_a_provider_that_has_it_no_more(
    full: ListWorld, provider: ProviderSimulator, open_lake: Open, files: Path
) -> None:
    """
    A File that cannot be had stays damaged, whether that is a failure or allowed.
    """
    full.set_list("a", *[{"id": key, "optional": key == 1} for key in range(3)], token="t")
    async with open_lake() as engine:
        await engine.run()
        for key in (0, 1):
            await damage(engine, files, key, empty)
            full.remove(f"data/{key}-v1.json")

        summary = await engine.repair(await engine.verify())

        assert (summary.exit_code, summary.counters.failed, summary.counters.unchanged) == (1, 1, 1)
        again = await engine.verify()
        assert sorted(named(again)) == ['{"id":0}', '{"id":1}']
        for key in (0, 1):
            full.set_data(key, {"x": key})
        assert unchanged(await engine.repair(again)) == (0, 0, 2)
        assert (await engine.verify()).is_sound


async def test_a_304_does_not_mend_anything(
    full: ListWorld, provider: ProviderSimulator, open_lake: Open, files: Path
) -> None:
    """
    A provider that says "not modified" unasked has told nothing about our bytes.
    """
    async with open_lake() as engine:
        await engine.run()
        await damage(engine, files, 4, flip(0.5))
        found = await engine.verify()
        script = provider.script("data/4-v1.json", status(304))

        summary = await engine.repair(found)

        assert (summary.exit_code, summary.counters.failed) == (1, 1)
        assert (await engine.verify()).damaged_count == 1
        provider.unscript(script)
        assert unchanged(await engine.run()) == (0, 0, 1)
        assert (await engine.verify()).is_sound


async def test_what_was_mended_by_hand_is_not_asked_for(
    full: ListWorld, provider: ProviderSimulator, open_lake: Open, files: Path
) -> None:
    """
    A disk that was not mounted, a backup that was put back: verifying again takes the mark away.
    """
    async with open_lake() as engine:
        await engine.run()
        path = await damage(engine, files, 4, lambda path: path.rename(files / "kept"))
        assert (await engine.verify()).damaged_count == 1
        (files / "kept").rename(path)
        assert (await engine.verify()).is_sound
        provider.reset_counts()
        await engine.run()
        assert asked_for(provider) == []


async def test_repairing_asks_for_nothing_that_is_sound(
    world: ListWorld, provider: ProviderSimulator, open_lake: Open, files: Path
) -> None:
    """
    Neither other Files of the Dataset, nor others that a Run would ask for; nothing is gone.
    """
    world.set_list("a", *[{"id": key} for key in range(3)])
    for key in range(4):
        for version in ("v1", "v2"):
            world.set_data(key, {"x": key, "version": version}, version)
    async with open_lake({"data_spec_versions": {"data": ["v1", "v2"]}}) as engine:
        await engine.run()
        dataset = await dataset_of(engine, 1)
        flip(0.5)(files / dataset.files[1].path)
        found = await engine.verify()
        world.set_list("a", {"id": 1}, {"id": 3})
        provider.reset_counts()

        summary = await engine.repair(found)

        assert asked_for(provider) == ["data/1-v2.json"]
        assert summary.counters.skipped == 1
        assert summary.selectors[0].reasons == {"damaged": 1, "not chosen": 1}
        assert summary.counters.gone == 0
        assert (await engine.run()).counters.gone == 2
        assert asked_for(provider) == ["data/3-v1.json", "data/3-v2.json"]


async def test_what_failed_can_be_tried_again_alone(
    full: ListWorld, provider: ProviderSimulator, open_lake: Open
) -> None:
    """
    Failed Datasets in their own lists; nothing else is asked for.
    """
    async with open_lake() as engine:
        assert await engine.retry() is None
        script = provider.script("data/3-v1.json", status(404))
        other = provider.script("data/8-v1.json", status(404))
        first = await engine.run()
        assert first.counters.failed == 2
        full.set_list("b", {"id": 8}, {"id": 77}, token="t")
        full.set_data(77, {"x": 77})
        provider.unscript(script)
        provider.unscript(other)
        provider.reset_counts()

        assert await engine.retry(provider="somebody") is None
        assert await engine.retry(run_id=99) is None
        summary = await engine.retry(run_id=first.run_id)

        assert summary is not None
        assert unchanged(summary) == (0, 2, 0)
        assert asked_for(provider) == ["data/3-v1.json", "data/8-v1.json"]
        assert await engine.catalog.failures() == []
        assert await engine.retry() is None
        assert (await engine.run()).counters.stored == 1


async def test_a_failed_selector_is_looked_at_as_a_whole(
    full: ListWorld, provider: ProviderSimulator, open_lake: Open
) -> None:
    """
    Its list could not be read: nobody knows yet what is in it. Other lists are left alone.
    """
    async with open_lake() as engine:
        script = provider.script("list-b.json", status(404))
        assert (await engine.run()).exit_code == 1
        provider.unscript(script)
        provider.reset_counts()

        summary = await engine.retry()

        assert summary is not None
        assert unchanged(summary) == (0, COUNT // 2, 0)
        assert provider.count("list-a.json") == 0
        assert await engine.retry() is None


async def test_a_deleted_dataset_is_new_to_the_next_run(
    full: ListWorld, provider: ProviderSimulator, open_lake: Open, files: Path
) -> None:
    """
    Its rows and bytes are gone; where it is still listed, it comes back as a new one.
    """
    async with open_lake() as engine:
        await engine.run()
        before = await dataset_of(engine, 7)
        with pytest.raises(ConfigError, match="which Datasets"):
            await engine.delete()

        deleted = await engine.delete(id=7)

        assert (deleted.datasets, deleted.files) == (1, 1)
        assert deleted.bytes == before.files[0].stored_size
        assert not (files / before.files[0].path).exists()
        assert await engine.store.count() == COUNT - 1
        event = (await engine.catalog.events())[-1]
        assert (event.type, event.dataset_id) == (EventType.DATASET_DELETED, before.dataset_id)
        assert (await engine.verify()).unreferenced == 0
        provider.reset_counts()
        assert unchanged(await engine.run())[:2] == (0, 1)
        assert asked_for(provider) == ["data/7-v1.json"]
        after = await dataset_of(engine, 7)
        assert (after.row_id > before.row_id, after.revision) == (True, 0)
        assert (await engine.verify()).is_sound


@pytest.mark.parametrize("finish", ["collect_garbage", "verify", "delete"])
async def test_a_delete_that_was_cut_short_is_finished(
    full: ListWorld, open_lake: Open, files: Path, finish: str
) -> None:
    """
    Rows go first: if the process ends before the bytes are gone, somebody else removes them.
    """
    async with open_lake() as engine:
        await engine.run()
        path = files / (await dataset_of(engine, 7)).files[0].path
        query = DatasetQuery(identifier={"id": [7, 8]})
        await engine.catalog.delete(query, at=(await dataset_of(engine, 7)).created_at)
        assert path.exists()
        assert len(await engine.catalog.doomed()) == 2
    async with open_lake() as engine:
        if finish == "delete":
            await engine.delete(id=1)
        else:
            await getattr(engine, finish)()
        assert not path.exists()
        assert await engine.catalog.doomed() == []
        assert (await engine.verify()).is_sound


async def test_bytes_that_are_needed_again_survive_their_deletion(
    full: ListWorld, open_lake: Open, files: Path
) -> None:
    """
    A Run that stores the same bytes under the same name keeps them: only the note goes.
    """
    async with open_lake() as engine:
        await engine.run()
        dataset = await dataset_of(engine, 7)
        query = DatasetQuery(identifier={"id": 7})
        await engine.catalog.delete(query, at=dataset.created_at)
        await engine.run()
        assert (await dataset_of(engine, 7)).files[0].path == dataset.files[0].path
        assert len(await engine.catalog.doomed()) == 1
        dry = await engine.collect_garbage(dry_run=True)
        collected = await engine.collect_garbage()
        assert dry.unreferenced == collected.unreferenced == 0
        assert await engine.catalog.doomed() == []
        assert (await engine.verify()).is_sound


async def test_what_is_deleted_while_a_run_goes_on_comes_back(
    full: ListWorld, provider: ProviderSimulator, open_lake: Open
) -> None:
    """
    The Run has met it already: it must not take the list for known, which says 304 from now on.
    """
    async with open_lake() as engine:
        await engine.run()
        full.set_list("a", *[{"id": key, "token": "new"} for key in range(2)], token="t2")
        answer = Event()
        script = provider.script("data/1-v1.json", hang_until(answer))
        async with create_task_group() as tg:
            tg.start_soon(engine.run)
            await provider.until(lambda: script.taken == 1)
            row_id = (await dataset_of(engine, 0)).row_id
            while (await engine.catalog.checks(row_id))[0].token != "new":
                await checkpoint()
            deleted = await engine.delete(id=0)
            answer.set()
        assert deleted.datasets == 1
        provider.unscript(script)
        provider.reset_counts()
        assert (await engine.run()).counters.stored == 1
        assert provider.count("data/0-v1.json") == 1
        assert (await engine.verify()).is_sound
        await engine.run()
        assert provider.count("list-a.json", status=304) == 1


COLLECTING = """
    import asyncio, sys
    from ingestify.config import Config
    from ingestify.engine import Engine

    async def main():
        config = Config.from_values(metadata_url=sys.argv[1], file_url=sys.argv[2])
        ended = asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        rounds = removed = 0
        async with Engine(config) as engine:
            while not ended.done():
                collected = await engine.collect_garbage()
                rounds, removed = rounds + 1, removed + collected.unreferenced
                if rounds == 1:
                    print("collecting", flush=True)
        print(rounds, removed, flush=True)

    asyncio.run(main())
"""


async def test_garbage_is_collected_while_runs_go_on(
    full: ListWorld, open_lake: Open, files: Path
) -> None:
    """
    Another process removes debris all the time, and never what a Run stages, publishes or needs.
    """
    async with open_lake() as engine:
        urls = (f"sqlite:///{engine.config.main.metadata_url.path}", str(files))
        command = [sys.executable, "-c", textwrap.dedent(COLLECTING), *urls]
        async with await open_process(command, stderr=None) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            said = BufferedByteReceiveStream(process.stdout)
            try:
                assert await said.receive_until(b"\n", 1000) == b"collecting"
                for number in range(12):
                    for key in range(COUNT):
                        # Every other one is too large to wait for its batch in memory.
                        filling = secrets.token_hex(200_000) if key % 2 else ""
                        full.set_data(key, {"x": number, "filling": filling})
                    for name in "ab":
                        full.bump(name, str(number))
                    assert unchanged(await engine.run())[:2] == (0, COUNT)
                    (files / "main" / "stage=raw" / f"debris-{number}.json").write_bytes(b"1")
                await process.stdin.send(b"end\n")
                rounds, removed = (await said.receive_until(b"\n", 1000)).split()
            finally:
                with suppress(ProcessLookupError):
                    process.kill()
        assert int(rounds) > 1
        left = await engine.collect_garbage()
        assert int(removed) + left.unreferenced == 12
        found = await engine.verify()
        assert (found.files, found.is_sound, found.unreferenced) == (12 * COUNT, True, 0)


async def test_debris_is_removed_with_the_folders_it_lay_in(
    full: ListWorld, open_lake: Open, files: Path
) -> None:
    """
    And nothing else; a dry run says the same, and removes nothing.
    """
    async with open_lake() as engine:
        await engine.run()
        debris = files / "main" / "stage=raw" / "provider=gone" / "x.json"
        debris.parent.mkdir()
        debris.write_bytes(b"123")

        would = await engine.collect_garbage(dry_run=True)
        assert debris.exists()
        told: list[int] = []
        collected = await engine.collect_garbage(on_progress=told.append)

        assert (collected.unreferenced, collected.unreferenced_bytes) == (1, 3)
        assert collected.paths == would.paths == [debris.relative_to(files).as_posix()]
        assert told == [COUNT + 1]
        assert not debris.parent.exists()
        assert (await engine.verify()).is_sound
        assert (await engine.collect_garbage()).paths == []


async def test_what_does_not_lie_where_files_do_is_left_alone(
    full: ListWorld, open_lake: Open, files: Path
) -> None:
    """
    A catalog may be kept in the lake's own folder, and other people's things, too.
    """
    async with open_lake() as engine:
        await engine.run()
        others = [files / "catalog.db", files / "main" / "notes.txt", files / "a" / "b" / "c.json"]
        for path in others:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"1")

        assert (await engine.verify()).unreferenced == 0
        assert (await engine.collect_garbage()).paths == []
        assert all(path.exists() for path in others)


async def test_a_lake_of_two_catalogs_is_left_alone(
    full: ListWorld, open_lake: Open, files: Path, tmp_path: Path
) -> None:
    """
    What another catalog knows would look like debris: nothing is removed until it is gone.
    """
    async with open_lake() as engine:
        await engine.run()
        (files / "main" / "stage=raw" / "debris.json").write_bytes(b"1")
        async with SqliteCatalog.open(tmp_path / "other.db") as other:
            name = await other.catalog_id()
            await engine._ports.store.register(name)
            note = files / ".ingestify" / "catalogs" / name
            for forbidden in (engine.collect_garbage(), engine.delete(id=1)):
                with pytest.raises(ConfigError, match=name):
                    await forbidden
        found = await engine.verify()
        assert (found.is_sound, found.files, found.unreferenced) == (True, COUNT, None)
        note.unlink()
        assert (await engine.collect_garbage()).unreferenced == 1
