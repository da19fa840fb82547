"""Draw one figure of a table of runs, or of a fitted law, into a .png, .pdf or .svg.

KIND, of the runs alone or with a law beside:
  isoflop          loss against N at each budget, vertices, the law's own curve
  power-laws       N*, D* and D/N against C, with bootstrap bands and published laws
  training-curves  loss against compute so far, with Approach 1's envelope
  comparison       laws on held-out compute
  pareto           loss against FLOPs, hours, dollars, kWh, kg CO2e
  valleys          loss against the learning rate, one valley a size
KIND, of a FIT:
  surface          the law's loss over N and D, the runs, the efficient frontier
  residuals        observed over predicted loss against N, D, C
  corner, answers  the bootstrap's coefficients; its N*, D*, loss and exponent
  profiles         profile likelihoods
  flatness         which sizes lose next to nothing at a budget
  being-off        what a size k times the best costs
  design           where the runs lie, which to train next, what they can tell
  floor            fitted E less the known floor of a planted corpus
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from scaling.cli import _runs, emit_json

if TYPE_CHECKING:
    from scaling.reporting.frontiers import Best

EXAMPLES = """\
examples:
  scaling plot isoflop runs/quickstart fits/quickstart-chinchilla.json -o isoflop.pdf
  scaling plot residuals runs/quickstart fits/quickstart-chinchilla.json -o residuals.png
  scaling plot power-laws runs.csv fit.json --beside hoffmann-2022 --beside llama-3 -o frontier.pdf
  scaling plot flatness my_runs.csv my_fit.json --flops 1e21 -o flat.svg --dark
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `scaling plot`."""
    parser.add_argument("kind", metavar="KIND", help="which figure: one of those above")
    _runs.add_options(parser)
    parser.add_argument("fit", metavar="FIT", type=Path, nargs="?", help="a fit's JSON; most figures need one")
    parser.add_argument(
        "-o", "--out", type=Path, metavar="FILE", help="where to: .png, .pdf or .svg (default KIND.png)"
    )
    parser.add_argument(
        "--flops", type=float, metavar="C", help="budget of answers, flatness, being-off (default 10 x trained)"
    )
    parser.add_argument(
        "--beside",
        action="append",
        metavar="LAW",
        help="what to draw beside in power-laws: kaplan-2020, hoffmann-2022, besiroglu-2024, llama-3 (all four where nothing "
        "is said), a published law, or none",
    )
    parser.add_argument("--dark", action="store_true", help="light ink on dark paper")


def run(args: argparse.Namespace) -> None:
    """Draw and write. Raises ValueError where the figure could only say what it lacks."""
    from contextlib import nullcontext

    from scaling.fitting.fit import Fit
    from scaling.reporting import figures
    from scaling.reporting.study import Study

    if args.kind not in figures.KINDS:
        raise ValueError(f"no figure {args.kind!r}; there are {', '.join(figures.KINDS)}.")
    if args.flops is not None and not 0 < args.flops < float("inf"):
        raise ValueError(f"--flops {args.flops}: needed a positive number.")
    fits = {} if args.fit is None else {args.fit: Fit.read(args.fit)}
    runs = _runs.read(args)
    _runs.note_other_fits(args, runs, fits)
    study = Study(runs, list(fits.values()), flops=args.flops, beside=_beside(args.beside))
    with figures.dark() if args.dark else nullcontext():
        figure = figures.KINDS[args.kind].of(study)
        if lacks := figures.lacks(figure):
            raise ValueError(f"nothing to draw. {lacks}")
        path = figures.save(figure, args.out or Path(f"{args.kind}.png"))
    if args.json:
        emit_json({"figure": args.kind, "path": str(path)})
    else:
        print(path)


def _beside(names: Sequence[str] | None) -> tuple[Best, ...]:
    """The published best sizes of these names; the usual ones where none is given."""
    from scaling.reporting.frontiers import USUAL, named

    if names is None:
        return tuple(USUAL.values())
    return tuple(named(name) for name in names if name != "none")
