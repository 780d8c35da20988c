"""The record of what a simulated provider was asked, and what it answered."""

import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

RECORDED_HEADERS = (
    "accept-encoding",
    "authorization",
    "if-modified-since",
    "if-none-match",
    "user-agent",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRecord:
    """One request, written down when its answer is ready to be sent."""

    method: str
    path: str  # below the base path, without a leading slash
    query: str
    status: int  # 0: no answer, because of a reset, or because the client left first
    sent_bytes: int  # of the body, as encoded; with the head where a script wrote it itself
    is_conditional: bool
    headers: Mapping[str, str]  # names in lower case, only RECORDED_HEADERS
    started: float  # seconds of the monotonic clock
    ended: float
    in_flight: int  # when it arrived, itself included


class Ledger:
    """Counts every request, and remembers the latest ones."""

    def __init__(self, remember: int) -> None:
        self.records: deque[RequestRecord] = deque(maxlen=remember)
        self.forget(in_flight=0)

    def forget(self, *, in_flight: int) -> None:
        self.records.clear()
        self.most_in_flight = in_flight
        self._by_status: Counter[int] = Counter()
        self._by_folder: Counter[str] = Counter()
        self._conditional = 0
        self._sent_bytes = 0

    def arrived(self, in_flight: int) -> None:
        self.most_in_flight = max(self.most_in_flight, in_flight)

    def answered(self, record: RequestRecord) -> None:
        self.records.append(record)
        self._by_status[record.status] += 1
        self._by_folder[record.path.rpartition("/")[0].partition("/")[0]] += 1
        self._conditional += record.is_conditional
        self._sent_bytes += record.sent_bytes

    def stats(self) -> dict[str, Any]:
        """All counts, as can be written as JSON; folders are the top ones."""
        return {
            "requests": self._by_status.total(),
            "by_status": {str(code): n for code, n in sorted(self._by_status.items())},
            "by_folder": dict(sorted(self._by_folder.items())),
            "conditional": self._conditional,
            "sent_bytes": self._sent_bytes,
            "most_in_flight": self.most_in_flight,
        }


def record_of(
    request: web.BaseRequest,
    path: str,
    response: web.StreamResponse | None,
    started: float,
    in_flight: int,
) -> RequestRecord:
    """The record of *request* for *path*, answered at this moment; without a *response*, not."""
    headers = {name: value for name in RECORDED_HEADERS if (value := request.headers.get(name))}
    return RequestRecord(
        method=request.method,
        path=path,
        query=request.query_string,
        status=0 if response is None else response.status,
        sent_bytes=_size_of(response),
        is_conditional="if-none-match" in headers or "if-modified-since" in headers,
        headers=headers,
        started=started,
        ended=time.monotonic(),
        in_flight=in_flight,
    )


def _size_of(response: web.StreamResponse | None) -> int:
    if isinstance(response, web.Response) and isinstance(response.body, bytes):
        return len(response.body)
    return 0 if response is None else response.body_length
