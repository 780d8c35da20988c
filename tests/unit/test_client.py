"""The Client: what an answer means, what is tried again, and what never leaves its origin."""

import gzip
import logging
import random
from collections import defaultdict
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

import anyio
import pytest
from aiohttp import web
from anyio.abc import SocketAttribute

from ingestify.adapters.http.aiohttp_fetcher import AiohttpFetcher
from ingestify.client import Client, ClientHttp
from ingestify.clock import SystemClock
from ingestify.errors import (
    AbsentError,
    ConfigError,
    FetchError,
    IngestifyError,
    InvalidBodyError,
    RefusedError,
    StopProcessing,
    ThrottledError,
    TransientFetchError,
    UnsafeTargetError,
)
from ingestify.model.http import (
    BasicAuth,
    BearerAuth,
    HeaderAuth,
    HttpSettings,
    Limits,
    QueryAuth,
    Secret,
)
from ingestify.model.resource import NOT_MODIFIED, HttpOptions
from ingestify.pipeline.pages import Pages
from ingestify.pipeline.pool import Pool
from ingestify.pipeline.stop import Stop
from ingestify.ports import Source
from ingestify.testing.clock import VirtualClock
from ingestify.testing.fetcher import FakeAnswer, FakeFetcher
from ingestify.throttle import HostDownError, Throttle

BASE = "https://api.example.com/v1/"
URL = BASE + "a"
CANARY = "canary-4711"
QUICK = HttpSettings(idle_timeout=timedelta(seconds=0.05), attempts=1)


class Provider(Source):
    provider = "example"


def client_for(fetcher, source=None, **options):
    clock = options.pop("clock", None) or VirtualClock()
    return Client(
        source or Provider("example", base_url=BASE),
        fetcher=fetcher,
        throttle=options.pop("throttle", None) or Throttle(clock),
        clock=clock,
        random=random.Random(7),
        **options,
    )


async def read(answer):
    return b"".join([chunk async for chunk in answer.chunks()])


def assert_no_canary(error):
    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        assert CANARY not in repr(error) + str(error)
        error = error.__cause__ or error.__context__


# What an answer means


async def test_a_200_is_its_body():
    """
    The body comes as it came over the wire, with its headers, and is counted.
    """
    coded = gzip.compress(b"{}")
    headers = {"Content-Encoding": "gzip", "ETag": '"x"', "Last-Modified": "today"}
    client = client_for(FakeFetcher({URL: FakeAnswer(body=coded, headers=headers)}))

    async def consume(answer):
        assert (answer.status, answer.coding, answer.url) == (200, "gzip", URL)
        assert (answer.etag, answer.last_modified) == ('"x"', "today")
        return await read(answer)

    assert await client.receive("a", consume=consume) == coded
    assert (client.requests, client.received_bytes) == (1, len(coded))


@pytest.mark.parametrize(
    ("status", "kind", "attempts"),
    [
        (201, InvalidBodyError, 1),
        (202, InvalidBodyError, 1),
        (204, InvalidBodyError, 1),
        (206, InvalidBodyError, 1),
        (300, FetchError, 1),
        (302, FetchError, 1),
        (304, FetchError, 1),
        (305, FetchError, 1),
        (400, FetchError, 1),
        (401, RefusedError, 1),
        (403, RefusedError, 1),
        (404, AbsentError, 1),
        (405, FetchError, 1),
        (407, RefusedError, 1),
        (408, TransientFetchError, 5),
        (410, AbsentError, 1),
        (418, FetchError, 1),
        (425, TransientFetchError, 5),
        (429, ThrottledError, 5),
        (451, FetchError, 1),
        (500, TransientFetchError, 5),
        (502, TransientFetchError, 5),
        (503, TransientFetchError, 5),
        (504, TransientFetchError, 5),
        (599, TransientFetchError, 5),
        (600, TransientFetchError, 5),
    ],
)
async def test_every_status_means_one_thing(status, kind, attempts):
    """
    A status is a failure of one kind, which says whether it is asked again.
    """
    fetcher = FakeFetcher({URL: FakeAnswer(status=status, body=b"no")})
    with pytest.raises(FetchError) as caught:
        await client_for(fetcher).receive("a", consume=read)
    assert type(caught.value) is kind
    assert caught.value.status == status
    assert len(fetcher.requests) == attempts


@pytest.mark.parametrize(
    "headers", [{"Retry-After": "20"}, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "20"}]
)
async def test_a_403_that_speaks_of_limits_is_a_429(headers):
    """
    Some providers refuse for speed with a 403 and say so in its headers.
    """
    clock = VirtualClock()
    fetcher = FakeFetcher({URL: [FakeAnswer(status=403, headers=headers), FakeAnswer(body=b"x")]})
    assert await client_for(fetcher, clock=clock).receive("a", consume=read) == b"x"
    assert clock.monotonic() >= 20


async def test_a_conditional_request_may_be_answered_304():
    """
    Validators are sent only when they are given; then a 304 is an answer.
    """
    fetcher = FakeFetcher({URL: FakeAnswer(status=304)})
    client = client_for(fetcher)
    assert await client.receive("a", consume=read, conditional=('"x"', "today")) is NOT_MODIFIED
    assert fetcher.requests[0].headers["if-none-match"] == '"x"'
    assert fetcher.requests[0].headers["if-modified-since"] == "today"
    for nothing in (None, (None, None)):
        with pytest.raises(FetchError, match="which was not asked"):
            await client.receive("a", consume=read, conditional=nothing)
        assert not {"if-none-match", "if-modified-since"} & fetcher.requests[-1].headers.keys()


async def test_what_we_ask_for_is_gzip_and_who_asks_is_told():
    """
    Every request says what it can decode, and who it comes from.
    """
    fetcher = FakeFetcher({URL: FakeAnswer()})
    await client_for(fetcher).receive("a", consume=read)
    settings = HttpSettings(user_agent="me/1")
    await client_for(fetcher, settings=settings).receive("a", consume=read)
    assert fetcher.requests[0].headers["accept-encoding"] == "gzip"
    assert fetcher.requests[0].headers["user-agent"].startswith("ingestify")
    assert fetcher.requests[1].headers["user-agent"] == "me/1"


# Trying again


@pytest.mark.parametrize("phase", ["connection", "status", "body"])
async def test_a_failure_in_any_phase_is_tried_again_from_the_start(phase):
    """
    A lost connection, a 502 and a cut body are followed by a whole second attempt.
    """
    failure = {
        "connection": TransientFetchError("lost"),
        "status": FakeAnswer(status=502),
        "body": FakeAnswer(body=[b"ha", b"lf"], is_cut=True),
    }[phase]
    fetcher = FakeFetcher({URL: [failure, FakeAnswer(body=b"whole")]})
    client = client_for(fetcher)
    assert await client.receive("a", consume=read) == b"whole"
    assert client.requests == 2


async def test_a_body_shorter_than_announced_is_cut():
    """
    Fewer bytes than Content-Length says are a cut connection; it may pass.
    """
    short = FakeAnswer(body=b"1234", headers={"Content-Length": "10"})
    fetcher = FakeFetcher({URL: [short, FakeAnswer(body=b"1234", headers={"Content-Length": "4"})]})
    assert await client_for(fetcher).receive("a", consume=read) == b"1234"
    fetcher.answer(URL, short)
    with pytest.raises(TransientFetchError, match="4 of 10 bytes"):
        await client_for(fetcher).receive("a", consume=read)


async def test_a_body_longer_than_announced_or_allowed_is_refused():
    """
    More bytes than announced or allowed are not read to their end.
    """
    long = FakeAnswer(body=[b"x" * 10] * 10, headers={"Content-Length": "15"})
    fetcher = FakeFetcher({URL: long, BASE + "b": FakeAnswer(body=[b"x" * 10] * 10)})
    client = client_for(fetcher)
    with pytest.raises(InvalidBodyError, match="more than the 15 bytes"):
        await client.receive("a", consume=read)
    with pytest.raises(InvalidBodyError, match="larger than 30"):
        await client.receive("b", consume=read, options=HttpOptions(max_body_bytes=30))
    with pytest.raises(InvalidBodyError, match="15 bytes, larger than 12"):
        await client.receive("a", consume=read, options=HttpOptions(max_body_bytes=12))
    assert client.received_bytes == 20 + 40


@pytest.mark.parametrize(
    ("value", "least", "most"),
    [("0", 0, 1), ("5", 5, 7), ("soon", 1, 3), (None, 1, 3), ("-3", 1, 3), ("240", 240, 242)],
)
async def test_a_429_is_waited_for_and_then_tried_again(value, least, most):
    """
    Whatever form Retry-After has, the second attempt comes when it says, or soon.
    """
    clock = VirtualClock()
    headers = {} if value is None else {"Retry-After": value}
    fetcher = FakeFetcher({URL: [FakeAnswer(status=429, headers=headers), FakeAnswer(body=b"x")]})
    assert await client_for(fetcher, clock=clock).receive("a", consume=read) == b"x"
    assert least <= clock.monotonic() <= most


async def test_a_retry_after_of_hours_fails_now_for_everybody():
    """
    One request learns that the host wants to be left alone; the next ones are not even sent.
    """
    clock = VirtualClock()
    hours = FakeAnswer(status=429, headers={"Retry-After": "7200"})
    fetcher = FakeFetcher({URL: hours})
    client = client_for(fetcher, clock=clock)
    for _ in range(3):
        with pytest.raises(ThrottledError) as caught:
            await client.receive("a", consume=read)
        assert caught.value.retry_after == timedelta(hours=2)
    assert len(fetcher.requests) == 1
    assert clock.monotonic() == 0
    assert client.cooling_for == 7200


async def test_two_providers_one_cooling_the_other_goes_on():
    """
    With one exchange for both, the one that cools does not hold it.
    """
    clock = VirtualClock(auto=False)
    throttle, exchanges = Throttle(clock), anyio.Semaphore(1)
    slow = FakeAnswer(status=429, headers={"Retry-After": "60"})
    fetcher = FakeFetcher({URL: [slow, FakeAnswer(body=b"x")]})
    fetcher.answer("https://other.example.com/b", FakeAnswer(body=b"y"))
    shared = {"clock": clock, "throttle": throttle, "exchanges": exchanges}
    one = client_for(fetcher, **shared)
    other = client_for(fetcher, Provider("other", base_url="https://other.example.com/"), **shared)
    got = []

    async def ask():
        got.append(await one.receive("a", consume=read))

    async with anyio.create_task_group() as tg:
        tg.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        for _ in range(100):
            assert await other.receive("b", consume=read) == b"y"
        assert got == []
        assert exchanges.value == 1
        await clock.advance(70)
    assert got == [b"x"]


async def test_waiting_holds_no_slot():
    """
    The slot is lent while a request backs off or its host cools, and held during exchanges.
    """

    class Slot:
        held, lent = True, 0

        @asynccontextmanager
        async def released(self):
            self.held = False
            self.lent += 1
            yield
            self.held = True

        def refuse_after_stop(self):
            pass

        def on_stop(self, tell):
            pass

        def forget(self, tell):
            pass

    slot = Slot()

    async def consume(answer):
        assert slot.held
        return await read(answer)

    throttled = FakeAnswer(status=429, headers={"Retry-After": "9"})
    fetcher = FakeFetcher({URL: [FakeAnswer(status=500), throttled, FakeAnswer(body=b"x")]})
    assert await client_for(fetcher).receive("a", consume=consume, slot=slot) == b"x"
    assert slot.held
    assert slot.lent >= 2


async def test_a_source_may_say_that_a_good_answer_is_a_refusal():
    """
    A 200 that a Source calls throttled is tried again, and slows everybody down.
    """

    class Liar(Provider):
        def check_answer(self, status, headers, head):
            if b"too fast" in head:
                raise ThrottledError("too fast", retry_after=timedelta(seconds=30))

    clock = VirtualClock()
    fetcher = FakeFetcher({URL: [FakeAnswer(body=b"too fast"), FakeAnswer(body=b"fine")]})
    client = client_for(fetcher, Liar("liar", base_url=BASE), clock=clock)

    async def consume(answer):
        body = await read(answer)
        answer.check(body)
        return body

    assert await client.receive("a", consume=consume) == b"fine"
    assert clock.monotonic() >= 30


async def test_a_daily_quota_stops_the_source():
    """
    What goes beyond the quota of the day is not sent; redirects and retries count, too.
    """
    fetcher = FakeFetcher({URL: FakeAnswer(status=500)})
    client = client_for(fetcher, limits=Limits(daily_quota=7))
    with pytest.raises(TransientFetchError):
        await client.receive("a", consume=read)
    with pytest.raises(StopProcessing):
        await client.receive("a", consume=read)
    assert len(fetcher.requests) == 7


async def test_a_host_that_is_down_is_left_alone_and_missing_files_are_not_its_fault():
    """
    Server errors open the circuit, and then nothing more is sent; 404s never do.
    """
    clock = VirtualClock()
    fetcher = FakeFetcher({URL: FakeAnswer(status=500)})
    settings = HttpSettings(outage_patience=timedelta(0))
    client = client_for(fetcher, clock=clock, settings=settings)
    for _ in range(200):
        with pytest.raises(AbsentError):
            await client.receive("missing", consume=read)
        await clock.sleep(1)
    for _ in range(5):
        with pytest.raises(TransientFetchError):
            await client.receive("a", consume=read)
        await clock.sleep(1)
    sent = len(fetcher.requests)
    with pytest.raises(HostDownError, match=r"api\.example\.com"):
        await client.receive("a", consume=read)
    assert len(fetcher.requests) == sent


async def test_retries_are_bounded_over_all_requests():
    """
    When everything fails at once, the host does not get five times as many requests.
    """
    clock = VirtualClock()
    fetcher = FakeFetcher({URL: FakeAnswer(status=408)})
    client = client_for(fetcher, clock=clock)
    for _ in range(200):
        with pytest.raises(TransientFetchError):
            await client.receive("a", consume=read)
    assert len(fetcher.requests) < 200 + 100 + 0.2 * 400


async def test_a_failure_of_the_consumer_is_its_own():
    """
    What goes wrong with the bytes after they have come is not tried again.
    """
    fetcher = FakeFetcher({URL: FakeAnswer(body=b"x")})

    async def consume(answer):
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        await client_for(fetcher).receive("a", consume=consume)
    assert len(fetcher.requests) == 1


# Deadlines


@asynccontextmanager
async def serving(handle):
    """A real provider on loopback, which answers with *handle*, as its base URL."""
    runner = web.ServerRunner(web.Server(handle), access_log=None, shutdown_timeout=0.05)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def asking(handle, **options):
    async with serving(handle) as base, AiohttpFetcher.open() as fetcher:
        source = options.pop("source", None) or Provider("example", base_url=base)
        source.base_url = base
        yield client_for(fetcher, source, clock=SystemClock(), **options)


async def trickle(request):
    response = web.StreamResponse(headers={"Content-Length": "1000000"})
    await response.prepare(request)
    with suppress(ConnectionResetError):
        while True:
            await response.write(b"x")
            await anyio.sleep(0.01)
    return response


async def test_a_head_that_does_not_end_is_no_answer():
    """
    A server that sends its headers byte by byte is given as long as one that is silent.
    """

    async def slow_head(stream):
        async with stream:
            with suppress(anyio.BrokenResourceError):
                await stream.send(b"HTTP/1.1 200 OK\r\nX: ")
                while True:
                    await stream.send(b"y")
                    await anyio.sleep(0.01)

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(SocketAttribute.local_port)  # noqa: S610
    soon = dict.fromkeys(["connect_timeout", "first_byte_timeout"], timedelta(seconds=0.1))
    async with listener, AiohttpFetcher.open() as fetcher, anyio.create_task_group() as tg:
        tg.start_soon(listener.serve, slow_head)
        source = Provider("example", base_url=f"http://127.0.0.1:{port}/")
        settings = HttpSettings(attempts=1, **soon)
        client = client_for(fetcher, source, clock=SystemClock(), settings=settings)
        with pytest.raises(TransientFetchError, match=r"did not answer within 0\.2 s"):
            await client.receive("a", consume=read)
        tg.cancel_scope.cancel()


async def test_a_trickle_is_ended_by_the_minimum_rate():
    """
    A byte now and then is never idle, but too slow.
    """
    settings = HttpSettings(
        idle_timeout=timedelta(seconds=0.4), minimum_bytes_per_second=10**9, attempts=1
    )
    async with asking(trickle, settings=settings) as client:
        with pytest.raises(TransientFetchError, match="too slow"):
            await client.receive("a", consume=read)


async def test_a_body_that_stops_is_idle():
    """
    A body of which nothing more comes ends by the idle deadline.
    """

    async def stop(request):
        response = web.StreamResponse(headers={"Content-Length": "1000000"})
        await response.prepare(request)
        await response.write(b"x" * 500_000)
        await anyio.sleep_forever()

    async with asking(stop, settings=QUICK) as client:
        with pytest.raises(TransientFetchError, match=r"sent nothing for 0\.05 s"):
            await client.receive("a", consume=read)


async def test_everything_ends_by_the_total_deadline():
    """
    However lively an answer is, it has to be complete in time; a File may have its own.
    """
    settings = HttpSettings(attempts=1, minimum_bytes_per_second=0)
    async with asking(trickle, settings=settings) as client:
        options = HttpOptions(total_timeout=timedelta(seconds=0.1))
        with pytest.raises(TransientFetchError, match=r"was not complete after 0\.1 s"):
            await client.receive("a", consume=read, options=options)


async def test_time_spent_with_the_bytes_is_not_the_providers():
    """
    A slow disk makes no provider look idle or slow.
    """

    async def chunks(request):
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(3):
            await response.write(b"x" * 300_000)
        return response

    async def slowly(answer):
        size = 0
        async for chunk in answer.chunks():
            size += len(chunk)
            await anyio.sleep(0.08)
        return size

    async with asking(chunks, settings=QUICK) as client:
        assert await client.receive("a", consume=slowly) == 900_000


async def test_a_reset_within_the_body_is_tried_again():
    """
    The connection is lost in the middle of the body; the second attempt has all of it.
    """
    seen = 0

    async def handle(request):
        nonlocal seen
        seen += 1
        if seen > 1:
            return web.Response(body=b"x" * 1000)
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b"x" * 500)
        request.transport.abort()
        return response

    async with asking(handle) as client:
        assert await client.receive("a", consume=read) == b"x" * 1000
    assert seen == 2


# Redirects


def redirect(location, status=302):
    return FakeAnswer(status=status, headers={"Location": location}, body=b"moved")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_within_the_origin_are_followed_with_credentials(status):
    """
    The credentials go along to another path of the same origin.
    """
    fetcher = FakeFetcher({URL: redirect("/elsewhere?x=1", status)})
    fetcher.answer("https://api.example.com/elsewhere?x=1", FakeAnswer(body=b"x"))
    auth = HeaderAuth("X-Api-Key", Secret(CANARY))
    client = client_for(fetcher, Provider("example", base_url=BASE, auth=auth))
    assert await client.receive("a", consume=read) == b"x"
    assert [request.headers.get("x-api-key") for request in fetcher.requests] == [CANARY] * 2
    assert client.requests == 2


@pytest.mark.parametrize(
    ("location", "match"),
    [
        ("https://evil.example/", "not among the redirect_hosts"),
        ("https://api.example.com:8443/", "not among the redirect_hosts"),
        ("http://api.example.com/v1/b", "from https to http"),
        ("ftp://api.example.com/", "only http and https"),
        (f"https://u:{CANARY}@api.example.com/", "credentials"),
        ("//evil.example/x", "evil.example"),
        ("a\r\nHost: x", "controls"),
    ],
)
async def test_redirects_that_leave_are_not_followed(location, match):
    """
    Another origin, a downgrade or an address that is none: nothing is sent there.
    """
    fetcher = FakeFetcher({URL: redirect(location)})
    with pytest.raises(UnsafeTargetError, match=match) as caught:
        await client_for(fetcher).receive("a", consume=read)
    assert_no_canary(caught.value)
    assert len(fetcher.requests) == 1


async def test_redirects_end():
    """
    Circles and long chains are told, not followed for ever.
    """
    fetcher = FakeFetcher({URL: redirect("b"), BASE + "b": redirect("a")})
    with pytest.raises(FetchError, match="in a circle"):
        await client_for(fetcher).receive("a", consume=read)
    for n in range(10):
        fetcher.answer(f"{BASE}{n}", redirect(str(n + 1)))
    client = client_for(fetcher, settings=HttpSettings(max_redirects=3))
    with pytest.raises(FetchError, match="more than 3 times"):
        await client.receive("0", consume=read)
    assert client.requests == 4


@pytest.mark.parametrize(
    "auth",
    [
        HeaderAuth("X-Api-Key", Secret(CANARY)),
        BasicAuth("me", Secret(CANARY)),
        BearerAuth(Secret(CANARY)),
        QueryAuth("api_token", Secret(CANARY)),
    ],
)
async def test_another_origin_sees_no_credential(auth):
    """
    An allowed redirect to another server carries neither our credentials nor a Source's headers.
    """
    seen = defaultdict(list)

    async def stranger(request):
        seen["stranger"].append((request.path_qs, dict(request.headers)))
        return web.Response(body=b"x")

    async with serving(stranger) as elsewhere:

        async def handle(request):
            seen["own"].append((request.path_qs, dict(request.headers)))
            return web.Response(status=302, headers={"Location": elsewhere + "file?sig=1"})

        source = Provider("example", auth=auth)
        settings = HttpSettings(redirect_hosts=frozenset({"127.0.0.1"}))
        async with asking(handle, source=source, settings=settings) as client:
            headers = {"X-Session": CANARY, "Accept": "application/json"}
            assert await client.receive("a", consume=read, headers=headers) == b"x"

    credentials = {**auth.headers(), **auth.params()}
    assert any(value in str(seen["own"]) for value in credentials.values())
    (path, headers) = seen["stranger"][0]
    assert path == "/file?sig=1"
    assert headers["Accept"] == "application/json"
    assert not {"X-Session", "X-Api-Key", "Authorization", "Cookie"} & headers.keys()
    assert not any(value in str(seen["stranger"]) for value in [CANARY, *credentials.values()])


async def test_a_redirect_that_repeats_a_credential_to_others_is_not_followed():
    """
    A provider that puts the token into the address of another host is not helped in that.
    """
    fetcher = FakeFetcher({URL: redirect(f"https://cdn.example/x?api_token={CANARY}")})
    source = Provider("example", base_url=BASE, auth=QueryAuth("api_token", Secret(CANARY)))
    settings = HttpSettings(redirect_hosts=frozenset({"cdn.example"}))
    with pytest.raises(UnsafeTargetError, match=r"would tell https://cdn\.example") as caught:
        await client_for(fetcher, source, settings=settings).receive("a", consume=read)
    assert_no_canary(caught.value)


# Credentials


async def test_query_credentials_are_added_at_sending_only():
    """
    The token is in what is sent, not in the address that is kept, also if the provider repeats it.
    """
    fetcher = FakeFetcher({URL: FakeAnswer(body=b"x")})
    source = Provider("example", base_url=BASE, auth=QueryAuth("api_token", Secret(CANARY)))
    client = client_for(fetcher, source)
    link = f"{URL}?page=2&api_token={CANARY}"
    assert client.resolve(link) == f"{URL}?page=2"
    await client.receive(link, consume=read)
    assert fetcher.requests[0].url == f"{URL}?page=2&api_token={CANARY}"


async def test_userinfo_of_the_base_url_becomes_a_header():
    """
    It is sent to its origin, and is in no address.
    """
    source = Provider("example", base_url=f"https://me:{CANARY}@api.example.com/v1/")
    fetcher = FakeFetcher({URL: FakeAnswer(status=404)})
    client = client_for(fetcher, source)
    with pytest.raises(AbsentError) as caught:
        await client.receive("a", consume=read)
    assert_no_canary(caught.value)
    assert fetcher.requests[0].url == URL
    assert fetcher.requests[0].headers["authorization"].startswith("Basic ")


async def test_errors_and_logs_hold_no_secret(caplog):
    """
    Neither what we say nor what a Source says about an answer repeats a credential.
    """

    class Telling(Provider):
        def check_answer(self, status, headers, head):
            raise FetchError(f"bad key {CANARY} in {head.decode()}")

    caplog.set_level(logging.DEBUG)
    for auth in (
        QueryAuth("api_token", Secret(CANARY)),
        BearerAuth(Secret(CANARY)),
        BasicAuth("me", Secret(CANARY)),
        HeaderAuth("X-Api-Key", Secret(CANARY)),
    ):
        for answer in (
            FakeAnswer(body=CANARY.encode()),
            FakeAnswer(status=429, headers={"Retry-After": "99999"}),
            FakeAnswer(status=400),
            redirect(f"https://evil.example/?t={CANARY}"),
            FakeAnswer(body=b"x", is_cut=True),
            TransientFetchError(f"lost {auth.headers()} {auth.params()}"),
        ):
            fetcher = FakeFetcher({URL: answer})
            client = client_for(fetcher, Telling("telling", base_url=BASE, auth=auth))

            async def consume(given):
                given.check(await read(given))

            with pytest.raises(IngestifyError) as caught:
                await client.receive(f"a?x={CANARY}", consume=consume)
            assert_no_canary(caught.value)
            assert CANARY not in repr(fetcher.requests)
            assert CANARY not in repr(client.__dict__)
    assert CANARY not in caplog.text
    assert "asks to wait for 99999.0 s" in caplog.text


class LoggingIn(Provider):
    """Fetches a token; counts how often."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.logins = 0

    async def login(self, http):
        self.logins += 1
        token = (await http.get_bytes("token")).decode()
        return BearerAuth(Secret(token))


def tokens(*valid):
    """Answers 200 to the tokens given, and 401 to all others."""

    def answer(request):
        is_valid = request.headers.get("authorization", "").removeprefix("Bearer ") in valid
        return FakeAnswer(body=b"x") if is_valid else FakeAnswer(status=401)

    return answer


async def test_a_login_comes_before_the_first_request_and_only_once():
    """
    However many requests begin at once, there is one login, and all have its token.
    """
    fetcher = FakeFetcher({BASE + "token": FakeAnswer(body=b"t-0001"), URL: tokens("t-0001")})
    source = LoggingIn("example", base_url=BASE)
    client = client_for(fetcher, source)
    async with anyio.create_task_group() as tg:
        for _ in range(20):
            tg.start_soon(lambda: client.receive("a", consume=read))
    assert source.logins == 1
    assert fetcher.count(URL) == 20


async def test_a_401_leads_to_one_fresh_login_for_all():
    """
    When a token ends, whoever is refused waits for the same new one.
    """
    answers = [FakeAnswer(body=b"t-0001"), FakeAnswer(body=b"t-0002")]
    fetcher = FakeFetcher({BASE + "token": answers, URL: tokens("t-0001")})
    source = LoggingIn("example", base_url=BASE)
    client = client_for(fetcher, source)
    assert await client.receive("a", consume=read) == b"x"
    fetcher.answer(URL, tokens("t-0002"))
    async with anyio.create_task_group() as tg:
        for _ in range(20):
            tg.start_soon(lambda: client.receive("a", consume=read))
    assert source.logins == 2


async def test_a_token_that_ends_while_more_wait_than_may_work():
    """
    Whoever waits for the new token holds no worker meanwhile: those before the login in the queue
    need one to go on, or the login would never have its turn.
    """
    logged_in = [FakeAnswer(body=b"t-0001"), FakeAnswer(body=b"t-0002")]
    valid = ["t-0001"]
    answered = []

    def answer(request):
        answered.append(request)
        if len(answered) == 5:
            valid[0] = "t-0002"
        return tokens(*valid)(request)

    fetcher = FakeFetcher({BASE + "token": logged_in, URL: answer})
    source = LoggingIn("example", base_url=BASE, limits=Limits(concurrency=2))
    client = client_for(fetcher, source, exchanges=anyio.Semaphore(4))
    pages, done = Pages(100), []
    await pages.put(range(40))
    pages.close()

    async def work(number, slot):
        done.append(await client.receive("a", consume=read, slot=slot))

    with anyio.fail_after(30):
        await Pool(pages, work, workers=4, stop=Stop(), drop=lambda number: None).run()

    assert done == [b"x"] * 40
    assert source.logins == 2


async def test_what_a_loader_asks_for_holds_no_worker_while_it_waits():
    """
    Else those before it in the queue might wait for a worker for ever.
    """
    fetcher = FakeFetcher({URL: FakeAnswer(body=b"x")})
    source = Provider("example", base_url=BASE, limits=Limits(concurrency=1))
    client = client_for(fetcher, source, exchanges=anyio.Semaphore(4))
    pages, done = Pages(100), []
    await pages.put(range(40))
    pages.close()

    async def work(number, slot):
        if number < 20:
            done.append(await client.receive("a", consume=read, slot=slot))
        else:
            done.append(await ClientHttp(client, slot=slot).get_bytes("a"))

    with anyio.fail_after(30):
        await Pool(pages, work, workers=4, stop=Stop(), drop=lambda number: None).run()

    assert done == [b"x"] * 40


async def test_credentials_that_are_refused_when_fresh_are_not_renewed_for_ever():
    """
    A provider that refuses every token gets one login more, not one for each request.
    """
    fetcher = FakeFetcher({BASE + "token": FakeAnswer(body=b"t-0001"), URL: tokens()})
    source = LoggingIn("example", base_url=BASE)
    client = client_for(fetcher, source)
    for _ in range(5):
        with pytest.raises(RefusedError, match="401"):
            await client.receive("a", consume=read)
    assert source.logins == 1


async def test_a_login_is_made_with_the_configured_credentials():
    """
    Also the second one, which must not depend on the token that has ended.
    """
    answers = [FakeAnswer(body=b"t-0001"), FakeAnswer(body=b"t-0002")]
    fetcher = FakeFetcher({BASE + "token": answers, URL: tokens("t-0001")})
    auth = BasicAuth("me", Secret("password"))
    client = client_for(fetcher, LoggingIn("example", base_url=BASE, auth=auth))
    await client.receive("a", consume=read)
    fetcher.answer(URL, tokens("t-0002"))
    await client.receive("a", consume=read)
    logins = [r.headers["authorization"] for r in fetcher.requests if r.url == BASE + "token"]
    assert logins == [auth.headers()["Authorization"]] * 2


async def test_a_login_that_is_refused_is_not_tried_again():
    """
    A wrong password is sent once, however many requests need it: more would lock the account.
    """
    fetcher = FakeFetcher({BASE + "token": FakeAnswer(status=403), URL: tokens("t-0001")})
    source = LoggingIn("example", base_url=BASE)
    client = client_for(fetcher, source)
    for _ in range(30):
        with pytest.raises(RefusedError, match="token answered 403") as caught:
            await client.receive("a", consume=read)
        assert caught.value.status == 403
    assert (source.logins, fetcher.count()) == (1, 1)


@pytest.mark.parametrize("status", [400, 401])
async def test_a_renewal_that_is_refused_is_not_tried_again(status):
    """
    Nor is one that comes when a token has ended; some providers call a wrong password a 400.
    """
    answers = [FakeAnswer(body=b"t-0001"), FakeAnswer(status=status)]
    fetcher = FakeFetcher({BASE + "token": answers, URL: tokens("t-0001")})
    source = LoggingIn("example", base_url=BASE)
    client = client_for(fetcher, source)
    assert await client.receive("a", consume=read) == b"x"
    fetcher.answer(URL, tokens())
    for _ in range(30):
        with pytest.raises(FetchError, match=f"token answered {status}"):
            await client.receive("a", consume=read)
    assert source.logins == 2


async def test_a_login_that_its_source_cannot_read_is_not_tried_again():
    """
    Whatever a Source makes of the answer: nobody can tell whether the account is at risk.
    """

    class Puzzled(LoggingIn):
        async def login(self, http):
            await super().login(http)
            raise KeyError("access_token")

    fetcher = FakeFetcher({BASE + "token": FakeAnswer(body=b"{}")})
    source = Puzzled("example", base_url=BASE)
    client = client_for(fetcher, source)
    with pytest.raises(KeyError):
        await client.receive("a", consume=read)
    with pytest.raises(RefusedError, match="the login failed: KeyError: 'access_token'"):
        await client.receive("a", consume=read)
    assert source.logins == 1


async def test_a_login_that_is_not_answered_is_tried_again():
    """
    What may pass says nothing about the credentials: the next request logs in.
    """
    fetcher = FakeFetcher({BASE + "token": FakeAnswer(status=503), URL: tokens("t-0001")})
    source = LoggingIn("example", base_url=BASE)
    client = client_for(fetcher, source, settings=HttpSettings(attempts=1))
    with pytest.raises(TransientFetchError, match="token answered 503"):
        await client.receive("a", consume=read)
    fetcher.answer(BASE + "token", FakeAnswer(body=b"t-0001"))
    assert await client.receive("a", consume=read) == b"x"


@pytest.mark.parametrize("status", [400, 404, 410, 429, 500, 503])
async def test_any_answer_but_a_refusal_says_that_a_token_is_good(status):
    """
    A token that was good for a 404 or a 500 alone is renewed when it ends.
    """
    answers = [FakeAnswer(body=b"t-0001"), FakeAnswer(body=b"t-0002")]
    fetcher = FakeFetcher({BASE + "token": answers, URL: FakeAnswer(status=status)})
    source = LoggingIn("example", base_url=BASE)
    client = client_for(fetcher, source, settings=HttpSettings(attempts=1))
    with pytest.raises(FetchError, match=str(status)):
        await client.receive("a", consume=read)
    fetcher.answer(URL, tokens("t-0002"))
    assert await client.receive("a", consume=read) == b"x"
    assert source.logins == 2


# Addresses and headers


async def test_nothing_is_sent_to_an_address_that_leaves_the_base():
    """
    Refused before anything is sent, whoever made the address up.
    """
    fetcher = FakeFetcher()
    client = client_for(fetcher)
    for url in (
        "https://evil.example/",
        "../x",
        "/v2/x",
        f"https://u:{CANARY}@api.example.com/v1/",
    ):
        with pytest.raises(UnsafeTargetError) as caught:
            await client.receive(url, consume=read)
        assert_no_canary(caught.value)
    assert fetcher.requests == []


@pytest.mark.parametrize(
    "headers", [{"X": "a\r\nY: b"}, {"X Y": "a"}, {"Range": "bytes=0-1"}, {"If-None-Match": "x"}]
)
async def test_headers_that_would_change_the_exchange_are_refused(headers):
    """
    A header stays one line, and does not ask for something else than the whole body.
    """
    with pytest.raises(UnsafeTargetError, match="header"):
        await client_for(FakeFetcher()).receive("a", consume=read, headers=headers)


async def test_options_of_a_file_are_sent():
    """
    A File's own headers and parameters are added to the request.
    """
    fetcher = FakeFetcher({URL: FakeAnswer()})
    options = HttpOptions(headers={"Accept": "text/csv"}, params={"page": 1})
    await client_for(fetcher).receive("a?x=1", consume=read, options=options)
    assert fetcher.requests[0].url == URL + "?x=1&page=1"
    assert fetcher.requests[0].headers["accept"] == "text/csv"


async def test_a_source_without_a_base_url_asks_for_nothing():
    """
    That is told when it tries.
    """
    client = client_for(FakeFetcher(), Provider("example"))
    with pytest.raises(ConfigError, match="example has no base_url"):
        await ClientHttp(client).get_bytes("x")


async def test_sources_with_equal_credentials_share_their_limits():
    """
    The same key at the same host is one line; another key is another one.
    """
    throttle = Throttle(VirtualClock())
    fetcher = FakeFetcher({URL: FakeAnswer()})
    for name, key in (("one", "key-one"), ("two", "key-one"), ("three", "key-two")):
        auth = HeaderAuth("X-Api-Key", Secret(key))
        client = client_for(fetcher, Provider(name, base_url=BASE, auth=auth), throttle=throttle)
        await client.receive("a", consume=read)
    assert sorted(state.requests for state in throttle.snapshot()) == [1, 2]
    assert "key-one" not in repr(throttle.snapshot())
