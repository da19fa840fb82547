"""Stored: a corpus as arrays of token ids on disk; a batch is gathered from windows in a seeded order."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from scaling.training.corpus.corpus import Corpus, spread
from scaling.training.corpus.permute import permuted
from scaling.training.corpus.shards import Shards, open_shards


@dataclass(frozen=True)
class Stored(Corpus):
    """Tokens on disk: `train` and `heldout` are flat, memory-mapped arrays of ids, uint8, uint16 or uint32.

    `bytes_per_token` is that of the held-out text, a separator counted as one byte; None where nobody knows.
    """

    name: str
    digest: str
    vocab: int
    bytes_per_token: float | None
    train: np.ndarray | Shards
    heldout: np.ndarray | Shards
    folder: Path
    heldouts: Mapping[str, np.ndarray | Shards] = field(default_factory=dict)

    @classmethod
    def from_manifest(cls, folder: Path, manifest: Mapping[str, Any]) -> Stored:
        """The cached corpus that the manifest in a folder describes. Raises ValueError where a shard is cut short."""
        splits = {
            split: open_shards(folder, files, manifest["dtype"], manifest["shard_tokens"])
            for split, files in manifest["files"].items()
        }
        known = {key: manifest[key] for key in ("name", "digest", "vocab", "bytes_per_token")}
        return cls(**known, train=splits["train"], heldout=splits["heldout"], folder=folder)

    @property
    def documents(self) -> list[tuple[str, int, str]]:
        """(name, bytes, split) of every document, in order; none where the text came as ids."""
        lines = (self.folder.parent / self.digest / "documents.jsonl").read_text().splitlines()
        return [tuple(json.loads(line)) for line in lines]

    def summary(self, contexts: tuple[int, ...]) -> Mapping[str, Any]:
        """See `Corpus.summary`: counts of tokens and documents."""
        manifest = self.manifest
        kept = ("name", "digest", "vocab", "bytes_per_token", "tokens", "documents", "tokenizer", "heldouts")
        return {key: manifest[key] for key in kept if manifest.get(key) is not None} | {"name": self.name}

    def windows(self, context: int) -> int:
        """How many training windows of `context` predicted tokens there are; each token is in one of them."""
        return (len(self.train) - 1) // context

    def epochs(self, tokens: int, context: int) -> float:
        """See `Corpus.epochs`."""
        return tokens / max(1, self.windows(context) * context)

    def starts(self, seed: int, first: int, steps: int, batch_tokens: int, context: int) -> np.ndarray:
        """Where in `train` the windows of steps [first, first + steps) begin: int64 [steps, B], a pure function.

        Window i of a run is a pseudo-random permutation of the windows, another one for each seed and epoch.
        """
        rows = batch_tokens // context
        count = self.windows(context)
        index = np.arange(first * rows, (first + steps) * rows, dtype=np.uint64)
        epoch, place = index // np.uint64(count), index % np.uint64(count)
        window = np.empty_like(place)
        for e in np.unique(epoch):
            here = epoch == e
            window[here] = permuted(place[here], count, f"{self.digest}/{seed}/{e}")
        return (window.astype(np.int64) * context).reshape(steps, rows)

    def batches(self, seed: int, first: int, steps: int, batch_tokens: int, context: int) -> np.ndarray:
        """See `Corpus.batches`: the windows at `starts`."""
        start = self.starts(seed, first, steps, batch_tokens, context)
        return np.asarray(self.train[start[..., None] + np.arange(context + 1)])

    def evaluation(self, tokens: int, context: int) -> np.ndarray:
        """See `Corpus.evaluation`: windows evenly spread over the split."""
        return spread(self.heldout, tokens, context, f"corpus {self.name!r} holds out")
