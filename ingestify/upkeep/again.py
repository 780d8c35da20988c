"""Again: what a Run should look after, since it failed or was found damaged."""

from __future__ import annotations

from collections.abc import Sequence

from ingestify.model.catalog import DatasetQuery, KeptFile
from ingestify.model.run import Failure
from ingestify.pipeline.only import EVERYTHING, DatasetKey, Only, SelectorName
from ingestify.ports import Catalog
from ingestify.upkeep.verifying import DamagedFile, Verification

PAGE = 1000
MOST_FAILURES = 1_000_000


async def what_is_damaged(catalog: Catalog, found: Verification) -> Only:
    """The Datasets that have damaged Files among *found* which a provider can be asked for.

    Files of older Revisions are not among them: providers have none but the newest.
    """
    row_ids: dict[DatasetKey, int] = {}
    for each in found.damaged:
        if each.is_current:
            row_ids[_key_of(each)] = each.dataset_row_id
    named = sum(each.is_current for each in found.damaged)
    if found.damaged_current > named:  # they are not all named: look who is marked
        after = 0
        while page := await catalog.kept_files(DatasetQuery(stage=None), after=after, limit=PAGE):
            for file in page:
                if file.is_damaged:
                    row_ids[_key_of(file)] = file.dataset_row_id
            after = page[-1].row_id
    selectors = await _selectors_of(catalog, list(row_ids.values()))
    return Only(datasets=frozenset(row_ids), damaged=True, selectors=selectors)


async def what_failed(
    catalog: Catalog,
    *,
    run_id: int | None = None,
    provider: str | None = None,
    dataset_type: str | None = None,
) -> Only | None:
    """The Datasets and Selectors that have failed and not succeeded since; None: there are none.

    Args:
        run_id: only those that failed in that Run, be it again since then or not.
    """
    failures = await catalog.failures(limit=MOST_FAILURES)
    if run_id is not None:
        in_run = await catalog.failures(run_id=run_id, limit=MOST_FAILURES)
        about = {_about(failure) for failure in in_run}
        failures = [failure for failure in failures if _about(failure) in about]
    datasets: set[DatasetKey] = set()
    selectors: set[str] | None = set()
    whole: set[SelectorName] = set()
    for failure in failures:
        if provider not in (None, failure.provider):
            continue
        if dataset_type not in (None, failure.dataset_type):
            continue
        if failure.identifier_key is None:
            name = failure.selector or EVERYTHING
            whole.add((failure.bucket, failure.provider, failure.dataset_type, name))
            continue
        datasets.add(
            (failure.bucket, failure.provider, failure.dataset_type, failure.identifier_key)
        )
        if selectors is not None and failure.selector is not None:
            selectors.add(failure.selector)
        else:
            selectors = None
    if not datasets and not whole:
        return None
    wanted = None if selectors is None else frozenset(selectors)
    return Only(datasets=frozenset(datasets), selectors=wanted, whole=frozenset(whole))


async def _selectors_of(catalog: Catalog, row_ids: Sequence[int]) -> frozenset[str] | None:
    """The Selectors that have listed all of *row_ids*; None where some were never listed."""
    selectors: set[str] = set()
    for start in range(0, len(row_ids), PAGE):
        listed = await catalog.listed_in(row_ids[start : start + PAGE])
        for keys in listed.values():
            if not keys:
                return None
            selectors.update(keys)
    return frozenset(selectors)


def _key_of(file: DamagedFile | KeptFile) -> DatasetKey:
    return (file.bucket, file.provider, file.dataset_type, file.identifier_key)


def _about(failure: Failure) -> tuple[str | None, ...]:
    key = failure.identifier_key
    selector = failure.selector if key is None else None
    return (failure.bucket, failure.provider, failure.dataset_type, key, selector)
