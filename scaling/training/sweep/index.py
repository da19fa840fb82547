"""glance(folder): the records of a folder in brief, from an index beside them, for who only wants to know how a sweep goes.

Ten thousand files take seconds to open, on a shared disk far more; their names, sizes and times come with one listing. A
record that is not in the index as it lies in the folder is read, and the index written anew.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from scaling.runs import SCHEMA, Run, record_names, write_whole
from scaling.training.state import STATE

#: The fields that are kept; the others of a brief record are at their defaults, its spec is empty.
KEPT = ("id", "status", "N", "N_nonembedding", "N_matmul", "D", "C", "C_6nd", "loss", "steps", "epochs", "tokens_per_second",
        "reason")  # fmt: skip


def glance(folder: Path) -> dict[str, Run]:
    """The records in a folder by id, with the fields of KEPT alone. Raises ValueError for a damaged or newer one."""
    path, found = folder / STATE / "index.json", {}
    kept = _read(path)
    for name in record_names(folder):
        stat, id = os.stat(folder / name), name.removesuffix(".json")
        row = kept.get(id)
        if row is None or row[:2] != [stat.st_mtime_ns, stat.st_size]:
            run = Run.read(folder / name)
            row = [stat.st_mtime_ns, stat.st_size, [getattr(run, name) for name in KEPT]]
        found[id] = row
    if found != kept and path.parent.is_dir():
        with suppress(OSError):  # somebody else's folder: then it is read again the next time
            write_whole(path, json.dumps({"layout": [SCHEMA, *KEPT], "records": found}))
    return {id: Run(**dict(zip(KEPT, values)), spec={}) for id, (_, _, values) in found.items()}


def _read(path: Path) -> dict[str, list[Any]]:
    """The rows of an index: time, size and values of each record; none where it is missing, damaged or of another layout."""
    try:
        said = json.loads(path.read_bytes())
        return said["records"] if said["layout"] == [SCHEMA, *KEPT] else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
