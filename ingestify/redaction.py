"""Takes the known secrets out of texts that people will read."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus

from ingestify.errors import IngestifyError

SHORTEST = 4  # shorter ones would black out words that have nothing to do with them
MASK = "***"


class Redactor:
    """Knows the secrets of one Source, in all the forms in which they travel."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets: set[str] = set()
        self._pattern: re.Pattern[str] | None = None
        self._last: tuple[str, ...] = ()
        self.learn(tuple(secrets))

    def learn(self, secrets: tuple[str, ...]) -> None:
        """Know these, too: values of headers and parameters, and userinfo."""
        if secrets == self._last:  # nearly always: this is called for every request
            return
        self._last = secrets
        known = {form for secret in secrets for form in _forms(secret) if len(form) >= SHORTEST}
        if known <= self._secrets:
            return
        self._secrets |= known
        longest_first = sorted(self._secrets, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)))

    def holds_secret(self, text: str) -> bool:
        """Whether a known secret stands in *text*."""
        return self._pattern is not None and self._pattern.search(text) is not None

    def redact(self, text: str) -> str:
        """*text* with every known secret replaced."""
        return text if self._pattern is None else self._pattern.sub(MASK, text)

    def clean(self, error: IngestifyError) -> None:
        """Take the secrets out of the text of *error*, and of what led to it."""
        seen: set[int] = set()
        step: BaseException | None = error
        while step is not None and id(step) not in seen:
            seen.add(id(step))
            if any(isinstance(arg, str) and self.holds_secret(arg) for arg in step.args):
                step.args = tuple(
                    self.redact(arg) if isinstance(arg, str) else arg for arg in step.args
                )
            step = step.__cause__ or step.__context__


def _forms(secret: str) -> Iterator[str]:
    yield from (secret, quote(secret, safe=""), quote(secret), quote_plus(secret))
    scheme, _, rest = secret.partition(" ")
    if rest:  # "Bearer abc", "Basic abc"
        yield from _forms(rest)
    if scheme.lower() == "basic":
        try:
            pair = base64.b64decode(rest, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            return
        yield from _forms(pair)
        yield from _forms(pair.partition(":")[2])
