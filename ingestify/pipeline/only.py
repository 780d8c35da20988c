"""Only: a Run that is about some Datasets, and leaves all others alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ingestify.model.identity import Identifier
from ingestify.model.selector import Selector

Place: TypeAlias = tuple[str, str, str]  # bucket, provider, dataset type
DatasetKey: TypeAlias = tuple[str, str, str, str]  # a place, and the identifier key
SelectorName: TypeAlias = tuple[str, str, str, str]  # a place, and the Selector as text

EVERYTHING = str(Selector())
MOST_NAMED = 20  # Datasets that a message spells out


@dataclass(frozen=True, slots=True, kw_only=True)
class Only:
    """What such a Run asks for. It says nothing about lists: nothing is gone because of it, and
    no list is known better afterwards, but for those of the Selectors in *whole*.

    Args:
        datasets: are asked for, even where the FetchPolicy would skip them.
        damaged: of these, only Files that are marked as damaged.
        selectors: keys or texts of the Selectors to look at; None looks at all of them.
        whole: Selectors that are looked after as in any other Run.
    """

    datasets: frozenset[DatasetKey] = frozenset()
    damaged: bool = False
    selectors: frozenset[str] | None = None
    whole: frozenset[SelectorName] = frozenset()

    def __bool__(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.datasets or self.whole)

    def unmet(self, keys: Sequence[DatasetKey]) -> str:
        """What to say of Datasets that nothing lists, by their *keys*."""
        names = [_name_of(key) for key in keys[:MOST_NAMED]]
        if len(keys) > MOST_NAMED:
            names.append(f"and {len(keys) - MOST_NAMED} more")
        way_out = "" if self.damaged else "; a run of the whole plan settles what had failed"
        return (
            f"{len(keys)} of {len(self.datasets)} datasets were not asked for, since nothing lists"
            f" them any more: {', '.join(names)}{way_out}"
        )

    def concerns(self, place: Place) -> bool:
        """Whether a plan for that place has anything to do."""
        wanted = self.datasets | self.whole
        return any(each[:3] == place for each in wanted)

    def is_whole(self, place: Place, selector: Selector) -> bool:
        """Whether *selector* is looked after as a whole."""
        return any((*place, text) in self.whole for text in (str(selector), EVERYTHING))

    def looks_at(self, place: Place, selector: Selector) -> bool:
        """Whether *selector* is looked at at all."""
        if self.selectors is None or self.is_whole(place, selector):
            return True
        return selector.key in self.selectors or str(selector) in self.selectors


def _name_of(key: DatasetKey) -> str:
    bucket, provider, dataset_type, identifier_key = key
    values = Identifier.from_key(identifier_key)
    identity = "/".join(f"{name}={values[name]}" for name in values)
    return f"{provider} {dataset_type} {identity} in {bucket}"
