"""The compute-optimal frontier by Approaches 1 and 2 of Hoffmann et al. 2022, beside Approach 3.

Approach 1 is the envelope of training curves (or of the runs of each size, where the table has no curves); Approach 2 a
parabola through the losses of each budget. Each budget's vertex is shown, with the reason where it is left out. Beside
them stands the law (fitted here, or from --law) and the bias that Approach 2 has on this very grid, computed from it.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from scaling.cli._runs import add_options, read

if TYPE_CHECKING:
    from scaling.fitting.isoflop import Bias, Frontier
    from scaling.fitting.laws import Law
    from scaling.runs import Runs

EXAMPLES = """\
examples:
  scaling isoflop runs/quickstart
  scaling isoflop table.csv --at 1e24                   # the bias carried on to a planned budget
  scaling isoflop table.csv --law fits/table-chinchilla.json --json
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `scaling isoflop`."""
    add_options(parser)
    parser.add_argument(
        "--at", type=float, action="append", default=[], metavar="FLOPS", help="also show N*, D* and the bias here"
    )
    parser.add_argument(
        "--law", help="law for Approach 3 and the bias: a fit's JSON or a published name (default: fitted here)"
    )
    parser.add_argument(
        "--inner",
        type=float,
        default=0.5,
        help="part of the trained sizes, in log N, in which a vertex counts (0.5; 1: all; inf: anywhere)",
    )
    parser.add_argument("--tolerance", type=float, default=0.1, help="runs within this in log C are one budget (0.1)")


def run(args: argparse.Namespace) -> int | None:
    """Find the frontiers and the bias, print them."""
    from scaling import cli
    from scaling.fitting import isoflop
    from scaling.fitting.solve import FitError

    for flops in args.at:
        if not 0 < flops < float("inf"):
            raise ValueError(f"--at {flops}: needed a positive number of FLOPs.")
    if not args.inner > 0 or not args.tolerance > 0:
        raise ValueError("--inner and --tolerance: needed positive numbers.")
    named = None if args.law is None else _named(args.law)
    runs = read(args)
    first, why_not_1 = _attempt(lambda: isoflop.approach1(runs))
    second, why_not_2 = _attempt(lambda: isoflop.approach2(runs, inner=args.inner, tolerance=args.tolerance))
    if first is None and second is None:
        raise FitError(f"neither approach applies. Approach 1: {why_not_1} Approach 2: {why_not_2}")
    law, why_no_law = _attempt(lambda: named or _fitted(runs))
    bias, why_no_bias = None, why_no_law or why_not_2
    if law is not None and second is not None:
        bias, why_no_bias = _attempt(
            lambda: isoflop.bias(runs, law, args.at, inner=args.inner, tolerance=args.tolerance)
        )
    if second is not None:
        _warn_of_noise(second, runs)
    if args.json:
        cli.emit_json(
            {
                "approach1": first.to_json() if first else {"error": why_not_1},
                "approach2": second.to_json() if second else {"error": why_not_2},
                "law": law.to_json() if law else {"error": why_no_law},
                "bias": bias.to_json() if bias else {"error": why_no_bias},
                "optimum": _answers(args.at, first, second, law, runs),
                "digest": runs.digest,
                "n": len(runs),
            }
        )
        return None
    _print_laws(first, second, law, args.law or f"fitted to {len(runs)} runs", bias)
    for name, why in (("Approach 1", why_not_1), ("Approach 2", why_not_2), ("law", why_no_law), ("bias", why_no_bias)):
        if why:
            print(f"{name}: {why}", file=sys.stderr)
    if second is not None:
        _print_vertices(second)
    if first is not None:
        _print_edges(first)
    if bias is not None:
        _print_bias(bias)
    for answer in _answers(args.at, first, second, law, runs):
        _print_answer(answer)
    return None


def _attempt(find: Any) -> tuple[Any, str | None]:
    """What was found, or the reason that it could not be."""
    from scaling.fitting.solve import FitError

    try:
        return find(), None
    except FitError as error:
        return None, " ".join(str(error).split())


def _named(name: str) -> Law:
    """The law in a fit's JSON, or published under this name."""
    from scaling.fitting.fit import Fit
    from scaling.fitting.published import PUBLISHED

    if name in PUBLISHED:
        return PUBLISHED[name].law
    if not name.endswith(".json"):
        raise ValueError(f"--law {name}: needed a fit's JSON or one of {', '.join(PUBLISHED)}.")
    return Fit.read(name).law


def _fitted(runs: Runs) -> Law:
    from scaling.fitting.fit import fit

    return fit(runs, resamples=0).law


def _answers(
    at: Sequence[float], first: Frontier | None, second: Frontier | None, law: Law | None, runs: Runs
) -> list[dict[str, Any]]:
    """The best N and D of each approach at some budgets."""
    from scaling.fitting.counting import Counting

    best = {name: each.optimum for name, each in (("approach1", first), ("approach2", second)) if each is not None}
    if law is not None and at:
        best["approach3"] = partial(Counting.of(runs).optimum, law)
    found = []
    for C in at:
        sizes = {name: map(float, optimum(C)) for name, optimum in best.items()}
        found.append({"C": C} | {name: {"N": N, "D": D} for name, (N, D) in sizes.items()})
    return found


def _print_laws(
    first: Frontier | None, second: Frontier | None, law: Law | None, source: str, bias: Bias | None
) -> None:
    from scaling.cli._tables import print_table

    rows = [_frontier_row(f"Approach {found.approach}", found) for found in (first, second) if found is not None]
    if law is not None and hasattr(law, "exponents"):
        a, b = law.exponents
        G_N, G_D = (float(size) for size in law.optimum(1.0))
        rows.append([f"Approach 3 ({law.name})", f"{a:.4f}", f"{b:.4f}", f"{G_N:.4g}", f"{G_D:.4g}", source])
    print_table(
        ["", "a", "b", "G_N", "G_D", "from"],
        rows,
        title="N* = G_N C^a, D* = G_D C^b; the law's at C = 6ND",
        words="from",
    )
    print()
    if second is not None and bias is not None:
        rest = second.a - bias.a_law - (bias.a - bias.a_law)
        print(
            f"Approach 2's a is {second.a - bias.a_law:+.4f} from the law's on these budgets: {bias.a - bias.a_law:+.4f} is its "
            f"bias on this grid, {rest:+.4f} noise and misfit.\n"
        )


def _frontier_row(name: str, found: Frontier) -> list[str]:
    a = f"{found.a:.4f}" + (f" ± {found.a_se:.4f}" if found.a_se is not None else "")
    kept = f"{found.seen}; {len(found.kept)} of {len(found.vertices)} minima kept"
    return [name, a, f"{found.b:.4f}", f"{found.G_N:.4g}", f"{found.G_D:.4g}", kept]


def _print_vertices(found: Frontier) -> None:
    from scaling.cli._tables import print_table
    from scaling.reporting.numbers import count, power

    rows = []
    for vertex in found.vertices:
        sizes = ["-"] * 5
        if vertex.N is not None and vertex.D is not None and vertex.loss is not None:
            depth = f"{vertex.depth:.4f}" + ("" if vertex.depth_se is None else f" ± {vertex.depth_se:.4f}")
            sizes = [count(vertex.N), count(vertex.D), f"{vertex.loss:.4f}", f"{vertex.D / vertex.N:.3g}", depth]
        why = "kept" if vertex.kept else f"left out: {vertex.left_out}"
        rows.append([power(vertex.C), str(vertex.runs), *sizes, why])
    print_table(["C", "runs", "N*", "D*", "loss", "D/N", "depth", ""], rows, title="Approach 2: vertices", words="")
    print()


def _warn_of_noise(found: Frontier, runs: Runs) -> None:
    """Say which valleys are shallow beside their error over the held-out tokens, and how many tokens would do."""
    noisy = [vertex for vertex in found.kept if vertex.more_tokens > 1]
    if not noisy:
        return
    worst = max(noisy, key=lambda vertex: vertex.more_tokens)
    tokens = math.ceil(runs.table["eval_tokens"].to_numpy().max() * worst.more_tokens)
    print(
        f"scaling: warning: at {len(noisy)} of {len(found.kept)} budgets the held-out tokens leave the valley's depth uncertain "
        f"by over a tenth; at {worst.C:.2g} FLOPs {worst.depth:.2g} +- {worst.depth_se:.2g}. "
        f"eval_tokens = {tokens:,} would do.",
        file=sys.stderr,
    )


def _print_edges(found: Frontier) -> None:
    kinds = ["edge minimum" if str(v.left_out).startswith("edge") else "fewer than three sizes" for v in found.vertices]
    for kind in dict.fromkeys(kinds):
        left_out = [vertex.left_out is not None and name == kind for vertex, name in zip(found.vertices, kinds)]
        if any(left_out):
            spans = ", ".join(
                " to ".join(dict.fromkeys(f"{end:.3g}" for end in ends))
                for ends in _spans([v.C for v in found.vertices], left_out)
            )
            print(f"Approach 1: {kind} at {sum(left_out)} of {len(left_out)} values of C, left out: {spans} FLOPs.")
    print()


def _spans(C: list[float], inside: list[bool]) -> list[tuple[float, float]]:
    """The stretches of C that are inside."""
    spans: list[tuple[float, float]] = []
    for value, now, before in zip(C, inside, [False, *inside]):
        if now:
            spans = [*spans[:-1], (spans[-1][0], value)] if before else [*spans, (value, value)]
    return spans


def _print_bias(bias: Bias) -> None:
    from scaling.cli._tables import print_table
    from scaling.reporting.numbers import power

    rows = [[power(C), f"{100 * N:+.2f}%", f"{100 * D:+.2f}%"] for C, N, D in bias.errors]
    print_table(["C", "N*", "D*"], rows, title="Bias of Approach 2 on this grid, were the law the truth")
    print()


def _print_answer(answer: dict[str, Any]) -> None:
    from scaling.cli._tables import print_table
    from scaling.reporting.numbers import count, power

    rows = [
        [f"Approach {name[-1]}", count(size["N"]), count(size["D"]), f"{size['D'] / size['N']:.3g}"]
        for name, size in answer.items()
        if name != "C"
    ]
    print_table(["", "N*", "D*", "D/N"], rows, title=f"At {power(answer['C'])} FLOPs")
    print()
