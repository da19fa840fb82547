"""Planted: a corpus drawn from a source whose entropy is known, unlimited and never repeating."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np

from scaling.runs import to_json, write_whole
from scaling.training.corpus.corpus import Corpus, corpora_folder
from scaling.training.corpus.source import VERSION, Source, draw, stream_key

#: What a planted corpus' name begins with.
NAME = "planted"

#: The kinds of source. `planted:n` is kind n mod 3 with tables and exceptions of seed n.
KINDS = (
    # 64 symbols; excess ~ contexts^-.32; H(w) = 1.54
    {"bits": 6, "zipf": 2.0, "popularity": 1.0, "levels": 24, "share": 0.25, "decay": 0.8, "touched": 4},
    # 128 symbols; excess ~ contexts^-.42; H(w) = 1.92
    {"bits": 7, "zipf": 1.8, "popularity": 1.2, "levels": 24, "share": 0.3, "decay": 0.75, "touched": 4},
    # 64 symbols, two topics that a window must be read to tell, so the floor is above the entropy rate; H(w) = 1.29
    {"bits": 6, "zipf": 2.2, "popularity": 1.0, "levels": 24, "share": 0.2, "decay": 0.8, "touched": 4, "topics": 2},
)


@dataclass(frozen=True)
class Planted(Corpus):
    """Windows drawn from `source`: each its own text of `context` tokens x1..xT after a start symbol, which is given.

    So the loss of a perfect model is H(x1..xT) / T, and standard errors are those of independent windows. Training windows
    of each seed, and held-out windows, are streams of their own. A byte is a token.
    """

    name: str
    source: Source
    folder: Path
    train: None = None
    heldout: None = None
    heldouts: Mapping[str, np.ndarray] = field(default_factory=dict)
    bytes_per_token: float = 1.0

    @classmethod
    def of(cls, name: str) -> Planted:
        """The corpus `planted` (source 0) or `planted:n`, with its definition in the cache, where workers find it.

        Raises ValueError for another name.
        """
        number = name.partition(":")[2] or "0"
        if not number.isdecimal() or name not in (NAME, f"{NAME}:{number}"):
            raise ValueError(
                f"corpus {name!r}: a planted source is {NAME}:0, {NAME}:1, {NAME}:2, ... or any whole number."
            )
        source = Source(seed=int(number), **KINDS[int(number) % len(KINDS)])
        folder = corpora_folder() / source.digest
        manifest = {
            "kind": NAME, "name": name, "digest": source.digest, "vocab": source.vocab, "bytes_per_token": 1.0,
            "version": VERSION, "source": asdict(source),
        }  # fmt: skip
        write_whole(folder / "manifest.json", to_json(manifest))
        return cls(name=name, source=source, folder=folder)

    @classmethod
    def from_manifest(cls, folder: Path, manifest: Mapping[str, Any]) -> Planted:
        """The corpus that a cached definition describes. Raises ValueError where this program draws it otherwise."""
        said = manifest["source"]
        source = Source(**said)
        if source.digest != manifest["digest"]:
            raise ValueError(
                f"{folder}: {manifest['name']} was defined with digest {manifest['digest']} (version {manifest['version']}), and "
                f"this program (version {VERSION}) draws {source.digest}. Sweep with the version that began, or anew."
            )
        return cls(name=manifest["name"], source=source, folder=folder)

    @property
    def digest(self) -> str:
        """Hash of the source's definition, the version, and its tables."""
        return self.source.digest

    @property
    def vocab(self) -> int:
        """Number of symbols."""
        return self.source.vocab

    @property
    def entropy_rate(self) -> float:
        """Nats per token as the context grows without end, exact."""
        return self.source.entropy_rate

    def floor(self, context: int) -> float:
        """H(x1..xT) / T at T = `context`, nats per token: the loss of a perfect model (`Source.block_entropy`)."""
        return self.source.block_entropy(context)[0]

    def summary(self, contexts: tuple[int, ...]) -> Mapping[str, Any]:
        """See `Corpus.summary`: the whole definition, the entropy rate, and floor and standard error by context."""
        floors = {context: self.source.block_entropy(context) for context in contexts}
        return {
            **self.manifest,
            "entropy_rate": self.entropy_rate,
            "floor": {str(context): floor for context, (floor, _) in floors.items()},
            "floor_se": {str(context): error for context, (_, error) in floors.items()},
        }

    def epochs(self, tokens: int, context: int) -> float:
        """0: the language has no end."""
        return 0.0

    def batches(self, seed: int, first: int, steps: int, batch_tokens: int, context: int) -> np.ndarray | jax.Array:
        """See `Corpus.batches`: window i of a run is window i of the stream of its seed.

        Drawn on the device in powers of two of windows, so that few programs are compiled; where that is what was
        asked for, the array stays there.
        """
        rows = batch_tokens // context
        token_WT = self._windows(f"train/{seed}", first * rows, steps * rows, context)
        return token_WT.reshape(steps, rows, context + 1)

    def evaluation(self, tokens: int, context: int) -> np.ndarray:
        """See `Corpus.evaluation`: the first windows of the held-out stream, as many as are asked for."""
        if tokens < context:
            raise ValueError(f"eval_tokens = {tokens:,}: needed at least one window of {context} tokens.")
        return np.asarray(self._windows("heldout", 0, tokens // context, context))

    def _windows(self, stream: str, first: int, count: int, context: int) -> np.ndarray | jax.Array:
        drawn = 1 << (count - 1).bit_length()
        token_WT = draw(self.source, stream_key(self.digest, stream), first >> 32, first & (2**32 - 1), drawn, context)
        return token_WT if drawn == count else np.asarray(token_WT)[:count]
