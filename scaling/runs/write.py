"""Files that are written whole or not at all, the JSON in them, and where what can be made again is kept."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def read_object(path: Path, key: str, *, lacks: str, remedy: str) -> dict[str, Any]:
    """The JSON object in a file. Raises ValueError that names the file and the remedy where it is damaged or lacks the key."""
    try:
        found = json.loads(path.read_bytes())
        if not isinstance(found, dict) or key not in found:
            raise ValueError(lacks)
        return found
    except ValueError as error:
        raise ValueError(f"{path}: damaged ({error}). {remedy}") from None


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader sees the old content or the new, never a part: write, fsync, rename.

    Raises OSError that names the file, where it cannot be written; nothing is left behind.
    """
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
    except BaseException as error:
        Path(partial).unlink(missing_ok=True)
        if isinstance(error, OSError) and not error.filename:  # a write that fails does not say of what
            error.filename = str(path)
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


def cache_folder() -> Path:
    """Where corpora and compiled programs are kept: SCALING_CACHE, or `scaling` in the user's cache folder."""
    if named := os.environ.get("SCALING_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "scaling"
