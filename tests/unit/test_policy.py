"""FetchPolicy: what is worth a request, and why."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestify.errors import ConfigError
from ingestify.model.dataset import (
    CheckOutcome,
    DatasetState,
    FileCheck,
    Stored,
    StoredFile,
    Suspicion,
)
from ingestify.model.resource import DatasetResource
from ingestify.policy import UP_TO_DATE, Fetch, FetchPolicy, Reason, Skip

NOW = datetime(2025, 5, 10, 12, tzinfo=UTC)
FEED = ("events", "v1")


def found(
    token: str | None = "t",  # noqa: S107
    *feeds: str,
    state: DatasetState = DatasetState.COMPLETE,
    config: dict[str, object] | None = None,
) -> DatasetResource:
    """A Dataset with a File in each feed, whose token is *token*."""
    resource = DatasetResource(
        dataset_resource_id={"id": 1}, name="one", state=state, fetch_policy_config=config or {}
    )
    for feed in feeds or ("events",):
        resource.add_file(feed, "v1", url=f"{feed}.json", token=token)
    return resource


def stored(
    token: str | None = "t",  # noqa: S107
    *feeds: str,
    outcome: CheckOutcome = CheckOutcome.STORED,
    run_id: int = 5,
    at: datetime = NOW,
    suspect: Suspicion = Suspicion.NONE,
    has_bytes: bool = True,
    announced_in: int = 0,
    dataset_id: str = "an id",
) -> Stored:
    """What the lake has of `found`."""
    return Stored(
        row_id=1,
        dataset_id=dataset_id,
        revision=0,
        details_hash="",
        announced_in=announced_in,
        files={
            (feed, "v1"): StoredFile(
                check=FileCheck(
                    data_feed_key=feed,
                    data_spec_version="v1",
                    outcome=outcome,
                    run_id=run_id,
                    checked_at=at,
                    token=token,
                    suspect=suspect,
                ),
                sha256="00" if has_bytes else None,
            )
            for feed in feeds or ("events",)
        },
    )


def decide(
    resource: DatasetResource,
    known: Stored | None,
    policy: FetchPolicy | None = None,
    *,
    forced: bool = False,
    now: datetime = NOW,
) -> list[tuple[str, bool]]:
    """For each File asked for: why, and whether conditionally."""
    decision = (policy or FetchPolicy()).decide(resource, known, now=now, forced=forced)
    if isinstance(decision, Skip):
        return []
    assert not decision.asks or decision.reason == decision.asks[0].reason
    return [(ask.reason, ask.conditional) for ask in decision.asks]


def test_what_is_not_stored_is_new() -> None:
    """
    A Dataset that the lake does not have is fetched, every File of it, unconditionally.
    """
    assert decide(found("t", "events", "lineups"), None) == [("new", False), ("new", False)]


def test_a_dataset_without_files_is_new_all_the_same() -> None:
    """
    What has no Files is kept, too: new once, and up to date afterwards.
    """
    resource = DatasetResource(dataset_resource_id={"id": 1}, name="one")

    assert FetchPolicy().decide(resource, None, now=NOW, forced=False) == Fetch(Reason.NEW, [])
    assert FetchPolicy().decide(resource, stored(), now=NOW, forced=True) == UP_TO_DATE


def test_what_is_known_is_skipped() -> None:
    """
    A File with an equal token, stored or absent, costs nothing.
    """
    assert decide(found(), stored()) == []
    assert decide(found(), stored(outcome=CheckOutcome.UNCHANGED)) == []
    assert decide(found(), stored(outcome=CheckOutcome.ABSENT, has_bytes=False)) == []


def test_one_missing_file_is_asked_for_alone() -> None:
    """
    A File that was never asked for is fetched, whatever its token; the others are left alone.
    """
    assert decide(found(None, "events", "lineups"), stored(None, "events")) == [
        ("file missing", False)
    ]


@pytest.mark.parametrize(("token", "known"), [("b", "a"), ("a", "b"), ("a", None)])
def test_another_token_announces_a_change(token: str, known: str | None) -> None:
    """
    Tokens are compared for difference alone: an older one is as good as a newer one.
    """
    assert decide(found(token), stored(known)) == [("announced", True)]


@pytest.mark.parametrize("known", [None, "a"])
def test_no_token_never_differs(known: str | None) -> None:
    """
    A provider that says nothing announces nothing, also when it did before.
    """
    assert decide(found(None), stored(known)) == []


def test_a_selectors_new_token_announces_every_file_once() -> None:
    """
    A check older than the Run that first saw the Selector's token does not count any more; one
    of that Run, or of a later one, does.
    """
    assert decide(found(), stored(run_id=5, announced_in=6)) == [("announced", True)]
    assert decide(found(None), stored(None, run_id=5, announced_in=6)) == [("announced", True)]
    assert decide(found(), stored(run_id=6, announced_in=6)) == []
    assert decide(found(), stored(run_id=7, announced_in=6)) == []


def test_what_failed_is_tried_again() -> None:
    """
    A File whose last request failed is asked for again, conditionally if there are older bytes.
    """
    failed = CheckOutcome.FAILED
    assert decide(found(), stored(outcome=failed)) == [("failed before", True)]
    assert decide(found(), stored(outcome=failed, has_bytes=False)) == [("failed before", False)]


def test_what_is_suspect_is_asked_for_unconditionally() -> None:
    """
    A 304 would never heal what was invalidated or is damaged.
    """
    for suspect in (Suspicion.INVALIDATED, Suspicion.DAMAGED):
        known, asked = stored(suspect=suspect), [(suspect.name.lower(), False)]
        assert decide(found(), known) == asked
        assert decide(found(), known, forced=True) == asked
        assert decide(found("other"), known) == asked


def test_force_asks_for_everything_that_has_files() -> None:
    """
    Force asks for what is up to date, too, conditionally where bytes are stored.
    """
    assert decide(found(), stored(), forced=True) == [("forced", True)]
    absent = stored(outcome=CheckOutcome.ABSENT, has_bytes=False)
    assert decide(found(), absent, forced=True) == [("forced", False)]


def test_older_than() -> None:
    """
    With an age, a File is due once its last request is longer ago than that, and not before.
    """
    policy = FetchPolicy(refetch_after=timedelta(days=1))
    day_ago = NOW - timedelta(days=1)

    assert decide(found(), stored(at=day_ago), policy) == []
    just_older = stored(at=day_ago - timedelta(seconds=1))
    assert decide(found(), just_older, policy) == [("older than", True)]
    assert decide(found(), just_older) == []


@pytest.mark.parametrize("state", [DatasetState.SCHEDULED, DatasetState.PARTIAL])
def test_being_incomplete_alone_costs_no_request(state: DatasetState) -> None:
    """
    A Dataset that is not complete yet is asked for when something announces it, like all others.
    """
    assert decide(found(state=state), stored()) == []


def test_recheck_asks_a_share_of_what_looks_unchanged() -> None:
    """
    About the given share of many Datasets is rechecked each day, another one every day, and the
    same one however often it is asked.
    """
    policy, yesterday = FetchPolicy(recheck=0.2), NOW - timedelta(days=1)

    def rechecked(now: datetime) -> set[int]:
        return {
            number
            for number in range(5000)
            if decide(
                found(), stored(at=now - timedelta(days=1), dataset_id=str(number)), policy, now=now
            )
        }

    today = rechecked(NOW)
    assert today == rechecked(NOW) == rechecked(NOW.replace(hour=23))
    assert 0.18 < len(today) / 5000 < 0.22
    assert 0.02 < len(today & rechecked(yesterday)) / 5000 < 0.06  # 0.2 * 0.2


def test_recheck_asks_at_most_once_a_day() -> None:
    """
    What was asked for since midnight, UTC, is not rechecked today.
    """
    policy, midnight = FetchPolicy(recheck=1.0), NOW.replace(hour=0)

    assert decide(found(), stored(at=midnight), policy) == []
    before = stored(at=midnight - timedelta(microseconds=1))
    assert decide(found(), before, policy) == [("recheck", True)]


@given(st.floats(0, 1), st.floats(0, 1), st.integers(0, 10**6))
def test_a_greater_share_holds_a_smaller_one(one: float, other: float, number: int) -> None:
    """
    Raising the share only ever adds Datasets.
    """
    yesterday = stored(at=NOW - timedelta(days=1), dataset_id=str(number))
    less, more = (
        bool(decide(found(), yesterday, FetchPolicy(recheck=share)))
        for share in sorted((one, other))
    )
    assert more or not less


def test_nothing_and_everything_are_shares() -> None:
    """
    A share of 0 rechecks nothing, and one of 1 everything.
    """
    old = stored(at=NOW - timedelta(days=400))
    assert decide(found(), old, FetchPolicy(recheck=0)) == []
    assert decide(found(), old, FetchPolicy(recheck=1)) == [("recheck", True)]


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_what_is_no_share_is_refused(share: float) -> None:
    """
    A share lies between 0 and 1, and an age is not negative.
    """
    with pytest.raises(ConfigError):
        FetchPolicy(recheck=share)
    with pytest.raises(ConfigError):
        FetchPolicy(refetch_after=timedelta(seconds=-1))


def test_lists_are_looked_at_when_something_in_them_may_be_due() -> None:
    """
    Force and recheck look at lists that have not changed; an age is the Catalog's to judge.
    """
    assert not FetchPolicy().must_list(forced=False)
    assert not FetchPolicy(refetch_after=timedelta(days=1)).must_list(forced=False)
    assert FetchPolicy().must_list(forced=True)
    assert FetchPolicy(recheck=0.01).must_list(forced=False)


class WhenComplete(FetchPolicy):
    """Leaves alone what is not complete, unless its Source says that it is urgent."""

    def decide(
        self, found: DatasetResource, stored: Stored | None, *, now: datetime, forced: bool
    ) -> Fetch | Skip:
        if not found.state.is_complete and not found.fetch_policy_config.get("urgent"):
            return Skip("not complete")
        return super().decide(found, stored, now=now, forced=forced)


def test_a_subclass_may_decide_otherwise() -> None:
    """
    A policy of one's own decides by anything that is found, such as what a Source tells it alone.
    """
    policy, scheduled = WhenComplete(), DatasetState.SCHEDULED

    assert decide(found(state=scheduled), None, policy) == []
    assert decide(found(state=scheduled, config={"urgent": True}), None, policy) == [("new", False)]
    assert decide(found(), None, policy) == [("new", False)]


class Announced(WhenComplete):
    """Wants nothing that its list does not tell."""

    def must_list(self, *, forced: bool) -> bool:
        return forced


def test_a_subclass_that_decides_looks_at_every_list() -> None:
    """
    Who decides for itself may want something that no list tells, unless it says otherwise.
    """
    assert WhenComplete().must_list(forced=False)
    assert not Announced().must_list(forced=False)
    assert Announced().must_list(forced=True)


def test_policies_that_decide_alike_have_equal_fingerprints() -> None:
    """
    Class and settings make a policy's fingerprint.
    """
    assert FetchPolicy().fingerprint == FetchPolicy().fingerprint
    others = [
        WhenComplete(),
        FetchPolicy(recheck=0.1),
        FetchPolicy(refetch_after=timedelta(days=1)),
    ]
    assert len({each.fingerprint for each in [FetchPolicy(), *others]}) == 4
