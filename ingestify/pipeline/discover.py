"""Discover: stream what a Source finds in one Selector towards planning."""

from __future__ import annotations

import logging
from contextlib import aclosing
from typing import TypeAlias

from ingestify.client import ListHttp, ListNotModified
from ingestify.errors import (
    IngestifyError,
    RecordError,
    RunError,
    SourceError,
    StopProcessing,
    text_of,
)
from ingestify.model.resource import DatasetResource, content_of
from ingestify.model.run import SelectorStatus
from ingestify.pipeline.pages import Pages
from ingestify.pipeline.selector_run import SelectorRun
from ingestify.ports import Source
from ingestify.strays import StrayIsError

log = logging.getLogger("ingestify.discover")

Found: TypeAlias = tuple[SelectorRun, DatasetResource]


async def discover(
    source: Source, selector_run: SelectorRun, http: ListHttp, found: Pages[Found]
) -> None:
    """Put everything that *source* finds into *found*, which holds it back while it is full.

    How it ended stands in the SelectorRun afterwards. A Source that fails, fails for this
    Selector alone.

    Raises:
        StopProcessing: the Source asks to be stopped.
        RunError: the Source says that the Run cannot go on.
    """
    try:
        with StrayIsError("discover_datasets"):
            await _stream(source, selector_run, http, found)
        if http.is_unchanged:  # the Source has caught what was to end it
            raise ListNotModified
        _check_state(selector_run)
        selector_run.status = SelectorStatus.COMPLETE
    except ListNotModified:
        selector_run.status = SelectorStatus.UNCHANGED
    except (StopProcessing, RunError):
        selector_run.status = SelectorStatus.STOPPED
        raise
    except Exception as exc:
        code, message = describe(exc)
        selector_run.status = SelectorStatus.FAILED
        failure = selector_run.failure(code, message)
        selector_run.error = failure.message
        selector_run.failures.append(failure)
        log.warning("%s: %s failed: %s", selector_run.source, selector_run.label, failure.message)
        if log.isEnabledFor(logging.DEBUG):
            why = selector_run.redactor.traceback(exc)
            log.debug("the failure of %s: %s", selector_run.label, why)
    finally:
        if selector_run.status is SelectorStatus.RUNNING:
            selector_run.status = SelectorStatus.STOPPED
        selector_run.validators = http.validators if http.requests_made == 1 else None


def describe(exc: Exception) -> tuple[str, str]:
    """A code and a message for people. Errors of ours have both; others are a Source's bugs."""
    if isinstance(exc, IngestifyError):
        return exc.code, text_of(exc)
    return "bug", f"{type(exc).__name__}: {text_of(exc)}"


async def _stream(
    source: Source, selector_run: SelectorRun, http: ListHttp, found: Pages[Found]
) -> None:
    generator = source.discover_datasets(
        selector_run.dataset_type,
        selector_run.selector,
        data_spec_versions=selector_run.data_spec_versions,
        state=selector_run.state,
        http=http,
    )
    if not hasattr(generator, "aclose"):
        raise SourceError(f"{type(source).__name__}.discover_datasets must be an async generator")
    async with aclosing(generator) as items:  # type: ignore[type-var]
        async for item in items:
            page = item if isinstance(item, list | tuple) else (item,)
            selector_run.expect(len(page))
            try:
                await found.put([(selector_run, resource) for resource in page])
            except BaseException:
                for _ in page:
                    selector_run.miss()
                raise


def _check_state(selector_run: SelectorRun) -> None:
    """See that the state can be kept. It may be a link in which the provider repeats a key."""
    try:
        selector_run.state = selector_run.redactor.conceal(selector_run.state)
        content_of(selector_run.state)
    except RecordError as exc:
        raise SourceError(f"the state that {selector_run.source} leaves {exc}") from None
