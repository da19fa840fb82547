"""Training: the same spec, the same loss, however often it was interrupted; and failures that are recorded."""

import math
from dataclasses import replace

import numpy as np
import pytest

from scaling.grid import RunSpec
from scaling.recipe import Recipe
from scaling.shape import Shape
from scaling.training import train as training
from scaling.training.train import Interrupted, learning_rates, train


@pytest.fixture(scope="module", autouse=True)
def short_chunks():
    """Chunks of two steps and checkpoints at every one, so that a short run has many of both."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "MOST_STEPS", 2)
        training._programs.cache_clear()
        yield
    training._programs.cache_clear()


@pytest.fixture(scope="module")
def spec(corpus):
    recipe = Recipe(learning_rate=1e-2, batch_tokens=64, warmup_tokens=64 * 3)
    return RunSpec(Shape(1, 16, 1, context=16), recipe, corpus.name, corpus.digest, 64 * 11, eval_tokens=512)


@pytest.fixture(scope="module")
def whole(spec, corpus):
    """The uninterrupted run."""
    return train(spec, corpus)


def test_a_run_learns_and_its_record_is_complete(spec, corpus, whole):
    assert whole.status == "done"
    assert whole.loss < math.log(256)
    assert whole.bits_per_byte == pytest.approx(whole.loss / math.log(2))
    assert 0 < whole.loss_se < 0.5
    assert (spec.shape.N, spec.tokens, spec.C) == (whole.N, whole.D, whole.C)
    assert whole.C_6nd == 6 * whole.N * whole.D
    assert whole.curve[-1][0] == spec.tokens
    assert whole.seconds > 0
    assert whole.tokens_per_second == pytest.approx(spec.tokens / whole.seconds)
    assert {"jax", "numpy", "isoflop", "python"} <= set(whole.versions)
    assert "few steps" in whole.flags[0]


def test_twice_is_the_same_to_the_bit(spec, corpus, whole):
    again = train(spec, corpus)
    assert (again.loss, again.curve) == (whole.loss, whole.curve)


def test_another_seed_is_another_run(spec, corpus, whole):
    assert train(replace(spec, seed=1), corpus).loss != whole.loss


@pytest.mark.parametrize("stop_after", [1, 3, 5])
def test_an_interrupted_run_goes_on_to_the_same_bit(spec, corpus, whole, tmp_path, stop_after):
    seen = []
    with pytest.raises(Interrupted):
        train(spec, corpus, checkpoints=tmp_path, watch=seen.append, stopping=lambda: len(seen) >= stop_after)
    resumed = []
    run = train(spec, corpus, checkpoints=tmp_path, watch=resumed.append)
    assert (run.loss, run.curve) == (whole.loss, whole.curve)
    assert [p.step for p in seen + resumed] == [2, 4, 6, 8, 10, 11]
    assert not list(tmp_path.glob("*"))


def test_a_kill_while_writing_a_checkpoint_leaves_the_one_before(spec, corpus, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    save, calls = training._save, []

    def killed(folder, *state):
        calls.append(folder)
        if len(calls) == 3:
            raise SystemExit("killed")
        save(folder, *state)

    monkeypatch.setattr(training, "_save", killed)
    with pytest.raises(SystemExit):
        train(spec, corpus, checkpoints=tmp_path)
    monkeypatch.setattr(training, "_save", save)
    assert train(spec, corpus, checkpoints=tmp_path).loss == whole.loss


def test_a_run_that_diverges_is_recorded_with_its_last_good_step(spec, corpus):
    wild = replace(spec, recipe=replace(spec.recipe, learning_rate=1e30, clip=1e30))
    run = train(wild, corpus)
    assert run.status == "failed"
    assert run.loss is None
    assert "diverged: the loss is not a number after step" in run.reason


def test_the_rate_rises_to_its_peak_and_falls_to_nothing(spec):
    long = replace(spec, tokens=64 * 1000, recipe=replace(spec.recipe, warmup_tokens=64 * 50))
    rates = learning_rates(long)
    assert len(rates) == 1000
    assert rates.max() == pytest.approx(1e-2, rel=1e-2)
    assert np.argmax(rates) in range(48, 52)
    assert 0 < rates[-1] < 1e-5
    assert (np.diff(rates[:49]) > 0).all()
    assert (np.diff(rates[51:]) < 0).all()


def test_a_wrong_corpus_is_refused(spec, corpus):
    with pytest.raises(ValueError, match="needs the corpus of digest 0"):
        train(replace(spec, digest="0"), corpus)
    with pytest.raises(ValueError, match="256 token ids"):
        train(replace(spec, shape=replace(spec.shape, vocab=128)), corpus)


def test_evaluation_weighs_every_window_alike(spec, corpus):
    """A last batch that is padded counts only its real windows."""
    programs = training._programs(spec.shape, 64, training._static(spec.recipe))
    params = programs.fresh(0)["params"]
    odd = replace(spec, eval_tokens=16 * (training.EVAL_BATCH_TOKENS // 16 // 64 + 7))
    loss, error = training.evaluate(params, odd, corpus)
    windows = corpus.evaluation(odd.eval_tokens, 16)
    one_by_one = [training.evaluate_windows(programs, params, window[None], 16) for window in windows]
    np.testing.assert_allclose(loss, np.mean(one_by_one), rtol=1e-6)
    np.testing.assert_allclose(error, np.std(one_by_one, ddof=1) / len(windows) ** 0.5, rtol=1e-4)
