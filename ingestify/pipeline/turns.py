"""Whose turn it is: the order of Selectors for a Run that may not come to the end of them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter

from ingestify.pipeline.selector_run import SelectorRun
from ingestify.ports import Catalog


async def in_turn(catalog: Catalog, selector_runs: Sequence[SelectorRun]) -> list[SelectorRun]:
    """Those first that were not brought to their end, and beginning with another in each Run.

    A budget may be too little to look at all of them: else some would never have their turn.
    """
    unfinished: list[tuple[int, int, SelectorRun]] = []
    finished: list[tuple[int, int, SelectorRun]] = []
    for each in selector_runs:
        state = await catalog.selector_state(each.scope)
        is_finished = (
            state is not None
            and state.fingerprint is not None
            and each.selector.token in (None, state.complete_token)
        )
        last = (state.run_id, state.selector_run_id) if state is not None else (0, 0)
        (finished if is_finished else unfinished).append((*last, each))
    return [*_next(unfinished), *_next(finished)]


def _next(some: list[tuple[int, int, SelectorRun]]) -> list[SelectorRun]:
    """Those first that were in no Run for longest. Of one Run, the first gives way to the others:
    it alone has surely been looked at."""
    order: list[SelectorRun] = []
    some.sort(key=itemgetter(0, 1))
    for run_id, group in groupby(some, key=itemgetter(0)):
        together = [each for _, _, each in group]
        order += [*together[1:], together[0]] if run_id else together
    return order
