"""Law against law on held-out compute, every law under one harness: the same runs, objective, starts and folds.

Hold-out: fit the runs below a C, predict those from it on. Rolling: predict each budget from all smaller ones. A law
cannot be told apart from the best one where the paired difference of their rolling errors is within two standard errors;
what such laws disagree about at a larger C is what the data leave open.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from scaling.cli._runs import add_options, read

if TYPE_CHECKING:
    from scaling.fitting.compare import Comparison, Contender
    from scaling.fitting.laws import Law
    from scaling.fitting.objective import Objective

EXAMPLES = """\
examples:
  scaling compare table.csv
  scaling compare table.csv --hold-out 1e20 --hold-out 1e21 --at 1e24
  scaling compare runs/quickstart --laws chinchilla,kaplan --objective squared --json
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `scaling compare`."""
    add_options(parser)
    parser.add_argument("--laws", metavar="NAME,...", help="which laws (default: all that the table has columns for)")
    parser.add_argument(
        "--hold-out",
        type=float,
        action="append",
        default=[],
        metavar="FLOPS",
        help="fit the runs below this C, predict the others (default: a tenth of the largest)",
    )
    parser.add_argument(
        "--at", type=float, metavar="FLOPS", help="compare the answers here (default: ten times the largest C)"
    )
    parser.add_argument("--objective", default="log-huber", help="the same for all laws (log-huber)")
    parser.add_argument("--delta", type=float, help="of a Huber objective (1e-3 for log-huber)")
    parser.add_argument("--starts", type=int, default=200, help="starts a fit (200)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the starts")


def run(args: argparse.Namespace) -> int | None:
    """Compare, print."""
    from scaling import cli
    from scaling.fitting.compare import compare

    for flops in (*args.hold_out, *([] if args.at is None else [args.at])):
        if not 0 < flops < float("inf"):
            raise ValueError(f"{flops:g} FLOPs: --hold-out and --at need a positive number.")
    if args.starts < 1:
        raise ValueError("--starts: needed at least one.")
    runs = read(args)
    found = compare(
        runs,
        _laws(args.laws),
        _objective(args.objective, args.delta),
        hold_out=args.hold_out,
        at=args.at,
        starts=args.starts,
        seed=args.seed,
    )
    if args.json:
        cli.emit_json(found.to_json() | {"digest": runs.digest})
        return None
    _print_errors(found)
    _print_params(found)
    _print_verdict(found)
    return None


def _laws(names: str | None) -> list[type[Law]] | None:
    from scaling.fitting.laws import LAWS

    if names is None:
        return None
    unknown = [name for name in names.split(",") if name not in LAWS]
    if unknown:
        raise ValueError(f"--laws {unknown[0]}: known are {', '.join(LAWS)}.")
    return [LAWS[name] for name in names.split(",")]


def _objective(name: str, delta: float | None) -> Objective:
    from scaling.fitting.objective import OBJECTIVES

    if name not in OBJECTIVES:
        raise ValueError(f"--objective {name}: known are {', '.join(OBJECTIVES)}.")
    if delta is None:
        return OBJECTIVES[name]()
    if not hasattr(OBJECTIVES[name], "delta"):
        raise ValueError(f"--delta: {name} has none.")
    return OBJECTIVES[name](delta=delta)  # pyright: ignore[reportCallIssue]


def _print_errors(found: Comparison) -> None:
    from scaling.cli._tables import print_table
    from scaling.reporting.numbers import count, power

    cuts = [prediction.fold for prediction in max((c.hold_out for c in found.contenders), key=len)]
    columns = ["law", "free", "objective", *(f"C >= {power(fold.low)} ({fold.held_out})" for fold in cuts), "rolling"]
    columns += ["behind the best", "", f"N* at {power(found.C)}", "D/N"]
    rows = []
    for contender in found.contenders:
        if contender.law is None:
            continue
        errors = [_percent(prediction.error) for prediction in contender.hold_out]
        behind = (
            "-"
            if contender.behind is None
            else f"{100 * contender.behind:+.3f}% ± {100 * (contender.behind_se or 0):.3f}"
        )
        verdict = {True: "worse", False: "not told apart", None: "-"}[contender.told_apart]
        N, D = contender.answer or (None, None)
        answer = ["-", "-"] if N is None or D is None else [count(N), f"{D / N:.3g}"]
        value = f"{contender.value:.6g}" + ("" if contender.verified else " (not verified)")
        rows.append(
            [
                contender.name,
                len(contender.params),
                value,
                *errors,
                _percent(contender.rolling_error),
                behind,
                verdict,
                *answer,
            ]
        )
    print(f"mean relative error of predicted losses; {found.objective.describe}; {found.n} runs")
    print_table(columns, rows)
    print()
    for contender in found.contenders:
        _explain(contender)


def _explain(contender: Contender) -> None:
    if contender.why is not None:
        print(f"{contender.name}: left out: {contender.why}", file=sys.stderr)
    for prediction in (*contender.hold_out, *contender.rolling):
        if prediction.why is not None:
            print(
                f"{contender.name}: no prediction of C >= {prediction.fold.low:.3g}: {prediction.why}", file=sys.stderr
            )


def _print_params(found: Comparison) -> None:
    from scaling.cli._tables import print_pairs

    pairs = [
        (contender.name, "  ".join(f"{name} {value:.5g}" for name, value in contender.params.items()))
        for contender in found.contenders
        if contender.law is not None
    ]
    print_pairs(pairs, title="Coefficients on all runs")
    print()


def _print_verdict(found: Comparison) -> None:
    same = list(found.cannot_tell_apart)
    if sum(contender.rolling_error is not None for contender in found.contenders) < 2:
        print("fewer than two laws made every rolling prediction: nothing to tell apart.")
        return
    if len(same) < 2:
        print(f"best: {same[0]}; every other law predicts worse.")
        return
    answers = [c.answer[0] for c in found.contenders if c.name in same and c.answer is not None]
    spread = (
        f"; their N* at {found.C:.3g} FLOPs differ by {max(answers) / min(answers):.2f}x" if len(answers) > 1 else ""
    )
    print(f"these runs cannot tell apart: {', '.join(same)}{spread}.")


def _percent(value: float | None) -> Any:
    return "-" if value is None else f"{100 * value:.3f}%"
