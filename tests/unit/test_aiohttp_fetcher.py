"""The aiohttp Fetcher against real sockets: deadlines, routes, and what it refuses."""

import socket
import ssl
import struct
import subprocess
import sys
from contextlib import asynccontextmanager
from datetime import timedelta

import anyio
import anyio.streams.tls
import pytest
from anyio.abc import SocketAttribute

from ingestify.adapters.http.aiohttp_fetcher import AiohttpFetcher
from ingestify.adapters.http.public_addresses import is_public
from ingestify.errors import (
    ConfigError,
    FetchError,
    RefusedError,
    TransientFetchError,
    UnsafeTargetError,
)
from ingestify.model.http import HttpSettings, Request

CANARY = "canary-4711"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class RawServer:
    """Answers every request with the same bytes, and remembers what was asked."""

    def __init__(self, answer, *, tls=None):
        self.answer = answer  # bytes, or a function of (stream, head)
        self.heads = []
        self.connections = 0
        self.port = 0
        self._tls = tls

    @property
    def url(self):
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}/"

    @asynccontextmanager
    async def serving(self):
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        self.port = listener.extra(SocketAttribute.local_port)  # noqa: S610
        async with listener, anyio.create_task_group() as tg:
            tg.start_soon(listener.serve, self._handle)
            yield self
            tg.cancel_scope.cancel()

    async def _handle(self, stream):
        self.connections += 1
        async with stream:
            try:
                if self._tls:
                    stream = await anyio.streams.tls.TLSStream.wrap(
                        stream, ssl_context=self._tls, standard_compatible=False
                    )
                while True:
                    head = b""
                    while b"\r\n\r\n" not in head:
                        head += await stream.receive()
                    self.heads.append(head)
                    if callable(self.answer):
                        await self.answer(stream, head)
                    else:
                        await stream.send(self.answer)
            except (
                anyio.EndOfStream,
                anyio.BrokenResourceError,
                anyio.ClosedResourceError,
                OSError,
            ):
                return


async def reset(stream, head):
    stream.extra(SocketAttribute.raw_socket).setsockopt(  # noqa: S610
        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
    )
    await stream.aclose()


async def silence(stream, head):
    await anyio.sleep_forever()


async def get(fetcher, url, **settings):
    request = Request(url=url, headers={"authorization": CANARY}, settings=HttpSettings(**settings))
    async with fetcher.send(request) as response:
        return response.status, b"".join([chunk async for chunk in response.chunks()])


@pytest.fixture
async def fetcher():
    async with AiohttpFetcher.open() as fetcher:
        yield fetcher


@asynccontextmanager
async def refusing(kind, match):
    """The block raises *kind*, and nothing that comes with it holds the canary."""
    with pytest.raises(kind, match=match) as caught:
        yield
    error = caught.value
    assert type(error) is kind
    while error is not None:
        assert CANARY not in repr(error) + str(error)
        error = error.__cause__ or error.__context__


async def test_a_refused_connection_may_pass(fetcher):
    """
    Nobody listens: a failure that names the address, but not the query.
    """
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        async with refusing(TransientFetchError, rf"127\.0\.0\.1:{port}/x\?…: no connection"):
            await get(fetcher, f"http://127.0.0.1:{port}/x?token={CANARY}")


async def test_a_name_that_cannot_be_resolved_may_pass(fetcher):
    """
    A name without an address is a failure that may pass.
    """
    async with refusing(TransientFetchError, "cannot be resolved"):
        await get(fetcher, f"http://no-such-host.invalid/?token={CANARY}")


async def test_a_silent_server_misses_the_first_byte_deadline(fetcher):
    """
    A connection that is accepted and never answered ends by our own deadline.
    """
    soon = dict.fromkeys(["idle_timeout", "first_byte_timeout"], timedelta(seconds=0.1))
    async with (
        RawServer(silence).serving() as server,
        refusing(TransientFetchError, "no answer in time"),
    ):
        await get(fetcher, f"{server.url}?token={CANARY}", **soon)


async def test_a_connection_that_is_never_accepted_misses_the_connect_deadline(fetcher):
    """
    A full backlog is told as a connection that was not made in time.
    """
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        others = []
        try:
            for _ in range(4):
                other = socket.socket()
                other.setblocking(False)
                other.connect_ex(("127.0.0.1", port))
                others.append(other)
            async with refusing(TransientFetchError, "no connection in time"):
                await get(
                    fetcher,
                    f"http://127.0.0.1:{port}/?token={CANARY}",
                    connect_timeout=timedelta(seconds=0.05),
                )
        finally:
            for other in others:
                other.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"220 mail.example.com ESMTP\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: 1\r\n" % n for n in range(5000)) + b"\r\n",
    ],
)
async def test_what_is_no_http_is_refused(fetcher, answer):
    """
    Another protocol, an endless header and an impossible length are failures, not answers.
    """
    async with RawServer(answer).serving() as server, refusing(TransientFetchError, "not HTTP"):
        await get(fetcher, f"{server.url}?token={CANARY}")


async def test_a_reset_is_told_and_not_tried_again(fetcher):
    """
    The library sends no request a second time by itself.
    """
    async with RawServer(reset).serving() as server:
        async with refusing(TransientFetchError, r"127\.0\.0\.1"):
            await get(fetcher, server.url)
        assert server.connections == 1


async def test_a_reset_within_the_body_is_told(fetcher):
    """
    Half a body and a reset is no body.
    """

    async def half(stream, head):
        await stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + b"x" * 50)
        await reset(stream, head)

    async with RawServer(half).serving() as server, refusing(TransientFetchError, "127"):
        await get(fetcher, f"{server.url}?token={CANARY}")


async def test_connections_are_used_again(fetcher):
    """
    Requests that follow each other share a connection.
    """
    async with RawServer(OK).serving() as server:
        for _ in range(5):
            assert await get(fetcher, server.url) == (200, b"ok")
        assert server.connections == 1


async def test_addresses_are_sent_as_they_stand(fetcher):
    """
    Nothing in an address is normalised on its way.
    """
    async with RawServer(OK).serving() as server:
        await get(fetcher, server.url + "a%2Fb/%41/c;d=1?q=%20+%zz&&x")
    assert server.heads[0].startswith(b"GET /a%2Fb/%41/c;d=1?q=%20+%zz&&x HTTP/1.1\r\n")


async def test_addresses_with_credentials_are_refused(fetcher):
    """
    Userinfo in an address would become a header that nobody decided on.
    """
    async with refusing(UnsafeTargetError, "credentials"):
        await get(fetcher, f"http://me:{CANARY}@127.0.0.1/")


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "10.1.2.3", "169.254.169.254", "[::ffff:7f00:1]"]
)
async def test_private_addresses_are_refused_where_that_is_wanted(fetcher, host):
    """
    Written out or resolved, an address in somebody's own network is not connected to.
    """
    async with RawServer(OK).serving() as server:
        async with refusing(UnsafeTargetError, "not public"):
            await get(fetcher, f"http://{host}:{server.port}/", refuse_private_addresses=True)
        assert server.connections == 0


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "127.1", "0177.0.0.1"])
async def test_odd_forms_of_private_addresses_lead_nowhere(fetcher, host):
    """
    What a resolver takes for an address although it does not look like one is no way in.
    """
    async with RawServer(OK).serving() as server:
        with pytest.raises(FetchError):
            await get(fetcher, f"http://{host}:{server.port}/", refuse_private_addresses=True)
        assert server.connections == 0


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1::1", True),
        ("127.0.0.1", False),
        ("0.0.0.0", False),  # noqa: S104
        ("100.64.0.1", False),
        ("192.168.1.1", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::a00:1", False),
        ("64:ff9b::5db8:d822", True),
        ("2002:a00:1::", False),
        ("nonsense", False),
    ],
)
def test_public_addresses_are_told_from_others(address, public):
    """
    Everything that is not reachable for everybody is private, also inside of IPv6.
    """
    assert is_public(address) is public


async def test_a_proxy_is_asked_instead_and_gets_its_credentials(fetcher):
    """
    Requests go to the proxy with the whole address, and with its userinfo as a header.
    """
    async with RawServer(OK).serving() as proxy:
        answer = await get(
            fetcher,
            "http://api.example.com/x",
            proxy=f"http://me:secret@127.0.0.1:{proxy.port}",
            refuse_private_addresses=True,
        )
    assert answer == (200, b"ok")
    assert proxy.heads[0].startswith(b"GET http://api.example.com/x HTTP/1.1\r\n")
    assert b"\r\nProxy-Authorization: Basic bWU6c2VjcmV0\r\n" in proxy.heads[0]


async def test_a_proxy_that_wants_credentials_is_a_refusal(fetcher):
    """
    407 to CONNECT means that asking again does not help; other answers may pass.
    """
    refused = b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n"
    async with RawServer(refused).serving() as proxy:
        url = f"http://me:{CANARY}@127.0.0.1:{proxy.port}"
        async with refusing(RefusedError, "the proxy asks for credentials"):
            await get(fetcher, "https://api.example.com/x", proxy=url)
        proxy.answer = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"
        async with refusing(TransientFetchError, "the proxy answered 503"):
            await get(fetcher, "https://api.example.com/x", proxy=url)


@pytest.fixture
def certificate(tmp_path):
    """A self-signed certificate for 127.0.0.1, and the context of a server that has it."""
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
        f" -keyout {key} -out {cert} -subj /CN=loopback -addext subjectAltName=IP:127.0.0.1"
    )
    subprocess.run(command.split(), check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    return cert, context


async def test_certificates_are_checked_and_a_ca_file_is_trusted(fetcher, certificate):
    """
    An unknown certificate is refused for good; the same one is trusted when the settings say so.
    """
    path, context = certificate
    async with RawServer(OK, tls=context).serving() as server:
        async with refusing(FetchError, "certificate is not trusted"):
            await get(fetcher, f"{server.url}?token={CANARY}")
        assert await get(fetcher, server.url, ca_file=str(path)) == (200, b"ok")


async def test_a_ca_file_that_cannot_be_read_is_a_configuration_error(fetcher, tmp_path):
    """
    A missing or broken file is named.
    """
    async with refusing(ConfigError, "ca_file: .*nothing"):
        await get(fetcher, "https://127.0.0.1/", ca_file=str(tmp_path / "nothing"))


async def test_requests_of_different_sources_share_one_fetcher(fetcher):
    """
    Settings belong to the request: one may refuse what another is allowed.
    """
    async with RawServer(OK).serving() as server:
        assert await get(fetcher, server.url) == (200, b"ok")
        async with refusing(UnsafeTargetError, "not public"):
            await get(fetcher, server.url, refuse_private_addresses=True)
        assert await get(fetcher, server.url) == (200, b"ok")


async def test_a_cancelled_request_leaves_the_fetcher_usable():
    """
    With one connection in all, a request that was given up does not keep it.
    """
    async with (
        RawServer(silence).serving() as server,
        AiohttpFetcher.open(connections=1) as fetcher,
    ):
        with anyio.move_on_after(0.05):
            await get(fetcher, server.url)
        server.answer = OK
        assert await get(fetcher, server.url) == (200, b"ok")


def test_the_library_is_loaded_when_a_fetcher_is_opened():
    """
    Importing the adapter does not import aiohttp.
    """
    script = "import sys, ingestify.adapters.http.aiohttp_fetcher; print('aiohttp' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
