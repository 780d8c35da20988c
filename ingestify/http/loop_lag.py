"""How late the event loop is: where it is late, this process is in the way and not a host."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager

EVERY = 0.05  # seconds between two looks
LATE = 0.1  # seconds from which on more in flight would only wait here
MEMORY = 0.8  # of what was seen before, at each look
HICCUP = 0.25  # seconds; what is longer happens once, and says no more about what comes

log = logging.getLogger("ingestify.loop")


class LoopLag:
    """Watches by a timer that asks to be called, and sees how late it is: 1 µs a look."""

    __slots__ = ("_timer", "_watchers", "is_high", "seconds", "worst")

    def __init__(self) -> None:
        self.seconds = 0.0  # lately
        self.worst = 0.0  # seconds, since somebody watches
        self.is_high = False
        self._watchers = 0
        self._timer: asyncio.TimerHandle | None = None

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Watch the running loop inside of this context; several may watch at once."""
        self._watchers += 1
        if self._watchers == 1:
            self.seconds = self.worst = 0.0
            self._look_again()
        try:
            yield
        finally:
            self._watchers -= 1
            if self._watchers == 0 and self._timer is not None:
                self._timer.cancel()
                self._timer, self.is_high = None, False
                log.debug("the event loop was at most %.0f ms late", 1000 * self.worst)

    def saw(self, late: float) -> None:
        """The loop was so many seconds late."""
        self.seconds = MEMORY * self.seconds + (1 - MEMORY) * min(late, HICCUP)
        self.is_high = self.seconds >= LATE
        if late > self.worst:
            self.worst = late
            if late >= LATE:
                log.debug("the event loop is %.0f ms late", 1000 * late)

    def _look_again(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(EVERY, self._look, loop, loop.time() + EVERY)

    def _look(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        now = loop.time()
        self.saw(max(0.0, now - due))
        self._timer = loop.call_at(now + EVERY, self._look, loop, now + EVERY)
