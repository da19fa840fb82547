"""Planted languages: the stated entropy by brute force, streams that never meet, windows that are what their number says."""

import itertools
import json
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from here import Here

from scaling.grid import Grid, RunSpec
from scaling.recipe import Recipe
from scaling.shape import Shape
from scaling.training import sweep as sweeps
from scaling.training.corpus import Corpus, Planted, Source
from scaling.training.corpus.source import _flips, draw, stream_key
from scaling.training.train import Interrupted, train

#: 4 symbols, orders up to 3, half of all contexts exceptions: small enough to write down every window.
TINY = Source(seed=5, bits=2, zipf=1.5, popularity=0.5, levels=4, share=0.5, decay=0.8, touched=2)


def chances(source: Source, context: int) -> dict[tuple[int, ...], float]:
    """p(x1..xT) of every window there is, by the definition: one symbol after the other, one topic after the other."""
    found = {}
    for window in itertools.product(range(source.vocab), repeat=context):
        total = 0.0
        for topic in range(source.topics):
            past, p = [0] * source.orders, 1 / source.topics
            for symbol in window:
                flips = int(np.asarray(_flips(source, np.array(past, np.uint32)[:, None]))[0])
                order = [int(source.table[topic, past[0], rank ^ flips]) for rank in range(source.vocab)]
                assert sorted(order) == list(range(source.vocab))
                p *= source.weights[order.index(symbol)]
                past = [symbol, *past[:-1]]
            total += p
        found[window] = total
    return found


@pytest.mark.parametrize("topics", [1, 2])
def test_the_stated_entropy_is_that_of_brute_force(topics):
    source, context = replace(TINY, topics=topics), 4
    p = chances(source, context)
    assert sum(p.values()) == pytest.approx(1)
    brute = -sum(each * math.log(each) for each in p.values()) / context
    stated, error = source.block_entropy(context)
    if topics == 1:
        assert error == 0
        assert stated == pytest.approx(brute, abs=1e-12)
    else:
        assert 0 < error < 3e-3
        assert stated == pytest.approx(brute, abs=4 * error)
        assert stated > source.entropy_rate + 10 * error


@pytest.mark.parametrize("topics", [1, 2])
def test_windows_are_drawn_with_their_chance(topics):
    source, windows = replace(TINY, topics=topics), 1 << 16
    p = chances(source, 4)
    seen = Counter(
        map(tuple, np.asarray(draw(source, stream_key(source.digest, "a"), 0, 0, windows, 4))[:, 1:].tolist())
    )
    expected = np.array(list(p.values())) * windows
    found = np.array([seen[window] for window in p])
    chi2 = ((found - expected) ** 2 / expected).sum()
    assert abs(chi2 - (len(p) - 1)) < 5 * math.sqrt(2 * (len(p) - 1))  # five standard deviations of a chi-square


@pytest.mark.parametrize("number", [0, 1, 2])
def test_held_out_windows_cost_a_perfect_model_the_floor(number):
    corpus = Corpus.of(f"planted:{number}")
    source = corpus.source
    token = corpus.evaluation(1 << 18, 64)
    log_p = np.stack([source.log_likelihood(token, topic) for topic in range(source.topics)])
    nats = -np.logaddexp.reduce(log_p - math.log(source.topics), axis=0) / 64
    assert nats.mean() == pytest.approx(corpus.floor(64), abs=4 * nats.std() / math.sqrt(len(nats)))
    assert corpus.entropy_rate <= corpus.floor(64) <= corpus.floor(16)
    assert source.vocab == corpus.vocab == token.max() + 1


def test_sources_differ_and_their_names_are_checked():
    assert len({Corpus.of(name).digest for name in ("planted", "planted:1", "planted:2", "planted:3")}) == 4
    assert (
        Corpus.of("planted").digest == Corpus.of("planted:0").digest == "401cb59c29934233"
    )  # or VERSION was forgotten
    for name in ("planted:x", "planted:", "planted:-1"):
        with pytest.raises(ValueError, match="a planted source is planted:0"):
            Corpus.of(name)


def test_a_batch_is_a_function_of_seed_and_step():
    corpus = Corpus.of("planted")
    whole = np.asarray(corpus.batches(3, 0, 16, 64, 16))
    assert whole.shape == (16, 4, 17)
    assert np.array_equal(whole[7:12], corpus.batches(3, 7, 5, 64, 16))
    assert not np.array_equal(whole, corpus.batches(4, 0, 16, 64, 16))
    assert np.array_equal(corpus.batches(3, 2**30, 4, 64, 16), np.asarray(corpus.batches(3, 2**30 - 2, 8, 64, 16))[2:6])


def test_nothing_is_seen_twice():
    """No two of 40,000 windows are alike: of two seeds, of the held-out stream, on both sides of window 2^32."""
    corpus = Corpus.of("planted")
    places = [(0, 0), (1, 0), (0, 2**30 - 1000)]  # steps of 4 windows
    drawn = [np.asarray(corpus.batches(seed, first, 2048, 256, 64)).reshape(-1, 65) for seed, first in places]
    token = np.concatenate([*drawn, corpus.evaluation(16384 * 64, 64)])
    assert len({window.tobytes() for window in token}) == len(token) == 3 * 8192 + 16384
    assert (token[:, 0] == 0).all()


def test_a_worker_loads_it_by_its_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SCALING_CACHE", str(tmp_path))
    corpus = Corpus.of("planted:1")
    again = Corpus.load(corpus.folder)
    assert isinstance(again, Planted)
    assert np.array_equal(again.batches(0, 0, 2, 64, 16), corpus.batches(0, 0, 2, 64, 16))
    path = corpus.folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "digest": "0" * 16}))
    with pytest.raises(ValueError, match="was defined with digest 0000"):
        Corpus.load(corpus.folder)


def test_a_sweep_trains_on_it_and_keeps_its_floor(tmp_path):
    grid = Grid.of(
        {
            "corpus": "planted:2",
            "budgets": [1e7],
            "sizes": [{"depth": 1, "width": 8}],
            "vocab": 64,
            "context": 16,
            "eval_tokens": 1024,
            "recipe": {"batch_tokens": 64},
        }
    )
    corpus = Corpus.of("planted:2")
    done = sweeps.sweep(grid, tmp_path / "runs", Here(corpus))
    (run,) = done.records.values()
    assert run.status == "done"
    assert run.epochs == 0
    kept = json.loads((tmp_path / "runs" / "corpus.json").read_text())
    assert kept["floor"]["16"] == corpus.floor(16) < run.loss
    assert kept["entropy_rate"] == corpus.entropy_rate
    assert sweeps.plan(grid, tmp_path / "runs").missing == ()


def test_a_resumed_run_draws_on_to_the_same_bit(tmp_path):
    corpus = Corpus.of("planted")
    recipe = Recipe(learning_rate=0.01, batch_tokens=64, warmup_tokens=64)
    spec = RunSpec(Shape(1, 8, 1, vocab=64, context=16), recipe, corpus.name, corpus.digest, 64 * 300, eval_tokens=512)
    whole, seen = train(spec, corpus), []
    with pytest.raises(Interrupted):
        train(spec, corpus, checkpoints=tmp_path, watch=seen.append, stopping=lambda: len(seen) >= 1)
    assert train(spec, corpus, checkpoints=tmp_path).loss == whole.loss
