"""The configuration: everything that may be written, and what is said about everything else."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestify.config import Config, config_schema, load_config, parse_config
from ingestify.config.env import Environment, read_env_file
from ingestify.config.secrets import credentials_in, secrets_in
from ingestify.errors import ConfigError
from ingestify.model.http import HttpSettings, Limits
from ingestify.model.layout import (
    BucketCountTransformation,
    BucketSizeTransformation,
    IdentityTransformation,
    PrefixTransformation,
)
from ingestify.model.selector import Selector
from ingestify.model.settings import CatalogUrl, FileUrl, duration, share, size
from ingestify.redaction import Redactor

ROOT = Path(__file__).parents[2]

MAIN = "main: {metadata_url: sqlite:///lake.db, file_url: file://lake/files/}\n"
SOURCE = MAIN + "sources: {open: {type: ingestify.statsbomb_github}}\n"

COMPLETE = """
main:
  metadata_url: !ENV ${LAKE_DATABASE:sqlite:///lake/catalog.db}
  file_url: !ENV ${LAKE_FILES:file://lake/files/}
  default_bucket: club
  metadata_options:
    table_prefix: club_

sources:
  open_data:
    type: ingestify.statsbomb_github

  wyscout:
    type: ingestify.wyscout
    configuration:
      username: !ENV ${WYSCOUT_USER}
      password: !ENV ${WYSCOUT_PASSWORD}
      base_url: https://wyscout.example.com/v3

  own:
    type: our_package.sources.OwnSource
    configuration:
      - region: eu
        api_version: v3
      - api_version: v4

dataset_types:
  - provider: statsbomb
    dataset_type: match
    identifier_keys:
      competition_id: {transformation: str}
      season_id: {transformation: int}
      match_id:
  - provider: wyscout
    dataset_type: match
    identifier_index: true
    identifier_keys:
      match_id:
        key_type: int
        transformation:
          type: bucket
          bucket_size: 1000

ingestion_plans:
  - source: open_data
    dataset_type: match
    data_spec_versions:
      match: v6
      events: [v8, v9]
    selectors:
      - competition_id: 11
        season_id: [90, 42]
      - competition_id: "*"
        match_day: ">= 27, != 30"
  - source: wyscout
    dataset_type: match
    selectors: "*"
    fetch_policy: our_package.policies.Weekly
  - source: own
    dataset_type: player
    bucket: scouting
    fetch_policy:
      type: our_package.policies.Every
      configuration: {interval_days: 15}

event_subscribers:
  - type: our_package.handlers.Publish
    configuration: {topic: lake}
  - {type: our_package.handlers.Publish, name: again, start: now}
"""


def parse(text: str, **variables: str) -> Config:
    return parse_config(text, file=Path("config.yaml"), environment=Environment(variables))


def complaint(text: str, **variables: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(text, **variables)
    return str(caught.value)


class TestWhatMayBeWritten:
    def test_everything_at_once(self):
        """
        A configuration with every section is read as a whole.
        """
        config = parse(COMPLETE, WYSCOUT_USER="anna", WYSCOUT_PASSWORD="tiki-taka")

        assert config.main.metadata_url.path == Path.cwd() / "lake/catalog.db"
        assert config.main.file_url.path == Path.cwd() / "lake/files"
        assert config.main.metadata_options.table_prefix == "club_"
        assert config.sources["wyscout"].configuration == {
            "username": "anna",
            "password": "tiki-taka",
            "base_url": "https://wyscout.example.com/v3",
        }
        first, second, third = config.ingestion_plans
        assert dict(first.data_spec_versions) == {"match": ("v6",), "events": ("v8", "v9")}
        assert second.fetch_policy.type == "our_package.policies.Weekly"
        assert third.fetch_policy.configuration == {"interval_days": 15}
        assert config.event_subscribers[0].configuration == {"topic": "lake"}
        publish, again = config.event_subscribers
        assert (publish.reader_name, publish.start) == ("our_package.handlers.Publish", "beginning")
        assert (again.reader_name, again.start) == ("again", "now")
        assert [config.scope_of(plan).bucket for plan in (first, third)] == ["club", "scouting"]

    def test_a_list_of_configurations_is_merged(self):
        """
        Where several configurations name the same option, the later one wins.
        """
        config = parse(COMPLETE, WYSCOUT_USER="anna", WYSCOUT_PASSWORD="tiki-taka")

        assert config.sources["own"].configuration == {"region": "eu", "api_version": "v4"}

    def test_a_whole_configuration_may_come_from_one_variable(self):
        """
        A variable may hold all options of a Source as JSON.
        """
        text = MAIN + "sources: {a: {type: x.Y, configuration: !ENV '${OPTIONS}'}}"

        config = parse(text, OPTIONS='{"user": "anna", "retries": 3}')

        assert config.sources["a"].configuration == {"user": "anna", "retries": 3}

    def test_the_least_that_works(self):
        """
        Addresses alone are a configuration, also where sections are left empty.
        """
        config = parse(MAIN + "sources:\ningestion_plans:\n")

        assert config.main.default_bucket == "main"
        assert (config.sources, config.ingestion_plans) == ({}, ())

    def test_extract_jobs_are_ingestion_plans(self):
        """
        The older name of ingestion_plans is understood, but not beside the newer one.
        """
        plans = "[{source: open, dataset_type: match}]"

        assert parse(SOURCE + f"extract_jobs: {plans}").ingestion_plans[0].source == "open"
        assert "config.yaml:3: extract_jobs: is the older name" in complaint(
            SOURCE + f"extract_jobs: {plans}\ningestion_plans: {plans}"
        )

    @pytest.mark.parametrize(
        ("written", "admitted", "refused"),
        [
            ("{competition_id: 11}", {"competition_id": 11}, {"competition_id": "11"}),
            ("[{season_id: [90, 42]}]", {"season_id": 42}, {"season_id": 43}),
            ("[{season_id: '*'}]", {"season_id": 1}, None),
            ("'*'", {"season_id": 1}, None),
            ("['*']", {"season_id": 1}, None),
            ("[{season: '2022'}]", {"season": "2022"}, {"season": 2022}),
            ("[{match_day: '>= 27'}]", {"match_day": 27}, {"match_day": 26}),
        ],
    )
    def test_selectors(
        self, written: str, admitted: dict[str, Any], refused: dict[str, Any] | None
    ):
        """
        Selectors are a mapping or a list of them, of values, lists, "*" and comparisons.
        """
        plan = f"ingestion_plans: [{{source: open, dataset_type: match, selectors: {written}}}]"

        (pattern,) = parse(SOURCE + plan).ingestion_plans[0].selectors

        assert pattern.admits(Selector(admitted))
        assert refused is None or not pattern.admits(Selector(refused))

    @pytest.mark.parametrize(
        ("written", "made"),
        [
            ("identity", IdentityTransformation()),
            ("str", IdentityTransformation()),
            ("int", IdentityTransformation()),
            ("{type: bucket, bucket_size: 1000}", BucketSizeTransformation(1000)),
            ("{type: bucket, bucket_count: 64}", BucketCountTransformation(64)),
            ("{type: prefix, length: 2}", PrefixTransformation(2)),
        ],
    )
    def test_transformations(self, written: str, made: object):
        """
        Every transformation of an identifier key has its own way to be written.
        """
        config = parse(
            MAIN + "dataset_types: [{provider: p, dataset_type: match, identifier_keys: "
            f"{{match_id: {{transformation: {written}}}}}}}]"
        )

        assert config.transformations("p", "match") == {"match_id": made}
        assert config.transformations("p", "player") == {}

    def test_limits_and_http_replace_only_what_they_name(self):
        """
        A Source's own limits and settings stay where the configuration says nothing.
        """
        config = parse(
            MAIN
            + """
sources:
  own:
    type: our.Source
    limits: {requests_per_second: 5, daily_quota: 1000}
    http:
      total_timeout: 5m
      idle_timeout: 12.5
      max_body_bytes: 2 GB
      attempts: 2
      redirect_hosts: CDN.example.com
      refuse_private_addresses: true
      proxy: http://user:pass@proxy.example.com:3128
      user_agent: club/1.0 (data@club.example)
"""
        )
        own = config.sources["own"]

        limits = own.limits.apply(Limits(concurrency=3, burst=4))
        http = own.http.apply(HttpSettings(max_redirects=1))

        assert limits == Limits(concurrency=3, burst=4, requests_per_second=5, daily_quota=1000)
        assert http.total_timeout == timedelta(minutes=5)
        assert http.idle_timeout == timedelta(seconds=12.5)
        assert http.max_body_bytes == 2_000_000_000
        assert (http.attempts, http.max_redirects) == (2, 1)
        assert http.redirect_hosts == {"cdn.example.com"}
        assert http.connect_timeout == HttpSettings().connect_timeout
        assert "pass" not in repr(own)

    def test_recheck_is_of_the_plan_or_else_of_main(self):
        """
        A plan's own share wins over the one that holds for all.
        """
        config = parse(
            """
main: {metadata_url: "memory://", file_url: "memory://", recheck: 5%}
sources: {a: {type: x.Y}}
ingestion_plans:
  - {source: a, dataset_type: match}
  - {source: a, dataset_type: match, recheck: 0}
"""
        )

        assert [config.recheck_of(plan) for plan in config.ingestion_plans] == [0.05, 0.0]

    def test_anchors_and_merge_keys(self):
        """
        A mapping that is used several times may be written once.
        """
        config = parse(
            MAIN
            + """
sources:
  a: &base
    type: x.Y
    limits: {burst: 2}
  b:
    type: x.Z
    <<: *base
  c:
    <<: [{limits: {burst: 3}}, *base]
"""
        )

        assert config.sources["b"].type == "x.Z"
        assert config.sources["b"].limits.burst == 2
        assert (config.sources["c"].type, config.sources["c"].limits.burst) == ("x.Y", 3)

    def test_from_code(self):
        """
        Code may give what a file would say, checked alike.
        """
        config = Config.from_values(
            metadata_url="memory://",
            file_url="memory://",
            bucket="b",
            sources={"a": {"type": "x.Y"}},
            ingestion_plans=[{"source": "a", "dataset_type": "match", "selectors": {"id": 1}}],
            concurrency=4,
        )

        assert config.main.concurrency == 4
        assert config.with_bucket("c").scope_of(config.ingestion_plans[0]).bucket == "c"
        with pytest.raises(ConfigError, match=r"configuration: main\.metadata_url: must be an add"):
            Config.from_values(metadata_url="", file_url="memory://")


class TestAddresses:
    @pytest.mark.parametrize(
        ("written", "path"),
        [
            ("sqlite:///database/catalog.db", Path.cwd() / "database/catalog.db"),
            ("sqlite:////var/lake/catalog.db", Path("/var/lake/catalog.db")),
            ("memory://", None),
            ("sqlite:///:memory:", None),
        ],
    )
    def test_catalog(self, written: str, path: Path | None):
        """
        Three slashes begin in the working folder, four at the root.
        """
        assert CatalogUrl.parse(written).path == path
        assert CatalogUrl.parse(str(CatalogUrl.parse(written))) == CatalogUrl.parse(written)

    @pytest.mark.parametrize(
        ("written", "path"),
        [
            ("file://database/files/", Path.cwd() / "database/files"),
            ("file:///var/lake", Path("/var/lake")),
            ("database/files", Path.cwd() / "database/files"),
            ("/var/lake", Path("/var/lake")),
            ("memory://", None),
        ],
    )
    def test_files(self, written: str, path: Path | None):
        """
        A file_url is a path, absolute or from the working folder, with or without file://.
        """
        assert FileUrl.parse(written).path == path
        assert FileUrl.parse(str(FileUrl.parse(written))) == FileUrl.parse(written)

    @pytest.mark.parametrize(
        ("key", "written", "said"),
        [
            ("metadata_url", "postgresql://u:hunter22@db/x", "postgresql:// (PostgreSQL) is not"),
            ("metadata_url", "postgresql+psycopg2://u:hunter22@db/x", "(PostgreSQL) is not supp"),
            ("metadata_url", "mysql://u:hunter22@db/x", "mysql:// (MySQL) is not supported yet"),
            ("metadata_url", "oracle://u:hunter22@db/x", "oracle:// is not known here"),
            ("metadata_url", "lake.db", "must be an address: sqlite:///"),
            ("metadata_url", "sqlite://lake.db", "one more slash"),
            ("metadata_url", "sqlite:///lake.db?mode=ro", "options after a ? are not supported"),
            ("metadata_url", "vault+aws://club/hunter22", "vault+aws:// (a secrets manager)"),
            ("file_url", "s3://hunter22", "s3:// (Amazon S3) is not supported yet; use file://"),
            ("file_url", "gs://hunter22", "gs:// (Google Cloud Storage) is not supported yet"),
            ("file_url", "s3:hunter22", "neither an address nor a path"),
            ("file_url", "http://u:hunter22@host/", "http:// is not known here"),
            ("file_url", "file://", "no folder is named"),
        ],
    )
    def test_what_is_not_supported_is_refused_by_name(self, key: str, written: str, said: str):
        """
        An address that cannot be used is named with what can be, and shows no password.
        """
        addresses = {"metadata_url": "memory://", "file_url": "memory://", key: written}

        text = complaint(yaml.safe_dump({"main": addresses}, sort_keys=False))

        assert f"main.{key}: " in text
        assert said in text
        assert "hunter22" not in text

    @pytest.mark.parametrize(
        "line",
        [
            "configuration: !ENV vault+aws://club/${STAGE:prod}/source",
            "configuration: [!ENV vault+aws://club/source, {version: v4}]",
            "configuration: {nested: [vault+gcp://club/key]}",
            "configuration: {password: !ENV '${SECRET}'}",
        ],
    )
    def test_secrets_managers_are_refused_anywhere(self, line: str):
        """
        A reference to a secrets manager never reaches a Source as if it were the secret.
        """
        text = complaint(
            MAIN + f"sources:\n  a:\n    type: x.Y\n    {line}", SECRET="vault+aws://x"
        )

        assert text.startswith("config.yaml:5: sources.a.configuration")
        assert "(a secrets manager) is not supported yet" in text
        assert len(text.splitlines()) == 1


class TestValues:
    @pytest.mark.parametrize(
        ("written", "seconds"), [(30, 30), (0.5, 0.5), ("500ms", 0.5), ("5m", 300), ("2 h", 7200)]
    )
    def test_durations(self, written: object, seconds: float):
        """
        A duration is a number of seconds, or text with a unit.
        """
        assert duration(written) == timedelta(seconds=seconds)

    @pytest.mark.parametrize(
        ("written", "count"), [(1, 1), ("64 kB", 64_000), ("2GB", 2 * 10**9), ("1.5 MiB", 1572864)]
    )
    def test_sizes(self, written: object, count: int):
        """
        A size is a number of bytes, or text with a decimal or binary unit.
        """
        assert size(written) == count

    @pytest.mark.parametrize(("written", "value"), [(0, 0), (0.25, 0.25), ("5%", 0.05), ("1", 1)])
    def test_shares(self, written: object, value: float):
        """
        A share is a number between 0 and 1, or a percentage.
        """
        assert share(written) == value

    @pytest.mark.parametrize("measure", [duration, size, share])
    @pytest.mark.parametrize(
        "written",
        [-1, True, None, [], "", "many", "-5s", "5 parsecs", "1e400", float("inf"), 10**400],
    )
    def test_other_values_are_refused(self, measure: Any, written: object):
        """
        What is no such measure, negative or endless is refused.
        """
        with pytest.raises(ConfigError):
            measure(written)

    def test_a_share_is_at_most_one(self):
        """
        5 does not mean 5 percent.
        """
        with pytest.raises(ConfigError, match="5%"):
            share(5)


class TestEnvironment:
    def test_several_variables_with_text_around(self):
        """
        Variables and defaults are filled in wherever they stand in the text.
        """
        text = MAIN + "sources: {a: {type: x.Y, configuration: {u: !ENV 'h://${A}:${B:80}/${A}'}}}"

        assert parse(text, A="host").sources["a"].configuration["u"] == "h://host:80/host"

    @pytest.mark.parametrize("variables", [{}, {"API_KEY": ""}])
    def test_a_missing_variable_is_an_error(self, variables: dict[str, str]):
        """
        A variable that is not set, or empty, is named with its place, and is never "".
        """
        text = complaint(
            MAIN + "sources:\n  a:\n    type: x.Y\n    configuration:\n      key: !ENV ${API_KEY}",
            **variables,
        )

        assert text.startswith(
            "config.yaml:6: sources.a.configuration.key: the environment variable API_KEY is not"
        )

    @pytest.mark.parametrize(
        "written", ["API_KEY", "$API_KEY", "${API_KEY", "${}", "${A:${B}}", "${A B}"]
    )
    def test_what_looks_like_a_variable_but_is_none(self, written: str):
        """
        A mistake in writing a variable never becomes a value.
        """
        text = MAIN + f"sources: {{a: {{type: x.Y, configuration: {{k: !ENV '{written}'}}}}}}"

        assert "!ENV" in complaint(text, A="a", B="b", API_KEY="k")

    def test_an_empty_default_is_empty(self):
        """
        Who writes an empty default gets one.
        """
        text = MAIN + "sources: {a: {type: x.Y, configuration: {k: !ENV '${A:}'}}}"

        assert parse(text).sources["a"].configuration == {"k": ""}

    def test_env_files(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        """
        The process's environment wins over .env beside the configuration, that over .env in the
        nearest folder from the working folder upwards.
        """
        (tmp_path / "conf").mkdir()
        (tmp_path / "work/deep").mkdir(parents=True)
        (tmp_path / ".env").write_text("FAR=far\n")
        (tmp_path / "work/.env").write_text("ONE=work\nTWO=work\nTHREE=work\n")
        (tmp_path / "conf/.env").write_text("ONE=conf\nTWO=conf\n")
        config = tmp_path / "conf/config.yaml"
        config.write_text(
            MAIN + "sources: {a: {type: x.Y, configuration: "
            "{k: !ENV '${ONE} ${TWO} ${THREE} ${FAR:none}'}}}"
        )
        monkeypatch.chdir(tmp_path / "work/deep")
        monkeypatch.setenv("ONE", "process")

        loaded = load_config(config)

        assert loaded.sources["a"].configuration == {"k": "process conf work none"}
        assert loaded.folder == tmp_path / "conf"

    def test_how_env_files_are_written(self, tmp_path: Path):
        """
        Quotes, comments, escapes and values over several lines are read; other lines are told.
        """
        file = tmp_path / ".env"
        file.write_bytes(
            b"\xef\xbb\xbf# for the club\r\n\r\nexport A = plain # why\r\nB='it # is \\n ${X}'\r\n"
            b'C="two\\nlines \\"q\\""\nD="really\ntwo"\nE=\nF=a#b\nnot a line\nG="open\nH=${A}/x\n'
        )

        values, notes = read_env_file(file)

        assert values == {
            "A": "plain",
            "B": "it # is \\n ${X}",
            "C": 'two\nlines "q"',
            "D": "really\ntwo",
            "E": "",
            "F": "a#b",
        }
        assert [note.split(" ")[0].rpartition(":")[2] for note in notes] == ["10", "11", "12"]
        assert "open" not in "".join(notes).replace(str(file), "")

    def test_a_broken_env_file_is_told_only_to_who_needs_it(self, tmp_path: Path):
        """
        A line that cannot be read is named where its variable is missing, and harms nobody else.
        """
        (tmp_path / ".env").write_text('A=a\nB="never closed\n')
        config = tmp_path / "config.yaml"
        text = MAIN + "sources: {a: {type: x.Y, configuration: {k: !ENV '${%s}'}}}"

        config.write_text(text % "A")
        assert load_config(config).sources["a"].configuration == {"k": "a"}

        config.write_text(text % "B")
        with pytest.raises(ConfigError, match=r"B is not set.*\.env:2 is not NAME=value"):
            load_config(config)

    @pytest.mark.parametrize(
        ("address", "shown"),
        [
            ("https://example.com/v3/", "https://example.com/v3/"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("ftp://example.com/v3", "ftp://example.com/v3"),
            ("https://me:canary-1@example.com/v3", "https://example.com/v3"),
            ("https://example.com/v3?key=canary-1#canary-2", "https://example.com/v3"),
            ("https://me:can/ary-1@example.com/v3", "https://example.com/v3"),
            ("https://example.com/?key=can@ary-1", "***"),
            ("https://me:can?ary-1@example.com/", "***"),
            ("canary-1", "***"),
        ],
    )
    @pytest.mark.parametrize("written", ["!ENV '${URL}'", "'%s'"])
    def test_a_base_url_is_shown_without_what_may_be_secret(self, written, address, shown):
        """
        Of a base URL, wherever it comes from, scheme, host and path are shown, or nothing.
        """
        text = written % address if "%" in written else written
        config = parse(
            MAIN + f"sources: {{a: {{type: x.Y, configuration: {{base_url: {text}}}}}}}",
            URL=address,
        )

        assert config.shown["sources"]["a"]["configuration"]["base_url"] == shown
        hidden = Redactor(secrets_in(config)).redact(f"at {address}, with canary-1")
        assert ("canary-1" in hidden) == ("canary-1" not in address)
        assert (address in hidden) == (address == shown)

    @pytest.mark.parametrize(
        ("written", "secret"),
        [
            ("987654321012", "987654321012"),
            ("2031-05-17", "2031-05-17"),
            ("314159.25", "314159.25"),
        ],
    )
    def test_a_secret_may_be_written_without_quotes(self, written, secret):
        """
        A password that YAML reads as a number or a date is a secret and a credential.
        """
        options = (
            f"{{password: {written}, keys: [{{token: [{written}]}}], n: 12345678, is_on: true}}"
        )
        config = parse(MAIN + f"sources: {{a: {{type: x.Y, configuration: {options}}}}}")

        assert secrets_in(config) == credentials_in(config) == {secret}

    def test_what_came_from_the_environment_is_not_shown(self):
        """
        What is shown of a configuration hides values from the environment, passwords and keys.
        """
        config = parse(
            MAIN
            + """
sources:
  a:
    type: !ENV ${TYPE}
    configuration:
      - {user: !ENV "${NAME}", api_key: literal-key, url: "https://u:literal@host/x", n: 1}
      - '{"password": "literal-json"}'
    http: {proxy: "http://u:literal-p@ss@proxy"}
""",
            TYPE="x.Yyyy",
            NAME="anna",
        )

        shown = json.dumps(config.shown)

        assert config.sources["a"].type == "x.Yyyy"
        for secret in ("x.Yyyy", "anna", "literal", "ss@"):
            assert secret not in shown
        assert config.shown["sources"]["a"]["configuration"][0]["n"] == 1
        for secret in ("anna", "literal"):
            assert secret not in repr(config)
        assert ("sources", "a", "type") in config.from_environment

    def test_errors_show_no_value_from_the_environment(self):
        """
        A message that would quote a value from the environment hides it.
        """
        text = complaint(
            SOURCE + "ingestion_plans: [{source: !ENV '${S}', dataset_type: match, selectors: "
            "{a: !ENV '${C}'}}]",
            S="hunter22",
            C=">= 1, hunter33",
        )

        assert 'no source is called "***"' in text
        assert "hunter" not in text


class TestMistakes:
    @pytest.mark.parametrize(
        ("section", "said"),
        [
            (
                "ingestion_plans:\n  - source: open\n    dataset_type: match\n    datset_type: x",
                'config.yaml:6: ingestion_plans[0].datset_type: unknown key; did you mean "dataset_'
                'type"?',
            ),
            (
                "ingestion_plans:\n  - source: open",
                "config.yaml:4: ingestion_plans[0].dataset_type: is missing",
            ),
            (
                "ingestion_plans:\n  - {source: opne, dataset_type: match}",
                'config.yaml:4: ingestion_plans[0].source: no source is called "opne"; did you '
                'mean "open"?',
            ),
            (
                "ingestion_plans:\n  - {source: zzz, dataset_type: match}",
                'no source is called "zzz"; known sources: open',
            ),
            (
                "ingest_plans: []",
                'config.yaml:3: ingest_plans: unknown key; did you mean "ingestion_plans"?',
            ),
            ("xyz: 1", "config.yaml:3: xyz: unknown key; known keys: main, sources,"),
            ("ingestion_plans: {source: open}", "ingestion_plans: must be a list, not a mapping"),
            ("ingestion_plans: [open]", "ingestion_plans[0]: must be a mapping, not text"),
            (
                "dataset_types:\n  - {provider: 1, dataset_type: match}",
                "config.yaml:4: dataset_types[0].provider: must be text; put it in quotes",
            ),
            (
                "dataset_types: [{provider: p, dataset_type: d}, {provider: p, dataset_type: d}]",
                "config.yaml:3: dataset_types[1]: stands twice: p, d",
            ),
            (
                "dataset_types: [{provider: p, dataset_type: d, identifier_keys: {k: {key_type: "
                "float}}}]",
                "identifier_keys.k.key_type: must be 'str' or 'int', not text",
            ),
            (
                "dataset_types: [{provider: p, dataset_type: d, identifier_keys: {k: "
                "{transformation: {type: bucket}}}}]",
                "identifier_keys.k.transformation: must be identity, str, int, {type: bucket,",
            ),
            (
                "dataset_types: [{provider: p, dataset_type: d, identifier_keys: {k: "
                "{transformation: {type: bucket, bucket_size: 0}}}}]",
                "transformation: bucket_size must be at least 1",
            ),
            (
                "ingestion_plans: [{source: open, dataset_type: d, data_spec_versions: {a: 1.0}}]",
                "data_spec_versions: a: a version is text, or a list of texts; put it in quotes",
            ),
            (
                "ingestion_plans: [{source: open, dataset_type: d, data_spec_versions: {360: v2}}]",
                "data_spec_versions: the data feed 360 must be text; put it in quotes",
            ),
            (
                "ingestion_plans:\n  - source: open\n    dataset_type: d\n    selectors:\n"
                "      - competition_id: 11\n      - competition_id: NO",
                "config.yaml:8: ingestion_plans[0].selectors[1]: selector 'competition_id' must be",
            ),
            (
                "ingestion_plans: [{source: open, dataset_type: d, selectors: []}]",
                "selectors: an empty list selects nothing",
            ),
            (
                "ingestion_plans: [{source: open, dataset_type: d, selectors: a > 3 or b}]",
                "selectors[0]: a condition as one text is not supported",
            ),
            (
                "dataset_types: [{provider: p, dataset_type: d, identifier_keys: {9k: {}}}]",
                "identifier_keys.9k: must be a name of letters, digits and _",
            ),
            ("event_subscribers: [{configuration: {}}]", "event_subscribers[0].type: is missing"),
            (
                "event_subscribers: [a.B, {type: a.B}]",
                'event_subscribers[1]: stands twice: a.B; give one of them a "name" of its own',
            ),
            ("event_subscribers: [{type: a.B, start: later}]", "event_subscribers[0].start: must"),
        ],
    )
    def test_a_mistake_is_named_with_its_place(self, section: str, said: str):
        """
        Each mistake is told with file, line and key, and with what would be right.
        """
        assert said in complaint(SOURCE + section)

    @pytest.mark.parametrize(
        ("option", "said"),
        [
            ("limits: {concurrency: 0}", "limits.concurrency: must be greater than or equal to 1"),
            ("limits: {concurrency: yes}", "limits.concurrency: must be a number, not true or fal"),
            ("limits: {requests_per_second: .inf}", "limits.requests_per_second: must be a finite"),
            ("limits: {rps: 5}", "limits.rps: unknown key; known keys: concurrency, requests_"),
            ("http: {total_timeout: soon}", "http.total_timeout: must be seconds, or text such as"),
            ("http: {total_timout: 5}", 'unknown key; did you mean "total_timeout"?'),
            ("http: {max_body_bytes: 2 potatoes}", "http.max_body_bytes: must be bytes, or text"),
            ("http: {attempts: [1]}", "http.attempts: must be a whole number, not a list"),
            ("http: {redirect_hosts: [https://cdn]}", "http.redirect_hosts: must be host names al"),
            ("http: {proxy: 'socks5://u:hunter22@h'}", "http.proxy: must be an address such as"),
            (
                'http: {user_agent: "a\\nX-Key: b"}',
                "http.user_agent: must be one line of plain ASCII text",
            ),
            ("configuration: 3", "configuration: must be a mapping, a list of mappings, or text"),
            ("configuration: hunter22", "configuration: must be a mapping, a list of mappings,"),
            ("configuration: {1: a}", "configuration: the option 1 must be text; put it in quotes"),
        ],
    )
    def test_a_mistake_in_a_source_is_named(self, option: str, said: str):
        """
        What replaces a Source's limits and settings is checked like the rest.
        """
        text = complaint(MAIN + f"sources:\n  a:\n    type: x.Y\n    {option}")

        assert said in text
        assert text.startswith("config.yaml:5: sources.a.")
        assert "hunter22" not in text

    def test_all_mistakes_are_told_at_once(self):
        """
        Whoever mends a file sees everything that is wrong in it, in the order of lines.
        """
        text = complaint(
            """
main:
  metadata_url: postgresql://db/x
  file_ulr: lake
sources:
  a: {type: x.Y, configuration: {key: !ENV "${NOT_SET}"}}
  a: {type: x.Z}
ingestion_plans:
  - {source: b, dataset_type: match}
"""
        )

        assert [line.split(": ")[:2] for line in text.splitlines()] == [
            ["config.yaml:2", "main.file_url"],
            ["config.yaml:3", "main.metadata_url"],
            ["config.yaml:4", "main.file_ulr"],
            ["config.yaml:6", "sources.a.configuration.key"],
            ["config.yaml:7", "sources.a"],
            ["config.yaml:9", "ingestion_plans[0].source"],
        ]

    @pytest.mark.parametrize(
        "value", ["0123", "2022_2023", "12:30", "0x1F", "1:30.5", "2024-13-45"]
    )
    def test_numbers_that_yaml_reads_otherwise_are_refused(self, value: str):
        """
        An identifier never silently becomes another number: 0123 is 83 in YAML.
        """
        plan = f"ingestion_plans: [{{source: open, dataset_type: d, selectors: {{s: {value}}}}}]"

        assert "selectors.s: " in complaint(SOURCE + plan)
        assert "put it in quotes" in complaint(SOURCE + plan)

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("main: [1\nx: ]", "config.yaml:2:2: not YAML: while parsing a flow sequence"),
            ("main: {a: *b}", "config.yaml:1:"),
            ("- 1", "config.yaml:1: must be a mapping, not a list"),
            ("main: !!python/name:os.system x", "the tag tag:yaml.org,2002:python/name:os.system"),
            ("main: !!python/object/apply:os.system [ls]", "python/object/apply:os.system is not"),
            ("main: !include other.yaml", "main: the tag !include is not known here"),
            ("!ENV '${A}': 1", "a key must be plain text"),
            ("{[1]: 2}", "config.yaml:1: a key must be plain text"),
            ("main: !ENV [a]", "main: the tag !ENV is not known here"),
            ("a: 1\n---\nb: 2", "config.yaml:2:1: not YAML: expected a single document"),
            ("a: &x [*x]", "config.yaml:1: an alias inside of what it stands for"),
            ("a: \x01", "config.yaml: not YAML: "),
            ("", "config.yaml: is empty; `ingestify init`"),
            ("# nothing", "is empty"),
            ("<<: 3", "<< is followed by an alias of a mapping"),
        ],
    )
    def test_what_is_no_configuration(self, text: str, said: str):
        """
        Only plain, finite YAML is read; the rest is refused with its place.
        """
        assert said in complaint(text)

    @pytest.mark.parametrize(
        "text",
        [
            "[" * 300_000,
            "a: " + "[" * 60 + "]" * 60,
            "- " * 50_000 + "x",
            "a: &a [1,1,1,1,1,1,1,1,1,1]\n"
            + "\n".join(
                f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]"
                for before, name in zip("abcdefgh", "bcdefghi", strict=True)
            ),
            "a: [" + "1," * 400_000 + "]",
        ],
        ids=["open", "deep", "dashes", "aliases", "long"],
    )
    def test_bombs(self, text: str):
        """
        What would exhaust the stack or the memory is refused before it does.
        """
        said = complaint(text)

        assert "deep" in said or "values" in said

    def test_files_that_cannot_be_read(self, tmp_path: Path):
        """
        A file that is not there, or not text, is named with the reason.
        """
        with pytest.raises(ConfigError, match=r"nope\.yaml: no such file; `ingestify init`"):
            load_config(tmp_path / "nope.yaml")
        with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
            load_config(str(tmp_path))
        (tmp_path / "latin.yaml").write_bytes(b"a: \xe9")
        with pytest.raises(ConfigError, match=r"latin\.yaml: not UTF-8 at byte 3"):
            load_config(tmp_path / "latin.yaml")


KEYS = [
    *("main", "metadata_url", "file_url", "sources", "type", "configuration", "limits", "burst"),
    *("http", "proxy", "ingestion_plans", "extract_jobs", "source", "dataset_type", "selectors"),
    *("dataset_types", "identifier_keys", "transformation", "recheck", "data_spec_versions", "<<"),
    *("fetch_policy", "event_subscribers", "redirect_hosts", "max_body_bytes", "idle_timeout"),
]
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.dates()
    | st.text()
    | st.binary()
    | st.sampled_from(["*", "5%", "2 GB", "30s", "memory://", "bucket", ">= 3", "vault+aws://x"])
)
DOCUMENTS = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(KEYS) | SCALARS, inner, max_size=6)
    ),
    max_leaves=30,
)
SNIPPETS = ["&a ", "*a", "!ENV ", "${A}", "${", "!!set ", "? ", "<<: ", "[", "{", "}", "- ", "\n"]


class TestAnyInput:
    @given(st.text() | st.lists(st.sampled_from(SNIPPETS + KEYS) | st.text()).map("".join))
    @settings(deadline=None)
    def test_any_text(self, text: str):
        """
        Whatever a file says, reading it ends with a Config or with a ConfigError.
        """
        self.read(text)

    @given(DOCUMENTS)
    @settings(deadline=None)
    def test_any_document(self, document: object):
        """
        Whatever stands where something else is expected is a ConfigError.
        """
        main = {"metadata_url": "memory://", "file_url": "memory://"}

        self.read(yaml.safe_dump(document, allow_unicode=True))
        self.read(yaml.safe_dump({"main": main, "sources": {"a": document}}))
        self.read(yaml.safe_dump({"main": main, "ingestion_plans": [document, document]}))
        self.read(yaml.safe_dump({"main": main, "dataset_types": [document]}))

    def read(self, text: str) -> None:
        try:
            outcome: object = parse(text, A="a: [}")
        except ConfigError as exc:
            outcome = str(exc)
        assert isinstance(outcome, Config) or str(outcome).startswith("config.yaml")


def test_the_schema_names_every_section():
    """
    The JSON schema knows each key that the configuration knows, and no other.
    """
    schema = config_schema()

    assert schema["additionalProperties"] is False
    assert set(schema["properties"]) >= {"main", "sources", "dataset_types", "ingestion_plans"}
    assert json.loads(json.dumps(schema)) == schema


def test_neither_pydantic_nor_yaml_is_loaded_for_nothing():
    """
    Importing the package, or what builds Sources, loads neither pydantic nor PyYAML.
    """
    code = (
        "import sys, ingestify, ingestify.plugins; "
        "sys.exit(any(name in sys.modules for name in ('pydantic', 'yaml')))"
    )

    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
