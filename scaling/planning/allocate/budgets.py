"""Budgets: what may be spent, in FLOPs, dollars, device-hours, kWh or kg CO2e, as lines of a Problem."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

from scaling.planning.allocate.problem import Line
from scaling.planning.cost import Rates

#: Budget -> the unit of Rates.per_flop, and how it moves with a factor on the price and on the utilisation.
_UNITS = {
    "usd": ("usd", lambda price, mfu: price / mfu),
    "hours": ("device_hours", lambda price, mfu: 1 / mfu),
    "kwh": ("kwh", lambda price, mfu: 1 / mfu),
    "kg_co2e": ("kg_co2e", lambda price, mfu: 1 / mfu),
}


@dataclass(frozen=True)
class Budgets:
    """Limits; None is no limit. `hours` are wall-clock, over `devices`."""

    flops: float | None = None
    usd: float | None = None
    hours: float | None = None
    devices: int | None = None
    kwh: float | None = None
    kg_co2e: float | None = None

    def __post_init__(self) -> None:
        for limit in fields(self):
            value = getattr(self, limit.name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ValueError(f"{limit.name.replace('_', '-')} = {value:g}: a budget is a positive number.")
        if self.hours is not None and self.devices is None:
            raise ValueError(f"hours = {self.hours:g} without devices: how many run for that long? Give --devices.")

    @property
    def given(self) -> tuple[str, ...]:
        """The names of the limits that are set."""
        return tuple(name for name in ("flops", *_UNITS) if getattr(self, name) is not None)

    def lines(self, rates: Rates, usd_per_token: float = 0.0, price: Any = 1.0, mfu: Any = 1.0) -> tuple[Line, ...]:
        """One line a limit; `price` and `mfu` are factors on the rates' own, numbers or arrays [S]."""
        lines = [] if self.flops is None else [Line("flops", self.flops)]
        others = (self.line(name, rates, usd_per_token, price, mfu) for name in self.given if name in _UNITS)
        return (*lines, *others)

    def line(self, name: str, rates: Rates, usd_per_token: float = 0.0, price: Any = 1.0, mfu: Any = 1.0) -> Line:
        """The line of one limit, endless where it is not set."""
        unit, factor = _UNITS[name]
        limit = getattr(self, name)
        limit = math.inf if limit is None else limit * (self.devices or 1) if name == "hours" else limit
        per_token = usd_per_token if name == "usd" else 0.0
        return Line(name, limit, rates.per_flop(unit) * factor(price, mfu), per_token)
