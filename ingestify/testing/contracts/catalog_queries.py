"""Part of the Catalog's contract: which Datasets a query finds."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from ingestify.errors import ConfigError
from ingestify.model.catalog import DatasetQuery
from ingestify.model.dataset import Dataset, DatasetState
from ingestify.model.identity import Identifier
from ingestify.ports import Catalog
from ingestify.testing.contracts.catalog_values import (
    NOON,
    PLACE,
    CatalogFixtures,
    commit_all,
    dataset_commit,
    key_of,
    stored_file,
    stored_match,
)

BIG = 2**80 + 1


class QueriesContract(CatalogFixtures):
    """Which Datasets a query finds."""

    async def names(self, catalog: Catalog, **query: object) -> list[str]:
        """The names of what a query finds; counting finds as many."""
        wanted = DatasetQuery(**query)  # type: ignore[arg-type]
        found = [dataset.name for dataset in await catalog.find(wanted)]
        assert await catalog.count(wanted) == len(found)
        return found

    async def test_a_dataset_is_read_as_it_was_committed(self, catalog: Catalog) -> None:
        """
        Everything that was said about a Dataset and its Files can be read back.
        """
        files = (stored_file("lineups"), stored_file())
        metadata = b'{"score":[2,1],"n":123456789012345678901234567890,"x":1.5,"\xc3\xa9":null}'
        commit = dataset_commit(1, *files, metadata=metadata, state=DatasetState.PARTIAL)
        [made] = await commit_all(catalog, commit)

        [dataset] = await catalog.find(DatasetQuery())
        assert (dataset.row_id, dataset.dataset_id) == (made.row_id, made.dataset_id)
        place = (dataset.bucket, dataset.stage, dataset.provider, dataset.dataset_type)
        assert place == tuple(PLACE.values())
        assert dataset.identifier == Identifier({"match_id": 1})
        assert (dataset.name, dataset.state) == ("match 1", DatasetState.PARTIAL)
        assert dataset.metadata == json.loads(metadata)
        assert (dataset.created_at, dataset.updated_at, dataset.revision) == (NOON, NOON, 0)
        assert [file.key for file in dataset.files] == [("events", "v1"), ("lineups", "v1")]
        events, new = dataset.files[0], files[1].new
        assert new is not None
        assert (events.path, events.format, events.codec) == (new.path, new.format, new.codec)
        assert (events.size, events.sha256) == (new.size, new.sha256)
        assert (events.stored_size, events.stored_sha256) == (new.stored_size, new.stored_sha256)
        assert (events.content_type, events.validation) == (new.content_type, new.validation)
        assert await catalog.get(dataset.dataset_id) == dataset
        assert await catalog.get("no such id") is None

    async def test_an_identifier_keeps_the_order_of_its_names(self, catalog: Catalog) -> None:
        """
        Readers see an identity's names in the order in which the Source gives them.
        """
        key, ordered = '{"a":1,"b":"2"}', '{"b":"2","a":1}'
        await commit_all(catalog, dataset_commit(0, identifier_key=key, identifier=ordered))

        [dataset] = await catalog.find(DatasetQuery(identifier={"a": 1}))
        assert list(dataset.identifier.items()) == [("b", "2"), ("a", 1)]
        assert dataset.identifier.key == key
        assert await catalog.get(dataset.dataset_id) == dataset

    async def test_pages_are_in_the_order_of_rows(self, catalog: Catalog) -> None:
        """
        Pages follow each other without a gap or a repetition, to the end.
        """
        await commit_all(catalog, *[dataset_commit(n, stored_file()) for n in range(25)])
        found: list[Dataset] = []
        after = 0
        while page := await catalog.find(DatasetQuery(), after=after, limit=10):
            assert len(page) <= 10
            found += page
            after = page[-1].row_id

        assert [dataset.identifier.match_id for dataset in found] == list(range(25))
        assert all(len(dataset.files) == 1 for dataset in found)

    async def test_queries_narrow_by_place_and_state(self, catalog: Catalog) -> None:
        """
        Each part of a query admits what equals it; what is left out admits all but derivations.
        """
        await commit_all(
            catalog,
            dataset_commit(1, name="plain"),
            dataset_commit(1, bucket="test", name="bucket"),
            dataset_commit(1, stage="tracks", name="stage"),
            dataset_commit(1, provider="other", name="provider"),
            dataset_commit(1, dataset_type="player", name="type"),
            dataset_commit(2, state=DatasetState.SCHEDULED, name="state"),
        )

        everything = ["plain", "bucket", "provider", "type", "state"]
        assert await self.names(catalog) == everything
        assert len(await self.names(catalog, stage=None)) == 6
        assert await self.names(catalog, stage="tracks") == ["stage"]
        assert await self.names(catalog, bucket="test") == ["bucket"]
        assert await self.names(catalog, provider="other") == ["provider"]
        assert await self.names(catalog, dataset_type="player") == ["type"]
        assert await self.names(catalog, states=[DatasetState.SCHEDULED]) == ["state"]
        assert await self.names(catalog, states=list(DatasetState)) == everything

    async def test_a_dataset_is_found_by_its_id(self, catalog: Catalog) -> None:
        """
        An id finds one Dataset, if the rest of the query admits it.
        """
        await commit_all(catalog, *[dataset_commit(n) for n in (1, 2, 3)])
        two = await stored_match(catalog, 2)

        assert await self.names(catalog, dataset_id=two.dataset_id) == ["match 2"]
        assert await self.names(catalog, dataset_id=two.dataset_id, bucket="other") == []
        assert await self.names(catalog, dataset_id="no such id") == []
        query = DatasetQuery(dataset_id=two.dataset_id)
        assert await catalog.find(query, after=two.row_id) == []
        assert len(await catalog.find(query, after=two.row_id - 1)) == 1

    @pytest.mark.parametrize(
        ("wanted", "as_values", "as_text"),
        [
            (1, ["1"], ["1", "'1'"]),
            ("1", ["'1'"], ["1", "'1'"]),
            ([1, "1"], ["1", "'1'"], ["1", "'1'"]),
            (BIG, ["big"], ["big"]),
            (BIG + 1, [], []),
            (float(BIG).as_integer_ratio()[0], [], []),
            (str(BIG), [], ["big"]),
            ("é", ["é"], ["é"]),
            ("e\u0301", [], []),
            ('"\\\n\u2028', ["odd"], ["odd"]),
            ("nul\0", ["nul"], ["nul"]),
            ("nul", [], []),
            ("01", [], []),
            (0, [], []),
            ([], [], []),
        ],
    )
    async def test_identifier_values_are_exact(
        self, catalog: Catalog, wanted: object, as_values: list[str], as_text: list[str]
    ) -> None:
        """
        1 and "1" are found apart, unless text is asked for; nothing is rounded or normalised.
        """
        await commit_all(
            catalog,
            dataset_commit(1, name="1"),
            dataset_commit("1", name="'1'"),
            dataset_commit(BIG, name="big"),
            dataset_commit("é", name="é"),
            dataset_commit('"\\\n\u2028', name="odd"),
            dataset_commit("nul\0", name="nul"),
            dataset_commit(
                1, identifier_key='{"player_id":1}', identifier='{"player_id":1}', name="player"
            ),
        )
        identifier = {"match_id": wanted}

        assert await self.names(catalog, identifier=identifier) == as_values
        assert await self.names(catalog, identifier=identifier, text_values=True) == as_text

    @pytest.mark.parametrize(
        ("metadata", "found"),
        [
            ({"a": 1}, ["1"]),
            ({"a": "1"}, ["'1'"]),
            ({"a": [1, "1"]}, ["1", "'1'"]),
            ({"a": "é"}, ["é", "escaped é"]),
            ({"a": BIG}, ["big"]),
            ({"a": BIG + 1}, []),
            ({"a": "[1,1]"}, []),
            ({"a": "true"}, []),
            ({"a": 1, "b": 2}, []),
            ({"b": 2}, []),
        ],
    )
    async def test_metadata_values_are_exact(
        self, catalog: Catalog, metadata: Mapping[str, object], found: list[str]
    ) -> None:
        """
        Metadata is found by its top level, typed as identities are, however it was written.
        """
        written = {
            "1": b'{"a":1}',
            "'1'": b'{"a":"1"}',
            "\u00e9": b'{"a":"\xc3\xa9"}',
            "escaped \u00e9": b'{"a": "\\u00e9"}',
            "true": b'{"a":true}',
            "float": b'{"a":1.0}',
            "null": b'{"a":null}',
            "list": b'{"a":[1,1]}',
            "nested": b'{"b":{"a":1}}',
            "big": b'{"a":%d}' % BIG,
            "empty": b"{}",
        }
        for number, (name, text) in enumerate(written.items()):
            await commit_all(catalog, dataset_commit(number, name=name, metadata=text))

        assert await self.names(catalog, metadata=metadata) == found

    @pytest.mark.parametrize("name", ["", "a b", "a'b", '"a"', "a.b", "$", "a[0]", "a\n"])
    async def test_names_that_cannot_be_asked_for_are_refused(
        self, catalog: Catalog, name: str
    ) -> None:
        """
        A name that could mean something else than a name never reaches the database.
        """
        await commit_all(catalog, dataset_commit(1))
        for query in (DatasetQuery(identifier={name: 1}), DatasetQuery(metadata={name: 1})):
            for ask in (catalog.find, catalog.count):
                with pytest.raises(ConfigError):
                    await ask(query)

    async def test_values_that_identify_nothing_are_refused(self, catalog: Catalog) -> None:
        """
        Neither a truth value nor half a character can be asked for.
        """
        await commit_all(catalog, dataset_commit(1))
        for value in (True, "\ud800"):
            with pytest.raises(ConfigError):
                await catalog.find(DatasetQuery(identifier={"match_id": value}))

    async def test_every_identifier_value_has_to_fit(self, catalog: Catalog) -> None:
        """
        A query may name some of an identity's values or all; each of them has to fit.
        """
        for season, match in ((1, 1), (1, 2), (2, 1)):
            key = key_of(match, season_id=season)
            await commit_all(
                catalog,
                dataset_commit(0, identifier_key=key, identifier=key, name=f"{season}/{match}"),
            )

        assert await self.names(catalog, identifier={"season_id": 1}) == ["1/1", "1/2"]
        assert await self.names(catalog, identifier={"match_id": 1, "season_id": 2}) == ["2/1"]
        assert await self.names(catalog, identifier={"match_id": 1, "round": 2}) == []
