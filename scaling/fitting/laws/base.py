"""Laws: the loss as a function of parameters N and tokens D, one small frozen class each.

Your own law is a frozen dataclass whose float fields are the coefficients, with a `loss`:

    @dataclass(frozen=True)
    class Floor(Law):
        E: float
        B: float
        beta: float

        name = "floor"
        positive = ("E", "B")            # fitted as logarithms, so they stay above nought
        linear = ("E", "B")              # the loss is linear in these, given the rest
        search = {"beta": (0.05, 1.0)}   # where starts of the rest are drawn

        def loss(self, N, D):
            return self.E + self.B * D**-self.beta

`fit(runs, Floor)` then works as it does for a law from here: it is differentiated automatically, and its optimum is
found by search unless the class gives one. Write `loss` with operators and with numpy ufuncs of the argument's own
module (`np.exp(x)` does not trace; `module(x).exp(x)` does); further columns of the table arrive by name, as listed in
`columns`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from types import ModuleType
from typing import Any, ClassVar

import numpy as np

#: FLOPs of a training run = FLOPS_PER_ND N D (Kaplan et al. 2020, section 2.1).
FLOPS_PER_ND = 6.0


def module(*values: Any) -> ModuleType:
    """numpy, or jax.numpy where any value is a jax array: lets one line serve both."""
    if any(type(value).__module__.startswith("jax") for value in values):
        import jax.numpy as jnp

        return jnp
    return np


@dataclass(frozen=True)
class Law:
    """Base of the laws. The float fields of a subclass are its coefficients, in the order of `names()`.

    `positive` are fitted as logarithms. `linear` are those the loss is linear in, given the others; starts for
    the others come from the boxes in `search`. `domain` bounds coefficients without which there would be no optimum,
    unless the user bounds them otherwise. `columns` is what `loss` needs of the table.
    """

    name: ClassVar[str] = "law"
    columns: ClassVar[tuple[str, ...]] = ("N", "D")
    positive: ClassVar[tuple[str, ...]] = ()
    linear: ClassVar[tuple[str, ...]] = ()
    search: ClassVar[Mapping[str, tuple[float, float]]] = {}
    domain: ClassVar[Mapping[str, tuple[float, float]]] = {}
    source: ClassVar[str] = ""

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """The coefficients' names, in field order."""
        return tuple(field.name for field in fields(cls))

    @property
    def params(self) -> dict[str, float]:
        """Coefficient name -> value, unrounded."""
        return {name: float(value) for name, value in asdict(self).items()}

    def loss(self, N: Any, D: Any, **columns: Any) -> Any:
        """The law's loss in nats per token; arrays broadcast. Traces under jax."""
        raise NotImplementedError

    def optimum(self, C: Any, **columns: Any) -> tuple[Any, Any]:
        """(N, D) of least loss under C = 6 N D; C in FLOPs, vectorised. Found by search, to 1e-8 in log N.

        Raises ValueError where the loss falls, or rises, all the way: such a law has no best size.
        """
        C = np.asarray(C, np.float64)
        log_product = np.log(C / FLOPS_PER_ND)
        at = lambda u: self.loss(np.exp(u), np.exp(log_product - u), **columns)  # noqa: E731
        grid = log_product[..., None] * np.linspace(0.02, 0.98, 193)
        losses = self.loss(np.exp(grid), np.exp(log_product[..., None] - grid), **columns)
        best = np.argmin(losses, -1)
        if np.any((best == 0) | (best == grid.shape[-1] - 1)):
            raise ValueError(f"{self.name} {self.params}: no best N under C = 6ND; its loss has no minimum there.")
        low = np.take_along_axis(grid, best[..., None] - 1, -1)[..., 0]
        high = np.take_along_axis(grid, best[..., None] + 1, -1)[..., 0]
        ratio = (math.sqrt(5) - 1) / 2
        for _ in range(48):
            left, right = high - ratio * (high - low), low + ratio * (high - low)
            lower = at(left) < at(right)
            low, high = np.where(lower, low, left), np.where(lower, right, high)
        N = np.exp((low + high) / 2)
        return N, C / (FLOPS_PER_ND * N)

    @classmethod
    def log_terms(cls, **columns: Any) -> list[dict[str, Any]] | None:
        """For a law that is a sum of power laws: the log of each term, as {coefficient: its factor}.

        A positive coefficient stands for its logarithm, so A / N^alpha is {"A": 1.0, "alpha": -log N}. The solver
        then has exact derivatives by hand; None (the default) has them by automatic differentiation.
        """
        return None

    @classmethod
    def search_box(cls, loss: np.ndarray, **columns: Any) -> Mapping[str, tuple[float, float]]:
        """Where starts of the coefficients outside `linear` are drawn: `search`, or what the table says."""
        return cls.search

    @classmethod
    def linearise(cls, rest: Mapping[str, Any], loss: np.ndarray, **columns: Any) -> tuple[np.ndarray, np.ndarray]:
        """(target [S, R], basis [S, R, K]): the linear problem that gives the coefficients in `linear`, given the rest.

        `rest` holds arrays [S, 1]. The default reads it off the loss itself, with one coefficient at 1 and the others at 0.
        """
        basis = []
        for name in cls.linear:
            unit = {other: 1.0 if other == name else 0.0 for other in cls.linear}
            basis.append(cls(**unit, **rest).loss(**columns))
        shape = np.broadcast_shapes(np.shape(loss), *(np.shape(term) for term in basis))
        return np.broadcast_to(loss, shape), np.stack([np.broadcast_to(term, shape) for term in basis], -1)

    @classmethod
    def assemble(cls, rest: Mapping[str, Any], coefficients: np.ndarray) -> dict[str, Any]:
        """Coefficients by name from the rest ([S]) and the linear problem's solution [S, K]."""
        return {**rest, **{name: coefficients[:, k] for k, name in enumerate(cls.linear)}}

    def to_json(self) -> dict[str, Any]:
        """{"law": name, "params": {...}}, which `from_json` reads back."""
        return {"law": self.name, "params": self.params}
