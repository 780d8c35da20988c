"""What every Catalog must do.

Inherit from `CatalogContract`, override the fixture `open_catalog`, and run it with pytest and
pytest-asyncio::

    class TestMyCatalog(CatalogContract):
        @pytest.fixture
        def open_catalog(self, tmp_path):
            return lambda: MyCatalog.open(tmp_path / "catalog")
"""

from __future__ import annotations

import pytest

from ingestify.testing.contracts.catalog_agreements import AgreementsContract
from ingestify.testing.contracts.catalog_commits import CommitsContract
from ingestify.testing.contracts.catalog_concurrency import ConcurrencyContract
from ingestify.testing.contracts.catalog_conflicts import ConflictsContract
from ingestify.testing.contracts.catalog_events import EventsContract
from ingestify.testing.contracts.catalog_queries import QueriesContract
from ingestify.testing.contracts.catalog_reading import ReadingContract
from ingestify.testing.contracts.catalog_runs import RunsContract
from ingestify.testing.contracts.catalog_selectors import SelectorsContract
from ingestify.testing.contracts.catalog_upkeep import UpkeepContract


@pytest.mark.asyncio
class CatalogContract(
    RunsContract,
    SelectorsContract,
    CommitsContract,
    ConflictsContract,
    ConcurrencyContract,
    QueriesContract,
    ReadingContract,
    EventsContract,
    UpkeepContract,
    AgreementsContract,
):
    """The whole contract of the port `ingestify.ports.Catalog`."""
