"""Corpus: what every corpus can do, and how one is found by name, digest or folder."""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np


class Corpus(ABC):
    """Tokens to train on and tokens held out, both in windows of `context` + 1 ids.

    `digest` is the hash of what is in it, `vocab` the number of ids, `folder` where it is cached: a worker loads it from
    there. `train` and `heldout` are flat arrays of ids, or None where windows are drawn and not stored; `heldouts` are further
    held-out sets by name.
    """

    name: str
    digest: str
    vocab: int
    bytes_per_token: float
    folder: Path
    train: np.ndarray | None
    heldout: np.ndarray | None
    heldouts: Mapping[str, np.ndarray]

    @staticmethod
    def of(name: str) -> Corpus:
        """The corpus of a grid.toml: `python`, `planted` (or `planted:1`, ...), or the path of a text file or folder.

        Built once, then cached. Raises ValueError for a path that is missing, empty, or not UTF-8 text.
        """
        from scaling.training.corpus import planted, stored  # they are kinds of what is defined here

        if name.partition(":")[0] == planted.NAME:
            return planted.Planted.of(name)
        return stored.Stored.of(name)

    @staticmethod
    def of_digest(digest: str, name: str) -> Corpus:
        """The cached corpus of this digest, or the one that `name` builds now if it has that digest.

        A sweep goes on from the array that it began with, whatever was installed or edited since.
        Raises ValueError where neither has the digest.
        """
        folder = cache_folder() / "corpora" / digest
        if (folder / "manifest.json").exists():
            return Corpus.load(folder)
        corpus = Corpus.of(name)
        if corpus.digest != digest:
            raise ValueError(
                f"corpus {name!r} has changed: the runs were trained on digest {digest}, it now has {corpus.digest}, and "
                f"{folder} is not cached. Restore the text or the cache, or begin a new folder of runs."
            )
        return corpus

    @staticmethod
    def load(folder: Path) -> Corpus:
        """The cached corpus in a folder. Raises ValueError where an array is cut short."""
        from scaling.training.corpus import planted, stored

        manifest = json.loads((folder / "manifest.json").read_text())
        kind = planted.Planted if manifest.get("kind") == planted.NAME else stored.Stored
        return kind.from_manifest(folder, manifest)

    @property
    def manifest(self) -> Mapping[str, Any]:
        """What the cache says of it: name, digest, vocab, and the rest of its kind."""
        return json.loads((self.folder / "manifest.json").read_text())

    @abstractmethod
    def summary(self, contexts: tuple[int, ...]) -> Mapping[str, Any]:
        """What a folder of runs keeps of its corpus, in corpus.json, for runs of these contexts."""

    @abstractmethod
    def epochs(self, tokens: int, context: int) -> float:
        """How often a run of this many tokens sees the training tokens; 0 where they have no end."""

    @abstractmethod
    def batches(self, seed: int, first: int, steps: int, batch_tokens: int, context: int) -> np.ndarray | jax.Array:
        """Tokens of steps [first, first + steps): [steps, B, context + 1], a pure function of its arguments."""

    @abstractmethod
    def evaluation(self, tokens: int, context: int) -> np.ndarray:
        """The held-out windows every run is evaluated on: [tokens / context, context + 1].

        Raises ValueError where there are fewer tokens.
        """

    def floor(self, context: int) -> float | None:
        """The least loss that any model can reach at this context, nats per token; None where nobody knows."""
        return None


def cache_folder() -> Path:
    """Where corpora and compiled programs are kept: SCALING_CACHE, or `scaling` in the user's cache folder."""
    if named := os.environ.get("SCALING_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "scaling"
