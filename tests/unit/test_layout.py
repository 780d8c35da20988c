"""Where Files lie: readable, bounded, inside the lake, and never the same for two of them."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ingestify.errors import ConfigError, StoreError
from ingestify.model.identity import Identifier
from ingestify.model.layout import (
    BucketCountTransformation,
    BucketSizeTransformation,
    IdentityTransformation,
    PrefixTransformation,
    file_path,
    part,
    path_parts,
    with_suffix,
    without_suffix,
)

SHA256 = "0123456789abcdef" * 4


def path_of(identifier, **changes):
    given_parts = {
        "bucket": "main",
        "stage": "raw",
        "provider": "statsbomb",
        "dataset_type": "match",
        "data_feed_key": "events",
        "data_spec_version": "v8",
        "revision": 0,
        "stored_sha256": SHA256,
        "format": "json",
        "codec": "gzip",
    }
    return file_path(identifier=Identifier(identifier), **given_parts | changes)


texts = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=100),
    st.text("aA_.-~%=/1é", max_size=8),
    st.sampled_from(
        ["con", "nul.x", "COM1", "..", ".", "", "a__b", "v1.r0.x", "\u00e9", "e\u0301"]
    ),
)
values = st.one_of(texts, st.integers(), st.integers(10**60, 10**300), st.integers(-20, 20))
names = st.one_of(
    st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,63}", fullmatch=True),
    st.sampled_from(["a", "A", "a_", "match_id", "match_id_bucket"]),
)
identities = st.dictionaries(names, values, min_size=1, max_size=4)
transformations = st.dictionaries(
    names,
    st.one_of(
        st.just(IdentityTransformation()),
        st.builds(BucketSizeTransformation, st.integers(1, 5000)),
        st.builds(BucketCountTransformation, st.integers(1, 5000)),
        st.builds(PrefixTransformation, st.integers(1, 200)),
    ),
    max_size=3,
)
whole = st.fixed_dictionaries(
    {
        "identifier": identities,
        "bucket": texts,
        "stage": texts,
        "provider": texts,
        "dataset_type": texts,
        "data_feed_key": texts,
        "data_spec_version": texts,
        "format": texts,
        "codec": st.sampled_from(["", "gzip"]),
        "revision": st.integers(0, 10**9),
    }
)


def test_a_path_shows_everything_that_people_look_for():
    """
    All but the last part of an identity are Hive folders; no folder is for one Dataset alone.
    """
    identifier = {"competition_id": 11, "season_id": 90, "match_id": 3773386}

    assert path_of(identifier) == (
        "main/stage=raw/provider=statsbomb/dataset_type=match/competition_id=11/season_id=90/"
        "match_id=3773386__events__v8.r0.01234567.json.gz"
    )
    assert path_of({"match_id": 1}, codec="", format="mp4", revision=3) == (
        "main/stage=raw/provider=statsbomb/dataset_type=match/match_id=1__events__v8.r3.01234567.mp4"
    )


@pytest.mark.parametrize(
    ("transformation", "value", "folder"),
    [
        (BucketSizeTransformation(1000), 3773386, "match_id_bucket=3773000-3773999"),
        (BucketSizeTransformation(10), -1, "match_id_bucket=-10--1~"),
        (BucketCountTransformation(100), 3773386, "match_id_bucket=86"),
        (BucketCountTransformation(1), "abc", "match_id_bucket=0"),
        (PrefixTransformation(2), "abcdef", "match_id_prefix=ab"),
    ],
)
def test_a_transformation_adds_a_folder_and_nothing_else(transformation, value, folder):
    """
    The folder stands in front of the part it is made of, which keeps its exact value.
    """
    plain = path_of({"match_id": value})
    changed = path_of({"match_id": value}, transformations={"match_id": transformation})
    *folders, name = changed.split("/")

    assert folders.pop().startswith(folder)
    assert "/".join([*folders, name]) == plain


def test_a_transformation_that_does_not_fit_changes_nothing():
    """
    Text has no place among buckets of integers, and identity asks for no folder.
    """
    for each in (BucketSizeTransformation(10), IdentityTransformation()):
        assert path_of({"id": "x"}, transformations={"id": each}) == path_of({"id": "x"})


@pytest.mark.parametrize(
    "kind", [BucketSizeTransformation, BucketCountTransformation, PrefixTransformation]
)
def test_a_transformation_without_room_is_refused(kind):
    """
    Zero values to a folder, or zero folders, is a mistake in the configuration.
    """
    with pytest.raises(ConfigError, match="at least 1, not 0"):
        kind(0)


@given(values, values)
@example("A", "a")
@example(1, "1")
@example("\u00e9", "e\u0301")
@example("a" * 61, "a" * 62)
def test_different_values_never_look_the_same(one, other):
    """
    Also not where case is folded; and a value never looks like a device of Windows.
    """
    if type(one) is not type(other) or one != other:
        assert part(one).casefold() != part(other).casefold()
    assert part(one).split(".")[0].lower() not in {"con", "nul", "com1", "..", ""}


@given(whole, whole, transformations)
def test_different_files_never_share_a_path(one, other, extra):
    """
    Whatever differs in identity, feed, version or place makes another path.
    """
    first, second = (path_of(**each, transformations=extra).casefold() for each in (one, other))
    same = all(one[name] == other[name] for name in one if name not in ("identifier", "format"))
    same = same and Identifier(one["identifier"]) == Identifier(other["identifier"])

    assert (first != second) or same


@given(identities, texts, texts, texts, texts)
def test_the_borders_between_value_feed_and_version_cannot_be_moved(
    identifier, feed, version, other_feed, other_version
):
    """
    Underscores and dots inside a feed or version are not taken for the ones between them.
    """
    one = path_of(identifier, data_feed_key=feed, data_spec_version=version)
    other = path_of(identifier, data_feed_key=other_feed, data_spec_version=other_version)

    assert (one == other) == ((feed, version) == (other_feed, other_version))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (({"id": "a_"}, {}), ({"id": "a"}, {"data_feed_key": "_events"})),
        (
            ({"id": 1}, {"data_feed_key": "a__b", "data_spec_version": "c"}),
            ({"id": 1}, {"data_feed_key": "a", "data_spec_version": "b__c"}),
        ),
        (
            ({"id": 1}, {"data_spec_version": "v.r0.01234567.json", "format": "x"}),
            ({"id": 1}, {"data_spec_version": "v", "format": "json.r0.01234567.x"}),
        ),
        (({"id": 1, "a": 2}, {}), ({"id": "1/a=2"}, {})),
        (({"id": 1}, {}), ({"ID": 1}, {})),
    ],
)
def test_names_made_to_collide_do_not(one, other):
    """
    What stands between the parts of a name cannot be brought in with a part.
    """
    first, second = (path_of(identifier, **changes) for identifier, changes in (one, other))

    assert first.casefold() != second.casefold()


@given(whole, transformations)
@example(
    {
        "identifier": {"a" * 64: "b" * 300},
        "bucket": "ö" * 100,
        "data_feed_key": "c" * 60,
        "data_spec_version": "é" * 60,
        "format": "x" * 80,
        "codec": "gzip",
        "revision": 10**9,
    },
    {"a" * 64: PrefixTransformation(60)},
)
def test_a_path_stays_inside_the_lake_and_fits(parts, extra):
    """
    ASCII without controls, no part that is empty or climbs, none longer than file systems allow.
    """
    path = path_of(**parts, transformations=extra)
    *folders, name = path.split("/")

    assert path_parts(path) == [*folders, name]
    assert re.fullmatch(r"[A-Za-z0-9_.~%=/-]+", path)
    assert not any(each.startswith(".") or each.endswith(".") for each in folders)
    assert all(len(each) <= 200 for each in folders)
    assert len(name) <= 240
    assert not re.search("%(?![0-9A-F]{2})", path)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd",
        "a//b",
        "a/",
        "../a",
        "a/../b",
        "a/./b",
        "a\\b",
        "a\0b",
        "a\nb",
        ".ingestify/x",
    ],
)
def test_a_path_that_is_not_for_files_is_refused(path):
    """
    Nothing leads out of the lake, or to where it keeps what is its own.
    """
    with pytest.raises(StoreError):
        path_parts(path)


@pytest.mark.parametrize("version", ["v8", "1.1", "2024.1.7"])
@pytest.mark.parametrize("numbers", [(), (1,), (12,), (1, 1, 1)])
def test_a_suffix_can_be_taken_away_again(version, numbers):
    """
    Whatever looks like one in the name itself stays.
    """
    bare = path_of({"match_id": 7}, data_spec_version=version)
    path = bare
    for number in numbers:
        path = with_suffix(path, number)

    assert without_suffix(path, bare) == bare
    assert without_suffix("other/x.1.r0.json", bare) == "other/x.1.r0.json"


def test_a_suffix_stands_before_the_first_dot_of_the_file_name():
    """
    Endings still say what is inside, and dots of folders do not count.
    """
    assert with_suffix("a.b/c.r0.json.gz", 2) == "a.b/c.2.r0.json.gz"
    assert with_suffix("a/c", 1) == "a/c.1"
    assert with_suffix("a/c.json", 0) == "a/c.json"
