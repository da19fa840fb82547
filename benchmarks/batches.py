"""What a batch costs, and what it does to N*: `python benchmarks/batches.py`. Prints Markdown and writes benchmarks/batches.json.

runs/batches-CORPUS-whole holds seven sizes at each budget at a batch of .209 D^.5 tokens, the default rule's of before;
batches-python-half and -quarter the same cells at a half and a quarter of it, and valleys-CORPUS at the default rule's of now,
the rate going along by its rule (as the root of the batch). Each cell is held against the largest batch by seed; each budget's
parabola gives N* at each rule; and surfaces through all cells with several batches, log loss = a level for each cell + cost
(log2 batch - log2 best)^2, say which law of the best batch the runs ask for: a number of steps (best = D / steps) where that is
less than .209 D^.5; or any powers of N (of the blocks) and D.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from levels import Surface, surface

from scaling.fitting.isoflop import approach2
from scaling.grid import RunSpec
from scaling.recipe import RULES
from scaling.runs import Run, Runs, record_paths, to_json, write_whole

ROOT = Path(__file__).parents[1]

#: Corpus -> its folders of whole valleys by what their batch is.
WHOLE = {
    "python": {".209 D^.5": "batches-python-whole", "half of it": "batches-python-half", "the rule": "valleys-python"},
    "planted-0": {".209 D^.5": "batches-planted-0-whole", "the rule": "valleys-planted-0"},
}

#: A run's loss by (budget, N), batch in tokens and seed.
Losses = dict[tuple[float, int], dict[int, dict[int, float]]]


def main() -> None:
    """Judge every corpus, print, and write the file."""
    found = {corpus: judge(corpus) for corpus in WHOLE}
    write_whole(Path(__file__).with_suffix(".json"), to_json(found))
    for corpus, judged in found.items():
        show(corpus, judged)


def judge(corpus: str) -> dict[str, Any]:
    """Everything that is said of one corpus."""
    folders = [*sorted((ROOT / "runs").glob(f"batches-{corpus}-*")), ROOT / "runs" / f"valleys-{corpus}"]
    runs = list({run.id: run for folder in folders for run in map(Run.read, record_paths(folder))}.values())
    by_cell = losses(runs)
    several = [run for run in runs if len(by_cell[budget(run), run.N]) > 1]
    return {"cells": cells(by_cell), "N": optima(corpus), "surfaces": surfaces(several)}


def budget(run: Run) -> float:
    """The budget that a run is of."""
    return float(f"{run.C:.0e}")


def losses(runs: Sequence[Run]) -> Losses:
    """The losses of these runs; see `Losses`."""
    found: Losses = defaultdict(lambda: defaultdict(dict))
    for run in runs:
        assert run.loss is not None, f"{run.id} failed: {run.reason}"
        found[budget(run), run.N][run.spec["recipe"]["batch_tokens"]][run.spec["seed"]] = run.loss
    return found


def cells(by_cell: Losses) -> list[dict[str, Any]]:
    """Each cell of several batches: its largest, and each smaller one's loss over that one's less 1, mean and standard error over
    seeds."""
    rows = []
    for (C, N), by_batch in sorted(by_cell.items()):
        largest, *rest = sorted(by_batch, reverse=True)
        smaller = {}
        for batch in rest:
            pairs = [loss / by_batch[largest][seed] - 1 for seed, loss in by_batch[batch].items()]
            smaller[batch] = [float(np.mean(pairs)), float(np.std(pairs, ddof=1)) / math.sqrt(len(pairs))]
        if smaller:
            rows.append({"C": C, "N": N, "batch_tokens": largest, "smaller": smaller})
    return rows


def optima(corpus: str) -> list[dict[str, Any]]:
    """N* and the loss there of each budget by what the batch is, over all seeds."""
    return [
        {"batch": batch, "C": float(f"{vertex.C:.0e}"), "N": vertex.N, "loss": vertex.loss}
        for batch, folder in WHOLE[corpus].items()
        for vertex in approach2(Runs.read(ROOT / "runs" / folder), inner=1).vertices
    ]


def surfaces(runs: Sequence[Run]) -> dict[str, Any]:
    """The surface of each law of the best batch: its numbers with their standard errors, the cost of a batch twice off (a share
    of the loss), the noise of one run, and the sum of squares that is left with its degrees of freedom."""
    specs = [RunSpec.from_json(run.spec) for run in runs]
    names = sorted({(budget(run), run.N) for run in runs})
    cell = np.array([names.index((budget(run), run.N)) for run in runs])
    batch = np.log2([spec.recipe.batch_tokens for spec in specs])
    N = np.log2([spec.shape.N_blocks for spec in specs])
    D = np.log2([spec.tokens for spec in specs])
    y = np.log([run.loss for run in runs])
    N0, D0, rule = N.mean(), D.mean(), RULES["valley"]
    root = np.log2(rule.batch) + rule.batch_D * D

    def through(best: Any, *start: float) -> Surface:
        return surface(cell, y, lambda p: p[0] * (batch - best(p)) ** 2, [0.005, *start])

    steps = through(lambda p: np.minimum(root, D - p[1]), 14.0)
    powers = through(lambda p: p[1] + p[2] * (N - N0) + p[3] * (D - D0), batch.mean() - 1, 0.0, 0.5)
    middle = {"batch_at_the_middle": two_to(powers, 1), "batch_N": powers.told(2), "batch_D": powers.told(3)}
    return {
        "runs": len(runs),
        "cells": len(names),
        "steps": {"steps": two_to(steps, 1), **quality(steps)},
        "powers": {**middle, **quality(powers)},
    }


def quality(found: Surface) -> dict[str, Any]:
    """The cost of a batch twice off and what is left of the losses."""
    return {"cost_of_two": found.told(0), "noise": found.noise, "squares": found.squares, "free": found.free}


def two_to(found: Surface, i: int) -> list[float]:
    """The number whose log2 is the i-th value, and by how many times or over its standard error moves it."""
    value, error = found.told(i)
    return [2**value, 2**error]


def show(corpus: str, found: dict[str, Any]) -> None:
    """One corpus as Markdown."""
    print(f"\n**{corpus}**\n\n| C | N | largest batch | smaller: loss over the largest's |\n|---|---|---|---|")
    for row in found["cells"]:
        said = "; ".join(f"{batch}: {mean:+.2%} +- {error:.2%}" for batch, (mean, error) in row["smaller"].items())
        print(f"| {row['C']:.0e} | {row['N']:,} | {row['batch_tokens']} | {said} |")
    print("\n| C | batch | N* | loss there |\n|---|---|---|---|")
    for row in sorted(found["N"], key=lambda row: row["C"]):
        print(f"| {row['C']:.0e} | {row['batch']} | {row['N'] / 1e3:.1f}k | {row['loss']:.4f} |")
    surfaces = found["surfaces"]
    print(f"\n{surfaces['runs']} runs, {surfaces['cells']} cells:\n")
    for name in ("steps", "powers"):
        print(f"- {name}: " + ", ".join(f"{key} {_said(value)}" for key, value in surfaces[name].items()))


def _said(value: Any) -> str:
    return f"{value[0]:.4g} ({value[1]:.3g})" if isinstance(value, list) else f"{value:.4g}"


if __name__ == "__main__":
    main()
