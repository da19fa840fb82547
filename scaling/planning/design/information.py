"""What a run tells about a question: Jacobians of log loss, the gradient of the target, and the variance of its estimate.

For small relative noise sigma, least squares on log loss has covariance sigma^2 (sum_i J_i J_i')^-1, with J_i the gradient of
log L at run i; a target t(theta) then has variance g' cov g, g its gradient (Chaloner and Verdinelli 1995). All gradients
are in the logarithms of the coefficients, by central differences, so any law with positive coefficients serves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from scaling.fitting.laws import Law
from scaling.planning.allocate import Currency, Line, Problem

TARGETS = ("N", "ratio", "loss")
#: Two-sided 90% of a normal distribution.
Z90 = 1.6449
_STEP = 1e-4
#: Relative size of the ridge that keeps an information matrix invertible where runs leave a direction open.
_RIDGE = 1e-12


@dataclass(frozen=True)
class Target:
    """The question: log N* ("N"), log D*/N* ("ratio") or log L* ("loss") at C FLOPs, counted in `currency`."""

    kind: str
    C: float
    currency: Currency

    def __post_init__(self) -> None:
        if self.kind not in TARGETS:
            raise ValueError(f"target = {self.kind!r}: needed one of {', '.join(TARGETS)}.")
        if not (np.isfinite(self.C) and self.C > 0):
            raise ValueError(f"C = {self.C:g}: the target's budget is a positive number of FLOPs.")

    def value(self, law: Law) -> np.ndarray:
        """The target under the law, or under each of a law of arrays."""
        problem = Problem(law, self.currency, (Line("flops", self.C),))
        N, D = problem.best()
        return np.log({"N": N, "ratio": D / N, "loss": problem.loss(N, D)}[self.kind])

    def gradients(self, laws: Sequence[Law]) -> np.ndarray:
        """d target / d log coefficient under each of K laws of one kind, [K, P]."""
        return _gradients(self, tuple(laws))


@lru_cache(maxsize=64)
def _gradients(target: Target, laws: tuple[Law, ...]) -> np.ndarray:
    return _differences(target.value, laws).T


def jacobians(laws: Sequence[Law], N: np.ndarray, D: np.ndarray) -> np.ndarray:
    """d log L / d log coefficient under each of K laws of one kind, at each of R runs, [K, R, P]."""
    at = lambda stacked: np.log(stacked.loss(N, D))  # noqa: E731
    return np.moveaxis(_differences(at, laws, trailing=1), 0, -1)


def jacobian(law: Law, N: np.ndarray, D: np.ndarray) -> np.ndarray:
    """d log L / d log coefficient at each run, [R, P]."""
    return jacobians([law], N, D)[0]


def _differences(f: Callable[[Law], np.ndarray], laws: Sequence[Law], trailing: int = 0) -> np.ndarray:
    """Central differences of f in the log of each coefficient of each law, [P, K, ...]: f is asked of all at once."""
    kind = type(laws[0])
    centres = np.array([[getattr(law, name) for name in kind.names()] for law in laws], np.float64)
    K, P = centres.shape
    shifts = np.exp(_STEP * np.concatenate([np.eye(P), -np.eye(P)]))
    columns = np.moveaxis(shifts[:, None] * centres, -1, 0).reshape(P, 2 * P, K, *[1] * trailing)
    values = f(kind(*columns))
    return (values[:P] - values[P:]) / (2 * _STEP)


def informations(jacobians: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Sum over runs of weights [R] J J', from [..., R, P] to [..., P, P], with a ridge."""
    matrix = np.swapaxes(jacobians * weights[:, None], -1, -2) @ jacobians
    size = np.trace(matrix, axis1=-2, axis2=-1)[..., None, None]
    return matrix + _RIDGE * size * np.eye(matrix.shape[-1])


def standard_errors(laws: Sequence[Law], target: Target, N: np.ndarray, D: np.ndarray, noise: float) -> np.ndarray:
    """The standard error of the target that runs at (N, D) with this relative noise would give, if each law were right, [K]."""
    gradients = target.gradients(laws)[..., None]
    solved = np.linalg.solve(informations(jacobians(laws, N, D), np.ones(len(N))), gradients)
    return noise * np.sqrt((gradients * solved).sum((-2, -1)))


def implied_noise(law: Law, drawn: Law, target: Target, N: np.ndarray, D: np.ndarray) -> float:
    """The relative noise at which these runs would leave the target as unsure as a bootstrap over them did.

    `drawn` holds the bootstrap's coefficients as arrays. It takes in what plain residuals miss: tails, and noise that falls
    on runs of much leverage.
    """
    low, high = np.quantile(target.value(drawn), [0.05, 0.95])
    return float((high - low) / (2 * Z90) / standard_errors([law], target, N, D, 1.0)[0])


def condition_number(law: Law, N: np.ndarray, D: np.ndarray) -> float:
    """Condition number of the column-normalised Jacobian: 1e6 and more where N and D terms cannot be told apart."""
    columns = jacobian(law, N, D)
    scaled = columns / np.maximum(np.linalg.norm(columns, axis=0), 1e-300)
    return float(np.linalg.cond(scaled))


def plausible(law: Law, N: float, D: float, laws: int, spread: float, seed: int = 0) -> list[Law]:
    """Laws around one: exponents and floor off by `spread`, amplitudes so that the terms at (N, D) are off by as much.

    A design from one law is best for that law alone; from all of these it is good whichever of them holds.
    """
    rng = np.random.default_rng(seed)
    found = [law]
    anchors = {"alpha": ("A", N), "beta": ("B", D)}
    for _ in range(laws - 1):
        changed: dict[str, Any] = {}
        for name, value in law.params.items():
            factor = np.exp(spread * rng.normal())
            if name in anchors:
                amplitude, pivot = anchors[name]
                changed[name] = value * factor
                kept = law.params[amplitude] * pivot ** (value * factor - value)
                changed[amplitude] = kept * np.exp(spread * rng.normal())
            elif name not in changed and name not in ("A", "B"):
                changed[name] = value * factor
        found.append(replace(law, **changed))
    return found
