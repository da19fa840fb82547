"""Training: the same spec, the same loss, however often it was interrupted; and failures that are recorded."""

import json
import math
import time
from dataclasses import asdict, replace

import jax
import numpy as np
import pytest

from scaling.grid import RunSpec
from scaling.recipe import Recipe
from scaling.runs import to_json
from scaling.shape import Shape
from scaling.training import model
from scaling.training.train import (
    DeviceLost,
    Interrupted,
    OutOfMemory,
    checkpoint,
    choose_trackers,
    chosen_trackers,
    cost,
    course,
    evaluate,
    evaluate_windows,
    feed,
    learning_rates,
    measure,
    programs,
    schedule,
    trackers,
    train,
    train_branches,
    train_many,
)
from scaling.training.train.evaluate import parts, standard_error


@pytest.fixture(scope="module", autouse=True)
def short_chunks():
    """Chunks of two steps and checkpoints at every one, so that a short run has many of both."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schedule, "MOST_STEPS", 2)
        programs._programs.cache_clear()
        yield
    programs._programs.cache_clear()


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


def break_third_save(patch, error):
    """The third checkpoint ends in the middle with this error."""
    save, calls = checkpoint.save, []

    def broken(folder, step, kept):
        calls.append(folder)
        if len(calls) == 3:
            raise error
        save(folder, step, kept)

    patch.setattr(checkpoint, "save", broken)


def test_a_kill_while_writing_a_checkpoint_leaves_the_one_before(spec, corpus, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(course, "CHECKPOINT_SECONDS", 0.0)
    with monkeypatch.context() as patch:
        break_third_save(patch, SystemExit("killed"))
        with pytest.raises(SystemExit):
            train(spec, corpus, checkpoints=tmp_path)
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
    compiled = programs.programs(spec.shape, spec.recipe, feed.ids_of(corpus))
    params = compiled.fresh([0])["params"]
    odd = replace(spec, eval_tokens=16 * (programs.EVAL_BATCH_TOKENS // 16 // 64 + 7))
    loss, error = evaluate(params, odd, corpus)
    windows = corpus.evaluation(odd.eval_tokens, 16)
    one_by_one = [evaluate_windows(compiled, params, window[None], 16) for window in windows]
    np.testing.assert_allclose(loss, np.mean(one_by_one), rtol=1e-6)
    np.testing.assert_allclose(error, np.std(one_by_one, ddof=1) / len(windows) ** 0.5, rtol=1e-4)


def test_windows_of_one_document_are_no_evidence_apart():
    """Documents of 16 windows whose losses differ by N(0, 1): the error is that of 256 documents, not of 4,096 windows."""
    rng = np.random.default_rng(0)
    found = [standard_error(3 + np.repeat(rng.normal(size=256), 16) + 0.1 * rng.normal(size=4096)) for _ in range(50)]
    assert np.mean(found) == pytest.approx(1 / 16, rel=0.05)
    assert standard_error(np.array([3.0])) is None
    assert parts(np.arange(5.0)).tolist() == [0, 1, 2, 3, 4]


def test_one_held_out_window_gives_a_loss_without_an_error(spec, corpus):
    run = train(replace(spec, eval_tokens=spec.shape.context), corpus)
    assert run.status == "done"
    assert run.loss_se is None
    assert run.loss_parts == [pytest.approx(run.loss, rel=1e-6)]
    json.loads(to_json(asdict(run)))


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), ValueError("A store: No space left on device.")]
)
def test_a_full_disk_ends_the_run_and_leaves_the_checkpoint_before(error, spec, corpus, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(course, "CHECKPOINT_SECONDS", 0.0)
    import orbax.checkpoint as ocp

    with monkeypatch.context() as patch:
        written = ocp.StandardCheckpointer.wait_until_finished

        def full(self):
            written(self)
            if list((tmp_path / spec.id).glob("6*")):
                raise error

        patch.setattr(ocp.StandardCheckpointer, "wait_until_finished", full)
        with pytest.raises(OSError, match="No space left") as raised:
            train(spec, corpus, checkpoints=tmp_path)
        assert raised.value.errno == 28
    assert checkpoint.last_step(tmp_path / spec.id) == 4
    assert train(spec, corpus, checkpoints=tmp_path).loss == whole.loss


def test_a_spike_ends_the_run_with_its_last_good_step(spec, corpus):
    run = course.Course([replace(spec, tokens=64 * 1000)], corpus)
    falling = np.linspace(5, 2, 400, dtype=np.float32)
    run.losses = np.concatenate([falling, falling[::-1][:200] + 1.5])[None]
    assert "the loss rose from" in run.fault(0)
    assert "after step 448 of 1000, the last good one" in run.fault(0)
    run.losses = (falling + np.sin(np.arange(400)))[None]
    assert run.fault(0) is None


def test_a_spike_at_the_end_or_in_a_short_run_is_one_and_a_strange_window_is_none(spec, corpus):
    long = course.Course([replace(spec, tokens=64 * 1000)], corpus)
    long.losses = np.linspace(5, 2, 1000, dtype=np.float32)[None]
    long.losses[0, [300, 303, 700]] = 15
    assert long.fault(0) is None
    long.losses[0, 970:] = 5.5
    assert "the loss rose from 2" in long.fault(0)
    short = course.Course([replace(spec, tokens=64 * 100)], corpus)
    short.losses = np.concatenate([np.linspace(5, 2, 80), np.full(20, 4.5)]).astype(np.float32)[None]
    assert "the loss rose from" in short.fault(0)
    short.losses = np.linspace(5, 2, 100, dtype=np.float32)[None]
    short.losses[0, 60] = 15
    assert short.fault(0) is None


def test_a_diverged_run_keeps_no_checkpoint_and_its_curve_has_its_last_chunk(spec, corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(course, "CHECKPOINT_SECONDS", 0.0)
    wild = replace(
        spec, tokens=64 * 40, recipe=replace(spec.recipe, learning_rate=1e20, warmup_tokens=64 * 10, clip=1e30)
    )
    seen = []
    run = train(wild, corpus, checkpoints=tmp_path, watch=seen.append)
    assert run.status == "failed"
    assert not list(tmp_path.glob("*"))
    assert seen[-1].step >= int(run.reason.split("after step ")[1].split()[0])


def test_memory_that_runs_out_in_compiling_or_evaluation_is_said_too(spec, corpus, monkeypatch):
    def full(*_, **__):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes")

    run = course.Course([spec], corpus)
    run.advance(spec.steps)
    with monkeypatch.context() as patch:
        patch.setattr(course.evaluation, "evaluate_windows", full)
        with pytest.raises(OutOfMemory, match="out of memory: N ="):
            run.records()
    monkeypatch.setattr(course.compiled, "programs", full)
    with pytest.raises(OutOfMemory, match="out of memory: N ="):
        course.Course([spec], corpus)


def test_advice_on_memory_names_only_what_fits(spec, monkeypatch):
    """4e8 parameters take 6.5 GB before any token: no batch helps on 5 GB, and on 16 GB a small one does."""
    large = replace(spec, shape=Shape(depth=24, width=1152, heads=18, vocab=256, context=1024), tokens=2**24)
    large = replace(large, recipe=replace(spec.recipe, batch_tokens=3 * 1024))
    monkeypatch.setattr(cost, "memory_bytes", lambda: 5e9)
    assert "batch_tokens" not in str(cost.out_of_memory(large))
    assert "devices" in str(cost.out_of_memory(large))
    monkeypatch.setattr(cost, "memory_bytes", lambda: 16e9)
    said = str(cost.out_of_memory(large))
    assert "batch_tokens = 1,024" in said
    assert "remat = true" in said
    assert "4 runs at once instead of 8" in str(cost.out_of_memory(large, runs=8))


def test_a_disk_that_cannot_be_read_just_now_is_no_damaged_checkpoint(spec, corpus, tmp_path, monkeypatch):
    import orbax.checkpoint as ocp

    monkeypatch.setattr(course, "CHECKPOINT_SECONDS", 0.0)
    with pytest.raises(Interrupted):
        train(spec, corpus, checkpoints=tmp_path, stopping=lambda: True)
    for error, kind in (
        (OSError(116, "Stale file handle"), OSError),
        (ValueError("RESOURCE_EXHAUSTED: Out of memory"), ValueError),
        (KeyError("x"), ValueError),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(ocp.StandardCheckpointer, "restore", lambda *_, error=error: (_ for _ in ()).throw(error))
            with pytest.raises(kind) as raised:
                train(spec, corpus, checkpoints=tmp_path)
        assert ("cannot be read" in str(raised.value)) == isinstance(error, KeyError)


def test_out_of_memory_says_what_would_fit(spec, corpus, monkeypatch):
    def full(*_):
        raise MemoryError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes")

    run = course.Course([spec], corpus)
    run.programs = replace(run.programs, advance=full)
    with pytest.raises(OutOfMemory, match=r"needs about .* GB a device .* batch_tokens = .*bfloat16"):
        run.advance(4)


def test_a_device_that_vanishes_is_said_and_the_run_goes_on_from_its_checkpoint(
    spec, corpus, whole, tmp_path, monkeypatch
):
    monkeypatch.setattr(course, "CHECKPOINT_SECONDS", 0.0)
    run, calls = course.Course([spec], corpus, kept=tmp_path / spec.id), []
    advance = run.programs.advance

    def lost(*given):
        calls.append(given)
        if len(calls) == 3:
            raise jax.errors.JaxRuntimeError("INTERNAL: CUDA_ERROR_ECC_UNCORRECTABLE: the device\nis gone")
        return advance(*given)

    run.programs = replace(run.programs, advance=lost)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    with pytest.raises(
        DeviceLost, match="the device failed at step 4: INTERNAL: CUDA_ERROR_ECC_UNCORRECTABLE: the device is"
    ):
        run.advance(spec.steps)
    monkeypatch.undo()
    assert train(spec, corpus, checkpoints=tmp_path).loss == whole.loss


@pytest.mark.slow
def test_experts_learn_evenly_and_their_counts_are_recorded(spec, corpus):
    """400 steps of 8 experts, 2 a token: the loss falls far, no expert idles, and N is apart from what a token meets of it."""
    shape = Shape(2, 32, 2, context=16, experts=8, experts_per_token=2)
    recipe = Recipe(learning_rate=1e-2, batch_tokens=512, warmup_tokens=512 * 20)
    run = course.Course([replace(spec, shape=shape, recipe=recipe, tokens=512 * 400)], corpus)
    run.advance(400)
    (record,) = run.records()
    assert (record.N, record.N_active) == (shape.N, shape.N_active)
    assert shape.N - shape.N_active == 2 * 6 * 2 * 4 * 32 * 32
    early, late = run.losses[0, :20].mean(), run.losses[0, -20:].mean()
    assert late < early - 1
    assert record.loss == pytest.approx(late, abs=0.2)
    tokens = corpus.evaluation(512, 16)[:, :-1]
    balance = model.logits_and_balance(run.state["params"], np.asarray(tokens, np.int32), shape)[1]
    assert 0.98 < float(balance) < 1.2


@pytest.fixture(scope="module")
def siblings(spec):
    """Three wsd runs of one trunk: warm-up of 3 steps, a fifth of the steps decayed, chunks of 2."""
    recipe = replace(spec.recipe, schedule="wsd")
    return [replace(spec, recipe=recipe, tokens=64 * steps) for steps in (9, 15, 25)]


@pytest.fixture(scope="module")
def alone(siblings, corpus):
    """The same runs, each trained by itself."""
    return [train(spec, corpus) for spec in siblings]


def test_schedules_fall_as_they_say(spec):
    long = replace(spec, tokens=64 * 1000)
    rates = {
        name: learning_rates(replace(long, recipe=replace(long.recipe, schedule=name)))
        for name in ("wsd", "cosine", "constant")
    }
    assert rates["constant"][3:] == pytest.approx(1e-2)
    assert rates["wsd"][3:800] == pytest.approx(1e-2)
    assert rates["wsd"][850] == pytest.approx(1e-2 * (1 - np.sqrt(50.5 / 200)), rel=1e-5)
    assert 0 < rates["wsd"][-1] < 1e-4
    assert rates["cosine"][501] == pytest.approx(1e-2 * 0.55, rel=1e-2)
    assert rates["cosine"][-1] == pytest.approx(1e-3, rel=1e-2)


def test_branches_have_the_losses_of_runs_alone_and_cost_the_closed_form(siblings, corpus, alone):
    seen = []
    runs = train_branches(siblings, corpus, done=seen.append)
    assert [(run.loss, run.curve) for run in runs] == [(run.loss, run.curve) for run in alone]
    assert seen == runs
    assert {run.trunk for run in runs} == {siblings[0].trunk}
    a_step = siblings[0].shape.flops_per_token * 64
    assert [run.flops_spent // a_step for run in runs] == [9, 5 + 3, 8 + 5]
    assert [run.flops_spent for run in alone] == [spec.C for spec in siblings]


@pytest.mark.parametrize("stop_after", [2, 4, 6, 10])
def test_a_trunk_that_is_killed_goes_on_to_the_same_bits(siblings, corpus, alone, tmp_path, monkeypatch, stop_after):
    """Killed at any chunk, of the trunk or a branch, with what was kept when; records that `done` saw are not trained again."""
    monkeypatch.setattr(course, "CHECKPOINT_SECONDS", 0.0 if stop_after % 4 else 60.0)
    seen, records = [], {}

    def kill(progress):
        seen.append(progress)
        if len(seen) == stop_after:
            raise SystemExit("killed")

    done = lambda run: records.setdefault(run.id, run)  # noqa: E731
    with pytest.raises(SystemExit):
        train_branches(siblings, corpus, checkpoints=tmp_path, watch=kill, done=done)
    left = [spec for spec in siblings if spec.id not in records]
    train_branches(left, corpus, checkpoints=tmp_path, done=done)
    assert [records[spec.id].loss for spec in siblings] == [run.loss for run in alone]
    assert not list(tmp_path.glob("*"))


def test_a_trunk_that_is_asked_to_stop_keeps_its_place(siblings, corpus, alone, tmp_path):
    seen, records = [], {}
    stopping = lambda: len(seen) >= 6  # noqa: E731
    how = {"checkpoints": tmp_path, "done": lambda run: records.setdefault(run.id, run)}
    with pytest.raises(Interrupted):
        train_branches(siblings, corpus, watch=seen.append, stopping=stopping, **how)
    left = [spec for spec in siblings if spec.id not in records]
    resumed = []
    train_branches(left, corpus, watch=resumed.append, **how)
    assert [records[spec.id].loss for spec in siblings] == [run.loss for run in alone]
    a_step = siblings[0].shape.flops_per_token * 64
    assert sum(run.flops_spent for run in records.values()) // a_step == 25 + 2 + 3
    assert min(progress.step for progress in resumed) > 6


def test_branches_need_a_trunk_in_common(spec, siblings, corpus):
    with pytest.raises(ValueError, match="differ in their tokens alone"):
        train_branches([spec, siblings[0]], corpus)


@pytest.mark.parametrize("how", ["map", "vmap"])
def test_a_pack_has_the_losses_of_one_by_one(spec, corpus, whole, how):
    pack = [spec, replace(spec, seed=1, recipe=replace(spec.recipe, learning_rate=3e-3))]
    runs = train_many(pack, corpus, how=how)
    ones = [whole, *(train(each, corpus) for each in pack[1:])]
    assert [run.id for run in runs] == [each.id for each in pack]
    np.testing.assert_allclose([run.loss for run in runs], [run.loss for run in ones], atol=1e-5)
    np.testing.assert_allclose([run.loss_se for run in runs], [run.loss_se for run in ones], atol=1e-5)
    assert {run.packed for run in runs} == {2}


@pytest.mark.slow
@pytest.mark.parametrize("how", ["map", "vmap"])
def test_64_packed_have_the_losses_of_one_by_one(spec, corpus, how):
    rates = np.geomspace(1e-3, 2e-2, 8)
    pack = [
        replace(spec, seed=seed, tokens=64 * 100, recipe=replace(spec.recipe, learning_rate=float(rate)))
        for seed in range(8)
        for rate in rates
    ]
    losses = [run.loss for run in train_many(pack, corpus, how=how)]
    np.testing.assert_allclose(losses, [train(each, corpus).loss for each in pack], atol=1e-5)


def test_speed_is_measured_from_the_end_of_the_first_step(spec, corpus, monkeypatch):
    """A device that still computes it would be charged for it in what is timed."""
    done, wait, clock = [], jax.block_until_ready, time.perf_counter
    monkeypatch.setattr(jax, "block_until_ready", lambda state: done.append("waited") or wait(state))
    monkeypatch.setattr(time, "perf_counter", lambda: done.append("clock") or clock())
    measure(spec, corpus, seconds=0.0)
    assert done[done.index("waited") :][:2] == ["waited", "clock"]


def test_a_pack_goes_on_where_it_was_stopped_and_fails_alone(spec, corpus, whole, tmp_path):
    pack = [spec, replace(spec, recipe=replace(spec.recipe, learning_rate=1e30))]
    seen = []
    with pytest.raises(Interrupted):
        train_many(pack, corpus, checkpoints=tmp_path, watch=seen.append, stopping=lambda: len(seen) >= 4)
    runs = train_many(pack, corpus, checkpoints=tmp_path)
    assert [run.status for run in runs] == ["done", "failed"]
    assert runs[0].loss == pytest.approx(whole.loss, abs=1e-5)
    assert "not a number after step" in runs[1].reason
    assert not list(tmp_path.glob("*"))


def test_a_pack_that_does_not_fit_is_halved(spec, corpus, monkeypatch):
    advance, sizes = course.Course.advance, []

    def small(self, until):
        sizes.append(len(self.specs))
        if len(self.specs) > 1:
            raise cost.out_of_memory(self.specs[0], len(self.specs))
        advance(self, until)

    monkeypatch.setattr(course.Course, "advance", small)
    pack = [replace(spec, seed=seed) for seed in range(2)]
    assert [run.id for run in train_many(pack, corpus)] == [each.id for each in pack]
    assert sizes == [2, 1, 1]


def test_ids_on_the_device_and_in_windows_give_the_same_bits(spec, corpus, whole, monkeypatch):
    assert feed.ids_of(corpus).resident == corpus.train.size
    monkeypatch.setattr(feed, "RESIDENT_BYTES", 0)
    assert feed.ids_of(corpus).resident == 0
    assert train(spec, corpus).loss == whole.loss


def test_what_a_run_cost_is_in_its_record(spec, whole):
    assert whole.flops_spent == spec.C
    assert whole.flops_per_second == pytest.approx(spec.C / whole.seconds)
    assert whole.peak_memory_bytes > 2**26
    assert whole.energy_kwh > 0
    assert whole.energy_how.startswith(("measured", "estimated"))
    assert whole.share_of_peak is None  # nobody publishes a processor's


def test_the_curve_is_kept_as_json_lines_and_goes_on_where_the_run_does(spec, corpus, tmp_path):
    seen = []

    def following():
        lines = chosen_trackers(tmp_path)[0]
        return lambda progress: (seen.append(progress), lines.step(progress))

    with pytest.raises(Interrupted):
        train(spec, corpus, checkpoints=tmp_path / "kept", watch=following(), stopping=lambda: len(seen) >= 3)
    path = tmp_path / "curves" / f"{spec.id}.jsonl"
    with path.open("a") as file:  # a chunk after the checkpoint, and a line that a kill cut short
        file.write('{"step": 8, "loss": 9.0}\n{"step": 1')
    train(spec, corpus, checkpoints=tmp_path / "kept", watch=following())
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4, 6, 8, 10, 11]
    assert [line["loss"] for line in lines] == [pytest.approx(each.loss, abs=1e-5) for each in seen]


def test_a_tracker_that_fails_stops_and_the_run_goes_on(spec, corpus, whole, capsys):
    calls = []

    class Broken:
        def step(self, progress):
            calls.append(progress)
            raise ConnectionError("no route to host")

        end = step

    guarded = trackers.Guarded("wandb", Broken())
    run = train(spec, corpus, watch=guarded.step)
    guarded.end(run)
    assert run.loss == whole.loss
    assert len(calls) == 1
    assert capsys.readouterr().err == "tracker wandb stopped (ConnectionError: no route to host); training goes on.\n"


def test_trackers_that_are_unknown_or_not_installed_are_refused(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="needed one of tensorboard, wandb"):
        choose_trackers(["mlflow"], tmp_path)
    monkeypatch.setitem(trackers.TRACKERS, "wandb", "no_such_package")
    with pytest.raises(ValueError, match=r"isoflop\[wandb\]"):
        choose_trackers(["wandb"], tmp_path)


def test_tensorboard_gets_the_curve(spec, corpus, tmp_path):
    pytest.importorskip("tensorboardX")
    choose_trackers(["tensorboard"], tmp_path)
    both = chosen_trackers(tmp_path)
    run = train(spec, corpus, watch=lambda progress: [tracker.step(progress) for tracker in both])
    for tracker in both:
        tracker.end(run)
    (events,) = (tmp_path / "tensorboard" / spec.id).iterdir()
    assert b"heldout_loss" in events.read_bytes()
