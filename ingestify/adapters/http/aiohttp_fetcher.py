"""The Fetcher over aiohttp. The library is imported when a fetcher is opened, not before."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

import anyio
import anyio.to_thread

from ingestify.adapters.http.public_addresses import (
    PublicResolver,
    literal_address,
    refuse_private,
)
from ingestify.errors import (
    ConfigError,
    FetchError,
    IngestifyError,
    RefusedError,
    TransientFetchError,
    UnsafeTargetError,
)
from ingestify.model.addresses import Origin, masked
from ingestify.model.http import HttpSettings, Request
from ingestify.ports import Response

if TYPE_CHECKING:
    import aiohttp
    import yarl

MAX_LINE_BYTES = 8190  # of the status line
MAX_FIELD_BYTES = 16 * 1024  # of one header
MAX_HEADERS = 256
READ_BYTES = 256 * 1024  # of a body that are read ahead; twice as much stops the sender
CLOSING_SECONDS = 5
LAST_RESORT_SECONDS = 0.5  # after every deadline that our caller keeps


@dataclass(frozen=True, slots=True, kw_only=True)
class _Route:
    """What requests with equal settings have in common."""

    settings: HttpSettings
    session: aiohttp.ClientSession
    timeout: aiohttp.ClientTimeout
    ssl: ssl.SSLContext | bool
    proxy: yarl.URL | None


class AiohttpFetcher:
    """A `ports.Fetcher`. Made by `open`, and of use only while that context lasts.

    With `HttpSettings.refuse_private_addresses`, names are resolved once, and connected to where
    they were found to be. Behind a proxy it is the proxy that resolves; only addresses that are
    written out are refused then.
    """

    def __init__(self, connections: int, *, keeps_connections: bool = True) -> None:
        self._connections = connections
        self._keeps_connections = keeps_connections
        self._sessions: dict[bool, aiohttp.ClientSession] = {}
        self._routes: dict[HttpSettings, _Route] = {}
        self._last: _Route | None = None  # spares most requests the hash of their settings
        self._lock = anyio.Lock()

    @classmethod
    @asynccontextmanager
    async def open(
        cls, *, connections: int = 256, keeps_connections: bool = True
    ) -> AsyncIterator[Self]:
        """A fetcher that uses at most so many *connections* at once, over all hosts.

        Args:
            keeps_connections: for the next request; as many to each host may be idle then.
        """
        import aiohttp  # noqa: F401  # now, rather than while the first request is timed

        fetcher = cls(connections, keeps_connections=keeps_connections)
        try:
            yield fetcher
        finally:
            with anyio.move_on_after(CLOSING_SECONDS, shield=True):
                for session in fetcher._sessions.values():
                    await session.close()

    def send(self, request: Request) -> AbstractAsyncContextManager[Response]:
        return _Exchange(self, request)

    async def _route(self, settings: HttpSettings) -> _Route:
        route = self._routes.get(settings)
        if route is None:
            async with self._lock:
                if settings not in self._routes:
                    self._routes[settings] = await self._make_route(settings)
                route = self._routes[settings]
        self._last = route
        return route

    async def _make_route(self, settings: HttpSettings) -> _Route:
        import aiohttp
        import yarl

        context: ssl.SSLContext | bool = True
        if settings.ca_file is not None:
            context = await anyio.to_thread.run_sync(_trusting, settings.ca_file)
        # The proxy itself may well have a private address.
        only_public = settings.refuse_private_addresses and settings.proxy is None
        return _Route(
            settings=settings,
            session=self._session(only_public),
            timeout=aiohttp.ClientTimeout(
                total=None,
                connect=settings.connect_timeout.total_seconds(),
                # It goes on counting between the parts of a body, which are idle for as long as
                # our caller allows; and it comes last, since our caller knows what was late.
                sock_read=max(settings.first_byte_timeout, settings.idle_timeout).total_seconds()
                + LAST_RESORT_SECONDS,
            ),
            ssl=context,
            proxy=None if settings.proxy is None else yarl.URL(settings.proxy),
        )

    def _session(self, only_public: bool) -> aiohttp.ClientSession:
        import aiohttp

        from ingestify.adapters.http.connections import CarefulConnector

        if only_public not in self._sessions:
            resolver: Any = aiohttp.DefaultResolver()
            session = aiohttp.ClientSession(
                connector=CarefulConnector(
                    limit=self._connections,
                    force_close=not self._keeps_connections,
                    resolver=cast(Any, PublicResolver(resolver)) if only_public else resolver,
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                read_bufsize=READ_BYTES,
                max_line_size=MAX_LINE_BYTES,
                max_field_size=MAX_FIELD_BYTES,
            )
            # aiohttp sends a request again by itself when a connection breaks: uncounted, and
            # past every limit. There is no public way to forbid it.
            session._retry_connection = False
            self._sessions[only_public] = session
        return self._sessions[only_public]


class _Exchange:
    """One request and its answer, as a context."""

    __slots__ = ("_fetcher", "_request", "_response")

    def __init__(self, fetcher: AiohttpFetcher, request: Request) -> None:
        self._fetcher = fetcher
        self._request = request
        self._response: aiohttp.ClientResponse | None = None

    async def __aenter__(self) -> Response:
        url = _checked(self._request)
        route = self._fetcher._last
        if route is None or route.settings is not self._request.settings:
            route = await self._fetcher._route(self._request.settings)
        try:
            self._response = response = await route.session.get(
                url,
                headers=self._request.headers,
                allow_redirects=False,
                timeout=route.timeout,
                ssl=route.ssl,
                proxy=route.proxy,
            )
        except Exception as exc:
            failure = explain(exc, self._request.url)
        else:
            return _AiohttpResponse(response, self._request.url)
        # Raised out here, so that no trace of the library's error is tied to it: it may hold the
        # whole address and all headers.
        raise failure

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._response is not None:
            self._response.release()  # closes the connection unless the body was read to its end


class _AiohttpResponse:
    __slots__ = ("_response", "_url", "headers", "status")

    def __init__(self, response: aiohttp.ClientResponse, url: str) -> None:
        self._response = response
        self._url = url
        self.status = response.status
        headers: dict[str, str] = {}
        for name, value in response.headers.items():
            name = name.lower()
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        self.headers: Mapping[str, str] = headers

    async def chunks(self) -> AsyncIterator[bytes]:
        content = self._response.content
        failure: IngestifyError | None = None
        while True:
            try:
                chunk = await content.readany()
            except Exception as exc:
                failure = explain(exc, self._url)
                break
            if not chunk:
                return
            yield chunk
        raise failure


def _checked(request: Request) -> yarl.URL:
    """The address of *request*, sent as it stands: yarl must not normalise what was checked."""
    import yarl

    origin = Origin.of(request.url)
    if "@" in request.url.partition("://")[2].partition("/")[0]:
        raise UnsafeTargetError(f"an address must not hold credentials: {masked(request.url)}")
    if request.settings.refuse_private_addresses and (address := literal_address(origin.host)):
        refuse_private(origin.host, address)
    return yarl.URL(request.url, encoded=True)


def _trusting(ca_file: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ValueError) as exc:  # an SSLError is an OSError
        raise ConfigError(f"ca_file: {ca_file} cannot be used: {exc}") from None


def explain(exc: Exception, url: str) -> IngestifyError:
    """What *exc*, met at *url*, is to us. The one place where this is decided."""
    import aiohttp

    shown = masked(url)

    match exc:
        case IngestifyError():
            return exc
        case aiohttp.ClientHttpProxyError(status=407):
            return RefusedError(f"{shown}: the proxy asks for credentials", status=407)
        case aiohttp.ClientHttpProxyError(status=status):
            return TransientFetchError(f"{shown}: the proxy answered {status}")
        case aiohttp.ClientConnectorCertificateError(certificate_error=error):
            reason = getattr(error, "verify_message", None) or "it cannot be verified"
            return FetchError(f"{shown}: the certificate is not trusted: {reason}")
        case aiohttp.ClientConnectorDNSError():
            return TransientFetchError(f"{shown}: the host's name cannot be resolved")
        case aiohttp.ClientConnectorError(os_error=error):
            return TransientFetchError(f"{shown}: no connection: {_reason(error)}")
        case aiohttp.ServerDisconnectedError():
            return TransientFetchError(f"{shown}: the connection was closed without an answer")
        case aiohttp.ConnectionTimeoutError():
            return TransientFetchError(f"{shown}: no connection in time")
        case aiohttp.SocketTimeoutError():
            return TransientFetchError(f"{shown}: no answer in time")
        case aiohttp.ClientPayloadError():
            return TransientFetchError(f"{shown}: the body was cut, or is not framed as HTTP wants")
        case aiohttp.ClientResponseError():
            return TransientFetchError(f"{shown}: the answer is not HTTP, or its head is too large")
        case aiohttp.InvalidURL():
            return UnsafeTargetError(f"{shown}: not an address to send a request to")
        case aiohttp.ClientError() | OSError():
            return TransientFetchError(f"{shown}: {_reason(exc)}")
    # A defect, or a value that aiohttp will not send. Its text may repeat what is secret.
    return FetchError(f"{shown}: the request cannot be made ({type(exc).__name__})")


def _reason(exc: BaseException) -> str:
    """The operating system's words for *exc*, which repeat nothing of the request."""
    return getattr(exc, "strerror", None) or type(exc).__name__
