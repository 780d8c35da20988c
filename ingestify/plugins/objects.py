"""Objects by dotted path: imported, and called with what a configuration says.

A dotted path is looked up among installed modules first, then in the folder of the
configuration, which is appended to `sys.path` when the first dotted path is loaded and stays
there: modules of a plugin import their siblings whenever they like, also in subprocesses. Since
it is appended, nothing in that folder can take the place of an installed module.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from ingestify.errors import ConfigError, IngestifyError, text_of

NAMES = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*"
DOTTED = re.compile(rf"{NAMES}(?:[.:]{NAMES})\Z")
UNEXPECTED = re.compile(r"unexpected keyword argument '(\w+)'")
MASK = "***"
SURELY_A_VALUE = 4  # texts from this length on are masked inside of words, too
NOT_OPTIONS = {"self", "name", "auth", "limits", "http_settings"}  # a Source's own


def load_object(dotted: str, *, folder: Path | None = None) -> Any:
    """What ``package.module.Name`` or ``package.module:Name`` stands for.

    Raises:
        ConfigError: there is no such module or name, or importing it fails.
    """
    if not DOTTED.match(dotted):
        raise ConfigError(
            f'"{dotted}" is not a dotted path such as my_package.MyClass or my_package:MyClass'
        )
    if folder is not None:
        _make_importable(folder)
    module, names = _module_of(dotted)
    found: Any = module
    for name in names:
        try:
            found = getattr(found, name)
        except AttributeError:
            there = [each for each in dir(found) if not each.startswith("_")]
            raise ConfigError(f"{_where(module)} has no {name}{near(name, there)}") from None
    return found


def call(kind: Any, *arguments: Any, configuration: Mapping[str, Any]) -> Any:
    """*kind* called with *arguments*, and with *configuration* as keywords.

    Raises:
        ConfigError: it does not take these options, or fails. No option's value is shown.
    """
    label = getattr(kind, "__qualname__", type(kind).__qualname__)
    if not callable(kind):
        raise ConfigError(f"{label} cannot be called")
    options = dict(configuration)
    _check_options(kind, label, arguments, options)
    try:
        return kind(*arguments, **options)
    except ConfigError as exc:
        text = _masked(text_of(exc), options)
    except IngestifyError:
        raise
    except Exception as exc:  # a stranger's code
        unexpected = UNEXPECTED.search(text_of(exc)) if isinstance(exc, TypeError) else None
        if unexpected and unexpected[1] in options:
            text = _unknown_option(unexpected[1], label, kind)
        else:
            text = f"{label} could not be built: {_masked(_described(exc), options)}"
    # Outside of the handler: what was caught may hold an option's value, also in its traceback.
    raise ConfigError(text)


def near(written: str, known: list[str]) -> str:
    """A hint at the nearest of the *known* names; empty where none is near."""
    from difflib import get_close_matches  # which few ever need

    found = get_close_matches(written, known, n=1)
    return f'; did you mean "{found[0]}"?' if found else ""


def _make_importable(folder: Path) -> None:
    entry = str(folder.absolute())
    if entry not in sys.path:
        sys.path.append(entry)
    importlib.invalidate_caches()  # files in the folder may be younger than the last look at it


def _module_of(dotted: str) -> tuple[ModuleType, list[str]]:
    """The module in *dotted*, and the names that follow it."""
    module, colon, rest = dotted.partition(":")
    parts = module.split(".")
    missing: str | None = module
    for end in [len(parts)] if colon else range(len(parts) - 1, 0, -1):
        try:
            return _import(".".join(parts[:end])), rest.split(".") if colon else parts[end:]
        except ModuleNotFoundError as exc:
            missing = exc.name
    raise ConfigError(f'there is no module "{missing}" to find {dotted} in')


def _import(name: str) -> ModuleType:
    """The module called *name*.

    Raises:
        ModuleNotFoundError: there is none; another name may be tried.
        ConfigError: there is one, but it cannot be imported.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as exc:
        if exc.name and f"{name}.".startswith(f"{exc.name}."):
            raise
        raise ConfigError(f'{name} needs the module "{exc.name}", which is not there') from exc
    except (Exception, SystemExit) as exc:  # whatever a stranger's module does on import
        raise ConfigError(f"importing {name} failed: {_described(exc)}") from exc


def _where(module: ModuleType) -> str:
    file = getattr(module, "__file__", None)
    return f"{module.__name__} ({file})" if file else module.__name__


def _check_options(
    kind: Any, label: str, arguments: tuple[Any, ...], options: Mapping[str, Any]
) -> None:
    """Say which option is too much or missing, before anything is called."""
    try:
        signature = inspect.signature(kind)
    except (TypeError, ValueError):  # written in C
        return
    try:
        bound = set(signature.bind_partial(*arguments).arguments)
    except TypeError:
        raise ConfigError(f"{label} must take {len(arguments)} argument(s) first") from None
    parameters = signature.parameters.values()
    takes_all = any(each.kind is each.VAR_KEYWORD for each in parameters)
    named = {e.name for e in parameters if e.kind in (e.KEYWORD_ONLY, e.POSITIONAL_OR_KEYWORD)}
    for option in options:
        if option in bound:
            raise ConfigError(f'{label} takes "{option}" from elsewhere, not as an option')
        if option not in named and not takes_all:
            raise ConfigError(_unknown_option(option, label, kind))
    missing = [
        each.name
        for each in parameters
        if each.default is each.empty
        and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
        and each.name not in bound
        and each.name not in options
    ]
    if missing:
        raise ConfigError(f"{label} is missing the option(s) {', '.join(missing)}")


def _unknown_option(option: str, label: str, kind: Any) -> str:
    known = _options_of(kind)
    hint = near(option, known) or (f"; it has: {', '.join(known)}" if known else "")
    return f'{label} has no option "{option}"{hint}'


def _options_of(kind: Any) -> list[str]:
    """Every option that *kind*, or a class it is derived from, names."""
    makers = [kind]
    if isinstance(kind, type):
        makers = [vars(each)["__init__"] for each in kind.mro() if "__init__" in vars(each)]
        makers.remove(object.__init__)
    names: dict[str, None] = {}
    for maker in makers:
        for each in inspect.signature(maker).parameters.values():
            if each.kind in (each.KEYWORD_ONLY, each.POSITIONAL_OR_KEYWORD):
                names[each.name] = None
    return [name for name in names if name not in NOT_OPTIONS]


def _described(exc: BaseException) -> str:
    frames = traceback.extract_tb(exc.__traceback__)
    known = frames and not isinstance(exc, SyntaxError) and not frames[-1].filename.startswith("<")
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if known else ""
    return f"{type(exc).__name__}: {text_of(exc)}{where}"


def _masked(text: str, options: Mapping[str, Any]) -> str:
    """*text* without any value that stands in *options*, however deep."""
    for value in sorted(_texts_in(options), key=len, reverse=True):
        if len(value) >= SURELY_A_VALUE:
            text = text.replace(value, MASK)
        else:
            text = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", MASK, text)
    return text


def _texts_in(value: Any) -> set[str]:
    if isinstance(value, Mapping):
        return set().union(*(_texts_in(each) for each in value.values()))
    if isinstance(value, list | tuple):
        return set().union(*(_texts_in(each) for each in value))
    if value is None or isinstance(value, bool):
        return set()
    text = str(value)
    return {text, repr(text)[1:-1]} - {""}  # errors quote what they name
