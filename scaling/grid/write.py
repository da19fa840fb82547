"""to_toml(grid): a grid as the text of a grid.toml, every shape written out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from scaling.grid.spec import said
from scaling.recipe import Rule
from scaling.shape import Shape

if TYPE_CHECKING:
    from scaling.grid.grid import Grid

#: What a written grid says of every size; further fields where they differ from their defaults.
WRITTEN = ("depth", "width", "heads", "vocab", "context", "mlp_ratio")


def to_toml(grid: Grid) -> str:
    """The text of a grid.toml; `Grid.read` gives the same grid back."""
    lines = [
        f"name = {json.dumps(grid.name)}",
        f"corpus = {json.dumps(grid.corpus)}",
        f"rule = {_inline(said(grid.rule)) if isinstance(grid.rule, Rule) else json.dumps(grid.rule)}",
        f"eval_tokens = {grid.eval_tokens}",
        f"epochs = {grid.epochs!r}",
    ]
    if grid.tokenizer is not None:
        lines.append(f"tokenizer = {json.dumps(grid.tokenizer)}")
    if grid.column != "text":
        lines.append(f"column = {json.dumps(grid.column)}")
    if grid.heldout:
        lines += [
            "",
            "[heldout]",
            *(f"{json.dumps(key)} = {json.dumps(path)}" for key, path in grid.heldout.items()),
        ]
    if grid.recipe:
        lines += ["", "[recipe]", *(f"{key} = {json.dumps(value)}" for key, value in sorted(grid.recipe.items()))]
    if grid.axes:
        lines += ["", "[axes]"]
        for key, values in grid.axes.items():
            times = isinstance(values, Mapping)
            told = json.dumps(list(values["times"] if times else values))
            lines.append(f"{key} = {{ times = {told} }}" if times else f"{key} = {told}")
    for curve in grid.curves:
        lines += ["", "[[isoflop]]", f"budget = {curve.budget!r}", *_sizes_and_seeds(curve.shapes, curve.seeds)]
    for cells in grid.cells:
        lines += [
            "",
            "[[cells]]",
            f"{cells.by} = {list(cells.lengths)}",
            *_sizes_and_seeds(cells.shapes, cells.seeds),
        ]
        if cells.recipe:
            lines.append(f"recipe = {_inline(cells.recipe)}")
    return "\n".join(lines) + "\n"


def _sizes_and_seeds(shapes: tuple[Shape, ...], seeds: tuple[int, ...]) -> list[str]:
    """Lines of TOML, every shape written out."""
    lines = [f"seeds = {list(seeds)}", "sizes = ["]
    for shape in shapes:
        written = {key: value for key, value in asdict(shape).items() if key in WRITTEN or key in said(shape)}
        lines.append(f"    {_inline(written)}, # N = {shape.N:,}")
    return [*lines, "]"]


def _inline(table: Mapping[str, Any]) -> str:
    """A table of numbers and strings as one line of TOML."""
    inside = (
        f"{key} = {json.dumps(value) if isinstance(value, str | bool) else value}" for key, value in table.items()
    )
    return f"{{ {', '.join(inside)} }}"
