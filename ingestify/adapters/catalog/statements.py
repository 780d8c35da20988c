"""The SQL that stands in `sql/`: every statement under its name, with the table prefix put in.

What several statements have in common stands there once, and is put in by its name.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib import resources

from ingestify.errors import ConfigError

PREFIX = re.compile(r"(?:[a-z][a-z0-9_]{0,30})?\Z")
NAME_LINE = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
COMMON = "is_wanted"
FILES = (
    "connection",
    "runs",
    "selectors",
    "commits",
    "reading",
    "outbox",
    "upkeep",
    "backing_up",
    "quota",
)


def check_prefix(table_prefix: str) -> str:
    """*table_prefix*, if it can stand before the names of tables.

    Raises:
        ConfigError: it cannot.
    """
    if not PREFIX.match(table_prefix):
        raise ConfigError(
            "table_prefix must begin with a lower-case letter, followed by at most 30 lower-case"
            f" letters, digits and underscores: {table_prefix!r}"
        )
    return table_prefix


@lru_cache(maxsize=8)
def load_statements(table_prefix: str) -> Mapping[str, str]:
    """Every statement by its name."""
    statements: dict[str, str] = {}
    for file in FILES:
        _, *pairs = NAME_LINE.split(_read(f"{file}.sql"))
        for name, text in zip(pairs[::2], pairs[1::2], strict=True):
            statements[name] = _with_prefix(text, table_prefix)
    common = statements.pop(COMMON).removesuffix(";")
    return {name: sql.replace(f"{{{COMMON}}}", common) for name, sql in statements.items()}


def load_migrations(table_prefix: str) -> Mapping[int, tuple[str, ...]]:
    """The statements of every migration by its number, in the order of numbers."""
    folder = resources.files(__package__) / "sql" / "migrations"
    names = sorted(file.name for file in folder.iterdir() if file.name.endswith(".sql"))
    return {
        int(name[:4]): tuple(_split(_with_prefix(_read(f"migrations/{name}"), table_prefix)))
        for name in names
    }


def _read(name: str) -> str:
    return (resources.files(__package__) / "sql" / name).read_text(encoding="utf-8")


def _with_prefix(sql: str, table_prefix: str) -> str:
    return sql.replace("{prefix}", check_prefix(table_prefix)).strip()


def _split(script: str) -> Iterator[str]:
    """The single statements: `executescript` would commit before it begins."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement.strip()
            statement = ""
