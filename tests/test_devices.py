"""More than one device: the same spec gives the same loss within rounding on 1 and on 8, and in two processes."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import asdict
from types import SimpleNamespace

import jax
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
    return on_devices(PROGRAM, told, devices, **environment)


def on_devices(program, told, devices, **environment):
    flags = f"--xla_force_host_platform_device_count={devices}"
    return subprocess.Popen(
        [sys.executable, "-c", program, json.dumps(told)],
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


#: Two steps on 8 devices with the large matrices split, and on one.
LAID_OUT = """
import json, re, sys
import jax, numpy as np
from scaling.recipe import Recipe
from scaling.shape import Shape
from scaling.training import model
from scaling.training.train import devices, programs
from scaling.training.train.feed import Ids
from scaling.training.train.schedule import chunk_steps
model.MOST_UNROLLED, devices.SPLIT_SIZE = 1, 256
told = json.loads(sys.argv[1])
model.cross_entropy_in_pieces.__defaults__ = (told["most_logits"], None)
shape = Shape(told["depth"], 64, 4, context=16, vocab=64, **told["shape"])
recipe = Recipe(1e-2, 48 * 16, 0, remat=told["remat"])
made, compile = [], jax.stages.Lowered.compile
jax.stages.Lowered.compile = lambda *given: made.append(compile(*given)) or made[-1]
rng, S = np.random.default_rng(0), chunk_steps(shape, 48 * 16)
ids, starts = rng.integers(0, 64, 4096, np.uint8), rng.integers(0, 4000, (S, 48), np.int32)

def step(mesh):
    programs.devices.mesh_for = lambda rows: mesh
    of = programs.programs(shape, recipe, Ids("uint8", 4096))
    programs._programs.cache_clear()
    data = {"ids": ids, "starts": devices.place(starts, mesh and devices.split(mesh, 1, starts.shape[1]))}
    losses = of.advance(of.fresh([0]), data, np.full(S, 1e-2), 2)[1]
    return made[-3], np.asarray(losses)[:2].tolist()

(many, losses), (one, losses_one) = step(devices.mesh_for(48)), step(None)
shapes = re.findall(r"= \\w+\\[([\\d,]*)\\]\\S* dot\\(", many.as_text())
flops = [compiled.cost_analysis()["flops"] for compiled in (many, one)]
print(json.dumps({"dots": [list(map(int, each.split(","))) for each in shapes], "share": flops[0] / flops[1],
                  "losses": [losses, losses_one]}))
"""


@pytest.mark.parametrize(
    ("depth", "shape", "remat", "most_logits"),
    [
        (1, {}, False, 2**26),
        pytest.param(2, {"kv_heads": 2}, True, 2**26, marks=pytest.mark.slow),  # a loop over blocks
        pytest.param(1, {"tied": False, "mlp": "swiglu"}, False, 64 * 40, marks=pytest.mark.slow),  # logits in pieces
        pytest.param(2, {"experts": 4, "experts_per_token": 2}, True, 2**26, marks=pytest.mark.slow),
    ],
)
def test_tokens_stay_on_their_device_and_matrices_travel(depth, shape, remat, most_logits):
    """No product has the tokens or windows of the whole batch, and each device does its part of the arithmetic."""
    told = {"depth": depth, "shape": shape, "remat": remat, "most_logits": most_logits}
    said = answer(on_devices(LAID_OUT, told, 8))
    whole = {48, 48 * 16, 48 * 16 * shape.get("experts_per_token", 1)}
    assert said["dots"]
    assert not [dot for dot in said["dots"] if whole & set(dot)]
    assert said["share"] < 1.1 / 8
    assert said["losses"][0] == pytest.approx(said["losses"][1], abs=1e-5)


def test_a_batch_that_the_devices_of_several_machines_do_not_divide_is_copied_to_each(monkeypatch):
    from scaling.training.train import devices

    monkeypatch.setattr(devices.jax, "devices", lambda: jax.local_devices() * 8)
    monkeypatch.setattr(devices, "Mesh", lambda found, names: SimpleNamespace(size=len(found)))
    assert devices.mesh_for(12).size == 6
    assert devices.mesh_for(1) is None
    monkeypatch.setattr(devices.jax, "process_count", lambda: 2)
    assert devices.mesh_for(12).size == devices.mesh_for(1).size == 8
