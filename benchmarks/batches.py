"""What the default recipe's batch costs, and what it does to N*: `python benchmarks/batches.py`. Prints Markdown and writes
benchmarks/batches.json.

runs/valleys-python holds seven sizes at each budget at the default batch, runs/batches-python-half and -quarter the same cells at
a half and a quarter of it, the rate going along by its rule (as the root of the batch). Each cell is held against the default's
by seed; each budget's parabola gives N* at each batch; and a surface through all cells, log loss = a level for each cell + cost
(log2 batch - log2 best)^2 with the best batch a power of N (of the blocks) and of D, gives the batch that the cells ask for.
"""

from __future__ import annotations

import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from scaling.fitting.isoflop import approach2
from scaling.grid import RunSpec
from scaling.runs import Run, Runs, record_paths, to_json, write_whole

ROOT = Path(__file__).parents[1]

#: Folder of runs -> its batches over the default's.
FOLDERS = {"valleys-python": 1.0, "batches-python-half": 0.5, "batches-python-quarter": 0.25}

#: A run's loss by (budget, N), batch in tokens and seed.
Losses = dict[tuple[float, int], dict[int, dict[int, float]]]


def main() -> None:
    """Judge, print, and write the file."""
    runs = {name: [Run.read(path) for path in record_paths(ROOT / "runs" / name)] for name in FOLDERS}
    budgets = {budget(run) for run in runs["batches-python-half"]}
    everything = [run for each in runs.values() for run in each if budget(run) in budgets]
    found = {"cells": cells(everything), "N": optima(runs, budgets), "surface": surface(everything)}
    write_whole(Path(__file__).with_suffix(".json"), to_json(found))
    show(found)


def budget(run: Run) -> float:
    """The budget that a run is of."""
    return float(f"{run.C:.0e}")


def losses(runs: list[Run]) -> Losses:
    """The losses of these runs; see `Losses`."""
    found: Losses = defaultdict(lambda: defaultdict(dict))
    for run in runs:
        assert run.loss is not None, f"{run.id} failed: {run.reason}"
        found[budget(run), run.N][run.spec["recipe"]["batch_tokens"]][run.spec["seed"]] = run.loss
    return found


def cells(runs: list[Run]) -> list[dict[str, Any]]:
    """Each cell: its default batch, and each smaller one's loss over the default's less 1, mean and standard error over seeds."""
    rows = []
    for (C, N), by_batch in sorted(losses(runs).items()):
        default = max(by_batch)
        smaller = {}
        for batch in sorted(set(by_batch) - {default}):
            pairs = [loss / by_batch[default][seed] - 1 for seed, loss in by_batch[batch].items()]
            smaller[batch] = [float(np.mean(pairs)), float(np.std(pairs, ddof=1)) / math.sqrt(len(pairs))]
        rows.append({"C": C, "N": N, "batch_tokens": default, "smaller": smaller})
    return rows


def optima(runs: dict[str, list[Run]], budgets: set[float]) -> list[dict[str, Any]]:
    """N* and the loss there of each budget at each part of the default batch, over all seeds."""
    found = []
    for name in ("valleys-python", "batches-python-half"):  # the last has no whole valley
        table = Runs.of(run for run in runs[name] if budget(run) in budgets)
        found += [(FOLDERS[name], vertex) for vertex in approach2(table, inner=1).vertices]
    return [{"part": part, "C": float(f"{each.C:.0e}"), "N": each.N, "loss": each.loss} for part, each in found]


def surface(runs: list[Run]) -> dict[str, Any]:
    """The surface through all runs: the powers of the best batch with their standard errors, its scale, the cost of a batch twice
    off, a share of the loss, and the noise of one run."""
    specs = [RunSpec.from_json(run.spec) for run in runs]
    names = sorted({(budget(run), run.N) for run in runs})
    cell = np.array([names.index((budget(run), run.N)) for run in runs])
    x = np.log2([spec.recipe.batch_tokens for spec in specs])
    N = np.log2([spec.shape.N_blocks for spec in specs])
    D = np.log2([spec.tokens for spec in specs])
    y = np.log([run.loss for run in runs])
    N0, D0, counts = N.mean(), D.mean(), np.bincount(cell)
    features = np.stack([x**2, x, x * (N - N0), x * (D - D0)], 1)
    centred = np.stack([each - (np.bincount(cell, each) / counts)[cell] for each in (*features.T, y)], 1)
    X, y = centred[:, :-1], centred[:, -1]
    p = np.linalg.lstsq(X, y, rcond=None)[0]
    variance = float(np.sum((y - X @ p) ** 2)) / (len(y) - len(names) - 4)
    covariance = variance * np.linalg.inv(X.T @ X)
    best = -p[1:] / (2 * p[0])  # log2 of the best batch: a level, and its slopes in log2 N and log2 D
    gradient = np.zeros((3, 4))
    gradient[:, 0], gradient[range(3), range(1, 4)] = -best / p[0], -1 / (2 * p[0])
    error = np.sqrt(np.diag(gradient @ covariance @ gradient.T))
    return {
        "runs": len(runs), "cells": len(names), "noise": math.sqrt(variance),
        "cost_of_two": [float(p[0]), math.sqrt(covariance[0, 0])],
        "batch_N": [float(best[1]), float(error[1])], "batch_D": [float(best[2]), float(error[2])],
        "batch_at_the_middle": [float(2 ** best[0]), float(2 ** error[0])],
        "batch": float(2 ** (best[0] - best[1] * N0 - best[2] * D0)),
    }  # fmt: skip


def show(found: dict[str, Any]) -> None:
    """What was found, as Markdown."""
    print("| C | N | default batch | smaller batch: loss over the default's |\n|---|---|---|---|")
    for row in found["cells"]:
        said = "; ".join(f"{batch}: {mean:+.2%} +- {error:.2%}" for batch, (mean, error) in row["smaller"].items())
        print(f"| {row['C']:.0e} | {row['N']:,} | {row['batch_tokens']} | {said} |")
    print("\n| C | part of the default batch | N* | loss there |\n|---|---|---|---|")
    for row in sorted(found["N"], key=lambda row: (row["C"], -row["part"])):
        print(f"| {row['C']:.0e} | {row['part']:g} | {row['N'] / 1e3:.1f}k | {row['loss']:.4f} |")
    s = found["surface"]
    (N, N_se), (D, D_se), (middle, times), (cost, cost_se) = (
        s[name] for name in ("batch_N", "batch_D", "batch_at_the_middle", "cost_of_two")
    )
    print(
        f"\n{s['runs']} runs, {s['cells']} cells: best batch {s['batch']:.3g} N_blocks^({N:.2f} +- {N_se:.2f}) "
        f"D^({D:.2f} +- {D_se:.2f}), {middle:.0f} (times or over {times:.2f}) at the middle; twice off costs {cost:.2%} +- "
        f"{cost_se:.2%}; noise {s['noise']:.2%}"
    )


if __name__ == "__main__":
    main()
