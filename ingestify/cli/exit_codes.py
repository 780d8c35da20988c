"""Exit codes, and which of them an error ends a command with.

A Run's own summary says 1 where something failed. When several apply, the first of these holds:
a signal, 3, 4, 1, 0.
"""

from __future__ import annotations

from ingestify.errors import ConfigError, IngestifyError, RunError, StopProcessing

DONE = 0
WRONG_USAGE = 2
COULD_NOT_GO_ON = 3
STOPPED_ON_PURPOSE = 4
INTERRUPTED = 130  # 128 and the number of SIGINT


def code_of(error: IngestifyError) -> int:
    """The exit code for a command that *error* has ended."""
    if isinstance(error, ConfigError):
        return WRONG_USAGE
    if isinstance(error, StopProcessing):
        return STOPPED_ON_PURPOSE
    return COULD_NOT_GO_ON


def cause_of(exc: BaseException) -> BaseException:
    """What task groups, which raise groups alone, have failed of."""
    if not isinstance(exc, BaseExceptionGroup):
        return exc
    causes = [cause_of(each) for each in exc.exceptions]
    for kind in (RunError, IngestifyError):
        for cause in causes:
            if isinstance(cause, kind):
                return cause
    return causes[0]
