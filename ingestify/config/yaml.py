"""YAML as configuration: safe and bounded, each value with its line, ``!ENV`` filled in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import yaml

from ingestify.config.env import Environment, fill_in
from ingestify.errors import ConfigError
from ingestify.model.settings import refuse_secrets_manager

try:
    from yaml import CSafeLoader as Loader
except ImportError:  # PyYAML was built without libyaml
    from yaml import SafeLoader as Loader  # type: ignore[assignment]

KeyPath: TypeAlias = tuple[Any, ...]  # keys of mappings, and positions in lists

MAX_DEPTH = 40  # libyaml's composer overflows the C stack at some 100,000
MAX_VALUES = 100_000  # after aliases are followed
TAG = "tag:yaml.org,2002:"
ENV_TAG = "!ENV"
MERGE_TAG = TAG + "merge"
TEXT_TAGS = {TAG + "str", TAG + "value", MERGE_TAG}
SCALAR_TAGS = {TAG + kind for kind in ("null", "bool", "int", "float", "timestamp")}
PLAIN_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)\Z")


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong at one place."""

    path: KeyPath
    message: str
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """What was written, and where."""

    value: Any
    lines: Mapping[KeyPath, int] = field(default_factory=dict)  # counted from 1
    from_environment: frozenset[KeyPath] = frozenset()
    secrets: frozenset[str] = field(default=frozenset(), repr=False)  # texts that came with !ENV
    problems: tuple[Problem, ...] = ()

    def line_of(self, path: KeyPath) -> int:
        """The line of *path*, or of the nearest thing around it that is there."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 0)


def read_yaml(text: str, *, name: str, environment: Environment) -> Document:
    """The one document in *text*.

    What is wrong with single values (a missing variable, a key that stands twice) is among the
    document's problems; their places hold None.

    Raises:
        ConfigError: *text* is no YAML, has tags that are not known here, or is out of bounds.
    """
    try:
        _check_bounds(text, name)
        loader = Loader(text)
        try:
            node = loader.get_single_node()
            reader = _Reader(loader, name, environment)
            value = None if node is None else reader.read(node, ())
        finally:
            loader.dispose()
    except yaml.YAMLError as exc:
        raise ConfigError(_syntax_error(name, exc)) from None
    except UnicodeError:
        raise ConfigError(f"{name}: not valid Unicode") from None
    return Document(
        value=value,
        lines=reader.lines,
        from_environment=frozenset(reader.from_environment),
        secrets=frozenset(reader.secrets),
        problems=tuple(reader.problems),
    )


class _Reader:
    """Makes values of nodes, and remembers where they stood."""

    def __init__(self, loader: Any, name: str, environment: Environment) -> None:
        self._loader = loader
        self._name = name
        self._environment = environment
        self._open: set[int] = set()  # nodes that are being read, by id: an alias may point back
        self._count = 0
        self.lines: dict[KeyPath, int] = {}
        self.from_environment: set[KeyPath] = set()
        self.secrets: set[str] = set()
        self.problems: list[Problem] = []

    def read(self, node: yaml.Node, path: KeyPath) -> Any:
        self.lines.setdefault(path, _line(node))
        self._count += 1
        if self._count > MAX_VALUES:
            raise self._fatal(node, f"more than {MAX_VALUES} values, with aliases followed")
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        if node.tag not in (TAG + "map", TAG + "seq"):
            return self._problem(node, path, _unknown_tag(node.tag, path))
        if id(node) in self._open:
            raise self._fatal(node, "an alias inside of what it stands for")
        if len(path) > MAX_DEPTH:
            raise self._fatal(node, f"nested more than {MAX_DEPTH} deep")
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, path)
            return [self.read(item, (*path, at)) for at, item in enumerate(node.value)]
        finally:
            self._open.discard(id(node))

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[Any, Any]:
        inherited = self._inherited(node, path)
        own: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == MERGE_TAG:
                continue
            key = self._key(key_node, path)
            if key in own:
                first = self.lines[(*path, key)]
                self._problem(key_node, (*path, key), f"stands twice; first in line {first}")
                continue
            self.lines[(*path, key)] = _line(key_node)
            own[key] = self.read(value_node, (*path, key))
        return inherited | own

    def _inherited(self, node: yaml.MappingNode, path: KeyPath) -> dict[Any, Any]:
        """What ``<<`` brings into a mapping; of several, the first wins."""
        values: dict[Any, Any] = {}
        for key_node, merged in node.value:
            if key_node.tag != MERGE_TAG:
                continue
            for each in merged.value if isinstance(merged, yaml.SequenceNode) else [merged]:
                found = self.read(each, path)
                if isinstance(found, dict):
                    values = found | values
                else:
                    self._problem(merged, path, "<< is followed by an alias of a mapping")
        return values

    def _key(self, node: yaml.Node, path: KeyPath) -> Any:
        if not isinstance(node, yaml.ScalarNode) or node.tag == ENV_TAG:
            raise self._fatal(node, "a key must be plain text or a number")
        return self._scalar(node, path)

    def _scalar(self, node: yaml.ScalarNode, path: KeyPath) -> Any:
        try:
            if node.tag == ENV_TAG:
                return self._from_environment(node.value, path)
            value = self._plain(node, path)
            if isinstance(value, str):
                refuse_secrets_manager(value)
            return value
        except ConfigError as exc:
            return self._problem(node, path, str(exc))

    def _from_environment(self, text: str, path: KeyPath) -> str:
        refuse_secrets_manager(text)
        value, parts = fill_in(text, self._environment)
        refuse_secrets_manager(value)
        self.from_environment.add(path)
        self.secrets.update([value, *parts])
        return value

    def _plain(self, node: yaml.ScalarNode, path: KeyPath) -> Any:
        if node.tag in TEXT_TAGS:
            return node.value
        if node.tag not in SCALAR_TAGS:
            raise ConfigError(_unknown_tag(node.tag, path))
        kind = node.tag.removeprefix(TAG)
        # YAML 1.1 reads 010 as 8, 1:30 as 90 and 2022_2023 as 20222023: an identifier that is
        # written so would silently become another one.
        if (kind == "int" and not PLAIN_INTEGER.match(node.value)) or (
            kind == "float" and not {":", "_"}.isdisjoint(node.value)
        ):
            raise ConfigError("YAML would read this as another number; put it in quotes")
        try:
            return self._loader.construct_object(node)
        except (ValueError, LookupError, AttributeError, OverflowError, yaml.YAMLError):
            raise ConfigError(f"no {kind} that YAML knows; put it in quotes") from None

    def _problem(self, node: yaml.Node, path: KeyPath, message: str) -> None:
        self.problems.append(Problem(path, message, _line(node)))

    def _fatal(self, node: yaml.Node, message: str) -> ConfigError:
        return ConfigError(f"{self._name}:{_line(node)}: {message}")


def _unknown_tag(tag: str, path: KeyPath) -> str:
    """What is wrong with *tag*. Among options it may be a password that begins like a tag."""
    if "configuration" in path and tag.startswith("!") and tag != ENV_TAG:
        return "a tag that is not known here; put text that begins with ! in quotes"
    return f"the tag {tag} is not known here"


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _check_bounds(text: str, name: str) -> None:
    """Refuse what would exhaust the stack or the memory, before anything is built of it."""
    depth = 0
    for count, event in enumerate(yaml.parse(text, Loader)):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH or count > 3 * MAX_VALUES:
            where = f":{event.start_mark.line + 1}" if event.start_mark else ""
            raise ConfigError(f"{name}{where}: too large, or nested more than {MAX_DEPTH} deep")


def _syntax_error(name: str, exc: yaml.YAMLError) -> str:
    if not isinstance(exc, yaml.MarkedYAMLError):  # characters that YAML does not allow
        return f"{name}: not YAML: {getattr(exc, 'reason', None) or 'cannot be read'}"
    mark = exc.problem_mark or exc.context_mark
    where = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
    what = ", ".join(str(part) for part in (exc.context, exc.problem) if part)
    return f"{name}{where}: not YAML: {what}"
