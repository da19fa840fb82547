"""tune(grid, folder): the learning rates and batches around a rule, trained; what is best; the rule that follows.

Each cell of a small search (three sizes at two budgets) is trained at a ladder of rates a factor apart. A parabola through the
best rate and its neighbours gives the valley's floor; a ladder whose best rate is its last is made longer. How the floors
move with N and D is fitted by least squares in the logarithms, and is the new rule.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from scaling.grid import Grid, RunSpec
from scaling.recipe import RULES, Rule
from scaling.runs import Run
from scaling.training.corpus import Corpus
from scaling.training.executors import Executor
from scaling.training.sweep import Watch, train_specs

#: How often a ladder whose best rate is its last is made longer by one rate.
LONGER = 4

#: Rates are held against each other at this batch, by rate ~ sqrt(batch) (Malladi et al. 2022).
REFERENCE_BATCH = 256


@dataclass(frozen=True)
class Valley:
    """The losses of one cell at one batch over learning rates, and the floor of the parabola through the best three.

    `cell` is the run as the rule would train it. `rates` rise, [K]; `losses` in nats per token, [K], are means over seeds.
    `best_rate` and `best_loss` are the floor's, or those of the last rate where that is best (`inside` is then False).
    `cost_of_two` is the share of the loss that a rate twice too high or low costs; None where the floor is not inside.
    """

    cell: RunSpec
    batch_tokens: int
    rates: tuple[float, ...]
    losses: tuple[float, ...]
    best_rate: float
    best_loss: float
    inside: bool
    cost_of_two: float | None

    def cost(self, rate: float) -> float | None:
        """The share of the loss that this rate costs against the floor, by the parabola; None where that is not inside."""
        if self.cost_of_two is None:
            return None
        return self.cost_of_two * math.log2(rate / self.best_rate) ** 2


def valley(cell: RunSpec, runs: Sequence[Run]) -> Valley:
    """The valley of a cell's runs at one batch. Raises ValueError where fewer than three rates ended with a loss."""
    tried = defaultdict(list)
    for run in runs:
        tried[run.spec["recipe"]["learning_rate"]].append(run)
    losses = {rate: _mean_loss(seeds) for rate, seeds in tried.items()}
    losses = {rate: loss for rate, loss in losses.items() if math.isfinite(loss)}
    if len(losses) < 3:
        raise ValueError(
            f"N = {cell.shape.N:,}, D = {cell.tokens:,}: {len(losses)} of its learning rates ended with a loss, and a valley "
            "needs 3. Their records say why others failed; give more --rates."
        )
    rates = sorted(losses)
    means = np.array([losses[rate] for rate in rates])
    best = int(np.argmin(means))
    floor, lowest, cost = rates[best], float(means[best]), None
    inside = 0 < best < len(rates) - 1
    if inside:
        near = slice(best - 1, best + 2)
        curvature, slope, at_best = np.polyfit(np.log2(np.array(rates[near]) / floor), means[near], 2)
        octaves = -slope / (2 * curvature)
        floor, lowest = floor * 2**octaves, float(at_best - curvature * octaves**2)
        cost = float(curvature / lowest)
    batch = runs[0].spec["recipe"]["batch_tokens"]
    means = tuple(float(mean) for mean in means)
    return Valley(cell, batch, tuple(rates), means, float(floor), lowest, inside, cost)


def best_batches(found: Sequence[Valley]) -> tuple[Valley, ...]:
    """The valley of each cell's best batch."""
    best: dict[str, Valley] = {}
    for each in found:
        if each.cell.id not in best or each.best_loss < best[each.cell.id].best_loss:
            best[each.cell.id] = each
    return tuple(best.values())


def fitted_rule(found: Sequence[Valley], start: Rule) -> Rule:
    """The rule through the floors of the valleys, in powers of N and D as far as these vary apart.

    Rates are brought to one batch by the square root, and no rate is above the highest floor. Where several batches were
    searched, the batch is a power of D through the best ones, with the start's exponent where D does not vary enough.
    Raises ValueError where no floor is inside its ladder.
    """
    inside = [each for each in best_batches(found) if each.inside]
    if not inside:
        raise ValueError(
            "no ladder of rates has its best rate inside. Give more rates (--rates 7), or another rule to start from."
        )
    N = np.array([getattr(each.cell.shape, start.count) for each in inside], float)
    D = np.array([each.cell.tokens for each in inside], float)
    batch = np.array([each.batch_tokens for each in inside], float)
    rate = np.array([each.best_rate for each in inside]) / np.sqrt(batch / REFERENCE_BATCH)
    scale, powers = _powers(rate, {"N": N, "D": D})
    rule = replace(
        start,
        rate=float(f"{scale:.4g}"),
        rate_N=round(powers["N"], 3),
        rate_D=round(powers["D"], 3),
        rate_batch=0.5,
        rate_most=float(f"{rate.max():.3g}"),
    )
    if len(best_batches(found)) < len(found):
        scale, powers = _powers(batch, {"D": D}, fallback={"D": start.batch_D})
        rule = replace(rule, batch=float(f"{scale:.4g}"), batch_N=0.0, batch_D=round(powers["D"], 3))
    return rule


def _powers(
    y: np.ndarray, x: dict[str, np.ndarray], fallback: dict[str, float] | None = None
) -> tuple[float, dict[str, float]]:
    """(scale, exponents) of y ~ scale * prod x^exponent by least squares in logs, over the x that the data can tell apart.

    A variable is left out, last first, while it spans less than a factor 2 or goes along with those before it (a
    condition number above 30 of the centred logarithms): it keeps its fallback exponent, or 0.
    """
    exponents = {name: (fallback or {}).get(name, 0.0) for name in x}
    logs = {name: np.log(values) - np.log(values).mean() for name, values in x.items()}
    used: list[str] = []
    for name, log in logs.items():
        if np.ptp(log) >= math.log(2) and len(y) > len(used) + 1:
            columns = np.stack([logs[each] / np.linalg.norm(logs[each]) for each in [*used, name]], axis=1)
            if np.linalg.cond(columns) <= 30:
                used.append(name)
    rest = np.log(y) - sum(exponents[name] * np.log(values) for name, values in x.items() if name not in used)
    design = np.stack([np.ones(len(y)), *(np.log(x[name]) for name in used)], axis=1)
    solution = np.linalg.lstsq(design, rest, rcond=None)[0]
    exponents.update(zip(used, (float(each) for each in solution[1:])))
    return float(np.exp(solution[0])), exponents


@dataclass(frozen=True)
class Tuned:
    """What a search found: a valley for each cell and batch, and the rule that they give in the place of the grid's."""

    grid: Grid
    valleys: tuple[Valley, ...]
    rule: Rule

    @property
    def tuned_grid(self) -> Grid:
        """The grid with the tuned rule."""
        return replace(self.grid, rule=self.rule)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is doubtful: floors outside their ladder, exponents that the cells cannot tell."""
        said = []
        best = best_batches(self.valleys)
        outside = [each for each in best if not each.inside]
        if outside:
            where = ", ".join(f"N = {each.cell.shape.N:,} at {each.cell.C:.2g} FLOPs" for each in outside)
            said.append(f"the best rate is the last of its ladder, and left out of the rule: {where}.")
        if len({f"{each.cell.C:.1g}" for each in best if each.inside}) < 2:
            said.append(
                "one budget cannot tell how the rate moves with D from how it moves with N: give the grid a second."
            )
        return tuple(said)


def tune(
    grid: Grid,
    folder: str | Path,
    *,
    rates: int = 5,
    factor: float = 2.0,
    batches: Sequence[float] = (1.0,),
    executor: Executor | None = None,
    watch: Watch = lambda status: None,
) -> Tuned:
    """Train a small search around the grid's rule and return what it found; what is in the folder is not trained again.

    `rates` rates a `factor` apart around the rule's, for each of the `batches` (times the rule's) and each cell of
    `search_cells`, with every seed. A ladder whose best rate is its last is made longer, by up to LONGER rates.
    Raises ValueError for fewer than three rates, and where no best rate is inside its ladder.
    """
    if rates < 3 or not 1 < factor < 16 or not batches or not all(0 < each < 64 for each in batches):
        raise ValueError(
            f"rates {rates}, factor {factor:g}, batches {', '.join(f'{each:g}' for each in batches)}: needed 3 rates or more, a "
            "factor between 1 and 16, and batches between 0 and 64 times the rule's."
        )
    corpus = Corpus.of(grid.corpus, **grid.data)
    seeds = grid.curves[0].seeds
    ladders = {
        (cell, batch): list(range(-(rates // 2), rates - rates // 2))
        for cell in search_cells(grid, corpus.digest)
        for batch in batches
    }
    while True:
        rungs = {
            (cell, batch, step): [replace(variant(cell, factor**step, batch), seed=seed) for seed in seeds]
            for (cell, batch), steps in ladders.items()
            for step in steps
        }
        wanted = [spec for specs in rungs.values() for spec in specs]
        records = train_specs(wanted, Path(folder), corpus, executor, watch)
        runs = {rung: [records[spec.id] for spec in specs] for rung, specs in rungs.items()}
        longer = False
        for (cell, batch), steps in ladders.items():
            step = _next_rung({step: _mean_loss(runs[cell, batch, step]) for step in steps})
            if step is not None and len(steps) < rates + LONGER:
                ladders[cell, batch] = sorted([*steps, step])
                longer = True
        if not longer:
            break
    found = tuple(
        valley(cell, [run for step in steps for run in runs[cell, batch, step]])
        for (cell, batch), steps in ladders.items()
    )
    return Tuned(grid, found, fitted_rule(found, start_rule(grid)))


def _mean_loss(runs: Sequence[Run]) -> float:
    """The mean loss over seeds; infinite where one diverged."""
    return float(np.mean([math.inf if run.loss is None else run.loss for run in runs]))


def _next_rung(losses: dict[int, float]) -> int | None:
    """The rate to try next, in steps of the ladder, where the best so far is the last one of it; None where it is inside."""
    best = min(losses, key=lambda step: losses[step])
    if best == min(losses):
        return best - 1
    return best + 1 if best == max(losses) else None


def search_cells(grid: Grid, digest: str) -> tuple[RunSpec, ...]:
    """The cells of a small search: the smallest, middle and largest size at the two smallest budgets, with the first seed."""
    curves = tuple(
        replace(
            curve,
            shapes=tuple(dict.fromkeys(curve.shapes[i] for i in (0, len(curve.shapes) // 2, -1))),
            seeds=curve.seeds[:1],
        )
        for curve in grid.curves[:2]
    )
    return replace(grid, curves=curves).specs(digest)


def variant(spec: RunSpec, rate_times: float, batch_times: float = 1.0) -> RunSpec:
    """The spec at another rate and batch: the rate times `rate_times` and the square root of the batch's change.

    The batch stays a whole number of windows, at least one, and D a whole number of batches.
    """
    recipe = spec.recipe
    batch = spec.shape.context * max(1, round(recipe.batch_tokens * batch_times / spec.shape.context))
    rate = recipe.learning_rate * rate_times * math.sqrt(batch / recipe.batch_tokens)
    tokens = batch * max(1, round(spec.tokens / batch))
    return replace(spec, tokens=tokens, recipe=replace(recipe, learning_rate=float(f"{rate:.3g}"), batch_tokens=batch))


def start_rule(grid: Grid) -> Rule:
    """The rule that a grid begins from."""
    return grid.rule if isinstance(grid.rule, Rule) else RULES[grid.rule]
