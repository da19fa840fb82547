"""Study: the runs, the fits and the answers that a figure or a report is about."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from scaling.fitting import isoflop
from scaling.fitting.compare import Comparison, compare
from scaling.fitting.fit import Fit, FitError, profiles
from scaling.fitting.uncertainty import Profile
from scaling.planning.allocate import Allocation, Subject
from scaling.planning.cost import Rates
from scaling.planning.cost.efficiency import PARTS, Efficiency, accelerator_of, efficiency, read_records
from scaling.planning.design import AtHand, Design, Expected, Target, check, design, noise_of, resampled
from scaling.reporting.frontiers import USUAL, Best
from scaling.runs import Run, Runs, record_paths

#: What a run costs beside FLOPs, by label with unit -> its name in an efficiency report.
COSTS = {"device-hours": "device_hours", "dollars": "usd", "energy, kWh": "kwh", "kg CO2e": "kg_co2e"}


@dataclass(frozen=True)
class Floor:
    """The least loss that any model can have on a planted corpus at the runs' context, nats per token, and its standard error."""

    value: float
    se: float

    def above(self, fit: Fit) -> tuple[float, float | None, float | None]:
        """The fitted E less the floor, and the ends of its interval: the bootstrap's and the floor's own error together.

        The ends are None for a fit without resamples.
        """
        E = fit.law.params["E"] - self.value
        if fit.draws is None:
            return E, None, None
        draws = np.asarray(fit.draws)[:, type(fit.law).names().index("E")] - self.value
        draws = draws + self.se * np.random.default_rng(0).normal(size=len(draws))
        low, high = np.quantile(draws, (0.05, 0.95))
        return E, float(low), float(high)


@dataclass(frozen=True)
class Study:
    """Runs, the fits of laws to them (the first is the one that answers), and allocations under the first.

    `flops` is the budget that figures of one budget are drawn at: by default 10 times the largest trained.
    `commands` are what makes the study again, for its report; `beside` are published best sizes to draw beside the fit's.
    """

    runs: Runs
    fits: Sequence[Fit] = ()
    allocations: Sequence[Allocation] = ()
    flops: float | None = None
    title: str = "Scaling report"
    commands: Sequence[str] = ()
    beside: Sequence[Best] = tuple(USUAL.values())

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
    def floor(self) -> Floor | None:
        """What the corpus.json beside the records says of a planted source; None for any other corpus."""
        folder = Path(self.runs.source)
        paths = record_paths(folder) if folder.is_dir() else []
        told = paths[0].parent / "corpus.json" if paths else folder / "corpus.json"
        if not told.is_file() or not (planted := json.loads(told.read_text())).get("floor"):
            return None
        context = str(Run.read(paths[0]).spec["shape"]["context"])
        if context not in planted["floor"]:
            return None
        return Floor(float(planted["floor"][context]), float(planted.get("floor_se", {}).get(context, 0.0)))

    @cached_property
    def floored(self) -> tuple[Fit, ...]:
        """The fits whose law has a floor E."""
        return tuple(fit for fit in self.fits if "E" in fit.law.params)

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
        """How well these runs pin N* down at 1 to 1000 times their largest C, if the law holds, at the noise that they show.

        Raises ValueError for fewer different runs than the law has coefficients.
        """
        C = float(self.runs.C.max())
        return tuple(
            check(self.runs.N, self.runs.D, self._target(C * beyond), **self._prior)
            for beyond in (1, 3, 10, 30, 100, 300, 1000)
        )

    @cached_property
    def proposed(self) -> Design | None:
        """The runs to train next for N* at the budget of the figures, for as many FLOPs as a fifth of these runs took.

        None where these runs count C as 6ND, which no shape of the ladder is built for, or where none can be bought.
        """
        if self.subject is None or self.subject.currency.flops != "exact":
            return None
        had, C = (self.runs.N, self.runs.D), self.runs.C
        try:
            return design(
                self._target(self.budget), flops=float(C.sum()) / 5, max_run=float(C.max()), had=had, **self._prior
            )
        except ValueError:
            return None

    def _target(self, C: float) -> Target:
        assert self.subject is not None
        return Target("N", C, self.subject.currency)

    @cached_property
    def _prior(self) -> dict[str, Any]:
        """What a design takes as known: the fitted law, its resamples, and the noise that they show."""
        assert self.subject is not None
        runs = AtHand(self.runs.source, self.runs.N, self.runs.D, self.runs.loss, self.subject.currency)
        noise, _ = noise_of(self.subject, runs, self._target(float(self.runs.C.max())))
        return {"prior": self.subject.law, "laws": resampled(self.subject), "noise": noise}

    @cached_property
    def costs(self) -> dict[str, np.ndarray]:
        """What each run cost, by label with unit: FLOPs; of a folder of records also what its efficiency report knows of each,
        of a table with clocks the hours on them.
        """
        costs, table = {"compute C, FLOPs": self.runs.C}, self.runs.table
        if self.efficiency is None:
            clocks = [name for name in PARTS.values() if name in table]
            hours = table[clocks].sum(axis=1, min_count=1).to_numpy(np.float64) / 3600
            return {**costs, "device-hours": hours} if np.isfinite(hours).any() else costs
        by_id = {run.id: run for run in self.efficiency.runs}
        for label, axis in COSTS.items():
            values = [run.axis(axis) if (run := by_id.get(id)) else None for id in self.runs.id]
            known = np.array([np.nan if value is None else value for value in values], np.float64)
            if np.isfinite(known).any():
                costs[label] = known
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
