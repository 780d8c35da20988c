"""No statement is put together from names, and no text becomes code: a look at every source file.

SQL stands in ``.sql`` files, where ``{prefix}`` alone is put in. Code hands on statements by their
names, and values beside them.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CATALOG = ROOT / "ingestify" / "adapters" / "catalog"
MODULES = [
    path for folder in ("ingestify", "sources") for path in sorted((ROOT / folder).rglob("*.py"))
]
SQL_FILES = sorted((ROOT / "ingestify").rglob("*.sql"))

SQL_WORDS = re.compile(
    r"\b(SELECT|INSERT\s+(OR\s+\w+\s+)?INTO|UPDATE\s+\S+\s+SET|DELETE\s+FROM|(CREATE|DROP|ALTER)\s+"
    r"(TABLE|INDEX|TRIGGER|VIEW)|PRAGMA|ATTACH|VACUUM|ORDER\s+BY|WHERE)\b"
)
EXECUTE = {"execute", "executemany", "execute_fetchall", "execute_insert"}
DRIVERS = {"sqlite3", "aiosqlite"}
EVALUATING = {"eval", "exec", "compile", "__import__", "breakpoint"}
UNSAFE_MODULES = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "jsonpickle", "joblib"}
SHELLS = {
    *("os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"),
    *("asyncio.create_subprocess_shell", "create_subprocess_shell"),
}
UNSAFE_YAML = {
    *("load", "load_all", "full_load", "full_load_all", "unsafe_load", "unsafe_load_all"),
    *("Loader", "FullLoader", "UnsafeLoader", "CLoader", "CFullLoader", "CUnsafeLoader"),
}


def dotted(node: ast.AST) -> str:
    """``a.b.c`` as it is written; empty for anything else."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def docstrings(tree: ast.AST) -> set[int]:
    """The ids of the constants that are documentation."""
    return {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }


def faults_in(text: str, *, is_catalog: bool = False) -> Iterator[str]:
    """What *text*, the code of a module, must not do."""
    tree = ast.parse(text)
    ignored = docstrings(tree)
    for node in ast.walk(tree):
        at = f"line {getattr(node, 'lineno', '?')}"
        match node:
            case ast.Constant(value=str(said)) if id(node) not in ignored:
                if found := SQL_WORDS.search(said):
                    yield f"{at}: SQL in a text: {found[0]}"
            case ast.Import(names=names):
                for each in names:
                    yield from _import_faults(each.name.split(".")[0], [], at, is_catalog)
            case ast.ImportFrom(module=str(module), names=names):
                members = [each.name for each in names]
                yield from _import_faults(module.split(".")[0], members, at, is_catalog)
            case ast.Attribute(attr=attr) if dotted(node) == f"yaml.{attr}":
                if attr in UNSAFE_YAML:
                    yield f"{at}: yaml.{attr}"
            case ast.Call():
                yield from _call_faults(node, at)


def _import_faults(module: str, members: list[str], at: str, is_catalog: bool) -> Iterator[str]:
    if module in UNSAFE_MODULES:
        yield f"{at}: imports {module}"
    if module in DRIVERS and not is_catalog:
        yield f"{at}: imports {module} outside of the catalogs"
    if module == "yaml" and (unsafe := UNSAFE_YAML.intersection(members)):
        yield f"{at}: yaml.{', '.join(unsafe)}"


def _call_faults(node: ast.Call, at: str) -> Iterator[str]:
    name = dotted(node.func)
    if name in EVALUATING or name.startswith("builtins."):
        yield f"{at}: calls {name}"
    if name in SHELLS:
        yield f"{at}: calls {name}"
    for keyword in node.keywords:
        said = getattr(keyword.value, "value", True)
        if keyword.arg == "shell" and said is not False:
            yield f"{at}: shell={ast.unparse(keyword.value)}"
    method = name.rpartition(".")[2] or getattr(node.func, "attr", "")
    if method == "executescript":
        yield f"{at}: executescript commits by itself"
    if method in EXECUTE and node.args:
        for part in ast.walk(node.args[0]):
            if isinstance(part, ast.JoinedStr | ast.BinOp | ast.Call):
                yield f"{at}: {method} is given {ast.unparse(node.args[0])}"
                break


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_code_builds_no_statement_and_runs_no_text(path: Path) -> None:
    """
    No SQL in a text, no statement that is put together, no eval, no pickle, no shell.
    """
    assert list(faults_in(path.read_text(), is_catalog=path.is_relative_to(CATALOG))) == []


@pytest.mark.parametrize("path", SQL_FILES, ids=lambda path: path.name)
def test_only_the_prefix_is_put_into_a_statement(path: Path) -> None:
    """
    ``{prefix}`` stands before the name of a table or an index, ``{is_wanted}`` for a condition that
    is written in these files, too; nothing else is filled in: values are bound.
    """
    text = path.read_text()
    assert set(re.findall(r"\{[^}]*\}|%s|%\(", text)) <= {
        "{prefix}",
        "{is_wanted}",
        "{}",  # empty JSON
    }
    for found in re.finditer(r"(.?)\{\}(.?)", text):
        assert found.groups() == ("'", "'"), "an empty object stands in quotes"
    for found in re.finditer(r"(.?)\{prefix\}(.?)", text, re.DOTALL):
        before, after = found.groups()
        assert re.fullmatch(r"[\s,('\"]?", before), found
        assert re.fullmatch(r"[a-z_]", after), found


@pytest.mark.parametrize(
    "code",
    [
        'sql = f"SELECT * FROM {table}"',
        "sql = 'DELETE FROM ' + table",
        "text = 'x ORDER BY ' + name",
        "connection.execute(f'{statement} limit {n}', values)",
        "connection.execute(sql['find'] + ' limit 1')",
        "connection.executemany(sql['find'].format(name), values)",
        "await self._connection.execute_fetchall(sql['find'] % name)",
        "connection.executescript(text)",
        "import sqlite3",
        "from aiosqlite import connect",
        "eval(text)",
        "exec(text, {})",
        "compile(text, '', 'exec')",
        "import pickle",
        "from pickle import loads",
        "import yaml\nyaml.load(text, Loader=yaml.Loader)",
        "from yaml import unsafe_load",
        "from yaml import CLoader as Loader",
        "subprocess.run(command, shell=True)",
        "subprocess.run(command, shell=wanted)",
        "os.system(command)",
        "await asyncio.create_subprocess_shell(command)",
    ],
)
def test_the_look_finds_what_must_not_be(code: str) -> None:
    """
    Each of these is found.
    """
    assert list(faults_in(code))


@pytest.mark.parametrize(
    "code",
    [
        '"""Where statements SELECT."""',
        "connection.execute(sql['find'], {'name': name})",
        "re.compile('x')",
        "from yaml import CSafeLoader as Loader",
        "subprocess.run(command, shell=False)",
        "text = 'select a match, where there is one'",
    ],
)
def test_the_look_finds_nothing_else(code: str) -> None:
    """
    None of these is found.
    """
    assert list(faults_in(code)) == []
