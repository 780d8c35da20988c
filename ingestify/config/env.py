"""What ``!ENV ${NAME}`` stands for: the process's environment, then the nearest ``.env``."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ingestify.errors import ConfigError

VARIABLE = re.compile(r"\$\{([^}:]*)(?::([^}]*))?\}")
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
BARE_NAME = re.compile(r"\$?[A-Z_][A-Z0-9_]*\Z")
ENTRY = re.compile(
    r"""
    [^\S\n]* (?:export[^\S\n]+)? (?P<name>[A-Za-z_][A-Za-z0-9_]*) [^\S\n]* = [^\S\n]*
    (?: '(?P<literal>[^']*)' | "(?P<quoted>(?:[^"\\]|\\.)*)" | (?P<bare>[^'"#\s][^\n]*?|) )
    (?: [^\S\n]+\#[^\n]* | [^\S\n]* ) $
    """,
    re.VERBOSE | re.MULTILINE | re.DOTALL,
)
IGNORED = re.compile(r"[^\S\n]*(?:#[^\n]*)?$", re.MULTILINE)
ESCAPE = re.compile(r"\\(.)", re.DOTALL)
ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "$": "$", "\n": ""}


class Environment:
    """Variables by name. The process's own win over those of *files*, the first file over others.

    Files are read only when a variable is asked for that the process does not have. A line that
    cannot be read hides its own variable and nothing else; `notes` says so.
    """

    def __init__(self, variables: Mapping[str, str], files: Sequence[Path] = ()) -> None:
        self._variables = variables
        self._files = files
        self._from_files: dict[str, str] | None = None
        self.notes: list[str] = []

    @classmethod
    def around(cls, config_file: Path) -> Environment:
        """The present environment, ``.env`` beside *config_file*, and the first one found from
        the working folder upwards."""
        here = Path.cwd()
        above = next(
            (p / ".env" for p in (here, *here.parents) if (p / ".env").is_file()), here / ".env"
        )
        return cls(os.environ, list(dict.fromkeys([config_file.absolute().parent / ".env", above])))

    def get(self, name: str) -> str | None:
        """The variable's value; None where it is not set, or is empty.

        An empty variable is what an unset secret looks like in many places that pass them on, so
        it never counts as a value.
        """
        value = self._variables.get(name)
        if not value:
            value = self._read_files().get(name)
        return value or None

    def _read_files(self) -> Mapping[str, str]:
        if self._from_files is None:
            self._from_files = {}
            for file in reversed(self._files):
                if file.is_file():
                    values, notes = read_env_file(file)
                    self._from_files.update(values)
                    self.notes.extend(notes)
        return self._from_files


def fill_in(text: str, environment: Environment) -> tuple[str, list[str]]:
    """*text* with every ``${NAME}`` or ``${NAME:default}`` replaced, and what replaced them.

    Raises:
        ConfigError: a variable has neither a value nor a default, or *text* is not well formed.
    """
    if BARE_NAME.match(text):
        raise ConfigError(f"!ENV is followed by text with ${{NAME}}: write ${{{text.lstrip('$')}}}")
    values: list[str] = []

    def value_of(found: re.Match[str]) -> str:
        name, default = found[1].strip(), found[2]
        if not NAME.match(name):
            raise ConfigError("!ENV: between ${ and } stands a name of letters, digits and _")
        value = environment.get(name)
        if value is None:
            value = default
        if value is None:
            raise ConfigError(_missing(name, environment))
        values.append(value)
        return value

    if "${" in VARIABLE.sub("", text) or any("${" in (m[2] or "") for m in VARIABLE.finditer(text)):
        raise ConfigError("!ENV: a ${ without its own }, or one inside another's default")
    return VARIABLE.sub(value_of, text), values


def read_env_file(file: Path) -> tuple[dict[str, str], list[str]]:
    """The variables of a ``.env`` file, and what could not be read in it, without any value.

    A line is ``NAME=value``, also after ``export``. Values in single quotes are literal, in
    double quotes they may have escapes and span lines; ``#`` after a blank starts a comment.
    ``${…}`` is not filled in there, so it is refused outside single quotes.
    """
    try:
        text = file.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "not UTF-8"
        return {}, [f"{file} could not be read: {reason}"]
    values: dict[str, str] = {}
    notes: list[str] = []
    for line, found in _entries(text):
        if found is None:
            notes.append(f"{file}:{line} is not NAME=value")
            continue
        name, literal, quoted = found["name"], found["literal"], found["quoted"]
        value = literal if literal is not None else found["bare"] or ""
        if quoted is not None:
            value = ESCAPE.sub(lambda m: ESCAPES.get(m[1], m[0]), quoted)
        if literal is None and "${" in value:
            notes.append(f"{file}:{line} has ${{…}} in {name}, which is not filled in there")
            values.pop(name, None)
            continue
        values[name] = value
    return values, notes


def _entries(text: str) -> Iterator[tuple[int, re.Match[str] | None]]:
    """Each entry with its line; None stands for a line that is none."""
    position, line = 0, 1
    while position < len(text):
        found = ENTRY.match(text, position)
        if found:
            yield line, found
            end = found.end()
        elif ignored := IGNORED.match(text, position):
            end = ignored.end()
        else:
            yield line, None
            end = text.find("\n", position)
            end = len(text) if end < 0 else end
        line += text.count("\n", position, end + 1)
        position = end + 1


def _missing(name: str, environment: Environment) -> str:
    notes = "".join(f" ({note})" for note in environment.notes)
    return (
        f"the environment variable {name} is not set, or empty, and has no default; set it, "
        f"put it into .env, or write ${{{name}:default}}{notes}"
    )
