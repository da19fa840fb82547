"""permuted: a pseudo-random order of windows that needs no memory and is the same on every machine."""

from __future__ import annotations

import hashlib
import math

import numpy as np


def permuted(index: np.ndarray, size: int, key: str) -> np.ndarray:
    """Where a pseudo-random permutation of range(size) sends each index: a keyed four-round Feistel network.

    It needs no memory and is the same on every machine. Indices that leave the range walk on until they are back
    in it (cycle walking; Black and Rogaway 2002).
    """
    half = max(1, math.ceil(math.log2(max(size, 2)) / 2))
    mask = np.uint64((1 << half) - 1)
    keys = np.frombuffer(hashlib.sha256(key.encode()).digest(), np.uint64)
    out = index.astype(np.uint64)
    walking = np.ones(out.shape, bool)
    while walking.any():
        left, right = out[walking] >> np.uint64(half), out[walking] & mask
        for round_key in keys:
            left, right = right, left ^ (_mix(right ^ round_key) & mask)
        out[walking] = (left << np.uint64(half)) | right
        walking = out >= size
    return out


def _mix(x: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64 (Steele et al. 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
