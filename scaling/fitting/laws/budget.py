"""Laws of the budget C alone: the loss of the best run at each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from scaling.fitting.laws.base import FLOPS_PER_ND, Law, module

Names = ClassVar[tuple[str, ...]]


@dataclass(frozen=True)
class Envelope(Law):
    """L = Linf + A / C^alpha: the loss of the best run at each budget."""

    Linf: float
    A: float
    alpha: float

    name: ClassVar[str] = "envelope"
    columns: Names = ("C",)
    positive: Names = ("Linf", "A")
    linear: Names = ("Linf", "A")
    search: ClassVar[Mapping[str, tuple[float, float]]] = {"alpha": (0.01, 0.8)}
    source: ClassVar[str] = "Henighan et al. 2020, arXiv 2010.14701, equation 1.1"

    def loss(self, N: Any = None, D: Any = None, C: Any = None) -> Any:
        """Linf + A C^-alpha, nats per token; C is 6ND where it is not given."""
        C = FLOPS_PER_ND * N * D if C is None else C
        return self.Linf + self.A * C**-self.alpha

    def optimum(self, C: Any) -> tuple[Any, Any]:
        """Raises ValueError: the envelope says how well a budget can do, not with which N."""
        raise ValueError(f"{self.name} says what loss a budget C reaches, not with which N; fit `chinchilla` for that.")

    @classmethod
    def log_terms(cls, C: Any) -> list[dict[str, Any]]:
        """log Linf; log A - alpha log C."""
        return [{"Linf": 1.0}, {"A": 1.0, "alpha": -module(C).log(C)}]


@dataclass(frozen=True)
class Broken(Law):
    """L = a + b C^-c0 (1 + (C / d1)^(1 / f1))^(-c1 f1): a power law with one smooth break (Caballero et al. 2023)."""

    a: float
    b: float
    c0: float
    c1: float
    d1: float
    f1: float

    name: ClassVar[str] = "broken"
    columns: Names = ("C",)
    positive: Names = ("b", "d1", "f1")
    linear: Names = ("a", "b")
    search: ClassVar[Mapping[str, tuple[float, float]]] = {"c0": (0.0, 0.6), "c1": (-0.5, 0.5), "f1": (0.05, 2.0)}
    source: ClassVar[str] = "Caballero et al. 2023, arXiv 2210.14891, equation 1"

    def loss(self, N: Any = None, D: Any = None, C: Any = None) -> Any:
        """a + b C^-c0 (1 + (C / d1)^(1 / f1))^(-c1 f1), nats per token; C is 6ND where it is not given."""
        C = FLOPS_PER_ND * N * D if C is None else C
        xp = module(C, self.d1)
        bend = self.f1 * xp.logaddexp(0.0, xp.log(C / self.d1) / self.f1)
        return self.a + self.b * xp.exp(-self.c0 * xp.log(C) - self.c1 * bend)

    def optimum(self, C: Any) -> tuple[Any, Any]:
        """Raises ValueError: the law is one of the budget alone."""
        raise ValueError(f"{self.name} says what loss a budget C reaches, not with which N; fit `chinchilla` for that.")

    @classmethod
    def search_box(cls, loss: np.ndarray, **columns: Any) -> Mapping[str, tuple[float, float]]:
        """The break somewhere among the runs."""
        return {**cls.search, "d1": (float(columns["C"].min()), float(columns["C"].max()))}
