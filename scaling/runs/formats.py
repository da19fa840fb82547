"""Files as other tools write them, opened as one frame of raw cells with a label a row."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from scaling.runs.columns import SYNONYMS, simplify

SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet")
_TENSORBOARD = ("Wall time", "Step", "Value")
_WANDB_PANEL = re.compile(r"^(.+) - (.+?)(?:__(MIN|MAX))?$")


def open_table(path: Path) -> tuple[pd.DataFrame, list[str]]:
    """The cells of a table file, indexed by labels that a person can find ("row 3"), and notes on how it was read.

    Raises ValueError naming a file that is missing, empty, broken or of an unknown kind.
    """
    if not path.exists():
        raise ValueError(f"{path}: no such file or folder.")
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    suffix = suffixes[-1] if suffixes else ""
    if suffix not in SUFFIXES:
        raise ValueError(
            f"{path}: not a table that can be read; known are {', '.join(SUFFIXES)} and folders of records."
        )
    if path.stat().st_size == 0:
        raise ValueError(f"{path}: the file is empty.")
    try:
        if suffix == ".parquet":
            frame, notes = _number_rows(pd.read_parquet(path)), []
        elif suffix in (".csv", ".tsv"):
            frame, notes = _read_csv(_text(path), path), []
        else:
            frame, notes = _read_json(_text(path), path, lines=suffix in (".jsonl", ".ndjson"))
    except (UnicodeDecodeError, json.JSONDecodeError, csv.Error, EOFError, gzip.BadGzipFile) as error:
        raise ValueError(f"{path}: broken ({error}).") from None
    except ValueError as error:
        known = str(error).startswith(str(path))
        raise ValueError(str(error) if known else f"{path}: broken ({error}).") from None
    except OSError as error:
        if suffix == ".parquet" and error.strerror is None:
            raise ValueError(f"{path}: broken ({error}).") from None
        raise
    if frame.empty:
        raise ValueError(f"{path}: the table has no rows.")
    frame.columns = [str(name).strip() for name in frame.columns]
    twice = frame.columns[frame.columns.duplicated()]
    if len(twice):
        raise ValueError(f"{path}: two columns are named {twice[0]!r}; rename one.")
    return frame, notes


def _text(path: Path) -> str:
    data = path.read_bytes()
    return (gzip.decompress(data) if path.suffix.lower() == ".gz" else data).decode("utf-8-sig")


def _number_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with its rows named from 1, the header not counted."""
    frame.index = pd.Index([f"row {i}" for i in range(1, len(frame) + 1)])
    return frame


def _frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """A frame of raw cells; what JSON nests becomes dotted names."""
    if any(isinstance(cell, Mapping) for row in rows for cell in row.values()):
        return _number_rows(pd.json_normalize(rows).astype(object))
    return _number_rows(pd.DataFrame(rows, dtype=object))


def _read_csv(text: str, path: Path) -> pd.DataFrame:
    """Cells as text, so that a bad one can be named. The separator is the commonest of , ; and tab in the header."""
    header = text.lstrip("\r\n").splitlines()[0] if text.strip() else ""
    separator = max(",;\t", key=header.count)
    rows = [row for row in csv.reader(io.StringIO(text), delimiter=separator, strict=True) if any(map(str.strip, row))]
    if not rows:
        raise ValueError(f"{path}: the file is empty.")
    names, body = rows[0], rows[1:]
    for i, row in enumerate(body, start=1):
        if len(row) != len(names):
            raise ValueError(f"{path}: row {i} has {len(row)} cells, the header has {len(names)}.")
    frame = _number_rows(pd.DataFrame(body, columns=pd.Index(names), dtype=object))
    if tuple(names) == _TENSORBOARD:
        return _tensorboard(frame, path)
    return _wandb_panel(frame) if _is_wandb_panel(names) else frame


def _read_json(text: str, path: Path, lines: bool) -> tuple[pd.DataFrame, list[str]]:
    if not lines:
        try:
            value = json.loads(text)
        except json.JSONDecodeError as error:
            if not error.msg.startswith("Extra data"):
                raise
            lines = True
    if lines:
        value = [_json_line(line, i, path) for i, line in enumerate(text.splitlines(), start=1) if line.strip()]
    if isinstance(value, Mapping) and isinstance(value.get("log_history"), list):
        return trainer_state(value, _run_name(path))
    if isinstance(value, Mapping):
        value = _rows_of(value, path)
    if not isinstance(value, list) or not value:
        raise ValueError(f"{path}: no rows; needed a list of objects, one a run.")
    if all(isinstance(row, list) and len(row) == 3 for row in value):
        return _tensorboard(_number_rows(pd.DataFrame(value, columns=pd.Index(_TENSORBOARD), dtype=object)), path), []
    odd = next((i for i, row in enumerate(value, start=1) if not isinstance(row, Mapping)), None)
    if odd:
        raise ValueError(f"{path}: row {odd} is not an object; needed a list of objects, one a run.")
    return _frame(value), []


def _json_line(line: str, number: int, path: Path) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: broken in line {number} ({error.msg}).") from None


def _rows_of(value: Mapping[str, Any], path: Path) -> Any:
    """The rows in an object: under `runs`, `data` or `rows`, as columns, or the object itself as the one row."""
    for key in ("runs", "data", "rows"):
        if isinstance(value.get(key), list):
            return value[key]
    columns = list(value.values())
    if columns and all(isinstance(column, list) for column in columns):
        lengths = {key: len(column) for key, column in value.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"{path}: columns of different lengths {lengths}.")
        return [dict(zip(value, row)) for row in zip(*columns)]
    if columns and all(isinstance(column, Mapping) for column in columns):
        keys = list(columns[0])
        return [{name: column.get(key) for name, column in value.items()} for key in keys]
    return [value]


def _tensorboard(frame: pd.DataFrame, path: Path) -> pd.DataFrame:
    """A scalar downloaded from TensorBoard: one curve of the run that the file's name says (run-NAME-tag-TAG.csv)."""
    match = re.match(r"run-(.+?)-tag-", path.stem)
    named = match[1] if match else path.stem
    return frame.rename(columns={"Step": "step", "Value": "loss"}).drop(columns="Wall time").assign(run=named)


def _is_wandb_panel(names: list[str]) -> bool:
    return len(names) > 1 and all(_WANDB_PANEL.match(name) for name in names[1:])


def _wandb_panel(frame: pd.DataFrame) -> pd.DataFrame:
    """A chart downloaded from W&B (`Step`, `RUN - METRIC`, with __MIN and __MAX beside it) as one row a point."""
    x = frame.columns[0]
    curves: dict[str, pd.DataFrame] = {}
    for name in frame.columns[1:]:
        match = _WANDB_PANEL.match(name)
        assert match
        if match[3] or match[2] == "_step":
            continue
        points = frame.loc[frame[name].str.strip() != "", [x, name]].rename(columns={name: match[2]})
        run = curves.get(match[1])
        curves[match[1]] = points if run is None else run.merge(points, on=x, how="outer")
    rows = [points.assign(run=run) for run, points in curves.items()]
    return _number_rows(pd.concat(rows, ignore_index=True).astype(object)) if rows else frame


def _run_name(path: Path) -> str:
    """The run that a trainer_state.json belongs to: its folder, or the one above a checkpoint-1000."""
    folder = path.resolve().parent
    return folder.parent.name if re.match(r"checkpoint-\d+$", folder.name) else folder.name


def trainer_state(state: Mapping[str, Any], run: str) -> tuple[pd.DataFrame, list[str]]:
    """The evaluations in a Hugging Face trainer_state.json, one row each, and notes.

    The trainer's `total_flos` is 6 x tokens x parameters without embeddings, so with its count of tokens it gives
    N_nonembedding. Raises ValueError where there is no evaluation.
    """
    history = [entry for entry in state["log_history"] if isinstance(entry, Mapping)]
    points = [entry for entry in history if "eval_loss" in entry]
    if not points:
        raise ValueError(
            f"run {run}: no eval_loss in log_history; a training loss is no held-out loss. Train with eval_strategy."
        )
    last = float(state.get("global_step") or points[-1].get("step") or 0)
    flops = float(state.get("total_flos") or 0)
    tokens = float(state.get("num_input_tokens_seen") or 0)
    rows = []
    for entry in points:
        row = {"run": run, "step": entry.get("step"), "loss": entry["eval_loss"]}
        share = float(entry.get("step") or 0) / last if last else 0.0
        seen = float(entry.get("num_input_tokens_seen") or tokens * share)
        if seen:
            row["D"] = seen
        if flops and tokens:
            row["N_nonembedding"] = flops / (6 * tokens)
        elif flops and share:
            row["C"] = flops * share
        rows.append(row)
    ended, planned = float(points[-1].get("step") or 0), max(last, float(state.get("max_steps") or 0))
    short = ended < planned
    notes = [f"run {run}: its last loss is of step {ended:.0f} of {planned:.0f}, before the end of its decay."]
    return _frame(rows), notes if short else []


def _named(frame: pd.DataFrame, path: Path) -> pd.DataFrame:
    """A history of one run, which has steps and no run's name, with the name of its file for the run."""
    meant = {simplify(name) for name in frame.columns}
    has_id, has_step = (meant & set(map(simplify, SYNONYMS[field])) for field in ("id", "step"))
    return frame.assign(run=path.stem) if has_step and not has_id else frame


def open_folder(folder: Path, besides: Path | None = None) -> tuple[pd.DataFrame, list[str]]:
    """The tables and trainer states in a folder, one below the other. Raises ValueError where there is none."""
    states: dict[Path, tuple[float, Mapping[str, Any], str]] = {}
    for path in sorted(folder.rglob("trainer_state.json")):
        try:
            state = json.loads(path.read_text())
            step = float(state["global_step"])
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: broken ({error}).") from None
        home = path.parent.parent if path.parent.name.startswith("checkpoint-") else path.parent
        if home not in states or step > states[home][0]:
            states[home] = (step, state, _run_name(path))
    parts = [(name, *trainer_state(state, name)) for _, state, name in states.values()]
    if not parts:
        files = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES and path.is_file()]
        others = [path for path in files if besides is None or path.resolve() != besides.resolve()]
        parts = [(path.name, _named(frame, path), notes) for path in others for frame, notes in [open_table(path)]]
    if not parts:
        raise ValueError(f"{folder}: no run record, table or trainer_state.json in this folder.")
    frames = [frame.set_axis([f"{name} {label}" for label in frame.index], axis=0) for name, frame, _ in parts]
    return pd.concat(frames), [note for _, _, notes in parts for note in notes]
