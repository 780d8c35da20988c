"""Both Fetchers keep the contract."""

from collections import defaultdict
from contextlib import asynccontextmanager

from aiohttp import web

from ingestify.adapters.http.aiohttp_fetcher import AiohttpFetcher
from ingestify.testing.contracts.fetcher import FetcherContract, World
from ingestify.testing.fetcher import FakeFetcher


class FakeProvider:
    base_url = "https://api.example.com/"

    def __init__(self):
        self.fetcher = FakeFetcher()

    def answer(self, path, answer):
        self.fetcher.answer(self.base_url + path, answer)

    def seen(self, path):
        url = self.base_url + path
        return [dict(request.headers) for request in self.fetcher.requests if request.url == url]


class LoopbackProvider:
    """A real server that answers as it is told."""

    def __init__(self):
        self._answers = {}
        self._seen = defaultdict(list)
        self.base_url = ""

    def answer(self, path, answer):
        self._answers[path] = answer

    def seen(self, path):
        return self._seen[path]

    @asynccontextmanager
    async def serving(self):
        runner = web.ServerRunner(web.Server(self._handle), access_log=None, shutdown_timeout=0.05)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.base_url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
            yield self
        finally:
            await runner.cleanup()

    async def _handle(self, request):
        path = request.path.removeprefix("/")
        self._seen[path].append({name.lower(): value for name, value in request.headers.items()})
        answer = self._answers[path]
        if answer.after is not None:
            await answer.after.wait()
        response = web.StreamResponse(status=answer.status)
        pairs = answer.headers.items() if hasattr(answer.headers, "items") else answer.headers
        for name, value in pairs:
            response.headers.add(name, value)
        await response.prepare(request)
        parts = [answer.body] if isinstance(answer.body, bytes) else answer.body
        for number, part in enumerate(parts):
            if number == len(parts) - 1 and answer.body_after is not None:
                await answer.body_after.wait()
            await response.write(part)
        if answer.is_cut:
            request.transport.close()
        return response


class TestFakeFetcher(FetcherContract):
    @asynccontextmanager
    async def opened(self):
        provider = FakeProvider()
        yield World(provider.fetcher, provider)


class TestAiohttpFetcher(FetcherContract):
    @asynccontextmanager
    async def opened(self):
        async with LoopbackProvider().serving() as provider, AiohttpFetcher.open() as fetcher:
            yield World(fetcher, provider)
