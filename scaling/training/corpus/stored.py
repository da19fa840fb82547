"""Stored: text -> token arrays on disk and a held-out split; a batch is gathered from windows in a seeded order."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from scaling.runs import to_json, write_whole
from scaling.training.corpus.corpus import Corpus, cache_folder
from scaling.training.corpus.permute import permuted

#: Distributions whose Python source the `python` corpus holds, beside the standard library.
DISTRIBUTIONS = ("jax", "optax", "orbax-checkpoint", "numpy", "scipy", "pandas", "matplotlib", "rich")

#: The share of the text that is held out: 2%, or as much as gives HELD_OUT_BYTES but never over 10%.
HELD_OUT_SHARE, HELD_OUT_BYTES, HELD_OUT_MOST = 0.02, 327_680, 0.10

#: Byte that ends each document.
SEPARATOR = b"\0"

#: Layout of a cached corpus; a new number rebuilds.
LAYOUT = 1


@dataclass(frozen=True)
class Stored(Corpus):
    """Tokens on disk: `train` and `heldout` are flat arrays of token ids, `digest` is the hash of both.

    `documents` lists what is in it: (name, bytes, split) a document, in order.
    """

    name: str
    digest: str
    vocab: int
    bytes_per_token: float
    train: np.ndarray
    heldout: np.ndarray
    folder: Path
    heldouts: Mapping[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def of(cls, name: str) -> Stored:
        """The corpus of a grid.toml: `python`, or the path of a text file or folder. Built once, then cached.

        Raises ValueError for a path that is missing, empty, or not UTF-8 text.
        """
        pointer = cache_folder() / "corpora" / "by-source" / f"{_fingerprint(name)}.json"
        if pointer.exists():
            folder = cache_folder() / "corpora" / json.loads(pointer.read_text())["digest"]
            if (folder / "manifest.json").exists():
                return cls._cached(folder)
        corpus = _build(name, _files(name))
        write_whole(pointer, to_json({"digest": corpus.digest, "name": name}))
        return corpus

    @classmethod
    def from_manifest(cls, folder: Path, manifest: Mapping[str, Any]) -> Stored:
        """The cached corpus that the manifest in a folder describes. Raises ValueError where an array is cut short."""
        arrays = {}
        for split in ("train", "heldout"):
            path = folder / f"{split}.bin"
            found, needed = path.stat().st_size if path.exists() else 0, manifest["tokens"][split]
            if found != needed:
                raise ValueError(f"{path}: {found:,} bytes, needed {needed:,}. Delete {folder}; it is built again.")
            arrays[split] = np.memmap(path, np.uint8, "r")
        return cls(
            name=manifest["name"],
            digest=manifest["digest"],
            vocab=manifest["vocab"],
            bytes_per_token=manifest["bytes_per_token"],
            folder=folder,
            **arrays,
        )

    @classmethod
    def _cached(cls, folder: Path) -> Stored:
        return cls.from_manifest(folder, json.loads((folder / "manifest.json").read_text()))

    def summary(self, contexts: tuple[int, ...]) -> Mapping[str, Any]:
        """See `Corpus.summary`: counts of tokens and documents."""
        manifest = self.manifest
        kept = {key: manifest[key] for key in ("name", "digest", "vocab", "bytes_per_token", "tokens")}
        return {**kept, "documents": len(manifest["documents"])}

    def windows(self, context: int) -> int:
        """How many training windows of `context` predicted tokens there are; each token is in one of them."""
        return (len(self.train) - 1) // context

    def epochs(self, tokens: int, context: int) -> float:
        """How often a run of this many tokens sees the training text."""
        return tokens / max(1, self.windows(context) * context)

    def batches(self, seed: int, first: int, steps: int, batch_tokens: int, context: int) -> np.ndarray:
        """Tokens of steps [first, first + steps): [steps, B, context + 1], a pure function of its arguments.

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
        start = window.astype(np.int64) * context
        tokens = self.train[start[:, None] + np.arange(context + 1)]
        return np.ascontiguousarray(tokens).reshape(steps, rows, context + 1)

    def evaluation(self, tokens: int, context: int) -> np.ndarray:
        """The held-out windows every run is evaluated on: [tokens / context, context + 1], evenly spread over the split.

        Raises ValueError where the held-out split has fewer tokens.
        """
        wanted, available = tokens // context, (len(self.heldout) - 1) // context
        if wanted > available or wanted < 1:
            raise ValueError(
                f"corpus {self.name!r} holds out {len(self.heldout):,} tokens, and eval_tokens = {tokens:,} with context "
                f"{context} needs {wanted * context + 1:,}. Set eval_tokens between {context:,} and {available * context:,}."
            )
        start = np.arange(wanted) * available // wanted * context
        return np.asarray(self.heldout[start[:, None] + np.arange(context + 1)])


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


def _text_files(root: Path) -> list[tuple[str, Path]]:
    """(name, path) of the file `root`, or of every file under it, hidden ones left out, in order of their names."""
    if not root.exists():
        raise ValueError(f"corpus {str(root)!r}: no such file or folder. Needed `python`, or the path of UTF-8 text.")
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


def _files(name: str) -> list[tuple[str, Path]]:
    return _python_files() if name == "python" else _text_files(Path(name).expanduser())


def _fingerprint(name: str) -> str:
    """What a corpus' sources look like from outside; a change of any of it gives another fingerprint.

    Of `python`, the versions and where they are installed; of text, each file's name, size and time of change.
    """
    if name == "python":
        versions = [f"{each} {importlib.metadata.version(each)}" for each in DISTRIBUTIONS]
        seen = [sys.version, *sysconfig.get_paths().values(), *versions]
    else:
        stats = ((label, path.stat()) for label, path in _files(name))
        seen = [str(Path(name).resolve()), *(f"{label} {stat.st_size} {stat.st_mtime_ns}" for label, stat in stats)]
    return hashlib.sha256("\0".join([str(LAYOUT), name, *seen]).encode()).hexdigest()[:16]


def _documents(name: str, sources: list[tuple[str, Path]]) -> Iterator[tuple[str, bytes, bytes]]:
    """(label, content, hash) of every source, once for each content. The `python` corpus skips what is not UTF-8."""
    seen: set[bytes] = set()
    for label, path in sources:
        content = path.read_bytes()
        try:
            content.decode()
        except UnicodeDecodeError as error:
            if name == "python":
                continue
            raise ValueError(
                f"{path}: not UTF-8 text (byte {error.start} is 0x{content[error.start]:02x}). A corpus is text files; "
                "convert it or take it out of the folder."
            ) from None
        digest = hashlib.sha256(content).digest()
        if content and digest not in seen:
            seen.add(digest)
            yield label, content, digest


def _build(name: str, sources: list[tuple[str, Path]]) -> Stored:
    """Write the arrays and the manifest of a corpus into the cache, whole or not at all, and load it."""
    root = cache_folder() / "corpora"
    root.mkdir(parents=True, exist_ok=True)
    size = sum(path.stat().st_size for _, path in sources)
    share = min(HELD_OUT_MOST, max(HELD_OUT_SHARE, HELD_OUT_BYTES / max(size, 1)))
    partial = Path(tempfile.mkdtemp(dir=root, suffix=".partial"))
    try:
        tokens = {"train": 0, "heldout": 0}
        whole = {split: hashlib.sha256() for split in tokens}
        documents = []
        with open(partial / "train.bin", "wb") as train, open(partial / "heldout.bin", "wb") as heldout:
            files = {"train": train, "heldout": heldout}
            for label, content, digest in _split_a_lone(_documents(name, sources), len(sources)):
                split = "heldout" if int.from_bytes(digest[:4], "big") < share * 2**32 else "train"
                text = content.replace(SEPARATOR, b"") + SEPARATOR
                files[split].write(text)
                whole[split].update(text)
                tokens[split] += len(text)
                documents.append([label, len(content), split])
        if min(tokens.values()) == 0:
            raise ValueError(
                f"corpus {name!r}: {tokens['train']:,} training and {tokens['heldout']:,} held-out bytes in "
                f"{len(documents)} documents; needed some of each. Give more text."
            )
        digest = hashlib.sha256(b"".join(h.digest() for h in whole.values())).hexdigest()[:16]
        manifest = {
            "name": name, "digest": digest, "vocab": 256, "bytes_per_token": 1.0, "layout": LAYOUT,
            "tokens": tokens, "documents": documents,
        }  # fmt: skip
        write_whole(partial / "manifest.json", to_json(manifest))
        try:
            partial.rename(root / digest)
        except OSError:
            if not (root / digest / "manifest.json").exists():
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Stored._cached(root / digest)


def _split_a_lone(documents: Iterator[tuple[str, bytes, bytes]], sources: int) -> Iterator[tuple[str, bytes, bytes]]:
    """Documents as they come, or, where there are too few files to split by file, cut into paragraphs of ~4 kB."""
    if sources >= 64:
        yield from documents
        return
    for label, content, _ in documents:
        for number, start in enumerate(range(0, len(content), 4096)):
            piece = content[start : start + 4096]
            yield f"{label}#{number}", piece, hashlib.sha256(piece).digest()
