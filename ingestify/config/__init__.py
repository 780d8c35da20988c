"""Config: what to ingest, from where, into which lake. Read from a file, or given by code."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeGuard

from pydantic import ValidationError

from ingestify.config.env import Environment
from ingestify.config.problems import did_you_mean, raise_if_any, validation_problems
from ingestify.config.sections import (
    ConfigFile,
    DatasetTypeConfig,
    HttpConfig,
    IdentifierKey,
    LimitsConfig,
    MainConfig,
    MetadataOptions,
    ObjectSpec,
    PlanConfig,
    SourceConfig,
    SubscriberConfig,
)
from ingestify.config.yaml import Document, KeyPath, Problem, read_yaml
from ingestify.errors import ConfigError
from ingestify.model.layout import Transformation
from ingestify.model.plan import PlanScope
from ingestify.model.settings import CatalogUrl, FileUrl

__all__ = [
    "CatalogUrl",
    "Config",
    "DatasetTypeConfig",
    "FileUrl",
    "HttpConfig",
    "IdentifierKey",
    "LimitsConfig",
    "MainConfig",
    "MetadataOptions",
    "ObjectSpec",
    "PlanConfig",
    "SourceConfig",
    "SubscriberConfig",
    "config_schema",
    "load_config",
    "parse_config",
]

MAX_BYTES = 4 * 1024**2
HIDDEN = "***"
SECRET_NAME = re.compile(r"pass(word|wd|phrase)?\b|secret|token|api_?key|credential|auth", re.I)
# Scheme, userinfo, host and path, query and fragment; no match where they cannot be told apart.
ADDRESS = re.compile(
    r"([a-z][a-z0-9+.-]*://)(?:([^\s?#]+)@)?([\w.:\[\]-]+(?:/[^\s?#@]*)?)([?#][^\s@]*)?\Z", re.I
)
USERINFO = re.compile(r"(?<=://)\S+(?=@)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A configuration that was checked. Values are plain; only its repr and `shown` hide some."""

    main: MainConfig
    sources: Mapping[str, SourceConfig]
    dataset_types: tuple[DatasetTypeConfig, ...] = ()
    ingestion_plans: tuple[PlanConfig, ...] = ()
    event_subscribers: tuple[SubscriberConfig, ...] = ()
    file: Path | None = None  # what it was read from, absolute
    folder: Path  # absolute; dotted paths may name modules in it
    shown: Mapping[str, Any] = field(repr=False)  # as written, "***" for what may be secret
    from_environment: frozenset[KeyPath] = field(default=frozenset(), repr=False)  # by !ENV

    @classmethod
    def from_values(
        cls,
        *,
        metadata_url: str,
        file_url: str | Path,
        bucket: str = "main",
        sources: Mapping[str, Any] | None = None,
        dataset_types: Sequence[Any] = (),
        ingestion_plans: Sequence[Any] = (),
        event_subscribers: Sequence[Any] = (),
        **main: Any,
    ) -> Config:
        """A configuration from code; every section as it would be written in a file.

        Args:
            main: more keys of the section `main`, such as ``concurrency``.

        Raises:
            ConfigError: something in it is wrong.
        """
        addresses = {"metadata_url": str(metadata_url), "file_url": str(file_url)}
        written = {
            "main": {**addresses, "default_bucket": bucket, **main},
            "sources": dict(sources or {}),
            "dataset_types": list(dataset_types),
            "ingestion_plans": list(ingestion_plans),
            "event_subscribers": list(event_subscribers),
        }
        return _checked(Document(value=written), name="configuration", file=None)

    def with_bucket(self, bucket: str) -> Config:
        """This configuration with another default bucket."""
        return replace(self, main=self.main.model_copy(update={"default_bucket": bucket}))

    def scope_of(self, plan: PlanConfig) -> PlanScope:
        """What *plan* looks at, and the bucket it keeps that in."""
        return PlanScope(
            source=plan.source,
            dataset_type=plan.dataset_type,
            bucket=plan.bucket or self.main.default_bucket,
            data_spec_versions=plan.data_spec_versions,
            patterns=plan.selectors,
        )

    def recheck_of(self, plan: PlanConfig) -> float:
        """The share of what looks unchanged that *plan* asks for anyway."""
        return self.main.recheck if plan.recheck is None else plan.recheck

    def identifier_keys(self, provider: str, dataset_type: str) -> Mapping[str, IdentifierKey]:
        """What is said about the parts of an identity; nothing about those left out."""
        for each in self.dataset_types:
            if (each.provider, each.dataset_type) == (provider, dataset_type):
                return each.identifier_keys
        return {}

    def transformations(self, provider: str, dataset_type: str) -> Mapping[str, Transformation]:
        """How the values of an identity are put into folders, by name."""
        keys = self.identifier_keys(provider, dataset_type)
        return {name: key.transformation for name, key in keys.items()}


def load_config(path: Path | str) -> Config:
    """The configuration in the YAML file at *path*.

    Raises:
        ConfigError: it cannot be read, or something in it is wrong; everything that is wrong is
            named with its line.
    """
    file = Path(path)
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        raise ConfigError(f"{file}: no such file; `ingestify init` writes one") from None
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "not a path"
        raise ConfigError(f"{file}: cannot be read: {reason}") from None
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{file}: larger than {MAX_BYTES} bytes")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{file}: not UTF-8 at byte {exc.start}") from None
    return parse_config(text, file=file, environment=Environment.around(file))


def parse_config(text: str, *, file: Path, environment: Environment) -> Config:
    """The configuration in *text*, which was read from *file*.

    Raises:
        ConfigError: something in it is wrong.
    """
    document = read_yaml(text, name=str(file), environment=environment)
    if document.value is None and not document.problems:
        raise ConfigError(f"{file}: is empty; `ingestify init` writes one that works")
    return _checked(document, name=str(file), file=file.absolute())


def config_schema() -> dict[str, Any]:
    """The JSON schema of a configuration file, for editors."""
    schema = ConfigFile.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _checked(document: Document, *, name: str, file: Path | None) -> Config:
    problems = [*document.problems, *_contradictions(document)]
    sections = None
    try:
        sections = ConfigFile.model_validate(document.value)
    except ValidationError as exc:
        problems.extend(validation_problems(document, exc, ConfigFile))
    raise_if_any(document, problems, name=name)
    if sections is None:
        raise ConfigError(f"{name}: is not a configuration")
    return Config(
        main=sections.main,
        sources=sections.sources,
        dataset_types=sections.dataset_types,
        ingestion_plans=sections.ingestion_plans or sections.extract_jobs,
        event_subscribers=sections.event_subscribers,
        file=file,
        folder=file.parent if file else Path.cwd(),
        shown=_shown(document.value, (), document.from_environment),
        from_environment=document.from_environment,
    )


def _contradictions(document: Document) -> Iterator[Problem]:
    """What each section alone cannot see. Looks at what was written, however wrong it may be."""
    written = document.value if isinstance(document.value, dict) else {}
    if written.get("ingestion_plans") and written.get("extract_jobs"):
        path: KeyPath = ("extract_jobs",)
        text = "is the older name of ingestion_plans; only one of them may be there"
        yield Problem(path, text, document.line_of(path))
    sources = written.get("sources") or {}
    for section in ("ingestion_plans", "extract_jobs"):
        for at, plan in _mappings(written.get(section)):
            path = (section, at, "source")
            source = plan.get("source")
            if isinstance(source, str) and isinstance(sources, dict) and source not in sources:
                hint = did_you_mean(source, [str(each) for each in sources], "sources")
                yield Problem(
                    path, f'no source is called "{source}"; {hint}', document.line_of(path)
                )
    seen: set[str] = set()
    for at, each in _mappings(written.get("dataset_types")):
        kind = f"{each.get('provider')}, {each.get('dataset_type')}"
        if kind in seen:
            path = ("dataset_types", at)
            yield Problem(path, f"stands twice: {kind}", document.line_of(path))
        seen.add(kind)
    readers: set[str] = set()
    for at, each in _entries(written.get("event_subscribers")):
        reader = (each.get("name") or each.get("type")) if isinstance(each, dict) else each
        if isinstance(reader, str) and reader in readers:
            path = ("event_subscribers", at)
            text = f'stands twice: {reader}; give one of them a "name" of its own'
            yield Problem(path, text, document.line_of(path))
        readers.add(str(reader))


def _entries(section: object) -> Iterator[tuple[int, Any]]:
    if isinstance(section, list):
        yield from enumerate(section)


def _mappings(section: object) -> Iterator[tuple[int, dict[Any, Any]]]:
    yield from ((at, each) for at, each in _entries(section) if isinstance(each, dict))


def _shown(value: Any, path: KeyPath, from_environment: frozenset[KeyPath]) -> Any:
    """*value* as JSON has it, without what may be secret."""
    if _is_address(value, path):
        return plain_address(value)
    if path in from_environment or (value is not None and _may_be_secret(value, path)):
        return HIDDEN
    if isinstance(value, Mapping):
        return {str(k): _shown(v, (*path, k), from_environment) for k, v in value.items()}
    if isinstance(value, list):
        return [_shown(v, (*path, at), from_environment) for at, v in enumerate(value)]
    if isinstance(value, str):
        return USERINFO.sub(HIDDEN, value)
    return value if value is None or isinstance(value, bool | int | float) else str(value)


def plain_address(text: str) -> str:
    """Scheme, host and path of *text*; whatever else it holds may be secret."""
    found = ADDRESS.match(text)
    return f"{found[1]}{found[3]}" if found else HIDDEN


def _is_address(value: object, path: KeyPath) -> TypeGuard[str]:
    return isinstance(value, str) and path[-1:] == ("base_url",) and "configuration" in path


def _may_be_secret(value: object, path: KeyPath) -> bool:
    """Whether an option's name says so, or it is a whole configuration in one text."""
    if "configuration" not in path:
        return False
    names = [part for part in path if isinstance(part, str)]
    return bool(SECRET_NAME.search(names[-1])) or (
        isinstance(value, str) and names[-1] == "configuration"
    )
