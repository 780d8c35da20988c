"""Runs a provider simulator as a process: `python -m ingestify.testing --help`."""

import argparse
import asyncio
import signal
from collections.abc import Callable
from datetime import timedelta
from importlib import import_module

from ingestify.testing.lies import LIES
from ingestify.testing.limits import RateLimit
from ingestify.testing.simulator import ProviderSimulator
from ingestify.testing.statsbomb_lists import SeasonSpec
from ingestify.testing.statsbomb_world import DEMO_SEASONS, MatchSize, StatsBombWorld
from ingestify.testing.worlds import FolderWorld, World


def main() -> None:
    arguments = _parser().parse_args()
    with asyncio.Runner(loop_factory=_fastest_loop()) as runner:
        runner.run(_serve(arguments))


async def _serve(arguments: argparse.Namespace) -> None:
    """Serve until SIGINT or SIGTERM; the line with the address says that it listens."""
    stopped = asyncio.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(signum, stopped.set)
    limit = None
    if arguments.requests_per_second is not None:
        limit = RateLimit(requests_per_second=arguments.requests_per_second, burst=arguments.burst)
    provider = ProviderSimulator(
        _world(arguments),
        base_path=arguments.base_path,
        port=arguments.port,
        delay=timedelta(milliseconds=arguments.delay_ms),
        limit=limit,
        gzip=arguments.gzip,
        remember=0,
    )
    for glob, lie in arguments.lie:
        provider.script(glob, LIES[lie])
    async with provider:
        print(provider.base_url, flush=True)
        await stopped.wait()


def _world(arguments: argparse.Namespace) -> World:
    if arguments.folder is not None:
        return FolderWorld(arguments.folder, shadowed_by=arguments.shadow)
    return StatsBombWorld(arguments.seed, size=arguments.size, seasons=arguments.seasons)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ingestify.testing",
        description="Serve a simulated provider on loopback; its first line is its address.",
    )
    parser.add_argument("--world", choices=["statsbomb"], default="statsbomb")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--size", type=_size, default=MatchSize.DEMO, help="tiny, demo, real, or events a match"
    )
    parser.add_argument(
        "--seasons",
        type=_seasons,
        default=DEMO_SEASONS,
        metavar="C/S:MATCHES,...",
        help="competition/season:matches, such as 11/42:33,11/90:35",
    )
    parser.add_argument("--folder", help="serve the files of this folder instead")
    parser.add_argument(
        "--shadow", action="append", default=[], help="a folder to look into before --folder"
    )
    parser.add_argument("--base-path", default="/")
    parser.add_argument("--port", type=int, default=0, help="default: any free port")
    parser.add_argument("--delay-ms", type=float, default=0)
    parser.add_argument("--requests-per-second", type=float)
    parser.add_argument("--burst", type=int, default=1)
    parser.add_argument(
        "--lie",
        action="append",
        default=[],
        type=_lie,
        metavar="GLOB=NAME",
        help="a lie to tell at paths, such as 'events/*=html with 200'; a wrong name lists them",
    )
    parser.add_argument("--gzip", action=argparse.BooleanOptionalAction, default=True)
    return parser


def _size(text: str) -> MatchSize | int:
    if text.isdigit():
        return int(text)
    try:
        return MatchSize[text.upper()]
    except KeyError:
        raise argparse.ArgumentTypeError(f"not a size: {text!r}") from None


def _lie(text: str) -> tuple[str, str]:
    glob, _, name = text.rpartition("=")
    if not glob or name not in LIES:
        raise argparse.ArgumentTypeError(f"not a lie: {text!r}; there are: {', '.join(LIES)}")
    return glob, name


def _seasons(text: str) -> tuple[SeasonSpec, ...]:
    return tuple(_season(part) for part in text.split(","))


def _season(text: str) -> SeasonSpec:
    season, _, matches = text.partition(":")
    competition_id, _, season_id = season.partition("/")
    try:
        return SeasonSpec(
            competition_id=int(competition_id), season_id=int(season_id), matches=int(matches)
        )
    except ValueError as exc:
        raise argparse.ArgumentTypeError(f"not a season: {text!r} ({exc})") from exc


def _fastest_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """The event loop of uvloop where it is installed."""
    try:
        factory: Callable[[], asyncio.AbstractEventLoop] = import_module("uvloop").new_event_loop
    except ImportError:
        return None
    return factory


if __name__ == "__main__":
    main()
