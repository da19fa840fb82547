"""The FLOPs of a table, and the best N and D of a law in them."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from scaling.currency import Currency
from scaling.fitting.counting import Counting
from scaling.fitting.fit import fit
from scaling.fitting.laws import Chinchilla, Coupled
from scaling.planning.allocate import allocate
from scaling.runs import Runs
from scaling.shape import Shape

LAW = Chinchilla(E=1.24, A=40.0, B=376.0, alpha=0.44, beta=0.52)
BUDGETS = (5e10, 2e11, 8e11)


def table(seeds=1, **columns) -> Runs:
    """Byte models along the ladder at three budgets of exact FLOPs, with the law's own losses."""
    shapes = [Shape.near(N) for N in np.geomspace(6e3, 1.5e5, 8)]
    N, C = (column.ravel() for column in np.meshgrid([shape.N for shape in shapes], BUDGETS, indexing="ij"))
    D = C / np.repeat([shape.flops_per_token for shape in shapes], len(BUDGETS))
    frame = pd.DataFrame(
        {"id": [f"r{i}" for i in range(len(N))], "N": N, "D": D, "C": C, "loss": LAW.loss(N, D), **columns}
    )
    return replace(Runs(frame), flops="exact")


def searched(law, C, per_token):
    """(N, D) by looking at a million sizes."""
    N = np.geomspace(1e3, 1e7, 1_000_001)
    best = N[np.argmin(law.loss(N, C / per_token(N)))]
    return best, C / per_token(best)


@pytest.mark.parametrize("law", [LAW, Coupled(**LAW.params, k=1.1)], ids=["chinchilla", "coupled"])
@pytest.mark.parametrize("C", [5e10, 1e13])
def test_records_are_solved_in_the_exact_flops_of_their_shapes(law, C):
    found = Counting.of(table(vocab=256, context=64)).optimum(law, C)
    exact = searched(law, C, Currency("exact", vocab=256, context=64).flops_per_token)
    assert found == pytest.approx(exact, rel=3e-3)
    assert found[1] > 1.01 * law.optimum(C)[1] or C > 1e12  # 6ND counts the embeddings, too


def test_a_table_without_shapes_is_solved_through_its_own_runs():
    runs = table()
    counting = Counting.of(runs)
    assert counting.tokens(runs.N, runs.C) == pytest.approx(runs.D, rel=0.03)
    N = searched(LAW, 2e11, Currency("exact", vocab=256, context=64).flops_per_token)[0]
    assert counting.optimum(LAW, 2e11)[0] == pytest.approx(N, rel=0.1)


def test_6nd_is_the_laws_own_optimum_and_arrays_are_solved_at_once():
    C = np.array([1e10, 1e12])
    assert np.array_equal(Counting().optimum(LAW, C), LAW.optimum(C))
    counting = Counting.of(table(vocab=256, context=64))
    together = np.array(counting.optimum(LAW, C))
    alone = np.array([counting.optimum(LAW, each) for each in C]).T
    assert together == pytest.approx(alone, rel=1e-6)


def test_a_fit_answers_what_allocate_does():
    """Of the same law under the same FLOPs, at budgets inside and beyond the data."""
    rng = np.random.default_rng(0)
    runs = table(vocab=256, context=64)
    runs = replace(runs, table=runs.table.assign(loss=runs.loss * np.exp(0.002 * rng.normal(size=len(runs)))))
    found = fit(runs, resamples=200, flops=[5e10, 1e13])
    for answer, profile in zip(found.answers, found.profiles["answers"]):
        plan = allocate(found, flops=answer["C"], vocab=256, context=64)
        assert (answer["N"], answer["D"], answer["loss"]) == pytest.approx((plan.N, plan.D, plan.loss), rel=5e-3)
        assert answer["flat"]["1.0%"] == pytest.approx(list(plan.flat["1%"]), rel=1e-2)
        low, high = profile["D"]
        assert low < answer["D"] < high
    law_there = found.law.loss(found.answers[0]["N"], found.answers[0]["D"])
    assert found.answers[0]["loss"] == pytest.approx(float(law_there))
