"""The work on one Dataset, from the decision to its outcome."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec

from ingestify.model.catalog import CheckedFile, DatasetCommit, FailureCommit, StagedFile
from ingestify.model.dataset import FileKey, Stored
from ingestify.model.resource import DatasetResource
from ingestify.pipeline.body import EncodedBody
from ingestify.pipeline.claims import Claim
from ingestify.pipeline.selector_run import SelectorRun
from ingestify.policy import Ask


def details_hash(name: str, state: str, metadata: bytes) -> str:
    """Equal for equal name, state and metadata: tells whether a Dataset's row has to change."""
    digest = hashlib.blake2b(metadata, digest_size=12)
    digest.update(f"\0{state}\0{name}".encode(errors="surrogatepass"))
    return digest.hexdigest()


@dataclass(slots=True, kw_only=True)
class Task:
    """One Dataset to look after: the Files to ask for, or its row alone."""

    selector_run: SelectorRun
    claim: Claim
    resource: DatasetResource
    stored: Stored | None
    asks: Sequence[Ask]
    reason: str
    metadata: bytes
    details_hash: str
    agreement: bytes | None = None  # a digest of what was found, if all of it is asked for

    def agreed(self, files: Sequence[CheckedFile]) -> bytes | None:
        """What may be relied on once *files* are committed: that all was asked for as it was
        found. A Source may have fetched less, or something else."""
        if self.agreement is None:
            return None
        tokens = {file.key: file.token for file in files}
        is_all = all(
            ask.file.key in tokens and tokens[ask.file.key] == ask.file.token for ask in self.asks
        )
        return self.agreement if is_all else None

    def failed(
        self, code: str, message: str, *, stage: str, at: datetime, key: FileKey | None = None
    ) -> FailureCommit:
        """That it failed, at the File called *key* or as a whole."""
        run = self.selector_run
        failure = run.failure(
            code,
            message,
            name=self.resource.name,
            key=self.claim.key,
            feed=key[0] if key else None,
        )
        return FailureCommit(
            bucket=run.bucket,
            stage=stage,
            failure=msgspec.structs.replace(failure, failed_at=at),
            files=[key] if key else [ask.file.key for ask in self.asks],
            selector_run_id=run.selector_run_id,
        )


@dataclass(slots=True, kw_only=True)
class NewBytes:
    """A File's bytes, staged and not yet published."""

    staged: StagedFile
    body: EncodedBody
    format: str
    content_type: str | None
    restores: str | None = None  # the path of damaged bytes that these are to stand in for


@dataclass(slots=True, kw_only=True)
class Finished:
    """A Task whose outcome is known and has to be committed.

    `commit` says everything but where the new bytes lie: they get their places when published.
    """

    task: Task
    commit: DatasetCommit | FailureCommit
    new: dict[FileKey, NewBytes]
