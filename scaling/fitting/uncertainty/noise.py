"""Seed noise, a variance of its own where cells were run more than once, and the lack-of-fit test."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scaling.fitting.solve import Problem

#: Runs are repeats of each other when N and D agree to this.
SAME_CELL = 1e-3


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
