"""Laws of Kaplan et al. 2020: of N and D together, and of each alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from scaling.fitting.laws.base import FLOPS_PER_ND, Law

Names = ClassVar[tuple[str, ...]]


@dataclass(frozen=True)
class Kaplan(Law):
    """L = ((Nc / N)^(aN / aD) + Dc / D)^aD (Kaplan et al. 2020, equation 1.5); N without embeddings.

    On some tables the objective falls for ever as aD goes to 0, where the law becomes max((Nc / N)^aN, constant), or as aD
    grows, where it becomes a power of N times e^(c / D). So both exponents keep within a decade of the published .076
    and .103; there the law is within 2^.01 - 1 = .7% of the maximum of its terms, and an optimum exists.
    """

    Nc: float
    Dc: float
    aN: float
    aD: float

    name: ClassVar[str] = "kaplan"
    positive: Names = ("Nc", "Dc", "aN", "aD")
    linear: Names = ("Nc", "Dc")
    search: ClassVar[Mapping[str, tuple[float, float]]] = {"aN": (0.02, 0.6), "aD": (0.02, 0.6)}
    domain: ClassVar[Mapping[str, tuple[float, float]]] = {"aN": (0.01, 1.0), "aD": (0.01, 1.0)}
    source: ClassVar[str] = "Kaplan et al. 2020, arXiv 2001.08361"

    def loss(self, N: Any, D: Any) -> Any:
        """((Nc / N)^(aN / aD) + Dc / D)^aD, nats per token."""
        return ((self.Nc / N) ** (self.aN / self.aD) + self.Dc / D) ** self.aD

    def optimum(self, C: Any) -> tuple[Any, Any]:
        """(N, D) of least loss under C = 6 N D, where aN / aD (Nc / N)^(aN / aD) = Dc / D; vectorised."""
        ratio = self.aN / self.aD
        product = np.asarray(C, np.float64) / FLOPS_PER_ND
        N = (ratio * self.Nc**ratio * product / self.Dc) ** (1 / (1 + ratio))
        return N, product / N

    @classmethod
    def linearise(cls, rest: Mapping[str, Any], loss: np.ndarray, N: Any, D: Any) -> tuple[np.ndarray, np.ndarray]:
        """L^(1 / aD) is linear in Nc^(aN / aD) and Dc."""
        target = loss ** (1 / rest["aD"])
        return target, np.stack(np.broadcast_arrays(N ** (-rest["aN"] / rest["aD"]), 1 / D), -1)

    @classmethod
    def assemble(cls, rest: Mapping[str, Any], coefficients: np.ndarray) -> dict[str, Any]:
        """Nc and Dc from the solution."""
        Nc = coefficients[:, 0] ** (rest["aD"] / rest["aN"])
        return {**rest, "Nc": Nc, "Dc": coefficients[:, 1]}


class _OfOneAlone(Law):
    """A law of N or of D alone."""

    def optimum(self, C: Any) -> tuple[Any, Any]:
        """Raises ValueError: without both in the law, no budget divides."""
        raise ValueError(
            f"{self.name} knows {self.columns[0]} alone, so it has no best N for a budget; fit `kaplan` or `chinchilla`."
        )


@dataclass(frozen=True)
class KaplanN(_OfOneAlone):
    """L = (Nc / N)^aN: the loss of models that are trained to the end (Kaplan et al. 2020, equation 1.1)."""

    Nc: float
    aN: float

    name: ClassVar[str] = "kaplan-n"
    columns: Names = ("N",)
    positive: Names = ("Nc",)
    linear: Names = ("Nc", "aN")
    source: ClassVar[str] = "Kaplan et al. 2020, arXiv 2001.08361"

    def loss(self, N: Any, D: Any = None) -> Any:
        """(Nc / N)^aN, nats per token, whatever D is."""
        return (self.Nc / N) ** self.aN

    @classmethod
    def linearise(cls, rest: Mapping[str, Any], loss: np.ndarray, N: Any) -> tuple[np.ndarray, np.ndarray]:
        """log L is linear in aN log Nc and aN."""
        return np.log(loss)[None], np.stack([np.ones_like(loss), -np.log(N)], -1)[None]

    @classmethod
    def assemble(cls, rest: Mapping[str, Any], coefficients: np.ndarray) -> dict[str, Any]:
        """Nc and aN from the solution."""
        return {"Nc": np.exp(coefficients[:, 0] / coefficients[:, 1]), "aN": coefficients[:, 1]}


@dataclass(frozen=True)
class KaplanD(_OfOneAlone):
    """L = (Dc / D)^aD: the loss of large models on little data (Kaplan et al. 2020, equation 1.2)."""

    Dc: float
    aD: float

    name: ClassVar[str] = "kaplan-d"
    columns: Names = ("D",)
    positive: Names = ("Dc",)
    linear: Names = ("Dc", "aD")
    source: ClassVar[str] = "Kaplan et al. 2020, arXiv 2001.08361"

    def loss(self, D: Any, N: Any = None) -> Any:
        """(Dc / D)^aD, nats per token, whatever N is."""
        return (self.Dc / D) ** self.aD

    @classmethod
    def linearise(cls, rest: Mapping[str, Any], loss: np.ndarray, D: Any) -> tuple[np.ndarray, np.ndarray]:
        """log L is linear in aD log Dc and aD."""
        return KaplanN.linearise(rest, loss, D)

    @classmethod
    def assemble(cls, rest: Mapping[str, Any], coefficients: np.ndarray) -> dict[str, Any]:
        """Dc and aD from the solution."""
        return {"Dc": np.exp(coefficients[:, 0] / coefficients[:, 1]), "aD": coefficients[:, 1]}
