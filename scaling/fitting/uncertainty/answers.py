"""What people ask of a law: N*, D*, D/N, the loss, flatness bands, a planned run, each over the draws."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from scaling.fitting.counting import Counting
from scaling.fitting.laws import Law
from scaling.fitting.uncertainty.bootstrap import interval


def flat_band(law: Law, C: float, share: float, counting: Counting) -> list[float] | None:
    """[low, high] of N whose loss at C is that of the best N at (1 - share) C: they waste less than that share."""

    def loss(N: Any) -> Any:
        return law.loss(N, counting.tokens(N, C))

    best = float(counting.optimum(law, C)[0])
    worst = float(law.loss(*counting.optimum(law, C * (1 - share))))
    ends = []
    for step in (-1.0, 1.0):
        near, far = 0.0, 1e-3
        while loss(best * np.exp(step * far)) < worst:
            near, far = far, 2 * far
            if far > 50:
                return None
        for _ in range(60):
            middle = (near + far) / 2
            near, far = (middle, far) if loss(best * np.exp(step * middle)) < worst else (near, middle)
        ends.append(float(best * np.exp(step * near)))
    return ends


def answer(law: Law, draws: Law | None, C: float, level: float, counting: Counting) -> dict[str, Any]:
    """N*, D*, D/N and the loss at a budget, each with its interval over the draws, and the flatness bands."""
    N, D = (float(value) for value in counting.optimum(law, C))
    found: dict[str, Any] = {"C": C, "N": N, "D": D, "tokens_per_parameter": D / N, "loss": float(law.loss(N, D))}
    found["flat"] = {f"{share:.1%}": flat_band(law, C, share, counting) for share in (0.001, 0.01)}
    if draws is not None:
        with np.errstate(all="ignore"):
            n, d = counting.optimum(draws, C)
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


def sizes(law: Law, flops: Sequence[float], counting: Counting) -> list[dict[str, float]]:
    """(C, N*, D*, D/N, loss) of a law at some budgets; none where it has no best size of N and D alone."""
    try:
        pairs = [(float(C), *map(float, counting.optimum(law, C))) for C in flops]
        return [
            {"C": C, "N": N, "D": D, "tokens_per_parameter": D / N, "loss": float(law.loss(N, D))} for C, N, D in pairs
        ]
    except (ValueError, TypeError, NotImplementedError):
        return []
