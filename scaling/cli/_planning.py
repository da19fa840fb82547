"""What the planning verbs share on the command line: the flags of hardware, place and price, and numbers as people say them."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable
from typing import Any

from scaling.cli._tables import print_table
from scaling.hardware import BYTES, TRAINING_PRECISIONS
from scaling.planning.cost.rates import (
    DEFAULT_ACCELERATOR,
    DEFAULT_MFU,
    LIFETIME_UTILISATION,
    LIFETIME_YEARS,
    PRICES,
    Preemption,
    Rates,
)


def span(text: str) -> tuple[float, float]:
    """A number above 0, or LO:HI of such; argparse's type for what is uncertain."""
    low, _, high = text.partition(":")
    try:
        found = float(low), float(high or low)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: needed a number, or LO:HI") from None
    if not all(0 < end < math.inf for end in found):
        raise argparse.ArgumentTypeError(f"{text!r}: needed a number above 0, or LO:HI with both above 0")
    if not found[0] <= found[1]:
        raise argparse.ArgumentTypeError(f"{text!r}: LO:HI needs LO below HI")
    return found


def share_span(text: str) -> tuple[float, float]:
    """A span of shares, which are at most 1; argparse's type."""
    found = span(text)
    if found[1] > 1:
        raise argparse.ArgumentTypeError(f"{text!r}: needed a share in (0, 1], or LO:HI of shares, e.g. .35:.45")
    return found


def middle(range_: tuple[float, float] | None) -> float | None:
    """The middle of a span; None of None."""
    return None if range_ is None else (range_[0] + range_[1]) / 2


def middle_price(range_: tuple[float, float] | None) -> float | None:
    """The middle of a span of prices, which differ by factors: the geometric mean."""
    return None if range_ is None else math.sqrt(range_[0] * range_[1])


def number_or_name(text: str) -> float | str:
    """A number where it is one, else the text."""
    try:
        return float(text)
    except ValueError:
        return text


def add_rates(parser: argparse.ArgumentParser) -> None:
    """The flags that say which device, where, at what price."""
    chip = parser.add_argument_group("hardware")
    chip.add_argument("--accelerator", metavar="NAME", help=f"`scaling cost --list` names them ({DEFAULT_ACCELERATOR})")
    chip.add_argument("--precision", choices=[*BYTES], default="bf16", help="of the arithmetic (bf16)")
    chip.add_argument("--peak-tflops", type=float, metavar="X", help="dense peak, instead of the table's")
    chip.add_argument(
        "--mfu", type=share_span, default=(DEFAULT_MFU,) * 2, metavar="X[:Y]",
        help=f"share of peak that trains, 6ND over peak x running hours; a range is an uncertainty ({DEFAULT_MFU})",
    )  # fmt: skip
    chip.add_argument("--goodput", type=float, default=1.0, metavar="X", help="share of allocated hours that run (1)")
    price = parser.add_argument_group("price")
    price.add_argument("--price", choices=PRICES, default="on-demand", help="which list price (on-demand)")
    price.add_argument(
        "--usd-per-hour", type=span, metavar="X[:Y]", help="dollars a device-hour; a range is an uncertainty"
    )
    price.add_argument(
        "--preempted-every", type=float, metavar="HOURS", help="mean hours between preemptions (spot: 8)"
    )
    price.add_argument("--save-minutes", type=float, metavar="X", help="to write a checkpoint (2)")
    price.add_argument("--restart-minutes", type=float, metavar="X", help="to come back after a preemption (10)")
    place = parser.add_argument_group("energy and carbon")
    place.add_argument(
        "--watts", type=float, metavar="X", help="average draw a device, all in: no other factor but PUE"
    )
    place.add_argument("--server-factor", type=float, metavar="X", help="server over chips, on top of the watts")
    place.add_argument("--region", metavar="NAME", help="grid and PUE of a country or cloud region (us)")
    place.add_argument(
        "--pue", type=number_or_name, metavar="X|OPERATOR", help="facility over computers: 1.1, google, aws"
    )
    place.add_argument("--g-per-kwh", type=float, metavar="X", help="grams of CO2e a kWh")
    place.add_argument(
        "--idle-watts", type=float, default=0.0, metavar="X", help="draw a device of machines standing by (0)"
    )
    place.add_argument("--embodied", action="store_true", help="count the chip's published carbon of manufacture")
    place.add_argument(
        "--embodied-kg", type=float, metavar="X", help="kg CO2e of making one device and its part of the server"
    )
    years, busy = LIFETIME_YEARS, LIFETIME_UTILISATION
    place.add_argument(
        "--lifetime-years", type=float, metavar="X", help=f"to spread those kg over, not published carbon ({years:g})"
    )
    place.add_argument("--lifetime-utilisation", type=float, metavar="X", help=f"busy share of that life ({busy:g})")
    own = parser.add_argument_group("your own facts")
    own.add_argument("--accelerators", metavar="CSV", help="rows with the columns of the shipped accelerators.csv")
    own.add_argument("--regions", metavar="CSV", help="rows with the columns of the shipped regions.csv")


def rates_of(args: argparse.Namespace, *, default: str | None = DEFAULT_ACCELERATOR, **changes: Any) -> Rates:
    """The rates that the flags describe, with `changes`; `default` is the accelerator where none is named."""
    accelerator = args.accelerator or (None if args.peak_tflops else default)
    same = (
        "precision", "goodput", "price", "peak_tflops", "watts", "server_factor", "region", "pue", "g_per_kwh", "idle_watts",
        "embodied_kg", "embodied", "lifetime_years", "lifetime_utilisation", "accelerators", "regions",
    )  # fmt: skip
    told = {
        **{name: getattr(args, name) for name in same},
        "mfu": middle(args.mfu),
        "usd_per_hour": middle_price(args.usd_per_hour),
        "preemption": _preemption(args),
    }
    return Rates.of(accelerator, **{**told, **changes})


def _preemption(args: argparse.Namespace) -> Preemption | None:
    given = {
        "mean_hours": args.preempted_every,
        "save_hours": None if args.save_minutes is None else args.save_minutes / 60,
        "restart_hours": None if args.restart_minutes is None else args.restart_minutes / 60,
    }
    given = {name: value for name, value in given.items() if value is not None}
    return Preemption(**given) if given else None


def require_training(precision: str) -> None:
    """Raise ValueError for a precision that only serves."""
    if precision not in TRAINING_PRECISIONS:
        raise ValueError(
            f"precision = {precision}: nothing is trained in it, it only serves. Train in {', '.join(TRAINING_PRECISIONS)}; "
            "`scaling cost --serve-precision` is for the weights that are served."
        )


def count(value: float | None) -> str:
    """A number as people say it, 124.4M or 6.78B; powers of ten from 1e16 on; a dash where missing."""
    if value is None:
        return "-"
    for size, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if size <= value < 1e16:
            return f"{value / size:.4g}{suffix}"
    return f"{value:.4g}".replace("e+", "e")


def flops(value: float | None) -> str:
    """FLOPs as 5.699e+21 without the plus sign."""
    return "-" if value is None else f"{value:.4g}".replace("e+", "e")


def factor(value: float) -> str:
    """How far off by a factor, as 1.25."""
    return f"{value:.3g}" if value < 1e3 else "more than 1000"


def amount(value: float | None, unit: str = "") -> str:
    """Money, energy, hours: thousands separated, three or more digits; a dash where missing."""
    if value is None:
        return "-"
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"${text}" if unit == "usd" else f"{text} {unit}".rstrip()


def print_facts(facts: Iterable[Any]) -> None:
    """What an answer rests on: value, source, date."""
    rows = [(fact.name, fact.value, fact.source, fact.date) for fact in facts]
    if rows:
        print_table(("rests on", "value", "source", "date"), rows, words="value,source,date")
