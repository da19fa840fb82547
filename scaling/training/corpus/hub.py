"""A data set of the Hugging Face hub, streamed once to a JSONL file on disk."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

#: What a hub corpus' name begins with: `hf:NAME`, `hf:NAME:CONFIG`, `hf:NAME:CONFIG:SPLIT`.
PREFIX = "hf:"


def fetched(name: str, column: str, root: Path) -> Path:
    """The JSONL file with the texts of a data set, streamed there by `datasets` if it is not there yet, whole or not at all.

    Raises ValueError where `datasets` is not installed, the data set cannot be had, or it lacks the column.
    """
    slug = re.sub(r"[^A-Za-z0-9]+", "-", name.removeprefix(PREFIX)).strip("-")[-60:]
    path = root / f"{slug}-{hashlib.sha256(f'{name}/{column}'.encode()).hexdigest()[:8]}.jsonl"
    if path.exists():
        return path
    try:
        import datasets  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ValueError(f"corpus {name!r} needs the package `datasets`: pip install 'isoflop[data]'.") from None
    where, config, split = (*name.removeprefix(PREFIX).split(":"), "", "")[:3]
    root.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=root, suffix=".partial")
    shown = Progress(
        SpinnerColumn(), TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn(),
        console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty(),
    )  # fmt: skip
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file, shown:
            rows = datasets.load_dataset(where, config or None, split=split or "train", streaming=True)
            for row in shown.track(rows, description=f"fetching {where}"):
                if column not in row:
                    raise ValueError(f"no column {column!r}; it has {', '.join(map(repr, row))}. Name it: column = ...")
                file.write(json.dumps({column: row[column]}) + "\n")
            file.flush()
            os.fsync(file.fileno())
        Path(partial).rename(path)
    except Exception as error:
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"corpus {name!r}: cannot be fetched: {said}") from error
    finally:
        Path(partial).unlink(missing_ok=True)
    return path
