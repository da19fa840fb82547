"""What the columns of somebody's table mean: names, units, numbers, and which rows cannot be what they say."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

#: Field -> the names that people give its column. Compared without case, spaces and punctuation.
SYNONYMS: dict[str, tuple[str, ...]] = {
    "N": ("N", "params", "parameters", "n_params", "num_params", "num_parameters", "n_parameters", "param_count",
          "parameter_count", "total_params", "total_parameters", "model_params", "model_size"),
    "N_nonembedding": ("N_nonembedding", "non_embedding_params", "non_embedding_parameters", "params_nonembedding",
                       "n_params_nonembedding", "n_nonembedding_params", "N_nonemb", "nonembedding_N"),
    "N_matmul": ("N_matmul", "matmul_params"),
    "D": ("D", "tokens", "n_tokens", "num_tokens", "train_tokens", "training_tokens", "tokens_seen", "total_tokens",
          "num_input_tokens_seen", "token_count"),
    "C": ("C", "flops", "flop", "compute", "compute_budget", "flops_budget", "training_flop", "training_flops",
          "train_flops", "total_flops", "total_flos", "training_compute", "compute_flops"),
    "loss": ("loss", "val_loss", "final_loss", "eval/loss", "valid_loss", "validation_loss", "test_loss",
             "held_out_loss", "final_val_loss", "final_eval_loss"),
    "bits_per_byte": ("bits_per_byte", "bpb", "val_bpb", "eval/bpb", "eval/bits_per_byte"),
    "loss_se": ("loss_se", "se", "stderr", "loss_stderr", "standard_error", "loss_standard_error"),
    "weight": ("weight", "weights", "run_weight"),
    "id": ("id", "run_id", "run", "run_name", "name"),
    "group": ("group", "run_group", "cluster", "trunk"),
    "step": ("step", "_step", "global_step", "iteration", "train_step", "trainer/global_step"),
    "tokens_per_step": ("tokens_per_step", "batch_tokens", "tokens_per_batch"),
    "tokenizer": ("tokenizer", "tokeniser", "tokenizer_name", "vocab_size", "vocab"),
    "status": ("status", "state"),
}  # fmt: skip

#: The parameter counts, in the order in which one is taken where none is asked for.
COUNTS = ("N", "N_nonembedding", "N_matmul")

#: Columns that only `Runs.write` writes: what N counts and how C was counted.
STATED = ("count", "flops_counted")

#: Fields where two fitting columns must be settled by the user; elsewhere the first name of the list wins.
_UNIQUE = (*COUNTS, "D", "C", "loss", "loss_se", "weight")

#: Unit -> factor, as a column's name, a cell ("410M") or `units` states it.
UNITS = {
    "ones": 1.0, "thousands": 1e3, "k": 1e3, "millions": 1e6, "million": 1e6, "m": 1e6, "mn": 1e6, "billions": 1e9,
    "billion": 1e9, "b": 1e9, "bn": 1e9, "g": 1e9, "trillions": 1e12, "trillion": 1e12, "t": 1e12,
    "petaflop": 1e15, "petaflops": 1e15, "exaflop": 1e18, "exaflops": 1e18, "eflop": 1e18, "zettaflop": 1e21,
    "zettaflops": 1e21, "pf-days": 8.64e19, "pfdays": 8.64e19, "petaflop/s-days": 8.64e19,
}  # fmt: skip

#: Field -> smallest and largest value that can be what it says.
_PLAUSIBLE = {"N": (1e3, 1e15), "D": (1e3, 1e17), "C": (1e6, 1e30)}
_WHAT = {"N": "a number of parameters", "D": "a number of tokens", "C": "a number of FLOPs"}
_RATIO = (1e-4, 1e6)

_UNIT_IN_NAME = re.compile(r"(?i)^(.*?)(?:\s*[(\[](?:in )?([a-z/ -]+)[)\]]|[ _](?:in_|in )?([a-z-]+))$")
_UNIT_IN_CELL = re.compile(r"(?i)^([-+.\de_]+)\s*([kmbt])$")
_MISSING = {"", "na", "n/a", "null", "none", "-"}


def simplify(name: object) -> str:
    """A column's name without case, spaces and punctuation, and without W&B's `config.` and `summary.`."""
    short = re.sub(r"(?i)^_*(config|summary|summary_metrics)[./]", "", str(name))
    return re.sub(r"[^a-z0-9]", "", short.lower())


def name_rows(labels: Sequence[str]) -> str:
    """Rows for a person: `row 3`, `rows 3, 7, 9`, with the count of those past the sixth."""
    plain = [str(label).removeprefix("row ") for label in labels]
    shown = ", ".join(plain[:6]) + (f" and {len(plain) - 6} more" if len(plain) > 6 else "")
    return f"row{'s' if len(plain) > 1 else ''} {shown}"


def find_columns(frame: pd.DataFrame, asked: Mapping[str, str]) -> tuple[dict[str, str], dict[str, float]]:
    """Field -> column, and field -> the unit's factor that the column's name states.

    `asked` overrides: a column's name, or "" for a field that is to be left alone. Raises ValueError for a column that
    does not exist and for two that fit one field and differ. A table that `Runs.write` wrote means what it says.
    """
    _check_asked(frame, asked)
    found: dict[str, str] = {field: name for field, name in asked.items() if name != ""}
    factors = {field: _stated_unit(name)[1] for field, name in found.items()}
    others = [name for name in frame.columns if name not in found.values()]
    if set(frame.columns) >= set(STATED):
        others = [name for name in others if name in SYNONYMS]
    meanings = {name: _meaning(name) for name in others}
    for field in SYNONYMS:
        if field in asked:
            continue
        fits = [name for name, (meant, _, _) in meanings.items() if meant == field]
        if not fits:
            continue
        fits.sort(key=lambda name: meanings[name][1])
        if field in _UNIQUE and len(fits) > 1 and not _all_equal(frame, fits):
            shown = " and ".join(map(repr, fits))
            raise ValueError(f"columns {shown} both fit {field}; say which with --columns {field}={_quote(fits[0])}.")
        found[field] = fits[0]
        factors[field] = meanings[fits[0]][2]
    if "loss" not in found and "bits_per_byte" in found and "loss" not in asked:
        found["loss"] = found["bits_per_byte"]
    return found, {field: factor for field, factor in factors.items() if factor != 1.0}


def _check_asked(frame: pd.DataFrame, asked: Mapping[str, str]) -> None:
    for field, name in asked.items():
        if field not in SYNONYMS:
            raise ValueError(f"--columns {field}={name}: no such field; the fields are {', '.join(SYNONYMS)}.")
        if name != "" and name not in frame.columns:
            nearest = difflib.get_close_matches(str(name), list(map(str, frame.columns)), 1)
            hint = f"did you mean {nearest[0]!r}?" if nearest else f"the columns are {list_columns(frame)}."
            raise ValueError(f"no column {name!r} (asked for as {field}); {hint}")


def list_columns(frame: pd.DataFrame) -> str:
    """The names of a table's columns for a person, the first twenty."""
    names = [repr(str(name)) for name in frame.columns]
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")


def _meaning(name: str) -> tuple[str | None, int, float]:
    """Field that a name stands for, its rank among the field's names, and the factor of the unit it states."""
    for base, factor in dict.fromkeys(((name, 1.0), _stated_unit(name))):
        for field, names in SYNONYMS.items():
            simple = [simplify(known) for known in names]
            if simplify(base) in simple and (factor == 1.0 or field in (*COUNTS, "D", "C")):
                return field, simple.index(simplify(base)), factor
    return None, 0, 1.0


def _stated_unit(name: str) -> tuple[str, float]:
    """A column's name without its unit, and the unit's factor: `tokens (B)` -> `tokens`, 1e9."""
    match = _UNIT_IN_NAME.match(str(name))
    unit = (match[2] or match[3]).lower().strip() if match else ""
    return (match[1], UNITS[unit]) if match and unit in UNITS else (str(name), 1.0)


def _all_equal(frame: pd.DataFrame, names: Sequence[str]) -> bool:
    return all(frame[name].equals(frame[names[0]]) for name in names[1:])


def _quote(name: str) -> str:
    return f"'{name}'" if re.search(r"\s", name) else name


def numbers(frame: pd.DataFrame, column: str, field: str) -> np.ndarray:
    """The column as float64, NaN where a cell is missing. Raises ValueError naming rows that hold text."""
    cells = frame[column]
    if cells.dtype.kind in "iuf":
        return cells.to_numpy(np.float64)
    values = [_number(cell) for cell in cells]
    bad = [i for i, value in enumerate(values) if value is None]
    if bad:
        labels = [frame.index[i] for i in bad]
        raise ValueError(
            f"column {column!r} ({field}) holds text in {name_rows(labels)}: {str(cells.iloc[bad[0]])!r}. "
            "Needed numbers, such as 7e7 or 70M."
        )
    return np.array(values, np.float64)


def _number(cell: Any) -> float | None:
    """The number in a cell, NaN where it is empty, None where it is text."""
    if cell is None or cell is pd.NA:
        return math.nan
    if isinstance(cell, bool | np.bool_):
        return None
    if isinstance(cell, int | float | np.number):
        return float(cell)
    text = str(cell).strip()
    if text.lower() in _MISSING:
        return math.nan
    try:
        return float(text)
    except ValueError:
        match = _UNIT_IN_CELL.match(text)
    try:
        return float(match[1]) * UNITS[match[2].lower()] if match else None
    except ValueError:
        return None


def read_units(units: Mapping[str, str | float]) -> dict[str, float]:
    """Field -> factor for units as a user states them. Raises ValueError for a field or unit that is unknown."""
    factors = {}
    for field, unit in units.items():
        if field not in (*COUNTS, "D", "C"):
            raise ValueError(f"--units {field}={unit}: units are stated for N, D or C.")
        known = UNITS.get(str(unit).lower())
        if known is None:
            known = _number(unit)
        if known is None or not (math.isfinite(known) and known > 0):
            raise ValueError(f"--units {field}={unit}: no such unit; known are {', '.join(UNITS)}, or a factor.")
        factors[field] = known
    return factors


def check_positive(values: np.ndarray, labels: Sequence[str], column: str, field: str) -> None:
    """Raise ValueError naming the rows where a value is missing, infinite, zero or negative."""
    faults = (
        ("is missing or NaN", np.isnan(values)),
        ("is infinite", np.isinf(values)),
        ("is zero", values == 0),
        ("is negative", values < 0),
    )
    found = [(what, np.flatnonzero(where)) for what, where in faults if where.any()]
    if found:
        what = "; ".join(f"{what} in {name_rows([labels[i] for i in rows])}" for what, rows in found)
        raise ValueError(f"{field} (column {column!r}) {what}. Needed a positive number; mend or remove these rows.")


def check_plausible(values: np.ndarray, column: str, field: str, stated: bool) -> None:
    """Raise ValueError where a column cannot be what it says: a unit was left out, or stated wrongly."""
    kind = "N" if field in COUNTS else field
    low, high = _PLAUSIBLE[kind]
    if values.size and (values.min() < low or values.max() > high):
        remedy = (
            f"The unit that was stated for it cannot be right; state another with --units {field}=ones."
            if stated
            else f"State its unit, for example --units {field}=millions or {field}=billions."
        )
        raise ValueError(
            f"{field} (column {column!r}) is {values.min():.4g} to {values.max():.4g}: that cannot be {_WHAT[kind]}. {remedy}"
        )


def check_ratio(N: np.ndarray, D: np.ndarray) -> None:
    """Raise ValueError where tokens per parameter cannot be: N and D are in different units."""
    ratio = float(np.median(D / N))
    if not _RATIO[0] <= ratio <= _RATIO[1]:
        raise ValueError(
            f"D/N is {ratio:.3g} in the middle of the table: N and D cannot be in the same unit. "
            "State their units, for example --units N=millions,D=billions."
        )


def check_compute(N: np.ndarray, D: np.ndarray, C: np.ndarray, labels: Sequence[str]) -> None:
    """Raise ValueError naming the rows where C disagrees with 6ND by more than 2x."""
    ratio = C / (6 * N * D)
    bad = np.flatnonzero((ratio > 2) | (ratio < 0.5))
    if bad.size:
        worst = bad[np.argmax(np.abs(np.log(ratio[bad])))]
        raise ValueError(
            f"C disagrees with 6ND by more than 2x in {name_rows([labels[i] for i in bad])} (C/6ND = {ratio[worst]:.3g} "
            f"in {labels[worst]}). Say which is right: --columns C= (take C = 6ND), --columns D= (take D = C/6N), "
            "--columns N= (take N = C/6D), or --flops-as exact (all three are)."
        )
