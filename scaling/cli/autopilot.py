"""Design, sweep, fit, again, until the answer to a question about a large budget is sharp enough or the budget is spent.

The question is N*, D*/N* or the loss at --at FLOPs; --factor says how sharp the answer shall be, --flops what all runs
together may take. Round K lies in OUT/round-K with its grid.toml and records, the fit to all runs so far in OUT/fit-K.json.
Interrupted, it goes on where it stopped when given again, and no run is trained twice. It uses only what `scaling design`,
`scaling sweep` and `scaling fit` do.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaling.cli import EXIT_FAILED_CELLS, emit_json
from scaling.cli import _planning as planning
from scaling.cli._tables import print_pairs, print_table

if TYPE_CHECKING:
    from scaling.workflows import Round

EXAMPLES = """\
examples:
  scaling autopilot --at 1e14 --flops 1e13 --factor 1.3 --out runs/auto
  scaling autopilot --at 1e14 --flops 3e13 --factor 1.3 --out runs/auto   # the same again, with more to spend
  scaling autopilot --at 1e14 --target loss --factor 1.02 --flops 1e13 --like runs/mine/grid.toml
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    question = parser.add_argument_group("question")
    question.add_argument("--at", type=float, required=True, metavar="C", help="the budget it is asked for, FLOPs")
    question.add_argument("--target", choices=("N", "ratio", "loss"), default="N", help="N*, D*/N* or the loss (N)")
    question.add_argument(
        "--factor", type=float, default=1.3, metavar="F", help="stop when known within x/ F, 90%% (1.3)"
    )
    spend = parser.add_argument_group("what may be spent")
    spend.add_argument("--flops", type=float, required=True, metavar="X", help="all runs together")
    spend.add_argument("--max-run", type=float, metavar="X", help="one run (a tenth of all)")
    grids = parser.add_argument_group("how the runs are trained")
    grids.add_argument("--corpus", metavar="NAME", help="a corpus' name or path (python)")
    grids.add_argument(
        "--like", metavar="GRID", help="a grid.toml with the corpus, recipe, context and evaluation to use"
    )
    grids.add_argument("--processes", type=int, metavar="N", help="runs trained at once (on CPU one a core)")
    parser.add_argument("--out", type=Path, default=Path("autopilot"), metavar="DIR", help="folder (autopilot)")


def run(args: argparse.Namespace) -> int | None:
    """Go round until it is known, then print what each round came to know."""
    from dataclasses import replace

    from scaling.cli.progress import note, sweep_display
    from scaling.grid import Grid
    from scaling.planning.allocate import Currency
    from scaling.planning.design import Target
    from scaling.training.executors import Local
    from scaling.workflows import autopilot

    like = Grid.read(args.like) if args.like else Grid("autopilot", ())
    like = replace(like, corpus=args.corpus) if args.corpus else like
    sizes = {(shape.vocab, shape.context) for curve in like.curves for shape in curve.shapes}
    if len(sizes) > 1:
        raise ValueError(
            f"{args.like}: shapes of several vocabularies or contexts, {sorted(sizes)}: give a grid of one."
        )
    target = Target(args.target, args.at, Currency("exact", "N", *next(iter(sizes), ())))
    again = f"`scaling autopilot --out {args.out}` with the same flags goes on where it stopped"
    try:
        with sweep_display() as show:
            rounds = autopilot(
                args.out, target, flops=args.flops, factor=args.factor, max_run=args.max_run, like=like,
                executor=Local(args.processes), watch=show, told=lambda done: note(_line(done, args)),
            )  # fmt: skip
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"stopped; {again}.") from None
    if args.json:
        emit_json(_payload(rounds, args))
    else:
        _print(rounds, args)
    return EXIT_FAILED_CELLS if any(each.plan.failed for each in rounds) else None


def _line(done: Round, args: argparse.Namespace) -> str:
    return f"{done.folder}: {len(done.runs)} runs, {planning.flops(done.flops)} FLOPs so far; {_known(done, args)}"


def _known(done: Round, args: argparse.Namespace) -> str:
    if done.fit is None:
        return f"no fit yet ({done.why})"
    value = planning.count(done.value) if args.target == "N" else f"{done.value:.4g}"
    name = {"N": "N*", "ratio": "D*/N*", "loss": "the loss"}[args.target]
    return f"{name} = {value} within x/ {planning.factor(done.factor)}" + (f"; {done.why}" if done.why else "")


def _payload(rounds: tuple[Round, ...], args: argparse.Namespace) -> dict[str, Any]:
    last = rounds[-1]
    return {
        "target": args.target,
        "C": args.at,
        "value": last.value if last.fit else None,
        "factor": last.factor if last.factor < float("inf") else None,
        "asked": args.factor,
        "stopped": last.stopped,
        "flops": last.flops,
        "fit": str(last.fit_path) if last.fit else None,
        "rounds": [
            {
                "folder": str(each.folder),
                "runs": len(each.runs),
                "failed": len(each.plan.failed),
                "flops": each.flops,
                "value": each.value if each.fit else None,
                "factor": each.factor if each.factor < float("inf") else None,
                "fit": str(each.fit_path) if each.fit else None,
                "why": each.why,
            }
            for each in rounds
        ],
    }


def _print(rounds: tuple[Round, ...], args: argparse.Namespace) -> None:
    rows = [(each.folder, len(each.runs), planning.flops(each.flops), _known(each, args)) for each in rounds]
    title = f"{len(rounds)} round{'s'[: len(rounds) > 1]}; asked: within x/ {args.factor:g} at {planning.flops(args.at)} FLOPs"
    print_table(("round", "runs so far", "FLOPs so far", "known (90%)"), rows, title, words="known (90%)")
    last = rounds[-1]
    pairs = [("stopped", last.stopped or "")]
    if last.fit is not None:
        pairs += [("fit", str(last.fit_path)), ("next", f"scaling allocate {last.fit_path} --flops {args.at:g}")]
    print_pairs(pairs)
