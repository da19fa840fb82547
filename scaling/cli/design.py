"""Which runs to train next, for a question about a large budget: N*, D*/N* or the loss at C FLOPs.

Runs are bought so that the answer's variance is least for the FLOPs spent, on average over laws that are plausible now: those
of a fit's resamples (--prior FIT), or around published coefficients (--law NAME), or around what was measured on bytes. RUNS
are runs already at hand (a folder of records or a table). --check tells what RUNS, or a grid.toml that is not trained
yet, can say about the question.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from scaling.cli import _planning as planning
from scaling.cli import emit_json
from scaling.cli._tables import print_pairs, print_table

EXAMPLES = """\
examples:
  scaling design --at 1e14 --flops 1e13 --max-run 1e12 -o runs/next/grid.toml   # from nothing
  scaling sweep runs/next
  scaling design runs/quickstart --prior fits/quickstart-chinchilla.json --at 1e14 --flops 1e13
  scaling design --check runs/quickstart --at 1e14                              # before a FLOP is spent
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("runs", nargs="?", metavar="RUNS", help="runs at hand; with --check also a grid.toml")
    parser.add_argument("--check", action="store_true", help="what these runs can tell, instead of which to buy")
    question = parser.add_argument_group("question")
    question.add_argument("--target", choices=("N", "ratio", "loss"), default="N", help="N*, D*/N* or the loss (N)")
    question.add_argument("--at", type=float, metavar="C", required=True, help="the budget it is asked for, FLOPs")
    prior = parser.add_argument_group("what is known")
    prior.add_argument("--prior", metavar="FIT", help="a fit's JSON file")
    prior.add_argument("--law", metavar="NAME|E=..", help="published coefficients, or your own")
    prior.add_argument(
        "--noise", type=float, metavar="X", help="relative seed noise of a loss (from repeats, else .004)"
    )
    prior.add_argument("--vocab", type=int, metavar="V", help="vocabulary of the shapes (256)")
    prior.add_argument("--context", type=int, metavar="T", help="context of the shapes (64)")
    spend = parser.add_argument_group("what may be spent")
    spend.add_argument("--flops", type=float, metavar="X", help="all runs together")
    spend.add_argument("--max-run", type=float, metavar="X", help="one run (a fifth of all)")
    spend.add_argument("--reach", type=float, default=8.0, metavar="K", help="sizes within K x of the best (8)")
    spend.add_argument("--max-seeds", type=int, default=3, metavar="N", help="runs of one cell (3)")
    parser.add_argument("-o", "--out", type=Path, metavar="FILE", help="write the grid.toml that `scaling sweep` takes")
    parser.add_argument("--corpus", metavar="NAME", help="for the grid.toml (that of RUNS, else python)")
    parser.add_argument("--force", action="store_true", help="write over a grid.toml that is there")


def run(args: argparse.Namespace) -> int | None:
    """Print the design, or what the runs can tell."""
    from scaling.planning.design import AtHand, Target, check, design, noise_of, resampled

    _require(args)
    subject = _prior(args)
    hand = None if args.runs is None else AtHand.read(args.runs)
    currency = subject.currency if hand is None else hand.currency
    target = Target(args.target, args.at, currency)
    trusted = args.prior is not None
    noise, origin = (args.noise, "given") if args.noise else noise_of(subject, hand, target, trusted)
    options: dict[str, Any] = {"prior": subject.law, "laws": resampled(subject), "noise": noise}
    about = f"prior: {subject.label}; noise {noise:.2%} of a loss, {origin}; {currency}"
    if args.check:
        assert hand is not None
        return _show_check(check(hand.N, hand.D, target, **options), hand.source, about, args.json)
    had = None if hand is None else (hand.N, hand.D)
    found = design(
        target, flops=args.flops, max_run=args.max_run, had=had, reach=args.reach, max_seeds=args.max_seeds, **options
    )
    if args.out is not None:
        _write(found, args, hand)
    if args.json:
        return emit_json({**found.to_json(), "out": args.out and str(args.out), "about": about})
    _show_design(found, about, args.out)
    return None


def _require(args: argparse.Namespace) -> None:
    if args.check and args.runs is None:
        raise ValueError("--check needs runs: a folder of records, a table or a grid.toml.")
    if not args.check and args.flops is None:
        raise ValueError("give --flops, what all experiments together may take (or --check to look at runs).")
    if args.prior and args.law:
        raise ValueError("--prior and --law are two priors: give one.")
    for name in ("vocab", "context"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise ValueError(f"{name} = {value}: needed a whole number of 1 or more.")
    if args.noise is not None and not 0 < args.noise < 1:
        raise ValueError(f"noise = {args.noise:g}: needed a share of the loss between 0 and 1.")
    if args.out is not None and args.out.exists() and not args.force:
        raise ValueError(f"{args.out} exists. Choose another name, or write over it with --force.")


def _prior(args: argparse.Namespace) -> Any:
    from scaling.planning.allocate import Currency, Subject
    from scaling.planning.allocate.subject import named
    from scaling.planning.design import BYTES

    sizes = {"vocab": args.vocab or 256, "context": args.context or 64}
    if args.prior:
        return Subject.read(args.prior, vocab=args.vocab, context=args.context)
    exact = Currency("exact", "N", **sizes)
    if args.law:
        published = named(args.law)
        return Subject(published.law, published.label, exact)
    return Subject(BYTES, "bytes of Python at 1e12 FLOPs, exponents .35", exact)


def _write(found: Any, args: argparse.Namespace, hand: Any) -> None:
    from scaling.runs import write_whole

    out = args.out
    name = out.resolve().parent.name if out.stem == "grid" else out.stem
    corpus = args.corpus or (hand and hand.corpus) or "python"
    write_whole(out, found.grid(name, corpus, hand.free_seed if hand else 0).toml())


_NAMES = {"N": "N*", "ratio": "D*/N*", "loss": "the loss"}


def _sentence(expected: Any) -> str:
    value = {"N": planning.count, "ratio": lambda x: f"{x:.3g}", "loss": lambda x: f"{x:.4f}"}[expected.target]
    known, worst = planning.factor(expected.factor), planning.factor(expected.worst)
    return (
        f"{_NAMES[expected.target]} at {planning.flops(expected.C)} FLOPs, {expected.decades:.1f} decades beyond the "
        f"largest run, to within x/ {known} (90%; {worst} under nine in ten plausible "
        f"laws; the prior says {value(expected.value)})"
    )


def _show_check(expected: Any, source: str, about: str, as_json: bool) -> None:
    if as_json:
        return emit_json({**expected.to_json(), "source": source, "about": about})
    verdict = "can answer" if expected.answers else "CANNOT ANSWER"
    pairs = [
        (verdict, _sentence(expected)),
        ("runs", f"{expected.runs}, {planning.flops(expected.flops)} FLOPs together"),
        ("condition", f"{expected.condition:.3g}" + _judge(expected.condition)),
        (
            "corr(log N, log D)",
            f"{expected.correlation:.2f}" + ("  (above .95)" if expected.correlation > 0.95 else ""),
        ),
        ("if the law holds", about),
    ]
    print_pairs(pairs, source)
    if not expected.answers:
        advice = "`scaling design RUNS --at C --flops X` says which runs to add; the spread of D/N counts most."
        print_pairs([("remedy", advice)])
    return None


def _judge(condition: float) -> str:
    return "  (N and D cannot be told apart: spread D/N)" if condition > 1e5 else "  (weak)" if condition > 2e3 else ""


def _show_design(found: Any, about: str, out: Path | None) -> None:
    print_table(
        ("FLOPs a run", "N", "depth", "width", "D", "D/N", "runs"),
        [
            (
                planning.flops(cell.C),
                planning.count(cell.N),
                cell.shape.depth,
                cell.shape.width,
                planning.count(cell.D),
                f"{cell.D / cell.N:.3g}",
                seeds,
            )
            for cell, seeds in found.cells
        ],
        title=f"{sum(seeds for _, seeds in found.cells)} runs, {planning.flops(found.flops)} FLOPs",
    )
    pairs = [("will tell", _sentence(found.expected))]
    if found.before is not None:
        pairs.append(("at hand", f"x/ {planning.factor(found.before.factor)} now"))
    if found.even is not None:
        even = found.even
        pairs.append(
            (
                "even grid",
                f"x/ {planning.factor(even.factor)} with {even.runs} runs, {planning.flops(even.flops)} FLOPs",
            )
        )
    pairs.append(("if the law holds", about))
    pairs.append(("grid", f"{out}" if out else "not written: -o grid.toml writes what `scaling sweep` takes"))
    print_pairs(pairs)
