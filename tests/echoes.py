"""A provider that repeats the credentials that it is given, in all that it answers.

And the Source that asks it: given its credential in one of several `WAYS`, it meets one Dataset for
each kind of answer in `FILES`, and one Selector for each in `LISTS`. A credential is a text with a
mark at both ends and, between them, what is written differently in every encoding.
"""

from __future__ import annotations

import html
import json
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import quote, quote_plus

import anyio
from aiohttp import web

import ingestify
from ingestify.testing import FolderWorld, ProviderSimulator, reset_connection

MARK = "canary-"
SECRET = MARK + "4f/\"ö'+&=% \\;~" + MARK + "e7"
PLAIN_SECRET = MARK + "4f/'+&=%:~" + MARK + "e7"  # what may stand in a header: ASCII, one word
TOKEN = MARK + "fresh/+=" + MARK + "token"  # what a login answers; no configuration holds it

WAYS = (
    *("basic", "bearer", "header", "cookie", "query", "login"),
    *("base_url", "proxy", "file_url", "file_query"),
)
CONFIGURED_ONLY = {"login", "file_url", "file_query"}  # else nobody knows that it is a credential

LISTS = ("good", "refused", "failing", "html", "cut", "null", "away", "typed", "raising", "told")
FILES = (
    *("stored", "verbatim", "status_401", "status_403", "status_404", "status_500", "status_418"),
    *("away", "home", "userinfo", "no_address", "reset", "hanging", "html", "cut", "excuse"),
    *("wrong_url", "elsewhere", "raising", "foreign"),
)


def secret_for(way: str) -> str:
    """What a test gives as the credential."""
    return PLAIN_SECRET if way in ("header", "cookie", "bearer") else SECRET


def forms_of(secret: str) -> Iterator[str]:
    """*secret* as it may be met on the way."""
    for text in (quote(secret), quote(secret, safe=""), quote_plus(secret)):
        yield text
        yield quote(text, safe="")
        yield "".join(
            part if at % 2 == 0 else "%" + part[:2].lower() + part[2:]
            for at, part in enumerate(_with_escapes(text))
        )
    yield from (secret, repr(secret), json.dumps(secret), json.dumps(secret, ensure_ascii=False))
    yield from (html.escape(secret), b64encode(secret.encode()).decode())
    yield b64encode(f"me:{secret}".encode()).decode()


def _with_escapes(text: str) -> Iterator[str]:
    first, *rest = text.split("%")
    yield first
    for each in rest:
        yield each
        yield ""


class EchoWorld(FolderWorld):
    """What `EchoSource` finds where the provider is honest."""

    def get(self, path: str) -> Any:
        if path.startswith(("data/", "list-")) and super().get(path) is None:
            self.put(path, b'{"honest": true}')
        return super().get(path)


@dataclass(frozen=True, slots=True)
class Echo:
    """Scripts a provider to repeat *secrets*."""

    secrets: tuple[str, ...]

    @property
    def text(self) -> str:
        """All forms of the credentials, on one line."""
        return " | ".join(form for secret in self.secrets for form in forms_of(secret))

    @property
    def link(self) -> str:
        """The first of them as a part of an address."""
        return quote(self.secrets[0], safe="")

    @property
    def headers(self) -> dict[str, str]:
        """What comes with every answer."""
        text = self.text.encode("ascii", "backslashreplace").decode()
        link = self.link
        return {
            "ETag": f'"{text}"',
            "Last-Modified": text,
            "Link": f'<https://other.example/{link}?key={link}>; rel="next"',
            "Set-Cookie": f"session={text}",
            "WWW-Authenticate": f'Basic realm="{text}"',
            "Content-Disposition": f"attachment; filename={link}",
            "Retry-After-Note": text,
        }

    def answer(self, status: int, body: str = "", **headers: str) -> Any:
        """An answer that repeats the credentials in its reason, its headers and its body."""

        async def behave(request: web.BaseRequest, serve: Any) -> web.StreamResponse:
            reason = self.text.encode("ascii", "backslashreplace").decode()
            return web.Response(
                status=status,
                reason=reason,
                headers={**self.headers, "Content-Type": f"application/json; x={quote(reason)}"}
                | headers,
                body=(body or json.dumps({"error": self.text})).encode(),
            )

        return behave

    def script(self, provider: ProviderSimulator) -> None:
        """Let *provider* answer as the names of `LISTS` and `FILES` say."""
        link = self.link
        page = f"<html>{self.text}</html>"
        never = anyio.Event()

        async def hang(request: web.BaseRequest, serve: Any) -> web.StreamResponse:
            await never.wait()
            return await serve()

        away = f"https://other.example/{link}?key={link}"
        answers = {
            "selectors.json": self.answer(200, json.dumps([{"list": name} for name in LISTS])),
            "login.json": self.answer(200, json.dumps({"token": TOKEN})),
            "list-good*": self.answer(200, json.dumps(self.entries())),
            "list-refused*": self.answer(401),
            "list-failing*": self.answer(500),
            "list-html*": self.answer(200, page),
            "list-cut*": self.answer(200, json.dumps([self.text])[:-3]),
            "list-null*": self.answer(200, json.dumps([None, self.text, {"id": [self.text]}])),
            "list-away*": self.answer(302, Location=away),
            "list-typed*": self.answer(200, json.dumps({self.text: 1})),
            "data/stored*": self.answer(200, '{"stored": true}'),
            "data/verbatim*": self.answer(200, json.dumps({"key": self.text})),
            **{f"data/status_{code}*": self.answer(code) for code in (401, 403, 404, 418, 500)},
            "data/away*": self.answer(302, Location=away),
            "data/home*": self.answer(302, Location=f"/data/gone-{link}?key={link}"),
            "data/gone*": self.answer(404),
            "data/userinfo*": self.answer(302, Location=f"http://me:{link}@127.0.0.1/"),
            "data/no_address*": self.answer(302, Location=f"http://[{link}/x y"),
            "data/reset*": reset_connection,
            "data/hanging*": hang,
            "data/html*": self.answer(200, page),
            "data/cut*": self.answer(200, json.dumps({"key": self.text})[:-3]),
            "data/excuse*": self.answer(200, json.dumps({"excuse": self.text})),
        }
        for glob, behaviour in answers.items():
            provider.script(glob, behaviour)

    def entries(self) -> list[dict[str, Any]]:
        """A list with what a Source needs, and what it cannot use."""
        about = {"name": self.text, "about": {self.text: [self.text]}}
        return [
            *({"id": name, "file": name, **about} for name in FILES),
            {"id": self.text, "file": "stored", **about},
            {"id": {"key": self.text}, "file": "stored", **about},
            {"id": "twice", "file": self.text, **about},
        ]


class EchoSource(ingestify.Source):
    """Asks a provider that repeats credentials, and is not careful with its own errors."""

    provider = "echo"
    data_spec_versions = {"thing": {"data": "v1"}}  # noqa: RUF012  # as a connector writes it

    def __init__(
        self,
        name: str,
        *,
        base_url: str,
        way: str,
        secret: str,
        proxy: str | None = None,
        gives_up: bool = False,
    ) -> None:
        self.way, self.secret, self.gives_up = way, secret, gives_up
        self.told = f"{secret} and {TOKEN}" if way == "login" else secret
        self.caught: list[Exception] = []
        hidden = ingestify.Secret(secret)
        auths: dict[str, Callable[[], Any]] = {
            "basic": lambda: ingestify.BasicAuth("me", hidden),
            "bearer": lambda: ingestify.BearerAuth(hidden),
            "header": lambda: ingestify.HeaderAuth("X-Api-Key", hidden),
            "cookie": lambda: ingestify.HeaderAuth(
                "Cookie", ingestify.Secret(f"theme=dark; session={secret}")
            ),
            "query": lambda: ingestify.QueryAuth("api_key", hidden),
        }
        userinfo = f"//me:{quote(secret, safe='')}@"
        settings = ingestify.HttpSettings(
            attempts=1,
            retry_budget=timedelta(seconds=1),
            first_byte_timeout=timedelta(seconds=0.2),
            connect_timeout=timedelta(seconds=0.3),
            proxy=proxy and proxy.replace("//", userinfo, 1),
        )
        if way not in WAYS:
            raise ingestify.ConfigError(f"no way to use {secret} is called {way}")
        super().__init__(
            name,
            auth=auths[way]() if way in auths else None,
            base_url=base_url.replace("//", userinfo, 1) if way == "base_url" else base_url,
            http_settings=settings,
        )

    async def login(self, http: ingestify.Http) -> Any:
        if self.way != "login":
            return None
        answer = await http.get_json("login.json", params={"password": self.secret})
        return ingestify.BearerAuth(ingestify.Secret(answer["token"]))

    async def discover_selectors(
        self, dataset_type: str, *, http: ingestify.Http
    ) -> AsyncIterator[ingestify.Selector]:
        if self.gives_up:
            raise ingestify.FatalError(f"no {self.secret}") from KeyError(self.secret)
        for each in await http.get_json("selectors.json"):
            yield ingestify.Selector(each, name=f"{each['list']} of {self.secret}")

    async def discover_datasets(
        self,
        dataset_type: str,
        selector: ingestify.Selector,
        *,
        data_spec_versions: ingestify.DataSpecVersions,
        state: dict[str, Any],
        http: ingestify.Http,
    ) -> AsyncIterator[ingestify.DatasetResource]:
        path = f"list-{selector['list']}.json"
        if selector["list"] == "raising":
            raise RuntimeError(f"no list with {self.told}, and {self.told!r}")
        if selector["list"] == "typed":
            await self._catch(http.get_json(path, type=dict[int, int]))
            return
        if selector["list"] == "told":
            http.refuse(f"a record with {self.told}")
            return
        try:
            async for each in http.get_json_items(path, params={"page": 1}):
                yield self._resource(each, http)
        except Exception as exc:
            self.caught.append(exc)
            raise

    async def _catch(self, asking: Any) -> None:
        try:
            await asking
        except Exception as exc:
            self.caught.append(exc)
            raise

    def _resource(self, each: Any, http: ingestify.Http) -> ingestify.DatasetResource:
        resource = ingestify.DatasetResource(
            dataset_resource_id={"id": each["id"]}, name=each["name"], metadata=each["about"]
        )
        file, base = each["file"], self.base_url.rpartition("@")[2]
        url = f"data/{file}.json"
        if file == "wrong_url":
            url = f"data\\{self.secret}"
        elif file == "elsewhere":
            url = f"https://other.example/{quote(self.secret)}"
        elif self.way == "file_url":
            url = f"http://me:{quote(self.secret, safe='')}@{base.removeprefix('http://')}{url}"
        elif self.way == "file_query":
            url += f"?key={quote(self.secret, safe='')}"
        return resource.add_file("data", "v1", url=url, token=each["name"])

    async def fetch_dataset_files(
        self, resource: ingestify.DatasetResource, stored: Any, *, http: ingestify.Http
    ) -> AsyncIterator[ingestify.FileResource]:
        name = resource.dataset_resource_id["id"]
        if name == "raising":
            raise RuntimeError(f"{self.told} was refused")
        if name == "foreign":
            raise ExceptionGroup(
                f"no {self.told}", [KeyError(self.secret), UnicodeError(self.told)]
            ) from ValueError(self.secret, {"key": self.told})
        for file in resource.files:
            yield file

    def check_answer(self, status: int, headers: Any, head: bytes) -> None:
        if head.startswith(b'{"excuse"'):
            raise ingestify.FetchError(f"the provider says {json.loads(head)['excuse']}")
