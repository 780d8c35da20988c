"""A provider on loopback: a real HTTP server that serves a World and counts what it is asked."""

import asyncio
import dataclasses
import json
import time
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from fnmatch import fnmatchcase
from types import TracebackType
from typing import Any, Self

from aiohttp import hdrs, web

from ingestify.testing.answers import AnswerForm
from ingestify.testing.behaviours import Behaviour, refusal
from ingestify.testing.lies import LIES
from ingestify.testing.limits import LimitGate, RateLimit
from ingestify.testing.records import Ledger, RequestRecord, record_of
from ingestify.testing.worlds import EvolvingWorld, World

CONTROL_PATH = "/_simulator/"


@dataclass(slots=True, kw_only=True)
class Script:
    """A behaviour at the paths that match a glob; `taken` counts how often it was followed."""

    glob: str
    behaviour: Behaviour
    times: int | None  # None: always
    taken: int = 0

    def applies_to(self, path: str) -> bool:
        return fnmatchcase(path, self.glob) and (self.times is None or self.taken < self.times)


class ProviderSimulator:
    """Serves *world* on loopback below *base_path* while its `async with` lasts.

    A request meets, in this order: the login, the limit, the delay, a script for its path, and the
    World. Every request is counted, refused ones too; `/_simulator/` is not a request.
    `If-Modified-Since` is answered 304 only when it names the very date that was sent.
    """

    def __init__(
        self,
        world: World,
        *,
        base_path: str = "/",
        port: int = 0,  # 0: any free one
        delay: timedelta = timedelta(0),
        limit: RateLimit | None = None,
        gzip: bool = True,
        etag: bool = True,
        last_modified: bool = True,
        auth: tuple[str, str] | None = None,
        remember: int = 100_000,  # requests, the latest; all of them are in `stats`
    ) -> None:
        self.world = world
        self.delay = delay
        self.base_path = f"/{base_path.strip('/')}/".replace("//", "/")
        self.in_flight = 0
        self._ledger = Ledger(remember)
        self._port = port
        self._gate = None if limit is None else LimitGate(limit)
        self._form = AnswerForm(gzip=gzip, etag=etag, last_modified=last_modified)
        self._login = None if auth is None else b64encode(":".join(auth).encode()).decode()
        self._scripts: list[Script] = []
        self._changed = asyncio.Event()
        self._runner: web.ServerRunner | None = None

    async def __aenter__(self) -> Self:
        server = web.Server(self._answer, handler_cancellation=True)
        # A hung answer would be waited for; what is left after this time is cancelled.
        self._runner = web.ServerRunner(server, access_log=None, shutdown_timeout=0.05)
        await self._runner.setup()
        try:
            site = web.TCPSite(self._runner, "127.0.0.1", self._port, backlog=4096)
            await site.start()
        except BaseException:
            await self._runner.cleanup()
            raise
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._port}{self.base_path}"

    @property
    def requests(self) -> list[RequestRecord]:
        """The latest requests so far, in the order in which they were answered."""
        return list(self._ledger.records)

    @property
    def most_in_flight(self) -> int:
        return self._ledger.most_in_flight

    def set_limit(self, limit: RateLimit | None) -> None:
        """Limit, or no longer limit, the requests from now on."""
        self._gate = None if limit is None else LimitGate(limit)

    def script(self, glob: str, behaviour: Behaviour, *, times: int | None = None) -> Script:
        """Follow *behaviour* at the paths that match *glob*, the latest script first.

        After *times* requests the paths are answered by an earlier script, or honestly.
        """
        script = Script(glob=glob, behaviour=behaviour, times=times)
        self._scripts.insert(0, script)
        return script

    def unscript(self, script: Script) -> None:
        """Follow *script* no longer."""
        self._scripts.remove(script)

    def heal(self) -> None:
        """Follow no script any longer: be honest from now on."""
        self._scripts.clear()

    def count(self, glob: str = "*", *, status: int | None = None) -> int:
        """How many of the remembered requests match; `*` matches slashes too."""
        return sum(
            fnmatchcase(request.path, glob) and status in (None, request.status)
            for request in self._ledger.records
        )

    def stats(self) -> dict[str, Any]:
        """Counts since the start or the last reset, also of requests no longer remembered."""
        return {**self._ledger.stats(), "in_flight": self.in_flight}

    def reset_counts(self) -> None:
        """Forget all requests; those in flight will be counted when they end."""
        self._ledger.forget(in_flight=self.in_flight)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for *condition*, looked at whenever a request arrives or is answered."""
        while not condition():
            await self._changed.wait()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path.startswith(CONTROL_PATH):
            return await self._control(request)
        started = time.monotonic()
        self.in_flight = in_flight = self.in_flight + 1
        self._ledger.arrived(in_flight)
        self._tell()
        response: web.StreamResponse | None = None
        try:
            response = await self._judge(request)
            return response
        finally:
            self.in_flight -= 1
            path = self._path(request)
            self._ledger.answered(record_of(request, path, response, started, in_flight))
            self._tell()

    async def _judge(self, request: web.BaseRequest) -> web.StreamResponse:
        if self._login and request.headers.get(hdrs.AUTHORIZATION) != f"Basic {self._login}":
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="provider"'})
        verdict = None if self._gate is None else self._gate.judge()
        if verdict is not None and not verdict.is_admitted:
            return refusal(verdict.headers)
        if self.delay:
            await asyncio.sleep(self.delay.total_seconds())
        response = await self._follow_script(request)
        if response.prepared:  # by the script; what was written is known once it has ended
            await response.write_eof()
        elif verdict is not None:
            response.headers.update(verdict.headers)
        return response

    async def _follow_script(self, request: web.BaseRequest) -> web.StreamResponse:
        path = self._path(request)

        async def serve() -> web.StreamResponse:
            return self._serve(request)

        for script in self._scripts:
            if script.applies_to(path):
                script.taken += 1
                return await script.behaviour(request, serve)
        return await serve()

    def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.method != hdrs.METH_GET:
            return web.Response(status=405, headers={"Allow": "GET"})
        resource = None
        if request.path.startswith(self.base_path):
            resource = self.world.get(self._path(request))
        if resource is None:
            return web.Response(status=404, text="404: Not Found")
        return self._form.answer(request, resource)

    async def _control(self, request: web.BaseRequest) -> web.StreamResponse:
        match request.method, request.path.removeprefix(CONTROL_PATH):
            case "GET", "stats":
                return web.json_response(self.stats())
            case "POST", "reset":
                self.reset_counts()
                return web.json_response(self.stats())
            case "POST", "evolve":
                return self._evolve(await request.text())
            case "POST", "lie":
                return self._lie(await request.text())
            case "POST", "heal":
                self.heal()
                return web.json_response({})
        known = "GET stats, POST reset, POST evolve, POST lie, POST heal"
        return web.Response(status=404, text=f"404: {known}")

    def _lie(self, order: str) -> web.Response:
        try:
            asked = json.loads(order)
            self.script(asked["glob"], LIES[asked["lie"]], times=asked.get("times"))
        except (KeyError, TypeError, ValueError) as exc:
            return web.Response(status=400, text=f"{exc}; there are: {', '.join(LIES)}")
        return web.json_response(asked)

    def _evolve(self, order: str) -> web.Response:
        if not isinstance(self.world, EvolvingWorld):
            return web.Response(status=400, text=f"{type(self.world).__name__} cannot evolve")
        try:
            asked = json.loads(order)
            change = self.world.evolve(asked["what"], **asked.get("args", {}))
        except (KeyError, TypeError, ValueError) as exc:
            return web.Response(status=400, text=str(exc))
        return web.json_response(change, dumps=_dumps)

    def _path(self, request: web.BaseRequest) -> str:
        return request.path.removeprefix(self.base_path).lstrip("/")

    def _tell(self) -> None:
        """Wake whoever waits; the next ones wait for the next change."""
        self._changed.set()
        self._changed = asyncio.Event()


def _dumps(value: object) -> str:
    def simplified(part: object) -> object:
        if dataclasses.is_dataclass(part) and not isinstance(part, type):
            return {f.name: getattr(part, f.name) for f in dataclasses.fields(part)}
        return str(part)

    return json.dumps(value, default=simplified)
