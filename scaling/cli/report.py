"""Write the report of a table of runs and the laws fitted to it: one self-contained HTML page, or Markdown.

The page holds the answer with its intervals and warnings, a planner that answers again as budget, hardware, prices and limits are
moved, the figures as vector graphics, the fit cards, the tables, and how to make it again. It needs no network. The first FIT is
the one that answers. An output that ends in .md gets its figures beside it, in `figures/`.
"""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from scaling.cli import _runs, emit_json

EXAMPLES = """\
examples:
  scaling report runs/quickstart fits/quickstart-chinchilla.json -o report.html
  scaling report table.csv fit.json --flops 1e21 --flops 1e22 -o report.html --force
  scaling report runs/quickstart -o report.md               # without a fit: runs and isoFLOP curves only
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `scaling report`."""
    _runs.add_options(parser)
    parser.add_argument("fits", metavar="FIT", type=Path, nargs="*", help="JSON that `scaling fit` wrote")
    parser.add_argument(
        "-o", "--out", type=Path, default=Path("report.html"), metavar="FILE", help=".html or .md (report.html)"
    )
    parser.add_argument("--flops", type=float, action="append", metavar="C",
                        help="budget to answer for, several times for several (10 times the largest trained)")  # fmt: skip
    parser.add_argument("--title", default="Scaling report", help="heading of the report")
    parser.add_argument(
        "--force", action="store_true", help="write over a report, and answer from a fit that is not verified"
    )


def run(args: argparse.Namespace) -> None:
    """Gather, write, say where."""
    from scaling.fitting.fit import Fit
    from scaling.planning.allocate import Subject, allocate
    from scaling.reporting import report
    from scaling.reporting.study import Study

    _check(args)
    runs, fits = _runs.read(args), [Fit.read(path) for path in args.fits]
    _runs.note_other_fits(args, runs, dict(zip(args.fits, fits)))
    asked = args.flops or [10 * float(runs.C.max())]
    subject = Subject.of(fits[0]) if fits else None
    answers = [] if subject is None else [allocate(subject, flops=C, force=args.force) for C in asked]
    study = Study(runs, fits, answers, flops=asked[0], title=args.title, commands=_commands(args))
    path = report.markdown(study, args.out) if args.out.suffix == ".md" else report.html(study, args.out)
    if args.json:
        emit_json(
            {"path": str(path), "bytes": path.stat().st_size, "answers": [answer.to_json() for answer in answers]}
        )
    else:
        print(path)


def _check(args: argparse.Namespace) -> None:
    if args.out.suffix not in (".html", ".md"):
        raise ValueError(f"{args.out}: a report is written as .html or .md.")
    if args.out.exists() and not args.force:
        raise ValueError(f"{args.out} exists; --force writes over it.")
    for C in args.flops or ():
        if not 0 < C < float("inf"):
            raise ValueError(f"--flops {C}: needed a positive number.")


def _commands(args: argparse.Namespace) -> list[str]:
    """The commands that make this report again, as they were given."""
    flops = [word for C in args.flops or () for word in ("--flops", f"{C:g}")]
    title = [] if args.title == "Scaling report" else ["--title", args.title]
    words = ["scaling", "report", str(args.runs), *map(str, args.fits), *flops, *title, "-o", str(args.out), "--force"]
    return [
        *(f"scaling fit {shlex.quote(str(args.runs))} -o {shlex.quote(str(fit))}" for fit in args.fits),
        shlex.join(words),
    ]
