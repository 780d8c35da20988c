"""Progress of a command on stderr: a live display on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio

from ingestify.cli.screen import plural, size

if TYPE_CHECKING:
    from rich.console import Group

    from ingestify.cli.session import Session
    from ingestify.engine import Engine
    from ingestify.pipeline.run import Progress
    from ingestify.throttle import HostState

log = logging.getLogger("ingestify.progress")

LIVE_SECONDS = 0.2
PLAIN_SECONDS = 10.0
RATE_SECONDS = 5.0  # over which rates are taken
MOST_HOSTS = 8  # shown
LATE = 0.02  # seconds by which the event loop has to be late to be mentioned


@dataclass(slots=True)
class Tally:
    """How far a command is that is not, or not now, a Run."""

    doing: str = "opening the lake"
    done: int = 0
    total: int | None = None  # None: nobody knows

    def __str__(self) -> str:
        if self.total is None:
            return f"{self.doing}: {self.done}" if self.done else self.doing
        share = f" ({self.done / self.total:.0%})" if self.total else ""
        return f"{self.doing}: {self.done} of {self.total}{share}"


class Rates:
    """How fast a Run is, lately."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self._seen: deque[tuple[float, int, int]] = deque([(self.began, 0, 0)])

    def take(self, progress: Progress) -> tuple[float, float]:
        """Requests and received bytes a second, now that *progress* has been made."""
        now = time.monotonic()
        while len(self._seen) > 1 and self._seen[1][0] <= now - RATE_SECONDS:
            self._seen.popleft()
        then, requests, received = self._seen[0]
        self._seen.append((now, progress.requests, progress.received_bytes))
        seconds = max(now - then, 1e-3)
        made, got = progress.requests - requests, progress.received_bytes - received
        return made / seconds, got / seconds


async def show_progress(engine: Engine, session: Session, tally: Tally) -> None:
    """Show how far the Run of *engine* is, or else *tally*, until cancelled."""
    if session.quiet:
        return
    if session.is_live:
        await _show_live(engine, tally)
    else:
        await _log(engine, tally)


async def _log(engine: Engine, tally: Tally) -> None:
    rates = Rates()
    while True:
        await anyio.sleep(PLAIN_SECONDS)
        progress = engine.progress()
        if progress is None:
            log.info("%s", tally)
        else:
            log.info("%s", "; ".join(_lines(progress, rates)))
            for line in _states(engine):
                log.info("%s", line)


async def _show_live(engine: Engine, tally: Tally) -> None:
    from rich.console import Console, Group
    from rich.live import Live
    from rich.spinner import Spinner
    from rich.text import Text

    console = Console(stderr=True, highlight=False)
    if not console.is_interactive:
        await _log(engine, tally)
        return
    rates, spinner = Rates(), Spinner("dots")

    def picture() -> Group:
        progress = engine.progress()
        if progress is None:
            spinner.update(text=Text(str(tally)))
            return Group(spinner)
        first, *rest = _lines(progress, rates)
        spinner.update(text=Text(first))
        lines = [*rest, *_states(engine)]
        return Group(
            spinner, *(Text(f"  {line}", no_wrap=True, overflow="ellipsis") for line in lines)
        )

    live = Live(
        picture(), console=console, auto_refresh=False, transient=True, redirect_stdout=False
    )
    with live:
        while True:
            live.update(picture(), refresh=True)
            await anyio.sleep(LIVE_SECONDS)


def _lines(progress: Progress, rates: Rates) -> Iterator[str]:
    """What people want to know of a Run that goes on."""
    counters = progress.counters
    waiting = counters.listed - (
        counters.stored
        + counters.unchanged
        + counters.skipped
        + counters.failed
        + counters.duplicate
        + counters.refused
        + counters.not_reached
    )
    requests, received = rates.take(progress)
    minutes, seconds = divmod(int(time.monotonic() - rates.began), 60)
    if not progress.selectors:
        yield f"{minutes}:{seconds:02d}  asking the sources what they have"
        return
    yield (
        f"{minutes}:{seconds:02d}  {counters.listed - waiting} of"
        f" {plural(counters.listed, 'dataset')},"
        f" {progress.selectors_done} of {plural(progress.selectors, 'list')} seen,"
        f" {plural(counters.failed, 'failure')}"
    )
    yield (
        f"{plural(progress.requests, 'request')} ({requests:.0f}/s),"
        f" {size(progress.received_bytes)} received ({size(received)}/s),"
        f" {size(progress.stored_bytes)} stored"
    )


def _states(engine: Engine) -> Iterator[str]:
    """What keeps the Run from being faster: the hosts, or the machine it runs on."""
    yield from map(_host, _notable(engine.hosts()))
    if engine.loop_lag >= LATE:
        yield f"this machine is busy: the event loop is {engine.loop_lag * 1000:.0f} ms late"


def _notable(hosts: Sequence[HostState]) -> list[HostState]:
    busiest_first = sorted(hosts, key=lambda host: (-host.in_flight, -host.waiting, host.host))
    return busiest_first[:MOST_HOSTS]


def _host(host: HostState) -> str:
    """How a host is being asked."""
    if host.is_down:
        state = "does not answer, and is left alone for a while"
    elif host.cooling:
        state = f"asks to wait for {host.cooling:.0f} s"
    else:
        state = f"{host.in_flight} of {host.allowed} in flight"
        if host.seconds is not None:
            state += f", {host.seconds * 1000:.0f} ms each"
    parts = [state, f"{host.waiting} waiting"]
    if host.rate is not None:
        parts.append(f"at most {host.rate:.3g}/s")
    if host.refused:
        parts.append(f"{host.refused} times told to slow down")
    return f"{host.host}: {', '.join(parts)}"
