"""Results on stdout: tables for people, plain lines for pipes, JSON for programs."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeAlias

import click

from ingestify.cli.session import printable

Cell: TypeAlias = str | int | None
Row: TypeAlias = Sequence[Cell]

WIDEST = 10_000  # columns
SHORT = 20  # characters that are never broken into lines


def write(text: str) -> bool:
    """Write *text* and a newline. Returns False when nobody reads any more."""
    try:
        click.echo(text)
    except BrokenPipeError:
        write_nowhere()
        return False
    return True


def say(text: str) -> None:
    """Tell people, who may not be there, something that is no result."""
    try:
        click.echo(printable(text), err=True)
    except OSError:
        return


def write_nowhere() -> None:
    """Let nothing more be written to stdout: its reader has left, which is no error."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def write_json(value: Any) -> bool:
    """Write *value* as JSON for programs that people look at, too."""
    import msgspec

    return write(msgspec.json.format(as_json(value), indent=2).decode())


def as_json(value: Any) -> bytes:
    """*value*, which may hold values of ours, as JSON on one line."""
    import msgspec

    return msgspec.json.encode(value, enc_hook=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"not for JSON: {type(value).__name__}")


def write_table(header: Row, rows: Sequence[Row]) -> bool:
    """Write a table with its header, as wide as the terminal, or as it has to be elsewhere."""
    if not rows:
        return True
    header, rows = _without_empty_columns(header, rows)
    if sys.stdout.isatty():
        return _write_rich(header, rows)
    cells = [[_text(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[at]) for row in cells) for at in range(len(header))]
    numeric = _numeric(rows)
    lines = [
        "  ".join(
            cell.rjust(width) if is_number else cell.ljust(width)
            for cell, width, is_number in zip(row, widths, numeric, strict=True)
        ).rstrip()
        for row in cells
    ]
    return write("\n".join(lines))


def write_records(header: Row, rows: Sequence[Row]) -> bool:
    """Write a table on a terminal; elsewhere lines with tabs between cells, and no header."""
    if not rows:
        return True
    if sys.stdout.isatty():
        return _write_rich(*_without_empty_columns(header, rows))
    return write("\n".join("\t".join(map(_text, row)) for row in rows))


def _write_rich(header: Row, rows: Sequence[Row]) -> bool:
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    table = Table(box=None, header_style="bold", pad_edge=False)
    for at, is_number in enumerate(_numeric(rows)):
        # Numbers, states and dates are useless in parts; long texts give way to them.
        width = max(len(_text(row[at])) for row in rows)
        is_short = width <= SHORT
        table.add_column(
            Text(_text(header[at])),
            justify="right" if is_number else "left",
            no_wrap=is_short,
            min_width=width if is_short else None,
            overflow="fold",
        )
    for row in rows:
        table.add_row(*(Text(_text(cell)) for cell in row))
    # A terminal too narrow for it wraps the lines: nothing is cut off.
    least = Measurement.get(console, console.options.update(width=WIDEST), table).minimum
    console.width = max(console.width, least + len(header))
    with console.capture() as captured:
        console.print(table)
    return write(captured.get().rstrip("\n"))


def _without_empty_columns(header: Row, rows: Sequence[Row]) -> tuple[Row, Sequence[Row]]:
    kept = [at for at in range(len(header)) if any(row[at] not in (None, "") for row in rows)]
    return [header[at] for at in kept], [[row[at] for at in kept] for row in rows]


def _numeric(rows: Sequence[Row]) -> list[bool]:
    return [all(isinstance(cell, int) for cell in column) for column in zip(*rows, strict=True)]


def _text(cell: Cell) -> str:
    """*cell* on one line."""
    return "" if cell is None else printable(str(cell).replace("\n", " ").replace("\t", " "))


def size(count: float) -> str:
    """A number of bytes, for people."""
    for unit in ("B", "kB", "MB"):
        if abs(count) < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"


def duration(time: timedelta) -> str:
    """A time span, for people."""
    seconds = time.total_seconds()
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d} min"


def moment(at: datetime | None) -> str:
    """A moment, in UTC and to the second."""
    return "" if at is None else f"{at:%Y-%m-%d %H:%M:%S}Z"


def shortened(text: str | None) -> str | None:
    """The beginning of a text that only has to be told from others."""
    return f"{text[:12]}…" if text and len(text) > 13 else text


def plural(count: int, noun: str) -> str:
    """``1 dataset``, ``2 datasets``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
