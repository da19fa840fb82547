"""Many tiny models at once on an accelerator, against one by one: `python benchmarks/accelerator.py [--packs 1 8 64 256]`.

For each N under 1e6: training tokens per second of one run, and of packs of runs that differ in seed under vmap and under
lax.map, summed over the pack; the best of each over the single run is the gain. Needs a GPU or TPU to say anything about
one; on CPU it runs too, and its gain there is about 1. Writes accelerator.json beside itself.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import jax

from scaling.grid import RunSpec
from scaling.recipe import RULES
from scaling.shape import Shape
from scaling.training.corpus import Corpus
from scaling.training.train import cost, measure
from scaling.training.train.many import chunk_seconds
from scaling.training.train.schedule import chunk_steps

HERE = Path(__file__).with_suffix(".json")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="+", type=float, default=[1e4, 1e5, 8e5])
    parser.add_argument("--packs", nargs="+", type=int, default=[8, 64, 256])
    args = parser.parse_args()
    corpus, found = Corpus.of("python"), []
    for N in args.sizes:
        shape = Shape.near(N)
        recipe = replace(RULES["valley"](shape, 1e12 / shape.flops_per_token), precision="float32")
        spec = RunSpec(shape, recipe, corpus.name, corpus.digest, recipe.batch_tokens * 1000)
        one, compile_seconds = measure(spec, corpus, seconds=3.0)
        row = {
            "N": shape.N,
            "batch_tokens": recipe.batch_tokens,
            "one": one,
            "compile_seconds": compile_seconds,
            "packs": {},
        }
        for runs in args.packs:
            tokens = runs * chunk_steps(shape, recipe.batch_tokens) * recipe.batch_tokens
            row["packs"][str(runs)] = {how: tokens / chunk_seconds(spec, corpus, runs, how) for how in ("vmap", "map")}
        best = max(rate for pack in row["packs"].values() for rate in pack.values())
        row["gain"] = best / one
        row["flops_per_second"] = best * shape.flops_per_token
        print(
            f"N = {shape.N:,}: one by one {one:,.0f} tokens/s, packed {best:,.0f}, {row['gain']:.1f} times", flush=True
        )
        found.append(row)
    HERE.write_text(json.dumps({**cost.machine(), "backend": jax.default_backend(), "rows": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
