"""What the tests of lies share: a provider with two lists of things, and a lake for them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from lists import ListWorld
from lying import ELSEWHERE, GOOD, LIED, Job, body_of

from ingestify.config import Config
from ingestify.testing import ProviderSimulator


@pytest.fixture
def job(
    world: ListWorld,
    provider: ProviderSimulator,
    make_config: Callable[..., Config],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> Job:
    """Things in list a, one of which will be lied about, and others in list b."""
    caplog.set_level(logging.DEBUG, logger="ingestify")
    for name, keys in (("a", sorted([*GOOD, LIED])), ("b", ELSEWHERE)):
        world.set_list(name, *[{"id": key} for key in keys], token="t")
        for key in keys:
            world.set_data(key, body_of(key))
    return Job(
        world=world,
        provider=provider,
        make_config=make_config,
        folder=tmp_path / "lake",
        log=lambda: caplog.text,
    )
