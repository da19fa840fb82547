"""What is done, failed and left in a folder of runs, and how much work that is.

DIR is a folder that `scaling sweep` writes to. A cell is begun when a state of it is kept, which `scaling sweep` goes on from.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from scaling.cli import EXIT_FAILED_CELLS, emit_json
from scaling.cli._tables import print_pairs, print_table

EXAMPLES = """\
examples:
  scaling status runs/quickstart
  scaling status runs/mine --json
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the folder."""
    parser.add_argument("folder", metavar="DIR", type=Path, help="a folder of runs with its grid.toml")


def run(args: argparse.Namespace) -> int | None:
    """Print the counts, what failed and why, and what is left."""
    from scaling.grid import Grid
    from scaling.training.state import STATE
    from scaling.training.sweep import plan

    if not args.folder.is_dir():
        raise ValueError(f"{args.folder}: no such folder. Give the folder that `scaling sweep` writes to.")
    found = plan(Grid.read(args.folder), args.folder)
    kept = args.folder / STATE / "checkpoints"
    begun = {path.name for path in kept.iterdir()} if kept.exists() else set()
    left = [
        {"id": spec.id, "N": spec.shape.N, "D": spec.tokens, "C": spec.C, "seed": spec.seed, "begun": spec.id in begun}
        for spec in found.missing
    ]
    failed = [{"id": run.id, "N": run.N, "D": run.D, "C": run.C, "reason": run.reason} for run in found.failed]
    done = len(found.records) - len(failed)
    spent = sum(run.C for run in found.records.values() if run.status == "done")
    if args.json:
        counts = {"total": len(found.specs), "done": done, "failed": failed, "left": left}
        emit_json({**counts, "flops_done": spent, "flops_left": found.flops, "warnings": list(found.warnings)})
    else:
        total = len(found.specs)
        work = f"{spent:.3g} of {spent + found.flops:.3g} FLOPs"
        print_pairs([("done", f"{done} of {total}, {work}"), ("failed", str(len(failed))), ("left", str(len(left)))])
        rows = [[f"{row['C']:.2e}", f"{row['N']:,}", f"{row['D']:,}", row["reason"]] for row in failed]
        rows += [
            [f"{row['C']:.2e}", f"{row['N']:,}", f"{row['D']:,}", "begun" if row["begun"] else "not begun"]
            for row in left
        ]
        if rows:
            print_table(("C", "N", "D", "state"), rows, words="state")
    return EXIT_FAILED_CELLS if failed else None
