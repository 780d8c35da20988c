"""Signals: the first asks the work to come to an end, the second ends it at once."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass

from anyio import TASK_STATUS_IGNORED, open_signal_receiver
from anyio.abc import TaskStatus

from ingestify.cli.screen import say

STOPPING = "stopping: what is in flight has 10 s to finish; press Ctrl-C again to stop at once"
STOPPING_AT_ONCE = "stopping at once: what was finished is kept"


@dataclass(kw_only=True)
class Signals:
    """Hears SIGINT and SIGTERM while it watches, and remembers the first one.

    Args:
        ask_to_stop: tells the work to come to an end, and whether there is something to wait for.
        stop_at_once: ends the work.
    """

    ask_to_stop: Callable[[], bool]
    stop_at_once: Callable[[], None]
    first: signal.Signals | None = None

    async def watch(self, *, task_status: TaskStatus[None] = TASK_STATUS_IGNORED) -> None:
        """Hear signals until cancelled."""
        if sys.platform == "win32":  # there, Ctrl-C ends the event loop
            task_status.started()
            return
        with open_signal_receiver(signal.SIGINT, signal.SIGTERM) as received:
            task_status.started()
            async for signum in received:
                if self.first is None:
                    self.first = signum
                    if self.ask_to_stop():
                        say(STOPPING)
                        continue
                say(STOPPING_AT_ONCE)
                self.stop_at_once()

    @property
    def exit_code(self) -> int | None:
        """What a process that was ended by a signal ends with; None: there was none."""
        return None if self.first is None else 128 + self.first
