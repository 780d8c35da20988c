"""The fields of a configuration: how each may be written, as types that pydantic understands."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainValidator,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from ingestify.errors import ConfigError
from ingestify.model.identity import NAME
from ingestify.model.layout import (
    BucketCountTransformation,
    BucketSizeTransformation,
    IdentityTransformation,
    PrefixTransformation,
    Transformation,
)
from ingestify.model.resource import DataSpecVersions
from ingestify.model.selector import SelectorPattern
from ingestify.model.settings import CatalogUrl, FileUrl, duration, share, size

T = TypeVar("T")
U = TypeVar("U", CatalogUrl, FileUrl)
HOST = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?\Z")


def _checked(make: Callable[[Any], T]) -> Callable[[Any], T]:
    """*make*, with its `ConfigError` as one of several that pydantic collects."""

    def check(written: Any) -> T:
        try:
            return make(written)
        except ConfigError as exc:
            raise PydanticCustomError("config", "{reason}", {"reason": str(exc)}) from None

    return check


def _address(kind: type[U]) -> Callable[[Any], U]:
    def parse(written: Any) -> U:
        if isinstance(written, kind):
            return written
        if not isinstance(written, str):
            raise ConfigError("must be text")
        return kind.parse(written)

    return _checked(parse)


def _number(written: Any) -> Any:
    if isinstance(written, bool):  # which Python, and so pydantic, takes for 1 and 0
        raise ConfigError("must be a number, not true or false")
    return written


def _size_or_nothing(written: Any) -> int:
    is_nothing = written == "0" or (written == 0 and not isinstance(written, bool))
    return 0 if is_nothing else size(written)


def _versions(written: Any) -> DataSpecVersions:
    if isinstance(written, DataSpecVersions):
        return written
    if not isinstance(written, Mapping):
        raise ConfigError('must be a mapping of data feeds to versions, such as "events: v8"')
    chosen: dict[str, list[str]] = {}
    for feed, wanted in written.items():
        versions = list(wanted) if isinstance(wanted, list | tuple) else [wanted]
        if not isinstance(feed, str) or not feed:
            raise ConfigError(f"the data feed {feed!r} must be text; put it in quotes")
        if not versions or not all(isinstance(each, str) and each for each in versions):
            raise ConfigError(f"{feed}: a version is text, or a list of texts; put it in quotes")
        chosen[feed] = versions
    return DataSpecVersions(chosen)


def _pattern(written: Any) -> SelectorPattern:
    if isinstance(written, SelectorPattern):
        return written
    if isinstance(written, str) and written != "*":
        raise ConfigError(
            "a condition as one text is not supported; write a mapping, such as "
            '{match_day: ">= 27"}'
        )
    try:
        return SelectorPattern.parse(written)
    except ConfigError as exc:
        raise ConfigError(f"{exc}; text such as no, 1.5 or 2024-01-01 needs quotes") from None


def _patterns(written: Any) -> Any:
    if isinstance(written, Mapping | str):
        return [written]
    if isinstance(written, list) and not written:
        raise ConfigError("an empty list selects nothing; leave selectors out to select all")
    return written


def _transformation(written: Any) -> Transformation:
    options = {"type": written} if isinstance(written, str) else written
    if not isinstance(options, Mapping):
        raise ConfigError("must be a name, or a mapping with a type")
    numbers: dict[Any, Any] = {name: each for name, each in options.items() if name != "type"}
    for name, number in numbers.items():
        if not isinstance(number, int) or isinstance(number, bool):
            raise ConfigError(f"{name} must be a whole number")
    match options.get("type"), sorted(map(str, numbers)):
        case "identity" | "str" | "int", []:
            return IdentityTransformation()
        case "bucket", ["bucket_size"]:
            return BucketSizeTransformation(numbers["bucket_size"])
        case "bucket", ["bucket_count"]:
            return BucketCountTransformation(numbers["bucket_count"])
        case "prefix", ["length"]:
            return PrefixTransformation(numbers["length"])
    raise ConfigError(
        "must be identity, str, int, {type: bucket, bucket_size: …}, {type: bucket, "
        "bucket_count: …} or {type: prefix, length: …}"
    )


def _configuration(written: Any) -> dict[str, Any]:
    """Options as a mapping, JSON text of one, or a list of these, of which later ones win."""
    if isinstance(written, list):
        merged: dict[str, Any] = {}
        for each in written:
            merged |= _configuration(each)
        return merged
    if isinstance(written, str):
        try:
            written = json.loads(written)
        except (ValueError, RecursionError):
            written = None
    if not isinstance(written, Mapping):
        raise ConfigError("must be a mapping, a list of mappings, or text with a JSON object")
    wrong = next((key for key in written if not isinstance(key, str)), None)
    if wrong is not None:
        raise ConfigError(f"the option {wrong!r} must be text; put it in quotes")
    return dict(written)


def as_object(written: Any) -> Any:
    """A dotted path alone as what it stands for: an object without a configuration."""
    return {"type": written} if isinstance(written, str) else written


def _hosts(written: Any) -> frozenset[str]:
    hosts = [written] if isinstance(written, str) else written
    if not isinstance(hosts, list | tuple | frozenset):
        raise ConfigError("must be a list of host names")
    if not all(isinstance(host, str) and HOST.match(host.lower()) for host in hosts):
        raise ConfigError("must be host names alone, such as cdn.example.com")
    return frozenset(host.lower() for host in hosts)


def _proxy(written: Any) -> str:
    if not isinstance(written, str) or not re.match(r"https?://[^\s/]+/?\Z", written):
        raise ConfigError("must be an address such as http://proxy.example.com:3128")
    return written


def _text(pattern: str, expected: str) -> AfterValidator:
    form = re.compile(rf"(?:{pattern})\Z", re.ASCII)

    def check(written: str) -> str:
        if not form.match(written):
            raise ConfigError(f"must be {expected}")
        return written

    return AfterValidator(_checked(check))


def _schema(kind: str | list[str], **more: Any) -> WithJsonSchema:
    return WithJsonSchema({"type": kind, **more})


NUMBER = ["number", "string"]

Name = Annotated[str, _text(r"[^\x00-\x1f\x7f]+", "some text, without control characters")]
IdentifierName = Annotated[str, _text(NAME.pattern[:-2], "a name of letters, digits and _")]
TablePrefix = Annotated[
    str,
    _text(
        r"([a-z][a-z0-9_]{0,30})?", "at most 31 lower-case letters, digits and _, a letter first"
    ),
]
UserAgent = Annotated[str, _text(r"[\x21-\x7e][\x20-\x7e]*", "one line of plain ASCII text")]

Count = Annotated[int, BeforeValidator(_checked(_number)), Field(ge=1, le=2**31)]
Redirects = Annotated[int, BeforeValidator(_checked(_number)), Field(ge=0, le=50)]
Rate = Annotated[float, BeforeValidator(_checked(_number)), Field(gt=0, allow_inf_nan=False)]
Duration = Annotated[timedelta, PlainValidator(_checked(duration)), _schema(NUMBER)]
Size = Annotated[int, PlainValidator(_checked(size)), _schema(NUMBER)]
SizeOrNothing = Annotated[int, PlainValidator(_checked(_size_or_nothing)), _schema(NUMBER)]
Share = Annotated[float, PlainValidator(_checked(share)), _schema(NUMBER)]

CatalogAddress = Annotated[CatalogUrl, PlainValidator(_address(CatalogUrl)), _schema("string")]
FileAddress = Annotated[FileUrl, PlainValidator(_address(FileUrl)), _schema("string")]
Proxy = Annotated[str, PlainValidator(_checked(_proxy)), _schema("string")]
Hosts = Annotated[frozenset[str], PlainValidator(_checked(_hosts)), _schema(["array", "string"])]

Configuration = Annotated[
    Mapping[str, Any],
    PlainValidator(_checked(_configuration)),
    _schema(["object", "array", "string"]),
]
Versions = Annotated[
    DataSpecVersions,
    PlainValidator(_checked(_versions)),
    _schema("object", additionalProperties={"type": ["string", "array"]}),
]
Pattern = Annotated[
    SelectorPattern, PlainValidator(_checked(_pattern)), _schema(["object", "string"])
]
Patterns = Annotated[
    tuple[Pattern, ...],
    BeforeValidator(
        _checked(_patterns), json_schema_input_type=list[Pattern] | dict[str, Any] | str
    ),
]
Placing = Annotated[
    Transformation, PlainValidator(_checked(_transformation)), _schema(["object", "string"])
]
