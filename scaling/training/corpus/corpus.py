"""Corpus: what every corpus can do, and how one is found by name, digest or folder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from scaling.runs import cache_folder, read_object

#: Layout of a cached corpus; a new number builds all of them again.
LAYOUT = 3

#: What the name of a cached corpus begins with: `digest:HEX`.
DIGEST = "digest:"


class Corpus(ABC):
    """Tokens to train on and tokens held out, both in windows of `context` + 1 ids.

    `digest` is the hash of what is in it, `vocab` the number of ids, `folder` where it is cached: a worker loads it from
    there. `train` and `heldout` are flat arrays of ids, or None where windows are drawn and not stored; `heldouts` are further
    held-out sets by name.
    """

    name: str
    digest: str
    vocab: int
    bytes_per_token: float | None
    folder: Path
    train: np.ndarray | None
    heldout: np.ndarray | None
    heldouts: Mapping[str, np.ndarray]

    @staticmethod
    def of(
        name: str, *, tokenizer: str | None = None, column: str = "text", heldout: Mapping[str, str] | None = None
    ) -> Corpus:
        """The corpus of a grid.toml.

        `name` is `python`; `planted` or `planted:1`, ...; `hf:NAME[:CONFIG[:SPLIT]]`; or the path of a file or folder of text,
        JSONL, Parquet (any of them packed as .gz or .zst; the text in `column`) or token ids (.bin, .npy). `digest:HEX` is the
        cached corpus of that digest, whatever has become of its text; it takes no tokenizer but its own. `tokenizer` is `bytes`
        (the default), `bpe:VOCAB` trained on the corpus, or the path of a tokenizer.json. `heldout` names further held-out sets.
        Built once, then cached. Raises ValueError for what cannot be read, naming the file and what to do.
        """
        return _beside(_named(name, tokenizer, column), heldout, column)

    @staticmethod
    def of_digest(
        digest: str,
        name: str,
        *,
        tokenizer: str | None = None,
        column: str = "text",
        heldout: Mapping[str, str] | None = None,
    ) -> Corpus:
        """What `name` stands for now, as `Corpus.of` gives it, if it still has this digest.

        Raises ValueError where it has another or cannot be read any more; the message says how to go on from the cache, where
        that has the digest.
        """
        go_on = f' To go on with the cached tokens, set corpus = "{DIGEST}{digest}".' if is_cached(digest) else ""
        try:
            corpus = _named(name, tokenizer, column)
        except ValueError as error:
            raise ValueError(f"{str(error).rstrip('.')}.{go_on}") from None
        if corpus.digest != digest:
            raise ValueError(
                f"corpus {name!r} has changed: the runs were trained on digest {digest}, it now has {corpus.digest}. "
                f"Restore the text, or begin a new folder of runs.{go_on}"
            )
        return _beside(corpus, heldout, column)

    @staticmethod
    def load(folder: Path) -> Corpus:
        """The cached corpus in a folder. Raises ValueError where its manifest is damaged or an array cut short."""
        from scaling.training.corpus import build, planted, stored

        manifest = manifest_in(folder)
        if manifest["kind"] == "with-heldouts":
            return build.load_with_heldouts(folder)
        kind = planted.Planted if manifest["kind"] == planted.NAME else stored.Stored
        return kind.from_manifest(folder, manifest)

    @property
    def manifest(self) -> Mapping[str, Any]:
        """What the cache says of it: name, digest, vocab, and the rest of its kind."""
        return manifest_in(self.folder)

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

    def further(self, name: str, tokens: int, context: int) -> np.ndarray:
        """Windows of a further held-out set, evenly spread: [W, context + 1], as many as `tokens` gives or all there are.

        Raises ValueError where it does not fill one window.
        """
        ids = self.heldouts[name]
        most = (len(ids) - 1) // context * context
        return spread(ids, min(tokens, max(most, context)), context, f"held-out set {name!r} has")

    def floor(self, context: int) -> float | None:
        """The least loss that any model can reach at this context, nats per token; None where nobody knows."""
        return None


def _named(name: str, tokenizer: str | None, column: str) -> Corpus:
    """See `Corpus.of`."""
    from scaling.training.corpus import build, planted  # they are kinds of what is defined here

    if name.startswith(DIGEST):
        return build.kept(name, tokenizer)
    if name.partition(":")[0] != planted.NAME:
        return build.cached(build.Wanted(name, tokenizer, column))
    if tokenizer not in (None, "bytes"):
        raise ValueError(f"corpus {name!r} is drawn, not read: it takes no tokenizer.")
    return planted.Planted.of(name)


def _beside(corpus: Corpus, heldout: Mapping[str, str] | None, column: str) -> Corpus:
    """The corpus with further held-out sets."""
    from scaling.training.corpus import build, stored

    if not heldout:
        return corpus
    if not isinstance(corpus, stored.Stored):
        raise ValueError(f"corpus {corpus.name!r} is drawn, not read: it takes no further held-out sets.")
    return build.with_heldouts(corpus, heldout, column)


def spread(ids: np.ndarray, tokens: int, context: int, holder: str) -> np.ndarray:
    """Windows evenly spread over a split, [tokens / context, context + 1]. Raises ValueError where it has fewer tokens."""
    wanted, available = tokens // context, (len(ids) - 1) // context
    if wanted > available or wanted < 1:
        remedy = f"Set eval_tokens between {context:,} and {available * context:,}." if available else "Give more text."
        raise ValueError(
            f"{holder} {len(ids):,} tokens, and {tokens:,} with context {context} need {wanted * context + 1:,}. {remedy}"
        )
    start = np.arange(wanted) * available // wanted * context
    return np.asarray(ids[start[:, None] + np.arange(context + 1)])


def corpora_folder() -> Path:
    """Where built corpora are kept, one folder a digest."""
    return cache_folder() / "corpora" / f"v{LAYOUT}"


def is_cached(digest: str) -> bool:
    """Whether the cache has the corpus of a digest."""
    return (corpora_folder() / digest / "manifest.json").exists()


def manifest_in(folder: Path) -> dict[str, Any]:
    """The manifest of the cached corpus in a folder. Raises ValueError where it is damaged."""
    lacks, remedy = "it does not say which kind of corpus it is", f"Delete {folder}; it is built again."
    return read_object(folder / "manifest.json", "kind", lacks=lacks, remedy=remedy)
