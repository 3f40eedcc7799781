"""Numbers, times and other people's text in words."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.wording import cut_off, fields, named, safe, span, usd, utc_ms, utc_ns, worded


@given(st.text())
def test_no_text_can_steer_a_terminal(text: str) -> None:
    told = safe(text)
    assert told.isprintable()
    assert {unicodedata.category(character) for character in told} & {"Cc", "Cf", "Cs", "Zl", "Zp"} == set()
    if text.isprintable():
        assert told == text


def test_what_is_not_printable_is_written_out() -> None:
    assert safe("a\x1b[2Jb\x9b\u202e\ud800\U000e0001") == "a\\x1b[2Jb\\x9b\\u202e\\ud800\\U000e0001"


def test_text_is_cut_off_with_its_length() -> None:
    assert cut_off("abc", 3) == "abc"
    assert cut_off("a" * 1_500, 100) == "a" * 100 + "... (1,400 characters more)"


@pytest.mark.parametrize(
    ("time_ns", "told"),
    [
        (1_760_130_000_123_456_789, "2025-10-10 21:00:00.123 UTC"),
        (1_999_999, "1970-01-01 00:00:00.001 UTC"),
        (0, "none"),
        (-1, "none"),
        (2**80, f"{2**80} ns"),
    ],
)
def test_times(time_ns: int, told: str) -> None:
    assert utc_ns(time_ns) == told


def test_a_time_in_milliseconds() -> None:
    assert utc_ms(1_760_130_000_123) == "2025-10-10 21:00:00.123 UTC"


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.25, "0.25 s"), (119.0, "119 s"), (300.0, "5 min"), (11_520.0, "3.2 h"), (1_036_800.0, "12 d"), (-3.0, "-3 s")],
)
def test_spans(seconds: float, told: str) -> None:
    assert span(seconds) == told


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("equity_usd", -1234.5, "equity -1,234.50 USD"),
        ("equity_usd", None, "equity none"),
        ("fund_paid_micro_usd", 1_500_000, "fund_paid 1.50 USD"),
        ("limit_ticks", 1_213_205, "limit 1,213,205 ticks"),
        ("lots", -25, "lots -25"),
        ("cash", -1516, "cash -1,516 cash units"),
        ("expires_ns", 1_760_130_000_000_000_000, "expires 2025-10-10 21:00:00.000 UTC"),
        ("lag_p95_ns", 90_000_000_000, "lag_p95 90 s"),
        ("at_ms", 1_760_130_000_000, "at 2025-10-10 21:00:00.000 UTC"),
        ("spread_bps", 3.5, "spread 3.5 bps"),
        ("cut_seconds", 0.012, "cut 0.012 s"),
        ("frozen", True, "frozen yes"),
        ("requirement_usd", {"isolated": 2500.0}, "requirement {isolated 2,500.00 USD}"),
        ("note", "\x1b]0;owned\x07", "note \\x1b]0;owned\\x07"),
        ("\x1b_usd", 1, "\\x1b 1.00 USD"),
    ],
)
def test_a_field_has_its_name_and_unit(name: str, value: object, told: str) -> None:
    assert named(name, value) == told


def test_fields_of_fields_have_their_own_units() -> None:
    assert worded({"positions": [{"lots": 5, "price_ticks": 7}]}) == "{positions [{lots 5, price 7 ticks}]}"


def test_fields_that_say_nothing_are_left_out() -> None:
    assert fields({"v": 1, "account": "a", "note": "", "fills": [], "lots": 0}, leaving_out=frozenset({"v"})) == "account a, lots 0"


def test_money() -> None:
    assert usd(1234567.891) == "1,234,567.89 USD"
