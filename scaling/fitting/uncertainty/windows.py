"""Narrower windows: the law refitted without the smallest budgets, or without some runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from scaling.fitting.counting import Counting
from scaling.fitting.laws import Law
from scaling.fitting.solve import Problem
from scaling.fitting.uncertainty.answers import sizes
from scaling.fitting.uncertainty.bootstrap import refit

#: A window of less than this share of the runs is noise of its own: it is shown, but is no evidence of a bend.
LEAST_SHARE = 1 / 3


@dataclass(frozen=True)
class Window:
    """A refit to part of the runs: which (`kept` [R] of bool), how many, the law.

    `a_shift_se` is the standard error of a's difference to the fit of all runs, both refitted to the same resamples.
    """

    what: str
    n: int
    law: Law
    kept: np.ndarray = field(repr=False)
    a_shift_se: float | None = None


def windows(problem: Problem, theta: np.ndarray, C: np.ndarray) -> tuple[Window, ...]:
    """The law refitted with the smallest budgets dropped one by one, down to twice as many runs as coefficients."""
    edges = budget_edges(C)
    kept = [edge <= C for edge in edges[1:]]
    kept = [
        keep
        for keep in kept
        if keep.sum() >= 2 * problem.free.sum() and np.unique(np.round(np.log(C[keep]), 1)).size > 1
    ]
    if not kept:
        return ()
    laws = leave_out(problem, theta, np.array(kept))
    return tuple(Window(f"C >= {C[keep].min():.3g}", int(keep.sum()), law, keep) for keep, law in zip(kept, laws))


def shifts(problem: Problem, theta: np.ndarray, found: Sequence[Window], counts: np.ndarray) -> tuple[Window, ...]:
    """The windows with the standard error of a's difference to the whole fit over the resamples `counts` [S, R].

    Whole and window are refitted to the same resamples, so that the window's own uncertainty counts, and the runs that both
    share count once; as all draws they are widened for the coefficients that were fitted. Windows of less than LEAST_SHARE of
    the runs are left as they are.
    """
    wide = [window for window in found if window.n >= LEAST_SHARE * len(problem.loss)]
    if not wide or not hasattr(problem.law, "exponents"):
        return tuple(found)
    masks = [np.ones(len(problem.loss), bool), *(window.kept for window in wide)]
    draws = refit(problem, theta, np.concatenate([counts * mask for mask in masks]))
    a = np.split(np.broadcast_to(problem.law(*draws.T).exponents[0], len(draws)), len(masks))  # type: ignore[attr-defined]
    known = {}
    for window, drawn in zip(wide, a[1:]):
        freedom = max(window.n - int(problem.free.sum()), 1)
        error = float(np.nanstd(drawn - a[0]) * np.sqrt((window.n - 1) / freedom))
        known[window.what] = replace(window, a_shift_se=error)
    return tuple(known.get(window.what, window) for window in found)


def leave_out(problem: Problem, theta: np.ndarray, kept: np.ndarray) -> list[Law]:
    """The law refitted to each of the subsets `kept` [K, R] of bool."""
    draws = refit(problem, theta, kept.astype(np.float64))
    return [problem.law(*map(float, row)) for row in draws]


def budget_edges(C: np.ndarray, most: int = 8) -> np.ndarray:
    """The smallest C of each budget (C within 10% of each other); of a table without budgets, of its octiles."""
    ordered = np.sort(C)
    starts = ordered[np.r_[True, np.diff(np.log(ordered)) > 0.1]]
    return starts if len(starts) <= most else np.quantile(ordered, np.arange(most) / most)


def as_json(values: Sequence[Window], flops: Sequence[float], counting: Counting) -> list[Mapping[str, Any]]:
    """Windows as plain values, with what each answers at the budgets `flops`."""
    return [
        {
            "what": window.what, "n": window.n, "params": window.law.params,
            "a": float(window.law.exponents[0]) if hasattr(window.law, "exponents") else None,  # type: ignore[attr-defined]
            "a_shift_se": window.a_shift_se, "answers": sizes(window.law, flops, counting),
        }
        for window in values
    ]  # fmt: skip
