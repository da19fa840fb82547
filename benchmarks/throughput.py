"""Training throughput, side by side in one run: this engine against the same model written plainly in PyTorch.

    pip install torch        # the CPU build; only this benchmark needs it, here or in an environment of its own
    python benchmarks/throughput.py [--torch-python OTHER/bin/python]     # a table, and benchmarks/throughput.json

The model is the same on both sides: rotary positions, unit RMS norms, query-key norm with a gain a head, GELU,
untied head, AdamW with gradient clipping, float32. Measured in two ways, since sweeps are made of many small runs: one
process that may use every core, and one pinned process a core, added up. "scaling split" is one process whose batches are
split over as many jax devices as there are cores. Each figure is the median of REPEATS timings of about SECONDS each, the
contenders in turn. All of them, torch too, get the environment of a sweep's workers.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

SIZES = ((2, 32, 1024), (4, 88, 2048), (6, 192, 4096))  # depth, width, batch in tokens: N about 4e4, 4e5, 3e6
CONTEXT = 64
REPEATS, SECONDS = 5, 1.0
CONTENDERS = ("scaling", "scaling split", "torch", "torch compiled")


def scaling_step(depth: int, width: int, batch: int):
    """A function that trains `n` steps of this engine."""
    import jax
    import numpy as np

    from scaling.recipe import Recipe
    from scaling.shape import Shape
    from scaling.training.train import programs as compiled
    from scaling.training.train.feed import Ids
    from scaling.training.train.schedule import chunk_steps

    shape = Shape.of_width(depth, width, context=CONTEXT)
    programs = compiled.programs(shape, Recipe(1e-3, batch, 0), Ids("uint8"))
    length = chunk_steps(shape, batch)
    tokens = np.random.default_rng(0).integers(0, 256, (length, batch // CONTEXT, CONTEXT + 1)).astype(np.uint8)
    rates = np.full(length, 1e-3, np.float32)
    state = programs.fresh([0])

    def run(n: int) -> None:
        nonlocal state
        while n > 0:
            state, _ = programs.advance(state, {"tokens": tokens}, rates, min(n, length))
            n -= length
        jax.block_until_ready(state)

    return run


def torch_step(depth: int, width: int, batch: int, compiled: bool):
    """A function that trains `n` steps of the same model in PyTorch."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    from scaling.shape import Shape

    torch.manual_seed(0)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    shape = Shape.of_width(depth, width, context=CONTEXT)
    H, K, T = shape.heads, shape.head_width, CONTEXT
    angle = torch.arange(T)[:, None] * 100.0 ** -(torch.arange(0, K, 2) / K)
    cos, sin = angle.cos(), angle.sin()

    def norm(x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)

    def rotate(x):
        left, right = x.chunk(2, -1)
        return torch.cat([left * cos - right * sin, right * cos + left * sin], -1)

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
            self.up, self.down = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)
            self.gain = nn.Parameter(torch.full((H, 1, 1), K**0.5))

        def forward(self, x):
            B = x.shape[0]
            q, k, v = (part.view(B, T, H, K).transpose(1, 2) for part in self.qkv(norm(x)).chunk(3, -1))
            q, k = rotate(norm(q)) * self.gain, rotate(norm(k))
            a = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=1 / K)
            x = x + self.out(a.transpose(1, 2).reshape(B, T, width))
            return x + self.down(F.gelu(self.up(norm(x)), approximate="tanh"))

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.head = nn.Embedding(256, width), nn.Linear(width, 256, bias=False)
            self.blocks = nn.ModuleList(Block() for _ in range(depth))

        def forward(self, tokens):
            x = self.embed(tokens[:, :-1])
            for block in self.blocks:
                x = block(x)
            return F.cross_entropy(self.head(norm(x)).view(-1, 256), tokens[:, 1:].reshape(-1))

    model = Model()
    assert sum(p.numel() for p in model.parameters()) == shape.N
    optimiser = torch.optim.AdamW(model.parameters(), 1e-3, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    loss_of = torch.compile(model) if compiled else model
    tokens = torch.randint(0, 256, (batch // CONTEXT, CONTEXT + 1))

    def run(n: int) -> None:
        for _ in range(n):
            optimiser.zero_grad(set_to_none=True)
            loss_of(tokens).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()

    return run


def measure(contender: str, depth: int, width: int, batch: int, core: int | None) -> None:
    """A child process: print one throughput in tokens per second for each line read."""
    if core is not None:
        os.sched_setaffinity(0, {core})
    run = (
        scaling_step(depth, width, batch)
        if contender.startswith("scaling")
        else torch_step(depth, width, batch, contender.endswith("compiled"))
    )
    run(3)
    begin = time.perf_counter()
    run(10)
    steps = max(10, round(SECONDS * 10 / (time.perf_counter() - begin)))
    print("ready", flush=True)
    for _ in sys.stdin:
        begin = time.perf_counter()
        run(steps)
        print(steps * batch / (time.perf_counter() - begin), flush=True)


def matmul_rate(cores: int) -> float:
    """FLOP/s of a large float32 matrix product with this many threads, the best of 15: the machine's own limit."""
    code = (
        f"import os; os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[:{cores}]));"
        "import jax, jax.numpy as jnp, time; f = jax.jit(lambda a: a @ a); a = jnp.ones((2048, 2048)); f(a).block_until_ready();"
        "t = [];\n"
        "for _ in range(15):\n b = time.perf_counter(); f(a).block_until_ready(); t.append(time.perf_counter() - b)\n"
        "print(2 * 2048**3 / min(t))"
    )
    return float(subprocess.check_output([sys.executable, "-c", code]))


def contest(size: tuple[int, int, int], cores: list[int | None], pythons: dict[str, str]) -> dict[str, list[float]]:
    """Tokens per second of each contender, summed over one process for each entry of `cores`, REPEATS times in turn.

    `pythons` are the interpreters of the contenders that do not run on this one.
    """
    from scaling.training.executors.engine import worker_environment

    split = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={len(os.sched_getaffinity(0))}"}
    children = {
        name: [
            subprocess.Popen(
                [pythons.get(name, sys.executable), __file__, "--child", name, *map(str, size), str(core)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**worker_environment(), **(split if name == "scaling split" else {})},
            )
            for core in cores
        ]
        for name in CONTENDERS
        if cores == [None] or name != "scaling split"
    }
    for group in children.values():
        for child in group:
            assert child.stdout.readline() == "ready\n"
    found = take_turns(children)
    for group in children.values():
        for child in group:
            child.stdin.close()
            child.wait()
    return found


def take_turns(children: dict[str, list[subprocess.Popen]]) -> dict[str, list[float]]:
    """What the processes of each contender, which are ready, measure when told to go; one contender at a time."""
    found: dict[str, list[float]] = {name: [] for name in children}
    for _ in range(REPEATS):
        for name, group in children.items():
            for child in group:
                child.stdin.write("go\n")
                child.stdin.flush()
            found[name].append(sum(float(child.stdout.readline()) for child in group))
    return found


def main() -> None:
    """Measure, print, and write benchmarks/throughput.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--torch-python", default=sys.executable, help="the interpreter that has torch, where not this one"
    )
    parser.add_argument("--sizes", nargs="+", type=int, default=range(len(SIZES)), help="which of the sizes, from 0")
    parser.add_argument("--child", nargs=5, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        name, depth, width, batch, core = args.child
        return measure(name, int(depth), int(width), int(batch), None if core == "None" else int(core))
    from importlib.metadata import version

    from scaling.shape import Shape

    pythons = {name: args.torch_python for name in CONTENDERS if name.startswith("torch")}
    usable = sorted(os.sched_getaffinity(0))
    limits = {"one core": matmul_rate(1), "all cores": matmul_rate(len(usable))}
    rows = []
    print(
        f"matrix product: {limits['one core'] / 1e9:.0f} GFLOP/s on one core, {limits['all cores'] / 1e9:.0f} on {len(usable)}"
    )
    print(
        f"{'N':>10} {'processes':>12} "
        + " ".join(f"{name:>16}" for name in CONTENDERS)
        + "   the faster of ours to the faster torch"
    )
    for size in [SIZES[at] for at in args.sizes]:
        shape = Shape.of_width(size[0], size[1], context=CONTEXT)
        for label, cores in (("one", [None]), ("one a core", usable)):
            found = contest(size, cores, pythons)
            middle = {name: statistics.median(values) for name, values in found.items()}
            ours = max(speed for name, speed in middle.items() if name.startswith("scaling"))
            ratio = ours / max(middle["torch"], middle["torch compiled"])
            limit = limits["all cores"] if label == "one" else limits["one core"] * len(usable)
            share = ours * shape.flops_per_token / limit
            rows.append({
                "N": shape.N, "depth": size[0], "width": size[1], "context": CONTEXT, "batch_tokens": size[2],
                "processes": label, "tokens_per_second": found, "ratio": ratio, "share_of_matmul_rate": share,
            })  # fmt: skip
            figures = " ".join(f"{middle[name]:>16,.0f}" if name in middle else " " * 16 for name in CONTENDERS)
            print(
                f"{shape.N:>10,} {label:>12} {figures}   {ratio:.2f}   ({share:.0%} of the matrix-product rate)",
                flush=True,
            )
    machine = {
        "processor": platform.processor() or platform.machine(),
        "cores": len(usable),
        "python": platform.python_version(),
    }
    asked = "from importlib.metadata import version; print(version('torch'))"
    versions = {
        "jax": version("jax"),
        "torch": subprocess.check_output([args.torch_python, "-c", asked], text=True).strip(),
    }
    result = {"machine": machine, "versions": versions, "matmul_flops_per_second": limits, "rows": rows,
              "geometric_mean_ratio": math.exp(statistics.fmean(math.log(row["ratio"]) for row in rows))}  # fmt: skip
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
