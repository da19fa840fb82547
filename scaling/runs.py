"""Run: the record of one training run on disk. Runs: the table of many in memory. The hinge of the two halves."""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scaling.grid import RunSpec

#: Version of the record's layout; a reader refuses a newer one.
SCHEMA = 1


@dataclass(frozen=True)
class Run:
    """The record of one run, as it lies in `<folder>/<id>.json`.

    N in parameters, D in tokens, C in FLOPs (exact, causal attention) and `C_6nd` = 6ND, `loss` in nats per
    token on the held-out tokens with its standard error `loss_se`, `curve` as [tokens, loss] pairs of the training loss.
    A run with status "failed" has a `reason` and no loss.
    """

    id: str
    status: str
    N: int
    N_nonembedding: int
    N_matmul: int
    D: int
    C: int
    C_6nd: int
    spec: Mapping[str, Any]
    loss: float | None = None
    loss_se: float | None = None
    bits_per_byte: float | None = None
    steps: int = 0
    epochs: float = 0.0
    seconds: float | None = None
    compile_seconds: float | None = None
    tokens_per_second: float | None = None
    device: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    curve: Sequence[Sequence[float]] = ()
    reason: str | None = None
    flags: Sequence[str] = ()
    schema: int = SCHEMA

    @classmethod
    def of(cls, spec: RunSpec, **measured: Any) -> Run:
        """The record of a spec, with its counts filled in."""
        shape = spec.shape
        return cls(
            id=spec.id,
            N=shape.N,
            N_nonembedding=shape.N_nonembedding,
            N_matmul=shape.N_matmul,
            D=spec.tokens,
            C=spec.C,
            C_6nd=shape.flops_per_token_6n * spec.tokens,
            spec=asdict(spec),
            steps=spec.steps,
            **measured,
        )

    @classmethod
    def read(cls, path: str | Path) -> Run:
        """The record in a file. Raises ValueError naming a file that is damaged or newer than this program."""
        path = Path(path)
        try:
            record = json.loads(path.read_text())
            if record["schema"] > SCHEMA:
                raise ValueError(
                    f"{path}: written by a newer version (schema {record['schema']}, this one reads {SCHEMA}). "
                    "Upgrade with `pip install -U isoflop`."
                )
            return cls(**record)
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path}: a damaged record ({type(error).__name__}: {error}). Move it away; `scaling sweep` trains "
                "that cell again."
            ) from None

    def write(self, folder: str | Path) -> Path:
        """Write `<folder>/<id>.json`, whole or not at all, and return its path."""
        path = Path(folder) / f"{self.id}.json"
        write_whole(path, to_json(asdict(self)))
        return path


def record_paths(folder: str | Path) -> list[Path]:
    """The paths of the run records in a folder, sorted: files named by a run's id."""
    return sorted(Path(folder).glob("[0-9a-f]" * 16 + ".json"))


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader sees the old content or the new, never a part: write, fsync, rename."""
    data = content.encode() if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(partial, 0o666 & ~umask)
        os.replace(partial, path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise


def to_json(value: Any) -> str:
    """Sorted, indented JSON with short lists of numbers kept on one line; refuses NaN and infinity."""
    return _dump(value, "") + "\n"


def _dump(value: Any, indent: str) -> str:
    inner = indent + " "
    if isinstance(value, Mapping) and value:
        rows = [f"{inner}{json.dumps(str(key))}: {_dump(value[key], inner)}" for key in sorted(value, key=str)]
        return "{\n" + ",\n".join(rows) + f"\n{indent}}}"
    if isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
        return "[\n" + ",\n".join(inner + _dump(item, inner) for item in value) + f"\n{indent}]"
    return json.dumps(value, allow_nan=False)


@dataclass(frozen=True)
class Runs:
    """A table of R runs: columns id, N, D, C, loss, perhaps loss_se, and any further column.

    N, D, C, loss are float64 [R]. `source` says where the table came from, for people. `count` and `flops` name
    what N counts and how C was counted ("exact" or "6ND"): a fit keeps both, and `allocate` optimises under the same.
    """

    table: pd.DataFrame
    source: str = "memory"
    count: str = "N"
    flops: str = "6ND"
    curves: Mapping[str, Sequence[Sequence[float]]] = field(default_factory=dict, repr=False)

    @property
    def id(self) -> np.ndarray:
        """Run ids, [R] of str."""
        return self.table["id"].to_numpy()

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
        """Loss, nats per token, [R]."""
        return self.table["loss"].to_numpy(np.float64)

    @property
    def digest(self) -> str:
        """SHA-256 (16 hex digits) of N, D, C and loss in their order: what a fit says it was fitted to."""
        numbers = np.ascontiguousarray(self.table[["N", "D", "C", "loss"]].to_numpy(np.float64))
        return hashlib.sha256(numbers.tobytes()).hexdigest()[:16]

    def __len__(self) -> int:
        return len(self.table)

    def where(self, keep: np.ndarray) -> Runs:
        """The runs where `keep` [R] is true."""
        return Runs(
            self.table[np.asarray(keep)].reset_index(drop=True), self.source, self.count, self.flops, self.curves
        )

    @classmethod
    def of(cls, records: Iterable[Run], source: str = "memory") -> Runs:
        """The table of the finished records."""
        done = sorted((run for run in records if run.status == "done"), key=lambda run: (run.C, run.N, run.id))
        rows = [
            {
                "id": run.id, "N": run.N, "D": run.D, "C": run.C, "loss": run.loss, "loss_se": run.loss_se,
                "N_nonembedding": run.N_nonembedding, "N_matmul": run.N_matmul, "C_6nd": run.C_6nd,
                "bits_per_byte": run.bits_per_byte, "seed": run.spec["seed"], "seconds": run.seconds,
                "tokens_per_second": run.tokens_per_second,
            }
            for run in done
        ]  # fmt: skip
        if not rows:
            raise ValueError(f"{source}: no finished run.")
        return cls(pd.DataFrame(rows), source, "N", "exact", {run.id: run.curve for run in done})

    @classmethod
    def read(cls, path: str | Path, columns: Mapping[str, str] | None = None) -> Runs:
        """The runs in a table file or a folder of records."""
        path = Path(path)
        if path.is_dir():
            paths = record_paths(path)
            if not paths:
                raise ValueError(f"{path}: no run record in this folder.")
            return cls.of(map(Run.read, paths), str(path))
        raise NotImplementedError  # the fitting helper owns this
