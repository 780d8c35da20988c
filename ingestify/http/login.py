"""The credentials of one Source: fetched before they are needed, renewed once when refused."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio

from ingestify.model.http import Auth
from ingestify.ports import Source


class Login:
    """Knows a Source's present credentials. However many ask, one login is made at a time."""

    def __init__(self, source: Source, ask: Callable[[], Awaitable[Auth | None]]) -> None:
        self.auth: Auth = source.auth
        self.generation = 0  # of the credentials; grows with every login
        self._ask = ask
        self._is_due = type(source).login is not Source.login
        self._accepted = 0  # the newest generation that the provider has accepted
        self._lock = anyio.Lock(fast_acquire=True)

    async def prepare(self) -> None:
        """Log in before the first request, where the Source wants that."""
        if not self._is_due:
            return
        async with self._lock:
            if self._is_due:
                await self._log_in()
                self._is_due = False

    def accepted(self, generation: int) -> None:
        """A request with the credentials of *generation* was not refused."""
        if generation > self._accepted:
            self._accepted = generation

    async def renew(self, refused: int) -> bool:
        """Replace the credentials of generation *refused*, unless somebody just did.

        Returns whether there are newer ones. Fresh credentials that never were accepted are not
        replaced: the next ones would be refused, too.
        """
        async with self._lock:
            if self.generation > refused:
                return True
            if self.generation > self._accepted:
                return False
            return await self._log_in()

    async def _log_in(self) -> bool:
        auth = await self._ask()
        if auth is None:
            return False
        self.auth = auth
        self.generation += 1
        return True
