"""What a plan can be told without asking the provider: that its Source has no such thing."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from ingestify.errors import ConfigError
from ingestify.model.selector import no_such_name
from ingestify.plugins.objects import near
from ingestify.ports import Source

if TYPE_CHECKING:
    from ingestify.config.sections import PlanConfig


def check_plan(source: Source, plan: PlanConfig, identifier_keys: Collection[str]) -> None:
    """See that *plan* asks for what *source* declares.

    Raises:
        ConfigError: it has no such dataset type or feed, or its Selectors no such name.
    """
    check_data_feeds(source, plan)
    if source.selector_keys is None:
        return
    known = {*source.selector_keys, *identifier_keys}
    for pattern in plan.selectors:
        for name in (*pattern.exact, *pattern.comparisons):
            if name not in known:
                raise _wrong(plan, f"selectors: {no_such_name(name, known)}")


def check_data_feeds(source: Source, plan: PlanConfig) -> None:
    """See that *source* has what *plan* names, where it says what it has.

    Raises:
        ConfigError: there is no such dataset type, or no such feed.
    """
    types = source.data_spec_versions
    if not types:
        return
    if plan.dataset_type not in types:
        raise _wrong(plan, _nothing_called("dataset type", plan.dataset_type, list(types)))
    feeds = list(types[plan.dataset_type])
    for feed in plan.data_spec_versions:
        if feed not in feeds:
            raise _wrong(plan, f"data_spec_versions: {_nothing_called('feed', feed, feeds)}")


def _nothing_called(what: str, name: str, known: list[str]) -> str:
    hint = near(name, known) or f"; there are: {', '.join(known)}"
    return f'there is no {what} "{name}"{hint}'


def _wrong(plan: PlanConfig, text: str) -> ConfigError:
    return ConfigError(f"ingestion_plans: {plan.source}, {plan.dataset_type}: {text}")
