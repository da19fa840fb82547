"""RunSpec: one run, fixed completely; Grid: a grid.toml and the RunSpecs it stands for."""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from scaling.recipe import RULES, Recipe, Rule
from scaling.shape import Shape

#: Held-out tokens that every run of a sweep is evaluated on.
EVAL_TOKENS = 262_144

#: Key of a grid.toml -> what it says.
KEYS = {
    "name": "name of the sweep (the file's or its folder's)",
    "corpus": "what is trained on: python, planted:0, hf:NAME, or a path of text, JSONL, Parquet or token files (python)",
    "tokenizer": "bytes, bpe:VOCAB trained on the corpus, or the path of a tokenizer.json (bytes)",
    "column": "where JSONL, Parquet and hub data sets have their text (text)",
    "heldout": "table of further held-out sets: a name, and what it is read from, as corpus",
    "budgets": "FLOPs, a list: every size is trained at every budget",
    "sizes": "numbers of parameters, or tables with depth and perhaps width, heads, vocab, context, mlp_ratio",
    "isoflop": "instead of budgets and sizes: tables with a budget, sizes of its own, and perhaps seeds",
    "tokens": "instead of budgets: tokens D, a list; every size is trained on every D",
    "tokens_per_parameter": "instead of budgets: D/N, a list; every size is trained at every ratio",
    "cells": "instead of sizes, or beside [[isoflop]]: tables with sizes, one of budgets, tokens and tokens_per_parameter, and "
    "perhaps seeds and a recipe table of their own; one size at one D is one cell",
    "axes": "table of recipe fields: a list of values, or { times = [0.5, 1, 2] } of the rule's; every cell at each",
    "context": "window in tokens, where a size does not say (64)",
    "vocab": "vocabulary, where a size does not say (256)",
    "shape": "a table of further fields of every size: mlp_ratio, tied, positions, mlp, kv_heads, experts, experts_per_token",
    "seeds": "whole numbers, a list; each trains every cell again ([0])",
    "rule": "what chooses rate, batch and warm-up from shape and tokens: a name, or a table of its powers (valley)",
    "recipe": "table of recipe fields that are fixed for all runs, instead of the rule's",
    "schedule": "what the learning rate does after warm-up; short for recipe.schedule (linear)",
    "eval_tokens": "held-out tokens that every run is evaluated on (262144)",
    "epochs": "most passes over the training tokens (1)",
}


#: What a [shape] table gives to every size of a grid; a size's own table may say it otherwise.
OPTIONS = tuple(each.name for each in fields(Shape) if each.name not in ("depth", "width", "heads"))


#: The fields of a recipe.
RECIPE = tuple(each.name for each in fields(Recipe))


#: What a written grid says of every size; further fields where they differ from their defaults.
WRITTEN = ("depth", "width", "heads", "vocab", "context", "mlp_ratio")


@dataclass(frozen=True)
class RunSpec:
    """What a run is: the same spec gives the same loss. `id` is the hash of its content.

    `tokens` is D, a whole number of batches. `corpus` is a name or path for people; `digest` is what counts.
    """

    shape: Shape
    recipe: Recipe
    corpus: str
    digest: str
    tokens: int
    seed: int = 0
    eval_tokens: int = EVAL_TOKENS

    @cached_property
    def id(self) -> str:
        """First 16 hex digits of the SHA-256 of what the spec says: all but the corpus' name and fields at their default.

        A field that is added later, with today's behaviour as its default, so leaves the ids of old runs as they are.
        A default is never changed: it would give two runs one id.
        """
        return _hash(self, ("corpus",))

    @cached_property
    def trunk(self) -> str | None:
        """What a wsd run shares with its siblings, the runs that differ from it in `tokens` alone; None for other schedules.

        Until its own decay begins, such a run is the first stretch of the longest of them.
        """
        return _hash(self, ("corpus", "tokens")) if self.recipe.schedule == "wsd" else None

    @property
    def decay_steps(self) -> int:
        """Steps of the decay at the end of a wsd run, at least one; those before are its trunk's."""
        return max(1, round(self.recipe.decay_share * self.steps))

    @property
    def steps(self) -> int:
        """Optimiser steps."""
        return self.tokens // self.recipe.batch_tokens

    @property
    def C(self) -> int:
        """Exact training FLOPs."""
        return self.shape.flops_per_token * self.tokens

    @classmethod
    def from_json(cls, spec: Mapping[str, Any]) -> RunSpec:
        """The spec that `dataclasses.asdict` wrote."""
        return cls(**{**spec, "shape": Shape(**spec["shape"]), "recipe": Recipe(**spec["recipe"])})


@dataclass(frozen=True)
class IsoFlop:
    """One budget in FLOPs, the shapes that are trained at it, and with which seeds."""

    budget: float
    shapes: tuple[Shape, ...]
    seeds: tuple[int, ...] = (0,)


#: How a grid says how long its sizes are trained.
LENGTHS = ("budgets", "tokens", "tokens_per_parameter")


@dataclass(frozen=True)
class Cells:
    """A product: every shape at every length, with every seed. `by` says what the lengths are: one of LENGTHS.

    `recipe` holds fields that are fixed for these cells, before those of the grid.
    """

    shapes: tuple[Shape, ...]
    by: str
    lengths: tuple[float, ...]
    seeds: tuple[int, ...] = (0,)
    recipe: Mapping[str, Any] = field(default_factory=dict)

    def tokens(self, shape: Shape) -> tuple[float, ...]:
        """D of each length for a shape, before it is rounded to batches."""
        factor = {"budgets": 1 / shape.flops_per_token, "tokens": 1.0, "tokens_per_parameter": float(shape.N)}[self.by]
        return tuple(length * factor for length in self.lengths)


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
        _known_keys(table, tuple(KEYS), "")
        options = dict(table.get("shape", {}))
        _known_keys(options, OPTIONS, "shape.")
        options = {"vocab": _whole(table, "vocab", 256), "context": _whole(table, "context", 64), **options}
        lists = [key for key in (*LENGTHS, "sizes") if key in table]
        if lists and ("isoflop" in table or "cells" in table):
            raise ValueError(f"give either {' with '.join(lists)}, or [[isoflop]] and [[cells]] tables, not both.")
        rows, blocks = _tables(table, "isoflop"), _tables(table, "cells")
        if not rows and not blocks:
            by = _one_length(table, "")
            if by == "budgets":
                rows = [{"budget": C, "sizes": _required(table, "sizes")} for C in _list(table["budgets"], "budgets")]
            else:
                blocks = [{by: table[by], "sizes": _required(table, "sizes")}]
        curves = []
        for row in rows:
            _known_keys(row, ("budget", "sizes", "seeds"), "isoflop.")
            budget = _positive(_required(row, "budget"), "budget")
            sizes = _list(_required(row, "sizes"), "sizes")
            shapes = tuple(dict.fromkeys(_shape(size, options) for size in sizes))
            seeds = _seeds(row.get("seeds", table.get("seeds", [0])))
            curves.append(IsoFlop(budget, tuple(sorted(shapes, key=lambda shape: shape.N)), seeds))
        recipe = dict(table.get("recipe", {}))
        _known_keys(recipe, RECIPE, "recipe.")
        if recipe.setdefault("schedule", table.get("schedule")) is None:
            del recipe["schedule"]
        return cls(
            name=str(table.get("name", name)),
            curves=tuple(sorted(curves, key=lambda curve: curve.budget)),
            corpus=str(table.get("corpus", "python")),
            rule=_rule(table.get("rule", "valley")),
            recipe=recipe,
            cells=tuple(_cells(block, table, options) for block in blocks),
            axes=_axes(table.get("axes", {})),
            eval_tokens=_whole(table, "eval_tokens", EVAL_TOKENS),
            epochs=_positive(table.get("epochs", 1.0), "epochs"),
            tokenizer=None if "tokenizer" not in table else _text(table["tokenizer"], "tokenizer"),
            column=_text(table.get("column", "text"), "column"),
            heldout=_heldout(table.get("heldout", {})),
        )

    def toml(self) -> str:
        """The grid as the text of a grid.toml, every shape written out; `Grid.read` gives the same grid back."""
        lines = [
            f"name = {json.dumps(self.name)}",
            f"corpus = {json.dumps(self.corpus)}",
            f"rule = {_inline(asdict(self.rule)) if isinstance(self.rule, Rule) else json.dumps(self.rule)}",
            f"eval_tokens = {self.eval_tokens}",
            f"epochs = {self.epochs!r}",
        ]
        if self.tokenizer is not None:
            lines.append(f"tokenizer = {json.dumps(self.tokenizer)}")
        if self.column != "text":
            lines.append(f"column = {json.dumps(self.column)}")
        if self.heldout:
            lines += [
                "",
                "[heldout]",
                *(f"{json.dumps(key)} = {json.dumps(path)}" for key, path in self.heldout.items()),
            ]
        if self.recipe:
            lines += ["", "[recipe]", *(f"{key} = {json.dumps(value)}" for key, value in sorted(self.recipe.items()))]
        if self.axes:
            lines += ["", "[axes]"]
            for key, values in self.axes.items():
                times = isinstance(values, Mapping)
                told = json.dumps(list(values["times"] if times else values))
                lines.append(f"{key} = {{ times = {told} }}" if times else f"{key} = {told}")
        for curve in self.curves:
            lines += ["", "[[isoflop]]", f"budget = {curve.budget!r}", *_sizes_and_seeds(curve.shapes, curve.seeds)]
        for cells in self.cells:
            lines += [
                "",
                "[[cells]]",
                f"{cells.by} = {list(cells.lengths)}",
                *_sizes_and_seeds(cells.shapes, cells.seeds),
            ]
            if cells.recipe:
                lines.append(f"recipe = {_inline(cells.recipe)}")
        return "\n".join(lines) + "\n"

    def specs(self, digest: str) -> tuple[RunSpec, ...]:
        """One spec a cell and value of the axes, isoFLOP curves first, on the corpus of this digest.

        D is rounded to whole batches. Under schedule "wsd" all runs of one shape have one recipe, so that they share a
        trunk: batch and rate are those of the longest, the warm-up that of the shortest. Raises ValueError for a length
        below one batch.
        """
        rule = self.rule if isinstance(self.rule, Rule) else RULES[self.rule]
        blocks = [Cells(curve.shapes, "budgets", (curve.budget,), curve.seeds) for curve in self.curves]
        blocks += self.cells
        lengths: dict[tuple[Shape, str], list[float]] = {}
        for cells in blocks:
            for shape in cells.shapes:
                lengths.setdefault((shape, str(cells.recipe)), []).extend(cells.tokens(shape))
        specs = []
        for cells in blocks:
            fixed = {**self.recipe, **cells.recipe}
            for shape in cells.shapes:
                shared = lengths[shape, str(cells.recipe)] if fixed.get("schedule") == "wsd" else None
                for wanted in cells.tokens(shape):
                    base = rule(shape, max(shared or [wanted]))
                    base = replace(base, warmup_tokens=rule(shape, min(shared or [wanted])).warmup_tokens)
                    for recipe in self._along_axes(_override(base, fixed)):
                        tokens = _whole_batches(shape, recipe, wanted)
                        one = RunSpec(shape, recipe, self.corpus, digest, tokens, eval_tokens=self.eval_tokens)
                        specs += [replace(one, seed=seed) for seed in cells.seeds]
        return tuple(dict.fromkeys(specs))

    def _along_axes(self, recipe: Recipe) -> list[Recipe]:
        recipes = [recipe]
        for key, values in self.axes.items():
            if isinstance(values, Mapping):
                recipes = [
                    replace(each, **{key: _times(getattr(each, key), x)}) for each in recipes for x in values["times"]
                ]
            else:
                recipes = [_override(each, {key: value}) for each in recipes for value in values]
        return recipes


def _override(recipe: Recipe, fixed: Mapping[str, Any]) -> Recipe:
    try:
        return replace(recipe, **fixed)
    except TypeError as error:
        raise ValueError(f"recipe: {error}.") from None


def _times(value: float, factor: float) -> float:
    """A recipe's number times a factor: a count stays whole, a rate keeps four digits."""
    return round(value * factor) if isinstance(value, int) else float(f"{value * factor:.4g}")


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


def _tables(table: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    rows = table.get(key, [])
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        raise ValueError(f"{key}: needed [[{key}]] tables.")
    return rows


def _one_length(table: Mapping[str, Any], prefix: str) -> str:
    """The key that says how long sizes are trained. Raises ValueError where it is none, or several."""
    said = [key for key in LENGTHS if key in table]
    if not said:
        _required(table, "sizes")
        raise ValueError(f"{prefix}budgets is missing (or tokens, or tokens_per_parameter).")
    if len(said) > 1:
        raise ValueError(f"{prefix}{said[0]} and {prefix}{said[1]}: give one of them.")
    return said[0]


def _cells(block: Mapping[str, Any], table: Mapping[str, Any], options: Mapping[str, Any]) -> Cells:
    """A [[cells]] table, with the grid's seeds where it has none."""
    _known_keys(block, ("sizes", *LENGTHS, "seeds", "recipe"), "cells.")
    by = _one_length(block, "cells.")
    recipe = dict(block.get("recipe", {}))
    _known_keys(recipe, RECIPE, "cells.recipe.")
    shapes = dict.fromkeys(_shape(size, options) for size in _list(_required(block, "sizes"), "sizes"))
    lengths = tuple(_positive(length, by) for length in _list(block[by], by))
    return Cells(tuple(shapes), by, lengths, _seeds(block.get("seeds", table.get("seeds", [0]))), recipe)


def _axes(table: object) -> dict[str, Any]:
    """The axes of a grid.toml: a list of values, or a table { times = [...] }, for each recipe field."""
    if not isinstance(table, Mapping):
        raise ValueError(f"axes = {table!r}: needed a table of recipe fields.")
    _known_keys(table, RECIPE, "axes.")
    axes = {}
    for key, values in table.items():
        if isinstance(values, Mapping):
            _known_keys(values, ("times",), f"axes.{key}.")
            if key in ("schedule", "precision", "cooldown"):
                raise ValueError(f"axes.{key}: {key} is no number to be multiplied; give a list of values.")
            factors = _list(_required(values, "times"), f"axes.{key}.times")
            axes[key] = {"times": tuple(_positive(factor, f"axes.{key}.times") for factor in factors)}
        else:
            axes[key] = tuple(_list(values, f"axes.{key}"))
    return axes


def _sizes_and_seeds(shapes: tuple[Shape, ...], seeds: tuple[int, ...]) -> list[str]:
    """Lines of TOML, every shape written out."""
    lines = [f"seeds = {list(seeds)}", "sizes = ["]
    for shape in shapes:
        said = {key: value for key, value in asdict(shape).items() if key in WRITTEN or key in _said(shape)}
        lines.append(f"    {_inline(said)}, # N = {shape.N:,}")
    return [*lines, "]"]


def _hash(spec: RunSpec, without: tuple[str, ...]) -> str:
    """First 16 hex digits of the SHA-256 of what a spec says, without some fields."""
    content = {key: value for key, value in _said(spec).items() if key not in without}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _said(spec: RunSpec | Shape | Recipe) -> dict[str, Any]:
    """The fields of a spec that differ from their defaults, those of its shape and recipe in tables of their own."""
    pairs = ((name, getattr(spec, name), default) for name, default in _defaults(type(spec)))
    return {
        name: _said(value) if isinstance(value, Shape | Recipe) else value
        for name, value, default in pairs
        if value != default
    }


@cache
def _defaults(kind: type) -> tuple[tuple[str, Any], ...]:
    return tuple((each.name, each.default) for each in fields(kind))


def _shape(size: object, options: Mapping[str, Any]) -> Shape:
    """A size as a grid.toml gives it: a number of parameters, or a table with depth and perhaps width."""
    if isinstance(size, Mapping):
        _known_keys(size, tuple(each.name for each in fields(Shape)), "sizes.")
        keys = {**options, **size}
        if "depth" not in keys:
            raise ValueError(f"sizes: {dict(size)!r} has no depth.")
        return Shape.of_width(**keys) if "width" in keys else Shape.of_depth(**keys)
    return Shape.near(_positive(size, "sizes"), **options)


def _rule(rule: object) -> str | Rule:
    """The rule as a grid.toml gives it: the name of one, or a table of its powers."""
    if isinstance(rule, Mapping):
        _known_keys(rule, tuple(each.name for each in fields(Rule)), "rule.")
        return Rule(**{"rate": _required(rule, "rate"), "batch": _required(rule, "batch"), **rule})
    if rule not in RULES:
        raise ValueError(f"rule = {rule!r}: needed one of {', '.join(RULES)}, or a table with at least rate and batch.")
    return str(rule)


def _inline(table: Mapping[str, Any]) -> str:
    """A table of numbers and strings as one line of TOML."""
    inside = (
        f"{key} = {json.dumps(value) if isinstance(value, str | bool) else value}" for key, value in table.items()
    )
    return f"{{ {', '.join(inside)} }}"


def _seeds(seeds: object) -> tuple[int, ...]:
    if not isinstance(seeds, list) or not seeds or not all(type(seed) is int and 0 <= seed < 2**31 for seed in seeds):
        raise ValueError(f"seeds = {seeds!r}: needed a list of whole numbers of 0 or more.")
    return tuple(dict.fromkeys(seeds))


def _known_keys(table: Mapping[str, Any], known: tuple[str, ...], prefix: str) -> None:
    for key in table:
        if key not in known:
            nearest = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean {prefix}{nearest[0]}?" if nearest else f"known keys: {', '.join(known)}."
            raise ValueError(f"unknown key {prefix}{key}; {hint}")


def _required(table: Mapping[str, Any], key: str) -> Any:
    if key not in table:
        raise ValueError(f"{key} is missing.")
    return table[key]


def _list(value: object, key: str) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise ValueError(f"{key} = {value!r}: needed a list that is not empty.")
    return value


def _text(value: object, key: str) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{key} = {value!r}: needed text in quotes.")
    return value


def _heldout(table: object) -> dict[str, str]:
    if not isinstance(table, Mapping):
        raise ValueError(f"heldout = {table!r}: needed a table of names and paths.")
    return {name: _text(path, f"heldout.{name}") for name, path in table.items()}


def _positive(value: object, key: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value) or value <= 0:
        raise ValueError(f"{key} = {value!r}: needed a positive number.")
    return float(value)


def _whole(table: Mapping[str, Any], key: str, default: int) -> int:
    value = _positive(table.get(key, default), key)
    if value != int(value):
        raise ValueError(f"{key} = {table[key]!r}: needed a whole number.")
    return int(value)
