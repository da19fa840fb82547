"""Counting: how the FLOPs of a table follow from N and D, and the best N and D of a law under that count."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from scaling.currency import Currency
from scaling.fitting.laws import FLOPS_PER_ND, Law
from scaling.runs import Runs

#: log N of the smooth function's knots.
_KNOTS = np.arange(np.log(10), np.log(1e30), 0.15)


@dataclass(frozen=True)
class Counting:
    """C = exp(`log_per_token`(log N)) D, a smooth function of N; 6 N D where there is none."""

    log_per_token: Callable[[Any], Any] | None = None

    @classmethod
    def of(cls, runs: Runs) -> Counting:
        """How a table counts: 6ND; exact FLOPs of records by the dial of shapes, times what the runs' own are over it; exact
        FLOPs of other tables by a parabola of log C/ND in log N through the runs, held at their ends.
        """
        if runs.flops == "6ND":
            return cls()
        from scipy.interpolate import CubicSpline  # slow to import, and 6ND needs none of it

        log_N, own = np.log(runs.N), np.log(runs.C / runs.D)
        sizes = [runs.table[name].dropna().unique() for name in ("vocab", "context") if name in runs.table]
        if [len(each) for each in sizes] == [1, 1]:
            dial = Currency("exact", runs.count, *(int(each[0]) for each in sizes))
            times = float(np.mean(own - np.log(dial.flops_per_token(runs.N))))
            return cls(CubicSpline(_KNOTS, np.log(dial.flops_per_token(np.exp(_KNOTS))) + times))
        parabola = np.polynomial.Polynomial.fit(log_N, own - log_N, 2)
        return cls(CubicSpline(_KNOTS, _KNOTS + parabola(np.clip(_KNOTS, log_N.min(), log_N.max()))))

    def tokens(self, N: Any, C: Any) -> Any:
        """D that C FLOPs leave for N."""
        if self.log_per_token is None:
            return C / (FLOPS_PER_ND * N)
        return C / np.exp(self.log_per_token(np.log(N)))

    def optimum(self, law: Law, C: Any) -> tuple[Any, Any]:
        """(N, D) of least loss at C FLOPs; arrays broadcast. By Newton's steps in log N from the law's optimum under 6ND.

        Raises what `Law.optimum` raises.
        """
        N, D = law.optimum(C)
        if self.log_per_token is None:
            return N, D
        step, u = 1e-3, np.log(np.asarray(N, np.float64))

        def loss(u: Any) -> Any:
            return law.loss(np.exp(u), self.tokens(np.exp(u), C))

        for _ in range(20):
            low, middle, high = loss(u - step), loss(u), loss(u + step)
            curvature = np.maximum((high - 2 * middle + low) / step**2, 1e-300)
            move = np.clip((low - high) / (2 * step) / curvature, -0.3, 0.3)
            u = u + move
            if np.nanmax(np.abs(move)) < 1e-9:
                break
        return np.exp(u), self.tokens(np.exp(u), C)
