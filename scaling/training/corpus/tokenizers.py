"""Tokenizers: bytes, a byte-pair encoding trained on the corpus, or a tokenizer.json that exists."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

#: Ends each document of a byte corpus; taken out of the text.
SEPARATOR = b"\0"

#: The token that ends each document of a trained encoding, and names for it that tokenizer files use.
END = "<|endoftext|>"
ENDS = (END, "<|end_of_text|>", "</s>", "<eos>", "<|eot_id|>", "<|im_end|>", "[EOS]", "[SEP]")

#: Bytes of training text that an encoding is trained on, the first ones.
BPE_BYTES = 1 << 27

#: A tokenizer that knows fewer of a text's tokens than this, or gives back fewer of its characters, does not match it.
LEAST_KNOWN = 0.99


class Tokenizer(ABC):
    """Turns texts to ids below `vocab`; `separator` is the id that ends a document, `digest` the hash of what ids mean."""

    name: str
    digest: str
    vocab: int
    separator: int

    @property
    def dtype(self) -> np.dtype:
        """The smallest id type that holds the vocabulary."""
        return id_type(self.vocab)

    @abstractmethod
    def encode(self, texts: Sequence[bytes]) -> list[np.ndarray]:
        """The ids of each text, without separators."""

    def save(self, folder: Path) -> None:  # noqa: B027 (bytes have nothing to keep)
        """Keep in the folder what is needed to read the ids."""


class Bytes(Tokenizer):
    """A token is a byte."""

    name, digest, vocab, separator = "bytes", "bytes", 256, SEPARATOR[0]

    def encode(self, texts: Sequence[bytes]) -> list[np.ndarray]:
        """See `Tokenizer.encode`; bytes 0 are left out, they end documents."""
        return [np.frombuffer(text.replace(SEPARATOR, b""), np.uint8) for text in texts]


class Subword(Tokenizer):
    """A tokenizer of the `tokenizers` package, which encodes in parallel; `file` is its tokenizer.json.

    A `lossless` one gives every text back, and is not held against the text.
    """

    def __init__(self, name: str, rules, file: bytes, *, lossless: bool = False) -> None:
        vocabulary = rules.get_vocab(with_added_tokens=True)
        ends = [end for end in ENDS if end in vocabulary]
        if not ends:
            raise ValueError(f"tokenizer {name!r} has no token that ends a document; needed one of {', '.join(ENDS)}.")
        self.name, self.rules, self.vocab = name, rules, max(vocabulary.values()) + 1
        self.file, self.digest, self.lossless = file, file_digest(file), lossless
        self.end, self.separator = ends[0], vocabulary[ends[0]]
        rules.encode_special_tokens = True  # a text that names one is text
        unknown = getattr(rules.model, "unk_token", None)
        self.unknown = vocabulary.get(unknown) if unknown else None

    def encode(self, texts: Sequence[bytes]) -> list[np.ndarray]:
        """See `Tokenizer.encode`.

        Raises ValueError where over 1% of the ids stand for what it does not know, or over 1% of the text is lost.
        """
        decoded = [text.decode() for text in texts]
        encoded = self.rules.encode_batch(decoded, add_special_tokens=False)
        ids = [self._of_text(text, np.array(each.ids, self.dtype)) for text, each in zip(decoded, encoded)]
        if self.unknown is not None:
            total = sum(map(len, ids))
            missed = sum(int((each == self.unknown).sum()) for each in ids)
            self._require_most(missed, total, "does not know", "tokens")
        if not self.lossless:
            total = sum(map(_characters, decoded))
            given_back = sum(map(_characters, self.rules.decode_batch([each.tolist() for each in ids])))
            self._require_most(total - given_back, total, "loses", "characters")
        return ids

    def _of_text(self, text: str, ids: np.ndarray) -> np.ndarray:
        """The ids of a text without the separator: where the text names it, it is cut inside the name."""
        if self.separator not in ids:
            return ids
        pieces = re.split(f"(?<={re.escape(self.end[0])})(?={re.escape(self.end[1:])})", text)
        encoded = self.rules.encode_batch(pieces, add_special_tokens=False)
        return np.concatenate([np.array(each.ids, self.dtype) for each in encoded])

    def _require_most(self, missed: int, total: int, does: str, what: str) -> None:
        if missed > (1 - LEAST_KNOWN) * total:
            raise ValueError(
                f"tokenizer {self.name!r} does not match the text: it {does} {missed / total:.0%} of {total:,} {what}. "
                'Give one trained on such text, tokenizer = "bytes", or "bpe:4096".'
            )

    def bytes_of(self, ids: np.ndarray) -> int:
        """Bytes of text that ids stand for, each separator counted as one."""
        ends = int((ids == self.separator).sum())
        return len(self.rules.decode(ids[ids != self.separator].tolist()).encode()) + ends

    def save(self, folder: Path) -> None:
        """See `Tokenizer.save`: tokenizer.json."""
        (folder / "tokenizer.json").write_bytes(self.file)


def file_digest(file: bytes) -> str:
    """The digest of what is in a tokenizer.json."""
    return hashlib.sha256(file).hexdigest()[:16]


def _characters(text: str) -> int:
    """Characters that are not space, however they are composed."""
    return len("".join(unicodedata.normalize("NFKC", text).split()))


def id_type(vocab: int) -> np.dtype:
    """The smallest unsigned type for ids below `vocab`. Raises ValueError over 2^32."""
    for each in (np.uint8, np.uint16, np.uint32):
        if vocab <= np.iinfo(each).max + 1:
            return np.dtype(each)
    raise ValueError(f"a vocabulary of {vocab:,} ids is larger than the largest id type, uint32, holds.")


def tokenizer_of(name: str | None, texts: Iterable[bytes]) -> Tokenizer:
    """The tokenizer of a grid.toml: None or `bytes`, `bpe:VOCAB` trained on `texts`, or the path of a tokenizer.json.

    Raises ValueError for another name, a vocabulary below the 256 bytes and the separator, and a file that is not a tokenizer.
    """
    if name in (None, "bytes"):
        return Bytes()
    if name.startswith("bpe:"):
        return _trained(name, texts)
    return tokenizer_file(name)


def tokenizer_file(name: str) -> Subword:
    """The tokenizer in a tokenizer.json. Raises ValueError where it cannot be read."""
    path = Path(name).expanduser()
    if not path.is_file():
        raise ValueError(f'tokenizer {name!r}: needed "bytes", "bpe:VOCAB", or the path of a tokenizer.json.')
    package = _package(name)
    file = path.read_bytes()
    try:
        rules = package.Tokenizer.from_buffer(file)
    except Exception as error:  # the package raises bare Exception
        raise ValueError(f"tokenizer {name!r}: not a tokenizer.json ({str(error).splitlines()[0]}).") from None
    rules.no_padding()
    rules.no_truncation()
    return Subword(name, rules, file)


def _trained(name: str, texts: Iterable[bytes]) -> Subword:
    """A byte-level encoding (Radford et al. 2019) trained on the first BPE_BYTES of the texts."""
    size = name.partition(":")[2]
    if not size.isdecimal() or int(size) < 257:
        raise ValueError(f"tokenizer {name!r}: needed bpe:VOCAB with at least 257 (256 bytes and the separator).")
    package = _package(name)
    from tokenizers import decoders, models, pre_tokenizers, trainers

    rules = package.Tokenizer(models.BPE())
    rules.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    rules.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=int(size),
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    rules.train_from_iterator(_first(texts), trainer)
    return Subword(name, rules, rules.to_str(pretty=True).encode(), lossless=True)


def _first(texts: Iterable[bytes]) -> Iterable[str]:
    left = BPE_BYTES
    for text in texts:
        if left <= 0:
            return
        left -= len(text)
        yield text.decode()


def _package(name: str):
    try:
        import tokenizers
    except ImportError:
        raise ValueError(f"tokenizer {name!r} needs the package `tokenizers`: pip install 'isoflop[data]'.") from None
    return tokenizers
