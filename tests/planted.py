"""Runs drawn from a planted law, with seeded noise and training curves: what figures and reports are tested on."""

import functools

import numpy as np
import pandas as pd

from scaling.fitting.fit import Fit
from scaling.fitting.laws import Chinchilla
from scaling.fitting.objective import LogHuber
from scaling.fitting.solve import Certificate
from scaling.planning.allocate import Currency, Subject
from scaling.runs import Runs

LAW = Chinchilla(E=1.8172, A=482.01, B=2085.43, alpha=0.3478, beta=0.3658)


@functools.cache
def runs(n: int, source: str = "planted") -> Runs:
    """A table of 3 (one budget), 35 (5 x 7) or 300 (20 x 15) runs on isoFLOP curves, noise 0.3%."""
    budgets, sizes = {3: (1, 3), 35: (5, 7), 300: (20, 15)}[n]
    rng, rows, curves = np.random.default_rng(0), [], {}
    for C in np.geomspace(1e18, 1e21, budgets):
        best, _ = LAW.optimum(C)
        for N in np.round(best * np.geomspace(1 / 5, 5, sizes)):
            D, name = C / (6 * N), f"{len(rows):016x}"
            rows.append({"id": name, "N": N, "D": D, "C": C, "loss": LAW.loss(N, D) * np.exp(0.003 * rng.normal())})
            seen = np.geomspace(D / 200, D, 60)
            noise = np.exp(0.004 * rng.normal(size=60))
            curves[name] = np.stack([seen, LAW.loss(N, seen) * noise + 2 * np.exp(-30 * seen / D)], 1).tolist()
    return Runs(pd.DataFrame(rows), source, "N", "6ND", curves)


def draws(S: int = 400) -> np.ndarray:
    """Coefficients around the law's, correlated as a bootstrap's are, [S, 5]."""
    rng = np.random.default_rng(7)
    alpha, beta = (value + spread * rng.normal(size=S) for value, spread in ((LAW.alpha, 0.015), (LAW.beta, 0.02)))
    A, B = LAW.A * np.exp(19.5 * (alpha - LAW.alpha)), LAW.B * np.exp(23 * (beta - LAW.beta))
    return np.stack([LAW.E + 0.02 * rng.normal(size=S), A, B, alpha, beta], 1)


def subject(flops: str = "6ND", count: str = "N", S: int = 400) -> Subject:
    """The planted law as if it had been fitted, with draws, in a currency."""
    domain = {"N": (2e7, 1.1e10), "D": (5e8, 2.4e11), "C": (1e18, 1e21)}
    currency = Currency(flops, count, vocab=4096, context=512)
    return Subject(LAW, "planted", currency, draws(S) if S else None, domain, verified=True)


def fitted(n: int = 35, S: int = 400) -> Fit:
    """The planted law as the fit of its runs."""
    table, sample = runs(n), draws(S)
    certificate = Certificate(
        converged=True, global_evidence=True, identifiable=True, gradient_norm=1e-10, least_eigenvalue=1e-3, starts=500,
        agreeing_starts=500, statuses={"converged": 500}, basins=(), condition_number=180.0, bounds_hit=(),
    )  # fmt: skip
    params = {name: np.quantile(column, (0.05, 0.95)).tolist() for name, column in zip(LAW.names(), sample.T)}
    exponent = np.quantile(type(LAW)(*sample.T).exponents[0], (0.05, 0.95)).tolist()
    return Fit(
        law=LAW, objective=LogHuber(), value=1e-3, n=n, certificate=certificate, warnings=(),
        intervals={"level": 0.9, "method": "percentile bootstrap", "params": params, "exponents": {"a": exponent}},
        draws=sample, count="N", flops="6ND",
        domain={name: [float(v.min()), float(v.max())] for name, v in (("N", table.N), ("D", table.D), ("C", table.C))},
        digest=table.digest, source=table.source, settings={"resamples": S, "level": 0.9, "starts": 500, "seed": 0, "by": "run",
                  "weighted": False, "pin": {}, "tie": {}, "bound": {}, "prior": {}}, versions={"isoflop": "0"},
    )  # fmt: skip
