"""From the raw cells of somebody's table to the checked columns of Runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scaling.runs.columns import (
    COUNTS,
    SYNONYMS,
    check_compute,
    check_plausible,
    check_positive,
    check_ratio,
    find_columns,
    list_columns,
    name_rows,
    numbers,
    read_units,
    simplify,
)
from scaling.runs.formats import open_folder, open_table

CHECKPOINTS = ("end", "all")
FLOPS = ("exact", "6ND")

#: What a status column says of a run that has no final loss.
_UNFINISHED = {"failed", "crashed", "killed", "running", "preempted", "preempting", "pending", "queued", "error",
               "diverged", "cancelled", "canceled", "timeout"}  # fmt: skip

#: C within this of 6ND is 6ND, rounded on its way into the table.
_SAME_C = 0.01


@dataclass(frozen=True)
class Asked:
    """How a table is to be read, as `Runs.read` explains it."""

    columns: Mapping[str, str]
    units: Mapping[str, float]
    count: str | None
    flops: str | None
    checkpoints: str

    @classmethod
    def of(
        cls,
        columns: Mapping[str, str | float] | None,
        units: Mapping[str, str | float] | None,
        count: str | None,
        flops: str | None,
        checkpoints: str,
    ) -> Asked:
        """The request, checked. Raises ValueError naming the choice that is unknown."""
        for name, value, known in (("count", count, COUNTS), ("flops", flops, FLOPS)):
            if value is not None and value not in known:
                raise ValueError(f"{name} = {value!r}: needed one of {', '.join(known)}.")
        if checkpoints not in CHECKPOINTS:
            raise ValueError(f"checkpoints = {checkpoints!r}: needed one of {', '.join(CHECKPOINTS)}.")
        named = {field: str(name) for field, name in (columns or {}).items()}
        return cls(named, read_units(units or {}), count, flops, checkpoints)


@dataclass(frozen=True)
class Table:
    """What was read: the columns of Runs, and what a person should know of how."""

    frame: pd.DataFrame
    count: str
    flops: str
    loss_unit: str
    curves: Mapping[str, list[list[float]]]
    notes: tuple[str, ...]


def read_table(path: Path, asked: Asked, join: Path | None) -> Table:
    """The checked table of a file or folder. Raises ValueError naming rows and columns."""
    frame, notes = open_folder(path, join) if path.is_dir() else open_table(path)
    try:
        if join is not None:
            frame = _join(frame, open_table(join)[0], str(join))
        frame, columns = _constants(frame, asked.columns)
        found, factors = find_columns(frame, columns)
        frame, left_out = _finished(frame, found)
        return _Reader(frame, found, {**factors, **asked.units}, asked, [*notes, *left_out]).table()
    except ValueError as error:
        message = str(error)
        raise ValueError(message if message.startswith(str(path)) else f"{path}: {message}") from None


def _join(frame: pd.DataFrame, sizes: pd.DataFrame, source: str) -> pd.DataFrame:
    """The points of curves with the columns that another table gives for their runs."""
    key, by = _id_column(frame), _id_column(sizes)
    if key is None or by is None:
        raise ValueError(f"joining {source} needed a column with the run's name (run, name or id) in both tables.")
    sizes = sizes.assign(**{by: sizes[by].astype(str)})
    twice = sizes[sizes[by].duplicated()]
    if len(twice):
        raise ValueError(f"{source}: run {twice[by].iloc[0]!r} is there twice.")
    new = [name for name in sizes.columns if name != by and name not in frame.columns]
    unknown = sorted(set(frame[key].astype(str)) - set(sizes[by]))
    if unknown:
        raise ValueError(f"{source} has no row for run {unknown[0]!r} ({len(unknown)} such runs).")
    rows = sizes.set_index(by).loc[frame[key].astype(str), new].set_axis(frame.index, axis=0)
    return pd.concat([frame, rows], axis=1)


def _id_column(frame: pd.DataFrame) -> str | None:
    wanted = [simplify(name) for name in SYNONYMS["id"]]
    fits = [name for name in frame.columns if simplify(name) in wanted]
    return min(fits, key=lambda name: wanted.index(simplify(name)), default=None)


def _constants(frame: pd.DataFrame, asked: Mapping[str, str]) -> tuple[pd.DataFrame, dict[str, str]]:
    """The table with a column for each field that was given as a number (`N=124e6`), and the names to look for."""
    columns = dict(asked)
    for field, name in asked.items():
        if name in frame.columns or name == "":
            continue
        try:
            value = float(name)
        except ValueError:
            continue
        frame = frame.assign(**{field: value})
        columns[field] = field
    return frame, columns


def _finished(frame: pd.DataFrame, found: Mapping[str, str]) -> tuple[pd.DataFrame, list[str]]:
    """The rows whose status column does not say that they failed or still run, and a note of the others."""
    if "status" not in found:
        return frame, []
    status = frame[found["status"]].astype(str).str.strip().str.lower()
    out = status.isin(_UNFINISHED)
    if not out.any():
        return frame, []
    if out.all():
        raise ValueError(f"no finished run: column {found['status']!r} says {', '.join(sorted(set(status)))}.")
    counts = ", ".join(f"{number} {what}" for what, number in status[out].value_counts().sort_index().items())
    return frame.loc[~out], [f"{int(out.sum())} of {len(frame)} runs left out: {counts}."]


class _Reader:
    """One table on its way in: the raw frame, which column is which, and the notes so far."""

    def __init__(
        self, frame: pd.DataFrame, found: dict[str, str], factors: dict[str, float], asked: Asked, notes: list[str]
    ) -> None:
        self.frame, self.found, self.factors, self.asked, self.notes = frame, found, factors, asked, notes

    def table(self) -> Table:
        """The checked table."""
        self._require_loss()
        self._tokens_from_steps()
        self._refuse_mixed_tokenizers()
        curves = self._take_ends()
        self._refuse_duplicates()
        columns = self._identity()
        sizes, count, flops = self._sizes()
        columns |= sizes
        for field in ("loss", "loss_se", "weight"):
            if field in self.found:
                columns[field] = self._positive(field)
        self._note_repeats(columns)
        unit = "bits per byte" if self._in_bits_per_byte() else "nats per token"
        frame = pd.DataFrame(columns | self._further(columns))
        return Table(frame, count, flops, unit, curves, tuple(self.notes))

    def _require_loss(self) -> None:
        if "loss" not in self.found:
            raise ValueError(
                f"no column for the loss; the columns are {list_columns(self.frame)}. Name it: --columns loss=COLUMN."
            )

    def _in_bits_per_byte(self) -> bool:
        return simplify(self.found["loss"]) in map(simplify, SYNONYMS["bits_per_byte"])

    def _refuse_mixed_tokenizers(self) -> None:
        if "tokenizer" not in self.found or self._in_bits_per_byte():
            return
        column = self.found["tokenizer"]
        names = self.frame[column].astype(str).str.strip()
        counts = names[~names.str.lower().isin({"", "nan", "none"})].value_counts()
        if len(counts) > 1:
            shown = ", ".join(f"{name} in {number} rows" for name, number in counts.head(4).items())
            raise ValueError(
                f"column {column!r} has {len(counts)} tokenisers ({shown}): their losses per token do not compare. "
                "Give a loss in bits per byte (--columns loss=bits_per_byte), or split the table."
            )

    def _tokens_from_steps(self) -> None:
        if "D" not in self.found and {"step", "tokens_per_step"} <= self.found.keys():
            steps = numbers(self.frame, self.found["step"], "step")
            tokens = steps * numbers(self.frame, self.found["tokens_per_step"], "tokens_per_step")
            self.frame = self.frame.assign(D=tokens)
            self.found["D"] = "D"

    def _take_ends(self) -> dict[str, list[list[float]]]:
        """Keep the end of each run where the table holds curves; returns [tokens, loss] of each run's points."""
        if not {"id", "step"} <= self.found.keys():
            return {}
        ids = self.frame[self.found["id"]].astype(str)
        if not ids.duplicated().any():
            return {}
        loss = numbers(self.frame, self.found["loss"], "loss")
        keep = ~np.isnan(loss)
        if not keep.any():
            raise ValueError(f"column {self.found['loss']!r} (loss) has no number in any row.")
        frame, ids, loss = self.frame[keep], ids[keep], loss[keep]
        steps = numbers(frame, self.found["step"], "step")
        order = np.lexsort((steps, pd.factorize(ids)[0]))
        frame, ids, loss, steps = frame.iloc[order], ids.iloc[order], loss[order], steps[order]
        last = ~ids.duplicated(keep="last").to_numpy()
        curves = self._curves(frame, ids, loss)
        lost = sorted(set(self.frame[self.found["id"]].astype(str)) - set(ids))
        if lost:
            self.notes.append(f"{len(lost)} runs without any loss left out: {', '.join(lost[:6])}.")
        if self.asked.checkpoints == "end":
            self.frame = frame[last]
            self.notes.append(
                f"curves: of {len(frame)} points the end of each of {last.sum()} runs was taken. A checkpoint before the end "
                "of its run has not had its learning rate's decay and lies above the law (checkpoints='all' keeps them)."
            )
        else:
            names = [run if end else f"{run}@{step:.0f}" for run, step, end in zip(ids, steps, last)]
            group = ids.to_numpy() if "group" not in self.found else frame[self.found["group"]].to_numpy()
            self.frame = frame.assign(id=names, group=group)
            self.found |= {"id": "id", "group": "group"}
            self.notes.append(
                f"{len(frame) - last.sum()} of {len(frame)} rows are checkpoints before the end of their run: without the "
                "decay of the learning rate they lie above the law. Rows of one run are resampled together."
            )
        return curves

    def _curves(self, frame: pd.DataFrame, ids: pd.Series, loss: np.ndarray) -> dict[str, list[list[float]]]:
        if "D" not in self.found:
            return {}
        tokens = numbers(frame, self.found["D"], "D") * self.factors.get("D", 1.0)
        points = pd.DataFrame({"run": ids.to_numpy(), "D": tokens, "loss": loss}).dropna()
        return {str(run): part[["D", "loss"]].to_numpy().tolist() for run, part in points.groupby("run", sort=False)}

    def _refuse_duplicates(self) -> None:
        rows = self.frame.astype(str)
        copies = rows[rows.duplicated(keep=False)]
        if len(copies):
            twins = [name_rows(list(part.index)) for _, part in copies.groupby(list(copies.columns), sort=False)]
            more = f", {len(twins) - 3} more sets" if len(twins) > 3 else ""
            raise ValueError(
                f"{'; '.join(twins[:3])}{more}: the same in every column. Remove the copies, or add a column that tells the "
                "runs apart (seed, id)."
            )

    def _identity(self) -> dict[str, Any]:
        """The columns id and group."""
        group = self.frame[self.found["group"]].astype(str).to_numpy() if "group" in self.found else None
        if "id" not in self.found:
            ids = np.array([label.removeprefix("row ") for label in self.frame.index], object)
        else:
            ids = self.frame[self.found["id"]].astype(str).to_numpy(object)
            if pd.Series(ids).duplicated().any():
                if group is None:
                    group = ids
                    self.notes.append(
                        f"column {self.found['id']!r} repeats, so it was taken as a group: its rows are resampled together."
                    )
                ids = np.array([label.removeprefix("row ") for label in self.frame.index], object)
        return {"id": ids} if group is None else {"id": ids, "group": group}

    def _positive(self, field: str) -> np.ndarray:
        column = self.found[field]
        values = numbers(self.frame, column, field)
        check_positive(values, list(self.frame.index), column, field)
        if field not in (*COUNTS, "D", "C"):
            return values
        factor = self.factors.get(field, 1.0)
        stated = field in self.factors
        if not (stated and factor == 1.0):
            check_plausible(values * factor, column, field, stated)
        return values * factor

    def _sizes(self) -> tuple[dict[str, np.ndarray], str, str]:
        """N, D and C (two of them give the third), what N counts and how C was counted."""
        counts = {count: self._positive(count) for count in COUNTS if count in self.found}
        count = self._count(tuple(counts))
        known = {"N": counts[count]} if counts else {}
        known |= {field: self._positive(field) for field in ("D", "C") if field in self.found}
        if self.asked.flops == "6ND" and {"N", "D"} <= known.keys():
            known.pop("C", None)
        if len(known) < 2:
            missing = [field for field in ("N", "D", "C") if field not in known]
            raise ValueError(
                f"found {' and '.join(known) or 'none'} of N, D and C; needed two of them. The columns are "
                f"{list_columns(self.frame)}. Name one: --columns {missing[0]}=COLUMN."
            )
        N, D, C, flops = self._third(known)
        if not ({"N", "D"} & self.factors.keys()):
            check_ratio(N, D)
        others = {name: values for name, values in counts.items() if name != "N"}
        if count != "N" and "N" in counts:
            others["N_all"] = counts["N"]
        return {"N": N, "D": D, "C": C} | others, count, flops

    def _stated(self, column: str, known: tuple[str, ...]) -> str | None:
        """What a column that `Runs.write` adds says of all rows."""
        values = self.frame[column].astype(str).unique() if column in self.frame.columns else []
        return str(values[0]) if len(values) == 1 and values[0] in known else None

    def _count(self, present: tuple[str, ...]) -> str:
        if self.asked.count is None:
            stated = self._stated("count", COUNTS)
            return stated if stated in present else present[0] if present else "N"
        if self.asked.count not in present:
            raise ValueError(
                f"--count {self.asked.count}: the table has {', '.join(present) or 'no parameter count'}. "
                f"Name its column: --columns {self.asked.count}=COLUMN."
            )
        return self.asked.count

    def _third(self, known: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
        N, D, C = known.get("N"), known.get("D"), known.get("C")
        exact = (self.asked.flops or self._stated("flops_counted", FLOPS)) == "exact"
        if exact and (C is None or N is None or D is None):
            raise ValueError("--flops-as exact: needed N, D and C in the table.")
        if C is None:
            assert N is not None
            assert D is not None
            return N, D, 6 * N * D, "6ND"
        if D is None:
            assert N is not None
            return N, C / (6 * N), C, "6ND"
        if N is None:
            return C / (6 * D), D, C, "6ND"
        if not exact:
            check_compute(N, D, C, list(self.frame.index))
        same = bool(np.all(np.abs(C / (6 * N * D) - 1) < _SAME_C))
        return N, D, C, "6ND" if same and not exact else "exact"

    def _note_repeats(self, columns: Mapping[str, np.ndarray]) -> None:
        same = pd.DataFrame({key: columns[key] for key in ("N", "D", "C", "loss")}).duplicated(keep=False).to_numpy()
        if same.any():
            labels = [self.frame.index[i] for i in np.flatnonzero(same)]
            self.notes.append(f"{name_rows(labels)} repeat another row's N, D, C and loss to the last digit.")

    def _further(self, columns: Mapping[str, Any]) -> dict[str, Any]:
        """The columns that mean nothing here, as numbers where they all are, for laws that ask for them."""
        used = {*self.found.values(), *self.asked.columns, *columns, *COUNTS, "N_all", "D", "C", "flops_counted"}
        used |= {"count"} if self._stated("count", COUNTS) else set()
        kept = [field for field in ("tokenizer", "bits_per_byte") if field in self.found and field not in columns]
        further: dict[str, Any] = {field: self._maybe_numbers(self.found[field]) for field in kept}
        further |= {name: self._maybe_numbers(name) for name in self.frame.columns if name not in used}
        return further

    def _maybe_numbers(self, name: str) -> np.ndarray:
        try:
            return numbers(self.frame, name, name)
        except ValueError:
            return self.frame[name].astype(str).to_numpy(object)
