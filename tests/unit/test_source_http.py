"""What a Source calls `http`: lists, records, and the ones that are refused."""

import gzip
import json
import logging
import tracemalloc
import zlib
from contextlib import contextmanager, suppress
from itertools import chain

import anyio
import anyio.lowlevel
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestify.client import Client, ClientHttp, ListHttp, ListNotModified
from ingestify.errors import (
    AbsentError,
    FetchError,
    IngestifyError,
    InvalidBodyError,
    RecordError,
    SourceError,
    UnsafeTargetError,
)
from ingestify.http import json_lists, json_parts
from ingestify.http.in_memory import Memory
from ingestify.http.json_lists import kind_of, read_entries, read_entry, read_json
from ingestify.model.catalog import ListValidators
from ingestify.model.http import HttpSettings, QueryAuth, Secret
from ingestify.model.selector import Selector
from ingestify.ports import Http, Source
from ingestify.testing.clock import VirtualClock
from ingestify.testing.fetcher import FakeAnswer, FakeFetcher
from ingestify.throttle import Throttle

BASE = "https://api.example.com/v1/"
CANARY = "canary-4711"


class Match(msgspec.Struct):
    match_id: int
    name: str = ""


class Provider(Source):
    provider = "example"

    def check_answer(self, status, headers, head):
        if head.startswith(b'{"error"'):
            raise FetchError(f"the provider says: {head.decode()}", status=status)


def client_for(answers, *, auth=None, **settings):
    clock = VirtualClock()
    fetcher = answers if isinstance(answers, FakeFetcher) else FakeFetcher(answers)
    return Client(
        Provider("example", base_url=BASE, auth=auth),
        fetcher=fetcher,
        throttle=Throttle(clock),
        clock=clock,
        settings=HttpSettings(**settings),
    )


def http_for(body, **options):
    return ClientHttp(client_for({BASE + "list": FakeAnswer(body=body)}), **options)


async def items_of(http, **options):
    return [item async for item in http.get_json_items("list", **options)]


def test_both_are_the_port():
    """
    The type checker is the proof: both can be passed where a Source wants its `http`.
    """

    def source_wants(http: Http) -> Http:
        return http

    client = client_for({})
    assert source_wants(ClientHttp(client))
    assert source_wants(ListHttp(client))


async def test_json_is_read_exactly_and_as_a_type():
    """
    Integers of any size stay exact; with a type, values are that type.
    """
    http = http_for(b'\xef\xbb\xbf {"match_id": 123456789012345678901234567890, "name": "A"}')
    assert (await http.get_json("list"))["match_id"] == 123456789012345678901234567890
    match = await http.get_json("list", type=Match)
    assert match == Match(match_id=123456789012345678901234567890, name="A")


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", "an empty body"),
        (b"  ", "an empty body"),
        (b"<html>", "HTML or XML"),
        (b"null", "null"),
        (b'{"a": 1}', "a JSON object"),
        (b'"text"', "a JSON text"),
        (b"17", "a number"),
        (b"oops", "no JSON"),
        (b"[1, 2", "a JSON list"),
        (b"[1, 2] 3", "a JSON list"),
        (b"[1, 2}", "a JSON list"),
        (b'[1, "2]', "a JSON list"),
        (b"[1]]", "a JSON list"),
    ],
)
async def test_what_is_no_list_is_told_with_its_address(body, kind):
    """
    A list that is null, cut or something else fails the Selector, naming where and what.
    """
    with pytest.raises(SourceError, match=rf"{BASE}list answered {kind}"):
        await items_of(http_for(body))


async def test_a_list_may_lie_under_a_key():
    """
    The list under a key is read; a missing or wrong one is told.
    """
    http = http_for(b'{"meta": NaN, "data": [1, 2], "x": {"data": [3]}}')
    assert await items_of(http, key="data") == [1, 2]
    with pytest.raises(SourceError, match="an object without 'items'; it has: 'data', 'meta', 'x'"):
        await items_of(http, key="items")
    with pytest.raises(SourceError, match="a JSON object under 'x' for a list"):
        await items_of(http, key="x")
    with pytest.raises(SourceError, match="a JSON list for an object"):
        await items_of(http_for(b"[]"), key="data")


BAD = [
    b"NaN",
    b"-Infinity",
    b"1e400",
    b"1" * 5000,
    b'"\\ud800"',
    b'"\xff\xfe"',
    b'{"a": "\\ud800"}',
    b'{"a": 1,}',
    b'{"a" 1}',
    b"{1: 2}",
    b"01",
    b"tru",
    b"",
    b'"a\nb"',
    b"[" * 100_000 + b"]" * 100_000,
]


@pytest.mark.parametrize("bad", BAD)
async def test_a_bad_record_is_refused_alone(bad):
    """
    One entry that is no JSON is reported with its position; those around it are read.
    """
    refused = []
    body = b'[{"match_id": 1}, ' + bad + b', {"match_id": 2}]'
    http = http_for(body, on_refused=lambda position, reason: refused.append((position, reason)))
    assert await items_of(http) == [{"match_id": 1}, {"match_id": 2}]
    ((position, reason),) = refused
    assert position == 1
    assert reason.startswith(f"entry 1 of {BASE}list: ")


async def test_a_record_of_another_type_is_refused_alone():
    """
    The reason names the field that is wrong.
    """
    refused = []
    body = b'[{"match_id": "x"}, {"match_id": 2}, null, {"name": "y"}]'
    http = http_for(body, on_refused=lambda position, reason: refused.append((position, reason)))
    assert await items_of(http, type=Match) == [Match(match_id=2)]
    assert [position for position, _ in refused] == [0, 2, 3]
    assert "$.match_id" in refused[0][1]


async def test_raw_records_are_the_providers_own_bytes():
    """
    As Raw, an entry is as it was sent, and does not keep the whole list alive.
    """
    body = b'[{"a":1.0,  "b":[1, 2]}, 3, NaN]'
    refused = []
    http = http_for(body, on_refused=lambda position, reason: refused.append(position))
    first, second = await items_of(http, type=msgspec.Raw)
    assert bytes(first) == b'{"a":1.0,  "b":[1, 2]}'
    assert bytes(second) == b"3"
    assert refused == [2]


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(
    st.lists(json_values),
    st.sets(st.integers(0, 20)),
    st.booleans(),
    st.sampled_from([None, "a", 'a "b"', "ü"]),
    st.sampled_from([(2, 1, 1), (7, 3, 1000), (11, 5, 3), (120_000, 60_000, 5000)]),
)
def test_any_list_with_bad_records_gives_the_good_ones(values, bad, is_ascii, key, sizes):
    """
    Wherever bad entries stand, and whatever pieces the list is gone through in, every other one
    is read as if they were not there.
    """
    parts = [
        json.dumps(value, ensure_ascii=is_ascii).encode("utf-8", "replace") for value in values
    ]
    expected = [json.loads(part) for part in parts]
    for position in sorted(position for position in bad if position <= len(parts)):
        parts.insert(position, BAD[position % 6])
        expected.insert(position, RecordError)
    decoder = msgspec.json.Decoder()
    got = []
    body = b" [" + b" , ".join(parts) + b"]\n"
    if key is not None:
        named = json.dumps(key, ensure_ascii=is_ascii).encode()
        body = b'{"a b": [1], %b: null, %b : %b, "b": NaN}' % (named, named, body)
    with small_pieces(*sizes):
        for entry in chain.from_iterable(read_entries(body, key, url="x")):
            try:
                got.append(read_entry(entry, decoder))
            except RecordError:
                got.append(RecordError)
    assert got == expected


@contextmanager
def small_pieces(piece, part, signs):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_lists, "PIECE", piece)
        patch.setattr(json_parts, "SLICE", max(2, part))
        patch.setattr(json_parts, "MOST_SIGNS", signs)
        yield


@pytest.mark.parametrize("entry", [b"1", b'"a,b"', b"NaN"])
async def test_a_long_list_of_small_entries_takes_no_more_memory_than_its_text(entry):
    """
    The entries of a list are made while they are used, however many there are.
    """
    body = b"[" + b",".join([entry] * (512 * 1024 // len(entry))) + b"]"
    tracemalloc.start()
    try:
        count = sum(map(len, read_entries(body, None, url="x")))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == body.count(entry)
    assert peak < 12 * 1024 * 1024


@pytest.mark.parametrize(
    "body",
    [
        b'["' + b"\\n" * 500_000 + b'", NaN]',
        b"[NaN, [" + b"1," * 500_000 + b"1]]",
        b"[" + b"[" * 400_000 + b"]" * 400_000 + b", NaN]",
        b'[{"a": "\\ud800", "b": [' + b'"",' * 300_000 + b"1]}, 1]",
    ],
)
async def test_others_work_while_a_long_list_with_something_unreadable_is_gone_through(body):
    """
    Two large entries, of which one is unreadable, hold up nobody while their ends are looked for.
    """
    turns = 0

    async def work():
        nonlocal turns
        while True:
            turns += 1
            await anyio.lowlevel.checkpoint()

    told = []
    http = ClientHttp(
        client_for({BASE + "list": FakeAnswer(body=body)}),
        on_refused=lambda *said: told.append(said),
    )
    async with anyio.create_task_group() as tg:
        tg.start_soon(work)
        await http.get_bytes("list")
        begun = turns
        async for _ in http.get_json_items("list", type=int):
            pass
        tg.cancel_scope.cancel()
    assert turns - begun > len(body) / 200_000
    assert len(told) in (1, 2)


@given(st.binary() | st.text().map(str.encode) | st.from_regex(rb'\A[\[\]{},:"\\ 01a]*\Z'))
def test_any_bytes_are_a_list_or_a_source_error(body):
    """
    Whatever is answered, it is told as a Source's error, never as a bug.
    """
    for key in (None, "a"):
        with suppress(SourceError):
            list(read_entries(body, key, url="x"))
    with suppress(SourceError):
        read_json(body, dict, url="x")
    assert kind_of(body)


async def test_bodies_are_decoded_to_their_end():
    """
    gzip and deflate are undone; a cut or broken coding is an error that names the address.
    """
    plain = b"[1, 2]" * 1000
    coded = gzip.compress(plain)
    bodies = {"gzip": coded, "x-gzip": coded, "deflate": zlib.compress(plain), "identity": plain}
    for coding, body in bodies.items():
        answer = FakeAnswer(body=body, headers={"Content-Encoding": coding})
        assert await ClientHttp(client_for({BASE + "list": answer})).get_bytes("list") == plain
    for coding, body in {"gzip": coded[:-3], "deflate": b"oops", "br": plain}.items():
        answer = FakeAnswer(body=body, headers={"Content-Encoding": coding})
        with pytest.raises(InvalidBodyError, match=f"{BASE}list: "):
            await ClientHttp(client_for({BASE + "list": answer})).get_bytes("list")


async def test_a_bomb_is_capped():
    """
    A small body that decodes to a large one is not decoded to its end.
    """
    bomb = FakeAnswer(body=gzip.compress(b"0" * 50_000_000), headers={"Content-Encoding": "gzip"})
    http = ClientHttp(client_for({BASE + "list": bomb}, max_list_bytes=1_000_000))
    with pytest.raises(InvalidBodyError, match="larger than 1000000 bytes"):
        await http.get_bytes("list")


async def test_large_bodies_are_decoded_too():
    """
    What is decoded in a thread comes out the same.
    """
    values = [f"{number:x}" * 20 for number in range(200_000)]
    coded = gzip.compress(json.dumps(values).encode(), compresslevel=1)
    answer = FakeAnswer(body=coded, headers={"Content-Encoding": "gzip"})
    assert len(coded) > 1024 * 1024
    assert await items_of(ClientHttp(client_for({BASE + "list": answer}))) == values


async def test_a_source_judges_its_lists():
    """
    A 200 that holds an error is the error that the Source makes of it, without secrets.
    """
    body = b'{"error": "bad key ' + CANARY.encode() + b'"}'
    auth = QueryAuth("key", Secret(CANARY))
    http = ClientHttp(client_for({BASE + "list": FakeAnswer(body=body)}, auth=auth))
    with pytest.raises(FetchError, match=r"the provider says: .*bad key \*\*\*") as caught:
        await items_of(http)
    assert CANARY not in repr(caught.value)


async def test_refused_records_are_told_without_secrets(caplog):
    """
    Without anybody to tell, a warning is logged; known secrets are taken out of every reason.
    """
    client = client_for({BASE + "list": FakeAnswer()}, auth=QueryAuth("key", Secret(CANARY)))
    http = ClientHttp(client)
    await http.get_bytes("list")
    http.refuse(f"no id in {CANARY}")
    assert "no id in ***" in caplog.text
    told = []
    ClientHttp(client, on_refused=lambda *said: told.append(said)).refuse("why")
    assert told == [(None, "why")]
    assert caplog.record_tuples[-1][:2] == ("ingestify.client", logging.WARNING)


async def test_addresses_are_made_below_the_base():
    """
    Segments are encoded, a Selector can be the parameters, and other places are refused.
    """
    fetcher = FakeFetcher({BASE + "list": FakeAnswer(body=b"[]")})
    http = ClientHttp(client_for(fetcher))
    assert http.url("matches/{}/events", "a/b") == BASE + "matches/a%2Fb/events"
    await http.get_json("list", params=Selector({"season": 1, "cup": "ü"}))
    assert fetcher.requests[0].url == BASE + "list?season=1&cup=%C3%BC"
    for url in ("https://evil.example/", "../list"):
        with pytest.raises(UnsafeTargetError):
            await http.get_bytes(url)


# Lists that may not have changed

URL = BASE + "list"
KNOWN = ListValidators(url=URL, etag='"x"', last_modified="today")


def tagged(body=b"[1]"):
    return FakeAnswer(body=body, headers={"ETag": '"y"', "Last-Modified": "now"})


async def test_a_known_list_is_asked_for_conditionally():
    """
    A 304 ends the Source's generator, and the validators stay as they were.
    """
    fetcher = FakeFetcher({URL: FakeAnswer(status=304)})
    http = ListHttp(client_for(fetcher), validators=KNOWN)
    with pytest.raises(ListNotModified):
        await items_of(http)
    assert issubclass(ListNotModified, IngestifyError)
    assert fetcher.requests[0].headers["if-none-match"] == '"x"'
    assert fetcher.requests[0].headers["if-modified-since"] == "today"
    assert http.validators == KNOWN
    assert http.requests_made == 1


async def test_a_list_that_changed_leaves_its_new_validators():
    """
    They belong to the address as it was asked for, without credentials.
    """
    fetcher = FakeFetcher({URL: tagged()})
    client = client_for(fetcher, auth=QueryAuth("key", Secret(CANARY)))
    http = ListHttp(client, validators=KNOWN)
    assert await items_of(http, params={"page": 1}) == [1]
    assert http.validators == ListValidators(url=URL + "?page=1", etag='"y"', last_modified="now")
    assert CANARY in fetcher.requests[0].url


@pytest.mark.parametrize(
    "validators", [None, ListValidators(url=BASE + "other", etag='"x"'), ListValidators(url=URL)]
)
async def test_a_list_is_asked_for_unconditionally_otherwise(validators):
    """
    Without validators, or with those of another address, nothing conditional is sent.
    """
    fetcher = FakeFetcher({URL: tagged()})
    await items_of(ListHttp(client_for(fetcher), validators=validators))
    assert "if-none-match" not in fetcher.requests[0].headers


async def test_only_the_first_list_is_conditional():
    """
    Of several requests only the first one is asked for conditionally, and remembered.
    """
    fetcher = FakeFetcher({URL: tagged(), BASE + "other": tagged()})
    http = ListHttp(client_for(fetcher), validators=KNOWN)
    await http.get_bytes("other")
    await items_of(http)
    assert all("if-none-match" not in request.headers for request in fetcher.requests)
    assert http.requests_made == 2
    assert http.validators is not None
    assert http.validators.url == BASE + "other"


async def test_a_list_with_own_headers_is_never_conditional():
    """
    The validators say nothing about which headers they were given for.
    """
    fetcher = FakeFetcher({URL: tagged()})
    http = ListHttp(client_for(fetcher), validators=KNOWN)
    await http.get_bytes("list", headers={"X-Season": "2024"})
    assert "if-none-match" not in fetcher.requests[0].headers
    assert http.validators is None


async def test_a_list_that_fails_leaves_no_validators():
    """
    Nothing is remembered of an answer that could not be used.
    """
    http = ListHttp(client_for({URL: FakeAnswer(status=404, headers={"ETag": '"y"'})}))
    with pytest.raises(AbsentError):
        await items_of(http)
    http = ListHttp(client_for({URL: tagged(b'{"error": 1}')}))
    with pytest.raises(FetchError):
        await items_of(http)
    assert http.validators is None


# Memory


class Lists:
    """Lists of more than 4 MiB, and who has one now."""

    def __init__(self, *, coding="", announced=False, most=1):
        self.body = json.dumps(["x" * 1000] * 5000).encode()
        wire = gzip.compress(self.body) if coding else self.body
        headers = {"Content-Encoding": coding} if coding else {}
        if announced:
            headers["Content-Length"] = str(len(wire))
        chunks = [wire[start : start + 100_000] for start in range(0, len(wire), 100_000)]
        self.fetcher = FakeFetcher({BASE + "list": FakeAnswer(body=chunks, headers=headers)})
        self.client = client_for(self.fetcher)
        self.client.memory = self.memory = Memory(most)
        self.client._exchanges = anyio.Semaphore(1)


@pytest.mark.parametrize(
    ("coding", "announced"), [("", False), ("", True), ("gzip", False), ("gzip", True)]
)
async def test_one_large_list_is_held_at_a_time_where_there_is_no_room_for_two(coding, announced):
    """
    Whoever finds no room gives its exchange up, so that whoever has it can come to an end, and
    asks again when there is.
    """
    lists = Lists(coding=coding, announced=announced, most=6 * 1024**2)
    held = 0

    async def go_through():
        nonlocal held
        http = ClientHttp(lists.client)
        count = 0
        async for _ in http.get_json_items("list"):
            held += count == 0
            assert held == 1
            count += 1
            if count % 1000 == 0:  # what it leads to needs an exchange, and there is only one
                with suppress(AbsentError):
                    await http.get_bytes("file")
        assert count == 5000
        held -= 1

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tg:
            for _ in range(3):
                tg.start_soon(go_through)
    assert lists.memory.taken == 0
    assert lists.fetcher.most_in_flight == 1


@pytest.mark.parametrize("coding", ["", "gzip"])
async def test_lists_that_fit_are_held_side_by_side(coding):
    """
    A list that says how large it is takes just that.
    """
    lists = Lists(coding=coding, announced=True, most=12 * 1024**2)
    one, other = (ClientHttp(lists.client).get_json_items("list").__aiter__() for _ in range(2))
    await anext(one)
    await anext(other)
    assert lists.memory.taken == 2 * len(lists.body)
    await one.aclose()
    assert lists.memory.taken == len(lists.body)
    await other.aclose()
    assert lists.memory.taken == 0
    assert lists.fetcher.count() == 2


async def test_a_list_that_fails_holds_nothing():
    """
    Cut, refused, or no JSON: what was taken for it is given back.
    """
    lists = Lists(most=100 * 1024**2)
    http = ClientHttp(lists.client)
    for body in (lists.body[:-1], b'{"error"' + lists.body):
        lists.fetcher.answer(BASE + "list", FakeAnswer(body=body))
        with pytest.raises(IngestifyError):
            await http.get_json("list")
        assert lists.memory.taken == 0
    lists.fetcher.answer(BASE + "list", FakeAnswer(body=lists.body, is_cut=True))
    with pytest.raises(IngestifyError):
        await http.get_bytes("list")
    assert lists.memory.taken == 0


async def test_a_list_is_not_copied():
    """
    A list of 40 MB takes little more than that while it is received and decoded.
    """
    size = 40 * 1024**2
    for coding in ("", "gzip"):
        lists = Lists(most=100 * 1024**2)
        body = b"[" + b" " * (size - 2) + b"]"
        wire = gzip.compress(body) if coding else body
        headers = {"Content-Encoding": coding} if coding else {}
        del body
        lists.fetcher.answer(BASE + "list", FakeAnswer(body=[wire], headers=headers))
        tracemalloc.start()
        try:
            assert len(await ClientHttp(lists.client).get_bytes("list")) == size
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 1.5 * size


async def test_the_list_of_one_source_does_not_keep_out_that_of_another():
    """
    It is held until its Datasets are fetched, and its provider may be slow.
    """
    slow, other = Lists(), Lists()
    other.client.memory = slow.memory
    held = ClientHttp(slow.client).get_json_items("list").__aiter__()
    await anext(held)
    with anyio.fail_after(5):
        assert len(await items_of(ClientHttp(other.client))) == 5000
        assert other.fetcher.count() == 1
    assert slow.memory.taken == 1
    await held.aclose()
    assert slow.memory.taken == 0


async def test_what_a_loader_asks_for_has_no_room_of_its_own_source():
    """
    It is given back as soon as it is here, so all wait for one another: there is no more of it.
    """
    lists, loaders = Lists(), Memory(1)
    await loaders.take(1)
    async with anyio.create_task_group() as tg:
        tg.start_soon(ClientHttp(lists.client, memory=loaders).get_bytes, "list")
        await anyio.wait_all_tasks_blocked()
        assert (lists.fetcher.count(), loaders.taken) == (1, 1)
        loaders.give_back(1)
    assert (lists.fetcher.count(), loaders.taken) == (2, 0)


@pytest.mark.parametrize("failing", ["refused", "cut"])
async def test_nothing_is_held_while_a_list_is_waited_for(failing):
    """
    Refused for a minute, or broken off: others may have what was taken for it.
    """
    lists, taken = Lists(), []

    def saying(**answer):
        def note(_):
            taken.append(lists.memory.taken)
            return FakeAnswer(**answer)

        return note

    failed = {
        "refused": saying(status=429, headers={"Retry-After": "60"}),
        "cut": saying(body=[lists.body, b""], is_cut=True),
    }
    held = ClientHttp(lists.client).get_json_items("list").__aiter__()
    await anext(held)
    whole = saying(body=lists.body)
    lists.fetcher.answer(BASE + "list", whole, failed[failing], whole)
    async with anyio.create_task_group() as tg:
        tg.start_soon(items_of, ClientHttp(lists.client))
        await anyio.wait_all_tasks_blocked()  # there is no room for it
        await held.aclose()
    assert taken == [1, 1, 0]
    assert lists.memory.taken == 0
