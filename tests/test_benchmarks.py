"""The benchmark that waits for an accelerator: that it runs, here, and says what it is asked for."""

import importlib.util
import json
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def benchmark():
    path = Path(__file__).parents[1] / "benchmarks" / "accelerator.py"
    made = importlib.util.spec_from_file_location("accelerator", path)
    module = importlib.util.module_from_spec(made)
    made.loader.exec_module(module)
    return module


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
