"""RunSpec: one run, fixed completely; Grid: a grid.toml and the RunSpecs it stands for."""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from scaling.recipe import RULES, Recipe, Rule
from scaling.shape import Shape

#: Held-out tokens that every run of a sweep is evaluated on.
EVAL_TOKENS = 262_144

#: Key of a grid.toml -> what it says.
KEYS = {
    "name": "name of the sweep (the file's or its folder's)",
    "corpus": "name or path of the text that is trained on (python)",
    "budgets": "FLOPs, a list: every size is trained at every budget",
    "sizes": "numbers of parameters, or tables with depth and perhaps width, heads, vocab, context, mlp_ratio",
    "isoflop": "instead of budgets and sizes: tables with a budget, sizes of its own, and perhaps seeds",
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

    @property
    def id(self) -> str:
        """First 16 hex digits of the SHA-256 of what the spec says: all but the corpus' name and fields at their default.

        A field that is added later, with today's behaviour as its default, so leaves the ids of old runs as they are.
        A default is never changed: it would give two runs one id.
        """
        return _hash(self, ("corpus",))

    @property
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


@dataclass(frozen=True)
class Grid:
    """A grid.toml: the isoFLOP curves to train, on which corpus, with which seeds and recipe."""

    name: str
    curves: tuple[IsoFlop, ...]
    corpus: str = "python"
    rule: str | Rule = "valley"
    recipe: Mapping[str, Any] = field(default_factory=dict)
    eval_tokens: int = EVAL_TOKENS
    epochs: float = 1.0

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
        if "isoflop" in table:
            if "budgets" in table or "sizes" in table:
                raise ValueError("give either budgets with sizes, or [[isoflop]] tables, not both.")
            rows = table["isoflop"]
            if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
                raise ValueError("isoflop: needed [[isoflop]] tables, each with a budget and sizes.")
        else:
            rows = [
                {"budget": budget, "sizes": _required(table, "sizes")}
                for budget in _list(_required(table, "budgets"), "budgets")
            ]
        curves = []
        for row in rows:
            _known_keys(row, ("budget", "sizes", "seeds"), "isoflop.")
            budget = _positive(_required(row, "budget"), "budget")
            sizes = _list(_required(row, "sizes"), "sizes")
            shapes = tuple(dict.fromkeys(_shape(size, options) for size in sizes))
            seeds = _seeds(row.get("seeds", table.get("seeds", [0])))
            curves.append(IsoFlop(budget, tuple(sorted(shapes, key=lambda shape: shape.N)), seeds))
        recipe = dict(table.get("recipe", {}))
        _known_keys(recipe, tuple(f.name for f in fields(Recipe)), "recipe.")
        if recipe.setdefault("schedule", table.get("schedule")) is None:
            del recipe["schedule"]
        return cls(
            name=str(table.get("name", name)),
            curves=tuple(sorted(curves, key=lambda curve: curve.budget)),
            corpus=str(table.get("corpus", "python")),
            rule=_rule(table.get("rule", "valley")),
            recipe=recipe,
            eval_tokens=_whole(table, "eval_tokens", EVAL_TOKENS),
            epochs=_positive(table.get("epochs", 1.0), "epochs"),
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
        if self.recipe:
            lines += ["", "[recipe]", *(f"{key} = {json.dumps(value)}" for key, value in sorted(self.recipe.items()))]
        for curve in self.curves:
            lines += ["", "[[isoflop]]", f"budget = {curve.budget!r}", f"seeds = {list(curve.seeds)}", "sizes = ["]
            for shape in curve.shapes:
                said = {key: value for key, value in asdict(shape).items() if key in WRITTEN or key in _said(shape)}
                lines.append(f"    {_inline(said)}, # N = {shape.N:,}")
            lines.append("]")
        return "\n".join(lines) + "\n"

    def specs(self, digest: str) -> tuple[RunSpec, ...]:
        """One spec a cell, smallest budget first, on the corpus of this digest.

        D = C / FLOPs-per-token, rounded to whole batches. Under schedule "wsd" all runs of one shape have one recipe, so that
        they share a trunk: batch and rate are those of the longest, the warm-up that of the shortest. Raises ValueError for
        a budget below one batch.
        """
        return tuple(
            self._spec(curve.budget, shape, seed, digest)
            for curve in self.curves
            for shape in curve.shapes
            for seed in curve.seeds
        )

    def _recipe(self, shape: Shape, tokens: float) -> Recipe:
        rule = self.rule if isinstance(self.rule, Rule) else RULES[self.rule]
        recipe = rule(shape, tokens)
        if self.recipe.get("schedule") == "wsd":
            lengths = [curve.budget / shape.flops_per_token for curve in self.curves if shape in curve.shapes]
            recipe = replace(rule(shape, max(lengths)), warmup_tokens=rule(shape, min(lengths)).warmup_tokens)
        try:
            return replace(recipe, **self.recipe)
        except TypeError as error:
            raise ValueError(f"recipe: {error}.") from None

    def _spec(self, budget: float, shape: Shape, seed: int, digest: str) -> RunSpec:
        wanted = budget / shape.flops_per_token
        recipe = self._recipe(shape, wanted)
        if recipe.batch_tokens % shape.context:
            raise ValueError(
                f"recipe.batch_tokens = {recipe.batch_tokens}: needed a multiple of the context, {shape.context}."
            )
        steps = round(wanted / recipe.batch_tokens)
        if steps < 1:
            raise ValueError(
                f"budget {budget:.3g} FLOPs is too small for one batch of {recipe.batch_tokens} tokens at N = "
                f"{shape.N:,} ({shape.flops_per_token * recipe.batch_tokens:.3g} FLOPs). Raise the budget or drop the size."
            )
        return RunSpec(shape, recipe, self.corpus, digest, steps * recipe.batch_tokens, seed, self.eval_tokens)


def _hash(spec: RunSpec, without: tuple[str, ...]) -> str:
    """First 16 hex digits of the SHA-256 of what a spec says, without some fields."""
    content = {key: value for key, value in _said(spec).items() if key not in without}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _said(spec: RunSpec | Shape | Recipe) -> dict[str, Any]:
    """The fields of a spec that differ from their defaults, those of its shape and recipe in tables of their own."""
    pairs = ((each, getattr(spec, each.name)) for each in fields(spec))
    return {
        each.name: _said(value) if isinstance(value, Shape | Recipe) else value
        for each, value in pairs
        if value != each.default
    }


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


def _positive(value: object, key: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value) or value <= 0:
        raise ValueError(f"{key} = {value!r}: needed a positive number.")
    return float(value)


def _whole(table: Mapping[str, Any], key: str, default: int) -> int:
    value = _positive(table.get(key, default), key)
    if value != int(value):
        raise ValueError(f"{key} = {table[key]!r}: needed a whole number.")
    return int(value)
