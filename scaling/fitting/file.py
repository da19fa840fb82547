"""A fit's file, read without importing what made it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scaling.runs import refuse_record

#: Version of the fit file's layout.
SCHEMA = 1


@contextmanager
def opened(path: str | Path) -> Iterator[dict[str, Any]]:
    """What is in the file. Raises ValueError naming one that is damaged, newer than this program, or no fit, be it seen here or
    by the block that makes something of it."""
    try:
        payload = json.loads(Path(path).read_text())
        refuse_record(path, payload)
        if payload["schema"] > SCHEMA:
            raise ValueError(f"{path}: written by a newer version (schema {payload['schema']}). Upgrade isoflop.")
        yield payload
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        what = f"{type(error).__name__}: {error}"
        raise ValueError(f"{path}: not a fit that `scaling fit` wrote ({what}).") from None
