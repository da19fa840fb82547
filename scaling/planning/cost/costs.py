"""Cost: device-hours, wall-clock, dollars, kWh and kg CO2e of FLOPs or of device-hours."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from scaling.planning.cost.rates import Rates


@dataclass(frozen=True)
class Cost:
    """What a computation costs; None is not known, and `missing` says what to give so that it is.

    `kg_co2e` is the sum of the operational, idle and embodied lines that are known.
    """

    device_hours: float
    devices: int
    seconds: float
    flops: float | None
    usd: float | None
    kwh: float | None
    kg_co2e: float | None
    kg_operational: float | None
    kg_idle: float | None
    kg_embodied: float | None
    rates: Rates = field(repr=False)
    missing: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The cost as plain JSON values, with the facts it rests on."""
        plain = asdict(self)
        rates = plain.pop("rates")
        plain["facts"] = list(rates.pop("facts"))
        plain["rates"] = {name: list(value) if isinstance(value, tuple) else value for name, value in rates.items()}
        return plain


def cost(
    rates: Rates,
    *,
    flops: float | None = None,
    device_hours: float | None = None,
    devices: int | None = None,
    hours: float | None = None,
) -> Cost:
    """The cost of `flops`, of `device_hours`, or of `devices` for `hours`.

    Give one of the three; `devices` beside `flops` or `device_hours` says how many share the work (wall-clock).
    Raises ValueError for two that contradict, and for FLOPs on a device whose rate is not known.
    """
    if hours is not None and device_hours is not None:
        raise ValueError(
            f"both device-hours ({device_hours:g}) and hours ({hours:g}) are given: they say the same thing twice. "
            "Give device-hours, or devices with hours."
        )
    if hours is not None and devices is None:
        raise ValueError(f"hours = {hours:g} without devices: how many run for that long? Give --devices.")
    for name, value in (("flops", flops), ("device-hours", device_hours), ("devices", devices), ("hours", hours)):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} = {value:g}: needed a positive number.")
    allocated = device_hours if hours is None else hours * (devices or 1)
    if (flops is None) == (allocated is None):
        what = "both FLOPs and device-hours are" if flops is not None else "neither FLOPs nor device-hours are"
        raise ValueError(f"{what} given: give one, and the utilisation tells the other.")
    if allocated is None:
        assert flops is not None
        allocated = flops * rates.per_flop("device_hours")
    elif rates.flops_per_hour is not None:
        flops = allocated * rates.flops_per_hour
    return of_hours(rates, allocated, devices or 1, flops)


def of_hours(rates: Rates, device_hours: float, devices: int = 1, flops: float | None = None) -> Cost:
    """The cost of allocated device-hours that did `flops`."""
    kwh = None if rates.kwh_per_hour is None else device_hours * rates.kwh_per_hour
    idle_kwh = device_hours * rates.idle_kwh_per_hour
    operational = idle = None
    if kwh is not None and rates.g_per_kwh is not None:
        operational, idle = kwh * rates.g_per_kwh / 1000, idle_kwh * rates.g_per_kwh / 1000
    embodied = None if rates.embodied_kg_per_hour is None else device_hours * rates.embodied_kg_per_hour
    usd = None if rates.usd_per_hour is None else device_hours * rates.usd_per_hour
    values = {"flops": flops, "usd": usd, "kwh": kwh, "kg_co2e": operational}
    missing = {
        name: "give " + rates.needed("device_hours" if name == "flops" else name)
        for name, value in values.items()
        if value is None
    }
    if embodied is None:
        missing["kg_embodied"] = "not counted: give --embodied or --embodied-kg"
    return Cost(
        device_hours=device_hours,
        devices=devices,
        seconds=device_hours * 3600 / devices,
        flops=flops,
        usd=usd,
        kwh=None if kwh is None else kwh + idle_kwh,
        kg_co2e=None if operational is None else operational + (idle or 0.0) + (embodied or 0.0),
        kg_operational=operational,
        kg_idle=idle,
        kg_embodied=embodied,
        rates=rates,
        missing=missing,
    )
