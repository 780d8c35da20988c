"""A ration: so many requests may be made of one provider, whatever they are for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from types import TracebackType

from ingestify.errors import StopProcessing
from ingestify.ports import Response
from ingestify.throttle import Turn


class RationUsedUpError(StopProcessing):
    """All requests that there were for this have been made."""

    code = "ration"


class Ration:
    """An `Allowance` of so many requests: retries, redirects and logins are among them."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.used = 0
        self._upto = most

    @property
    def left(self) -> int:
        """How many more may be made now."""
        return self._upto - self.used

    @contextmanager
    def part(self, requests: int) -> Iterator[None]:
        """No more than so many of them may be made inside of this context."""
        before = self._upto
        self._upto = min(before, self.used + max(0, requests))
        try:
            yield
        finally:
            self._upto = before

    def paid(
        self, turn: AbstractAsyncContextManager[Turn], *, may_wait: bool
    ) -> AbstractAsyncContextManager[Turn]:
        """See `Allowance.paid`."""
        return _Paid(self, turn)

    def counting(self, response: Response) -> Response:
        """See `Allowance.counting`. Bytes are not rationed."""
        return response


class _Paid:
    """A turn that is paid for when it is waited for, and given back where nothing was sent."""

    def __init__(self, ration: Ration, turn: AbstractAsyncContextManager[Turn]) -> None:
        self._ration = ration
        self._turn = turn

    async def __aenter__(self) -> Turn:
        ration = self._ration
        if ration.left < 1:
            raise RationUsedUpError(f"all of the {ration.most} requests are used")
        ration.used += 1
        try:
            return await self._turn.__aenter__()
        except BaseException:
            ration.used -= 1
            raise

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        return await self._turn.__aexit__(exc_type, exc, traceback)
