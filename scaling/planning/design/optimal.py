"""The optimal design: how FLOPs are best shared among cells, and the whole runs that come nearest to it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scaling.fitting.laws import Law
from scaling.planning.design.information import Target, informations, jacobians

_ITERATIONS = 200
#: Rounds of exchange after the greedy purchase; the second seldom finds anything.
_PASSES = 2


class Objective:
    """The mean over plausible laws of the log variance of the target: what a design makes small."""

    def __init__(
        self, laws: Sequence[Law], target: Target, N: np.ndarray, D: np.ndarray, had: tuple[np.ndarray, np.ndarray]
    ):
        self.jacobians, self.gradients = jacobians(laws, N, D), target.gradients(laws)
        known = jacobians(laws, *had) if len(had[0]) else np.zeros_like(self.jacobians[:, :1])
        self.had = np.swapaxes(known, 1, 2) @ known

    def gains(self, weights: np.ndarray) -> tuple[float, np.ndarray]:
        """(mean log variance, minus its derivative in each cell's number of runs [I]).

        Raises ValueError where the target does not depend on the coefficients of a plausible law.
        """
        matrices = informations(self.jacobians, weights) + self.had
        solved = np.linalg.solve(matrices, self.gradients[..., None])
        variance = (self.gradients * solved[..., 0]).sum(-1)
        if not (variance > 0).all():
            raise ValueError(
                "under a plausible law the target does not depend on its coefficients, so no run can pin it down. Fit more runs "
                "first, or name a published law."
            )
        seen = (self.jacobians @ solved)[..., 0]
        return float(np.log(variance).mean()), (seen**2 / variance[:, None]).mean(0)


def shares(objective: Objective, cost: np.ndarray, budget: float) -> np.ndarray:
    """FLOPs a cell, [I], summing to the budget, that make the objective least: the multiplicative algorithm.

    Each step multiplies a cell's share by the root of its gain a FLOP over the mean (Silvey, Titterington and Torsney
    1978); the problem is convex and the step monotone.
    """
    share = np.full(len(cost), budget / len(cost))
    for _ in range(_ITERATIONS):
        _, gains = objective.gains(share / cost)
        rate = np.sqrt(gains / cost)
        share = share * rate
        share = share * (budget / share.sum())
    return share


def whole_runs(objective: Objective, cost: np.ndarray, budget: float, most: int) -> np.ndarray:
    """Numbers of runs a cell, [I], at most `most`, that fit the budget: the shares rounded down, then the best buys.

    Each further run is the one whose gain a FLOP is largest among those that still fit; runs are then exchanged for others
    while that helps.
    """
    runs = np.minimum(np.floor(shares(objective, cost, budget) / cost), most)
    while True:
        left = budget - (runs * cost).sum()
        fits = (cost <= left) & (runs < most)
        if not fits.any():
            break
        _, gains = objective.gains(np.maximum(runs, 1e-6))
        runs[np.argmax(np.where(fits, gains / cost, -1.0))] += 1
    return _exchange(objective, runs, cost, budget, most)


def _exchange(objective: Objective, runs: np.ndarray, cost: np.ndarray, budget: float, most: int) -> np.ndarray:
    value = objective.gains(np.maximum(runs, 1e-6))[0]
    for _ in range(_PASSES):
        improved = False
        for out in np.flatnonzero(runs):
            trial = runs.copy()
            trial[out] -= 1
            left = budget - (trial * cost).sum()
            while True:
                fits = (cost <= left) & (trial < most)
                if not fits.any():
                    break
                _, gains = objective.gains(np.maximum(trial, 1e-6))
                pick = np.argmax(np.where(fits, gains / cost, -1.0))
                trial[pick] += 1
                left -= cost[pick]
            found = objective.gains(np.maximum(trial, 1e-6))[0]
            if found < value - 1e-6:
                runs, value, improved = trial, found, True
        if not improved:
            break
    return runs
