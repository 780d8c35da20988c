"""Sources and handlers that cancel a task of their own: that is no end, and no success."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import nullcontext
from typing import Any

import pytest
from anyio import CancelScope, Event, create_task_group, wait_all_tasks_blocked
from lakes import Lake, offer, offering, outcome

from ingestify.adapters.catalog.memory import MemoryCatalog
from ingestify.errors import FatalError, RunError, SourceError
from ingestify.model.catalog import SelectorState
from ingestify.model.http import Auth
from ingestify.model.resource import DatasetResource
from ingestify.model.run import RunStatus, RunSummary, SelectorStatus
from ingestify.model.selector import Selector
from ingestify.pipeline import resolve
from ingestify.pipeline.event_reader import Subscription
from ingestify.pipeline.forecast import Forecasting
from ingestify.pipeline.undisturbed import undisturbed
from ingestify.ports import Http
from ingestify.strays import StrayIsError
from ingestify.subscriber import SubscriberSink
from ingestify.testing import FakeSource, Offer
from ingestify.testing.clock import VirtualClock
from ingestify.testing.fetcher import FakeAnswer, FakeFetcher

SAID = "was cut short by a cancellation that did not come from ingestify"


async def stray() -> None:
    """Cancel a task of one's own, and await it."""
    inner = asyncio.ensure_future(asyncio.sleep(3600))
    await asyncio.sleep(0)
    inner.cancel()
    await inner


class StrayList(FakeSource):
    async def discover_datasets(self, *args: Any, **options: Any) -> AsyncIterator[Any]:
        async for found in super().discover_datasets(*args, **options):
            yield found
            await stray()


class StraySelectors(FakeSource):
    async def discover_selectors(self, dataset_type: str, *, http: Http) -> AsyncIterator[Selector]:
        yield Selector()
        await stray()


class StrayLogin(FakeSource):
    async def login(self, http: Http) -> Auth | None:
        await stray()
        return None


def reasons(summary: RunSummary) -> str:
    return " ".join(failure.message for failure in summary.failures)


async def test_what_a_source_cancels_itself_is_an_error() -> None:
    """
    A CancelledError that neither a scope nor anybody has asked for becomes an error.
    """
    with pytest.raises(SourceError, match=f"a list {SAID}"), StrayIsError("a list"):
        await stray()


@pytest.mark.parametrize("way", ["scope", "outer scope", "native"])
async def test_a_cancellation_that_was_asked_for_passes(way: str) -> None:
    """
    A block that is cancelled by its scope, a scope around that, or natively, is cancelled.
    """
    ends: list[str] = []
    begun = Event()

    async def work() -> None:
        try:
            with StrayIsError("work"):
                begun.set()
                await asyncio.sleep(3600)
        except asyncio.CancelledError:
            ends.append("cancelled")
            raise

    async def in_scope(scope: CancelScope) -> None:
        with scope:
            await work()

    scope = CancelScope()
    if way == "native":
        task = asyncio.ensure_future(work())
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    else:
        async with create_task_group() as tg:
            tg.start_soon(in_scope, scope)
            await begun.wait()
            (scope if way == "scope" else tg.cancel_scope).cancel()
    assert ends == ["cancelled"]


async def test_a_list_that_is_cut_short_has_failed() -> None:
    """
    What was listed before a stray cancellation is kept, and the Selector has failed.
    """
    lake = Lake()
    summary = await lake.run(offering(offer(1), offer(2), kind=StrayList))
    assert [each.status for each in summary.selectors] == [SelectorStatus.FAILED]
    assert f"discover_datasets {SAID}" in (summary.selectors[0].error or "")
    assert (summary.exit_code, outcome(summary)) == (1, {"stored": 1})


async def test_selectors_that_are_cut_short_have_failed() -> None:
    """
    A Source whose discover_selectors meets a stray cancellation fails; another one goes on.
    """
    lake = Lake()
    strange = offering(offer(1), kind=StraySelectors, name="strange")
    summary = await lake.run(strange, offering(offer(2)))
    assert f"discover_selectors {SAID}" in reasons(summary)
    assert (summary.exit_code, outcome(summary)) == (1, {"stored": 1})


async def test_a_group_of_plans_that_gave_nothing_has_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    Where resolving was cut short in a way that nobody has foreseen, no plan is forgotten.
    """
    monkeypatch.setattr(resolve, "StrayIsError", lambda what: nullcontext())
    summary = await Lake().run(offering(offer(1), kind=StraySelectors))
    assert [each.status for each in summary.selectors] == [SelectorStatus.FAILED]
    assert summary.exit_code == 1


async def test_a_login_that_is_cut_short_has_failed() -> None:
    """
    A stray cancellation in a login fails each Dataset that needs it, and is not tried again.
    """
    address = "http://fake.invalid/{}.json"
    lake = Lake(fetcher=FakeFetcher({address.format(n): FakeAnswer(body=b"{}") for n in "ab"}))
    offers = [Offer(identifier={"id": n}, files={"a": address.format(n)}) for n in "ab"]
    summary = await lake.run(offering(*offers, offer(3), kind=StrayLogin))
    assert f"login {SAID}" in reasons(summary)
    assert (summary.exit_code, outcome(summary)) == (1, {"stored": 1, "failed": 2})


async def test_a_file_that_is_cut_short_fails_its_dataset() -> None:
    """
    One File of two whose loader meets a stray cancellation fails the whole Dataset.
    """

    async def sound(*_: Any) -> bytes:
        return b"{}"

    async def strange(*_: Any) -> bytes:
        await stray()
        return b"{}"

    def found() -> DatasetResource:
        resource = DatasetResource(dataset_resource_id={"id": 1}, name="one")
        resource.add_file("sound", "v1", loader=sound)
        resource.add_file("strange", "v1", loader=strange)
        return resource

    lake = Lake()
    summary = await lake.run(offering(found, offer(2)))
    assert SAID in reasons(summary)
    assert (summary.exit_code, outcome(summary)) == (1, {"stored": 1, "failed": 1})
    await lake.check()


async def test_a_hook_that_is_cut_short_fails_its_dataset() -> None:
    """
    A stray cancellation in post_load_files is the reason that its Dataset failed for.
    """

    async def hook(resource: DatasetResource, files: Any) -> None:
        await stray()

    summary = await Lake().run(offering(offer(1, post_load_files=hook), offer(2)))
    assert SAID in reasons(summary)
    assert (summary.exit_code, outcome(summary)) == (1, {"stored": 1, "failed": 1})


async def test_files_declared_by_a_source_that_is_cut_short_fail_their_dataset() -> None:
    """
    A stray cancellation in fetch_dataset_files after its first File fails the Dataset.
    """

    class Declares(FakeSource):
        async def fetch_dataset_files(
            self, resource: DatasetResource, stored: Any, *, http: Http
        ) -> AsyncIterator[Any]:
            for file in resource.files:
                yield file
                await stray()

    summary = await Lake().run(offering(offer(1, "a", "b"), kind=Declares))
    assert SAID in reasons(summary)
    assert (summary.exit_code, outcome(summary)) == (1, {"failed": 1})


async def test_a_handler_that_is_cut_short_did_not_take_the_event() -> None:
    """
    A handler with a stray cancellation is called again, and its event is delivered once.
    """
    calls: list[int] = []

    class Subscriber:
        async def on_dataset_created(self, event: Any) -> None:
            calls.append(event.id)
            if len(calls) == 1:
                await stray()

    lake = Lake(clock=VirtualClock())
    sink = SubscriberSink(Subscriber())
    summary = await lake.run(offering(offer(1)), subscriptions=[Subscription(name="x", sink=sink)])
    assert len(calls) == 2
    assert (summary.exit_code, summary.warnings) == (0, ())


async def test_a_forecast_that_is_cut_short_does_not_claim_to_be_whole() -> None:
    """
    A forecast says of a Source with a stray cancellation that it failed.
    """
    run = Lake().run_of(offering(offer(1), kind=StrayList))
    forecast = await Forecasting(ports=run.ports, order=run.order).execute()
    assert [each.status for each in forecast.selectors] == [SelectorStatus.FAILED]
    assert forecast.exit_code == 1


async def test_a_selector_stopped_without_a_stop_is_no_success() -> None:
    """
    Where something else than the Source was cut short, the Run does not end as if all were done.
    """

    class StrangeCatalog(MemoryCatalog):
        async def begin_selector(self, *args: Any, **options: Any) -> SelectorState:
            state = await super().begin_selector(*args, **options)
            await stray()
            return state

    summary = await Lake(catalog=StrangeCatalog()).run(offering(offer(1)))
    assert summary.status is RunStatus.FINISHED
    assert summary.exit_code == 1


async def test_what_must_come_to_its_end_says_when_it_did_not() -> None:
    """
    Work with a stray cancellation that must not be cut short is an error of the Run.
    """
    with pytest.raises(RunError, match=SAID):
        await undisturbed(stray)


async def test_cancelling_a_run_while_its_source_works_is_no_error_of_the_source() -> None:
    """
    A Run that is cancelled in the midst of a list ends as aborted, with nothing failed.
    """

    class Waits(FakeSource):
        async def discover_datasets(self, *args: Any, **options: Any) -> AsyncIterator[Any]:
            await asyncio.sleep(3600)
            yield

    lake = Lake()
    run = lake.run_of(offering(offer(1), kind=Waits))
    async with create_task_group() as tg:
        tg.start_soon(run.execute)
        await wait_all_tasks_blocked()
        tg.cancel_scope.cancel()
    (told,) = await lake.catalog.runs(limit=1)
    assert told.status is RunStatus.ABORTED


class SpeechlessError(Exception):
    """Fails when it is put into words."""

    def __str__(self) -> str:
        raise ValueError("no words")


class SpeechlessFatalError(FatalError):
    """So does the error with which a Source ends the Run."""

    def __str__(self) -> str:
        raise ValueError("no words")


async def test_an_error_without_words_harms_nobody_else() -> None:
    """
    A Source's exception whose text cannot be had fails its Selector or Dataset alone.
    """

    def speechless() -> DatasetResource:
        raise SpeechlessError

    async def load(*_: Any) -> bytes:
        raise SpeechlessError

    def found() -> DatasetResource:
        resource = DatasetResource(dataset_resource_id={"id": 1}, name="one")
        return resource.add_file("data", "v1", loader=load)

    lake = Lake()
    summary = await lake.run(offering(a=[speechless], b=[offer(2)], c=[found]))
    assert (summary.exit_code, outcome(summary)) == (1, {"stored": 1, "failed": 1})
    said = "SpeechlessError: a SpeechlessError that cannot be put into words"
    assert [failure.message for failure in summary.failures] == [said, said]


async def test_the_end_of_a_run_can_be_told_without_words() -> None:
    """
    A Run that a Source ends with such an error is closed as failed.
    """

    def speechless() -> DatasetResource:
        raise SpeechlessFatalError

    lake = Lake()
    summary = await lake.run(offering(speechless))
    assert (summary.status, summary.exit_code) == (RunStatus.FAILED, 3)
    assert summary.error == "a SpeechlessFatalError that cannot be put into words"


async def test_a_login_fails_without_words() -> None:
    """
    Whoever comes after such an error of a login is told that it failed.
    """

    class Speechless(FakeSource):
        async def login(self, http: Http) -> Auth | None:
            raise SpeechlessError

    address = "http://fake.invalid/{}.json"
    offers = [Offer(identifier={"id": n}, files={"a": address.format(n)}) for n in "ab"]
    summary = await Lake().run(offering(*offers, kind=Speechless))
    assert (summary.exit_code, outcome(summary)) == (1, {"failed": 2})
    assert "the login failed: SpeechlessError: a SpeechlessError that" in reasons(summary)


async def test_a_handler_that_fails_without_words_is_called_again() -> None:
    """
    A handler's exception whose text cannot be had is one like others.
    """
    calls: list[int] = []

    class Subscriber:
        async def on_dataset_created(self, event: Any) -> None:
            calls.append(event.id)
            if len(calls) == 1:
                raise SpeechlessError

    sink = SubscriberSink(Subscriber())
    summary = await Lake(clock=VirtualClock()).run(
        offering(offer(1)), subscriptions=[Subscription(name="x", sink=sink)]
    )
    assert (summary.exit_code, len(calls)) == (0, 2)


async def test_refused_selectors_are_counted_and_the_first_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    Of very many records that might have been Selectors, no more reasons are kept than are told.
    """
    monkeypatch.setattr(resolve, "MOST_FAILURES", 3)
    kept: list[resolve.Unread] = []

    class Watched(resolve.Unread):
        def __init__(self) -> None:
            super().__init__()
            kept.append(self)

    monkeypatch.setattr(resolve, "Unread", Watched)

    class Refusing(FakeSource):
        async def discover_selectors(
            self, dataset_type: str, *, http: Http
        ) -> AsyncIterator[Selector]:
            for number in range(1000):
                http.refuse(f"record {number}")
            yield Selector()

    summary = await Lake().run(offering(offer(1), kind=Refusing))
    assert (summary.exit_code, outcome(summary)) == (1, {"stored": 1})
    assert [failure.message for failure in summary.failures] == [f"record {n}" for n in range(3)]
    assert "1000 of its Selectors cannot be read" in str(summary.selectors[0].error)
    assert [len(each.reasons) for each in kept] == [3]
