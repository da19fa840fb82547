"""Numbers as people read them: 7M, 20B, 1e21, $1.2k. For display only; nothing computes on the result."""

from __future__ import annotations

import math
from collections.abc import Callable

_LETTERS = {0: "", 3: "k", 6: "M", 9: "B", 12: "T"}


def count(value: float, digits: int = 3) -> str:
    """Parameters or tokens: 512, 41.2k, 7M, 20B, 1.4T; beyond 999T a power of ten."""
    return _sign(value, lambda size: _lettered(size, digits))


def power(value: float, digits: int = 3) -> str:
    """FLOPs and other wide numbers: 1e21, 2.5e12; between 0.01 and 9999 plainly."""
    return _sign(value, lambda size: _power(size, digits))


def plain(value: float, digits: int = 4) -> str:
    """A loss or an exponent with this many significant digits, never in powers: 3.142, 0.3478."""
    if not math.isfinite(value):
        return _unbounded(value)
    return f"{value:.{max(0, digits - 1 - _exponent(value))}f}"


def usd(value: float) -> str:
    """Dollars: $2e-5, $12.40, $5.2k, $1.25M, $30B."""
    if math.isnan(value):
        return _unbounded(value)
    if 0 < abs(value) < 0.01:
        return "$" + power(value)
    return f"${value:.2f}" if abs(value) < 1000 else "$" + count(value)


def hours(value: float) -> str:
    """A time given in hours, in the unit that suits it: 12 s, 4.5 min, 8 h, 12.5 days, 3.1 years."""
    for unit, size, below in (("s", 1 / 3600, 1 / 60), ("min", 1 / 60, 1), ("h", 1, 48), ("days", 24, 24 * 730)):
        if abs(value) < below:
            return f"{_short(value / size, 3)} {unit}"
    return f"{_short(value / 8766, 3)} years" if math.isfinite(value) else _unbounded(value)


def hours_alone(value: float) -> str:
    """Device-hours, which stay hours whatever their number: 0.2, 350, 1.2M."""
    return count(value) if abs(value) >= 1000 else power(value)


def _lettered(size: float, digits: int) -> str:
    size = float(f"{size:.{digits}g}")
    thousands = min(12, max(0, 3 * (_exponent(size) // 3)))
    if size >= 1e15 or (0 < size < 1e-3):
        return _power(size, digits)
    return _short(size / 10**thousands, digits) + _LETTERS[thousands]


def _power(size: float, digits: int) -> str:
    size = float(f"{size:.{digits}g}")
    if size == 0 or 1e-2 <= size < 1e4:
        return _short(size, digits)
    exponent = _exponent(size)
    return f"{_short(size / 10.0**exponent, digits)}e{exponent}"


def _short(size: float, digits: int) -> str:
    """`digits` significant digits without an exponent or trailing zeros."""
    text = f"{size:.{max(0, digits - 1 - _exponent(size))}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _exponent(size: float) -> int:
    return math.floor(math.log10(abs(size)) + 1e-12) if size else 0


def _sign(value: float, write: Callable[[float], str]) -> str:
    if not math.isfinite(value):
        return _unbounded(value)
    return ("-" if value < 0 else "") + write(abs(float(value)))


def _unbounded(value: float) -> str:
    return "-" if math.isnan(value) else "unbounded" if value > 0 else "-unbounded"
