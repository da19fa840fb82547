"""The problem that a table and a law pose, and the best optimum of it: what `fit` and `compare` both begin with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from scaling.fitting import diagnose, uncertainty
from scaling.fitting.diagnose import Warned
from scaling.fitting.laws import Chinchilla, Law
from scaling.fitting.objective import LogHuber, Objective
from scaling.fitting.solve import Certificate, FitError, Problem, solve
from scaling.runs import Runs

#: Condition number from which a direction counts as wholly open.
HOPELESS = 1e10


def pose(
    runs: Runs,
    law: type[Law] = Chinchilla,
    objective: Objective | None = None,
    *,
    pin: Mapping[str, float] | None = None,
    tie: Mapping[str, str | tuple[str, float]] | None = None,
    bound: Mapping[str, tuple[float, float]] | None = None,
    prior: Mapping[str, tuple[float, float]] | None = None,
) -> Problem:
    """The problem that `fit` solves, for those who want the solver, the profiles or the resamples by themselves."""
    missing = [name for name in law.columns if name not in runs.table]
    if missing:
        raise ValueError(
            f"{runs.source}: the law {law.name} needs a column {', '.join(missing)}; the table has {', '.join(runs.table)}."
        )
    return Problem(
        law=law,
        objective=LogHuber() if objective is None else objective,
        columns={name: runs.table[name].to_numpy(np.float64) for name in law.columns},
        loss=runs.loss,
        weights=np.ones(len(runs)) if runs.weight is None else runs.weight,
        pin=dict(pin or {}),
        tie=dict(tie or {}),
        bound=dict(bound or {}),
        prior=dict(prior or {}),
    )


@dataclass(frozen=True)
class Settled:
    """The best optimum of a problem: `theta` [P] in fitted coordinates, its summed objective, its certificate.

    `problem` is the one that was posed, its priors weighed; `warned` is what the runs alone gave reason to say.
    """

    problem: Problem
    theta: np.ndarray
    value: float
    certificate: Certificate
    warned: list[Warned]

    @property
    def law(self) -> Law:
        """The law at the optimum."""
        return self.problem.law(*map(float, self.problem.to_natural(self.theta)))

    @property
    def reported(self) -> float:
        """The objective as it is reported: at its corners and not next to them, in its own reduction."""
        problem = self.problem
        if problem.objective.has_corner and not problem.prior:
            return problem.objective.value(problem.loss, problem.predict(self.theta), problem.weights)
        return self.value / float(problem.weights.sum()) if problem.objective.reduction == "mean" else self.value


def settle(runs: Runs, problem: Problem, starts: int, seed: int) -> Settled:
    """The best optimum of the problem that the runs pose. Raises FitError where they leave a direction wholly open."""
    warned = diagnose.check(runs, problem)
    if problem.prior:
        alone = replace(problem, prior={})
        problem = replace(problem, dispersion=uncertainty.dispersion(alone, solve(alone, starts, seed)[0]))
    theta, value, certificate = solve(problem, starts, seed)
    if certificate.condition_number >= HOPELESS:
        raise FitError(
            f"{runs.source}: these {len(runs)} runs leave a combination of {', '.join(problem.law.names())} wholly open "
            f"(condition number {certificate.condition_number:.1e}). Add runs at other N, D or token ratios, or pin "
            "coefficients."
        )
    return Settled(problem, theta, value, certificate, warned)
