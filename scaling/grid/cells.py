"""IsoFlop, Cells: what a grid trains, as budgets with their sizes and as products of sizes and lengths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from scaling.shape import Shape

#: How a grid says how long its sizes are trained.
LENGTHS = ("budgets", "tokens", "tokens_per_parameter")


@dataclass(frozen=True)
class IsoFlop:
    """One budget in FLOPs, the shapes that are trained at it, and with which seeds."""

    budget: float
    shapes: tuple[Shape, ...]
    seeds: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Cells:
    """A product: every shape at every length, with every seed. `by` says what the lengths are: one of LENGTHS.

    `recipe` holds fields that are fixed for these cells, before those of the grid.
    """

    shapes: tuple[Shape, ...]
    by: str
    lengths: tuple[float, ...]
    seeds: tuple[int, ...] = (0,)
    recipe: Mapping[str, Any] = field(default_factory=dict)

    def tokens(self, shape: Shape) -> tuple[float, ...]:
        """D of each length for a shape, before it is rounded to batches."""
        factor = {"budgets": 1 / shape.flops_per_token, "tokens": 1.0, "tokens_per_parameter": float(shape.N)}[self.by]
        return tuple(length * factor for length in self.lengths)
