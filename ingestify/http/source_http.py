"""What a Source calls `http`: its provider, asked relative to its base URL."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, TypeAlias, TypeVar, cast

import anyio.to_thread
import msgspec
from anyio.lowlevel import checkpoint

from ingestify.errors import IngestifyError, RecordError
from ingestify.http.codings import decode_body
from ingestify.http.exchange import Answer
from ingestify.http.json_lists import read_entries, read_entry, read_json
from ingestify.model.addresses import fill, masked
from ingestify.model.catalog import ListValidators
from ingestify.model.http import HttpSettings
from ingestify.model.resource import HttpOptions, NotModified
from ingestify.redaction import Redactor
from ingestify.throttle import Slot

T = TypeVar("T")

INLINE = 1024 * 1024  # bytes; what is larger is decoded in a thread
PAGE = 500  # entries after which others get their turn

Conditional: TypeAlias = tuple[str | None, str | None]
"""ETag and Last-Modified of what we have, as the provider sent them."""
Refused: TypeAlias = Callable[[int | None, str], None]

_log = logging.getLogger("ingestify.client")


class ListNotModified(IngestifyError):
    """The list that a Source asks for is the one we have seen. Ends its generator."""

    code = "not modified"


class Receiver(Protocol):
    """The part of `Client` that is needed here."""

    settings: HttpSettings
    redactor: Redactor

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


class ClientHttp:
    """A `ports.Http` over a Client. *on_refused* is told position and reason of refused records."""

    def __init__(
        self,
        client: Receiver,
        *,
        on_refused: Refused | None = None,
        slot: Slot | None = None,
        log_in: bool = True,
    ) -> None:
        self._client = client
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
        return await self._ask(self._client.resolve(url, params), headers)

    async def get_json(
        self,
        url: str,
        *,
        params: Mapping[str, Any] | None = None,
        type: Any = None,  # noqa: A002  # the port's own term
    ) -> Any:
        address = self._client.resolve(url, params)
        body = await self._ask(address, None)
        with self._cleaning():
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
        body = await self._ask(address, None)
        with self._cleaning():
            entries = read_entries(body, key, url=masked(address))
        decoder = msgspec.json.Decoder(Any if type is None else type)
        for position, entry in enumerate(entries):
            if position % PAGE == PAGE - 1:
                await checkpoint()  # a long list must not hold up everything else
            try:
                record = read_entry(entry, decoder)
            except RecordError as exc:
                self._refuse(position, f"entry {position} of {masked(address)}: {exc}")
            else:
                yield record

    def refuse(self, reason: str) -> None:
        self._refuse(None, reason)

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

    async def _ask(self, address: str, headers: Mapping[str, str] | None) -> bytes:
        return cast(bytes, await self._receive(address, headers, None, self._read))

    async def _receive(
        self,
        address: str,
        headers: Mapping[str, str] | None,
        conditional: Conditional | None,
        consume: Callable[[Answer], Awaitable[bytes]],
    ) -> bytes | NotModified:
        return await self._client.receive(
            address,
            consume=consume,
            conditional=conditional,
            options=HttpOptions(max_body_bytes=self._client.settings.max_list_bytes),
            headers=headers,
            slot=self._slot,
            log_in=self._log_in,
        )

    async def _read(self, answer: Answer) -> bytes:
        """The decoded body of *answer*, which the Source has looked at."""
        raw = b"".join([chunk async for chunk in answer.chunks()])
        most = self._client.settings.max_list_bytes
        if answer.coding and len(raw) > INLINE:
            body = await anyio.to_thread.run_sync(decode_body, raw, answer.coding, most)
        else:
            body = decode_body(raw, answer.coding, most)
        answer.check(body)
        return body


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

    async def _ask(self, address: str, headers: Mapping[str, str] | None) -> bytes:
        self.requests_made += 1
        # An answer may depend on the headers that a Source adds, and they are not remembered.
        if self.requests_made > 1 or headers:
            return await super()._ask(address, headers)
        known = self._known
        conditional: Conditional | None = None
        if known is not None and known.url == address:
            conditional = known.etag, known.last_modified

        async def read(answer: Answer) -> bytes:
            body = await self._read(answer)
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

        body = await self._receive(address, None, conditional, read)
        if isinstance(body, NotModified):
            self.validators = known
            self.is_unchanged = True
            raise ListNotModified(f"{masked(address)} has not changed")
        return body
