"""Token files that other trainers wrote: nanoGPT's raw uint16 .bin, llm.c's .bin with a header, .npy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePath

import numpy as np

from scaling.training.corpus import documents

#: int32 words of llm.c's header: magic, version, tokens, zeros (llm.c, dev/data/data_common.py, 2024-06).
HEADER_WORDS = 256

#: (magic, version) of llm.c and the id type: the GPT-2 and the Llama 3 data files.
HEADERS = {(20240520, 1): np.dtype("<u2"), (20240801, 7): np.dtype("<u4")}

#: Words of a file's or folder's name that say of which split it is.
HELD_OUT_NAMES, TRAIN_NAMES = ("val", "valid", "validation", "test", "heldout"), ("train", "training")

#: Held-out share of the tokens where no name says so: the last ones.
HELD_OUT_SHARE = 0.02

#: The most that the upper half of a 32-bit id below 2^20 is; the fewest of them that tell; 16-bit words that are looked at.
HIGH_HALF, LEAST_HALVES, LOOKED_AT = 15, 64, 1 << 20


def read_ids(path: Path) -> np.ndarray:
    """The ids in a file, memory-mapped, [tokens]. Raises ValueError where it is packed, damaged or of another layout."""
    if documents.codec(path):
        raise ValueError(f"{path}: packed token ids, which are read as they lie on disk. Unpack it.")
    return _npy(path) if documents.kind(path) == ".npy" else _bin(path)


def splits(files: Sequence[tuple[str, Path]], whole: bool) -> dict[str, list[np.ndarray]]:
    """The arrays of the training and the held-out split. Files are (label, path): the labels say what is held out, or the end is.

    With `whole`, all of it is.
    """
    arrays = [(label, read_ids(path)) for label, path in files]
    if whole:
        return {"train": [], "heldout": [ids for _, ids in arrays]}
    held_out = [ids for label, ids in arrays if is_held_out(label)]
    train = [ids for label, ids in arrays if not is_held_out(label)]
    if train and not held_out:
        keep = sum(map(len, train)) - int(HELD_OUT_SHARE * sum(map(len, train)))
        ends = np.cumsum([len(ids) for ids in train])
        cuts = [int(min(max(keep - (end - len(ids)), 0), len(ids))) for ids, end in zip(train, ends)]
        held_out = [ids[cut:] for ids, cut in zip(train, cuts)]
        train = [ids[:cut] for ids, cut in zip(train, cuts)]
    return {"train": train, "heldout": held_out}


def is_held_out(label: str) -> bool:
    """Whether the path of a token file within its corpus says that it is held out: `val.bin`, `a_val_0.bin`, `val/0.npy`.

    The file's own name says it, or else the nearest folder that has a word for either split, so that `test/train.bin` is not.
    """
    path = PurePath(label)
    for part in (path.stem, *(folder.name for folder in path.parents)):
        words = part.lower().replace("-", "_").replace(".", "_").split("_")
        if any(word in HELD_OUT_NAMES for word in words):
            return True
        if any(word in TRAIN_NAMES for word in words):
            return False
    return False


def _npy(path: Path) -> np.ndarray:
    try:
        ids = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        said = (str(error).splitlines() or ["empty"])[0]
        raise ValueError(f"{path}: damaged or cut short ({said}). Needed a .npy array of token ids.") from None
    if ids.ndim != 1 or ids.dtype.kind not in "ui":
        raise ValueError(f"{path}: an array of {ids.dtype} with shape {ids.shape}. Needed a flat one of whole numbers.")
    return ids


def _bin(path: Path) -> np.ndarray:
    size = path.stat().st_size
    head = np.fromfile(path, "<i4", HEADER_WORDS)
    magic, version, count = (int(word) for word in np.resize(head, 3)) if len(head) else (0, 0, 0)
    if len(head) < HEADER_WORDS and magic in {known for known, _ in HEADERS}:
        raise ValueError(
            f"{path}: {size:,} bytes, cut short: its header alone has {HEADER_WORDS * 4:,}. Fetch it again."
        )
    if len(head) < HEADER_WORDS or head[3:].any():  # tokens, not a header
        if size % 2 or not size:
            raise ValueError(f"{path}: {size:,} bytes, cut short. Needed two a token, as nanoGPT writes them.")
        ids = np.memmap(path, "<u2", "r")
        if _are_halves(ids):
            raise ValueError(f"{path}: looks like 32-bit ids, needed 16-bit ones. Save them as .npy, or as uint16.")
        return ids
    if (magic, version) not in HEADERS:
        known = ", ".join(f"magic {m} version {v}" for m, v in HEADERS)
        raise ValueError(f"{path}: a header with magic {magic}, version {version}. Needed {known}, or no header.")
    dtype = HEADERS[magic, version]
    needed = HEADER_WORDS * 4 + count * dtype.itemsize
    if size != needed:
        raise ValueError(
            f"{path}: {size:,} bytes, and its header says {count:,} tokens, {needed:,} bytes. Fetch it again."
        )
    return np.memmap(path, dtype, "r", HEADER_WORDS * 4, (count,))


def _are_halves(ids: np.ndarray) -> bool:
    """Whether 16-bit words are the halves of 32-bit ids: every second one is small, and the others are not."""
    low, high = ids[:LOOKED_AT:2], ids[1:LOOKED_AT:2]
    if len(high) < LEAST_HALVES or high.max() > HIGH_HALF:
        return False
    return bool(low.max() > (HIGH_HALF if high.any() else 0))
