"""What is done, running, failed and left in a folder of runs, and how much work that is.

DIR is a folder that `scaling sweep` writes to, perhaps just now, on this machine or another. A running cell is one that a worker
holds; a cell is begun when a state of it is kept, which `scaling sweep` goes on from. Of those not begun yet the first are
listed, all with --json. --watch draws the table anew until nothing runs any more.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaling.cli import EXIT_FAILED_CELLS, emit_json
from scaling.cli._tables import duration, print_pairs, print_table
from scaling.reporting.numbers import power

if TYPE_CHECKING:
    from scaling.grid import RunSpec
    from scaling.training.sweep import Plan

EXAMPLES = """\
examples:
  scaling status runs/quickstart
  scaling status runs/mine --watch
  scaling status runs/mine --json
"""

#: Seconds between two looks of --watch.
LOOK_SECONDS = 2.0

#: Cells that are listed of those that are not begun, and of those that failed.
LISTED = 40


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the folder."""
    parser.add_argument("folder", metavar="DIR", type=Path, help="a folder of runs with its grid.toml")
    parser.add_argument("--watch", action="store_true", help="draw the table anew every 2 s, until nothing runs")


def run(args: argparse.Namespace) -> int | None:
    """Print the counts, what runs, what failed and why, and what is left."""
    if not args.folder.is_dir():
        raise ValueError(f"{args.folder}: no such folder. Give the folder that `scaling sweep` writes to.")
    found, state = _look(args.folder)
    while args.watch and state["running"]:
        if sys.stdout.isatty():
            print("\x1b[2J\x1b[H", end="")
        _show(found, state)
        time.sleep(LOOK_SECONDS)
        found, state = _look(args.folder)
    if args.json:
        emit_json(state)
    else:
        _show(found, state)
    return EXIT_FAILED_CELLS if found.failed else None


def _look(folder: Path) -> tuple[Plan, dict[str, Any]]:
    """The plan of a folder, and what --json says of it."""
    from scaling.grid import Grid
    from scaling.training.state import STATE
    from scaling.training.sweep import Status, plan

    found = plan(Grid.read(folder), folder, text=False, brief=True)
    cells = {spec.id: spec for spec in found.specs}
    status = Status(folder, cells, found.tasks, dict(found.records))
    status.look()
    kept = folder / STATE / "checkpoints"
    begun = {path.name for path in kept.iterdir()} if kept.exists() else set()
    running = {now.spec.id: now for now in status.now.values()}
    left = [
        {**_row(spec), "begun": spec.id in begun or spec.trunk in begun, "running": spec.id in running}
        for spec in found.missing
    ]
    return found, {
        "total": len(found.specs),
        "done": len(found.records) - len(found.failed),
        "failed": [{**_row(cells[run.id]), "reason": run.reason} for run in found.failed],
        "running": [
            {**_row(now.spec), "step": now.step, "steps": now.spec.steps, "loss": now.loss, "seconds": now.seconds,
             "where": now.where}
            for now in running.values()
        ],
        "left": left,
        "flops_done": sum(run.C for run in found.records.values() if run.status == "done"),
        "flops_left": found.flops,
        "seconds_left": status.seconds_left,
        "warnings": list(found.warnings),
    }  # fmt: skip


def _row(spec: RunSpec) -> dict[str, Any]:
    return {"id": spec.id, "N": spec.shape.N, "D": spec.tokens, "C": spec.C, "seed": spec.seed}


def _show(found: Plan, state: dict[str, Any]) -> None:
    work = f"{state['flops_done']:.3g} FLOPs done, {state['flops_left']:.3g} left"
    pairs = [("done", f"{state['done']} of {state['total']}, {work}"), ("running", str(len(state["running"])))]
    pairs += [("failed", str(len(state["failed"]))), ("left", str(len(state["left"])))]
    if state["running"] and state["seconds_left"] is not None:
        pairs.append(("time left", duration(state["seconds_left"])))
    print_pairs(pairs)
    now = {row["id"]: row for row in state["running"]}
    rows = [[*_size(row), row["reason"]] for row in state["failed"][:LISTED]]
    waiting = 0
    for row in state["left"]:
        at = "begun" if row["begun"] else "not begun"
        if row["running"]:
            run = now[row["id"]]
            loss = "compiling" if run["loss"] is None else f"loss {run['loss']:.3f}"
            at = f"step {run['step']:,} of {run['steps']:,}, {loss}, on {run['where']}"
        waiting += at == "not begun"
        if at != "not begun" or waiting <= LISTED:
            rows.append([*_size(row), at])
    if rows:
        print_table(("C", "N", "D", "seed", "state"), rows, words="state", keys=4)
    for more, what in ((len(state["failed"]) - LISTED, "that failed"), (waiting - LISTED, "not begun")):
        if more > 0:
            print(f"and {more:,} more {what} (--json lists all)")


def _size(row: dict[str, Any]) -> list[str]:
    return [power(row["C"]), f"{row['N']:,}", f"{row['D']:,}", str(row["seed"])]
