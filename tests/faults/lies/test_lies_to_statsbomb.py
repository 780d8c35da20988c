"""Lies about StatsBomb's open data: the Source, its lists and its files as they are."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest
from anyio import fail_after
from lying import HANG_SECONDS

from ingestify.config import Config
from ingestify.engine import Engine
from ingestify.model.run import Failure, RunSummary
from ingestify.testing import MatchSize, ProviderSimulator, SeasonSpec, StatsBombWorld
from ingestify.testing.behaviours import Behaviour
from ingestify.testing.lies import HTML, LIES, edited, replaced

SEASONS = (
    SeasonSpec(competition_id=11, season_id=42, matches=3),
    SeasonSpec(competition_id=11, season_id=90, matches=2),
)
MATCHES = "matches/11/42.json"
SEASON = "competition_id=11/season_id=42"


@dataclass(kw_only=True)
class League:
    """A lake of StatsBomb's matches, and the provider that it comes from."""

    world: StatsBombWorld
    provider: ProviderSimulator
    config: Config
    failures: list[Failure] = field(default_factory=list)  # as `failed list` has them
    stored: set[int] = field(default_factory=set)

    async def run(self) -> RunSummary:
        """One Run; every byte that it leaves behind is what the provider has."""
        self.provider.reset_counts()
        async with Engine(self.config) as engine:
            with fail_after(HANG_SECONDS):
                summary = await engine.run()
            self.failures = list(await engine.catalog.failures())
            self.stored = set()
            async for dataset in engine.store.iter_datasets():
                for content in await engine.store.load_files(dataset):
                    feed, key = content.data_feed_key, dataset.identifier["match_id"]
                    folder = {"360-frames": "three-sixty"}.get(feed, feed)
                    resource = self.world.get(f"{folder}/{key}.json")
                    if feed != "match":
                        assert resource is not None
                        assert await content.read_bytes() == resource.body
                self.stored.add(key)
        assert summary.counters.is_balanced
        return summary

    @property
    def first(self) -> int:
        return self.world.match_ids(11, 42)[0]

    @property
    def all(self) -> set[int]:
        return {key for season in (42, 90) for key in self.world.match_ids(11, season)}

    async def heals(self, *, files: int) -> None:
        """The next good Run has everything, and asks for no more than what was missing."""
        self.provider.heal()
        summary = await self.run()
        assert (summary.exit_code, self.failures, self.stored) == (0, [], self.all)
        assert self.provider.count("events/*") == files


@pytest.fixture
async def league(make_config: Callable[..., Config]) -> AsyncIterator[League]:
    world = StatsBombWorld(size=MatchSize.TINY, seasons=SEASONS)
    async with ProviderSimulator(world) as provider:
        config = make_config(
            sources={
                "statsbomb": {
                    "type": "statsbomb_github",
                    "configuration": {"base_url": provider.base_url},
                    "http": {"attempts": 1, "max_body_bytes": "4 MiB", "max_list_bytes": "4 MiB"},
                }
            },
            ingestion_plans=[{"source": "statsbomb", "dataset_type": "match"}],
        )
        yield League(world=world, provider=provider, config=config)


@pytest.mark.parametrize(
    ("lie", "code"),
    [
        ("html with 200", "invalid body"),
        ("cut gzip, well framed", "invalid body"),
        ("cut json, well framed", "invalid body"),
        ("cut chunks", "transient"),
        ("204", "invalid body"),
        ("404", "absent"),
        ("401", "refused"),
        ("endless body", "invalid body"),
        ("a redirect to a file", "unsafe target"),
    ],
)
async def test_events_that_are_lied_about(lie: str, code: str, league: League) -> None:
    """
    Their match is not stored at all, lineups included; every other match is.
    """
    league.provider.script(f"events/{league.first}.json", LIES[lie])
    summary = await league.run()

    assert league.stored == league.all - {league.first}
    assert summary.exit_code == 1
    (failure,) = league.failures
    assert (failure.code, failure.data_feed_key) == (code, "events")
    assert f"{league.provider.base_url}events/{league.first}.json" in failure.message
    assert f'"match_id":{league.first}' in (failure.identifier_key or "")
    await league.heals(files=1)


LISTS: dict[str, tuple[Behaviour, str]] = {
    "null": (replaced(b"null"), "answered null for a list"),
    "an object": (replaced(b'{"message": "Not Found"}'), "answered a JSON object for a list"),
    "html": (replaced(HTML), "answered HTML or XML for a list"),
    "cut": (edited(lambda body: body[:-30]), "answered a JSON list for a list"),
    "cut gzip": (LIES["cut gzip, well framed"], "the body is cut"),
    "404": (LIES["404"], "answered 404"),
}


@pytest.mark.parametrize("name", LISTS)
async def test_a_match_list_that_is_lied_about(name: str, league: League) -> None:
    """
    Its season alone fails, and the other one is stored.
    """
    behaviour, said = LISTS[name]
    league.provider.script(MATCHES, behaviour)
    summary = await league.run()

    assert league.stored == set(league.world.match_ids(11, 90))
    assert summary.exit_code == 1
    (failure,) = league.failures
    assert failure.selector == SEASON
    assert f"{league.provider.base_url}{MATCHES}" in failure.message
    assert said in failure.message
    await league.heals(files=3)


def with_entry(entry: bytes) -> Behaviour:
    """The honest list with one more *entry* in front."""
    return edited(lambda body: body.replace(b"[", b"[" + entry + b", ", 1))


TEAMS = b'"match_date": "2024-01-01", "home_team": {"home_team_name": "A"}, '
TEAMS += b'"away_team": {"away_team_name": "B"}'
ENTRIES = {
    "null": b"null",
    "a list": b"[]",
    "without anything": b"{}",
    "an id that is a text": b'{"match_id": "3749153", ' + TEAMS + b"}",
    "an id that is true": b'{"match_id": true, ' + TEAMS + b"}",
    "an id with a fraction": b'{"match_id": 1.5, ' + TEAMS + b"}",
    "an id that is not a number": b'{"match_id": NaN, ' + TEAMS + b"}",
    "an id of 1e400": b'{"match_id": 1e400, ' + TEAMS + b"}",
    "an id that leads out": b'{"match_id": "../../../x", ' + TEAMS + b"}",
    "a lone surrogate": b'{"match_id": 1, "referee": "\\ud800", ' + TEAMS + b"}",
    "invalid utf-8": b'{"match_id": 1, "referee": "\xff\xfe", ' + TEAMS + b"}",
    "nested too deeply": b'{"match_id": 1, "x": ' + b"[" * 9000 + b"]" * 9000 + TEAMS + b"}",
}


@pytest.mark.parametrize("name", ENTRIES)
async def test_an_entry_that_cannot_be_used(name: str, league: League) -> None:
    """
    It is refused with its place and reason; all matches are stored.
    """
    league.provider.script(MATCHES, with_entry(ENTRIES[name]))
    summary = await league.run()

    assert league.stored == league.all
    assert (summary.exit_code, summary.counters.refused) == (1, 1)
    (failure,) = league.failures
    assert (failure.code, failure.selector) == ("record", SEASON)
    assert "entry 0 of " in failure.message or "entry 1 of the match list" in failure.message
    await league.heals(files=0)


@pytest.mark.parametrize("key", [2**53 + 1, 2**64 + 1, -7, 10**300])
async def test_an_id_that_other_readers_would_change(key: int, league: League) -> None:
    """
    It is kept exact, and its missing files fail under that very id, until it is gone.
    """
    entry = b'{"match_id": %d, ' % key + TEAMS + b"}"
    league.provider.script(MATCHES, with_entry(entry))
    summary = await league.run()

    assert league.stored == league.all
    assert (summary.exit_code, summary.counters.failed) == (1, 1)
    (failure,) = league.failures
    assert (failure.code, failure.name) == ("absent", "2024-01-01 / A - B")
    assert f'"match_id":{key}' in (failure.identifier_key or "")
    assert f"/{key}.json" in failure.message
    await league.heals(files=0)


@pytest.mark.parametrize("entry", [b"null", b"{}", b'{"competition_id": "11"}', b'{"a": NaN}'])
async def test_a_competition_that_cannot_be_used(entry: bytes, league: League) -> None:
    """
    It is refused and told; the seasons around it are stored.
    """
    league.provider.script("competitions.json", with_entry(entry))
    summary = await league.run()

    assert league.stored == league.all
    assert summary.exit_code == 1
    (failure,) = league.failures
    assert failure.code == "record"
    assert f"entry 0 of {league.provider.base_url}competitions.json: " in failure.message
    await league.heals(files=0)
