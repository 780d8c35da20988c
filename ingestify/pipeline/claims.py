"""Who works on what in this Run: the same Dataset met twice is fetched once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from ingestify.model.dataset import FileKey

Settled: TypeAlias = Callable[[int | None, bool], None]  # row id if there is one, has it succeeded


CHUNK_BITS = 13  # row ids that share a chunk of bits: 8,192, which take a kilobyte


class RowIds:
    """A set of row ids that costs a bit for each where they are dense, as they mostly are."""

    def __init__(self) -> None:
        self._chunks: dict[int, bytearray] = {}

    def add(self, row_id: int) -> None:
        """Put *row_id* in."""
        chunk = self._chunks.get(row_id >> CHUNK_BITS)
        if chunk is None:
            chunk = self._chunks[row_id >> CHUNK_BITS] = bytearray(1 << CHUNK_BITS - 3)
        at = row_id & (1 << CHUNK_BITS) - 1
        chunk[at >> 3] |= 1 << (at & 7)

    def __contains__(self, row_id: int) -> bool:
        chunk = self._chunks.get(row_id >> CHUNK_BITS)
        at = row_id & (1 << CHUNK_BITS) - 1
        return chunk is not None and bool(chunk[at >> 3] >> (at & 7) & 1)

    def __iter__(self) -> Iterator[int]:
        """Ascending."""
        for number, chunk in sorted(self._chunks.items()):
            for index, byte in enumerate(chunk):
                while byte:
                    low = byte & -byte
                    yield (number << CHUNK_BITS) + (index << 3) + low.bit_length() - 1
                    byte ^= low


class Claim:
    """The right and duty to look after one Dataset, held until it is settled."""

    __slots__ = ("_claims", "files", "key")

    def __init__(self, claims: Claims, key: str, files: frozenset[FileKey]) -> None:
        self._claims = claims
        self.key = key
        self.files = files

    def settle(self, row_id: int | None, *, succeeded: bool, is_new: bool = False) -> None:
        """The work is done, or has failed for this Run; those who wait are told."""
        self._claims.settle(self, row_id, succeeded=succeeded, is_new=is_new)


class Claims:
    """All claims of a Run on the Datasets of one bucket, provider and dataset type.

    What is settled is remembered by row id where there is one, so a million Datasets cost a bit
    each. Those that are new in this Run are remembered by key as long as somebody may have looked
    for them in the Catalog before they were there.
    """

    def __init__(self) -> None:
        self._open: dict[str, list[Claim]] = {}
        self._waiting: dict[str, list[Settled]] = {}
        self._met: dict[frozenset[FileKey], RowIds] = {}
        self._new: dict[str, int] = {}
        self._looking = 0
        self._failed: dict[str, frozenset[FileKey]] = {}

    @contextmanager
    def looking(self) -> Iterator[None]:
        """From before Datasets are looked for in the Catalog until what was found is used."""
        self._looking += 1
        try:
            yield
        finally:
            self._looking -= 1
            if not self._looking and self._new:
                self._new = {key: row for key, row in self._new.items() if key in self._open}

    def missing(
        self, key: str, row_id: int | None, files: frozenset[FileKey]
    ) -> frozenset[FileKey] | None:
        """Which of *files* nobody has claimed; None when the Dataset has not been met at all."""
        claimed: set[FileKey] = set()
        met = False
        for claim in self._open.get(key, ()):
            met = True
            claimed |= claim.files
        if key in self._failed:
            met = True
            claimed |= self._failed[key]
        row_id = row_id if row_id is not None else self._new.get(key)
        if row_id is not None:
            for known, rows in self._met.items():
                if row_id in rows:
                    met = True
                    claimed |= known
        return files - claimed if met else None

    def meet_first(self, key: str, row_id: int, files: frozenset[FileKey]) -> bool:
        """Remember a stored Dataset that needs no work, if it has not been met in any way."""
        if key in self._open or key in self._failed:
            return False
        for rows in self._met.values():
            if row_id in rows:
                return False
        self.meet(row_id, files)
        return True

    def meet(self, row_id: int, files: frozenset[FileKey]) -> None:
        """Remember a stored Dataset that needs no work."""
        rows = self._met.get(files)
        if rows is None:
            rows = self._met[files] = RowIds()
        rows.add(row_id)

    def open(self, key: str, files: frozenset[FileKey]) -> Claim:
        """Claim *files* of the Dataset called *key*."""
        claim = Claim(self, key, files)
        self._open.setdefault(key, []).append(claim)
        return claim

    def wait(self, key: str, row_id: int | None, settled: Settled) -> None:
        """Call *settled* once all that is claimed of *key* is settled; at once if it is."""
        if key in self._open:
            self._waiting.setdefault(key, []).append(settled)
        else:
            row_id = row_id if row_id is not None else self._new.get(key)
            settled(row_id, key not in self._failed)

    def settle(self, claim: Claim, row_id: int | None, *, succeeded: bool, is_new: bool) -> None:
        """Remember what came of *claim*, and tell those who wait if it was the last one."""
        if not succeeded:
            self._failed[claim.key] = self._failed.get(claim.key, frozenset()) | claim.files
        elif row_id is not None:
            self.meet(row_id, claim.files)
            if is_new:
                self._new[claim.key] = row_id
        claims = self._open[claim.key]
        claims.remove(claim)
        if not claims:
            del self._open[claim.key]
            for settled in self._waiting.pop(claim.key, ()):
                self.wait(claim.key, row_id, settled)
            if not self._looking:
                self._new.pop(claim.key, None)
