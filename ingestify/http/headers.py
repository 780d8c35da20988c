"""The headers of a request: ours, the Source's, the credentials, and what strangers may see."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import metadata

from ingestify.errors import UnsafeTargetError
from ingestify.http.codings import ACCEPTED
from ingestify.model.addresses import CONTROL

OURS = frozenset(  # they decide how bodies travel, or whether they do
    {
        "accept-encoding",
        "connection",
        "content-length",
        "host",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-range",
        "if-unmodified-since",
        "range",
        "te",
        "transfer-encoding",
    }
)
KEPT = ("etag", "last-modified", "content-type")  # of answers
HARMLESS = frozenset({"accept", "accept-language"})  # may go to origins that are not the Source's


def checked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """*headers* as a Source may add them, names in lower case.

    Raises:
        UnsafeTargetError: one of them is not a Source's to set, or would not stay one line.
    """
    checked = {}
    for name, value in headers.items():
        if name.lower() in OURS:
            raise UnsafeTargetError(f"the header {name!r} is set by ingestify alone")
        if not _is_token(name) or CONTROL.search(value) or not _is_latin(value):
            raise UnsafeTargetError(f"the header {name[:50]!a} cannot be sent with this value")
        checked[name.lower()] = value
    return checked


def conditional_headers(etag: str | None, last_modified: str | None) -> dict[str, str]:
    """What asks for an answer only if it is no longer the one with these validators."""
    headers = {}
    if etag and not CONTROL.search(etag) and _is_latin(etag):
        headers["if-none-match"] = etag
    if last_modified and last_modified.isascii() and not CONTROL.search(last_modified):
        headers["if-modified-since"] = last_modified
    return headers


def without_illegible(headers: Mapping[str, str]) -> Mapping[str, str]:
    """*headers* without those of `KEPT` that are not Unicode: they cannot be kept or sent back."""
    odd = [name for name in KEPT if not _is_unicode(headers.get(name, ""))]
    return {k: v for k, v in headers.items() if k not in odd} if odd else headers


def own_headers(user_agent: str | None) -> dict[str, str]:
    """What is sent with every request."""
    return {
        "accept": "*/*",
        "accept-encoding": ACCEPTED,
        "user-agent": user_agent or default_user_agent(),
    }


@cache
def default_user_agent() -> str:
    """ingestify and its version."""
    try:
        return f"ingestify/{metadata.version('ingestify')}"
    except metadata.PackageNotFoundError:
        return "ingestify"


def _is_token(name: str) -> bool:
    return name.isascii() and bool(name) and name.replace("-", "").replace("_", "").isalnum()


def _is_latin(value: str) -> bool:
    return value.isascii() or all(ord(character) < 256 for character in value)


def _is_unicode(value: str) -> bool:
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:  # bytes that are not UTF-8 are read as lone surrogates
        return False
    return True
