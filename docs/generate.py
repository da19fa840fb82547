"""The reference pages, made from the code: public names, each verb's help, the schema of records, fits and grids."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from pathlib import Path

import scaling
from scaling.cli import VERBS, _parser
from scaling.fitting.fit import FIELDS
from scaling.grid import KEYS
from scaling.recipe import Recipe
from scaling.runs.record import ALONE, Run
from scaling.runs.table import COLUMNS
from scaling.shape import Shape

ROOT = Path(__file__).parents[1]


def write(docs: Path) -> None:
    """Write `reference/` and copy the notebooks into `docs`; both are made, so neither is committed."""
    for made in ("reference", "notebooks"):
        shutil.rmtree(docs / made, ignore_errors=True)
    (docs / "reference").mkdir()
    for name, page in {"python": python(), "command-line": command_line(), "schemas": schemas()}.items():
        (docs / "reference" / f"{name}.md").write_text(page)
    shutil.copytree(ROOT / "notebooks", docs / "notebooks", ignore=shutil.ignore_patterns(".*"))


def python() -> str:
    """The public names of `scaling`, each from its docstring."""
    lines = ["# Python", "", "What `from scaling import ...` gives."]
    for name in scaling.__all__:
        thing = getattr(scaling, name)
        home = f"{thing.__module__}.{name}" if hasattr(thing, "__module__") else thing.__name__
        if isinstance(thing, type):
            how = [f".. autoclass:: {home}", "   :members:"]
        elif hasattr(thing, "__module__"):
            how = [f".. autofunction:: {home}"]
        else:
            how = [f".. automodule:: {home}", "   :members:", "   :imported-members:"]
        lines += ["", f"## {name}", "", "```{eval-rst}", *how, "```"]
    return "\n".join(lines) + "\n"


def command_line() -> str:
    """The help of the command and of each verb, as it is printed."""
    os.environ["COLUMNS"] = "100"
    lines = ["# Command line", "", "What `scaling VERB --help` prints.", "", *_block(_parser(None).format_help())]
    for verb in VERBS:
        whole = _parser(verb)
        (verbs,) = (action for action in whole._actions if action.dest == "verb" or action.choices)
        lines += ["", f"## scaling {verb}", "", *_block(verbs.choices[verb].format_help())]
    return "\n".join(lines) + "\n"


def schemas() -> str:
    """Tables of what each key of a grid.toml, a record and a fit's file holds."""
    record = {each.name: _describe(each) for each in fields(Run)}
    spec = {f"shape.{each.name}": _describe(each) for each in fields(Shape)}
    spec |= {f"recipe.{each.name}": _describe(each) for each in fields(Recipe)}
    parts = {
        "A grid.toml": ("Written by hand, read by `scaling sweep`.", KEYS),
        "A record": ("One JSON file a run, `<folder>/<id>.json`. What is not known is null.", record),
        "The spec in a record": ("`spec.shape` and `spec.recipe`.", spec),
        "A fit": ("The JSON that `scaling fit` writes.", FIELDS),
        "A table": ("The CSV or Parquet that `scaling table` writes.", COLUMNS),
    }
    lines = ["# Files"]
    for title, (intro, rows) in parts.items():
        lines += ["", f"## {title}", "", intro, "", *_table(rows)]
    return "\n".join(lines) + "\n"


def _describe(each: Field) -> str:
    """What a dataclass' field holds, from the mapping beside it, with its default. Raises KeyError where it has none."""
    said = {**COLUMNS, **ALONE}[each.name]
    plain = each.default is not MISSING and each.default is not None and each.default != ()
    return f"{said} (default {each.default})" if plain else said


def _table(rows: Mapping[str, str]) -> list[str]:
    body = [f"| `{key}` | {said.replace('*', chr(92) + '*')} |" for key, said in rows.items()]
    return ["| key | what it holds |", "|---|---|", *body]


def _block(text: str) -> list[str]:
    return ["```text", text.rstrip(), "```"]
