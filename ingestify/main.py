"""The blocking face for scripts and notebooks: the async one, through one portal thread.

Nothing is written here a second time: a blocking object looks up the method of its async twin
and waits for it, in a thread of its own, so that it also works where an event loop runs already.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, suppress
from functools import wraps
from pathlib import Path
from typing import Any, Self, TypeVar

from anyio.from_thread import BlockingPortal, start_blocking_portal

from ingestify.engine import Engine
from ingestify.store import DatasetStore, FileCollection, StoredContent

__all__ = ["get_datastore", "get_engine"]

T = TypeVar("T")

EXIT_POLL = 0.5  # seconds

TWINS = (DatasetStore, FileCollection, StoredContent)  # what is handed out as blocking, too


class Blocking:
    """A blocking twin of *target*: its coroutines return values, its async iterators iterate."""

    def __init__(self, target: Any, portal: BlockingPortal) -> None:
        self._target = target
        self._portal = portal

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        if not callable(value):
            return self._twin(value)

        @wraps(value)
        def call(*args: Any, **kwargs: Any) -> Any:
            return self._wait_for(value, args, kwargs)

        return call

    def _wait_for(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        async def in_portal() -> Any:
            result = function(*args, **kwargs)
            return await result if inspect.isawaitable(result) else result

        result = self._call(in_portal)
        return self._iterate(result) if isinstance(result, AsyncIterator) else self._twin(result)

    def _call(self, function: Callable[[], Awaitable[T]]) -> T:
        """What *function* returns. Whoever is interrupted while waiting cancels it."""
        future = self._portal.start_task_soon(function)
        try:
            return future.result()
        finally:
            future.cancel()

    def _iterate(self, items: AsyncIterator[Any]) -> Iterator[Any]:
        async def following() -> list[Any]:
            async for item in items:
                return [item]
            return []

        async def close() -> None:
            if inspect.isasyncgen(items):
                await items.aclose()

        try:
            while item := self._call(following):
                yield self._twin(item[0])
        finally:
            with suppress(RuntimeError):  # the engine was closed meanwhile, and its Runs with it
                self._call(close)

    def _twin(self, value: Any) -> Any:
        return Blocking(value, self._portal) if isinstance(value, TWINS) else value

    def __bool__(self) -> bool:
        return bool(self._target)

    def __len__(self) -> int:
        return len(self._target)

    def __iter__(self) -> Iterator[Any]:
        return (self._twin(each) for each in self._target)

    def __getitem__(self, index: Any) -> Any:
        return self._twin(self._target[index])

    def __repr__(self) -> str:
        return f"<blocking {self._target!r}>"


class BlockingEngine(Blocking):
    """An Engine that runs in a thread of its own until it is closed, or the program ends."""

    def __init__(self, engine: Engine) -> None:
        self._stack = ExitStack()
        with ExitStack() as stack:
            portal = stack.enter_context(start_blocking_portal(name="ingestify"))
            stack.enter_context(portal.wrap_async_context_manager(engine))
            self._stack = stack.pop_all()
        super().__init__(engine, portal)
        self._lock = threading.Lock()
        self._is_closed = False
        threading.Thread(target=self._close_at_exit, name="ingestify-exit").start()

    def close(self) -> None:
        """Stop what runs and close the lake. Doing it twice is harmless."""
        with self._lock:
            self._is_closed = True
            self._stack.close()

    def _close_at_exit(self) -> None:
        # The interpreter waits for the database's thread before it runs exit handlers, so the
        # end of the main thread is the last moment at which anybody can close the lake.
        main = threading.main_thread()
        while main.is_alive() and not self._is_closed:
            main.join(EXIT_POLL)
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class BlockingStore(Blocking):
    """A DatasetStore with an engine of its own, which is closed with it."""

    def __init__(self, engine: BlockingEngine) -> None:
        self._engine = engine
        super().__init__(engine._target.store, engine._portal)

    def close(self) -> None:
        """Close the lake. Doing it twice is harmless."""
        self._engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def get_engine(config: Path | str) -> BlockingEngine:
    """A blocking Engine for the configuration file *config*.

    Raises:
        ConfigError: it cannot be read, or something in it is wrong.
        CatalogError, StoreUnavailableError: the lake cannot be opened.
    """
    return BlockingEngine(Engine.from_config(config))


def get_datastore(config: Path | str) -> BlockingStore:
    """A blocking DatasetStore for the lake of the configuration file *config*.

    It is open until it is closed (it is a context manager, too), or the program ends.

    Raises:
        ConfigError: it cannot be read, or something in it is wrong.
        CatalogError, StoreUnavailableError: the lake cannot be opened.
    """
    return BlockingStore(get_engine(config))
