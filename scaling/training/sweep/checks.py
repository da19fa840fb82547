"""What stands against sweeping a grid into a folder: another grid's folder, cells trained otherwise, other or too little text."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaling.grid import Grid, IsoFlop, RunSpec
from scaling.recipe import Recipe
from scaling.runs import Run

if TYPE_CHECKING:
    from scaling.training.corpus import Corpus

#: Runs of one budget have FLOPs that differ by less: each is a whole number of its own batches.
SAME_C = 0.02


def require_same(path: Path, now: Grid) -> None:
    """Refuse a folder whose grid.toml is of another grid; a folder without one is free. A corpus' name does not count."""
    before = Grid.read(path) if path.exists() else now
    for each in fields(Grid):
        old, new = getattr(before, each.name), getattr(now, each.name)
        if each.name not in ("name", "corpus") and old != new:
            raise ValueError(
                f"{path.parent} belongs to another grid: its {_differs(each.name, old, new)}. Give another --out, or edit {path} "
                "and sweep that."
            )


def _differs(name: str, old: Any, new: Any) -> str:
    """How one field of two grids differs, short enough to read."""
    if name == "curves" and (there := _cells(old)) != (here := _cells(new)):
        parts = [f"has {_some(there - here)} more"] if there - here else []
        parts += [f"lacks {_some(here - there)}"] if here - there else []
        return f"isoFLOP curves differ: it {' and '.join(parts)}"
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        key = next(key for key in {**old, **new} if old.get(key) != new.get(key))
        name, old, new = f"{name}.{key}", old.get(key), new.get(key)
    return f"{name} is {_short(old)}, this one's is {_short(new)}"


def _cells(curves: Sequence[IsoFlop]) -> set[tuple[float, int, int]]:
    return {(each.budget, shape.N, seed) for each in curves for shape in each.shapes for seed in each.seeds}


def _some(cells: set[tuple[float, int, int]]) -> str:
    budget, N, seed = min(cells)
    of_many = "" if len(cells) == 1 else f"{len(cells)} cells, the first "
    return f"{of_many}{budget:.4g} FLOPs with N = {N:,} and seed {seed}"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) < 120 else text[:117] + "..."


def require_no_twins(folder: Path, specs: tuple[RunSpec, ...], strangers: Mapping[str, Run]) -> None:
    """Refuse records of the same shape, seed and budget as a cell, but trained otherwise: they would mix in a fit."""
    cells = defaultdict(list)
    for spec in specs if strangers else ():
        cells[spec.shape, spec.seed].append(spec)
    for id, run in strangers.items():
        was = RunSpec.from_json(run.spec)
        there = cells[was.shape, was.seed]
        now = next((each for each in there if math.isclose(each.C, was.C, rel_tol=SAME_C)), None)
        if now:
            raise ValueError(
                f"{folder}: record {id} is of a cell of this grid, trained otherwise: {_difference(was, now)}. The grid, the "
                "rule or the corpus has changed since. Sweep into another folder, or move the old records away."
            )


def _difference(was: RunSpec, now: RunSpec) -> str:
    pairs = [(each.name, getattr(was.recipe, each.name), getattr(now.recipe, each.name)) for each in fields(Recipe)]
    pairs += [(name, getattr(was, name), getattr(now, name)) for name in ("digest", "tokens", "eval_tokens")]
    return ", ".join(f"{name} was {old}, is now {new}" for name, old, new in pairs if old != new)


def require_same_heldouts(before: Mapping[str, str], corpus: Corpus) -> None:
    """Refuse a further held-out set whose digest is another than before."""
    for name, now in corpus.manifest.get("heldouts", {}).items():
        if before.get(name, now) != now:
            raise ValueError(
                f"held-out set {name!r} has changed: the runs were evaluated on digest {before[name]}, it now has {now}. "
                "Restore the text, or begin a new folder of runs."
            )


def require_enough_text(grid: Grid, corpus: Corpus, specs: Sequence[RunSpec]) -> None:
    for shape in {spec.shape.context: spec.shape for spec in specs}.values():
        corpus.evaluation(grid.eval_tokens, shape.context)
        for name in corpus.heldouts:
            corpus.further(name, grid.eval_tokens, shape.context)
    small = min((spec.shape for spec in specs), key=lambda shape: shape.vocab)
    if corpus.vocab > small.vocab:
        raise ValueError(
            f"corpus {corpus.name!r} has {corpus.vocab:,} token ids, and the grid's sizes a vocabulary of {small.vocab:,}. "
            f"Set vocab = {corpus.vocab}."
        )
    for spec in specs:
        epochs = corpus.epochs(spec.tokens, spec.shape.context)
        if epochs > grid.epochs:
            raise ValueError(
                f"N = {spec.shape.N:,} at C = {spec.C:.3g} needs {spec.tokens:,} tokens, and corpus {corpus.name!r} has "
                f"{len(corpus.train):,} to train on: that is {epochs:.2f} epochs, and the grid allows {grid.epochs:g}. Give more "
                f"text, drop the size, or set epochs = {math.ceil(epochs)} to allow repetition (it is recorded)."
            )
