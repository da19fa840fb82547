"""Closed forms under L = E + A/N^alpha + B/D^beta and C = 6 N D (Hoffmann et al. 2022, equation 4, and what follows).

    G = (alpha A / beta B)^(1/(alpha+beta)),  a = beta/(alpha+beta),  N* = G (C/6)^a,  D* = C/6N*
    K = A G^-alpha + B G^beta,  gamma = alpha beta/(alpha+beta),  L* = E + K (C/6)^-gamma

Coefficients may be arrays; everything broadcasts.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from scaling.fitting.laws import Chinchilla


def ratio(law: Chinchilla) -> Any:
    """G: what tilts the optimum towards parameters."""
    return (law.alpha * law.A / (law.beta * law.B)) ** (1 / (law.alpha + law.beta))


def gamma(law: Chinchilla) -> Any:
    """The exponent of the least excess loss in C."""
    return law.alpha * law.beta / (law.alpha + law.beta)


def scale(law: Chinchilla) -> Any:
    """K: the least excess loss at C = 6."""
    G = ratio(law)
    return law.A * G**-law.alpha + law.B * G**law.beta


def least_loss(law: Chinchilla, C: Any) -> Any:
    """E + K (C/6)^-gamma."""
    return law.E + scale(law) * (C / 6) ** -gamma(law)


def least_flops(law: Chinchilla, loss: Any) -> Any:
    """6 (K / (L - E))^(1/gamma); infinite at or below the floor."""
    excess = np.maximum(loss - law.E, 0.0)
    with np.errstate(divide="ignore", over="ignore"):
        return 6 * (scale(law) / excess) ** (1 / gamma(law))


def tokens_at(law: Chinchilla, N: Any, loss: Any) -> Any:
    """D = (B / (L - E - A N^-alpha))^(1/beta); infinite where no D brings N parameters to the loss."""
    left = np.maximum(loss - law.E - law.A * N**-law.alpha, 0.0)
    with np.errstate(divide="ignore", over="ignore"):
        return (law.B / left) ** (1 / law.beta)


def off_optimum(law: Chinchilla, k: Any) -> tuple[Any, Any]:
    """(factor on the excess loss, share of the compute that is effective) at N = k N* and the same C."""
    factor = (law.beta * k**-law.alpha + law.alpha * k**law.beta) / (law.alpha + law.beta)
    return factor, factor ** (-1 / gamma(law))
