"""Documents: what a corpus' name stands for, read one text after the other, whatever the format."""

from __future__ import annotations

import difflib
import importlib.metadata
import io
import json
import os
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

#: Distributions whose Python source the `python` corpus holds, beside the standard library.
DISTRIBUTIONS = ("jax", "optax", "orbax-checkpoint", "numpy", "scipy", "pandas", "matplotlib", "rich")

#: Codec of a file's last suffix; pyarrow reads both.
CODECS = {".gz": "gzip", ".zst": "zstd"}

#: Rows of a Parquet file in memory at once.
PARQUET_ROWS = 1024

#: What a corpus' name can be.
NEEDED = "Needed `python`, `planted`, `hf:NAME`, or the path of text, JSONL, Parquet or token files."

LINES = (".jsonl", ".ndjson")
IDS = (".bin", ".npy")


class Document(NamedTuple):
    """A text with its name; `text` is UTF-8, and may be empty."""

    label: str
    text: bytes


def sources(name: str) -> list[tuple[str, Path]]:
    """(label, path) of every file that a corpus' name stands for, in a fixed order.

    Raises ValueError for no name, a path that is missing, or a folder without files.
    """
    if not name.strip():
        raise ValueError(f"corpus {name!r} names nothing. {NEEDED}")
    return _python_files() if name == "python" else _files(Path(name).expanduser())


def kind(path: Path) -> str:
    """The format of a file by its name, the suffix of a codec left out: `.jsonl`, `.parquet`, `.bin`, `.npy`, or `.txt`."""
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() not in CODECS]
    last = suffixes[-1] if suffixes else ""
    if last in LINES:
        return ".jsonl"
    return last if last in (".parquet", *IDS) else ".txt"


def codec(path: Path) -> str | None:
    """What a file is packed with, by its last suffix; None where it is not."""
    return CODECS.get(path.suffix.lower())


def read(name: str, files: Sequence[tuple[str, Path]], column: str) -> Iterator[Document]:
    """The documents of all files: a text file is one, a line of JSONL or a row of Parquet is one, its text in `column`.

    Files ending in .gz or .zst are unpacked on the way, Parquet into memory. Rows whose text is null come out empty.
    Raises ValueError naming file and line where text is not UTF-8, the column is missing, or a file is damaged; the `python`
    corpus skips files that are not UTF-8.
    """
    for label, path in files:
        try:
            yield from {".jsonl": _lines, ".parquet": _rows, ".txt": _text}[kind(path)](label, path, column)
        except UnicodeDecodeError as error:
            if name == "python":
                continue
            raise ValueError(
                f"{path}: not UTF-8 text (byte {error.start} is 0x{error.object[error.start]:02x}). A corpus is UTF-8; "
                "convert it or take it out of the folder."
            ) from None
        except (pa.ArrowException, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise ValueError(
                f"{path}: damaged ({_first_line(error)}). Needed a whole {path.suffix} file; fetch it again."
            ) from None


def _text(label: str, path: Path, column: str) -> Iterator[Document]:
    text = _stream(path).read() if codec(path) else path.read_bytes()
    text.decode()
    yield Document(label, text)


def _lines(label: str, path: Path, column: str) -> Iterator[Document]:
    with io.BufferedReader(_stream(path), 1 << 20) as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            text = line.decode()
            try:
                row = json.loads(text)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{where}: not JSON that can be read ({error}). Needed one object a line.") from None
            if not isinstance(row, dict) or column not in row:
                raise ValueError(f"{where}: {_lacks(column, row if isinstance(row, dict) else {})}")
            yield Document(f"{label}#{number}", _encoded(row[column], where, column))


def _rows(label: str, path: Path, column: str) -> Iterator[Document]:
    source = pa.BufferReader(_stream(path).read()) if codec(path) else path
    with pq.ParquetFile(source) as file:
        names = file.schema_arrow.names
        if column not in names:
            raise ValueError(f"{path}: {_lacks(column, names)}")
        number = 0
        for batch in file.iter_batches(PARQUET_ROWS, columns=[column]):
            for value in batch.column(0).to_pylist():
                number += 1
                yield Document(f"{label}#{number}", _encoded(value, f"{path}, row {number}", column))


def _encoded(value: object, where: str, column: str) -> bytes:
    if value is None:
        return b""
    if not isinstance(value, str):
        raise ValueError(
            f"{where}: {column} is {type(value).__name__}, needed text. Name the column with `column = ...`."
        )
    try:
        return value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{where}: half a surrogate pair at character {error.start}, which UTF-8 cannot hold."
        ) from None


def _lacks(column: str, names: Sequence[str] | dict) -> str:
    near = difflib.get_close_matches(column, list(names), 1)
    has = f"it has {', '.join(map(repr, names))}" if names else "it has none"
    hint = f"Did you mean column = {near[0]!r}?" if near else "Name the one with the text: column = ..."
    return f"no column {column!r}; {has}. {hint}"


def _stream(path: Path) -> pa.NativeFile:
    return pa.input_stream(str(path), compression=codec(path))


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def _python_files() -> list[tuple[str, Path]]:
    """(name, path) of every Python source of the standard library and of DISTRIBUTIONS, in a fixed order."""
    library = Path(sysconfig.get_paths()["stdlib"])
    found = [
        (f"python{sys.version_info.major}.{sys.version_info.minor}/{path.relative_to(library)}", path)
        for path in library.rglob("*.py")
        if not {"site-packages", "dist-packages", "__pycache__"} & set(path.relative_to(library).parts)
    ]
    for name in DISTRIBUTIONS:
        distribution = importlib.metadata.distribution(name)
        found += [
            (f"{name}-{distribution.version}/{file}", Path(str(file.locate())))
            for file in distribution.files or ()
            if file.suffix == ".py"
        ]
    return sorted((name, path) for name, path in found if path.is_file())


def _files(root: Path) -> list[tuple[str, Path]]:
    """(name, path) of the file `root`, or of every file under it, hidden ones left out, in order of their names."""
    if not root.exists():
        raise ValueError(f"corpus {str(root)!r}: no such file or folder. {NEEDED}")
    if root.is_file():
        return [(root.name, root)]
    found = []
    for folder, folders, names in os.walk(root, onerror=_raise):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(folder) / name for name in names if not name.startswith(".")]
    if not found:
        raise ValueError(f"corpus {str(root)!r}: the folder is empty. Put UTF-8 text files into it.")
    return sorted((str(path.relative_to(root)), path) for path in found if path.is_file())


def _raise(error: OSError) -> None:
    raise error
