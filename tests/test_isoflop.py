"""Approaches 1 and 2: planted laws come back, bad budgets are left out, and the bias is Czech et al.'s."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from scaling.fitting.isoflop import approach1, approach2, bias, budgets, noise_free
from scaling.fitting.laws import Chinchilla
from scaling.fitting.solve import FitError
from scaling.runs import Runs

SYMMETRIC = Chinchilla(E=1.69, A=400.0, B=400.0, alpha=0.31, beta=0.31)
HOFFMANN = Chinchilla(E=1.69, A=406.4, B=410.7, alpha=0.34, beta=0.28)
BUDGETS = np.logspace(17, 21, 5)
FLAT, HIGH, DRIFT = np.ones(5), np.full(5, 3.0), np.geomspace(1, 3, 5)


def table(N, D, loss, **more) -> Runs:
    frame = pd.DataFrame({"id": [str(i) for i in range(len(N))], "N": N, "D": D, "C": 6 * N * D, "loss": loss})
    return Runs(frame.assign(**more))


def grid(law, spread=4.0, centres=FLAT, points=15, C=BUDGETS) -> Runs:
    """`points` runs a budget, log-spaced in D over the law's D* x centre x [1/spread, spread]."""
    D = (law.optimum(C)[1] * centres)[:, None] * np.geomspace(1 / spread, spread, points)
    N = C[:, None] / (6 * D)
    return table(N.ravel(), D.ravel(), law.loss(N, D).ravel())


@pytest.mark.parametrize(
    ("law", "centres", "percent"),
    [
        (SYMMETRIC, FLAT, (0.0, 0.0, 0.0, 0.0)),
        (SYMMETRIC, HIGH, (3.97, 3.47, 2.65, 1.51)),
        (SYMMETRIC, DRIFT, (6.07, 5.17, 3.70, 1.69)),
        (HOFFMANN, FLAT, (-0.33, -1.30, -2.90, -5.10)),
        (HOFFMANN, HIGH, (7.11, 5.69, 3.38, 0.24)),
        (HOFFMANN, DRIFT, (11.61, 9.83, 6.94, 3.05)),
    ],
)
def test_bias_is_that_of_czech_et_al(law, centres, percent):
    """Czech et al. 2026 (arXiv 2603.22339): error of D* at 1e24 for spreads 2, 4, 8, 16; printed to .01."""
    for spread, wanted in zip((2, 4, 8, 16), percent):
        found = bias(grid(law, spread, centres), law, [1e24], inner=np.inf).errors[-1]
        assert found[0] == 1e24
        assert 100 * found[2] == pytest.approx(wanted, abs=0.01)


def test_symmetric_law_on_centred_grid_is_recovered():
    """alpha = beta: the loss is even in log D about the optimum, so the parabola's vertex is the optimum exactly."""
    found = approach2(grid(SYMMETRIC))
    assert found.a == pytest.approx(0.5, abs=1e-9)
    np.testing.assert_allclose(found.optimum(1e24), SYMMETRIC.optimum(1e24), rtol=1e-7)
    assert len(found.kept) == 5
    for vertex in found.vertices:
        assert pytest.approx(vertex.C) == vertex.N * vertex.D * 6
        assert vertex.loss == pytest.approx(SYMMETRIC.loss(vertex.N, vertex.D), rel=2e-3)  # the parabola's misfit


def test_vertices_outside_the_inner_half_are_left_out_with_the_reason():
    found = approach2(grid(HOFFMANN, 4, np.array([1.0, 1.0, 3.0, 8.0, 1.0])))
    reasons = [vertex.left_out for vertex in found.vertices]
    assert [reason is None for reason in reasons] == [True, True, False, False, True]
    assert "inner 50% of the sizes" in reasons[2]
    assert "sizes that were trained" in reasons[3]
    assert [vertex.C for vertex in found.left_out] == [vertex.C for vertex in found.vertices[2:4]]
    payload = found.to_json()
    assert [row["kept"] for row in payload["vertices"]] == [True, True, False, False, True]
    assert payload["left_out"][0]["reason"] == reasons[2]


def test_a_valley_has_its_depth_and_what_the_held_out_tokens_make_of_it():
    """loss = floor + .01 (log N / N0)^2 over a factor 16: it rises .01 (log 4)^2 to both ends.

    On each part of the held-out tokens it is some times as deep and shifted; what is common to the runs makes no error.
    """
    rng = np.random.default_rng(0)
    x = np.linspace(-np.log(4), np.log(4), 7)
    N = np.outer((1e6, 3e6), np.exp(x)).ravel()
    D = np.repeat((1e15, 9e15), 7) / (6 * N)
    common, times, shift = rng.normal(size=32), rng.normal(1, 0.1, 32), rng.normal(0, 0.05, 32)
    times, shift = times - times.mean() + 1, shift - shift.mean()
    parts = 3 + common + 0.01 * times * x[:, None] ** 2 + 0.01 * shift * x[:, None]
    runs = table(N, D, np.tile(parts.mean(1), 2))
    own = {str(i): list(parts[i % 7] if i < 7 else 3 + common + 0.01 * x[i % 7] ** 2) for i in range(14)}
    rough, smooth = approach2(replace(runs, parts=own)).vertices
    depth = 0.01 * np.log(4) ** 2
    assert rough.depth == pytest.approx(depth)
    assert rough.depth_se == pytest.approx(depth * times.std(ddof=1) / np.sqrt(32), rel=0.02)
    assert rough.N_se == pytest.approx(
        shift.std(ddof=1) / 2 / np.sqrt(32), rel=0.1
    )  # the bottom lies at -shift / 2 times
    assert rough.more_tokens == pytest.approx((10 * rough.depth_se / depth) ** 2)
    assert smooth.depth_se == pytest.approx(0, abs=1e-12)
    assert approach2(runs).vertices[0].depth_se is None
    assert approach2(runs).vertices[0].more_tokens == 1


def test_budget_without_a_minimum_is_left_out():
    runs = grid(HOFFMANN)
    hump = np.isclose(runs.C, BUDGETS[1])
    bent = replace(runs, table=runs.table.assign(loss=np.where(hump, 6 - runs.loss, runs.loss)))
    vertex = approach2(bent).vertices[1]
    assert vertex.N is None
    assert "no minimum" in vertex.left_out


def test_nothing_usable_is_a_fit_error():
    with pytest.raises(FitError, match=r"no isoFLOP budget.*two budgets of 4 sizes"):
        approach2(table(np.geomspace(1e6, 1e9, 8), 20 * np.geomspace(1e6, 1e9, 8), np.linspace(4, 3, 8)))
    with pytest.raises(FitError, match=r"1 usable budgets of 5.*above the sizes"):
        approach2(grid(HOFFMANN, 4, np.array([1.0, 8, 8, 8, 8])))


def test_budgets_are_clusters_of_C():
    law, rng = HOFFMANN, np.random.default_rng(0)
    runs = grid(law, C=BUDGETS)
    jitter = np.exp(rng.uniform(-0.04, 0.04, len(runs)))
    lone = table(np.array([3e7, 4e7]), np.array([9e9, 2e9]), np.array([3.2, 3.3])).table
    rough = Runs(pd.concat([runs.table.assign(C=runs.C * jitter), lone], ignore_index=True))
    found = budgets(rough)
    assert [len(budget.rows) for budget in found] == [15] * 5
    np.testing.assert_allclose([budget.C for budget in found], BUDGETS, rtol=0.04)
    shuffled = rng.permutation(len(rough))
    again = budgets(replace(rough, table=rough.table.iloc[shuffled].reset_index(drop=True)))
    assert [sorted(shuffled[budget.rows]) for budget in again] == [sorted(budget.rows) for budget in found]
    assert not budgets(runs.where(np.arange(len(runs)) % 15 < 3))


def test_repeats_and_weights():
    runs = grid(HOFFMANN)
    doubled = Runs(pd.concat([runs.table] * 2, ignore_index=True))
    assert approach2(doubled).a == pytest.approx(approach2(runs).a, rel=1e-12)
    off = runs.table.assign(loss=runs.loss + 0.3 * (np.arange(len(runs)) == 7), weight=1.0)
    off.loc[7, "weight"] = 1e-12
    assert approach2(Runs(off)).a == pytest.approx(approach2(runs.where(np.arange(len(runs)) != 7)).a, abs=1e-4)


def test_units_do_not_matter():
    runs = grid(HOFFMANN)
    billions = Runs(runs.table.assign(N=runs.N / 1e9))
    assert approach2(billions).a == pytest.approx(approach2(runs).a, rel=1e-9)


def test_exact_flops_have_their_own_optimum():
    """With C = 6ND (1 + 2e5 / N), as of embeddings, the bias of a centred narrow grid is still small."""
    law = SYMMETRIC
    N = np.geomspace(1e5, 1e7, 15)[None] * np.array([[1.0], [3.0], [10.0]])
    C = np.array([[1e14], [1e15], [1e16]])
    D = C / (6 * N * (1 + 2e5 / N))
    runs = replace(table(N.ravel(), D.ravel(), law.loss(N, D).ravel()), flops="exact")
    runs = replace(runs, table=runs.table.assign(C=np.broadcast_to(C, N.shape).ravel()))
    found = bias(runs, law, inner=np.inf)
    for C_at, *_ in found.errors:
        at = np.isclose(runs.C, C_at)
        x, y = np.log(runs.N[at]), runs.loss[at]
        fine = np.linspace(x[0], x[-1], 20001)
        best = fine[np.argmin(law.loss(np.exp(fine), C_at / (6 * (np.exp(fine) + 2e5))))]
        vertex = next(vertex for vertex in found.frontier.vertices if np.isclose(vertex.C, C_at))
        error = np.log(vertex.N) - best
        truth = -np.polyfit(x - best, y, 2)[1] / (2 * np.polyfit(x - best, y, 2)[0])
        assert error == pytest.approx(truth, abs=2e-3)
    assert found.a != pytest.approx(0.5, abs=1e-3)
    assert abs(found.a - found.a_law) < 0.05


def test_epoch_budgets(shared_data):
    """Hoffmann et al. 2022, Table 2: a = .49 (.462, .534) by Approach 2 on the runs of which these were read off."""
    runs = Runs.read(shared_data / "chinchilla_epoch.csv")
    found = approach2(runs.where(runs.loss < 3.446995))
    assert len(found.vertices) >= 9
    assert found.a == pytest.approx(0.49, abs=0.045)
    assert found.a + found.b == pytest.approx(1, abs=0.03)
    assert any(vertex.left_out for vertex in found.vertices)


# --- Approach 1 -------------------------------------------------------------------------------------------------


def ladder(law, sizes=None, lengths=24) -> Runs:
    """Each size at many D: ends of runs on fine curves."""
    sizes = np.geomspace(1e7, 1e10, 31) if sizes is None else sizes
    N, D = (part.ravel() for part in np.meshgrid(sizes, np.geomspace(1e8, 1e13, lengths), indexing="ij"))
    return table(N, D, law.loss(N, D))


def test_envelope_recovers_a_planted_law():
    found = approach1(ladder(HOFFMANN, lengths=240))
    assert found.a == pytest.approx(HOFFMANN.exponents[0], abs=0.01)  # the staircase of 31 sizes
    assert found.b == pytest.approx(HOFFMANN.exponents[1], abs=0.01)
    N, D = found.optimum(1e21)
    assert pytest.approx(HOFFMANN.optimum(1e21)[0], rel=0.1) == N
    assert pytest.approx(1e21, rel=0.02) == 6 * N * D


def test_edge_minima_are_marked_and_left_out():
    found = approach1(ladder(HOFFMANN))
    first, last = found.left_out[0], found.left_out[-1]
    assert "smallest size" in first.left_out or "of 31 sizes" in first.left_out
    assert any("edge minimum" in vertex.left_out for vertex in found.left_out)
    assert {first.C, last.C}.isdisjoint(vertex.C for vertex in found.kept)


def test_training_curves_are_used_where_there_are_some():
    law, rng = HOFFMANN, np.random.default_rng(1)
    sizes = np.geomspace(1e7, 1e10, 31)
    ends = table(sizes, 2000 * sizes, law.loss(sizes, 2000 * sizes))
    curves = {}
    for row, N in enumerate(sizes):
        tokens = np.geomspace(N, 2000 * N, 1000)
        noisy = law.loss(N, tokens) + rng.normal(0, 0.003, 1000)
        curves[str(row)] = np.stack([tokens, noisy], 1).tolist()
    found = approach1(replace(ends, curves=curves))
    assert pytest.approx(ends.C.min()) == found.vertices[0].C
    assert "training curves of 31 runs" in found.seen
    assert found.a == pytest.approx(law.exponents[0], abs=0.03)  # noise, and 31 sizes


def test_too_few_curves():
    with pytest.raises(FitError, match="needs three or more sizes"):
        approach1(ladder(HOFFMANN, sizes=np.array([1e7, 1e8])))
    with pytest.raises(FitError, match="neither the smallest nor the largest"):
        approach1(ladder(HOFFMANN, sizes=np.array([1e7, 1e8, 1e9])))


def test_noise_free_keeps_the_design():
    runs = grid(HOFFMANN)
    again = noise_free(runs, SYMMETRIC)
    np.testing.assert_array_equal(again.N, runs.N)
    np.testing.assert_allclose(again.loss, SYMMETRIC.loss(runs.N, runs.D))
