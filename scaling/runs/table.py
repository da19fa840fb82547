"""Runs: the table of many runs in memory, and the one table on disk that it writes."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scaling.runs.columns import COUNTS
from scaling.runs.read import FLOPS, Asked, read_table
from scaling.runs.record import ALONE, Run, record_paths
from scaling.runs.write import write_whole

#: Column of a table that `Runs.write` writes -> what it holds. Any further column is one of the table that was read.
COLUMNS = {
    "id": "the run: hash of its spec, or the name or row in the table that was read",
    "group": "runs that are resampled together: branches of one trunk, rows of one run",
    "N": "all parameters",
    "D": "training tokens",
    "C": "training FLOPs, as `flops_counted` says",
    "loss": "held-out loss, nats per token",
    "loss_se": "standard error of the loss over the held-out tokens, nats per token",
    "weight": "weight of the run in a fit",
    "N_nonembedding": "parameters without the token embedding and the output head",
    "N_matmul": "parameters in a matrix product: blocks and head",
    "C_6nd": "6ND with all parameters, FLOPs",
    "bits_per_byte": "held-out loss, bits per byte of text",
    "seconds": "wall-clock of training without compiling",
    "compile_seconds": "wall-clock of compiling",
    "eval_seconds": "wall-clock of evaluating on the held-out tokens",
    "tokens_per_second": "training throughput",
    "steps": "optimiser steps",
    "epochs": "passes over the training tokens",
    "flops_per_second": "exact training FLOPs over seconds",
    "share_of_peak": "of the device's peak, where that is known",
    "peak_memory_bytes": "of the device, or on CPU of the process, until the run's end",
    "energy_kwh": "energy of training",
    "energy_how": "whether energy_kwh was measured or estimated, and how",
    "packed": "runs that were trained at once",
    "devices": "devices that shared the run",
    "trunk": "what a wsd run shares with its siblings",
    "flops_spent": "FLOPs that this run's record cost: of a branch, its decay and its stretch of the trunk",
    "device": "what it ran on",
    "flags": "what is odd about the run, separated by `;`",
    "corpus": "name of the corpus",
    "digest": "hash of the corpus' tokens",
    "seed": "seed of initialisation and data order",
    "eval_tokens": "held-out tokens that the loss is a mean over",
    "tokens": "training tokens, as in the spec",
    "depth": "blocks",
    "width": "width of the residual stream",
    "heads": "attention heads",
    "vocab": "vocabulary",
    "context": "window, tokens",
    "mlp_ratio": "width of the MLP over width",
    "tied": "whether embedding and head are one matrix",
    "positions": "rotary or learned",
    "mlp": "kind of MLP",
    "kv_heads": "heads of keys and values; as many as heads where it is empty",
    "experts": "experts of a block; 0 for a dense one",
    "experts_per_token": "experts that a token meets",
    "N_active": "parameters that a token meets",
    "learning_rate": "peak learning rate",
    "batch_tokens": "tokens a step",
    "warmup_tokens": "tokens of linear warm-up",
    "schedule": "what the learning rate does after warm-up",
    "beta1": "AdamW's first beta",
    "beta2": "AdamW's second beta",
    "weight_decay": "decoupled weight decay, scaled by the learning rate",
    "clip": "largest norm of the gradient",
    "z_loss": "weight of the z-loss",
    "precision": "number format of the products",
    "balance_loss": "weight of the loss that spreads tokens over experts",
    "remat": "whether activations are computed again in the backward pass",
    "decay_share": "share of the steps in which a wsd run decays",
    "cooldown": "how it decays",
    "versions": "versions of the software, JSON",
    "count": "which of N, N_nonembedding, N_matmul the table was read for",
    "flops_counted": "how C was counted: exact (with causal attention) or 6ND",
}


@dataclass(frozen=True)
class Runs:
    """A table of R runs: columns id, N, D, C, loss, perhaps loss_se, weight, group, and any further column.

    N, D, C, loss are float64 [R]. `source` says where the table came from, for people. `count` and `flops` name
    what N counts and how C was counted ("exact" or "6ND"): a fit keeps both, and `allocate` optimises under the same.
    `curves` holds [tokens, loss] points of training by run id, `parts` the losses on parts of the held-out tokens, where all runs
    were evaluated on the same. `notes` is what a reader of the answer should know of how
    the table was read: one sentence each.
    """

    table: pd.DataFrame
    source: str = "memory"
    count: str = "N"
    flops: str = "6ND"
    curves: Mapping[str, Sequence[Sequence[float]]] = field(default_factory=dict, repr=False)
    notes: tuple[str, ...] = ()
    loss_unit: str = "nats per token"
    parts: Mapping[str, Sequence[float]] = field(default_factory=dict, repr=False)

    @property
    def id(self) -> np.ndarray:
        """Run ids, [R] of str."""
        return self.table["id"].to_numpy()

    @property
    def group(self) -> np.ndarray:
        """What is resampled together, [R] of str: the column `group`, else each run by itself."""
        return self.table["group" if "group" in self.table else "id"].to_numpy()

    @property
    def N(self) -> np.ndarray:
        """Parameters, [R]."""
        return self.table["N"].to_numpy(np.float64)

    @property
    def D(self) -> np.ndarray:
        """Tokens, [R]."""
        return self.table["D"].to_numpy(np.float64)

    @property
    def C(self) -> np.ndarray:
        """FLOPs, [R]."""
        return self.table["C"].to_numpy(np.float64)

    @property
    def loss(self) -> np.ndarray:
        """Loss, nats per token unless `loss_unit` says otherwise, [R]."""
        return self.table["loss"].to_numpy(np.float64)

    @property
    def loss_se(self) -> np.ndarray | None:
        """Standard error of the loss over the held-out tokens, [R], where every run has one."""
        return self._optional("loss_se")

    @property
    def weight(self) -> np.ndarray | None:
        """Weights of the runs, [R], where the table gives them."""
        return self._optional("weight")

    def weighed(self, relative: bool = True) -> Runs:
        """The same runs weighed by their standard errors: 1 / loss_se^2, or (loss / loss_se)^2 where `relative`, mean 1.

        For runs whose errors are independent. Runs of one sweep share their held-out tokens and so that error, which then says
        nothing of which run to believe. Raises ValueError where a run has no standard error, or has weights already.
        """
        if self.loss_se is None:
            raise ValueError(
                f"{self.source}: no column loss_se with a standard error in every row to weigh the runs by."
            )
        if self.weight is not None:
            raise ValueError(f"{self.source}: the runs have weights and are to be weighed by loss_se; leave one out.")
        weight = (self.loss / self.loss_se if relative else 1 / self.loss_se) ** 2
        return replace(self, table=self.table.assign(weight=weight / weight.mean()))

    def _optional(self, name: str) -> np.ndarray | None:
        if not _has(self.table, name):
            return None
        return self.table[name].to_numpy(np.float64)

    @property
    def digest(self) -> str:
        """SHA-256 (16 hex digits) of N, D, C and loss in their order: what a fit says it was fitted to."""
        numbers = np.ascontiguousarray(self.table[["N", "D", "C", "loss"]].to_numpy(np.float64))
        return hashlib.sha256(numbers.tobytes()).hexdigest()[:16]

    def __len__(self) -> int:
        return len(self.table)

    def where(self, keep: np.ndarray) -> Runs:
        """The runs where `keep` [R] is true."""
        return replace(self, table=self.table[np.asarray(keep)].reset_index(drop=True))

    def counting(self, count: str | None = None, flops: str | None = None) -> Runs:
        """The same runs with another parameter count as N, or with C as 6ND of that N.

        Raises ValueError for a count that the table does not have, and where exact FLOPs are asked of 6ND.
        """
        Asked.of(None, None, count, flops, "end")
        runs = self
        if count is not None and count != self.count:
            column = "N_all" if count == "N" else count
            if not _has(self.table, column):
                present = [self.count, *(name for name in COUNTS[1:] if name in self.table)]
                raise ValueError(f"{self.source}: no count {count}; the table has {', '.join(dict.fromkeys(present))}.")
            kept = self.table["N"] if self.count == "N" else self.table.get("N_all")
            table = self.table.assign(N=self.table[column].to_numpy(np.float64))
            table = table.drop(columns="N_all", errors="ignore") if count == "N" else table.assign(N_all=kept)
            runs = replace(self, table=table, count=count)
        if flops == FLOPS[1] and runs.flops != flops:
            return replace(runs, table=runs.table.assign(C=6 * runs.N * runs.D), flops=flops)
        if flops == FLOPS[0] and runs.flops != flops:
            raise ValueError(f"{self.source}: C is 6ND; the exact FLOPs are not known.")
        return runs

    @classmethod
    def of(cls, records: Iterable[Run], source: str = "memory", loss: str = "loss") -> Runs:
        """The table of the finished records, smallest C first; the others are counted in a note.

        `loss` is "loss" or "bits_per_byte". Raises ValueError where none is finished, or tokenisers differ under "loss".
        """
        if loss not in ("loss", "bits_per_byte"):
            raise ValueError(f"{source}: a record's loss is loss or bits_per_byte, not {loss!r}.")
        records = list(records)
        done = sorted((run for run in records if run.status == "done"), key=lambda run: (run.C, run.N, run.id))
        if not done:
            raise ValueError(f"{source}: no finished run.")
        table = pd.DataFrame([_row(run) for run in done])
        vocabs = sorted({run.spec["shape"]["vocab"] for run in done})
        if loss == "loss" and len(vocabs) > 1:
            raise ValueError(
                f"{source}: vocabularies of {', '.join(map(str, vocabs))}: losses per token of "
                "different tokenisers do not compare. Use bits per byte: --columns loss=bits_per_byte."
            )
        bad = [run.id for run, value in zip(done, table[loss]) if value is None or not 0 < value < np.inf]
        if bad:
            raise ValueError(f"{source}: {loss} of record {', '.join(bad[:6])} is not a positive number.")
        notes = []
        if len(done) < len(records):
            reasons = sorted({run.reason for run in records if run.status != "done" and run.reason})
            why = f" ({'; '.join(reasons[:3])})" if reasons else ""
            notes.append(f"{len(records) - len(done)} of {len(records)} runs failed and were left out{why}.")
        corpora = len({run.spec["digest"] for run in done})
        if corpora > 1:
            notes.append(f"runs of {corpora} corpora: their held-out tokens differ.")
        unit = "bits per byte" if loss == "bits_per_byte" else "nats per token"
        curves = {run.id: run.curve for run in done}
        parts = {}
        if len({(run.spec["digest"], run.spec["eval_tokens"], len(run.loss_parts)) for run in done}) == 1:
            scale = (table[loss] / table["loss"]).to_numpy()
            parts = {
                run.id: list(np.multiply(run.loss_parts, each)) for run, each in zip(done, scale) if run.loss_parts
            }
        return cls(table.assign(loss=table[loss]), source, "N", "exact", curves, tuple(notes), unit, parts)

    @classmethod
    def read(
        cls,
        path: str | Path,
        columns: Mapping[str, str | float] | None = None,
        *,
        count: str | None = None,
        flops: str | None = None,
        units: Mapping[str, str | float] | None = None,
        checkpoints: str = "end",
        join: str | Path | None = None,
    ) -> Runs:
        """The runs in a table file, an export of a tracker, a trainer's state, or a folder of records.

        CSV, TSV, JSON, JSONL, Parquet (also as W&B and TensorBoard export them), Hugging Face `trainer_state.json`, a
        folder of these, or of our own records. Any two of N, D, C give the third by C = 6ND.

        columns: field -> column name where the name is not one that people use ({"N": "size", "loss": "eval/nll"}); a
            number stands for a constant ({"tokens_per_step": 524288}); "" leaves a field alone ({"C": ""}).
        count: which parameters N counts, of COUNTS; by default all of them where the table has that column.
        flops: "6ND" to ignore the table's C, "exact" to believe it where it is not 6ND.
        units: of N, D or C where neither column nor cell states one ({"N": "millions"}).
        checkpoints: of a table of curves, "end" keeps the end of each run, "all" every point, grouped by run.
        join: a table with one row a run, for curves that do not hold N themselves.

        Raises ValueError, one line that names file, rows and columns.
        """
        path = Path(path)
        asked = Asked.of(columns, units, count, flops, checkpoints)
        if path.is_dir() and (paths := record_paths(path)):
            odd = [name for name in asked.columns if name != "loss"]
            if odd or asked.units:
                raise ValueError(
                    f"{path}: records have their columns and units; only --columns loss=bits_per_byte applies."
                )
            return cls.of(map(Run.read, paths), str(path), asked.columns.get("loss", "loss")).counting(count, flops)
        read = read_table(path, asked, None if join is None else Path(join))
        return cls(read.frame, str(path), read.count, read.flops, read.curves, read.notes, read.loss_unit)

    def write(self, path: str | Path) -> Path:
        """Write one CSV or Parquet table with the columns of COLUMNS, whole or not at all, and return its path.

        `Runs.read` gives the same runs again; the training curves stay in the records.
        """
        path = Path(path)
        table = self._ordered()
        if path.suffix == ".csv":
            write_whole(path, table.to_csv(index=False))
        elif path.suffix == ".parquet":
            buffer = io.BytesIO()
            table.to_parquet(buffer, index=False)
            write_whole(path, buffer.getvalue())
        else:
            raise ValueError(f"{path}: a table is written as .csv or .parquet.")
        return path

    def describe(self) -> dict[str, str]:
        """Column -> what it holds, for each column that `write` writes."""
        further = "a further column of the table that was read"
        return {name: COLUMNS.get(name, further) for name in self._ordered()}

    def _ordered(self) -> pd.DataFrame:
        """The table as it is written: documented columns first, in their order, and none that is empty."""
        table = self._written()
        order = [name for name in COLUMNS if name in table] + [name for name in table if name not in COLUMNS]
        return table.loc[:, order].dropna(axis=1, how="all")

    def _written(self) -> pd.DataFrame:
        """The table with every count under its own name, and columns that say what N and C were."""
        table = self.table
        if self.count != "N":
            table = table.drop(columns=self.count, errors="ignore").rename(columns={"N": self.count, "N_all": "N"})
        if self.loss_unit == "bits per byte":
            table = table.drop(columns="bits_per_byte", errors="ignore").rename(columns={"loss": "bits_per_byte"})
        return table.assign(count=self.count, flops_counted=self.flops)


def _has(table: pd.DataFrame, column: str) -> bool:
    """Whether every run has a value in this column."""
    return column in table and bool(table[column].notna().all())


def _row(run: Run) -> dict[str, Any]:
    """A record as one flat row: its fields, then those of its spec, shape and recipe."""
    record = asdict(run)
    spec = dict(record["spec"])
    row = {name: value for name, value in record.items() if name not in ALONE}
    row |= {"flags": ";".join(run.flags) or None, "versions": json.dumps(dict(run.versions), sort_keys=True)}
    for part in (spec.pop("shape", {}), spec.pop("recipe", {}), spec):
        row |= {name: value for name, value in part.items() if name not in row}
    if record.get("trunk"):
        row["group"] = record["trunk"]
    return row
