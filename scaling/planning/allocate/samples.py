"""The answer under every resample of the law, price and utilisation: its intervals, and which of the three dominates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from scaling.planning.allocate.budgets import Budgets
from scaling.planning.allocate.problem import Problem
from scaling.planning.allocate.question import lines_of
from scaling.planning.allocate.subject import Subject
from scaling.planning.cost import Rates

#: What is assumed of utilisation where no range is given: Llama-3.1-405B and BLOOM to LLaMA-1, 6ND over allocated hours.
MFU_RANGE = (0.30, 0.50)
SAMPLES = 4000
#: What is assumed inside the ranges, said with every answer that rests on it.
SHAPES = ("price log-uniform in its range", "utilisation triangular in its range")


#: Steps of the sequence that fills a square most evenly: 1/g and 1/g^2, g the root of g^3 = g + 1 (Roberts 2018).
EVEN = (0.7548776662466927, 0.5698402909980532)


@dataclass(frozen=True)
class Ranges:
    """What is not known of price and utilisation: factors on the rates' own; and whether they were given."""

    price: tuple[float, float]
    mfu: tuple[float, float]
    given: bool

    @classmethod
    def of(cls, price: tuple[float, float] | None, mfu: tuple[float, float] | None, rates: Rates) -> Ranges:
        """The given ranges; else the table's lowest to highest list price, and the utilisations that runs have published.

        The rates' own price lies in the middle of a range given on the command line, and at the low end of the table's.
        Raises ValueError for a range that is not LOW to HIGH, above 0 and, of utilisation, at most 1.
        """
        for name, ends, most in (("price-range", price, math.inf), ("mfu-range", mfu, 1.0)):
            if ends is not None and not (0 < ends[0] <= ends[1] <= most and math.isfinite(ends[1])):
                what = "numbers above 0" if most > 1 else "shares in (0, 1]"
                raise ValueError(f"{name} = {ends[0]:g} to {ends[1]:g}: needed {what}, the lower first.")
        wide = lambda span: span is not None and span[0] < span[1]  # noqa: E731
        given = wide(price) or wide(mfu)
        if not given:
            price, mfu = rates.price_range, MFU_RANGE
        usd = rates.usd_per_hour
        price_factors = (1.0, 1.0) if price is None or usd is None else (price[0] / usd, price[1] / usd)
        mfu_factors = (1.0, 1.0) if mfu is None else (mfu[0] / rates.mfu, mfu[1] / rates.mfu)
        return cls(price_factors, mfu_factors, given)

    def draw(self, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Factors on price and utilisation, [size] each: the points of an even sequence, the same at every call.

        Only their ranges are known. That price is log-uniform and utilisation triangular is a choice, made after trying
        several because it comes near intervals that were published without their distributions ($5.2k to 11.2k for a loss
        of 2.2 on Epoch's runs at $2 to 4 an hour and utilisation .3 to .5); it is no finding. SHAPES says so in the answer.
        """
        first, second = (((0.5 + step * np.arange(1, size + 1)) % 1.0) for step in EVEN)
        (cheap, dear), (low, high) = np.log(self.price), self.mfu
        rising = low + (high - low) * np.sqrt(second / 2)
        falling = high - (high - low) * np.sqrt((1 - second) / 2)
        return np.exp(cheap + (dear - cheap) * first), np.where(second < 0.5, rising, falling)


@dataclass(frozen=True)
class Samples:
    """The answer under every resample of the law, price and utilisation together, and under each alone."""

    everything: Mapping[str, np.ndarray] | None
    alone: Mapping[str, np.ndarray]
    quantity: str
    assumed: bool
    price_range: tuple[float, float]
    mfu_range: tuple[float, float]
    answer_at: Mapping[str, float | None]

    @property
    def from_lowest_price(self) -> bool:
        """Whether the answer is at the lowest price of the range, so that the price alone can only make it dearer."""
        price, (low, high) = self.answer_at["usd_per_hour"], self.price_range
        return price is not None and math.isclose(price, low) and low < high

    @property
    def unreached(self) -> float:
        """Share of the resamples in which the loss cannot be reached."""
        return 0.0 if self.everything is None else float(np.mean(~np.isfinite(self.everything["C"])))

    def split(self, level: float) -> dict[str, Any] | None:
        """Per source the interval of the quantity when only that is uncertain, and which is the widest on a log scale.

        `answer_at` is the price and utilisation of the answer itself. Where the price is the lowest listed one, as by default
        (`from_lowest_price`), the answer lies at the cheap end of the price's range and outside the interval of price alone.
        """
        if len(self.alone) < 2:
            return None
        bands = {name: interval(values, level) for name, values in self.alone.items()}
        widths = {
            name: math.inf if band[0] is None or band[1] is None else math.log(band[1] / band[0])
            for name, band in bands.items()
            if name != "all"
        }
        return {
            "quantity": self.quantity,
            "level": level,
            **bands,
            "dominant": max(widths, key=lambda name: widths[name]),
            "assumed": self.assumed,
            "price_range": list(self.price_range),
            "mfu_range": list(self.mfu_range),
            "answer_at": dict(self.answer_at),
            "from_lowest_price": self.from_lowest_price,
            "assumptions": [*SHAPES, *(("both ranges themselves",) if self.assumed else ())],
        }


def sample(
    subject: Subject,
    budgets: Budgets,
    problem: Problem,
    rates: Rates,
    loss: float | None,
    usd_per_token: float,
    answer: tuple[float, float],
    ranges: Ranges,
) -> Samples:
    size = SAMPLES if subject.draws is None else len(subject.draws)
    price, mfu = ranges.draw(size)
    drawn = None if subject.draws is None else subject.drawn()

    def under(law: Any, price: Any, mfu: Any) -> dict[str, np.ndarray]:
        lines = lines_of(budgets, rates, loss, usd_per_token, price, mfu)
        varied = replace(problem, law=law or problem.law, lines=lines)
        if loss is None:
            N, D = varied.best()
            expected = varied.loss(*answer) if law is not None and not np.ndim(price) else varied.loss(N, D)
        else:
            N, D = varied.least(loss)
            expected = np.float64(loss)
        return _quantities(varied, N, D, expected, rates, usd_per_token, price, mfu, size)

    priced = rates.usd_per_hour is not None
    quantity = "loss" if loss is None and problem.binding(*answer) != "flops" else "usd" if priced else "device_hours"
    alone = {}
    if drawn is not None:
        alone["law"] = under(drawn, 1.0, 1.0)[quantity]
    if priced:
        alone["price"] = under(None, price, 1.0)[quantity]
    alone["utilisation"] = under(None, 1.0, mfu)[quantity]
    if drawn is not None:
        alone["all"] = under(drawn, price, mfu)[quantity]
    everything = None
    if drawn is not None or ranges.given:
        everything = under(drawn, price, mfu) if ranges.given else under(drawn, 1.0, 1.0)
    usd = rates.usd_per_hour or 1.0
    return Samples(
        everything,
        alone,
        quantity,
        not ranges.given,
        (ranges.price[0] * usd, ranges.price[1] * usd),
        (ranges.mfu[0] * rates.mfu, ranges.mfu[1] * rates.mfu),
        {"usd_per_hour": rates.usd_per_hour, "mfu": rates.mfu},
    )


def _quantities(
    problem: Problem, N: Any, D: Any, loss: Any, rates: Rates, usd_per_token: float, price: Any, mfu: Any, size: int
) -> dict[str, np.ndarray]:
    with np.errstate(invalid="ignore"):
        C = problem.flops(N, D)
        total = C + problem.serving(N)
        found = {"N": N, "D": D, "C": C, "loss": loss, "tokens_per_parameter": D / N}
        hours = total * rates.per_flop("device_hours") / mfu
        found["device_hours"] = hours
        per_hour = {"usd": rates.usd_per_hour, "kwh": rates.kwh_per_hour, "kg_co2e": rates.kg_per_hour}
        for name, rate in per_hour.items():
            if rate is not None:
                extra = usd_per_token * D if name == "usd" and usd_per_token else 0.0
                found[name] = hours * rate * (price if name == "usd" else 1.0) + extra
    return {name: np.broadcast_to(np.asarray(value, np.float64), (size,)) for name, value in found.items()}


def interval(values: np.ndarray, level: float) -> list[float | None]:
    """[low, high], an end that is not finite as None."""
    ends = np.quantile(np.where(np.isnan(values), np.inf, values), [(1 - level) / 2, (1 + level) / 2], method="nearest")
    return [float(end) if np.isfinite(end) else None for end in ends]


def intervals(samples: Mapping[str, np.ndarray], level: float) -> dict[str, Any]:
    return {"level": level, **{name: interval(values, level) for name, values in samples.items()}}
