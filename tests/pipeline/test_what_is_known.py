"""What is known of a lake is changed only by what a provider has really said."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import pytest
from lakes import Lake, offer, offering, outcome

from ingestify.errors import AbsentError
from ingestify.model.dataset import StoredFile
from ingestify.model.resource import (
    NOT_MODIFIED,
    DatasetResource,
    FileResource,
    NotModified,
)
from ingestify.model.run import RunStatus
from ingestify.ports import Http


@pytest.fixture
def lake() -> Lake:
    return Lake()


async def test_a_dataset_whose_record_became_illegible_is_not_gone(lake: Lake) -> None:
    """
    A record that cannot be used may be a Dataset that we have: only a list that was understood to
    its end says what is no longer listed.
    """
    await lake.run(offering(offer(1), offer(2)))
    bad = offering(offer(1), lambda: DatasetResource(dataset_resource_id={}, name="?"))
    summary = await lake.run(bad)
    assert outcome(summary) == {"skipped": 1, "refused": 1}
    assert summary.counters.gone == 0
    assert (await lake.run(offering(offer(1)))).counters.gone == 1


@dataclass
class Loader:
    """Says that there is no such File, and then that it has not changed."""

    is_there: bool = False

    async def __call__(
        self, file: FileResource, known: StoredFile | None, http: Http
    ) -> bytes | NotModified:
        if not self.is_there:
            raise AbsentError("there is none")
        return NOT_MODIFIED


async def test_what_was_absent_cannot_be_unmodified(lake: Lake) -> None:
    """
    A File of which no byte is stored is no up-to-date one, whatever its loader says.
    """
    loader = Loader()

    def resource(token: str) -> DatasetResource:
        found = DatasetResource(dataset_resource_id={"id": 1}, name="one")
        found.add_file("events", "v1", loader=loader, token=token, optional=True)
        return found

    first = await lake.run(offering(lambda: resource("a")))
    assert outcome(first) == {"stored": 1}  # its row, without a File
    loader.is_there = True
    summary = await lake.run(offering(lambda: resource("b")))
    assert outcome(summary) == {"failed": 1}
    assert "nothing of it is stored" in summary.failures[0].message


async def test_a_run_closes_those_that_died_in_silence(lake: Lake) -> None:
    """
    Whatever it is about: a Run that nobody has heard of for long is shown as crashed, and one
    that was heard of a moment ago is not.
    """
    now = lake.clock.now()
    long_ago, just_now = now - timedelta(hours=2), now - timedelta(seconds=1)
    dead = await lake.catalog.begin_run(started_at=long_ago, fingerprint="another plan")
    alive = await lake.catalog.begin_run(started_at=just_now, fingerprint="a third one")
    await lake.run(offering(offer(1)))
    status = {run.run_id: run.status for run in await lake.catalog.runs()}
    assert status[dead] is RunStatus.CRASHED
    assert status[alive] is RunStatus.RUNNING
