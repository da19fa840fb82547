"""How far the answer could be off: bootstrap refits, profile likelihoods, narrower windows, seed noise.

The bootstrap refits every resample to its own optimum. It knows only the runs it was given: what the law itself may
have wrong shows in how the answer moves between windows, which is why both are reported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any

import numpy as np

from scaling.fitting.laws import FLOPS_PER_ND, Law
from scaling.fitting.solve import Problem, minimise

#: Runs are repeats of each other when N and D agree to this.
SAME_CELL = 1e-3


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
    """[low, high]: the central interval of that level; nothing finite gives an empty list."""
    values = np.asarray(values, np.float64)
    finite = values[np.isfinite(values)]
    return np.quantile(finite, [(1 - level) / 2, (1 + level) / 2]).tolist() if len(finite) else []


def dispersion(problem: Problem, theta: np.ndarray) -> float:
    """What one unit of log likelihood is worth in the objective: E psi^2 / E psi', with residual degrees of freedom.

    With it 2 (F - F_min) / dispersion has a chi-squared distribution, as for least squares (Huber 1981, chapter 7).
    The mean of psi' under a small delta is the density of residuals at nought, so it is taken over a window of at
    least half the median residual.
    """
    objective = problem.objective
    residual = objective.residual(problem.loss, problem.predict(theta))
    weights = problem.weights / problem.weights.mean()
    freedom = max(len(residual) - int(problem.free.sum()), 1) / len(residual)
    if np.isinf(objective.high):
        return float(objective.slope * np.mean(weights * residual**2) / freedom)
    window = max(0.5 * float(np.median(np.abs(residual))), 1e-12)
    slope = objective.slope if not objective.has_corner else (objective.high - objective.low) / (2 * window)
    reach = (objective.high - objective.low) / (2 * slope)
    psi = np.clip(slope * residual, objective.low, objective.high)
    wide = max(reach, window)
    density = np.mean(weights * (np.abs(residual) <= wide)) * slope * reach / wide
    return float(np.mean(weights * psi**2) / max(density, 1e-300) / freedom)


@dataclass(frozen=True)
class Profile:
    """The objective with one coefficient held at each of `values` and all others refitted, and the interval from it."""

    name: str
    values: np.ndarray
    objective: np.ndarray
    level: float
    interval: list[float]


def profile(
    problem: Problem, theta: np.ndarray, name: str, error: float, level: float = 0.9, points: int = 33
) -> Profile:
    """The profile likelihood of a coefficient over 4.5 of its standard errors `error` (own units) to either side.

    The interval is where twice the objective's excess over the dispersion stays under the chi-squared quantile.
    """
    index = problem.law.names().index(name)
    centre = float(problem.to_natural(theta)[index])
    values = centre + error * np.linspace(-4.5, 4.5, points)
    if name in problem.law.positive:
        values = centre * np.exp(np.clip(error / centre, 1e-12, 2.0) * np.linspace(-4.5, 4.5, points))
    starts = np.repeat(theta[None], points, 0)
    whole = minimise(problem, theta[None], smooth=False)
    starts[:, index] = problem.to_fitted(np.repeat(values[:, None], len(theta), 1))[:, index]
    others = problem.free & (np.arange(len(theta)) != index)
    H = problem.ties.T @ whole.hessian[0] @ problem.ties
    along = np.linalg.lstsq(H[np.ix_(others, others)], H[others, index], rcond=1e-12)[0]
    starts[:, others] -= (starts[:, index] - theta[index])[:, None] * along
    found = minimise(problem, starts, free=np.repeat(others[None], points, 0), smooth=False)
    excess = np.maximum(found.value - whole.value[0], 0.0)
    root = np.sign(values - centre) * np.sqrt(2 * excess / dispersion(problem, theta))
    z = NormalDist().inv_cdf((1 + level) / 2)
    rising = np.maximum.accumulate(root)
    ends = [float(np.interp(side, rising, values)) for side in (-z, z)]
    return Profile(name, values, found.value, level, ends)


@dataclass(frozen=True)
class Window:
    """A refit to part of the runs: which, how many, the law."""

    what: str
    n: int
    law: Law


def windows(problem: Problem, theta: np.ndarray, C: np.ndarray) -> tuple[Window, ...]:
    """The law refitted with the smallest budgets dropped one by one, down to twice as many runs as coefficients."""
    edges = budget_edges(C)
    kept = [edge <= C for edge in edges[1:]]
    kept = [
        keep
        for keep in kept
        if keep.sum() >= 2 * problem.free.sum() and np.unique(np.round(np.log(C[keep]), 1)).size > 1
    ]
    if not kept:
        return ()
    laws = leave_out(problem, theta, np.array(kept))
    return tuple(Window(f"C >= {C[keep].min():.3g}", int(keep.sum()), law) for keep, law in zip(kept, laws))


def leave_out(problem: Problem, theta: np.ndarray, kept: np.ndarray) -> list[Law]:
    """The law refitted to each of the subsets `kept` [K, R] of bool."""
    draws = refit(problem, theta, kept.astype(np.float64))
    return [problem.law(*map(float, row)) for row in draws]


def budget_edges(C: np.ndarray, most: int = 8) -> np.ndarray:
    """The smallest C of each budget (C within 10% of each other); of a table without budgets, of its octiles."""
    ordered = np.sort(C)
    starts = ordered[np.r_[True, np.diff(np.log(ordered)) > 0.1]]
    return starts if len(starts) <= most else np.quantile(ordered, np.arange(most) / most)


@dataclass(frozen=True)
class Noise:
    """Scatter of the log loss: around the law (`residual`, robust), and between repeats of one cell (`seed`).

    `lack_of_fit` is the F test's p value that the law's residuals are no larger than repeats explain. Both need 3 repeats.
    """

    residual: float
    seed: float | None
    repeats: int
    lack_of_fit: float | None


def noise(problem: Problem, theta: np.ndarray, N: np.ndarray, D: np.ndarray) -> Noise:
    """The scatter around the law and, where cells were run more than once, between repeats."""
    residual = np.log(problem.loss) - np.log(problem.predict(theta))
    spread = float(1.4826 * np.median(np.abs(residual - np.median(residual))))
    cell = np.round(np.stack([np.log(N), np.log(D)], -1) / SAME_CELL).astype(np.int64)
    _, member, counts = np.unique(cell, axis=0, return_inverse=True, return_counts=True)
    freedom = int((counts - 1).sum())
    if freedom < 3:
        return Noise(spread, None, freedom, None)
    means = np.bincount(member.ravel(), residual) / counts
    pure = float(np.sum((residual - means[member.ravel()]) ** 2))
    left = len(counts) - int(problem.free.sum())
    p = None
    if left > 0 and pure > 0:
        from scipy.special import fdtrc

        p = float(fdtrc(left, freedom, (float(np.sum(counts * means**2)) / left) / (pure / freedom)))
    return Noise(spread, float(np.sqrt(pure / freedom)), freedom, p)


def flat_band(law: Law, C: float, share: float) -> list[float] | None:
    """[low, high] of N whose loss at C = 6ND is that of the best N at (1 - share) C: they waste less than that share."""
    best = float(law.optimum(C)[0])
    worst = float(law.loss(*law.optimum(C * (1 - share))))
    ends = []
    for step in (-1.0, 1.0):
        near, far = 0.0, 1e-3
        while law.loss(best * np.exp(step * far), C / (FLOPS_PER_ND * best * np.exp(step * far))) < worst:
            near, far = far, 2 * far
            if far > 50:
                return None
        for _ in range(60):
            middle = (near + far) / 2
            N = best * np.exp(step * middle)
            near, far = (middle, far) if law.loss(N, C / (FLOPS_PER_ND * N)) < worst else (near, middle)
        ends.append(float(best * np.exp(step * near)))
    return ends


def answer(law: Law, draws: Law | None, C: float, level: float) -> dict[str, Any]:
    """N*, D*, D/N and the loss at a budget, each with its interval over the draws, and the flatness bands."""
    N, D = (float(value) for value in law.optimum(C))
    found: dict[str, Any] = {"C": C, "N": N, "D": D, "tokens_per_parameter": D / N, "loss": float(law.loss(N, D))}
    found["flat"] = {f"{share:.1%}": flat_band(law, C, share) for share in (0.001, 0.01)}
    if draws is not None:
        with np.errstate(all="ignore"):
            n, d = draws.optimum(C)
            spread = {"N": n, "D": d, "tokens_per_parameter": d / n, "loss": draws.loss(n, d)}
        found["intervals"] = {key: interval(values, level) for key, values in spread.items()}
    return found


def planned(law: Law, draws: Law | None, residual: np.ndarray, N: float, D: float, level: float) -> dict[str, Any]:
    """The loss at a planned run: the mean law's interval, and apart from it that of one new run, noise included."""
    loss = float(law.loss(N, D))
    found: dict[str, Any] = {"N": N, "D": D, "loss": loss}
    if draws is not None:
        mean = np.asarray(draws.loss(N, D))
        scatter = np.random.default_rng(0).choice(residual, len(mean))
        found |= {"mean_law": interval(mean, level), "new_run": interval(mean * np.exp(scatter), level)}
    return found


def with_dispersion(problem: Problem, theta: np.ndarray) -> Problem:
    """The problem with its priors weighed as a measurement of that standard error would be."""
    return replace(problem, dispersion=dispersion(problem, theta))


def as_json(values: Sequence[Window]) -> list[Mapping[str, Any]]:
    """Windows as plain values."""
    return [{"what": window.what, "n": window.n, "params": window.law.params} for window in values]
