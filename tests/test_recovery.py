"""A planted law comes back: every built-in law, and one of a user's own, from noise-free runs."""

import numpy as np
import pandas as pd
import pytest

from scaling.fitting.fit import fit
from scaling.fitting.laws import (
    LAWS,
    Broken,
    Chinchilla,
    Coupled,
    DataConstrained,
    Envelope,
    Granular,
    Kaplan,
    KaplanD,
    KaplanN,
    Law,
    OverTraining,
    Precision,
    Routed,
    Sparse,
)
from scaling.runs import Runs

#: One law of each kind, with coefficients near the published ones.
PLANTED = [
    Chinchilla(1.69, 406.4, 410.7, 0.34, 0.28),
    Kaplan(6.4e13, 1.8e13, 0.076, 0.103),
    KaplanN(8.8e13, 0.076),
    KaplanD(5.4e13, 0.095),
    Coupled(1.8, 1500.0, 9000.0, 0.46, 0.49, 0.774),
    DataConstrained(np.exp(0.6254804), np.exp(6.255414), np.exp(7.3049974), 0.3526596, 0.3526596, 15.387756, 5.309743),
    OverTraining(1.8, 60.0, 120.0, 0.14),
    Envelope(1.6, 800.0, 0.16),
    Routed(-0.082, -0.108, 0.009 / np.log(10), 1.104 * np.log(10)),
    Granular(0.47, 18.1, 30.8, 2.1, 0.115, 0.147, 0.58),
    Sparse(1.4, 300.0, 500.0, 0.3, 30.0, 0.33, 0.29, 0.21, 0.2, -0.3),
    Precision(1.8, 400.0, 600.0, 0.34, 0.3, 2.7, 2.2, 0.96),
    Broken(1.5, 300.0, 0.12, 0.08, 1e20, 0.4),
]


def table(law: Law, runs: int = 96, seed: int = 0, noise: float = 0.0) -> Runs:
    """Runs at random sizes and token ratios, with losses from the law and log-normal noise."""
    rng = np.random.default_rng(seed)
    N = 10 ** rng.uniform(7.0, 10.0, runs)
    D = N * 10 ** rng.uniform(0.3, 2.7, runs)
    frame = pd.DataFrame(
        {
            "id": [f"run{i}" for i in range(runs)], "N": N, "D": D, "C": 6 * N * D,
            "U": D / rng.choice([1.0, 2.0, 5.0, 20.0, 60.0], runs), "X": rng.choice([1.0, 4.0, 16.0, 64.0], runs),
            "G": rng.choice([1.0, 2.0, 4.0, 16.0], runs), "S": rng.choice([0.0, 0.5, 0.75, 0.9, 0.95], runs),
            "P_w": rng.choice([3.0, 4.0, 6.0, 8.0, 16.0], runs), "P_a": rng.choice([3.0, 4.0, 8.0, 16.0], runs),
            "P_kv": rng.choice([2.0, 3.0, 4.0, 16.0], runs),
        }
    )  # fmt: skip
    loss = law.loss(**{name: frame[name].to_numpy() for name in law.columns})
    return Runs(frame.assign(loss=loss * np.exp(noise * rng.normal(size=runs))), "planted")


def test_every_law_has_a_planted_one():
    assert {law.name for law in PLANTED} == set(LAWS)


#: Compiling these takes most of the time; the slow ones run in `make slow`.
QUICK = ("chinchilla", "kaplan", "over-training", "moe-clark")
CASES = [pytest.param(law, id=law.name, marks=() if law.name in QUICK else pytest.mark.slow) for law in PLANTED]


@pytest.mark.parametrize("law", CASES)
def test_planted_law_is_recovered(law):
    """1e-4 of each coefficient: no noise, so only rounding and the valley's flatness are left."""
    found = fit(table(law), type(law), resamples=0, starts=48)
    assert found.certificate.converged
    for name, value in law.params.items():
        assert found.params[name] == pytest.approx(value, rel=1e-4, abs=1e-6), (name, found.law, found.certificate)
