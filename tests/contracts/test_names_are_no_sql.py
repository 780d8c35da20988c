"""Whatever a name or a value looks like, it is never more than a name or a value to a Catalog."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ingestify.adapters.catalog.memory import MemoryCatalog
from ingestify.adapters.catalog.sqlite import SqliteCatalog
from ingestify.errors import ConfigError, RecordError
from ingestify.model.catalog import DatasetQuery
from ingestify.model.identity import canonical_key
from ingestify.ports import Catalog
from ingestify.testing.contracts.catalog_values import commit_all, dataset_commit, key_of

NASTY = [
    "'; DROP TABLE dataset; --",
    '"; DELETE FROM dataset; --',
    "x' OR '1'='1",
    "$.a",
    "a.b",
    'a"]',
    "$[0]",
    "?1",
    ":name",
    "%",
    "_",
    "*",
    "{prefix}",
    "a\0b",
    "",
    "rowid",
    "NULL",
    "select",
    "\u2028",
    "[1,1]",
]
texts = st.one_of(st.sampled_from(NASTY), st.text(max_size=8))
names = st.one_of(st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True), texts)
values = st.one_of(texts, st.integers())
mappings = st.dictionaries(names, values, min_size=1, max_size=3)


async def answers(
    catalog: Catalog, identity: dict[str, Any], metadata: dict[str, Any], asked: dict[str, Any]
) -> list[Any]:
    """What is found after a Dataset with these names and values has come to one that was there."""
    await commit_all(catalog, dataset_commit(1, name="before"))
    told: list[Any] = []
    with suppress(RecordError):
        key = canonical_key(identity)
        content = msgspec.json.encode(metadata)
        await commit_all(
            catalog, dataset_commit(2, identifier_key=key, identifier=key, metadata=content)
        )
        told.append(key)
    for query in (
        DatasetQuery(identifier=identity),
        DatasetQuery(identifier=asked, text_values=True),
        DatasetQuery(metadata=metadata),
        DatasetQuery(metadata=asked),
        *(DatasetQuery(bucket=each, provider=each) for each in asked),
        *(DatasetQuery(dataset_type=each) for each in asked),
        *(DatasetQuery(dataset_id=each) for each in asked),
    ):
        try:
            found = await catalog.find(query)
            told.append(
                [(each.identifier.key, msgspec.json.encode(each.metadata)) for each in found]
            )
            told.append(await catalog.count(query))
        except ConfigError as exc:
            told.append(type(exc))
    everything = [each.identifier.key for each in await catalog.find(DatasetQuery())]
    assert everything[0] == key_of(1)
    assert await catalog.count(DatasetQuery()) == len(everything)
    return [*told, everything]


@settings(max_examples=40, deadline=None)
@given(identity=mappings, metadata=mappings, asked=mappings)
@example({NASTY[0]: 1}, {NASTY[0]: NASTY[1]}, {NASTY[2]: NASTY[3]})
@example({"a": NASTY[0]}, {"a": NASTY[1]}, {"a": NASTY[0]})
@example({"select": "from"}, {"rowid": 1}, {"select": "from"})
def test_names_and_values_are_only_that(
    identity: dict[str, Any], metadata: dict[str, Any], asked: dict[str, Any]
) -> None:
    """
    Any text as the name or the value of a part of an identity, of metadata or of a query is kept
    and found exactly, or refused as no name; the database is otherwise as it was, and both
    Catalogs say the same.
    """

    async def compare() -> None:
        with tempfile.TemporaryDirectory() as folder:
            async with (
                MemoryCatalog.open() as memory,
                SqliteCatalog.open(Path(folder) / "catalog.db") as sqlite,
            ):
                expected = await answers(memory, identity, metadata, asked)
                assert await answers(sqlite, identity, metadata, asked) == expected

    asyncio.run(compare())
