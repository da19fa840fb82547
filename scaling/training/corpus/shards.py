"""Shards: one long array of token ids in several files; ShardWriter: what writes them, hashing as it goes."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

#: Tokens in one file.
SHARD_TOKENS = 1 << 27


class Shards:
    """Files of `size` ids each (the last may hold fewer), read as one flat array: len, dtype, nbytes, slices and gathers."""

    def __init__(self, files: Sequence[np.ndarray], size: int) -> None:
        self.files, self.step = tuple(files), size
        self.dtype = files[0].dtype
        self.size = sum(len(file) for file in files)
        self.shape = (self.size,)
        self.nbytes = sum(file.nbytes for file in files)

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: slice | np.ndarray) -> np.ndarray:
        if isinstance(index, slice):
            index = np.arange(*index.indices(len(self)))
        at = np.asarray(index)
        shard, place = at // self.step, at % self.step
        found = np.empty(at.shape, self.dtype)
        for number in np.unique(shard):
            here = shard == number
            found[here] = self.files[number][place[here]]
        return found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.concatenate(self.files).astype(dtype or self.dtype, copy=False)


def open_shards(folder: Path, files: Sequence[Sequence[Any]], dtype: str, size: int) -> np.ndarray | Shards:
    """The memory-mapped array of [file name, tokens] pairs. Raises ValueError where a file is missing or cut short."""
    mapped: list[np.ndarray] = []
    for name, tokens in files:
        path, needed = folder / name, tokens * np.dtype(dtype).itemsize
        found = path.stat().st_size if path.exists() else 0
        if found != needed:
            raise ValueError(f"{path}: {found:,} bytes, needed {needed:,}. Delete {folder}; it is built again.")
        mapped.append(np.memmap(path, dtype, "r"))
    if not mapped:
        return np.zeros(0, dtype)
    return mapped[0] if len(mapped) == 1 else Shards(mapped, size)


class ShardWriter:
    """Writes ids to `<folder>/<name>-00000.bin`, ..., a new file every SHARD_TOKENS."""

    def __init__(self, folder: Path, name: str, dtype: np.dtype) -> None:
        self.folder, self.name, self.dtype, self.size = folder, name, dtype.newbyteorder("<"), SHARD_TOKENS
        self.files: list[list[Any]] = []
        self.hash = hashlib.sha256()
        self._open = None

    @property
    def tokens(self) -> int:
        """Ids written so far."""
        return sum(tokens for _, tokens in self.files)

    def write(self, ids: np.ndarray) -> None:
        """Append ids. Raises OSError where the disk is full."""
        ids = np.ascontiguousarray(ids, self.dtype)
        self.hash.update(ids)
        while len(ids):
            if self._open is None or self.files[-1][1] == self.size:
                self.__exit__()
                self.files.append([f"{self.name}-{len(self.files):05}.bin", 0])
                self._open = open(self.folder / self.files[-1][0], "wb")  # noqa: SIM115 (closed by __exit__)
            piece, ids = np.split(ids, [min(len(ids), self.size - self.files[-1][1])])
            self._open.write(piece.data)
            self.files[-1][1] += len(piece)

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, *error: object) -> None:
        """Close the file that is open."""
        if self._open:
            self._open.close()
            self._open = None


def require_room(folder: Path, needed: int) -> None:
    """Raises OSError where the disk of `folder` has fewer than `needed` bytes free."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(
            f"{folder}: {free:,} bytes free, and the corpus needs about {needed:,}. Free some, or set SCALING_CACHE."
        )
