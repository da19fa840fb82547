"""The valleys of learning rates, and the rule that follows from them."""

import math
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

RULE = RULES["valley"]

#: The same with batches of many windows, so that halves and quarters of them are others.
ROOMY = replace(GRID, rule=replace(RULES["valley"], batch=0.25, steps_least=0.0))


def planted_runs(cell, best_rate, *, curvature=0.02, times=(0.25, 0.5, 1, 2, 4), batch_times=1.0, floor=2.0):
    """The records of a cell whose loss is a parabola in the logarithm of the rate."""
    runs = []
    for factor in times:
        spec = tune.variant(cell, RULE, factor, batch_times)
        loss = floor * (1 + curvature * np.log2(spec.recipe.learning_rate / best_rate) ** 2)
        runs.append(Run.of(spec, status="done", loss=float(loss), loss_se=0.0))
    return runs


def test_the_search_is_three_sizes_at_two_budgets():
    cells = tune.search_cells(GRID, "digest")
    assert len(cells) == 6
    sizes = [shape.N for shape in GRID.curves[0].shapes]
    assert {cell.shape.N for cell in cells} == {sizes[0], sizes[2], sizes[4]}
    assert {round(np.log10(cell.C)) for cell in cells} == {11, 12}


SIZES = [1e4, 2e4, 4e4, 8e4, 1.6e5]
RAGGED = [{"sizes": [N], "tokens": [20 * N]} for N in SIZES]


@pytest.mark.parametrize(
    ("table", "count", "lengths"),
    [
        ({"sizes": SIZES, "tokens": [8e6, 2e6, 4e6]}, 6, {2e6, 4e6}),
        ({"sizes": SIZES, "tokens_per_parameter": [80, 20, 40]}, 6, {20, 40}),
        ({"cells": [{"sizes": SIZES, "tokens": [2e6]}, {"sizes": SIZES, "tokens": [4e6, 8e6]}]}, 6, {2e6, 4e6}),
        ({"cells": [{"sizes": SIZES[:2], "tokens": [2e6, 4e6]}]}, 4, {2e6, 4e6}),
        ({"cells": RAGGED}, 3, {20}),
        ({"isoflop": [{"budget": 1e11, "sizes": SIZES}], "cells": [{"sizes": [4e4], "tokens": [2e6]}]}, 4, None),
    ],
    ids=["tokens", "ratios", "cells", "two sizes", "a length a size", "beside isoflop"],
)
def test_every_kind_of_grid_has_search_cells(table, count, lengths):
    axes = {"beta2": [0.9, 0.99], "batch_tokens": {"times": [1, 2]}}
    found = tune.search_cells(Grid.of({**table, "axes": axes, "seeds": [4, 5]}), "digest")
    assert len(found) == count
    assert {cell.seed for cell in found} == {4}
    assert len({cell.shape.N for cell in found}) == min(3, count) if count != 4 or lengths is None else 2
    assert {cell.recipe.beta2 for cell in found} == {0.99}
    for length in lengths or ():
        near = [
            min(abs(np.log(each / length)) for each in (cell.tokens, cell.tokens / cell.shape.N)) < 0.1
            for cell in found
        ]
        assert sum(near) == count / len(lengths)


def test_the_search_keeps_the_recipe_of_its_cells():
    cells = [{"sizes": SIZES, "tokens": [2e6, 4e6], "recipe": {"weight_decay": 0.1}}]
    found = tune.search_cells(Grid.of({"cells": cells, "recipe": {"clip": 2.0}}), "digest")
    assert {(cell.recipe.weight_decay, cell.recipe.clip) for cell in found} == {(0.1, 2.0)}


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


@pytest.mark.parametrize("lengths", [{"budgets": [1e11, 1e12]}, {"tokens": [2e6, 8e6]}], ids=["budgets", "tokens"])
@pytest.mark.parametrize("fixed", [{}, {"batch_tokens": 2048}])
@pytest.mark.parametrize("start", ["valley", "width"])
def test_the_tuned_grid_trains_at_the_rates_that_were_found(lengths, fixed, start):
    grid = Grid.of({"sizes": SIZES[::2], **lengths, "recipe": fixed, "rule": start})
    best, found = {}, []
    for cell in tune.search_cells(grid, "digest"):
        rate = 3.0 * cell.shape.N_blocks**-0.4 * cell.tokens**-0.1 * (cell.recipe.batch_tokens / 256) ** 0.5
        best[cell.shape, cell.tokens, cell.recipe.batch_tokens] = rate
        found.append(tune.valley(cell, planted_runs(cell, rate, times=2.0 ** np.arange(-5, 6))))
    tuned = tune.Tuned(grid, tuple(found), tune.fitted_rule(found, grid.first_rule))
    trained = Grid.of(tomllib.loads(tuned.tuned_grid.toml())).specs("digest")
    rates = {(spec.shape, spec.tokens, spec.recipe.batch_tokens): spec.recipe.learning_rate for spec in trained}
    assert rates == pytest.approx(best, rel=0.02)
    assert {cell.cell.id: tuned.recipe(cell.cell).learning_rate for cell in found} == pytest.approx(
        {cell.cell.id: rates[cell.cell.shape, cell.cell.tokens, cell.batch_tokens] for cell in found}, rel=5e-3
    )
    assert tuned.warnings == ()


@pytest.mark.parametrize(
    ("table", "batches", "says"),
    [
        ({"recipe": {"learning_rate": 0.01}}, (1.0,), "fixes learning_rate"),
        ({"axes": {"learning_rate": {"times": [0.5, 1]}}}, (1.0,), "fixes learning_rate"),
        ({"recipe": {"batch_tokens": 512}}, (0.5, 1.0), "fixes batch_tokens, and --batches 0.5,1 asks"),
        ({"axes": {"batch_tokens": [512]}}, (2.0,), "fixes batch_tokens"),
    ],
)
def test_a_grid_that_fixes_what_is_searched_is_refused(table, batches, says, tmp_path):
    with pytest.raises(ValueError, match=says):
        tune.tune(Grid.of({"budgets": [1e11], "sizes": SIZES, **table}), tmp_path, batches=batches)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"budgets": [1e13]}, "epochs"),
        ({"vocab": 64}, "vocabulary of 64. Set vocab = 256"),
        ({"eval_tokens": 10**8}, "holds out"),
    ],
)
def test_too_little_text_is_refused_before_anything_is_trained(change, says, corpus, tmp_path):
    table = {"budgets": [2e8], "sizes": [{"depth": 2, "width": 8}], "context": 16, "eval_tokens": 2048}
    here = Here(corpus)
    with pytest.raises(ValueError, match=says):
        tune.tune(Grid.of({**table, "corpus": str(corpus.name), **change}), tmp_path, executor=here)
    assert not here.trained


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
    for cell in tune.search_cells(ROOMY, "digest"):
        for batch_times in (0.5, 1, 2):
            batch = tune.variant(cell, RULE, 1, batch_times).recipe.batch_tokens
            off = np.log2(batch / (0.4 * cell.tokens**0.45))
            found.append(tune.valley(cell, planted_runs(cell, 0.01, batch_times=batch_times, floor=2 + 0.01 * off**2,
                                                        times=2.0 ** np.arange(-3, 4))))  # fmt: skip
    fitted = tune.fitted_rule(found, RULES["valley"])
    assert fitted.batch_D == pytest.approx(0.45, abs=0.12)
    assert fitted.batch != RULES["valley"].batch


def batch_valleys(best_batch, batches=(0.5, 1, 2), grid=ROOMY):
    found = []
    for cell in tune.search_cells(grid, "digest"):
        for batch_times in tune.distinct_batches(cell, batches):
            batch = tune.variant(cell, RULE, 1, batch_times).recipe.batch_tokens
            runs = planted_runs(cell, 0.01, batch_times=batch_times, floor=2 + 0.01 * np.log2(batch / best_batch(cell)) ** 2,
                                times=2.0 ** np.arange(-3, 4))  # fmt: skip
            found.append(tune.valley(cell, runs))
    return found


def test_the_best_batch_is_followed_in_N_too():
    found = batch_valleys(lambda cell: 0.1 * cell.tokens**0.5 * cell.shape.N_blocks**0.1, (0.25, 0.5, 1, 2, 4))
    fitted = tune.fitted_rule(found, RULES["valley"])
    assert fitted.batch_D == pytest.approx(0.5, abs=0.02)
    assert fitted.batch_N == pytest.approx(0.1, abs=0.02)
    assert fitted.batch == pytest.approx(0.1, rel=0.2)


def test_a_best_batch_at_the_end_of_those_tried_is_named():
    roomier = replace(ROOMY, rule=replace(ROOMY.rule, batch=1.0))
    small = batch_valleys(lambda cell: cell.recipe.batch_tokens / 8, grid=roomier)
    (said,) = [each for each in tune.Tuned(GRID, tuple(small), RULES["valley"]).warnings if "batch" in each]
    assert "the best batch is the least of those tried" in said
    assert said.count("N = ") == 6
    large = batch_valleys(lambda cell: cell.recipe.batch_tokens * (8 if cell.shape.N > 1e5 else 1))
    (said,) = [each for each in tune.Tuned(GRID, tuple(large), RULES["valley"]).warnings if "batch" in each]
    assert "largest" in said
    assert said.count("N = ") == 2


def test_no_batch_is_tried_twice_where_one_window_is_the_least():
    cells = tune.search_cells(GRID, "digest")
    tried = {cell.tokens: tune.distinct_batches(cell, (0.25, 0.5, 1, 2)) for cell in cells}
    batches = {
        cell: [tune.variant(cell, RULE, 1, times).recipe.batch_tokens for times in tried[cell.tokens]] for cell in cells
    }
    assert all(len(set(each)) == len(each) and min(each) >= 64 for each in batches.values())
    assert min(map(len, tried.values())) == 2
    assert max(map(len, tried.values())) == 4
    assert all(1 in each for each in tried.values())
    found = batch_valleys(lambda cell: 16, grid=GRID)
    said = [each for each in tune.Tuned(GRID, tuple(found), RULES["valley"]).warnings if "batch" in each]
    assert "one window, the least there is" in said[0]
    assert sum(each.count("N = ") for each in said) == len(cells)


def test_what_the_cells_cannot_tell_is_said():
    def warnings(**table):
        cells = tune.search_cells(Grid.of(table), "digest")
        found = tuple(tune.valley(cell, planted_runs(cell, cell.recipe.learning_rate)) for cell in cells)
        return " ".join(tune.Tuned(GRID, found, RULES["valley"]).warnings)

    assert warnings(budgets=[1e11, 1e12], sizes=SIZES) == ""
    assert "moves with D" in warnings(budgets=[1e11], sizes=SIZES)
    assert "moves with D" in warnings(tokens=[2e6], sizes=SIZES)
    assert "moves with N" in warnings(tokens=[2e6, 4e6, 8e6], sizes=SIZES[:1])


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


def test_a_ladder_goes_on_where_its_best_is_last_and_downwards_where_rates_diverged():
    assert tune._next_rung({-1: 2.0, 0: 1.9, 1: 2.0}) is None
    assert tune._next_rung({-1: 2.0, 0: 1.9, 1: 1.8}) == 2
    assert tune._next_rung({-1: 1.8, 0: 1.9, 1: 2.0}) == -2
    assert tune._next_rung({-1: 2.0, 0: 1.9, 1: math.inf}) == -2
    assert tune._next_rung({-1: math.inf, 0: math.inf, 1: math.inf}) == -2


def test_a_batch_held_at_one_window_tells_the_rule_nothing():
    """The batch's law is drawn through the cells whose best batch is more than a window, or stays the start's."""
    found = batch_valleys(lambda cell: 0.004 * cell.tokens**0.75, (0.25, 0.5, 1, 2, 4), grid=GRID)
    told = [each for each in tune.best_batches(found) if each.batch_tokens > 64]
    assert 2 < len(told) < 6
    fitted = tune.fitted_rule(found, RULE)
    for each in told:
        planted = 0.004 * each.cell.tokens**0.75
        assert fitted.wanted_batch(each.cell.shape, each.cell.tokens) == pytest.approx(planted, rel=0.2)
    held = tune.fitted_rule(batch_valleys(lambda cell: 16, (1 / 256, 0.25, 0.5, 1, 2), grid=GRID), RULE)
    assert (held.batch, held.steps_least) == (RULE.batch, RULE.steps_least)


def test_cells_that_cannot_tell_how_the_batch_moves_scale_the_law_of_the_start():
    one = replace(GRID, curves=GRID.curves[-1:])
    found = batch_valleys(lambda cell: 2048, (0.25, 0.5, 1, 2, 4), grid=one)
    alike = [each for each in found if each.cell.id == found[0].cell.id]
    fitted = tune.fitted_rule(alike, RULE)
    cell = alike[0].cell
    assert fitted.wanted_batch(cell.shape, cell.tokens) == pytest.approx(2048, rel=0.1)
    assert (fitted.batch_D, fitted.batch_N) == (RULE.batch_D, RULE.batch_N)
    assert fitted.steps_least * fitted.batch == pytest.approx(RULE.steps_least * RULE.batch, rel=1e-3)


def test_the_search_has_the_beta2_that_the_tuned_grid_trains_with():
    rule = replace(RULE, beta2_batch=1.0)
    grid = replace(ROOMY, rule=rule)
    for cell in tune.search_cells(grid, "digest"):
        other = tune.variant(cell, rule, 2.0, 4.0).recipe
        assert other.beta2 == rule(cell.shape, cell.tokens, other.batch_tokens).beta2 != cell.recipe.beta2
    fixed = replace(grid, recipe={"beta2": 0.95})
    assert {tune.variant(cell, rule, 1.0, 4.0).recipe.beta2 for cell in tune.search_cells(fixed, "digest")} == {0.95}
