"""build(name, ...): a corpus' files tokenised once into the cache; with_heldouts(corpus, ...): more held-out sets beside it."""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from scaling.runs import cache_folder, to_json, write_whole
from scaling.training.corpus import documents, hub, pretokenized
from scaling.training.corpus.corpus import DIGEST, Corpus, corpora_folder, is_cached, manifest_in
from scaling.training.corpus.shards import ShardWriter, require_room
from scaling.training.corpus.stored import Stored
from scaling.training.corpus.tokenizers import Bytes, Tokenizer, file_digest, id_type, tokenizer_file, tokenizer_of

#: The share of the text that is held out: 2%, or as much as gives HELD_OUT_BYTES but never over 10%.
HELD_OUT_SHARE, HELD_OUT_BYTES, HELD_OUT_MOST = 0.02, 327_680, 0.10

#: Fewer documents than this, or any of which none is held out, are split in pieces of PIECE_BYTES, so that some can be.
FEW_DOCUMENTS, PIECE_BYTES = 64, 4096

#: Bytes of text that are tokenised at once, on all cores.
BATCH_BYTES = 1 << 22

#: Ids copied at once from a token file.
COPY_IDS = 1 << 24


@dataclass(frozen=True)
class Wanted:
    """What a grid asks for: the corpus' name, its tokenizer (None: bytes of text, ids as they are), the column of its text.

    With `whole` all of it is held out.
    """

    name: str
    tokenizer: str | None = None
    column: str = "text"
    whole: bool = False

    @property
    def files(self) -> list[tuple[str, Path]]:
        """(label, path) of every file; a data set of the hub is fetched first."""
        if self.name.startswith(hub.PREFIX):
            path = hub.fetched(self.name, self.column, cache_folder() / "datasets")
            return [(path.name, path)]
        return documents.sources(self.name)

    @property
    def fingerprint(self) -> str:
        """What the sources look like from outside; a change of any of it gives another fingerprint.

        Of `python`, the versions and where they are installed; of files, each one's name, size and time of change, and whether
        it is of token ids that are held out.
        """
        if self.name == "python":
            versions = [f"{each} {version(each)}" for each in documents.DISTRIBUTIONS]
            seen = [sys.version, *sysconfig.get_paths().values(), *versions]
        else:
            seen = [str(Path(self.name).expanduser().resolve()), *(_seen(label, path) for label, path in self.files)]
        if self.tokenizer and (path := Path(self.tokenizer).expanduser()).is_file():
            stat = path.stat()
            seen.append(f"{stat.st_size} {stat.st_mtime_ns}")
        said = [self.name, self.tokenizer or "", self.column, str(self.whole), *seen]
        return hashlib.sha256("\0".join(said).encode()).hexdigest()[:16]


def _seen(label: str, path: Path) -> str:
    """What a file looks like from outside, and whether it is of token ids that are held out: a cache of before may not know."""
    stat = path.stat()
    held_out = documents.kind(path) in documents.IDS and pretokenized.is_held_out(label)
    return f"{label} {stat.st_size} {stat.st_mtime_ns}" + " held out" * held_out


def cached(wanted: Wanted) -> Stored:
    """The corpus, from the cache where its sources look as they did, else built.

    It bears the name that is wanted, whoever built the same content first.
    Raises ValueError for sources that cannot be used, naming file and remedy.
    """
    pointer = corpora_folder() / "by-source" / f"{wanted.fingerprint}.json"
    digest = _pointed(pointer)
    if digest and is_cached(digest):
        return replace(_load(corpora_folder() / digest), name=wanted.name)
    corpus = build(wanted)
    write_whole(pointer, to_json({"digest": corpus.digest, "name": wanted.name}))
    return replace(corpus, name=wanted.name)


def _pointed(pointer: Path) -> str | None:
    """The digest that was built of these sources; None where the pointer is missing or damaged."""
    try:
        return str(json.loads(pointer.read_bytes())["digest"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def kept(name: str, tokenizer: str | None) -> Corpus:
    """The cached corpus `digest:HEX`. Raises ValueError where there is none, or it is of another tokenizer."""
    digest = name.removeprefix(DIGEST)
    if not digest.isalnum() or not is_cached(digest):
        raise ValueError(f"corpus {name!r}: {corpora_folder()} has no such digest. Give the name or path of the text.")
    corpus = Corpus.load(corpora_folder() / digest)
    if tokenizer is not None:
        _require_tokenizer(corpus, name, tokenizer)
    return replace(corpus, name=name) if isinstance(corpus, Stored) else corpus


def _require_tokenizer(corpus: Corpus, name: str, tokenizer: str) -> None:
    """Raise ValueError unless a tokenizer is the cached corpus' own: by name, or a file of the same content as the kept one."""
    known = corpus.manifest.get("tokenizer", "bytes")
    if tokenizer == "bytes" or tokenizer.startswith("bpe:") or known in ("bytes", None):
        same, found = tokenizer == known, repr(tokenizer)
    else:
        own, given = (_digest_of(path) for path in (corpus.folder / "tokenizer.json", Path(tokenizer).expanduser()))
        same = own is not None and own == given
        known, found = f"{known} (digest {own})", f"{tokenizer!r} ({f'digest {given}' if given else 'no such file'})"
    if not same:
        raise ValueError(
            f"corpus {name!r} is in the tokens of {known or 'no tokenizer'}, not of {found}. Leave tokenizer out: a "
            "cached corpus has its own."
        )


def _digest_of(tokenizer: Path) -> str | None:
    """The digest of a tokenizer.json; None where there is no such file."""
    return file_digest(tokenizer.read_bytes()) if tokenizer.is_file() else None


def build(wanted: Wanted) -> Stored:
    """Write the shards and the manifest of a corpus into the cache, whole or not at all, and load it."""
    files = wanted.files
    ids = [path for _, path in files if documents.kind(path) in documents.IDS]
    if ids and len(ids) < len(files):
        other = next(path for _, path in files if path not in ids)
        raise ValueError(
            f"corpus {wanted.name!r} has token files ({ids[0].name}) and text ({other.name}). Give one kind."
        )
    root = corpora_folder()
    root.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=root, suffix=".partial"))
    try:
        manifest = (_copy if ids else _tokenise)(wanted, files, partial)
        folder = root / manifest["digest"]
        write_whole(partial / "manifest.json", to_json(manifest))
        try:
            partial.rename(folder)
        except OSError:
            if not is_cached(manifest["digest"]):  # left of a corpus whose manifest was deleted
                shutil.rmtree(folder, ignore_errors=True)
                partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return _load(folder)


def with_heldouts(corpus: Stored, heldout: Mapping[str, str], column: str = "text") -> Stored:
    """The corpus with further held-out sets by name: all text of each path, in the corpus' own tokens.

    Its folder is one beside the corpus' own, from which workers load both.
    Raises ValueError where a set cannot be read, or holds ids that the corpus does not have.
    """
    tokenizer = _tokenizer_in(corpora_folder() / corpus.digest)
    sets: dict[str, Stored] = {}
    for name, path in heldout.items():
        sets[name] = cached(Wanted(path, tokenizer, column, whole=True))
        of_ids = [each.manifest["tokenizer"] is None for each in (sets[name], corpus)]
        if sets[name].vocab > corpus.vocab or of_ids[0] != of_ids[1]:
            kinds = ["token ids" if ids else "text" for ids in of_ids]
            raise ValueError(
                f"held-out set {name!r} is {kinds[0]} with {sets[name].vocab:,} ids, and corpus {corpus.name!r} {kinds[1]} with "
                f"{corpus.vocab:,}. Give both in the same tokens."
            )
    said = {name: each.digest for name, each in sorted(sets.items())}
    folder = corpora_folder() / f"{corpus.digest}+{hashlib.sha256(json.dumps(said).encode()).hexdigest()[:8]}"
    write_whole(folder / "manifest.json", to_json({**corpus.manifest, "kind": "with-heldouts", "heldouts": said}))
    return replace(load_with_heldouts(folder), name=corpus.name)


def load_with_heldouts(folder: Path) -> Stored:
    """What `with_heldouts` wrote into a folder."""
    manifest = manifest_in(folder)
    sets = {name: _load(folder.parent / digest) for name, digest in manifest["heldouts"].items()}
    heldouts = {name: each.heldout for name, each in sets.items()}
    return replace(_load(folder.parent / manifest["digest"]), heldouts=heldouts, folder=folder)


def _load(folder: Path) -> Stored:
    return Stored.from_manifest(folder, manifest_in(folder))


def _tokenizer_in(folder: Path) -> str | None:
    kept = folder / "tokenizer.json"
    return str(kept) if kept.exists() else None


def _tokenise(wanted: Wanted, files: Sequence[tuple[str, Path]], folder: Path) -> dict[str, Any]:
    """Tokenise documents, once for each content, each ended by the separator, into the two splits."""
    size = sum(path.stat().st_size for _, path in files)
    share = 1.0 if wanted.whole else min(HELD_OUT_MOST, max(HELD_OUT_SHARE, HELD_OUT_BYTES / max(size, 1)))
    skipped = {"empty": 0, "duplicate": 0}

    def texts(cut: bool) -> Iterator[tuple[documents.Document, str]]:
        skipped.update(empty=0, duplicate=0)
        return _assigned(_pieces(documents.read(wanted.name, files, wanted.column), cut), share, skipped)

    cut = not any(split == "heldout" for _, split in texts(cut=False))
    tokenizer = tokenizer_of(wanted.tokenizer, (document.text for document, split in texts(cut) if split == "train"))
    require_room(folder, size * tokenizer.dtype.itemsize)
    size_of, count, end = {"train": 0, "heldout": 0}, 0, np.array([tokenizer.separator], tokenizer.dtype)
    with (
        _writers(folder, tokenizer.dtype) as writers,
        _progress(f"tokenising {wanted.name}", size) as advance,
        open(folder / "documents.jsonl", "w") as listed,
    ):
        for batch in _batches(texts(cut)):
            for (document, split), ids in zip(batch, tokenizer.encode([document.text for document, _ in batch])):
                writers[split].write(ids)
                writers[split].write(end)
                size_of[split] += 1 + (len(ids) if isinstance(tokenizer, Bytes) else len(document.text))
                listed.write(json.dumps([document.label, len(document.text), split]) + "\n")
                count += 1
            advance(sum(len(document.text) for document, _ in batch))
    tokens = {split: writer.tokens for split, writer in writers.items()}
    _require_both(wanted, tokens, f"in {count} documents")
    tokenizer.save(folder)
    ratio = size_of["heldout"] / tokens["heldout"]
    kept = {"documents": count, "skipped": dict(skipped), "tokenizer": tokenizer.name, "bytes_per_token": ratio}
    return _manifest(wanted, writers, tokenizer, tokenizer.vocab) | kept


def _copy(wanted: Wanted, files: Sequence[tuple[str, Path]], folder: Path) -> dict[str, Any]:
    """Copy token files into shards of the smallest id type, and hold every id against the tokenizer's vocabulary."""
    if wanted.tokenizer and wanted.tokenizer.partition(":")[0] in ("bytes", "bpe"):
        raise ValueError(
            f"corpus {wanted.name!r} is tokens already, and tokenizer = {wanted.tokenizer!r} would make them from text. Leave it "
            "out, or give the tokenizer.json that they were made with."
        )
    tokenizer = tokenizer_file(wanted.tokenizer) if wanted.tokenizer else None
    splits = pretokenized.splits(files, wanted.whole)
    total = sum(len(ids) for arrays in splits.values() for ids in arrays)
    _require_both(wanted, {split: sum(map(len, arrays)) for split, arrays in splits.items()}, "")
    low, high = _extremes(itertools.chain(*splits.values()))
    vocab = tokenizer.vocab if tokenizer else high + 1
    if low < 0 or high >= vocab:
        worst = low if low < 0 else high
        raise ValueError(
            f"corpus {wanted.name!r} has the id {worst:,}, and tokenizer {wanted.tokenizer!r} has {vocab:,} ids: it does not "
            "match the data. Give the one that they were made with."
            if tokenizer
            else f"corpus {wanted.name!r} has the id {worst:,}; ids begin at 0."
        )
    dtype = id_type(vocab)
    if tokenizer and any(ids.dtype.itemsize < dtype.itemsize for ids in itertools.chain(*splits.values())):
        held = 2 ** (8 * min(ids.dtype.itemsize for ids in itertools.chain(*splits.values())))
        raise ValueError(
            f"corpus {wanted.name!r} is stored in ids below {held:,}, and tokenizer {wanted.tokenizer!r} has {vocab:,}: ids "
            "were cut off when it was written. Tokenise again with a larger id type."
        )
    require_room(folder, total * dtype.itemsize)
    with _writers(folder, dtype) as writers, _progress(f"copying {wanted.name}", total) as advance:
        for split, arrays in splits.items():
            for ids in arrays:
                for start in range(0, len(ids), COPY_IDS):
                    writers[split].write(ids[start : start + COPY_IDS].astype(dtype))
                    advance(min(COPY_IDS, len(ids) - start))
    (folder / "documents.jsonl").write_text("")
    ratio = None
    if tokenizer:
        tokenizer.save(folder)
        sample = np.concatenate([np.asarray(ids[: COPY_IDS // 16]) for ids in splits["heldout"]])
        ratio = tokenizer.bytes_of(sample) / len(sample)
    kept = {
        "documents": None,
        "skipped": {},
        "tokenizer": tokenizer.name if tokenizer else None,
        "bytes_per_token": ratio,
    }
    return _manifest(wanted, writers, tokenizer, vocab) | kept


def _manifest(
    wanted: Wanted, writers: Mapping[str, ShardWriter], tokenizer: Tokenizer | None, vocab: int
) -> dict[str, Any]:
    return {
        "kind": "stored",
        "name": wanted.name,
        "digest": _digest(writers, tokenizer, vocab),
        "vocab": vocab,
        "dtype": writers["train"].dtype.name,
        "shard_tokens": writers["train"].size,
        "tokens": {split: writer.tokens for split, writer in writers.items()},
        "files": {split: writer.files for split, writer in writers.items()},
    }


def _digest(writers: Mapping[str, ShardWriter], tokenizer: Tokenizer | None, vocab: int) -> str:
    """Hash of the ids and of what they mean: their type, the vocabulary, the tokenizer. Bytes of text mean themselves."""
    hashed = hashlib.sha256(b"".join(writer.hash.digest() for writer in writers.values()))
    if not isinstance(tokenizer, Bytes):
        hashed.update(json.dumps([writers["train"].dtype.name, vocab, tokenizer and tokenizer.digest]).encode())
    return hashed.hexdigest()[:16]


@contextmanager
def _writers(folder: Path, dtype: np.dtype) -> Iterator[dict[str, ShardWriter]]:
    """The writers of both splits."""
    with ShardWriter(folder, "train", dtype) as train, ShardWriter(folder, "heldout", dtype) as heldout:
        yield {"train": train, "heldout": heldout}


def _extremes(arrays: Iterable[np.ndarray]) -> tuple[int, int]:
    pieces = (ids[start : start + COPY_IDS] for ids in arrays for start in range(0, len(ids), COPY_IDS))
    found = [(int(piece.min()), int(piece.max())) for piece in pieces]
    return min(low for low, _ in found), max(high for _, high in found)


def _require_both(wanted: Wanted, tokens: Mapping[str, int], where: str) -> None:
    if tokens["heldout"] == 0 or (tokens["train"] == 0 and not wanted.whole):
        raise ValueError(
            f"corpus {wanted.name!r}: {tokens['train']:,} training and {tokens['heldout']:,} held-out tokens {where}".rstrip()
            + "; needed some of each. Give more text."
        )


def _assigned(
    texts: Iterable[documents.Document], share: float, skipped: dict[str, int]
) -> Iterator[tuple[documents.Document, str]]:
    """Each content once, with its split: a function of the content alone (and of the share)."""
    seen: set[bytes] = set()
    for document in texts:
        digest = hashlib.sha256(document.text).digest()
        if not document.text:
            skipped["empty"] += 1
        elif digest[:12] in seen:
            skipped["duplicate"] += 1
        else:
            seen.add(digest[:12])
            yield document, "heldout" if int.from_bytes(digest[:4], "big") < share * 2**32 else "train"


def _pieces(texts: Iterator[documents.Document], cut: bool) -> Iterator[documents.Document]:
    """Documents as they come, or, with `cut` or where they are few, in pieces that end at the ends of characters."""
    first = list(itertools.islice(texts, FEW_DOCUMENTS))
    every = itertools.chain(first, texts)
    if len(first) == FEW_DOCUMENTS and not cut:
        yield from every
        return
    for label, text in every:
        starts = [_character(text, start) for start in range(0, len(text), PIECE_BYTES)]
        for number, (start, end) in enumerate(itertools.pairwise([*starts, len(text)])):
            yield documents.Document(f"{label}#{number}", text[start:end])


def _character(text: bytes, start: int) -> int:
    """The beginning of the UTF-8 character that the byte at `start` is in."""
    while start and text[start] & 0xC0 == 0x80:
        start -= 1
    return start


def _batches(texts: Iterable[tuple[documents.Document, str]]) -> Iterator[list[tuple[documents.Document, str]]]:
    batch, size = [], 0
    for each in texts:
        batch.append(each)
        size += len(each[0].text)
        if size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


@contextmanager
def _progress(task: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on standard error that a terminal sees and nobody else."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        number = bar.add_task(task, total=total)
        yield lambda amount: bar.update(number, advance=amount)
