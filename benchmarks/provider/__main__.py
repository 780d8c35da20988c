"""`python -m benchmarks.provider CONFIG`: measure the providers of a configuration."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import anyio

from benchmarks.provider.probe import Probe
from benchmarks.provider.report import for_programs, write_report
from benchmarks.provider.simulated import simulator
from ingestify.cli.exit_codes import COULD_NOT_GO_ON, INTERRUPTED, cause_of, code_of
from ingestify.cli.logs import configure
from ingestify.cli.screen import say, write, write_json
from ingestify.cli.session import Session
from ingestify.cli.signals import Signals
from ingestify.config import Config
from ingestify.errors import IngestifyError

REQUESTS = 200
EXPLANATION = """\
Asks the configured providers what they have, fetches a sample of their files, more and more at
once, and tells how fast they answer and how long a full sync would take. Requests are made as a
run makes them: with its logins, retries and limits. Nothing is stored; what a daily quota is used
for is written down, if there is a lake.

--simulator does the same with a provider on this machine; what follows a -- is given to
`python -m ingestify.testing`, such as: --simulator -- --delay-ms 50 --requests-per-second 20

Exit codes: 0 all was measured; 1 some lists or files could not be had; 2 wrong usage or
configuration; 3 nothing could be asked; 4 a source or its quota ended it; 130, 143 interrupted,
with a report of what was found until then.
"""


def main(argv: Sequence[str]) -> int:
    """Do what *argv* says. Returns the exit code."""
    own, _, rest = _split(argv)
    parser = _parser()
    arguments = parser.parse_args(own)
    if arguments.simulator == (arguments.config is not None):
        parser.error("give a configuration, or --simulator")
    if rest and not arguments.simulator:
        parser.error("what follows -- is for the simulator: there must be --simulator, too")
    session = Session(quiet=arguments.quiet, debug=arguments.debug)
    try:
        with _configured(session, arguments, rest) as config:
            return _measure(session, config, arguments)
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as exc:
        return _report(exc, session)


def _split(argv: Sequence[str]) -> tuple[list[str], bool, list[str]]:
    """What stands before the first ``--``, whether there is one, and what stands behind it."""
    if "--" not in argv:
        return list(argv), False, []
    at = list(argv).index("--")
    return list(argv[:at]), True, list(argv[at + 1 :])


@contextmanager
def _configured(
    session: Session, arguments: argparse.Namespace, options: Sequence[str]
) -> Iterator[Config]:
    if arguments.simulator:
        with simulator(options) as config:
            yield config
    else:
        session.config_file = arguments.config
        yield session.load_config()


def _measure(session: Session, config: Config, arguments: argparse.Namespace) -> int:
    configure(session, logging.WARNING)
    probe = Probe(
        config=config,
        requests=arguments.requests,
        source=arguments.source,
        seed=arguments.seed,
        say=(lambda text: None) if session.quiet else (lambda text: say(session.shown(text))),
    )
    interrupted = anyio.run(_watched, probe)
    if arguments.json:
        write_json([for_programs(each, session.shown) for each in probe.findings])
    else:
        for at, found in enumerate(probe.findings):
            if at:
                write("")
            write_report(found, session.shown)
    if interrupted is not None:
        return interrupted
    if not any(each.was_answered for each in probe.findings):
        say("Error: nothing could be asked; see the problems above")
        return COULD_NOT_GO_ON
    failed = any(each.problems for each in probe.findings)
    return max((each.exit_code for each in probe.findings), default=0) or int(failed)


async def _watched(probe: Probe) -> int | None:
    """Let *probe* run until a signal ends it. Returns the exit code for that, or None."""
    scope = anyio.CancelScope()
    signals = Signals(ask_to_stop=lambda: False, stop_at_once=scope.cancel)
    with scope:
        async with anyio.create_task_group() as tg:
            await tg.start(signals.watch)
            await probe.run()
            tg.cancel_scope.cancel()
    return signals.exit_code


def _report(exc: Exception, session: Session) -> int:
    """Say what went wrong. Returns the exit code for it."""
    cause = cause_of(exc)
    if session.debug:
        import traceback

        say(session.shown("".join(traceback.format_exception(exc)).rstrip()))
    if isinstance(cause, IngestifyError):
        say(session.shown(f"Error: {cause}"))
        return code_of(cause)
    hint = "" if session.debug else "; --debug shows where"
    say(session.shown(f"Error: unexpected {type(cause).__name__}: {cause}{hint}"))
    return COULD_NOT_GO_ON


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.provider",
        description=EXPLANATION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", nargs="?", type=Path, metavar="CONFIG")
    parser.add_argument("--source", metavar="NAME", help="only this one of its sources")
    parser.add_argument(
        "--requests",
        type=_count,
        default=REQUESTS,
        metavar="N",
        help=f"send at most so many, over all sources; default: {REQUESTS}",
    )
    parser.add_argument("--simulator", action="store_true", help="measure a simulated provider")
    parser.add_argument("--seed", type=int, default=0, help="draw other lists and files")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--quiet", action="store_true", help="only results and warnings")
    parser.add_argument("--debug", action="store_true", help="log everything, show tracebacks")
    return parser


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1: {text}")
    return count


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
