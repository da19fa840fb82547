"""fit: a table of runs -> the law that describes it best, certified, with intervals and warnings."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from scaling.fitting import diagnose, laws, objective, uncertainty
from scaling.fitting.diagnose import Warned
from scaling.fitting.laws import Chinchilla, Law
from scaling.fitting.objective import LogHuber, Objective
from scaling.fitting.solve import Certificate, FitError, Problem
from scaling.fitting.solve import solve as find
from scaling.fitting.uncertainty import Noise, Profile
from scaling.runs import Runs, to_json, write_whole

#: Version of the fit file's layout.
SCHEMA = 1
#: Key of a fit's file -> what it holds.
FIELDS = {
    "schema": "version of this layout",
    "law": "name of the law",
    "params": "coefficients by name, unrounded",
    "objective": "what was minimised: name, delta, reduction, residual, value at the optimum, n runs",
    "certificate": "verdicts converged, global_evidence, identifiable, their conjunction verified, and the numbers behind them",
    "warnings": "named warnings, each with its number, message and remedy",
    "intervals": "of params and exponents at `level` by `method`, with standard errors",
    "draws": "bootstrap coefficients [resamples, coefficients], little-endian float64 in base64; null without a bootstrap",
    "noise": "relative: seed noise from repeats, residual, and the p-value of the lack-of-fit test",
    "answers": "N*, D*, tokens per parameter, loss, their intervals and flatness bands at some budgets",
    "planned": "loss of planned runs, as mean law and as one new run",
    "windows": "the law without the smallest budgets, one after another",
    "worst": "the law without the worst runs, and their ids",
    "count": "which parameters N counts",
    "flops": "how C was counted: exact or 6ND",
    "domain": "[low, high] of N, D and C over the runs",
    "digest": "hash of the runs",
    "source": "where the runs came from",
    "settings": "what `scaling fit` was called with: `scaling fit --from` makes the fit again",
    "versions": "of the software",
    "checklist": "what a paper should report, in words (Li et al. 2025)",
}
#: Resamples on which windows are compared with the whole: enough for a standard error to 5%.
PAIRED = 200
#: Condition number from which a direction counts as wholly open.
HOPELESS = 1e10
#: Fields of a Fit that its file holds as they are.
_PLAIN = (
    "intervals",
    "answers",
    "planned",
    "profiles",
    "windows",
    "rivals",
    "worst",
    "count",
    "flops",
    "domain",
    "digest",
    "source",
    "settings",
    "versions",
)

#: Key of a fit's file -> what it holds: the schema, from which the documentation is made.
FIELDS = {
    "schema": "version of this layout",
    "law": "name of the law",
    "params": "coefficient -> value, unrounded; N in parameters, D in tokens, loss in nats per token",
    "objective": "name, its limits, reduction (sum or mean), residual (log or raw), value at the optimum, n runs",
    "certificate": "verified = converged and global_evidence and identifiable, each with its numbers: gradient_norm (needed "
    "1e-8), least_eigenvalue, starts, agreeing_starts, statuses, basins (the best five optima), condition_number, bounds_hit",
    "warnings": "list of name, number, message, remedy",
    "intervals": "level, method, [low, high] of params and of the exponents a and b, standard_errors",
    "answers": "at each C: N, D, tokens_per_parameter, loss, their intervals, flat: [low, high] of N that waste under a share",
    "planned": "at each planned N, D: loss, the interval of the mean law and of one new_run, noise included",
    "profiles": "level and profile-likelihood intervals of params, exponents, answers, planned; [] where the runs close none",
    "windows": "the law refitted without the smallest budgets: what, n, params, a, a_shift_se (of a's difference), answers",
    "rivals": "other laws (--rivals): params, objective, rolling_error, behind the best +- behind_se, told_apart, answers",
    "worst": "ids of the n worst runs, and params without them",
    "noise": "scatter of the log loss around the law, between repeats (seed), repeats, lack_of_fit (a p value)",
    "draws": "the bootstrap's coefficients: shape [resamples, coefficients], float64 in base64, little endian",
    "count": "what N counts: N (all), N_nonembedding, N_matmul",
    "flops": "how C was counted: exact or 6ND",
    "domain": "[low, high] of N, D and C over the runs",
    "digest": "SHA-256 (16 hex digits) of the runs' N, D, C and loss",
    "source": "where the runs came from",
    "settings": "what the fit was called with, and how the table was read: `scaling fit --from` does it again",
    "checklist": "what a scaling-law paper should report ((Mis)Fitting, Li et al. 2025)",
    "versions": "of isoflop, jax, jaxlib, numpy",
}


@dataclass(frozen=True)
class Fit:
    """A fitted law with everything needed to trust it, to use it and to make it again.

    `value` is the objective in its own reduction over `n` runs. `draws` [S, P] are the bootstrap's coefficients in
    the order of the law's fields, or None. `count` says what N counts, `flops` how C was counted; `domain` holds
    [low, high] of N, D and C over the runs. `digest` is that of the runs. `answers` are N*, D*, D/N and loss at some
    budgets, `planned` the loss at planned runs, `profiles` the profile-likelihood intervals of all these, `windows` the law
    without the smallest budgets, `rivals` other laws' answers and whether the runs tell them apart, `worst` the law without
    the worst runs. `settings` are what `fit` was called with. FIELDS says what each is in the file.
    """

    law: Law
    objective: Objective
    value: float
    n: int
    certificate: Certificate
    warnings: tuple[Warned, ...]
    intervals: Mapping[str, Any]
    draws: np.ndarray | None
    count: str
    flops: str
    domain: Mapping[str, list[float]]
    digest: str
    source: str
    settings: Mapping[str, Any]
    versions: Mapping[str, str] = field(default_factory=dict)
    noise: Noise | None = None
    answers: Sequence[Mapping[str, Any]] = ()
    planned: Sequence[Mapping[str, Any]] = ()
    windows: Sequence[Mapping[str, Any]] = ()
    profiles: Mapping[str, Any] = field(default_factory=dict)
    rivals: Sequence[Mapping[str, Any]] = ()
    worst: Mapping[str, Any] = field(default_factory=dict)

    @property
    def params(self) -> dict[str, float]:
        """Coefficient name -> value, unrounded."""
        return self.law.params

    @property
    def verified(self) -> bool:
        """All three verdicts of the certificate at once."""
        return self.certificate.verified

    def draw_laws(self) -> Iterator[Law]:
        """One law a bootstrap resample; none where the fit has no draws."""
        return laws.iterate(type(self.law), np.empty((0, 0)) if self.draws is None else self.draws)

    @property
    def stacked(self) -> Law | None:
        """All draws as one law whose coefficients are arrays [S]: `fit.stacked.optimum(1e21)` is a whole distribution."""
        return None if self.draws is None else type(self.law)(*self.draws.T)

    @property
    def exponents(self) -> tuple[float, float] | None:
        """(a, b) of N*(C) ~ C^a and D*(C) ~ C^b, for a law that has them."""
        return getattr(self.law, "exponents", None)

    @property
    def units(self) -> str:
        """What N and D are counted in, for people."""
        return f"N in parameters ({self.count}), D in tokens, C in FLOPs ({self.flops})"

    @property
    def checklist(self) -> dict[str, str]:
        """What a scaling-law paper should report ((Mis)Fitting, Li et al. 2025), from this fit."""
        span = {name: f"{low:.3g} to {high:.3g}" for name, (low, high) in self.domain.items()}
        kind, chosen = type(self.law), self.settings
        limits = {key: chosen[key] for key in ("pin", "tie", "bound", "prior") if chosen[key]}
        return {
            "law": f"{kind.name}: {(kind.__doc__ or '').strip().splitlines()[0]}",
            "coefficients": f"{len(kind.names())}: {', '.join(kind.names())}; constrained: {limits or 'none'}",
            "runs": f"{self.n} from {self.source}, digest {self.digest}",
            "N": f"{span['N']} parameters, counted as {self.count}",
            "D": f"{span['D']} tokens",
            "C": f"{span['C']} FLOPs, counted as {self.flops}",
            "objective": self.objective.describe,
            "weights": "as the table's weight column" if chosen["weighted"] else "every run counts alike",
            "starts": f"{self.certificate.starts}, by variable projection over the whole box, seed {chosen['seed']}",
            "optimiser": f"damped Newton, exact Hessian, float64; optimality residual {self.certificate.gradient_norm:.1e}",
            "agreement": f"{self.certificate.agreeing_starts} starts end at the reported optimum",
            "uncertainty": f"{chosen['resamples']} bootstrap refits by {chosen['by']}, {chosen['level']:.0%} intervals",
            "excluded": f"none here; without the {self.worst.get('n', 0)} worst runs the law is in `worst`",
            "code": f"isoflop {self.versions.get('isoflop')}, jax {self.versions.get('jax')}",
        }  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """The fit as plain values, which `from_json` reads back to the last bit."""
        return {
            "schema": SCHEMA,
            **self.law.to_json(),
            "objective": {**self.objective.to_json(), "value": self.value, "n": self.n},
            "certificate": self.certificate.to_json(),
            "warnings": [asdict(warned) for warned in self.warnings],
            "draws": None if self.draws is None else _pack(self.draws),
            "noise": None if self.noise is None else asdict(self.noise),
            "checklist": self.checklist,
            **{name: _plain(getattr(self, name)) for name in _PLAIN},
        }

    @classmethod
    def from_json(cls, payload: Mapping[str, Any]) -> Fit:
        """The fit that `to_json` wrote."""
        return cls(
            law=laws.from_json(payload),
            objective=objective.from_json(payload["objective"]),
            value=payload["objective"]["value"],
            n=payload["objective"]["n"],
            certificate=Certificate.from_json(payload["certificate"]),
            warnings=tuple(Warned(**warned) for warned in payload["warnings"]),
            draws=None if payload["draws"] is None else _unpack(payload["draws"]),
            noise=None if payload["noise"] is None else Noise(**payload["noise"]),
            **{name: payload[name] for name in _PLAIN if name in payload},
        )

    @classmethod
    def read(cls, path: str | Path) -> Fit:
        """The fit in a file. Raises ValueError naming a file that is damaged or newer than this program."""
        try:
            payload = json.loads(Path(path).read_text())
            if payload["schema"] > SCHEMA:
                raise ValueError(f"{path}: written by a newer version (schema {payload['schema']}). Upgrade isoflop.")
            return cls.from_json(payload)
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
            what = f"{type(error).__name__}: {error}"
            raise ValueError(f"{path}: not a fit that `scaling fit` wrote ({what}).") from None

    def write(self, path: str | Path) -> Path:
        """Write the fit to a file, whole or not at all, and return its path."""
        write_whole(Path(path), to_json(self.to_json()))
        return Path(path)


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
) -> Fit:
    """The law of the kind `law` that minimises `objective` (log-Huber, delta 1e-3, summed) over the runs.

    `resamples` bootstrap refits give the intervals of the given level; they draw by "run", "budget" or any column of the
    table (default: the column `group`, where there is one). `pin` fixes coefficients, `tie` {"beta": "alpha"} makes one
    equal another, `bound` gives (low, high) and `prior` (mean, standard error). The answer is worked out at each C of
    `flops` (default: the largest run's, 10 and 100 times that) and the loss at each (N, D) of `plan`.

    Raises FitError where the runs cannot identify the law at all, ValueError for bad numbers.
    """
    problem = pose(runs, law, objective, pin=pin, tie=tie, bound=bound, prior=prior)
    warned = diagnose.check(runs, problem)
    if problem.prior:
        alone = replace(problem, prior={})
        problem = replace(problem, dispersion=uncertainty.dispersion(alone, find(alone, starts, seed)[0]))
    theta, value, certificate = find(problem, starts, seed)
    if certificate.condition_number >= HOPELESS:
        raise FitError(
            f"{runs.source}: these {len(runs)} runs leave a combination of {', '.join(law.names())} wholly open (condition "
            f"number {certificate.condition_number:.1e}). Add runs at other N, D or token ratios, or pin coefficients."
        )
    fitted = law(*map(float, problem.to_natural(theta)))
    residual = np.log(problem.loss) - np.log(problem.predict(theta))
    groups, unit = _groups(runs, by)
    draws = None
    if resamples:
        draws = uncertainty.refit(problem, theta, uncertainty.resample(groups, resamples, seed))
        draws = uncertainty.widen(problem, theta, draws, len(np.unique(groups)))
    stacked = None if draws is None else law(*draws.T)
    intervals = _intervals(fitted, draws, level)
    scatter = uncertainty.noise(problem, theta, runs.N, runs.D)
    asked = list(map(float, flops)) or [float(runs.C.max()) * scale for scale in (1, 10, 100)]
    found = uncertainty.windows(problem, theta, runs.C)
    if resamples:
        found = uncertainty.shifts(problem, theta, found, uncertainty.resample(groups, min(resamples, PAIRED), seed))
    worst = diagnose.worst_runs(residual)
    without = uncertainty.leave_out(problem, theta, ~worst[None])[0] if len(runs) > 2 * len(theta) else None
    domain = {name: [float(v.min()), float(v.max())] for name, v in (("N", runs.N), ("D", runs.D), ("C", runs.C))}
    warned += diagnose.review(certificate, value, fitted, scatter)
    if without is not None:
        errors = None if draws is None else np.array([_spread(draw) or math.inf for draw in draws.T])
        warned += diagnose.influence(fitted, without, int(worst.sum()), runs.id[worst], errors)
    warned += diagnose.drift(fitted, found, level, len(runs))
    for C in flops:
        warned += diagnose.extrapolation(C, domain["C"])
    return Fit(
        law=fitted,
        objective=problem.objective,
        value=_reported(problem, theta, value),
        n=len(runs),
        certificate=certificate,
        warnings=tuple(warned),
        intervals=intervals,
        draws=draws,
        count=runs.count,
        flops=runs.flops,
        domain=domain,
        digest=runs.digest,
        source=runs.source,
        settings={
            "resamples": resamples, "level": level, "starts": starts, "seed": seed, "by": unit,
            "weighted": runs.weight is not None,
            "pin": dict(problem.pin), "tie": dict(problem.tie), "bound": dict(problem.bound), "prior": dict(problem.prior),
            "flops": list(map(float, flops)), "plan": [list(map(float, pair)) for pair in plan],
        },
        versions={name: version(name) for name in ("isoflop", "jax", "jaxlib", "numpy")},
        noise=scatter,
        answers=_answers(fitted, stacked, asked, level),
        planned=[uncertainty.planned(fitted, stacked, residual, N, D, level) for N, D in plan],
        windows=uncertainty.as_json(found, asked),
        profiles={} if draws is None else uncertainty.profile_answers(problem, theta, draws, asked, plan, level),
        worst={} if without is None else {
            "n": int(worst.sum()), "ids": [str(name) for name in runs.id[worst]], "params": without.params,
        },
    )  # fmt: skip


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


def _reported(problem: Problem, theta: np.ndarray, value: float) -> float:
    """The objective as it is reported: at its corners and not next to them, in its own reduction."""
    if problem.objective.has_corner and not problem.prior:
        return problem.objective.value(problem.loss, problem.predict(theta), problem.weights)
    return value / float(problem.weights.sum()) if problem.objective.reduction == "mean" else value


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


def _answers(law: Law, draws: Law | None, flops: Sequence[float], level: float) -> list[dict[str, Any]]:
    """The answer at each budget; none for a law that has no best N, or one that needs further columns."""
    try:
        return [uncertainty.answer(law, draws, float(C), level) for C in flops]
    except (ValueError, TypeError):
        return []


def _plain(value: Any) -> Any:
    return [dict(item) for item in value] if isinstance(value, list | tuple) else value


def _pack(draws: np.ndarray) -> dict[str, Any]:
    data = base64.b64encode(np.ascontiguousarray(draws, "<f8").tobytes()).decode()
    return {"shape": list(draws.shape), "float64": data}


def _unpack(packed: Mapping[str, Any]) -> np.ndarray:
    return np.frombuffer(base64.b64decode(packed["float64"]), "<f8").reshape(packed["shape"]).astype(np.float64)


__all__ = ["Fit", "FitError", "Warned", "fit", "pose", "profiles"]
