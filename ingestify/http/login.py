"""The credentials of one Source: fetched before they are needed, renewed once when refused."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio

from ingestify.errors import (
    FetchError,
    IngestifyError,
    RefusedError,
    RunError,
    StopProcessing,
    TransientFetchError,
    text_of,
)
from ingestify.model.http import Auth
from ingestify.ports import Source
from ingestify.strays import StrayIsError

UNACCEPTED = frozenset({401, 403, 407})  # what a provider answers to credentials it refuses
NO_ANSWER = (TransientFetchError, StopProcessing, RunError)  # these say nothing about credentials


class Login:
    """Knows a Source's present credentials. However many ask, one login is made at a time.

    A login that is refused is not tried again: a few wrong passwords in a row lock many an
    account. Whoever needs it afterwards meets the same refusal, and the provider is not asked.
    """

    def __init__(self, source: Source, ask: Callable[[], Awaitable[Auth | None]]) -> None:
        self.auth: Auth = source.auth
        self.generation = 0  # of the credentials; grows with every login
        self._ask = ask
        self.is_due = type(source).login is not Source.login  # before the first request
        self._accepted = 0  # the newest generation that the provider has accepted
        self._refusal: tuple[str, int | None] | None = None  # text and status
        self._lock = anyio.Lock(fast_acquire=True)

    async def prepare(self) -> None:
        """Log in before the first request, where the Source wants that.

        Raises:
            RefusedError: a login was refused, now or before.
            TransientFetchError: the login failed in a way that may pass.
        """
        if not self.is_due:
            return
        async with self._lock:
            if self.is_due:
                await self._log_in()
                self.is_due = False

    def answered(self, generation: int, status: int) -> None:
        """A request with the credentials of *generation* was answered."""
        if generation > self._accepted and status not in UNACCEPTED:
            self._accepted = generation

    async def renew(self, refused: int) -> bool:
        """Replace the credentials of generation *refused*, unless somebody just did.

        Returns whether there are newer ones. Fresh credentials that never were accepted are not
        replaced: the next ones would be refused, too.

        Raises:
            RefusedError: a login was refused, now or before.
            TransientFetchError: the login failed in a way that may pass.
        """
        async with self._lock:
            if self.generation > refused:
                return True
            if self.generation > self._accepted:
                return False
            return await self._log_in()

    async def _log_in(self) -> bool:
        if self._refusal is not None:
            text, status = self._refusal
            raise RefusedError(text, status=status)
        try:
            with StrayIsError("login"):
                auth = await self._ask()
        except NO_ANSWER:
            raise
        except Exception as exc:  # whatever a Source makes of an answer that it did not want
            self._refusal = _told(exc), getattr(exc, "status", None)
            raise
        if auth is None:
            return False
        self.auth = auth
        self.generation += 1
        return True


def _told(exc: Exception) -> str:
    """What is said to those who come after *exc*, without a trace tied to it."""
    text = text_of(exc)
    if isinstance(exc, FetchError):
        return text
    kind = "" if isinstance(exc, IngestifyError) else f"{type(exc).__name__}: "
    return f"the login failed: {kind}{text}"
