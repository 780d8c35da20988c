"""DatasetStore: the reading side of the lake."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from importlib.metadata import entry_points
from typing import Any, TypeAlias

import msgspec
from anyio import to_thread

from ingestify.errors import LoadError, StoreError
from ingestify.model.catalog import DatasetQuery
from ingestify.model.dataset import Dataset, DatasetState, File, Revision
from ingestify.model.identity import Value
from ingestify.pipeline.body import decode_bytes, decoded
from ingestify.ports import Catalog, Clock, FileStore

KLOPPY_LOADERS = "ingestify.kloppy_loaders"
PAGE = 1000

KloppyLoader: TypeAlias = Callable[
    ..., Any
]  # (dataset, {feed: bytes}, **options) -> a kloppy Dataset


class DatasetCollection(Sequence[Dataset]):
    """Datasets as they were found, in the order in which the lake got them."""

    def __init__(self, datasets: Sequence[Dataset]) -> None:
        self._datasets = tuple(datasets)

    def first(self) -> Dataset | None:
        """The first one, or None where there is none."""
        return self._datasets[0] if self._datasets else None

    def __len__(self) -> int:
        return len(self._datasets)

    def __getitem__(self, index: Any) -> Any:
        found = self._datasets[index]
        return DatasetCollection(found) if isinstance(index, slice) else found

    def __repr__(self) -> str:
        return f"DatasetCollection({len(self)} datasets)"


class StoredContent:
    """One File of the lake and a way to its bytes, which are read when asked for."""

    def __init__(self, file: File, files: FileStore, *, of: str = "") -> None:
        self.file = file
        self._files = files
        self._of = of  # what people call its Dataset

    @property
    def data_feed_key(self) -> str:
        """Which feed it is, such as ``events``."""
        return self.file.data_feed_key

    @property
    def data_spec_version(self) -> str:
        """Which version of the feed it is."""
        return self.file.data_spec_version

    def open(self) -> AsyncIterator[bytes]:
        """The provider's bytes, in chunks.

        Raises:
            StoreError: they cannot be read.
        """
        return self._explained(decoded(self._files.open(self.file.path), self.file.codec))

    async def read_bytes(self) -> bytes:
        """The provider's bytes, all of them.

        Raises:
            StoreError: they cannot be read.
        """
        try:
            stored = await self._files.read(self.file.path)
            if len(stored) < 64 * 1024:
                return decode_bytes(stored, self.file.codec)
            return await to_thread.run_sync(decode_bytes, stored, self.file.codec)
        except StoreError as exc:
            raise self._explain(exc) from exc

    async def read_json(self) -> Any:
        """The File as JSON, integers exact.

        Raises:
            StoreError: it cannot be read, or is no JSON.
        """
        try:
            return msgspec.json.decode(await self.read_bytes())
        except msgspec.DecodeError as exc:
            raise StoreError(f"{self.file.path} is no JSON: {exc}") from exc

    async def _explained(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        try:
            async for chunk in chunks:
                yield chunk
        except StoreError as exc:
            raise self._explain(exc) from exc

    def _explain(self, exc: StoreError) -> StoreError:
        """*exc*, with what it is about, and the way out."""
        feed, version = self.file.key
        place = f"{self._of}: " if self._of else ""
        return type(exc)(
            f"{place}{feed} {version} of revision {self.file.revision}: {exc}."
            " `ingestify verify --repair` fetches what is damaged again"
        )

    def __repr__(self) -> str:
        return f"StoredContent({self.file.data_feed_key} {self.file.data_spec_version})"


class FileCollection(Sequence[StoredContent]):
    """The Files of one Dataset."""

    def __init__(self, contents: Sequence[StoredContent]) -> None:
        self._contents = tuple(contents)

    def get_file(self, data_feed_key: str, data_spec_version: str | None = None) -> StoredContent:
        """The File of that feed; of its last version, unless one is named.

        Raises:
            LoadError: there is none.
        """
        for content in reversed(self._contents):
            is_version = data_spec_version in (None, content.data_spec_version)
            if content.data_feed_key == data_feed_key and is_version:
                return content
        present = ", ".join(sorted({each.data_feed_key for each in self._contents})) or "none"
        raise LoadError(f"there is no {data_feed_key} among the files; there is: {present}")

    def __len__(self) -> int:
        return len(self._contents)

    def __getitem__(self, index: Any) -> Any:
        return self._contents[index]

    def __iter__(self) -> Iterator[StoredContent]:
        return iter(self._contents)


class DatasetStore:
    """Finds Datasets in the lake and reads their Files. Safe to use while a Run goes on."""

    def __init__(
        self, catalog: Catalog, files: FileStore, clock: Clock, *, default_bucket: str
    ) -> None:
        self._catalog = catalog
        self._files = files
        self._clock = clock
        self._default_bucket = default_bucket

    def query(
        self,
        *,
        bucket: str | None = None,
        stage: str | None = "raw",
        provider: str | None = None,
        dataset_type: str | None = None,
        dataset_id: str | None = None,
        dataset_state: DatasetState | str | Sequence[DatasetState | str] = (),
        metadata: Mapping[str, Value | Sequence[Value]] | None = None,
        **identifier: Value | Sequence[Value],
    ) -> DatasetQuery:
        """What to look for. Every argument narrows; a list admits any of its values.

        Raises:
            ValueError: there is no such state.
        """
        states = [dataset_state] if isinstance(dataset_state, str) else dataset_state
        return DatasetQuery(
            bucket=bucket or self._default_bucket,
            stage=stage,
            provider=provider,
            dataset_type=dataset_type,
            dataset_id=dataset_id,
            states=[DatasetState(state) for state in states],
            identifier=identifier,
            metadata=metadata or {},
        )

    async def get_dataset_collection(self, **filters: Any) -> DatasetCollection:
        """Every Dataset that fulfils *filters* (see `query`), in the order of their creation."""
        return DatasetCollection([dataset async for dataset in self.iter_datasets(**filters)])

    async def iter_datasets(self, **filters: Any) -> AsyncIterator[Dataset]:
        """The same, one by one; memory does not grow with their number."""
        query, after = self.query(**filters), 0
        while page := await self._catalog.find(query, after=after, limit=PAGE):
            for dataset in page:
                yield dataset
            after = page[-1].row_id

    async def count(self, **filters: Any) -> int:
        """How many Datasets fulfil *filters*."""
        return await self._catalog.count(self.query(**filters))

    async def revisions(self, dataset: Dataset) -> Sequence[Revision]:
        """Every Revision of *dataset*, oldest first, each with the Files that it changed."""
        return await self._catalog.revisions(dataset.row_id)

    async def invalidate_revisions(self, *, reason: str, **filters: Any) -> int:
        """Mark the newest Revision of every Dataset found as failed in validation.

        Their Files are asked for again, unconditionally, at the next Run. Returns how many
        were marked.
        """
        return await self._catalog.invalidate(
            self.query(**filters), reason=reason, at=self._clock.now()
        )

    async def load_files(
        self, dataset: Dataset, *, data_feed_keys: Sequence[str] | None = None
    ) -> FileCollection:
        """The newest Files of *dataset*, or of some feeds; bytes are read when asked for."""
        return FileCollection(
            [
                StoredContent(file, self._files, of=_name_of(dataset))
                for file in dataset.files
                if data_feed_keys is None or file.data_feed_key in data_feed_keys
            ]
        )

    def content(self, file: File) -> StoredContent:
        """A way to the bytes of *file*, such as one of an older Revision."""
        return StoredContent(file, self._files)

    async def load_with_kloppy(self, dataset: Dataset, **options: Any) -> Any:
        """*dataset* as kloppy has it, parsed in a thread. *options* go to the provider's loader.

        Raises:
            LoadError: nobody knows how, kloppy is not installed, or a feed is missing.
            StoreError: a File cannot be read.
        """
        load = _kloppy_loader(dataset.provider)
        files = {
            content.data_feed_key: await content.read_bytes()
            for content in await self.load_files(dataset)
        }
        return await to_thread.run_sync(lambda: load(dataset, files, **options))


def _name_of(dataset: Dataset) -> str:
    identifier = "/".join(f"{name}={value}" for name, value in dataset.identifier.items())
    return f"{dataset.provider} {dataset.dataset_type} {identifier} ({dataset.name})"


def _kloppy_loader(provider: str) -> KloppyLoader:
    found = {point.name: point for point in entry_points(group=KLOPPY_LOADERS)}
    if provider not in found:
        known = ", ".join(sorted(found)) or "none"
        raise LoadError(f"nobody knows how to load {provider} with kloppy; known: {known}")
    loader: KloppyLoader = found[provider].load()
    return loader
