"""A provider that leads elsewhere: to strangers, who must not learn who asks."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web
from lying import CANARY, ELSEWHERE, GOOD, LIED, Job, Told

from ingestify.model.http import (
    Auth,
    BasicAuth,
    BearerAuth,
    HeaderAuth,
    Limits,
    QueryAuth,
    Secret,
)
from ingestify.testing import FolderWorld, ProviderSimulator
from ingestify.testing.behaviours import Serve
from ingestify.testing.lies import redirect

FILE = f"data/{LIED}-v1.json"
OTHERS = (*GOOD, *ELSEWHERE)
BODY = b'{"from": "a stranger"}'
SECRET = Secret(f"{CANARY}-given")
CREDENTIALS: dict[str, Auth] = {
    "basic": BasicAuth("user", SECRET),
    "bearer": BearerAuth(SECRET),
    "a header": HeaderAuth("X-Api-Key", SECRET),
    "a cookie": HeaderAuth("Cookie", SECRET),
    "a parameter": QueryAuth("api_token", SECRET),
}
SENT = {"accept", "accept-encoding", "host", "user-agent"}  # what a stranger may be told


@dataclass(kw_only=True)
class Stranger:
    """A server of somebody else, and every word it has been told."""

    provider: ProviderSimulator
    told: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"{self.provider.base_url}x.json"

    async def listen(self, request: web.BaseRequest, serve: Serve) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.told.append((request.path_qs, headers))
        return await serve()


@pytest.fixture
async def stranger(tmp_path: Path) -> AsyncIterator[Stranger]:
    """Has a good file for everybody, and sets cookies."""
    (tmp_path / "stranger").mkdir()
    world = FolderWorld(tmp_path / "stranger", overrides={"x.json": BODY})
    async with ProviderSimulator(world) as provider:
        stranger = Stranger(provider=provider)
        provider.script("*", stranger.listen)
        yield stranger


def assert_refused(job: Job, told: Told, *said: str) -> None:
    """The file alone has failed, as one whose address leads where it may not."""
    assert told.stored == job.honest(*OTHERS)
    assert told.summary.exit_code == 1
    (failure,) = told.failures
    assert (failure.code, failure.name) == ("unsafe target", "thing 3")
    assert f"{job.provider.base_url}{FILE}" in failure.message
    assert all(text in failure.message for text in said)


async def heals(job: Job) -> bool:
    job.provider.heal()
    healed = await job.run()
    return healed.asked == [FILE] and healed.stored == job.honest(LIED, *OTHERS)


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
async def test_a_redirect_to_a_stranger(code: int, job: Job, stranger: Stranger) -> None:
    """
    It is not followed: the stranger is told nothing at all, the user which setting would allow it.
    """
    job.provider.script(FILE, redirect(stranger.url, code=code))
    told = await job.run()

    assert stranger.told == []
    assert_refused(job, told, "which is not among the redirect_hosts")
    assert await heals(job)


@pytest.mark.parametrize("kind", CREDENTIALS)
async def test_a_redirect_to_a_stranger_who_is_allowed(
    kind: str, job: Job, stranger: Stranger
) -> None:
    """
    The file comes from there, and the stranger learns no credential of any kind, not even the one
    in the base URL; the provider itself is told on every request.
    """
    job.auth = CREDENTIALS[kind]
    job.provider.script(FILE, redirect(stranger.url))
    told = await job.run(redirect_hosts=frozenset({"127.0.0.1"}))

    assert told.stored == {**job.honest(*OTHERS), LIED: BODY}
    assert told.failures == []
    ((path, headers),) = stranger.told
    assert path == "/x.json"
    assert set(headers) <= SENT
    assert CANARY not in json.dumps(stranger.told)


@pytest.mark.parametrize("where", ["/x.json?api_token={}", "/{}/x.json", "/x.json?t={}#top"])
async def test_a_redirect_that_repeats_a_credential(
    where: str, job: Job, stranger: Stranger
) -> None:
    """
    A provider that writes the credential into the address of an allowed stranger is not followed;
    the file comes as soon as it does so no more.
    """
    location = stranger.provider.base_url.rstrip("/") + where.format(f"{CANARY}-token")
    job.provider.script(FILE, redirect(location))
    told = await job.run(redirect_hosts=frozenset({"127.0.0.1"}))

    assert stranger.told == []
    assert_refused(job, told, "the credentials")
    assert await heals(job)
    assert stranger.told == []


async def test_a_cookie_is_not_kept(job: Job, stranger: Stranger) -> None:
    """
    What a provider sets as a cookie is sent back to nobody.
    """

    async def with_cookie(request: web.BaseRequest, serve: Serve) -> web.StreamResponse:
        assert "planted" not in request.headers.get("Cookie", "")
        response = await serve()
        response.headers["Set-Cookie"] = "planted=1; Path=/"
        return response

    job.limits = Limits(concurrency=1)
    job.provider.script("*", with_cookie)
    job.provider.script(FILE, redirect(stranger.url))
    told = await job.run(redirect_hosts=frozenset({"127.0.0.1"}))

    assert told.failures == []
    assert "cookie" not in stranger.told[0][1]


PLACES = {
    "a file": ("file:///etc/passwd", "only http and https can be asked"),
    "javascript": ("javascript:alert(1)", "redirects"),
    "data": ("data:application/json,[1]", "redirects"),
    "ftp": ("ftp://127.0.0.1/x.json", "only http and https can be asked"),
    "a private address": ("http://10.0.0.1/x.json", "not among the redirect_hosts"),
    "the metadata of a cloud": ("http://169.254.169.254/latest/", "not among the redirect_hosts"),
    "the other loopback": ("http://[::1]/x.json", "not among the redirect_hosts"),
    "no scheme": ("//stranger.invalid/x.json", "not among the redirect_hosts"),
    "credentials": ("http://user:password@127.0.0.1/x.json", "must not hold credentials"),
    "a backslash": ("http:\\\\stranger.invalid\\x.json", "redirects"),
    "an address of an integer": ("http://2130706433/x.json", "not among the redirect_hosts"),
    "a port that is none": ("http://127.0.0.1:99999/x.json", "redirects"),
}


@pytest.mark.parametrize("place", PLACES)
async def test_a_redirect_to(place: str, job: Job) -> None:
    """
    Nothing is sent there; the file alone fails, and says where it was led.
    """
    location, said = PLACES[place]
    job.provider.script(FILE, redirect(location))
    told = await job.run()

    assert_refused(job, told, said)
    assert await heals(job)


async def test_where_private_addresses_are_refused_nothing_is_sent_to_one(job: Job) -> None:
    """
    That holds for the Source's own address, too: it is told once, and nobody is asked.
    """
    told = await job.run(refuse_private_addresses=True)

    assert job.provider.requests == []
    assert told.summary.exit_code == 1
    (failure,) = told.failures
    assert failure.code == "unsafe target"
    assert "127.0.0.1 has the address 127.0.0.1, which is not public" in failure.message
    healed = await job.run()
    assert healed.stored == job.honest(LIED, *OTHERS)
    assert healed.failures == []
