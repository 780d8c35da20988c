"""How a command ends: what went wrong becomes one line on stderr and an exit code."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence

import click

from ingestify.cli.app import app
from ingestify.cli.exit_codes import (
    COULD_NOT_GO_ON,
    DONE,
    INTERRUPTED,
    WRONG_USAGE,
    cause_of,
    code_of,
)
from ingestify.cli.session import Session
from ingestify.errors import IngestifyError


def execute(args: Sequence[str]) -> int:
    """Do what *args* say. Returns the exit code."""
    for stream in (sys.stdout, sys.stderr):
        # A name that a terminal cannot show must not end the command.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    session = Session()
    try:
        code = app.main(list(args), prog_name="ingestify", standalone_mode=False, obj=session)
    except Exception as exc:
        code = _report(exc, session)
    except KeyboardInterrupt:
        code = INTERRUPTED
    _flush()
    return code if isinstance(code, int) else DONE


def _report(exc: Exception, session: Session) -> int:
    """Say what went wrong. Returns the exit code for it."""
    if isinstance(exc, click.Abort):
        return INTERRUPTED
    if isinstance(exc, click.ClickException):
        with contextlib.suppress(OSError):
            exc.show()
        return WRONG_USAGE
    cause = cause_of(exc)
    if session.debug:
        import traceback

        _say(session, "".join(traceback.format_exception(exc)).rstrip())
    if isinstance(cause, IngestifyError):
        _say(session, f"Error: {cause}")
        return code_of(cause)
    if isinstance(cause, OSError):
        _say(session, f"Error: {cause}")
        return COULD_NOT_GO_ON
    hint = "" if session.debug else "; --debug shows where"
    _say(session, f"Error: unexpected {type(cause).__name__}: {cause}{hint}")
    return COULD_NOT_GO_ON


def _say(session: Session, text: str) -> None:
    with contextlib.suppress(OSError):
        click.echo(session.shown(text), err=True)


def _flush() -> None:
    """Write what is still held back, and do not mind if nobody reads any more."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        from ingestify.cli.screen import write_nowhere

        write_nowhere()
    with contextlib.suppress(OSError):
        sys.stderr.flush()
