"""Text to tokens: order, splits, batches, and text that cannot be used."""

import hashlib
import itertools
import json
import shutil
from collections import Counter

import numpy as np
import pytest

from scaling.training.corpus import SEPARATOR, Corpus, documents, permuted


def test_every_document_is_there_once(text_folder, corpus):
    wanted = sorted(path.read_bytes() for path in text_folder.iterdir())
    found = [bytes(split).split(SEPARATOR)[:-1] for split in (corpus.train, corpus.heldout)]
    assert sorted(found[0] + found[1]) == wanted
    assert len(corpus.documents) == len(wanted)
    assert not set(found[0]) & set(found[1])


def test_duplicates_count_once(tmp_path, text_folder):
    for path in text_folder.iterdir():
        for copy in ("a", "b"):
            (tmp_path / copy).mkdir(exist_ok=True)
            (tmp_path / copy / path.name).write_bytes(path.read_bytes())
    assert len(Corpus.of(str(tmp_path)).documents) == 200


def test_a_document_stays_in_its_split_when_others_come(tmp_path, text_folder, corpus):
    for path in text_folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "999.txt").write_text("one more document")
    larger = Corpus.of(str(tmp_path))
    assert larger.digest != corpus.digest
    before = {name: split for name, _, split in corpus.documents}
    after = {name: split for name, _, split in larger.documents}
    assert all(after[name] == split for name, split in before.items())


def test_a_text_that_has_changed_is_refused_and_its_cache_named(tmp_path, text_folder):
    text = tmp_path / "text"
    text.mkdir()
    for path in text_folder.iterdir():
        (text / path.name).write_bytes(path.read_bytes() + b"!")
    first = Corpus.of(str(text))
    assert np.array_equal(Corpus.of_digest(first.digest, str(text)).train, first.train)
    (text / "000.txt").write_text("changed")
    now, go_on = Corpus.of(str(text)).digest, f'set corpus = "digest:{first.digest}"'
    with pytest.raises(ValueError, match=f"has changed: .* digest {first.digest}, it now has {now}. .*{go_on}"):
        Corpus.of_digest(first.digest, str(text))
    with pytest.raises(ValueError, match=r"has changed.*0123") as raised:
        Corpus.of_digest("0123", str(text))
    assert "digest:" not in str(raised.value)
    shutil.rmtree(text)
    with pytest.raises(ValueError, match=f"no such file or folder.*{go_on}"):
        Corpus.of_digest(first.digest, str(text))


def test_a_cached_corpus_is_had_by_its_digest(tmp_path, text_folder, corpus):
    name = f"digest:{corpus.digest}"
    (tmp_path / "more.txt").write_text("more")
    kept = Corpus.of(name, heldout={"more": str(tmp_path / "more.txt")})
    assert (kept.name, kept.digest) == (name, corpus.digest)
    assert np.array_equal(kept.train, corpus.train)
    assert bytes(kept.heldouts["more"]) == b"more" + SEPARATOR
    assert Corpus.of_digest(corpus.digest, name).name == name
    planted = Corpus.of("planted")
    assert Corpus.of(f"digest:{planted.digest}").digest == planted.digest
    for other in ("digest:0123456789abcdef", "digest:", "digest:../x"):
        with pytest.raises(ValueError, match="has no such digest"):
            Corpus.of(other)
    with pytest.raises(ValueError, match="is in the tokens of bytes, not of 'bpe:300'"):
        Corpus.of(name, tokenizer="bpe:300")


def test_python_with_other_packages_is_refused(tmp_path, text_folder, corpus, monkeypatch):
    others = [(path.name, path) for path in sorted(text_folder.iterdir())[1:]]
    monkeypatch.setattr(documents, "_python_files", lambda: others)
    monkeypatch.setenv("SCALING_CACHE", str(tmp_path))
    Corpus.of(str(text_folder))
    with pytest.raises(ValueError, match=f'corpus .python. has changed.*set corpus = "digest:{corpus.digest}"'):
        Corpus.of_digest(corpus.digest, "python")


def test_a_short_array_is_refused(tmp_path, text_folder, monkeypatch):
    monkeypatch.setenv("SCALING_CACHE", str(tmp_path))
    corpus = Corpus.of(str(text_folder))
    (corpus.folder / "train-00000.bin").write_bytes(bytes(corpus.train[:100]))
    with pytest.raises(ValueError, match=r"train-00000.bin: 100 bytes, needed"):
        Corpus.of(str(text_folder))


@pytest.mark.parametrize("size", [1, 2, 3, 17, 64, 1000, 4097])
def test_a_permutation_takes_every_place_once(size):
    index = np.arange(size, dtype=np.uint64)
    places = permuted(index, size, "key")
    assert sorted(places.tolist()) == list(range(size))
    if size > 100:
        assert not np.array_equal(places, permuted(index, size, "another key"))
        assert abs(np.corrcoef(index.astype(float), places.astype(float))[0, 1]) < 0.1


def test_each_window_is_seen_once_an_epoch(corpus):
    context, rows = 16, 4
    steps = corpus.windows(context) // rows
    batches = corpus.batches(0, 0, steps, rows * context, context)
    seen = Counter(bytes(window) for window in batches.reshape(-1, context + 1))
    text = Counter(bytes(corpus.train[i * context : (i + 1) * context + 1]) for i in range(corpus.windows(context)))
    assert seen <= text
    assert seen.total() > text.total() - rows
    assert corpus.epochs(steps * rows * context, context) <= 1


def test_a_batch_is_a_function_of_the_step(corpus):
    whole = corpus.batches(3, 0, 20, 64, 16)
    assert np.array_equal(whole[7:12], corpus.batches(3, 7, 5, 64, 16))
    assert not np.array_equal(whole, corpus.batches(4, 0, 20, 64, 16))
    last = corpus.windows(16) // 4
    assert corpus.batches(3, last, 2, 64, 16).shape == (2, 4, 17)  # over the end, into the next epoch


def test_evaluation_is_spread_over_the_split(corpus):
    windows = corpus.evaluation(512, 16)
    assert windows.shape == (32, 17)
    assert np.array_equal(windows, corpus.evaluation(512, 16))
    with pytest.raises(ValueError, match="Set eval_tokens between"):
        corpus.evaluation(10**9, 16)


def test_the_python_corpus_is_large_and_readable():
    corpus = Corpus.of("python")
    documents = corpus.documents
    assert len(corpus.train) > 50e6
    assert len(corpus.heldout) > 1e6
    assert {name.split("/")[0].split("-")[0] for name, _, _ in documents} >= {"jax", "numpy", "scipy"}
    assert b"def " in bytes(corpus.train[:100_000])
    assert json.loads((corpus.folder / "manifest.json").read_text())["digest"] == corpus.digest


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: None, "no such file or folder"),
        (lambda path: path.mkdir(), "is empty"),
        (lambda path: path.write_bytes(b"caf\xe9"), "not UTF-8 text .byte 3 is 0xe9"),
        (lambda path: path.write_text("x"), "some of each"),
    ],
)
def test_text_that_cannot_be_used_says_why(tmp_path, make, says):
    make(tmp_path / "text")
    with pytest.raises(ValueError, match=says):
        Corpus.of(str(tmp_path / "text"))


def test_the_digest_of_plain_text_is_that_of_committed_records(text_folder, corpus):
    arrays = (np.asarray(corpus.train), np.asarray(corpus.heldout))
    digest = hashlib.sha256(b"".join(hashlib.sha256(array).digest() for array in arrays)).hexdigest()[:16]
    assert corpus.digest == digest


def test_the_same_content_bears_the_name_it_was_asked_by(tmp_path, text_folder, corpus):
    for path in text_folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    other = Corpus.of(str(tmp_path))
    assert other.digest == corpus.digest
    for _ in range(2):
        again = Corpus.of(str(tmp_path), heldout={"more": str(tmp_path / "000.txt")})
        assert {each.name for each in (other, again, Corpus.of(str(tmp_path)))} == {str(tmp_path)}
        assert again.summary((16,))["name"] == str(tmp_path)
    assert corpus.name == str(text_folder)


def test_long_documents_none_of_which_is_held_out_are_cut(tmp_path):
    texts = ((f"{number} " * 100_000)[:300_000] for number in itertools.count())
    trained_on = (text for text in texts if hashlib.sha256(text.encode()).digest()[0] > 5)  # 2% have less
    kept = list(itertools.islice(trained_on, 66))
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in kept))
    corpus = Corpus.of(str(tmp_path))
    assert 0.01 < len(corpus.heldout) / len(corpus.train) < 0.04
    assert max(size for _, size, _ in corpus.documents) <= 4096


def test_a_damaged_cache_says_what_to_delete_and_is_built_again(tmp_path, text_folder, monkeypatch):
    monkeypatch.setenv("SCALING_CACHE", str(tmp_path))
    corpus = Corpus.of(str(text_folder))
    manifest = corpus.folder / "manifest.json"
    for damage in (b"", b'{"kind": "st', b"\xff\xfe", b"[1]"):
        manifest.write_bytes(damage)
        with pytest.raises(
            ValueError, match=rf"{manifest}: damaged .*Delete {corpus.folder}; it is built again"
        ) as raised:
            Corpus.of(str(text_folder))
        assert "\n" not in str(raised.value)
    manifest.unlink()
    assert Corpus.of(str(text_folder)).digest == corpus.digest
    for damage in (b"", b"[1]", b'{"name": "x"}', b"\xff"):
        (pointer,) = (tmp_path / "corpora").glob("*/by-source/*.json")
        pointer.write_bytes(damage)
        assert Corpus.of(str(text_folder)).digest == corpus.digest


def test_a_corpus_without_a_name_is_refused(tmp_path, text_folder, monkeypatch):
    monkeypatch.chdir(text_folder)
    with pytest.raises(ValueError, match=r"corpus '' names nothing\. Needed `python`"):
        Corpus.of("")
    with pytest.raises(ValueError, match="names nothing"):
        Corpus.of(str(text_folder), heldout={"more": ""})
