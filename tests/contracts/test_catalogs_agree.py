"""Whatever is done to a Catalog, both adapters give the same answers."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestify.adapters.catalog.memory import MemoryCatalog
from ingestify.adapters.catalog.sqlite import SqliteCatalog
from ingestify.model.catalog import (
    Commit,
    DatasetCommit,
    DatasetQuery,
    KeptFile,
    Rejected,
    SelectorState,
)
from ingestify.model.dataset import CheckOutcome
from ingestify.ports import Catalog
from ingestify.testing.contracts.catalog_upkeep import restored_file
from ingestify.testing.contracts.catalog_values import (
    NOON,
    PLACE,
    SCOPE,
    begin_run,
    checked_file,
    closing,
    completion,
    dataset_commit,
    failure,
    failure_commit,
    key_of,
    look_up,
    minutes,
    stored_file,
)

ids = st.sampled_from([1, "1", 2])
feeds = st.sampled_from(["events", "lineups"])
files = st.one_of(
    st.builds(stored_file, feeds, st.sampled_from("ab")),
    st.builds(checked_file, feeds, st.sampled_from([CheckOutcome.UNCHANGED, CheckOutcome.ABSENT])),
    st.builds(checked_file, feeds, st.just(CheckOutcome.STORED)),  # which cannot be
    st.builds(restored_file, feeds, st.sampled_from("ab")),
)
commits: st.SearchStrategy[Commit] = st.one_of(
    st.builds(
        lambda match_id, some, **changes: dataset_commit(match_id, *some, **changes),
        ids,
        st.lists(files, max_size=2),
        base=st.sampled_from([None, None, 0, 1]),
        name=st.sampled_from(["one", "other"]),
        details_hash=st.sampled_from(["x", "y"]),
        at=st.sampled_from([NOON, minutes(1)]),
    ),
    st.builds(lambda match_id, feed: failure_commit(match_id, (feed, "v1")), ids, feeds),
)
steps = st.one_of(
    st.tuples(st.just("commit"), st.lists(commits, max_size=5)),
    st.tuples(st.just("list"), st.sets(st.integers(1, 4))),
    st.tuples(st.just("invalidate"), ids),
    st.tuples(st.just("delete"), ids),
    st.tuples(st.just("damage"), st.integers(0, 5)),
    st.tuples(st.just("mend"), st.integers(0, 5)),
)


async def answers(catalog: Catalog, story: list[tuple[str, Any]]) -> list[Any]:
    """What *catalog* answers while *story* happens."""
    told: list[Any] = []
    for step, what in story:
        match step:
            case "commit":
                told += await catalog.commit(list(map(_agreed, what)), leases=[])
            case "list":
                run_id = await begin_run(catalog)
                state = await catalog.begin_selector(
                    SCOPE, run_id=run_id, name=None, token=str(len(what)), at=NOON
                )
                clean = completion(sorted(what), clean=len(what) != 2)
                failed = [failure(None)] * (len(what) == 2)
                ending = closing(state, clean, run_id=run_id, failures=failed)
                told += [state, await catalog.finish_selector(ending)]
            case "invalidate":
                query = DatasetQuery(identifier={"match_id": what})
                told.append(await catalog.invalidate(query, reason="wrong", at=NOON))
            case "delete":
                query = DatasetQuery(identifier={"match_id": what})
                told.append(await catalog.delete(query, at=NOON))
            case "damage" | "mend":
                chosen = [each.row_id for each in await catalog.kept_files(DatasetQuery())]
                chosen = chosen[what : what + 1]
                damaged, sound = (chosen, []) if step == "damage" else ([], chosen)
                await catalog.mark_files(damaged=damaged, sound=sound)
        told += [await catalog.doomed(), await catalog.selector_state(SCOPE)]
        told += await catalog.kept_files(DatasetQuery())
        told += await look_up(catalog, key_of(1), key_of("1"), key_of(2))
        told += await catalog.agreements(**PLACE, keys=[key_of(1), key_of("1"), key_of(2)])
        state = await catalog.selector_state(SCOPE)
        if state is not None and state.is_settled:
            assert not await catalog.has_unsettled(SCOPE, older_than=None)
        told += await catalog.find(DatasetQuery())
        told += await catalog.failures()
        told.append(await catalog.has_unsettled(SCOPE, older_than=minutes(0.5)))
        for row_id in (1, 2, 3):
            told += await catalog.revisions(row_id)
            told += await catalog.checks(row_id)
    told += await catalog.events()
    return [_without_ids(each) for each in told]


def _agreed(commit: Any) -> Any:
    """*commit* with all that was found, where it brings more than one File or none."""
    if not isinstance(commit, DatasetCommit) or len(commit.files) == 1:
        return commit
    return msgspec.structs.replace(commit, agreement=f"{len(commit.files)}".encode())


def _without_ids(value: Any) -> Any:
    """*value* with what adapters may choose themselves made equal: ids, and words."""
    if isinstance(value, msgspec.Struct):
        fields = {name: _without_ids(each) for name, each in _fields(value).items()}
        return type(value).__name__, fields
    if isinstance(value, tuple | list):
        return [_without_ids(each) for each in value]
    if isinstance(value, dict):
        return {key: _without_ids(each) for key, each in value.items()}
    return value


def _fields(value: msgspec.Struct) -> dict[str, Any]:
    fields = msgspec.structs.asdict(value)
    if isinstance(value, SelectorState):
        del fields["is_settled"]  # may be off although it could be on
    if isinstance(value, KeptFile):
        del fields["row_id"]  # may be used again
    if fields.get("dataset_id"):
        fields["dataset_id"] = "an id"
    if isinstance(value, Rejected):
        fields["message"] = "a reason"
    return fields


@settings(max_examples=60, deadline=None)
@given(st.lists(steps, max_size=6))
def test_catalogs_agree(story: list[tuple[str, Any]]) -> None:
    """
    A story of commits, listings and invalidations leaves the same lake in either Catalog.
    """

    async def compare() -> None:
        with tempfile.TemporaryDirectory() as folder:
            async with (
                MemoryCatalog.open() as memory,
                SqliteCatalog.open(Path(folder) / "catalog.db") as sqlite,
            ):
                assert await answers(memory, story) == await answers(sqlite, story)

    asyncio.run(compare())
