"""What branches off a trunk save and what they change, from committed runs: `python benchmarks/branches.py`.

runs/wsd-cells trains every cell by itself (linear decay), runs/wsd-branches the same grid as one warm-up, stable, decay trunk
a size and seed, with a decayed branch at each budget (Haegele et al. 2024). Same sizes, budgets and held-out text;
losses are compared on the seeds that both have, the exponents a (one a seed, by Approach 2) by their 90% intervals over all
seeds of each: Student's for a mean, Welch's for the difference. Writes benchmarks/branches.json.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import stats

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
        by_seed = [np.mean([loss["branches"][budget, N][s] - loss["cells"][budget, N][s] for N in sizes]) for s in both]
        noise = {name: _noise([loss[name][budget, N] for N in sizes]) for name in loss}
        best = {name: [_vertex(frontier, budget) for frontier in each] for name, each in frontiers.items()}
        rows.append({
            "budget": budget,
            "loss_difference": _interval(by_seed),
            "loss_difference_by_size": dict(zip(map(str, sizes), (round(float(pair), 4) for pair in pairs))),
            "seed_noise": noise,
            "best_N": best,
        })  # fmt: skip
    a = {name: _interval(each) for name, each in exponents.items()}
    a["branches - cells"] = _difference(exponents["branches"], exponents["cells"])
    share = spent["branches"] / spent["cells"]
    found = {"seeds": seeds, "flops": spent, "share_spent": share, "a": a, "budgets": rows}
    write_whole(Path(__file__).with_suffix(".json"), to_json(found))
    print(f"FLOPs: {spent['branches']:.3g} of {spent['cells']:.3g}, {share:.1%}")
    for name in FOLDERS:
        by_seed = ", ".join(f"{one:.3f}" for one in exponents[name])
        print(f"a, {name}: {_said(a[name])}; by seed {by_seed}")
    print(f"a, branches - cells: {_said(a['branches - cells'])}: {_verdict(a)}")
    for row in rows:
        noise = ", ".join("-" if each is None else f"{each:.4f}" for each in row["seed_noise"].values())
        best = "; ".join(f"{name} {_sizes(each)}" for name, each in row["best_N"].items())
        print(
            f"{row['budget']:.2g}: branches - cells {_said(row['loss_difference'], '+.4f')} nats (spread of seeds {noise}); "
            f"best N {best}"
        )


def _interval(values: list[float]) -> dict:
    """The mean of a number over seeds, its standard deviation, and the mean's 90% interval; None where there is one seed."""
    n, mean = len(values), float(np.mean(values))
    sd = float(np.std(values, ddof=1)) if n > 1 else None
    half = None if sd is None else float(stats.t.ppf(0.95, n - 1) * sd / np.sqrt(n))
    interval = None if half is None else [mean - half, mean + half]
    return {"by_seed": [float(value) for value in values], "mean": mean, "sd": sd, "interval": interval}


def _difference(one: list[float], other: list[float]) -> dict:
    """The difference of two means over seeds, and its 90% interval after Welch; None where either has one seed."""
    mean, interval = float(np.mean(one) - np.mean(other)), None
    if min(len(one), len(other)) > 1:
        found = stats.ttest_ind(one, other, equal_var=False).confidence_interval(0.9)
        interval = [float(found.low), float(found.high)]
    return {"mean": mean, "interval": interval}


def _verdict(a: dict) -> str:
    """Whether each exponent is within the seed interval of the other."""
    if a["branches - cells"]["interval"] is None:
        return "one seed of one of them tells no interval"
    inside = {
        name: a[name]["interval"][0] <= a[other]["mean"] <= a[name]["interval"][1]
        for name, other in (("cells", "branches"), ("branches", "cells"))
    }
    zero = a["branches - cells"]["interval"][0] <= 0 <= a["branches - cells"]["interval"][1]
    said = [
        f"the mean of the other is {'' if each else 'not '}in the interval of {name}" for name, each in inside.items()
    ]
    return f"{'no difference' if zero else 'a difference'} that the seeds show; {', '.join(said)}"


def _said(found: dict, how: str = ".3f") -> str:
    interval = found["interval"]
    return f"{found['mean']:{how}}" + (f" ({interval[0]:{how}} to {interval[1]:{how}})" if interval else "")


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
