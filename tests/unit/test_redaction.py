"""Secrets are found in every form in which they travel, and nothing else is touched."""

from __future__ import annotations

import html
import json
import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestify import redaction
from ingestify.errors import FetchError
from ingestify.redaction import Redactor

FORMS: dict[str, Callable[[str], str]] = {
    "raw": str,
    "path": quote,
    "segment": lambda text: quote(text, safe=""),
    "form": quote_plus,
    "small escapes": lambda text: "".join(
        chr(byte) if byte < 128 and chr(byte).isalnum() else f"%{byte:02x}"
        for byte in text.encode()
    ),
    "encoded twice": lambda text: quote(quote(text, safe=""), safe=""),
    "form in a link": lambda text: quote(quote_plus(text), safe=""),
    "json": lambda text: json.dumps(text)[1:-1],
    "json in unicode": lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    "json for html": lambda text: json.dumps(text)[1:-1].replace("/", "\\/"),
    "json in json": lambda text: json.dumps(json.dumps(text)[1:-1])[1:-1],
    "repr": lambda text: repr(text)[1:-1],
    "repr of bytes": lambda text: repr(text.encode())[2:-1],
    "ascii": lambda text: ascii(text)[1:-1],
    "html": html.escape,
    "entities": lambda text: text.encode("ascii", "xmlcharrefreplace").decode(),
    "base64": lambda text: b64encode(text.encode()).decode(),
    "base64 in a link": lambda text: quote(b64encode(text.encode()).decode(), safe=""),
    "base64 for links": lambda text: urlsafe_b64encode(text.encode()).decode().rstrip("="),
    "wrong charset": lambda text: text.encode().decode("latin-1"),
}
SECRETS = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=4
)


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=25, deadline=None)
@given(secret=SECRETS)
def test_a_secret_is_found_in_every_form(form: str, secret: str) -> None:
    """
    However a secret was encoded, nothing of it is left, and what stood around it is.
    """
    redactor = Redactor([secret])
    shown = redactor.redact(f"<{FORMS[form](secret)}>")
    assert re.fullmatch(r"<\*\*\*(=|%3D)*>", shown)


@settings(max_examples=50, deadline=None)
@given(before=st.binary(max_size=5), secret=SECRETS, after=st.binary(max_size=5))
def test_a_secret_is_found_inside_of_base64(before: bytes, secret: str, after: bytes) -> None:
    """
    Of a secret in the middle of what was encoded, two characters are left at most on each side.
    """
    shown = Redactor([secret]).redact(b64encode(before + secret.encode() + after).decode())
    first, masked, last = shown.partition("***")
    assert masked
    assert len(first) <= -(-len(before) * 4 // 3) + 2
    assert len(last.rstrip("=")) <= -(-len(after) * 4 // 3) + 2


def test_a_credential_that_was_cut_is_found() -> None:
    """
    A message may end in the middle of a credential, or have been cut there.
    """
    redactor = Redactor(["a league of its own", "0123456789-abcdef-0123456789-abcdef"])
    redactor.learn_credentials(("0123456789-abcdef-0123456789-abcdef",))
    assert redactor.redact("x?key=0123456789-abc, cut") == "x?key=***, cut"
    assert redactor.redact("x?key=01234") == "x?key=01234"
    assert redactor.redact("a league of its") == "a league of its"


@pytest.mark.parametrize(
    ("credential", "part"),
    [
        ("Bearer abcdefgh", "abcdefgh"),
        ("Basic " + b64encode(b"me:pass word").decode(), "pass word"),
        ("Basic " + b64encode(b"me:pass word").decode(), "me:pass word"),
        ("Basic " + b64encode(b"me:pass word").decode(), b64encode(b"me:pass word").decode()),
        ("theme=dark; session=abcdefgh; x=y", "abcdefgh"),
        ('Token key="abcdefgh", v=1', "abcdefgh"),
        ("pass%20word", "pass word"),
    ],
)
def test_parts_of_a_credential_are_secret_themselves(credential: str, part: str) -> None:
    """
    What is secret in a header's value is secret without the rest of it.
    """
    redactor = Redactor()
    redactor.learn_credentials((credential,))
    assert redactor.redact(f"<{part}>") == "<***>"
    assert redactor.redact(f"<{credential}>") == "<***>"


def test_of_two_secrets_the_longer_one_wins() -> None:
    """
    A secret that begins like another one is replaced as a whole.
    """
    assert Redactor(["abcd", "abcdefgh"]).redact("abcdefgh abcdef") == "*** ***ef"


def test_words_are_no_secrets() -> None:
    """
    What is shorter than four characters is left alone, or messages would be unreadable.
    """
    assert Redactor(["k", "abc", ""]).redact("the key abc") == "the key abc"


def test_credentials_are_taken_out_of_data_and_other_secrets_are_not() -> None:
    """
    Data keeps its words though a configuration hides them, and what is short; it loses
    credentials, in keys and in values.
    """
    redactor = Redactor(["Premier League"])
    redactor.learn_credentials(("liverpool", "0123456789-abc/d"))
    data = {
        "league": "Premier League",
        "team": "liverpool",
        "link": ["https://x.example/?key=0123456789-abc%2fd&page=2", 1, None, True],
        "0123456789-abc/d": 1.5,
    }
    assert redactor.conceal(data) == {
        "league": "Premier League",
        "team": "liverpool",
        "link": ["https://x.example/?key=***&page=2", 1, None, True],
        "***": 1.5,
    }
    assert redactor.redact("liverpool in the Premier League") == "*** in the ***"


def test_errors_are_cleaned_with_all_that_led_to_them() -> None:
    """
    Arguments, notes, causes, contexts and groups hold no secret afterwards; what cannot be
    cleaned is cut off.
    """
    secret = "a secret\n/key"
    redactor = Redactor([secret])
    try:
        try:
            try:
                raise FileNotFoundError(2, "no such file", secret)
            except FileNotFoundError as exc:
                group = ExceptionGroup(f"no {secret}", [KeyError(secret), exc])
                raise ValueError({"key": [secret]}, secret.encode(), 7) from group
        except ValueError as exc:
            exc.add_note(f"note: {secret}")
            raise FetchError(f"bad key {secret!r}") from exc
    except FetchError as exc:
        error = exc
    assert "secret" in redactor.traceback(error)  # in lines of code; not the whole of it
    assert not redactor.holds_secret(redactor.traceback(error))
    assert isinstance(error.__cause__, ValueError)
    redactor.clean(error)
    assert str(error) == "bad key '***'"
    assert error.__cause__.args == ({"key": ["***"]}, "***", 7)
    assert error.__cause__.__notes__ == ["note: ***"]
    assert error.__cause__.__cause__ is None
    assert error.__cause__.__context__ is None
    assert isinstance(error.__cause__, ValueError)


def test_a_renewed_credential_costs_no_more_than_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A token is renewed many times in a long Run: only the new one is worked on, all stay known.
    """
    worked_on: list[int] = []
    compile_ = re.compile

    def counting(pattern: str) -> re.Pattern[str]:
        worked_on[-1] += len(pattern)
        return compile_(pattern)

    monkeypatch.setattr("ingestify.redaction.re.compile", counting)
    redactor = Redactor()
    tokens = [f"{number:02}-{number * 7919 % 99991:05}-token" * 4 for number in range(20)]
    for token in tokens:
        worked_on.append(0)
        redactor.learn_credentials((f"Bearer {token}",))
    assert worked_on[0] > 0
    assert max(worked_on) < 1.2 * worked_on[0]
    for token in tokens:
        assert redactor.holds_credential(f"etag {token}")
        assert redactor.redact(f"a {token}, cut {token[:20]}") == "a ***, cut ***"


def test_secrets_learned_later_may_overlap_those_known() -> None:
    """
    Nothing is left of a secret because another one, known earlier, is a part of it.
    """
    redactor = Redactor(["part"])
    redactor.learn(["the part of more"])
    redactor.learn(["more-still"])
    assert redactor.redact("<the part of more-still> <part>") == "<***> <***>"
    redactor = Redactor()
    redactor.learn_credentials(("shared-start-1-aaaaaaaa",))
    redactor.learn_credentials(("shared-start-2-bbbbbbbb",))
    assert redactor.redact("/shared-start-2-bbbbbbbb/list") == "/***/list"


def test_a_number_that_is_a_credential_is_not_kept() -> None:
    """
    A credential of digits is taken out of data also where it stands as a number; others stay.
    """
    redactor = Redactor()
    redactor.learn_credentials(("987654321012",))
    data = {
        "n": 987654321012,
        "text": "987654321012",
        "list": [9876, 1.5, True, None],
        "big": 10**20,
    }
    shown = {"n": "***", "text": "***", "list": [9876, 1.5, True, None], "big": 10**20}
    assert redactor.conceal(data) == shown
    assert redactor.conceal(10**5000) == 10**5000  # Python writes no number that long
    error = ValueError("refused", 987654321012)
    redactor.clean(error)
    assert error.args == ("refused", "***")


def test_a_secret_of_many_pairs_is_taken_apart_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The parts of a secret are as many as its pairs, not as the ways in which to go through them.
    """
    worked_on: list[str] = []
    unquote = redaction.unquote

    def counting(text: str) -> str:
        worked_on.append(text)
        return unquote(text)

    monkeypatch.setattr(redaction, "unquote", counting)
    redactor = Redactor([" ".join(f"key{number}=value-{number:04}" for number in range(12))])
    assert len(worked_on) == len(set(worked_on)) < 100
    assert redactor.redact("the last is value-0011.") == "the last is ***."
