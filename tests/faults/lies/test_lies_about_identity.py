"""Identities as providers make them: kept apart, kept exact, kept inside of the lake."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lakes import Lake
from lying import ELSEWHERE, GOOD, LIED, Job, ThingSource, Told, body_of

from ingestify.testing.fetcher import FakeAnswer, FakeFetcher
from ingestify.testing.lies import replaced

COMPOSED = unicodedata.normalize("NFC", "caf\u00e9")
DECOMPOSED = unicodedata.normalize("NFD", "caf\u00e9")
ALL = (*GOOD, LIED, *ELSEWHERE)

STRANGE = [
    "x" * 300,
    "A",
    "a",
    COMPOSED,
    DECOMPOSED,
    1,
    "1",
    "01",
    "-1",
    -1,
    2**64 + 1,
    2**64 + 2,
    10**400,
    "a b",
    "a%2Fb",
    "a/b",
    "/etc/passwd",
    "C:\\Windows",
    "nul",
    "x.json",
    "...",
    "~",
    "$(reboot)",
    "' OR 1=1; --",
    "?query=1",
    "#fragment",
    "\u202etxt.exe",
    "\U0001f3c6",
    "true",
    "null",
]


def lake_files(job: Job) -> list[Path]:
    return [path for path in (job.folder / "files").rglob("*.gz") if path.is_file()]


def offer(job: Job, *keys: int | str) -> None:
    """List *keys*, each with a file of its own unless two share an address."""
    job.world.set_list("a", *[{"id": key} for key in keys], token="t")
    for key in keys:
        job.world.set_data(key, body_of(str(key)))


def assert_all_is_well(told: Told) -> None:
    assert told.failures == []
    assert told.summary.exit_code == 0


async def test_strange_identities_are_all_different_things(job: Job) -> None:
    """
    Whatever an id looks like, it is asked for under its own address, kept under its own name, and
    found again: upper and lower case, both forms of an accent, 1 and "1", integers of any size.
    """
    offer(job, *STRANGE)
    told = await job.run()

    assert_all_is_well(told)
    assert told.stored == job.honest(*STRANGE, *ELSEWHERE)
    assert len(told.stored) == len(STRANGE) + len(ELSEWHERE)
    paths = [str(path.relative_to(job.folder)) for path in lake_files(job)]
    folded = {unicodedata.normalize("NFC", path).casefold() for path in paths}
    assert len(folded) == len(paths) == len(told.stored)
    assert all(path.isascii() and len(Path(path).name) < 256 for path in paths)
    assert not [path for path in job.folder.parent.rglob("*.gz") if job.folder not in path.parents]

    again = await job.run()
    assert_all_is_well(again)
    assert again.asked == []


@pytest.mark.parametrize("form", ["x" * 5000, "\u00e9" * 1000], ids=["5,000 characters", "accents"])
async def test_a_very_long_identity(form: str, job: Job) -> None:
    """
    Its path is bounded, and another id that differs in its last character alone is another thing.
    """
    keys = (f"{form}1", f"{form}2")
    job.world.set_list("a", *[{"id": key} for key in (*keys, LIED)], token="t")
    bodies = {key: json.dumps({"of": key}).encode() for key in keys}
    for key in keys:  # no file of a folder could be called that
        job.provider.script(f"data/{form[0]}*{key[-1]}-v1.json", replaced(bodies[key]))
    told = await job.run()

    assert_all_is_well(told)
    assert told.stored == {**bodies, **job.honest(LIED, *ELSEWHERE)}
    assert max(len(path.name) for path in lake_files(job)) < 256


async def test_an_identity_that_no_server_takes(job: Job) -> None:
    """
    Its address is too long for the provider's server: it fails alone, says where and why, and is
    forgotten as soon as the provider does not list it any more.
    """
    offer(job, *GOOD, LIED)
    job.world.set_list("a", *[{"id": key} for key in (*GOOD, LIED, "y" * 9000)], token="t")
    told = await job.run()

    assert told.stored == job.honest(*ALL)
    assert told.outcome == {"stored": len(ALL), "failed": 1}
    assert told.summary.exit_code == 1
    (failure,) = told.failures
    assert (failure.code, failure.selector) == ("fetch", "list=a")
    assert f"{job.provider.base_url}data/yyyy" in failure.message
    assert failure.message.endswith("answered 400")

    offer(job, *GOOD, LIED)
    healed = await job.run()
    assert_all_is_well(healed)
    assert healed.stored == job.honest(*ALL)
    assert healed.asked == []


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["../../x", ".", "..", "a\nb", "\0", "\ud800", ""]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["id", "token", "name", "more"]) | st.text(), inner)
    ),
    max_leaves=6,
)
RECORDS = st.lists(
    JSON | st.fixed_dictionaries({"id": JSON}, optional={"name": JSON, "more": JSON}), max_size=6
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(records=RECORDS, position=st.integers(0, 6))
async def test_any_records_in_a_list_harm_none_of_the_others(
    records: list[Any], position: int
) -> None:
    """
    Whatever JSON, or nearly JSON, stands in a list: the good records around it are stored, each
    record has its outcome and each failure its reason; and when the bad ones are gone, all is well.
    """
    base = "http://things.invalid/"
    good = [{"id": 7001}, {"id": "7002"}]
    served = {
        f"{base}data/{key}-v1.json": FakeAnswer(body=json.dumps(body_of(key)).encode())
        for key in ("7001", "7002")
    }
    served[f"{base}selectors.json"] = FakeAnswer(body=b'[{"list": "a"}]')
    mixed = [*good[:1], *records[:position], *good[1:], *records[position:]]

    def serving(listed: list[Any]) -> FakeFetcher:
        body = json.dumps(listed).encode()
        return FakeFetcher({**served, f"{base}list-a.json": FakeAnswer(body=body)})

    lake = Lake(fetcher=serving(mixed))
    summary = await lake.run(ThingSource("things", base_url=base))

    assert summary.counters.is_balanced
    assert summary.counters.listed == len(mixed)
    assert {7001, "7002"} <= {dataset.identifier["id"] for dataset in await lake.datasets()}
    failed = summary.counters.failed + summary.counters.refused
    assert len(summary.failures) == failed
    assert all(each.message and each.code != "bug" for each in summary.failures)
    assert summary.exit_code == (1 if failed else 0)
    await lake.check()

    lake.fetcher = serving(good)
    healed = await lake.run(ThingSource("things", base_url=base))
    assert healed.exit_code == 0
    assert healed.counters.skipped == len(good)
    assert not [each for each in await lake.catalog.failures() if each.code == "record"]
