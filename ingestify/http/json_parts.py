"""Finds the parts of a JSON list or object by its quotes and brackets alone, slice by slice.

What is unreadable in a part stays within it. Of a text of any size one slice is looked at at a
time, and nothing is copied: whoever takes the slices decides about pace and memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TypeAlias

Span: TypeAlias = tuple[int, int]
"""Where a part begins and ends, white space around it included."""

SLICE = 64 * 1024  # bytes…
MOST_SIGNS = 5000  # …or commas and brackets, whichever comes first: some milliseconds
WHITE = b" \t\n\r"
CLOSING = {ord("["): ord("]"), ord("{"): ord("}")}
QUOTE, COMMA = b'",'

_STRING = rb'"(?:[^"\\]++|\\.)*+"'
_BEFORE_BRACKET = rb'(?:[^"\[\]{}]++|' + _STRING + rb")*+"
_BEFORE_SIGN = rb'(?:[^",\[\]{}]++|' + _STRING + rb")*+"
BEFORE_BRACKET = re.compile(_BEFORE_BRACKET, re.DOTALL)
BRACKET = re.compile(_BEFORE_BRACKET + rb"[\[\]{}]", re.DOTALL)
BEFORE_SIGN = re.compile(_BEFORE_SIGN, re.DOTALL)
SIGN = re.compile(_BEFORE_SIGN + rb"[,\[\]{}]", re.DOTALL)
IN_STRING = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)


class UnbalancedError(ValueError):
    """A text is not one list, or one object, with all of its quotes and brackets closed."""


def within(text: bytes, opening: bytes, span: Span | None = None) -> Span:
    """What stands between the brackets at both ends of *span*, the closing one included.

    Raises:
        UnbalancedError: *opening* and its counterpart are not there.
    """
    start, end = _trimmed(text, span or (0, len(text)))
    if end - start < 2 or text[start] != opening[0] or text[end - 1] != CLOSING[opening[0]]:
        raise UnbalancedError("it is cut, or not of that kind")
    return start + 1, end


def parts_of(text: bytes, span: Span, *, is_first: bool = True) -> Iterator[list[Span]]:
    """The parts between the commas of a list or object, from *span*'s beginning on, in lists.

    Every list is what one slice of *text* had, and may be empty. *span* ends behind the closing
    bracket. Only the first part may be nothing at all, and then it must be the only one.

    Raises:
        UnbalancedError: quotes and brackets do not match; when that is met.
    """
    at, end = span
    closing = text[end - 1]
    expected = bytearray([closing])  # what has to be closed, the innermost last
    begin, in_string = at, False
    while expected:
        spans: list[Span] = []
        stop = min(at + SLICE, end)
        for _ in range(MOST_SIGNS):
            if in_string:
                found = IN_STRING.match(text, at, stop)
                at = found.end() if found else at
                if at >= stop or text[at] != QUOTE:
                    break
                at, in_string = at + 1, False
            outermost = len(expected) == 1
            found = (SIGN if outermost else BRACKET).match(text, at, stop)
            if found is None:  # the slice ends before one, and maybe in the midst of a string
                found = (BEFORE_SIGN if outermost else BEFORE_BRACKET).match(text, at, stop)
                at = found.end() if found else at
                in_string = at < stop
                at += in_string
                break
            at = found.end()
            sign = text[at - 1]
            if sign == COMMA:
                spans.append((begin, at - 1))
                begin, is_first = at, False
            elif sign in CLOSING:
                expected.append(CLOSING[sign])
            elif sign != expected.pop():
                raise UnbalancedError("its brackets do not match")
            elif not expected:
                break
        if bool(expected) is (at == end):
            raise UnbalancedError("something is not closed" if expected else "something follows it")
        if not expected and not (is_first and not text[begin : at - 1].strip(WHITE)):
            spans.append((begin, at - 1))
        yield spans


def _trimmed(text: bytes, span: Span) -> Span:
    start, end = span
    while start < end and text[start] in WHITE:
        start += 1
    while end > start and text[end - 1] in WHITE:
        end -= 1
    return start, end
