"""What the default recipe's learning rate costs against the best, size by size: `python benchmarks/recipe.py`.

runs/rates-CORPUS* and batches-CORPUS* hold cells (a size, a number of tokens, a batch) at several learning rates, and
runs/valleys-CORPUS cells at the default recipe's. One run of a cell is off by as much as a rate twice too high costs, so the
answer is a surface through all runs of a corpus: log loss = a level for each cell + cost (log2 rate - log2 best)^2, where the
best rate at a batch of 256 tokens is a power of N (of the blocks) and of D and grows as the square root of the batch, and the
cost is a power of N. Beside it stand the cell's own means over seeds, and for each N the cost that its own cells show, with the
best rates those of the surface. Prints Markdown and writes benchmarks/recipe.json.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from levels import surface, without_levels

from scaling.grid import RunSpec
from scaling.recipe import RULES
from scaling.runs import Run, record_paths, to_json, write_whole

ROOT = Path(__file__).parents[1]

#: Rates further than so many times from the rule's are left out: no parabola reaches that far.
NEAR = 5.0

#: A cost by size whose standard error is above this, as a share of the loss, is told by no number.
TOLD = 0.01


@dataclass(frozen=True)
class Cell:
    """A size at a number of tokens and a batch, on as many held-out tokens: the losses of its seeds by learning rate."""

    spec: RunSpec
    losses: Mapping[float, Mapping[int, float]]

    @property
    def rule_rate(self) -> float:
        """The default rule's rate here, for this batch."""
        return RULES["valley"](self.spec.shape, self.spec.tokens, self.spec.recipe.batch_tokens).learning_rate

    def is_near(self, rate: float) -> bool:
        """Whether a rate is so near to the rule's that it counts."""
        return 1 / NEAR < rate / self.rule_rate < NEAR

    def mean(self, rate: float) -> float:
        """Mean loss over seeds, nats per token."""
        return float(np.mean(list(self.losses[rate].values())))

    def behind(self) -> tuple[float, float | None] | None:
        """How far the rule's rate is behind the best other one tried, as a share of the loss over the seeds that both have, and
        its standard error; None where the rule's rate was not trained. Below 0 where it is ahead."""
        if self.rule_rate not in self.losses:
            return None
        mine, found = self.losses[self.rule_rate], []
        for rate, seeds in self.losses.items():
            pairs = [mine[seed] / loss - 1 for seed, loss in seeds.items() if seed in mine and rate != self.rule_rate]
            if pairs:
                error = float(np.std(pairs, ddof=1)) / math.sqrt(len(pairs)) if len(pairs) > 1 else None
                found.append((float(np.mean(pairs)), error))
        return max(found, key=lambda each: each[0], default=None)


def read(corpus: str) -> list[Cell]:
    """The cells of a corpus that were trained at more than one rate near the rule's, smallest budget and size first."""
    folders = [ROOT / "runs" / f"valleys-{corpus}"]
    folders += sorted(each for of in ("rates", "batches") for each in (ROOT / "runs").glob(f"{of}-{corpus}*"))
    specs, losses = {}, defaultdict(lambda: defaultdict(dict))
    for run in (Run.read(path) for folder in folders if folder.is_dir() for path in record_paths(folder)):
        spec = RunSpec.from_json(run.spec)
        key = (spec.shape, spec.tokens, spec.recipe.batch_tokens, spec.eval_tokens)
        specs.setdefault(key, spec)
        losses[key][spec.recipe.learning_rate][spec.seed] = run.loss
    cells = [Cell(specs[key], rates) for key, rates in losses.items()]
    cells = [
        replace(cell, losses={rate: cell.losses[rate] for rate in sorted(cell.losses) if cell.is_near(rate)})
        for cell in cells
    ]
    cells = [cell for cell in cells if len(cell.losses) > 1]
    return sorted(cells, key=lambda cell: (float(f"{cell.spec.C:.0e}"), cell.spec.shape.N))


def columns(cells: Sequence[Cell]) -> tuple[np.ndarray, ...]:
    """Of every run: the place of its cell, log2 rate, log loss."""
    rows = [(i, math.log2(rate), math.log(loss))
            for i, cell in enumerate(cells) for rate, seeds in cell.losses.items() for loss in seeds.values()]  # fmt: skip
    return tuple(np.array(column) for column in zip(*rows))


def cost_of_two(cells: Sequence[Cell], log2_best: np.ndarray, moves: np.ndarray) -> dict[str, Any]:
    """What a rate twice too high or low costs at one N, a share of the loss, by least squares over its cells, with its standard
    error: from the scatter of the runs, and from what the `moves` of the best rates (each by one standard deviation, [cells,
    moves]) change. None where there are too few runs."""
    cost, scatter = curvature(cells, log2_best)
    moved = [(curvature(cells, log2_best + move)[0] - curvature(cells, log2_best - move)[0]) / 2 for move in moves.T]
    error = None if scatter is None else math.hypot(scatter, *moved)
    runs = sum(len(seeds) for cell in cells for seeds in cell.losses.values())
    return {"N": cells[0].spec.shape.N, "cells": len(cells), "runs": runs, "cost_of_two": [cost, error]}


def curvature(cells: Sequence[Cell], log2_best: np.ndarray) -> tuple[float, float | None]:
    """The cost in log loss = a level for each cell + cost (log2 rate - log2 best)^2, and its standard error by scatter."""
    cell, rate, loss = columns(cells)
    x = (rate - log2_best[cell]) ** 2
    x, y = without_levels(cell, x), without_levels(cell, loss)
    cost, free = float(x @ y / (x @ x)), len(y) - len(cells) - 1
    return cost, math.sqrt(float(np.sum((y - cost * x) ** 2)) / free / float(x @ x)) if free > 0 else None


def by_size(cells: Sequence[Cell], log2_best: np.ndarray, moves: np.ndarray) -> list[dict[str, Any]]:
    """`cost_of_two` of every N, smallest first."""
    N = np.array([cell.spec.shape.N for cell in cells])
    at = [np.flatnonzero(each == N) for each in np.unique(N)]
    return [cost_of_two([cells[i] for i in rows], log2_best[rows], moves[rows]) for rows in at]


def pooled_rates(cells: Sequence[Cell]) -> dict[str, Any]:
    """The surface through all cells: the powers of the best rate with their standard errors, the cost of a rate twice off (at the
    middle N) and its power of N, the noise of one run (a share of its loss), and at each cell the best rate, its `moves` by one
    standard deviation in three independent directions, the rule's rate over it and what that costs."""
    cell, rate, loss = columns(cells)
    N = np.log2([each.spec.shape.N_blocks for each in cells])
    D = np.log2([each.spec.tokens for each in cells])
    batch = 0.5 * np.log2([each.spec.recipe.batch_tokens / 256 for each in cells])
    N0, D0 = N.mean(), D.mean()

    def best(p: np.ndarray) -> np.ndarray:
        return p[0] + p[1] * (N - N0) + p[2] * (D - D0) + batch

    def cost(p: np.ndarray) -> np.ndarray:
        return np.exp(p[3]) * 2 ** (p[4] * (N - N0))

    def above(p: np.ndarray) -> np.ndarray:
        return cost(p)[cell] * (rate - best(p)[cell]) ** 2

    found = surface(cell, loss, above, [rate.mean(), -0.4, 0.0, math.log(0.01), 0.0])
    moves = np.linalg.cholesky(found.covariance[:3, :3])
    off, of_two = np.log2([each.rule_rate for each in cells]) - best(found.values), math.exp(found.values[3])
    return {
        "runs": len(loss),
        "rate_N": found.told(1),
        "rate_D": found.told(2),
        "cost_of_two": [of_two, of_two * float(found.errors[3])],
        "cost_N": found.told(4),
        "noise": found.noise,
        "log2_best": best(found.values),
        "moves": np.stack([np.ones(len(cells)), N - N0, D - D0], 1) @ moves,
        "rule_over_best": (2**off).tolist(),
        "rule_costs": (cost(found.values) * off**2).tolist(),
    }


def judge(cells: Sequence[Cell]) -> dict[str, Any]:
    """Every cell, and the surface through them."""
    pooled = pooled_rates(cells)
    over, costs, best, moves = (pooled.pop(name) for name in ("rule_over_best", "rule_costs", "log2_best", "moves"))
    rows = [
        {
            "C": cell.spec.C, "N": cell.spec.shape.N, "D": cell.spec.tokens, "batch_tokens": cell.spec.recipe.batch_tokens,
            "eval_tokens": cell.spec.eval_tokens,
            "losses": {f"{rate:g}": cell.mean(rate) for rate in cell.losses},
            "seeds": {f"{rate:g}": len(seeds) for rate, seeds in cell.losses.items()},
            "rule_rate": cell.rule_rate, "rule_behind": cell.behind(), "rule_over_best": ratio, "rule_costs": cost,
        }
        for cell, ratio, cost in zip(cells, over, costs)
    ]  # fmt: skip
    return {"surface": pooled, "rule_over_best": [min(over), max(over)], "rule_costs_most": max(costs),
            "sizes": by_size(cells, best, moves), "cells": rows}  # fmt: skip


def main() -> None:
    """Judge every corpus that was trained at several rates, print, and write the file."""
    found = {}
    for corpus in ("python", "planted-0"):
        if cells := read(corpus):
            found[corpus] = judge(cells)
            show(corpus, found[corpus])
    write_whole(Path(__file__).with_suffix(".json"), to_json(found))


def show(corpus: str, judged: Mapping[str, Any]) -> None:
    """One corpus as Markdown."""
    print(
        f"\n**{corpus}**\n\n| C | N | batch | losses by rate (seeds) | rule's rate | over the best | costs | behind another |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for row in judged["cells"]:
        losses = ", ".join(f"{rate} {loss:.3f} ({row['seeds'][rate]})" for rate, loss in row["losses"].items())
        behind, error = row["rule_behind"] or (None, None)
        said = "" if behind is None else f"{behind:+.2%}" + ("" if error is None else f" +- {error:.2%}")
        print(f"| {row['C']:.0e} | {row['N']:,} | {row['batch_tokens']} | {losses} | {row['rule_rate']:.3g} | "
              f"{row['rule_over_best']:.2f} | {row['rule_costs']:.2%} | {said} |")  # fmt: skip
    print("\n| N | cells | runs | a rate twice off costs |\n|---|---|---|---|")
    for row in judged["sizes"]:
        cost, error = row["cost_of_two"]
        said = (
            "not told: its rates are about as far from the best"
            if error is None or error > TOLD
            else f"{cost:.2%} +- {error:.2%}"
        )
        print(f"| {row['N']:,} | {row['cells']} | {row['runs']} | {said} |")
    pooled, (least, most) = judged["surface"], judged["rule_over_best"]
    told = {
        name: " +- ".join(f"{value:.3g}" for value in pooled[name])
        for name in ("rate_N", "rate_D", "cost_of_two", "cost_N")
    }
    print(f"\n{pooled['runs']} runs: {told}, noise {pooled['noise']:.2%}; the rule's rate is {least:.2f} to {most:.2f} times the "
          f"best, and costs {judged['rule_costs_most']:.2%} at most.")  # fmt: skip


if __name__ == "__main__":
    main()
