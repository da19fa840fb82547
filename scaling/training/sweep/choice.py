"""chosen(specs, conditions): the cells that `--only` means."""

from __future__ import annotations

import operator
import re
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from scaling.grid import RunSpec
from scaling.recipe import Recipe
from scaling.shape import Shape

#: What a condition may name, beside the fields of the recipe and of the shape.
FIELDS = {"N": lambda spec: spec.shape.N, "D": lambda spec: spec.tokens, "C": lambda spec: spec.C,
          "D/N": lambda spec: spec.tokens / spec.shape.N, "seed": lambda spec: spec.seed, "id": lambda spec: spec.id}  # fmt: skip
_HOLDS = {"<=": operator.le, ">=": operator.ge, "!=": operator.ne, "<": operator.lt, ">": operator.gt, "=": operator.eq}


def chosen(specs: Sequence[RunSpec], conditions: str) -> list[RunSpec]:
    """The specs that meet every condition: "field op value", commas between; C compares to 1%, as grids round D to batches.

    Raises ValueError for a condition that cannot be read, and where no spec meets them.
    """
    met = list(specs)
    for condition in conditions.split(","):
        found = re.fullmatch(r"\s*([\w/]+)\s*(<=|>=|!=|<|>|=)\s*(\S+)\s*", condition)
        names = [*FIELDS, *(f.name for f in fields(Shape)), *(f.name for f in fields(Recipe))]
        if not found or found[1] not in names:
            raise ValueError(
                f"--only {condition!r}: needed conditions such as N<1e6, seed=0 or id=ab12..; fields: {', '.join(names)}."
            )
        name, holds, value = found[1], _HOLDS[found[2]], _value(found[3])
        met = [spec for spec in met if holds(_near(_field(spec, name), value), value)]
    if not met:
        raise ValueError(f"--only {conditions!r}: none of the {len(specs)} cells is meant.")
    return met


def _field(spec: RunSpec, name: str) -> Any:
    if name in FIELDS:
        return FIELDS[name](spec)
    return getattr(spec.shape, name) if hasattr(spec.shape, name) else getattr(spec.recipe, name)


def _near(found: Any, value: Any) -> Any:
    """The value itself where a number is within 1% of it, so that C=1e12 means the cells of that budget."""
    if isinstance(found, str) or isinstance(value, str):
        return str(found)
    return value if abs(found - value) <= 0.01 * abs(value) and isinstance(value, float) else found


def _value(word: str) -> Any:
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return word
