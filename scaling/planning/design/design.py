"""design: which runs to buy for a question; check: what a grid or a table of runs can tell about it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from scaling.fitting.laws import Chinchilla, Law
from scaling.grid import Grid, IsoFlop
from scaling.planning.allocate import Currency, Line, Problem
from scaling.planning.design.at_hand import NOISE
from scaling.planning.design.cells import Cell, buildable, candidates
from scaling.planning.design.information import Z90, Target, condition_number, plausible, standard_errors
from scaling.planning.design.optimal import Objective, whole_runs

#: The prior law where nothing is known: bytes of Python with the default recipe, measured at 1e12 FLOPs (best near N 61k,
#: loss 1.75) and at 4e12 (121k, 1.52), 2026, with both exponents at .35, between Hoffmann's and Besiroglu's.
BYTES = Chinchilla(E=0.652, A=27.0, B=97.3, alpha=0.35, beta=0.35)


@dataclass(frozen=True)
class Expected:
    """What runs are expected to tell: the target is known to a factor `factor` (90%), if the law holds.

    `worst` is the same for the worst of the plausible laws. `condition` is of the law's Jacobian, `correlation` that of
    log N and log D.
    """

    target: str
    C: float
    value: float
    factor: float
    worst: float
    condition: float
    correlation: float
    runs: int
    flops: float
    decades: float

    @property
    def answers(self) -> bool:
        """True where the target is pinned down within a factor 2 whichever plausible law holds."""
        return self.worst <= 2.0

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; None where a number is not finite."""
        plain = {**asdict(self), "answers": self.answers}
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in plain.items()
        }


@dataclass(frozen=True)
class Design:
    """Runs to buy: cells with a number of seeds each, what they cost, and what is expected before and after."""

    cells: tuple[tuple[Cell, int], ...]
    flops: float
    expected: Expected
    before: Expected | None
    even: Expected | None
    noise: float
    prior: Law

    def grid(self, name: str = "design", corpus: str = "python", seed: int = 0) -> Grid:
        """The grid that trains them; `seed` is the first of each cell."""
        rows: dict[tuple[float, int], list[Any]] = {}
        for cell, seeds in self.cells:
            rows.setdefault((cell.C, seeds), []).append(cell.shape)
        curves = [
            IsoFlop(C, tuple(sorted(shapes, key=lambda shape: shape.N)), tuple(range(seed, seed + seeds)))
            for (C, seeds), shapes in sorted(rows.items(), key=lambda row: row[0])
        ]
        return Grid(name=name, curves=tuple(curves), corpus=corpus)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "cells": [
                {
                    "C": cell.C,
                    "N": cell.N,
                    "D": cell.D,
                    "depth": cell.shape.depth,
                    "width": cell.shape.width,
                    "seeds": seeds,
                }
                for cell, seeds in self.cells
            ],
            "runs": sum(seeds for _, seeds in self.cells),
            "flops": self.flops,
            "expected": self.expected.to_json(),
            "before": self.before and self.before.to_json(),
            "even": self.even and self.even.to_json(),
            "noise": self.noise,
            "prior": self.prior.to_json(),
        }


def check(
    N: np.ndarray,
    D: np.ndarray,
    target: Target,
    *,
    prior: Law = BYTES,
    laws: Sequence[Law] | None = None,
    noise: float = NOISE,
) -> Expected:
    """What runs at (N [R], D [R]) tell about the target, by the prior law and the plausible ones around it.

    Raises ValueError for fewer runs than the law has coefficients.
    """
    N, D = np.asarray(N, np.float64), np.asarray(D, np.float64)
    P = len(prior.names())
    if len(np.unique(np.stack([N, D]), axis=1).T) < P:
        raise ValueError(
            f"{len(N)} runs at {len(np.unique(np.stack([N, D]), axis=1).T)} distinct sizes and lengths cannot tell {P} "
            f"coefficients apart. Add runs at other N and D."
        )
    C = target.currency.flops_per_token(N) * D
    around = laws or _around(prior, target, float(np.exp(np.mean(np.log(N)))), float(np.exp(np.mean(np.log(D)))))
    errors = standard_errors(around, target, N, D, noise)
    spread = bool(np.ptp(np.log(N)) and np.ptp(np.log(D)))
    return Expected(
        target=target.kind,
        C=target.C,
        value=float(np.exp(target.value(prior))),
        factor=_factor(float(errors[0])),
        worst=_factor(float(np.quantile(errors, 0.9))),
        condition=condition_number(prior, N, D),
        correlation=float(np.corrcoef(np.log(N), np.log(D))[0, 1]) if spread else math.nan,
        runs=len(N),
        flops=float(C.sum()),
        decades=float(np.log10(target.C / C.max())),
    )


def design(
    target: Target,
    *,
    flops: float,
    max_run: float | None = None,
    prior: Law = BYTES,
    laws: Sequence[Law] | None = None,
    had: tuple[np.ndarray, np.ndarray] | None = None,
    noise: float = NOISE,
    reach: float = 8.0,
    max_seeds: int = 3,
    decades: float = 1.5,
) -> Design:
    """The runs, of `flops` FLOPs together and at most `max_run` each, that pin the target down best.

    `had` are (N, D) of runs that exist already. Cells go down to `decades` below `max_run` and to a factor `reach` from the
    best N. The design is good on average over plausible laws, not best for the prior alone.

    Raises ValueError for a number that no budget, reach or count of seeds can be, and for FLOPs that buy too few runs.
    """
    _require(flops, max_run, reach, max_seeds)
    largest = flops / 5 if max_run is None else min(max_run, flops)
    currency = target.currency
    cells = candidates(
        prior, largest / 10**decades, largest, vocab=currency.vocab, context=currency.context, reach=reach
    )
    N, D = np.array([cell.N for cell in cells]), np.array([cell.D for cell in cells])
    cost = np.array([cell.C for cell in cells])
    middle = Problem(prior, currency, (Line("flops", largest / 10 ** (decades / 2)),)).best()
    around = list(laws or _around(prior, target, float(middle[0]), float(middle[1])))
    known = (np.zeros(0), np.zeros(0)) if had is None else had
    objective = Objective(around, target, N, D, known)
    runs = whole_runs(objective, cost, flops, max_seeds).astype(int)
    picked = [(cells[i], int(runs[i])) for i in np.flatnonzero(runs)]
    if len(picked) + len(np.unique(known[0])) < len(prior.names()):
        raise ValueError(
            f"flops = {flops:.3g} buys only {len(picked)} different runs of up to {largest:.3g} FLOPs, and the law has "
            f"{len(prior.names())} coefficients. Raise --flops or lower --max-run."
        )
    repeat = runs[np.flatnonzero(runs)]
    bought = [np.repeat(column[np.flatnonzero(runs)], repeat) for column in (N, D)]
    options = {"prior": prior, "laws": around, "noise": noise}
    return Design(
        cells=tuple(sorted(picked, key=lambda pair: (pair[0].C, pair[0].N))),
        flops=float((runs * cost).sum()),
        expected=check(np.concatenate([known[0], bought[0]]), np.concatenate([known[1], bought[1]]), target, **options),
        before=_before(known, target, options),
        even=_even(prior, target, flops, largest, known, options),
        noise=noise,
        prior=prior,
    )


def _require(flops: float, max_run: float | None, reach: float, max_seeds: int) -> None:
    """Raise ValueError naming the first of a design's numbers that makes no sense."""
    for name, value, what in (
        ("flops", flops, "the budget for experiments"),
        ("max-run", max_run, "the most that one run may take"),
    ):
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"{name} = {value:g}: {what} is a positive number of FLOPs.")
    if not 1 <= reach < math.inf:
        raise ValueError(
            f"reach = {reach:g}: needed a factor of 1 or more, how far sizes may be from the best, e.g. 8."
        )
    if max_seeds < 1:
        raise ValueError(f"max-seeds = {max_seeds}: a cell is one run or more.")


def even_grid(
    prior: Law,
    currency: Currency,
    largest: float,
    budgets: int = 5,
    sizes: int = 7,
    step: float = 3.0,
    reach: float = 3.2,
) -> tuple[Cell, ...]:
    """The grid that people train: `sizes` even in log N around the best, at budgets `step` apart up to the largest.

    Sizes that cannot be built are left out.
    """
    cells = []
    for C in largest / step ** np.arange(budgets)[::-1]:
        best = float(Problem(prior, currency, (Line("flops", float(C)),)).best()[0])
        cells += [Cell(float(C), shape) for shape in buildable(best * np.geomspace(1 / reach, reach, sizes), currency)]
    return tuple(dict.fromkeys(cells))


def _even(
    prior: Law,
    target: Target,
    flops: float,
    largest: float,
    had: tuple[np.ndarray, np.ndarray],
    options: Mapping[str, Any],
) -> Expected | None:
    """What an even isoFLOP grid of the same FLOPs is expected to tell; None where it cannot be built."""
    total = sum(cell.C for cell in even_grid(prior, target.currency, largest))
    try:
        cells = even_grid(prior, target.currency, largest * min(1.0, flops / total))
        N, D = np.array([cell.N for cell in cells]), np.array([cell.D for cell in cells])
        return check(np.concatenate([had[0], N]), np.concatenate([had[1], D]), target, **options)
    except ValueError:
        return None


def _before(had: tuple[np.ndarray, np.ndarray], target: Target, options: Mapping[str, Any]) -> Expected | None:
    return check(*had, target, **options) if len(had[0]) else None


def _around(prior: Law, target: Target, N: float, D: float) -> list[Law]:
    """The plausible laws that the target can be asked of."""
    return plausible(prior, N, D, laws=16, spread=0.15)


def _factor(error: float) -> float:
    """x / by which the target may be off, 90%."""
    return float(np.exp(min(Z90 * error, 700.0)))
