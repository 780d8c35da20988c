"""Whose turn it is: the order of Selectors for a Run that may not come to the end of them."""

from __future__ import annotations

from collections.abc import Sequence

from ingestify.pipeline.selector_run import SelectorRun
from ingestify.ports import Catalog


async def in_turn(
    catalog: Catalog, selector_runs: Sequence[SelectorRun], *, run_id: int
) -> list[SelectorRun]:
    """Those first that were not brought to their end, and beginning with another in each Run.

    A budget may be too little to look at all of them: else some would never have their turn.
    """
    unfinished: list[SelectorRun] = []
    finished: list[SelectorRun] = []
    for each in selector_runs:
        state = await catalog.selector_state(each.scope)
        is_finished = (
            state is not None
            and state.fingerprint is not None
            and each.selector.token in (None, state.complete_token)
        )
        (finished if is_finished else unfinished).append(each)
    return [*_from(unfinished, run_id), *_from(finished, run_id)]


def _from(some: list[SelectorRun], turn: int) -> list[SelectorRun]:
    first = turn % len(some) if some else 0
    return [*some[first:], *some[:first]]
