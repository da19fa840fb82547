"""An accelerator's two measurements: `python benchmarks/accelerator.py`; `--smoke` tries both on anything in a minute.

Wide: training FLOP/s of models at least 1024 wide in bf16, over the device's dense peak: each batch that fits is tried, the
best counts; the target on one H200 is 45%. Many: for N under 1e6 in float32, tokens per second of packs of runs that differ in
seed, under vmap and under lax.map, summed over the pack, over those of one run at a time; the target is 8 times.

Times are of compiled chunks of steps, after one step that is not timed, on bytes of the corpus `python` (or `--corpus`),
which lie on the device. FLOPs are exact: 6 a parameter of a matrix product and token, causal attention as half of the full
one. Prints JSON on standard output, what it does on standard error, and writes accelerator.json beside itself, row by row, but
for `--smoke`. One process a device: set CUDA_VISIBLE_DEVICES where there are several, for the peak is that of one.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax

from scaling.grid import RunSpec
from scaling.recipe import RULES
from scaling.runs import to_json, write_whole
from scaling.shape import Shape
from scaling.training.corpus import Corpus
from scaling.training.train import OutOfMemory, cost, measure
from scaling.training.train.many import chunk_seconds
from scaling.training.train.schedule import chunk_steps

HERE = Path(__file__).with_suffix(".json")

#: depth, width, head width, context. Heads 128 wide fill cuDNN's tiles, 64 is the default of the ladder.
WIDE = ((12, 1024, 64, 1024), (12, 1024, 128, 1024), (12, 2048, 128, 2048))
BATCHES = (16_384, 65_536, 262_144)

#: N of the models of which many are trained at once, and how many.
MANY, PACKS = (1e4, 1e5, 8e5), (8, 64, 256)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="tiny models, two at once: does it run at all?")
    parser.add_argument("--only", choices=("wide", "many"), help="one of the two")
    parser.add_argument("--seconds", type=float, default=5.0, help="at least so long a timing")
    parser.add_argument("--corpus", default="python")
    args = parser.parse_args(argv)
    corpus = Corpus.of(args.corpus)
    wide, batches, many, packs = WIDE, BATCHES, MANY, PACKS
    if args.smoke:
        wide, batches, many, packs, args.seconds = ((1, 16, 16, 16),), (32, 64), (6e3,), (2,), 0.05
    before = json.loads(HERE.read_text()) if HERE.exists() and not args.smoke else {}
    here = {**cost.machine(1), "backend": jax.default_backend()}
    same = all(before.get(name) == value for name, value in here.items())
    found: dict[str, Any] = {**(before if same else {}), **here}
    measured: dict[str, Iterator[dict[str, Any]]] = {  # as they are asked for
        "wide": (wide_row(*each, batches, corpus, args.seconds) for each in wide),
        "many": (many_row(N, packs, corpus, args.seconds) for N in many),
    }
    for name, rows in measured.items():
        if args.only in (None, name):
            found[name] = []
            for row in rows:
                found[name].append(row)
                if not args.smoke:  # a row that was measured is not lost with the next
                    write_whole(HERE, to_json(found))
    print(to_json(found))


def wide_row(
    depth: int, width: int, head_width: int, context: int, batches: Sequence[int], corpus: Corpus, seconds: float
) -> dict[str, Any]:
    """Of one wide model: FLOP/s and share of the peak (None where unknown) at each batch that fits, and the best share."""
    shape = Shape(depth, width, width // head_width, vocab=corpus.vocab, context=context)
    row: dict[str, Any] = {"N": shape.N, "depth": depth, "width": width, "head_width": head_width, "context": context}
    row["batches"] = {}
    for batch_tokens in batches:
        recipe = replace(RULES["valley"](shape, 1e9), batch_tokens=batch_tokens, precision="bfloat16")
        spec = RunSpec(shape, recipe, corpus.name, corpus.digest, batch_tokens * 1000)
        memory = cost.PeakMemory()
        measured = where_it_fits(lambda spec=spec: measure(spec, corpus, seconds=seconds))
        if measured is None:
            continue
        flops = measured[0] * shape.flops_per_token
        share = cost.share_of_peak(flops, "bfloat16", 1)
        row["batches"][str(batch_tokens)] = {
            "flops_per_second": flops, "share_of_peak": share, "compile_seconds": measured[1],
            "peak_memory_bytes": memory.bytes(),
        }  # fmt: skip
        told = "no known peak" if share is None else f"{share:.1%} of the peak"
        say(f"width {width}, heads of {head_width}, batch {batch_tokens:,}: {flops / 1e12:.3g} TFLOP/s, {told}")
    shares = [each["share_of_peak"] for each in row["batches"].values() if each["share_of_peak"] is not None]
    return {**row, "best_share_of_peak": max(shares, default=None)}


def many_row(N: float, packs: Sequence[int], corpus: Corpus, seconds: float) -> dict[str, Any]:
    """Of one small model: tokens per second one by one and in each pack that fits, and the gain of the best of them."""
    shape = Shape.near(N, vocab=corpus.vocab)
    recipe = replace(RULES["valley"](shape, 1e12 / shape.flops_per_token), precision="float32")
    spec = RunSpec(shape, recipe, corpus.name, corpus.digest, recipe.batch_tokens * 1000)
    one, compile_seconds = measure(spec, corpus, seconds=seconds)
    row: dict[str, Any] = {"N": shape.N, "batch_tokens": recipe.batch_tokens, "one": one, "packs": {}}
    chunk = chunk_steps(shape, recipe.batch_tokens) * recipe.batch_tokens
    for runs in packs:
        times = {
            how: where_it_fits(lambda how=how, runs=runs: chunk_seconds(spec, corpus, runs, how, seconds))
            for how in ("vmap", "map")
        }
        row["packs"][str(runs)] = {how: runs * chunk / time for how, time in times.items() if time}
    best = max((rate for pack in row["packs"].values() for rate in pack.values()), default=one)
    say(f"N = {shape.N:,}: one by one {one:,.0f} tokens/s, packed {best:,.0f}, {best / one:.1f} times")
    return {
        **row, "compile_seconds": compile_seconds, "gain": best / one, "flops_per_second": best * shape.flops_per_token,
    }  # fmt: skip


def where_it_fits(measured: Callable[[], Any]) -> Any:
    """What was measured; None where the device's memory was not enough."""
    try:
        return measured()
    except (OutOfMemory, MemoryError, jax.errors.JaxRuntimeError) as error:
        if isinstance(error, OutOfMemory) or cost.is_out_of_memory(error):
            say("out of memory, left out")
            return None
        raise


def say(line: str) -> None:
    """Tell on standard error how far it is."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
