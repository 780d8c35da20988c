"""The machine that was measured on, without its name."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def describe(folder: Path) -> str:
    """One line: cores, Python, system, the libraries that matter, and where the lakes were."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parts = [
        f"{cores} cores{_model()}",
        f"{platform.python_implementation()} {platform.python_version()}",
        f"{platform.system()} {platform.release()}",
        f"aiohttp {version('aiohttp')}",
        _event_loop(),
        f"lakes on {_file_system(folder)}",
    ]
    return ", ".join(parts)


def _event_loop() -> str:
    try:
        return f"uvloop {version('uvloop')}"
    except PackageNotFoundError:
        return "asyncio's own event loop (uvloop is not installed)"


def _model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f" ({names[0]})" if names else ""


def _file_system(folder: Path) -> str:
    """Its kind, as the system calls it. On tmpfs a sync costs nothing, and proves nothing."""
    try:
        lines = Path("/proc/self/mounts").read_text().splitlines()
    except OSError:
        return "an unknown file system"
    kind, longest = "an unknown file system", -1
    for _, mounted, type_, *_ in map(str.split, lines):
        if folder.is_relative_to(mounted) and len(mounted) >= longest:
            kind, longest = type_, len(mounted)
    return kind
