"""Repeated tokens and the parameters they feed are worth less than new ones (Muennighoff et al. 2023)."""

from __future__ import annotations

from typing import Any

import numpy as np

from scaling.fitting.laws import Law
from scaling.planning.allocate import closed

#: Epochs and parameters after which more is worth 1/e (Muennighoff et al. 2023, table 2, unrounded in their code).
R_D, R_N = 15.387756, 5.309743


def effective(law: Law, N: Any, D: Any, unique: float) -> tuple[Any, Any]:
    """(N', D') that the law sees where D tokens are drawn from `unique` ones.

    D' = U_D + U_D R_D (1 - exp(-(D/U_D - 1)/R_D)) with U_D = min(D, unique), and the same for N with U_N the size that
    is optimal for the unique tokens. Equations 5 to 8.
    """
    U_D = np.minimum(D, unique)
    U_N = np.minimum(N, fitting_size(law, unique))
    return _saturate(N, U_N, R_N), _saturate(D, U_D, R_D)


def fitting_size(law: Law, D: float) -> Any:
    """The N for which D is the compute-optimal number of tokens: G^(1+a/b) D^(a/b), that is G^2 D where alpha = beta."""
    missing = {"A", "B", "alpha", "beta"} - set(law.names())
    if missing:
        raise ValueError(
            f"unique tokens need a law with terms in N and D (A, alpha, B, beta); {law.name} has no "
            f"{', '.join(sorted(missing))}. Fit the chinchilla or the data-constrained law."
        )
    G, power = closed.ratio(law), law.beta / law.alpha
    return G ** (1 + power) * D**power


def _saturate(amount: Any, new: Any, rate: float) -> Any:
    return new + new * rate * -np.expm1(-(amount / new - 1) / rate)
