"""Where to start: variable projection over the whole box of the non-linear coefficients.

Given the exponents, most laws are linear in the rest, so a start needs to be searched for in few dimensions only and
the rest is one small least squares problem (Golub and Pereyra 1973), re-weighted a few times to resist outliers. On
log residuals that is an approximation, which is why it only proposes.
"""

from __future__ import annotations

import itertools

import numpy as np

from scaling.fitting.laws import Law
from scaling.fitting.solve.problem import Problem

#: Share of the mean loss given to a term that the linear problem sets to nought, so that it can come back.
FAINT_SHARE = 1e-3
#: The share given to a term that a start leaves out on purpose: next to nought, from where it grows if it should.
LEFT_OUT_SHARE = 1e-8
#: Every one of this many starts leaves out some terms: optima at E = 0 are reached slowly from inside.
LEAVE_OUT_EVERY = 7


def propose(problem: Problem, count: int, seed: int = 0) -> np.ndarray:
    """`count` starts [S, P] in fitted coordinates, the most promising first."""
    law = problem.law
    rest = _rest(problem, count, seed)
    if law.linear:
        with np.errstate(all="ignore"):
            target, basis = law.linearise({n: v[:, None] for n, v in rest.items()}, problem.loss, **problem.columns)
            coefficients = _project(problem, target, basis)
            params = law.assemble(rest, coefficients)
    else:
        params = rest
    values = np.stack([np.broadcast_to(params[name], (count,)) for name in law.names()], -1).astype(np.float64)
    theta = problem.constrain(problem.to_fitted(values))
    theta = theta[np.isfinite(theta).all(-1)]
    with np.errstate(all="ignore"):
        values = problem.to_natural(theta)
        predicted = law(*(values[:, k, None] for k in range(values.shape[1]))).loss(**problem.columns)
        residual = problem.objective.residual(problem.loss, predicted)
        score = np.sum(problem.weights * problem.objective.rho(residual), -1)
    usable = np.isfinite(score)
    return theta[usable][np.argsort(score[usable], kind="stable")]


def _rest(problem: Problem, count: int, seed: int) -> dict[str, np.ndarray]:
    """Evenly spread values [S] of the coefficients that the linear problem does not give."""
    law = problem.law
    names = [name for name in law.names() if name not in law.linear]
    box = {name: _range(law, problem, name) for name in names if name not in problem.pin}
    points = _spread(count, len(box), seed)
    values = {}
    for (name, (low, high)), unit in zip(box.items(), points.T):
        if low > 0 and high / low > 30:
            values[name] = low * (high / low) ** unit
            continue
        values[name] = low + (high - low) * unit
        if name not in problem.bound and name not in law.positive:  # every tenth looks outside, where optima are odd
            values[name][9::10] += (high - low) * (2 * unit[9::10] - 1)
    values.update({name: np.full(count, float(problem.pin[name])) for name in names if name in problem.pin})
    for follower, (leader, factor) in problem.links.items():
        if follower in values and leader in values:
            values[follower] = factor * values[leader]
    return {name: values[name] for name in names}


def _range(law: type[Law], problem: Problem, name: str) -> tuple[float, float]:
    """The box of a coefficient: the law's own, inside the user's bounds."""
    box = law.search_box(problem.loss, **problem.columns)
    if name not in box and name not in problem.bound:
        raise ValueError(
            f"{law.name}: no range to search for {name}. Give the class `search = {{{name!r}: (low, high)}}`, "
            f"or bound it: --bound {name}=low:high."
        )
    least, most = problem.bound.get(name, (-np.inf, np.inf))
    low, high = box.get(name, (least, most))
    if max(low, least) < min(high, most):
        return max(low, least), min(high, most)
    return (least, most) if np.isfinite([least, most]).all() else (max(low, least), max(low, least) + 1.0)


def _spread(count: int, dimensions: int, seed: int) -> np.ndarray:
    """[S, K] in (0, 1): the additive recurrence of Roberts 2018, even in any number of dimensions."""
    phi = 2.0
    for _ in range(64):
        phi = (1 + phi) ** (1 / (dimensions + 1))
    steps = phi ** -np.arange(1.0, dimensions + 1)
    return (0.5 + 0.618034 * seed + np.arange(1, count + 1)[:, None] * steps) % 1.0


def _project(problem: Problem, target: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """The linear coefficients [S, K] of least re-weighted squares, those that must be positive not below nought."""
    law, K = problem.law, basis.shape[-1]
    itself = law.assemble.__func__ is Law.assemble.__func__  # the linear problem's unknowns are the coefficients
    positive = np.array([itself and name in law.positive for name in law.linear])
    pinned = np.array([itself and name in problem.pin for name in law.linear])
    fixed = np.array([problem.pin.get(name, 0.0) for name in law.linear])
    target = target - basis @ fixed
    out = _left_out(len(basis), positive & ~pinned)
    scale = np.abs(target) + 1e-300
    weights = given = problem.weights / scale**2
    columns = np.ascontiguousarray(np.swapaxes(basis, -1, -2))  # [S, K, R]: sums go along the runs
    for _ in range(3):
        x = _positive_least_squares(columns, target, weights, ~(pinned | out), positive & ~pinned)
        residual = np.abs(target - (x[:, None] @ columns)[:, 0]) / scale
        middle = np.median(residual, -1, keepdims=True) + 1e-12
        weights = given / np.maximum(1.0, residual / (2 * middle))
    size = np.abs(target).mean(-1, keepdims=True) / np.maximum(np.abs(columns).mean(-1), 1e-300)
    x = np.where(positive & ~(x > 0), np.where(out, LEFT_OUT_SHARE, FAINT_SHARE) * size, x)
    return np.where(pinned, fixed, x).reshape(-1, K)


def _left_out(count: int, positive: np.ndarray) -> np.ndarray:
    """[S, K] of bool: which linear coefficients each start leaves out: all sets of them in turn, never all of them."""
    out = np.zeros((count, len(positive)), bool)
    sets = [off for off in itertools.product((False, True), repeat=len(positive)) if any(off) and not all(off)]
    sets = [off for off in sets if not np.any(np.array(off) & ~positive)]
    for turn, start in enumerate(range(LEAVE_OUT_EVERY - 1, count if sets else 0, LEAVE_OUT_EVERY)):
        out[start] = sets[turn % len(sets)]
    return out


def _positive_least_squares(
    columns: np.ndarray, target: np.ndarray, weights: np.ndarray, there: np.ndarray, positive: np.ndarray
) -> np.ndarray:
    """Least squares [S, K] on `columns` [S, K, R], with x >= 0 where asked: the best of all sets of positive coefficients at
    nought. Coefficients that are not `there` [S, K] are nought.
    """
    K = columns.shape[1]
    weighed = columns * weights[:, None]
    gram, right = weighed @ np.swapaxes(columns, 1, 2), (weighed @ target[:, :, None])[:, :, 0]
    size = np.sqrt(np.einsum("skk->sk", gram)) + 1e-300
    right = right / size * there
    gram = gram / (size[:, :, None] * size[:, None]) * (there[:, :, None] & there[:, None])
    best, least = np.zeros_like(right), np.full(len(right), np.inf)
    for dropped in itertools.product((False, True), repeat=K):
        off = np.array(dropped)
        if np.any(off & ~positive):
            continue
        keep = ~off
        matrix = gram * np.outer(keep, keep) + np.diag(off * 1.0) + 1e-13 * np.eye(K)
        x = np.linalg.solve(matrix, (right * keep)[..., None])[..., 0]
        cost = np.sum(x * ((gram @ x[..., None])[..., 0] - 2 * right), -1)
        better = np.all((x >= 0) | ~positive, -1) & (cost < least)
        best, least = np.where(better[:, None], x, best), np.where(better, cost, least)
    return best / size * there
