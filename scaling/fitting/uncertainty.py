"""How far the answer could be off: bootstrap refits, profile likelihoods, narrower windows, seed noise.

The bootstrap refits every resample to its own optimum. It knows only the runs it was given: what the law itself may
have wrong shows in how the answer moves between windows, which is why both are reported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import NormalDist
from typing import Any

import numpy as np

from scaling.fitting.laws import FLOPS_PER_ND, Law
from scaling.fitting.solve import Problem, look, minimise

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
        problem, free = self.problem, self.problem.free
        ties, eye = problem.ties, np.diag((~free).astype(float))
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
            for i in np.flatnonzero(good):
                g = np.where(free, ties.T @ gradient[i], 0.0)
                B = self._curvature(ties.T @ H[i] @ ties, ties.T @ M[i] @ ties, free) + eye
                down, along = np.linalg.solve(B, np.stack([g, slope[i]], -1)).T
                pull = (off[i] - slope[i] @ down) / (slope[i] @ along)
                step[i] = ties @ np.where(free, -down - pull * along, 0.0)
                step[i] /= max(1.0, float(np.abs(step[i]).max()) / 2.0)
                force[i] = max(force[i], 2 * abs(pull))
                merit[i] = F[i] + force[i] * abs(off[i])
            if np.abs(share[:, None] * step).max() < 1e-6:
                break
        return value, np.abs(miss) <= 1e-4 * (np.abs(self.value) + 1e-3)

    @staticmethod
    def _curvature(H: np.ndarray, M: np.ndarray, free: np.ndarray) -> np.ndarray:
        """The Hessian over the free coefficients where it is positive definite, the majoriser where it is not."""
        both = np.outer(free, free)
        ridge = np.diag(1e-12 * np.diag(M) * free + 1e-300)
        H, M = H * both, M * both
        size = 1 / np.sqrt(np.maximum(np.diag(M), 1e-300))
        least = np.linalg.eigvalsh((H * np.outer(size, size))[np.ix_(free, free)])[0]
        return (H if least > 1e-8 else M) + ridge


@dataclass(frozen=True)
class Window:
    """A refit to part of the runs: which (`kept` [R] of bool), how many, the law.

    `a_shift_se` is the standard error of a's difference to the fit of all runs, both refitted to the same resamples.
    """

    what: str
    n: int
    law: Law
    kept: np.ndarray = field(repr=False)
    a_shift_se: float | None = None


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
    return tuple(Window(f"C >= {C[keep].min():.3g}", int(keep.sum()), law, keep) for keep, law in zip(kept, laws))


def shifts(problem: Problem, theta: np.ndarray, found: Sequence[Window], counts: np.ndarray) -> tuple[Window, ...]:
    """The windows with the standard error of a's difference to the whole fit over the resamples `counts` [S, R].

    Runs that both fits share move both, so that the difference is surer than either.
    """
    if not found or not hasattr(problem.law, "exponents"):
        return tuple(found)
    masks = [np.ones(len(problem.loss), bool), *(window.kept for window in found)]
    draws = refit(problem, theta, np.concatenate([counts * mask for mask in masks]))
    a = np.split(np.broadcast_to(problem.law(*draws.T).exponents[0], len(draws)), len(masks))  # type: ignore[attr-defined]
    errors = [float(np.nanstd(part - a[0])) for part in a[1:]]
    return tuple(replace(window, a_shift_se=error) for window, error in zip(found, errors))


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


def as_json(values: Sequence[Window], flops: Sequence[float] = ()) -> list[Mapping[str, Any]]:
    """Windows as plain values, with what each answers at the budgets `flops`."""
    return [
        {
            "what": window.what, "n": window.n, "params": window.law.params,
            "a": float(window.law.exponents[0]) if hasattr(window.law, "exponents") else None,  # type: ignore[attr-defined]
            "a_shift_se": window.a_shift_se, "answers": sizes(window.law, flops),
        }
        for window in values
    ]  # fmt: skip


def sizes(law: Law, flops: Sequence[float]) -> list[dict[str, float]]:
    """(C, N*, D*, D/N, loss) of a law at some budgets; none where it has no best size of N and D alone."""
    try:
        pairs = [(float(C), *map(float, law.optimum(C))) for C in flops]
        return [
            {"C": C, "N": N, "D": D, "tokens_per_parameter": D / N, "loss": float(law.loss(N, D))} for C, N, D in pairs
        ]
    except (ValueError, TypeError, NotImplementedError):
        return []


def profile_answers(
    problem: Problem,
    theta: np.ndarray,
    draws: np.ndarray,
    flops: Sequence[float],
    plan: Sequence[tuple[float, float]],
    level: float,
) -> dict[str, Any]:
    """Profile-likelihood intervals of the coefficients and of what people ask; `draws` [S, P] give each its width to search.

    D* = C / 6N*, D/N and b = 1 - a follow from N* and a, so their intervals do too. An empty list is an interval that the
    runs do not close, or a number that the law does not have.
    """
    law = problem.law(*map(float, problem.to_natural(theta)))
    positive = dict(zip(law.names(), problem.positive))
    free = [name for name, is_free in zip(law.names(), problem.free) if is_free]
    measures: dict[str, Measure] = {name: _coefficient(name, bool(positive[name])) for name in free}
    if hasattr(law, "exponents"):
        measures["exponent a"] = lambda law: law.exponents[0]  # type: ignore[attr-defined]
    answered = [answer["C"] for answer in sizes(law, flops)]
    measures |= {f"N at {C!r}": lambda law, C=C: np.log(law.optimum(C)[0]) for C in answered}
    measures |= {f"loss at {C!r}": lambda law, C=C: np.log(law.loss(*law.optimum(C))) for C in answered}
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
        D = [C / (FLOPS_PER_ND * end) for end in reversed(N)]
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
