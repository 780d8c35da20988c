"""What tests share: a lake in a folder of its own, and a provider on this machine to fill it."""

from __future__ import annotations

import logging
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ingestify.config import Config
from ingestify.engine import Engine
from ingestify.testing import ProviderSimulator

sys.path.insert(0, str(Path(__file__).parent))

from canary import pytest_configure, pytest_runtest_makereport
from lists import ListSource, ListWorld

__all__ = ["pytest_configure", "pytest_runtest_makereport"]  # pytest calls them

SHARED_DATA = Path(__file__).parents[1].parent / "shared" / "data"


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """A command that a test calls in this process sets up logging, for itself alone."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def shared_data() -> Path:
    """The folder with real provider data, which is not part of this repository."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"there is no real provider data at {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture
def make_config(tmp_path: Path) -> Callable[..., Config]:
    """Configurations of one lake in the test's folder."""

    def make(**sections: Any) -> Config:
        return Config.from_values(
            metadata_url=f"sqlite:///{tmp_path}/lake/catalog.db",
            file_url=str(tmp_path / "lake" / "files"),
            **sections,
        )

    return make


@pytest.fixture
def world(tmp_path: Path) -> ListWorld:
    """What the provider has."""
    folder = tmp_path / "provider"
    folder.mkdir()
    return ListWorld(folder)


@pytest.fixture
async def provider(world: ListWorld) -> AsyncIterator[ProviderSimulator]:
    """A provider with lists."""
    async with ProviderSimulator(world) as simulator:
        yield simulator


@pytest.fixture
def open_lake(
    make_config: Callable[..., Config], provider: ProviderSimulator
) -> Callable[..., Engine]:
    """An Engine with plans for `provider`: one for each keyword dict, or one that wants all."""

    def make(*plans: dict[str, Any], **sections: Any) -> Engine:
        source = ListSource("lists", base_url=provider.base_url)
        written = [
            {"source": "lists", "dataset_type": "thing", **plan} for plan in (plans or ({},))
        ]
        config = make_config(
            sources={"lists": {"type": "lists.ListSource"}}, ingestion_plans=written, **sections
        )
        return Engine(config, sources={"lists": source})

    return make
