"""What is needed to talk to a provider: credentials, limits, deadlines, requests."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

from ingestify.errors import ConfigError


class Secret:
    """A text that shows itself only when asked by name; never in a repr, a log or a pickle."""

    __slots__ = ("_text",)

    def __init__(self, text: str | Secret) -> None:
        self._text: str = text._text if isinstance(text, Secret) else text

    def reveal(self) -> str:
        """The text itself."""
        return self._text

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("a Secret cannot be pickled")


class Auth(Protocol):
    """Credentials that are added to a request at sending, and only for their own origin."""

    def headers(self) -> Mapping[str, str]:
        """Headers to add."""
        ...

    def params(self) -> Mapping[str, str]:
        """Query parameters to add."""
        ...


@dataclass(frozen=True, slots=True)
class NoAuth:
    """No credentials at all."""

    def headers(self) -> Mapping[str, str]:
        return {}

    def params(self) -> Mapping[str, str]:
        return {}


@dataclass(frozen=True, slots=True)
class HeaderAuth:
    """One header, such as ``X-Api-Key``, or ``Authorization`` with a whole value."""

    name: str
    value: Secret

    def headers(self) -> Mapping[str, str]:
        return {self.name: Secret(self.value).reveal()}

    def params(self) -> Mapping[str, str]:
        return {}


@dataclass(frozen=True, slots=True)
class BasicAuth:
    """HTTP Basic authentication (RFC 7617), in UTF-8."""

    username: str
    password: Secret

    def headers(self) -> Mapping[str, str]:
        pair = f"{self.username}:{Secret(self.password).reveal()}".encode()
        return {"Authorization": "Basic " + base64.b64encode(pair).decode("ascii")}

    def params(self) -> Mapping[str, str]:
        return {}


@dataclass(frozen=True, slots=True)
class BearerAuth:
    """A bearer token (RFC 6750)."""

    token: Secret

    def headers(self) -> Mapping[str, str]:
        return {"Authorization": "Bearer " + Secret(self.token).reveal()}

    def params(self) -> Mapping[str, str]:
        return {}


@dataclass(frozen=True, slots=True)
class QueryAuth:
    """One query parameter, such as ``api_token``."""

    name: str
    value: Secret

    def headers(self) -> Mapping[str, str]:
        return {}

    def params(self) -> Mapping[str, str]:
        return {self.name: Secret(self.value).reveal()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How hard a provider may be asked, per host and credential."""

    concurrency: int = 64  # requests in flight at most; as many as make the provider faster
    requests_per_second: float | None = None  # None: found out from its answers
    burst: int = 1  # requests that may be made at once after a pause
    daily_quota: int | None = None  # requests a UTC day, of all processes; then the Source stops

    def __post_init__(self) -> None:
        if self.concurrency < 1 or self.burst < 1:
            raise ConfigError("limits: concurrency and burst must be at least 1")
        if self.requests_per_second is not None and not self.requests_per_second > 0:
            raise ConfigError("limits: requests_per_second must be above 0")
        if self.daily_quota is not None and self.daily_quota < 1:
            raise ConfigError("limits: daily_quota must be at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSettings:
    """Deadlines, caps and routes of one Source's requests."""

    connect_timeout: timedelta = timedelta(seconds=10)
    first_byte_timeout: timedelta = timedelta(seconds=60)
    idle_timeout: timedelta = timedelta(seconds=30)
    total_timeout: timedelta = timedelta(minutes=30)  # of an exchange, a loader, a post-load hook
    minimum_bytes_per_second: int = (
        64  # over the whole body, once it takes longer than idle_timeout
    )
    max_body_bytes: int = 8 * 1024**3  # decoded
    max_list_bytes: int = 256 * 1024**2  # decoded, of a discovery answer
    attempts: int = 5  # requests for one thing, the first included
    retry_budget: timedelta = timedelta(minutes=5)  # for one thing, from its first failure on
    max_retry_after: timedelta = timedelta(minutes=5)  # asked to wait longer: fail now, go on
    outage_patience: timedelta = timedelta(minutes=2)  # for a host that answered before
    max_redirects: int = 5
    redirect_hosts: frozenset[str] = frozenset()  # other hosts that redirects may lead to
    refuse_private_addresses: bool = False
    proxy: str | None = field(default=None, repr=False)  # may hold a password
    ca_file: str | None = None
    user_agent: str | None = None  # None: ingestify and its version


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One exchange to be made: a GET. Credentials are in it, so it is never logged."""

    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    settings: HttpSettings = field(default_factory=HttpSettings)
