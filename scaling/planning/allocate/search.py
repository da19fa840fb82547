"""Minima and roots of functions of one logarithm, many at once: a scan, then bisection of the slope or of the value."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

#: Half-width of the central difference: the error that it makes in the root, h^2 f'''/6f'', and rounding are both below 1e-7.
_STEP = 2e-5
_SCAN = 160
_BISECTIONS = 52


def minimise(f: Callable[[np.ndarray], np.ndarray], low: float | np.ndarray, high: float | np.ndarray) -> np.ndarray:
    """The u in [low, high] where f is least; f maps [G, S] or [S] to the same shape, infinite where it is not allowed.

    A scan of G points finds the basin; there the sign of the slope is bisected, which finds the place of a minimum to
    1e-8, where comparing values could not (they are flat to 1e-16 over 1e-8). A minimum at a bound is returned as the bound.
    """
    low, high = np.broadcast_arrays(np.asarray(low, np.float64), np.asarray(high, np.float64))
    grid = low + np.linspace(0.0, 1.0, _SCAN).reshape(-1, *[1] * low.ndim) * (high - low)
    values = f(grid)
    best = np.argmin(np.where(np.isnan(values), np.inf, values), axis=0)
    take = lambda index: np.take_along_axis(grid, index[None], 0)[0]  # noqa: E731
    left, right = take(np.maximum(best - 1, 0)), take(np.minimum(best + 1, _SCAN - 1))
    for _ in range(_BISECTIONS):
        middle = (left + right) / 2
        before, after = f(middle - _STEP), f(middle + _STEP)
        # Not allowed on both sides: go back towards the scan's best point.
        rising = np.where(np.isfinite(before) | np.isfinite(after), after > before, middle > take(best))
        left, right = np.where(rising, left, middle), np.where(rising, middle, right)
    return (left + right) / 2


def root(
    f: Callable[[np.ndarray], np.ndarray], low: float | np.ndarray, high: float | np.ndarray, *, bisections: int = 60
) -> np.ndarray:
    """The u in [low, high] where f, falling through zero, is zero; the bound where it does not cross."""
    left, right = (np.array(bound, np.float64) for bound in np.broadcast_arrays(low, high))
    for _ in range(bisections):
        middle = (left + right) / 2
        above = f(middle) > 0
        left, right = np.where(above, middle, left), np.where(above, right, middle)
    return (left + right) / 2
