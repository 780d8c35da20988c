"""The StatsBomb open-data connector, on entries made up here and on the real lists and files."""

import gzip
import sys
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path

import msgspec
import orjson
import pytest

from ingestify import (
    ConfigError,
    Dataset,
    DatasetState,
    DataSpecVersions,
    Identifier,
    LoadError,
    Selector,
    SourceError,
)
from ingestify_statsbomb import StatsBombOpenData
from ingestify_statsbomb.kloppy_loader import load

REAL = Path(__file__).parents[2].parent / "shared/data"
OPEN_DATA = REAL / "statsbomb-open-data/data"
needs_real_data = pytest.mark.skipif(
    not OPEN_DATA.is_dir(), reason=f"StatsBomb's data may not be passed on; none in {REAL}"
)
LA_LIGA = Selector({"competition_id": 11, "season_id": 90})
LIST = "matches/11/90.json"
ALL_FEEDS = ["match", "lineups", "events", "360-frames"]


class FakeHttp:
    """Answers from a mapping of paths to bytes, or from a folder."""

    def __init__(self, source, bodies):
        self._base, self._bodies, self.refused = source.base_url, bodies, []

    def url(self, path, *segments):
        return self._base + path.format(*segments)

    async def get_json_items(self, url, *, params=None, key=None, type):  # noqa: A002
        path = url.removeprefix(self._base)
        is_folder = isinstance(self._bodies, Path)
        body = (self._bodies / path).read_bytes() if is_folder else self._bodies[path]
        for raw in msgspec.json.decode(body, type=list[msgspec.Raw]):
            try:
                item = msgspec.json.decode(raw, type=type)
            except msgspec.ValidationError as exc:
                self.refuse(str(exc))
            else:
                yield item

    def refuse(self, reason):
        self.refused.append(reason)


def entry(match_id=1, **changes):
    return {
        "match_id": match_id,
        "match_date": "2020-10-31",
        "kick_off": "21:00:00.000",
        "home_team": {"home_team_id": 206, "home_team_name": "Deportivo Alavés"},
        "away_team": {"away_team_id": 217, "away_team_name": "Barcelona"},
        "home_score": 1,
        "away_score": 1,
        "match_status": "available",
        "match_status_360": "available",
        "last_updated": "2023-07-25T03:54:59.280826",
        "last_updated_360": "2023-07-25T04:25:41.348",
    } | changes


async def discover(bodies, selector=LA_LIGA, versions=None, source=None):
    """What is found in *selector*, page by page, and what was refused."""
    source = source or StatsBombOpenData("statsbomb")
    http = FakeHttp(source, {LIST: orjson.dumps(bodies)} if isinstance(bodies, list) else bodies)
    wanted = DataSpecVersions(versions or source.data_spec_versions["match"])
    found = source.discover_datasets(
        "match", selector, data_spec_versions=wanted, state={}, http=http
    )
    return [page async for page in found], http.refused


async def discover_one(*args, **options):
    [[resource]], refused = await discover(*args, **options)
    assert not refused
    return resource


async def selectors_of(bodies):
    source = StatsBombOpenData("statsbomb")
    http = FakeHttp(source, bodies)
    found = [selector async for selector in source.discover_selectors("match", http=http)]
    return found, http.refused


def tokens_of(pages):
    return {
        (resource.dataset_resource_id["match_id"], *file.key): file.token
        for page in pages
        for resource in page
        for file in resource.files
    }


async def test_match_is_identified_named_and_described_by_its_entry():
    """
    A match is known by three integers, named for people, and keeps its whole entry as metadata.
    """
    match = entry(3773386, stadium={"id": 4, "name": "\tEstádio Cívitas Metropolitano"})
    resource = await discover_one([match])

    assert resource.dataset_resource_id == {
        "competition_id": 11,
        "season_id": 90,
        "match_id": 3773386,
    }
    assert resource.name == "2020-10-31 / Deportivo Alavés - Barcelona / 1-1"
    assert resource.metadata == match
    assert b"\\tEst\xc3\xa1dio" in resource.files[0].content


async def test_match_without_score_is_named_without_one():
    """
    A match that has not been played has no score in its name.
    """
    resource = await discover_one([entry(home_score=None, away_score=None)])

    assert resource.name == "2020-10-31 / Deportivo Alavés - Barcelona"


async def test_files_lie_below_the_configured_base_url():
    """
    Every file but the entry itself is had from below the base URL, frames only if they exist.
    """
    source = StatsBombOpenData("copy", base_url="http://localhost:8000/data/")
    resource = await discover_one([entry(7)], source=source)

    assert {file.data_feed_key: (file.url, file.optional) for file in resource.files} == {
        "match": (None, False),
        "lineups": ("http://localhost:8000/data/lineups/7.json", False),
        "events": ("http://localhost:8000/data/events/7.json", False),
        "360-frames": ("http://localhost:8000/data/three-sixty/7.json", True),
    }


@pytest.mark.parametrize(
    ("statuses", "state", "feeds"),
    [
        (("available", "available"), DatasetState.COMPLETE, ALL_FEEDS),
        (("available", "processing"), DatasetState.COMPLETE, ALL_FEEDS[:3]),
        (("available", "unscheduled"), DatasetState.COMPLETE, ALL_FEEDS[:3]),
        (("available", None), DatasetState.COMPLETE, ALL_FEEDS[:3]),
        (("scheduled", "available"), DatasetState.SCHEDULED, ALL_FEEDS[:1]),
        (("processing", "scheduled"), DatasetState.SCHEDULED, ALL_FEEDS[:1]),
        ((None, None), DatasetState.SCHEDULED, ALL_FEEDS[:1]),
    ],
)
async def test_statuses_decide_what_there_is(statuses, state, feeds):
    """
    Events and lineups come with an available match, frames only where they are announced, too.
    """
    status, status_360 = statuses
    resource = await discover_one([entry(match_status=status, match_status_360=status_360)])

    assert resource.state is state
    assert [file.data_feed_key for file in resource.files] == feeds


async def test_list_without_statuses_lists_what_is_available():
    """
    A list that says nothing of a status offers events and lineups, but no frames.
    """
    match = {k: v for k, v in entry().items() if not k.startswith("match_status")}
    resource = await discover_one([match])

    assert [file.data_feed_key for file in resource.files] == ALL_FEEDS[:3]


async def test_only_wanted_feeds_are_offered_in_every_wanted_version():
    """
    A plan gets the feeds it names, in each version it names, and no others.
    """
    resource = await discover_one([entry()], versions={"events": ["v8", "v9"], "match": "v1"})

    assert [file.key for file in resource.files] == [
        ("events", "v8"),
        ("events", "v9"),
        ("match", "v1"),
    ]


async def test_unknown_feed_is_an_error_that_names_the_known_ones():
    """
    A plan that wants a feed StatsBomb does not have is told which there are.
    """
    with pytest.raises(SourceError, match=r"'frames'.*match, lineups, events, 360-frames"):
        await discover([entry()], versions={"events": "v8", "frames": "v1"})


async def test_unknown_dataset_type_is_an_error_that_names_the_known_one():
    """
    A plan for another dataset type is told what there is, by both methods.
    """
    source = StatsBombOpenData("statsbomb")
    http = FakeHttp(source, {})
    datasets = source.discover_datasets(
        "team", LA_LIGA, data_spec_versions=DataSpecVersions(), state={}, http=http
    )
    for found in (source.discover_selectors("team", http=http), datasets):
        with pytest.raises(ConfigError, match="'team'; there is: match"):
            await anext(found)


async def test_selector_with_a_match_id_finds_that_match_only():
    """
    A Selector narrowed to one match finds it alone, and nothing if it is not listed.
    """
    matches = [entry(1), entry(2), entry(3)]
    resource = await discover_one(matches, LA_LIGA.with_values({"match_id": 2}))

    assert resource.dataset_resource_id["match_id"] == 2
    assert await discover(matches, LA_LIGA.with_values({"match_id": 4})) == ([], [])


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"competition_id": 11},
        {"competition_id": "11", "season_id": 90},
        {"competition_id": 11, "season_id": 90, "match_id": "1"},
    ],
)
async def test_selector_that_is_no_slice_of_the_data_is_an_error(values):
    """
    Ids that are missing or text are refused by name instead of finding nothing.
    """
    with pytest.raises(SourceError, match="must be an integer"):
        await discover([entry()], Selector(values))


BROKEN = {
    "number": b"7",
    "null": b"null",
    "list": b"[]",
    "no id": orjson.dumps({k: v for k, v in entry().items() if k != "match_id"}),
    "text id": orjson.dumps(entry("3773386")),
    "boolean id": orjson.dumps(entry(True)),
    "fractional id": orjson.dumps(entry(1.5)),
    "no team": orjson.dumps(entry(home_team=None)),
    "score in words": orjson.dumps(entry(home_score="one")),
    "not UTF-8": orjson.dumps(entry(stadium="@")).replace(b"@", b"\xff"),
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
async def test_broken_entry_is_refused_alone(broken):
    """
    An entry that cannot be used is refused with its place and reason, and the others are found.
    """
    body = b"[" + b",".join([orjson.dumps(entry(1)), broken, orjson.dumps(entry(2))]) + b"]"
    [page], [reason] = await discover({LIST: body})

    assert [resource.dataset_resource_id["match_id"] for resource in page] == [1, 2]
    assert reason.startswith("entry 2 of the match list cannot be used: ")


async def test_integers_of_any_size_stay_exact():
    """
    An id beyond 64 bits loses no digit on its way into identity and address.
    """
    big = 2**64 + 1
    body = orjson.dumps([entry(7777)]).replace(b"7777", str(big).encode())
    resource = await discover_one({LIST: body})

    assert resource.dataset_resource_id["match_id"] == big
    assert resource.files[-1].url.endswith(f"/{big}.json")


@pytest.mark.parametrize(
    ("written", "moment"),
    [
        ("2020-07-29T05:00", datetime(2020, 7, 29, 5, tzinfo=UTC)),
        ("2020-07-29T05:00:01", datetime(2020, 7, 29, 5, 0, 1, tzinfo=UTC)),
        ("2021-06-13T16:17:31.694", datetime(2021, 6, 13, 16, 17, 31, 694_000, tzinfo=UTC)),
        ("2023-07-25T03:54:59.280826", datetime(2023, 7, 25, 3, 54, 59, 280_826, tzinfo=UTC)),
        ("2023-07-25T03:54:59Z", datetime(2023, 7, 25, 3, 54, 59, tzinfo=UTC)),
        ("2023-07-25T03:54:59+02:00", datetime(2023, 7, 25, 1, 54, 59, tzinfo=UTC)),
        ("2023-07-25", datetime(2023, 7, 25, tzinfo=UTC)),
        ("0001-01-01T00:00+01:00", None),
        ("yesterday", None),
        ("", None),
        (None, None),
    ],
)
async def test_timestamps_are_aware_in_every_precision(written, moment):
    """
    Timestamps become UTC whatever their precision; one that cannot be read costs no match.
    """
    resource = await discover_one(
        [entry(last_updated=written, last_updated_360="2024-01-01T12:00")]
    )

    frames_moment = datetime(2024, 1, 1, 12, tzinfo=UTC)
    assert [file.last_modified for file in resource.files] == [moment] * 3 + [frames_moment]
    assert all(file.last_modified is None or file.last_modified.tzinfo for file in resource.files)


@pytest.mark.parametrize(
    "change",
    [
        {"last_updated": "2024-01-01T00:00"},
        {"last_updated_360": "2024-01-01T00:00"},
        {"referee": {"id": 1, "name": "A new one"}},
    ],
)
async def test_any_change_of_an_entry_asks_for_all_of_its_files(change):
    """
    Every file's token differs as soon as its match's entry does, and no other match's.
    """
    before, _ = await discover([entry(1), entry(2)])
    after, _ = await discover([entry(1) | change, entry(2)])

    differing = {key for key, token in tokens_of(after).items() if tokens_of(before)[key] != token}
    assert {match_id for match_id, *_ in differing} == {1}
    assert len(differing) == len(ALL_FEEDS)


async def test_order_of_the_list_is_no_change():
    """
    A list in another order has the same tokens and the same contents.
    """
    matches = [entry(number) for number in range(5)]

    forward, _ = await discover(matches)
    backward, _ = await discover(matches[::-1])
    assert tokens_of(forward) == tokens_of(backward)


async def test_long_list_comes_in_pages():
    """
    A list of any length reaches the engine in pages of bounded size, complete and in order.
    """
    pages, _ = await discover([entry(number) for number in range(250)])

    assert [len(page) for page in pages] == [100, 100, 50]
    assert [r.dataset_resource_id["match_id"] for page in pages for r in page] == [*range(250)]


async def test_selector_carries_name_and_freshness_of_its_season():
    """
    A season is named for people, changes its token with each timestamp, and is refused alone.
    """
    season = {
        "competition_id": 11,
        "season_id": 90,
        "competition_name": "La Liga",
        "season_name": "2020/2021",
        "match_updated": "2023-07-25T03:54:59.280826",
        "match_updated_360": None,
        "match_available": "2023-07-25T03:54:59.280826",
        "match_available_360": None,
    }
    fresher = [season | {name: "2024-01-01T00:00"} for name in season if "match_" in name]
    broken = [season | {"season_id": "90"}, None]
    body = orjson.dumps([season, *broken, *fresher, season | {"country_name": "Spain"}])
    found, refused = await selectors_of({"competitions.json": body})

    assert len(refused) == 2
    assert {(selector.key, selector.name) for selector in found} == {
        ('{"competition_id":11,"season_id":90}', "La Liga 2020/2021")
    }
    assert len({selector.token for selector in found}) == 1 + 4


@needs_real_data
async def test_real_lists_are_discovered_whole():
    """
    All seasons and matches of the open data are found, each list's entries byte for byte.
    """
    selectors, refused = await selectors_of(OPEN_DATA)
    assert (len(selectors), refused) == (71, [])

    matches = frames = 0
    for selector in selectors:
        pages, refused = await discover(OPEN_DATA, selector)
        assert not refused
        resources_found = [resource for page in pages for resource in page]
        contents = [resource.files[0].content for resource in resources_found]
        path = "matches/{competition_id}/{season_id}.json".format(**selector)
        assert b"[ " + b", ".join(contents) + b" ]" == (OPEN_DATA / path).read_bytes()
        assert all(resource.files[0].last_modified for resource in resources_found)
        matches += len(resources_found)
        frames += sum(resource.files[-1].optional for resource in resources_found)
    assert (matches, frames) == (3316, 309)


@needs_real_data
async def test_real_seasons_that_were_updated_have_other_tokens():
    """
    Of the seasons in an older index, those with a later timestamp in the newer one differ.
    """
    older, _ = await selectors_of(OPEN_DATA)
    newer, _ = await selectors_of(REAL / "statsbomb-open-data-newer/data")

    token_of_newer = {selector.key: selector.token for selector in newer}
    assert len(token_of_newer) == 75
    assert sum(selector.token != token_of_newer[selector.key] for selector in older) == 65


@needs_real_data
async def test_real_entries_that_changed_behind_an_equal_timestamp_have_other_tokens():
    """
    Entries whose content changed while `last_updated` did not are asked for again, too.
    """
    season = Selector({"competition_id": 11, "season_id": 42})
    [older], _ = await discover(REAL / "statsbomb-open-data-older/data", season)
    [newer], _ = await discover(OPEN_DATA, season)

    before = {r.dataset_resource_id["match_id"]: r.files[0] for r in older}
    after = {r.dataset_resource_id["match_id"]: r.files[0] for r in newer}
    equal_dates = [n for n in before if before[n].last_modified == after[n].last_modified]
    assert len(equal_dates) == 18
    assert all(before[number].token != after[number].token for number in equal_dates)


async def real_match(season_id, match_id, competition_id=11):
    """A Dataset of the lake, made of what is discovered, and the files that are at hand."""
    values = {"competition_id": competition_id, "season_id": season_id, "match_id": match_id}
    resource = await discover_one(OPEN_DATA, Selector(values))
    files = {
        "match": resource.files[0].content,
        "lineups": (OPEN_DATA / f"lineups/{match_id}.json").read_bytes(),
        "events": gzip.decompress((OPEN_DATA / f"events/{match_id}.json.gz").read_bytes()),
    }
    return dataset_of(values, resource.name, resource.metadata), files


def dataset_of(values, name="a match", metadata=None):
    return Dataset(
        row_id=1,
        dataset_id="d1",
        bucket="main",
        stage="raw",
        provider="statsbomb",
        dataset_type="match",
        identifier=Identifier(values),
        name=name,
        state=DatasetState.COMPLETE,
        metadata=metadata or {},
        created_at=datetime(2024, 1, 1, tzinfo=UTC),
        updated_at=datetime(2024, 1, 1, tzinfo=UTC),
        revision=0,
    )


@needs_real_data
async def test_real_match_is_loaded_with_what_its_entry_knows():
    """
    A match from the lake comes as kloppy's events, with what only the match list knows.
    """
    pytest.importorskip("kloppy")
    loaded = load(*await real_match(90, 3773386))

    metadata = loaded.metadata
    assert len(loaded.events) > 3000
    assert (metadata.game_id, metadata.game_week) == ("3773386", "8")
    assert metadata.date == datetime(2020, 10, 31, tzinfo=UTC)
    assert (metadata.score.home, metadata.score.away) == (1, 1)
    assert [(team.name, team.coach) for team in metadata.teams] == [
        ("Deportivo Alavés", "Pablo Javier Machín Díez"),
        ("Barcelona", "Ronald Koeman"),
    ]


@needs_real_data
async def test_real_match_is_loaded_with_360_frames_unless_they_are_not_wanted():
    """
    Frames are attached to the events they belong to; options reach kloppy.
    """
    pytest.importorskip("kloppy")
    dataset, files = await real_match(43, 3788741, competition_id=55)
    frames = orjson.loads(gzip.decompress((OPEN_DATA / "three-sixty/3788741.json.gz").read_bytes()))
    files["360-frames"] = orjson.dumps(frames[:50])
    options = {"event_types": ["pass"], "additional_metadata": {"game_week": "opening"}}
    loaded = load(dataset, files, **options)
    without = load(dataset, files, three_sixty=False, **options)

    assert {event.event_name for event in loaded.events} == {"pass"}
    assert loaded.metadata.game_week == "opening"
    assert loaded.metadata.officials[0].name == dataset.metadata["referee"]["name"]
    assert any(event.freeze_frame for event in loaded.events)
    assert not any(event.freeze_frame for event in without.events)


@needs_real_data
async def test_real_match_is_loaded_without_metadata_that_cannot_be_read():
    """
    Metadata of another shape leaves kloppy's metadata empty, and the events are there.
    """
    pytest.importorskip("kloppy")
    _, files = await real_match(90, 3773386)
    loaded = load(dataset_of({"match_id": 3773386}, metadata={"home_team": "Alavés"}), files)

    assert loaded.metadata.game_id == "3773386"
    assert loaded.metadata.score is None
    assert loaded.metadata.teams[0].coach is None


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"match": b"{}", "events": b"[]"}, "needs lineups, .* it has: match, events"),
        ({}, "needs events and lineups, .* it has: no files"),
    ],
)
def test_missing_feed_is_named(files, message):
    """
    A Dataset that lacks a feed kloppy needs is refused with what it lacks and what it has.
    """
    with pytest.raises(LoadError, match=message):
        load(dataset_of({"match_id": 1}), files)


def test_files_that_kloppy_cannot_load_are_an_error_of_ours():
    """
    Whatever kloppy stumbles over in unexpected files, the caller hears which Dataset it was.
    """
    pytest.importorskip("kloppy")
    with pytest.raises(LoadError, match="a match: kloppy cannot load it: StopIteration"):
        load(dataset_of({"match_id": 1}), {"events": b"[]", "lineups": b"[]"})


def test_missing_kloppy_is_named(monkeypatch):
    """
    Without kloppy, the error says how to install it.
    """
    monkeypatch.setitem(sys.modules, "kloppy", None)
    with pytest.raises(LoadError, match=r"pip install 'ingestify\[kloppy\]'"):
        load(dataset_of({"match_id": 1}), {"events": b"[]", "lineups": b"[]"})


def test_template_is_whole_and_keeps_the_lake_out_of_git():
    """
    The template has all that a new folder needs, and its lake is never committed by accident.
    """
    template = resources.files("ingestify_statsbomb") / "templates/statsbomb_github"
    names = {file.name for file in template.iterdir() if file.is_file()}

    assert names == {"README.md", "config.yaml", "gitignore", "query.py"}
    assert {"database/", ".env"} <= set((template / "gitignore").read_text().splitlines())
    compile((template / "query.py").read_text(), "query.py", "exec")
