"""What every Fetcher must do. An adapter's tests inherit it and say how to answer a request."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

import pytest
from anyio import Event, create_task_group

from ingestify.errors import TransientFetchError, UnsafeTargetError
from ingestify.model.http import Request
from ingestify.ports import Fetcher
from ingestify.testing.fetcher import FakeAnswer

CANARY = "canary-4711"
BODY = bytes(range(256)) * 2000


class Provider(Protocol):
    """Answers a Fetcher as it is told."""

    base_url: str  # with a slash at its end

    def answer(self, path: str, answer: FakeAnswer) -> None:
        """Answer *path*, relative to the base URL, with this from now on."""
        ...

    def seen(self, path: str) -> list[dict[str, str]]:
        """The headers of the requests for *path*, names in lower case."""
        ...


@dataclass(frozen=True, slots=True)
class World:
    """A Fetcher and the provider that it asks."""

    fetcher: Fetcher
    provider: Provider

    def request(self, path: str, **headers: str) -> Request:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return Request(url=self.provider.base_url + path, headers=names)


class FetcherContract(ABC):
    """Inherit, and give `opened`."""

    @abstractmethod
    def opened(self) -> AbstractAsyncContextManager[World]:
        """A new fetcher, and a provider without answers."""

    @pytest.fixture
    async def world(self) -> AsyncIterator[World]:
        async with self.opened() as world:
            yield world

    async def test_an_answer_is_status_headers_and_body(self, world: World) -> None:
        """
        Names of headers are in lower case, repeated ones are joined, the body is all there.
        """
        headers = [("X-One", "1"), ("Link", "a"), ("link", "b"), ("ETag", '"x"')]
        world.provider.answer("a", FakeAnswer(body=BODY, headers=headers))
        async with world.fetcher.send(world.request("a")) as response:
            assert response.status == 200
            assert response.headers["x-one"] == "1"
            assert response.headers["link"] == "a, b"
            assert response.headers["etag"] == '"x"'
            assert b"".join([chunk async for chunk in response.chunks()]) == BODY

    @pytest.mark.parametrize("status", [204, 304, 400, 401, 404, 429, 500, 503])
    async def test_every_status_is_an_answer(self, world: World, status: int) -> None:
        """
        What a status means is not the Fetcher's to decide.
        """
        world.provider.answer("a", FakeAnswer(status=status))
        async with world.fetcher.send(world.request("a")) as response:
            assert response.status == status
            assert [chunk async for chunk in response.chunks()] == []

    async def test_bodies_are_not_decoded(self, world: World) -> None:
        """
        A gzip coded body is given as it came.
        """
        coded = b"\x1f\x8b not even gzip"
        world.provider.answer("a", FakeAnswer(body=coded, headers={"Content-Encoding": "gzip"}))
        async with world.fetcher.send(world.request("a")) as response:
            assert b"".join([chunk async for chunk in response.chunks()]) == coded

    async def test_redirects_are_not_followed(self, world: World) -> None:
        """
        A redirect is an answer like any other.
        """
        world.provider.answer("a", FakeAnswer(status=302, headers={"Location": "b"}))
        world.provider.answer("b", FakeAnswer())
        async with world.fetcher.send(world.request("a")) as response:
            assert response.status == 302
            assert response.headers["location"] == "b"
        assert world.provider.seen("b") == []

    async def test_cookies_are_not_kept(self, world: World) -> None:
        """
        No request tells what an earlier answer set.
        """
        world.provider.answer("a", FakeAnswer(headers={"Set-Cookie": "id=1; Path=/"}))
        for _ in range(2):
            async with world.fetcher.send(world.request("a")):
                pass
        assert all("cookie" not in headers for headers in world.provider.seen("a"))

    async def test_headers_are_sent_as_they_are(self, world: World) -> None:
        """
        Each header of the request arrives with its value.
        """
        world.provider.answer("a", FakeAnswer())
        request = world.request("a", x_api_key=CANARY, accept_encoding="gzip")
        async with world.fetcher.send(request):
            pass
        (headers,) = world.provider.seen("a")
        assert headers["x-api-key"] == CANARY
        assert headers["accept-encoding"] == "gzip"

    async def test_a_cut_body_is_an_error(self, world: World) -> None:
        """
        A connection that breaks within the body is noticed, and may pass.
        """
        headers = {"Content-Length": str(2 * len(BODY))}
        world.provider.answer("a", FakeAnswer(body=BODY, headers=headers, is_cut=True))
        async with world.fetcher.send(world.request("a")) as response:
            with pytest.raises(TransientFetchError):
                async for _ in response.chunks():
                    pass

    async def test_a_cut_body_in_chunks_is_an_error(self, world: World) -> None:
        """
        The same without an announced length.
        """
        world.provider.answer("a", FakeAnswer(body=[BODY, BODY], is_cut=True))
        async with world.fetcher.send(world.request("a")) as response:
            with pytest.raises(TransientFetchError):
                async for _ in response.chunks():
                    pass

    async def test_an_answer_may_be_left_unread(self, world: World) -> None:
        """
        Whoever leaves early disturbs nobody who comes after.
        """
        gate = Event()
        world.provider.answer("a", FakeAnswer(body=[BODY, BODY], body_after=gate))
        async with world.fetcher.send(world.request("a")) as response:
            async for _ in response.chunks():
                break
        gate.set()
        async with world.fetcher.send(world.request("a")) as response:
            assert sum([len(chunk) async for chunk in response.chunks()]) == 2 * len(BODY)

    async def test_exchanges_run_side_by_side(self, world: World) -> None:
        """
        Requests do not wait for each other's answers.
        """
        gate = Event()
        world.provider.answer("slow", FakeAnswer(after=gate))
        world.provider.answer("quick", FakeAnswer())
        done: list[str] = []

        async def ask(path: str) -> None:
            async with world.fetcher.send(world.request(path)):
                done.append(path)

        async with create_task_group() as tg:
            for _ in range(5):
                tg.start_soon(ask, "slow")
            await ask("quick")
            assert done == ["quick"]
            gate.set()
        assert len(done) == 6

    @pytest.mark.parametrize("url", ["ftp://127.0.0.1/x", "file:///etc/passwd", "x", "http:///x"])
    async def test_only_http_is_asked(self, world: World, url: str) -> None:
        """
        Addresses that are not http(s) are refused.
        """
        with pytest.raises(UnsafeTargetError):
            async with world.fetcher.send(Request(url=url)):
                pass

    async def test_errors_tell_no_secret(self, world: World) -> None:
        """
        Neither the query nor a header stands in what an error says, nor in what caused it.
        """
        world.provider.answer("a", FakeAnswer(body=[BODY], is_cut=True))
        request = world.request(f"a?token={CANARY}", authorization=CANARY)
        async with world.fetcher.send(request) as response:
            with pytest.raises(TransientFetchError) as caught:
                _ = [chunk async for chunk in response.chunks()]
        error: BaseException | None = caught.value
        while error is not None:
            assert CANARY not in repr(error) + str(error)
            error = error.__cause__ or error.__context__
        assert CANARY not in repr(request)
