"""The Catalog's contract, kept by every adapter."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingestify.adapters.catalog.memory import MemoryCatalog
from ingestify.adapters.catalog.sqlite import SqliteCatalog
from ingestify.testing.contracts.catalog import CatalogContract
from ingestify.testing.contracts.catalog_values import Opener


class TestMemoryCatalog(CatalogContract):
    @pytest.fixture
    def open_catalog(self) -> Opener:
        return MemoryCatalog().share


class TestSqliteCatalog(CatalogContract):
    @pytest.fixture
    def open_catalog(self, tmp_path: Path) -> Opener:
        return lambda: SqliteCatalog.open(tmp_path / "lake" / "catalog.db")


class TestSqliteCatalogWithPrefix(CatalogContract):
    """Two catalogs in one file do not see each other."""

    @pytest.fixture
    def open_catalog(self, tmp_path: Path) -> Opener:
        return lambda: SqliteCatalog.open(tmp_path / "catalog.db", table_prefix="lake_2_")
