"""Train the cells of a grid that have no record yet.

GRID is a grid.toml, or a folder that holds one: isoFLOP budgets, the sizes trained at each, seeds and a corpus. Every run is
written to OUT as one JSON record when it ends, whole or not at all, so an interrupted sweep goes on where it
stopped: give the same command again. A run that diverges is recorded as failed, with its reason, and the sweep goes on.

A grid.toml:
  corpus = "python"             # or the path of a text file or folder
  budgets = [1e11, 3e11, 1e12]  # FLOPs
  sizes = [1e4, 2e4, 4e4, 8e4]  # parameters; or tables, { depth = 2, width = 32 }
  seeds = [0]                   # optional, as are context, eval_tokens, epochs, rule and a [recipe] table
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaling.cli import EXIT_FAILED_CELLS, emit_json
from scaling.cli._tables import duration, print_table
from scaling.cli.progress import sweep_display

if TYPE_CHECKING:
    from scaling.grid import RunSpec
    from scaling.runs import Run
    from scaling.training.sweep import Plan

EXAMPLES = """\
examples:
  scaling sweep grid.toml --out runs/mine --dry-run   # the cells, their FLOPs, the time they would take here
  scaling sweep grid.toml --out runs/mine
  scaling fit runs/mine
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("grid", metavar="GRID", help="a grid.toml, or a folder with one")
    parser.add_argument("--out", metavar="DIR", type=Path, help="folder of the records (the grid's own, or runs/NAME)")
    parser.add_argument("--dry-run", action="store_true", help="print the cells, FLOPs and time; train nothing")
    parser.add_argument("--processes", type=int, metavar="N", help="runs trained at once (on CPU one a core)")


def run(args: argparse.Namespace) -> int | None:
    """Plan, train, and print the table of runs."""
    from scaling.grid import Grid
    from scaling.training import sweep as sweeps
    from scaling.training.executors import Local

    if args.processes is not None and args.processes < 1:
        raise ValueError(f"--processes {args.processes}: needed at least 1.")
    grid = Grid.read(args.grid)
    out = args.out or (Path(args.grid) if Path(args.grid).is_dir() else Path("runs") / grid.name)
    executor = Local(args.processes)
    todo = sweeps.plan(grid, out)
    _warn(todo.warnings)
    if args.dry_run:
        seconds = sweeps.estimate_seconds(todo, executor)
        if args.json:
            return emit_json(
                {**_summary(todo), "seconds": seconds, "cells": [_cell(spec, todo) for spec in todo.specs]}
            )
        _print_cells(todo)
        print(
            f"{len(todo.missing)} of {len(todo.specs)} cells to train, {todo.flops:.3g} FLOPs, about {duration(seconds)} here "
            f"with {executor.workers} at once. Nothing was trained."
        )
        return None
    try:
        with sweep_display() as show:
            done = sweeps.sweep(grid, out, executor, show)
    except KeyboardInterrupt:
        left = len(sweeps.plan(grid, out).missing)
        where = f"`scaling sweep {args.grid} --out {out}`"
        raise KeyboardInterrupt(f"stopped with {left} of {len(todo.specs)} cells left; {where} goes on.") from None
    if args.json:
        emit_json({**_summary(done), "runs": [_row(run) for run in done.records.values()]})
    else:
        print_runs(done)
    return EXIT_FAILED_CELLS if done.failed else None


def print_runs(plan: Plan) -> None:
    """The table of a plan's records, and what failed."""
    columns = ("C", "N", "D", "D/N", "seed", "loss", "± se", "bits/byte", "steps", "time", "tokens/s", "note")
    rows = []
    for run in sorted(plan.records.values(), key=lambda run: (_budget(run.C), run.N, run.id)):
        measured = (
            [""] * 3 if run.loss is None else [f"{run.loss:.4f}", f"{run.loss_se:.4f}", f"{run.bits_per_byte:.4f}"]
        )
        speed = ["", ""] if run.seconds is None else [duration(run.seconds), f"{run.tokens_per_second:,.0f}"]
        note = run.reason or "; ".join(run.flags)
        ratio, seed = f"{run.D / run.N:.1f}", run.spec["seed"]
        rows.append(
            [f"{run.C:.2e}", f"{run.N:,}", f"{run.D:,}", ratio, seed, *measured, f"{run.steps:,}", *speed, note]
        )
    print_table(columns, rows, f"{plan.folder}: {len(plan.records)} of {len(plan.specs)} runs", words="note")


def _budget(C: float) -> float:
    return float(f"{C:.2g}")


def _print_cells(plan: Plan) -> None:
    columns = ("C", "N", "depth", "width", "D", "D/N", "steps", "batch", "rate", "seed", "record")
    rows = []
    for spec in plan.specs:
        shape, recipe, record = spec.shape, spec.recipe, plan.records.get(spec.id)
        size = [
            f"{spec.C:.2e}",
            f"{shape.N:,}",
            shape.depth,
            shape.width,
            f"{spec.tokens:,}",
            f"{spec.tokens / shape.N:.1f}",
        ]
        how = [f"{spec.steps:,}", recipe.batch_tokens, f"{recipe.learning_rate:.2e}", spec.seed]
        rows.append([*size, *how, record.status if record else "missing"])
    print_table(columns, rows, f"{plan.grid.name} into {plan.folder}", words="record")


def _warn(warnings: Sequence[str]) -> None:
    for warning in warnings:
        print(f"scaling: warning: {warning}", file=sys.stderr)


def _summary(plan: Plan) -> dict[str, Any]:
    return {
        "grid": plan.grid.name,
        "folder": str(plan.folder),
        "corpus": {"name": plan.grid.corpus, "digest": plan.digest},
        "total": len(plan.specs),
        "done": len(plan.records) - len(plan.failed),
        "failed": [{"id": run.id, "N": run.N, "D": run.D, "reason": run.reason} for run in plan.failed],
        "missing": len(plan.missing),
        "flops": plan.flops,
        "warnings": list(plan.warnings),
    }


def _cell(spec: RunSpec, plan: Plan) -> dict[str, Any]:
    record = plan.records.get(spec.id)
    return {"id": spec.id, "N": spec.shape.N, "D": spec.tokens, "C": spec.C, "seed": spec.seed, "steps": spec.steps,
            "status": record.status if record else "missing"}  # fmt: skip


def _row(run: Run) -> dict[str, Any]:
    return {
        key: getattr(run, key) for key in ("id", "status", "N", "D", "C", "loss", "loss_se", "bits_per_byte", "reason")
    }
