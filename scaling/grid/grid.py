"""Grid: a grid.toml and the RunSpecs it stands for."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

from scaling.grid.cells import Cells, IsoFlop
from scaling.grid.read import parsed
from scaling.grid.spec import EVAL_TOKENS, RunSpec
from scaling.grid.write import to_toml
from scaling.recipe import RULES, Recipe, Rule
from scaling.shape import Shape


@dataclass(frozen=True)
class Grid:
    """A grid.toml: the isoFLOP curves and other cells to train, on which corpus, with which seeds and recipe.

    `axes` are recipe fields of which every cell is trained at several values: a tuple of
    them, or {"times": factors of the rule's}.
    """

    name: str
    curves: tuple[IsoFlop, ...]
    corpus: str = "python"
    rule: str | Rule = "valley"
    recipe: Mapping[str, Any] = field(default_factory=dict)
    eval_tokens: int = EVAL_TOKENS
    epochs: float = 1.0
    tokenizer: str | None = None
    column: str = "text"
    heldout: Mapping[str, str] = field(default_factory=dict)
    cells: tuple[Cells, ...] = ()
    axes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def data(self) -> dict[str, Any]:
        """How the corpus is read: what `Corpus.of` takes beside its name."""
        return {"tokenizer": self.tokenizer, "column": self.column, "heldout": self.heldout}

    @classmethod
    def read(cls, path: str | Path) -> Grid:
        """The grid in a TOML file. Raises ValueError naming the file and the key that is wrong."""
        path = Path(path)
        if path.is_dir():
            path = path / "grid.toml"
        try:
            table = tomllib.loads(path.read_text())
        except FileNotFoundError:
            raise ValueError(f"{path}: no such file. A grid is a TOML file; see `scaling sweep --help`.") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{path}: not valid TOML: {error}.") from None
        try:
            return cls.of(table, name=path.parent.name if path.stem == "grid" else path.stem)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    @classmethod
    def of(cls, table: Mapping[str, Any], *, name: str = "grid") -> Grid:
        """The grid that a parsed TOML table describes. Raises ValueError naming the key that is wrong."""
        return cls(**parsed(table, name=name))

    def toml(self) -> str:
        """The grid as the text of a grid.toml, every shape written out; `Grid.read` gives the same grid back."""
        return to_toml(self)

    def specs(self, digest: str) -> tuple[RunSpec, ...]:
        """One spec a cell and value of the axes, isoFLOP curves first, on the corpus of this digest.

        D is rounded to whole batches. A batch that the grid gives has the rule's rate for that batch. Under schedule "wsd"
        all runs of one shape have one recipe, so that they share a trunk: batch and rate are those of the longest, the
        warm-up that of the shortest. Raises ValueError for a length below one batch.
        """
        lengths: dict[tuple[Shape, str], list[float]] = {}
        for cells in self.blocks:
            for shape in cells.shapes:
                lengths.setdefault((shape, str(cells.recipe)), []).extend(cells.tokens(shape))
        specs = []
        for cells in self.blocks:
            fixed = {**self.recipe, **cells.recipe}
            for shape in cells.shapes:
                for wanted in cells.tokens(shape):
                    for recipe in self._recipes(shape, wanted, lengths[shape, str(cells.recipe)], fixed):
                        tokens = _whole_batches(shape, recipe, wanted)
                        one = RunSpec(shape, recipe, self.corpus, digest, tokens, eval_tokens=self.eval_tokens)
                        specs += [replace(one, seed=seed) for seed in cells.seeds]
        return tuple(dict.fromkeys(specs))

    @property
    def blocks(self) -> tuple[Cells, ...]:
        """All cells, those of the isoFLOP curves first."""
        curves = (Cells(curve.shapes, "budgets", (curve.budget,), curve.seeds) for curve in self.curves)
        return (*curves, *self.cells)

    def fixes(self, key: str) -> bool:
        """Whether the recipe, or that of some of the cells, says this field."""
        return any(key in each.recipe for each in (self, *self.cells))

    @property
    def first_rule(self) -> Rule:
        """The rule itself, where `rule` is a name."""
        return self.rule if isinstance(self.rule, Rule) else RULES[self.rule]

    def _recipes(
        self, shape: Shape, wanted: float, together: Sequence[float], fixed: Mapping[str, Any]
    ) -> list[Recipe]:
        """The recipe of a shape for D = `wanted` at each point of the axes; under wsd, for all D of `together`."""
        recipes = []
        for values in product(*map(_points, self.axes.values())):
            point = dict(zip(self.axes, values))
            lengths = together if {**fixed, **point}.get("schedule") == "wsd" else [wanted]
            recipe = self._of_rule(shape, lengths, fixed.get("batch_tokens"))
            if "batch_tokens" in point:
                recipe = self._of_rule(shape, lengths, _at(point.pop("batch_tokens"), recipe.batch_tokens))
            recipe = _override(recipe, {**fixed, "batch_tokens": recipe.batch_tokens})
            recipes.append(_override(recipe, {key: _at(value, getattr(recipe, key)) for key, value in point.items()}))
        return recipes

    def _of_rule(self, shape: Shape, lengths: Sequence[float], batch_tokens: int | None) -> Recipe:
        """Batch and rate of the longest, warm-up of the shortest; the rate is that for the batch, where one is given."""
        recipe, short = (self.first_rule(shape, tokens, batch_tokens) for tokens in (max(lengths), min(lengths)))
        return replace(recipe, warmup_tokens=short.warmup_tokens)


@dataclass(frozen=True)
class _Times:
    """A point of an axis that multiplies what is there: a count stays whole, a rate keeps four digits."""

    factor: float

    def __call__(self, value: Any) -> float:
        return round(value * self.factor) if isinstance(value, int) else float(f"{value * self.factor:.4g}")


def _at(value: Any, there: Any) -> Any:
    return value(there) if isinstance(value, _Times) else value


def _points(axis: Any) -> list[Any]:
    return [_Times(factor) for factor in axis["times"]] if isinstance(axis, Mapping) else list(axis)


def _override(recipe: Recipe, fixed: Mapping[str, Any]) -> Recipe:
    try:
        return replace(recipe, **fixed)
    except TypeError as error:
        raise ValueError(f"recipe: {error}.") from None


def _whole_batches(shape: Shape, recipe: Recipe, wanted: float) -> int:
    """The whole number of batches nearest to `wanted` tokens, in tokens. Raises ValueError where it is none."""
    if recipe.batch_tokens % shape.context:
        raise ValueError(
            f"recipe.batch_tokens = {recipe.batch_tokens}: needed a multiple of the context, {shape.context}."
        )
    steps = round(wanted / recipe.batch_tokens)
    if steps < 1:
        raise ValueError(
            f"{wanted:,.0f} tokens, or {shape.flops_per_token * wanted:.3g} FLOPs, is too small for one batch of "
            f"{recipe.batch_tokens} tokens at N = {shape.N:,} ({shape.flops_per_token * recipe.batch_tokens:.3g} FLOPs). Raise "
            "the budget or drop the size."
        )
    return steps * recipe.batch_tokens
