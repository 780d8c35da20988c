"""A provider that lies in its lists: the list as a whole, or one record of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from lying import ELSEWHERE, GOOD, IMPATIENT, LIED, Job, Told, body_of

from ingestify.model.run import SelectorStatus
from ingestify.testing.behaviours import Behaviour
from ingestify.testing.lies import LIES, edited, replaced

LIST = "list-a.json"
NEW = 5  # listed since the last Run
ALL = (*GOOD, LIED, *ELSEWHERE)


@dataclass(frozen=True, kw_only=True)
class ListLie:
    """What is told instead of a list, and what the user is told then."""

    name: str
    code: str
    says: str
    behaviour: Behaviour | None = None  # None: the one of that name
    settings: Mapping[str, Any] = field(default_factory=dict)


def unusable(name: str, says: str, body: bytes | None = None) -> ListLie:
    """A whole answer that is no list."""
    behaviour = None if body is None else replaced(body)
    return ListLie(name=name, code="source", says=f"answered {says}", behaviour=behaviour)


def broken(name: str, says: str) -> ListLie:
    return ListLie(name=name, code="invalid body", says=says)


def passing(name: str, says: str, **more: Any) -> ListLie:
    return ListLie(name=name, code="transient", says=says, **more)


def late(name: str, says: str) -> ListLie:
    return passing(name, says, settings=IMPATIENT)


LIST_LIES = [
    unusable("null", "null for a list", b"null"),
    unusable("an object", "a JSON object for a list", b'{"error": "none of your business"}'),
    unusable("a text", "a JSON text for a list", b'"later"'),
    unusable("a number", "a number for a list", b"17"),
    unusable("spaces", "an empty body for a list", b"   "),
    unusable("nothing", "an empty body for a list", b""),
    unusable("html", "HTML or XML for a list", b"<html><body>Down</body></html>"),
    unusable("cut json, well framed", "a JSON list for a list: Input data was truncated"),
    unusable("two lists", "a JSON list for a list", b'[{"id": 1}] [{"id": 2}]'),
    unusable("nested and never closed", "a JSON list for a list", b"[" * 50_000),
    unusable("another charset", "no JSON for a list"),
    broken("cut gzip, well framed", "the gzip coding ends before its end"),
    broken("ended by closing, cut", "the gzip coding ends before its end"),
    broken("gzip bomb", "larger than 262144 bytes (max_body_bytes; for lists, max_list_bytes)"),
    broken("endless body", "larger than 262144 bytes"),
    broken("204", "answered 204, and not with a body"),
    broken("206", "answered 206: a part, and all was asked for"),
    broken("a coding nobody asked for", "'br' was not asked for"),
    passing("reset before the answer", "Connection reset by peer"),
    passing("shorter than its length", "the body was cut"),
    late("hang before the head", "did not answer within 1 s"),
    late("hang in the body", "sent nothing for 1 s (idle_timeout)"),
    late("one byte at a time in the body", "is too slow: "),
    passing("500", "answered 500"),
    ListLie(name="401", code="refused", says="answered 401: the credentials are missing or"),
    ListLie(name="404", code="absent", says="answered 404"),
    ListLie(name="redirects for ever", code="fetch", says="redirects more than 3 times"),
    ListLie(name="a redirect to a file", code="unsafe target", says="only http and https"),
]


@pytest.mark.parametrize("lie", LIST_LIES, ids=lambda lie: lie.name)
async def test_a_list_that_is_lied_about_costs_its_own_selector_alone(
    lie: ListLie, job: Job
) -> None:
    """
    What the lake has stays and does not count as gone, other lists are looked at, the failure is
    the Selector's; and once the provider is honest again only what is new is asked for.
    """
    await job.run()
    job.world.set_list("a", *[{"id": key} for key in (*GOOD, LIED, NEW)], token="t")
    job.world.set_data(NEW, body_of(NEW))
    script = job.provider.script(LIST, lie.behaviour or LIES[lie.name])
    told = await job.run(**lie.settings)

    assert script.taken > 0
    assert told.stored == job.honest(*ALL)
    assert told.asked == []
    assert told.summary.exit_code == 1
    assert told.summary.counters.gone == 0
    assert told.summary.received_bytes < 2**20
    statuses = {each.selector: each.status for each in told.summary.selectors}
    assert statuses == {"list=a": SelectorStatus.FAILED, "list=b": SelectorStatus.UNCHANGED}
    (failure,) = told.failures
    assert (failure.code, failure.selector) == (lie.code, "list=a")
    assert f"{job.provider.base_url}{LIST}" in failure.message
    assert lie.says in failure.message

    job.provider.heal()
    healed = await job.run()
    assert_all_is_well(healed)
    assert healed.stored == job.honest(*ALL, NEW)
    assert healed.asked == [f"data/{NEW}-v1.json"]


def assert_all_is_well(told: Told) -> None:
    assert told.failures == []
    assert told.summary.exit_code == 0


@pytest.mark.parametrize(
    "body", [b"null", b"[]x", b"{}", b"<html>", b""], ids=["null", "more", "object", "html", ""]
)
async def test_a_source_that_cannot_say_what_it_has(body: bytes, job: Job) -> None:
    """
    Its list of Selectors cannot be used: the lake stays as it is, and that is told once.
    """
    await job.run()
    job.provider.script("selectors.json", replaced(body))
    told = await job.run()

    assert told.stored == job.honest(*ALL)
    assert told.summary.exit_code == 1
    (failure,) = told.failures
    assert (failure.code, failure.identifier_key) == ("source", None)
    assert "things could not say what it has: " in failure.message
    job.provider.heal()
    healed = await job.run()
    assert_all_is_well(healed)
    assert healed.asked == []


@pytest.mark.parametrize(
    "bad", [b"null", b'{"token": 1}', b'{"list": NaN}', b'{"list": "\\ud800"}']
)
async def test_a_bad_record_in_the_list_of_selectors(bad: bytes, job: Job) -> None:
    """
    It is refused and told, and the Selectors around it are looked at.
    """
    job.provider.script("selectors.json", edited(inserting(bad)))
    told = await job.run()

    assert told.stored == job.honest(*ALL)
    assert told.summary.exit_code == 1
    (failure,) = told.failures
    assert failure.code == "record"
    assert f"entry 1 of {job.provider.base_url}selectors.json: " in failure.message
    job.provider.heal()
    healed = await job.run()
    assert_all_is_well(healed)
    assert healed.asked == []


async def test_a_list_that_says_it_has_not_changed(job: Job) -> None:
    """
    A 304 is believed where it was asked for; what is new comes as soon as the provider is honest.
    """
    await job.run()
    job.world.set_list("a", *[{"id": key} for key in (*GOOD, LIED, NEW)], token="t")
    job.world.set_data(NEW, body_of(NEW))
    job.provider.script(LIST, LIES["an unasked 304"])
    told = await job.run()
    assert_all_is_well(told)
    assert told.stored == job.honest(*ALL)
    job.provider.heal()
    assert (await job.run()).stored == job.honest(*ALL, NEW)


async def test_a_list_that_says_so_though_nothing_is_known_of_it(job: Job) -> None:
    """
    A 304 that nobody asked for says nothing: the Selector alone fails with its reason, and once the
    provider is honest all of it comes.
    """
    job.provider.script(LIST, LIES["an unasked 304"])
    told = await job.run()

    assert told.stored == job.honest(*ELSEWHERE)
    assert told.outcome == {"stored": len(ELSEWHERE)}
    assert told.summary.exit_code == 1
    statuses = {each.selector: each.status for each in told.summary.selectors}
    assert statuses == {"list=a": SelectorStatus.FAILED, "list=b": SelectorStatus.COMPLETE}
    (failure,) = told.failures
    assert (failure.code, failure.selector, failure.identifier_key) == ("fetch", "list=a", None)
    assert f"{job.provider.base_url}{LIST}" in failure.message
    assert "answered 304: not modified, which was not asked" in failure.message

    job.provider.heal()
    healed = await job.run()
    assert_all_is_well(healed)
    assert healed.stored == job.honest(*ALL)
    assert sorted(healed.asked) == [f"data/{key}-v1.json" for key in sorted([*GOOD, LIED])]


async def test_a_list_with_nothing_in_it(job: Job) -> None:
    """
    An empty list may be the truth. What was listed is kept and counted as gone, nothing is
    deleted, and when it is listed again nothing of it is fetched again.
    """
    await job.run()
    job.provider.script(LIST, replaced(b"[]"))
    told = await job.run()
    assert_all_is_well(told)
    assert told.stored == job.honest(*ALL)
    assert told.summary.counters.gone == 4

    job.provider.heal()
    healed = await job.run()
    assert_all_is_well(healed)
    assert healed.asked == []
    assert healed.summary.counters.gone == 0


# One record


def inserting(record: bytes) -> Any:
    """Puts *record* behind the first one of a list."""

    def edit(body: bytes) -> bytes:
        first, comma, rest = body.partition(b"}, ")
        return first + comma + record + b", " + rest

    return edit


BAD_RECORDS = {
    "null": b"null",
    "a number": b"17",
    "a text": b'"id"',
    "a list": b"[3]",
    "without an id": b"{}",
    "an id that is null": b'{"id": null}',
    "an id that is true": b'{"id": true}',
    "an id with a fraction": b'{"id": 1.5}',
    "an id in a list": b'{"id": [3]}',
    "an id that is not a number": b'{"id": NaN}',
    "an id of 1e400": b'{"id": 1e400}',
    "an id of 5,000 digits": b'{"id": ' + b"7" * 5000 + b"}",
    "an id with a lone surrogate": b'{"id": "\\ud800"}',
    "an id that is not utf-8": b'{"id": "\xff\xfe"}',
    "an id with a bare newline": b'{"id": "a\nb"}',
    "a name with a lone surrogate": b'{"id": 9, "name": "\\udfff"}',
    "infinity in the rest": b'{"id": 9, "more": Infinity}',
    "1e400 in the rest": b'{"id": 9, "more": 1e400}',
    "a lone surrogate in the rest": b'{"id": 9, "more": "\\ud800"}',
    "nested too deeply": b'{"id": 9, "more": ' + b"[" * 20_000 + b"]" * 20_000 + b"}",
    "a comma too many": b'{"id": 9,}',
    "an empty record": b"",
    "an empty id": b'{"id": ""}',
    "an id that is a way out": b'{"id": "../../../x"}',
    "an id that is a dot": b'{"id": "."}',
    "an id of two dots": b'{"id": ".."}',
    "an id with a newline": b'{"id": "a\\nb"}',
    "an id with a NUL": b'{"id": "a\\u0000b"}',
}


@pytest.mark.parametrize("name", BAD_RECORDS)
async def test_a_bad_record_is_refused_alone(name: str, job: Job) -> None:
    """
    The records around it are stored; it is counted, told with its place and reason, and gone from
    the list of failures as soon as it is gone from the provider's.
    """
    job.provider.script(LIST, edited(inserting(BAD_RECORDS[name])))
    told = await job.run()

    assert told.stored == job.honest(*ALL)
    assert told.outcome == {"stored": len(ALL), "refused": 1}
    assert told.summary.exit_code == 1
    (failure,) = told.failures
    assert (failure.code, failure.selector) == ("record", "list=a")
    assert f"entry 1 of {job.provider.base_url}{LIST}: " in failure.message or (
        "thing " in failure.message
    )

    job.provider.heal()
    healed = await job.run()
    assert_all_is_well(healed)
    assert healed.asked == []


async def test_records_that_are_there_twice(job: Job) -> None:
    """
    They are one Dataset: counted as a duplicate, fetched once, and no failure.
    """
    twice = json.dumps({"id": LIED}).encode()
    job.provider.script(LIST, edited(inserting(twice)))
    told = await job.run()

    assert_all_is_well(told)
    assert told.stored == job.honest(*ALL)
    assert told.outcome == {"stored": len(ALL), "duplicate": 1}
    assert told.asked.count(f"data/{LIED}-v1.json") == 1


async def test_a_hundred_bad_records(job: Job) -> None:
    """
    However many are bad, the good ones are stored, all are counted, and the message of each stays
    short.
    """
    bad = b", ".join([b'{"id": "' + b"x" * 2000 + b'", "more": NaN}'] * 100)
    job.provider.script(LIST, edited(inserting(bad)))
    told = await job.run()

    assert told.stored == job.honest(*ALL)
    assert told.outcome == {"stored": len(ALL), "refused": 100}
    assert told.summary.exit_code == 1
    assert len(told.failures) == 100
    job.provider.heal()
    assert_all_is_well(await job.run())
