"""The committed valleys, judged: `python benchmarks/valleys.py`. Prints Markdown tables, writes benchmarks/valleys.json
and draws docs/floor.png.

Each folder runs/valleys-CORPUS holds seven sizes within a decade around the optimum of each budget, trained with the default
recipe. Of each: the vertex of every budget's parabola, seed by seed, and whether it lies inside; what seeds make of the
loss; how deep a valley is beside the standard error of one loss, and beside that of the depth itself, over the held-out
tokens that all runs share; the law's residuals; on a planted corpus, the fitted E less the floor that is known.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scaling.fitting.fit import Fit, fit
from scaling.fitting.isoflop import Vertex, approach2
from scaling.fitting.laws import Chinchilla, Coupled
from scaling.fitting.objective import LogSquared
from scaling.reporting import figures
from scaling.reporting.study import Study
from scaling.runs import Runs, to_json, write_whole

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Judge every folder, print, and write the file."""
    found = {}
    for folder in sorted((ROOT / "runs").glob("valleys-*")):
        found[folder.name.removeprefix("valleys-")] = judged = judge(Runs.read(folder))
        show(folder.name, judged)
    write_whole(Path(__file__).with_suffix(".json"), to_json(found))
    floors = {name: judged["floor"] for name, judged in found.items() if judged["floor"]}
    drawn = [
        (f"{name}, {law}: {floor['value']:.4f}", (each["E_above"], *each["interval_90"]))
        for name, floor in floors.items()
        for law, each in floor["laws"].items()
    ]
    if drawn:
        figures.save(figures.floor(drawn), ROOT / "docs" / "floor.png")


def judge(runs: Runs) -> dict[str, Any]:
    """Everything that is said of one folder."""
    seeds = sorted({int(seed) for seed in runs.table["seed"]})
    frontiers = {seed: approach2(runs.where(runs.table["seed"].to_numpy() == seed), inner=1) for seed in seeds}
    budgets = [_budget(runs, whole, [frontiers[seed].vertices[i] for seed in seeds])
               for i, whole in enumerate(approach2(runs, inner=1).vertices)]  # fmt: skip
    law = fit(runs, Chinchilla, LogSquared())
    return {
        "runs": len(runs),
        "seeds": seeds,
        "budgets": budgets,
        "a": {str(seed): frontier.a for seed, frontier in frontiers.items()},
        "seed_noise": seed_noise(runs),
        "law": {**law.params, "a": law.law.exponents[0], "residual_rms": residual_rms(runs, law),
                "residual_rms_of_seed_means": residual_rms(seed_means(runs), law)},
        "floor": _floor(runs, [law, fit(runs, Coupled, LogSquared(), rivals=())]),
    }  # fmt: skip


def _budget(runs: Runs, whole: Vertex, vertices: list[Vertex]) -> dict[str, Any]:
    """One budget: its sizes, N* of each seed and their largest ratio, and the depth of all seeds' valley beside the errors."""
    here = runs.where(np.abs(np.log(runs.C / vertices[0].C)) < 0.3)
    best = [vertex.N for vertex in vertices]
    ends = [here.loss[here.N == N].mean() for N in (here.N.min(), here.N.max())]
    lowest = np.mean([vertex.loss for vertex in vertices])
    return {
        "C": vertices[0].C,
        "sizes": [float(here.N.min()), float(here.N.max())],
        "N": best,
        "inside": [vertex.left_out is None for vertex in vertices],
        "ratio": max(best) / min(best),
        "loss": float(lowest),
        "rise_at_ends": [float(end - lowest) for end in ends],
        "loss_se": float(np.mean(here.loss_se)),
        "depth": whole.depth,
        "depth_se": whole.depth_se,
        "N_se": whole.N_se,
    }


def _cells(runs: Runs) -> dict[tuple[float, float], np.ndarray]:
    """The rows of each cell: one size at one D."""
    rows = defaultdict(list)
    for row, cell in enumerate(zip(runs.N, runs.D)):
        rows[cell].append(row)
    return {cell: np.array(each) for cell, each in rows.items()}


def seed_noise(runs: Runs) -> dict[str, float] | None:
    """Standard deviation between the seeds of a cell, as a share of its loss: pooled by budget; None for one seed."""
    squares = defaultdict(list)
    for rows in _cells(runs).values():
        if len(rows) > 1:
            squares[f"{runs.C[rows].mean():.0e}"].append(float(np.var(np.log(runs.loss[rows]), ddof=1)))
    return {budget: math.sqrt(np.mean(each)) for budget, each in squares.items()} or None


def seed_means(runs: Runs) -> Runs:
    """The table with one row a cell, its loss the mean over seeds."""
    cells = _cells(runs)
    first = np.zeros(len(runs), bool)
    first[[rows[0] for rows in cells.values()]] = True
    means = {(runs.N[rows[0]], runs.D[rows[0]]): runs.loss[rows].mean() for rows in cells.values()}
    table = runs.table.assign(loss=[means[cell] for cell in zip(runs.N, runs.D)])
    return Runs(table[first].reset_index(drop=True), runs.source, runs.count, runs.flops)


def residual_rms(runs: Runs, law: Fit) -> float:
    """Root mean square of the law's residuals in log loss, a share of the loss."""
    return float(np.sqrt(np.mean(np.log(runs.loss / law.law.loss(runs.N, runs.D)) ** 2)))


def _floor(runs: Runs, fits: Sequence[Fit]) -> dict[str, Any] | None:
    """The floor of a planted source, and by each law its E, how far that is above the floor, and the interval of that."""
    floor = Study(runs, fits[:1]).floor
    if floor is None:
        return None
    laws = {}
    for each in fits:
        above, low, high = floor.above(each)
        laws[each.law.name] = {"E": each.params["E"], "E_above": above, "interval_90": [low, high]}
    return {"value": floor.value, "se": floor.se, "laws": laws}


def depth_error(row: dict[str, Any]) -> str:
    """The error of a depth over the held-out tokens, and what it makes of N*, where the records tell it."""
    return f" +- {row['depth_se']:.4f} (N* {row['N_se']:.1%})" if row["depth_se"] is not None else ""


def show(name: str, judged: dict[str, Any]) -> None:
    """One folder as Markdown."""
    print(f"\n**{name}**: {judged['runs']} runs, seeds {', '.join(map(str, judged['seeds']))}\n")
    print(
        "| budget | sizes | N* by seed | largest / smallest | loss | rise at the ends | seed noise | error of one loss | depth |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    noise = judged["seed_noise"] or {}
    for row in judged["budgets"]:
        best = " ".join(f"{N / 1e3:.1f}k{'' if ok else ' (outside)'}" for N, ok in zip(row["N"], row["inside"]))
        ends, C = " ".join(f"{rise:.3f}" for rise in row["rise_at_ends"]), f"{row['C']:.0e}"
        spread = f"{noise[C]:.2%}" if C in noise else ""
        deep = f"{row['depth']:.4f}{depth_error(row)}"
        print(f"| {row['C']:.1e} | {row['sizes'][0] / 1e3:.1f}k to {row['sizes'][1] / 1e3:.0f}k | {best} | {row['ratio']:.2f} "
              f"| {row['loss']:.4f} | {ends} | {spread} | {row['loss_se']:.4f} | {deep} |")  # fmt: skip
    law = judged["law"]
    print(f"\na by seed: {', '.join(f'{a:.3f}' for a in judged['a'].values())}; law: E {law['E']:.4f}, alpha {law['alpha']:.4f}, "
          f"beta {law['beta']:.4f}, a {law['a']:.3f}; residuals {law['residual_rms']:.2%} (root mean square), "
          f"{law['residual_rms_of_seed_means']:.2%} of the seeds' means")  # fmt: skip
    if floor := judged["floor"]:
        for name, each in floor["laws"].items():
            low, high = each["interval_90"]
            print(
                f"floor {floor['value']:.4f}; {name}'s E less the floor {each['E_above']:+.4f} (90%: {low:+.4f} to {high:+.4f})"
            )


if __name__ == "__main__":
    main()
