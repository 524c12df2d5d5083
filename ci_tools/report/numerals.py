"""Numbers as the report writes them; a minus sign, not a hyphen, so that a line never breaks behind it."""

import math
from collections.abc import Iterable

from ci_tools.gates import show

MISSING = "—"
"""In place of a number that nobody knows."""
_MINUS = "\u2212"
_HUGE = 1e9
"""From here on a number is written with an exponent: nobody counts the digits, and there may be 300."""


def short(value: float | None, digits: int = 3) -> str:
    """Significant digits; — where there is no number."""
    return MISSING if value is None else signed(show.number(value, digits))


def places(values: Iterable[float | None], width: float = 0.0) -> int:
    """Decimal places for numbers that stand side by side: three significant digits of the largest.

    Args:
        values: the numbers.
        width: of an interval around them; up to two places more show two digits of it.
    """
    largest = max((abs(value) for value in values if value), default=0.0)
    if not largest:
        return 3
    enough = min(max(2 - math.floor(math.log10(largest)), 0), 12)
    wanted = 1 - math.floor(math.log10(width)) if 0 < width < math.inf else 0
    return min(max(enough, wanted), enough + 2)


def fixed(value: float | None, decimals: int, plus: bool = False) -> str:
    """With so many decimal places, unless it is huge; `plus` puts a sign before a positive one, too.

    Law: what reads as zero has no sign.
    """
    if value is None:
        return MISSING
    form = f".{decimals}f" if abs(value) < _HUGE else ".4g"
    text = f"{value:{'+' if plus else ''}{form}}"
    return signed(text) if any(digit in text for digit in "123456789") else text.lstrip("+-")


def span(interval: tuple[float | None, float | None], decimals: int) -> str:
    """An interval of changes, `−0.0010 to +0.0054` say; an open end is infinite."""
    low, high = interval
    ends = (
        f"{_MINUS}∞" if low is None else fixed(low, decimals, True),
        "+∞" if high is None else fixed(high, decimals, True),
    )
    return " to ".join(ends)


def between(interval: tuple[float, float]) -> str:
    """The interval of a statistic, with three significant digits; an open end is infinite."""
    low, high = interval
    return f"{f'{_MINUS}∞' if low == -math.inf else short(low)} to {'+∞' if high == math.inf else short(high)}"


def seconds(value: float | None) -> str:
    """A duration: 0.4 s, 12 s, 3 min 20 s, 2 h 5 min; — where nobody knows it."""
    if value is None:
        return MISSING
    if value < 9.95:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60} min"


def energy(joules: float | None) -> str:
    """An energy: 850 J, 12.3 Wh, 1.25 kWh; — where nothing measured it."""
    if joules is None:
        return MISSING
    if joules < 3600:
        return f"{joules:.0f} J"
    return f"{joules / 3600:.1f} Wh" if joules < 3.6e6 else f"{joules / 3.6e6:,.2f} kWh"


def plural(number: int, what: str) -> str:
    """`1 seed`, `2,000 seeds`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def signed(text: str) -> str:
    """Digits with a true minus sign."""
    return text.replace("-", _MINUS)
