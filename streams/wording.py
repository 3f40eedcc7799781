"""How numbers, times and other people's text are put into words for a terminal; nothing put into words here can steer it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

MICRO: Final = 1_000_000
NS_PER_MS: Final = 1_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def safe(text: str) -> str:
    """The text with whatever is not printable written out (`\\x1b`): what comes from a topic may be anybody's."""
    return text if text.isprintable() else "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def cut_off(text: str, characters: int) -> str:
    """The text, or as much of its beginning as fits and how much more there is."""
    return text if len(text) <= characters else f"{text[:characters]}... ({len(text) - characters:,} characters more)"


def utc_ns(time_ns: float) -> str:
    """A time in nanoseconds since 1970: `2025-10-10 21:20:00.123 UTC`. 0 and less stand for none; the number where no calendar has it."""
    if time_ns <= 0:
        return "none"
    try:
        moment = _EPOCH + timedelta(microseconds=int(time_ns) // 1000)
    except OverflowError:
        return f"{time_ns} ns"
    return f"{moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond // 1000:03d} UTC"


def utc_ms(time_ms: float) -> str:
    return utc_ns(time_ms * NS_PER_MS)


def usd(amount: float) -> str:
    """`1,234.50 USD`"""
    return f"{amount:,.2f} USD"


def span(seconds: float) -> str:
    """A duration in the unit that suits it: `0.25 s`, `12 s`, `5 min`, `3.2 h`, `12 d`."""
    size = abs(seconds)
    if size < 120:
        return f"{seconds:.3g} s"
    if size < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if size < 172_800 else f"{seconds / 86_400:.0f} d"


def number(value: float) -> str:
    """`1,213,205`, `0.65`"""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.10g}"


# By the end of a field's name, the first that fits: what its number is, and what is left of the name.
_UNITS: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("lag_p95_ns", "lag_p95", lambda value: span(value / 1e9)),  # a duration, as no other field in nanoseconds is
    ("_micro_usd", "", lambda value: usd(value / MICRO)),
    ("_usd", "", usd),
    ("_ns", "", utc_ns),
    ("at_ms", "at", utc_ms),
    ("_ticks", "", lambda value: f"{number(value)} ticks"),
    ("_bps", "", lambda value: f"{number(value)} bps"),
    ("_seconds", "", span),
    ("_s", "", span),
    ("cash", "cash", lambda value: f"{number(value)} cash units"),
)


def named(name: str, value: Any) -> str:
    """A field with its name, its number in its unit: `equity_usd` 1234.5 is `equity 1,234.50 USD`."""
    for ending, left, words in _UNITS:
        if name.endswith(ending):
            return f"{safe(left or name.removesuffix(ending))} {worded(value, words)}"
    return f"{safe(name)} {worded(value)}"


def worded(value: Any, words: Callable[[float], str] = number) -> str:
    """Any value that JSON could hold; numbers by `words`, so that a map or a list of amounts has the unit too."""
    match value:
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case int() | float():
            return words(value)
        case list():
            return f"[{'; '.join(worded(item, words) for item in value)}]"
        case dict():
            inner = (f"{safe(key)} {worded(item, words)}" if words is not number else named(key, item) for key, item in value.items())
            return f"{{{', '.join(inner)}}}"
    return safe(str(value))


def fields(content: Mapping[str, Any], *, leaving_out: frozenset[str] = frozenset()) -> str:
    """All fields of a message in their order but those left out and those that say nothing: empty text, lists and maps."""
    said = (named(name, value) for name, value in content.items() if name not in leaving_out and value not in ("", [], {}))
    return ", ".join(said)
