"""Run: the record of one training run on disk."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from scaling.grid import RunSpec
from scaling.runs.write import to_json, write_whole

_NAMED = re.compile(r"[0-9a-f]{16}\.json")

#: Version of the record's layout; a reader refuses a newer one.
SCHEMA = 2

#: Fields by which a run's record, and a fit, are told from other JSON.
_OF_A_RUN, _OF_A_FIT = {"N_matmul", "spec", "status"}, {"certificate", "law", "objective"}

#: Field of a record that a table has no column for -> what it holds; `COLUMNS` in table.py describes the others.
ALONE = {
    "loss_parts": "mean loss on each of 32 consecutive parts of the held-out tokens, as equal as can be, nats per token",
    "curve": "training loss on the way: a list of [tokens, nats per token]",
    "spec": "everything that fixes the run: shape, recipe, corpus, digest, tokens, seed, eval_tokens",
    "heldout": "loss and loss_se on further held-out sets, by name",
    "status": "done or failed",
    "reason": "why the run failed",
    "schema": "version of this layout",
}


@dataclass(frozen=True)
class Run:
    """The record of one run, as it lies in `<folder>/<id>.json`.

    N in parameters (`N_active`: those that one token meets), D in tokens, C in FLOPs (exact, causal attention) and `C_6nd` = 6ND,
    `loss` in nats per token on the held-out tokens, `loss_parts` on consecutive parts of these, whose scatter gives the standard
    error `loss_se`: two runs of one sweep share the tokens, and differ by less than their own errors. `curve` as [tokens, loss]
    pairs of the training loss.
    `heldout` has loss and standard error on further held-out sets by name. `seconds` are those of training; compiling and
    evaluating are counted apart. `flops_spent` are those that this record's run cost: of a branch of the trunk `trunk`, its own
    decay and the trunk's stretch since the sibling before. Of `packed` runs that were trained at once each has its
    equal part of the seconds and the energy. `peak_memory_bytes` is the device's, or on CPU the process', until
    the run's end; `energy_how` says whether `energy_kwh` was measured. `flags` say what is doubtful about it.
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
    eval_seconds: float | None = None
    tokens_per_second: float | None = None
    heldout: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    N_active: int | None = None
    trunk: str | None = None
    flops_spent: int | None = None
    flops_per_second: float | None = None
    share_of_peak: float | None = None
    peak_memory_bytes: int | None = None
    energy_kwh: float | None = None
    energy_how: str | None = None
    packed: int = 1
    devices: int = 1
    device: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    curve: Sequence[Sequence[float]] = ()
    loss_parts: Sequence[float] = ()
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
            N_active=shape.N_active,
            D=spec.tokens,
            C=spec.C,
            C_6nd=shape.flops_per_token_6n * spec.tokens,
            spec=asdict(spec),
            steps=spec.steps,
            **measured,
        )

    @classmethod
    def read(cls, path: str | Path) -> Run:
        """The record in a file. Raises ValueError naming a file that is damaged, newer than this program, or something else."""
        path, record = Path(path), None
        try:
            with open(path, "rb") as file:  # a folder may hold ten thousand
                record = json.loads(file.read())
            if _has(record, _OF_A_FIT):
                raise ValueError(
                    f"{path}: a fit, not a run's record. `scaling allocate {path} --flops C` answers from it."
                )
            if record["schema"] > SCHEMA:
                raise ValueError(
                    f"{path}: written by a newer version (schema {record['schema']}, this one reads {SCHEMA}). "
                    "Upgrade with `pip install -U isoflop`."
                )
            return cls(**record)
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
            what = f"{type(error).__name__}: {error}"
            if not _NAMED.fullmatch(path.name) and not _has(record, _OF_A_RUN):
                raise ValueError(f"{path}: not a run's record that `scaling sweep` wrote ({what}).") from None
            raise ValueError(
                f"{path}: a damaged record ({what}). Move it away; `scaling sweep` trains that cell again."
            ) from None

    def write(self, folder: str | Path) -> Path:
        """Write `<folder>/<id>.json`, whole or not at all, and return its path."""
        path = Path(folder) / f"{self.id}.json"
        write_whole(path, to_json(asdict(self)))
        return path


def refuse_record(path: str | Path, found: Any) -> None:
    """Raise ValueError where the JSON in a file that should hold a fit is the record of a run."""
    if _has(found, _OF_A_RUN):
        raise ValueError(
            f"{path}: a run's record, not a fit. `scaling fit {Path(path).parent} -o FIT.json` fits the runs beside it."
        )


def _has(found: Any, fields: set[str]) -> bool:
    return isinstance(found, dict) and fields <= found.keys()


def record_paths(folder: str | Path) -> list[Path]:
    """The paths of the run records in a folder, sorted: files named by a run's id, there or in an autopilot's rounds."""
    folder = Path(folder)
    rounds = sorted(folder.glob("round-*"))
    return [place / name for place in (folder, *rounds) for name in sorted(record_names(place))]


def record_names(folder: str | Path) -> list[str]:
    """The names of the files in a folder that are named by a run's id, `<id>.json`; none where there is no such folder."""
    try:
        return [name for name in os.listdir(folder) if _NAMED.fullmatch(name)]
    except (FileNotFoundError, NotADirectoryError):
        return []
