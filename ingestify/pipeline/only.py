"""Only: a Run that is about some Datasets, and leaves all others alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from ingestify.model.selector import Selector

DatasetKey: TypeAlias = tuple[str, str, str]  # provider, dataset type, identifier key
SelectorName: TypeAlias = tuple[str, str, str]  # provider, dataset type, Selector as text

EVERYTHING = str(Selector())


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

    def concerns(self, provider: str, dataset_type: str) -> bool:
        """Whether a plan for them has anything to do."""
        wanted = self.datasets | self.whole
        return any(each[:2] == (provider, dataset_type) for each in wanted)

    def is_whole(self, provider: str, dataset_type: str, selector: Selector) -> bool:
        """Whether *selector* is looked after as a whole."""
        names = ((provider, dataset_type, text) for text in (str(selector), EVERYTHING))
        return any(name in self.whole for name in names)

    def looks_at(self, provider: str, dataset_type: str, selector: Selector) -> bool:
        """Whether *selector* is looked at at all."""
        if self.selectors is None or self.is_whole(provider, dataset_type, selector):
            return True
        return selector.key in self.selectors or str(selector) in self.selectors
