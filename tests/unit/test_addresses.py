"""Addresses: how they are built, where they may lead, and how they are shown."""

from urllib.parse import unquote, urlsplit

import pytest
import yarl
from hypothesis import assume, given
from hypothesis import strategies as st

from ingestify.errors import ConfigError, UnsafeTargetError
from ingestify.model.addresses import (
    BaseAddress,
    Origin,
    encode_segment,
    fill,
    follow,
    masked,
    with_params,
    without_params,
)

BASE = BaseAddress.parse("https://api.example.com/v1/")


def as_sent(url: str) -> str:
    """The path that a server sees, after everything that yarl does to an address."""
    return yarl.URL(url, encoded=True).raw_path


@given(st.text())
def test_any_id_is_refused_or_stays_one_segment_below_the_base(identifier):
    """
    Whatever an id is, it becomes exactly one part of the path, which decodes to the same id.
    """
    try:
        url = BASE.resolve(fill("matches/{}/events", identifier))
    except UnsafeTargetError:
        return
    path = as_sent(url)
    assert urlsplit(url).path == path
    first, name, segment, last = path.removeprefix("/").split("/")
    assert (first, name, last) == ("v1", "matches", "events")
    assert unquote(segment) == identifier
    assert unquote(yarl.URL(url).raw_path) == unquote(path)  # nor does normalising change it


@given(st.text(), st.text())
def test_different_ids_have_different_addresses(one, other):
    """
    Two ids never share an address.
    """
    assume(one != other)
    try:
        urls = {fill("matches/{}", one), fill("matches/{}", other)}
    except UnsafeTargetError:
        return
    assert len(urls) == 2


@given(st.text())
def test_any_text_as_a_path_stays_below_the_base(text):
    """
    Whatever a page link is, it is refused or leads below the base URL.
    """
    try:
        url = BASE.resolve(text)
    except UnsafeTargetError:
        return
    sent = yarl.URL(url, encoded=True)
    assert sent.raw_host == "api.example.com"
    assert sent.scheme == "https"
    assert sent.raw_path == "/v1" or sent.raw_path.startswith("/v1/")
    assert not {".", ".."} & set(unquote(sent.raw_path).replace("\\", "/").split("/"))
    assert url.isascii()


@given(st.dictionaries(st.text(min_size=1), st.text() | st.integers() | st.booleans()))
def test_any_parameters_stay_in_the_query(params):
    """
    Names and values of parameters arrive as they were given, or are refused.
    """
    try:
        url = BASE.resolve("matches", params)
    except UnsafeTargetError:
        return
    sent = yarl.URL(url, encoded=True)
    assert sent.raw_path == "/v1/matches"
    texts = {k: str(v).lower() if isinstance(v, bool) else str(v) for k, v in params.items()}
    assert dict(sent.query) == texts


@pytest.mark.parametrize(
    "identifier",
    [
        "",
        ".",
        "..",
        "../x",
        "a/../b",
        "a\\..\\b",
        "\r\nHost: x",
        "a\x00",
        "\ud800",
        "\u2028",
        "\x85",
    ],
)
def test_ids_that_would_change_the_address_are_refused(identifier):
    """
    An id that some server could take for more than a name is refused.
    """
    with pytest.raises(UnsafeTargetError):
        encode_segment(identifier)


@pytest.mark.parametrize("segment", [True, 1.5, None, b"x"])
def test_segments_are_text_or_integers(segment):
    """
    A segment of another type is refused rather than written in some way.
    """
    with pytest.raises(UnsafeTargetError):
        fill("{}", segment)


def test_segments_are_encoded_and_counted():
    """
    Slashes, question marks and letters are encoded; every place has to be filled.
    """
    assert fill("a/{}/b/{}", "x/y?z#", -7) == "a/x%2Fy%3Fz%23/b/-7"
    assert fill("{}", "é") == "%C3%A9"
    with pytest.raises(UnsafeTargetError, match="room for 1"):
        fill("{}", 1, 2)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("matches", "https://api.example.com/v1/matches"),
        ("", "https://api.example.com/v1/"),
        ("?page=2", "https://api.example.com/v1/?page=2"),
        ("/v1/matches?page=2", "https://api.example.com/v1/matches?page=2"),
        ("//api.example.com/v1/x", "https://api.example.com/v1/x"),
        ("https://api.example.com/v1/x", "https://api.example.com/v1/x"),
        ("HTTPS://API.example.com:443/v1/x", "https://api.example.com/v1/x"),
        ("https://api.example.com/v1", "https://api.example.com/v1"),
        ("matches/é", "https://api.example.com/v1/matches/%C3%A9"),
    ],
)
def test_addresses_are_relative_to_the_base_or_below_it(written, meant):
    """
    The base URL is a folder; page links may be written in full or from the root.
    """
    assert BASE.resolve(written) == meant


@pytest.mark.parametrize(
    "url",
    [
        "http://api.example.com/v1/x",
        "https://api.example.com:8443/v1/x",
        "https://evil.example/v1/x",
        "https://api.example.com.evil.example/v1/x",
        "https://api.example.com@evil.example/v1/x",
        "https://user:canary@api.example.com/v1/x",
        "//evil.example/v1/x",
        "/v2/x",
        "/v1evil/x",
        "/",
        "../x",
        "x/../../y",
        "%2e%2e/x",
        "..%2fx",
        "x/%2e%2e%2f%2e%2e/y",
        "x\\..\\y",
        "x y",
        "x\ry",
        "x%0d%0ay",
        "x%zz",
        "x?a=%z",
        "x#fragment",
        "ftp://api.example.com/v1/x",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "https://[::1/x",
        "https://api.example.com:99999/v1/",
        "https:///v1/x",
        "\ud800",
    ],
)
def test_addresses_that_lead_elsewhere_are_refused(url):
    """
    Another origin, a folder beside the base, or a text that servers read differently is refused.
    """
    with pytest.raises(UnsafeTargetError) as caught:
        BASE.resolve(url)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["", "api.example.com", "ftp://x/", "https://x/?a=1", "https://x/#a", "https://ü/", "/x"]
)
def test_a_base_url_that_nothing_is_below_is_a_configuration_error(url):
    """
    A wrong base URL is told when it is read.
    """
    with pytest.raises(ConfigError, match="base_url"):
        BaseAddress.parse(url)


def test_userinfo_of_a_base_url_is_taken_out():
    """
    Credentials in a base URL are kept apart from it, and are not in its repr.
    """
    base = BaseAddress.parse("https://me:s%40cret@api.example.com:8443/v1")
    assert base.userinfo == "me:s@cret"
    assert str(base) == "https://api.example.com:8443/v1/"
    assert "s@cret" not in repr(base)
    assert base.resolve("x") == "https://api.example.com:8443/v1/x"


def test_parameters_are_added_to_a_query_and_taken_out():
    """
    None is left out, lists repeat, and a query that is there stays.
    """
    url = with_params("https://x/y?a=1", {"b": None, "c": [1, "z w"], "d": True})
    assert url == "https://x/y?a=1&c=1&c=z%20w&d=true"
    assert without_params(url, {"c", "a"}) == "https://x/y?d=true"
    assert without_params("https://x/y?api%5Ftoken=1", {"api_token"}) == "https://x/y"
    with pytest.raises(UnsafeTargetError, match="'when'"):
        with_params("https://x/", {"when": object()})


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("/other", "https://api.example.com/other"),
        ("sub", "https://api.example.com/v1/sub"),
        ("../up", "https://api.example.com/up"),
        ("?x=1", "https://api.example.com/v1/a?x=1"),
        ("//cdn.example/x#f", "https://cdn.example/x"),
        ("https://cdn.example", "https://cdn.example/"),
    ],
)
def test_redirects_are_resolved_like_links(location, target):
    """
    A Location is relative to the address that sent it; a fragment is not asked for.
    """
    assert follow("https://api.example.com/v1/a", location) == target


@pytest.mark.parametrize(
    "location",
    ["ftp://x/", "https://u:p@x/", "https://[/", "x\r\ny", "a b", "\\\\evil", "https://x/%2e%2e/"],
)
def test_redirects_to_no_safe_address_are_refused(location):
    """
    A Location that is no plain http(s) address is not followed.
    """
    with pytest.raises(UnsafeTargetError):
        follow("https://api.example.com/v1/a", location)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://u:canary@h:8/p?token=canary#canary", "https://h:8/p?…"),
        ("https://h/p", "https://h/p"),
        ("p/q?canary", "p/q?…"),
        ("https://u:canary@h", "https://h"),
        ("http://h/\r\n\ud800", "http://h/\\ud800"),
    ],
)
def test_shown_addresses_hold_no_secret(url, shown):
    """
    What is shown has no userinfo, no query and no fragment, and can be written to any log.
    """
    assert masked(url) == shown


def test_origins_are_compared_in_their_normal_form():
    """
    The default port and the case of a host make no difference; everything else does.
    """
    assert Origin.of("https://A.example/") == Origin.of("https://a.example:443/x?y")
    assert Origin.of("https://a.example/") != Origin.of("http://a.example/")
    assert str(Origin.of("http://[::1]:8080/x")) == "http://[::1]:8080"
    assert Origin.of("http://h:80").netloc == "h"
