"""The efficiency report of a folder of runs: what it cost, how each number was obtained, and what cost bought.

Schwartz et al. 2020, "Green AI", ask that a result stands beside the work that made it: this is the block to print.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from scaling.grid import Grid
from scaling.hardware import Accelerator
from scaling.planning.cost.costs import Cost, of_hours
from scaling.planning.cost.rates import Rates
from scaling.runs import Run, record_paths

#: Costs that the Pareto front of loss is drawn against.
AXES = ("C", "device_hours", "usd", "kwh", "kg_co2e")
#: What a record's hours are made of, by the field of its clock.
PARTS = {"training": "seconds", "compiling": "compile_seconds", "evaluating": "eval_seconds"}


@dataclass(frozen=True)
class RunCost:
    """What one run used: its FLOPs, and device-hours measured or, where no clock was kept, missing.

    `C` is what it takes to train it alone; `flops_spent` what it took here, where a trunk was shared with siblings.
    `energy` says how its kWh were obtained, None where they are not known.
    """

    id: str
    status: str
    N: int
    D: int
    C: int
    loss: float | None
    cost: Cost | None
    hours: dict[str, float | None]
    flops_spent: int
    energy: str | None = None

    def axis(self, name: str) -> float | None:
        """One of AXES; None where not known."""
        return float(self.C) if name == "C" else None if self.cost is None else getattr(self.cost, name)


@dataclass(frozen=True)
class Efficiency:
    """The report of R runs: totals (the failed apart, and with them), how each number was obtained, Pareto fronts.

    `hours` are the device-hours of each of PARTS over all runs; None where no record has that clock.
    """

    folder: str
    devices: tuple[str, ...]
    runs: tuple[RunCost, ...]
    done: dict[str, float | None]
    failed: dict[str, float | None]
    total: dict[str, float | None]
    hours: dict[str, float | None]
    obtained: dict[str, str]
    fronts: dict[str, tuple[str, ...]]
    rates: Rates

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        plain = asdict(self)
        for run in plain["runs"]:
            spent = run.pop("cost")
            run.update({axis: None if spent is None else spent[axis] for axis in AXES if axis != "C"})
        plain["facts"] = list(plain["rates"].pop("facts"))
        return plain


def read_records(path: str | Path) -> tuple[Run, ...]:
    """The records of a folder, or the one in a file; failed ones too."""
    path = Path(path)
    paths = record_paths(path) if path.is_dir() else [path]
    if not paths:
        raise ValueError(f"{path}: no run record in this folder.")
    return tuple(Run.read(each) for each in paths)


def planned(path: str | Path) -> Grid | None:
    """The grid that a folder without records, or a grid.toml, plans; None where there are records or no grid."""
    path = Path(path)
    toml = path if path.suffix == ".toml" else path / "grid.toml"
    if not toml.is_file() or (path.is_dir() and record_paths(path)):
        return None
    return Grid.read(toml)


def accelerator_of(records: Sequence[Run]) -> str | None:
    """The table's name of the one device that all records were made on; None where it has none (a CPU)."""
    names = {record.device for record in records if record.device}
    if len(names) != 1:
        return None
    try:
        return Accelerator.named(names.pop()).name
    except ValueError:
        return None


def efficiency(path: str | Path, rates: Rates) -> Efficiency:
    """What the runs in a folder cost at these rates. Device-hours are the records' own clocks."""
    records = read_records(path)
    runs = tuple(_run_cost(record, rates) for record in records)
    groups = {
        "done": [run for run in runs if run.status == "done"],
        "failed": [run for run in runs if run.status != "done"],
        "total": list(runs),
    }
    devices = tuple(sorted({record.device for record in records if record.device}))
    return Efficiency(
        folder=str(path),
        devices=devices,
        runs=runs,
        **{name: _total(group) for name, group in groups.items()},
        hours={part: _known_sum(run.hours[part] for run in runs) for part in PARTS},
        obtained=_obtained(records, runs, rates),
        fronts={axis: pareto(groups["done"], axis) for axis in AXES},
        rates=rates,
    )


def pareto(runs: Sequence[RunCost], axis: str) -> tuple[str, ...]:
    """Ids of the runs that no other beats in both loss and cost, cheapest first."""
    known = [(run.axis(axis), run.loss, run.id) for run in runs if run.axis(axis) is not None and run.loss is not None]
    front, best = [], np.inf
    for _, loss, name in sorted(known):
        if loss < best:
            front.append(name)
            best = loss
    return tuple(front)


def _run_cost(record: Run, rates: Rates) -> RunCost:
    clocks = {part: getattr(record, name) for part, name in PARTS.items()}
    hours = {part: None if clock is None else clock * record.devices / 3600 for part, clock in clocks.items()}
    whole = None if hours["training"] is None else _known_sum(hours.values())
    spent_flops = record.C if record.flops_spent is None else record.flops_spent
    spent = of_hours(rates, whole, flops=float(spent_flops)) if whole else None
    energy = None if spent is None or spent.kwh is None else "estimated: hours x average watts x server factor x PUE"
    if spent is not None and record.energy_kwh is not None and _trusted(record, rates):
        spent, energy = _metered(spent, record.energy_kwh), f"{record.energy_how or 'recorded'}, x server factor x PUE"
    return RunCost(
        record.id, record.status, record.N, record.D, record.C, record.loss, spent, hours, spent_flops, energy
    )


def _trusted(record: Run, rates: Rates) -> bool:
    """A record's energy counts where it was measured, or where the rates know no power to estimate it with."""
    return rates.watts is None or (record.energy_how or "").startswith("measured")


def _metered(spent: Cost, device_kwh: float) -> Cost:
    """The cost with its energy as the device's own meter read it, at the facility's: x server factor x PUE."""
    rates = spent.rates
    kwh = device_kwh * rates.server_factor * rates.pue
    idle = spent.device_hours * rates.idle_kwh_per_hour
    operational = None if rates.g_per_kwh is None else kwh * rates.g_per_kwh / 1000
    standing = 0.0 if rates.g_per_kwh is None else idle * rates.g_per_kwh / 1000
    total = None if operational is None else operational + standing + (spent.kg_embodied or 0.0)
    missing = {name: why for name, why in spent.missing.items() if name not in ("kwh", "kg_co2e")}
    return replace(spent, kwh=kwh + idle, kg_operational=operational, kg_idle=standing, kg_co2e=total, missing=missing)


def _known_sum(values: Iterable[float | None]) -> float | None:
    """The sum of those that are known; None where none is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _total(runs: Sequence[RunCost]) -> dict[str, float | None]:
    """Sums over runs; None where any run's number is missing."""
    totals: dict[str, float | None] = {"runs": float(len(runs))}
    for axis in AXES:
        values = [float(run.flops_spent) if axis == "C" else run.axis(axis) for run in runs]
        totals[axis] = None if any(value is None for value in values) else float(sum(filter(None, values)))
    return totals


def _obtained(records: Sequence[Run], runs: Sequence[RunCost], rates: Rates) -> dict[str, str]:
    unclocked = [record.id for record in records if record.seconds is None]
    hours = f"measured: each record's own clocks of {', '.join(PARTS)}, added up"
    for part in ("compiling", "evaluating"):
        absent = sum(getattr(record, PARTS[part]) is None for record in records)
        if absent:
            hours += f"; {part} was not clocked in {absent} of {len(records)} runs, where the hours are without it"
    if unclocked:
        hours += f"; missing for {len(unclocked)} of {len(records)} runs ({', '.join(unclocked[:3])}), so no total"
    ways = Counter(run.energy or "missing: give --watts" for run in runs)
    power = "; ".join(way if len(ways) == 1 else f"{way} ({count} of {len(runs)} runs)" for way, count in ways.items())
    unknown = all(run.energy is None for run in runs)
    shared = sum(run.flops_spent != run.C for run in runs)
    flops = "exact: counted from each run's shape and tokens (planned FLOPs of the failed runs)"
    if shared:
        flops += f"; {shared} runs share a trunk with siblings, and count what they added to it"
    return {
        "C": flops,
        "device_hours": hours,
        "usd": "missing: give --usd-per-hour" if rates.usd_per_hour is None else "estimated: hours x price",
        "kwh": power,
        "kg_co2e": power if unknown else "estimated: kWh x grid intensity",
    }
