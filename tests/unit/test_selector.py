"""Selectors, and the patterns that choose among them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestify.errors import ConfigError, RecordError
from ingestify.model.selector import Selector, SelectorPattern

parse = SelectorPattern.parse


def admits(written: object, **values: int | str) -> bool:
    return parse(written).admits(Selector(values))


def test_name_and_token_are_no_part_of_a_selectors_identity() -> None:
    """
    Selectors are equal when their values are, in whatever order, name and token aside.
    """
    one = Selector({"a": 1, "b": 2}, name="One", token="x")
    other = Selector({"b": 2, "a": 1}, name="Other", token="y")

    assert one == other
    assert hash(one) == hash(other)
    assert one.key == other.key == '{"a":1,"b":2}'
    assert one != Selector({"a": "1", "b": 2})


def test_the_empty_selector_is_everything() -> None:
    """
    A Selector without values is written as a star, and every pattern admits it.
    """
    assert str(Selector()) == "*"
    assert len(Selector()) == 0
    assert admits({"competition": 11})


def test_an_exact_value_admits_that_value_alone() -> None:
    """
    An exact value admits an equal one of the same type, and nothing else.
    """
    assert admits({"competition": 11}, competition=11)
    assert not admits({"competition": 11}, competition=12)
    assert not admits({"competition": 11}, competition="11")
    assert not admits({"competition": "11"}, competition=11)


def test_a_list_admits_each_of_its_values() -> None:
    """
    A list of exact values admits any of them; several lists admit every combination.
    """
    written = {"competition": [11, 2], "season": [42, 90]}

    for competition in (11, 2):
        for season in (42, 90):
            assert admits(written, competition=competition, season=season)
    assert not admits(written, competition=11, season=44)


def test_lists_expand_to_their_cartesian_product() -> None:
    """
    Names that a Selector lacks are filled with every combination of the pattern's values; those
    that it has stay as they are.
    """
    pattern = parse({"competition": [11, 2], "season": [42, 90], "kind": "x"})

    assert [dict(each) for each in pattern.expand(Selector({"kind": "x"}))] == [
        {"kind": "x", "competition": 11, "season": 42},
        {"kind": "x", "competition": 11, "season": 90},
        {"kind": "x", "competition": 2, "season": 42},
        {"kind": "x", "competition": 2, "season": 90},
    ]


def test_an_expanded_selector_keeps_its_name_and_token() -> None:
    """
    What the provider says about a slice holds for every part of it.
    """
    whole = Selector({"competition": 11}, name="La Liga", token="t")

    (part,) = parse({"season": 42}).expand(whole)

    assert (part.name, part.token) == ("La Liga", "t")


def test_nothing_to_add_leaves_a_selector_as_it_is() -> None:
    """
    A pattern without exact values for missing names expands a Selector to itself.
    """
    selector = Selector({"competition": 11})

    assert list(parse("*").expand(selector)) == [selector]
    assert list(parse({"competition": 11}).expand(selector)) == [selector]
    assert list(parse({"season": ">= 3"}).expand(selector)) == [selector]


@pytest.mark.parametrize("written", [None, "*", {}, {"competition": "*"}])
def test_a_star_admits_everything(written: object) -> None:
    """
    A star, alone or as a value, and a name that is left out, admit all values of any type.
    """
    assert admits(written, competition=11)
    assert admits(written, competition="eleven", season=42)
    assert admits(written)


@pytest.mark.parametrize(
    ("written", "admitted", "excluded"),
    [
        (">= 27", [27, 28], [26]),
        ("> 27", [28], [27]),
        ("<= 27", [27, -1], [28]),
        ("<27", [26], [27]),
        ("== 27", [27], [26]),
        ("!= 27", [26, 28], [27]),
        (">= 27, != 42", [27, 43], [42, 26]),
        (">=27,<30,!=28", [27, 29], [28, 30]),
        (">= -3", [-3], [-4]),
        ("> 2020-01", ["2020-02"], ["2020-01", "2019"]),
        ("== '27'", ["27"], ["28"]),
        ('!= "a", != "b"', ["c"], ["a", "b"]),
    ],
)
def test_comparisons(written: str, admitted: list[int | str], excluded: list[int | str]) -> None:
    """
    A comparison admits what fulfils it; of several joined by commas, all must hold.
    """
    for value in admitted:
        assert admits({"season": written}, season=value)
    for value in excluded:
        assert not admits({"season": written}, season=value)


@pytest.mark.parametrize("written", [">= 27", "== 27", "< 27"])
def test_a_comparison_never_holds_between_types(written: str) -> None:
    """
    Text never fulfils a claim about a number, nor a number one about text, but for "differs".
    """
    assert not admits({"season": written}, season="27")
    assert not admits({"season": written.replace("27", "'27'")}, season=27)
    assert admits({"season": "!= 27"}, season="27")


def test_a_quoted_number_is_text() -> None:
    """
    Quotes make text of what would be a number.
    """
    assert admits({"season": "== '27'"}, season="27")
    assert not admits({"season": "== '27'"}, season=27)


def test_what_would_match_as_text_can_be_told() -> None:
    """
    A pattern knows whether it would admit a Selector if 11 and "11" were the same.
    """
    pattern = parse({"competition": "11", "season": [42, 90]})

    assert not pattern.admits(Selector({"competition": 11, "season": 42}))
    assert pattern.admits_as_text(Selector({"competition": 11, "season": "42"}))
    assert not pattern.admits_as_text(Selector({"competition": 11, "season": 1}))


@pytest.mark.parametrize(
    "written",
    [
        11,
        "competition",
        [{"competition": 11}],
        {"competition": []},
        {"competition": None},
        {"competition": 1.5},
        {"competition": True},
        {"competition": [11, None]},
        {"competition": {"a": 1}},
        {"": 11},
        {"no name": 11},
        {11: 11},
        {"season": ">= 27, 30"},
        {"season": "\ud800"},
    ],
)
def test_what_selects_nothing_is_an_error(written: object) -> None:
    """
    A pattern that could never select anything is refused where it is written.
    """
    with pytest.raises(ConfigError):
        parse(written)


def test_an_impossible_value_is_an_error() -> None:
    """
    A Selector's values are int or str, like those of an identity.
    """
    with pytest.raises(RecordError):
        Selector({"season": 1.0})  # type: ignore[dict-item]


def test_patterns_are_told_apart_by_their_text() -> None:
    """
    A pattern's text says what it admits, for locks and messages.
    """
    assert str(parse("*")) == "*"
    assert str(parse({"competition": [11, 2]})) == "competition=11|2"
    assert str(parse({"season": ">= 27, != 42"})) == "season>=27,!=42"


@given(
    st.dictionaries(
        st.sampled_from(["a", "b", "c"]),
        st.lists(st.integers(0, 3) | st.sampled_from(["0", "1", "x"]), min_size=1, unique_by=repr),
    ),
    st.dictionaries(st.sampled_from(["a", "b", "c"]), st.integers(0, 3)),
)
def test_an_expanded_selector_is_admitted(
    written: dict[str, list[int | str]], values: dict[str, int]
) -> None:
    """
    Whatever a pattern admits, it also admits once expanded, and as text.
    """
    pattern, selector = parse(written), Selector(values)

    if pattern.admits(selector):
        expanded = list(pattern.expand(selector))
        assert len(set(expanded)) == len(expanded) >= 1
        for each in expanded:
            assert pattern.admits(each)
            assert pattern.admits_as_text(each)
            assert set(each) == set(selector) | set(written)
