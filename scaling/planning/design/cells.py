"""Cells: the runs that could be bought, each a buildable shape at a budget."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scaling.fitting.laws import Law
from scaling.planning.allocate import Currency, Line, Problem
from scaling.recipe import FEW_STEPS, RULES
from scaling.shape import Shape


@dataclass(frozen=True)
class Cell:
    """One run that could be trained: a shape for C FLOPs, exact; D = C / FLOPs a token."""

    C: float
    shape: Shape

    @property
    def N(self) -> float:
        """All parameters."""
        return float(self.shape.N)

    @property
    def D(self) -> float:
        """Tokens."""
        return self.C / self.shape.flops_per_token


def candidates(
    law: Law,
    low: float,
    high: float,
    *,
    vocab: int,
    context: int,
    reach: float = 8.0,
    budgets_per_decade: float = 4.0,
    sizes: int = 17,
    rule: str = "valley",
) -> tuple[Cell, ...]:
    """Cells from `low` to `high` FLOPs whose N is within a factor `reach` of the best under the law.

    Left out are those with fewer than 500 steps of the recipe's batch: their loss is not what the law is about.
    Raises ValueError where nothing is left.
    """
    count = max(2, round(budgets_per_decade * np.log10(high / low)) + 1) if high > low else 1
    found: dict[tuple[float, Shape], Cell] = {}
    currency = Currency("exact", "N", vocab, context)
    for C in np.geomspace(low, high, count):
        budget = float(f"{C:.3g}")
        best = float(Problem(law, currency, (Line("flops", budget),)).best()[0])
        for shape in buildable(best * np.geomspace(1 / reach, reach, sizes), currency):
            cell = Cell(budget, shape)
            if cell.D / RULES[rule](shape, cell.D).batch_tokens >= FEW_STEPS:
                found[budget, shape] = cell
    if not found:
        raise ValueError(
            f"no run of {low:.3g} to {high:.3g} FLOPs can be built near the optimum with {FEW_STEPS} steps. Raise --max-run."
        )
    return tuple(found.values())


def buildable(sizes: np.ndarray, currency: Currency) -> list[Shape]:
    """The shapes near these numbers of parameters, without those that cannot be built."""
    found = []
    for N in sizes:
        try:
            found.append(Shape.near(float(N), vocab=currency.vocab, context=currency.context))
        except ValueError:
            continue
    return found
