"""Identities: what is the same Dataset, and what is another one."""

from __future__ import annotations

import copy
import enum
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestify.errors import RecordError
from ingestify.model.identity import Identifier, canonical_key, ordered_key

NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.integers() | st.integers(-5, 5) | TEXT | st.sampled_from(["1", "-1", "é", "e\u0301"])
IDENTITIES = st.dictionaries(NAMES, VALUES, min_size=1, max_size=4)


class Colour(enum.StrEnum):
    RED = "red"


class Number(enum.IntEnum):
    ONE = 1


def typed(values: dict[str, Any]) -> set[tuple[str, str, Any]]:
    return {(name, type(value).__name__, value) for name, value in values.items()}


@given(IDENTITIES, IDENTITIES)
def test_keys_are_equal_for_equal_identities_alone(one: Any, other: Any) -> None:
    """
    Two identities have the same key exactly when they have the same names, types and values.
    """
    assert (canonical_key(one) == canonical_key(other)) == (typed(one) == typed(other))


@given(IDENTITIES, st.randoms())
def test_the_order_of_names_does_not_matter(values: Any, random: Any) -> None:
    """
    The key does not depend on the order of names, but their order is kept for people.
    """
    names = list(values)
    random.shuffle(names)
    shuffled = {name: values[name] for name in names}

    assert canonical_key(shuffled) == canonical_key(values)
    assert Identifier(shuffled) == Identifier(values)
    assert hash(Identifier(shuffled)) == hash(Identifier(values))
    assert list(Identifier(shuffled)) == names
    assert list(Identifier.from_key(ordered_key(shuffled))) == names


@given(IDENTITIES)
def test_a_key_leads_back_to_its_identity(values: Any) -> None:
    """
    Nothing is lost in a key: the identity read from it is equal, value by value and type by type.
    """
    identifier = Identifier.from_key(canonical_key(values))

    assert typed(dict(identifier)) == typed(values)
    assert identifier == Identifier(values)
    assert identifier.key == canonical_key(values)


@pytest.mark.parametrize("number", [2**53 + 1, 2**63, 2**64 + 1, -(2**64) - 1, 10**100])
def test_integers_are_exact_at_any_size(number: int) -> None:
    """
    Large integers lose no digit, and neighbours stay apart.
    """
    assert canonical_key({"id": number}) == f'{{"id":{number}}}'
    assert canonical_key({"id": number}) != canonical_key({"id": number + 1})
    assert Identifier.from_key(canonical_key({"id": number})).id == number


def test_look_alikes_stay_apart() -> None:
    """
    Types are kept, case matters, and text that only looks equal differs.
    """
    alike = [1, "1", "01", " 1", "é", "e\u0301", "A", "a", "ß", "ss", ""]

    assert len({canonical_key({"id": each}) for each in alike}) == len(alike)


@pytest.mark.parametrize(
    "value",
    [
        *(True, False, None, 1.0, float("nan"), b"1", (1,), [1], {"a": 1}, Colour.RED, Number.ONE),
        *("\ud800", "a\udfffb", 10**5000),
    ],
    ids=lambda value: type(value).__name__,
)
def test_other_values_are_refused(value: Any) -> None:
    """
    Only int and str identify something, and only text that is Unicode; anything else is refused.
    """
    with pytest.raises(RecordError):
        canonical_key({"id": value})


@pytest.mark.parametrize("name", ["", "1a", "a-b", "a b", "é", "a.b", "a" * 65, 1, None])
def test_names_that_could_be_mistaken_are_refused(name: Any) -> None:
    """
    The names in an identity are plain identifiers, since paths and queries are made of them.
    """
    with pytest.raises(RecordError):
        canonical_key({name: 1})


def test_an_empty_identity_is_refused() -> None:
    """
    A Dataset is identified by at least one value.
    """
    with pytest.raises(RecordError):
        Identifier({})


def test_values_are_read_by_name() -> None:
    """
    ``identifier.match_id`` and ``identifier["match_id"]`` are the same; other names are errors.
    """
    identifier = Identifier({"match_id": 7, "kind": "cup"})

    assert identifier.match_id == identifier["match_id"] == 7
    assert str(identifier) == "match_id=7/kind=cup"
    with pytest.raises(AttributeError, match="match_id, kind"):
        _ = identifier.season_id
    with pytest.raises(KeyError):
        identifier["season_id"]


@given(IDENTITIES)
def test_identifiers_can_be_copied_and_sent(values: Any) -> None:
    """
    A copy of an Identifier, also one made in another process, is equal to it.
    """
    identifier = Identifier(values)

    assert pickle.loads(pickle.dumps(identifier)) == identifier  # noqa: S301  # our own
    assert copy.deepcopy(identifier) == identifier
