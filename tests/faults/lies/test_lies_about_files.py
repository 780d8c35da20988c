"""A provider that lies about one file: what is stored, what is said, and how it heals."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from aiohttp import web
from lying import ELSEWHERE, GOOD, IMPATIENT, LIED, Job, Told

from ingestify.model.http import Limits
from ingestify.pipeline import body as body_module
from ingestify.pipeline.formats import check_for
from ingestify.testing import reset_connection, status, too_many_requests
from ingestify.testing.behaviours import Behaviour, Serve
from ingestify.testing.lies import BOMB_BYTES, LIES, redirect
from ingestify.testing.raw_answers import Honest, Pause, Step, Then, raw

FILE = f"data/{LIED}-v1.json"
OTHERS = (*GOOD, *ELSEWHERE)
MOST_RECEIVED = 1024 * 1024  # by a whole Run, whatever is sent


@dataclass(frozen=True, kw_only=True)
class Lie:
    """What is told instead of the file, and what the user is told then.

    Without a *code* the file is stored: it was no lie, or was seen through.
    """

    name: str
    behaviour: Behaviour | None = None  # None: the one of that name
    code: str | None = None
    says: str = ""  # a part of the message
    requests: int = 1  # for the file
    times: int | None = None  # None: as long as it is not healed
    settings: Mapping[str, Any] = field(default_factory=dict)


def refused(name: str, says: str, **more: Any) -> Lie:
    """A body that is not what it should be: asking again would not help."""
    return Lie(name=name, code="invalid body", says=says, **more)


def passing(name: str, says: str, **more: Any) -> Lie:
    """A failure that may pass, and is tried again where there are more attempts."""
    return Lie(name=name, code="transient", says=says, **more)


def no_answer(name: str, says: str, **more: Any) -> Lie:
    return passing(name, f"{FILE}?…: {says}", **more)


def late(name: str, says: str) -> Lie:
    return passing(name, f"{FILE} {says}", settings=IMPATIENT)


def asked_to_wait(name: str, retry_after: str | None, **more: Any) -> Lie:
    """A 429 that says when to come back, once."""
    return Lie(
        name=f"429 with {name}",
        behaviour=too_many_requests(retry_after=retry_after),
        times=1,
        **{"requests": 2, "settings": {"attempts": 2}, **more},
    )


def at(moment: datetime) -> str:
    return format_datetime(moment, usegmt=True)


NOW = datetime.now(UTC)
CUT = "the body was cut, or is not framed as HTTP wants"
NOT_HTTP = "the answer is not HTTP, or its head is too large"

FILE_LIES = [
    # Nothing comes, or slowly
    no_answer("reset before the answer", "Connection reset by peer"),
    no_answer("closed without an answer", "the connection was closed without an answer"),
    late("hang before the head", "did not answer within 1 s (connect_timeout and first_byte"),
    late("hang in the head", "did not answer within 1 s"),
    late("hang before the body", "sent nothing for 1 s (idle_timeout)"),
    late("hang in the body", "sent nothing for 1 s (idle_timeout)"),
    late("one byte at a time in the head", "did not answer within 1 s"),
    late("one byte at a time in the body", "is too slow: "),
    late("early hints for ever", "did not answer within 1 s"),
    # Heads
    no_answer("not http", NOT_HTTP),
    no_answer("one huge header", NOT_HTTP),
    no_answer("very many headers", NOT_HTTP),
    no_answer("two lengths", NOT_HTTP),
    no_answer("a length and chunks", NOT_HTTP),
    no_answer("a length below zero", NOT_HTTP),
    # Framing
    no_answer("reset in the body", CUT),
    no_answer("shorter than its length", CUT),
    no_answer("longer than its length", NOT_HTTP),
    no_answer("cut chunks", CUT),
    no_answer("a cut chunk", CUT),
    no_answer("chunks without sizes", NOT_HTTP),
    Lie(name="ended by closing"),
    Lie(name="two answers to one request"),
    refused("ended by closing, cut", "the gzip coding ends before its end: the body is cut"),
    refused("ended by closing, plain and cut", "not JSON: Input data was truncated"),
    refused("endless body", "larger than 262144 bytes (max_body_bytes"),
    # Codings
    refused("cut gzip, well framed", "the gzip coding ends before its end"),
    refused("cut gzip in whole chunks", "the gzip coding ends before its end"),
    refused("gzip with a wrong checksum", "the checksum or length of the gzip coding is wrong"),
    refused("gzip and something after it", "other bytes follow the end of the gzip coding"),
    refused("said to be gzip", "said to be gzip coded, but is not"),
    refused("a coding nobody asked for", "the content coding 'br' was not asked for"),
    refused("gzip twice", "the content coding 'gzip,gzip' was not asked for"),
    refused("gzip bomb", "larger than 262144 bytes (max_body_bytes"),
    # Statuses
    refused("204", "answered 204, and not with a body"),
    refused("206", "answered 206: a part, and all was asked for"),
    Lie(name="an unasked 304", code="fetch", says="answered 304: not modified, which was not"),
    Lie(name="401", code="refused", says="answered 401: the credentials are missing or refused"),
    Lie(name="403", code="refused", says="answered 403: it is not for these credentials"),
    Lie(name="404", code="absent", says="answered 404"),
    Lie(name="418", code="fetch", says="answered 418"),
    passing("500", "answered 500"),
    passing("502", "answered 502"),
    passing("a status of 999", "answered 999"),
    # Bodies
    refused("empty body", "the body is empty"),
    refused("empty gzip", "the body is empty once it is decoded"),
    refused("html with 200", "looks like an HTML page, not like json"),
    refused("html said to be json", "looks like an HTML page, not like json"),
    refused("cut json, well framed", "not JSON: Input data was truncated"),
    refused("another charset", "not UTF-8"),
    refused("text", "not JSON: JSON is malformed"),
    refused("nested too deeply", "JSON that is nested too deeply"),
    refused("not a number", "not JSON: JSON is malformed"),
    refused("invalid utf-8", "not UTF-8"),
    # Redirects
    Lie(name="a redirect to itself", code="fetch", says="redirects in a circle"),
    Lie(name="redirects for ever", code="fetch", says="redirects more than 3 times", requests=4),
    Lie(name="a redirect to nowhere", code="fetch", says="redirects to nowhere"),
    Lie(
        name="a redirect to a file",
        code="unsafe target",
        says=f"{FILE} redirects astray: only http and https can be asked: file://",
    ),
    Lie(
        name="a redirect to a private address",
        code="unsafe target",
        says="redirects to http://169.254.169.254, which is not among the redirect_hosts",
    ),
    # Bursts that pass while there are attempts left
    Lie(
        name="a burst of 503",
        behaviour=status(503),
        times=2,
        requests=3,
        settings={"attempts": 3},
    ),
    Lie(
        name="a burst of resets",
        behaviour=reset_connection,
        times=2,
        requests=3,
        settings={"attempts": 3},
    ),
    Lie(
        name="a burst of cut bodies",
        behaviour=LIES["cut chunks"],
        times=2,
        requests=3,
        settings={"attempts": 3},
    ),
    passing("500 at every attempt", "answered 500", behaviour=status(500), requests=3,
            settings={"attempts": 3}),
    # 429 and every form of Retry-After
    asked_to_wait("0 seconds", "0"),
    asked_to_wait("1 second", "1"),
    asked_to_wait("a date", at(NOW + timedelta(seconds=1))),
    asked_to_wait("a date that is past", at(NOW - timedelta(days=1))),
    asked_to_wait("nothing", None),
    asked_to_wait("an empty text", ""),
    asked_to_wait("garbage", "in a while"),
    asked_to_wait("a number below zero", "-5"),
    asked_to_wait("1e400", "1e400"),
]  # fmt: skip


@pytest.mark.parametrize("lie", FILE_LIES, ids=lambda lie: lie.name)
async def test_a_file_that_is_lied_about_harms_no_other_and_heals(lie: Lie, job: Job) -> None:
    """
    The other files are stored as they are, of this one all or nothing; the summary, the exit
    code and the list of failures tell it; and once the provider is honest again the next Run
    asks for this file alone and has it.
    """
    script = job.provider.script(FILE, lie.behaviour or LIES[lie.name], times=lie.times)
    told = await job.run(**lie.settings)

    assert script.taken > 0
    assert told.asked.count(FILE) == lie.requests
    assert told.summary.received_bytes < MOST_RECEIVED
    if lie.code is None:
        assert_all_is_well(job, told)
    else:
        assert_one_failed(job, told, lie)

    job.provider.heal()
    healed = await job.run()
    assert_all_is_well(job, healed)
    assert healed.asked == ([] if lie.code is None else [FILE])
    assert set(healed.revisions.values()) == {1}


def assert_all_is_well(job: Job, told: Told) -> None:
    assert told.stored == job.honest(LIED, *OTHERS)
    assert told.failures == []
    assert told.summary.exit_code == 0


def assert_one_failed(job: Job, told: Told, lie: Lie) -> None:
    assert told.stored == job.honest(*OTHERS)
    assert told.outcome == {"stored": len(OTHERS), "failed": 1}
    assert told.summary.exit_code == 1
    (failure,) = told.failures
    assert (failure.code, failure.name, failure.data_feed_key) == (lie.code, "thing 3", "data")
    assert failure.identifier_key == '{"id":3}'
    assert failure.message.startswith(f"{job.provider.base_url}{FILE}")
    assert lie.says in failure.message
    assert [each.message for each in told.summary.failures] == [failure.message]


async def test_a_bomb_is_decoded_no_further_than_what_is_allowed(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Of a small body that decodes to 64 MiB little more is made than the largest body there may be.
    """
    decoded = 0

    def counting(declared: str) -> Any:
        check = check_for(declared)
        feed = check.feed

        def count(data: bytes) -> None:
            nonlocal decoded
            decoded += len(data)
            feed(data)

        monkeypatch.setattr(check, "feed", count)
        return check

    monkeypatch.setattr(body_module, "check_for", counting)
    job.provider.script(FILE, LIES["gzip bomb"])
    told = await job.run(max_body_bytes=2**20)

    assert told.outcome == {"stored": len(OTHERS), "failed": 1}
    assert 2**19 < decoded < 2 * 2**20 < BOMB_BYTES


async def test_a_body_without_end_is_read_no_further_than_what_is_allowed(job: Job) -> None:
    """
    Its connection is closed: the provider cannot send on for ever.
    """
    job.provider.script(FILE, LIES["endless body"])
    told = await job.run(attempts=3)

    (answer,) = [each for each in job.provider.requests if each.path == FILE]
    assert told.summary.received_bytes < MOST_RECEIVED
    assert answer.status == 0  # cut off by us
    assert job.provider.in_flight == 0


@contextmanager
def deaf_port() -> Iterator[int]:
    """A port on which connections are never accepted: its backlog is full."""
    with socket.socket() as listener, socket.socket() as filler:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        filler.connect(listener.getsockname())
        yield listener.getsockname()[1]


async def test_a_port_that_accepts_no_connection(job: Job) -> None:
    """
    A redirect to where nobody accepts a connection costs one file, and a bounded time.
    """
    with deaf_port() as port:
        job.provider.script(FILE, redirect(f"http://127.0.0.1:{port}/x.json"))
        told = await job.run(redirect_hosts=frozenset({"127.0.0.1"}), **IMPATIENT)

    assert told.outcome == {"stored": len(OTHERS), "failed": 1}
    (failure,) = told.failures
    assert failure.code == "transient"
    assert f"127.0.0.1:{port}/x.json" in failure.message
    assert "no connection in time" in failure.message or "did not answer" in failure.message
    job.provider.heal()
    assert_all_is_well(job, await job.run())


WEEKS = [(429, "86400"), (429, "999999999999999999"), (503, "86400")]


@pytest.mark.parametrize(("code", "retry_after"), WEEKS)
async def test_a_provider_that_wants_to_be_left_alone_for_a_day(
    code: int, retry_after: str, job: Job
) -> None:
    """
    A wait that is longer than allowed is not waited for. What has come is kept, the file fails
    and is not asked for a second time, and the next Run asks for it alone.
    """
    job.provider.script(FILE, last(throttled(code, retry_after), job))
    told = await job.run(attempts=5)

    assert told.stored == job.honest(*OTHERS)
    assert told.asked.count(FILE) == 1
    assert told.summary.exit_code == 1
    (failure,) = told.failures
    assert (failure.code, failure.name) == ("throttled", "thing 3")
    assert f"{FILE} answered {code}" in failure.message
    job.provider.heal()
    healed = await job.run()
    assert_all_is_well(job, healed)
    assert healed.asked == [FILE]


async def test_what_was_not_asked_for_before_a_provider_closed_for_a_day(job: Job) -> None:
    """
    It fails at once, says for how long, and comes with the next Run; nothing is asked for
    meanwhile.
    """
    job.limits = Limits(concurrency=1)
    job.provider.script("data/1-v1.json", throttled(429, "86400"))
    told = await job.run(attempts=5)

    assert told.asked.count("data/1-v1.json") == 1
    assert told.summary.exit_code == 1
    assert {each.code for each in told.failures} == {"throttled"}
    assert any("asks to wait for 86400 s" in each.message for each in told.failures)
    job.provider.heal()
    healed = await job.run()
    assert_all_is_well(job, healed)
    assert not set(healed.asked) & {f"data/{key}-v1.json" for key in told.stored}


def throttled(code: int, retry_after: str) -> Behaviour:
    async def answer(request: web.BaseRequest, serve: Serve) -> web.StreamResponse:
        return web.Response(status=code, headers={"Retry-After": retry_after})

    return answer


def last(behaviour: Behaviour, job: Job) -> Behaviour:
    """*behaviour*, once all other files have been answered."""

    async def answer(request: web.BaseRequest, serve: Serve) -> web.StreamResponse:
        await job.provider.until(lambda: job.provider.count("data/*") >= len(OTHERS))
        return await behaviour(request, serve)

    return answer


async def test_an_answer_that_nobody_asked_for_is_not_taken_for_another(job: Job) -> None:
    """
    What a provider sends on a connection where nothing was asked for is no answer to the next
    question.
    """

    def late_extra(honest: Honest) -> list[Step]:
        extra = Honest(body=b'{"not": "asked for"}', headers=honest.headers)
        kept = {"Connection": None}
        late = extra.head({**kept, "Content-Encoding": None}) + extra.body
        return [honest.head(kept) + honest.body, Pause(0.02), late, Then.KEEP]

    for key in GOOD:
        job.provider.script(f"data/{key}-v1.json", raw(late_extra))
    job.limits = Limits(concurrency=1, requests_per_second=10)  # so that it is there before
    told = await job.run()

    assert_all_is_well(job, told)


async def test_a_provider_that_is_down_for_ever(job: Job) -> None:
    """
    What the lake has stays, every Selector is told as failed, and the next good Run goes on as if
    nothing had been.
    """
    await job.run()
    job.provider.script("*", status(503))
    told = await job.run(attempts=2)

    assert told.stored == job.honest(LIED, *OTHERS)
    assert told.summary.exit_code == 1
    (failure,) = told.failures
    assert (failure.code, failure.identifier_key) == ("transient", None)
    assert "things could not say what it has: " in failure.message
    assert "selectors.json answered 503" in failure.message
    job.provider.heal()
    healed = await job.run()
    assert_all_is_well(job, healed)
    assert healed.asked == []
