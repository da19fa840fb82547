"""From nothing to a fitted law: train a small isoFLOP grid on this machine, fit it, draw it, answer.

The models are byte-level transformers of 5,000 to 200,000 parameters on Python source that is already installed; on two cores
it takes minutes. Everything lands in one folder: a record a run, the fit, the figures (PNG and PDF) and a report.
Interrupted, it goes on where it stopped when given again.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaling.cli import EXIT_FAILED_CELLS, emit_json
from scaling.cli._tables import duration, print_pairs, print_table

if TYPE_CHECKING:
    from scaling.fitting.isoflop import Frontier
    from scaling.fitting.laws import Law
    from scaling.workflows import Answer

EXAMPLES = """\
examples:
  scaling quickstart
  scaling quickstart --out /tmp/first-law --seed 1
  scaling report quickstart/runs quickstart/chinchilla.json -o report.html
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("--out", type=Path, default=Path("quickstart"), metavar="DIR", help="folder (quickstart)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="another S, other seeds throughout (0)")
    parser.add_argument("--processes", type=int, metavar="N", help="runs trained at once (on CPU one a core)")


def run(args: argparse.Namespace) -> int | None:
    """Do it all, then print the table and the paths to look at."""
    import time
    from dataclasses import replace

    from scaling.cli.progress import note, sweep_display
    from scaling.training.executors import Local
    from scaling.workflows import quickstart, quickstart_grid

    begin = time.perf_counter()
    grid = quickstart_grid()
    if args.seed:
        shifted = tuple(replace(c, seeds=tuple(1000 * args.seed + seed for seed in c.seeds)) for c in grid.curves)
        grid = replace(grid, curves=shifted)
    note(f"training {len(grid.specs('-'))} models into {args.out / 'runs'}; a few minutes on two cores")
    try:
        with sweep_display() as show:
            answer = quickstart(args.out, grid, Local(args.processes), show)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"stopped; `scaling quickstart --out {args.out}` goes on where it stopped.") from None
    if args.json:
        emit_json(_payload(answer, time.perf_counter() - begin))
    else:
        _print(answer, time.perf_counter() - begin)
    return EXIT_FAILED_CELLS if answer.plan.failed else None


def _payload(answer: Answer, seconds: float) -> dict[str, Any]:
    return {
        "runs": str(answer.folder / "runs"),
        "fit": str(answer.fit_path),
        "page": str(answer.page_path),
        "report": str(answer.report_path),
        "done": len(answer.runs),
        "failed": [{"id": run.id, "reason": run.reason} for run in answer.plan.failed],
        "seconds": seconds,
        "law": {"law": answer.fit.to_json()["law"], "params": answer.fit.params},
        "approach2": answer.frontier.to_json() if answer.frontier else None,
        "allocation": answer.allocation.to_json(),
    }


def _print(answer: Answer, seconds: float) -> None:
    if answer.frontier:
        _print_vertices(answer.frontier, answer.fit.law)
    else:
        print(f"scaling: warning: no Approach 2: {answer.no_frontier}", file=sys.stderr)
    N, D = answer.allocation.N, answer.allocation.D
    print()
    print(
        "L(N, D) = E + A/N^alpha + B/D^beta with " + ", ".join(f"{k} = {v:.4g}" for k, v in answer.fit.params.items())
    )
    print(
        f"With {answer.allocation.C:.2e} FLOPs, ten times the largest budget here, the law would train N = {N:,.0f} on "
        f"D = {D:,.0f} tokens and expects a loss of {answer.allocation.loss:.3f}."
    )
    for warned in answer.fit.warnings:
        print(f"scaling: warning: {warned.name}: {warned.message} {warned.remedy}", file=sys.stderr)
    print()
    named = (("page", answer.page_path), ("report", answer.report_path), ("figures", answer.folder / "figures"))
    last = (("fit", answer.fit_path), ("runs", answer.folder / "runs"))
    print_pairs([(name, str(path)) for name, path in (*named, *last)])
    print(f"\n{len(answer.runs)} runs, {duration(seconds)} in all.")


def _print_vertices(frontier: Frontier, law: Law) -> None:
    rows = []
    for vertex in frontier.vertices:
        if vertex.N is None or vertex.D is None or vertex.loss is None:
            rows.append([f"{vertex.C:.2e}", vertex.runs, *[""] * 5, vertex.left_out])
            continue
        ratio = f"{vertex.D / vertex.N:.1f}"
        found = [
            f"{vertex.N:,.0f}",
            f"{vertex.D:,.0f}",
            ratio,
            f"{vertex.loss:.4f}",
            f"{law.loss(vertex.N, vertex.D):.4f}",
        ]
        rows.append([f"{vertex.C:.2e}", vertex.runs, *found, vertex.left_out or ""])
    columns = ("budget, FLOPs", "runs", "N*", "D*", "D*/N*", "loss", "law says", "note")
    print_table(columns, rows, "isoFLOP curves: the minimum of each", words="note")
