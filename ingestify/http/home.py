"""A Source's own origin: what lies below it, where redirects may lead, and what goes along."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from ingestify.errors import ConfigError, IngestifyError, UnsafeTargetError
from ingestify.http.headers import HARMLESS, own_headers
from ingestify.model.addresses import (
    BaseAddress,
    Origin,
    follow,
    masked,
    with_params,
    without_params,
)
from ingestify.model.http import Auth, BasicAuth, HttpSettings, Request, Secret
from ingestify.ports import Source
from ingestify.redaction import Redactor
from ingestify.throttle import Key

NOWHERE = "nowhere:"  # no address begins with that


class Home:
    """Knows which addresses are a Source's, and keeps its credentials to them."""

    def __init__(self, source: Source, settings: HttpSettings, redactor: Redactor) -> None:
        self._source = source
        self._settings = settings
        self._redactor = redactor
        self._base = BaseAddress.parse(source.base_url) if source.base_url else None
        self._headers = own_headers(settings.user_agent)
        self._userinfo = _basic_header(self._base.userinfo if self._base else None)
        origin = self.origin
        self._own = f"{origin}/" if origin else NOWHERE
        self._account = ((origin.netloc, self._name_credential()), source.name) if origin else None
        if settings.proxy is not None:
            userinfo = urlsplit(settings.proxy).netloc.rpartition("@")[0]
            redactor.learn_credentials((userinfo, userinfo.partition(":")[2]))
        auth = source.auth
        known = (self._userinfo, auth.headers(), auth.params())
        redactor.learn_credentials(tuple(value for each in known for value in each.values()))

    @property
    def origin(self) -> Origin | None:
        """Where the credentials belong; None for a Source that asks for nothing."""
        return None if self._base is None else self._base.origin

    def resolve(self, url: str, params: Mapping[str, Any] | None, auth: Auth) -> str:
        """The absolute address of *url*, which lies below the base URL, without credentials.

        Raises:
            UnsafeTargetError: it leads elsewhere, or cannot be sent as it stands.
        """
        if self._base is None:
            raise ConfigError(f"{self._source.name} has no base_url, so nothing can be asked for")
        try:
            address = self._base.resolve(url, params)
        except IngestifyError as exc:
            self._redactor.clean(exc)
            raise
        secret = auth.params()
        return without_params(address, secret) if secret else address

    def redirected(self, current: str, location: str, auth: Auth) -> str:
        """Where a redirect from *current* leads, without credentials.

        Raises:
            UnsafeTargetError: it may not be followed.
        """
        try:
            target = follow(current, location)
        except UnsafeTargetError as exc:
            raise UnsafeTargetError(f"{masked(current)} redirects astray: {exc}") from None
        old, new = Origin.of(current), Origin.of(target)
        if old.scheme == "https" and new.scheme == "http":
            raise UnsafeTargetError(f"{masked(current)} redirects from https to {new}")
        if new == self.origin:
            secret = auth.params()
            return without_params(target, secret) if secret else target
        if new.host not in self._settings.redirect_hosts:
            raise UnsafeTargetError(
                f"{masked(current)} redirects to {new}, which is not among the redirect_hosts"
            )
        if self._redactor.holds_secret(target):
            raise UnsafeTargetError(f"{masked(current)} would tell {new} the credentials")
        return target

    def request(
        self, url: str, headers: Mapping[str, str], conditional: Mapping[str, str], auth: Auth
    ) -> Request:
        """The request for *url*. Only those to our own origin hold credentials, and headers that
        a Source has added."""
        if not self.owns(url):
            harmless = {name: text for name, text in headers.items() if name in HARMLESS}
            headers = {**self._headers, **harmless, **conditional}
            return Request(url=url, headers=headers, settings=self._settings)
        secrets = {**self._userinfo, **{k.lower(): v for k, v in auth.headers().items()}}
        params = auth.params()
        self._redactor.learn_credentials((*secrets.values(), *params.values()))
        return Request(
            url=with_params(url, params),
            headers={**self._headers, **headers, **conditional, **secrets},
            settings=self._settings,
        )

    def owns(self, url: str) -> bool:
        """Whether *url* leads to our own origin, which alone sees credentials."""
        return url.startswith(self._own) or Origin.of(url) == self.origin

    def account_of(self, url: str) -> tuple[Key, str]:
        """What requests to *url* are limited by, and what their daily quota goes by in every
        process. Only our own origin sees the credential."""
        if self._account is not None and self.owns(url):
            return self._account
        origin = Origin.of(url)
        return (origin.netloc, ""), f"{self._source.name} {origin.netloc}"

    def _name_credential(self) -> str:
        """A name under which equal credentials share their limits. It says nothing about them."""
        auth = self._source.auth
        parts = (*auth.headers().items(), *auth.params().items(), *self._userinfo.items())
        if parts:
            return f"{hash(parts):x}"
        return self._source.name if type(self._source).login is not Source.login else ""


def _basic_header(userinfo: str | None) -> dict[str, str]:
    """The header for a ``user:password@`` in the base URL, which is sent nowhere else."""
    if userinfo is None:
        return {}
    username, _, password = userinfo.partition(":")
    headers = BasicAuth(username, Secret(password)).headers()
    return {name.lower(): value for name, value in headers.items()}
