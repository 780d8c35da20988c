"""What questions and Runs cost the Catalog: counted in statements, whatever the lake holds."""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from lists import ListWorld

from ingestify.adapters.catalog.connection import Session
from ingestify.adapters.catalog.jobs import Direct, Job, do_together
from ingestify.adapters.catalog.sqlite import SqliteCatalog
from ingestify.adapters.catalog.statements import load_statements
from ingestify.engine import Engine
from ingestify.errors import CatalogError
from ingestify.model.catalog import DatasetQuery
from ingestify.policy import FetchPolicy
from ingestify.testing.contracts.catalog_values import (
    NOON,
    SCOPE,
    commit_all,
    dataset_commit,
    key_of,
    look_up,
    stored_file,
)

Open = Callable[..., Engine]

ABOUT_FAILURES = {"resolve_failures_of_selector", "resolve_failures_of_other_selectors"}
LARGE = r"\b(dataset|revision|file|file_check|listing|agreement|identity_part|failure)\b"


class Counting:
    """How often each statement was run, on any connection."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.counts: Counter[str] = Counter()
        for kind in (Session, Direct):
            for method in ("rows", "run", "run_many"):
                monkeypatch.setattr(kind, method, self._counting(getattr(kind, method)))

    def _counting(self, written: Any) -> Any:
        def counting(speaker: Any, name: str, *params: Any) -> Any:
            if written.__name__ != "run_many" or params[0]:
                self.counts[name] += 1
            return written(speaker, name, *params)

        return counting

    def touching_datasets(self) -> set[str]:
        """Those of the statements that are about a table which grows with the lake."""
        statements = load_statements("")
        return {name for name in self.counts if re.search(LARGE, statements[name])}


@pytest.fixture
async def catalog(tmp_path: Path) -> AsyncIterator[SqliteCatalog]:
    async with SqliteCatalog.open(tmp_path / "catalog.db") as opened:
        yield opened


def fill(world: ListWorld, *, token: str, things: int = 3) -> None:
    numbers = range(things)
    world.set_list("a", *[{"id": n, "token": "1"} for n in numbers], token=token)
    for n in numbers:
        world.set_data(n, {"x": n})


async def test_a_list_that_has_not_changed_costs_no_look_at_any_dataset(
    world: ListWorld, open_lake: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A 304 ends a Selector without a statement about Datasets, Files or what is listed.
    """
    fill(world, token="t")
    async with open_lake() as engine:
        await engine.run()
        counting = Counting(monkeypatch)
        summary = await engine.run()

    assert [each.status for each in summary.selectors] == ["unchanged"]
    assert counting.touching_datasets() == ABOUT_FAILURES


async def test_what_the_provider_says_again_costs_a_look_in_short_and_no_other(
    world: ListWorld, open_lake: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    One statement looks up a page, none looks at Files, and equal lists are not written down.
    """
    fill(world, token="t", things=50)
    async with open_lake() as engine:
        await engine.run()
        world.set_list("a", *reversed(world.lists["a"]), token="t")
        counting = Counting(monkeypatch)
        summary = await engine.run()

    assert (summary.counters.listed, summary.counters.skipped) == (50, 50)
    assert counting.touching_datasets() == {"agreements", *ABOUT_FAILURES}


async def test_what_is_agreed_is_looked_at_again_under_a_new_token(
    world: ListWorld, open_lake: Open
) -> None:
    """
    The entries say what they said before, and yet the Selector's token asks for all Files.
    """
    fill(world, token="t")
    async with open_lake() as engine:
        await engine.run()
        fill(world, token="u")
        assert (await engine.run()).counters.unchanged == 3
        fill(world, token="u")
        assert (await engine.run()).counters.unchanged == 0


@pytest.mark.parametrize("policy", [{"refetch_after": timedelta(0)}, {"recheck": 1.0}])
def test_policies_that_look_at_the_clock_trust_no_agreement(policy: dict[str, Any]) -> None:
    """
    What is agreed says nothing about how long ago that was.
    """
    assert FetchPolicy().trusts_agreements
    assert not FetchPolicy(**policy).trusts_agreements


def test_a_policy_that_decides_for_itself_is_asked() -> None:
    """
    Nobody else knows what it waits for.
    """

    class Own(FetchPolicy):
        def decide(self, *given: Any, **named: Any) -> Any:
            raise NotImplementedError

    assert not Own().trusts_agreements


async def test_who_waits_for_the_writer_shares_its_transaction(
    catalog: SqliteCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Ten commits at the same time take two transactions: one, and one for all that waited for it.
    """
    counting = Counting(monkeypatch)
    async with anyio.create_task_group() as tg:
        for n in range(10):
            tg.start_soon(commit_all, catalog, dataset_commit(n, stored_file()))

    assert counting.counts["begin_writing"] <= 2
    assert await catalog.count(DatasetQuery()) == 10


async def test_one_of_those_who_share_a_transaction_fails_alone(catalog: SqliteCatalog) -> None:
    """
    What the others have written stays, and who failed is told why.
    """
    told: list[str] = []

    async def begin_without_run() -> None:
        with pytest.raises(CatalogError) as failed:
            await catalog.begin_selector(SCOPE, run_id=7, name=None, token=None, at=NOON)
        told.append(str(failed.value))

    async with anyio.create_task_group() as tg:
        for n in range(5):
            tg.start_soon(commit_all, catalog, dataset_commit(n, stored_file()))
            tg.start_soon(begin_without_run)

    assert len(told) == 5
    assert await catalog.count(DatasetQuery()) == 5


def test_where_the_transaction_is_lost_all_that_share_it_are_told(tmp_path: Path) -> None:
    """
    Some errors of SQLite undo the whole transaction: nobody may believe to have written.
    """
    with closing(sqlite3.connect(tmp_path / "db", isolation_level=None)) as connection:
        direct = Direct(connection, load_statements(""))
        connection.execute("CREATE TABLE kept (n INTEGER)")
        jobs = [
            Job(lambda _: connection.execute("INSERT INTO kept VALUES (1)")),
            Job(lambda _: connection.execute("ROLLBACK")),
            Job(lambda _: connection.execute("INSERT INTO kept VALUES (2)")),
        ]
        direct.run("begin_writing")
        do_together(jobs, direct)

        for job in jobs:
            with pytest.raises(sqlite3.OperationalError):
                job.outcome()
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)
        assert not connection.in_transaction


async def test_a_caller_that_is_cancelled_while_it_waits_has_written_nothing(
    catalog: SqliteCatalog,
) -> None:
    """
    Its work is taken out of what waits; the others go on.
    """
    scope = anyio.CancelScope()

    async def give_up() -> None:
        with scope:
            await commit_all(catalog, dataset_commit(2))

    async with anyio.create_task_group() as tg, catalog._database.writing():
        tg.start_soon(give_up)
        tg.start_soon(commit_all, catalog, dataset_commit(1))
        await anyio.wait_all_tasks_blocked()
        scope.cancel()
        await anyio.wait_all_tasks_blocked()

    assert scope.cancelled_caught
    found = await look_up(catalog, key_of(1), key_of(2))
    assert [each is not None for each in found] == [True, False]


@pytest.mark.parametrize(
    "query",
    [
        DatasetQuery(identifier={"match_id": 7}),
        DatasetQuery(identifier={"match_id": [7, 8, 9]}, provider="acme"),
        DatasetQuery(identifier={"match_id": "7"}, text_values=True),
    ],
)
async def test_few_are_found_without_a_look_at_all(
    catalog: SqliteCatalog, monkeypatch: pytest.MonkeyPatch, query: DatasetQuery
) -> None:
    """
    Whoever names a part of an identity gets what has it, and no statement goes through the lake.
    """
    await commit_all(catalog, *[dataset_commit(n, stored_file()) for n in range(100)])
    counting = Counting(monkeypatch)

    found = await catalog.find(query)
    assert len(found) == await catalog.count(query) == len(await catalog.kept_files(query))
    assert 7 in {each.identifier["match_id"] for each in found}
    assert not {"find", "count", "kept_files"} & counting.counts.keys()


async def test_a_thousand_values_are_found_among_many(catalog: SqliteCatalog) -> None:
    """
    In pages that follow on each other, as any others.
    """
    await commit_all(catalog, *[dataset_commit(n, stored_file()) for n in range(300)])
    wanted = list(range(100, 1100))
    query = DatasetQuery(identifier={"match_id": wanted})

    first = await catalog.find(query, limit=150)
    rest = await catalog.find(query, after=first[-1].row_id, limit=150)
    assert [each.identifier["match_id"] for each in (*first, *rest)] == list(range(100, 300))


def plan_of_query(connection: sqlite3.Connection, sql: str) -> Sequence[str]:
    names = dict.fromkeys(re.findall(r"(?<![\w:]):(\w+)", sql))
    values: Any = {name: "[]" if name.endswith(("s", "ies")) else 0 for name in names}
    if "?" in sql:
        values = [0] * sql.count("?")
    return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", values)]


@pytest.mark.parametrize(
    "name",
    [
        *("agreements", "look_up", "look_up_identities", "find_among", "count_among", "find_parts"),
        *("kept_files_among", "count_files_among", "current_files", "revisions", "checks", "get"),
        *("selector_state", "what_was_listed", "settle_selector", "list_met", "has_unsettled"),
        *(
            "dataset_failures",
            "dataset_failures_of_run",
            "delete_datasets",
            "next_row_ids",
            "listed_in",
            "agree",
        ),
    ],
)
async def test_no_statement_of_a_run_or_a_look_goes_through_a_large_table(
    catalog: SqliteCatalog, tmp_path: Path, name: str
) -> None:
    """
    SQLite finds what it is asked for by an index, however large the lake is.
    """
    with closing(sqlite3.connect(tmp_path / "catalog.db")) as connection:
        steps = plan_of_query(connection, load_statements("")[name])
    assert steps or name == "agree"
    assert [step for step in steps if re.match(rf"SCAN {LARGE}", step)] == []


async def test_what_is_deleted_leaves_no_parts_of_its_identity(
    catalog: SqliteCatalog, tmp_path: Path
) -> None:
    """
    Row ids are never used again, so nothing would ever remove them.
    """
    await commit_all(catalog, *[dataset_commit(n) for n in (1, 2)])
    await catalog.delete(DatasetQuery(identifier={"match_id": 1}), at=NOON)

    with closing(sqlite3.connect(tmp_path / "catalog.db")) as connection:
        parts = connection.execute("SELECT name, value FROM identity_part").fetchall()
    assert parts == [("match_id", "2")]
