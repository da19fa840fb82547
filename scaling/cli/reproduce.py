"""Re-run a published analysis: what the paper gives, what is found here, and the difference.

besiroglu: Besiroglu et al. 2024, the refit of Hoffmann et al.'s law with its bootstrap errors. hoffmann: the three approaches
of Hoffmann et al. 2022, on the runs of their Figure 4. czech: the bias of Approach 2, Czech et al. 2026; needs no
data. kyo: the example of the package `chinchilla`. The tables of runs come from --data, from the folder in SCALING_DATA, or
are fetched once by a pinned address and checksum.
"""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scaling.fitting.published.studies import Row, Study

EXAMPLES = """\
examples:
  scaling reproduce czech
  scaling reproduce besiroglu --data ../shared/data
  SCALING_DATA=~/tables scaling reproduce hoffmann --json
"""

NAMES = ("besiroglu", "hoffmann", "czech", "kyo")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `scaling reproduce`."""
    parser.add_argument("study", choices=NAMES, help="which analysis")
    parser.add_argument("--data", metavar="FOLDER", help="folder with the published tables of runs")
    parser.add_argument("--resamples", type=int, help="bootstrap refits of besiroglu (4000, as in the paper)")


def run(args: argparse.Namespace) -> int | None:
    """Run the study, print it."""
    from scaling import cli
    from scaling.fitting.published.studies import STUDIES

    options = {}
    if args.resamples is not None:
        if args.study != "besiroglu" or args.resamples < 100:
            raise ValueError("--resamples: for besiroglu, 100 or more.")
        options["resamples"] = args.resamples
    study = STUDIES[args.study](args.data, **options)
    if args.json:
        cli.emit_json(study.to_json())
        return None
    _print(study)
    return None


def _print(study: Study) -> None:
    from scaling.cli._tables import print_table

    print(study.source)
    print()
    for title, rows in study.parts.items():
        cells = [
            [row.what, f"{row.published:.7g}", _digits(row), f"{row.difference:+.2g}", "" if row.agrees else "differs"]
            for row in rows
        ]
        print_table(["", "published", "found", "difference", " "], cells, title=title)
        print()
    for note in study.notes:
        print(note)
    agreeing = sum(row.agrees for row in study.rows)
    print(f"{agreeing} of {len(study.rows)} numbers agree within what the paper's digits or intervals allow.")


def _digits(row: Row) -> str:
    """The number found, to two digits more than it must agree in."""
    digits = max(0, 2 - math.floor(math.log10(row.within)))
    return f"{round(row.found, digits) + 0.0:.{digits}f}"
