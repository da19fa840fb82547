"""Train the cells of a grid that have no record yet.

GRID is a grid.toml, or a folder that holds one: isoFLOP budgets, the sizes trained at each, seeds and a corpus. Every run is
written to OUT as one JSON record when it ends, whole or not at all, so an interrupted sweep goes on where it
stopped: give the same command again. A run that diverges, or fails three times, is recorded as failed, with its reason, and the
sweep goes on. Several of these commands may work on one OUT at once, on any machines that share it: no cell is trained twice.

--executor ray[:ADDRESS] starts the workers on a Ray cluster, slurm[:KEY=VALUE,...] as Slurm jobs with submitit's options
(slurm:timeout_min=240,gpus_per_node=1,slurm_partition=gpu). OUT and the corpus' cache (SCALING_CACHE) must then be shared.
--only takes conditions that must all hold: N<1e6, C=1e12, D/N>20, seed=0, id=..., or any field of the shape or recipe.
Exit status 3 says that cells failed; 130 that the sweep was stopped, by Ctrl-C, SIGTERM, --max-hours or --max-flops.

A grid.toml:
  corpus = "python"             # planted:0, hf:NAME, digest:HEX of a cached one, or a path of text, JSONL, Parquet or token files
  budgets = [1e11, 3e11, 1e12]  # FLOPs; or tokens = [1e6, 4e6], or tokens_per_parameter = [10, 20, 40]
  sizes = [1e4, 2e4, 4e4, 8e4]  # parameters; or tables, { depth = 2, width = 32 }
  # all below is optional
  seeds = [0, 1]
  schedule = "wsd"              # branches of one trunk a size; or "linear" (the default), "cosine", "constant"
  tokenizer = "bpe:4096"        # or "bytes" (the default), or the path of a tokenizer.json
  context = 64                  # as are vocab, eval_tokens, epochs, rule and, for data sets, column
  [heldout]                     # further held-out sets
  code = "path/of/code"
  [shape]                       # of every size: head_width, aspect or depth, mlp_ratio, tied, positions, mlp, kv_heads, ...
  tied = true
  [recipe]                      # fixed for all runs, instead of the rule's
  batch_tokens = 1024
  precision = "bfloat16"        # products and fused attention on a GPU; weights stay float32
  [axes]                        # every cell at each value, or at multiples of the rule's
  learning_rate = { times = [0.5, 1, 2] }
  [[cells]]                     # instead of budgets and sizes above, as is [[isoflop]] with a budget, sizes and seeds
  sizes = [1e5]
  tokens_per_parameter = [20]   # or budgets, or tokens; perhaps seeds and recipe = { ... } of their own
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaling.cli import EXIT_FAILED_CELLS, emit_json
from scaling.cli._tables import duration, memory, print_table
from scaling.cli.progress import sweep_display
from scaling.reporting.numbers import power

if TYPE_CHECKING:
    from scaling.grid import RunSpec
    from scaling.runs import Run
    from scaling.training.sweep import Plan, Status

EXAMPLES = """\
examples:
  scaling sweep grid.toml --out runs/mine --dry-run   # the cells, their FLOPs, the time they would take here
  scaling sweep grid.toml --out runs/mine
  scaling sweep grid.toml --out runs/mine --only "N<1e5,seed=0" --max-hours 8
  scaling sweep grid.toml --out /shared/mine --executor slurm:timeout_min=240,gpus_per_node=1 --devices 16
  scaling fit runs/mine
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("grid", metavar="GRID", help="a grid.toml, or a folder with one")
    parser.add_argument("--out", metavar="DIR", type=Path, help="folder of the records (the grid's own, or runs/NAME)")
    parser.add_argument("--dry-run", action="store_true", help="print the cells, FLOPs and time; train nothing")
    parser.add_argument(
        "--executor", default="local", metavar="NAME", help="local, ray[:ADDRESS] or slurm[:KEY=VALUE,...]"
    )
    parser.add_argument(
        "--devices", "--processes", type=int, metavar="N", help="workers at once, one a core or accelerator"
    )
    parser.add_argument("--only", metavar="CONDITIONS", help='train these cells alone, e.g. "N<1e6,seed=0"')
    parser.add_argument("--max-hours", type=float, metavar="H", help="stop cleanly after so long")
    parser.add_argument(
        "--max-flops", type=float, metavar="C", help="train the cheapest cells that take so much together"
    )
    parser.add_argument("--retry-failed", action="store_true", help="train the cells that failed again")
    parser.add_argument(
        "--keep-checkpoints",
        action="store_true",
        help="from now on, keep the last state of each run (orbax, .sweep/checkpoints)",
    )
    parser.add_argument(
        "--track",
        nargs="+",
        metavar="NAME",
        help="curves to tensorboard or wandb (offline), beside .sweep/curves/ID.jsonl",
    )
    parser.add_argument("--usd-per-hour", type=float, metavar="X", help="price of a device, for --dry-run")
    parser.add_argument("--watts", type=float, metavar="X", help="draw of a device, for --dry-run")


def run(args: argparse.Namespace) -> int | None:
    """Plan, train, and print the table of runs."""
    from scaling.grid import Grid
    from scaling.training import sweep as sweeps
    from scaling.training.state import KEEP, STATE, recorded
    from scaling.workflows import design_warning

    for flag in ("devices", "max_hours", "max_flops"):
        value = getattr(args, flag)
        if value is not None and not value > 0:
            raise ValueError(f"--{flag.replace('_', '-')} {value:g}: needed a number above 0.")
    grid = Grid.read(args.grid)
    out = args.out or (Path(args.grid) if Path(args.grid).is_dir() else Path("runs") / grid.name)
    executor = executor_of(args.executor, args.devices)
    todo = sweeps.plan(grid, out, brief=args.dry_run)
    if args.only:
        todo = todo.only(args.only)
    if args.retry_failed:
        todo = (sweeps.retrying if args.dry_run else sweeps.retry_failed)(todo)
    if args.max_flops:
        todo = todo.within(args.max_flops)
    doubts = design_warning(todo)
    _warn([*todo.warnings, *([doubts] if doubts else [])])
    if args.dry_run:
        return _dry_run(todo, args)
    if args.track is not None:
        from scaling.training.train import choose_trackers

        choose_trackers(args.track, out / STATE)
    if args.keep_checkpoints:
        from scaling.runs import write_whole

        write_whole(out / STATE / KEEP, "")
    again = f"`scaling sweep {args.grid} --out {out}`"
    try:
        with sweep_display() as show, _sigterm_as_ctrl_c():
            done = sweeps.carry_out(todo, executor, _until(args.max_hours, show))
    except KeyboardInterrupt as why:
        done = recorded(out)
        left = sum(spec.id not in done for spec in todo.specs)
        raise KeyboardInterrupt(
            f"{str(why) or 'stopped'} with {left} of {len(todo.specs)} cells left; {again} goes on."
        ) from None
    if args.json:
        emit_json({**_summary(done), "runs": [_row(run) for run in done.records.values()]})
    else:
        print_runs(done)
    left = len(done.specs) - len(done.records)
    if left and args.max_flops:
        raise KeyboardInterrupt(f"stopped at --max-flops with {left} of {len(done.specs)} cells left; {again} goes on.")
    return EXIT_FAILED_CELLS if done.failed else None


def executor_of(name: str, devices: int | None) -> Any:
    """The executor that a flag names. Raises ValueError for one that is unknown."""
    from scaling.training.executors import Local, Ray, Slurm

    kind, _, rest = name.partition(":")
    if kind == "local" and not rest:
        return Local(devices)
    if kind == "ray":
        return Ray(address=rest or None, devices=devices)
    if kind == "slurm":
        pairs = [pair.partition("=") for pair in rest.split(",") if pair]
        if not all(key and value for key, _, value in pairs):
            raise ValueError(
                f"--executor {name!r}: needed slurm:KEY=VALUE,..., e.g. slurm:timeout_min=240,gpus_per_node=1."
            )
        options = {key: int(value) if value.isdigit() else value for key, _, value in pairs}
        return Slurm(devices=devices or Slurm.devices, options=options)
    raise ValueError(f"--executor {name!r}: needed local, ray[:ADDRESS] or slurm[:KEY=VALUE,...].")


def _until(hours: float | None, show: Callable[[Status], None]) -> Callable[[Status], None]:
    """`show`, which also ends the sweep when its time is over."""
    begin = time.monotonic()

    def watch(status: Status) -> None:
        show(status)
        if hours is not None and time.monotonic() - begin > 3600 * hours and status.done + status.failed < status.total:
            raise KeyboardInterrupt("stopped at --max-hours")

    return watch


@contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    """SIGTERM stops as cleanly as Ctrl-C while the block runs."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _dry_run(todo: Plan, args: argparse.Namespace) -> None:
    """Print the cells, what they take and what that costs."""
    from scaling.training import sweep as sweeps
    from scaling.training.executors import Local
    from scaling.workflows import sweep_cost

    local = Local(args.devices)
    seconds = sweeps.estimate_seconds(todo, local)
    cost = sweep_cost(seconds, local.workers, usd_per_hour=args.usd_per_hour, watts=args.watts)
    spent = {"seconds": seconds, "memory_bytes": todo.memory_bytes, "usd": cost.usd, "kwh": cost.kwh,
             "share_of_single": todo.share_of_single, "share_as_branches": todo.share_as_branches,
             "share_by_spacing": {f"{apart:g}": share for apart, share in todo.share_by_spacing.items()}}  # fmt: skip
    if args.json:
        return emit_json({**_summary(todo), **spent, "cells": [_cell(spec, todo) for spec in todo.specs]})
    _print_cells(todo)
    for line in _sharing(todo):
        print(line)
    price = [f"${cost.usd:,.2f}"] if cost.usd is not None else []
    price += [f"{cost.kwh:.3g} kWh"] if cost.kwh is not None else []
    print(
        f"{len(todo.missing)} of {len(todo.specs)} cells to train, {todo.flops:.3g} FLOPs, at most "
        f"{memory(todo.memory_bytes)} a run, about {duration(seconds)} here with {local.workers} at once"
        f"{''.join(f', {each}' for each in price)}. Nothing was trained."
    )
    return None


def _sharing(todo: Plan) -> list[str]:
    """What branches save, or would; nothing where no size has several lengths."""
    if todo.share_as_branches > 0.995:
        return []
    closed = ", ".join(f"{share:.0%} {apart:g}x apart" for apart, share in todo.share_by_spacing.items())
    if todo.share_of_single < 0.995:
        says = f"Branches share their trunks: {todo.share_of_single:.0%} of the FLOPs of one run a cell."
    else:
        says = f'schedule = "wsd" would take {todo.share_as_branches:.0%} of these FLOPs: branches that share a trunk a size.'
    return [says, f"That share for {todo.lengths} lengths a size by how far apart they are: {closed}."]


def print_runs(plan: Plan) -> None:
    """The table of a plan's records, and what failed."""
    columns = ("C", "N", "seed", "D", "D/N", "loss", "± se", "bits/byte", "steps", "time", "tokens/s", "note")
    rows = []
    for run in sorted(plan.records.values(), key=lambda run: (_budget(run.C), run.N, run.id)):
        losses = (run.loss, run.loss_se, run.bits_per_byte)  # bits a byte are unknown where the corpus came as ids
        measured = ["" if each is None else f"{each:.4f}" for each in losses]
        speed = ["", ""] if run.seconds is None else [duration(run.seconds), f"{run.tokens_per_second:,.0f}"]
        note = run.reason or "; ".join(run.flags)
        ratio, seed = f"{run.D / run.N:.1f}", run.spec["seed"]
        rows.append([power(run.C), f"{run.N:,}", seed, f"{run.D:,}", ratio, *measured, f"{run.steps:,}", *speed, note])
    print_table(columns, rows, f"{plan.folder}: {len(plan.records)} of {len(plan.specs)} runs", words="note", keys=3)


def _budget(C: float) -> float:
    return float(f"{C:.2g}")


def _print_cells(plan: Plan) -> None:
    columns = ("C", "N", "seed", "depth", "width", "D", "D/N", "steps", "batch", "rate", "record")
    rows = []
    for spec in plan.specs:
        shape, recipe, record = spec.shape, spec.recipe, plan.records.get(spec.id)
        size = [
            power(spec.C),
            f"{shape.N:,}",
            spec.seed,
            shape.depth,
            shape.width,
            f"{spec.tokens:,}",
            f"{spec.tokens / shape.N:.1f}",
        ]
        how = [f"{spec.steps:,}", recipe.batch_tokens, f"{recipe.learning_rate:.2e}"]
        rows.append([*size, *how, record.status if record else "missing"])
    print_table(columns, rows, f"{plan.grid.name} into {plan.folder}", words="record", keys=3)


def _warn(warnings: Sequence[str]) -> None:
    for warning in warnings:
        print(f"scaling: warning: {warning}", file=sys.stderr)


def _summary(plan: Plan) -> dict[str, Any]:
    return {
        "grid": plan.grid.name,
        "folder": str(plan.folder),
        "corpus": {"name": plan.grid.corpus, "digest": plan.digest},
        "total": len(plan.specs),
        "done": len(plan.records) - len(plan.failed),
        "failed": [{"id": run.id, "N": run.N, "D": run.D, "reason": run.reason} for run in plan.failed],
        "missing": len(plan.missing),
        "flops": plan.flops,
        "warnings": list(plan.warnings),
    }


def _cell(spec: RunSpec, plan: Plan) -> dict[str, Any]:
    record = plan.records.get(spec.id)
    return {"id": spec.id, "N": spec.shape.N, "D": spec.tokens, "C": spec.C, "seed": spec.seed, "steps": spec.steps,
            "status": record.status if record else "missing"}  # fmt: skip


def _row(run: Run) -> dict[str, Any]:
    return {
        key: getattr(run, key) for key in ("id", "status", "N", "D", "C", "loss", "loss_se", "bits_per_byte", "reason")
    }
