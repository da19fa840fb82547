"""Law against law: the harness predicts what it has not seen, and says what cannot be told apart."""

import itertools
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest

from scaling.fitting.compare import applicable, compare
from scaling.fitting.fit import fit
from scaling.fitting.laws import Chinchilla, Law, module
from scaling.fitting.objective import LogSquared
from scaling.fitting.published import load
from scaling.runs import Runs

PLANTED = Chinchilla(E=1.8, A=480.0, B=2100.0, alpha=0.35, beta=0.37)


@dataclass(frozen=True)
class Tokens(Law):
    """A law that knows nothing of N."""

    E: float
    B: float
    beta: float

    name: ClassVar[str] = "tokens"
    positive: ClassVar[tuple[str, ...]] = ("E", "B")
    linear: ClassVar[tuple[str, ...]] = ("E", "B")
    search: ClassVar[dict[str, tuple[float, float]]] = {"beta": (0.05, 1.2)}

    def loss(self, N, D):
        return self.E + self.B * D**-self.beta + 0 * N

    @classmethod
    def log_terms(cls, N, D):
        return [{"E": 1.0}, {"B": 1.0, "beta": -module(D).log(D)}]


@dataclass(frozen=True)
class Picky(Chinchilla):
    """A law that needs a column which few tables have."""

    name: ClassVar[str] = "picky"
    columns: ClassVar[tuple[str, ...]] = ("N", "D", "experts")


def planted(noise: float = 0.003, seed: int = 0, **more) -> Runs:
    C = np.repeat(np.logspace(18, 21, 7), 8)
    N = PLANTED.optimum(C)[0] * np.tile(np.geomspace(0.2, 5, 8), 7)
    D = C / (6 * N)
    loss = PLANTED.loss(N, D) * np.exp(np.random.default_rng(seed).normal(0, noise, len(C)))
    return Runs(
        pd.DataFrame({"id": [str(i) for i in range(len(C))], "N": N, "D": D, "C": C, "loss": loss}).assign(**more)
    )


@pytest.fixture(scope="module")
def compared():
    return compare(planted(), [Tokens, Chinchilla, Chinchilla], LogSquared(), hold_out=[1e20], starts=60)


def test_the_true_law_predicts_best_and_its_twin_is_not_told_apart(compared):
    assert [contender.name for contender in compared.contenders][-1] == "tokens"
    assert compared.cannot_tell_apart == ("chinchilla", "chinchilla")
    assert compared.contenders[-1].told_apart
    assert compared.contenders[0].rolling_error == pytest.approx(
        0.003 * np.sqrt(2 / np.pi), rel=0.6
    )  # the noise itself
    assert compared.contenders[1].answer == pytest.approx(compared.contenders[0].answer)


def test_nothing_held_out_reaches_the_fit(compared):
    """Spoiling the runs that are held out changes no prediction of them."""
    runs = planted()
    spoiled = Runs(runs.table.assign(loss=np.where(runs.C >= 1e20, runs.loss * 7, runs.loss)))
    clean = compare(runs, [Chinchilla], LogSquared(), hold_out=[1e20], starts=60)
    dirty = compare(spoiled, [Chinchilla], LogSquared(), hold_out=[1e20], starts=60)
    (before,), (after,) = clean.contenders[0].hold_out, dirty.contenders[0].hold_out
    assert (1 + before.offset) / 7 - 1 == pytest.approx(after.offset, rel=1e-6)


def test_prediction_is_that_of_a_fit_to_the_small_runs(compared):
    runs = planted()
    small = fit(runs.where(runs.C < 1e20), Chinchilla, LogSquared(), resamples=0)
    large = runs.where(runs.C >= 1e20)
    error = np.mean(np.abs(small.law.loss(large.N, large.D) / large.loss - 1))
    (found,) = next(contender for contender in compared.contenders if contender.name == "chinchilla").hold_out
    assert found.error == pytest.approx(error, rel=1e-6)
    assert (found.fold.fitted, found.fold.held_out) == (32, 24)


def test_rolling_folds_follow_the_budgets_and_never_overlap(compared):
    folds = [prediction.fold for prediction in compared.contenders[0].rolling]
    assert [fold.fitted for fold in folds] == [16, 24, 32, 40, 48]
    assert all(fold.held_out == 8 for fold in folds)
    assert all(first.high == second.low for first, second in itertools.pairwise(folds))


def test_json_and_answers(compared):
    payload = compared.to_json()
    assert payload["cannot_tell_apart"] == list(compared.cannot_tell_apart)
    first = payload["laws"][0]
    assert first["parameters"] == 5
    assert first["hold_out"][0]["fold"]["held_out"] == 24
    assert pytest.approx(1e22) == compared.C
    assert first["answer"]["N"] == pytest.approx(PLANTED.optimum(1e22)[0], rel=0.25)
    assert payload["laws"][-1]["answer"] is None  # a law without N has no best size


def test_applicable_laws_have_their_columns():
    assert Chinchilla in applicable(planted())
    assert Picky not in applicable(planted())
    assert Chinchilla not in applicable(planted().where(np.arange(56) < 6))


def test_a_fold_with_too_few_runs_says_so():
    few = planted().where(np.arange(56) > 3)
    found = compare(few, [Chinchilla], LogSquared(), hold_out=[3e18], starts=60)
    (prediction,) = found.contenders[0].hold_out
    assert prediction.why == "4 runs below, chinchilla needs 7."
    assert prediction.error is None
    assert prediction.to_json()["fold"]["high"] is None
    assert found.contenders[0].rolling_error is not None


def test_bad_requests():
    with pytest.raises(ValueError, match=r"--hold-out 1e.25: 56 runs below and 0 from there on"):
        compare(planted(), [Chinchilla], hold_out=[1e25])
    with pytest.raises(ValueError, match="no law to compare"):
        compare(planted(), [])


def test_held_out_prediction_on_epochs_runs(shared_data):
    """FITTING: 240 runs, fit C < 1e20, predict 104: .89%; fit C < 1e21, predict 23: 1.05%; two printed digits."""
    runs = load("epoch", shared_data)
    runs = runs.where(runs.loss < 3.446995)
    found = compare(runs, [Chinchilla], hold_out=[1e20, 1e21], starts=100)
    low, high = found.contenders[0].hold_out
    assert (low.fold.fitted, low.fold.held_out, high.fold.held_out) == (136, 104, 23)
    assert 100 * low.error == pytest.approx(0.89, abs=0.005)
    assert 100 * high.error == pytest.approx(1.05, abs=0.005)
