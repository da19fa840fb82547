"""The best N and D for a budget in FLOPs, dollars, device-hours, kWh or kg CO2e, or the least budget for a loss.

FIT is a file that `scaling fit` wrote. Published coefficients serve too (--law besiroglu), or your own
(--law E=..,A=..,B=..,alpha=..,beta=..); they come without certificate and intervals. Several budgets may be given; the
answer names the one that binds. C is counted as the law's runs were, in 6ND or in exact FLOPs, and the answer says which.
"""

from __future__ import annotations

import argparse
from typing import Any

from scaling.cli import _planning as planning
from scaling.cli import emit_json
from scaling.cli._tables import duration, print_pairs, print_table

EXAMPLES = """\
examples:
  scaling allocate fits/quickstart-chinchilla.json --flops 1e15
  scaling allocate fits/mine.json --usd 10000 --accelerator h100 --mfu .35:.45 --usd-per-hour 2:4
  scaling allocate fits/mine.json --hours 168 --devices 8 --kwh 900              # the tighter one binds
  scaling allocate --law besiroglu --loss 2.2 --inference-tokens 1e12
  scaling allocate --law besiroglu --flops 1e22 --unique-tokens 25e9
  scaling allocate fits/mine.json --flops 1e20 --whatif
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("fit", nargs="?", metavar="FIT", help="a fit's JSON file")
    parser.add_argument("--law", metavar="NAME|E=..", help="published coefficients, or your own")
    budget = parser.add_argument_group("budgets; several may be given")
    budget.add_argument("--flops", type=float, metavar="X")
    budget.add_argument("--usd", type=float, metavar="X", help="dollars")
    budget.add_argument("--hours", type=float, metavar="X", help="wall-clock, with --devices")
    budget.add_argument("--devices", type=int, metavar="N")
    budget.add_argument("--kwh", type=float, metavar="X")
    budget.add_argument("--kg-co2e", type=float, metavar="X")
    budget.add_argument("--loss", type=float, metavar="L", help="the reverse: the least cost that reaches this loss")
    limits = parser.add_argument_group("what else counts")
    limits.add_argument("--inference-tokens", type=float, default=0.0, metavar="X", help="tokens served afterwards")
    limits.add_argument("--max-params", type=float, metavar="N", help="cap on the parameters")
    limits.add_argument(
        "--max-memory", type=float, metavar="GB", help="cap on weights, gradients and optimiser together"
    )
    limits.add_argument(
        "--total-over-active", type=float, default=1.0, metavar="X",
        help="all parameters over those a token meets (mixture of experts): memory counts all (1)",
    )  # fmt: skip
    limits.add_argument("--fixed-params", type=float, metavar="N", help="the size is given; only D is asked")
    limits.add_argument(
        "--unique-tokens", type=float, metavar="X", help="tokens there are; more are repeats, worth less"
    )
    limits.add_argument("--data-usd-per-token", type=float, default=0.0, metavar="X", help="price of a token of data")
    limits.add_argument(
        "--column", action="append", default=[], metavar="NAME=X",
        help="what else the law knows: bits (P_w=8), idle share (S=.875), granularity (G=8)",
    )  # fmt: skip
    limits.add_argument(
        "--active-share", type=float, default=1.0, metavar="X", help="share of N that a token meets (1)"
    )
    limits.add_argument("--shape", action="store_true", help="snap to a buildable shape and count its exact FLOPs")
    limits.add_argument(
        "--vocab", type=int, metavar="V", help="vocabulary of the shapes, where the fit's runs are not at hand"
    )
    limits.add_argument("--context", type=int, metavar="T", help="context of the shapes")
    planning.add_rates(parser)
    parser.add_argument("--level", type=float, default=0.9, metavar="X", help="of the intervals (0.9)")
    parser.add_argument(
        "--whatif", action="store_true", help="levers side by side: precision, spot, region, serving, ..."
    )
    teach = parser.add_argument_group("a teacher, for --whatif")
    teach.add_argument("--teacher-loss", type=float, metavar="L", help="loss of a model that exists, to distil from")
    teach.add_argument(
        "--teacher-params",
        type=float,
        metavar="N",
        help="its parameters: 2N FLOPs a token, unless its logits are at hand",
    )
    teach.add_argument(
        "--distillation", metavar="FILE|A=..,..",
        help="A, B, alpha, beta, gamma, c0, c1, d1, f1 of Busbridge et al. 2025, as JSON or in a line; none are built in",
    )  # fmt: skip
    parser.add_argument("--force", action="store_true", help="answer from a fit that is not verified")


def run(args: argparse.Namespace) -> int | None:
    """Print the answer."""
    from scaling.planning.allocate import allocate

    planning.require_training(args.precision)
    rates, teacher = planning.rates_of(args), _teacher(args)
    asked = {
        "flops": args.flops, "usd": args.usd, "hours": args.hours, "devices": args.devices, "kwh": args.kwh,
        "kg_co2e": args.kg_co2e, "loss": args.loss, "inference_tokens": args.inference_tokens,
        "max_params": args.max_params, "max_memory_gb": args.max_memory, "total_over_active": args.total_over_active,
        "unique_tokens": args.unique_tokens, "data_usd_per_token": args.data_usd_per_token,
        "fixed_params": args.fixed_params, "shape": args.shape, "price_range": args.usd_per_hour,
        "mfu_range": args.mfu, "level": args.level, "force": args.force, "columns": _columns(args.column),
        "active_share": args.active_share,
    }  # fmt: skip
    subject = _subject(args)
    found = allocate(subject, rates=rates, **asked)
    levers = None
    if args.whatif:
        from scaling.planning.allocate.whatif import whatif

        levers = whatif(subject, found, lambda **changes: planning.rates_of(args, **changes), asked, teacher)
    if args.json:
        return emit_json({**found.to_json(), **({"whatif": [lever.to_json() for lever in levers]} if levers else {})})
    _print(found)
    if levers:
        _print_levers(levers)
    planning.print_facts(rates.facts)
    return None


def _teacher(args: argparse.Namespace) -> Any:
    from scaling.planning.allocate.distillation import Coefficients, Teacher

    if args.teacher_loss is None and args.distillation is None and args.teacher_params is None:
        return None
    if args.teacher_loss is None or args.distillation is None:
        raise ValueError("a teacher needs both --teacher-loss and --distillation, the coefficients of its law.")
    if not args.whatif:
        raise ValueError("a teacher is one of the levers: give --whatif too.")
    return Teacher(args.teacher_loss, Coefficients.read(args.distillation), args.teacher_params)


def _columns(pairs: list[str]) -> dict[str, float]:
    found = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        try:
            found[name] = float(value)
        except ValueError:
            raise ValueError(f"--column {pair}: needed NAME=NUMBER.") from None
    return found


def _subject(args: argparse.Namespace) -> Any:
    from scaling.planning.allocate import Subject
    from scaling.planning.allocate.subject import named

    if (args.fit is None) == (args.law is None):
        raise ValueError(
            "give a fit's file or --law, "
            + ("not both." if args.fit else "e.g. `scaling allocate --law besiroglu --flops 1e21`.")
        )
    if args.law is not None:
        return named(args.law, vocab=args.vocab, context=args.context)
    return Subject.read(args.fit, vocab=args.vocab, context=args.context)


def _print(found: Any) -> None:
    bands = found.intervals or {}
    title = f"{found.label}; {found.currency}; binding: {found.binding}"
    rows = [
        ("N, parameters", planning.count(found.N), "N", planning.count),
        ("D, tokens", planning.count(found.D), "D", planning.count),
        ("tokens a parameter", f"{found.tokens_per_parameter:.4g}", "tokens_per_parameter", _plain),
        ("C, training FLOPs", planning.flops(found.C), "C", planning.flops),
        ("loss, nats a token", f"{found.loss:.4f}", "loss", lambda value: "-" if value is None else f"{value:.4f}"),
        ("device-hours", planning.amount(found.cost.device_hours), "device_hours", planning.amount),
        ("wall-clock", f"{duration(found.cost.seconds)} on {found.cost.devices:,}", "", _plain),
        ("dollars", planning.amount(found.total_usd, "usd"), "usd", lambda value: planning.amount(value, "usd")),
        ("energy, kWh", planning.amount(found.cost.kwh), "kwh", planning.amount),
        ("kg CO2e", planning.amount(found.cost.kg_co2e), "kg_co2e", planning.amount),
    ]
    if found.serving_flops:
        saved = "" if found.saved is None else f", {found.saved:.1%} of all saved by planning for it"
        rows.insert(4, ("serving FLOPs", planning.flops(found.serving_flops) + saved, "", _plain))
    if found.epochs is not None:
        rows.insert(2, ("epochs", f"{found.epochs:.4g}", "", _plain))
    if found.shape is not None:
        shape = found.shape
        dims = f"depth {shape.depth}, width {shape.width}, {shape.heads} heads, {shape.N:,} parameters"
        rows.insert(1, ("shape", dims, "", _plain))
    if bands:
        heads = ("", "", f"{bands['level']:.0%} interval")
        print_table(heads, [(name, text, _band(bands.get(key), show)) for name, text, key, show in rows], title=title)
    else:
        print_pairs([(name, text) for name, text, _, _ in rows], title)
    if found.warnings:
        print_pairs([("!", warning) for warning in found.warnings])
    if found.flat:
        bands = {share: " to ".join(map(planning.count, band)) for share, band in found.flat.items()}
        print_pairs([("flat", "; ".join(f"{band} costs < {share}" for share, band in bands.items()))])
    if found.off:
        print_table(
            ("off by", "N", "loss", "compute lost"),
            [
                (f"{row['k']:g} x", planning.count(row["N"]), _loss(row["loss"]), f"{row['compute_lost']:.1%}")
                for row in found.off
            ],
        )
    if len(found.used) > 1:
        print_pairs([("budgets used", ", ".join(f"{name} {share:.1%}" for name, share in found.used.items()))])
    if found.uncertainty:
        print_pairs([("uncertainty", _uncertainty(found.uncertainty))])


def _uncertainty(split: Any) -> str:
    show = {"usd": lambda x: planning.amount(x, "usd"), "loss": _loss}.get(split["quantity"], planning.amount)
    names = [name for name in ("law", "price", "utilisation", "all") if name in split]
    listed = " listed" if split["assumed"] else ""
    cheapest = {
        "price": f" (the answer is at the lowest{listed} price, intervals with the price run from there to dearer ones)"
    }
    notes = cheapest if split["from_lowest_price"] else {}
    parts = [
        f"{name} alone {_band(split[name], show) or 'nothing'}{notes.get(name, '')}" for name in names if name != "all"
    ]
    together = f"; together {_band(split['all'], show)}" if "all" in split else ""
    low, high = split["mfu_range"]
    at = split["answer_at"]
    answer_at = "" if at["usd_per_hour"] is None else f"{at['usd_per_hour']:.3g} $/h and "
    ranges = (
        f"price {split['price_range'][0]:.3g} to {split['price_range'][1]:.3g} $/h, utilisation {low:.2f} to {high:.2f}, "
        f"the answer at {answer_at}{at['mfu']:.2f}"
    )
    return (
        f"{split['dominant']} dominates the {split['quantity']} ({split['level']:.0%}: {', '.join(parts)}{together}; "
        f"{ranges}; assumed: {', '.join(split['assumptions'])})"
    )


def _band(ends: Any, show: Any) -> str:
    """LOW to HIGH; nothing where they read the same, open where an end is not reached."""
    if not ends:
        return ""
    low, high = (None if end is None else show(end) for end in ends)
    if low == high is not None:
        return ""
    return f"{low or 'open'} to {high or 'open'}"


def _plain(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _loss(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _print_levers(levers: Any) -> None:
    signed = lambda value: "-" if value is None else f"{value:+.1%}"  # noqa: E731
    rows = [
        (
            lever.name,
            "-" if lever.loss is None else f"{lever.loss:+.4f}",
            *map(signed, (lever.usd, lever.kwh, lever.kg_co2e)),
            lever.how,
        )
        for lever in levers
    ]
    columns = ("lever", "loss", "dollars", "kWh", "kg CO2e", "how")
    print_table(columns, rows, title="what if: change against the plan above", words="how")
