"""Accelerator and Region: a row each of accelerators.csv and regions.csv, or of the user's own CSV."""

from __future__ import annotations

import csv
import difflib
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Self

#: Bytes of one stored number.
BYTES = {"fp32": 4.0, "tf32": 4.0, "bf16": 2.0, "fp8": 1.0, "int8": 1.0, "int4": 0.5}

#: Precisions a model is trained in; the others only serve.
TRAINING_PRECISIONS = ("fp32", "tf32", "bf16", "fp8")


@dataclass(frozen=True)
class _Row:
    """A row of a table of facts, found by its name or an alias."""

    name: str
    aliases: tuple[str, ...] = ()
    source: str = "user"
    source_date: str = ""

    FILE: ClassVar[str]
    KIND: ClassVar[str]

    @classmethod
    def all(cls, path: str | Path | None = None) -> tuple[Self, ...]:
        """Every row of the shipped table, or of the CSV at `path` followed by the shipped rows it does not name."""
        shipped = _shipped(cls)
        if path is None:
            return shipped
        own = _read(cls, Path(path))
        named = {row.name for row in own}
        return own + tuple(row for row in shipped if row.name not in named)

    @classmethod
    def named(cls, name: str, path: str | Path | None = None) -> Self:
        """The row of this name or alias. Raises ValueError with the nearest names."""
        rows = cls.all(path)
        names = {alias: row for row in reversed(rows) for alias in (*row.aliases, row.name)}
        found = names.get(_plain(name))
        if found is None:
            near = difflib.get_close_matches(_plain(name), names, 4, 0.4) or [row.name for row in rows]
            raise ValueError(
                f"unknown {cls.KIND} {name!r}; the nearest are {', '.join(near)}. `scaling cost --list` shows all, "
                "and your own CSV can add rows."
            )
        return found


@dataclass(frozen=True)
class Accelerator(_Row):
    """One chip: dense peak TFLOP/s a precision, memory, power, and dated prices a device-hour; None is not known.

    `power_share` is the average draw in training over `watts`; `server_factor` the server's power over the chips'.
    """

    vendor: str = ""
    fp32: float | None = None
    tf32: float | None = None
    bf16: float | None = None
    fp8: float | None = None
    int8: float | None = None
    memory_gb: float | None = None
    bandwidth_tb_s: float | None = None
    watts: float | None = None
    power_share: float | None = None
    server_factor: float | None = None
    usd_on_demand: float | None = None
    usd_on_demand_high: float | None = None
    usd_committed: float | None = None
    usd_committed_high: float | None = None
    usd_spot: float | None = None
    price_date: str = ""
    embodied_g_per_eflop: float | None = None

    FILE: ClassVar[str] = "accelerators.csv"
    KIND: ClassVar[str] = "accelerator"

    def peak_flops(self, precision: str = "bf16") -> float:
        """Dense peak, FLOP/s. Raises ValueError where the chip has no published rate in this precision."""
        if precision not in BYTES:
            raise ValueError(f"precision = {precision!r}: needed one of {', '.join(BYTES)}.")
        # Weights of 4 bits are unpacked and multiplied in 16: they save bytes, not arithmetic.
        rate = getattr(self, "bf16" if precision == "int4" else precision)
        if rate is None and precision == "int8":
            rate = self.fp8
        if rate is None:
            known = [name for name in BYTES if getattr(self, name, None) is not None]
            raise ValueError(
                f"{self.name} has no published dense rate in {precision}. Use one of {', '.join(known)}, or give "
                "--peak-tflops."
            )
        return rate * 1e12

    def check_dense(self, tflops: float, precision: str) -> None:
        """Raise ValueError where a given rate is this chip's rate with sparsity, twice the dense one."""
        dense = getattr(self, precision, None)
        if dense is not None and math.isclose(tflops, 2 * dense, rel_tol=0.03):
            raise ValueError(
                f"{tflops:g} TFLOP/s is {self.name}'s {precision} rate with sparsity; dense it is {dense:g}. Training "
                f"is dense: give {dense:g}, or nothing."
            )

    def usd_per_hour(self, price: str) -> float | None:
        """Dollars a device-hour under "on-demand", "committed" or "spot"; None where not known."""
        return getattr(self, "usd_" + price.replace("-", "_"))


@dataclass(frozen=True)
class Region(_Row):
    """A place or an operator: grams of CO2e a kWh of its grid, and its PUE (facility over computers); None is not known."""

    kind: str = ""
    g_per_kwh: float | None = None
    pue: float | None = None

    FILE: ClassVar[str] = "regions.csv"
    KIND: ClassVar[str] = "region"


@cache
def _shipped(cls: type[Any]) -> tuple[Any, ...]:
    return _read(cls, Path(__file__).with_name(cls.FILE))


def _read(cls: type[Any], path: Path) -> tuple[Any, ...]:
    """The rows of a CSV, blank lines and those of # left out. Raises ValueError naming the file, and the line of a bad row."""
    known = {field.name: str(field.type) for field in fields(cls)}
    numbered = [(number, line) for number, line in _lines(path) if line.strip() and not line.startswith("#")]
    table = csv.DictReader(line for _, line in numbered)
    for column in table.fieldnames or ():
        if column not in known:
            near = difflib.get_close_matches(column, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"known columns: {', '.join(known)}."
            raise ValueError(f"{path}: unknown column {column!r}; {hint}")
    return tuple(_row(cls, path, numbered[table.line_num - 1][0], row, known) for row in table)


def _lines(path: Path) -> list[tuple[int, str]]:
    """(number, line) of every line of a file, from 1; the mark that Excel begins a file with is left out."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: not UTF-8 text (byte {error.start} is 0x{error.object[error.start]:02x}). Save it as CSV UTF-8."
        ) from None
    return list(enumerate(io.StringIO(text, newline=""), 1))


def _row(cls: type[Any], path: Path, line: int, row: Mapping[Any, Any], types: Mapping[str, str]) -> Any:
    """One row as what it describes. `row` is csv's: None for cells that lack, and a list, under None, of those too many."""
    if None in row:
        raise ValueError(
            f"{path}, line {line} ({row.get('name')}): {len(row) - 1 + len(row[None])} cells, needed the {len(row) - 1} that the "
            "header names. Take the others out, or put quotes around a cell with a comma in it."
        )
    values: dict[str, Any] = {}
    for column, text in row.items():
        text = (text or "").strip()
        if column == "name":
            values[column] = _plain(text)
        elif column == "aliases":
            values[column] = tuple(_plain(alias) for alias in text.split(";") if alias)
        elif not types[column].startswith("float"):
            values[column] = text
        elif text:
            values[column] = _number(text, f"{path}: {row.get('name')}, {column}")
    if not values.get("name"):
        raise ValueError(f"{path}, line {line}: a row without a name.")
    found = cls(**values)
    if isinstance(found, Accelerator):
        _check_dense_row(found, path)
    return found


def _check_dense_row(row: Accelerator, path: Path) -> None:
    """Refuse a user's row that gives a shipped chip's rates with sparsity."""
    if path.parent == Path(__file__).parent:
        return
    shipped = next((known for known in _shipped(Accelerator) if row.name in (known.name, *known.aliases)), None)
    for precision in ("tf32", "bf16", "fp8", "int8") if shipped else ():
        rate = getattr(row, precision)
        if rate is not None and shipped is not None:
            shipped.check_dense(rate, precision)


def _number(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"{where} = {text!r}: needed a number of 0 or more, or an empty cell.")
    return value


def _plain(name: str) -> str:
    return "-".join(name.strip().lower().replace("_", "-").split())
