"""Formats and tokenizers: the same documents from every format, ids as others wrote them, and what cannot be used."""

import gzip
import json
import struct

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scaling.training.corpus import SEPARATOR, Corpus, pretokenized, shards
from scaling.training.corpus.tokenizers import _characters, id_type

tokenizers = pytest.importorskip("tokenizers")


def zstd(data: bytes) -> bytes:
    with pa.BufferOutputStream() as sink:
        with pa.CompressedOutputStream(sink, "zstd") as packed:
            packed.write(data)
        return sink.getvalue().to_pybytes()


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """400 documents, some not in ASCII."""
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abcdefgh"), rng.integers(2, 7))) for _ in range(100)] + ["Straße", "数学", "été"]
    return [" ".join(rng.choice(words, 60)) for _ in range(400)]


@pytest.fixture(scope="module")
def lines(texts) -> bytes:
    return "".join(json.dumps({"id": i, "text": text}) + "\n" for i, text in enumerate(texts)).encode()


@pytest.fixture(scope="module")
def trained(texts, lines, tmp_path_factory) -> Corpus:
    """The documents as a byte-pair encoding of 400 ids."""
    path = tmp_path_factory.mktemp("bpe") / "a.jsonl"
    path.write_bytes(lines)
    return Corpus.of(str(path), tokenizer="bpe:400")


def documents(corpus: Corpus) -> list[bytes]:
    """The documents of a byte corpus, of both splits."""
    return [text for split in (corpus.train, corpus.heldout) for text in bytes(split).split(SEPARATOR)[:-1]]


@pytest.mark.parametrize(
    "form", ["jsonl", "jsonl.gz", "jsonl.zst", "JSONL.GZ", "parquet", "parquet.gz", "parquet.zst", "two files"]
)
def test_every_format_gives_the_same_documents(tmp_path, texts, lines, form):
    if form.startswith("parquet"):
        path = tmp_path / "a.parquet"
        pq.write_table(pa.table({"id": range(400), "body": texts}), path, row_group_size=100)
        if form != "parquet":
            pack = {"parquet.gz": gzip.compress, "parquet.zst": zstd}[form]
            (tmp_path / f"a.{form}").write_bytes(pack(path.read_bytes()))
            path.unlink()
    elif form == "two files":
        middle = lines.index(b"\n", len(lines) // 2) + 1
        (tmp_path / "a.jsonl").write_bytes(lines[:middle])
        (tmp_path / "b.ndjson.gz").write_bytes(gzip.compress(lines[middle:]))
    else:
        pack = {"jsonl": bytes, "jsonl.gz": gzip.compress, "jsonl.zst": zstd}[form.lower()]
        (tmp_path / f"a.{form}").write_bytes(pack(lines))
    corpus = Corpus.of(str(tmp_path), column="body" if form.startswith("parquet") else "text")
    assert sorted(documents(corpus)) == sorted(text.encode() for text in texts)
    assert corpus.bytes_per_token == 1.0
    assert corpus.manifest["documents"] == 400


def test_packed_text_is_unpacked(tmp_path, texts):
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress("\n".join(texts).encode()))
    (tmp_path / "b.txt.zst").write_bytes(zstd("\n".join(texts[:200]).encode()))
    assert b"".join(documents(Corpus.of(str(tmp_path)))).count("Straße".encode()) > 100


def test_nulls_and_empty_texts_are_counted_not_trained_on(tmp_path, lines, monkeypatch):
    monkeypatch.setenv("SCALING_CACHE", str(tmp_path.parent / "nulls"))
    (tmp_path / "a.jsonl").write_bytes(lines + b'{"text": null}\n{"text": ""}\n\n' + lines)
    manifest = Corpus.of(str(tmp_path)).manifest
    assert manifest["skipped"] == {"empty": 2, "duplicate": 400}
    assert manifest["documents"] == 400


def test_pieces_of_a_lone_text_end_between_characters(tmp_path):
    text = "".join(np.random.default_rng(0).choice(list("数学éab"), 100_000))
    (tmp_path / "a.txt").write_text(text)
    corpus = Corpus.of(str(tmp_path))
    pieces = documents(corpus)
    assert sum(map(len, pieces)) == len(text.encode())
    assert len(pieces) > 40
    assert all(piece.decode() in text for piece in pieces)


def test_a_trained_encoding_gives_the_text_back(trained, texts):
    rules = tokenizers.Tokenizer.from_file(str(trained.folder / "tokenizer.json"))
    found = []
    for split in (trained.train, trained.heldout):
        ids = np.asarray(split)
        assert ids.dtype == np.uint16
        assert ids[-1] == 0  # the separator
        ends = np.flatnonzero(ids == 0)
        found += [rules.decode(piece[piece != 0].tolist()) for piece in np.split(ids, ends[:-1] + 1)]
    assert sorted(found) == sorted(texts)
    assert trained.vocab == 400
    total = sum(size + 1 for _, size, split in trained.documents if split == "heldout")
    assert trained.bytes_per_token == total / len(trained.heldout)
    assert 2 < trained.bytes_per_token < 6


def test_a_trained_encoding_comes_out_again(trained, lines, tmp_path):
    (tmp_path / "b.jsonl").write_bytes(lines)
    assert Corpus.of(str(tmp_path), tokenizer="bpe:400").digest == trained.digest
    assert Corpus.of(str(tmp_path / "b.jsonl"), tokenizer="bpe:300").digest != trained.digest


def test_an_existing_tokenizer_file_gives_its_own_ids(trained, lines, tmp_path):
    (tmp_path / "b.jsonl").write_bytes(lines)
    assert Corpus.of(str(tmp_path), tokenizer=str(trained.folder / "tokenizer.json")).digest == trained.digest


def test_a_cached_corpus_takes_no_tokenizer_but_its_own(trained, lines, tmp_path):
    """By the name that it was built with, or a file of the same content; of ids that came without one, none."""
    name, own = f"digest:{trained.digest}", trained.folder / "tokenizer.json"
    copy, changed, missing = (tmp_path / each for each in ("copy.json", "changed.json", "missing.json"))
    copy.write_bytes(own.read_bytes())
    changed.write_bytes(own.read_bytes() + b"\n")
    for tokenizer in (None, "bpe:400", str(own), str(copy)):
        assert Corpus.of(name, tokenizer=tokenizer).digest == trained.digest
    nanogpt(tmp_path / "ids.bin", np.arange(5000))
    bare = f"digest:{Corpus.of(str(tmp_path / 'ids.bin')).digest}"
    for corpus, tokenizer, says in [
        (name, "bpe:300", "in the tokens of bpe:400, not of 'bpe:300'. Leave tokenizer out"),
        (name, "bytes", "in the tokens of bpe:400, not of 'bytes'"),
        (name, str(missing), r"in the tokens of bpe:400 .digest \w+., not of '.*missing.json' .no such file"),
        (name, str(changed), r"in the tokens of bpe:400 .digest \w+., not of '.*changed.json' .digest \w+"),
        (bare, str(own), "in the tokens of no tokenizer, not of '.*tokenizer.json'"),
        (bare, "bpe:400", "in the tokens of no tokenizer, not of 'bpe:400'"),
    ]:
        with pytest.raises(ValueError, match=says) as raised:
            Corpus.of(corpus, tokenizer=tokenizer)
        assert "\n" not in str(raised.value)


def nanogpt(path, ids):
    np.asarray(ids, np.uint16).tofile(path)


def llm_c(path, ids, magic=20240520, version=1, dtype=np.uint16):
    header = struct.pack("<256i", magic, version, len(ids), *[0] * 253)
    path.write_bytes(header + np.asarray(ids, dtype).tobytes())


def llama(path, ids):
    llm_c(path, ids, 20240801, 7, np.uint32)


def npy(path, ids):
    np.save(path.with_suffix(".npy"), np.asarray(ids, np.int64))


@pytest.mark.parametrize("write", [nanogpt, llm_c, llama, npy])
def test_ids_come_as_others_wrote_them(tmp_path, write):
    ids = np.random.default_rng(1).integers(0, 50257, 6000)
    ids[7] = 50256
    write(tmp_path / "train.bin", ids[:5000])
    write(tmp_path / "val.bin", ids[5000:])
    corpus = Corpus.of(str(tmp_path))
    assert np.array_equal(corpus.train, ids[:5000])
    assert np.array_equal(corpus.heldout, ids[5000:])
    assert (corpus.vocab, corpus.train.dtype, corpus.bytes_per_token) == (50257, np.uint16, None)
    assert corpus.batches(0, 0, 2, 64, 16).max() > 255


@pytest.mark.parametrize("folder", ["val", "Validation", "fineweb-test"])
def test_a_folder_says_what_is_held_out(tmp_path, folder):
    ids = np.random.default_rng(2).integers(0, 50257, 6000)
    (tmp_path / "test" / "train").mkdir(parents=True)  # what is above the corpus says nothing
    (tmp_path / "test" / folder / "en").mkdir(parents=True)
    npy(tmp_path / "test" / "train" / "s0", ids[:5000])
    npy(tmp_path / "test" / folder / "s0", ids[5000:5500])
    npy(tmp_path / "test" / folder / "en" / "s0", ids[5500:])
    corpus = Corpus.of(str(tmp_path / "test"))
    assert np.array_equal(corpus.train, ids[:5000])
    assert sorted(corpus.heldout) == sorted(ids[5000:])


@pytest.mark.parametrize(
    ("label", "held_out"),
    [
        ("val.bin", True),
        ("train_val_0.bin", True),
        ("val/en/0.npy", True),
        ("train/val.bin", True),
        ("test/train.bin", False),
        ("val/train/0.npy", False),
        ("latest/0.bin", False),
        ("a.val/0.bin", True),
        ("0.bin", False),
    ],
)
def test_the_nearest_name_says_whether_ids_are_held_out(label, held_out):
    assert pretokenized.is_held_out(label) == held_out


def test_what_was_cached_with_its_held_out_files_in_training_is_built_anew(tmp_path, monkeypatch):
    for split, ids in (("train", np.arange(5000)), ("val", np.arange(5000, 6000))):
        (tmp_path / split).mkdir()
        nanogpt(tmp_path / split / "0.bin", ids)
    with monkeypatch.context() as patch:
        patch.setattr(pretokenized, "is_held_out", lambda label: False)
        assert len(Corpus.of(str(tmp_path)).train) == 5880
    assert len(Corpus.of(str(tmp_path)).train) == 5000


def test_a_lone_file_of_ids_holds_out_its_end(tmp_path):
    nanogpt(tmp_path / "tokens.bin", np.arange(10_000))
    corpus = Corpus.of(str(tmp_path / "tokens.bin"))
    assert np.array_equal(np.concatenate([corpus.train, corpus.heldout]), np.arange(10_000))
    assert len(corpus.heldout) == 200


@pytest.mark.parametrize("ids", [np.arange(5000) % 4, np.arange(5000) % 16, np.arange(5000) // 2])
def test_few_or_small_ids_are_not_taken_for_halves(tmp_path, ids):
    nanogpt(tmp_path / "tokens.bin", ids)
    assert len(Corpus.of(str(tmp_path / "tokens.bin")).train) == 4900


def test_the_case_of_a_suffix_does_not_matter(tmp_path):
    with open(tmp_path / "A.NPY", "wb") as file:
        np.save(file, np.arange(10_000))
    assert len(Corpus.of(str(tmp_path)).train) == 9800


def test_ids_with_their_tokenizer_know_their_bytes(trained, tmp_path):
    nanogpt(tmp_path / "train.bin", trained.train)
    nanogpt(tmp_path / "val.bin", trained.heldout)
    corpus = Corpus.of(str(tmp_path), tokenizer=str(trained.folder / "tokenizer.json"))
    assert corpus.bytes_per_token == pytest.approx(trained.bytes_per_token)


def test_many_shards_read_as_one_array(tmp_path, texts, lines, monkeypatch):
    (tmp_path / "a.jsonl").write_bytes(lines)
    whole = Corpus.of(str(tmp_path))
    monkeypatch.setenv("SCALING_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(shards, "SHARD_TOKENS", 1000)
    cut = Corpus.of(str(tmp_path / "a.jsonl"))
    assert len(cut.manifest["files"]["train"]) > 50
    assert cut.digest == whole.digest
    assert len(cut.train) == len(whole.train)
    assert cut.train.nbytes == whole.train.nbytes
    assert np.array_equal(cut.train, whole.train)
    assert np.array_equal(cut.train[990:3010], whole.train[990:3010])
    assert np.array_equal(cut.batches(1, 0, 9, 64, 16), whole.batches(1, 0, 9, 64, 16))
    (cut.folder / "train-00003.bin").write_bytes(b"short")
    with pytest.raises(ValueError, match=r"train-00003.bin: 5 bytes, needed 1,000"):
        Corpus.load(cut.folder)


def test_starts_are_where_the_batches_are(corpus):
    starts = corpus.starts(3, 5, 4, 64, 16)
    assert starts.shape == (4, 4)
    assert np.array_equal(corpus.batches(3, 5, 4, 64, 16)[1, 2], corpus.train[starts[1, 2] : starts[1, 2] + 17])


def test_further_held_out_sets_travel_with_the_folder(trained, tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "Straße abc"}\n{"text": "été abc"}\n')
    corpus = Corpus.of_digest(
        trained.digest, trained.name, tokenizer="bpe:400", heldout={"small": str(tmp_path / "a.jsonl")}
    )
    again = Corpus.load(corpus.folder)
    assert again.digest == trained.digest
    assert (np.asarray(again.heldouts["small"]) == 0).sum() == 2
    assert again.further("small", 10**6, 4).shape[1] == 5
    with pytest.raises(ValueError, match="held-out set 'small' has"):
        again.further("small", 10**6, 512)
    nanogpt(tmp_path / "ids.bin", [1, 2, 3, 60_000])
    for path in ("ids.bin", "missing.txt"):
        with pytest.raises(ValueError, match=r"Give both in the same tokens|no such file|has the id 60,000"):
            Corpus.of_digest(trained.digest, trained.name, tokenizer="bpe:400", heldout={"other": str(tmp_path / path)})


def test_a_data_set_of_the_hub_is_streamed_once(tmp_path, texts, lines, monkeypatch):
    datasets = pytest.importorskip("datasets")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "data.jsonl").write_bytes(lines)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    name = f"hf:{tmp_path / 'set'}"
    corpus = Corpus.of(name)
    assert sorted(documents(corpus)) == sorted(text.encode() for text in texts)
    monkeypatch.setattr(datasets, "load_dataset", None)  # a second stream would fail
    assert Corpus.of(name).digest == corpus.digest
    with pytest.raises(ValueError, match=r"cannot be fetched"):
        Corpus.of(name + ":other:config")


def damaged(path, packed):
    path.write_bytes(packed[: len(packed) // 2])


@pytest.mark.parametrize(
    ("name", "make", "says"),
    [
        ("a.jsonl", lambda p, d: p.write_bytes(d + b"{oops}\n"), r"a.jsonl, line 401: not JSON"),
        ("a.jsonl", lambda p, d: p.write_bytes(d + b"[" * 200_000), r"a.jsonl, line 401: not JSON"),
        ("a.jsonl", lambda p, d: p.write_bytes(d + b'{"n": ' + b"9" * 5000 + b"}"), r"a.jsonl, line 401: not JSON"),
        ("a.jsonl", lambda p, d: p.write_bytes(d.replace(b'"text"', b'"tekst"')), "Did you mean column = 'tekst'"),
        ("a.jsonl", lambda p, d: p.write_bytes(b'{"text": 5}\n'), "text is int, needed text"),
        ("a.jsonl", lambda p, d: p.write_bytes(b'{"text": "\\ud800"}\n'), "half a surrogate pair"),
        ("a.jsonl", lambda p, d: p.write_bytes(b'{"text": "caf\xe9"}\n'), "not UTF-8 text .byte 13 is 0xe9"),
        ("a.jsonl.gz", lambda p, d: damaged(p, gzip.compress(d)), "a.jsonl.gz: damaged"),
        ("a.jsonl.gz", lambda p, d: p.write_bytes(d), "a.jsonl.gz: damaged"),
        ("a.jsonl.zst", lambda p, d: damaged(p, zstd(d)), "a.jsonl.zst: damaged"),
        ("a.parquet", lambda p, d: p.write_bytes(d), "a.parquet: damaged"),
        ("a.parquet", lambda p, d: pq.write_table(pa.table({"n": [1]}), p), "no column 'text'; it has 'n'"),
        ("a.bin", lambda p, d: p.write_bytes(d[:999]), "999 bytes, cut short"),
        ("a.bin", lambda p, d: p.write_bytes(b""), "0 bytes, cut short"),
        ("a.bin", lambda p, d: llm_c(p, [1, 2, 3], magic=20231231), "magic 20231231, version 1. Needed magic 20240520"),
        ("a.bin", lambda p, d: llm_c(p, [1, 2, 3], version=9), "magic 20240520, version 9"),
        ("a.bin", lambda p, d: (llm_c(p, range(99)), p.write_bytes(p.read_bytes()[:-50])), "header says 99 tokens"),
        ("a.bin", lambda p, d: (llm_c(p, range(99)), p.write_bytes(p.read_bytes()[:500])), "500 bytes, cut short"),
        ("a.bin", lambda p, d: np.arange(0, 90_000, 9, np.uint32).tofile(p), "looks like 32-bit ids"),
        ("a.bin", lambda p, d: (np.arange(900, dtype=np.uint32) % 4).tofile(p), "looks like 32-bit ids"),
        ("a.bin.gz", lambda p, d: p.write_bytes(gzip.compress(d)), "packed token ids, .* Unpack it"),
        ("a.npy.zst", lambda p, d: p.write_bytes(zstd(d)), "packed token ids, .* Unpack it"),
        ("a.parquet.gz", lambda p, d: p.write_bytes(d), "a.parquet.gz: damaged"),
        ("a.npy", lambda p, d: p.write_bytes(d), "damaged or cut short"),
        ("a.npy", lambda p, d: np.save(p, np.zeros(9)), "an array of float64"),
        ("a.npy", lambda p, d: np.save(p, np.arange(-5, 500)), "has the id -5; ids begin at 0"),
        ("a.npy", lambda p, d: np.save(p, np.arange(500) * 10**8), "larger than the largest id type"),
    ],
)  # fmt: skip
def test_data_that_cannot_be_used_says_why(tmp_path, lines, name, make, says):
    make(tmp_path / name, lines)
    with pytest.raises(ValueError, match=says) as raised:
        Corpus.of(str(tmp_path / name))
    assert "\n" not in str(raised.value)


def test_a_tokenizer_that_does_not_match_says_so(trained, tmp_path, lines):
    kept = str(trained.folder / "tokenizer.json")
    (tmp_path / "a.jsonl").write_bytes(lines)
    nanogpt(tmp_path / "ids.bin", [1, 2, 3, 400] * 100)
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = Tokenizer(models.WordLevel({"[UNK]": 0, "</s>": 1, "abc": 2}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.save(str(tmp_path / "words.json"))
    Tokenizer(models.WordLevel({"a": 0}, unk_token="a")).save(str(tmp_path / "endless.json"))
    many = Tokenizer(
        models.WordLevel({"[UNK]": 0, "</s>": 1, **{f"w{i}": i for i in range(2, 70_000)}}, unk_token="[UNK]")
    )
    many.save(str(tmp_path / "many.json"))
    for name, tokenizer, says in [
        ("ids.bin", kept, r"has the id 400, and tokenizer .* has 400 ids: it does not match the data"),
        ("ids.bin", str(tmp_path / "many.json"), r"stored in ids below 65,536, and tokenizer .* has 70,000"),
        ("ids.bin", "bpe:512", "is tokens already"),
        ("a.jsonl", str(tmp_path / "words.json"), "does not match the text: it does not know"),
        ("a.jsonl", str(tmp_path / "endless.json"), "no token that ends a document"),
        ("a.jsonl", str(tmp_path / "a.jsonl"), "not a tokenizer.json"),
        ("a.jsonl", "gpt9", 'needed "bytes", "bpe:VOCAB"'),
        ("a.jsonl", "bpe:100", "at least 257"),
    ]:
        with pytest.raises(ValueError, match=says) as raised:
            Corpus.of(str(tmp_path / name), tokenizer=tokenizer)
        assert "\n" not in str(raised.value)
    with pytest.raises(ValueError, match=r"token files .ids.bin. and text"):
        Corpus.of(str(tmp_path))


def test_the_id_type_holds_the_vocabulary():
    assert [id_type(vocab) for vocab in (256, 257, 65_536, 65_537, 2**32)] == ["u1", "u2", "u2", "u4", "u4"]
    with pytest.raises(ValueError, match="larger than the largest id type"):
        id_type(2**32 + 1)


def test_a_full_disk_is_said_before_it_is_full(tmp_path, lines, monkeypatch):
    (tmp_path / "a.jsonl").write_bytes(lines)
    monkeypatch.setattr(shards.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 10}))
    with pytest.raises(OSError, match="10 bytes free, and the corpus needs about"):
        Corpus.of(str(tmp_path), column="text", tokenizer="bytes")


def words_of(texts):
    """A tokenizer whose encoding knows no Greek, without a token for what it does not know."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    rules = Tokenizer(models.BPE())
    rules.pre_tokenizer = pre_tokenizers.Whitespace()
    rules.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=100, special_tokens=["</s>"], show_progress=False))
    return rules


def test_a_tokenizer_that_loses_text_says_so(tmp_path):
    words_of(["the law of the land"] * 9).save(str(tmp_path / "latin.json"))
    (tmp_path / "a.txt").write_text(" ".join(f"νόμος{i}" for i in range(60_000)))
    with pytest.raises(ValueError, match=r"does not match the text: it loses \d+% of [\d,]+ characters"):
        Corpus.of(str(tmp_path / "a.txt"), tokenizer=str(tmp_path / "latin.json"))
    (tmp_path / "b.txt").write_text("the law of the land " * 60_000)
    assert Corpus.of(str(tmp_path / "b.txt"), tokenizer=str(tmp_path / "latin.json")).vocab < 100


def test_characters_count_the_same_however_they_are_composed():
    assert _characters("e\u0301te\u0301 a") == _characters("été a") == 4


def test_an_edited_tokenizer_in_the_home_folder_is_seen(trained, lines, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.jsonl").write_bytes(lines)
    (tmp_path / "tok.json").write_bytes((trained.folder / "tokenizer.json").read_bytes())
    first = Corpus.of(str(tmp_path / "a.jsonl"), tokenizer="~/tok.json")
    larger = Corpus.of(str(tmp_path / "a.jsonl"), tokenizer="bpe:410")
    (tmp_path / "tok.json").write_bytes((larger.folder / "tokenizer.json").read_bytes())
    assert Corpus.of(str(tmp_path / "a.jsonl"), tokenizer="~/tok.json").vocab == 410 != first.vocab


@pytest.mark.parametrize("kind", ["bpe", "not special", "unigram"])
def test_a_text_that_names_the_separator_is_text(tmp_path, kind):
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    end = "<|endoftext|>" if kind == "bpe" else "</s>"
    texts = [f"{i} ends with {end} or {end}{end} and goes on" for i in range(500)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    tokenizer = "bpe:300"
    if kind != "bpe":
        letters = sorted(set("".join(texts)) - {" "})
        if kind == "unigram":
            rules = Tokenizer(
                models.Unigram([("<unk>", 0.0), (end, 0.0), *((each, -4.0) for each in ["▁", *letters])], 0)
            )
            rules.pre_tokenizer, rules.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
            rules.add_special_tokens([end])
        else:
            rules = Tokenizer(models.BPE({each: i for i, each in enumerate(letters)}, []))
            rules.add_tokens([AddedToken(end, special=False)])
        tokenizer = str(tmp_path / "rules.json")
        rules.save(tokenizer)
    corpus = Corpus.of(str(tmp_path / "a.jsonl"), tokenizer=tokenizer)
    rules = Tokenizer.from_file(str(corpus.folder / "tokenizer.json"))
    separator = rules.token_to_id(end)
    ids = np.concatenate([corpus.train, corpus.heldout])
    assert (ids == separator).sum() == 500
    ends = np.flatnonzero(ids == separator)
    found = [rules.decode(piece[piece != separator].tolist()) for piece in np.split(ids, ends[:-1] + 1)]
    assert sorted(text.replace(" ", "") for text in found) == sorted(text.replace(" ", "") for text in texts)


def test_the_same_ids_in_another_vocabulary_are_another_corpus(tmp_path, trained):
    from tokenizers import AddedToken, Tokenizer

    kept = trained.folder / "tokenizer.json"
    larger = Tokenizer.from_file(str(kept))
    larger.add_tokens([AddedToken(f"<{i}>") for i in range(100)])
    larger.save(str(tmp_path / "larger.json"))
    nanogpt(tmp_path / "ids.bin", trained.train)
    none = Corpus.of(str(tmp_path / "ids.bin"))
    first = Corpus.of(str(tmp_path / "ids.bin"), tokenizer=str(kept))
    second = Corpus.of(str(tmp_path / "ids.bin"), tokenizer=str(tmp_path / "larger.json"))
    assert [each.vocab for each in (first, second)] == [400, 500]
    assert none.bytes_per_token is None
    assert len({none.digest, first.digest, second.digest}) == 3
    np.save(tmp_path / "pairs.npy", np.frombuffer(np.asarray(none.train[:4000]).tobytes(), np.uint8))
    np.save(tmp_path / "words.npy", np.asarray(none.train[:4000]))
    pairs, words = (Corpus.of(str(tmp_path / name)) for name in ("pairs.npy", "words.npy"))
    assert bytes(pairs.train) == bytes(np.asarray(words.train).tobytes())
    assert pairs.digest != words.digest
