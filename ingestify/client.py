"""Asks one provider: login, limits, redirects, retries and validation around every exchange."""

from __future__ import annotations

import copy
import logging
import random as random_module
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, Protocol, Self, TypeVar

from ingestify.errors import (
    FetchError,
    IngestifyError,
    InvalidBodyError,
    RefusedError,
    ThrottledError,
    TransientFetchError,
)
from ingestify.http.advice import Advice, read_advice
from ingestify.http.exchange import (
    Answer,
    Deadlines,
    Meaning,
    Times,
    drain,
    is_refusal_for_speed,
    meaning_of,
)
from ingestify.http.headers import checked_headers, conditional_headers
from ingestify.http.home import Home
from ingestify.http.in_memory import Memory, RunMemory
from ingestify.http.login import Login
from ingestify.http.source_http import ClientHttp, Conditional, ListHttp, ListNotModified
from ingestify.model.addresses import Origin, fill, masked
from ingestify.model.http import HttpSettings, Limits
from ingestify.model.resource import NOT_MODIFIED, HttpOptions, NotModified
from ingestify.ports import Clock, Fetcher, Response, Source
from ingestify.redaction import Redactor
from ingestify.retry import with_retries
from ingestify.throttle import Bound, Slot, Throttle, Turn, released

__all__ = [
    "Allowance",
    "Answer",
    "Client",
    "ClientHttp",
    "Conditional",
    "ListHttp",
    "ListNotModified",
    "Traffic",
]

T = TypeVar("T")

TOO_MANY_REQUESTS = 429
NO_OPTIONS = HttpOptions()

_log = logging.getLogger("ingestify.client")


@dataclass(frozen=True, slots=True)
class _Redirect:
    location: str


class _LoginNeededError(RefusedError):
    """A 401. Stays within this module as long as there may be fresh credentials."""


@dataclass(slots=True)
class _Plan:
    """One thing to be asked for; what all attempts at it have in common. Never changed."""

    url: str  # without credentials
    headers: Mapping[str, str]
    conditional: Mapping[str, str]  # headers, too
    total_timeout: timedelta | None
    max_bytes: int
    slot: Slot | None
    log_in: bool


class Allowance(Protocol):
    """What requests are paid from, where there is not enough for all."""

    def paid(
        self, turn: AbstractAsyncContextManager[Turn], *, may_wait: bool
    ) -> AbstractAsyncContextManager[Turn]:
        """*turn*, to be entered once the request is allowed.

        Raises, on entering:
            StopProcessing: it is not, and nothing was sent.
        """
        ...

    def counting(self, response: Response) -> Response:
        """*response*, whose body is counted where that matters."""
        ...


@dataclass(slots=True)
class Traffic:
    """What a Client has done so far."""

    requests: int = 0  # sent, retries and redirects included
    received_bytes: int = 0  # of bodies, as they came over the wire


class Client:
    """Asks the provider of one Source, during one Run.

    Args:
        allowance: what requests are paid from; None: there is enough for all.
        exchanges: bounds the exchanges in flight of all Clients together. A share of it is taken
            after the Throttle has let a request through, never while one waits for its host.
        memory: bounds the lists that all Clients together hold at once.
    """

    def __init__(
        self,
        source: Source,
        *,
        fetcher: Fetcher,
        throttle: Throttle,
        clock: Clock,
        random: random_module.Random | None = None,
        settings: HttpSettings | None = None,
        limits: Limits | None = None,
        exchanges: Bound | None = None,
        allowance: Allowance | None = None,
        memory: Memory | None = None,
    ) -> None:
        self.source = source
        self.settings = settings or source.http_settings
        self.limits = limits or source.limits
        self.redactor = Redactor()
        self.traffic = Traffic()
        self.memory = memory or RunMemory().lists
        self._allowance = allowance
        self._fetcher = fetcher
        self._throttle = throttle
        self._clock = clock
        self._random = random or random_module.Random()
        self._exchanges = exchanges
        self._patience = self.settings.max_retry_after.total_seconds()
        self._outage = self.settings.outage_patience.total_seconds()
        self._times = Times.of(self.settings)
        self._home = Home(source, self.settings, self.redactor)
        self._login = Login(source, lambda: source.login(ClientHttp(self, log_in=False)))

    def resolve(self, url: str, params: Mapping[str, Any] | None = None) -> str:
        """The absolute address of *url*, which lies below the base URL, without credentials.

        Raises:
            UnsafeTargetError: it leads elsewhere, or cannot be sent as it stands.
        """
        return self._home.resolve(url, params, self._login.auth)

    def url(self, path: str, *segments: int | str) -> str:
        """The absolute address of *path*, each ``{}`` in it replaced by one encoded segment."""
        return self.resolve(fill(path, *segments))

    def spending(self, allowance: Allowance) -> Self:
        """The same Client, whose requests are paid from *allowance*; logins are not."""
        other = copy.copy(self)
        other._allowance = allowance
        return other

    @property
    def requests(self) -> int:
        """Sent so far, retries and redirects included."""
        return self.traffic.requests

    @property
    def received_bytes(self) -> int:
        """Of bodies, as they came over the wire so far."""
        return self.traffic.received_bytes

    @property
    def cooling_for(self) -> float:
        """Seconds until the provider lets anybody through; 0: now."""
        origin = self._home.origin
        if origin is None:
            return 0.0
        return self._throttle.cooling_for(self._home.account_of(f"{origin}/")[0])

    async def receive(
        self,
        url: str,
        *,
        consume: Callable[[Answer], Awaitable[T]],
        conditional: Conditional | None = None,
        options: HttpOptions | None = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        slot: Slot | None = None,
        log_in: bool = True,
    ) -> T | NotModified:
        """What *consume* makes of the 200 at *url*; `NOT_MODIFIED` for a 304 that was asked for.

        *consume* reads the body, and is called again from the beginning when an attempt fails in
        a way that may pass, also when it is *consume* that raises `TransientFetchError`. *slot*
        is released while nothing is done but waiting for the host. Without *log_in* the Source's
        `login` is not called: for requests that are part of it.

        Raises:
            FetchError: asking again would not help.
            TransientFetchError: it did not pass in the time and attempts there are.
            StopProcessing: the daily quota is used up.
        """
        options = options or NO_OPTIONS
        if options.params:
            params = {**(params or {}), **options.params}
        if options.headers:
            headers = {**(headers or {}), **options.headers}
        plan = _Plan(
            self.resolve(url, params),
            checked_headers(headers) if headers else {},
            conditional_headers(*conditional) if conditional else {},
            options.total_timeout,
            options.max_body_bytes or self.settings.max_body_bytes,
            slot,
            log_in,
        )
        try:
            return await with_retries(
                partial(self._attempt, plan, consume),
                settings=self.settings,
                clock=self._clock,
                rng=self._random,
                may_retry=partial(self._may_retry, plan),
                waiting=slot.released if slot is not None else None,
            )
        except IngestifyError as exc:
            self.redactor.clean(exc)
            raise

    def _may_retry(self, plan: _Plan) -> bool:
        return self._throttle.may_retry(Origin.of(plan.url).netloc)

    async def _attempt(
        self, plan: _Plan, consume: Callable[[Answer], Awaitable[T]]
    ) -> T | NotModified:
        if plan.log_in and self._login.is_due:
            async with released(plan.slot):  # else nobody might be left who could go first
                await self._login.prepare()
        generation = self._login.generation
        try:
            received = await self._follow(plan, consume)
        except _LoginNeededError as exc:
            if not (plan.log_in and await self._renew(generation, plan.slot)):
                raise RefusedError(str(exc), status=exc.status) from None
        else:
            return received
        try:
            return await self._follow(plan, consume)
        except _LoginNeededError as exc:
            said = f"{exc}, also with fresh credentials"
            raise RefusedError(said, status=exc.status) from None

    async def _renew(self, refused: int, slot: Slot | None) -> bool:
        async with released(slot):
            return await self._login.renew(refused)

    async def _follow(
        self, plan: _Plan, consume: Callable[[Answer], Awaitable[T]]
    ) -> T | NotModified:
        """One exchange, and those that its redirects lead to."""
        received = await self._take_turn(plan, plan.url, consume)
        visited = [plan.url]
        while isinstance(received, _Redirect):
            url = self._home.redirected(visited[-1], received.location, self._login.auth)
            if url in visited:
                raise FetchError(f"{masked(plan.url)} redirects in a circle")
            if len(visited) > self.settings.max_redirects:
                raise FetchError(
                    f"{masked(plan.url)} redirects more than {self.settings.max_redirects} times"
                )
            visited.append(url)
            received = await self._take_turn(plan, url, consume)
        return received

    async def _take_turn(
        self, plan: _Plan, url: str, consume: Callable[[Answer], Awaitable[T]]
    ) -> T | NotModified | _Redirect:
        key, quota = self._home.account_of(url)
        waiting: AbstractAsyncContextManager[Turn] = self._throttle.turn(
            key,
            self.limits,
            exchanges=self._exchanges,
            slot=plan.slot,
            patience=self._patience,
            outage=self._outage,
            source=quota,
        )
        if self._allowance is not None:
            waiting = self._allowance.paid(waiting, may_wait=plan.log_in)
        async with waiting as turn:
            deadlines = Deadlines(self._times, plan.total_timeout)
            try:
                with deadlines:
                    return await self._exchange(plan, url, turn, deadlines, consume)
                raise TransientFetchError(f"{masked(url)} {deadlines.missed}")
            except ThrottledError:
                raise  # the host has answered
            except TransientFetchError as exc:
                if exc.status is None:
                    turn.record_failure()
                    _log.debug("%s", self.redactor.redact(str(exc)))
                raise

    async def _exchange(
        self,
        plan: _Plan,
        url: str,
        turn: Turn,
        deadlines: Deadlines,
        consume: Callable[[Answer], Awaitable[T]],
    ) -> T | NotModified | _Redirect:
        auth = self._login.auth if plan.log_in else self.source.auth
        generation = self._login.generation if plan.log_in else 0
        request = self._home.request(url, plan.headers, plan.conditional, auth)
        self.traffic.requests += 1
        is_told = _log.isEnabledFor(logging.DEBUG)
        began = self._clock.monotonic() if is_told else 0.0
        async with self._fetcher.send(request) as response:
            deadlines.end_head()
            if generation and self._home.owns(url):  # others saw no credential
                self._login.answered(generation, response.status)
            if self._allowance is not None:
                response = self._allowance.counting(response)
            status, headers = response.status, response.headers
            advice = read_advice(headers, self._clock.now())
            is_refused = is_refusal_for_speed(status, advice)
            pause = turn.record(TOO_MANY_REQUESTS if is_refused else status, advice)
            if pause:
                shown = self.redactor.redact(masked(url))
                _log.warning("%s asks to wait for %.1f s (%d)", shown, pause, status)
            answer = Answer(
                response,
                url=url,
                source=self.source,
                deadlines=deadlines,
                max_bytes=plan.max_bytes,
            )
            try:
                if status != 200:
                    return await self._without_body(plan, masked(url), response, advice)
                return await self._consume(answer, turn, consume)
            finally:
                self.traffic.received_bytes += answer.received
                if is_told:
                    seconds = self._clock.monotonic() - began
                    shown = self.redactor.redact(answer.url)
                    _log.debug("%s %d %d bytes %.3f s", shown, status, answer.received, seconds)

    async def _without_body(
        self, plan: _Plan, shown: str, response: Response, advice: Advice
    ) -> NotModified | _Redirect:
        await drain(response)
        meaning = meaning_of(
            response.status, advice, shown=shown, was_conditional=bool(plan.conditional)
        )
        if meaning is Meaning.NOT_MODIFIED:
            return NOT_MODIFIED
        if meaning is Meaning.LOGIN:
            said = f"{shown} answered {response.status}: the credentials are missing or refused"
            raise _LoginNeededError(said, status=response.status)
        location = response.headers.get("location")
        if not location:
            raise FetchError(f"{shown} redirects to nowhere", status=response.status)
        return _Redirect(location)

    async def _consume(
        self, answer: Answer, turn: Turn, consume: Callable[[Answer], Awaitable[T]]
    ) -> T:
        try:
            return await consume(answer)
        except ThrottledError as exc:  # some providers say so in a 200
            wait = None if exc.retry_after is None else exc.retry_after.total_seconds()
            turn.record(TOO_MANY_REQUESTS, Advice(retry_after=wait))
            raise
        except InvalidBodyError as exc:
            if answer.url in str(exc):
                raise
            raise InvalidBodyError(f"{answer.url}: {exc}", status=exc.status) from exc
