"""A grid.toml, the cells it stands for, and what is wrong with it in one line."""

import json
import math
import tomllib
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from scaling.grid import Grid, RunSpec
from scaling.recipe import RULES
from scaling.runs import Run, record_paths
from scaling.shape import Shape
from scaling.training.tasks import tasks_of
from scaling.workflows import quickstart_grid

GOOD = {"budgets": [1e11, 4e11], "sizes": [1.1e4, {"depth": 2, "width": 32}], "seeds": [0, 1]}


def test_a_cell_for_each_budget_size_and_seed():
    specs = Grid.of(GOOD).specs("digest")
    assert len(specs) == 8
    assert len({spec.id for spec in specs}) == 8
    for spec in specs:
        assert spec.tokens % spec.recipe.batch_tokens == 0
        budget = 1e11 if spec.C < 2e11 else 4e11
        assert abs(spec.C - budget) <= spec.shape.flops_per_token * spec.recipe.batch_tokens / 2


def test_the_id_is_the_content():
    spec = Grid.of(GOOD).specs("digest")[0]
    assert replace(spec, corpus="another name").id == spec.id
    assert RunSpec.from_json(json.loads(json.dumps(asdict(spec)))) == spec
    changed = [
        replace(spec, seed=7),
        replace(spec, digest="other"),
        replace(spec, tokens=spec.tokens * 2),
        replace(spec, eval_tokens=64),
        replace(spec, recipe=replace(spec.recipe, learning_rate=0.5)),
        replace(spec, shape=replace(spec.shape, mlp_ratio=2)),
    ]
    assert len({spec.id, *(other.id for other in changed)}) == len(changed) + 1


OPTIONS = {"mlp": "swiglu", "tied": True, "kv_heads": 1, "experts": 4, "experts_per_token": 2, "positions": "learned"}


def test_a_shape_table_goes_to_every_size():
    shapes = (
        Grid.of({**GOOD, "sizes": [3e4, {"depth": 2, "width": 32, "tied": False}], "shape": OPTIONS}).curves[0].shapes
    )
    assert {shape.mlp for shape in shapes} == {"swiglu"}
    assert {shape.tied for shape in shapes} == {True, False}
    assert {shape.kv_heads for shape in shapes} == {1}


def test_a_shape_table_says_how_the_ladder_goes():
    def shapes(sizes, **shape):
        return Grid.of({"budgets": [1e12], "sizes": sizes, "shape": shape}).curves[0].shapes

    assert {shape.head_width for shape in shapes([8e4, 3e5, 1e6], head_width=32)} == {32}
    assert {shape.depth for shape in shapes([8e4, 3e5, 1e6], depth=3)} == {3}
    assert shapes([8e4, 1e6], aspect={"width": 16, "power": 1.3}) == shapes([8e4, 1e6])
    assert shapes([{"depth": 12}], aspect=64)[0].width == 768
    assert shapes([{"depth": 12, "width": 96, "heads": 6}], aspect=64, head_width=32)[0].head_width == 16
    assert shapes([{"width": 64}, {"width": 64, "head_width": 8}], depth=3, head_width=32)[0].depth == 3
    assert shapes([1e6], mlp="swiglu", mlp_ratio=8 / 3)[0].mlp_width == 341


LADDER = {"head_width": 32, "aspect": {"width": 20, "power": 1.1}, "mlp": "swiglu", "mlp_ratio": 2.6667}


@pytest.mark.parametrize(
    "grid",
    [
        Grid.of(GOOD),
        quickstart_grid(),
        Grid.of({**GOOD, "shape": OPTIONS, "sizes": [3e4]}),
        Grid.of({**GOOD, "shape": LADDER, "sizes": [8e4, {"depth": 2}]}),
        Grid.of({**GOOD, "shape": {"depth": 3}, "sizes": [8e4, {"width": 48}]}),
    ],
)
def test_a_written_grid_reads_back(grid, tmp_path):
    path = tmp_path / "grid.toml"
    path.write_text(grid.toml())
    assert Grid.read(path) == grid


def test_how_the_corpus_is_read_is_written_too(tmp_path):
    assert "tokenizer" not in Grid.of(GOOD).toml()
    table = {"tokenizer": "bpe:512", "column": "body", "heldout": {"news": "news.txt"}}
    read = Grid.of({"budgets": [1e9], "sizes": [1e4], **table})
    (tmp_path / "grid.toml").write_text(read.toml())
    assert Grid.read(tmp_path / "grid.toml").data == read.data == table
    for bad in ({"tokenizer": 5}, {"heldout": "news.txt"}, {"heldout": {"news": 1}}):
        with pytest.raises(ValueError, match=f"{next(iter(bad))}.* = "):
            Grid.of({"budgets": [1e9], "sizes": [1e4], **bad})


def test_recipe_overrides_the_rule():
    specs = Grid.of({**GOOD, "recipe": {"learning_rate": 0.125}}).specs("digest")
    assert {spec.recipe.learning_rate for spec in specs} == {0.125}


def test_a_batch_that_is_given_has_the_rate_for_it():
    free = Grid.of({**GOOD, "seeds": [0]}).specs("digest")
    for spec in free:
        batch = 4 * spec.recipe.batch_tokens
        lone = {"sizes": [{"depth": spec.shape.depth, "width": spec.shape.width}], "budgets": [float(spec.C)]}
        for table in (
            {"recipe": {"batch_tokens": batch}},
            {"axes": {"batch_tokens": [batch]}},
            {"axes": {"batch_tokens": {"times": [4]}}},
            {"recipe": {"batch_tokens": batch // 2}, "axes": {"batch_tokens": {"times": [2]}}},
        ):
            (given,) = Grid.of({**lone, **table}).specs("digest")
            assert given.recipe.batch_tokens == batch
            assert given.recipe.learning_rate == pytest.approx(2 * spec.recipe.learning_rate, rel=5e-3)
        (times,) = Grid.of({**lone, "axes": {"learning_rate": {"times": [0.5]}, "batch_tokens": [batch]}}).specs(
            "digest"
        )
        assert times.recipe.learning_rate == pytest.approx(spec.recipe.learning_rate, rel=5e-3)
        (fixed,) = Grid.of({**lone, "recipe": {"learning_rate": 0.01, "batch_tokens": batch}}).specs("digest")
        assert fixed.recipe.learning_rate == 0.01


def test_the_width_rule_is_one_over_the_width_and_valley_s_in_the_middle():
    middle = Shape(depth=2, width=48, heads=3)
    D = 1e12 / middle.flops_per_token
    assert RULES["width"](middle, D) == RULES["valley"](middle, D)
    for wide in (Shape(depth=2, width=96, heads=3), Shape(depth=9, width=96, heads=3)):
        assert RULES["width"](wide, D).learning_rate == pytest.approx(
            RULES["width"](middle, D).learning_rate / 2, rel=5e-3
        )


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_counts_what_a_token_meets(rule):
    dense = Shape(depth=3, width=64, heads=4)
    sparse = replace(dense, experts=8, experts_per_token=1)
    rate, of_experts = (RULES[rule](shape, 1e7).learning_rate for shape in (dense, sparse))
    assert of_experts == pytest.approx(rate, rel=0.02)  # the router is all that they differ in


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_gives_whole_batches_of_windows(rule):
    for spec in Grid.of({**GOOD, "rule": rule}).specs("digest"):
        assert spec.recipe.batch_tokens % spec.shape.context == 0
        assert spec.recipe.warmup_tokens <= 0.05 * spec.tokens + spec.recipe.batch_tokens


def test_a_rule_leaves_its_least_number_of_steps_down_to_a_batch_of_one_window():
    rule = replace(RULES["valley"], batch=0.25, steps_least=1e4)
    shape = Shape(depth=2, width=32, heads=2)
    batches = {tokens: rule(shape, tokens).batch_tokens for tokens in (2e5, 64e4, 128e4, 256e4, 512e4, 4096e4)}
    assert batches == {2e5: 64, 64e4: 64, 128e4: 128, 256e4: 256, 512e4: 512, 4096e4: 2048}  # D / 1e4 up to .25 D^.5
    bound = replace(rule, steps_least=0.0)
    assert bound(shape, 2e5).batch_tokens == 128
    assert bound(shape, 4096e4) == rule(shape, 4096e4)
    with pytest.raises(ValueError, match=r"rule\.steps_least = -1: needed 0 or more"):
        replace(rule, steps_least=-1)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"shape": {"tide": True}}, "unknown key shape.tide; did you mean shape.tied"),
        ({"shape": {"kv_heads": 0}}, "kv_heads = 0"),
        ({"budgts": [1e11]}, "unknown key budgts; did you mean budgets"),
        ({"recipe": {"learning_rat": 1}}, "did you mean recipe.learning_rate"),
        ({"shape": 5}, r"shape = 5: needed a table, \[shape\]"),
        ({"shape": {"mlp": ["gelu"]}}, "shape.mlp = .*needed a single value"),
        ({"shape": {"aspect": "wide"}}, "shape.aspect = 'wide'"),
        ({"shape": {"aspect": {"widht": 16}}}, "did you mean shape.aspect.width"),
        ({"shape": {"aspect": {"width": 16}}}, "power is missing"),
        ({"shape": {"aspect": {"width": "16", "power": 1}}}, "aspect.width = '16'"),
        ({"shape": {"head_width": "32"}}, "head_width = '32'"),
        ({"shape": {"depth": 2, "aspect": 64}}, "Give one of them"),
        ({"shape": {"mlp_ratio": -1}}, "mlp_ratio = -1"),
        ({"recipe": 5}, r"recipe = 5: needed a table, \[recipe\]"),
        ({"recipe": {"schedule": ["wsd"]}}, "recipe.schedule = .*needed a single value"),
        ({"rule": ["valley"]}, "needed one of valley"),
        ({"sizes": [{"depth": "2"}]}, "depth = '2'"),
        ({"sizes": [{"depth": 2, "width": "32"}]}, "width = '32'"),
        ({"sizes": [{"depth": 2, "width": 0}]}, "width = 0"),
        ({"sizes": [{"depth": 2, "width": 32, "heads": "2"}]}, "heads = '2'"),
        ({"sizes": [{"depth": 2, "width": 32, "heads": 5}]}, "5 heads"),
        ({"sizes": [{"depth": 2, "width": 32, "mlp": {}}]}, "sizes.mlp = .*needed a single value"),
        ({"budgets": [-1e11]}, "budget = -1"),
        ({"budgets": []}, "not empty"),
        ({"budgets": "1e11"}, "needed a list"),
        ({"sizes": [{"depth": 1, "width": 31}]}, "even"),
        ({"sizes": [{"width": 32}]}, "no depth"),
        ({"sizes": [10]}, "cannot be built"),
        ({"seeds": [0.5]}, "whole numbers"),
        ({"rule": "magic"}, "needed one of valley"),
        ({"context": 64.5}, "whole number"),
        ({"isoflop": [{"budget": 1e11, "sizes": [1e4]}]}, "not both"),
        ({"recipe": {"schedule": "sawtooth"}}, "recipe.schedule"),
        ({"recipe": {"beta1": "high"}}, "recipe.beta1"),
        ({"recipe": {"batch_tokens": 100}}, "multiple of the context"),
        ({"recipe": {"batch_tokens": "100"}}, "recipe.batch_tokens = '100'"),
        ({"axes": {"batch_tokens": [-64]}}, "recipe.batch_tokens = -64"),
        ({"recipe": {"learning_rate": True}}, "recipe.learning_rate = True: needed a number"),
        ({"budgets": [1e6]}, "too small for one batch"),
        ({"budgets": [10**400]}, "budget = 1000.*needed a positive number"),
        ({"recipe": {"batch_tokens": 128.5}}, "recipe.batch_tokens = 128.5: needed a whole number"),
        ({"recipe": {"batch_tokens": 1e300}}, "recipe.batch_tokens = 1000.*needed fewer than"),
        ({"recipe": {"batch_tokens": 10**400}}, "batch_tokens = 1000.*needed a positive number"),
        ({"recipe": {"warmup_tokens": 10**400}}, "recipe.warmup_tokens = 1000.*needed a number"),
    ],
)
def test_a_bad_grid_is_named_with_its_key(change, says, tmp_path):
    with pytest.raises(ValueError, match=says):
        Grid.of({**GOOD, **change}).specs("digest")


@pytest.mark.parametrize("missing", ["budgets", "sizes"])
def test_a_missing_key_is_named(missing):
    with pytest.raises(ValueError, match=f"{missing} is missing"):
        Grid.of({key: value for key, value in GOOD.items() if key != missing})


def test_the_file_is_named(tmp_path):
    with pytest.raises(ValueError, match="no such file"):
        Grid.read(tmp_path / "none.toml")
    path = tmp_path / "bad.toml"
    path.write_text("budgets = [1e11")
    with pytest.raises(ValueError, match=r"bad.toml: not valid TOML"):
        Grid.read(path)
    path.write_text("colour = 3")
    with pytest.raises(ValueError, match=r"bad.toml: unknown key colour"):
        Grid.read(path)


def test_ids_outlive_new_fields():
    """The committed runs keep their names: a new field's default is today's behaviour, and no default ever changes."""
    for path in record_paths(Path(__file__).parents[1] / "runs" / "quickstart"):
        assert RunSpec.from_json(Run.read(path).spec).id == path.stem


def test_a_rule_may_be_a_table():
    rule = {"rate": 1.5, "rate_N": -0.5, "batch": 0.2, "batch_D": 0.5}
    grid = Grid.of({**GOOD, "rule": rule})
    assert Grid.of(tomllib.loads(grid.toml())) == grid
    spec = grid.specs("digest")[0]
    assert spec.recipe.learning_rate == pytest.approx(1.5 * spec.shape.N_blocks**-0.5, rel=1e-2)
    with pytest.raises(ValueError, match=r"rate_M; did you mean rule.rate_N"):
        Grid.of({**GOOD, "rule": {**rule, "rate_M": 1.0}})
    with pytest.raises(ValueError, match=r"rule\.rate = -1"):
        Grid.of({**GOOD, "rule": {**rule, "rate": -1}})


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ({"rate_D": 100}, r"rule.rate = 0.1 with rate_D = 100 is too large at N = 11,\d+ and D = .* tokens"),
        ({"rate_N": -100, "rate_D": -100.0}, "rule.rate = 0.1 with rate_N = -100, rate_D = -100 is too near 0 at N = "),
        ({"rate_width": 1e9}, "rule.rate = 0.1 with rate_width = 1e.09 is too large at N = "),
        ({"rate_N": 10**9}, "rule.rate = 0.1 with rate_N = 1e.09 is too large at N = "),
        ({"rate_batch": 1e4, "batch": 1024}, "rule.rate = 0.1 with rate_batch = 10000 is too large at N = "),
        ({"batch_D": 100}, r"rule.batch = 256 with batch_D = 100 is too large at N = 11,\d+ and D = .* tokens"),
        ({"batch_N": -100}, "rule.batch = 256 with batch_N = -100 is too near 0 at N = "),
        ({"batch_D": 40}, "rule.batch and windows_least give .* tokens a batch at N = .* needed fewer than"),
        ({"windows_least": 1e308}, "rule.batch and windows_least give inf tokens a batch"),
        ({"beta2_batch": 1e4, "batch": 1024}, "rule.beta2 = 0.99 with beta2_batch = 10000 is too large"),
        ({"weight_decay_D": 100}, "rule.weight_decay = 0.01 with weight_decay_D = 100 is too large"),
        ({"batch": math.inf}, "rule.batch = inf: needed a number"),
        ({"rate": math.inf}, "rule.rate = inf: needed a number"),
        ({"rate_N": -math.inf}, "rule.rate_N = -inf: needed a number"),
        ({"rate_most": math.nan}, "rule.rate_most = nan: needed a number"),
        ({"steps_least": math.inf}, "rule.steps_least = inf: needed a number"),
        ({"rate_D": 10**400}, "rule.rate_D = 1000.*: needed a number"),
    ],
)
def test_a_rule_that_gives_no_number_is_named_with_its_field(rule, says):
    with pytest.raises(ValueError, match=says):
        Grid.of({**GOOD, "rule": {"rate": 0.1, "batch": 256, **rule}}).specs("digest")


def test_a_rule_may_have_no_most():
    table = {**GOOD, "rule": {"rate": 0.1, "batch": 256, "rate_most": math.inf, "warmup_most": math.inf}}
    assert {spec.recipe.learning_rate for spec in Grid.of(table).specs("digest")} == {0.1}


def test_a_whole_number_is_one_however_it_is_written():
    """A batch of 128.0 tokens is one of 128, with its id, and can be trained."""
    floats, whole = (
        Grid.of({**GOOD, "recipe": {"batch_tokens": number(128), "warmup_tokens": number(1024)}}).specs("digest")
        for number in (float, int)
    )
    assert [spec.id for spec in floats] == [spec.id for spec in whole]
    for spec in floats:
        assert [type(each) for each in (spec.recipe.batch_tokens, spec.recipe.warmup_tokens)] == [int, int]
        assert type(spec.tokens) is type(spec.steps) is int


@pytest.mark.parametrize(
    "table",
    [
        {"sizes": [1.1e4, 4e4], "tokens": [1e6, 3e6], "seeds": [0, 1]},
        {"sizes": [1.1e4], "tokens_per_parameter": [20, 40], "axes": {"learning_rate": {"times": [0.5, 1, 2]}}},
        {
            "cells": [
                {"sizes": [1.1e4], "tokens": [1e6]},
                {"sizes": [4e4], "budgets": [1e12], "seeds": [3], "recipe": {"beta2": 0.95}},
            ],
            "isoflop": [{"budget": 1e11, "sizes": [1.1e4]}],
            "axes": {"precision": ["float32", "bfloat16"]},
        },
    ],
)
def test_every_way_to_write_a_grid_reads_back(table):
    grid = Grid.of(table)
    assert Grid.of(tomllib.loads(grid.toml())) == grid
    specs = grid.specs("digest")
    assert len({spec.id for spec in specs}) == len(specs)


def test_lengths_seeds_axes_and_overrides_are_what_was_asked():
    ladder = Grid.of({"sizes": [1.1e4], "tokens_per_parameter": [20, 40], "seeds": [0, 5]}).specs("digest")
    assert [round(spec.tokens / spec.shape.N) for spec in ladder] == [20, 20, 40, 40]
    assert [spec.seed for spec in ladder] == [0, 5, 0, 5]
    axis = {"sizes": [1.1e4], "tokens": [1e6], "axes": {"learning_rate": {"times": [0.5, 1, 2]}, "beta2": [0.9, 0.99]}}
    rates = [(spec.recipe.learning_rate, spec.recipe.beta2) for spec in Grid.of(axis).specs("digest")]
    assert len(rates) == 6
    assert sorted({round(rate / rates[2][0], 3) for rate, _ in rates}) == [0.5, 1.0, 2.0]
    cells = [{"sizes": [1.1e4], "tokens": [1e6], "recipe": {"learning_rate": 0.5}}, {"sizes": [4e4], "tokens": [2e6]}]
    own = Grid.of({"cells": cells, "recipe": {"learning_rate": 0.25}}).specs("digest")
    assert [spec.recipe.learning_rate for spec in own] == [0.5, 0.25]


@pytest.mark.parametrize(("apart", "most"), [(3, 0.75), (2, 0.62)])
def test_branches_share_a_trunk_and_cost_the_closed_form(apart, most):
    """The longest run, and the decays of the others: within 2%; and every trunk's runs have one recipe."""
    budgets = [1e11 * apart**k for k in range(5)]
    specs = Grid.of({"budgets": budgets, "sizes": [1.1e4, 4e4], "seeds": [0, 1], "schedule": "wsd"}).specs("digest")
    tasks = tasks_of(specs)
    assert len(tasks) == len({spec.trunk for spec in specs}) == 4
    for task in tasks:
        assert len({spec.recipe for spec in task.specs}) == 1
        *others, longest = sorted(spec.C for spec in task.specs)
        assert task.flops == pytest.approx(longest + 0.2 * sum(others), rel=0.02)
    assert sum(task.flops for task in tasks) <= most * sum(spec.C for spec in specs)


def test_packs_hold_what_differs_in_rate_and_seed_and_fits():
    table = {
        "sizes": [1.1e4, 4e4],
        "tokens": [1e6],
        "seeds": list(range(6)),
        "axes": {"learning_rate": {"times": [1, 2]}},
    }
    specs = Grid.of(table).specs("digest")
    assert {task.kind for task in tasks_of(specs)} == {"run"}
    packs = tasks_of(specs, pack_bytes=1e12)
    assert [(task.kind, len(task.specs)) for task in packs] == [("pack", 12), ("pack", 12)]
    one = max(spec.training_bytes for spec in specs)
    assert max(len(task.specs) for task in tasks_of(specs, pack_bytes=5 * one)) < 12
    done = {spec.id for spec in specs[:1]}
    assert all(len(task.missing(done).specs) == 12 for task in packs)  # a pack is trained whole


def test_an_axis_of_schedules_shares_trunks_under_wsd_alone():
    table = {"sizes": [1.1e4], "budgets": [1e11, 4e11]}
    both = Grid.of({**table, "axes": {"schedule": ["wsd", "linear"]}}).specs("digest")
    alone = [
        spec for schedule in ("wsd", "linear") for spec in Grid.of({**table, "schedule": schedule}).specs("digest")
    ]
    assert set(both) == set(alone)
    assert len({spec.trunk for spec in both if spec.trunk}) == 1
    with pytest.raises(ValueError, match=r"schedule = 'wsd' beside recipe.schedule = 'linear'"):
        Grid.of({**table, "schedule": "wsd", "recipe": {"schedule": "linear"}})


def test_a_run_in_half_precision_or_with_remat_is_estimated_smaller():
    def most(**recipe):
        return max(
            spec.training_bytes
            for spec in Grid.of({"sizes": [1e6], "budgets": [1e14], "recipe": recipe}).specs("digest")
        )

    whole, narrow, remat = most(), most(precision="bfloat16"), most(remat=True)
    assert narrow < whole
    assert remat < whole


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"sizes": [1e4]}, "budgets is missing"),
        ({"sizes": [1.1e4], "tokens": [1e6], "budgets": [1e11]}, "budgets and tokens: give one"),
        ({"cells": [{"sizes": [1.1e4], "tokns": [1e6]}]}, "cells.tokns; did you mean cells.tokens"),
        ({"cells": [{"sizes": [1.1e4]}]}, "cells.budgets is missing"),
        ({"cells": [{"sizes": [1.1e4], "tokens": [1e6], "recipe": 5}]}, "cells.recipe = 5"),
        ({"cells": [{"sizes": [1.1e4], "tokens": [1e6]}], "sizes": [2e4]}, "not both"),
        ({"sizes": [1.1e4], "tokens": [1e6], "axes": {"rate": [1]}}, "unknown key axes.rate"),
        ({"sizes": [1.1e4], "tokens": [1e6], "axes": {"clip": {"time": [1]}}}, "did you mean axes.clip.times"),
        ({"sizes": [1.1e4], "tokens": [1e6], "axes": {"clip": []}}, "not empty"),
        ({"sizes": [1.1e4], "tokens": [1e6], "axes": {"precision": {"times": [2]}}}, "precision"),
    ],
)
def test_other_bad_grids_are_named_with_their_key(table, says):
    with pytest.raises(ValueError, match=says):
        Grid.of(table).specs("digest")
