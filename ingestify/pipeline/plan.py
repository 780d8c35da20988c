"""Plan: compare pages of what was found with the Catalog, and decide what is worth a request."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime

import msgspec

from ingestify.errors import RecordError
from ingestify.model.dataset import DatasetState, FileKey, Stored, Suspicion
from ingestify.model.identity import canonical_key
from ingestify.model.resource import (
    DatasetResource,
    FileResource,
    agreement_of,
    content_of,
)
from ingestify.pipeline.claims import Claims
from ingestify.pipeline.discover import Found, describe
from ingestify.pipeline.only import DatasetKey, Only
from ingestify.pipeline.selector_run import SelectorRun
from ingestify.pipeline.task import Task, details_hash
from ingestify.policy import Ask, Fetch, Reason, Skip
from ingestify.ports import Catalog
from ingestify.redaction import Redactor

PAGE = 1000  # Datasets looked up at once

NOT_CHOSEN = Skip(Reason.NOT_CHOSEN)

Shelf = tuple[str, str, str]  # bucket, provider, dataset type


@dataclass(slots=True)
class _Listed:
    """One Dataset that was found, and what is known of it."""

    selector_run: SelectorRun
    resource: DatasetResource
    key: str
    agreement: bytes | None = None  # a digest of what was found
    agreed_row: int | None = None  # of the Dataset, where it is what was found before
    stored: Stored | None = None


class Planner:
    """Turns what was found into Tasks, and counts what needs none.

    One for each Run, shared by all Sources, so that a Dataset met twice is fetched once.
    """

    def __init__(
        self,
        catalog: Catalog,
        *,
        stage: str,
        forced: bool,
        skipped: Callable[[str | None], None] | None = None,
        wanted: Only | None = None,
    ) -> None:
        self._catalog = catalog
        self._stage = stage
        self._forced = forced
        self._skipped = skipped  # told the id of each Dataset that is up to date
        self._wanted = wanted
        self.met: set[DatasetKey] = set()  # those of the *wanted* Datasets that were listed
        self._claims: dict[Shelf, Claims] = defaultdict(Claims)
        self._sets: dict[tuple[FileKey, ...], frozenset[FileKey]] = {}

    async def plan(self, page: Sequence[Found], *, now: datetime) -> list[Task]:
        """The Tasks for *page*. Everything in it that is no Task has its outcome afterwards.

        When cancelled, or when the Catalog cannot be read, nothing of the page is planned.
        """
        refused: list[tuple[SelectorRun, DatasetResource, str]] = []
        not_chosen: list[SelectorRun] = []
        shelves: dict[Shelf, list[_Listed]] = defaultdict(list)
        for selector_run, resource in page:
            try:
                key = identify(resource, selector_run)
            except Exception as exc:  # a Source may yield anything
                refused.append((selector_run, resource, describe(exc)[1]))
                continue
            shelf = (selector_run.bucket, resource.provider, resource.dataset_type)
            only = selector_run.only
            if only is not None and (*shelf, key) not in only.datasets:
                not_chosen.append(selector_run)
                continue
            shelves[shelf].append(_Listed(selector_run, resource, key))
            if self._wanted is not None and (*shelf, key) in self._wanted.datasets:
                self.met.add((*shelf, key))
        with ExitStack() as looking:
            for shelf, listed in shelves.items():
                looking.enter_context(self._claims[shelf].looking())
                await self._look_up(shelf, listed)
            for selector_run, resource, reason in refused:
                _refuse(selector_run, resource, reason)
            for selector_run in not_chosen:
                selector_run.counters.listed += 1
                self._skip(selector_run, NOT_CHOSEN, None)
            return self._plan_listed(shelves, now)

    def _plan_listed(self, shelves: Mapping[Shelf, Sequence[_Listed]], now: datetime) -> list[Task]:
        tasks: list[Task] = []
        for shelf, listed in shelves.items():
            claims = self._claims[shelf]
            for each in listed:
                if each.agreed_row is not None:
                    self._skip_agreed(each, each.agreed_row, claims)
                elif (task := self._plan_one(each, claims, now)) is not None:
                    tasks.append(task)
        return tasks

    async def _look_up(self, shelf: Shelf, listed: Sequence[_Listed]) -> None:
        """Find out what is known of each: in short where that is enough, else all."""
        bucket, provider, dataset_type = shelf
        place = {
            "bucket": bucket,
            "stage": self._stage,
            "provider": provider,
            "dataset_type": dataset_type,
        }
        known = await self._catalog.agreements(**place, keys=[each.key for each in listed])
        unclear: list[_Listed] = []
        asked: SelectorRun | None = None
        is_enough = False
        for each, agreed in zip(listed, known, strict=True):
            each.agreement = agreement_of(each.resource)
            if agreed is None:
                continue
            row_id, digest, run_id = agreed
            selector_run = each.selector_run
            if selector_run is not asked:
                asked, is_enough = selector_run, self._trusts_agreements(selector_run)
            is_same = digest is not None and digest == each.agreement
            if is_same and is_enough and run_id >= selector_run.announced_in:
                each.agreed_row = row_id
            else:
                unclear.append(each)
        if unclear:
            keys = [each.key for each in unclear]
            stored = await self._catalog.look_up(**place, keys=keys)
            for each, found in zip(unclear, stored, strict=True):
                each.stored = found

    def _trusts_agreements(self, selector_run: SelectorRun) -> bool:
        return (
            not self._forced
            and self._skipped is None  # which is told of ids
            and selector_run.only is None
            and selector_run.trusts_agreements
        )

    def _skip_agreed(self, listed: _Listed, row_id: int, claims: Claims) -> None:
        """Nothing is to be done, whatever has been claimed of it."""
        selector_run, files = listed.selector_run, self._keys_of(listed.resource)
        if not claims.meet_first(listed.key, row_id, files):
            missing = claims.missing(listed.key, row_id, files)
            if missing is not None and not missing:
                _count_duplicate(selector_run, listed.key, row_id, claims)
                return
            claims.meet(row_id, files)
        selector_run.skip_agreed(row_id)

    def _keys_of(self, resource: DatasetResource) -> frozenset[FileKey]:
        """The keys of its Files; one and the same set for all that have equal ones."""
        keys = tuple([(file.data_feed_key, file.data_spec_version) for file in resource.files])
        found = self._sets.get(keys)
        if found is None:
            found = self._sets.setdefault(keys, frozenset(keys))
        return found

    def _plan_one(self, listed: _Listed, claims: Claims, now: datetime) -> Task | None:
        selector_run, resource, key = listed.selector_run, listed.resource, listed.key
        stored = listed.stored
        try:
            check(resource, selector_run.redactor)
            metadata = metadata_of(resource, selector_run.redactor)
        except Exception as exc:  # a Source may yield anything
            _refuse(selector_run, resource, describe(exc)[1])
            return None
        row_id = stored.row_id if stored else None
        wanted = frozenset([file.key for file in resource.files])
        missing = claims.missing(key, row_id, wanted)
        if missing is not None and not missing:
            _count_duplicate(selector_run, key, row_id, claims)
            return None
        if missing is not None:
            resource.files = [file for file in resource.files if file.key in missing]
        hashed = details_hash(resource.name, resource.state, metadata)
        try:
            decision = self._decide(selector_run, resource, stored, hashed, now)
        except Exception as exc:  # of somebody's own policy
            _refuse(selector_run, resource, f"its FetchPolicy failed: {describe(exc)[1]}")
            return None
        selector_run.counters.listed += 1
        if isinstance(decision, Skip):
            self._skip(selector_run, decision, stored)
            if row_id is not None:
                claims.meet(row_id, wanted)
            return None
        is_whole = {ask.file.key for ask in decision.asks} == wanted
        selector_run.fetched_for[decision.reason] += 1
        selector_run.requests += sum(ask.file.content is None for ask in decision.asks)
        return Task(
            selector_run=selector_run,
            claim=claims.open(key, wanted),
            resource=resource,
            stored=stored,
            asks=decision.asks,
            reason=decision.reason,
            metadata=metadata,
            details_hash=hashed,
            agreement=listed.agreement if is_whole else None,
        )

    def _skip(self, selector_run: SelectorRun, decision: Skip, stored: Stored | None) -> None:
        selector_run.skipped_for[decision.reason] += 1
        selector_run.counters.skipped += 1
        selector_run.settle(stored.row_id if stored else None, True)
        if self._skipped is not None and stored is not None:
            self._skipped(stored.dataset_id)

    def _decide(
        self,
        selector_run: SelectorRun,
        resource: DatasetResource,
        stored: Stored | None,
        hashed: str,
        now: datetime,
    ) -> Fetch | Skip:
        """What any of the policies wants; its row alone where that is all that has changed."""
        if stored is not None:
            stored.announced_in = selector_run.announced_in
        only = selector_run.only
        if only is not None and only.damaged:
            return _mend(resource, stored)
        forced = self._forced or only is not None
        decisions = [
            policy.decide(resource, stored, now=now, forced=forced)
            for policy in selector_run.policies
        ]
        fetches = [each for each in decisions if isinstance(each, Fetch)]
        if not fetches and stored is not None and stored.details_hash != hashed:
            return Fetch(Reason.METADATA)
        if len(fetches) < 2:
            return fetches[0] if fetches else decisions[0]
        asks: dict[FileKey, Ask] = {}
        for fetch in fetches:
            for ask in fetch.asks:
                asks.setdefault(ask.file.key, ask)
        return Fetch(fetches[0].reason, list(asks.values()))


def _mend(resource: DatasetResource, stored: Stored | None) -> Fetch | Skip:
    """Ask for what is damaged, and for nothing else."""
    known = stored.files if stored is not None else {}
    damaged = [
        file
        for file in resource.files
        if file.key in known and known[file.key].check.suspect is Suspicion.DAMAGED
    ]
    if not damaged:
        return NOT_CHOSEN
    return Fetch(Reason.DAMAGED, [Ask(file, Reason.DAMAGED, False) for file in damaged])


def _refuse(selector_run: SelectorRun, resource: DatasetResource, reason: str) -> None:
    name = getattr(resource, "name", None)
    selector_run.refuse(reason, name=name if isinstance(name, str) else None)
    selector_run.settle(None, False)


def _count_duplicate(
    selector_run: SelectorRun, key: str, row_id: int | None, claims: Claims
) -> None:
    selector_run.counters.listed += 1
    selector_run.counters.duplicate += 1
    claims.wait(key, row_id, selector_run.settle)


def identify(resource: DatasetResource, selector_run: SelectorRun) -> str:
    """Complete what *resource* leaves to its Source. Returns its identifier key.

    Raises:
        RecordError: it is nothing that could be kept.
    """
    if not isinstance(resource, DatasetResource):
        raise RecordError(f"not a DatasetResource: {type(resource).__name__}")
    if resource.provider:
        check_text("provider", resource.provider)
    else:
        resource.provider = selector_run.provider
    if resource.dataset_type:
        check_text("dataset_type", resource.dataset_type)
    else:
        resource.dataset_type = selector_run.dataset_type
    if not resource.dataset_resource_id:
        raise RecordError("an identity needs at least one name and value")
    key = canonical_key(resource.dataset_resource_id)
    if selector_run.redactor.holds_credential(key):
        raise RecordError("an identity with a credential in it cannot be kept")
    return key


def check(resource: DatasetResource, redactor: Redactor) -> None:
    """Take credentials out of *resource*.

    Raises:
        RecordError: something in it cannot be kept.
    """
    check_details(resource, redactor)
    seen: set[FileKey] = set()
    for at, file in enumerate(resource.files):
        if file.key in seen:
            raise RecordError(f"two files called {file.data_feed_key} {file.data_spec_version}")
        seen.add(file.key)
        resource.files[at] = check_file(file, redactor)


def metadata_of(resource: DatasetResource, redactor: Redactor) -> bytes:
    """The metadata of *resource* as it is kept: as JSON, without any credential.

    Raises:
        RecordError: it cannot be written as JSON.
    """
    try:
        content = content_of(resource.metadata)
    except RecordError as exc:
        raise RecordError(f"metadata {exc}") from None
    if redactor.holds_credential(content.decode()):
        return content_of(redactor.conceal(msgspec.json.decode(content)))
    return content


def check_details(resource: DatasetResource, redactor: Redactor) -> None:
    """Take credentials out of the name of *resource*.

    Raises:
        RecordError: its name or state cannot be written down.
    """
    check_text("name", resource.name)
    resource.name = redactor.conceal(resource.name)
    if not isinstance(resource.state, DatasetState):
        raise RecordError(f"not a DatasetState: {resource.state!r}")


def check_file(file: FileResource, redactor: Redactor) -> FileResource:
    """*file* without any credential in its token.

    Raises:
        RecordError: it cannot be told from others or written down.
    """
    check_text("data_feed_key", file.data_feed_key)
    check_text("data_spec_version", file.data_spec_version)
    if file.token is not None:
        check_text("token", file.token)
        if redactor.holds_credential(file.token):
            return msgspec.structs.replace(file, token=redactor.conceal(file.token))
    return file


def check_text(what: str, text: object) -> None:
    """Raise a RecordError unless *text* is Unicode text that any database can keep."""
    if not isinstance(text, str) or not (text.isascii() or _is_unicode(text)):
        raise RecordError(f"{what} must be valid Unicode text: {text!a}")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
