"""The valleys of learning rates, and the rule that follows from them."""

import tomllib
from dataclasses import replace

import numpy as np
import pytest
from here import Here

from scaling.grid import Grid
from scaling.recipe import RULES, Rule
from scaling.runs import Run
from scaling.shape import Shape
from scaling.training import tune

GRID = Grid.of({"budgets": [1e11, 1e12, 1e13], "sizes": [1e4, 2e4, 4e4, 8e4, 1.6e5]})


def planted_runs(cell, best_rate, *, curvature=0.02, times=(0.25, 0.5, 1, 2, 4), batch_times=1.0, floor=2.0):
    """The records of a cell whose loss is a parabola in the logarithm of the rate."""
    runs = []
    for factor in times:
        spec = tune.variant(cell, factor, batch_times)
        loss = floor * (1 + curvature * np.log2(spec.recipe.learning_rate / best_rate) ** 2)
        runs.append(Run.of(spec, status="done", loss=float(loss), loss_se=0.0))
    return runs


def test_the_search_is_three_sizes_at_two_budgets():
    cells = tune.search_cells(GRID, "digest")
    assert len(cells) == 6
    sizes = [shape.N for shape in GRID.curves[0].shapes]
    assert {cell.shape.N for cell in cells} == {sizes[0], sizes[2], sizes[4]}
    assert {round(np.log10(cell.C)) for cell in cells} == {11, 12}


def test_a_parabola_gives_its_floor_back():
    cell = tune.search_cells(GRID, "digest")[0]
    best = cell.recipe.learning_rate * 1.3
    found = tune.valley(cell, planted_runs(cell, best))
    assert found.inside
    assert found.best_rate == pytest.approx(best, rel=1e-3)
    assert found.best_loss == pytest.approx(2.0, rel=1e-6)
    assert found.cost_of_two == pytest.approx(0.02, rel=1e-3)
    assert found.cost(best / 2) == pytest.approx(0.02, rel=1e-2)


def test_a_floor_beyond_the_ladder_is_not_inside():
    cell = tune.search_cells(GRID, "digest")[0]
    found = tune.valley(cell, planted_runs(cell, cell.recipe.learning_rate * 16))
    assert not found.inside
    assert found.cost_of_two is None
    assert found.best_rate == found.rates[-1]
    with pytest.raises(ValueError, match="no ladder of rates has its best rate inside"):
        tune.fitted_rule([found], RULES["valley"])


def test_a_planted_rule_comes_back():
    rule = Rule(rate=3.0, rate_N=-0.4, rate_D=-0.1, rate_batch=0.5, batch=0.2, batch_D=0.5)
    found = []
    for cell in tune.search_cells(GRID, "digest"):
        planted = rule.rate * cell.shape.N_blocks**rule.rate_N * cell.tokens**rule.rate_D
        best = planted * (cell.recipe.batch_tokens / 256) ** 0.5
        found.append(tune.valley(cell, planted_runs(cell, best, times=2.0 ** np.arange(-4, 5))))
    fitted = tune.fitted_rule(found, RULES["valley"])
    assert fitted.rate_N == pytest.approx(rule.rate_N, abs=2e-3)
    assert fitted.rate_D == pytest.approx(rule.rate_D, abs=2e-3)
    assert fitted.rate == pytest.approx(rule.rate, rel=2e-2)
    assert (fitted.batch, fitted.batch_D) == (RULES["valley"].batch, RULES["valley"].batch_D)


def test_a_rule_moves_warmup_betas_and_weight_decay():
    shape = Shape(depth=2, width=32, heads=2)
    rule = Rule(rate=0.01, batch=1024, warmup=0.1, warmup_most=2.0, beta1=0.8, beta2=0.99, beta2_batch=1.0,
                weight_decay=10.0, weight_decay_N=-0.5, weight_decay_D=-0.1)  # fmt: skip
    short, long = rule(shape, 4e5), rule(shape, 4e6)
    assert (short.batch_tokens, short.beta1) == (1024, 0.8)
    assert 1 - short.beta2 == pytest.approx(4 * 0.01)  # four times the batch of 256 forgets over as many tokens
    assert short.weight_decay == pytest.approx(10 * shape.N_blocks**-0.5 * 4e5**-0.1, rel=5e-3)
    assert long.weight_decay == pytest.approx(short.weight_decay * 10**-0.1, rel=1e-2)
    assert (short.warmup_tokens, long.warmup_tokens) == (40_000, 2 * shape.N)
    with pytest.raises(ValueError, match=r"rule\.warmup = 1\.5: needed a number in \[0, 1\)"):
        Rule(rate=1, batch=1, warmup=1.5)


def test_one_budget_cannot_tell_N_from_D():
    cells = tune.search_cells(replace(GRID, curves=GRID.curves[:1]), "digest")
    best = {cell.id: 2.0 * cell.shape.N_blocks**-0.5 * (cell.recipe.batch_tokens / 256) ** 0.5 for cell in cells}
    found = [tune.valley(cell, planted_runs(cell, best[cell.id], times=2.0 ** np.arange(-3, 4))) for cell in cells]
    fitted = tune.fitted_rule(found, RULES["valley"])
    assert fitted.rate_D == 0
    assert fitted.rate_N == pytest.approx(-0.5, abs=5e-3)


def test_the_best_batch_is_followed():
    found = []
    for cell in tune.search_cells(GRID, "digest"):
        for batch_times in (0.5, 1, 2):
            batch = tune.variant(cell, 1, batch_times).recipe.batch_tokens
            off = np.log2(batch / (0.4 * cell.tokens**0.45))
            found.append(tune.valley(cell, planted_runs(cell, 0.01, batch_times=batch_times, floor=2 + 0.01 * off**2,
                                                        times=2.0 ** np.arange(-3, 4))))  # fmt: skip
    fitted = tune.fitted_rule(found, RULES["valley"])
    assert fitted.batch_D == pytest.approx(0.45, abs=0.12)
    assert fitted.batch != RULES["valley"].batch


def test_too_few_ends_are_named():
    cell = tune.search_cells(GRID, "digest")[0]
    runs = planted_runs(cell, cell.recipe.learning_rate)
    failed = [replace(run, status="failed", loss=None, reason="diverged") for run in runs[2:]]
    with pytest.raises(ValueError, match="2 of its learning rates ended"):
        tune.valley(cell, [*runs[:2], *failed])


def test_a_real_search_lengthens_its_ladders(corpus, tmp_path):
    grid = Grid.of({"budgets": [2e8, 4e8], "sizes": [{"depth": 2, "width": 8}], "context": 16, "eval_tokens": 2048,
                    "corpus": str(corpus.name), "rule": {"rate": 1e-3, "batch": 64}})  # fmt: skip
    here = Here(corpus)
    tuned = tune.tune(grid, tmp_path, rates=3, factor=4.0, executor=here)
    assert all(len(each.rates) > 3 for each in tuned.valleys)
    assert all(each.best_rate > 1e-3 for each in tuned.valleys)
    assert tuned.rule.rate_most == pytest.approx(max(each.best_rate * 2 for each in tuned.valleys), rel=0.01)
    again = tune.tune(grid, tmp_path, rates=3, factor=4.0, executor=here)
    assert again == tuned
    assert len(here.trained) == len(set(here.trained)) == sum(len(each.rates) for each in tuned.valleys)
    assert Grid.of(tomllib.loads(tuned.tuned_grid.toml())).rule == tuned.rule
