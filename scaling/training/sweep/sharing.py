"""What branches of one trunk a size save: the longest run and the decays of the others, instead of one run a cell."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from scaling.grid import Grid, RunSpec
from scaling.shape import Shape
from scaling.training.tasks import tasks_of

#: How far apart lengths are, for the shares that are said beforehand.
APART = (1.5, 2.0, 3.0)


def closed_form(lengths: Sequence[float], decay_share: float) -> float:
    """FLOPs of branches over those of one run a cell, for one size trained for these lengths (or budgets)."""
    return (decay_share * sum(lengths) + (1 - decay_share) * max(lengths)) / sum(lengths)


def by_spacing(count: int, decay_share: float) -> dict[float, float]:
    """The closed form for so many lengths, each so many times the one before: what closer budgets would save."""
    return {apart: closed_form([apart**k for k in range(count)], decay_share) for apart in APART}


def share(specs: Sequence[RunSpec]) -> float:
    """FLOPs of the tasks of these cells, over the cost of one run a cell: below 1 where branches share a trunk."""
    return sum(task.flops for task in tasks_of(specs)) / max(1, sum(spec.C for spec in specs))


def as_branches(grid: Grid, digest: str) -> tuple[RunSpec, ...]:
    """The cells of a grid as they would be under schedule "wsd"."""
    cells = tuple(replace(each, recipe=_branched(each.recipe)) for each in grid.cells)
    axes = {name: values for name, values in grid.axes.items() if name != "schedule"}
    return replace(grid, recipe=_branched(grid.recipe), cells=cells, axes=axes).specs(digest)


def most_lengths(specs: Sequence[RunSpec]) -> int:
    """The most lengths that one size is trained for."""
    lengths: dict[Shape, set[int]] = defaultdict(set)
    for spec in specs:
        lengths[spec.shape].add(spec.tokens)
    return max(map(len, lengths.values()), default=0)


def _branched(recipe: dict) -> dict:
    return {**recipe, "schedule": "wsd"}
