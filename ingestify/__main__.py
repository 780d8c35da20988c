"""The command line as a process: `ingestify`, and `python -m ingestify`."""

from __future__ import annotations

import sys


def main() -> None:
    """Do what the process's arguments say, and end the process."""
    from ingestify.cli.ending import execute

    sys.exit(execute(sys.argv[1:]))


if __name__ == "__main__":
    main()
