"""What branches off a trunk save and what they change, from committed runs: `python benchmarks/branches.py`.

runs/wsd-cells trains every cell by itself (linear decay), runs/wsd-branches the same grid as one warm-up, stable, decay trunk
a size and seed, with a decayed branch at each budget (Haegele et al. 2024). Same sizes, budgets and held-out text;
losses are compared on the seeds that both have. Writes benchmarks/branches.json.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from scaling.fitting.isoflop import approach2
from scaling.runs import Run, Runs, record_paths, to_json, write_whole

ROOT = Path(__file__).parents[1]
FOLDERS = {"cells": ROOT / "runs" / "wsd-cells", "branches": ROOT / "runs" / "wsd-branches"}


def main() -> None:
    """Print the table and write the file."""
    records = {name: [Run.read(path) for path in record_paths(folder)] for name, folder in FOLDERS.items()}
    loss = {name: _losses(runs) for name, runs in records.items()}
    seeds = {name: sorted({run.spec["seed"] for run in runs}) for name, runs in records.items()}
    both = sorted(set(seeds["cells"]) & set(seeds["branches"]))
    spent = {
        name: sum(run.flops_spent or run.C for run in runs if run.spec["seed"] in both)
        for name, runs in records.items()
    }
    frontiers = {
        name: [approach2(_of_seed(folder, seed), inner=1.0) for seed in seeds[name]] for name, folder in FOLDERS.items()
    }
    exponents = {name: [frontier.a for frontier in each] for name, each in frontiers.items()}
    rows = []
    for budget in sorted({budget for budget, _ in loss["cells"]}):
        sizes = [N for at, N in loss["cells"] if at == budget]
        pairs = [np.mean([loss["branches"][budget, N][s] - loss["cells"][budget, N][s] for s in both]) for N in sizes]
        noise = {name: _noise([loss[name][budget, N] for N in sizes]) for name in loss}
        best = {name: [_vertex(frontier, budget) for frontier in each] for name, each in frontiers.items()}
        rows.append({
            "budget": budget,
            "loss_difference": float(np.mean(pairs)),
            "loss_difference_by_size": dict(zip(map(str, sizes), (round(float(pair), 4) for pair in pairs))),
            "seed_noise": noise,
            "best_N": best,
        })  # fmt: skip
    a = {
        name: {
            "by_seed": each,
            "mean": float(np.mean(each)),
            "sd": float(np.std(each, ddof=1)) if len(each) > 1 else None,
        }
        for name, each in exponents.items()
    }
    share = spent["branches"] / spent["cells"]
    found = {"seeds": seeds, "flops": spent, "share_spent": share, "a": a, "budgets": rows}
    write_whole(Path(__file__).with_suffix(".json"), to_json(found))
    print(f"FLOPs: {spent['branches']:.3g} of {spent['cells']:.3g}, {share:.1%}")
    for name, each in a.items():
        by_seed = ", ".join(f"{one:.3f}" for one in each["by_seed"])
        print(f"a, {name}: {each['mean']:.3f}, by seed {by_seed}")
    for row in rows:
        noise = ", ".join("-" if each is None else f"{each:.4f}" for each in row["seed_noise"].values())
        best = "; ".join(f"{name} {_sizes(each)}" for name, each in row["best_N"].items())
        print(
            f"{row['budget']:.2g}: branches - cells {row['loss_difference']:+.4f} nats (seeds {noise}); best N {best}"
        )


def _sizes(best: list[float | None]) -> str:
    return " ".join("-" if N is None else f"{N / 1e3:.1f}k" for N in best)


def _losses(runs: list[Run]) -> dict[tuple[float, int], dict[int, float]]:
    """(budget, N) -> the loss of each seed."""
    found: dict[tuple[float, int], dict[int, float]] = {}
    for run in runs:
        found.setdefault((float(f"{run.C:.1e}"), run.N), {})[run.spec["seed"]] = run.loss
    return dict(sorted(found.items()))


def _noise(cells: list[dict[int, float]]) -> float | None:
    """Standard deviation between seeds, pooled over cells; None where there is one seed."""
    if min(map(len, cells)) < 2:
        return None
    return float(np.sqrt(np.mean([np.var(list(each.values()), ddof=1) for each in cells])))


def _of_seed(folder: Path, seed: int) -> Runs:
    runs = Runs.read(folder)
    return runs.where(runs.table["seed"].to_numpy() == seed)


def _vertex(frontier, budget: float) -> float | None:
    near = min(frontier.vertices, key=lambda vertex: abs(np.log(vertex.C / budget)))
    return float(near.N) if near.N is not None and np.isfinite(near.N) else None


if __name__ == "__main__":
    main()
