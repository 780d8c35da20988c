"""What the tables of the Catalog refuse by themselves, whoever writes."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from ingestify.adapters.catalog.sqlite import SqliteCatalog
from ingestify.testing.contracts.catalog_values import commit_all, dataset_commit, stored_file

AGAIN = {
    "dataset": """
        CREATE TEMP TABLE again AS SELECT * FROM dataset;
        UPDATE again SET row_id = NULL, dataset_id = 'another';
        INSERT INTO dataset SELECT * FROM again;
    """,
    "revision": """
        CREATE TEMP TABLE again AS SELECT * FROM revision;
        UPDATE again SET row_id = NULL;
        INSERT INTO revision SELECT * FROM again;
    """,
    "file": """
        CREATE TEMP TABLE again AS SELECT * FROM file;
        UPDATE again SET row_id = NULL;
        INSERT INTO file SELECT * FROM again;
    """,
}


@pytest.mark.parametrize("table", AGAIN)
async def test_a_second_row_for_the_same_thing_is_refused(tmp_path: Path, table: str) -> None:
    """
    One identity is one Dataset, one number one Revision of it, one feed one File of that: also
    where a program that knows nothing of all this writes to the database.
    """
    path = tmp_path / "catalog.db"
    async with SqliteCatalog.open(path) as catalog:
        await commit_all(catalog, dataset_commit(1, stored_file()))
    refused = pytest.raises(sqlite3.IntegrityError, match=f"UNIQUE constraint failed: {table}")
    with closing(sqlite3.connect(path)) as connection, refused:
        connection.executescript(AGAIN[table])
