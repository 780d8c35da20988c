"""The provider simulator: a real server, asked by a real client."""

import asyncio
import errno
import gzip
import os
import re
import signal
import socket
import subprocess
import sys
import time
import zlib
from base64 import b64encode
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import aiohttp
import pytest
from aiohttp import web

from ingestify.testing import (
    FolderWorld,
    MatchSize,
    ProviderSimulator,
    RateLimit,
    Resource,
    RetryAfter,
    SeasonSpec,
    StatsBombWorld,
    hang_until,
    reset_connection,
    status,
    too_many_requests,
)
from ingestify.testing.lies import LIES

SEASON = SeasonSpec(competition_id=11, season_id=42, matches=3)
CHANGED = datetime(2024, 1, 2, 3, 4, 5, 678, tzinfo=UTC)


class OneFile:
    """A World of a single file."""

    def __init__(self, body=b'{"a": 1}' * 100):
        self.resource = Resource(body=body, last_modified=CHANGED)

    def get(self, path):
        return self.resource if path == "a.json" else None


class ManualClock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
async def client():
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        yield session


async def ask(client, provider, path="a.json", method="GET", **headers):
    """Status, headers and raw body of one exchange."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    async with client.request(method, provider.base_url + path, headers=names) as response:
        return response.status, response.headers, await response.read()


# Answers


async def test_a_file_is_served_with_its_validators(client):
    """
    An answer carries the bytes, a strong ETag, the date, and the type; elsewhere is a 404.
    """
    async with ProviderSimulator(OneFile()) as provider:
        code, headers, body = await ask(client, provider, accept_encoding="identity")
        missing, _, _ = await ask(client, provider, "b.json")

    assert (code, body, missing) == (200, OneFile().resource.body, 404)
    assert re.fullmatch(r'"[0-9a-f]{40}"', headers["ETag"])
    assert parsedate_to_datetime(headers["Last-Modified"]) == CHANGED.replace(microsecond=0)
    assert headers["Content-Type"] == "application/json"
    assert "Content-Encoding" not in headers


async def test_a_known_file_is_answered_304(client):
    """
    The ETag or the date of an earlier answer is answered 304, with the ETag and without a body.
    """
    async with ProviderSimulator(OneFile()) as provider:
        _, first, _ = await ask(client, provider)
        tag, date = first["ETag"], first["Last-Modified"]

        for known in (
            {"if_none_match": tag},
            {"if_none_match": f'"other", W/{tag}'},
            {"if_none_match": "*"},
            {"if_modified_since": date},
        ):
            code, headers, body = await ask(client, provider, **known)
            assert (code, headers["ETag"], body) == (304, tag, b"")

        for unknown in (
            {"if_none_match": '"other"'},
            {"if_none_match": '"other"', "if_modified_since": date},
            {"if_modified_since": "Tue, 02 Jan 2024 03:04:04 GMT"},
            {"if_modified_since": "yesterday"},
        ):
            code, _, _ = await ask(client, provider, **unknown)
            assert code == 200

    assert provider.count(status=304) == 4
    assert sum(record.is_conditional for record in provider.requests) == 8


async def test_validators_can_be_withheld(client):
    """
    A provider without ETag or Last-Modified neither sends nor honours them.
    """
    async with ProviderSimulator(OneFile(), etag=False, last_modified=False) as provider:
        code, headers, _ = await ask(client, provider, if_none_match="*")

    assert code == 200
    assert not {"ETag", "Last-Modified"} & set(headers)


@pytest.mark.parametrize(
    ("accept_encoding", "is_compressed"),
    [
        ("gzip", True),
        ("br, GZIP;q=0.5", True),
        ("*", True),
        ("identity", False),
        ("gzip;q=0, *", False),
        ("gzip; q=nonsense", False),
        ("", False),
    ],
)
async def test_gzip_is_sent_to_those_who_accept_it(client, accept_encoding, is_compressed):
    """
    The body is compressed exactly when the Accept-Encoding admits it, and says so.
    """
    async with ProviderSimulator(OneFile()) as provider:
        code, headers, body = await ask(client, provider, accept_encoding=accept_encoding)

    assert code == 200
    assert headers["Vary"] == "Accept-Encoding"
    assert (headers.get("Content-Encoding") == "gzip") is is_compressed
    assert (gzip.decompress(body) if is_compressed else body) == OneFile().resource.body
    assert provider.requests[0].sent_bytes == len(body)


async def test_gzip_can_be_switched_off(client):
    """
    A provider without gzip sends plain bytes whatever is accepted.
    """
    async with ProviderSimulator(OneFile(), gzip=False) as provider:
        _, headers, body = await ask(client, provider, accept_encoding="gzip")

    assert not {"Content-Encoding", "Vary"} & set(headers)
    assert body == OneFile().resource.body


async def test_only_get_is_served(client):
    """
    Another method is refused.
    """
    async with ProviderSimulator(OneFile()) as provider:
        code, headers, _ = await ask(client, provider, method="POST")

    assert (code, headers["Allow"]) == (405, "GET")


async def test_a_base_path_comes_before_all_paths(client):
    """
    Below the base path are the files, records name paths relative to it, beside it is nothing.
    """
    async with ProviderSimulator(OneFile(), base_path="v1/data") as provider:
        inside, _, _ = await ask(client, provider, "a.json?x=1")
        async with client.get(provider.base_url.replace("v1/data/", "") + "a.json") as response:
            outside = response.status

    assert provider.base_url.endswith("/v1/data/")
    assert (inside, outside) == (200, 404)
    assert provider.requests[0].path == "a.json"
    assert provider.requests[0].query == "x=1"


async def test_a_login_is_asked_for(client):
    """
    Without the right Basic credentials every answer is 401.
    """
    async with ProviderSimulator(OneFile(), auth=("ann", "süß")) as provider:
        code, headers, _ = await ask(client, provider)
        assert (code, headers["WWW-Authenticate"][:5]) == (401, "Basic")
        for login, expected in (("ann:x", 401), ("ann:süß", 200)):
            authorization = f"Basic {b64encode(login.encode()).decode()}"
            assert (await ask(client, provider, authorization=authorization))[0] == expected


# Counting


async def test_every_request_is_counted(client):
    """
    Requests are remembered with path and status, found by glob, and summed up.
    """
    world = StatsBombWorld(size=MatchSize.TINY, seasons=[SEASON])
    first, second, _ = world.match_ids(11, 42)
    async with ProviderSimulator(world) as provider:
        for path in (
            "competitions.json",
            f"events/{first}.json",
            f"events/{second}.json",
            "events/1.json",
        ):
            await ask(client, provider, path, user_agent="tests")

        assert provider.count() == 4
        assert provider.count("events/*.json") == 3
        assert provider.count("events/*", status=404) == 1
        assert provider.requests[0].headers["user-agent"] == "tests"
        assert provider.stats()["by_folder"] == {"": 1, "events": 3}
        assert provider.stats()["by_status"] == {"200": 3, "404": 1}
        assert provider.stats()["sent_bytes"] > 1000

        provider.reset_counts()

        assert provider.count() == provider.stats()["requests"] == 0


async def test_the_most_requests_in_flight_are_known(client):
    """
    Requests that are being answered at the same time are counted as such.
    """
    release = asyncio.Event()
    async with ProviderSimulator(OneFile()) as provider, asyncio.TaskGroup() as tasks:
        provider.script("*", hang_until(release))
        for _ in range(5):
            tasks.create_task(ask(client, provider))
        await provider.until(lambda: provider.in_flight == 5)
        assert provider.count() == 0
        release.set()

    assert provider.most_in_flight == 5
    assert sorted(record.in_flight for record in provider.requests) == [1, 2, 3, 4, 5]
    assert provider.in_flight == 0


# Limits and delays


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        (RetryAfter.SECONDS, r"2"),
        (RetryAfter.HTTP_DATE, r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT"),
        (RetryAfter.NONE, None),
        ("soon", "soon"),
    ],
)
async def test_too_many_requests_are_refused(client, form, expected):
    """
    Above rate and burst the answer is 429, and Retry-After has the chosen form.
    """
    clock = ManualClock()
    limit = RateLimit(requests_per_second=0.5, burst=3, retry_after=form, clock=clock)
    async with ProviderSimulator(OneFile(), limit=limit) as provider:
        codes = [(await ask(client, provider))[0] for _ in range(4)]
        refused, headers, _ = await ask(client, provider)
        clock.now += 2
        codes += [(await ask(client, provider))[0] for _ in range(2)]

    assert codes == [200, 200, 200, 429, 200, 429]
    assert refused == 429
    if expected is None:
        assert "Retry-After" not in headers
    else:
        assert re.fullmatch(expected, headers["Retry-After"])


@pytest.mark.parametrize("form", ["RateLimit", "X-RateLimit"])
async def test_a_limit_can_tell_what_is_left(client, form):
    """
    Quota headers count down to the refusal, and come back with time.
    """
    clock = ManualClock()
    limit = RateLimit(requests_per_second=1, burst=3, quota_headers=form, clock=clock)
    async with ProviderSimulator(OneFile(), limit=limit) as provider:
        seen = [(await ask(client, provider))[1] for _ in range(4)]
        clock.now += 10
        seen.append((await ask(client, provider))[1])

    assert [headers[f"{form}-Remaining"] for headers in seen] == ["2", "1", "0", "0", "2"]
    assert [headers[f"{form}-Reset"] for headers in seen] == ["1", "2", "3", "3", "1"]
    assert {headers[f"{form}-Limit"] for headers in seen} == {"3"}


def test_impossible_limits_are_refused():
    """
    A rate is above zero, and a burst at least one request.
    """
    with pytest.raises(ValueError, match="requests_per_second"):
        RateLimit(requests_per_second=0)
    with pytest.raises(ValueError, match="burst"):
        RateLimit(requests_per_second=1, burst=0)


async def test_a_delay_comes_before_each_answer(client):
    """
    No answer is ready sooner than the delay.
    """
    async with ProviderSimulator(OneFile(), delay=timedelta(milliseconds=30)) as provider:
        await ask(client, provider)

    assert provider.requests[0].ended - provider.requests[0].started >= 0.029


# Scripts


async def test_a_script_is_followed_as_often_as_said(client):
    """
    After its times a script gives way to an earlier one, and at last to the honest answer.
    """
    async with ProviderSimulator(OneFile()) as provider:
        provider.script("a.*", too_many_requests(retry_after="7"), times=1)
        latest = provider.script("*.json", status(503), times=2)
        answers = [await ask(client, provider) for _ in range(4)]

        assert [code for code, _, _ in answers] == [503, 503, 429, 200]
        assert answers[2][1]["Retry-After"] == "7"
        assert latest.taken == 2
        always = provider.script("a.json", status(500))
        assert (await ask(client, provider))[0] == 500
        provider.unscript(always)
        assert (await ask(client, provider))[0] == 200


async def test_a_script_can_alter_the_honest_answer(client):
    """
    A behaviour is given the honest answer to make something else of it.
    """

    async def without_etag(request, serve):
        response = await serve()
        del response.headers["ETag"]
        return response

    async with ProviderSimulator(OneFile()) as provider:
        provider.script("*", without_etag)
        code, headers, _ = await ask(client, provider)

    assert code == 200
    assert "ETag" not in headers


async def test_a_script_can_stream_its_own_answer(client):
    """
    A behaviour may prepare a response itself; what it sent is counted.
    """

    async def in_pieces(request, serve):
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"abc")
        await response.write(b"def")
        return response

    limit = RateLimit(requests_per_second=100, burst=9, quota_headers="RateLimit")
    async with ProviderSimulator(OneFile(), limit=limit) as provider:
        provider.script("*", in_pieces)
        code, _, body = await ask(client, provider)

    assert (code, body) == (200, b"abcdef")
    assert provider.requests[0].status == 200
    assert provider.requests[0].sent_bytes >= 6


async def test_a_connection_can_be_reset(client):
    """
    A reset reaches the client as such, is recorded as no answer, and the next request is served.
    """
    async with ProviderSimulator(OneFile()) as provider:
        provider.script("*", reset_connection, times=2)  # aiohttp's client tries once more
        with pytest.raises(aiohttp.ClientOSError) as caught:
            await ask(client, provider)
        code, _, _ = await ask(client, provider)

    assert caught.value.errno == errno.ECONNRESET
    assert code == 200
    assert [record.status for record in provider.requests] == [0, 0, 200]


async def test_a_client_that_leaves_is_no_longer_in_flight(client):
    """
    A request whose client went away is given up and recorded as not answered.
    """
    async with ProviderSimulator(OneFile()) as provider:
        provider.script("*", hang_until(asyncio.Event()))
        async with asyncio.TaskGroup() as tasks:
            impatient = tasks.create_task(ask(client, provider))
            await provider.until(lambda: provider.in_flight == 1)
            impatient.cancel()
        await provider.until(lambda: provider.in_flight == 0)

    assert [record.status for record in provider.requests] == [0]


async def test_hung_answers_do_not_hold_the_end_back(client):
    """
    Leaving the simulator ends answers that would never come; their clients see it.
    """

    async def hang():
        with pytest.raises(aiohttp.ClientError):
            await ask(client, provider)

    provider = ProviderSimulator(OneFile())
    provider.script("*", hang_until(asyncio.Event()))
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks, provider:
        for _ in range(20):
            tasks.create_task(hang())
        await provider.until(lambda: provider.in_flight == 20)

    assert provider.in_flight == 0


async def test_a_taken_port_is_an_error(client):
    """
    A port that somebody listens on is said at once.
    """
    with socket.create_server(("127.0.0.1", 0)) as taken:
        provider = ProviderSimulator(OneFile(), port=taken.getsockname()[1])
        with pytest.raises(OSError, match="address already in use"):
            await provider.__aenter__()


# Folders


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "root"
    (root / "events").mkdir(parents=True)
    (root / "competitions.json").write_bytes(b"[1]")
    (root / "events" / "1.json.gz").write_bytes(gzip.compress(b"[11]" * 1000))
    (tmp_path / "secret.json").write_bytes(b"secret")
    (root / "link.json").symlink_to(tmp_path / "secret.json")
    return root


async def test_a_folder_is_served_compressed_files_included(client, folder):
    """
    `<path>.gz` answers for `<path>`, with the stored bytes for those who accept gzip.
    """
    async with ProviderSimulator(FolderWorld(folder)) as provider:
        plain = await ask(client, provider, "events/1.json", accept_encoding="identity")
        packed = await ask(client, provider, "events/1.json", accept_encoding="gzip")
        listed = await ask(client, provider, "competitions.json", accept_encoding="identity")
        stored = await ask(client, provider, "events/1.json.gz", accept_encoding="identity")

    assert plain[2] == b"[11]" * 1000
    assert packed[2] == stored[2] == (folder / "events" / "1.json.gz").read_bytes()
    assert plain[1]["ETag"] == packed[1]["ETag"]
    assert listed[2] == b"[1]"
    modified = int((folder / "competitions.json").stat().st_mtime)
    assert parsedate_to_datetime(listed[1]["Last-Modified"]).timestamp() == modified


@pytest.mark.parametrize(
    "path",
    [
        "../secret.json",
        "events/../../secret.json",
        "/../secret.json",
        "link.json",
        "events",
        "",
        ".",
        "a\0b",
        "..\\secret.json",
        "nothing.json",
    ],
)
def test_no_path_leaves_the_folder(folder, path):
    """
    Only files inside the folder are served, whatever the path says or links point to.
    """
    assert FolderWorld(folder).get(path) is None


async def test_no_encoded_path_leaves_the_folder(folder):
    """
    Dots that a client does not normalise, or encodes, do not leave the folder.
    """
    async with ProviderSimulator(FolderWorld(folder)) as provider:
        host, port = provider.base_url.removeprefix("http://").strip("/").split(":")
        for path in ("/../secret.json", "/%2e%2e/secret.json", "/events/..%2f..%2fsecret.json"):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            answer = await reader.read()
            writer.close()
            await writer.wait_closed()
            assert b"secret" not in answer.partition(b"\r\n\r\n")[2]


def test_changed_files_are_read_again(folder):
    """
    A file that changes on disk is served as it is then.
    """
    world = FolderWorld(folder)
    before = world.get("competitions.json")

    (folder / "competitions.json").write_bytes(b"[1, 2]")
    os.utime(folder / "competitions.json", (1_700_000_000, 1_700_000_000))

    after = world.get("competitions.json")
    assert (before.body, after.body) == (b"[1]", b"[1, 2]")
    assert after.last_modified.timestamp() == 1_700_000_000
    assert before.etag != after.etag


def test_folders_shadow_each_other(folder, tmp_path):
    """
    The first folder that has a file wins, in either form, until it no longer shadows.
    """
    older, oldest = tmp_path / "older", tmp_path / "oldest"
    for name, body in ((older, b"[0]"), (oldest, b"[-1]")):
        (name / "events").mkdir(parents=True)
        (name / "events" / "1.json").write_bytes(body)
    world = FolderWorld(folder, shadowed_by=[older])

    assert world.get("events/1.json").body == b"[0]"
    assert world.get("competitions.json").body == b"[1]"
    world.shadow(oldest)
    assert world.get("events/1.json").body == b"[-1]"
    world.unshadow(oldest)
    world.unshadow(older)
    assert world.get("events/1.json").body == b"[11]" * 1000


def test_single_files_can_be_replaced_and_removed(folder):
    """
    What is put or removed is answered so until it is restored; the disk stays as it is.
    """
    world = FolderWorld(folder, overrides={"new.json": b"{}"})
    before = world.get("competitions.json")

    world.put("competitions.json", b"[2]")
    put = world.get("competitions.json")
    world.remove("events/1.json")

    assert put.body == b"[2]"
    assert put.last_modified > before.last_modified
    assert world.get("new.json").body == b"{}"
    assert world.get("events/1.json") is None
    world.restore("competitions.json")
    world.restore("events/1.json")
    assert world.get("competitions.json").body == b"[1]"
    assert world.get("events/1.json") is not None


def test_compressed_files_are_not_held_expanded(folder):
    """
    A world that has served a compressed file keeps the compressed bytes alone.
    """
    world = FolderWorld(folder)

    assert len(world.get("events/1.json").body) == 4000
    assert world.get("events/1.json").held_bytes < 200


def test_resources_are_made_of_something():
    """
    A Resource has bytes and an aware date.
    """
    with pytest.raises(ValueError, match="body"):
        Resource(last_modified=CHANGED)
    with pytest.raises(ValueError, match="timezone-aware"):
        Resource(body=b"", last_modified=CHANGED.replace(tzinfo=None))


# Control, and the simulator as a process


async def test_a_provider_is_controlled_over_http(client, folder, tmp_path):
    """
    Stats, reset and evolve work from outside, and are not counted.
    """
    world = StatsBombWorld(size=MatchSize.TINY, seasons=[SEASON])
    async with ProviderSimulator(world) as provider:
        control = provider.base_url + "_simulator/"
        order = {"what": "add_match", "args": {"competition_id": 11, "season_id": 42}}
        async with client.post(control + "evolve", json=order) as response:
            change = await response.json()
        for wrong in ({"what": "nothing"}, {}, [], {**order, "args": {"x": 1}}):
            async with client.post(control + "evolve", json=wrong) as response:
                assert response.status == 400, wrong
        await ask(client, provider, "competitions.json")
        async with client.get(control + "stats") as response:
            stats = await response.json()
        async with client.post(control + "reset") as response:
            assert (await response.json())["requests"] == 0
        async with client.get(control + "reset") as response:
            assert response.status == 404

        assert len(world.match_ids(11, 42)) == 4
        assert change["match_ids"] == list(world.match_ids(11, 42)[-1:])
        assert (stats["requests"], stats["by_status"]) == (1, {"200": 1})

        provider.world = FolderWorld(folder)
        (tmp_path / "older").mkdir()
        (tmp_path / "older" / "competitions.json").write_bytes(b"[]")
        order = {"what": "shadow", "args": {"folder": str(tmp_path / "older")}}
        async with client.post(control + "evolve", json=order) as response:
            assert response.status == 200
        _, _, body = await ask(client, provider, "competitions.json", accept_encoding="identity")
        assert body == b"[]"

        provider.world = OneFile()
        async with client.post(control + "evolve", json=order) as response:
            assert response.status == 400


async def test_lies_are_told_by_name_until_it_is_healed(client):
    """
    A lie of the list is told at a path from outside, as often as said; healing ends them all.
    """
    async with ProviderSimulator(OneFile()) as provider:
        control = provider.base_url + "_simulator/"
        for order in (
            {"glob": "*.json", "lie": "204"},
            {"glob": "a.json", "lie": "html with 200", "times": 1},
        ):
            async with client.post(control + "lie", json=order) as response:
                assert response.status == 200
        for wrong in ({"glob": "*", "lie": "the truth"}, {"lie": "204"}, [], "x"):
            async with client.post(control + "lie", json=wrong) as response:
                assert response.status == 400, wrong
                assert "html with 200" in await response.text()
        answers = [await ask(client, provider) for _ in range(3)]
        async with client.post(control + "heal") as response:
            assert response.status == 200
        answers.append(await ask(client, provider))

    assert [code for code, _, _ in answers] == [200, 204, 204, 200]
    assert answers[0][2].startswith(b"<!DOCTYPE html>")
    assert provider.stats()["by_status"] == {"200": 2, "204": 2}


@pytest.mark.parametrize("name", LIES)
async def test_no_lie_outlives_its_client(client, name):
    """
    A client that turns away ends every lie, and the next request is answered honestly.
    """

    async def be_told():
        with suppress(aiohttp.ClientError, zlib.error):
            await ask(client, provider)

    async with ProviderSimulator(OneFile()) as provider:
        script = provider.script("a.json", LIES[name])
        async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
            told = tasks.create_task(be_told())
            await provider.until(lambda: script.taken > 0)
            told.cancel()
        provider.heal()
        async with asyncio.timeout(30):
            await provider.until(lambda: provider.in_flight == 0)
        assert (await ask(client, provider))[0] == 200


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
async def test_it_runs_as_a_process(client, signum):
    """
    Its first line is its address; it serves the world that was asked for until it is told to stop.
    """
    options = ["--seed", "4", "--size", "tiny", "--seasons", "11/42:3,11/90:2", "--no-gzip"]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ingestify.testing", *options),
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": ":".join(filter(None, sys.path))},
    )
    try:
        url = (await process.stdout.readline()).decode().strip()
        async with client.get(f"{url}events/3700002.json") as response:
            body = await response.read()
            assert response.status == 200
            assert "Content-Encoding" not in response.headers
        async with client.get(f"{url}matches/11/90.json") as response:
            assert len(await response.json()) == 2
        process.send_signal(signum)
        assert await process.wait() == 0
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.communicate()

    world = StatsBombWorld(4, size=MatchSize.TINY, seasons=[SEASON])
    assert body == world.get("events/3700002.json").body


@pytest.mark.parametrize(
    "options",
    [["--size", "huge"], ["--seasons", "11:3"], ["--seasons", "11/42:-1"], ["--lie", "*=a"]],
)
def test_wrong_options_are_refused(options):
    """
    A size or season that cannot be is a usage error.
    """
    result = subprocess.run(
        [sys.executable, "-m", "ingestify.testing", *options],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": ":".join(filter(None, sys.path))},
    )

    assert result.returncode == 2
    assert f"argument {options[0]}: not a" in result.stderr


async def test_records_are_on_the_monotonic_clock(client):
    """
    Start and end of a request can be compared with the times of the test.
    """
    before = time.monotonic()
    async with ProviderSimulator(OneFile()) as provider:
        await ask(client, provider)

    (record,) = provider.requests
    assert before <= record.started <= record.ended <= time.monotonic()
