"""What people ask of a law: N*, D*, D/N, the loss, flatness bands, a planned run, each over the draws."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from scaling.fitting.laws import FLOPS_PER_ND, Law
from scaling.fitting.uncertainty.bootstrap import interval


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


def sizes(law: Law, flops: Sequence[float]) -> list[dict[str, float]]:
    """(C, N*, D*, D/N, loss) of a law at some budgets; none where it has no best size of N and D alone."""
    try:
        pairs = [(float(C), *map(float, law.optimum(C))) for C in flops]
        return [
            {"C": C, "N": N, "D": D, "tokens_per_parameter": D / N, "loss": float(law.loss(N, D))} for C, N, D in pairs
        ]
    except (ValueError, TypeError, NotImplementedError):
        return []
