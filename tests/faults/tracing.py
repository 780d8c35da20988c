"""strace as a witness, which tells every disk call of a process, and as a saboteur."""

from __future__ import annotations

import re
from asyncio.subprocess import PIPE, create_subprocess_exec
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio
from processes import Done, RealLake, ended, strace

from ingestify.testing import hang_until

# Calls that change something on a disk, or open the way to it. Those that a machine does not
# have, or that nobody makes, are merely not seen.
CALLS = (
    *("openat", "write", "pwrite64", "fsync", "fdatasync", "link", "linkat", "unlink", "unlinkat"),
    *("rename", "renameat", "renameat2", "mkdir", "mkdirat", "ftruncate", "close", "flock"),
)

BEGUN = re.compile(r"(\d+) +(\w+)\((.*)")
RESUMED = re.compile(r"(\d+) +<\.\.\. (\w+) resumed>(.*)")
QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
OPENED = re.compile(r"(?<=\d)<([^<>]*)>")  # what a descriptor stands for, as -y tells it


@dataclass(slots=True, kw_only=True)
class Call:
    """One system call, and when it began and ended: as numbers of lines in the log."""

    thread: int
    name: str
    text: str  # its arguments as strace shows them
    begun: int
    ended: int = -1  # -1: the thread did not live to see it
    succeeded: bool = False

    @property
    def names(self) -> list[str]:
        """The texts among its arguments: paths, where they name things; or what was written."""
        return QUOTED.findall(self.text)

    @property
    def opened(self) -> str:
        """What the descriptor that it is about stands for."""
        found = OPENED.search(self.text)
        return "" if found is None else found[1]


def read_log(path: Path) -> list[Call]:
    """The calls in a log of ``strace -f -y -o``, in the order in which they began."""
    calls: list[Call] = []
    open_calls: dict[int, Call] = {}
    for number, line in enumerate(path.read_text(errors="replace").splitlines()):
        if found := RESUMED.match(line):
            call = open_calls.pop(int(found[1]), None)
            if call is None:  # begun before strace was there
                continue
            call.text += found[3]
        elif found := BEGUN.match(line):
            call = Call(thread=int(found[1]), name=found[2], text=found[3], begun=number)
            calls.append(call)
            if line.endswith("<unfinished ...>"):
                open_calls[call.thread] = call
                continue
        else:
            continue
        result = call.text.rpartition(" = ")[2]
        if not result.startswith("?"):
            call.ended = number
            call.succeeded = not result.startswith("-1")
    return calls


def counts_at(calls: Sequence[Call], below: str) -> dict[str, list[int]]:
    """When the calls about what lies *below* come: by name, the how-many-eth of its thread."""
    counted: Counter[tuple[int, str]] = Counter()
    found: dict[str, set[int]] = defaultdict(set)
    for call in calls:
        counted[call.thread, call.name] += 1
        if below in call.text:
            found[call.name].add(counted[call.thread, call.name])
    return {name: sorted(numbers) for name, numbers in sorted(found.items())}


async def traced_run(lake: RealLake, log: Path, *options: str) -> Done:
    """A Run that strace watches, or harms, from its first request on.

    Calls are counted from there: what a process does to start is of no interest, and is much.
    """
    path = strace()
    gate = anyio.Event()
    script = lake.provider.script("selectors.json", hang_until(gate), times=1)
    try:
        async with lake.started() as process:
            with anyio.fail_after(60):
                await lake.provider.until(lambda: script.taken == 1)
            command = (path, "-f", "-y", "-o", str(log), *options, "-p", str(process.pid))
            tracer = await create_subprocess_exec(*command, stderr=PIPE)
            assert tracer.stderr is not None
            while b"attached" not in (said := await tracer.stderr.readline()):
                assert said, "strace has ended before it began"
            gate.set()
            done = await ended(process)
            await tracer.communicate()
            return done
    finally:
        lake.provider.unscript(script)
