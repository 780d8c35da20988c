"""The honest answer to a request: validators, 304, and the encoding that the client accepts."""

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime

from aiohttp import hdrs, web

from ingestify.testing.worlds import Resource


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerForm:
    """What a provider's server can do."""

    gzip: bool = True
    etag: bool = True
    last_modified: bool = True

    def answer(self, request: web.BaseRequest, resource: Resource) -> web.Response:
        headers = self._validators(resource)
        if self.gzip:
            headers["Vary"] = "Accept-Encoding"
        if self._is_unchanged(request, resource):
            return web.Response(status=304, headers=headers)
        headers["Content-Type"] = resource.content_type
        if self.gzip and accepts_gzip(request.headers.get(hdrs.ACCEPT_ENCODING, "")):
            headers["Content-Encoding"] = "gzip"
            return web.Response(body=resource.gzipped, headers=headers)
        return web.Response(body=resource.body, headers=headers)

    def _validators(self, resource: Resource) -> dict[str, str]:
        headers = {}
        if self.etag:
            headers["ETag"] = resource.etag
        if self.last_modified:
            modified = resource.last_modified.astimezone(UTC)
            headers["Last-Modified"] = format_datetime(modified, usegmt=True)
        return headers

    def _is_unchanged(self, request: web.BaseRequest, resource: Resource) -> bool:
        tags = request.headers.get(hdrs.IF_NONE_MATCH)
        if self.etag and tags is not None:
            named = {tag.strip().removeprefix("W/") for tag in tags.split(",")}
            return resource.etag in named or "*" in named
        since = request.headers.get(hdrs.IF_MODIFIED_SINCE)
        if self.last_modified and since is not None:
            # The very date, not a later one: a file may be replaced by one with an older date.
            return _parse_http_date(since) == resource.last_modified.replace(microsecond=0)
        return False


def accepts_gzip(accept_encoding: str) -> bool:
    """Whether an Accept-Encoding header admits gzip, by name or by `*`, with a weight above 0."""
    weights = {}
    for part in accept_encoding.lower().split(","):
        name, _, parameter = part.partition(";")
        weights[name.strip()] = parameter.replace(" ", "").removeprefix("q=") or "1"
    weight = weights.get("gzip", weights.get("x-gzip", weights.get("*", "0")))
    try:
        return float(weight) > 0
    except ValueError:
        return False


def _parse_http_date(text: str) -> datetime | None:
    try:
        return parsedate_to_datetime(text)
    except ValueError:
        return None
