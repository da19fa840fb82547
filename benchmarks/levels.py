"""Surfaces through the runs of many cells (a size at a number of tokens), each cell with a level of its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares


@dataclass(frozen=True)
class Surface:
    """`values` of the coefficients with their `covariance`, the standard deviation `noise` of one run about the surface, and the
    sum of the `squares` that are left with so many degrees of freedom (`free`)."""

    values: np.ndarray
    covariance: np.ndarray
    noise: float
    squares: float
    free: int

    @property
    def errors(self) -> np.ndarray:
        """Standard errors of the values."""
        return np.sqrt(np.diag(self.covariance))

    def told(self, i: int) -> list[float]:
        """The i-th value with its standard error."""
        return [float(self.values[i]), float(self.errors[i])]


def without_levels(cell: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Values less the mean of their cell; `cell` holds the place of each value's cell."""
    return values - (np.bincount(cell, values) / np.bincount(cell))[cell]


def surface(
    cell: np.ndarray, y: np.ndarray, model: Callable[[np.ndarray], np.ndarray], start: Sequence[float]
) -> Surface:
    """y = a level for each cell + model(values), by least squares from `start`; all of y's runs have one variance."""
    found = least_squares(lambda p: without_levels(cell, y - model(p)), start)
    free = len(y) - len(np.unique(cell)) - len(start)
    variance = 2 * found.cost / free
    covariance = np.linalg.inv(found.jac.T @ found.jac) * variance
    return Surface(found.x, covariance, math.sqrt(variance), float(2 * found.cost), free)
