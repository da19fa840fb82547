"""Numbers as people read them."""

import math

import pytest

from scaling.reporting import numbers


@pytest.mark.parametrize(
    ("value", "written"),
    [(7e6, "7M"), (20e9, "20B"), (1.4e12, "1.4T"), (512, "512"), (41_234, "41.2k"), (999_999, "1M"), (1e15, "1e15"),
     (2.778459e9, "2.78B"), (0, "0"), (0.5, "0.5"), (-3e6, "-3M"), (math.nan, "-"), (math.inf, "unbounded")],
)  # fmt: skip
def test_counts(value: float, written: str) -> None:
    assert numbers.count(value) == written


@pytest.mark.parametrize(
    ("value", "written"),
    [(1e21, "1e21"), (2.5e12, "2.5e12"), (9.999e20, "1e21"), (300, "300"), (0.03, "0.03"), (3e-4, "3e-4"), (0, "0")],
)
def test_powers(value: float, written: str) -> None:
    assert numbers.power(value) == written


@pytest.mark.parametrize(
    ("value", "written"), [(2.305529, "2.306"), (0.34781, "0.3478"), (12.5, "12.50"), (0, "0.000")]
)
def test_losses(value: float, written: str) -> None:
    assert numbers.plain(value) == written


@pytest.mark.parametrize(
    ("value", "written"), [(12.4, "$12.40"), (1.9e-5, "$1.9e-5"), (5200, "$5.2k"), (1.25e6, "$1.25M"), (math.nan, "-")]
)
def test_dollars(value: float, written: str) -> None:
    assert numbers.usd(value) == written


@pytest.mark.parametrize(
    ("value", "written"), [(1 / 300, "12 s"), (0.075, "4.5 min"), (8, "8 h"), (300, "12.5 days"), (1e5, "11.4 years")]
)
def test_times(value: float, written: str) -> None:
    assert numbers.hours(value) == written


def test_what_is_written_is_what_was_meant() -> None:
    """Reading a count back gives the value to its three digits, over fifteen decades."""
    letters = {"": 1.0, "k": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}
    for exponent in range(15):
        for mantissa in (1.0, 2.34, 9.995, 9.994):
            value = mantissa * 10**exponent
            text = numbers.count(value)
            size, letter = (text[:-1], text[-1]) if text[-1].isalpha() else (text, "")
            assert float(size) * letters[letter] == pytest.approx(value, rel=5.1e-3)
