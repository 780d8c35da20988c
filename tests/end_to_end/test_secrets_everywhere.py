"""Credentials are in no output of a Run, however they are given and whatever the provider does.

The one exception: the provider's own bytes, answered with a good 200 and stored as the data.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import shutil
import socket
import sys
import traceback
from asyncio.subprocess import DEVNULL, PIPE, Process, create_subprocess_exec
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import echoes
import msgspec
import pytest
from canary import canaries_in, told_by
from echoes import (
    CONFIGURED_ONLY,
    FILES,
    LISTS,
    TOKEN,
    WAYS,
    Echo,
    EchoSource,
    EchoWorld,
    secret_for,
)

from ingestify.config import Config
from ingestify.engine import Engine
from ingestify.errors import ConfigError
from ingestify.model.http import (
    BasicAuth,
    BearerAuth,
    HeaderAuth,
    HttpSettings,
    QueryAuth,
    Request,
    Secret,
)
from ingestify.testing import ProviderSimulator

GOOD = {"stored", "verbatim"}


def assert_hidden(text: str, where: object) -> None:
    __tracebackhide__ = True
    assert not (found := canaries_in(text)), f"{where}: {found[0][:2000]}"


def assert_lake_hides(folder: Path) -> None:
    """No byte of the Catalog, no name of a file and no file, but for what is the data itself."""
    for file in folder.rglob("*"):
        assert_hidden(str(file.relative_to(folder)), "a file's name")
        if file.is_file() and "id=verbatim" not in str(file):
            assert_hidden(file.read_bytes().decode("latin-1"), file)


@asynccontextmanager
async def echoing(tmp_path: Path, way: str) -> AsyncIterator[ProviderSimulator]:
    """A provider that repeats what it is told in the given way."""
    (tmp_path / "provider").mkdir(exist_ok=True)
    async with ProviderSimulator(EchoWorld(tmp_path / "provider")) as provider:
        Echo((secret_for(way), *([TOKEN] if way == "login" else []))).script(provider)
        yield provider


def options_for(way: str, provider: ProviderSimulator) -> dict[str, Any]:
    """How an `EchoSource` is made."""
    options = {"way": way, "secret": secret_for(way), "base_url": provider.base_url}
    return {**options, "proxy": provider.base_url} if way == "proxy" else options


@pytest.fixture
def all_logged(caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    """All that was logged, at any level: as formatted, and as it was handed over."""
    caplog.set_level(logging.DEBUG)
    for name in ("aiohttp.client", "aiohttp.internal", "asyncio", "tenacity", "aiosqlite"):
        caplog.set_level(logging.DEBUG, logger=name)
    caplog.set_level(logging.CRITICAL, logger="aiohttp.access")  # the provider's own log

    def text() -> str:
        parts = [caplog.text]
        for record in caplog.records:
            parts += [record.getMessage(), repr(record.args), record.exc_text or ""]
            if record.exc_info and record.exc_info[1]:
                parts.append(told_by(record.exc_info[1]))
        return "\n".join(parts)

    return text


@pytest.mark.parametrize(
    ("way", "given"),
    [
        *((way, "configured") for way in WAYS),
        *((way, "in code") for way in WAYS if way not in CONFIGURED_ONLY),
    ],
)
async def test_a_run_shows_no_credential(
    make_config: Callable[..., Config],
    tmp_path: Path,
    all_logged: Callable[[], str],
    way: str,
    given: str,
) -> None:
    """
    A Run that meets every kind of failure tells of each, and nowhere holds a credential: not in its
    log, its errors, its summary, its events, any value's repr, the Catalog or the lake.
    """
    async with echoing(tmp_path, way) as provider:
        options = options_for(way, provider)
        plans = [{"source": "echo", "dataset_type": "thing"}]
        if given == "configured":
            written = {"type": "echoes.EchoSource", "configuration": options}
            config = make_config(sources={"echo": written}, ingestion_plans=plans)
            engine = Engine(config)
        else:
            config = make_config(
                sources={"echo": {"type": "echoes.EchoSource"}}, ingestion_plans=plans
            )
            engine = Engine(config, sources={"echo": EchoSource("echo", **options)})
        async with engine:
            summaries = [await engine.run() for _ in range(2 if given == "configured" else 1)]
            failures = await engine.catalog.failures()
            runs = await engine.catalog.runs()

    # Addresses of files with a user in them are refused, all of them.
    assert summaries[0].counters.stored == (0 if way == "file_url" else len(GOOD))
    assert len(summaries[0].failures) >= len(FILES) + len(LISTS) - len(GOOD) - 1
    for each in [*summaries, *failures, *runs]:
        assert_hidden(f"{each}{each!r}", type(each).__name__)
        assert_hidden(msgspec.json.encode(each).decode(), "JSON")
    assert_hidden(f"{config}{config!r}{engine}{engine!r}", "a repr")
    assert_hidden(all_logged(), "the log")
    assert_lake_hides(tmp_path / "lake")


@pytest.mark.parametrize("failure", ["401", "500", "html", "away", "refused", "wrong", "fatal"])
@pytest.mark.parametrize("way", ["base_url", "query", "login", "proxy"])
async def test_a_run_that_cannot_begin_shows_no_credential(
    make_config: Callable[..., Config],
    tmp_path: Path,
    all_logged: Callable[[], str],
    way: str,
    failure: str,
) -> None:
    """
    The same where not even the list of Selectors can be had: refused, unreachable, at an address
    that is none, or since the Source gives up.
    """
    async with echoing(tmp_path, way) as provider:
        echo = Echo((secret_for(way),))
        answers = {
            "401": echo.answer(401),
            "500": echo.answer(500),
            "html": echo.answer(200, f"<html>{echo.text}</html>"),
            "away": echo.answer(302, Location=f"https://other.example/{echo.link}"),
        }
        if failure in answers:
            for path in ("selectors.json", "login.json"):
                provider.script(path, answers[failure])
        options = options_for(way, provider) | {"gives_up": failure == "fatal"}
        if failure == "wrong":
            options["base_url"] = f"http://127.0.0.1:99999999/{echo.link}/"
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))  # and never listens
            if failure == "refused":
                gone = f"http://127.0.0.1:{silent.getsockname()[1]}/"
                options |= {key: gone for key in ("base_url", "proxy") if key in options}
            told = await told_by_a_run(make_config, options)
    assert_hidden(told, "what is told")
    assert_hidden(all_logged(), "the log")
    assert_lake_hides(tmp_path / "lake")


async def told_by_a_run(make_config: Callable[..., Config], options: dict[str, Any]) -> str:
    """The summary of a Run with an `EchoSource`, or the error that it ended with."""
    written = {"type": "echoes.EchoSource", "configuration": options}
    plans = [{"source": "echo", "dataset_type": "thing"}]
    config = make_config(sources={"echo": written}, ingestion_plans=plans)
    try:
        async with Engine(config) as engine:
            summary = await engine.run()
    except ConfigError as exc:
        return told_by(exc) + "".join(traceback.format_exception(exc))
    assert summary.exit_code
    return f"{summary!r}{msgspec.json.encode(summary).decode()}"


VERBS = (
    *("plan --debug", "plan --json", "list", "list --json", "show id=stored", "runs"),
    "runs --json",
    *("show id=stored --json", "explain id=stored", "explain id=verbatim --json", "failed list"),
    *("failed list --json", "failed list --run 1 --json", "source list", "source list --json"),
    *("failed show", "failed show id=away", "failed show --run 1 --json", "events list"),
    *("events list --json", "events readers", "events readers --json", "config check"),
    *("config check --json", "config schema", "run --json", "run --source missing --debug"),
    *("failed retry --json", "verify", "verify --json", "gc --dry-run", "gc --dry-run --json"),
    *("backup catalog/copy.db", "backup --force --json catalog/copy.db"),
    *("invalidate id=stored --yes --reason wrong", "gc --json"),
    *("delete id=stored --yes", "delete id=verbatim --yes --json"),
)


def codes_of(verb: str) -> tuple[int, ...]:
    """How *verb* may end where much fails."""
    if "missing" in verb:
        return (2,)
    return (0, 1) if verb.startswith(("run ", "plan ", "failed retry")) else (0,)


async def test_the_command_line_shows_no_credential(tmp_path: Path) -> None:
    """
    No verb prints a credential, and other users of the machine see none in the list of processes.
    """
    folder = tmp_path / "here"
    folder.mkdir()
    shutil.copy(echoes.__file__, folder / "my_echoes.py")
    async with AsyncExitStack() as stack:
        lines = [
            "main: {metadata_url: 'sqlite:///catalog/catalog.db', file_url: lake,",
            "       default_bucket: basic}",
            "sources:",
        ]
        secrets = []
        providers = []
        for way in WAYS:
            (tmp_path / way).mkdir()
            providers.append(await stack.enter_async_context(echoing(tmp_path / way, way)))
            options = options_for(way, providers[-1])
            quoted = json.dumps(options.pop("secret"), ensure_ascii=False)
            secrets.append(f"SECRET_{way.upper()}={quoted}")
            rest = "".join(f", {name}: '{value}'" for name, value in options.items())
            lines += [
                f"  {way}:",
                "    type: my_echoes.EchoSource",
                f"    configuration: {{secret: !ENV '${{SECRET_{way.upper()}}}'{rest}}}",
            ]
        lines += ["ingestion_plans:"]
        lines += [f"  - {{source: {way}, dataset_type: thing, bucket: {way}}}" for way in WAYS]
        (folder / "config.yaml").write_text("\n".join(lines))
        (folder / ".env").write_text("\n".join(secrets))
        async with started(folder, "run", "--debug") as process:
            assert process.stderr is not None
            first = await process.stderr.readline()  # now the configuration has been read
            for name in ("cmdline", "environ"):
                if (about := Path(f"/proc/{process.pid}/{name}")).exists():
                    assert_hidden(about.read_text(errors="replace"), about)
            out, err = await process.communicate()
        assert process.returncode == 1, (first + err).decode()
        assert_hidden((first + out + err).decode(), "run --debug")
        for verb in VERBS:
            async with started(folder, *verb.split()) as process:
                out, err = await process.communicate()
            assert process.returncode in codes_of(verb), err.decode()
            assert out + err, verb
            assert_hidden((out + err).decode(), verb)
    assert (folder / "catalog" / "copy.db").exists()
    for place in ("lake", "catalog"):
        assert_lake_hides(folder / place)


@asynccontextmanager
async def started(folder: Path, *arguments: str) -> AsyncIterator[Process]:
    """The command line in *folder*, gone at the end."""
    process = await create_subprocess_exec(
        *(sys.executable, "-m", "ingestify", *arguments),
        cwd=folder,
        env={k: v for k, v in os.environ.items() if "INGESTIFY" not in k and "PYTEST" not in k},
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


@pytest.mark.parametrize(
    "source",
    [
        "api_key: [canary-1]\n      nonsense",
        "{api_key: canary-1, b: [c}",
        "{api_key: canary-1, api_key: canary-2}",
        "{api_key: canary-1}\n    configuratoin: {api_key: canary-2}",
        "canary-1",
        "[canary-1]",
        "{api_key: !canary-2 canary-1}",
        "{api_key: !ENV 'canary-1${MISSING}'}",
        "{api_key: !ENV 'canary-1${'}",
        "{api_key: !ENV '${canary-1}'}",
        "{api_key: !ENV '${KEY}', limits: !ENV '${KEY}'}",
        "{api_key: 'vault+aws://canary-1'}",
        "{api_key: !canary-1 }",
        "{api_key: &a canary-1, b: *canary-2}",
        "{api_key: 'canary-1}",
        "{api_key: {way: canary-1}, secret: canary-2, way: query, base_url: 1}",
        "{secret: canary-1, way: no-such-way, base_url: 'http://canary-2@x'}",
        "{secret: canary-1, way: canary-2, base_url: 'http://x'}",
        "{secret: canary-1, way: query, base_url: 'http://me:canary-2@x:y/'}",
        "{secret: canary-1, way: query, base_url: 'http://me:canary-2@x/?key=canary-3'}",
        "{}\n    limits: {concurrency: canary-1}\n    http: {proxy: 'ftp://me:canary-2@x'}",
        "{}\n    http: {proxy: 'me:canary-2@x', timeout: canary-3, user_agent: [canary-4]}",
    ],
)
async def test_what_is_wrong_with_a_configuration_is_told_without_credentials(
    tmp_path: Path, source: str
) -> None:
    """
    A complaint names the line and the key, and no value that may be a credential, though it is
    written next to what is wrong.
    """
    (tmp_path / ".env").write_text("KEY=canary-env")
    (tmp_path / "config.yaml").write_text(
        f"main: {{metadata_url: 'memory://', file_url: 'memory://'}}\n"
        f"sources:\n  one:\n    type: echoes.EchoSource\n    configuration: {source}\n"
        "ingestion_plans: [{source: one, dataset_type: thing}]\n"
    )
    with pytest.raises(ConfigError) as caught:
        async with Engine.from_config(tmp_path / "config.yaml") as engine:
            await engine.run()
    assert_hidden(told_by(caught.value), "the error")
    assert_hidden("".join(traceback.format_exception(caught.value)), "its traceback")


def test_values_keep_credentials_to_themselves() -> None:
    """
    No value that holds a credential shows it in its repr, or lets it be pickled or written as JSON.
    """
    secret = Secret(echoes.SECRET)
    auths = [
        BasicAuth("me", secret),
        BearerAuth(secret),
        HeaderAuth("X-Api-Key", secret),
        QueryAuth("api_key", secret),
    ]
    settings = HttpSettings(proxy=f"http://me:{echoes.SECRET}@proxy.example")
    for auth in auths:
        source = EchoSource("echo", base_url="http://x/", way="query", secret=echoes.SECRET)
        source.auth = auth
        request = Request(url=f"http://x/?{auth.params()}", headers=auth.headers())
        for value in (secret, auth, settings, source, request):
            assert_hidden(f"{value}{value!r}{[value]}", type(value).__name__)
        for write in (pickle.dumps, msgspec.json.encode, json.dumps):
            with pytest.raises(TypeError) as caught:
                write(secret)
            assert_hidden(str(caught.value), write)
