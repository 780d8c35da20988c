"""The command line as a process: `ingestify`, and `python -m ingestify`."""

from __future__ import annotations

import gc
import os
import sys

FEWER_COLLECTIONS = 100_000  # allocations between two of them


def main() -> None:
    """Do what the process's arguments say, and end the process."""
    # Imports leave hardly any garbage, and a crawl makes few cycles: with the usual threshold, one
    # eighth of the CPU time of a run with nothing to do went into looking for them.
    gc.set_threshold(FEWER_COLLECTIONS)
    open_standard_streams()
    from ingestify.cli.ending import execute

    code = execute(sys.argv[1:])
    gc.freeze()  # else the interpreter looks through everything again before it ends
    sys.exit(code)


def open_standard_streams() -> None:
    """Lead standard streams that were closed before we began, as some supervisors do, nowhere.

    Else the next file that is opened would take their place, and be written to by mistake.
    """
    for fd, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(fd)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
            if nowhere != fd:
                os.dup2(nowhere, fd)
                os.close(nowhere)
            os.set_inheritable(fd, True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(fd, mode, closefd=False))  # noqa: SIM115


if __name__ == "__main__":
    main()
