"""Where a command's CPU goes: `python -m benchmarks.sampling FILE run --config …`.

Runs ingestify's command line in this process, and looks after every so many milliseconds of CPU at
what each thread does. Writes to FILE, as JSON, the CPU seconds of the main thread and of all the
others, and for both how often each area was met. `benchmarks.shares` makes a table of it.
"""

from __future__ import annotations

import json
import linecache
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import FrameType

SECONDS = 0.002  # of CPU, between two looks; the system may make it more
IMPORTING = "importlib._bootstrap"
AREAS = (  # by what stands in a frame's path, the first that fits; the innermost frame decides
    ("/adapters/catalog/", "catalog"),
    ("/aiosqlite/", "catalog"),
    ("/adapters/files/", "disk"),
    ("/adapters/http/", "aiohttp"),
    ("/aiohttp/", "aiohttp"),
    ("/yarl/", "aiohttp"),
    ("/multidict/", "aiohttp"),
    ("/ingestify/http/json_lists", "lists: discover and plan"),
    ("/ingestify/http/", "client"),
    ("/ingestify/client", "client"),
    ("/ingestify/throttle", "client"),
    ("/ingestify/retry", "client"),
    ("/ingestify/redaction", "client"),
    ("/pipeline/body", "bodies"),
    ("/pipeline/fetch_file", "bodies"),
    ("/pipeline/formats", "bodies"),
    ("/pipeline/commit", "committer"),
    ("/model/layout", "committer"),
    ("/pipeline/discover", "lists: discover and plan"),
    ("/pipeline/plan", "lists: discover and plan"),
    ("/pipeline/claims", "lists: discover and plan"),
    ("/pipeline/resolve", "lists: discover and plan"),
    ("/ingestify_", "lists: discover and plan"),
    ("/ingestify/policy", "lists: discover and plan"),
    ("/ingestify/model/", "lists: discover and plan"),
    ("/ingestify/config/", "start-up"),
    ("/ingestify/plugins/", "start-up"),
    ("/ingestify/cli/", "start-up"),
    ("/ingestify/", "pipeline"),
)
WAITS = (".get(", ".wait(", ".acquire(", ".select(", ".join(")  # calls in which a thread sleeps
LOOP = "event loop"
STARTING, OTHER = "start-up", "other"


class Sampler:
    """Counts what threads do."""

    def __init__(self) -> None:
        self.main: Counter[str] = Counter()
        self.others: Counter[str] = Counter()
        self._main_thread = threading.main_thread().ident

    def look(self, number: int, frame: FrameType | None) -> None:
        """Called by the system when enough CPU has been used."""
        for thread, each in sys._current_frames().items():
            if thread == self._main_thread:
                self.main[area_of(frame)] += 1
            elif not is_waiting(each):
                self.others[area_of(each)] += 1

    def start(self) -> None:
        """Look from now on."""
        signal.signal(signal.SIGPROF, self.look)
        signal.setitimer(signal.ITIMER_PROF, SECONDS, SECONDS)

    def stop(self) -> None:
        """Look no more."""
        signal.setitimer(signal.ITIMER_PROF, 0)


def is_waiting(frame: FrameType) -> bool:
    """Whether a thread other than the main one waits for work, by the line that it is at."""
    line = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
    return any(call in line for call in WAITS)


def area_of(frame: FrameType | None) -> str:
    """Whose work the code in *frame* does."""
    area = ""
    while frame is not None:
        path = frame.f_code.co_filename
        if IMPORTING in path:
            return STARTING
        if not area:
            area = next((name for part, name in AREAS if part in path), "")
            if not area and "/asyncio/" in path and frame.f_code.co_name in ("_run_once", "run"):
                area = LOOP
        frame = frame.f_back
    return area or OTHER


def main() -> None:
    """Run the command, and write down what was seen."""
    output, arguments = Path(sys.argv[1]), sys.argv[2:]
    sampler = Sampler()
    sampler.start()
    from ingestify.__main__ import main as command

    sys.argv = ["ingestify", *arguments]
    code: object = 0
    try:
        command()
    except SystemExit as exc:
        code = exc.code
    sampler.stop()
    main_seconds = time.thread_time()
    seen = {
        "main_seconds": main_seconds,
        "other_seconds": time.process_time() - main_seconds,
        "main": sampler.main,
        "others": sampler.others,
    }
    output.write_text(json.dumps(seen))
    sys.exit(code if isinstance(code, int) else 1)


if __name__ == "__main__":
    main()
