"""What a provider says of a Dataset, in short, and what may be relied on afterwards."""

from __future__ import annotations

from typing import Any

import pytest
from lakes import Lake, offering

import ingestify
from ingestify.errors import RecordError
from ingestify.model.dataset import DatasetState
from ingestify.model.resource import DatasetResource, JsonObject, agreement_of, content_of, token_of

ENTRY = b'{"home": "Ajax",  "score": 2}'


def resource(**changes: Any) -> DatasetResource:
    said = {"dataset_resource_id": {"id": 1}, "name": "one", "metadata": JsonObject(ENTRY)}
    made = DatasetResource(**{**said, "files": [], **changes})
    return made.add_file("data", url="http://host/1.json", token="t")


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "another"},
        {"state": DatasetState.PARTIAL},
        {"metadata": JsonObject(ENTRY.replace(b"2", b"3"))},
        {"metadata": JsonObject(ENTRY + b" ")},
        {"metadata": {"home": "Ajax", "score": 2}},
        {"metadata": JsonObject(ENTRY).token},
    ],
)
def test_whatever_a_source_says_is_part_of_an_agreement(changes: dict[str, Any]) -> None:
    """
    Two that are equal would lead to the same.
    """
    assert agreement_of(resource()) == agreement_of(resource())
    assert agreement_of(resource(**changes)) != agreement_of(resource())


@pytest.mark.parametrize(
    "file",
    [
        {"data_feed_key": "data", "data_spec_version": "v1", "token": "u"},
        {"data_feed_key": "data", "data_spec_version": "v1", "token": None},
        {"data_feed_key": "data", "data_spec_version": "v2", "token": "t"},
        {"data_feed_key": "other", "data_spec_version": "v1", "token": "t"},
    ],
)
def test_every_file_with_its_token_is_part_of_an_agreement(file: dict[str, Any]) -> None:
    """
    Its key and token, that is: another address of the same is no change.
    """
    other = resource()
    other.files = [ingestify.FileResource(**file, url="http://host/2.json")]
    assert agreement_of(other) != agreement_of(resource())
    other.files = [*resource().files, *other.files]
    assert agreement_of(other) != agreement_of(resource())
    moved = ingestify.FileResource(
        data_feed_key="data",
        data_spec_version="v1",
        token="t",
        url="http://host/elsewhere.json",
    )
    other.files = [moved]
    assert agreement_of(other) == agreement_of(resource())


@pytest.mark.parametrize(
    "changes",
    [{"name": "\ud800"}, {"metadata": {"x": object()}}, {"name": object()}],
)
def test_what_cannot_be_kept_is_agreed_upon_by_nobody(changes: dict[str, Any]) -> None:
    """
    It is looked at more closely, and refused then.
    """
    assert agreement_of(resource(**changes)) is None


def test_a_json_object_is_read_when_somebody_looks_into_it() -> None:
    """
    It is a mapping like any other; its token is that of its bytes, what is kept of it is compact.
    """
    entry = JsonObject(ENTRY)
    assert entry.token == token_of(ENTRY)
    assert dict(entry) == {"home": "Ajax", "score": 2}
    assert (entry["score"], len(entry), "home" in entry) == (2, 2, True)
    assert content_of(entry) == b'{"home":"Ajax","score":2}'


@pytest.mark.parametrize("content", [b"[]", b"{", b'{"x":"\xff"}', b'{"x":1e999}', b"7", b""])
async def test_a_json_object_that_is_none_is_refused_with_its_record(content: bytes) -> None:
    """
    Its Dataset is refused, and those around it are stored.
    """
    with pytest.raises(RecordError, match="cannot be read"):
        len(JsonObject(content))

    def broken() -> DatasetResource:
        return DatasetResource(
            dataset_resource_id={"id": 2}, name="two", metadata=JsonObject(content), files=[]
        )

    lake = Lake()
    summary = await lake.run(offering(broken))

    assert (summary.counters.listed, summary.counters.refused) == (1, 1)
    assert "metadata cannot be read as a JSON object" in summary.failures[0].message
    assert await lake.ids() == []


class OtherToken(ingestify.Source):
    """Fetches its File under another token than it has announced."""

    provider = "acme"

    async def discover_datasets(self, *given: Any, **named: Any) -> Any:
        yield DatasetResource(dataset_resource_id={"id": 1}, name="one", files=[]).add_file(
            "data",
            content=b"{}",
            token="announced",
        )

    async def fetch_dataset_files(
        self, resource: DatasetResource, stored: Any, *, http: Any
    ) -> Any:
        yield ingestify.FileResource(
            data_feed_key="data",
            data_spec_version="v1",
            content=b"{}",
            token="fetched",
        )


async def test_what_was_fetched_otherwise_than_announced_is_not_agreed() -> None:
    """
    The tokens differ, so the File is asked for in every Run.
    """
    lake, source = Lake(), OtherToken("acme")
    assert (await lake.run(source)).counters.stored == 1
    for _ in range(2):
        assert (await lake.run(source)).counters.unchanged == 1


async def test_what_was_asked_for_in_part_is_not_agreed() -> None:
    """
    Nobody has seen then that all of it is what it was, at one moment.
    """

    def offered(**tokens: str) -> Any:
        made = DatasetResource(dataset_resource_id={"id": 1}, name="one", files=[])
        for feed, token in tokens.items():
            made.add_file(feed, content=b"{}", token=token)
        return lambda: made

    async def is_agreed() -> bool:
        place = {"bucket": "main", "stage": "raw", "provider": "fake", "dataset_type": "thing"}
        [agreed] = await lake.catalog.agreements(**place, keys=['{"id":1}'])
        assert agreed is not None
        return agreed[1] is not None

    lake = Lake()
    await lake.run(offering(offered(a="1", b="1")))
    assert await is_agreed()
    await lake.run(offering(offered(a="2", b="1")))
    assert not await is_agreed()
    assert (await lake.run(offering(offered(a="2", b="1")))).counters.skipped == 1
    await lake.run(offering(offered(a="3", b="3")))
    assert await is_agreed()
