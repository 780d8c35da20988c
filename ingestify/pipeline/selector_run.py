"""One Selector's part of a Run: what was listed, what became of it, and when it is done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from anyio import Event

from ingestify.model.catalog import ListValidators, Scope, SelectorState
from ingestify.model.resource import DataSpecVersions
from ingestify.model.run import Counters, Failure, SelectorStatus, SelectorSummary
from ingestify.model.selector import Selector
from ingestify.pipeline.claims import RowIds
from ingestify.pipeline.only import Only
from ingestify.policy import FetchPolicy, Reason
from ingestify.redaction import Redactor

MOST_FAILURES = 1000  # of refused records, kept one by one for each Selector


@dataclass(slots=True, kw_only=True)
class SelectorRun:
    """What a Run does for one Selector of one Source, and how far it is.

    Equal Selectors of several plans share one: it wants what any of them wants.
    """

    source: str
    provider: str
    dataset_type: str
    bucket: str
    selector: Selector
    data_spec_versions: DataSpecVersions
    policies: Sequence[FetchPolicy]
    fingerprint: str  # of everything but the Selector that decides what is asked for
    redactor: Redactor = field(default_factory=Redactor)  # knows the Source's secrets
    only: Only | None = None  # what it is about; None: all that it lists

    run_id: int = 0
    known: SelectorState | None = None  # as it was when this SelectorRun began
    selector_run_id: int = 0
    announced_in: int = 0  # the Run that first saw the Selector's present token
    state: dict[str, Any] = field(default_factory=dict)
    status: SelectorStatus = SelectorStatus.RUNNING
    error: str | None = None
    counters: Counters = field(default_factory=Counters)
    fetched_for: Counter[str] = field(default_factory=Counter)
    skipped_for: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)
    requests: int = 0  # for Files, that the Tasks planned will take
    met: RowIds = field(default_factory=RowIds)
    validators: ListValidators | None = None
    is_clean: bool = True
    _pending: int = 0
    _settled: Event | None = None  # of who waits for the last outcome

    @property
    def trusts_agreements(self) -> bool:
        """Whether all of its policies want nothing where nothing has changed."""
        return all(policy.trusts_agreements for policy in self.policies)

    @property
    def scope(self) -> Scope:
        """What its state in the Catalog belongs to."""
        return Scope(
            bucket=self.bucket,
            source=self.source,
            dataset_type=self.dataset_type,
            selector_key=self.selector.key,
        )

    @property
    def label(self) -> str:
        """What people call its Selector."""
        return self.redactor.redact(self.selector.name or str(self.selector))

    @property
    def reasons(self) -> dict[str, int]:
        """How many Datasets were fetched or skipped for which reason."""
        return dict(self.fetched_for + self.skipped_for)

    def begin(self, state: SelectorState | None, *, run_id: int, announced_in: int) -> None:
        """Take over what is known from earlier Runs."""
        self.run_id = run_id
        self.known = state
        self.announced_in = announced_in
        if state is not None:
            self.selector_run_id = state.selector_run_id
            # Who looks for something has to see the list from its beginning.
            self.state = dict(state.state) if self.only is None else {}

    def refuse(self, reason: str, *, name: str | None = None) -> None:
        """Count a listed record that cannot be used."""
        self.counters.listed += 1
        self.counters.refused += 1
        self.is_clean = False
        if len(self.failures) < MOST_FAILURES:
            self.failures.append(self.failure("record", reason, name=name))

    def failure(
        self, code: str, message: str, *, name: str | None = None, key: str | None = None,
        feed: str | None = None,
    ) -> Failure:  # fmt: skip
        """A Failure of something in this Selector."""
        return Failure(
            code=code,
            message=writable(self.redactor.redact(message)),
            provider=self.provider,
            dataset_type=self.dataset_type,
            bucket=self.bucket,
            identifier_key=key,
            name=None if name is None else writable(self.redactor.conceal(name)),
            data_feed_key=feed,
            selector=str(self.selector),
            run_id=self.run_id,
        )

    def expect(self, outcomes: int) -> None:
        """So many more outcomes have to come before this SelectorRun is done."""
        self._pending += outcomes

    def settle(self, row_id: int | None, succeeded: bool) -> None:
        """An expected outcome has come."""
        self._pending -= 1
        if row_id is not None:
            self.met.add(row_id)
        self.is_clean = self.is_clean and succeeded
        if self._pending == 0 and self._settled is not None:
            self._settled.set()

    def skip_agreed(self, row_id: int) -> None:
        """A listed Dataset needs nothing, since the provider says of it what it said before."""
        counters = self.counters
        counters.listed += 1
        counters.skipped += 1
        self.skipped_for[Reason.UP_TO_DATE] += 1
        self.met.add(row_id)
        self._pending -= 1
        if self._pending == 0 and self._settled is not None:
            self._settled.set()

    def miss(self) -> None:
        """A listed Dataset was not looked at, since the Run is about to end."""
        self.counters.listed += 1
        self.counters.not_reached += 1
        self.settle(None, False)

    async def all_settled(self) -> None:
        """Return once every expected outcome has come."""
        while self._pending:
            self._settled = Event()
            await self._settled.wait()

    def forget(self) -> None:
        """It is closed: what only its end needed is let go, for there may be thousands."""
        self.met = RowIds()
        self.known = None
        self.state = {}
        self.validators = None
        self._settled = None

    def summary(self) -> SelectorSummary:
        """How it stands now."""
        return SelectorSummary(
            source=self.source,
            provider=self.provider,
            dataset_type=self.dataset_type,
            bucket=self.bucket,
            selector=str(self.selector),
            name=self.selector.name,
            status=self.status,
            counters=self.counters,
            reasons=self.reasons,
            error=self.error,
        )


def writable(text: str) -> str:
    """*text* as any database can keep it: what is not Unicode is escaped."""
    return text.encode(errors="backslashreplace").decode()
