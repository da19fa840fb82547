"""How far the default rule's learning rate is from the best, cell by cell, from committed runs: `python benchmarks/recipe.py`.

runs/rates-python holds 7 sizes within a decade around the optimum at 1e11, 3e11 and 1e12 FLOPs, each at half, once and twice
the rate of the rule `valley`, seed 0. Writes benchmarks/recipe.json.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np

from scaling.grid import RunSpec
from scaling.recipe import RULES
from scaling.runs import Run, record_paths, to_json, write_whole
from scaling.training.tune import valley

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Print the table and write the file."""
    cells = defaultdict(list)
    for path in record_paths(ROOT / "runs" / "rates-python"):
        run = Run.read(path)
        cells[float(f"{run.C:.0e}"), run.N].append(run)
    rows = [_row(budget, runs) for (budget, _), runs in sorted(cells.items())]
    best = [row["rule_over_best_tried"] == 1 for row in rows]
    lost = [row["rule_loses"] for row in rows]
    off = [row["cost_of_two"] for row in rows if row["cost_of_two"] is not None]
    summary = {
        "cells": len(rows),
        "rule_is_the_best_tried": sum(best),
        "rule_loses_mean": float(np.mean(lost)),
        "rule_loses_most": float(np.max(lost)),
        "rule_loses_over_half_a_percent": sum(each > 0.005 for each in lost),
        "cost_of_two_median": float(np.median(off)),
    }
    write_whole(Path(__file__).with_suffix(".json"), to_json({"summary": summary, "cells": rows}))
    print("budget        N  batch  rule's rate   loss at x.5, x1, x2        rule loses  2x off costs")
    for row in rows:
        losses = " ".join(f"{loss:.4f}" for loss in row["losses"])
        two = "" if row["cost_of_two"] is None else f"{row['cost_of_two']:.2%}"
        print(f"{row['budget']:.0e} {row['N']:>8,} {row['batch_tokens']:>6} {row['rule_rate']:>12.3g}   {losses}   "
              f"{row['rule_loses']:>8.2%} {two:>12}")  # fmt: skip
    print(summary)


def _row(budget: float, runs: list[Run]) -> dict:
    runs = sorted(runs, key=lambda run: run.spec["recipe"]["learning_rate"])
    spec = RunSpec.from_json(runs[0].spec)
    rule = RULES["valley"](spec.shape, budget / spec.shape.flops_per_token)
    found = valley(spec, runs)
    losses = list(found.losses)
    at_rule = losses[int(np.argmin(np.abs(np.log(np.array(found.rates) / rule.learning_rate))))]
    best = found.rates[int(np.argmin(losses))]
    return {
        "budget": budget, "N": spec.shape.N, "batch_tokens": rule.batch_tokens, "rule_rate": rule.learning_rate,
        "rates": list(found.rates), "losses": losses, "rule_over_best_tried": round(rule.learning_rate / best, 2),
        "rule_loses": at_rule / min(losses) - 1, "cost_of_two": found.cost_of_two,
    }  # fmt: skip


if __name__ == "__main__":
    main()
