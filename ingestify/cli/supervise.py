"""Supervise: an Engine at work in the one task group of a command, which hears signals."""

from __future__ import annotations

import logging
import resource
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Generic, TypeVar

import anyio

from ingestify.cli.exit_codes import cause_of
from ingestify.cli.logs import configure
from ingestify.cli.progress import Tally, show_progress
from ingestify.cli.screen import say
from ingestify.cli.signals import Signals

if TYPE_CHECKING:
    from ingestify.cli.session import Session
    from ingestify.config import Config
    from ingestify.engine import Engine

T = TypeVar("T")

OPEN_FILES = 4096


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T]):
    """What came of some work."""

    result: T | None  # None: it was ended before it had one
    signal_code: int | None  # the exit code for the signal that was heard


def supervise(
    session: Session,
    config: Config,
    work: Callable[[Engine], Awaitable[T]],
    *,
    tally: Tally | None = None,
) -> Outcome[T]:
    """Do *work* with the engine for *config*, showing progress and hearing signals.

    Args:
        tally: how far *work* is, while no Run of the engine tells it.
    """
    configure(session, logging.WARNING if session.is_live or session.quiet else logging.INFO)
    _allow_many_open_files()
    options = {"use_uvloop": True} if find_spec("uvloop") else {}
    return anyio.run(_supervise, session, config, work, tally or Tally(), backend_options=options)


async def _supervise(
    session: Session, config: Config, work: Callable[[Engine], Awaitable[T]], tally: Tally
) -> Outcome[T]:
    from ingestify.engine import Engine

    engine: Engine | None = None
    result: T | None = None

    def ask_to_stop() -> bool:
        """Whether a Run has something in flight that is worth waiting for."""
        if engine is None:
            return False
        engine.request_stop()
        progress = engine.progress()
        return progress is not None and progress.selectors > 0

    def stop_at_once() -> None:
        if engine is not None:
            engine.hurry()
        scope.cancel()

    scope = anyio.CancelScope()
    signals = Signals(ask_to_stop=ask_to_stop, stop_at_once=stop_at_once)
    try:
        with scope:
            async with anyio.create_task_group() as tg:
                await tg.start(signals.watch)
                async with Engine(config) as engine:
                    tg.start_soon(show_progress, engine, session, tally)
                    result = await work(engine)
                    tg.cancel_scope.cancel()
    except Exception as exc:
        if signals.first is None:
            raise
        say(session.shown(f"Error: {cause_of(exc)}"))  # and yet it was the signal that ended it
    return Outcome(result, signals.exit_code)


def _allow_many_open_files() -> None:
    """Raise this process' limit on open files as far as it may, and as far as it is of use."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    if soft < wanted:
        with suppress(ValueError, OSError):  # some systems have a limit of their own
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
