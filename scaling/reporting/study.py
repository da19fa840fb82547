"""Study: the runs, the fits and the answers that a figure or a report is about."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from scaling.fitting import isoflop
from scaling.fitting.compare import Comparison, compare
from scaling.fitting.fit import Fit, FitError, profiles
from scaling.fitting.laws import Law
from scaling.fitting.uncertainty import Profile
from scaling.planning.allocate import Allocation, Subject
from scaling.planning.cost import Rates
from scaling.planning.cost.efficiency import Efficiency, accelerator_of, efficiency, read_records
from scaling.planning.design import Expected, Target, check
from scaling.runs import Runs, record_paths


@dataclass(frozen=True)
class Study:
    """Runs, the fits of laws to them (the first is the one that answers), and allocations under the first.

    `flops` is the budget that figures of one budget are drawn at: by default 10 times the largest trained.
    `commands` are what makes the study again, for its report; `beside` are published laws to draw beside the fit.
    """

    runs: Runs
    fits: Sequence[Fit] = ()
    allocations: Sequence[Allocation] = ()
    flops: float | None = None
    title: str = "Scaling report"
    commands: Sequence[str] = ()
    beside: Mapping[str, Law] = field(default_factory=dict)

    @property
    def fit(self) -> Fit | None:
        """The fit that answers; None where there is none."""
        return self.fits[0] if self.fits else None

    @cached_property
    def subject(self) -> Subject | None:
        """The fit that answers, with how it counts FLOPs."""
        return None if self.fit is None else Subject.of(self.fit)

    @property
    def budget(self) -> float:
        """FLOPs of the figures that are drawn at one budget."""
        return 10 * float(self.runs.C.max()) if self.flops is None else self.flops

    @cached_property
    def profiles(self) -> list[Profile]:
        """The profile likelihood of each free coefficient. Raises ValueError where the fit is of other runs."""
        assert self.fit is not None
        return profiles(self.runs, self.fit)

    @cached_property
    def efficiency(self) -> Efficiency | None:
        """What the sweep cost, failed runs too, at the rates of its device; None where the runs are no folder of records."""
        folder = Path(self.runs.source)
        if not folder.is_dir() or not record_paths(folder):
            return None
        device = accelerator_of(read_records(folder))
        return efficiency(folder, Rates.of(device))

    @cached_property
    def comparison(self) -> Comparison:
        """The laws that these runs allow, compared on held-out compute. Raises FitError where none can be."""
        return compare(self.runs)

    @cached_property
    def expected(self) -> tuple[Expected, ...]:
        """How well these runs pin N* down at 1 to 1000 times their largest C, if the fitted law holds."""
        assert self.subject is not None
        C = float(self.runs.C.max())
        return tuple(
            check(self.runs.N, self.runs.D, Target("N", C * beyond, self.subject.currency), prior=self.subject.law)
            for beyond in (1, 3, 10, 30, 100, 300, 1000)
        )

    @cached_property
    def costs(self) -> dict[str, np.ndarray]:
        """What each run cost, by label with unit: FLOPs, and from its own clock hours, and kWh and kg where power is known."""
        table, costs = self.runs.table, {"compute C, FLOPs": self.runs.C}
        if "seconds" not in table or not np.isfinite(table["seconds"].to_numpy(np.float64)).any():
            return costs
        compiling = table["compile_seconds"].fillna(0.0) if "compile_seconds" in table else 0.0
        hours = ((table["seconds"] + compiling) / 3600).to_numpy(np.float64)
        costs["device-hours"] = hours
        for device in table["device"].dropna().unique() if "device" in table else ():
            rates = _rates(str(device))
            here = np.where(table["device"] == device, hours, np.nan)
            for label, rate in ({} if rates is None else _per_hour(rates)).items():
                costs[label] = np.where(np.isfinite(here), here * rate, costs.get(label, np.nan))
        return costs

    @cached_property
    def approach1(self) -> isoflop.Frontier | None:
        """Approach 1 on these runs; None where they do not allow it."""
        return _where_possible(isoflop.approach1, self.runs)

    @cached_property
    def approach2(self) -> isoflop.Frontier | None:
        """Approach 2 on these runs; None where they do not allow it."""
        return _where_possible(isoflop.approach2, self.runs)


def _where_possible(approach: Callable[[Runs], isoflop.Frontier], runs: Runs) -> isoflop.Frontier | None:
    try:
        return approach(runs)
    except FitError:
        return None


def _rates(device: str) -> Rates | None:
    """The rates of a device that the tables know; None for the others, a CPU for one."""
    try:
        return Rates.of(device)
    except ValueError:
        return None


def _per_hour(rates: Rates) -> dict[str, float]:
    known = {"dollars": rates.usd_per_hour, "energy, kWh": rates.kwh_per_hour, "kg CO2e": rates.kg_per_hour}
    return {label: rate for label, rate in known.items() if rate is not None}
