"""A Source that offers what a test says, without a provider behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ingestify.model.dataset import DatasetState
from ingestify.model.identity import Value
from ingestify.model.resource import DatasetResource, DataSpecVersions, PostLoadHook
from ingestify.model.selector import Selector
from ingestify.ports import Http, Source


@dataclass(slots=True, kw_only=True)
class Offer:
    """One Dataset that a `FakeSource` offers. Change it, and the provider has changed."""

    identifier: Mapping[str, Value]
    files: dict[str, bytes | str] = field(default_factory=dict)  # by feed: content, or a URL
    token: str | None = None
    name: str = "a dataset"
    state: DatasetState = DatasetState.COMPLETE
    metadata: dict[str, Any] = field(default_factory=dict)
    optional: bool = False
    post_load_files: PostLoadHook | None = None

    def resource(self, versions: DataSpecVersions) -> DatasetResource:
        """What a Source yields for it: every feed in every version that is wanted."""
        resource = DatasetResource(
            dataset_resource_id=self.identifier,
            name=self.name,
            state=self.state,
            metadata=self.metadata,
            post_load_files=self.post_load_files,
        )
        for feed, where in self.files.items():
            for version in versions.get(feed, ("v1",)):
                resource.add_file(
                    feed,
                    version,
                    url=where if isinstance(where, str) else None,
                    content=where if isinstance(where, bytes) else None,
                    token=self.token,
                    optional=self.optional,
                )
        return resource


class FakeSource(Source):
    """Offers the Datasets in `offers`, by Selector.

    Args:
        offers: for each Selector what it lists. Callables are called when they are reached.
    """

    provider = "fake"

    def __init__(
        self,
        offers: Mapping[Selector, Sequence[Offer | Callable[[], Any]]],
        *,
        name: str = "fake",
        base_url: str = "http://fake.invalid/",
    ) -> None:
        super().__init__(name, base_url=base_url)
        self.offers = dict(offers)
        self.yielded = 0
        self.open_generators = 0

    async def discover_selectors(self, dataset_type: str, *, http: Http) -> AsyncIterator[Selector]:
        for selector in self.offers:
            yield selector

    async def discover_datasets(
        self,
        dataset_type: str,
        selector: Selector,
        *,
        data_spec_versions: DataSpecVersions,
        state: dict[str, Any],
        http: Http,
    ) -> AsyncIterator[DatasetResource]:
        self.open_generators += 1
        try:
            for offer in self.offers[selector]:
                if isinstance(offer, Offer):
                    self.yielded += 1
                    yield offer.resource(data_spec_versions)
                elif (result := offer()) is not None:
                    yield result
        finally:
            self.open_generators -= 1
