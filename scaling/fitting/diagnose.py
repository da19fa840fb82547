"""What is wrong with the runs, or with the fit: refused before, warned of after, each with its number and remedy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from scaling.fitting.laws import Law
from scaling.fitting.solve import Certificate, FitError, Problem
from scaling.fitting.uncertainty import Noise, Window
from scaling.runs import Runs

#: N and D this correlated leave A and B to be told apart by little.
CORRELATED = 0.95
#: A span of D/N, or of C, under this factor is one value.
ONE_VALUE = 1.02
#: A span of D/N under this factor is narrow: runs all but at one ratio fit well and extrapolate badly.
NARROW = 1.5
#: Condition number of the column-normalised log-amplitude Jacobian from which the answer is soft (FITTING: 200 is good).
SOFT = 1500.0
#: An answer this many decades past the largest run is an extrapolation to be loud about.
FAR = 2.0


@dataclass(frozen=True)
class Warned:
    """Something about the runs or the fit that bears on the answer: its name, its number, what it means, what to do."""

    name: str
    number: float | None
    message: str
    remedy: str


def check(runs: Runs, problem: Problem) -> list[Warned]:
    """What the runs alone say before any fit. Raises FitError where they cannot identify the law at all."""
    _check_numbers(runs, problem)
    law, free = problem.law, int(problem.free.sum())
    cells = len(np.unique(np.stack(list(problem.columns.values()), -1), axis=0))
    if cells < free:
        raise FitError(
            f"{runs.source}: {cells} distinct runs for the {free} free coefficients of {law.name}. Add runs, or pin "
            "coefficients (--pin E=1.69)."
        )
    warned = []
    if cells < free + 2:
        warned.append(
            Warned("few-runs", cells, f"{cells} distinct runs for {free} coefficients: nothing is left to check the law with.",
                   f"Use at least {free + 2}, or pin or tie coefficients.")
        )  # fmt: skip
    return warned + (_check_design(runs, problem) if {"N", "D"} <= set(law.columns) else [])


def _check_numbers(runs: Runs, problem: Problem) -> None:
    for name, values in {**problem.columns, "loss": problem.loss, "weight": problem.weights}.items():
        may_be_nought = name in ("weight", "S")
        bad = ~np.isfinite(values) | ((values < 0) if may_be_nought else (values <= 0))
        if bad.any():
            rows = ", ".join(map(str, runs.id[bad][:6]))
            raise ValueError(f"{runs.source}: {name} of run {rows} is {values[bad][0]:g}; needed a positive number.")


def _check_design(runs: Runs, problem: Problem) -> list[Warned]:
    N, D, C = runs.N, runs.D, runs.C
    ratio, span = D / N, float((D / N).max() / (D / N).min())
    separate = {"A", "B", "alpha", "beta"} <= {n for n, free in zip(problem.law.names(), problem.free) if free}
    if separate and span < ONE_VALUE:
        raise FitError(
            f"{runs.source}: D/N is {ratio.mean():.4g} in all {len(runs)} runs, so A and B cannot be told apart. Add runs at "
            "other token ratios, e.g. D/N = 5 and 80."
        )
    if separate and C.max() / C.min() < ONE_VALUE:
        raise FitError(
            f"{runs.source}: all {len(runs)} runs are at C = {C.mean():.4g} FLOPs; one budget says nothing of another. Add "
            "runs at two or more other budgets, or use `scaling isoflop` for the best N at this one."
        )
    for size, exponent in (("N", "alpha"), ("D", "beta")) if separate else ():
        values = problem.columns[size]
        if values.max() / values.min() < ONE_VALUE:
            raise FitError(
                f"{runs.source}: {size} is {values.mean():.4g} in all {len(runs)} runs, which say nothing of {exponent}. Add "
                f"runs at two or more other {size}."
            )
    warned = []
    if span < NARROW:
        warned.append(
            Warned("narrow-ratio", span, f"D/N spans only {ratio.min():.3g} to {ratio.max():.3g}: A and B are barely told apart.",
                   "Add runs at other token ratios, e.g. D/N = 5 and 80.")
        )  # fmt: skip
    correlation = float(np.corrcoef(np.log(N), np.log(D))[0, 1]) if span >= ONE_VALUE else 1.0
    if abs(correlation) > CORRELATED:
        warned.append(
            Warned("correlated-design", correlation, f"log N and log D correlate at {correlation:.3f}: big models saw more data.",
                   "Add small models on much data and large ones on little.")
        )  # fmt: skip
    return warned


def review(certificate: Certificate, value: float, law: Law, scatter: Noise) -> Iterator[Warned]:
    """What the certificate and the residuals say."""
    if not certificate.converged:
        yield Warned("not-converged", certificate.gradient_norm,
                     f"the optimality residual is {certificate.gradient_norm:.1e}, above 1e-8, or the Hessian is not positive.",
                     "Raise --starts; if it stays, the law has more coefficients than these runs support.")  # fmt: skip
    rival = certificate.next_best
    if rival is not None and rival.value <= value * 1.05:
        apart = ", ".join(f"{name} {rival.params[name]:.4g}" for name in law.names())
        yield Warned("near-tie", rival.value / value - 1,
                     f"another optimum is only {rival.value / value - 1:.2%} worse: {apart}.",
                     "Quote both answers, or add runs where the two laws differ.")  # fmt: skip
    elif not certificate.global_evidence:
        yield Warned("few-agree", certificate.agreeing_starts,
                     f"{certificate.agreeing_starts} of {certificate.starts} starts agree on the optimum.",
                     "Raise --starts.")  # fmt: skip
    if certificate.bounds_hit:
        names = ", ".join(certificate.bounds_hit)
        yield Warned("bound-hit", float(len(certificate.bounds_hit)), f"{names}: at a bound, or its term has vanished.",
                     "Its interval is one-sided; widen the bound, pin it, or fit a law without it.")  # fmt: skip
    if certificate.condition_number > SOFT:
        yield Warned("ill-conditioned", certificate.condition_number,
                     f"condition number {certificate.condition_number:.3g}: coefficients trade off (200 is good).",
                     "Spread D/N from 5 to 80 at every budget; `scaling design` says which runs help most.")  # fmt: skip
    if scatter.lack_of_fit is not None and scatter.lack_of_fit < 0.01:
        yield Warned("lack-of-fit", scatter.lack_of_fit,
                     f"the law misses the runs by more than repeats differ (p = {scatter.lack_of_fit:.1e}).",
                     "Compare laws (`scaling compare`), or look for runs with another recipe.")  # fmt: skip


def worst_runs(residual: np.ndarray) -> np.ndarray:
    """[R] of bool: the worst fiftieth of the runs by residual, at least one."""
    count = max(1, int(np.ceil(0.02 * len(residual))))
    return np.isin(np.arange(len(residual)), np.argsort(-np.abs(residual))[:count])


def influence(before: Law, after: Law, dropped: int, ids: np.ndarray, errors: np.ndarray | None) -> Iterator[Warned]:
    """Whether the few worst runs carry the answer: a coefficient moves by more than its standard error without them."""
    if errors is None:
        return
    shift = {
        name: (after.params[name] - before.params[name]) / error
        for name, error in zip(before.names(), errors)
        if error > 0
    }
    name = max(shift, key=lambda key: abs(shift[key]), default=None)
    if name is not None and abs(shift[name]) > 1:
        yield Warned("influential-runs", shift[name],
                     f"without the {dropped} worst runs ({', '.join(map(str, ids[:5]))}) {name} goes from "
                     f"{before.params[name]:.4g} to {after.params[name]:.4g}, {abs(shift[name]):.1f} standard errors.",
                     "Look at these runs; report the fit with and without them.")  # fmt: skip


def drift(law: Law, found: tuple[Window, ...], level: float) -> Iterator[Warned]:
    """Whether the exponent a moves, when the smallest budgets are dropped, by more than noise explains.

    Of 100 planted laws that hold (48 runs, 1% noise, five to seven windows each, level .9) 14 are warned of under squared
    loss and 7 under log-Huber: the windows share most of their runs, so that many looks are hardly more than one.
    """
    known = [window for window in found if window.a_shift_se]  # none where a is pinned or tied
    if not known:
        return
    a = law.exponents[0]  # type: ignore[attr-defined]
    shifts = [window.law.exponents[0] - a for window in known]  # type: ignore[attr-defined]
    apart = [shift / window.a_shift_se for shift, window in zip(shifts, known)]
    worst = int(np.argmax(np.abs(apart)))
    if abs(apart[worst]) > NormalDist().inv_cdf((1 + level) / 2):
        window = known[worst]
        yield Warned("window-drift", float(apart[worst]),
                     f"fitted to {window.what} alone ({window.n} runs) a is {a + shifts[worst]:.3f} and not {a:.3f}: "
                     f"{abs(apart[worst]):.1f} standard errors of the difference, so the law bends and the bootstrap "
                     "understates the extrapolation.",
                     "Quote the range over windows beside the interval, or fit the larger budgets only.")  # fmt: skip


def others(rivals: Sequence[Mapping[str, Any]], answers: Sequence[Mapping[str, Any]]) -> Iterator[Warned]:
    """Whether another law predicts better, and whether one that the runs cannot tell from the best answers otherwise."""
    own = next((each for each in rivals if each["fitted"]), None)
    if own is not None and own["told_apart"]:
        best = rivals[0]
        yield Warned("better-rival", own["behind"] / own["behind_se"] if own["behind_se"] else None,
                     f"{best['law']} predicts each budget from the smaller ones within {best['rolling_error']:.2%}, this law "
                     f"within {own['rolling_error']:.2%}: {own['behind'] / own['behind_se']:.1f} standard errors apart.",
                     "Fit that law, or quote both answers.")  # fmt: skip
    asked = len(answers) // 2
    ends = answers[asked].get("intervals", {}).get("N") if answers else None
    if not ends:
        return
    level = [each for each in rivals if not each["fitted"] and each["told_apart"] is False and each["answers"]]
    outside = [each for each in level if not ends[0] <= each["answers"][asked]["N"] <= ends[1]]
    if outside:
        far = max(outside, key=lambda each: abs(np.log(each["answers"][asked]["N"] / answers[asked]["N"])))
        N = far["answers"][asked]["N"]
        yield Warned("rival-answer", N / answers[asked]["N"],
                     f"at C = {answers[asked]['C']:.3g} {far['law']}, which these runs do not tell apart from the best law, has "
                     f"N = {N:.3g}, outside the interval {ends[0]:.3g} to {ends[1]:.3g}.",
                     "Quote the range over laws beside the interval; runs at larger C tell them apart.")  # fmt: skip


def extrapolation(what: str, compute: float, known: np.ndarray) -> Iterator[Warned]:
    """How many decades of compute a question lies past the largest run; `compute` and `known` [R] in the same unit."""
    decades = float(np.log10(compute / known.max()))
    if decades > FAR:
        yield Warned("extrapolation", decades, f"{what} is {decades:.1f} decades of compute past the largest run.",
                     "Treat the interval as a lower bound on the uncertainty; run something closer.")  # fmt: skip
