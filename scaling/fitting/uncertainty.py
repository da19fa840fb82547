"""How far the answer could be off: bootstrap refits, each taken to its own optimum."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from scaling.fitting.solve import Problem, minimise


def resample(groups: np.ndarray, resamples: int, seed: int = 0) -> np.ndarray:
    """How often each run occurs in each bootstrap resample, float64 [S, R].

    `groups` [R] names what is drawn: runs with one name come and go together (checkpoints of a run, branches of a
    trunk, runs of a budget).
    """
    _, member = np.unique(groups, return_inverse=True)
    units = int(member.max()) + 1
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, units, (resamples, units))
    counts = np.zeros((resamples, units))
    np.add.at(counts, (np.arange(resamples)[:, None], drawn), 1.0)
    return counts[:, member]


def refit(problem: Problem, theta: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The law's coefficients [S, P] refitted to each resample, from the optimum `theta` [P] of the whole table."""
    solution = minimise(problem, np.repeat(theta[None], len(counts), 0), weights=counts * problem.weights, smooth=False)
    return problem.to_natural(solution.theta)


def interval(values: np.ndarray, level: float) -> list[float]:
    """[low, high]: the central interval of that level, over the first axis; nothing finite gives an empty list."""
    finite = values[np.isfinite(values)]
    return np.quantile(finite, [(1 - level) / 2, (1 + level) / 2]).tolist() if len(finite) else []


def intervals(draws: np.ndarray, names: tuple[str, ...], level: float) -> Mapping[str, Any]:
    """Coefficient name -> [low, high]."""
    return {name: interval(draws[:, index], level) for index, name in enumerate(names)}
