"""Imports point one way: from the outside to the model, never back."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "ingestify"
SOURCES = ROOT / "sources"

# Each line may import from itself and from the lines above it.
LAYERS: list[set[str]] = [
    {"errors"},
    {"model"},
    {"ports", "policy", "clock"},
    {"throttle", "retry", "redaction", "strays", "http", "client"},
    {"pipeline"},
    {"config", "plugins", "store", "subscriber", "upkeep"},
    {"open_files"},
    {"opening", "streaming", "consumer"},
    {"engine"},
    {"main", "cli", "__main__"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
ADAPTERS_SEE = {"ports", "model", "errors"}
ONLY_OPENING_SEES = {"adapters"}


def imported(path: Path) -> Iterator[str]:
    """The full names of all modules that the file imports, at its top or anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def modules(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def part_of(name: str) -> str | None:
    """`model` for ``ingestify.model.dataset``; None for what is not ours or the package itself."""
    parts = name.split(".")
    return parts[1] if parts[0] == "ingestify" and len(parts) > 1 else None


CORE = [
    path
    for path in modules(PACKAGE)
    if path.relative_to(PACKAGE).parts[0] not in {"adapters", "testing", "__init__.py"}
]


@pytest.mark.parametrize("path", CORE, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path: Path) -> None:
    """A module imports only from its own layer and from those below it."""
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    assert own in LEVEL, f"{own} has no layer"
    for name in imported(path):
        part = part_of(name)
        if part in LEVEL:
            assert LEVEL[part] <= LEVEL[own], f"{own} must not import {name}"
        if part in ONLY_OPENING_SEES:
            assert own == "opening", f"{own} must not import {name}"


@pytest.mark.parametrize(
    "path", modules(PACKAGE / "adapters"), ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_adapters_see_ports_and_model_only(path: Path) -> None:
    """An adapter knows its port, and no other adapter."""
    family = path.relative_to(PACKAGE / "adapters").parts[0]
    for name in imported(path):
        part = part_of(name)
        if part == "adapters":
            assert name.split(".")[2:3] in ([], [family]), f"{family} must not import {name}"
        elif part is not None and (PACKAGE / part).exists() | (PACKAGE / f"{part}.py").exists():
            assert part in ADAPTERS_SEE, f"an adapter must not import {name}"


@pytest.mark.parametrize("path", modules(SOURCES), ids=lambda path: str(path.relative_to(SOURCES)))
def test_sources_use_public_names_only(path: Path) -> None:
    """A connector imports ``ingestify`` and nothing inside of it, as a third party's would."""
    if "templates" in path.parts:
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert not (node.module or "").startswith("ingestify."), f"{path}: {node.module}"
        elif isinstance(node, ast.Import):
            for alias in node.names:
                assert not alias.name.startswith("ingestify."), f"{path}: {alias.name}"


@pytest.mark.parametrize("path", CORE, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_core_knows_no_provider(path: Path) -> None:
    """No provider is named in the core; only the command line's examples show one."""
    if "cli" in path.relative_to(PACKAGE).parts:
        return
    text = path.read_text().lower()
    for provider in ("statsbomb", "wyscout", "skillcorner"):
        assert provider not in text, f"{path} names {provider}"


def test_no_sql_outside_of_sql_files() -> None:
    """Statements stand in ``.sql`` files, so that none can be put together from names."""
    starts = ("select ", "insert ", "update ", "delete from", "create table", "drop ", "alter ")
    for path in modules(PACKAGE):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                text = node.value.strip().lower()
                is_docstring = "\n" in text or text.endswith(".")
                assert is_docstring or not text.startswith(starts), f"{path}: {text[:60]}"


def test_nothing_evaluates_text() -> None:
    """No eval, no exec, and no task that nobody waits for."""
    for path in [*modules(PACKAGE), *modules(SOURCES)]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                assert name not in {"eval", "exec", "create_task", "ensure_future", "gather"}, (
                    f"{path}:{node.lineno} calls {name}"
                )
