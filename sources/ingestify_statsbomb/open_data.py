"""The open data that StatsBomb publishes on GitHub: matches, events, lineups and 360 frames.

A list of competition seasons leads to one list of matches each, and every entry of those to the
files of its match. Nothing needs a login, and no list has pages.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar, Final, NamedTuple

import msgspec

from ingestify import (
    ConfigError,
    DatasetResource,
    DatasetState,
    DataSpecVersions,
    FileResource,
    Http,
    JsonObject,
    Selector,
    Source,
    SourceError,
    token_of,
)

DATASET_TYPE: Final = "match"
MATCH: Final = "match"  # the match list's own entry; the other feeds are files of their own
FRAMES: Final = "360-frames"
FOLDERS: Final = {"lineups": "lineups", "events": "events", FRAMES: "three-sixty"}
FEEDS: Final = (MATCH, *FOLDERS)

AVAILABLE: Final = "available"
PAGE_SIZE: Final = 100  # entries read in one go, under 1 ms, before the event loop has its turn

UNUSABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What reading an entry that cannot be used ends with."""


class CompetitionSeason(msgspec.Struct, frozen=True):
    """An entry of `competitions.json`."""

    competition_id: int
    season_id: int
    competition_name: str
    season_name: str
    match_updated: str | None = None
    match_updated_360: str | None = None
    match_available: str | None = None
    match_available_360: str | None = None

    def to_selector(self) -> Selector:
        """The slice with this season's matches. Its token is all that is said of freshness.

        Event files may change while no match list does: only these timestamps tell then.
        """
        return Selector(
            {"competition_id": self.competition_id, "season_id": self.season_id},
            name=f"{self.competition_name} {self.season_name}",
            token=token_of(
                self.match_updated,
                self.match_updated_360,
                self.match_available,
                self.match_available_360,
            ),
        )


class HomeTeam(msgspec.Struct, frozen=True):
    """The home side of a `MatchEntry`."""

    home_team_name: str


class AwayTeam(msgspec.Struct, frozen=True):
    """The away side of a `MatchEntry`."""

    away_team_name: str


class MatchEntry(msgspec.Struct, frozen=True):
    """What has to be understood of an entry of a match list; the rest of it is only kept."""

    match_id: int
    match_date: str
    home_team: HomeTeam
    away_team: AwayTeam
    home_score: int | None = None
    away_score: int | None = None
    match_status: str | None = AVAILABLE  # a list that does not say lists what there is
    match_status_360: str | None = None
    last_updated: str | None = None
    last_updated_360: str | None = None

    @property
    def name(self) -> str:
        """Such as "2020-10-31 / Deportivo Alavés - Barcelona / 1-1"; no score, no last part."""
        teams = f"{self.home_team.home_team_name} - {self.away_team.away_team_name}"
        if self.home_score is None or self.away_score is None:
            return f"{self.match_date} / {teams}"
        return f"{self.match_date} / {teams} / {self.home_score}-{self.away_score}"

    @property
    def is_available(self) -> bool:
        """Whether events and lineups are there."""
        return self.match_status == AVAILABLE

    def offers(self, feed: str) -> bool:
        """Whether *feed* is announced; the file with 360 frames may be absent all the same."""
        if feed == MATCH:
            return True
        is_missing = feed == FRAMES and self.match_status_360 != AVAILABLE
        return self.match_status == AVAILABLE and not is_missing

    @property
    def state(self) -> DatasetState:
        """Complete as soon as events and lineups are there, whatever is said of 360 frames.

        Hundreds of matches have been `processing` or `scheduled` for 360 frames for years. If
        frames do come, the entry changes, and that alone asks for them.
        """
        return DatasetState.COMPLETE if self.is_available else DatasetState.SCHEDULED


class WantedFile(NamedTuple):
    """One version of a feed that a plan asks for."""

    feed: str
    version: str
    folder: str | None  # its files' address up to the match id; None: the entry itself


class StatsBombOpenData(Source):
    """StatsBomb's open data. One Dataset a match, found by competition season.

    The data has one version of everything, so a data spec version is only the name under which
    a file is kept. Other copies of the data are read by setting `base_url`.
    """

    provider = "statsbomb"
    base_url = "https://raw.githubusercontent.com/statsbomb/open-data/master/data/"
    data_spec_versions: ClassVar[Mapping[str, Mapping[str, str | Sequence[str]]]] = {
        DATASET_TYPE: {MATCH: "v6", "lineups": "v4", "events": "v8", FRAMES: "v2"}
    }

    selector_keys = ("competition_id", "season_id", "match_id")

    async def discover_selectors(self, dataset_type: str, *, http: Http) -> AsyncIterator[Selector]:
        """One Selector for every competition season."""
        _check_dataset_type(dataset_type)
        async for season in http.get_json_items("competitions.json", type=CompetitionSeason):
            yield season.to_selector()

    async def discover_datasets(
        self,
        dataset_type: str,
        selector: Selector,
        *,
        data_spec_versions: DataSpecVersions,
        state: dict[str, Any],
        http: Http,
    ) -> AsyncIterator[list[DatasetResource]]:
        """The matches of one competition season, or the one with *selector*'s `match_id`."""
        _check_dataset_type(dataset_type)
        wanted = _wanted_files(data_spec_versions, http)
        season = {name: _integer(selector, name) for name in ("competition_id", "season_id")}
        match_id = _integer(selector, "match_id") if "match_id" in selector else None

        page: list[DatasetResource] = []
        position, read = 0, msgspec.json.Decoder(MatchEntry).decode
        address = http.url("matches/{}/{}.json", *season.values())
        async for raw in http.get_json_items(address, type=msgspec.Raw):
            position += 1
            content = bytes(raw)
            try:
                entry = read(content)
                content.decode()  # reading skips most fields, and does not look for broken text
            except UNUSABLE as exc:
                http.refuse(f"entry {position} of the match list cannot be used: {exc}")
                continue
            if match_id is None or entry.match_id == match_id:
                page.append(_resource(season, entry, content, wanted))
            if len(page) == PAGE_SIZE:
                yield page
                page = []
        if page:
            yield page


def _check_dataset_type(dataset_type: str) -> None:
    if dataset_type != DATASET_TYPE:
        raise ConfigError(
            f"statsbomb open data has no dataset type {dataset_type!r}; there is: {DATASET_TYPE}"
        )


def _wanted_files(data_spec_versions: DataSpecVersions, http: Http) -> list[WantedFile]:
    unknown = [feed for feed in data_spec_versions if feed not in FEEDS]
    if unknown:
        raise SourceError(
            f"data_spec_versions: statsbomb open data has no feed {', '.join(map(repr, unknown))}; "
            f"there are: {', '.join(FEEDS)}"
        )
    folders = {feed: http.url(folder) + "/" for feed, folder in FOLDERS.items()}
    return [
        WantedFile(feed, version, folders.get(feed))
        for feed, versions in data_spec_versions.items()
        for version in versions
    ]


def _integer(selector: Selector, name: str) -> int:
    value = selector.get(name)
    if not isinstance(value, int):
        raise SourceError(f"selector {selector}: {name} must be an integer, not {value!r}")
    return value


def _resource(
    season: Mapping[str, int], entry: MatchEntry, content: bytes, wanted: Sequence[WantedFile]
) -> DatasetResource:
    # The entry's own bytes hold every timestamp and status that is said of the match, those of
    # the 360 frames included, and more: entries change while `last_updated` stays. The entry's
    # place in the list is not among them.
    metadata = JsonObject(content)
    match_id, token = entry.match_id, metadata.token
    last_updated = _utc(entry.last_updated)
    return DatasetResource(
        dataset_resource_id={**season, "match_id": match_id},
        name=entry.name,
        state=entry.state,
        metadata=metadata,
        files=[
            FileResource(
                data_feed_key=feed,
                data_spec_version=version,
                url=None if folder is None else f"{folder}{match_id}.json",
                content=content if folder is None else None,
                token=token,
                last_modified=_utc(entry.last_updated_360) if feed == FRAMES else last_updated,
                optional=feed == FRAMES,
            )
            for feed, version, folder in wanted
            if entry.offers(feed)
        ],
    )


def _utc(text: str | None) -> datetime | None:
    """The moment that *text*, UTC without saying so, stands for.

    What cannot be read is no moment: freshness is decided by the token, so nothing is lost.
    """
    if text is None:
        return None
    try:
        return datetime.fromisoformat(f"{text}Z")  # a tenth of what adding the zone later costs
    except ValueError:
        pass  # it has a zone, or no time of day, or is no timestamp at all
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
