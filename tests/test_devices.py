"""More than one device: the same spec gives the same loss within rounding on 1 and on 8, and in two processes."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import asdict

import pytest

from scaling.grid import RunSpec
from scaling.recipe import Recipe
from scaling.shape import Shape
from scaling.training.train import train

PROGRAM = """
import json, sys
import jax
from pathlib import Path
from scaling.training.train import devices
devices.join()
from scaling.grid import RunSpec
from scaling.training.corpus import Corpus
from scaling.training.train import Interrupted, course, schedule, train
devices.SPLIT_SIZE, schedule.MOST_STEPS = 256, 4
told = json.loads(sys.argv[1])
spec, corpus = RunSpec.from_json(told["spec"]), Corpus.load(Path(told["corpus"]))
if told["checkpoints"]:
    seen = []
    try:
        train(spec, corpus, checkpoints=Path(told["checkpoints"]), watch=seen.append, stopping=lambda: bool(seen))
    except Interrupted:
        pass
seen = []
run = train(spec, corpus, checkpoints=Path(told["checkpoints"]) if told["checkpoints"] else None, watch=seen.append)
begun = course.Course([spec], corpus)
split = [leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(begun.state)]
if devices.is_first():
    print(json.dumps({"loss": run.loss, "devices": run.devices, "split": split.count(False), "first": seen[0].step}))
"""


@pytest.fixture(scope="module")
def spec(corpus):
    recipe = Recipe(learning_rate=1e-2, batch_tokens=16 * 16, warmup_tokens=256 * 10)
    return RunSpec(Shape(1, 16, 1, context=16), recipe, corpus.name, corpus.digest, 256 * 30, eval_tokens=512)


def start(spec, corpus, devices, checkpoints=None, **environment):
    told = {"spec": asdict(spec), "corpus": str(corpus.folder), "checkpoints": checkpoints and str(checkpoints)}
    flags = f"--xla_force_host_platform_device_count={devices}"
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, json.dumps(told)],
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def answer(process):
    out, error = process.communicate(timeout=300)
    assert process.returncode == 0, error[-2000:]
    said = [line for line in out.splitlines() if line.startswith("{")]  # gloo prints too
    return json.loads(said[-1]) if said else None


@pytest.mark.slow
def test_eight_devices_give_the_loss_of_one(spec, corpus):
    said = answer(start(spec, corpus, 8))
    assert said["devices"] == 8
    assert said["split"] > 0
    assert said["loss"] == pytest.approx(train(spec, corpus).loss, abs=2e-4)


@pytest.mark.slow
def test_two_processes_give_the_loss_of_one_and_go_on_after_a_stop(spec, corpus, tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    launched = {"JAX_COORDINATOR_ADDRESS": f"localhost:{port}", "JAX_NUM_PROCESSES": "2"}
    both = [start(spec, corpus, 4, tmp_path, **launched, JAX_PROCESS_ID=str(number)) for number in range(2)]
    said = [answer(process) for process in both]
    assert said[1] is None
    assert said[0]["devices"] == 8
    assert said[0]["first"] == 8
    assert said[0]["loss"] == pytest.approx(train(spec, corpus).loss, abs=2e-4)
    assert not list(tmp_path.glob("*"))


def test_a_batch_that_devices_do_not_divide_is_refused_where_there_are_several_machines(monkeypatch):
    from scaling.training.train import devices

    monkeypatch.setattr(devices.jax, "process_count", lambda: 2)
    monkeypatch.setattr(devices.jax, "devices", lambda: [None] * 8)
    with pytest.raises(ValueError, match="12 windows cannot be split over 8 devices"):
        devices.mesh_for(12)
