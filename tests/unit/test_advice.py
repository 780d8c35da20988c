"""What headers say about how fast to ask."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestify.http.advice import NOTHING, Advice, parse_retry_after, read_advice

NOW = datetime(2024, 5, 17, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("0", 0),
        ("7", 7),
        (" 7 ", 7),
        ("1.5", 1.5),
        ("7200", 7200),
        ("Fri, 17 May 2024 12:00:30 GMT", 30),
        ("Fri, 17 May 2024 14:00:30 +0200", 30),
        ("Friday, 17-May-24 12:00:30 GMT", 30),
        ("Fri May 17 12:00:30 2024", 30),
        ("Fri, 17 May 2024 11:00:00 GMT", 0),
        ("-5", None),
        ("soon", None),
        ("", None),
        ("1e5", None),
        ("NaN", None),
        ("٣", None),
        ("999999999999999", 366 * 86400),
        ("9" * 40, 366 * 86400),
        ("Fri, 99 May 2024 99:99:99 GMT", None),
    ],
)
def test_retry_after_is_understood_in_every_form(value, seconds):
    """
    Seconds and dates are understood, moments in the past mean now, and nonsense means nothing.
    """
    assert parse_retry_after(value, NOW) == seconds


@given(st.text() | st.from_regex(r"[A-Z][a-z]{2}, \d+ [A-Z][a-z]{2} \d+ \d+:\d+:\d+ \S+"))
def test_any_retry_after_is_a_time_to_wait_or_nothing(text):
    """
    Whatever a provider sends is never an error, never negative and never without end.
    """
    seconds = parse_retry_after(text, NOW)
    assert seconds is None or 0 <= seconds <= 366 * 86400


@given(st.integers(min_value=0, max_value=360 * 86400))
def test_a_date_and_its_seconds_mean_the_same(seconds):
    """
    A date so many seconds from now asks to wait for so many seconds.
    """
    date = format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)
    assert parse_retry_after(date, NOW) == parse_retry_after(str(seconds), NOW) == seconds


EPOCH = int(NOW.timestamp())


@pytest.mark.parametrize(
    ("headers", "advice"),
    [
        ({}, NOTHING),
        ({"content-type": "text/plain"}, NOTHING),
        ({"retry-after": "3"}, Advice(retry_after=3)),
        (
            {"x-ratelimit-limit": "60", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "30"},
            Advice(remaining=0, reset=30),
        ),
        (
            {"x-ratelimit-remaining": "5", "x-ratelimit-reset": str(EPOCH + 45)},
            Advice(remaining=5, reset=45),
        ),
        (
            {"x-ratelimit-remaining": "5", "x-ratelimit-reset": str((EPOCH + 45) * 1000)},
            Advice(remaining=5, reset=45),
        ),
        (
            {"x-rate-limit-remaining": "5", "x-rate-limit-reset": str(EPOCH - 45)},
            Advice(remaining=5, reset=0),
        ),
        (
            {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "Fri, 17 May 2024 12:00:30 GMT"},
            Advice(remaining=0, reset=30),
        ),
        (
            {
                "ratelimit-limit": "100, 100;w=10, 1000;w=3600",
                "ratelimit-remaining": "9",
                "ratelimit-reset": "4",
            },
            Advice(remaining=9, reset=4, rate=1000 / 3600, pace=10),
        ),
        (
            {"ratelimit": "limit=100, remaining=50, reset=5", "ratelimit-policy": "100;w=60"},
            Advice(remaining=50, reset=5, rate=100 / 60),
        ),
        (
            {"ratelimit": '"burst";r=7;t=1, "daily";r=3;t=9000', "ratelimit-policy": '"a";q=6;w=2'},
            Advice(remaining=3, reset=9000, rate=3, pace=3),
        ),
        (
            {
                "ratelimit-limit": "50",
                "ratelimit-remaining": "49",
                "ratelimit-reset": "1",
            },
            Advice(remaining=49, reset=1, pace=50),
        ),
        ({"x-ratelimit-remaining": "many", "x-ratelimit-reset": "later"}, NOTHING),
        ({"ratelimit-policy": "100;w=0"}, NOTHING),
    ],
)
def test_every_family_of_quota_headers_is_understood(headers, advice):
    """
    Remaining requests, the seconds until the reset, and the rate of a policy are found.
    """
    assert read_advice(headers, NOW) == advice


def test_dates_are_compared_with_the_answers_own_date():
    """
    A clock that is wrong by a day changes no waiting time.
    """
    wrong = NOW + timedelta(days=1)
    headers = {
        "date": format_datetime(NOW, usegmt=True),
        "retry-after": format_datetime(NOW + timedelta(seconds=20), usegmt=True),
        "x-ratelimit-remaining": "0",
        "x-ratelimit-reset": str(EPOCH + 45),
    }
    assert read_advice(headers, wrong) == Advice(retry_after=20, remaining=0, reset=45)


@given(
    st.dictionaries(
        st.sampled_from(
            [
                "date",
                "retry-after",
                "ratelimit",
                "ratelimit-policy",
                "ratelimit-limit",
                "ratelimit-remaining",
                "ratelimit-reset",
                "x-ratelimit-remaining",
                "x-ratelimit-reset",
            ]
        ),
        st.text() | st.from_regex(r"\d+(;w=\d+)?(, \d+;w=\d+)*"),
    )
)
def test_any_headers_give_sensible_advice(headers):
    """
    No header, however odd, is an error or asks for less than no time.
    """
    advice = read_advice(headers, NOW)
    assert (advice.retry_after or 0) >= 0
    assert (advice.reset or 0) >= 0
    assert (advice.remaining or 0) >= 0
    assert advice.rate is None or advice.rate > 0
