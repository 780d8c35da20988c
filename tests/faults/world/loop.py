"""An event loop in which one thing happens at a time, and no time passes while anything happens.

Whoever is about to do something to the world (a task, or a thread that the loop waits for) takes a
turn. A turn is given when nobody has anything else left to do, to the one that the seed chooses
of those who wait. When nobody waits for a turn either, the time jumps to the next timer. So a seed
decides the order of all effects, and an hour passes in no time.

Only what asyncio offers is used: a selector of our own, which is asked to wait exactly when the
loop has nothing to do, and a `time` of our own.
"""

from __future__ import annotations

import asyncio
import random
import selectors
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any, TypeVar
from unittest.mock import patch

import anyio.to_thread

T = TypeVar("T")

HANGS_AFTER = 60.0  # real seconds


class Hop:
    """One call in a thread, from the moment a task asks for it until both are done with it."""

    def __init__(self) -> None:
        self.is_running = False  # in its thread
        self.is_awaited = True
        self.is_waiting = False  # for a turn
        self.is_blocked = False  # by a lock that another thread has

    @property
    def is_busy(self) -> bool:
        return not self.is_waiting and not self.is_blocked and (self.is_running or self.is_awaited)

    @property
    def is_over(self) -> bool:
        return not self.is_running and not self.is_awaited


_thread = threading.local()  # .hop and .loop of whoever is in this thread


class Lock:
    """A `threading.Lock` of which the loop knows who is blocked by it. First come, first served."""

    def __init__(self) -> None:
        self._inner = threading.Lock()
        self._is_held = False
        self._blocked: deque[tuple[threading.Event, Hop | None]] = deque()

    def __enter__(self) -> None:
        hop: Hop | None = getattr(_thread, "hop", None)
        with self._inner:
            if not self._is_held:
                self._is_held = True
                return
            event = threading.Event()
            self._blocked.append((event, hop))
            if hop is not None:
                hop.is_blocked = True
                _thread.loop.call_soon_threadsafe(lambda: None)  # it has to look again
        if not event.wait(HANGS_AFTER):
            raise RuntimeError("a lock was never released")

    def __exit__(self, *exc: object) -> None:
        with self._inner:
            if not self._blocked:
                self._is_held = False
                return
            event, hop = self._blocked.popleft()
            if hop is not None:
                hop.is_blocked = False
            event.set()


class Turn:
    """Somebody's wish to do something."""

    def __init__(self, actor: str, hop: Hop | None) -> None:
        self.actor = actor
        self.hop = hop
        self.future: asyncio.Future[None] | None = None
        self.event = threading.Event()

    @property
    def is_wanted(self) -> bool:
        return self.future is None or not self.future.done()


class Selector(selectors.DefaultSelector):  # type: ignore[valid-type,misc]
    """Waits for sockets and threads, and knows when there is nothing to wait for."""

    loop: WorldLoop

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if self.loop.is_busy:
            ready = super().select(HANGS_AFTER)
            if not ready:
                raise RuntimeError("a thread hangs")
            return ready
        self.loop.move_on(timeout)
        return []


class WorldLoop(asyncio.SelectorEventLoop):
    """See the module. *rng* chooses who is next."""

    def __init__(self, rng: random.Random) -> None:
        selector = Selector()
        selector.loop = self
        self._seconds = 0.0
        self._rng = rng
        self._turns: list[Turn] = []
        self._hops: set[Hop] = set()
        self._undisturbed = 0
        super().__init__(selector)

    def time(self) -> float:
        return self._seconds

    @property
    def is_busy(self) -> bool:
        """Whether somebody is at work in a thread, or has the turn."""
        return self._undisturbed > 0 or any(hop.is_busy for hop in self._hops)

    @property
    def has_hops(self) -> bool:
        """Whether somebody is in a thread, be it to wait for a turn."""
        return bool(self._hops)

    def advance(self, seconds: float) -> None:
        """Let time pass at once, while whoever has the turn is at work."""
        self._seconds += seconds

    def move_on(self, timeout: float | None) -> None:
        """Give a turn; if nobody wants one, let *timeout* seconds pass."""
        self._turns = [turn for turn in self._turns if turn.is_wanted]
        if self._turns:
            self._give(self._choose())
        elif timeout is not None:
            self._seconds += timeout
        else:
            raise RuntimeError("everybody waits for somebody else")

    def _choose(self) -> Turn:
        """The first to wait, of an actor that is chosen by lot."""
        actors = sorted({turn.actor for turn in self._turns})
        actor = actors[0] if len(actors) == 1 else self._rng.choice(actors)
        turn = next(turn for turn in self._turns if turn.actor == actor)
        self._turns.remove(turn)
        return turn

    def _give(self, turn: Turn) -> None:
        if turn.future is not None:
            turn.future.set_result(None)
        elif turn.hop is not None:
            turn.hop.is_waiting = False
            turn.event.set()

    @asynccontextmanager
    async def turn(self, actor: str) -> AsyncIterator[None]:
        """A task's turn: nobody else does anything before the context is left."""
        turn = Turn(actor, None)
        turn.future = self.create_future()
        self._turns.append(turn)
        await turn.future
        with self.undisturbed():
            yield

    def turn_of_thread(self, actor: str) -> None:
        """A thread's turn: it lasts until the thread wants the next one, or ends.

        Called in the loop's own thread, where nobody can wait, it is always our turn.
        """
        hop = getattr(_thread, "hop", None)
        if hop is None:
            return
        turn = Turn(actor, hop)
        self.call_soon_threadsafe(self._want, turn)
        if not turn.event.wait(HANGS_AFTER):
            raise RuntimeError("a thread's turn never came")

    def _want(self, turn: Turn) -> None:
        if turn.hop is not None:
            turn.hop.is_waiting = True
        self._turns.append(turn)

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Nobody is given a turn, and no time passes, meanwhile."""
        self._undisturbed += 1
        try:
            yield
        finally:
            self._undisturbed -= 1

    async def hop(
        self, real: Callable[..., Any], func: Callable[..., T], *args: Any, **options: Any
    ) -> T:
        """*func* in a thread, where it may take turns."""
        hop = Hop()
        self._hops.add(hop)

        def work() -> T:
            hop.is_running = True
            _thread.hop, _thread.loop = hop, self
            try:
                return func(*args)
            finally:
                _thread.hop = None
                self.call_soon_threadsafe(left)

        def left() -> None:
            hop.is_running = False
            if hop.is_over:
                self._hops.discard(hop)

        try:
            return await real(work, **options)
        finally:
            hop.is_awaited = False
            if hop.is_over:
                self._hops.discard(hop)


async def to_the_end(script: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """What *script* returns, once no thread is at work that somebody did not wait for."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, WorldLoop)
    try:
        return await script()
    finally:
        while loop.has_hops:  # noqa: ASYNC110  # the time that passes is the loop's own
            await asyncio.sleep(0.001)


def play(
    script: Callable[[], Coroutine[Any, Any, T]],
    seed: int = 0,
    *,
    locking: Sequence[ModuleType] = (),
) -> T:
    """What *script* returns, run from its beginning to its end in a loop of its own.

    Args:
        locking: modules that make a `threading.Lock`: the loop has to know of it.
    """
    real = anyio.to_thread.run_sync

    async def run_sync(func: Callable[..., Any], *args: Any, **options: Any) -> Any:
        loop = asyncio.get_running_loop()
        if not isinstance(loop, WorldLoop):
            return await real(func, *args, **options)
        return await loop.hop(real, func, *args, **options)

    with ExitStack() as stack:
        stack.enter_context(patch.object(anyio.to_thread, "run_sync", run_sync))
        for module in locking:
            stack.enter_context(patch.object(module, "threading", SimpleNamespace(Lock=Lock)))
        runner = asyncio.Runner(loop_factory=lambda: WorldLoop(random.Random(seed)))
        return stack.enter_context(runner).run(to_the_end(script))
