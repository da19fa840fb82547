"""Fit a law to a table of runs: coefficients with intervals, a certificate, warnings; writes fits/<name>-<law>.json.

The certificate gives three verdicts: converged (the optimality residual is at most 1e-8 and the Hessian positive), global
evidence (starts over the whole box agree and no other optimum comes near), identifiable (the runs tell the coefficients
apart). A fit with warnings is still written, with exit status 0; one that the runs cannot identify at all is refused.
"""

from __future__ import annotations

import argparse

from scaling.cli import _runs

EXAMPLES = """\
examples:
  scaling fit runs/quickstart                              # a folder of records
  scaling fit table.csv --flops 1e24 --plan 70e9,1.4e12    # any table; the answer at a budget, the loss of a planned run
  scaling fit table.csv --objective huber --delta 0.01     # another objective; printed with the answer
  scaling fit table.csv --pin E=1.69 --tie alpha=beta --bound beta=.1:.6 --prior alpha=.34:.02
  scaling fit table.csv --law data-constrained --columns U=unique_tokens
  scaling fit --from fits/table-chinchilla.json            # do it again, and compare with what the file says
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `scaling fit`."""
    _runs.add_options(parser, optional=True)
    parser.add_argument("--from", dest="again", metavar="FIT", help="make this fit again from its table, and compare")
    parser.add_argument("--law", default="chinchilla", help="the law (default chinchilla; a wrong name lists all)")
    what = parser.add_argument_group("what is minimised")
    what.add_argument(
        "--objective",
        default="log-huber",
        help="log-huber (default), huber, squared, log-squared, absolute, asymmetric",
    )
    what.add_argument(
        "--delta", type=float, help="where Huber turns from square to linear (log-huber 1e-3, huber 1e-2 nats)"
    )
    what.add_argument("--weight", type=float, help="asymmetric: how much more a law above the run counts (default 10)")
    what.add_argument(
        "--weigh-by-se",
        action="store_true",
        help="weigh runs by their loss_se, where these errors are independent; runs of one sweep share their held-out tokens",
    )
    what.add_argument("--reduction", choices=("sum", "mean"), default="sum", help="over runs (default sum)")
    known = parser.add_argument_group("what is known beforehand; several separated by commas")
    known.add_argument("--pin", action="append", metavar="E=1.69", help="hold a coefficient still")
    known.add_argument("--tie", action="append", metavar="alpha=beta", help="make one coefficient equal another")
    known.add_argument("--bound", action="append", metavar="beta=.1:.6", help="keep a coefficient between two values")
    known.add_argument(
        "--prior", action="append", metavar="alpha=.34:.02", help="what is known of it, with its standard error"
    )
    how = parser.add_argument_group("how sure, and of what")
    how.add_argument("--resamples", type=int, default=4000, help="bootstrap refits (default 4000; 0 for none)")
    how.add_argument(
        "--by", help="what the bootstrap draws: run, budget, or a column (default: the column group, if any)"
    )
    how.add_argument("--level", type=float, default=0.9, help="level of the intervals (default 0.9)")
    how.add_argument("--starts", type=int, default=500, help="starts over the whole box (default 500)")
    how.add_argument("--seed", type=int, default=0, help="seed of starts and bootstrap (default 0)")
    how.add_argument(
        "--rivals",
        metavar="LAW,...",
        help="other laws beside: their answers, and whether the runs tell them apart by predicting each budget from those "
        "below (default: those near the law; `all` for every one that the table has columns for, a few seconds each)",
    )
    how.add_argument("--no-rivals", action="store_true", help="the law by itself")
    how.add_argument(
        "--flops", type=float, action="append", metavar="C", help="a budget to answer for; may be repeated"
    )
    how.add_argument(
        "--plan", action="append", metavar="N,D", help="a planned run: its loss, as mean law and as new run"
    )
    parser.add_argument("-o", "--output", help="where to write the fit (default fits/<name>-<law>.json)")
    parser.add_argument("--force", action="store_true", help="overwrite a different fit of that name")


def run(args: argparse.Namespace) -> int | None:
    """Fit, print, write; or make a fit again."""
    if (args.runs is None) == (args.again is None):
        raise ValueError("give a table or folder of runs, or --from FIT; one of the two.")
    from scaling.cli.fit.again import again
    from scaling.cli.fit.anew import anew

    again(args) if args.again else anew(args)
