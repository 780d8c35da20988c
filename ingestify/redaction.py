"""Takes the known secrets out of texts that people will read, and out of what is kept.

Two kinds are told apart. *Secrets* are all that a configuration hides, be it a password or the
name of a league that came from the environment: they are taken out of messages. *Credentials* are
what is sent to prove who we are: they are taken out of data, too, which may well speak of leagues.
"""

from __future__ import annotations

import base64
import binascii
import re
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar
from urllib.parse import unquote

T = TypeVar("T")

SHORTEST = 4  # shorter ones would black out words that have nothing to do with them
SHORTEST_IN_DATA = 12  # shorter credentials may well be words of the data
SHORTEST_PART = 8  # of a header's value, such as a cookie's
MASK = "***"
ESCAPED = "\"'/"  # may stand after a backslash, in JSON or in a repr
REST_OF_WORD = r"""[^\s"'<>&,;]*"""
ALIKE = re.compile(r"[A-Za-z0-9]*")
CONTROLS = {"\n": "n", "\r": "r", "\t": "t"}


class Redactor:
    """Knows the secrets of one Source, in all the forms in which they travel."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets: set[str] = set()
        self._credentials: set[str] = set()
        self._in_texts = Finder()
        self._in_data = Finder()
        self._last: tuple[str, ...] = ()
        self.learn(secrets)

    def learn(self, secrets: Iterable[str]) -> None:
        """Know these, too, as what no message may hold."""
        parts = {part for secret in secrets for part in _parts(secret) if len(part) >= SHORTEST}
        if new := parts - self._secrets:
            self._secrets |= new
            self._in_texts.add(Forms(new))

    def learn_credentials(self, credentials: tuple[str, ...]) -> None:
        """Know these, too, as what is kept nowhere: header values, parameters and userinfo.

        A Run may renew them many times, and all of them stay known: only new ones cost anything.
        """
        if credentials == self._last:  # nearly always: this is called for every request
            return
        self._last = credentials
        parts = {part for each in credentials for part in _parts(each)}
        known = {part for part in parts if len(part) >= SHORTEST_IN_DATA}
        if new := known - self._credentials:
            self._credentials |= new
            self._secrets |= new
            forms = Forms(new)
            beginnings = {each[: max(SHORTEST_PART, len(each) // 4)] for each in new}
            self._in_data.add(forms)
            self._in_texts.add(forms, cut=Forms(beginnings, REST_OF_WORD))
        self.learn(credentials)  # their short parts

    def holds_secret(self, text: str) -> bool:
        """Whether a known secret stands in *text*."""
        return self._in_texts.is_in(text)

    def holds_credential(self, text: str) -> bool:
        """Whether a known credential stands in *text*, which is to be kept."""
        return self._in_data.is_in(text)

    def redact(self, text: str) -> str:
        """*text* with every known secret replaced."""
        return self._in_texts.mask(text)

    def conceal(self, value: T) -> T:
        """*value*, as JSON has it, with every known credential in its texts replaced.

        So is a number in which one stands.
        """
        return value if self._in_data.is_idle else _without(self._in_data, value)

    def clean(self, error: BaseException) -> None:
        """Take the secrets out of the text of *error*, and of what led to it.

        What led to it and cannot be cleaned is cut off.
        """
        if self._in_texts.is_idle:
            return
        steps = list(_chain(error))
        for step in steps:
            if self._tells(step):
                step.args = _without(self._in_texts, step.args)
                if notes := getattr(step, "__notes__", None):
                    step.__notes__ = _without(self._in_texts, notes)
        for step in steps:
            if step.__cause__ is not None and self._tells(step.__cause__):
                step.__cause__ = None
            if step.__context__ is not None and self._tells(step.__context__):
                step.__context__ = None

    def traceback(self, error: BaseException) -> str:
        """The traceback of *error* without secrets; *error* stays as it is."""
        return self.redact("".join(traceback.format_exception(error))).rstrip()

    def _tells(self, error: BaseException) -> bool:
        try:
            told = f"{error}{error!r}{error.args!r}{getattr(error, '__notes__', '')}"
        except Exception:  # a stranger's: nobody knows what it would say next time
            return True
        return self.holds_secret(told)


class Forms:
    """Some *secrets*, each with whatever *follows* it, in any form.

    Letters and digits are written alike in all forms. A text without the longest row of them, of
    any of the secrets, holds none of these; that is quickly seen of nearly all texts.
    """

    def __init__(self, secrets: set[str], follows: str = "") -> None:
        longest_first = sorted(secrets, key=lambda each: (-len(each), each))
        forms = ("".join(map(_any_form, each)) + follows for each in longest_first)
        self._pattern = re.compile("|".join(forms))
        rows = {max(ALIKE.findall(each), key=len) for each in secrets}
        # Of rows within one another, the shortest is enough.
        self._rows = [row for row in rows if not any(o in row for o in rows - {row})]

    def spans(self, text: str) -> Iterator[tuple[int, int]]:
        """Where in *text* they stand."""
        if any(row in text for row in self._rows):
            yield from (found.span() for found in self._pattern.finditer(text))


class Finder:
    """Finds secrets, and of those that may be cut also what begins like them, in a text."""

    def __init__(self) -> None:
        self._whole: list[Forms] = []
        self._cut: list[Forms] = []

    def add(self, whole: Forms, cut: Forms | None = None) -> None:
        """Find these, too."""
        self._whole.append(whole)
        if cut is not None:
            self._cut.append(cut)

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing that could be found."""
        return not self._whole

    def is_in(self, text: str) -> bool:
        """Whether there is something to be found in *text*."""
        return any(any(forms.spans(text)) for forms in (*self._whole, *self._cut))

    def mask(self, text: str) -> str:
        """*text* with all that is found replaced; what is cut, only beside what is whole."""
        return _masked(text, self._whole, lambda rest: _masked(rest, self._cut, str))


def _masked(text: str, sought: Iterable[Forms], leave: Callable[[str], str]) -> str:
    """*text* with all that is *sought* replaced, and *leave* applied to what is between."""
    pieces: list[str] = []
    end = 0
    for start, stop in sorted(span for forms in sought for span in forms.spans(text)):
        if start >= end:  # else it overlaps with the one before, and belongs to it
            pieces += (leave(text[end:start]), MASK)
        end = max(end, stop)
    return "".join((*pieces, leave(text[end:])))


def _chain(error: BaseException) -> Iterator[BaseException]:
    """*error*, all that led to it, and all that is grouped in it."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        step = waiting.pop()
        if step is None or id(step) in seen:
            continue
        seen.add(id(step))
        yield step
        waiting += [step.__cause__, step.__context__]
        if isinstance(step, BaseExceptionGroup):
            waiting += step.exceptions


def _without(finder: Finder, value: Any) -> Any:
    """*value* with what *finder* finds in its texts replaced, and numbers that hold it."""
    if isinstance(value, str):
        return finder.mask(value)
    if isinstance(value, Mapping):
        return {_without(finder, k): _without(finder, v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        parts = [_without(finder, each) for each in value]
        return tuple(parts) if isinstance(value, tuple) else parts
    if value is None or isinstance(value, bool | BaseException):
        return value
    try:
        text = repr(value)
    except ValueError:  # an integer of more digits than Python writes
        return value
    return MASK if finder.is_in(text) else value


def _parts(secret: str) -> set[str]:
    """*secret*, and what of it is secret by itself or means the same."""
    parts: set[str] = set()
    seen: set[str] = set()
    waiting = [secret]
    while waiting:
        part = waiting.pop()
        if part not in seen:  # else one of many pairs would be taken apart in every order
            seen.add(part)
            parts.update([part, *_in_base64(part)])
            waiting.extend(_within(part))
    return parts


def _within(secret: str) -> Iterator[str]:
    """What stands in *secret* and is secret by itself, or has something secret in it."""
    yield unquote(secret)  # as it was written into an address
    scheme, _, rest = secret.partition(" ")
    if rest:  # "Bearer abc", "Basic abc"
        yield rest
    if scheme.lower() == "basic":
        try:
            pair = base64.b64decode(rest, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            return
        yield from (pair, pair.partition(":")[2])
    for each in re.split(r"[;,]\s*", secret):  # 'session=abc; theme=dark', 'Token key="abc"'
        part = each.partition("=")[2].strip('"')
        if len(part) >= SHORTEST_PART:
            yield part


def _in_base64(secret: str) -> Iterator[str]:
    """What base64 makes of *secret* alone, and of a text that it is a part of.

    Three bytes become four characters, so there are three ways; characters at both ends that
    depend on what stands there are left out.
    """
    coded = secret.encode(errors="surrogateescape")
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        yield encode(coded).decode().rstrip("=")
        for before in range(3):
            text = encode(b" " * before + coded).decode()
            end = (before + len(coded)) * 8 // 6
            yield text[(0, 2, 3)[before] : end]


def _any_form(character: str) -> str:
    """A pattern for *character* however it is encoded: in addresses, forms, JSON, HTML, a repr."""
    if character.isascii() and character.isalnum():
        return character
    from html import escape  # a Run without secrets does not need it

    code, coded = ord(character), character.encode(errors="surrogatepass")
    forms = [
        "".join(f"%(?:25)*{_hex(byte, 2)}" for byte in coded),  # also encoded more than once
        "".join(rf"\\+x{_hex(byte, 2)}" for byte in coded),
        rf"\\+x{_hex(code, 2)}" if code < 256 else rf"\\+U{_hex(code, 8)}",
        "".join(rf"\\+u{_hex(unit, 4)}" for unit in _utf16(character)),
        rf"&#0*{code};",
        rf"&#[xX]0*{_hex(code, 1)};",
    ]
    if (named := escape(character)) != character:
        forms.append(named)
    if code > 127:  # what some make of UTF-8
        forms.append(re.escape(coded.decode("latin-1")))
        forms.append(re.escape(coded.decode("ascii", "surrogateescape")))
    if character == " ":  # in a form, which may stand in an address
        forms += [r"\+", "%(?:25)*2[bB]"]
    elif character in CONTROLS:
        forms.append(r"\\+" + CONTROLS[character])
    # By itself last: other forms may begin with it.
    if character in ESCAPED:
        forms.append(r"\\*" + character)
    else:
        forms.append(r"\\+" if character == "\\" else re.escape(character))
    return f"(?:{'|'.join(forms)})"


def _utf16(character: str) -> Iterator[int]:
    coded = character.encode("utf-16-be", "surrogatepass")
    yield from (int.from_bytes(coded[at : at + 2], "big") for at in range(0, len(coded), 2))


def _hex(number: int, digits: int) -> str:
    """A pattern for *number* in hexadecimal, in capitals or not."""
    return "".join(
        f"[{each}{each.upper()}]" if each.isalpha() else each for each in f"{number:0{digits}x}"
    )
