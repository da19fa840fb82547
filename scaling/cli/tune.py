"""Find the learning rate and batch that suit a corpus, and the rule by which they move with N and D.

GRID is a grid.toml. The smallest, middle and largest of its sizes are trained at its two smallest budgets, or shortest lengths,
each at a ladder of learning rates (and batches) around the grid's rule; a ladder whose best rate is its last is made longer. The
grid's recipe holds, but its axes are left out. A parabola through the best three rates gives each valley's floor; least squares
in the logarithms give the rule. Written to OUT: the records of the search, and tuned.toml, the same grid with the tuned rule in
it. Given again, the command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaling.cli import emit_json
from scaling.cli._tables import print_pairs, print_table
from scaling.cli.progress import sweep_display
from scaling.reporting.numbers import power

if TYPE_CHECKING:
    from scaling.recipe import Rule
    from scaling.training.tune import Tuned, Valley

EXAMPLES = """\
examples:
  scaling tune grid.toml --out runs/mine-tune                # 6 cells, 5 learning rates each
  scaling tune grid.toml --out runs/mine-tune --batches 0.5,1,2
  scaling sweep runs/mine-tune/tuned.toml --out runs/mine    # the grid itself, with the tuned rule
  scaling plot valleys runs/mine-tune -o valleys.png
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("grid", metavar="GRID", help="a grid.toml, or a folder with one")
    parser.add_argument("--out", metavar="DIR", type=Path, help="folder of the search's records (runs/NAME-tune)")
    parser.add_argument("--rates", type=int, default=5, metavar="K", help="learning rates a cell (default 5)")
    parser.add_argument("--factor", type=float, default=2.0, help="between neighbouring rates (default 2)")
    parser.add_argument("--batches", default="1", metavar="X,...", help="batches, times the rule's (default 1)")
    parser.add_argument("--processes", type=int, metavar="N", help="runs trained at once (on CPU one a core)")


def run(args: argparse.Namespace) -> int | None:
    """Search, and print the valleys and the rule."""
    from scaling.grid import Grid
    from scaling.runs import write_whole
    from scaling.training.executors import Local
    from scaling.training.tune import tune

    if args.processes is not None and args.processes < 1:
        raise ValueError(f"--processes {args.processes}: needed at least 1.")
    grid = Grid.read(args.grid)
    out = args.out or Path("runs") / f"{grid.name}-tune"
    asked = {"rates": args.rates, "factor": args.factor, "batches": _numbers(args.batches)}
    with sweep_display() as show:
        tuned = tune(grid, out, **asked, executor=Local(args.processes), watch=show)
    written = out / "tuned.toml"
    write_whole(written, tuned.tuned_grid.toml())
    for warning in tuned.warnings:
        print(f"scaling: warning: {warning}", file=sys.stderr)
    if args.json:
        cells = [{**_cell(each), "rule_cost": _rule_cost(each, tuned)} for each in tuned.valleys]
        rule = {key: value for key, value in asdict(tuned.rule).items() if value != math.inf}
        return emit_json({"rule": rule, "cells": cells, "warnings": list(tuned.warnings), "written": str(written)})
    _print_valleys(tuned)
    print_pairs([("rule before", _words(grid.first_rule)), ("tuned rule", _words(tuned.rule))])
    print(f"\nwritten to {written}: `scaling sweep {written} --out runs/NAME` trains the grid with it.")
    return None


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"--batches {text}: needed numbers separated by commas, as 0.5,1,2.") from None


def _cell(each: Valley) -> dict[str, Any]:
    cell = {"N": each.cell.shape.N, "D": each.cell.tokens, "C": each.cell.C, "batch_tokens": each.batch_tokens}
    found = ("rates", "losses", "best_rate", "best_loss", "inside", "cost_of_two")
    return {**cell, **{name: getattr(each, name) for name in found}}


def _rule_cost(each: Valley, tuned: Tuned) -> float | None:
    """The share of the loss that the tuned rate costs at this cell, where it is trained with this batch."""
    recipe = tuned.recipe(each.cell)
    return each.cost(recipe.learning_rate) if recipe.batch_tokens == each.batch_tokens else None


def _print_valleys(tuned: Tuned) -> None:
    from scaling.training.tune import best_batches

    columns = ("C", "N", "batch", "D", "rates tried", "best rate", "loss there", "2x off costs", "tuned rule", "costs")
    best = {id(each) for each in best_batches(tuned.valleys)}
    rows = []
    for each in tuned.valleys:
        cell, ladder = each.cell, f"{each.rates[0]:.2g} to {each.rates[-1]:.2g}"
        floor = f"{each.best_rate:.3g}" if each.inside else f"{each.best_rate:.3g} (last)"
        of_rule = f"{tuned.recipe(cell).learning_rate:.3g}" if id(each) in best else ""
        costs = [_percent(each.cost_of_two), of_rule, _percent(_rule_cost(each, tuned))]
        rows.append([power(cell.C), f"{cell.shape.N:,}", each.batch_tokens, f"{cell.tokens:,}", ladder, floor,
                     f"{each.best_loss:.4f}", *costs])  # fmt: skip
    print_table(columns, rows, keys=3)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.2f}%"


def _words(rule: Rule) -> str:
    """A rule as a formula."""
    powers = ((rule.count, rule.rate_N), ("D", rule.rate_D), ("width", rule.rate_width))
    rate = f"{rule.rate:.4g} {''.join(_power(*each) for each in powers)}"
    most = f", at most {rule.rate_most:.3g}" if rule.rate_most < math.inf else ""
    at = f", times (batch / 256)^{rule.rate_batch:g}" if rule.rate_batch else ""
    batch = f"{rule.batch:.4g} {_power(rule.count, rule.batch_N)}{_power('D', rule.batch_D)}"
    steps = f", {rule.steps_least:,.0f} steps at least" if rule.steps_least else ""
    return f"rate {rate.strip()}{most}{at}; batch {batch.strip()} tokens{steps}"


def _power(name: str, exponent: float) -> str:
    return f"{name}^{exponent:g} " if exponent else ""
