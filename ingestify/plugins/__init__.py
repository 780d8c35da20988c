"""Sources, policies and subscribers by name: from installed packages, or by dotted path."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ingestify.errors import ConfigError
from ingestify.model.settings import duration, share
from ingestify.plugins.objects import call, load_object, near
from ingestify.policy import FetchPolicy
from ingestify.ports import Source
from ingestify.subscriber import HANDLERS, handlers_of

if TYPE_CHECKING:
    from ingestify.config.sections import ObjectSpec, SourceConfig, SubscriberConfig
    from ingestify.store import DatasetStore

__all__ = [
    "SourceType",
    "build_source",
    "build_subscriber",
    "construct",
    "load_fetch_policy",
    "load_object",
    "load_source_class",
    "source_types",
]

GROUP = "ingestify.sources"
PREFIX = "ingestify."  # installed types may be written with it
OURS = ("auth", "limits", "http_settings")  # a Source's own, not for `configuration`


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceType:
    """One installed type of Source."""

    name: str
    distribution: str  # name and version of the package that brings it
    class_path: str
    provider: str | None  # None: it cannot be loaded, or says so only when it is built
    error: str | None = None


def source_types() -> list[SourceType]:
    """Every installed type of Source by name; one that is broken tells why."""
    return [_described(point) for point in sorted(_entry_points(), key=lambda each: each.name)]


def load_source_class(type_name: str, *, folder: Path | None = None) -> type[Source]:
    """The class for *type_name*: an installed type, with or without "ingestify.", or a dotted path.

    Raises:
        ConfigError: there is no such class, it cannot be imported, or it is no Source.
    """
    point = _installed(type_name)
    found = _load_entry_point(point) if point else _load_dotted(type_name, folder)
    if not (isinstance(found, type) and issubclass(found, Source)):
        raise ConfigError(f"{type_name} is not a class derived from ingestify.Source")
    return found


def build_source(name: str, config: SourceConfig, folder: Path | None = None) -> Source:
    """The Source that *config* describes, with its limits and HTTP settings.

    Raises:
        ConfigError: its class cannot be loaded, or does not take these options. No option's value
            is shown.
    """
    try:
        kind = load_source_class(config.type, folder=folder)
        _refuse_our_options(kind, config.configuration)
        source: Source = call(kind, name, configuration=config.configuration)
        _check_source(source)
        source.limits = config.limits.apply(source.limits)
        source.http_settings = config.http.apply(source.http_settings)
    except ConfigError as exc:
        raise ConfigError(f'source "{name}": {exc}') from exc.__cause__
    return source


def load_fetch_policy(
    spec: ObjectSpec | None, *, recheck: float = 0.0, folder: Path | None = None
) -> FetchPolicy:
    """The FetchPolicy of a plan; the usual one where *spec* is None.

    *recheck* holds where the policy's own configuration does not say it. Options that are
    durations or shares may be written as everywhere in the configuration.

    Raises:
        ConfigError: there is no such class, or it does not take these options.
    """
    if spec is None:
        return FetchPolicy(recheck=recheck)
    kind = load_object(spec.type, folder=folder)
    if not (isinstance(kind, type) and issubclass(kind, FetchPolicy)):
        raise ConfigError(f"{spec.type} is not a class derived from ingestify.FetchPolicy")
    policy: FetchPolicy = call(kind, configuration=_policy_options(kind, spec.configuration))
    if not hasattr(policy, "recheck"):
        raise ConfigError(f"{spec.type} must call super().__init__()")
    if recheck and "recheck" not in spec.configuration:
        policy.recheck = recheck
    return policy


def build_subscriber(
    config: SubscriberConfig, store: DatasetStore, folder: Path | None = None
) -> Any:
    """The subscriber that *config* describes, given *store* if its constructor wants it.

    Raises:
        ConfigError: its class cannot be loaded, has no handler, or does not take these options.
    """
    try:
        kind = load_object(config.type, folder=folder)
        if not isinstance(kind, type):
            raise ConfigError(f"{config.type} is not a class")
        arguments = (store,) if _first_parameter(kind) == "store" else ()
        subscriber = call(kind, *arguments, configuration=config.configuration)
        if not handlers_of(subscriber):
            known = ", ".join(HANDLERS)
            raise ConfigError(f"{config.type} has no handler; it may have any of {known}")
    except ConfigError as exc:
        raise ConfigError(f"event_subscribers: {exc}") from exc.__cause__
    return subscriber


def construct(spec: ObjectSpec, *arguments: Any, folder: Path | None = None) -> Any:
    """What *spec* names, called with *arguments* and its configuration as keywords.

    Raises:
        ConfigError: there is no such thing, or it does not take these options.
    """
    return call(load_object(spec.type, folder=folder), *arguments, configuration=spec.configuration)


def _first_parameter(kind: type) -> str | None:
    try:
        return next(iter(inspect.signature(kind).parameters), None)
    except (TypeError, ValueError):  # written in C
        return None


def _entry_points() -> list[EntryPoint]:
    return list(entry_points(group=GROUP))


def _installed(type_name: str) -> EntryPoint | None:
    wanted = {type_name, type_name.removeprefix(PREFIX)}
    found = [point for point in _entry_points() if point.name in wanted]
    if len({point.value for point in found}) > 1:
        brought_by = ", ".join(sorted(_distribution(point) for point in found))
        raise ConfigError(f"{type_name} is brought by several packages: {brought_by}")
    return found[0] if found else None


def _load_entry_point(point: EntryPoint) -> Any:
    try:
        return load_object(point.value)
    except ConfigError as exc:
        raise ConfigError(f"{point.name} of {_distribution(point)}: {exc}") from exc.__cause__


def _load_dotted(type_name: str, folder: Path | None) -> Any:
    known = sorted({point.name for point in _entry_points()})
    installed = f"installed types: {', '.join(known)}" if known else "no types are installed"
    short = type_name.removeprefix(PREFIX)
    if "." not in short and ":" not in short:
        raise ConfigError(
            f'"{type_name}" is not an installed type of Source{near(short, known)} ({installed}; '
            "a class of your own is written as my_package.MySource or my_package:MySource)"
        )
    try:
        return load_object(type_name, folder=folder)
    except ConfigError as exc:
        raise ConfigError(f"{exc} ({installed})") from exc.__cause__


def _described(point: EntryPoint) -> SourceType:
    provider, error = None, None
    try:
        provider = getattr(load_source_class(point.name), "provider", None)
    except ConfigError as exc:
        error = str(exc)
    return SourceType(
        name=point.name,
        distribution=_distribution(point),
        class_path=point.value,
        provider=provider if isinstance(provider, str) else None,
        error=error,
    )


def _distribution(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "an unknown package"


def _refuse_our_options(kind: type[Source], configuration: Mapping[str, Any]) -> None:
    inherited = inspect.signature(kind) == inspect.signature(Source)
    own = () if inherited else inspect.signature(kind).parameters
    for option in OURS:
        if option in configuration and option not in own:
            raise ConfigError(
                f'"{option}" is not an option; limits and http are written beside the '
                "configuration, and credentials as the options that the Source names for them"
            )


def _check_source(source: Source) -> None:
    kind = type(source).__qualname__
    if not (hasattr(source, "name") and hasattr(source, "auth")):
        raise ConfigError(f"{kind} must call super().__init__(name, …)")
    provider = getattr(source, "provider", None)
    if not isinstance(provider, str) or not provider:
        raise ConfigError(f'{kind} must name its provider, such as provider = "my_provider"')


def _policy_options(kind: type[FetchPolicy], written: Mapping[str, Any]) -> dict[str, Any]:
    parameters = inspect.signature(kind).parameters
    options = dict(written)
    for name, value in written.items():
        annotation = str(parameters[name].annotation) if name in parameters else ""
        try:
            if "timedelta" in annotation and value is not None:
                options[name] = duration(value)
            elif name == "recheck":
                options[name] = share(value)
        except ConfigError as exc:
            raise ConfigError(f'the option "{name}" {exc}') from None
    return options
