"""Connections that are kept for the next request, unless their server has spoken unasked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp

if TYPE_CHECKING:
    from aiohttp.client_reqrep import ConnectionKey
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace


class CarefulConnector(aiohttp.TCPConnector):
    """Uses no connection again on which something has come since its last answer.

    aiohttp looks for that when an answer ends, not when the next request begins; in between a
    second answer, or what a body was longer than announced by, becomes the answer to a question
    that nobody has asked yet. There is no public way to look again.
    """

    async def _get(self, key: ConnectionKey, traces: list[Trace]) -> Connection | None:
        while (connection := await super()._get(key, traces)) is not None:
            if connection.protocol is not None and not connection.protocol.should_close:
                break
            connection.close()
        return connection
