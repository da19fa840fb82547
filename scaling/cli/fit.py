"""Fit a law to a table of runs: coefficients with intervals, a certificate, warnings; writes fits/<name>-<law>.json."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

EXAMPLES = """\
examples:
  scaling fit runs/quickstart
  scaling fit table.csv --law chinchilla --json
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `scaling fit`."""
    parser.add_argument("runs", help="a folder of records, or a CSV, JSON, JSONL or Parquet table")
    parser.add_argument("--law", default="chinchilla", help="the law's name")
    parser.add_argument("--resamples", type=int, default=4000, help="bootstrap refits (0 for none)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the bootstrap")
    parser.add_argument("-o", "--output", help="where to write the fit")


def run(args: argparse.Namespace) -> int | None:
    """Fit, print, write."""
    from scaling import cli
    from scaling.fitting import laws
    from scaling.fitting.fit import fit
    from scaling.runs import Runs

    runs = Runs.read(args.runs)
    found = fit(runs, laws.LAWS[args.law], resamples=args.resamples, seed=args.seed)
    path = found.write(args.output or Path("fits") / f"{Path(args.runs).stem}-{args.law}.json")
    if args.json:
        payload = found.to_json()
        payload.pop("draws")
        cli.emit_json(payload | {"path": str(path)})
    else:
        print(found.law, found.objective.describe, f"written to {path}")
    print(f"wrote {path}", file=sys.stderr)
    return None
