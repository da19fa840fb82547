"""One CSV or Parquet table of a folder of runs, or of any table that can be read, with a documented column for each field.

Without --out a short table is printed. The table reads back as the same runs: `scaling fit table.csv`. Training curves stay
in the records.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from scaling.cli._runs import add_options, read

if TYPE_CHECKING:
    from scaling.runs import Runs

EXAMPLES = """\
examples:
  scaling table runs/quickstart                          # a look at it
  scaling table runs/quickstart --out quickstart.csv
  scaling table wandb_export.csv --out runs.parquet      # somebody else's table under our column names
  scaling table runs/quickstart --describe               # what each column holds
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `scaling table`."""
    add_options(parser)
    parser.add_argument("-o", "--out", metavar="FILE", help="write here; .csv or .parquet")
    parser.add_argument(
        "--force", action="store_true", help="write over a FILE that is there; never over the table itself"
    )
    parser.add_argument("--describe", action="store_true", help="print what each column holds, and nothing else")


def run(args: argparse.Namespace) -> int | None:
    """Read the runs, write or print them."""
    from scaling import cli

    _check(args)
    runs = read(args)
    path = None if args.out is None else runs.write(Path(args.out))
    if args.json:
        cli.emit_json(_summary(runs, path))
    elif args.describe:
        _describe(runs)
    elif path is None:
        _print(runs)
    if path is not None:
        print(f"wrote {path}: {len(runs)} runs", file=sys.stderr)
    return None


def _check(args: argparse.Namespace) -> None:
    """Raise ValueError rather than write over a file that is there, and always over one that is read."""
    if args.out is None or not Path(args.out).exists():
        return
    if any(
        Path(name).exists() and Path(args.out).samefile(name) for name in (args.runs, args.join) if name is not None
    ):
        raise ValueError(f"{args.out} is what the runs are read from. Choose another name.")
    if not args.force:
        raise ValueError(f"{args.out} exists. Choose another name, or write over it with --force.")


def _summary(runs: Runs, path: Path | None) -> dict[str, object]:
    described = runs.describe()
    return {
        "source": runs.source, "n": len(runs), "count": runs.count, "flops": runs.flops, "loss_unit": runs.loss_unit,
        "digest": runs.digest, "notes": list(runs.notes), "columns": described, "path": None if path is None else str(path),
    }  # fmt: skip


def _describe(runs: Runs) -> None:
    from scaling.cli._tables import print_pairs

    print_pairs(runs.describe().items())


def _print(runs: Runs) -> None:
    from scaling.cli._tables import print_table
    from scaling.reporting.numbers import count, power

    errors = [None] * len(runs) if runs.loss_se is None else runs.loss_se
    rows = [
        [id, count(N), count(D), power(C), f"{D / N:.3g}", f"{loss:.4f}", "-" if se is None else f"{se:.4f}"]
        for id, N, D, C, loss, se in zip(runs.id, runs.N, runs.D, runs.C, runs.loss, errors)
    ]
    print_table(["run", "N", "D", "C", "D/N", "loss", "± se"], rows)
    print(f"{len(runs)} runs; N counts {runs.count}; C is {runs.flops}; loss in {runs.loss_unit}")
