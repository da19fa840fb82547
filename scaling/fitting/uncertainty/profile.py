"""Profile likelihoods: of a coefficient, and of any number that follows from the law."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any

import numpy as np

from scaling.fitting.counting import Counting
from scaling.fitting.laws import Law
from scaling.fitting.solve import Problem, look, minimise
from scaling.fitting.uncertainty.answers import sizes
from scaling.fitting.uncertainty.bootstrap import interval


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


#: What a profile can be of: a number that each law has, [S] of a law whose coefficients are [S].
Measure = Callable[[Law], np.ndarray]


def profile_of(
    problem: Problem,
    theta: np.ndarray,
    measures: Mapping[str, Measure],
    errors: Mapping[str, float],
    level: float = 0.9,
) -> dict[str, Profile]:
    """The profile likelihood of each measure over 4.5 of its standard errors to either side, all in one batch.

    At every held value the objective is minimised over all coefficients under that one constraint, by Newton steps on the
    objective and the linearised measure (sequential quadratic programming). Values that no law near by reaches are left out.
    """
    points, names = 25, list(measures)
    if not names:
        return {}
    best = np.array([float(_measured(problem, theta[None], measures[name])[0]) for name in names])
    width = np.array([errors[name] for name in names])
    values = best[:, None] + width[:, None] * np.linspace(-4.5, 4.5, points)
    which = np.repeat(np.arange(len(names)), points)
    least, *_ = look(problem, theta[None])
    lanes = _Held(problem, [measures[name] for name in names], which, values.ravel())
    found, met = lanes.minimise(np.repeat(theta[None], len(which), 0))
    scale = dispersion(problem, theta)
    profiles = {}
    for k, name in enumerate(names):
        keep = met[which == k]
        profiles[name] = Profile(name, values[k][keep], found[which == k][keep], level, [])
        ends = _ends(values[k][keep], found[which == k][keep] - least[0], best[k], scale, level)
        profiles[name] = replace(profiles[name], interval=ends)
    return profiles


def _ends(values: np.ndarray, excess: np.ndarray, centre: float, scale: float, level: float) -> list[float]:
    """[low, high] where twice the excess over the dispersion reaches the chi-squared quantile; empty where it does not."""
    root = np.sign(values - centre) * np.sqrt(2 * np.maximum(excess, 0.0) / scale)
    z = NormalDist().inv_cdf((1 + level) / 2)
    rising = np.maximum.accumulate(root)
    if not len(rising) or rising[0] > -z or rising[-1] < z:
        return []
    return [float(np.interp(side, rising, values)) for side in (-z, z)]


def _measured(problem: Problem, theta: np.ndarray, measure: Measure) -> np.ndarray:
    """The measure [S] of points [S, P]; NaN where a law has none."""
    with np.errstate(all="ignore"):
        try:
            return np.broadcast_to(measure(problem.law(*problem.to_natural(theta).T)), len(theta)).astype(np.float64)
        except ValueError:
            return np.full(len(theta), np.nan)


@dataclass(frozen=True)
class _Held:
    """Minimisations of the objective, each with the measure `which` held at `value`, [L] of them."""

    problem: Problem
    measures: Sequence[Measure]
    which: np.ndarray
    value: np.ndarray

    def miss(self, theta: np.ndarray) -> np.ndarray:
        """How far each point's measure is from where it is held, [L]."""
        found = np.empty(len(theta))
        for k, measure in enumerate(self.measures):
            found[self.which == k] = _measured(self.problem, theta[self.which == k], measure)
        return found - self.value

    def slope(self, theta: np.ndarray) -> np.ndarray:
        """Gradient of each point's measure by the free coefficients, [L, P]."""
        step, ties = 1e-4, self.problem.ties
        columns = [(self.miss(theta + step * t) - self.miss(theta - step * t)) / (2 * step) for t in ties.T]
        return np.where(self.problem.free, np.stack(columns, -1), 0.0)

    def minimise(self, theta: np.ndarray, iterations: int = 30) -> tuple[np.ndarray, np.ndarray]:
        """(objective [L], whether the constraint is met [L])."""
        problem, free, ties = self.problem, self.problem.free, self.problem.ties
        base, step, merit = theta.copy(), np.zeros_like(theta), np.full(len(theta), np.inf)
        force, share = np.zeros(len(theta)), np.ones(len(theta))
        value, miss = np.full(len(theta), np.inf), np.full(len(theta), np.nan)
        for _ in range(iterations):
            trial = problem.constrain(base + share[:, None] * step)
            F, gradient, H, M = look(problem, trial)
            off, slope = self.miss(trial), self.slope(trial)
            good = np.isfinite(F) & np.isfinite(off) & np.isfinite(slope).all(-1) & np.isfinite(H).all((1, 2))
            good &= F + force * np.abs(off) <= merit + 1e-12 * np.abs(F)
            share = np.where(good, 1.0, share / 4)
            base[good], value[good], miss[good] = trial[good], F[good], off[good]
            g = np.where(free, gradient[good] @ ties, 0.0)
            B = self._curvature(ties.T @ H[good] @ ties, ties.T @ M[good] @ ties)
            down, along = np.moveaxis(np.linalg.solve(B, np.stack([g, slope[good]], -1)), -1, 0)
            steep = np.sum(slope[good] * along, -1)
            pull = (off[good] - np.sum(slope[good] * down, -1)) / steep
            move = np.where(free, -down - pull[:, None] * along, 0.0) @ ties.T
            step[good] = move / np.maximum(1.0, np.abs(move).max(-1, keepdims=True) / 2.0)
            force[good] = np.maximum(force[good], 2 * np.abs(pull))
            merit[good] = F[good] + force[good] * np.abs(off[good])
            if np.abs(share[:, None] * step).max() < 1e-6:
                break
        return value, np.abs(miss) <= 1e-4 * (np.abs(self.value) + 1e-3)

    def _curvature(self, H: np.ndarray, M: np.ndarray) -> np.ndarray:
        """Hessians [L, P, P] over the free coefficients where they are positive definite, majorisers where they are not."""
        free = self.problem.free
        both, held = np.outer(free, free), np.diag((~free).astype(float))
        H, M = H * both, M * both
        width = np.einsum("lpp->lp", M)
        size = 1 / np.sqrt(np.maximum(width, 1e-300))
        within = np.ix_(range(len(H)), np.flatnonzero(free), np.flatnonzero(free))
        least = np.linalg.eigvalsh((H * size[:, :, None] * size[:, None, :])[within])[:, 0]
        ridge = (1e-12 * width * free + 1e-300)[:, :, None] * np.eye(len(free))
        return np.where((least > 1e-8)[:, None, None], H, M) + ridge + held


def profile_answers(
    problem: Problem,
    theta: np.ndarray,
    draws: np.ndarray,
    flops: Sequence[float],
    plan: Sequence[tuple[float, float]],
    level: float,
    counting: Counting,
) -> dict[str, Any]:
    """Profile-likelihood intervals of the coefficients and of what people ask; `draws` [S, P] give each its width to search.

    D*, what C leaves for N*, D/N and b = 1 - a follow from N* and a, so their intervals do too. An empty list is an interval that
    the runs do not close, or a number that the law does not have.
    """
    law = problem.law(*map(float, problem.to_natural(theta)))
    positive = dict(zip(law.names(), problem.positive))
    free = [name for name, is_free in zip(law.names(), problem.free) if is_free]
    measures: dict[str, Measure] = {name: _coefficient(name, bool(positive[name])) for name in free}
    if hasattr(law, "exponents"):
        measures["exponent a"] = lambda law: law.exponents[0]  # type: ignore[attr-defined]
    answered = [answer["C"] for answer in sizes(law, flops, counting)]
    measures |= {f"N at {C!r}": lambda law, C=C: np.log(counting.optimum(law, C)[0]) for C in answered}
    measures |= {f"loss at {C!r}": lambda law, C=C: np.log(law.loss(*counting.optimum(law, C))) for C in answered}
    planned = plan if set(law.columns) <= {"N", "D", "C"} else ()
    measures |= {f"loss of {pair!r}": lambda law, pair=pair: np.log(law.loss(*pair)) for pair in map(tuple, planned)}
    fitted = problem.to_fitted(draws)
    errors = {
        name: float(np.ptp(interval(_measured(problem, fitted, each), 0.9) or [0.0])) / 3.29
        for name, each in measures.items()
    }
    known = {
        name: each
        for name, each in measures.items()
        if 0 < errors[name] < 5 * (1 + abs(float(_measured(problem, theta[None], each)[0])))
    }
    found = {name: each.interval for name, each in profile_of(problem, theta, known, errors, level).items()}
    power = lambda name: np.exp(found.get(name, [])).tolist()  # noqa: E731
    a = found.get("exponent a", [])
    answers = []
    for C in answered:
        N = power(f"N at {C!r}")
        D = [float(counting.tokens(end, C)) for end in reversed(N)]
        answers.append(
            {
                "C": C,
                "N": N,
                "D": D,
                "tokens_per_parameter": [d / n for d, n in zip(D, reversed(N))],
                "loss": power(f"loss at {C!r}"),
            }
        )
    return {
        "level": level,
        "params": {name: power(name) if positive[name] else found.get(name, []) for name in free},
        "exponents": {"a": a, "b": [1 - end for end in reversed(a)]} if hasattr(law, "exponents") else {},
        "answers": answers,
        "planned": [{"N": N, "D": D, "loss": power(f"loss of {(N, D)!r}")} for N, D in map(tuple, planned)],
    }


def _coefficient(name: str, positive: bool) -> Measure:
    return lambda law: np.log(getattr(law, name)) if positive else np.asarray(getattr(law, name))
