"""Laws of mixtures of experts; N is what each docstring says, usually the parameters active per token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from scaling.fitting.laws.base import Law, module
from scaling.fitting.laws.dense import Chinchilla

Names = ClassVar[tuple[str, ...]]


@dataclass(frozen=True)
class Routed(Law):
    """log L = a log N + b log X + c log N log X + d, over N active parameters and X experts (Clark et al. 2022, equation 1).

    Natural logarithms. Clark et al. saturate X at both ends; give the saturated count as the column X where it matters.
    """

    a: float
    b: float
    c: float
    d: float

    name: ClassVar[str] = "moe-clark"
    columns: Names = ("N", "X")
    linear: Names = ("a", "b", "c", "d")
    source: ClassVar[str] = "Clark et al. 2022, arXiv 2202.01169"

    def loss(self, N: Any, D: Any = None, X: Any = 1.0) -> Any:
        """exp(a log N + b log X + c log N log X + d), nats per token, whatever D is."""
        xp = module(N, X, self.a)
        size, experts = xp.log(N), xp.log(X)
        return xp.exp(self.a * size + self.b * experts + self.c * size * experts + self.d)

    def dense_equivalent(self, N: Any, X: Any) -> Any:
        """The size of the dense model (X = 1) with the same loss."""
        return np.exp((np.log(self.loss(N, X=X)) - self.d) / self.a)

    def optimum(self, C: Any, X: Any = 1.0) -> tuple[Any, Any]:
        """Raises ValueError: without D in the law, no budget divides."""
        raise ValueError(f"{self.name} does not know D, so it has no best N for a budget; fit `moe-granular`.")

    @classmethod
    def log_terms(cls, N: Any, X: Any) -> list[dict[str, Any]]:
        """One term."""
        xp = module(N, X)
        size, experts = xp.log(N), xp.log(X)
        return [{"a": size, "b": experts, "c": size * experts, "d": 1.0}]

    @classmethod
    def linearise(cls, rest: Mapping[str, Any], loss: np.ndarray, N: Any, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """log L is linear in all four."""
        size, experts = np.log(N), np.log(X)
        return np.log(loss)[None], np.stack([size, experts, size * experts, np.ones_like(loss)], -1)[None]


@dataclass(frozen=True)
class Granular(Law):
    """L = E + (g / G^gamma + A) / N^alpha + B / D^beta with granularity G (Krajewski et al. 2024, equation 9)."""

    E: float
    A: float
    B: float
    g: float
    alpha: float
    beta: float
    gamma: float

    name: ClassVar[str] = "moe-granular"
    columns: Names = ("N", "D", "G")
    positive: Names = ("E", "A", "B", "g")
    linear: Names = ("E", "A", "B", "g")
    search: ClassVar[Mapping[str, tuple[float, float]]] = {
        "alpha": (0.03, 1.0),
        "beta": (0.03, 1.0),
        "gamma": (0.1, 2.0),
    }
    source: ClassVar[str] = "Krajewski et al. 2024, arXiv 2402.07871"

    def loss(self, N: Any, D: Any, G: Any = 1.0) -> Any:
        """E + (g G^-gamma + A) N^-alpha + B D^-beta, nats per token."""
        return self.E + (self.g * G**-self.gamma + self.A) * N**-self.alpha + self.B * D**-self.beta

    def optimum(self, C: Any, G: Any = 1.0) -> tuple[Any, Any]:
        """(N, D) of least loss under C = 6 N D at granularity G: Chinchilla's, with A + g / G^gamma for A."""
        A = self.A + self.g * np.asarray(G, np.float64) ** -self.gamma
        return Chinchilla(self.E, A, self.B, self.alpha, self.beta).optimum(C)

    @classmethod
    def log_terms(cls, N: Any, D: Any, G: Any) -> list[dict[str, Any]]:
        """log E; log A - alpha log N; log g - alpha log N - gamma log G; log B - beta log D."""
        xp = module(N, D, G)
        return [
            {"E": 1.0},
            {"A": 1.0, "alpha": -xp.log(N)},
            {"g": 1.0, "alpha": -xp.log(N), "gamma": -xp.log(G)},
            {"B": 1.0, "beta": -xp.log(D)},
        ]


@dataclass(frozen=True)
class Sparse(Law):
    """L = E + A / N^alpha + B / D^beta + c / (1 - S)^lam + d / ((1 - S)^delta N^gamma) (Abnar et al. 2025, equation 6).

    N counts all parameters, S in [0, 1) is the share of them that is idle for a token.
    """

    E: float
    A: float
    B: float
    c: float
    d: float
    alpha: float
    beta: float
    gamma: float
    delta: float
    lam: float

    name: ClassVar[str] = "moe-sparse"
    columns: Names = ("N", "D", "S")
    positive: Names = ("E", "A", "B", "c", "d")
    linear: Names = ("E", "A", "B", "c", "d")
    search: ClassVar[Mapping[str, tuple[float, float]]] = {
        "alpha": (0.03, 1.0), "beta": (0.03, 1.0), "gamma": (0.03, 1.0), "delta": (-1.0, 1.0), "lam": (-1.0, 1.0),
    }  # fmt: skip
    source: ClassVar[str] = "Abnar et al. 2025, arXiv 2501.12370"

    def loss(self, N: Any, D: Any, S: Any = 0.0) -> Any:
        """The sum of the five terms, nats per token."""
        active = 1 - S
        idle = self.c * active**-self.lam + self.d * active**-self.delta * N**-self.gamma
        return self.E + self.A * N**-self.alpha + self.B * D**-self.beta + idle

    @classmethod
    def log_terms(cls, N: Any, D: Any, S: Any) -> list[dict[str, Any]]:
        """The logarithm of each of the five terms."""
        xp = module(N, D, S)
        active = xp.log1p(-S)
        return [
            {"E": 1.0},
            {"A": 1.0, "alpha": -xp.log(N)},
            {"B": 1.0, "beta": -xp.log(D)},
            {"c": 1.0, "lam": -active},
            {"d": 1.0, "delta": -active, "gamma": -xp.log(N)},
        ]
