"""Bootstrap refits: every resample taken to its own optimum, and intervals over them."""

from __future__ import annotations

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


def draw_priors(problem: Problem, resamples: int, seed: int = 0) -> np.ndarray:
    """Centres [S, P] of the priors, drawn as the runs are: a prior is one more measurement, and has its error too."""
    rng, names = np.random.default_rng([seed, 1]), problem.law.names()
    centres = np.zeros((resamples, len(names)))
    for name, (mean, error) in problem.prior.items():
        centres[:, names.index(name)] = rng.normal(mean, error, resamples)
    return centres


def refit(problem: Problem, theta: np.ndarray, counts: np.ndarray, prior_mean: np.ndarray | None = None) -> np.ndarray:
    """The law's coefficients [S, P] refitted to each resample, from the optimum `theta` [P] of the whole table.

    `prior_mean` [S, P] gives each resample its own centres of the priors (`draw_priors`). Under an objective with corners the
    refits keep its smoothed form, within 2e-4 of their optimum: a then moves by less than a tenth of its standard error.
    """
    begun, mass = np.repeat(theta[None], len(counts), 0), counts * problem.weights
    return problem.to_natural(minimise(problem, begun, weights=mass, prior_mean=prior_mean, smooth=False).theta)


def widening(problem: Problem, units: int) -> float:
    """How much wider than the bootstrap's its draws must be spread: the root of G / (G - 1) (R - 1) / (R - P).

    Residuals of P fitted coefficients are too small by about (R - P) / R in square, and so is what is drawn from them;
    G = `units` are drawn, R where each run is (the usual small-sample
    factor of clustered errors: Cameron and Miller 2015).
    """
    R, P = len(problem.loss), int(problem.free.sum())
    return float(np.sqrt(units / max(units - 1, 1) * (R - 1) / max(R - P, 1)))


def widen(problem: Problem, theta: np.ndarray, draws: np.ndarray, units: int) -> np.ndarray:
    """The draws [S, P] spread about the fit by `widening`, in fitted coordinates."""
    with np.errstate(invalid="ignore"):
        spread = problem.constrain(theta + widening(problem, units) * (problem.to_fitted(draws) - theta))
    return problem.to_natural(spread)


def interval(values: np.ndarray, level: float) -> list[float]:
    """[low, high]: the central interval of that level; nothing finite gives an empty list."""
    values = np.asarray(values, np.float64)
    finite = values[np.isfinite(values)]
    return np.quantile(finite, [(1 - level) / 2, (1 + level) / 2]).tolist() if len(finite) else []
