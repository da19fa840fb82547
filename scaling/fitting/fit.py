"""fit: a table of runs -> the law that describes it best, certified, with intervals and warnings."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from scaling.fitting import laws, objective, uncertainty
from scaling.fitting.laws import Chinchilla, Law
from scaling.fitting.objective import LogHuber, Objective
from scaling.fitting.solve import Certificate, FitError, Problem
from scaling.fitting.solve import solve as find
from scaling.runs import Runs, to_json, write_whole

#: Version of the fit file's layout.
SCHEMA = 1


@dataclass(frozen=True)
class Warned:
    """Something about the runs or the fit that bears on the answer: its name, its number, what it means, what to do."""

    name: str
    number: float | None
    message: str
    remedy: str


@dataclass(frozen=True)
class Fit:
    """A fitted law with everything needed to trust it, to use it and to make it again.

    `value` is the objective in its own reduction over `n` runs. `draws` [S, P] are the bootstrap's coefficients in
    the order of the law's fields, or None. `count` says what N counts, `flops` how C was counted; `domain` holds
    [low, high] of N, D and C over the runs. `digest` is that of the runs.
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

    def to_json(self) -> dict[str, Any]:
        """The fit as plain values, which `from_json` reads back to the last bit."""
        return {
            "schema": SCHEMA,
            **self.law.to_json(),
            "objective": {**self.objective.to_json(), "value": self.value, "n": self.n},
            "certificate": self.certificate.to_json(),
            "warnings": [asdict(warned) for warned in self.warnings],
            "intervals": dict(self.intervals),
            "draws": None if self.draws is None else _pack(self.draws),
            "count": self.count,
            "flops": self.flops,
            "domain": dict(self.domain),
            "digest": self.digest,
            "source": self.source,
            "settings": dict(self.settings),
            "versions": dict(self.versions),
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
            intervals=payload["intervals"],
            draws=None if payload["draws"] is None else _unpack(payload["draws"]),
            **{key: payload[key] for key in ("count", "flops", "domain", "digest", "source", "settings", "versions")},
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
    tie: Mapping[str, str] | None = None,
    bound: Mapping[str, tuple[float, float]] | None = None,
    prior: Mapping[str, tuple[float, float]] | None = None,
) -> Fit:
    """The law of the kind `law` that minimises `objective` (log-Huber, delta 1e-3, summed) over the runs.

    `resamples` bootstrap refits give the intervals of the given level, drawn by run or by the column `by`. `pin`
    fixes coefficients, `tie` {"beta": "alpha"} makes one equal another, `bound` gives (low, high) and `prior`
    (mean, standard error). Raises FitError where the runs cannot identify the law at all.
    """
    chosen = LogHuber() if objective is None else objective
    problem = Problem(
        law=law,
        objective=chosen,
        columns=_columns(runs, law),
        loss=runs.loss,
        weights=np.ones(len(runs)),
        pin=dict(pin or {}),
        tie=dict(tie or {}),
        bound=dict(bound or {}),
        prior=dict(prior or {}),
    )
    theta, value, certificate = find(problem, starts, seed)
    fitted = law(*map(float, problem.to_natural(theta)))
    draws = None
    if resamples:
        groups = np.arange(len(runs)) if by is None else runs.table[by].to_numpy()
        draws = uncertainty.refit(problem, theta, uncertainty.resample(groups, resamples, seed))
    return Fit(
        law=fitted,
        objective=chosen,
        value=value / float(problem.weights.sum()) if chosen.reduction == "mean" else value,
        n=len(runs),
        certificate=certificate,
        warnings=(),
        intervals=_intervals(fitted, draws, level),
        draws=draws,
        count=runs.count,
        flops=runs.flops,
        domain={name: [float(v.min()), float(v.max())] for name, v in (("N", runs.N), ("D", runs.D), ("C", runs.C))},
        digest=runs.digest,
        source=runs.source,
        settings={
            "resamples": resamples, "level": level, "starts": starts, "seed": seed, "by": by,
            "pin": problem.pin, "tie": problem.tie, "bound": problem.bound, "prior": problem.prior,
        },
        versions={name: version(name) for name in ("isoflop", "jax", "numpy")},
    )  # fmt: skip


def _columns(runs: Runs, law: type[Law]) -> dict[str, np.ndarray]:
    """The columns that the law needs, [R] each. Raises ValueError naming those the table has not."""
    missing = [name for name in law.columns if name not in runs.table]
    if missing:
        raise ValueError(
            f"{runs.source}: the law {law.name} needs a column {', '.join(missing)}; the table has {', '.join(runs.table)}."
        )
    return {name: runs.table[name].to_numpy(np.float64) for name in law.columns}


def _intervals(law: Law, draws: np.ndarray | None, level: float) -> dict[str, Any]:
    if draws is None:
        return {"level": level, "method": "none", "params": {}, "exponents": {}}
    params = uncertainty.intervals(draws, law.names(), level)
    exponents = {}
    if isinstance(law, Chinchilla):
        a, b = type(law)(*draws.T).exponents
        exponents = {"a": uncertainty.interval(a, level), "b": uncertainty.interval(b, level)}
    return {"level": level, "method": "percentile bootstrap", "params": params, "exponents": exponents}


def _pack(draws: np.ndarray) -> dict[str, Any]:
    data = base64.b64encode(np.ascontiguousarray(draws, "<f8").tobytes()).decode()
    return {"shape": list(draws.shape), "float64": data}


def _unpack(packed: Mapping[str, Any]) -> np.ndarray:
    return np.frombuffer(base64.b64decode(packed["float64"]), "<f8").reshape(packed["shape"]).astype(np.float64)


__all__ = ["Fit", "FitError", "Warned", "fit"]
