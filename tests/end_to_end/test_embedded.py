"""ingestify inside of other people's programs: in their event loop, or from plain scripts."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from anyio import CancelScope, Event, create_task_group
from anyio.lowlevel import checkpoint
from lakes import staged_in
from lists import ListSource, ListWorld

from ingestify import streaming
from ingestify.engine import Engine
from ingestify.errors import ConfigError, FatalError, RunError
from ingestify.main import get_datastore, get_engine
from ingestify.pipeline import commit, lane
from ingestify.testing import ProviderSimulator, hang_until, reset_connection

COUNT = 12
Open = Callable[..., Engine]


@pytest.fixture
def full(world: ListWorld) -> ListWorld:
    """A provider with some Datasets in two lists."""
    for name, keys in (("a", range(COUNT // 2)), ("b", range(COUNT // 2, COUNT))):
        world.set_list(name, *[{"id": key} for key in keys], token="t")
        for key in keys:
            world.set_data(key, {"x": key})
    return world


async def ids_of(found: AsyncIterator[Any]) -> list[Any]:
    return [dataset.identifier.id async for dataset in found]


def own_tasks() -> set[asyncio.Task[Any]]:
    """The tasks of this event loop that are not the simulated provider's."""
    return {task for task in asyncio.all_tasks() if "aiohttp/web" not in repr(task)}


async def assert_sound(engine: Engine) -> None:
    """Every File of the lake can be read, and nothing is left over."""
    async for dataset in engine.store.iter_datasets():
        for content in await engine.store.load_files(dataset):
            assert await content.read_json() == {"x": dataset.identifier.id}
    assert staged_in(engine._ports.store) == []


async def test_a_run_beside_other_tasks(
    full: ListWorld, provider: ProviderSimulator, open_lake: Open
) -> None:
    """
    While a Run goes on, other tasks of the same event loop get their turns and may read the lake.
    """
    answer = asyncio.Event()
    script = provider.script("data/7-v1.json", hang_until(answer))
    async with open_lake() as engine, create_task_group() as tg:
        tg.start_soon(engine.run)
        await provider.until(lambda: script.taken == 1)
        while await engine.store.count() < COUNT - 1:
            await checkpoint()
        # What is committed can be read a moment before it is counted.
        while (progress := engine.progress()) and progress.counters.stored < COUNT - 1:
            await checkpoint()
        assert progress is not None
        assert progress.counters.stored == COUNT - 1
        answer.set()
    assert provider.count("data/*") == COUNT


async def test_a_run_that_is_cancelled_by_its_host(
    full: ListWorld, provider: ProviderSimulator, open_lake: Open
) -> None:
    """
    A host that cancels its Run, or leaves the engine while one goes on, keeps a sound lake.
    """
    script = provider.script("data/7-v1.json", hang_until(asyncio.Event()))
    async with open_lake() as engine:
        with CancelScope() as scope:
            async with create_task_group() as tg:
                tg.start_soon(engine.run)
                await provider.until(lambda: script.taken == 1)
                scope.cancel()
        await assert_sound(engine)
        assert [run.status for run in await engine.catalog.runs()] == ["aborted"]
        assert engine.progress() is None
    provider.unscript(script)
    async with open_lake() as engine:
        assert (await engine.run()).exit_code == 0
        assert await engine.store.count() == COUNT


async def test_an_engine_that_is_closed_while_a_run_goes_on(
    full: ListWorld, provider: ProviderSimulator, open_lake: Open
) -> None:
    """
    Closing an engine ends its Runs first, in whichever task they are, and tells who waits for
    them; each is closed as aborted.
    """
    script = provider.script("data/7-v1.json", hang_until(asyncio.Event()))
    told: list[str] = []
    async with create_task_group() as tg, open_lake() as engine:

        async def run() -> None:
            try:
                await engine.run()
            except RunError as exc:
                told.append(str(exc))

        tg.start_soon(run)
        await provider.until(lambda: script.taken == 1)
    assert told == ["the engine was closed before the Run had ended"]
    async with open_lake() as engine:
        assert [run.status for run in await engine.catalog.runs()] == ["aborted"]
        await assert_sound(engine)


async def test_streaming_yields_what_is_up_to_date(
    full: ListWorld, provider: ProviderSimulator, open_lake: Open
) -> None:
    """
    Datasets come as soon as they are stored, while others are still being fetched.
    """
    answer = asyncio.Event()
    provider.script("data/7-v1.json", hang_until(answer))
    async with open_lake() as engine:
        found = []
        async with aclosing(engine.iter_datasets(auto_ingest="streaming")) as datasets:
            async for dataset in datasets:
                found.append(dataset.identifier.id)
                if len(found) == COUNT - 1:
                    assert 7 not in found
                    answer.set()
        assert sorted(found) == list(range(COUNT))


async def test_streaming_yields_what_was_stored_already(
    full: ListWorld, provider: ProviderSimulator, open_lake: Open
) -> None:
    """
    When nothing has changed, and every list could answer 304, all Datasets are yielded all the
    same, and no file is asked for.
    """
    async with open_lake() as engine:
        await engine.run()
        await engine.run()
        assert provider.count("list-*", status=304) == 2
        provider.reset_counts()

        found = await ids_of(engine.iter_datasets(auto_ingest="streaming"))

        assert sorted(found) == list(range(COUNT))
        assert provider.count("data/*") == 0


async def test_streaming_applies_filters(
    full: ListWorld, provider: ProviderSimulator, open_lake: Open
) -> None:
    """
    What does not fulfil the filters is kept in step, and not yielded.
    """
    async with open_lake() as engine:
        assert await ids_of(engine.iter_datasets(auto_ingest="streaming", id=3)) == [3]
        assert await engine.store.count() == COUNT


@pytest.mark.parametrize("way", ["break", "cancel", "raise"])
async def test_a_stream_that_is_left_half_way(
    full: ListWorld, provider: ProviderSimulator, open_lake: Open, way: str
) -> None:
    """
    Whoever leaves a stream, ends its Run: it is closed as aborted before the stream is, the lake
    is sound, and no task is left.
    """
    provider.script("data/7-v1.json", hang_until(asyncio.Event()))
    async with open_lake() as engine:
        before = own_tasks()
        with CancelScope() as scope:
            try:
                async with aclosing(engine.iter_datasets(auto_ingest="streaming")) as datasets:
                    async for _ in datasets:
                        if way == "break":
                            break
                        if way == "raise":
                            raise LookupError
                        scope.cancel()
            except LookupError:
                pass
        assert own_tasks() == before
        assert [run.status for run in await engine.catalog.runs()] == ["aborted"]
        await assert_sound(engine)


async def test_an_abandoned_stream_ends_with_its_engine(
    full: ListWorld, provider: ProviderSimulator, open_lake: Open
) -> None:
    """
    A stream that nobody reads on, and nobody closes, holds up nothing: its Run ends with the
    engine at the latest.
    """
    provider.script("data/7-v1.json", hang_until(asyncio.Event()))
    async with open_lake() as engine:
        datasets = engine.iter_datasets(auto_ingest="streaming")
        await anext(datasets)
    async with open_lake() as engine:
        assert [run.status for run in await engine.catalog.runs()] == ["aborted"]
        await assert_sound(engine)
    await datasets.aclose()  # type: ignore[attr-defined]


async def test_a_stream_read_in_another_task(
    full: ListWorld, provider: ProviderSimulator, open_lake: Open
) -> None:
    """
    A stream may be begun in one task, read in another, and closed in a third.
    """
    found: list[Any] = []
    async with open_lake() as engine:
        datasets = engine.iter_datasets(auto_ingest="streaming")
        first = await anext(datasets)

        async def read() -> None:
            found.extend(await ids_of(datasets))

        async with create_task_group() as tg:
            tg.start_soon(read)
        async with create_task_group() as tg:
            tg.start_soon(datasets.aclose)  # type: ignore[attr-defined]
        assert sorted([first.identifier.id, *found]) == list(range(COUNT))


async def test_a_slow_reader_does_not_hold_up_the_run_at_once(
    full: ListWorld, provider: ProviderSimulator, open_lake: Open
) -> None:
    """
    The Run goes on while its reader is busy with the first Dataset and few others wait.
    """
    async with open_lake() as engine:
        async with aclosing(engine.iter_datasets(auto_ingest="streaming")) as datasets:
            first = await anext(datasets)
            while await engine.store.count() < COUNT:
                await checkpoint()
            rest = await ids_of(datasets)
        assert len({first.identifier.id, *rest}) == COUNT


class NoticedUnread(streaming.Unread):
    """Tells when it holds the Run back."""

    waits = Event()

    async def held(self) -> None:
        if len(self._dataset_ids) >= streaming.MOST_UNREAD:
            self.waits.set()
        await super().held()


@pytest.mark.parametrize("ending", ["read", "leave", "stop", "cancel"])
async def test_a_reader_that_does_not_go_on_holds_the_run_back(
    world: ListWorld,
    provider: ProviderSimulator,
    open_lake: Open,
    monkeypatch: pytest.MonkeyPatch,
    ending: str,
) -> None:
    """
    Once enough Datasets wait for their reader, no more are planned: memory does not grow with the
    provider. The Catalog stays free for others, the Run can be stopped or cancelled, and goes on
    as soon as its reader does.
    """
    monkeypatch.setattr(streaming, "MOST_UNREAD", 8)
    monkeypatch.setattr(streaming, "Unread", NoticedUnread)
    monkeypatch.setattr(NoticedUnread, "waits", Event())
    monkeypatch.setattr(lane, "MOST_FOUND", 8)
    monkeypatch.setattr(lane, "MOST_TASKS", 8)
    monkeypatch.setattr(lane, "PAGE", 8)
    monkeypatch.setattr(commit, "BATCH", 8)
    count = 400
    world.set_list("a", *[{"id": key} for key in range(count)])
    for key in range(count):
        world.set_data(key, {"x": key})
    async with open_lake() as engine:
        datasets = engine.iter_datasets(auto_ingest="streaming")
        first = await anext(datasets)
        await NoticedUnread.waits.wait()
        assert await engine.store.invalidate_revisions(reason="a write", id=first.identifier.id)

        if ending == "leave":
            await datasets.aclose()  # type: ignore[attr-defined]
        elif ending == "stop":
            engine.request_stop()
            assert 0 < len(await ids_of(datasets)) < count / 2
        elif ending == "read":
            assert len(await ids_of(datasets)) == count - 1
        if ending != "cancel":
            assert engine.progress() is None
    assert (provider.count("data/*") < count / 2) == (ending != "read")
    async with open_lake() as engine:
        [run] = await engine.catalog.runs()
        assert run.status == ("finished" if ending == "read" else "aborted")
        await assert_sound(engine)


async def test_only_what_is_to_be_read_is_ingested(
    full: ListWorld, provider: ProviderSimulator, open_lake: Open
) -> None:
    """
    Bucket, dataset type, and what Selectors have narrow the Run as they narrow what is read.
    """
    async with open_lake() as engine:
        found = engine.iter_datasets(auto_ingest=True, bucket="other", list="b")
        assert await ids_of(found) == []  # a Dataset here has no part called list
        assert provider.count("list-b.json") == 1
        assert provider.count("list-a.json") == 0
        assert await engine.store.count(bucket="other") == COUNT / 2
        assert await engine.store.count() == 0

        with pytest.raises(ConfigError, match="no plan fits"):
            engine.iter_datasets(auto_ingest=True, dataset_type="another")


@pytest.mark.parametrize("auto_ingest", [True, "streaming"])
async def test_what_keeps_a_run_from_going_on_is_raised_at_the_end(
    full: ListWorld, open_lake: Open, auto_ingest: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    When the Run could not go on, what is up to date is yielded, and then the error is raised.
    """
    async with open_lake() as engine:
        await engine.run()

        async def fail(self: Any, dataset_type: str, *, http: Any) -> AsyncIterator[Any]:
            raise FatalError("no licence")
            yield

        monkeypatch.setattr(ListSource, "discover_selectors", fail)
        found = []

        async def read() -> None:
            async for dataset in engine.iter_datasets(auto_ingest=auto_ingest):
                found.append(dataset.identifier.id)

        with pytest.raises(RunError, match="no licence"):
            await read()
        assert len(found) == (COUNT if auto_ingest is True else 0)


async def test_a_stream_of_a_provider_that_nobody_knows(full: ListWorld, open_lake: Open) -> None:
    """
    Asking for what no plan ingests is an error, not an empty stream.
    """
    async with open_lake() as engine:
        for auto_ingest in (True, "streaming"):
            with pytest.raises(ConfigError):
                await ids_of(engine.iter_datasets(provider="x", auto_ingest=auto_ingest))  # type: ignore[arg-type]
        assert await ids_of(engine.iter_datasets(provider="x")) == []


async def test_auto_ingest(full: ListWorld, provider: ProviderSimulator, open_lake: Open) -> None:
    """
    With `auto_ingest`, the lake is brought in step before the first Dataset; without, nothing is
    asked for.
    """
    async with open_lake() as engine:
        assert await ids_of(engine.iter_datasets()) == []
        assert provider.requests == []

        found = await ids_of(engine.iter_datasets(auto_ingest=True))

        assert sorted(found) == list(range(COUNT))


async def test_a_dataset_that_fails_is_not_streamed(
    full: ListWorld, provider: ProviderSimulator, open_lake: Open
) -> None:
    """
    What could not be brought up to date is left out of a stream, and the others are yielded.
    """
    full.remove("data/3-v1.json")
    async with open_lake() as engine:
        found = await ids_of(engine.iter_datasets(auto_ingest="streaming"))

    assert sorted(found) == [key for key in range(COUNT) if key != 3]


# The blocking face


@pytest.fixture
def config_file(full: ListWorld, provider: ProviderSimulator, tmp_path: Path) -> Path:
    """A configuration file for `provider`."""
    file = tmp_path / "config.yaml"
    file.write_text(
        f"""
main:
  metadata_url: sqlite:///{tmp_path}/lake/catalog.db
  file_url: {tmp_path}/lake/files
  default_bucket: main
sources:
  lists:
    type: lists.ListSource
    configuration:
      base_url: {provider.base_url}
ingestion_plans:
  - source: lists
    dataset_type: thing
"""
    )
    return file


async def script(code: str, config_file: Path) -> subprocess.CompletedProcess[str]:
    """What a program says that is made of *code* alone."""
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(code), str(config_file)]
    process = await asyncio.create_subprocess_exec(
        *command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"PYTHONPATH": str(Path(__file__).parents[1]), "PATH": ""},
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    return subprocess.CompletedProcess(command, process.returncode or 0, out.decode(), err.decode())


async def test_a_plain_script(config_file: Path) -> None:
    """
    A script without an event loop, and without closing anything, ingests, reads, and ends.
    """
    done = await script(
        """
        import sys
        from ingestify.main import get_datastore, get_engine

        engine = get_engine(sys.argv[1])
        print(engine.run().exit_code)
        store = engine.store
        datasets = store.get_dataset_collection(provider="lists")
        print(len(datasets), datasets.first().identifier.id)
        files = store.load_files(datasets.first())
        print(len(files), files.get_file("data").read_json(), b"".join(files[0].open()))
        print(len(list(get_datastore(sys.argv[1]).iter_datasets(id=[1, 2]))))
        """,
        config_file,
    )
    assert (done.returncode, done.stderr) == (0, "")
    code, *rest = done.stdout.splitlines()
    assert code == "0"
    assert rest == [f"{COUNT} {rest[0].split()[1]}", rest[1], "2"]


async def test_a_script_that_streams_and_breaks(config_file: Path) -> None:
    """
    A script may leave a stream half-way: it ends in good order all the same.
    """
    done = await script(
        """
        import sys
        from ingestify.main import get_engine

        engine = get_engine(sys.argv[1])
        assert engine
        datasets = engine.iter_datasets(auto_ingest="streaming")
        print(next(datasets).provider)
        """,
        config_file,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "lists\n", "")


async def test_a_script_that_fails(config_file: Path) -> None:
    """
    An exception ends a script with its traceback; nothing keeps it from ending.
    """
    done = await script(
        """
        import sys
        from ingestify.main import get_engine

        engine = get_engine(sys.argv[1])
        raise SystemExit(engine.run().counters.stored)
        """,
        config_file,
    )
    assert (done.returncode, done.stderr) == (COUNT, "")


async def test_a_script_that_is_interrupted(
    config_file: Path, provider: ProviderSimulator, open_lake: Open
) -> None:
    """
    An interrupt while a Run is waited for, as a notebook sends it, cancels that Run: it is closed
    as aborted, and the engine can be used on.
    """
    hanging = provider.script("data/7-v1.json", hang_until(asyncio.Event()))
    done = asyncio.create_task(
        script(
            """
            import os, signal, sys, threading
            from ingestify.main import get_engine

            engine = get_engine(sys.argv[1])

            def interrupt():
                while engine.store.count() < 11:
                    pass
                os.kill(os.getpid(), signal.SIGINT)

            threading.Thread(target=interrupt).start()
            try:
                engine.run()
            except KeyboardInterrupt:
                print("interrupted")
            while engine.progress() is not None:
                pass
            print(engine.store.count())
            """,
            config_file,
        )
    )
    await provider.until(lambda: hanging.taken == 1)
    ended = await done
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines() == ["interrupted", str(COUNT - 1)]
    async with open_lake() as engine:
        assert [run.status for run in await engine.catalog.runs()] == ["aborted"]


async def in_thread(function: Callable[[], Any]) -> Any:
    """What *function* returns, while this event loop serves the provider."""
    with ThreadPoolExecutor(1) as pool:
        return await asyncio.get_running_loop().run_in_executor(pool, function)


async def test_blocking_under_a_running_loop(config_file: Path) -> None:
    """
    The blocking face works where an event loop runs already, as in a notebook.
    """

    def notebook() -> list[Any]:
        async def cell() -> list[Any]:
            with get_engine(config_file) as engine:
                assert engine.run().exit_code == 0
                return sorted(each.identifier.id for each in engine.iter_datasets())

        return asyncio.run(cell())

    assert await in_thread(notebook) == list(range(COUNT))


async def test_blocking_from_several_threads(config_file: Path) -> None:
    """
    One blocking engine may be used by several threads at once.
    """

    def use() -> set[tuple[int, int]]:
        with get_engine(config_file) as engine:
            engine.run()

            def read(number: int) -> tuple[int, int]:
                (dataset,) = engine.store.get_dataset_collection(id=number)
                return number, engine.store.load_files(dataset)[0].read_json()["x"]

            with ThreadPoolExecutor(8) as pool:
                return set(pool.map(read, range(COUNT)))

    assert await in_thread(use) == {(number, number) for number in range(COUNT)}


async def test_closing_twice_is_harmless(config_file: Path) -> None:
    """
    An engine may be closed twice, also while a stream of it is open; afterwards nobody can use
    it, and none of its working threads is left.
    """

    def use() -> None:
        engine = get_engine(config_file)
        datasets = engine.iter_datasets(auto_ingest="streaming")
        next(datasets)
        engine.close()
        engine.close()
        datasets.close()
        with pytest.raises(RuntimeError):
            engine.store.count()

    await in_thread(use)
    assert "ingestify" not in {thread.name for thread in threading.enumerate()}


async def test_a_store_of_its_own(config_file: Path) -> None:
    """
    `get_datastore` opens a lake for reading; an empty one is empty.
    """

    def use() -> tuple[int, Any]:
        with get_datastore(config_file) as store:
            found = store.count(), store.get_dataset_collection().first()
        with pytest.raises(RuntimeError):
            store.count()
        return found

    assert await in_thread(use) == (0, None)


async def test_many_lakes_one_after_the_other(config_file: Path) -> None:
    """
    A notebook that opens and closes lakes all day does not gather threads.
    """

    def use() -> None:
        threads = []
        for _ in range(3):
            before = set(threading.enumerate())
            with get_datastore(config_file):
                threads += set(threading.enumerate()) - before
        for thread in threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in threads)

    await in_thread(use)


async def test_a_provider_that_is_down(
    full: ListWorld, provider: ProviderSimulator, open_lake: Open
) -> None:
    """
    A host's program goes on when a list cannot be had: that Selector has failed, and what the
    lake has stays readable.
    """
    async with open_lake() as engine:
        await engine.run()
        provider.script("selectors.json", reset_connection, times=1)

        summary = await engine.run()

        assert summary.exit_code == 0  # it was tried again
        assert await engine.store.count() == COUNT
