"""The ports of a process: each effect on them takes a turn, is numbered, and may go wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from ingestify.adapters.catalog.sqlite import SqliteCatalog
from ingestify.errors import CatalogError, TransientFetchError
from ingestify.model.http import Request
from ingestify.testing.fetcher import FakeAnswer, FakeResponse

from .faults import (
    CATALOG_ERRORS,
    DAY,
    HOUR,
    OPENING,
    Effect,
    Fault,
    os_error,
)
from .provider import BASE
from .world import LAKE, World, loop, loop_in, own_names

if TYPE_CHECKING:
    from .process import Process


class CountedDisk:
    """A `Disk` whose calls take turns, are numbered, and may go wrong."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._loop = loop()
        self._paths: dict[int, str] = {}

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return partial(self._call, name)

    def _call(self, name: str, /, *args: Any, **options: Any) -> Any:
        process, world = self._process, self._process.world
        self._loop.turn_of_thread(process.name)
        what = self._paths.get(args[0], "") if isinstance(args[0], int) else str(args[0])
        effect = Effect("disk", name, shown(what))
        real = getattr(world.disk, name)

        def do() -> Any:
            result = real(*args, **options)
            if name in OPENING:
                self._paths[result] = str(args[0])
                process.opens(result)
            return result

        fault = process.begin(effect)
        if process.is_dead:
            raise os_error("EIO", effect)
        return do() if fault is None else self._do_badly(fault, effect, do, args)

    def _do_badly(
        self, fault: Fault, effect: Effect, do: Callable[[], Any], args: Sequence[Any]
    ) -> Any:
        world, name = self._process.world, effect.name
        match fault.mode:
            case "before" | "after" | "lost" | "torn" if name != "write" or fault.mode != "torn":
                with self._process.crashing(fault):
                    return do()
            case "torn":
                fd, data = args
                world.disk.write(fd, data[: len(data) // 2])
                self._process.crash().disk.lose_power(fault.seed)
                return None
            case "EIO" | "ENOSPC" | "EMFILE" | "ambiguous":
                self._do_in_part(fault.mode, name, do, args)
                raise os_error(fault.mode, effect)
            case "slow" | "ahead":
                pass_time(world, fault.mode)
                return do()
            case _:
                return self._do_cancelled(fault.mode, do)

    def _do_in_part(self, mode: str, name: str, do: Callable[[], Any], args: Sequence[Any]) -> None:
        """What a call that fails has done all the same."""
        disk = self._process.world.disk
        if name == "close" or (mode == "ambiguous" and name not in OPENING):
            do()
        elif mode == "ambiguous":
            disk.close(do())
        elif name == "write":
            disk.write(args[0], args[1][: len(args[1]) // 2])
        elif name == "fsync":
            disk.fail_sync(args[0])

    def _do_cancelled(self, mode: str, do: Callable[[], Any]) -> Any:
        process, is_after = self._process, mode.endswith("after")
        result = do() if is_after else None
        self._loop.call_soon_threadsafe(process.cancel, mode)
        self._loop.turn_of_thread(process.name)  # it has been cancelled by now
        return result if is_after else do()


class CountedCatalog:
    """A Catalog whose methods take turns, are numbered, and may go wrong."""

    def __init__(self, process: Process, catalog: SqliteCatalog) -> None:
        self._process = process
        self._catalog = catalog

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return partial(self._call, name)

    async def _call(self, name: str, /, *args: Any, **options: Any) -> Any:
        process = self._process
        real = getattr(self._catalog, name)
        async with loop().turn(process.name):
            fault = process.begin(Effect("catalog", name))
            if process.is_dead:
                raise CatalogError("this process is dead")
            if fault is None:
                return await real(*args, **options)
            return await self._do_badly(fault, name, partial(real, *args, **options))

    async def _do_badly(
        self, fault: Fault, name: str, do: Callable[[], Coroutine[Any, Any, Any]]
    ) -> Any:
        world, mode = self._process.world, fault.mode
        match mode:
            case "before" | "after" | "lost":
                with self._process.crashing(fault):
                    return await do()
            case "torn":
                size = world.log_size
                result = await do()
                left = self._process.crash()
                left.tear_log(size, fault.seed)
                left.disk.lose_power(fault.seed)
                return result
            case "EIO" | "ENOSPC" | "locked" | "ambiguous":
                if mode == "ambiguous":
                    await do()
                raise CatalogError(f"catalog {CATALOG_ERRORS[mode]}")
            case "slow" | "ahead":
                pass_time(world, fault.mode)
                return await do()
            case _:
                return await self._do_cancelled(mode, do)

    async def _do_cancelled(self, mode: str, do: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        if not mode.endswith("after"):
            self._process.cancel(mode)
            return await do()
        result = await do()
        self._process.cancel(mode)
        return result


class CountedFetcher:
    """A Fetcher that reaches the provider. An exchange is two effects: its head, and its body."""

    def __init__(self, process: Process) -> None:
        self._process = process

    @asynccontextmanager
    async def send(self, request: Request) -> AsyncIterator[Any]:
        process = self._process
        path = request.url.removeprefix(BASE)
        async with loop().turn(process.name):
            fault = process.begin(Effect("http", "head", path))
            refuse_if_dead(process)
            answer = self._answer(fault, request)
        yield CountedResponse(process, path, answer)

    def _answer(self, fault: Fault | None, request: Request) -> FakeAnswer:
        world = self._process.world
        match fault.mode if fault else None:
            case None:
                return world.provider.answer(request)
            case "before" | "after" | "lost":
                with self._process.crashing(fault):
                    return world.provider.answer(request)
            case "EIO" | "ambiguous" as mode:
                if mode == "ambiguous":
                    world.provider.answer(request)
                raise TransientFetchError("the connection was lost")
            case "slow" | "ahead":
                pass_time(world, fault.mode)
                return world.provider.answer(request)
            case mode:
                self._process.cancel(str(mode))
                return world.provider.answer(request)


class CountedResponse(FakeResponse):
    """An answer whose body is one effect."""

    def __init__(self, process: Process, path: str, answer: FakeAnswer) -> None:
        super().__init__(answer, path)
        self._process = process

    async def chunks(self) -> AsyncIterator[bytes]:
        process = self._process
        chunks, breaks = [], False
        try:
            async for chunk in super().chunks():
                chunks.append(chunk)
        except TransientFetchError:
            breaks = True
        whole = b"".join(chunks)
        async with loop().turn(process.name):
            fault = process.begin(Effect("http", "body", self._shown))
            refuse_if_dead(process)
            is_cut = self._is_cut(fault)
        half = len(whole) // 2
        yield whole[:half]
        if is_cut:
            raise TransientFetchError(f"{self._shown}: the connection was lost in the body")
        yield whole[half:]
        if breaks:
            raise TransientFetchError(f"{self._shown}: the body was cut")

    def _is_cut(self, fault: Fault | None) -> bool:
        world = self._process.world
        match fault.mode if fault else None:
            case None:
                return False
            case "before" | "after" | "lost":
                with self._process.crashing(fault):
                    return False
            case "torn" | "EIO":
                return True
            case "slow" | "ahead":
                pass_time(world, fault.mode)
            case mode:
                self._process.cancel(str(mode))
        return False


def refuse_if_dead(process: Process) -> None:
    if process.is_dead:
        raise TransientFetchError("this process is dead")


def pass_time(world: World, mode: str) -> None:
    """Hours pass, and somebody sets the clock back by days, or ahead."""
    loop_in(world).advance(2 * HOUR)
    world.start += timedelta(seconds=2 * DAY if mode == "ahead" else -2 * DAY)


def shown(path: str) -> str:
    """*path* as it is called in every process."""
    return own_names(path.removeprefix(f"{LAKE}/"))
