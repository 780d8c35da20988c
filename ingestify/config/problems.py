"""What is wrong with a configuration, said so that it can be mended: place, value, nearest key."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from ingestify.config.yaml import Document, KeyPath, Problem
from ingestify.errors import ConfigError

WORD = re.compile(r"[A-Za-z0-9_-]+\Z")
SEPARATORS = re.compile(r"[\s,;=<>!]+")  # where a message may quote a part of a value
KINDS: Mapping[type, str] = {
    type(None): "nothing",
    bool: "true or false",
    str: "text",
    int: "a number",
    float: "a number",
    dict: "a mapping",
    list: "a list",
}
MEASURES = {"bool": "true or false", "int": "a whole number", "float": "a number"}
SHORTEST_SECRET = 4  # shorter texts are no secrets, and hiding them would garble messages


def validation_problems(
    document: Document, error: ValidationError, model: type[BaseModel]
) -> Iterator[Problem]:
    """What pydantic found, in our words. No value is shown."""
    for found in error.errors(include_url=False):
        path = found["loc"]
        if path and path[-1] == "[key]":
            path = path[:-1]
        message = _message(found["type"], found["msg"], found["input"], path, model)
        yield Problem(path, message, document.line_of(path))


def raise_if_any(document: Document, problems: list[Problem], *, name: str) -> None:
    """Report *problems* all at once, in the order of lines.

    Raises:
        ConfigError: there are any.
    """
    unread = {problem.path for problem in document.problems if problem.path}
    lines = []
    for problem in sorted(problems, key=lambda each: each.line):
        # What could not even be read has a problem already, and so has what it is a part of.
        if problem in document.problems or not any(_nested(problem.path, p) for p in unread):
            lines.append(_shown(problem, name, document.secrets))
    if lines:
        raise ConfigError("\n".join(dict.fromkeys(lines)))


def path_text(path: KeyPath) -> str:
    """A key path as people write it: ``ingestion_plans[0].selectors``."""
    text = ""
    for part in path:
        if isinstance(part, int) and not isinstance(part, bool):
            text += f"[{part}]"
        elif isinstance(part, str) and WORD.match(part):
            text += f".{part}" if text else part
        else:
            text += f"[{part!a}]"
    return text


def did_you_mean(written: object, known: Mapping[str, object] | list[str], noun: str) -> str:
    """A hint at the nearest of the *known* names, or at all of them."""
    from difflib import get_close_matches  # which few ever need

    near = get_close_matches(str(written), list(known), n=1)
    if near:
        return f'did you mean "{near[0]}"?'
    return f"known {noun}: {', '.join(known)}" if known else f"no {noun} are known"


def _message(kind: str, text: str, given: Any, path: KeyPath, model: type[BaseModel]) -> str:
    if kind == "missing":
        return "is missing"
    if kind == "extra_forbidden":
        section = _model_at(path[:-1], model)
        return f"unknown key; {did_you_mean(path[-1], _keys(section), 'keys')}"
    if kind in ("model_type", "model_attributes_type", "dict_type", "mapping_type"):
        text = "must be a mapping"
    elif kind in ("tuple_type", "list_type"):
        text = "must be a list"
    elif kind == "string_type":
        text = "must be text"
        if isinstance(given, int | float):
            return f"{text}; put it in quotes"
    elif kind == "config":  # our own
        return text
    elif (known := kind.partition("_")[0]) in MEASURES and kind.endswith(("_type", "_parsing")):
        text = f"must be {MEASURES[known]}"
    text = re.sub(r"^(Input|Value) should", "must", text)
    if type(given) in KINDS and kind.endswith(("_type", "_parsing", "_error")):
        return f"{text}, not {KINDS[type(given)]}"
    return text


def _model_at(path: KeyPath, model: type[BaseModel]) -> type[BaseModel] | None:
    """The model that describes what stands at *path* in a document that *model* describes."""
    here: Any = model
    for part in path:
        section = _model_in(here)
        if section is not None and isinstance(part, str) and part in section.model_fields:
            here = section.model_fields[part].annotation
    return _model_in(here)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for arg in get_args(annotation) if (found := _model_in(arg))), None)


def _keys(section: type[BaseModel] | None) -> list[str]:
    return list(section.model_fields) if section else []


def _nested(one: KeyPath, other: KeyPath) -> bool:
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]


def _shown(problem: Problem, name: str, secrets: frozenset[str]) -> str:
    where = f"{name}:{problem.line}" if problem.line else name
    message = problem.message
    parts = {part for secret in secrets for part in (secret, *SEPARATORS.split(secret))}
    for secret in sorted(parts, key=len, reverse=True):
        if len(secret) >= SHORTEST_SECRET:
            message = message.replace(secret, "***")
    return ": ".join(part for part in (where, path_text(problem.path), message) if part)
