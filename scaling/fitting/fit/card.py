"""Fit: a fitted law with all that is needed to trust it, to use it and to make it again; its file is the fit card."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from scaling.fitting import laws, objective
from scaling.fitting.diagnose import Warned
from scaling.fitting.file import SCHEMA, opened
from scaling.fitting.laws import Law
from scaling.fitting.objective import Objective
from scaling.fitting.solve import Certificate
from scaling.fitting.uncertainty import Noise
from scaling.runs import to_json, write_whole

#: What `Fit.beside` says of an answer that is from no narrower window.
ALL_RUNS = "all runs"
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
    "rivals": "the law (fitted) and others near it, best first: params, objective, rolling_error, behind the best +- behind_se, "
    "told_apart, answers",
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
    def beside(self) -> list[tuple[str, str, Mapping[str, Any], str]]:
        """(runs, law, answer, how far to trust it): the answer at the middle budget asked for, then what narrower windows
        and other laws answer there, which no bootstrap knows of; [] where there is nothing beside it.
        """
        if not self.answers:
            return []
        at = len(self.answers) // 2
        own = next((f"; {_verdict(each)}" for each in self.rivals if each["fitted"]), "")
        rows = [(ALL_RUNS, self.law.name, self.answers[at], f"{self.n} runs{own}")]
        rows += [
            (each["what"], self.law.name, each["answers"][at], f"{each['n']} runs")
            for each in self.windows
            if each["answers"]
        ]
        rivals = [each for each in self.rivals if each["answers"] and not each["fitted"]]
        rows += [(ALL_RUNS, each["law"], each["answers"][at], _verdict(each)) for each in rivals]
        return rows if len(rows) > 1 else []

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
        with opened(path) as payload:
            return cls.from_json(payload)

    def write(self, path: str | Path) -> Path:
        """Write the fit to a file, whole or not at all, and return its path."""
        write_whole(Path(path), to_json(self.to_json()))
        return Path(path)


def _plain(value: Any) -> Any:
    return [dict(item) for item in value] if isinstance(value, list | tuple) else value


def _pack(draws: np.ndarray) -> dict[str, Any]:
    data = base64.b64encode(np.ascontiguousarray(draws, "<f8").tobytes()).decode()
    return {"shape": list(draws.shape), "float64": data}


def _unpack(packed: Mapping[str, Any]) -> np.ndarray:
    return np.frombuffer(base64.b64decode(packed["float64"]), "<f8").reshape(packed["shape"]).astype(np.float64)


def _verdict(rival: Mapping[str, Any]) -> str:
    """How a rival predicted budgets that it had not seen."""
    if rival["rolling_error"] is None:
        return "predicted nothing: too few budgets"
    verdict = "predicts worse" if rival["told_apart"] else "not told apart"
    return f"{verdict} ({rival['rolling_error']:.2%})"
