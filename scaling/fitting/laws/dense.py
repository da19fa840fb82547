"""Laws of dense models over N and D."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from scaling.fitting.laws.base import FLOPS_PER_ND, Law, module

Names = ClassVar[tuple[str, ...]]


@dataclass(frozen=True)
class Chinchilla(Law):
    """L = E + A / N^alpha + B / D^beta (Hoffmann et al. 2022, equation 2).

    The exponents keep within -5 to 5, far outside any that was seen: beyond, a term is for the smallest or the largest run
    alone, and where that run is an outlier the objective falls for ever.
    """

    E: float
    A: float
    B: float
    alpha: float
    beta: float

    name: ClassVar[str] = "chinchilla"
    positive: Names = ("E", "A", "B")
    linear: Names = ("E", "A", "B")
    search: ClassVar[Mapping[str, tuple[float, float]]] = {"alpha": (0.05, 1.2), "beta": (0.05, 1.2)}
    domain: ClassVar[Mapping[str, tuple[float, float]]] = {"alpha": (-5.0, 5.0), "beta": (-5.0, 5.0)}
    source: ClassVar[str] = "Hoffmann et al. 2022, arXiv 2203.15556"

    def loss(self, N: Any, D: Any) -> Any:
        """E + A N^-alpha + B D^-beta, nats per token."""
        return self.E + self.A * N**-self.alpha + self.B * D**-self.beta

    @property
    def exponents(self) -> tuple[float, float]:
        """(a, b) of N*(C) ~ C^a and D*(C) ~ C^b: a = beta / (alpha + beta), b = 1 - a."""
        a = self.beta / (self.alpha + self.beta)
        return a, 1 - a

    def optimum(self, C: Any) -> tuple[Any, Any]:
        """(N, D) of least loss under C = 6 N D (Hoffmann et al. 2022, equation 4); vectorised.

        Raises ValueError where a term has vanished, so that no size is best.
        """
        a, b = self.exponents
        with np.errstate(divide="ignore", invalid="ignore"):
            log_G = np.log(np.divide(self.alpha * self.A, self.beta * self.B)) / (self.alpha + self.beta)
        if np.ndim(log_G) == 0 and not np.isfinite(log_G):
            raise ValueError(f"{self.name} {self.params}: no best N under C = 6ND; one of its terms has vanished.")
        product = np.asarray(C, np.float64) / FLOPS_PER_ND
        return np.exp(log_G) * product**a, np.exp(-log_G) * product**b

    @classmethod
    def log_terms(cls, N: Any, D: Any) -> list[dict[str, Any]]:
        """log E; log A - alpha log N; log B - beta log D."""
        xp = module(N, D)
        return [{"E": 1.0}, {"A": 1.0, "alpha": -xp.log(N)}, {"B": 1.0, "beta": -xp.log(D)}]


@dataclass(frozen=True)
class Coupled(Law):
    """L = E + (A / N^alpha + B / D^beta)^k (Skaling 2026, arXiv 2608.07222): k = 1 is Chinchilla's.

    On some tables the objective falls for ever as k goes to 0, where the sum becomes the maximum of two power laws, as k
    grows, where it becomes their product, or as an exponent goes to minus infinity, where a term is for one run alone. So k
    keeps within a decade of 1, where at .1 the reducible loss is within 2^.1 - 1 = 7% of the maximum, and the exponents
    within 0 to 15, ten times the largest that is searched at k = 1: no loss rises with N or D, and an optimum exists.
    """

    E: float
    A: float
    B: float
    alpha: float
    beta: float
    k: float

    name: ClassVar[str] = "coupled"
    positive: Names = ("E", "A", "B", "k")
    linear: Names = ("A", "B")
    search: ClassVar[Mapping[str, tuple[float, float]]] = {"alpha": (0.1, 1.5), "beta": (0.1, 1.5), "k": (0.3, 1.6)}
    domain: ClassVar[Mapping[str, tuple[float, float]]] = {"alpha": (0.0, 15.0), "beta": (0.0, 15.0), "k": (0.1, 10.0)}
    source: ClassVar[str] = "arXiv 2608.07222"

    def loss(self, N: Any, D: Any) -> Any:
        """E + (A N^-alpha + B D^-beta)^k, nats per token."""
        return self.E + (self.A * N**-self.alpha + self.B * D**-self.beta) ** self.k

    @property
    def exponents(self) -> tuple[float, float]:
        """(a, b) of N*(C) ~ C^a and D*(C) ~ C^b, as Chinchilla's: k does not move the optimum."""
        a = self.beta / (self.alpha + self.beta)
        return a, 1 - a

    def optimum(self, C: Any) -> tuple[Any, Any]:
        """(N, D) of least loss under C = 6 N D: Chinchilla's, since the power k is monotone."""
        return Chinchilla(self.E, self.A, self.B, self.alpha, self.beta).optimum(C)

    @classmethod
    def search_box(cls, loss: np.ndarray, **columns: Any) -> Mapping[str, tuple[float, float]]:
        """E between a quarter and nearly all of the least loss."""
        return {**cls.search, "E": (0.25 * float(loss.min()), 0.98 * float(loss.min()))}

    @classmethod
    def linearise(cls, rest: Mapping[str, Any], loss: np.ndarray, N: Any, D: Any) -> tuple[np.ndarray, np.ndarray]:
        """(L - E)^(1 / k) is linear in A and B."""
        target = np.maximum(loss - rest["E"], 1e-3 * loss) ** (1 / rest["k"])
        return target, np.stack(np.broadcast_arrays(N ** -rest["alpha"], D ** -rest["beta"]), -1)


@dataclass(frozen=True)
class DataConstrained(Law):
    """L = E + A / N'^alpha + B / D'^beta with repeated data and excess parameters worth less (Muennighoff et al. 2023).

    Of D tokens U are unique: D' = U_D + U_D R_D (1 - e^(-(D / U_D - 1) / R_D)), U_D = min(D, U); N' is the same with
    U_N = min(N, the N that is optimal for U unique tokens) and R_N. Without a column U all tokens count as unique.
    """

    E: float
    A: float
    B: float
    alpha: float
    beta: float
    R_D: float
    R_N: float

    name: ClassVar[str] = "data-constrained"
    columns: Names = ("N", "D", "U")
    positive: Names = ("E", "A", "B", "R_D", "R_N")
    linear: Names = ("E", "A", "B")
    search: ClassVar[Mapping[str, tuple[float, float]]] = {
        "alpha": (0.05, 1.2),
        "beta": (0.05, 1.2),
        "R_D": (1.0, 100.0),
        "R_N": (1.0, 100.0),
    }
    source: ClassVar[str] = "Muennighoff et al. 2023, arXiv 2305.16264"

    def loss(self, N: Any, D: Any, U: Any = None) -> Any:
        """E + A N'^-alpha + B D'^-beta, nats per token."""
        U = D if U is None else U
        worth_D = _worth(D, U, self.R_D)
        worth_N = _worth(N, self.best_size(U), self.R_N)
        return self.E + self.A * worth_N**-self.alpha + self.B * worth_D**-self.beta

    def best_size(self, U: Any) -> Any:
        """N that is optimal for U unique tokens; G^2 U where alpha = beta."""
        G = (self.alpha * self.A / (self.beta * self.B)) ** (1 / (self.alpha + self.beta))
        return G * (U * G) ** (self.beta / self.alpha)

    @classmethod
    def linearise(
        cls, rest: Mapping[str, Any], loss: np.ndarray, N: Any, D: Any, U: Any
    ) -> tuple[np.ndarray, np.ndarray]:
        """Linear in E, A, B with N' = N, since what N is in excess depends on A and B themselves."""
        tokens = _worth(D, U, rest["R_D"])
        basis = np.broadcast_arrays(np.ones_like(loss), N ** -rest["alpha"], tokens ** -rest["beta"])
        return np.broadcast_to(loss, basis[0].shape), np.stack(basis, -1)


def _worth(amount: Any, unique: Any, R: Any) -> Any:
    """What `amount` is worth in fresh units when only `unique` of it is fresh."""
    xp = module(amount, unique, R)
    fresh = xp.minimum(amount, unique)
    return fresh + fresh * R * -xp.expm1(-(amount / fresh - 1) / R)


@dataclass(frozen=True)
class OverTraining(Law):
    """L = E + (a M^eta + b M^-eta) C^-eta with M = D / N and C = 6ND (Gadre et al. 2024)."""

    E: float
    a: float
    b: float
    eta: float

    name: ClassVar[str] = "over-training"
    positive: Names = ("E", "a", "b")
    linear: Names = ("E", "a", "b")
    search: ClassVar[Mapping[str, tuple[float, float]]] = {"eta": (0.02, 0.6)}
    source: ClassVar[str] = "Gadre et al. 2024, arXiv 2403.08540"

    def loss(self, N: Any, D: Any) -> Any:
        """E + (a M^eta + b M^-eta) C^-eta, nats per token."""
        M, C = D / N, FLOPS_PER_ND * N * D
        return self.E + (self.a * M**self.eta + self.b * M**-self.eta) * C**-self.eta

    @property
    def exponents(self) -> tuple[float, float]:
        """(a, b) of N*(C) ~ C^a and D*(C) ~ C^b: one half each, by the law's form."""
        return 0.5, 0.5

    def optimum(self, C: Any) -> tuple[Any, Any]:
        """(N, D) of least loss under C = 6 N D: M = (b / a)^(1 / (2 eta)) at every budget."""
        M = (self.b / self.a) ** (1 / (2 * self.eta))
        product = np.asarray(C, np.float64) / FLOPS_PER_ND
        return np.sqrt(product / M), np.sqrt(product * M)

    @classmethod
    def log_terms(cls, N: Any, D: Any) -> list[dict[str, Any]]:
        """log E; log a + eta (log M - log C); log b - eta (log M + log C)."""
        xp = module(N, D)
        M, C = xp.log(D) - xp.log(N), xp.log(FLOPS_PER_ND * N) + xp.log(D)
        return [{"E": 1.0}, {"a": 1.0, "eta": M - C}, {"b": 1.0, "eta": -M - C}]


@dataclass(frozen=True)
class Precision(Law):
    """L = E + A / (N w)^alpha + B / D^beta, w = prod(1 - e^(-P / gamma)) over bits of weights, activations, cache."""

    E: float
    A: float
    B: float
    alpha: float
    beta: float
    gamma_w: float
    gamma_a: float
    gamma_kv: float

    name: ClassVar[str] = "precision"
    columns: Names = ("N", "D", "P_w", "P_a", "P_kv")
    positive: Names = ("E", "A", "B", "gamma_w", "gamma_a", "gamma_kv")
    linear: Names = ("E", "A", "B")
    search: ClassVar[Mapping[str, tuple[float, float]]] = {
        "alpha": (0.05, 1.2), "beta": (0.05, 1.2),
        "gamma_w": (0.3, 8.0), "gamma_a": (0.3, 8.0), "gamma_kv": (0.3, 8.0),
    }  # fmt: skip
    source: ClassVar[str] = "Kumar et al. 2024, arXiv 2411.04330"

    def kept(self, P_w: Any, P_a: Any, P_kv: Any) -> Any:
        """The share of N that counts at these bits."""
        xp = module(P_w, P_a, P_kv, self.gamma_w)
        share = -xp.expm1(-P_w / self.gamma_w) * -xp.expm1(-P_a / self.gamma_a)
        return share * -xp.expm1(-P_kv / self.gamma_kv)

    def loss(self, N: Any, D: Any, P_w: Any = 16.0, P_a: Any = 16.0, P_kv: Any = 16.0) -> Any:
        """E + A (N w)^-alpha + B D^-beta, nats per token; 16 bits where not said."""
        return self.E + self.A * (N * self.kept(P_w, P_a, P_kv)) ** -self.alpha + self.B * D**-self.beta

    def optimum(self, C: Any, P_w: Any = 16.0, P_a: Any = 16.0, P_kv: Any = 16.0) -> tuple[Any, Any]:
        """(N, D) of least loss under C = 6 N D at these bits: Chinchilla's, with A that much larger."""
        A = self.A * self.kept(P_w, P_a, P_kv) ** -self.alpha
        return Chinchilla(self.E, A, self.B, self.alpha, self.beta).optimum(C)
