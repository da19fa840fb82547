"""The benchmark that waits for an accelerator: that it runs, here, and says what it is asked for; what one of rates adds up."""

import importlib.util
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from scaling.grid import Grid
from scaling.runs import Run

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def load(name):
    sys.path[:0] = [] if str(BENCHMARKS) in sys.path else [str(BENCHMARKS)]  # they import each other
    made = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(made)
    sys.modules[name] = module  # dataclasses look for their module there
    made.loader.exec_module(module)
    return module


def test_what_one_process_a_core_gains_is_what_was_measured():
    read = {name: json.loads((BENCHMARKS / f"{name}.json").read_text()) for name in ("throughput", "sweeps")}
    speed = {
        (row["N"], row["processes"]): np.median(row["tokens_per_second"]["scaling"])
        for row in read["throughput"]["rows"]
    }
    gains = {N: speed[N, "one a core"] / speed[N, "one"] for N, _ in speed}
    sweeps = read["sweeps"]["throughput"]["ratios"]
    said = " ".join((BENCHMARKS / "README.md").read_text().split())
    assert all(re.search(rf"N = {N:,} at {gain:.2f} times", said) for N, gain in gains.items())
    assert f"it is {min(sweeps):.2f} to {max(sweeps):.2f} times" in said
    tiny = [gains[40_964], *sweeps]
    gained = f"{int(10 * min(tiny)) / 10} to {max(tiny):.1f} times"
    for file in ("README.md", "scaling/training/executors/local.py"):
        assert gained in (BENCHMARKS.parent / file).read_text()


@pytest.fixture(scope="module")
def benchmark():
    return load("accelerator")


@pytest.fixture(scope="module")
def rates():
    return load("recipe")


@pytest.mark.slow
def test_the_accelerators_benchmark_runs_here_and_measures_both(benchmark, text_folder, capsys):
    benchmark.main(["--smoke", "--corpus", str(text_folder)])
    said = json.loads(capsys.readouterr().out)
    (wide,), (many,) = said["wide"], said["many"]
    assert set(wide["batches"]) == {"32", "64"}
    assert all(each["flops_per_second"] > 0 for each in wide["batches"].values())
    assert wide["best_share_of_peak"] is None  # nobody publishes a processor's
    assert set(many["packs"]["2"]) == {"vmap", "map"}
    assert many["gain"] == max(many["packs"]["2"].values()) / many["one"]
    assert many["N"] < 1e6


def test_a_batch_that_does_not_fit_is_left_out(benchmark):
    def full():
        raise MemoryError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes")

    assert benchmark.where_it_fits(full) is None
    assert benchmark.where_it_fits(lambda: (1.0, 2.0)) == (1.0, 2.0)


COSTS = {1e4: 0.02, 4e4: 0.01, 1.6e5: 0.005}


def planted_cells(rates, noise=0.0, seeds=2):
    """Cells whose loss is a parabola about the rule's rate, with a cost for each size."""
    rng, cells, best = np.random.default_rng(0), [], []
    for spec in Grid.of({"budgets": [1e11, 1e12], "sizes": list(COSTS)}).specs("digest"):
        cost = COSTS[min(COSTS, key=lambda N: abs(np.log(spec.shape.N / N)))]
        losses = {
            rate: {
                seed: 2.0 * np.exp(cost * np.log2(rate / spec.recipe.learning_rate) ** 2 + noise * rng.normal())
                for seed in range(seeds)
            }
            for rate in spec.recipe.learning_rate * 2.0 ** np.arange(-2, 2)
        }
        cells.append(rates.Cell(spec, losses))
        best.append(np.log2(spec.recipe.learning_rate))
    return cells, np.array(best), np.zeros((len(best), 3))


def test_the_cost_of_a_rate_twice_off_is_told_for_each_size(rates):
    found = rates.by_size(*planted_cells(rates))
    assert [row["cost_of_two"][0] for row in found] == pytest.approx(list(COSTS.values()), rel=1e-6)
    assert all(row["cost_of_two"][1] < 1e-9 and (row["cells"], row["runs"]) == (2, 16) for row in found)
    noisy = rates.by_size(*planted_cells(rates, noise=0.003))
    for row, cost in zip(noisy, COSTS.values()):
        assert abs(row["cost_of_two"][0] - cost) < 4 * row["cost_of_two"][1] < 0.01
    cells, best, moves = planted_cells(rates, noise=0.003)
    unsure = rates.by_size(cells, best, moves + 0.3)
    assert all(more["cost_of_two"][1] > less["cost_of_two"][1] for more, less in zip(unsure, noisy))
    judged = rates.judge(planted_cells(rates, noise=0.003)[0])
    assert [row["N"] for row in judged["sizes"]] == sorted(row["N"] for row in judged["sizes"])


def test_losses_on_other_held_out_tokens_are_another_cell(rates, tmp_path, monkeypatch):
    for eval_tokens in (1024, 2048):
        table = {"budgets": [1e11], "sizes": [1e4], "axes": {"learning_rate": [0.01, 0.02]}, "eval_tokens": eval_tokens}
        for spec in Grid.of(table).specs("digest"):
            Run.of(spec, status="done", loss=2.0, loss_se=0.0).write(tmp_path / "runs" / "rates-mine")
    monkeypatch.setattr(rates, "ROOT", tmp_path)
    cells = rates.read("mine")
    assert sorted(cell.spec.eval_tokens for cell in cells) == [1024, 2048]
    assert all(len(cell.losses) == 2 for cell in cells)
