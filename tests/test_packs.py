"""Packs on an accelerator, as far as a processor can stand in for one: which way is faster, and how many memory holds."""

import errno
from dataclasses import replace

import jax
import pytest

from scaling.grid import RunSpec
from scaling.recipe import Recipe
from scaling.shape import Shape
from scaling.training.executors import Local, local
from scaling.training.train import Interrupted, OutOfMemory, Progress, checkpoint, many, train_many
from scaling.training.train.course import Course


@pytest.fixture
def pack(corpus):
    recipe = Recipe(learning_rate=1e-2, batch_tokens=64, warmup_tokens=64 * 2)
    spec = RunSpec(Shape(1, 8, 1, context=16), recipe, corpus.name, corpus.digest, 64 * 8, eval_tokens=512)
    return [replace(spec, seed=seed) for seed in range(2)]


@pytest.fixture
def accelerator(monkeypatch, tmp_path):
    """An accelerator, as the choice of a way sees it, and nothing measured yet."""
    monkeypatch.setenv("SCALING_CACHE", str(tmp_path))
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")


def test_a_pack_is_trained_in_the_way_that_was_measured_faster(pack, corpus, accelerator, monkeypatch):
    """Measured once for a device, a shape and a number of runs, and kept."""
    seconds, measured = {"vmap": 2.0, "map": 1.0}, []
    monkeypatch.setattr(many, "chunk_seconds", lambda *given: measured.append(given[2:]) or seconds[given[3]])
    assert many.faster(pack[0], corpus, 2) == "map"
    assert many.faster(pack[1], corpus, 2) == "map"
    assert measured == [(2, "vmap"), (2, "map")]
    seconds["map"] = 3.0
    assert many.faster(pack[0], corpus, 3) == "vmap"


def test_a_pack_that_does_not_fit_while_it_is_measured_is_halved(pack, corpus, accelerator, monkeypatch):
    def full(*_: object) -> float:
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 1 bytes.")

    monkeypatch.setattr(many, "chunk_seconds", full)
    runs = train_many(pack, corpus)
    assert [(run.id, run.packed) for run in runs] == [(spec.id, 1) for spec in pack]


def test_what_a_split_pack_has_finished_is_not_trained_again(pack, corpus, tmp_path, monkeypatch):
    """A pack of four in two parts, stopped in the second: the first is not begun again."""
    four = [replace(pack[0], seed=seed) for seed in range(4)]
    monkeypatch.setattr(many.cost, "memory_bytes", lambda: 2.5 / many.MEMORY_SHARE * pack[0].training_bytes)
    begun, trained = [], {}
    plain = many._train_pack
    monkeypatch.setattr(many, "_train_pack", lambda specs, *a, **k: begun.append(len(specs)) or plain(specs, *a, **k))

    def stop(_: object) -> None:
        if trained:
            raise Interrupted

    with pytest.raises(Interrupted):
        train_many(four, corpus, checkpoints=tmp_path, done=lambda run: trained.update({run.id: run}), watch=stop)
    assert begun == [2, 2]
    runs = train_many(four, corpus, checkpoints=tmp_path, trained=trained)
    assert begun == [2, 2, 2]
    assert [run.id for run in runs] == [spec.id for spec in four[2:]]
    assert train_many(four, corpus, trained={spec.id for spec in four}) == []


def test_a_pack_keeps_its_last_state_before_it_has_records(pack, corpus, tmp_path, monkeypatch):
    """A disk that is full then leaves the runs without records, so that the same command makes the state."""
    recorded = []

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", full)
        with pytest.raises(OSError, match="No space left"):
            train_many(pack, corpus, checkpoints=tmp_path, keep=True, done=recorded.append)
    assert recorded == []
    runs = train_many(pack, corpus, checkpoints=tmp_path, keep=True, done=recorded.append)
    assert recorded == runs
    (folder,) = tmp_path.iterdir()
    assert checkpoint.last_step(folder) == pack[0].steps


def test_a_pack_that_diverged_whole_keeps_no_state(pack, corpus, tmp_path, monkeypatch):
    """As a lone run that did."""
    monkeypatch.setattr(Course, "fault", lambda course, run: "the loss rose")
    runs = train_many(pack, corpus, checkpoints=tmp_path, keep=True)
    assert [run.status for run in runs] == ["failed", "failed"]
    assert list(tmp_path.iterdir()) == []


def test_a_pack_that_is_halved_leaves_no_state_behind(pack, corpus, tmp_path):
    kept = []

    def full_at_first(progress: Progress) -> None:
        if not kept:
            kept.extend(tmp_path.iterdir())
            raise OutOfMemory("it does not fit")

    runs = train_many(pack, corpus, checkpoints=tmp_path, watch=full_at_first)
    assert [run.status for run in runs] == ["done", "done"]
    assert len(kept) == 1
    assert list(tmp_path.iterdir()) == []


def test_other_failures_of_a_pack_are_not_taken_for_memory(pack, corpus, accelerator, monkeypatch):
    def broken(*_: object) -> float:
        raise jax.errors.JaxRuntimeError("INTERNAL: the device has fallen off the bus")

    monkeypatch.setattr(many, "chunk_seconds", broken)
    with pytest.raises(jax.errors.JaxRuntimeError, match="bus"):
        train_many(pack, corpus)


def test_packs_are_estimated_by_the_memory_of_the_smallest_gpu(monkeypatch, tmp_path):
    """What nvidia-smi says; nothing is packed where it says nothing, on a processor, or over several hosts."""
    monkeypatch.setattr(local, "accelerated", lambda: True)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert Local().pack_bytes == 0
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho 81559\necho 40960\n")
    smi.chmod(0o755)
    assert Local().pack_bytes == 40960 * 2**20
    monkeypatch.setenv("JAX_NUM_PROCESSES", "2")
    assert Local().pack_bytes == 0
    monkeypatch.delenv("JAX_NUM_PROCESSES")
    monkeypatch.setattr(local, "accelerated", lambda: False)
    assert Local().pack_bytes == 0


def gpus_of(engine: Local) -> list[str | None]:
    """The GPUs of an engine's places."""
    return [place.gpu for place in engine._places]


def test_gpus_are_named_as_cuda_names_them(monkeypatch, tmp_path):
    """By nvidia-smi's ids; else from 0, whatever number the machine has given them; none where the user hides them."""
    monkeypatch.setattr(local, "find_spec", lambda name: name == "jax_cuda13_plugin")
    monkeypatch.setattr(local, "DEVICES", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("CUDA_VISIBLE_DEVICES", "JAX_PLATFORMS"):
        monkeypatch.delenv(name, raising=False)
    assert gpus_of(Local()) == [None]
    for name in ("nvidia3", "nvidia5", "nvidiactl"):
        (tmp_path / name).touch()
    assert gpus_of(Local()) == ["0", "1"]
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho GPU-aa\necho GPU-bb\n")
    smi.chmod(0o755)
    assert gpus_of(Local()) == ["GPU-aa", "GPU-bb"]
    assert gpus_of(Local(3)) == ["GPU-aa", "GPU-bb", "GPU-aa"]
    smi.write_text("#!/bin/sh\necho Failed to initialize NVML\nexit 9\n")
    assert gpus_of(Local()) == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-cc")
    assert gpus_of(Local()) == ["4", "GPU-cc"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpus_of(Local()) == [None] * len(local.usable_cores())
    assert not local.accelerated()
