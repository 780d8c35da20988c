"""Looking after a MemoryCatalog: its Files, what is damaged, and what is deleted."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime

import msgspec

from ingestify.adapters.catalog.memory_datasets import Datasets, KeptDataset, utc
from ingestify.adapters.catalog.memory_runs import Runs
from ingestify.model.catalog import DatasetQuery, Deleted, KeptFile
from ingestify.model.dataset import Suspicion
from ingestify.model.event import EventType


class Upkeep:
    """What is done to all Files at once."""

    def __init__(self, datasets: Datasets, runs: Runs) -> None:
        self.catalog_id = secrets.token_hex(16)
        self.doomed: set[str] = set()
        self._datasets = datasets
        self._runs = runs

    def kept_files(self, query: DatasetQuery, *, after: int = 0) -> Sequence[KeptFile]:
        """Every File of what *query* finds, by row id."""
        found = [each for kept in self._datasets.find(query) for each in _files_of(kept)]
        return sorted((each for each in found if each.row_id > after), key=lambda f: f.row_id)

    def mark(self, *, damaged: Iterable[int], sound: Iterable[int]) -> None:
        """Mark current Files as damaged, or as sound again."""
        marks = dict.fromkeys(damaged, Suspicion.DAMAGED) | dict.fromkeys(sound, Suspicion.NONE)
        for kept in self._datasets.by_row.values():
            for each in _files_of(kept):
                check, mark = kept.checks[each.file.key], marks.get(each.row_id)
                is_new = mark is not Suspicion.NONE or check.suspect is Suspicion.DAMAGED
                if mark is not None and each.is_current and is_new:
                    changed = msgspec.structs.replace(check, suspect=mark)
                    kept.checks[each.file.key] = changed
                    kept.agreement = (None, 0)

    def referenced(self, paths: Iterable[str]) -> AbstractSet[str]:
        """Those of *paths* that a File has."""
        known = {file.path for kept in self._datasets.by_row.values() for file in kept.files()}
        return known.intersection(paths)

    def delete(self, query: DatasetQuery, *, at: datetime) -> Deleted:
        """Remove what *query* finds, and remember which bytes have to go."""
        utc(at)
        files = size = 0
        found = list(self._datasets.find(query))
        for kept in found:
            for file in kept.files():
                self.doomed.add(file.path)
                files, size = files + 1, size + file.stored_size
            self._datasets.tell(
                EventType.DATASET_DELETED, kept, at=at, revision=kept.shown.revision
            )
            self._runs.forget_dataset(kept.shown.row_id)
            self._datasets.forget(kept)
        return Deleted(datasets=len(found), files=files, bytes=size)


def _files_of(kept: KeptDataset) -> Iterator[KeptFile]:
    shown = kept.shown
    for file in kept.files():
        is_current = kept.current.get(file.key) is file
        is_suspect = kept.checks[file.key].suspect is Suspicion.DAMAGED
        yield KeptFile(
            row_id=kept.file_ids[file.revision, file.key],
            dataset_row_id=shown.row_id,
            dataset_id=shown.dataset_id,
            bucket=kept.identity[0],
            provider=shown.provider,
            dataset_type=shown.dataset_type,
            identifier_key=kept.identity[4] or "",
            name=shown.name,
            is_current=is_current,
            is_damaged=is_current and is_suspect,
            file=file,
        )
