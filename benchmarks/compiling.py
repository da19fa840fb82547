"""The share of compiling in a sweep of 1e12-FLOP runs on CPU: `python benchmarks/compiling.py`; no cache of compiled programs.

Seven sizes within a decade around the optimum, five seeds each: 35 cells. One pinned core compiles the programs of each size
once and measures its training speed and its evaluation; the sweep's time is composed of these. Writes compiling.json.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np

BUDGET, SEEDS, SIZES = 1e12, 5, np.geomspace(2e4, 2e5, 7)


def main() -> None:
    """Measure and print."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # before jax starts, which then takes one thread
    from scaling.grid import EVAL_TOKENS, RunSpec
    from scaling.recipe import RULES
    from scaling.shape import Shape
    from scaling.training.corpus import Corpus
    from scaling.training.train import cost, evaluate, measure
    from scaling.training.train.feed import ids_of
    from scaling.training.train.programs import programs

    corpus, rows = Corpus.of("python"), []
    for N in SIZES:
        shape = Shape.near(float(N))
        tokens = BUDGET / shape.flops_per_token
        recipe = RULES["valley"](shape, tokens)
        spec = RunSpec(
            shape, recipe, corpus.name, corpus.digest, int(tokens) // recipe.batch_tokens * recipe.batch_tokens
        )
        rate, compile_seconds = measure(spec, corpus, seconds=2.0)
        compiled = programs(shape, recipe, ids_of(corpus))
        begin = time.perf_counter()
        evaluate(compiled.fresh([0])["params"], spec, corpus, compiled)
        seconds = {"compile": compile_seconds, "train": tokens / rate, "evaluate": time.perf_counter() - begin}
        rows.append({"N": shape.N, "batch_tokens": recipe.batch_tokens, "eval_tokens": EVAL_TOKENS, **seconds})
        print(f"N = {shape.N:,}: " + ", ".join(f"{name} {value:.1f} s" for name, value in seconds.items()), flush=True)
    compiling = sum(row["compile"] for row in rows)
    whole = compiling + SEEDS * sum(row["train"] + row["evaluate"] for row in rows)
    print(f"compiling: {compiling / whole:.1%} of {whole:.0f} core seconds, each program once")
    found = {
        **cost.machine(1),
        "rows": rows,
        "share": compiling / whole,
        "share_each_worker_of_two": 2 * compiling / (whole + compiling),
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
