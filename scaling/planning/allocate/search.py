"""Minima and roots of functions of one logarithm, many at once: a scan, then bisection of the slope or of the value."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

#: Half-width of the central difference: the error that it makes in the root, h^2 f'''/6f'', and rounding are both below 1e-7.
_STEP = 2e-5
_SCAN = 160
_BISECTIONS = 52


def minimise(f: Callable[[np.ndarray], np.ndarray], low: float, high: float, shape: tuple[int, ...] = ()) -> np.ndarray:
    """The u in [low, high] where f is least, for `shape` functions at once; f is infinite where u is not allowed.

    f maps u of [G, 1, ..] or of `shape` to values that broadcast to [G, *shape] or `shape`. A scan of G points finds the
    basin; there the sign of the slope is bisected, which finds the place of a minimum to 1e-8, where comparing values could
    not (they are flat to 1e-16 over 1e-8). A minimum at a bound is returned as the bound.
    """
    grid = np.linspace(low, high, _SCAN)
    values = np.broadcast_to(f(grid.reshape(-1, *[1] * len(shape))), (_SCAN, *shape))
    best = np.argmin(np.where(np.isnan(values), np.inf, values), axis=0)
    left, inside, right = (grid[np.clip(best + step, 0, _SCAN - 1)] for step in (-1, 0, 1))
    for _ in range(_BISECTIONS):
        middle = (left + right) / 2
        before, after = f(middle - _STEP), f(middle + _STEP)
        # Not allowed on both sides: go back towards the scan's best point.
        rising = np.where(np.isfinite(before) | np.isfinite(after), after > before, middle > inside)
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


#: Parts that `sections` cuts an interval into, and how often: 64^6 is a little more than 2^35.
_PARTS, _ROUNDS = 64, 6


def sections(f: Callable[[np.ndarray], np.ndarray], low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """As `root`, for an f that is dear to call but takes many u at once: [G, S] at a time, f maps it to the same shape."""
    left, width = np.broadcast_arrays(np.asarray(low, np.float64), np.asarray(high, np.float64) - low)
    steps = np.arange(1, _PARTS).reshape(-1, *[1] * left.ndim) / _PARTS
    for _ in range(_ROUNDS):
        above = (f(left + steps * width) > 0).sum(0)
        left, width = left + above * (width / _PARTS), width / _PARTS
    return left + width / 2
