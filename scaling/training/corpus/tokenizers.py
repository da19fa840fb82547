"""Tokenizers: bytes, a byte-pair encoding trained on the corpus, or a tokenizer.json that exists."""

from __future__ import annotations

import hashlib
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

#: A tokenizer that knows fewer of a text's tokens than this does not match it.
LEAST_KNOWN = 0.99


class Tokenizer(ABC):
    """Turns texts to ids below `vocab`; `separator` is the id that ends a document."""

    name: str
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

    name, vocab, separator = "bytes", 256, SEPARATOR[0]

    def encode(self, texts: Sequence[bytes]) -> list[np.ndarray]:
        """See `Tokenizer.encode`; bytes 0 are left out, they end documents."""
        return [np.frombuffer(text.replace(SEPARATOR, b""), np.uint8) for text in texts]


class Subword(Tokenizer):
    """A tokenizer of the `tokenizers` package, which encodes in parallel."""

    def __init__(self, name: str, rules) -> None:
        vocabulary = rules.get_vocab(with_added_tokens=True)
        ends = [end for end in ENDS if end in vocabulary]
        if not ends:
            raise ValueError(f"tokenizer {name!r} has no token that ends a document; needed one of {', '.join(ENDS)}.")
        self.name, self.rules, self.vocab = name, rules, max(vocabulary.values()) + 1
        self.separator = vocabulary[ends[0]]
        unknown = getattr(rules.model, "unk_token", None)
        self.unknown = vocabulary.get(unknown) if unknown else None

    @property
    def digest(self) -> str:
        """Hash of the tokenizer file."""
        return hashlib.sha256(self.rules.to_str().encode()).hexdigest()[:16]

    def encode(self, texts: Sequence[bytes]) -> list[np.ndarray]:
        """See `Tokenizer.encode`. Raises ValueError where over 1% of the ids stand for what it does not know."""
        encoded = self.rules.encode_batch([text.decode() for text in texts], add_special_tokens=False)
        ids = [np.array(each.ids, self.dtype) for each in encoded]
        if self.unknown is not None:
            total = sum(map(len, ids))
            known = 1 - sum(int((each == self.unknown).sum()) for each in ids) / max(total, 1)
            if known < LEAST_KNOWN:
                raise ValueError(
                    f"tokenizer {self.name!r} does not match the text: it does not know {1 - known:.0%} of {total:,} tokens. "
                    'Give one trained on such text, tokenizer = "bytes", or "bpe:4096".'
                )
        return ids

    def bytes_of(self, ids: np.ndarray) -> int:
        """Bytes of text that ids stand for, each separator counted as one."""
        ends = int((ids == self.separator).sum())
        return len(self.rules.decode(ids[ids != self.separator].tolist()).encode()) + ends

    def save(self, folder: Path) -> None:
        """See `Tokenizer.save`: tokenizer.json."""
        self.rules.save(str(folder / "tokenizer.json"))


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
    try:
        rules = package.Tokenizer.from_file(str(path))
    except Exception as error:  # the package raises bare Exception
        raise ValueError(f"tokenizer {name!r}: not a tokenizer.json ({str(error).splitlines()[0]}).") from None
    rules.no_padding()
    rules.no_truncation()
    return Subword(name, rules)


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
    return Subword(name, rules)


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
