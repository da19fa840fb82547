"""tune(grid, folder): the learning rates and batches around a rule, trained; what is best; the rule that follows.

Each cell of a small search (three sizes at two budgets or lengths) is trained at a ladder of rates a factor apart. A parabola
through the best rate and its neighbours gives the valley's floor; a ladder whose best rate is its last is made longer. How the
floors move with N and D is fitted by least squares in the logarithms, and is the new rule.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from scaling.grid import LENGTHS, Cells, Grid, RunSpec
from scaling.recipe import Recipe, Rule
from scaling.runs import Run
from scaling.shape import Shape
from scaling.training.corpus import Corpus
from scaling.training.executors import Executor
from scaling.training.sweep import Watch, train_specs
from scaling.training.sweep.checks import require_enough_text

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
        floor, lowest, curvature = _floor(rates[best - 1 : best + 2], means[best - 1 : best + 2])
        cost = curvature / lowest
    batch = runs[0].spec["recipe"]["batch_tokens"]
    means = tuple(float(mean) for mean in means)
    return Valley(cell, batch, tuple(rates), means, floor, lowest, inside, cost)


def _floor(x: Sequence[float], loss: Sequence[float] | np.ndarray) -> tuple[float, float, float]:
    """Where a parabola in log2 x through three points, the middle one lowest, has its floor; the loss there; its curvature."""
    curvature, slope, middle = np.polyfit(np.log2(np.array(x) / x[1]), loss, 2)
    octaves = -slope / (2 * curvature)
    return float(x[1] * 2**octaves), float(middle - curvature * octaves**2), float(curvature)


def best_batches(found: Sequence[Valley]) -> tuple[Valley, ...]:
    """The valley of each cell's best batch."""
    best: dict[str, Valley] = {}
    for each in found:
        if each.cell.id not in best or each.best_loss < best[each.cell.id].best_loss:
            best[each.cell.id] = each
    return tuple(best.values())


def _tried(best: Valley, found: Sequence[Valley]) -> list[Valley]:
    """The valleys of a cell at all its batches, the least first."""
    return sorted((each for each in found if each.cell.id == best.cell.id), key=lambda each: each.batch_tokens)


def _tells_batch(best: Valley, found: Sequence[Valley]) -> bool:
    """Whether a cell was trained at several batches and the best of them is not held at one window."""
    return len(_tried(best, found)) > 1 and best.batch_tokens > best.cell.shape.context


def _best_batch(best: Valley, found: Sequence[Valley]) -> float:
    """The floor in the batch of a cell, by a parabola as for rates; the best one tried where that is at an end."""
    tried = _tried(best, found)
    i = tried.index(best)
    if not 0 < i < len(tried) - 1:
        return best.batch_tokens
    near = tried[i - 1 : i + 2]
    return _floor([each.batch_tokens for each in near], [each.best_loss for each in near])[0]


def fitted_rule(found: Sequence[Valley], start: Rule) -> Rule:
    """The rule through the floors of the valleys, in powers of N and D as far as these vary apart.

    Rates are brought to one batch by the square root, and no rate is above the highest floor. Where several batches were
    searched, the batch is in powers of D and N through the best ones, or the start's times a factor where the cells cannot tell.
    A cell whose best batch is one window, the least there is, tells nothing of it.
    Raises ValueError where no floor is inside its ladder.
    """
    inside = _inside(found)
    if not inside:
        raise ValueError(
            "no ladder of rates has its best rate inside. Give more rates (--rates 7), or another rule to start from."
        )
    x = _sizes_and_lengths(inside, start)
    batch = np.array([each.batch_tokens for each in inside], float)
    rate = np.array([each.best_rate for each in inside]) / np.sqrt(batch / REFERENCE_BATCH)
    scale, powers = _powers(rate, x)
    rule = replace(
        start,
        rate=float(f"{scale:.4g}"),
        rate_N=round(powers["N"], 3),
        rate_D=round(powers["D"], 3),
        rate_width=0.0,
        rate_batch=0.5,
        rate_most=float(f"{rate.max():.3g}"),
    )
    return replace(rule, **_fitted_batch([each for each in inside if _tells_batch(each, found)], found, start))


def _fitted_batch(told: Sequence[Valley], found: Sequence[Valley], start: Rule) -> dict[str, float]:
    """The fields of a rule for the batch, through the best batches of the cells that tell one: in powers of D and, where they can
    tell it, N; the start's own times a factor where they cannot tell D; nothing where no cell tells any."""
    if not told:
        return {}
    x = _sizes_and_lengths(told, start)
    x = {"D": x["D"], "N": x["N"]}  # first what varies most
    batch = np.array([_best_batch(each, found) for each in told])
    if "D" not in _told_apart(x):
        own = [start.wanted_batch(each.cell.shape, each.cell.tokens) for each in told]
        times = float(np.exp(np.log(batch / own).mean()))
        return {"batch": float(f"{start.batch * times:.4g}"), "steps_least": float(f"{start.steps_least / times:.4g}")}
    scale, powers = _powers(batch, x, {"N": start.batch_N})
    exponents = {f"batch_{name}": round(power, 3) for name, power in powers.items()}
    return {"batch": float(f"{scale:.4g}"), **exponents, "steps_least": 0.0}


def _inside(found: Sequence[Valley]) -> list[Valley]:
    """The valleys of the best batches whose floor is inside their ladder: what a rule is drawn through."""
    return [each for each in best_batches(found) if each.inside]


def _sizes_and_lengths(found: Sequence[Valley], rule: Rule) -> dict[str, np.ndarray]:
    """N, as the rule counts it, and D of the cells, [cells]."""
    N, D = ([rule.N(each.cell.shape) for each in found], [each.cell.tokens for each in found])
    return {"N": np.array(N, float), "D": np.array(D, float)}


def _powers(
    y: np.ndarray, x: dict[str, np.ndarray], fallback: dict[str, float] | None = None
) -> tuple[float, dict[str, float]]:
    """(scale, exponents) of y ~ scale * prod x^exponent by least squares in logs, over the x that the data can tell apart.

    One that they cannot keeps its fallback exponent, or 0.
    """
    exponents = {name: (fallback or {}).get(name, 0.0) for name in x}
    used = _told_apart(x)
    rest = np.log(y) - sum(exponents[name] * np.log(values) for name, values in x.items() if name not in used)
    design = np.stack([np.ones(len(y)), *(np.log(x[name]) for name in used)], axis=1)
    solution = np.linalg.lstsq(design, rest, rcond=None)[0]
    exponents.update(zip(used, (float(each) for each in solution[1:])))
    return float(np.exp(solution[0])), exponents


def _told_apart(x: dict[str, np.ndarray]) -> list[str]:
    """The variables whose exponents the data can tell.

    Left out, last first, is one that spans less than a factor 1.8 or goes along with those before it (a condition number
    above 30 of the centred logarithms), or for which there are too few cells.
    """
    logs = {name: np.log(values) - np.log(values).mean() for name, values in x.items()}
    used: list[str] = []
    for name, log in logs.items():
        if np.ptp(log) >= math.log(1.8) and len(log) > len(used) + 1:
            columns = np.stack([logs[each] / np.linalg.norm(logs[each]) for each in [*used, name]], axis=1)
            if np.linalg.cond(columns) <= 30:
                used.append(name)
    return used


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

    def recipe(self, cell: RunSpec) -> Recipe:
        """What the tuned grid trains a cell with."""
        return self.rule(cell.shape, cell.tokens, cell.recipe.batch_tokens if self.grid.fixes("batch_tokens") else None)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is doubtful: floors outside their ladder, batches at an end of those tried, powers that the cells cannot tell."""
        said = []
        best = best_batches(self.valleys)
        outside = [each for each in best if not each.inside]
        if outside:
            said.append(f"the best rate is the last of its ladder, and left out of the rule: {_named(outside)}.")
        searched = len(best) < len(self.valleys)
        window = [each for each in best if each.batch_tokens == each.cell.shape.context] if searched else []
        if window:
            said.append(
                "the best batch is one window, the least there is, and the batch's powers are not drawn through it: "
                f"{_named(window)}."
            )
        for end, word, remedy in ((min, "least", "smaller"), (max, "largest", "larger")):
            at = [each for each in best if _is_end(each, self.valleys, end) and each not in window]
            if at:
                said.append(f"the best batch is the {word} of those tried, give {remedy} --batches: {_named(at)}.")
        told = _told_apart(_sizes_and_lengths(_inside(self.valleys), self.rule))
        if "N" not in told:
            said.append("these cells cannot tell how the rate moves with N: give the grid more sizes.")
        if "D" not in told:
            said.append(
                "these cells cannot tell how the rate moves with D from how it moves with N: give the grid a second budget or "
                "length."
            )
        return tuple(said)


def _named(found: Sequence[Valley]) -> str:
    return ", ".join(f"N = {each.cell.shape.N:,} at {each.cell.C:.2g} FLOPs" for each in found)


def _is_end(best: Valley, found: Sequence[Valley], end: Callable[[set[int]], int]) -> bool:
    """Whether several batches were tried at a cell, and its best one is the least or largest of them."""
    tried = {each.batch_tokens for each in _tried(best, found)}
    return len(tried) > 1 and best.batch_tokens == end(tried)


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

    `rates` rates a `factor` apart around the rule's, for each of the `batches` (times the rule's, one window at least) and each
    cell of `search_cells`, with every seed. A ladder whose best rate is its last is made longer, by up to LONGER rates.
    Raises ValueError for fewer than three rates, for a grid that fixes what is searched for, for too little text, and where
    no best rate is inside its ladder.
    """
    if rates < 3 or not 1 < factor < 16 or not batches or not all(0 < each < 64 for each in batches):
        raise ValueError(
            f"rates {rates}, factor {factor:g}, batches {', '.join(f'{each:g}' for each in batches)}: needed 3 rates or more, a "
            "factor between 1 and 16, and batches between 0 and 64 times the rule's."
        )
    _require_free(grid, batches)
    corpus = Corpus.of(grid.corpus, **grid.data)
    seeds = grid.blocks[0].seeds
    ladders = {
        (cell, batch): list(range(-(rates // 2), rates - rates // 2))
        for cell in search_cells(grid, corpus.digest)
        for batch in distinct_batches(cell, batches)
    }
    vary = partial(variant, rule=grid.first_rule)
    require_enough_text(grid, corpus, [vary(cell, rate_times=1.0, batch_times=batch) for cell, batch in ladders])
    while True:
        rungs = {
            (cell, batch, step): [
                replace(vary(cell, rate_times=factor**step, batch_times=batch), seed=seed) for seed in seeds
            ]
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
    return Tuned(grid, found, fitted_rule(found, grid.first_rule))


def _require_free(grid: Grid, batches: Sequence[float]) -> None:
    """Refuse a grid that fixes what is searched for."""
    if grid.fixes("learning_rate") or "learning_rate" in grid.axes:
        raise ValueError(
            "the grid fixes learning_rate, which is what is to be found. Take it out of its recipe and axes."
        )
    if list(batches) != [1.0] and (
        grid.fixes("batch_tokens") or not isinstance(grid.axes.get("batch_tokens", {}), Mapping)
    ):
        raise ValueError(
            f"the grid fixes batch_tokens, and --batches {','.join(f'{each:g}' for each in batches)} asks for others. Leave out "
            "one of them."
        )


def distinct_batches(cell: RunSpec, batches: Sequence[float]) -> tuple[float, ...]:
    """Those of the batches that are different numbers of windows at this cell; of equal ones, that nearest to the rule's."""
    nearest_last = sorted(batches, key=lambda times: -abs(math.log(times)))
    return tuple({_whole_windows(cell, times): times for times in nearest_last}.values())


def _whole_windows(cell: RunSpec, batch_times: float) -> int:
    """The batch in tokens, so many times the cell's, as a whole number of windows, at least one."""
    context = cell.shape.context
    return context * max(1, round(cell.recipe.batch_tokens * batch_times / context))


def _mean_loss(runs: Sequence[Run]) -> float:
    """The mean loss over seeds; infinite where one diverged."""
    return float(np.mean([math.inf if run.loss is None else run.loss for run in runs]))


def _next_rung(losses: dict[int, float]) -> int | None:
    """The rate to try next, in steps of the ladder, where the best so far is the last one of it; None where it is inside.

    Where fewer than three ended with a loss it is a lower one: rates that are too high diverge.
    """
    best = min(losses, key=lambda step: losses[step])
    if best == min(losses) or sum(map(math.isfinite, losses.values())) < 3:
        return min(losses) - 1
    return best + 1 if best == max(losses) else None


def search_cells(grid: Grid, digest: str) -> tuple[RunSpec, ...]:
    """The cells of a small search: the smallest, middle and largest size at the two shortest lengths, with the first seed.

    A length is a budget, a number of tokens or of tokens a parameter, and its sizes are those that the grid has at it. Where
    two lengths have fewer than three sizes and the grid has more, each of its sizes takes its own two shortest lengths.
    """
    there: dict[tuple[str, float], dict[Shape, Mapping[str, Any]]] = {}
    for cells in grid.blocks:
        for length in cells.lengths:
            for shape in cells.shapes:
                there.setdefault((cells.by, length), {}).setdefault(shape, cells.recipe)
    lengths = sorted(there, key=lambda each: (LENGTHS.index(each[0]), each[1]))
    wanted = [(length, shape) for length in lengths[:2] for shape in _three(there[length])]
    sizes = {shape for shapes in there.values() for shape in shapes}
    if len({shape for _, shape in wanted}) < min(3, len(sizes)):
        of_size = {shape: [length for length in lengths if shape in there[length]][:2] for shape in _three(sizes)}
        wanted = [(length, shape) for shape, own in of_size.items() for length in own]
    first = grid.blocks[0].seeds[:1]
    found = tuple(Cells((shape,), by, (length,), first, there[by, length][shape]) for (by, length), shape in wanted)
    return replace(grid, curves=(), cells=found, axes={}).specs(digest)


def _three(shapes: Iterable[Shape]) -> list[Shape]:
    """The smallest, the middle and the largest."""
    ordered = sorted(shapes, key=lambda shape: shape.N)
    return list(dict.fromkeys(ordered[i] for i in (0, len(ordered) // 2, -1)))


def variant(spec: RunSpec, rule: Rule, rate_times: float, batch_times: float = 1.0) -> RunSpec:
    """The spec at another rate and batch: the rate times `rate_times` and the square root of the batch's change, beta2 as the
    rule has it there, where it is the rule's.

    The batch stays a whole number of windows, at least one, and D a whole number of batches.
    """
    recipe = spec.recipe
    batch = _whole_windows(spec, batch_times)
    rate = recipe.learning_rate * rate_times * math.sqrt(batch / recipe.batch_tokens)
    tokens = batch * max(1, round(spec.tokens / batch))
    beta2 = rule.beta2_at(batch) if recipe.beta2 == rule.beta2_at(recipe.batch_tokens) else recipe.beta2
    recipe = replace(recipe, learning_rate=float(f"{rate:.3g}"), batch_tokens=batch, beta2=beta2)
    return replace(spec, tokens=tokens, recipe=recipe)
