"""parsed(table): what a grid.toml says, as the fields of a Grid; every wrong key is named with the nearest right one."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from scaling.grid.cells import LENGTHS, Cells, IsoFlop
from scaling.grid.spec import EVAL_TOKENS
from scaling.recipe import RULES, Recipe, Rule
from scaling.shape import Aspect, Shape, is_finite

#: Key of a grid.toml -> what it says.
KEYS = {
    "name": "name of the sweep (the file's or its folder's)",
    "corpus": "what is trained on: python, planted:0, hf:NAME, digest:HEX of a cached one, or a path of text, JSONL, Parquet or "
    "token files (python)",
    "tokenizer": "bytes, bpe:VOCAB trained on the corpus, or the path of a tokenizer.json (bytes)",
    "column": "where JSONL, Parquet and hub data sets have their text (text)",
    "heldout": "table of further held-out sets: a name, and what it is read from, as corpus",
    "budgets": "FLOPs, a list: every size is trained at every budget",
    "sizes": "numbers of parameters, or tables with depth and perhaps width, heads or head_width, vocab, context, mlp_ratio",
    "isoflop": "instead of budgets and sizes: tables with a budget, sizes of its own, and perhaps seeds",
    "tokens": "instead of budgets: tokens D, a list; every size is trained on every D",
    "tokens_per_parameter": "instead of budgets: D/N, a list; every size is trained at every ratio",
    "cells": "instead of sizes, or beside [[isoflop]]: tables with sizes, one of budgets, tokens and tokens_per_parameter, and "
    "perhaps seeds and a recipe table of their own; one size at one D is one cell",
    "axes": "table of recipe fields: a list of values, or { times = [0.5, 1, 2] } of the rule's; every cell at each",
    "context": "window in tokens, where a size does not say (64)",
    "vocab": "vocabulary, where a size does not say (256)",
    "shape": "a table of further fields of every size: mlp_ratio, tied, positions, mlp, kv_heads, experts, experts_per_token; "
    "head_width (16 to 64, by the width); aspect, the width at each depth: { width = 16, power = 1.3 } for width depth^power, "
    "the default, or 64 for 64 depth; or depth, one for all sizes",
    "seeds": "whole numbers, a list; each trains every cell again ([0])",
    "rule": "what chooses rate, batch and warm-up from shape and tokens: a name, or a table of its powers (valley)",
    "recipe": "table of recipe fields that are fixed for all runs, instead of the rule's",
    "schedule": "what the learning rate does after warm-up; short for recipe.schedule (linear)",
    "eval_tokens": "held-out tokens that every run is evaluated on (262144)",
    "epochs": "most passes over the training tokens (1)",
}


#: What a [shape] table gives to every size of a grid; a size's own table may say it otherwise.
OPTIONS = (*(each.name for each in fields(Shape) if each.name not in ("width", "heads")), "head_width", "aspect")

#: What a size's own table may say.
SIZE = (*(each.name for each in fields(Shape)), "head_width")


#: The fields of a recipe.
RECIPE = tuple(each.name for each in fields(Recipe))


def parsed(table: Mapping[str, Any], *, name: str) -> dict[str, Any]:
    """The fields of the grid that a parsed TOML table describes. Raises ValueError naming the key that is wrong."""
    _known_keys(table, tuple(KEYS), "")
    options = {"vocab": _whole(table, "vocab", 256), "context": _whole(table, "context", 64), **_options(table)}
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
    recipe = _table(table, "recipe", RECIPE)
    schedule = table.get("schedule", recipe.get("schedule"))
    if recipe.get("schedule", schedule) != schedule:
        raise ValueError(f"schedule = {schedule!r} beside recipe.schedule = {recipe['schedule']!r}: give one of them.")
    recipe |= {} if schedule is None else {"schedule": schedule}
    return dict(
        name=str(table.get("name", name)),
        curves=tuple(sorted((_curve(row, table, options) for row in rows), key=lambda curve: curve.budget)),
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


def _table(table: Mapping[str, Any], key: str, known: tuple[str, ...], prefix: str = "") -> dict[str, Any]:
    """A table of single values, empty where it is not there. Raises ValueError naming the key that is wrong."""
    found = table.get(key, {})
    if not isinstance(found, Mapping):
        raise ValueError(f"{prefix}{key} = {found!r}: needed a table, [{prefix}{key}].")
    _known_keys(found, known, f"{prefix}{key}.")
    _single_values(found, f"{prefix}{key}.")
    return dict(found)


def _single_values(table: Mapping[str, Any], prefix: str) -> None:
    for name, value in table.items():
        if isinstance(value, list | Mapping) and name != "aspect":
            raise ValueError(f"{prefix}{name} = {value!r}: needed a single value.")


def _options(table: Mapping[str, Any]) -> dict[str, Any]:
    """The [shape] table, its aspect as an Aspect."""
    options = _table(table, "shape", OPTIONS)
    if "aspect" in options:
        aspect = options["aspect"]
        if isinstance(aspect, Mapping):
            _known_keys(aspect, ("width", "power"), "shape.aspect.")
            options["aspect"] = Aspect(_required(aspect, "width"), _required(aspect, "power"))
        else:
            options["aspect"] = Aspect(_positive(aspect, "shape.aspect"), 1)
    return options


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


def _curve(row: Mapping[str, Any], table: Mapping[str, Any], options: Mapping[str, Any]) -> IsoFlop:
    """An [[isoflop]] table, with the grid's seeds where it has none."""
    _known_keys(row, ("budget", "sizes", "seeds"), "isoflop.")
    budget = _positive(_required(row, "budget"), "budget")
    shapes = dict.fromkeys(_shape(size, options) for size in _list(_required(row, "sizes"), "sizes"))
    seeds = _seeds(row.get("seeds", table.get("seeds", [0])))
    return IsoFlop(budget, tuple(sorted(shapes, key=lambda shape: shape.N)), seeds)


def _cells(block: Mapping[str, Any], table: Mapping[str, Any], options: Mapping[str, Any]) -> Cells:
    """A [[cells]] table, with the grid's seeds where it has none."""
    _known_keys(block, ("sizes", *LENGTHS, "seeds", "recipe"), "cells.")
    by = _one_length(block, "cells.")
    recipe = _table(block, "recipe", RECIPE, "cells.")
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


def _shape(size: object, options: Mapping[str, Any]) -> Shape:
    """A size as a grid.toml gives it: a number of parameters, or a table with depth and perhaps width."""
    if not isinstance(size, Mapping):
        return Shape.near(_positive(size, "sizes"), **options)
    _known_keys(size, SIZE, "sizes.")
    _single_values(size, "sizes.")
    unless = {"heads": "head_width", "width": "aspect"}
    keys = {key: value for key, value in options.items() if key not in [unless.get(said) for said in size]} | dict(size)
    if "depth" not in keys:
        raise ValueError(f"sizes: {dict(size)!r} has no depth.")
    return Shape.of_width(**keys) if "width" in keys else Shape.of_depth(**keys)


def _rule(rule: object) -> str | Rule:
    """The rule as a grid.toml gives it: the name of one, or a table of its powers."""
    if isinstance(rule, Mapping):
        _known_keys(rule, tuple(each.name for each in fields(Rule)), "rule.")
        return Rule(**{"rate": _required(rule, "rate"), "batch": _required(rule, "batch"), **rule})
    if not isinstance(rule, str) or rule not in RULES:
        raise ValueError(f"rule = {rule!r}: needed one of {', '.join(RULES)}, or a table with at least rate and batch.")
    return rule


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
    if not is_finite(value) or value <= 0:
        raise ValueError(f"{key} = {value!r}: needed a positive number.")
    return float(value)


def _whole(table: Mapping[str, Any], key: str, default: int) -> int:
    value = _positive(table.get(key, default), key)
    if value != int(value):
        raise ValueError(f"{key} = {table[key]!r}: needed a whole number.")
    return int(value)
