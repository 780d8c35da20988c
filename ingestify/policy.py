"""FetchPolicy: whether what was found is worth a request, and why."""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec

from ingestify.errors import ConfigError
from ingestify.model.dataset import CheckOutcome, Stored, StoredFile, Suspicion
from ingestify.model.resource import DatasetResource, FileResource


class Reason(enum.StrEnum):
    """Why something was fetched or skipped, in the words that people are shown."""

    NEW = "new"
    FILE_MISSING = "file missing"
    ANNOUNCED = "announced"
    FAILED_BEFORE = "failed before"
    INVALIDATED = "invalidated"
    DAMAGED = "damaged"
    FORCED = "forced"
    OLDER_THAN = "older than"
    RECHECK = "recheck"
    METADATA = "metadata changed"
    UP_TO_DATE = "up to date"
    NOT_CHOSEN = "not chosen"


class Ask(msgspec.Struct, frozen=True):
    """One File to be asked for; conditionally where a 304 would tell all there is to know."""

    file: FileResource
    reason: str
    conditional: bool


class Fetch(msgspec.Struct, frozen=True):
    """Ask for these Files. May be none: a Dataset that has no Files is new all the same."""

    reason: str
    asks: Sequence[Ask] = ()


class Skip(msgspec.Struct, frozen=True):
    """Ask for nothing."""

    reason: str


UP_TO_DATE = Skip(Reason.UP_TO_DATE)


class FetchPolicy:
    """Fetches what is new, announced, missing, failed, invalidated or damaged; skips the rest.

    A subclass, named in a plan as a dotted class, may decide otherwise. What it decides must
    depend on its arguments alone: deciding does nothing. A provider's list that has not changed
    (304) is no reason not to ask it: see `must_list`.

    Args:
        refetch_after: a File that was last asked for longer ago than this is asked for again.
        recheck: the share (0 to 1) of Datasets that is asked for again each UTC day although
            nothing says that they changed.
    """

    def __init__(self, *, refetch_after: timedelta | None = None, recheck: float = 0.0) -> None:
        if not 0 <= recheck <= 1:
            raise ConfigError(f"recheck is a share between 0 and 1, not {recheck}")
        if refetch_after is not None and refetch_after < timedelta(0):
            raise ConfigError(f"refetch_after cannot be negative: {refetch_after}")
        self.refetch_after = refetch_after
        self.recheck = recheck

    def decide(
        self, found: DatasetResource, stored: Stored | None, *, now: datetime, forced: bool
    ) -> Fetch | Skip:
        """What to do about *found*, given what the lake has of it.

        *stored* says of each File what came of its last request. `stored.announced_in` is the
        Run that first saw the Selector's present token: older checks do not count any more.
        """
        if stored is None:
            return Fetch(Reason.NEW, [Ask(file, Reason.NEW, False) for file in found.files])
        rechecked = self.recheck > 0 and self._is_rechecked(stored.dataset_id, now)
        asks = []
        for file in found.files:
            known = stored.files.get(file.key)
            reason = self._reason(file, known, stored.announced_in, rechecked, now, forced)
            if reason is not None:
                conditional = known is not None and known.is_stored and not known.check.suspect
                asks.append(Ask(file, reason, conditional))
        return Fetch(asks[0].reason, asks) if asks else UP_TO_DATE

    def must_list(self, *, forced: bool) -> bool:
        """Whether a list must be looked at even if the provider says that it has not changed.

        Always, where a subclass decides for itself: nobody else knows what it waits for. One that
        wants nothing but what is announced may override this, too, and spare those requests.
        """
        decides_itself = type(self).decide is not FetchPolicy.decide
        return forced or self.recheck > 0 or decides_itself

    @property
    def trusts_agreements(self) -> bool:
        """Whether nothing is asked for where the provider says what it said when all Files were
        last asked for, and they were sound. A subclass that decides for itself is asked."""
        decides_itself = type(self).decide is not FetchPolicy.decide
        return not (decides_itself or self.recheck > 0 or self.refetch_after is not None)

    @property
    def fingerprint(self) -> str:
        """What must be equal for two policies to decide alike."""
        settings = sorted((name, str(value)) for name, value in vars(self).items())
        return f"{type(self).__module__}.{type(self).__qualname__}{settings}"

    def _reason(
        self,
        file: FileResource,
        known: StoredFile | None,
        announced_in: int,
        rechecked: bool,
        now: datetime,
        forced: bool,
    ) -> Reason | None:
        if known is None:
            return Reason.FILE_MISSING
        check = known.check
        if check.suspect:
            is_damaged = check.suspect is Suspicion.DAMAGED
            return Reason.DAMAGED if is_damaged else Reason.INVALIDATED
        if check.outcome is CheckOutcome.FAILED:
            return Reason.FAILED_BEFORE
        if check.run_id < announced_in or (file.token is not None and file.token != check.token):
            return Reason.ANNOUNCED
        if forced:
            return Reason.FORCED
        if self.refetch_after is not None and now - check.checked_at > self.refetch_after:
            return Reason.OLDER_THAN
        if rechecked and check.checked_at.date() < now.date():
            return Reason.RECHECK
        return None

    def _is_rechecked(self, dataset_id: str, now: datetime) -> bool:
        digest = hashlib.blake2b(f"{dataset_id} {now.date()}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") < self.recheck * 2**64
