"""Plugins: how names become classes, and what is said when they do not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ingestify.config import Config
from ingestify.config.sections import ObjectSpec, SourceConfig
from ingestify.errors import ConfigError, FatalError
from ingestify.model.http import Limits
from ingestify.plugins import (
    build_source,
    construct,
    load_fetch_policy,
    load_object,
    load_source_class,
    source_types,
)
from ingestify.policy import FetchPolicy
from ingestify.ports import Source

ROOT = Path(__file__).parents[2]

SOURCE = """
from ingestify.model.http import HeaderAuth, Limits, Secret
from ingestify.ports import Source

class Own(Source):
    provider = "own"
    limits = Limits(concurrency=2, burst=7)

    def __init__(self, name, *, api_key, region="eu", **options):
        super().__init__(name, auth=HeaderAuth("X-Api-Key", Secret(api_key)), **options)
        self.region = region

    class Inner(Source):
        provider = "inner"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A configuration's folder, forgotten after the test."""
    path, modules = list(sys.path), set(sys.modules)
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture
def install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes packages that bring types of Sources, as if they were installed."""
    site = folder / "site-packages"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))

    def make(distribution: str, points: dict[str, str], **modules: str) -> None:
        info = site / f"{distribution}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2")
        lines = "\n".join(f"{name} = {value}" for name, value in points.items())
        (info / "entry_points.txt").write_text(f"[ingestify.sources]\n{lines}\n")
        for name, text in modules.items():
            (site / f"{name}.py").write_text(text)

    return make


def write(folder: Path, name: str, text: str) -> None:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def said(call: Any, *arguments: Any, **options: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        call(*arguments, **options)
    return str(caught.value)


class TestNames:
    @pytest.mark.parametrize("name", ["club_open", "ingestify.club_open"])
    def test_installed_types(self, install: Any, name: str):
        """
        An installed type is found by its name, with and without "ingestify." before it.
        """
        install("club", {"club_open": "club_a:Own"}, club_a=SOURCE)

        assert load_source_class(name).provider == "own"

    @pytest.mark.parametrize(
        ("name", "provider"),
        [
            ("pack.sources.Own", "own"),
            ("pack.sources:Own", "own"),
            ("pack.sources.Own.Inner", "inner"),
            ("pack.sources:Own.Inner", "inner"),
            ("single.Own", "own"),
        ],
    )
    def test_dotted_paths(self, folder: Path, name: str, provider: str):
        """
        A class is found by its dotted path in the folder of the configuration.
        """
        write(folder, "pack/sources.py", SOURCE)
        write(folder, "pack/__init__.py", "")
        write(folder, "single.py", SOURCE)

        assert load_source_class(name, folder=folder).provider == provider

    def test_siblings_can_be_imported_later(self, folder: Path):
        """
        The folder stays importable, and never takes the place of what is installed.
        """
        write(
            folder, "lazily.py", "def later():\n    import sibling_of_lazily as s\n    return s.x"
        )
        write(folder, "sibling_of_lazily.py", "x = 1")
        write(folder, "json.py", "raise RuntimeError")

        assert load_object("lazily.later", folder=folder)() == 1
        assert load_object("json.dumps", folder=folder)({}) == "{}"
        assert sys.path[-1] == str(folder)

    def test_an_unknown_type_is_told_with_those_that_are_there(self, install: Any, folder: Path):
        """
        A name that nobody brings is answered with the nearest, all others, and a way out.
        """
        install("club", {"club_open": "club_b:Own", "club_api": "club_b:Own"}, club_b=SOURCE)

        text = said(load_source_class, "ingestify.club_opne", folder=folder)

        assert 'did you mean "club_open"?' in text
        assert "club_api, club_open" in text
        assert "my_package:MySource" in text
        assert "installed types: " in said(load_source_class, "nowhere.at.All", folder=folder)

    def test_two_packages_bring_the_same_name(self, install: Any):
        """
        A name that two packages bring is not decided by chance.
        """
        install("club", {"twice": "club_c:Own"}, club_c=SOURCE)
        install("rival", {"twice": "rival_c:Own"}, rival_c=SOURCE)

        assert "several packages: club 1.2, rival 1.2" in said(load_source_class, "twice")

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("broken.Missing", "broken (FOLDER/broken.py) has no Missing"),
            ("broken.Fnie", 'has no Fnie; did you mean "Fine"?'),
            ("broken.Fine", "broken.Fine is not a class derived from ingestify.Source"),
            ("nowhere.Any", 'there is no module "nowhere" to find nowhere.Any in'),
            ("nowhere.at:Any", 'there is no module "nowhere" to find'),
            ("broken.deeper:Any", 'there is no module "broken.deeper" to find'),
            ("needy.Any", 'needy needs the module "not_there_at_all", which is not there'),
            ("raising.Any", "importing raising failed: ZeroDivisionError: division by zero (raisi"),
            ("leaving.Any", "importing leaving failed: SystemExit: 3 (leaving.py:1)"),
            ("odd.Any", "importing odd failed: SyntaxError: "),
            ("a b.C", '"a b.C" is not a dotted path such as my_package.MyClass'),
            ("../x:y", "is not a dotted path"),
            ("x.:y", "is not a dotted path"),
        ],
    )
    def test_what_cannot_be_loaded(self, folder: Path, name: str, text: str):
        """
        Each way in which a class cannot be loaded is told apart.
        """
        write(folder, "broken.py", "Fine = 1")
        write(folder, "needy.py", "import not_there_at_all")
        write(folder, "raising.py", "1 / 0")
        write(folder, "leaving.py", "raise SystemExit(3)")
        write(folder, "odd.py", "def (:")

        assert text.replace("FOLDER", str(folder)) in said(load_source_class, name, folder=folder)

    def test_listing(self, install: Any):
        """
        Installed types are listed with what brings them; a broken one harms no other.
        """
        install("club", {"club_d": "club_d:Own", "gone": "not_there_either:X"}, club_d=SOURCE)

        listed = {each.name: each for each in source_types()}

        assert listed["club_d"].provider == "own"
        assert listed["club_d"].distribution == "club 1.2"
        assert listed["club_d"].class_path == "club_d:Own"
        assert listed["club_d"].error is None
        assert listed["gone"].provider is None
        assert 'no module "not_there_either"' in str(listed["gone"].error)


class Plain(Source):
    provider = "plain"


class Keyed(Source):
    provider = "keyed"

    def __init__(self, name: str, *, api_key: str, api_version: str = "v4", **options: Any) -> None:
        super().__init__(name, **options)
        self.api_key = api_key


class Strict(Source):
    provider = "strict"

    def __init__(self, name: str, username: str, password: str, season: int = 0) -> None:
        super().__init__(name)
        if season < 0:
            raise ValueError(f"{username!r} and {password!r} have no season {season}")


class Forgetful(Source):
    provider = "forgetful"

    def __init__(self, name: str) -> None:
        pass


class Nameless(Source):
    pass


class Late(Source):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.provider = "late"  # type: ignore[misc]


class Doomed(Source):
    provider = "doomed"

    def __init__(self, name: str, *, key: str) -> None:
        raise FatalError("the licence has ended")


class Picky(Source):
    provider = "picky"

    def __init__(self, name: str, *, key: str) -> None:
        raise ConfigError(f"the key {key} is no key")


class OwnLimits(Source):
    provider = "own limits"

    def __init__(self, name: str, *, limits: str) -> None:
        super().__init__(name, limits=Limits(concurrency=int(limits)))


def source_config(kind: type, **options: Any) -> SourceConfig:
    extra = {key: options.pop(key) for key in ("limits_", "http_") if key in options}
    sections = {key.rstrip("_"): value for key, value in extra.items()}
    written = {"type": f"{__name__}:{kind.__qualname__}", "configuration": options, **sections}
    return SourceConfig.model_validate(written)


class TestBuilding:
    def test_a_source_gets_its_options_limits_and_settings(self):
        """
        Options reach the class as they are; limits and HTTP settings replace single values.
        """
        config = source_config(
            Keyed,
            api_key="k",
            base_url="https://example.com/",
            limits_={"burst": 5},
            http_={"connect_timeout": "2s"},
        )

        source = build_source("mine", config)

        assert isinstance(source, Keyed)
        assert (source.name, source.api_key) == ("mine", "k")
        assert source.base_url == "https://example.com/"
        assert source.limits == Limits(burst=5)
        assert source.http_settings.connect_timeout == timedelta(seconds=2)
        assert Keyed.limits == Limits()

    def test_a_provider_may_be_known_late(self):
        """
        A Source may set its provider when it is built.
        """
        assert build_source("x", source_config(Late)).provider == "late"

    @pytest.mark.parametrize(
        ("kind", "options", "text"),
        [
            (Strict, {"usrname": "a", "password": "b"}, 'no option "usrname"; did you mean "usern'),
            (Strict, {"username": "a"}, "Strict is missing the option(s) password"),
            (Strict, {"zzz": 1}, '"zzz"; it has: username, password, season'),
            (Keyed, {"api_key": "a", "api_vresion": "b"}, 'no option "api_vresion"; did you mean'),
            (Keyed, {"api_key": "a", "bse_url": "b"}, 'did you mean "base_url"?'),
            (Plain, {"name": "other"}, 'takes "name" from elsewhere'),
            (Plain, {"limits": {}}, '"limits" is not an option; limits and http are written besi'),
            (Keyed, {"api_key": "a", "auth": "b"}, '"auth" is not an option'),
            (Forgetful, {}, "Forgetful must call super().__init__(name, …)"),
            (Nameless, {}, "Nameless must name its provider"),
            (Picky, {"key": "hunter22"}, "the key *** is no key"),
            (FetchPolicy, {}, "is not a class derived from ingestify.Source"),
        ],
    )
    def test_what_a_source_does_not_take(self, kind: type, options: dict[str, Any], text: str):
        """
        An option that does not fit is named with its Source and the nearest that does.
        """
        message = said(build_source, "mine", source_config(kind, **options))

        assert message.startswith('source "mine": ')
        assert text in message
        assert "hunter22" not in message

    def test_no_value_is_shown(self):
        """
        Whatever a Source says about its options, no value of them is in the error or its causes.
        """
        config = source_config(Strict, username="o'hara", password="pa\nss\\word", season=-7)

        with pytest.raises(ConfigError) as caught:
            build_source("mine", config)

        assert "Strict could not be built: ValueError: " in str(caught.value)
        assert "(test_plugins.py:" in str(caught.value)
        for secret in ("hara", "ss", "word", "-7"):
            assert secret not in str(caught.value).replace("password", "")
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None or caught.value.__suppress_context__

    def test_what_ingestify_raises_on_purpose_passes(self):
        """
        A Source that says that nothing can go on is heard.
        """
        with pytest.raises(FatalError):
            build_source("x", source_config(Doomed, key="k"))

    def test_a_source_may_have_limits_of_its_own(self):
        """
        An option that the class itself names is its own, whatever it is called.
        """
        assert build_source("x", source_config(OwnLimits, limits="3")).limits.concurrency == 3

    def test_limits_that_contradict_are_told(self):
        """
        What the configuration of a whole file says reaches its Sources.
        """
        config = Config.from_values(
            metadata_url="memory://",
            file_url="memory://",
            sources={"a": {"type": f"{__name__}:Plain", "limits": {"concurrency": 2}}},
        )

        source = build_source("a", config.sources["a"], config.folder)

        assert source.limits.concurrency == 2


class Weekly(FetchPolicy):
    def __init__(self, interval: timedelta = timedelta(days=7), days: int = 1) -> None:
        super().__init__(refetch_after=interval * days)


class Unfinished(FetchPolicy):
    def __init__(self) -> None:
        pass


def collect(*arguments: Any, **options: Any) -> Any:
    return arguments, options


def spec(thing: Any, **options: Any) -> ObjectSpec:
    return ObjectSpec(type=f"{__name__}:{thing.__qualname__}", configuration=options)


class TestPolicies:
    def test_the_usual_policy(self):
        """
        A plan without a policy has the usual one, with the plan's recheck.
        """
        policy = load_fetch_policy(None, recheck=0.25)

        assert type(policy) is FetchPolicy
        assert policy.recheck == 0.25

    def test_a_policy_by_name(self):
        """
        A policy is built with its configuration, durations written as people do.
        """
        named = ObjectSpec(
            type="ingestify.FetchPolicy", configuration={"refetch_after": "7d", "recheck": "5%"}
        )

        policy = load_fetch_policy(named, recheck=0.5)
        weekly = load_fetch_policy(spec(Weekly, interval="1d", days=2), recheck=0.5)

        assert (policy.refetch_after, policy.recheck) == (timedelta(days=7), 0.05)
        assert (weekly.refetch_after, weekly.recheck) == (timedelta(days=2), 0.5)

    @pytest.mark.parametrize(
        ("written", "text"),
        [
            (spec(Weekly, intervall=1), 'Weekly has no option "intervall"; did you mean "interva'),
            (spec(Weekly, interval="soon"), 'the option "interval" must be seconds, or text such'),
            (spec(Unfinished), "Unfinished must call super().__init__()"),
            (spec(Plain), "is not a class derived from ingestify.FetchPolicy"),
            (ObjectSpec(type="weekly"), '"weekly" is not a dotted path'),
        ],
    )
    def test_what_is_no_policy(self, written: ObjectSpec, text: str):
        """
        A policy that cannot be built is told like a Source.
        """
        assert text in said(load_fetch_policy, written)

    def test_anything_else_by_name(self):
        """
        Other objects are called with what the caller gives and what their configuration says.
        """
        assert construct(spec(collect, topic="t"), 1) == ((1,), {"topic": "t"})
        assert "module cannot be called" in said(construct, ObjectSpec(type="os.path"))


def test_a_bare_checkout_still_names_a_way():
    """
    Without any installed package, a type is refused with how to name a class of one's own.
    """
    code = (
        "from unittest import mock\n"
        "from ingestify import plugins\n"
        "from ingestify.errors import ConfigError\n"
        "with mock.patch.object(plugins, '_entry_points', lambda: []):\n"
        "    try:\n        plugins.load_source_class('statsbomb_github')\n"
        "    except ConfigError as exc:\n        print(exc)\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert "no types are installed; a class of your own is written as" in done.stdout
