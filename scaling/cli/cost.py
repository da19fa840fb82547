"""Dollars, device-hours, kWh, kg CO2e and memory of training and serving.

TARGET is a folder of runs, a grid.toml that is not trained yet, one run's record, or a published model (gpt-3,
llama-3-8b, mixtral-8x7b, ...). Without it, say what is computed: --flops; --params with --tokens; --device-hours; or
--devices with --hours. Time and money follow from 6ND over peak x utilisation, which is what published utilisations mean;
exact FLOPs are shown beside.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from scaling.cli import _planning as planning
from scaling.cli import emit_json
from scaling.cli._tables import duration, print_pairs, print_table
from scaling.hardware import BYTES, Accelerator, Region

EXAMPLES = """\
examples:
  scaling cost --params 7e9 --tokens 1.4e12 --accelerator a100 --devices 512
  scaling cost llama-3-8b --tokens 1.5e13 --devices 1024 --region us-central1
  scaling cost --device-hours 82432 --watts 400 --pue 1.1 --g-per-kwh 385      # LLaMA-7B: 36 MWh, 14 t
  scaling cost --flops 3.14e23 --accelerator h200 --devices 1024 --price spot
  scaling cost runs/quickstart --report --watts 65 --usd-per-hour .1
  scaling cost --list
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("target", nargs="?", metavar="TARGET", help="a folder of runs, a record, or a published model")
    work = parser.add_argument_group("work")
    work.add_argument("--flops", type=float, metavar="X", help="training FLOPs")
    work.add_argument("--params", type=float, metavar="N", help="parameters, all of them")
    work.add_argument(
        "--active-params", type=float, metavar="N", help="parameters that a token meets (mixture of experts)"
    )
    work.add_argument("--tokens", type=float, metavar="D", help="training tokens")
    work.add_argument("--inference-tokens", type=float, metavar="X", help="tokens served afterwards, 2N FLOPs each")
    work.add_argument("--device-hours", type=float, metavar="X", help="device-hours, instead of FLOPs")
    work.add_argument("--devices", type=int, metavar="N", help="devices that share the work")
    work.add_argument("--hours", type=float, metavar="X", help="hours that the devices run")
    memory = parser.add_argument_group("memory")
    memory.add_argument("--serve-precision", choices=[*BYTES], help="of the served weights (as trained)")
    memory.add_argument(
        "--sequences", type=float, default=1, metavar="X", help="contexts in flight over all devices (1)"
    )
    memory.add_argument("--remat", choices=("none", "selective", "full"), default="none", help="recomputed activations")
    planning.add_rates(parser)
    parser.add_argument("--report", action="store_true", help="of a folder of runs: each run, totals, Pareto fronts")
    parser.add_argument("--list", action="store_true", help="the tables of accelerators and regions, with sources")


def run(args: argparse.Namespace) -> int | None:
    """Print what it costs."""
    if args.list:
        return _list(args)
    if args.target and Path(args.target).exists():
        from scaling.planning.cost.efficiency import planned

        grid = planned(args.target)
        return _records(args) if grid is None else _grid(args, grid)
    if args.target and ("/" in args.target or args.target.endswith((".json", ".toml"))):
        raise ValueError(f"{args.target}: no such folder or file.")
    if args.report:
        raise ValueError("--report needs a folder of runs, e.g. `scaling cost runs/quickstart --report`.")
    return _plan(args)


def _plan(args: argparse.Namespace) -> None:
    from scaling.planning.cost import cost
    from scaling.planning.cost.plan import Work

    work = Work.of(
        args.target,
        flops=args.flops,
        params=args.params,
        active_params=args.active_params,
        tokens=args.tokens,
        inference_tokens=args.inference_tokens,
    )
    timed = args.device_hours is not None or args.hours is not None
    rates = planning.rates_of(args, default=None if timed else planning.DEFAULT_ACCELERATOR)
    if timed and work.flops is not None:
        raise ValueError(
            f"FLOPs ({work.flops:.3g}{'' if args.flops else ', from the model and its tokens'}) and device-hours are both "
            "given: the utilisation tells one from the other. Give one."
        )
    if work.flops is not None:
        planning.require_training(args.precision)
    if args.serve_precision and work.N is None:
        raise ValueError("--serve-precision needs --params (or a model): how many weights are there to store?")
    spent = cost(rates, flops=work.total_flops, device_hours=args.device_hours, devices=args.devices, hours=args.hours)
    memory = work.memory(args.precision, args.serve_precision, args.sequences)
    if args.json:
        return emit_json(
            {**spent.to_json(), **work.to_json(), "memory": memory and memory.to_json(rates.memory_gb, args.remat)}
        )
    _print_cost(spent, work)
    if memory is not None:
        print_table(("memory", "GB", "devices"), memory.rows(rates.memory_gb))
    planning.print_facts(rates.facts)
    return None


def _print_cost(spent: Any, work: Any) -> None:
    rows = [
        ("FLOPs", f"{planning.flops(spent.flops)}{work.note}", "flops"),
        ("device-hours", f"{planning.amount(spent.device_hours)} on {spent.rates.accelerator or 'this device'}", ""),
        ("wall-clock", f"{duration(spent.seconds)} on {spent.devices:,} device{'s'[: spent.devices > 1]}", ""),
        ("dollars", planning.amount(spent.usd, "usd"), "usd"),
        ("energy", planning.amount(spent.kwh, "kWh"), "kwh"),
        ("CO2e", planning.amount(spent.kg_co2e, "kg"), "kg_co2e"),
        ("  operational", planning.amount(spent.kg_operational, "kg"), ""),
        ("  idle", planning.amount(spent.kg_idle, "kg"), ""),
        ("  embodied", planning.amount(spent.kg_embodied, "kg"), "kg_embodied"),
    ]
    why = {field: f"  ({reason})" for field, reason in spent.missing.items()}
    print_pairs([(name, text + why.get(field, "")) for name, text, field in rows])


def _grid(args: argparse.Namespace, grid: Any) -> None:
    """A sweep that is not trained yet: its exact FLOPs at the utilisation that is given."""
    from scaling.planning.cost import cost
    from scaling.planning.cost.plan import Work

    if args.report:
        raise ValueError(
            f"{args.target} has no records yet, so there is nothing to report. Leave --report out for a plan."
        )
    specs = grid.specs("")
    rates = planning.rates_of(args)
    work = Work(flops=float(sum(spec.C for spec in specs)))
    spent = cost(rates, flops=work.flops, devices=args.devices)
    if args.json:
        return emit_json({**spent.to_json(), "runs": len(specs), "grid": grid.name})
    _print_cost(spent, work)
    print_pairs([("planned", f"{len(specs)} runs of {grid.name}, exact FLOPs, none trained yet")])
    planning.print_facts(rates.facts)
    return None


def _records(args: argparse.Namespace) -> None:
    from scaling.planning.cost.efficiency import AXES, accelerator_of, efficiency, read_records

    clash = [flag for flag in ("flops", "params", "tokens", "device_hours", "hours") if getattr(args, flag) is not None]
    if clash:
        raise ValueError(
            f"{args.target} are runs that were measured, and --{clash[0].replace('_', '-')} describes another: give one."
        )
    rates = planning.rates_of(args, default=accelerator_of(read_records(args.target)))
    report = efficiency(args.target, rates)
    if args.json:
        total = report.total
        spent = {**total, "flops": total["C"], "seconds": total["device_hours"] and total["device_hours"] * 3600}
        return emit_json({**report.to_json(), **spent})
    heads = ("", "runs", "FLOPs", "device-hours", "usd", "kWh", "kg CO2e")
    groups = (("finished", report.done), ("failed", report.failed), ("all", report.total))
    print_table(
        heads,
        [(name, f"{group['runs']:.0f}", planning.flops(group["C"]), *(planning.amount(group[axis]) for axis in AXES[1:]))
         for name, group in groups],
        title=f"{report.folder} on {', '.join(report.devices) or 'a device that the records do not name'}",
    )  # fmt: skip
    names = {"C": "FLOPs", "device_hours": "device-hours", "usd": "dollars", "kwh": "energy", "kg_co2e": "CO2e"}
    print_pairs(
        [
            (f"  {part}", planning.amount(hours, "h" if hours is not None else "not clocked"))
            for part, hours in report.hours.items()
        ],
        "device-hours of all runs",
    )
    print_pairs([(names[axis], how) for axis, how in report.obtained.items()], "how each was obtained")
    if args.report:
        _print_runs(report)
    planning.print_facts(rates.facts)
    return None


def _print_runs(report: Any) -> None:
    from scaling.planning.cost.efficiency import AXES

    heads = (
        "run",
        "status",
        "N",
        "D",
        "FLOPs",
        "loss",
        "device-hours",
        "usd",
        "kWh",
        "kg CO2e",
        "on the Pareto front of",
    )
    rows = []
    for each in sorted(report.runs, key=lambda run: (run.C, run.N)):
        counts = (planning.count(each.N), planning.count(each.D), planning.flops(each.C))
        loss = "-" if each.loss is None else f"{each.loss:.4f}"
        amounts = [planning.amount(each.axis(axis)) for axis in AXES[1:]]
        fronts = [axis for axis in AXES if each.id in report.fronts[axis]]
        rows.append((each.id, each.status, *counts, loss, *amounts, ", ".join(fronts) or "-"))
    print_table(heads, rows, title="runs", words="status,on the Pareto front of")


def _list(args: argparse.Namespace) -> None:
    from dataclasses import asdict

    chips, places = Accelerator.all(args.accelerators), Region.all(args.regions)
    if args.json:
        rows = {"accelerators": [asdict(chip) for chip in chips], "regions": [asdict(place) for place in places]}
        return emit_json(rows)
    rates = ("fp32", "tf32", "bf16", "fp8", "int8")
    print_table(
        ("accelerator", *rates, "GB", "TB/s", "W"),
        [
            (
                chip.name,
                *(_show(getattr(chip, rate)) for rate in rates),
                *map(_show, (chip.memory_gb, chip.bandwidth_tb_s, chip.watts)),
            )
            for chip in chips
        ],
        title="TFLOP/s, dense",
    )
    print_table(
        ("accelerator", "on demand", "committed", "spot", "priced", "source of the rates"),
        [
            (
                chip.name,
                _show(chip.usd_on_demand, chip.usd_on_demand_high),
                _show(chip.usd_committed, chip.usd_committed_high),
                _show(chip.usd_spot),
                chip.price_date or "-",
                _cited(chip),
            )
            for chip in chips
        ],
        title="dollars a device-hour",
        words="source of the rates",
    )
    print_table(
        ("region", "kind", "g CO2e/kWh", "PUE", "source"),
        [(each.name, each.kind, _show(each.g_per_kwh), _show(each.pue), _cited(each)) for each in places],
        words="kind,source",
    )
    return None


def _show(value: float | None, high: float | None = None) -> str:
    return "-" if value is None else f"{value:g}" + (f" to {high:g}" if high else "")


def _cited(row: Accelerator | Region) -> str:
    return ", ".join(filter(None, (row.source, row.source_date)))
