"""A provider that is wrong about what has changed, or changes while it is being read."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web
from lying import ELSEWHERE, GOOD, LIED, Job, Told, body_of

from ingestify.testing.behaviours import Behaviour, Serve
from ingestify.testing.lies import LIES, validators

FILE = f"data/{LIED}-v1.json"
ALL = (*GOOD, LIED, *ELSEWHERE)
JANUARY = "Mon, 01 Jan 2024 00:00:00 GMT"
MARCH = "Fri, 01 Mar 2024 00:00:00 GMT"


def announce(job: Job, token: str, content: Any = None) -> None:
    """Say that the thing has changed; with *content*, that is true."""
    entries = [{"id": key} for key in GOOD] + [{"id": LIED, "token": token}]
    job.world.set_list("a", *entries, token="t")
    if content is not None:
        job.world.set_data(LIED, content)


def assert_stored(job: Job, told: Told, *, revisions: int) -> None:
    """The lake has what the provider has, and every other thing as it was."""
    assert told.failures == []
    assert told.summary.exit_code == 0
    assert told.stored == job.honest(*ALL)
    assert told.revisions == {**dict.fromkeys(ALL, 1), LIED: revisions}


async def test_new_bytes_under_the_same_etag(job: Job) -> None:
    """
    Bytes that have come are never dropped for a validator that says that they are the old ones.
    """
    job.provider.script(FILE, validators(etag='"same"', last_modified=MARCH))
    announce(job, "one")
    assert_stored(job, await job.run(), revisions=1)
    announce(job, "two", {"changed": True})
    told = await job.run()

    assert_stored(job, told, revisions=2)
    assert told.asked == [FILE]


async def test_the_same_bytes_under_a_new_etag(job: Job) -> None:
    """
    They are no new Revision; the new ETag is what is asked with from then on.
    """
    announce(job, "one")
    job.provider.script(FILE, validators(etag='"first"'))
    assert_stored(job, await job.run(), revisions=1)
    job.provider.script(FILE, validators(etag='"second"'))
    announce(job, "two")
    told = await job.run()
    assert_stored(job, told, revisions=1)
    assert told.summary.counters.unchanged == 1

    announce(job, "three")
    await job.run()
    asked = [each for each in job.provider.requests if each.path == FILE]
    assert [each.headers.get("if-none-match") for each in asked] == [None, '"first"', '"second"']


async def test_dates_and_tokens_that_go_back(job: Job) -> None:
    """
    What is older by its date is still what the provider has now: it is fetched, and so is what
    was there before once more.
    """
    announce(job, "2024-03-01", {"version": "march"})
    job.provider.script(FILE, validators(last_modified=MARCH))
    assert_stored(job, await job.run(), revisions=1)
    announce(job, "2024-01-01", {"version": "january"})
    job.provider.script(FILE, validators(last_modified=JANUARY))
    assert_stored(job, await job.run(), revisions=2)
    announce(job, "2024-03-01", {"version": "march"})
    job.provider.script(FILE, validators(last_modified=MARCH))
    assert_stored(job, await job.run(), revisions=3)


async def test_a_change_that_turns_out_to_be_a_lie(job: Job) -> None:
    """
    A file that is announced and then lied about keeps its good Revision until the new one comes.
    """
    announce(job, "one")
    await job.run()
    before = job.honest(*ALL)
    announce(job, "two", {"changed": True})
    job.provider.script(FILE, LIES["html with 200"])
    for _ in range(2):
        told = await job.run()
        assert told.stored == before
        assert told.summary.exit_code == 1
        assert [each.code for each in told.failures] == ["invalid body"]
        assert told.asked == [FILE]

    job.provider.heal()
    healed = await job.run()
    assert_stored(job, healed, revisions=2)
    assert healed.asked == [FILE]


async def test_not_modified_for_what_is_not_stored(job: Job) -> None:
    """
    A 304 that nobody asked for is no file, however often it is said.
    """
    job.provider.script(FILE, LIES["an unasked 304"])
    for _ in range(2):
        told = await job.run()
        assert LIED not in told.stored
        assert told.summary.exit_code == 1
    job.provider.heal()
    assert_stored(job, await job.run(), revisions=1)


def changing(job: Job, token: str, content: Any) -> Behaviour:
    """The provider changes once its list has been read, and before the file is asked for."""

    async def answer(request: web.BaseRequest, serve: Serve) -> web.StreamResponse:
        announce(job, token, content)
        return await serve()

    return answer


async def test_a_provider_that_changes_between_its_list_and_its_file(job: Job) -> None:
    """
    The newer file is stored although the list spoke of the older one; the next Run, told by the
    newer list, finds it to be what it has.
    """
    announce(job, "one")
    job.provider.script(FILE, changing(job, "two", {"version": "two"}), times=1)
    assert_stored(job, await job.run(), revisions=1)

    told = await job.run()
    assert_stored(job, told, revisions=1)
    assert told.asked == [FILE]
    assert told.summary.counters.unchanged == 1
    assert (await job.run()).asked == []


async def test_a_file_that_goes_between_the_list_and_the_request(job: Job) -> None:
    """
    It fails as absent, and comes with the next Run once it is there again.
    """

    async def gone(request: web.BaseRequest, serve: Serve) -> web.StreamResponse:
        return web.Response(status=410)

    job.provider.script(FILE, gone)
    told = await job.run()
    assert told.summary.exit_code == 1
    assert [(each.code, each.name) for each in told.failures] == [("absent", "thing 3")]
    job.provider.heal()
    healed = await job.run()
    assert_stored(job, healed, revisions=1)
    assert healed.asked == [FILE]


async def test_what_failed_and_is_no_longer_offered(job: Job) -> None:
    """
    A thing that failed, or a list that did, is a failure no longer once the provider does not
    offer it any more: nothing could ever mend it.
    """
    job.provider.script(FILE, LIES["404"])
    job.provider.script("list-b.json", LIES["404"])
    told = await job.run()
    assert [each.code for each in told.failures] == ["absent", "absent"]

    job.world.set_list("a", *[{"id": key} for key in GOOD], token="t")
    del job.world.selectors["b"]
    job.world.bump("a", "t")
    told = await job.run()
    assert told.failures == []
    assert told.summary.exit_code == 0
    assert told.stored == job.honest(*GOOD)


async def test_a_list_that_changes_its_mind_within_a_run(job: Job) -> None:
    """
    The same thing in two lists under two tokens is fetched once, whichever was read first.
    """
    job.world.set_list("b", {"id": LIED, "token": "other"}, *[{"id": k} for k in ELSEWHERE])
    announce(job, "one")
    told = await job.run()
    assert_stored(job, told, revisions=1)
    assert told.asked.count(FILE) == 1
    assert told.summary.counters.duplicate == 1


async def test_a_body_that_is_another_one_at_every_request(job: Job) -> None:
    """
    What is stored is one of them and whole; nothing is asked for that was not announced.
    """
    count = 0

    async def another(request: web.BaseRequest, serve: Serve) -> web.StreamResponse:
        nonlocal count
        count += 1
        job.world.set_data(LIED, {**body_of(LIED), "count": count})
        return await serve()

    job.provider.script(FILE, another)
    told = await job.run()
    assert json.loads(told.stored[LIED])["count"] == 1
    assert (await job.run()).asked == []
