"""What a Source calls `http`: its provider, asked relative to its base URL."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    contextmanager,
    nullcontext,
)
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from itertools import count
from typing import Any, Protocol, TypeAlias, TypeVar, cast

import anyio.to_thread
import msgspec
from anyio.lowlevel import checkpoint

from ingestify.errors import IngestifyError, InvalidBodyError, RecordError
from ingestify.http.codings import TooLargeError, decode_body, too_large
from ingestify.http.exchange import Answer
from ingestify.http.in_memory import SMALL, Hold, Holder, Memory
from ingestify.http.json_lists import Entry, read_entries, read_entry, read_json
from ingestify.model.addresses import fill, masked
from ingestify.model.catalog import ListValidators
from ingestify.model.http import HttpSettings
from ingestify.model.resource import HttpOptions, NotModified
from ingestify.ports import Source
from ingestify.redaction import Redactor
from ingestify.throttle import Slot, released

T = TypeVar("T")

INLINE = 1024 * 1024  # bytes; what is larger is decoded in a thread
LONG = 5.0  # seconds; what is shorter is no reason to ask for a list a second time

Conditional: TypeAlias = tuple[str | None, str | None]
"""ETag and Last-Modified of what we have, as the provider sent them."""
Refused: TypeAlias = Callable[[int | None, str], None]

_log = logging.getLogger("ingestify.client")


class ListNotModified(IngestifyError):
    """The list that a Source asks for is the one we have seen. Ends its generator."""

    code = "not modified"


class _NoRoomError(IngestifyError):
    """There is no room now for a body of up to *size* bytes. Stays within this module."""

    def __init__(self, size: int) -> None:
        super().__init__("there is no room in memory for a body")
        self.size = size


class Receiver(Protocol):
    """The part of `Client` that is needed here."""

    source: Source
    settings: HttpSettings
    redactor: Redactor
    memory: Memory

    @property
    def cooling_for(self) -> float: ...

    def resolve(self, url: str, params: Mapping[str, Any] | None = None) -> str: ...

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
    ) -> T | NotModified: ...


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A slot that gives the share of a body up, too, where its provider has to be waited for.

    That may take hours. The share is taken anew when the body comes.
    """

    slot: Slot | None
    hold: Hold
    client: Receiver

    def released(self) -> AbstractAsyncContextManager[Any]:
        if self.client.cooling_for > LONG:
            self.hold.release()
        return released(self.slot)

    def dropped_on_stop(self) -> AbstractContextManager[Any]:
        return nullcontext() if self.slot is None else self.slot.dropped_on_stop()

    def refuse_after_stop(self) -> None:
        if self.slot is not None:
            self.slot.refuse_after_stop()

    def on_stop(self, tell: Callable[[], None]) -> None:
        if self.slot is not None:
            self.slot.on_stop(tell)

    def forget(self, tell: Callable[[], None]) -> None:
        if self.slot is not None:
            self.slot.forget(tell)


class ClientHttp:
    """A `ports.Http` over a Client. *on_refused* is told position and reason of refused records.

    Bodies count for *memory*, or for the Client's; those of a login for none.
    """

    def __init__(
        self,
        client: Receiver,
        *,
        on_refused: Refused | None = None,
        slot: Slot | None = None,
        log_in: bool = True,
        memory: Memory | None = None,
    ) -> None:
        self._client = client
        counting = (memory or client.memory) if log_in else None
        # Only lists are held for long: what loaders ask for is given back before they go on.
        self._holder = Holder(counting, id(client.source) if memory is None else None)
        self._on_refused = on_refused
        self._slot = slot
        self._log_in = log_in

    def url(self, path: str, *segments: int | str) -> str:
        return self._client.resolve(fill(path, *segments))

    async def get_bytes(
        self,
        url: str,
        *,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        with self._holder.hold() as hold:
            return await self._ask(self._client.resolve(url, params), headers, hold)

    async def get_json(
        self,
        url: str,
        *,
        params: Mapping[str, Any] | None = None,
        type: Any = None,  # noqa: A002  # the port's own term
    ) -> Any:
        address = self._client.resolve(url, params)
        with self._holder.hold() as hold, self._cleaning():
            body = await self._ask(address, None, hold)
            return read_json(body, Any if type is None else type, url=masked(address))

    async def get_json_items(
        self,
        url: str,
        *,
        params: Mapping[str, Any] | None = None,
        key: str | None = None,
        type: Any = None,  # noqa: A002
    ) -> AsyncIterator[Any]:
        address = self._client.resolve(url, params)
        with self._holder.hold() as hold:  # until its last entry is used
            body = await self._ask(address, None, hold)
            decoder = msgspec.json.Decoder(Any if type is None else type)
            position = count()
            pages = read_entries(body, key, url=masked(address))
            while (page := self._next(pages)) is not None:
                for entry in page:
                    at = next(position)
                    try:
                        record = read_entry(entry, decoder)
                    except RecordError as exc:
                        self._refuse(at, f"entry {at} of {masked(address)}: {exc}")
                    else:
                        yield record
                await checkpoint()  # a long list must not hold up everything else

    def refuse(self, reason: str) -> None:
        self._refuse(None, reason)

    def _next(self, pages: Iterator[Sequence[Entry]]) -> Sequence[Entry] | None:
        with self._cleaning():
            return next(pages, None)

    @contextmanager
    def _cleaning(self) -> Iterator[None]:
        """What is wrong with a body may be told with words of it, and the Source's secrets."""
        try:
            yield
        except IngestifyError as exc:
            self._client.redactor.clean(exc)
            raise

    def _refuse(self, position: int | None, reason: str) -> None:
        reason = self._client.redactor.redact(reason)
        if self._on_refused is None:
            _log.warning("record refused: %s", reason)
        else:
            self._on_refused(position, reason)

    async def _ask(self, address: str, headers: Mapping[str, str] | None, hold: Hold) -> bytes:
        read = partial(self._read, hold=hold)
        return cast(bytes, await self._receive(address, headers, None, read, hold))

    async def _receive(
        self,
        address: str,
        headers: Mapping[str, str] | None,
        conditional: Conditional | None,
        consume: Callable[[Answer], Awaitable[bytes]],
        hold: Hold,
    ) -> bytes | NotModified:
        """What *consume* makes of the answer. Where its body finds no room in memory, the
        exchange is given up, and asked for again once there is."""
        while True:
            try:
                return await self._client.receive(
                    address,
                    consume=consume,
                    conditional=conditional,
                    options=HttpOptions(max_body_bytes=self._client.settings.max_list_bytes),
                    headers=headers,
                    slot=_Waiting(self._slot, hold, self._client),
                    log_in=self._log_in,
                )
            except _NoRoomError as exc:
                size = exc.size
            await hold.take(size)

    async def _read(self, answer: Answer, *, hold: Hold) -> bytes:
        """The decoded body of *answer*, which the Source has looked at."""
        try:
            return await self._read_into(hold, answer)
        except BaseException:
            hold.release()  # it may be long until the next attempt
            raise

    async def _read_into(self, hold: Hold, answer: Answer) -> bytes:
        most = self._client.settings.max_list_bytes
        announced = None if answer.coding else answer.length
        expected = most if announced is None else min(announced, most)
        if announced is not None:
            _make_room(hold, announced)
        raw = BytesIO()
        async for chunk in answer.chunks():
            if raw.tell() + len(chunk) > SMALL:
                _make_room(hold, expected)
            raw.write(chunk)
        body = raw.getvalue()  # not a copy
        if answer.coding:
            body = await self._decode(body, answer.coding, hold)
        elif len(body) > most:
            raise InvalidBodyError(f"the body is {too_large(most)}")
        hold.shrink(len(body))
        answer.check(body)
        return body

    async def _decode(self, raw: bytes, coding: str, hold: Hold) -> bytes:
        """*raw* without its *coding*. How large it will be shows at the end of gzip, mostly."""
        most = self._client.settings.max_list_bytes
        told = int.from_bytes(raw[-4:], "little") if coding == "gzip" else 0
        likely = min(most, max(SMALL, told))
        _make_room(hold, likely)
        try:
            return await _decoded(raw, coding, likely)
        except TooLargeError:
            if likely == most:
                raise
        _make_room(hold, most)
        return await _decoded(raw, coding, most)


def _make_room(hold: Hold, size: int) -> None:
    if not hold.try_take(size):
        raise _NoRoomError(size)


async def _decoded(raw: bytes, coding: str, most: int) -> bytes:
    if len(raw) > INLINE:
        return await anyio.to_thread.run_sync(decode_body, raw, coding, most)
    return decode_body(raw, coding, most)


class ListHttp(ClientHttp):
    """A `ports.Http` for `discover_datasets`, which may learn that its list has not changed.

    With *validators*, the first request is conditional if it asks for the very address that they
    came from. A 304 then raises `ListNotModified` through the Source's generator.
    """

    def __init__(
        self,
        client: Receiver,
        *,
        on_refused: Refused | None = None,
        validators: ListValidators | None = None,
        slot: Slot | None = None,
    ) -> None:
        super().__init__(client, on_refused=on_refused, slot=slot)
        self.requests_made = 0  # lists asked for; retries do not count
        self.validators: ListValidators | None = None  # of the first answer, if it had some
        self.is_unchanged = False  # a 304 has ended, or should have ended, the Source's generator
        self._known = validators

    async def _ask(self, address: str, headers: Mapping[str, str] | None, hold: Hold) -> bytes:
        self.requests_made += 1
        # An answer may depend on the headers that a Source adds, and they are not remembered.
        if self.requests_made > 1 or headers:
            return await super()._ask(address, headers, hold)
        known = self._known
        conditional: Conditional | None = None
        if known is not None and known.url == address:
            conditional = known.etag, known.last_modified

        async def read(answer: Answer) -> bytes:
            body = await self._read(answer, hold=hold)
            holds = self._client.redactor.holds_credential
            etag, last_modified = (
                said if said and not holds(said) else None
                for said in (answer.etag, answer.last_modified)
            )
            if (etag or last_modified) and not holds(address):
                self.validators = ListValidators(
                    url=address, etag=etag, last_modified=last_modified
                )
            return body

        body = await self._receive(address, None, conditional, read, hold)
        if isinstance(body, NotModified):
            self.validators = known
            self.is_unchanged = True
            raise ListNotModified(f"{masked(address)} has not changed")
        return body
