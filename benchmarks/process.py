"""One measured process: how long it took, and what it used."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PEAK_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes; the systems do not agree


class BenchmarkError(Exception):
    """What was measured is not what was meant to be measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What one process used, from its first instruction to its end."""

    code: int  # that it ended with
    wall_seconds: float
    cpu_seconds: float  # user and system, all threads
    peak_bytes: int  # resident; never less than this process had when it started the other


def run(
    command: Sequence[str],
    *,
    log: Path,
    ends_with: Sequence[int] = (0,),
    environment: Mapping[str, str] | None = None,
) -> Usage:
    """Run *command* to its end, with what it says in *log*, and *environment* beside our own.

    What others have written is brought to the disk first, so that nobody pays for it who syncs.

    Raises:
        BenchmarkError: it ended with a code that is not among *ends_with*.
    """
    os.sync()
    with log.open("wb") as output:
        began = time.perf_counter()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**_as_installed(os.environ), **(environment or {})},
        )
        try:
            _, status, used = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            process.wait()
            raise
        wall_seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)  # it has been waited for already
    if process.returncode not in ends_with:
        said = log.read_text(errors="replace")[-2000:]
        raise BenchmarkError(f"{' '.join(command)} ended with {process.returncode}:\n{said}")
    return Usage(
        code=process.returncode,
        wall_seconds=wall_seconds,
        cpu_seconds=used.ru_utime + used.ru_stime,
        peak_bytes=used.ru_maxrss * PEAK_UNIT,
    )


def _as_installed(environment: Mapping[str, str]) -> dict[str, str]:
    """*environment* in which modules are compiled once, as they are where people install them."""
    return {k: v for k, v in environment.items() if k != "PYTHONDONTWRITEBYTECODE"}
