"""Addresses: where a Source may go, and how an address is built, followed and shown.

URL libraries normalise: "../" walks out of the base path, line breaks and lone surrogates vanish,
so that two ids become one address. Here nothing is normalised: what is not safe as it stands is
refused, and what was checked is what is sent.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Self
from urllib.parse import quote, unquote, unquote_plus, urljoin, urlsplit

from ingestify.errors import ConfigError, UnsafeTargetError

PORTS = {"http": 80, "https": 443}
PATH_SAFE = "/%:@!$&'()*+,;=~-._"
QUERY_SAFE = PATH_SAFE + "?"
SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
AUTHORITY = re.compile(r"[^/?#]*:?(?://[^/?#]*)?")
HOST = re.compile(r"[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]")
# Controls, spaces and line separators; a backslash is a slash to some servers.
UNSAFE = re.compile(r"[\x00-\x20\x7f-\x9f\u2028\u2029\\]")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
PLAIN = re.compile(r"(?:[A-Za-z0-9_~.-]+(?:/|\Z))*")  # relative, with nothing to be encoded
DOTS = re.compile(r"(?:^|/)\.\.?(?:/|$)")
BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


def masked(url: str) -> str:
    """*url* as it may be shown: without userinfo, query and fragment, which may hold secrets."""
    address, _, query = url.partition("#")[0].partition("?")
    scheme, separator, rest = address.partition("://")
    if separator:
        authority, slash, path = rest.partition("/")
        address = scheme + separator + authority.rpartition("@")[2] + slash + path
    shown = address.encode("ascii", "backslashreplace").decode()
    return CONTROL.sub("", shown[:500]) + ("?…" if query else "")


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port: what credentials are bound to."""

    scheme: str
    host: str  # lower case
    port: int

    @classmethod
    def of(cls, url: str) -> Self:
        """The origin of the absolute *url*.

        Raises:
            UnsafeTargetError: it is not http or https, or its host or port cannot be used.
        """
        found = AUTHORITY.match(url)
        if found is None:
            raise UnsafeTargetError(f"not an absolute address: {masked(url)}")
        return cls(*_origin_parts(found[0]))

    @property
    def netloc(self) -> str:
        """Host and port; the port only where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.netloc}"


@dataclass(frozen=True, slots=True)
class BaseAddress:
    """A Source's base URL. Every address that a Source asks for lies below it."""

    origin: Origin
    path: str  # begins and ends with a slash
    userinfo: str | None = field(default=None, repr=False)  # decoded, "user:password"
    _text: str = field(init=False, repr=False, compare=False, default="")

    def __post_init__(self) -> None:
        object.__setattr__(self, "_text", f"{self.origin}{self.path}")

    @classmethod
    def parse(cls, url: str) -> Self:
        """The base that *url* stands for; its last part is a folder, with or without a slash.

        Raises:
            ConfigError: nothing can be asked for below *url*.
        """
        try:
            _refuse_unsafe(url, shown=masked(url))
            origin = Origin.of(url)
            parts = urlsplit(url)
            if parts.query or parts.fragment:
                raise UnsafeTargetError(f"a base URL has no query and no fragment: {masked(url)}")
            path = _checked_path(quote(parts.path, safe=PATH_SAFE), shown=masked(url))
        except UnsafeTargetError as exc:
            raise ConfigError(f"base_url: {exc}") from None
        userinfo, at, _ = parts.netloc.rpartition("@")
        folder = "/" + path.strip("/") + "/" if path.strip("/") else "/"
        return cls(origin, folder, unquote(userinfo) if at else None)

    def __str__(self) -> str:
        return self._text

    def resolve(self, url: str, params: Mapping[str, Any] | None = None) -> str:
        """The absolute form of *url*, with *params* added to its query.

        *url* is relative to this base, begins with a slash and lies below its path, or is
        absolute and below this base. It may come from a provider: anything else is refused.

        Raises:
            UnsafeTargetError: *url* leads elsewhere, or cannot be sent as it stands.
        """
        below = url.removeprefix(self._text)
        if PLAIN.fullmatch(below) and not DOTS.search(below):  # nearly all are
            return with_params(self._text + below, params)
        shown = masked(url)
        _refuse_unsafe(url, shown=shown)
        if "#" in url:
            raise UnsafeTargetError(f"an address to be asked for has no fragment: {shown}")
        path, mark, query = url.partition("?")
        if SCHEME.match(path):
            path = self._path_below(path, shown)
        elif path.startswith("//"):
            path = self._path_below(f"{self.origin.scheme}:{path}", shown)
        elif not path.startswith("/"):
            path = self.path + path
        path = _checked_path(quote(path, safe=PATH_SAFE), shown=shown)
        if not path.startswith(self.path) and path != self.path.rstrip("/"):
            raise UnsafeTargetError(f"{shown} is not below {self}")
        query = quote(query, safe=QUERY_SAFE)
        if BAD_ESCAPE.search(query):
            raise UnsafeTargetError(f"a % that encodes nothing in the query of {shown}")
        return with_params(f"{self.origin}{path or '/'}{mark and '?'}{query}", params)

    def _path_below(self, url: str, shown: str) -> str:
        if (origin := Origin.of(url)) != self.origin:
            raise UnsafeTargetError(f"{shown} leads to {origin}, not below {self}")
        authority, _, path = url.partition("://")[2].partition("/")
        if "@" in authority:
            raise UnsafeTargetError(f"an address must not hold credentials: {shown}")
        return "/" + path


@lru_cache(maxsize=256)
def _origin_parts(start: str) -> tuple[str, str, int]:
    """Scheme, host and port of an address that begins with *start*. Many begin alike."""
    try:
        parts = urlsplit(start)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise UnsafeTargetError(f"not an address: {masked(start)}") from None
    if parts.scheme not in PORTS:
        raise UnsafeTargetError(f"only http and https can be asked: {masked(start)}")
    if not host or not HOST.fullmatch(f"[{host}]" if ":" in host else host):
        raise UnsafeTargetError(f"not a host in ASCII: {masked(start)}")
    return parts.scheme, host, PORTS[parts.scheme] if port is None else port


def fill(path: str, *segments: int | str) -> str:
    """*path* with each ``{}`` replaced by one encoded segment. Different ids stay different.

    Raises:
        UnsafeTargetError: a segment would change the shape of the address.
    """
    parts = path.split("{}")
    if len(parts) != len(segments) + 1:
        raise UnsafeTargetError(
            f"{path!r} has room for {len(parts) - 1} segments, not for {len(segments)}"
        )
    filled = parts[0]
    for segment, following in zip(segments, parts[1:], strict=True):
        filled += encode_segment(segment) + following
    return filled


def encode_segment(segment: int | str) -> str:
    """*segment* as one part of a path: slashes and everything else in it encoded.

    Raises:
        UnsafeTargetError: it is empty, "." or "..", has such a part, or is not clean text.
    """
    if type(segment) is int:
        return str(segment)
    if type(segment) is not str:
        raise UnsafeTargetError(f"a segment of an address is an int or a str, not {segment!r:.100}")
    if not segment or CONTROL.search(segment):
        raise UnsafeTargetError(f"cannot be a segment of an address: {segment[:100]!a}")
    encoded = _encoded(segment)
    _refuse_dots(segment, shown=ascii(segment[:100]))
    return encoded


def with_params(url: str, params: Mapping[str, Any] | None) -> str:
    """*url* with *params* added to its query: None is left out, a list repeats its name.

    Raises:
        UnsafeTargetError: a name or value is no text, number, bool or list of those.
    """
    if not params:
        return url
    pairs = []
    for name, value in params.items():
        for each in value if isinstance(value, list | tuple) else (value,):
            if each is not None:
                pairs.append(f"{_encoded(name)}={_encoded(_param_text(name, each))}")
    if not pairs:
        return url
    joint = "" if url.endswith(("?", "&")) else "&" if "?" in url else "?"
    return url + joint + "&".join(pairs)


def without_params(url: str, names: Collection[str]) -> str:
    """*url* without the parameters in *names*: providers repeat credentials in their links."""
    address, mark, query = url.partition("?")
    if not mark:
        return url
    kept = [pair for pair in query.split("&") if unquote_plus(pair.partition("=")[0]) not in names]
    return address + ("?" + "&".join(kept) if kept else "")


def follow(current: str, location: str) -> str:
    """Where a redirect from *current* to *location* leads, as an absolute address.

    Whether it may be followed is the caller's to decide.

    Raises:
        UnsafeTargetError: *location* is no http(s) address, or holds credentials.
    """
    shown = masked(location)
    _refuse_unsafe(location, shown=shown)
    try:
        target = urljoin(current, location.partition("#")[0])
        parts = urlsplit(target)
    except ValueError:
        raise UnsafeTargetError(f"a redirect leads to no address: {shown}") from None
    if "@" in parts.netloc:
        raise UnsafeTargetError(f"a redirect must not hold credentials: {shown}")
    origin = Origin.of(target)
    path = _checked_path(quote(parts.path, safe=PATH_SAFE), shown=shown)
    query = quote(parts.query, safe=QUERY_SAFE)
    return f"{origin}{path or '/'}" + (f"?{query}" if query else "")


def _checked_path(path: str, *, shown: str) -> str:
    if BAD_ESCAPE.search(path):
        raise UnsafeTargetError(f"a % that encodes nothing: {shown}")
    text = unquote(path, errors="surrogateescape")
    if CONTROL.search(text):
        raise UnsafeTargetError(f"control characters in an address: {shown}")
    _refuse_dots(text, shown=shown)
    return path


def _refuse_dots(text: str, *, shown: str) -> None:
    """Servers decode %2F and %2E before they look at a path, so the decoded form counts."""
    if "." in text and any(part in (".", "..") for part in re.split(r"[/\\]", text)):
        raise UnsafeTargetError(f'"." and ".." would leave the path: {shown}')


def _refuse_unsafe(text: str, *, shown: str) -> None:
    if UNSAFE.search(text):
        raise UnsafeTargetError(f"spaces, controls or backslashes in an address: {shown}")
    if not text.isascii():
        _encoded(text)


def _encoded(text: str) -> str:
    try:
        return quote(text, safe="~")
    except UnicodeEncodeError:
        raise UnsafeTargetError(f"not valid Unicode: {text[:100]!a}") from None


def _param_text(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    raise UnsafeTargetError(f"the parameter {name!r} cannot be sent as {type(value).__name__}")
