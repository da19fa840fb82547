"""The options of every verb that reads a table of runs: `add_options(parser)`, then `read(args)`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scaling.fitting.fit import Fit
    from scaling.runs import Runs


def add_options(parser: argparse.ArgumentParser, optional: bool = False) -> None:
    """Add the table, which may be left out where `optional`, and how it is to be read."""
    parser.add_argument(
        "runs",
        nargs="?" if optional else None,
        help="a folder of records, or a table: CSV, JSON, JSONL, Parquet, an export of W&B or TensorBoard, a trainer_state.json",
    )
    group = parser.add_argument_group("reading the table")
    group.add_argument(
        "--columns",
        action="append",
        metavar="FIELD=NAME,...",
        help="which column is N, D, C, loss, loss_se, weight, id, group, ... where its name does not say; a number for NAME "
        "is a constant, nothing leaves the field alone",
    )
    group.add_argument(
        "--units",
        action="append",
        metavar="FIELD=UNIT,...",
        help="unit of N, D or C: ones, millions, billions, a factor",
    )
    group.add_argument(
        "--count",
        choices=("N", "N_nonembedding", "N_matmul"),
        help="which parameters N counts (default: all where known)",
    )
    group.add_argument(
        "--flops-as", choices=("exact", "6ND"), help="6ND: ignore the table's C; exact: believe it where it is not 6ND"
    )
    group.add_argument(
        "--checkpoints",
        choices=("end", "all"),
        default="end",
        help="of training curves take the end of each run (default), or all points, grouped by run",
    )
    group.add_argument(
        "--join", metavar="TABLE", help="a table with one row a run, for curves that do not hold N themselves"
    )


def read(args: argparse.Namespace) -> Runs:
    """The runs that the options name; what a person should know of them goes to stderr."""
    from scaling.runs import Runs

    runs = Runs.read(
        args.runs,
        pairs(args.columns, "--columns"),
        count=args.count,
        flops=args.flops_as,
        units=pairs(args.units, "--units"),
        checkpoints=args.checkpoints,
        join=args.join,
    )
    for note in runs.notes:
        print(f"note: {note}", file=sys.stderr)
    return runs


def note_other_fits(args: argparse.Namespace, runs: Runs, fits: Mapping[Path, Fit]) -> None:
    """Say on stderr which of the fits in these files are of other runs than those that were read."""
    for path, fit in fits.items():
        if fit.digest != runs.digest:
            print(f"note: {path} was fitted to other runs than {args.runs} ({fit.n} of {fit.source}).", file=sys.stderr)


def pairs(given: Iterable[str] | None, option: str) -> dict[str, str]:
    """`["N=params,loss=eval/loss"]` as a mapping. Raises ValueError for a part without "="."""
    parts = [part for text in given or () for part in text.split(",") if part.strip()]
    for part in parts:
        if "=" not in part:
            raise ValueError(f"{option} {part}: needed FIELD=VALUE, several separated by commas.")
    return {field.strip(): value.strip() for field, _, value in (part.partition("=") for part in parts)}
