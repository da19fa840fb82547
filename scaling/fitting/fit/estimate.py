"""fit: a table of runs -> the law that describes it best, certified, with intervals and warnings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import numpy as np

from scaling.fitting import diagnose, uncertainty
from scaling.fitting.compare import Candidate
from scaling.fitting.counting import Counting
from scaling.fitting.fit.card import Fit
from scaling.fitting.laws import Chinchilla, Law
from scaling.fitting.objective import LogHuber, Objective
from scaling.fitting.pose import pose, settle
from scaling.fitting.rivals import beside
from scaling.fitting.solve import Problem
from scaling.fitting.uncertainty import Profile
from scaling.runs import Runs

#: Resamples on which windows are compared with the whole: enough for a standard error to 5%.
PAIRED = 200


def fit(
    runs: Runs,
    law: type[Law] = Chinchilla,
    objective: Objective | None = None,
    *,
    resamples: int = 4000,
    level: float = 0.9,
    starts: int = 500,
    seed: int = 0,
    by: str | None = None,
    pin: Mapping[str, float] | None = None,
    tie: Mapping[str, str | tuple[str, float]] | None = None,
    bound: Mapping[str, tuple[float, float]] | None = None,
    prior: Mapping[str, tuple[float, float]] | None = None,
    flops: Sequence[float] = (),
    plan: Sequence[tuple[float, float]] = (),
    rivals: Sequence[type[Law] | Candidate] = (),
) -> Fit:
    """The law of the kind `law` that minimises `objective` (log-Huber, delta 1e-3, summed) over the runs.

    `resamples` bootstrap refits give the intervals of the given level; they draw by "run", "budget" or any column of the
    table (default: the column `group`, where there is one). `pin` fixes coefficients, `tie` {"beta": "alpha"} makes one
    equal another, `bound` gives (low, high) and `prior` (mean, standard error). The answer is worked out at each C of
    `flops` (default: the largest run's, 10 and 100 times that) and the loss at each (N, D) of `plan`. `rivals` are other
    laws whose answers stand beside (`scaling.fitting.rivals.alternatives` names those near a law).

    Raises FitError where the runs cannot identify the law at all, ValueError for bad numbers.
    """
    own = Candidate(law, dict(pin or {}), dict(tie or {}), dict(bound or {}), dict(prior or {}))
    objective = LogHuber() if objective is None else objective
    problem, groups = own.pose(runs, objective), _groups(runs, by)
    settings = {
        "resamples": resamples, "level": level, "starts": starts, "seed": seed, "by": groups[1],
        "weighted": runs.weight is not None,
        "pin": own.pin, "tie": own.tie, "bound": own.bound, "prior": own.prior,
        "flops": list(map(float, flops)), "plan": [list(map(float, pair)) for pair in plan],
        "rivals": [_as_candidate(each).to_json() for each in rivals],
    }  # fmt: skip
    asked = list(map(float, flops)) or [float(runs.C.max()) * scale for scale in (1, 10, 100)]
    with ThreadPoolExecutor(1) as aside:  # the others compile on another core meanwhile
        later = aside.submit(beside, runs, own, rivals, objective, asked, starts, seed) if rivals else None
        found = _own(runs, problem, groups[0], asked, settings)
        others = [] if later is None else later.result()
    return replace(found, rivals=others, warnings=(*found.warnings, *diagnose.others(others, found.answers)))


def _as_candidate(law: type[Law] | Candidate) -> Candidate:
    return law if isinstance(law, Candidate) else Candidate(law)


def _own(runs: Runs, problem: Problem, groups: np.ndarray, asked: Sequence[float], settings: Mapping[str, Any]) -> Fit:
    """The fit without its rivals; `groups` [R] are what the bootstrap draws."""
    resamples, level, seed = (settings[name] for name in ("resamples", "level", "seed"))
    settled = settle(runs, problem, settings["starts"], seed)
    problem, theta, fitted = settled.problem, settled.theta, settled.law
    residual = np.log(problem.loss) - np.log(problem.predict(theta))
    scatter = uncertainty.noise(problem, theta, runs.N, runs.D)
    counting = Counting.of(runs)
    found, draws = uncertainty.windows(problem, theta, runs.C), None
    if resamples:
        centres = uncertainty.draw_priors(problem, resamples, seed)
        draws = uncertainty.refit(problem, theta, uncertainty.resample(groups, resamples, seed), centres)
        draws = uncertainty.widen(problem, theta, draws, len(np.unique(groups)))
        found = uncertainty.shifts(problem, theta, found, uncertainty.resample(groups, min(resamples, PAIRED), seed))
    stacked = None if draws is None else problem.law(*draws.T)
    worst = diagnose.worst_runs(residual)
    without = uncertainty.leave_out(problem, theta, ~worst[None])[0] if len(runs) > 2 * len(theta) else None
    domain = {name: [float(v.min()), float(v.max())] for name, v in (("N", runs.N), ("D", runs.D), ("C", runs.C))}
    warned = [*settled.warned, *diagnose.review(settled.certificate, settled.value, fitted, scatter)]
    if without is not None:
        errors = None if draws is None else np.array([_spread(draw) or math.inf for draw in draws.T])
        warned += diagnose.influence(fitted, without, int(worst.sum()), runs.id[worst], errors)
    warned += diagnose.drift(fitted, found, level)
    plan = settings["plan"]
    for C in settings["flops"]:
        warned += diagnose.extrapolation(f"C = {C:.3g}", C, runs.C)
    for N, D in plan:  # its exact C is not known: ND against the runs' own, whatever they count as C
        warned += diagnose.extrapolation(f"N = {N:.3g}, D = {D:.3g}", N * D, runs.N * runs.D)
    return Fit(
        law=fitted,
        objective=problem.objective,
        value=settled.reported,
        n=len(runs),
        certificate=settled.certificate,
        warnings=tuple(warned),
        intervals=_intervals(fitted, draws, level),
        draws=draws,
        count=runs.count,
        flops=runs.flops,
        domain=domain,
        digest=runs.digest,
        source=runs.source,
        settings=settings,
        versions={name: version(name) for name in ("isoflop", "jax", "jaxlib", "numpy")},
        noise=scatter,
        answers=_answers(fitted, stacked, asked, level, counting),
        planned=[uncertainty.planned(fitted, stacked, residual, N, D, level) for N, D in plan],
        windows=uncertainty.as_json(found, asked, counting),
        profiles={} if draws is None else uncertainty.profile_answers(problem, theta, draws, asked, plan, level, counting),
        worst={} if without is None else {
            "n": int(worst.sum()), "ids": [str(name) for name in runs.id[worst]], "params": without.params,
        },
    )  # fmt: skip


def profiles(runs: Runs, found: Fit) -> list[Profile]:
    """The profile likelihood of each free coefficient of a fit, on the runs that it was fitted to."""
    if runs.digest != found.digest:
        raise ValueError(
            f"{runs.source}: digest {runs.digest}, but the fit is of {found.source}, digest {found.digest}."
        )
    chosen = found.settings
    limits = {key: chosen[key] for key in ("pin", "tie", "bound", "prior")}
    problem = pose(runs, type(found.law), found.objective, **limits)
    theta = problem.to_fitted(np.array(list(found.params.values())))
    if found.draws is None:
        raise ValueError("a profile takes its width from the bootstrap; fit with resamples.")
    errors = dict(zip(problem.law.names(), found.draws.std(0)))
    free = [name for name, is_free in zip(problem.law.names(), problem.free) if is_free]
    return [uncertainty.profile(problem, theta, name, errors[name], chosen["level"]) for name in free]


def _groups(runs: Runs, by: str | None) -> tuple[np.ndarray, str]:
    """What the bootstrap draws, [R], and its name."""
    if by == "run" or (by is None and len(np.unique(runs.group)) == len(runs)):
        return np.arange(len(runs)), "run"
    if by is None or by == "group":
        return runs.group, "group"
    if by == "budget":
        return np.searchsorted(uncertainty.budget_edges(runs.C, len(runs)), runs.C, "right"), "budget"
    if by not in runs.table:
        raise ValueError(
            f"{runs.source}: no column {by!r} to resample by; run, budget, or one of {', '.join(runs.table)}."
        )
    return runs.table[by].astype(str).to_numpy(), by


def _intervals(law: Law, draws: np.ndarray | None, level: float) -> dict[str, Any]:
    """Intervals and standard errors of the coefficients and of the exponents a and b."""
    if draws is None:
        return {"level": level, "method": "none", "params": {}, "exponents": {}, "standard_errors": {}}
    values = dict(zip(law.names(), draws.T))
    exponents = dict(zip("ab", type(law)(*draws.T).exponents)) if hasattr(law, "exponents") else {}  # type: ignore
    exponents = {name: np.broadcast_to(value, len(draws)) for name, value in exponents.items()}
    return {
        "level": level,
        "method": "percentile bootstrap, draws widened for the coefficients fitted",
        "params": {name: uncertainty.interval(value, level) for name, value in values.items()},
        "exponents": {name: uncertainty.interval(value, level) for name, value in exponents.items()},
        "standard_errors": {name: _spread(value) for name, value in {**values, **exponents}.items()},
    }


def _spread(values: np.ndarray) -> float | None:
    """Standard deviation over the finite draws."""
    finite = values[np.isfinite(values)]
    if len(finite) < 2:
        return None
    scale = float(np.abs(finite).max()) or 1.0  # amplitudes of few runs reach 1e200, whose squares are no numbers
    return float((finite / scale).std()) * scale


def _answers(
    law: Law, draws: Law | None, flops: Sequence[float], level: float, counting: Counting
) -> list[dict[str, Any]]:
    """The answer at each budget; none for a law that has no best N, or one that needs further columns."""
    try:
        return [uncertainty.answer(law, draws, float(C), level, counting) for C in flops]
    except (ValueError, TypeError):
        return []
