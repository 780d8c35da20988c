"""`python -m benchmarks.concurrency`: how a limit that nobody tells, and that changes, is followed.

A provider in a process of its own allows 50 requests a second, then 20, then 80. What it admits and
refuses, and what is in flight, is printed second by second and drawn (with matplotlib, which is in
the dependency group `bench`). `--hosts` shows instead how many requests in flight are found for
hosts that work on a few at once.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio

from ingestify.clock import SystemClock
from ingestify.http.advice import Advice
from ingestify.model.http import Limits
from ingestify.testing import RateLimit
from ingestify.testing.limits import LimitGate
from ingestify.throttle import HostState, Throttle

RESULTS = Path(__file__).parent / "results"
LIMITS = (50, 20, 80)  # requests a second, one phase each
PHASE_SECONDS = 90.0
WORKERS = 64
LOOK = 0.1  # seconds
HOSTS = ((4, 0.01), (8, 0.05), (20, 0.05), (40, 0.05), (1000, 0.05))  # servers, seconds of work
HOST_SECONDS = 4.0
KEY = ("provider", "")


@dataclass
class Host:
    """What the provider does with requests: works on some at once, and refuses what is too many."""

    servers: int = 1000
    service: float = 0.004  # seconds
    limits: Sequence[int] = ()
    phase: float = PHASE_SECONDS
    _free: asyncio.Semaphore = field(init=False)
    _gates: list[LimitGate] = field(init=False)
    _began: float | None = None

    def __post_init__(self) -> None:
        self._free = asyncio.Semaphore(self.servers)
        self._gates = [
            LimitGate(RateLimit(requests_per_second=each, burst=each)) for each in self.limits
        ]

    async def answer(self) -> str:
        """The status of an answer, and the seconds to wait where it is a refusal."""
        if self._gates:
            now = time.monotonic()
            self._began = self._began or now
            phase = min(len(self._gates) - 1, int((now - self._began) / self.phase))
            verdict = self._gates[phase].judge()
            if not verdict.is_admitted:
                return f"429 {verdict.headers['Retry-After']}"
        async with self._free:
            await asyncio.sleep(self.service)
        return "200"


async def serve(host: Host) -> None:
    """Answer each line with a line, on as many connections as there are."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readline():
            writer.write(f"{await host.answer()}\n".encode())
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


@contextmanager
def serving(*arguments: str) -> Iterator[int]:
    """A provider in a process of its own. Yields its port."""
    command = [sys.executable, "-m", "benchmarks.concurrency", "--serve", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield int(process.stdout.readline() if process.stdout else 0)
        finally:
            process.terminate()


@dataclass
class Trace:
    """What happened, as it is drawn."""

    states: list[tuple[float, HostState]] = field(default_factory=list)
    admitted: Counter[int] = field(default_factory=Counter)  # by the second
    refused: Counter[int] = field(default_factory=Counter)


async def ask(port: int, seconds: float) -> Trace:
    """Ask as much as the Throttle lets us, from a cold start."""
    trace, throttle, began = Trace(), Throttle(SystemClock()), time.monotonic()

    async def work() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.monotonic() - began < seconds:
            async with throttle.turn(KEY, Limits()) as turn:
                writer.write(b"?\n")
                status, _, wait = (await reader.readline()).decode().strip().partition(" ")
                second = int(time.monotonic() - began)
                if status == "200":
                    trace.admitted[second] += 1
                    turn.record(200)
                else:
                    trace.refused[second] += 1
                    turn.record(429, Advice(retry_after=float(wait)))
        writer.close()

    async def look() -> None:
        while time.monotonic() - began < seconds:
            await asyncio.sleep(LOOK)
            for state in throttle.snapshot():
                trace.states.append((time.monotonic() - began, state))

    with throttle.lag.watched():
        async with anyio.create_task_group() as tg:
            tg.start_soon(look)
            for _ in range(WORKERS):
                tg.start_soon(work)
    return trace


def table(trace: Trace, phase: float) -> str:
    """How much of each limit was used, and how often it was met."""
    lines = [
        "| allowed/s | used, % | … from the 11th second on, % | 429s |",
        "| --- |" + " --- |" * 3,
    ]
    for number, limit in enumerate(LIMITS):
        first = int(number * phase)
        seconds = range(first, int(first + phase))
        late = seconds[10:] or seconds
        used = sum(trace.admitted[at] for at in seconds) / (limit * len(seconds))
        later = sum(trace.admitted[at] for at in late) / (limit * len(late))
        refused = sum(trace.refused[at] for at in seconds)
        lines.append(f"| {limit} | {used * 100:.1f} | {later * 100:.1f} | {refused} |")
    return "\n".join(lines)


def draw(trace: Trace, phase: float, path: Path) -> None:
    """A picture of *trace*."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (upper, middle, lower) = plt.subplots(3, 1, sharex=True, figsize=(9, 7))
    seconds = range(int(len(LIMITS) * phase))
    upper.step(seconds, [trace.admitted[at] for at in seconds], where="post", label="answers/s")
    edges = [number * phase for number in range(len(LIMITS) + 1)]
    upper.stairs(LIMITS, edges, baseline=None, color="black", ls="--", label="allowed/s")
    upper.legend(loc="upper left")
    refused = [trace.refused[at] for at in seconds]
    middle.bar(seconds, refused, width=1.0, align="edge", color="tab:red", label="429s")
    middle.legend(loc="upper left")
    times = [at for at, _ in trace.states]
    allowed = [state.allowed for _, state in trace.states]
    lower.plot(times, [state.in_flight for _, state in trace.states], lw=0.5, label="in flight")
    lower.step(times, allowed, where="post", label="allowed in flight")
    lower.legend(loc="upper left")
    lower.set_xlabel("seconds")
    figure.tight_layout()
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=80)


def hosts_table() -> str:
    """What is found for hosts that work on a few requests at once."""
    lines = ["| works on | ms each | in flight after 2 s | answers/s, of what is possible |"]
    lines.append("| --- |" + " --- |" * 3)
    for servers, service in HOSTS:
        with serving("--servers", str(servers), "--service", str(service)) as port:
            trace = anyio.run(ask, port, HOST_SECONDS)
        found = next(state.allowed for at, state in trace.states if at >= 2.0)
        answers = sum(trace.admitted[at] for at in range(2, int(HOST_SECONDS)))
        possible = min(servers, WORKERS) / service * (HOST_SECONDS - 2)
        lines.append(
            f"| {servers} | {service * 1000:.0f} | {found} | {answers / possible * 100:.0f} % |"
        )
    return "\n".join(lines)


def main() -> None:
    """Do what the arguments say."""
    arguments = _parser().parse_args()
    if arguments.serve:
        limits = () if arguments.servers else LIMITS
        named: dict[str, Any] = {"servers": arguments.servers} if arguments.servers else {}
        if arguments.service:
            named["service"] = arguments.service
        asyncio.run(serve(Host(limits=limits, phase=arguments.phase, **named)))
    elif arguments.hosts:
        print(hosts_table())
    else:
        with serving("--phase", str(arguments.phase)) as port:
            trace = anyio.run(ask, port, len(LIMITS) * arguments.phase)
        print(table(trace, arguments.phase))
        draw(trace, arguments.phase, arguments.output)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.concurrency",
        description="Draw how a limit that nobody tells, and that changes, is followed.",
    )
    parser.add_argument("--hosts", action="store_true", help="hosts that work on a few at once")
    parser.add_argument("--phase", type=float, default=PHASE_SECONDS, help="seconds of each limit")
    parser.add_argument("--output", type=Path, default=RESULTS / "concurrency.png")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--servers", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--service", type=float, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    main()
