"""What a user learns of a provider before a first big sync, and what that costs the provider."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from asyncio.subprocess import PIPE, Process, create_subprocess_exec
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from canary import canaries_in
from lists import ListSource, ListWorld

import ingestify
from benchmarks.provider.announced import Announced, Candidate, Lot, draw
from benchmarks.provider.figures import Latency, estimate_of, steps_of
from benchmarks.provider.measuring import Step, Weights, planned_steps
from benchmarks.provider.probe import Findings, Probe
from benchmarks.provider.recording import Errand, Exchange, Kind, endpoint_of
from ingestify.config import Config
from ingestify.errors import ConfigError
from ingestify.model.http import Limits, QueryAuth, Secret
from ingestify.model.resource import FileResource
from ingestify.redaction import Redactor
from ingestify.testing import ProviderSimulator, hang_until, status, too_many_requests

ROOT = Path(__file__).parents[2]
PLACES = (str(ROOT), f"{ROOT}/tests", f"{ROOT}/tests/end_to_end")
PASSWORD = "canary-open/sesame"

MakeConfig = Callable[..., Config]


def fill(world: ListWorld, *, lists: int, each: int) -> None:
    """Have *world* offer so many lists of so many things."""
    for number in range(lists):
        ids = range(number * each, (number + 1) * each)
        world.set_list(str(number), *({"id": id_} for id_ in ids))
        for id_ in ids:
            world.set_data(id_, {"id": id_, "text": "the same again and again " * 40})


class KeySource(ListSource):
    """Proves who it is with a parameter of every address."""

    def __init__(self, name: str, *, api_key: str, base_url: str) -> None:
        super().__init__(name, base_url=base_url, auth=QueryAuth("key", Secret(api_key)))


class LateSource(ListSource):
    """Says which files a Dataset has only when they are about to be fetched."""

    async def fetch_dataset_files(
        self, resource: Any, stored: Any, *, http: ingestify.Http
    ) -> AsyncIterator[FileResource]:
        (file,) = resource.files
        for feed in ("first", "second"):
            yield FileResource(data_feed_key=feed, data_spec_version="v1", url=file.url)


async def probe(
    make_config: MakeConfig,
    provider: ProviderSimulator,
    *,
    requests: int = 100,
    kind: str = "lists.ListSource",
    **source: Any,
) -> Findings:
    """What is found when *provider* is asked so many times."""
    written = {"type": kind, "configuration": {"base_url": provider.base_url}, **source}
    config = make_config(
        sources={"lists": written},
        ingestion_plans=[{"source": "lists", "dataset_type": "thing"}],
    )
    work = Probe(config=config, requests=requests, say=lambda text: None)
    await work.run()
    (found,) = work.findings
    return found


def endpoint(found: Findings, name: str) -> Any:
    (one,) = [each for each in found.endpoints if each.endpoint == name]
    return one


@pytest.mark.parametrize("requests", [1, 2, 7, 40, 100])
async def test_a_provider_gets_no_more_requests_than_were_allowed(
    make_config: MakeConfig, world: ListWorld, provider: ProviderSimulator, requests: int
) -> None:
    """Lists, files and those that are asked again are at most so many, and all are counted."""
    fill(world, lists=3, each=60)

    found = await probe(make_config, provider, requests=requests)

    assert 0 < len(provider.requests) <= requests
    assert found.requests == len(provider.requests)


async def test_failures_and_retries_count_for_what_is_allowed(
    make_config: MakeConfig, world: ListWorld, provider: ProviderSimulator
) -> None:
    """What has to be asked for twice takes two of the requests."""
    fill(world, lists=1, each=30)
    provider.script("data/*", status(404))
    provider.script("data/1*", too_many_requests(retry_after="0"), times=1)

    found = await probe(make_config, provider, requests=20)

    assert len(provider.requests) <= 20
    assert found.requests == len(provider.requests)
    assert found.problems


async def test_nothing_is_stored(
    make_config: MakeConfig, world: ListWorld, provider: ProviderSimulator, tmp_path: Path
) -> None:
    """No catalog is made and no file is kept."""
    fill(world, lists=2, each=20)
    before = sorted(tmp_path.rglob("*"))

    found = await probe(make_config, provider)

    assert found.measuring is not None
    assert sum(each.files for each in found.measuring.weights.values()) == 40
    assert found.measuring.staged == 0
    assert sorted(tmp_path.rglob("*")) == before


async def test_it_is_seen_whether_304_works(
    make_config: MakeConfig, world: ListWorld, provider: ProviderSimulator
) -> None:
    """Some lists and files are asked for again with the validators that they came with."""
    fill(world, lists=3, each=20)

    found = await probe(make_config, provider)

    for name in ("list-{id}.json", "data/{id}-v1.json"):
        seen = endpoint(found, name)
        assert seen.validators == ["ETag", "Last-Modified"]
        assert seen.asked_again == seen.not_modified == 2
        assert seen.answers["304"] == 2
    assert provider.count(status=304) == 4


async def test_nothing_is_asked_conditionally_of_a_provider_without_validators(
    make_config: MakeConfig, world: ListWorld
) -> None:
    """There is nothing to ask with."""
    fill(world, lists=1, each=20)
    async with ProviderSimulator(world, etag=False, last_modified=False) as provider:
        found = await probe(make_config, provider)

    seen = endpoint(found, "data/{id}-v1.json")
    assert (seen.validators, seen.asked_again) == ([], 0)


@pytest.mark.parametrize(("gzip", "offered"), [(True, "gzip"), (False, "none")])
async def test_it_is_seen_what_compression_is_offered(
    make_config: MakeConfig, world: ListWorld, gzip: bool, offered: str
) -> None:
    """One file of each feed is asked for with other codings than a run accepts, too."""
    fill(world, lists=1, each=20)
    async with ProviderSimulator(world, gzip=gzip) as provider:
        found = await probe(make_config, provider)

    seen = endpoint(found, "data/{id}-v1.json")
    assert (seen.compression, seen.unasked, seen.others) == (offered, "none", "none")
    assert (seen.plain_share < 0.3) if gzip else (seen.plain_share == 1)


async def test_more_and_more_is_asked_at_once_within_the_configured_limit(
    make_config: MakeConfig, world: ListWorld
) -> None:
    """Steps double up to the limit, and never is more in flight than each of them allows."""
    fill(world, lists=1, each=150)
    async with ProviderSimulator(world, delay=timedelta(milliseconds=2)) as provider:
        found = await probe(make_config, provider, requests=160, limits={"concurrency": 6})

        assert provider.most_in_flight <= 6
    assert [each.width for each in found.steps] == [1, 2, 4, 6]
    assert all(each.in_flight <= each.width for each in found.steps)
    assert sum(each.is_useful for each in found.steps) == 1
    assert all(each.latency and each.latency.p50 >= 2 for each in found.steps)


async def test_nothing_more_is_tried_once_the_provider_refuses(
    make_config: MakeConfig, world: ListWorld, provider: ProviderSimulator
) -> None:
    """The step in which a 429 comes is the last one that is wider; the rest follows its pace."""
    fill(world, lists=1, each=150)
    provider.script("data/*", too_many_requests(retry_after="0"), times=1)

    found = await probe(make_config, provider)

    assert [each.width for each in found.steps if not each.is_paced] == [1]
    assert sum(each.refused for each in found.steps) == provider.count(status=429) == 1
    assert endpoint(found, "data/{id}-v1.json").answers["429"] == 1
    estimate = found.estimate
    assert estimate is not None
    assert estimate.bounded_by == "the provider's own limit, which its 429s tell of"


async def test_a_provider_that_goes_on_refusing_is_left_alone(
    make_config: MakeConfig, world: ListWorld, provider: ProviderSimulator
) -> None:
    """After two more refusals in a row nothing is fetched any more."""
    fill(world, lists=1, each=150)
    provider.script("data/*", too_many_requests(retry_after="0"))

    found = await probe(make_config, provider, requests=1000, http={"attempts": 1})

    assert 3 <= provider.count(status=429) <= 3 + 4  # with those that were in flight
    assert found.estimate is not None
    assert found.estimate.seconds is None


async def test_a_full_sync_is_estimated_from_what_is_announced(
    make_config: MakeConfig, world: ListWorld, provider: ProviderSimulator
) -> None:
    """Where all lists were read, their numbers are told as they are."""
    fill(world, lists=3, each=20)

    found = await probe(make_config, provider)

    estimate = found.estimate
    assert estimate is not None
    (feed,) = estimate.feeds
    assert (estimate.is_exact, feed.feed, feed.files) == (True, "thing data v1", 60)
    assert estimate.requests == 1 + 3 + 60
    mean = sum(len(world.get(f"data/{id_}-v1.json").gzipped) for id_ in range(60)) / 60
    assert feed.received_bytes == pytest.approx(60 * mean, rel=0.05)
    assert feed.stored_bytes == feed.received_bytes  # it is kept as it came
    assert estimate.seconds is not None


async def test_lists_that_were_not_read_are_extrapolated(
    make_config: MakeConfig, world: ListWorld, provider: ProviderSimulator
) -> None:
    """A quarter of the requests is for lists; those left out count as much as those read."""
    fill(world, lists=40, each=5)

    found = await probe(make_config, provider, requests=40)

    assert provider.count("list-*", status=200) == found.announced.lists_read == 9
    estimate = found.estimate
    assert estimate is not None
    assert (estimate.is_exact, estimate.feeds[0].files) == (False, 200)
    assert estimate.requests == pytest.approx(40 + 200, abs=6)


async def test_files_that_lists_do_not_name_are_counted_by_some_datasets(
    make_config: MakeConfig, world: ListWorld, provider: ProviderSimulator
) -> None:
    """A Source that names files when they are fetched is asked for those of a few Datasets."""
    fill(world, lists=1, each=40)

    found = await probe(make_config, provider, kind="test_provider_benchmark.LateSource")

    estimate = found.estimate
    assert estimate is not None
    assert not estimate.is_exact
    assert {each.feed: each.files for each in estimate.feeds} == {
        "thing first v1": 40,
        "thing second v1": 40,
    }


async def test_a_daily_quota_ends_it(
    make_config: MakeConfig, world: ListWorld, provider: ProviderSimulator
) -> None:
    """It is heeded like any other limit, and what was found until then is told."""
    fill(world, lists=1, each=40)

    found = await probe(make_config, provider, limits={"daily_quota": 12})

    assert len(provider.requests) == 12
    assert "daily quota" in str(found.error)
    assert found.exit_code == 4
    assert endpoint(found, "list-{id}.json").requests == 1


async def test_a_source_that_no_plan_names_is_refused(
    make_config: MakeConfig, provider: ProviderSimulator
) -> None:
    """The message names those there are."""
    config = make_config(
        sources={"lists": {"type": "lists.ListSource"}},
        ingestion_plans=[{"source": "lists", "dataset_type": "thing"}],
    )
    with pytest.raises(ConfigError, match=r"called other; the plans' are: lists"):
        await Probe(config=config, requests=10, source="other").run()


# The command


def configuration(folder: Path, base_url: str, *, api_key: str | None = None) -> Path:
    """A configuration file that asks the provider at *base_url*."""
    kind = "lists.ListSource" if api_key is None else "test_provider_benchmark.KeySource"
    key = "" if api_key is None else f', api_key: "{api_key}"'
    (folder / "config.yaml").write_text(
        f"""\
main:
  metadata_url: sqlite:///{folder}/lake/catalog.db
  file_url: {folder}/lake/files
sources:
  lists:
    type: {kind}
    configuration: {{base_url: "{base_url}"{key}}}
    http: {{attempts: 1}}
ingestion_plans:
  - {{source: lists, dataset_type: thing}}
"""
    )
    return folder / "config.yaml"


async def start(*arguments: object) -> Process:
    """`python -m benchmarks.provider` with *arguments*."""
    environment: Mapping[str, str] = {**os.environ, "PYTHONPATH": ":".join(PLACES)}
    return await create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.provider", *map(str, arguments)),
        cwd=ROOT,
        env=environment,
        stdout=PIPE,
        stderr=PIPE,
    )


async def finish(process: Process) -> tuple[int | None, str, str]:
    """Exit code, stdout and stderr."""
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


@pytest.mark.parametrize("way", ["userinfo", "query"])
async def test_no_credential_is_shown(tmp_path: Path, world: ListWorld, way: str) -> None:
    """Neither in the report nor in what is told meanwhile, nor in words of what failed."""
    fill(world, lists=1, each=30)
    auth = ("me", PASSWORD) if way == "userinfo" else None
    async with ProviderSimulator(world, auth=auth) as provider:
        provider.script("data/1*", status(404))
        secret = PASSWORD.replace("/", "%2f")
        if way == "userinfo":
            base_url = provider.base_url.replace("//", f"//me:{secret}@", 1)
            config = configuration(tmp_path, base_url)
        else:
            config = configuration(tmp_path, provider.base_url, api_key=PASSWORD)
        for option in ("--json", "--debug"):
            code, out, err = await finish(await start(config, option))

            assert code == 1, err  # some files could not be had
            assert "data/{id}-v1.json" in out
            assert canaries_in(out + err) == []


async def test_json_holds_the_whole_report(tmp_path: Path, world: ListWorld) -> None:
    """Programs get what people are shown."""
    fill(world, lists=2, each=20)
    async with ProviderSimulator(world) as provider:
        config = configuration(tmp_path, provider.base_url)
        code, out, err = await finish(await start(config, "--json", "--requests", 60))

        assert (code, len(provider.requests) <= 60) == (0, True), err
    (report,) = json.loads(out)
    assert report["source"] == "lists"
    assert report["estimate"]["is_exact"] is True
    assert report["useful_concurrency"] >= 1
    assert [each["endpoint"] for each in report["endpoints"]] == [
        "selectors.json",
        "list-{id}.json",
        "data/{id}-v1.json",
    ]


async def test_wrong_usage_ends_with_2_and_nobody_there_with_3(tmp_path: Path) -> None:
    """As the command line does."""
    nobody = configuration(tmp_path, "http://127.0.0.1:9/")
    missing = tmp_path / "missing.yaml"
    for arguments, expected, said in (
        ([missing], 2, "no such file"),
        ([], 2, "give a configuration, or --simulator"),
        ([nobody, "--source", "other"], 2, "the plans' are: lists"),
        ([nobody, "--requests", "0"], 2, "at least 1"),
        ([nobody, "--", "--seed", "1"], 2, "there must be --simulator"),
        ([nobody], 3, "nothing could be asked"),
    ):
        code, _, err = await finish(await start(*arguments))

        assert code == expected, err
        assert said in err


async def test_an_interruption_ends_it_with_what_was_found_until_then(
    tmp_path: Path, world: ListWorld
) -> None:
    """The report of the lists is there, and the exit code is that of Ctrl-C."""
    fill(world, lists=2, each=20)
    async with ProviderSimulator(world) as provider:
        released = anyio.Event()
        script = provider.script("data/*", hang_until(released))
        process = await start(configuration(tmp_path, provider.base_url))
        await provider.until(lambda: script.taken > 0)
        process.send_signal(signal.SIGINT)
        code, out, err = await finish(process)
        released.set()

    assert code == 130, err
    assert "40 datasets in 2 of 2 lists" in out
    assert "list-{id}.json" in out


async def test_a_simulated_provider_is_measured_in_the_same_way() -> None:
    """It is started with the options that are given, and needs no configuration."""
    options = ["--size", "tiny", "--seasons", "11/1:15,11/2:15"]
    code, out, err = await finish(await start("--simulator", "--", *options))

    assert code == 0, err
    assert "simulator (statsbomb): 30 datasets in 2 of 2 lists" in out
    assert "A full sync: 63 requests" in out


# Figures


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://api.test/v4/matches/3788741/events.json", "matches/{id}/events.json"),
        ("https://api.test/v4/events/3788741.json?page=2&key=x", "events/{id}.json?page&key"),
        ("https://api.test/v4/v8/three-sixty/12.mp4", "v8/three-sixty/{id}.mp4"),
        ("https://api.test/v4/f/8k1jy2v0s3ldpbxdbdvcp0gqy", "f/{id}"),
        ("https://api.test/v4/f/123e4567-e89b-12d3-a456-426614174000", "f/{id}"),
        ("https://api.test/v4/canary-word/me", "***/me"),
        ("https://cdn.test/v4/x", "cdn.test/v4/x"),
        ("https://api.test/login", "/login"),
        ("https://me:hidden@api.test/v4/", "/"),
    ],
)
def test_addresses_that_differ_by_ids_are_one_endpoint(url: str, expected: str) -> None:
    """No id, no value of a query and no secret is left."""
    assert endpoint_of(url, "https://api.test/v4", Redactor(["canary-word"])) == expected


@pytest.mark.parametrize(
    ("files", "most", "widths"),
    [
        (0, 24, []),
        (3, 24, [1]),
        (8, 24, [1]),
        (24, 24, [1, 2, 4]),
        (150, 24, [1, 2, 4, 8, 16, 24]),
        (150, 1, [1]),
        (5000, 64, [1, 2, 4, 8, 16, 32, 64]),
    ],
)
def test_steps_fit_what_there_is(files: int, most: int, widths: list[int]) -> None:
    """Every file is fetched once, and no step is wider than what is allowed."""
    steps = planned_steps(files, most)

    assert [width for width, _ in steps] == widths
    assert sum(count for _, count in steps) == files


def exchanges(*, step: int, seconds: float, count: int, in_flight: int) -> Iterator[Exchange]:
    """Some good answers."""
    for number in range(count):
        yield Exchange(
            endpoint="f",
            errand=Errand(Kind.FILE, feed="f", step=step),
            in_flight=in_flight,
            is_conditional=False,
            began=number * seconds,
            status=200,
            seconds=seconds,
        )


def test_the_useful_concurrency_is_the_least_that_is_nearly_as_good_as_the_best() -> None:
    """What is held back to as many in flight counts together."""
    steps = [Step(1, seconds=10.0), Step(2, seconds=5.0), Step(4, seconds=5.0), Step(8, seconds=5)]
    seen = [
        *exchanges(step=1, seconds=1, count=10, in_flight=1),
        *exchanges(step=2, seconds=1, count=19, in_flight=2),
        *exchanges(step=3, seconds=1, count=20, in_flight=4),
        *exchanges(step=4, seconds=1, count=18, in_flight=4),
    ]

    figures = steps_of(steps, seen)

    assert [each.is_useful for each in figures] == [False, True, False, False]
    assert figures[1].useful_rate == 3.8


def test_percentiles_are_those_of_what_was_measured() -> None:
    """The nearest rank, and nothing where nothing was measured."""
    assert Latency.of([each / 1000 for each in range(1, 101)]) == Latency(p50=50, p90=90, p99=99)
    assert Latency.of([0.5]) == Latency(p50=500, p90=500, p99=500)
    assert Latency.of([]) is None


def test_limits_bound_the_estimate() -> None:
    """A configured rate, and a daily quota that makes it last for days."""
    found = Announced(lists=1, lists_read=1, datasets=1000)
    found.files["f"] = 1000
    seen = list(exchanges(step=1, seconds=0.1, count=10, in_flight=1))
    steps = steps_of([Step(1, seconds=1.0)], seen)
    weights = {"f": Weights(files=10, bytes=100, stored_bytes=50)}

    def seconds(limits: Limits) -> tuple[float | None, str]:
        estimate = estimate_of(found, seen, steps, weights, {}, limits)
        return estimate.seconds, estimate.bounded_by

    assert seconds(Limits()) == (100.0, "what 1 requests at once bring")
    assert seconds(Limits(requests_per_second=5)) == (200.0, "the configured requests_per_second")
    assert seconds(Limits(daily_quota=400)) == (
        2 * 86_400 + 20.0,
        "the daily quota of 400 requests",
    )


def test_every_feed_is_drawn_however_rare() -> None:
    """And no file twice."""
    lots = {name: Lot(1000, random.Random(0)) for name in ("often", "seldom")}
    for number in range(2000):
        feed = "seldom" if number % 500 == 0 else "often"
        file = FileResource(data_feed_key=feed, data_spec_version="v1", url=str(number))
        lots[feed].show(Candidate(feed, file))

    drawn = draw(lots, 50, random.Random(0))

    assert len({each.file.url for each in drawn}) == len(drawn) == 50
    assert sum(each.feed == "seldom" for each in drawn) >= 1
