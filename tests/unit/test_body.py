"""From a body on the wire to bytes in the store: what is kept, and what is refused."""

import gzip
import hashlib
import io
import json
import struct
import tracemalloc
import zipfile
import zlib
from contextlib import asynccontextmanager
from itertools import pairwise

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestify.adapters.files.local import LocalFileStore
from ingestify.adapters.files.memory import MemoryFileStore
from ingestify.errors import InvalidBodyError, StoreError
from ingestify.http.codings import STEP, Gunzip, Inflate, decode_body
from ingestify.http.in_memory import Memory
from ingestify.pipeline.body import (
    BodyEncoder,
    decode_bytes,
    decoded,
    encode_whole,
    lead_through,
    store_body,
)
from ingestify.pipeline.formats import JsonCheck, looks_like_html

MEGABYTE = 1024 * 1024
EVENTS = json.dumps([{"id": number, "name": "Pass"} for number in range(60)]).encode()
PAGE = b"\n <!-- down --><!DOCTYPE html><html><body>Log in</body></html>"


async def in_pieces(data, piece=STEP // 4):
    for start in range(0, len(data), piece):
        yield data[start : start + piece]


async def keep(body, *, coding="", declared="json", max_bytes=100 * MEGABYTE, piece=STEP // 4):
    """What is stored of *body*, and what is said of it."""
    store = MemoryFileStore()
    chunks = in_pieces(body, piece)
    try:
        staged, encoded = await store_body(
            chunks, coding=coding, format=declared, max_bytes=max_bytes, store=store
        )
    except InvalidBodyError:
        assert not store.staged
        raise
    (path,) = await store.publish([(staged, "a/b")])
    return await store.read(path), encoded


def run(stage, data, piece):
    """*data* led through *stage* in pieces of that size, without an event loop."""
    found = []
    for start in range(0, len(data), piece):
        found.extend(stage.feed(data[start : start + piece]))
    found.extend(stage.finish())
    return b"".join(found)


def dressed(data):
    """*data* as a gzip member with every optional field there is."""
    head = b"\x1f\x8b\x08\x1f\0\0\0\0\0\xff" + b"\4\0abcd" + b"name.json\0" + b"a comment\0"
    head += struct.pack("<H", zlib.crc32(head) & 0xFFFF)
    deflater = zlib.compressobj(6, zlib.DEFLATED, -15)
    body = deflater.compress(data) + deflater.flush()
    return head + body + struct.pack("<II", zlib.crc32(data), len(data))


def raw_deflate(data):
    deflater = zlib.compressobj(6, zlib.DEFLATED, -15)
    return deflater.compress(data) + deflater.flush()


@given(
    st.binary(min_size=1, max_size=3000),
    st.lists(st.integers(0, 3000), max_size=3),
    st.integers(1, 4000),
    st.sampled_from(["", "identity", "gzip", "x-gzip", "GZIP", "deflate"]),
    st.sampled_from(["png", "unheard-of"]),
)
def test_bytes_survive_any_coding_and_chunking(data, cuts, piece, coding, declared):
    """
    What is stored decodes to the provider's bytes, whose size and hash are told.
    """
    members = [data[start:end] for start, end in pairwise([0, *sorted(cuts), len(data)])]
    codings = {
        "gzip": lambda: b"".join(map(gzip.compress, members[:-1])) + dressed(members[-1]),
        "deflate": lambda: zlib.compress(data) if len(cuts) % 2 else raw_deflate(data),
    }
    body = codings.get(coding.lower().removeprefix("x-"), lambda: data)()
    encoder = BodyEncoder(coding=coding, format=declared, max_bytes=10_000)

    stored = run(encoder, body, piece)

    assert decode_bytes(stored, encoder.result.codec) == data
    assert encoder.result.size == len(data)
    assert encoder.result.sha256 == hashlib.sha256(data).hexdigest()
    assert encoder.result.codec == ("" if declared == "png" else "gzip")
    if "gzip" in coding and declared != "png":
        assert stored == body


@pytest.mark.parametrize("size", [1, 1000, 64 * 1024, 64 * 1024 + 1, 3 * MEGABYTE])
@pytest.mark.parametrize("coding", ["", "gzip", "deflate"])
async def test_bodies_of_any_size_come_back(size, coding):
    """
    In the event loop or in threads, the result is the same.
    """
    body = json.dumps(list(range(size // 5 + 1))).encode()
    wire = {"": body, "gzip": gzip.compress(body), "deflate": zlib.compress(body)}[coding]

    stored, encoded = await keep(wire, coding=coding)

    assert encoded.codec == "gzip"
    assert encoded.validation == "whole"
    assert gzip.decompress(stored) == decode_bytes(stored, "gzip") == body
    assert b"".join([piece async for piece in decoded(in_pieces(stored), "gzip")]) == body
    assert b"".join([piece async for piece in decoded(in_pieces(stored), "")]) == stored


def test_what_we_compress_says_nothing_of_the_time():
    """
    The same body always makes the same stored bytes.
    """
    stored = run(BodyEncoder(coding="", format="json", max_bytes=1000), b"[1, 2, 3]", 4)

    assert stored[4:8] == b"\0\0\0\0"


@pytest.mark.parametrize(
    "wire",
    [gzip.compress(EVENTS), dressed(EVENTS), gzip.compress(b"[]") + gzip.compress(EVENTS)],
    ids=["plain", "dressed", "second member"],
)
@pytest.mark.parametrize("piece", [1, 7, 10_000])
def test_a_gzip_body_cut_anywhere_is_refused(wire, piece):
    """
    Correct framing does not make a cut body whole, wherever it is cut.
    """
    whole_members = {len(gzip.compress(b"[]"))} if wire.count(b"\x1f\x8b\x08") > 1 else set()

    for end in set(range(len(wire))) - whole_members:
        with pytest.raises(InvalidBodyError):
            run(BodyEncoder(coding="gzip", format="dat", max_bytes=10_000), wire[:end], piece)

    assert run(Gunzip(), wire, piece).endswith(EVENTS)


@pytest.mark.parametrize("wire", [zlib.compress(EVENTS), raw_deflate(EVENTS)], ids=["zlib", "raw"])
@pytest.mark.parametrize("piece", [1, 7, 10_000])
def test_a_deflate_body_cut_anywhere_is_refused(wire, piece):
    """
    In both of the forms that servers send.
    """
    for end in range(len(wire)):
        with pytest.raises(InvalidBodyError):
            run(BodyEncoder(coding="deflate", format="dat", max_bytes=10_000), wire[:end], piece)

    assert run(Inflate(), wire, piece) == EVENTS


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_a_single_wrong_byte_never_passes_for_another_body(coding):
    """
    A damaged coding is refused, or was damaged where it does not matter.
    """
    wire = gzip.compress(EVENTS, mtime=0) if coding == "gzip" else zlib.compress(EVENTS)

    for position in range(len(wire)):
        damaged = bytearray(wire)
        damaged[position] ^= 0x55
        encoder = BodyEncoder(coding=coding, format="dat", max_bytes=100_000)
        try:
            run(encoder, bytes(damaged), 1000)
        except InvalidBodyError:
            continue
        assert encoder.result.sha256 == hashlib.sha256(EVENTS).hexdigest()


def test_checksum_and_length_of_gzip_are_checked():
    """
    Each of the last eight bytes counts.
    """
    for position in range(-8, 0):
        damaged = bytearray(gzip.compress(EVENTS))
        damaged[position] ^= 1
        with pytest.raises(InvalidBodyError, match="checksum or length"):
            run(Gunzip(), bytes(damaged), 1000)


@pytest.mark.parametrize("garbage", [b"x", b"\0", b"\n", b"\x1f", b"<html>"])
@pytest.mark.parametrize("piece", [1, 10_000])
def test_nothing_may_follow_a_coding(garbage, piece):
    """
    Not even zeros: what follows may be an error message.
    """
    for coding, wire in (("gzip", gzip.compress(EVENTS)), ("deflate", zlib.compress(EVENTS))):
        with pytest.raises(InvalidBodyError):
            run(BodyEncoder(coding=coding, format="dat", max_bytes=9999), wire + garbage, piece)


def test_flags_that_do_not_exist_are_refused_of_lists_too():
    """
    A header that nobody can have written means that the body is damaged.
    """
    wire = MEMBER[:3] + b"\x20" + MEMBER[4:]
    with pytest.raises(InvalidBodyError, match="flags"):
        decode_body(wire, "gzip", MEGABYTE)
    assert decode_body(MEMBER, "gzip", MEGABYTE) == EVENTS


def test_empty_members_are_part_of_gzip():
    """
    They add nothing, and are kept as they came; alone they are an empty body.
    """
    empty = gzip.compress(b"")
    encoder = BodyEncoder(coding="gzip", format="json", max_bytes=1000)

    assert run(encoder, empty + gzip.compress(b"[1]") + empty * 3, 5)[: len(empty)] == empty
    assert encoder.result.size == 3
    with pytest.raises(InvalidBodyError, match="empty once it is decoded"):
        run(BodyEncoder(coding="gzip", format="dat", max_bytes=1000), empty * 3, 1000)


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip", "compress", "deflate, gzip"])
async def test_a_coding_that_was_not_asked_for_is_refused(coding):
    """
    It is named in the error.
    """
    with pytest.raises(InvalidBodyError, match=coding):
        await keep(b"{}", coding=coding)


async def test_an_empty_body_is_refused():
    """
    Whatever its format and coding.
    """
    for coding in ("", "gzip", "deflate"):
        with pytest.raises(InvalidBodyError, match="empty"):
            await keep(b"", coding=coding, declared="unheard-of")


async def test_said_to_be_gzip_but_is_not():
    """
    The error does not speak of a cut body.
    """
    with pytest.raises(InvalidBodyError, match="said to be gzip"):
        await keep(b'{"plain": true}', coding="gzip")


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
@pytest.mark.parametrize("declared", ["dat", "mkv"])
async def test_a_bomb_stops_at_the_cap(coding, declared):
    """
    A body that decodes to far more than is allowed costs neither memory nor time.
    """
    bomb = (gzip if coding == "gzip" else zlib).compress(bytes(200 * MEGABYTE), 9)
    tracemalloc.start()
    try:
        with pytest.raises(InvalidBodyError, match=f"larger than {8 * MEGABYTE} bytes"):
            await keep(bomb, coding=coding, declared=declared, max_bytes=8 * MEGABYTE)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 12 * MEGABYTE + 2 * len(bomb)


def test_a_coding_cannot_be_longer_than_its_body_for_ever():
    """
    Headers and empty members alone do not get past the cap.
    """
    encoder = BodyEncoder(coding="gzip", format="dat", max_bytes=1000)

    with pytest.raises(InvalidBodyError, match="larger than"):
        run(encoder, gzip.compress(b"") * 10_000, 5000)
    with pytest.raises(InvalidBodyError, match="header of more than"):
        run(Gunzip(), b"\x1f\x8b\x08\x08\0\0\0\0\0\xff" + b"n" * 300_000, 100_000)


async def test_a_body_of_just_the_allowed_size_is_kept():
    """
    One byte more is not.
    """
    stored, encoded = await keep(b"x" * 1000, declared="dat", max_bytes=1000)

    assert (encoded.size, decode_bytes(stored, "gzip")) == (1000, b"x" * 1000)
    with pytest.raises(InvalidBodyError, match="larger"):
        await keep(b"x" * 1001, declared="dat", max_bytes=1000)


@pytest.mark.parametrize(
    "declared",
    ["json", "geojson", "jsonl", "csv", "xml", "txt", "zip", "parquet", "mp4", "json.gz"],
)
@pytest.mark.parametrize("coding", ["", "gzip"])
async def test_a_page_for_people_is_not_data(declared, coding):
    """
    An HTML page with status 200 is refused, and called what it is.
    """
    body = gzip.compress(PAGE) if coding else PAGE

    with pytest.raises(InvalidBodyError, match="looks like an HTML page"):
        await keep(body, declared=declared, coding=coding)


async def test_a_page_is_kept_where_it_is_wanted():
    """
    Declared as one, or as something of which we know nothing.
    """
    for declared in ("html", "unheard-of"):
        stored, _ = await keep(PAGE, declared=declared)
        assert decode_bytes(stored, "gzip") == PAGE


@pytest.mark.parametrize(
    ("head", "is_page"),
    [
        (b"<!doctype HTML>", True),
        (b"\xef\xbb\xbf\r\n<html lang=en>", True),
        (b'<?xml version="1.0"?>\n<!DOCTYPE html PUBLIC>', True),
        (b'<?xml version="1.0"?><Games/>', False),
        (b"<!-- endless", False),
        (b'{"html": "<html>"}', False),
        (b"", False),
    ],
)
def test_pages_are_known_by_how_they_begin(head, is_page):
    """
    Space, byte order mark, declaration and comments do not hide one.
    """
    assert looks_like_html(head) is is_page


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": 1',
        b"[1, 2",
        b'{"a": 1} x',
        b"{'a': 1}",
        b'"\xff"',
        b'{"a": "\xc3"}',
        b'"\xc3',
        b"\xef\xbb\xbf{}",
        b"[NaN]",
        b" ",
        b"not json",
        b"[" * 100_000,
        b"[" * 50_000 + b"]" * 50_000,
    ],
)
@pytest.mark.parametrize("piece", [1, 1_000_000])
async def test_json_is_parsed_before_it_is_kept(body, piece):
    """
    Cut, trailing, wrongly encoded, or nested beyond all reason: refused.
    """
    with pytest.raises(InvalidBodyError, match=r"JSON|UTF-8"):
        await keep(body, piece=piece)


@pytest.mark.parametrize(
    "body", [b" {} \n", b"[1e999, 123456789012345678901234567890]", '"é"'.encode(), b"0", b"null"]
)
async def test_any_json_is_kept_verbatim(body):
    """
    Numbers that no float holds, too.
    """
    stored, encoded = await keep(body, piece=1)

    assert decode_bytes(stored, "gzip") == body
    assert encoded.validation == "whole"


def counting(memory, most):
    """*memory*, whose highest mark is kept in *most*."""
    taken = memory.held

    @asynccontextmanager
    async def held(size):
        async with taken(size):
            most.append(memory.taken)
            yield

    memory.held = held
    return memory


@pytest.mark.parametrize("coding", ["", "gzip"])
async def test_large_json_is_parsed_once_it_is_staged(coding, tmp_path):
    """
    Up to 64 MB it is parsed as a whole all the same, by no more at once than there is room for.
    """
    row = json.dumps({"id": 1, "text": "é" * 500}).encode()
    body = b"[" + b",".join([row] * (12 * MEGABYTE // len(row))) + b"]"
    wire = gzip.compress(body, 1) if coding else body
    parsing = counting(Memory(30 * MEGABYTE), most := [])
    staged = []

    async with LocalFileStore.at(tmp_path) as store:

        async def keep_one():
            staged.append(
                await store_body(
                    in_pieces(wire, MEGABYTE),
                    coding=coding,
                    format="json",
                    max_bytes=100 * MEGABYTE,
                    store=store,
                    parsing=parsing,
                )
            )

        async with anyio.create_task_group() as tg:
            for _ in range(4):
                tg.start_soon(keep_one)
        for file, encoded in staged:
            assert (encoded.validation, encoded.size) == ("whole", len(body))
            await store.discard(file)
    assert len(most) == 4
    assert max(most) <= 2 * len(body)
    assert parsing.taken == 0


@pytest.mark.parametrize("ending", [b"}", b"", b"]]", b",]"])
async def test_large_json_that_is_none_is_refused(ending):
    """
    Nothing of it stays staged, and its room is free again.
    """
    parsing = Memory(100 * MEGABYTE)
    store = MemoryFileStore()
    body = b"[" + b"1," * (3 * MEGABYTE) + b"1" + ending
    with pytest.raises(InvalidBodyError, match="not JSON"):
        await store_body(
            in_pieces(body),
            coding="",
            format="json",
            max_bytes=100 * MEGABYTE,
            store=store,
            parsing=parsing,
        )
    assert not store.staged
    assert parsing.taken == 0


async def test_json_too_large_to_be_parsed_is_checked_at_its_ends():
    """
    Above 64 MB it is never held, and the File says how it was checked.
    """
    row = json.dumps({"id": 1, "text": "é" * 500}, ensure_ascii=False).encode() + b","
    count = 70 * MEGABYTE // len(row)

    async def large(ending):
        yield b" ["
        for _ in range(count // 100):
            yield row * 100
        yield b"0"
        yield ending

    async def consume(ending):
        encoder = BodyEncoder(coding="", format="json", max_bytes=1000 * MEGABYTE)
        async for _ in lead_through(large(ending), encoder):
            pass
        return encoder.result

    tracemalloc.start()
    try:
        result = await consume(b"] \n")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert result.validation == "ends"
    assert result.size > 69 * MEGABYTE
    assert peak < 16 * MEGABYTE
    with pytest.raises(InvalidBodyError, match="may be cut"):
        await consume(b"} \n")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'[1, 2, 3, {"a": 4}', "ends with"),
        (b"x1, 2, 3, 4, 5, 6, 7]", "begins with"),
        (b"[1, 2, 3, 4, 5, 6, \xff]", "UTF-8"),
        (b'["aaaaaaaaaaaaaaaaaaa\xc3', "UTF-8"),
    ],
)
@pytest.mark.parametrize("piece", [1, 3, 100])
def test_the_ends_of_json_are_still_checked(body, message, piece):
    """
    However the ends are cut into pieces.
    """
    check = JsonCheck(largest_parsed=10)

    def read():
        for start in range(0, len(body), piece):
            check.feed(body[start : start + piece])
        check.finish()

    with pytest.raises(InvalidBodyError, match=message):
        read()


def archive():
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as packed:
        packed.writestr("a.json", EVENTS)
    return held.getvalue()


GOOD = {
    "zip": archive(),
    "json.gz": gzip.compress(EVENTS),
    "mp4": b"\0\0\0\x20ftypisom" + bytes(100),
    "parquet": b"PAR1" + bytes(100) + b"PAR1",
    "xml": b'\xef\xbb\xbf\r\n<?xml version="1.0"?><Games></Games>\r\n',
    "jsonl": b'{"a": 1}\n{"a": "\xc3\xa9"}\n',
    "csv": b"a,b\n1,\xe9\n",
    "unheard-of": b"\0",
}


@pytest.mark.parametrize("declared", GOOD)
@pytest.mark.parametrize("coding", ["", "gzip"])
@pytest.mark.parametrize("piece", [1, 10_000])
async def test_what_looks_like_its_format_is_kept(declared, coding, piece):
    """
    Formats that compress themselves lie in the store plain, all others compressed once.
    """
    body = GOOD[declared]
    wire = gzip.compress(body) if coding else body

    stored, encoded = await keep(wire, coding=coding, declared=declared.upper(), piece=piece)

    is_packed = declared in ("zip", "json.gz", "mp4", "parquet")
    assert encoded.codec == ("" if is_packed else "gzip")
    assert decode_bytes(stored, encoded.codec) == body
    assert encoded.sha256 == hashlib.sha256(body).hexdigest()


def test_xml_may_be_utf_16():
    """
    Its first character counts, not its first byte.
    """
    encoder = BodyEncoder(coding="", format="xml", max_bytes=1000)

    assert run(encoder, "<Games/>\n".encode("utf-16"), 3)


@pytest.mark.parametrize("declared", ["zip", "json.gz", "mp4", "parquet", "xml"])
async def test_what_does_not_look_like_its_format_is_refused(declared):
    """
    The error names the format, and shows how the body begins.
    """
    with pytest.raises(InvalidBodyError, match=f"begin like {declared}"):
        await keep(b'{"error": "no such thing"}', declared=declared)


@pytest.mark.parametrize("declared", ["zip", "parquet", "xml"])
async def test_a_format_with_an_end_must_reach_it(declared):
    """
    A body whose connection was closed in the middle has none.
    """
    with pytest.raises(InvalidBodyError, match=f"end like {declared}"):
        await keep(GOOD[declared][:-15], declared=declared)


async def test_damage_in_the_store_is_told_from_a_bad_body():
    """
    What cannot be decoded again is the store's fault, not the provider's.
    """
    damaged = gzip.compress(EVENTS)[:-3]

    with pytest.raises(StoreError, match="damaged"):
        decode_bytes(damaged, "gzip")
    with pytest.raises(StoreError, match="damaged"):
        [piece async for piece in decoded(in_pieces(damaged), "gzip")]
    with pytest.raises(StoreError, match="codec"):
        decode_bytes(damaged, "zstd")


async def test_a_store_that_fails_gets_to_say_so():
    """
    The body's own stream is closed, and the error passes through.
    """
    closed = []

    class Full:
        async def stage(self, chunks):
            async for _ in chunks:
                raise StoreError("full")

    async def body():
        try:
            while True:
                yield b"x" * MEGABYTE
        finally:
            closed.append(True)

    chunks = body()
    with pytest.raises(StoreError, match="full"):
        await store_body(chunks, coding="", format="mp3", max_bytes=10**9, store=Full())
    await chunks.aclose()
    assert closed


DOCUMENTS = [
    EVENTS,
    b"[]",
    b'"\xc3\xa9"',
    json.dumps(["x" * 200_000]).encode(),  # too much for the event loop
    b"",
    b" ",
    b"\xef\xbb\xbf[]",
    b'"\xe9"',
    b'["\xed\xa0\x80"]',
    b"[NaN]",
    b"[1]]",
    b'{"a": 1',
    PAGE,
    b"[" * 5000 + b"]" * 5000,
]
MEMBER = gzip.compress(EVENTS, mtime=0)
WIRES = [
    *((document, "") for document in DOCUMENTS),
    *((gzip.compress(document, mtime=0), "gzip") for document in DOCUMENTS),
    *((MEMBER[:end], "gzip") for end in (0, 1, 10, 17, 19, 25, len(MEMBER) - 9, len(MEMBER) - 1)),
    (MEMBER[:-8] + b"\0\0\0\0" + MEMBER[-4:], "gzip"),  # another checksum
    (MEMBER[:-4] + b"\0\0\0\0", "gzip"),  # another length
    (MEMBER[:-4] + b"\xff\xff\xff\xff", "gzip"),
    (MEMBER + MEMBER, "gzip"),
    (MEMBER + b"\0", "gzip"),
    (MEMBER + b"more", "gzip"),
    (dressed(EVENTS), "gzip"),
    (MEMBER[:3] + b"\x20" + MEMBER[4:], "gzip"),  # a flag that does not exist
    (zlib.compress(EVENTS), "deflate"),
    (MEMBER, ""),
    (EVENTS, "gzip"),
    (EVENTS, "br"),
]

LONG_WAYS = {MEMBER + MEMBER, dressed(EVENTS), zlib.compress(EVENTS)}


@pytest.mark.parametrize(("wire", "coding"), WIRES)
@pytest.mark.parametrize("max_bytes", [100 * MEGABYTE, 3000])
async def test_the_short_way_leads_where_the_long_one_does(wire, coding, max_bytes):
    """
    A body that is taken as a whole is kept as if it had been taken step by step; what would have
    been refused then is not taken.
    """
    whole = await encode_whole(
        wire, coding=coding, format="json", max_bytes=max_bytes, memory=Memory(MEGABYTE)
    )
    try:
        stored, encoded = await keep(wire, coding=coding, max_bytes=max_bytes)
    except InvalidBodyError:
        assert whole is None
        return
    assert decode_body(wire, coding, max_bytes) == decode_bytes(stored, encoded.codec)
    if whole is not None:
        assert whole.body == encoded
        assert decode_bytes(whole.data, "gzip") == decode_bytes(stored, "gzip")
        assert whole.head == decode_bytes(stored, "gzip")[: 64 * 1024]
    assert (whole is not None) == (wire not in LONG_WAYS)
