"""Rates: what one device-hour computes, and what it costs in dollars, kWh and kg CO2e. Every budget is linear in it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from scaling.hardware import Accelerator, Region

#: The chip that a plan given in FLOPs is priced on when nothing else is said.
DEFAULT_ACCELERATOR = "h100-sxm"
DEFAULT_MFU = 0.4
DEFAULT_REGION = "us"
#: Google's fleet; the industry's mean is 1.58 (Uptime Institute 2023).
DEFAULT_PUE = 1.1
#: Server over chips: the H100's (Epoch AI, as compiled 2026-11), where a chip's own is not known.
DEFAULT_SERVER_FACTOR = 1.82
#: Years and busy share over which a device's manufacture is spread (Luccioni et al. 2023, section 4.1).
LIFETIME_YEARS, LIFETIME_UTILISATION = 6.0, 0.85

PRICES = ("on-demand", "committed", "spot")


@dataclass(frozen=True)
class Fact:
    """One number that an answer rests on: its value with unit, where it is from, and when it was true."""

    name: str
    value: str
    source: str
    date: str = ""


@dataclass(frozen=True)
class Preemption:
    """A spot machine that is taken away every `mean_hours` on average, saves in `save_hours`, restarts in `restart_hours`."""

    mean_hours: float = 8.0
    save_hours: float = 2 / 60
    restart_hours: float = 10 / 60

    def __post_init__(self) -> None:
        _positive(self.mean_hours, "preempted-every")
        _positive(self.save_hours * 60, "save-minutes")
        _at_least(0, self.restart_hours * 60, "restart-minutes")
        if self.overhead >= 1:
            raise ValueError(
                f"a preemption every {self.mean_hours:g} h with {self.save_hours:g} h to save and "
                f"{self.restart_hours:g} h to restart leaves no time to train. Use a steadier machine."
            )

    @property
    def interval_hours(self) -> float:
        """Hours between checkpoints that lose least: sqrt(2 save mean) (Young 1974; Daly 2006, first order)."""
        return math.sqrt(2 * self.save_hours * self.mean_hours)

    @property
    def overhead(self) -> float:
        """Share of the allocated time that is lost to saving, to lost work and to restarts, first order."""
        tau = self.interval_hours
        return self.save_hours / tau + tau / (2 * self.mean_hours) + self.restart_hours / self.mean_hours


@dataclass(frozen=True)
class Rates:
    """What one device-hour does and costs; None is not known, and `missing` says what would tell it.

    `mfu` is the share of peak that goes into the FLOPs being counted, while running; `goodput` the share of allocated
    hours that run. `watts` is the average draw of the device; the server around it and the facility are factors on it.
    """

    accelerator: str | None
    precision: str
    peak_flops: float | None
    mfu: float
    goodput: float
    usd_per_hour: float | None
    watts: float | None
    server_factor: float
    pue: float
    g_per_kwh: float | None
    idle_watts: float = 0.0
    embodied_kg_per_hour: float | None = None
    memory_gb: float | None = None
    preemption: Preemption | None = None
    price_range: tuple[float, float] | None = None
    facts: tuple[Fact, ...] = ()

    @classmethod
    def of(
        cls,
        accelerator: str | None = DEFAULT_ACCELERATOR,
        *,
        precision: str = "bf16",
        mfu: float = DEFAULT_MFU,
        goodput: float = 1.0,
        price: str = "on-demand",
        usd_per_hour: float | None = None,
        peak_tflops: float | None = None,
        watts: float | None = None,
        server_factor: float | None = None,
        region: str | None = None,
        pue: float | str | None = None,
        g_per_kwh: float | None = None,
        idle_watts: float = 0.0,
        embodied_kg: float | None = None,
        embodied: bool = False,
        lifetime_years: float | None = None,
        lifetime_utilisation: float | None = None,
        preemption: Preemption | None = None,
        accelerators: str | Path | None = None,
        regions: str | Path | None = None,
    ) -> Rates:
        """The rates of an accelerator (or of none, from `watts` and `usd_per_hour`) somewhere; arguments beat the tables.

        `watts` is taken as the whole average draw: the chip's power share and server factor then count only where given.
        Raises ValueError for an unknown name, a rate with sparsity, a number that no rate can be, and a lifetime with nothing
        to spread over it.
        """
        chip = None if accelerator is None else Accelerator.named(accelerator, accelerators)
        facts: list[Fact] = []
        for name, value in (("mfu", mfu), ("goodput", goodput)):
            _share(value, name)
        if price not in PRICES:
            raise ValueError(f"price = {price!r}: needed one of {', '.join(PRICES)}.")
        peak = _peak(chip, precision, peak_tflops, facts)
        if peak is not None:
            facts.append(Fact("utilisation", f"{mfu:.1%} of peak, {goodput:.0%} of hours running", "given or default"))
        usd = _usd(chip, price, usd_per_hour, facts)
        draw, server = _power(chip, watts, server_factor, facts)
        place = Region.named(DEFAULT_REGION if region is None else region, regions)
        pue_value = _pue(place, pue, regions, facts)
        grams = _grams(place, g_per_kwh, region is None, facts)
        if price == "spot" and preemption is None:
            preemption = Preemption()
        if preemption is not None:
            facts.append(
                Fact(
                    "preemption",
                    f"every {preemption.mean_hours:g} h: checkpoint each {preemption.interval_hours:.3f} h, "
                    f"{preemption.overhead:.1%} of the time lost",
                    "Young 1974, Daly 2006, first order",
                )
            )
        return cls(
            accelerator=chip and chip.name,
            precision=precision,
            peak_flops=peak,
            mfu=mfu,
            goodput=goodput,
            usd_per_hour=usd,
            watts=draw,
            server_factor=server,
            pue=pue_value,
            g_per_kwh=grams,
            idle_watts=_at_least(0, idle_watts, "idle-watts"),
            embodied_kg_per_hour=_embodied(chip, embodied, embodied_kg, lifetime_years, lifetime_utilisation, facts),
            memory_gb=chip and chip.memory_gb,
            preemption=preemption,
            price_range=_price_range(chip, price) if usd_per_hour is None else None,
            facts=tuple(facts),
        )

    @property
    def flops_per_hour(self) -> float | None:
        """FLOPs that an allocated device-hour adds to the model: peak x mfu x goodput, less what preemption costs."""
        if self.peak_flops is None:
            return None
        running = 1.0 if self.preemption is None else 1 - self.preemption.overhead
        return self.peak_flops * self.mfu * self.goodput * running * 3600

    @property
    def kwh_per_hour(self) -> float | None:
        """kWh a device-hour at the facility's meter: watts x server factor x PUE."""
        return None if self.watts is None else self.watts * self.server_factor * self.pue / 1000

    @property
    def idle_kwh_per_hour(self) -> float:
        """kWh a device-hour of the machines that stand by for it."""
        return self.idle_watts * self.pue / 1000

    @property
    def kg_per_hour(self) -> float | None:
        """kg CO2e a device-hour: operational, idle, and embodied where it is counted."""
        if self.kwh_per_hour is None or self.g_per_kwh is None:
            return None
        energy = (self.kwh_per_hour + self.idle_kwh_per_hour) * self.g_per_kwh / 1000
        return energy + (self.embodied_kg_per_hour or 0.0)

    def per_flop(self, unit: str) -> float:
        """usd, kwh or kg_co2e (or device_hours) a FLOP. Raises ValueError saying what is missing."""
        hours = _known(self.flops_per_hour, "an accelerator or --peak-tflops")
        rate = {
            "device_hours": 1.0,
            "usd": self.usd_per_hour,
            "kwh": None if self.kwh_per_hour is None else self.kwh_per_hour + self.idle_kwh_per_hour,
            "kg_co2e": self.kg_per_hour,
        }[unit]
        return _known(rate, self.needed(unit)) / hours

    def needed(self, unit: str) -> str:
        """What to give so that this unit is known."""
        chip = self.accelerator or "this device"
        return {
            "device_hours": "an accelerator or --peak-tflops",
            "usd": f"--usd-per-hour: {chip} has no price of this kind in the table",
            "kwh": f"--watts: {chip} has no published power",
            "kg_co2e": f"--watts: {chip} has no published power" if self.watts is None else "--g-per-kwh",
        }[unit]


def _positive(value: float, name: str) -> float:
    if not math.isfinite(value) or value <= 0:
        raise ValueError(f"{name} = {value:g}: needed a positive number.")
    return value


def _share(value: float, name: str) -> float:
    if not 0 < value <= 1:
        raise ValueError(f"{name} = {value:g}: needed a share in (0, 1].")
    return value


def _at_least(least: float, value: float, name: str, why: str = "") -> float:
    if not least <= value < math.inf:
        raise ValueError(f"{name} = {value:g}: {why}needed a number of {least:g} or more.")
    return value


def _known(value: float | None, needed: str) -> float:
    if value is None:
        raise ValueError(f"not enough is known for this: give {needed}.")
    return value


def _peak(chip: Accelerator | None, precision: str, tflops: float | None, facts: list[Fact]) -> float | None:
    if tflops is not None:
        _positive(tflops, "peak-tflops")
        if chip is not None:
            chip.check_dense(tflops, precision)
        facts.append(Fact("peak", f"{tflops:g} TFLOP/s", "given"))
        return tflops * 1e12
    if chip is None:
        return None
    peak = chip.peak_flops(precision)
    facts.append(Fact("peak", f"{peak / 1e12:g} TFLOP/s {precision}, dense", chip.source, chip.source_date))
    return peak


def _usd(chip: Accelerator | None, price: str, given: float | None, facts: list[Fact]) -> float | None:
    if given is not None:
        facts.append(Fact("price", f"{_positive(given, 'usd-per-hour'):.4g} usd a device-hour", "given"))
        return given
    usd = None if chip is None else chip.usd_per_hour(price)
    if chip is not None and usd is not None:
        high = getattr(chip, f"usd_{price.replace('-', '_')}_high", None)
        spread = f" (lowest listed; up to {high:g})" if high else ""
        facts.append(Fact("price", f"{usd:g} usd a device-hour, {price}{spread}", "list prices", chip.price_date))
    return usd


def _price_range(chip: Accelerator | None, price: str) -> tuple[float, float] | None:
    """Lowest and highest list price of the kind; None where the table has not both."""
    kind = f"usd_{price.replace('-', '_')}"
    low, high = getattr(chip, kind, None), getattr(chip, f"{kind}_high", None)
    return None if low is None or high is None else (low, high)


def _power(
    chip: Accelerator | None, watts: float | None, server: float | None, facts: list[Fact]
) -> tuple[float | None, float]:
    if server is not None:
        _at_least(1, server, "server-factor", "a server draws at least what its chips do; ")
    if watts is not None:
        _positive(watts, "watts")
        facts.append(Fact("power", f"{watts:g} W a device, x {server or 1:g} for the server", "given"))
        return watts, server or 1.0
    if chip is None or chip.watts is None:
        return None, server or 1.0
    share = chip.power_share or 1.0
    factor = server or chip.server_factor or DEFAULT_SERVER_FACTOR
    origin = "given" if server else "Epoch AI" if chip.server_factor else "assumed: the H100's"
    facts.append(Fact("power", f"{chip.watts:g} W x {share:g} average draw", chip.source, chip.source_date))
    facts.append(Fact("server over chip", f"x {factor:g}", origin))
    return chip.watts * share, factor


#: Why a PUE is 1 or more.
_FACILITY = "a facility draws at least what its computers do; "


def _listed_pue(place: Region, pue: float, facts: list[Fact]) -> float:
    """The PUE of a row of the table, which may be the user's own."""
    facts.append(Fact("PUE", f"{pue:g}", place.source, place.source_date))
    return _at_least(1, pue, f"pue of {place.name}", _FACILITY)


def _pue(place: Region, pue: float | str | None, regions: str | Path | None, facts: list[Fact]) -> float:
    if isinstance(pue, str):
        operator = Region.named(pue, regions)
        if operator.pue is None:
            raise ValueError(f"pue = {pue!r}: no PUE is known for it. Give a number.")
        return _listed_pue(operator, operator.pue, facts)
    if pue is not None:
        _at_least(1, pue, "pue", _FACILITY)
        facts.append(Fact("PUE", f"{pue:g}", "given"))
        return pue
    if place.pue is not None:
        return _listed_pue(place, place.pue, facts)
    facts.append(Fact("PUE", f"{DEFAULT_PUE:g}", "assumed: Google's fleet (the industry's mean is 1.58)", "2024-12"))
    return DEFAULT_PUE


def _grams(place: Region, given: float | None, assumed: bool, facts: list[Fact]) -> float | None:
    if given is not None:
        _at_least(0, given, "g-per-kwh")
        facts.append(Fact("grid", f"{given:g} g CO2e a kWh", "given"))
        return given
    if place.g_per_kwh is None:
        return None
    where = f"{place.name}{' (assumed)' if assumed else ''}"
    facts.append(Fact("grid", f"{place.g_per_kwh:g} g CO2e a kWh, {where}", place.source, place.source_date))
    return place.g_per_kwh


def _embodied(
    chip: Accelerator | None,
    counted: bool,
    kg: float | None,
    years: float | None,
    utilisation: float | None,
    facts: list[Fact],
) -> float | None:
    """kg CO2e a device-hour of making the device: `kg` spread over its life, else the published number where it is counted."""
    if kg is not None:
        life = _positive(LIFETIME_YEARS if years is None else years, "lifetime-years")
        busy = _share(LIFETIME_UTILISATION if utilisation is None else utilisation, "lifetime-utilisation")
        facts.append(Fact("embodied", f"{kg:g} kg a device over {life:g} years, {busy:.0%} busy", "given"))
        return _at_least(0, kg, "embodied-kg") / (life * 8760 * busy)
    for name, value in (("lifetime-years", years), ("lifetime-utilisation", utilisation)):
        if value is not None:
            raise ValueError(
                f"{name} = {value:g} without embodied-kg: only a mass that is given is spread over a lifetime; the published "
                f"grams an EFLOP hold one of their own. Give --embodied-kg, or leave --{name} out."
            )
    if not counted:
        return None
    if chip is None or chip.embodied_g_per_eflop is None or chip.bf16 is None:
        who = "this device" if chip is None else chip.name
        raise ValueError(f"no embodied carbon is published for {who}. Give --embodied-kg, the kg of making one.")
    facts.append(
        Fact(
            "embodied",
            f"{chip.embodied_g_per_eflop:g} g an EFLOP of peak fp16",
            "NVIDIA product carbon footprint, HGX board",
            "2025",
        )
    )
    return chip.embodied_g_per_eflop * chip.bf16 * 1e12 * 3600 / 1e18 / 1000
