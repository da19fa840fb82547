"""A worker of several processes: the first alone claims and writes, all train; begun by hand, and as tasks of one Slurm job."""

import os
import socket
import subprocess
import sys

import jax
import pytest

from scaling.grid import Grid
from scaling.runs import Run, record_paths
from scaling.training import gang
from scaling.training import sweep as sweeps
from scaling.training.executors import Local, Slurm
from scaling.training.gang import Gang, launched
from scaling.training.train import devices


@pytest.fixture(scope="module")
def grid(text_folder) -> Grid:
    """A trunk of two branches and its batch of four windows, which two processes share."""
    table = {
        "corpus": str(text_folder),
        "budgets": [1e8, 2e8],
        "sizes": [{"depth": 1, "width": 8}],
        "context": 16,
        "schedule": "wsd",
        "eval_tokens": 512,
        "recipe": {"batch_tokens": 64, "learning_rate": 1e-2, "warmup_tokens": 640},
    }
    return Grid.of(table, name="together")


@pytest.fixture(scope="module")
def alone(grid, tmp_path_factory) -> dict[str, float]:
    """The losses of one process."""
    plan = sweeps.sweep(grid, tmp_path_factory.mktemp("alone") / "runs", Local(1))
    return {id: run.loss for id, run in plan.records.items()}


def losses(folder) -> dict[str, float]:
    return {path.stem: Run.read(path).loss for path in record_paths(folder)}


def test_two_hosts_train_each_run_together(grid, alone, tmp_path):
    """The same command on two hosts, here one: every record says two devices, and nothing is left behind."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    (tmp_path / "grid.toml").write_text(grid.toml())
    command = [sys.executable, "-m", "scaling", "sweep", str(tmp_path / "grid.toml"), "--out", str(tmp_path / "runs")]
    said = {"JAX_COORDINATOR_ADDRESS": f"localhost:{port}", "JAX_NUM_PROCESSES": "2"}
    both = [
        subprocess.Popen(
            command,
            env={**os.environ, **said, "JAX_PROCESS_ID": str(number)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    for each in both:
        _, complaint = each.communicate(timeout=240)
        assert each.returncode == 0, complaint
    assert losses(tmp_path / "runs") == pytest.approx(alone, abs=2e-4)
    assert {Run.read(path).devices for path in record_paths(tmp_path / "runs")} == {2}
    state = tmp_path / "runs" / ".sweep"
    assert [*state.glob("claims/*"), *state.glob("failures/*"), *state.glob("queue-*")] == []


@pytest.mark.slow
def test_the_tasks_of_a_slurm_job_train_each_run_together(grid, alone, tmp_path):
    pytest.importorskip("submitit")
    slurm = Slurm(devices=1, cluster="local", options={"timeout_min": 10, "tasks_per_node": 2})
    plan = sweeps.sweep(grid, tmp_path / "runs", slurm)
    assert {id: run.loss for id, run in plan.records.items()} == pytest.approx(alone, abs=2e-4)
    assert {run.devices for run in plan.records.values()} == {2}


@pytest.mark.slow
def test_a_batch_that_two_processes_cannot_share_is_computed_by_each(grid, tmp_path):
    pytest.importorskip("submitit")
    odd = Grid.of({**_table(grid), "recipe": {"batch_tokens": 48, "learning_rate": 1e-2}}, name="odd")
    slurm = Slurm(devices=1, cluster="local", options={"timeout_min": 10, "tasks_per_node": 2})
    plan = sweeps.sweep(odd, tmp_path / "together", slurm)
    alone = sweeps.sweep(odd, tmp_path / "alone", Local(1))
    assert {id: run.loss for id, run in plan.records.items()} == pytest.approx(
        {id: run.loss for id, run in alone.records.items()}, abs=2e-4
    )
    assert {flag for run in plan.records.values() for flag in run.flags} >= {
        "each of 2 devices computed the whole batch, which is 3 windows"
    }


def _table(grid: Grid) -> dict:
    return {
        "corpus": grid.corpus, "budgets": [1e8], "sizes": [{"depth": 1, "width": 8}], "context": 16, "eval_tokens": 512,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("variables", "many"),
    [
        ({}, False),
        ({"JAX_NUM_PROCESSES": "1"}, False),
        ({"JAX_NUM_PROCESSES": "4"}, True),
        ({"TPU_WORKER_HOSTNAMES": "one"}, False),
        ({"TPU_WORKER_HOSTNAMES": "one,two"}, True),
        ({"SLURM_STEP_NUM_TASKS": "4", "SLURM_NTASKS": "4"}, True),
        ({"SLURM_STEP_NUM_TASKS": "4", "JAX_NUM_PROCESSES": "1"}, False),  # four drivers, each with cells of its own
        ({"SLURM_STEP_NUM_TASKS": "1", "SLURM_NTASKS": "1"}, False),
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_JOB_ID": "7"}, False),  # a batch script runs once
        ({"OMPI_COMM_WORLD_SIZE": "2"}, True),
        ({"TPU_PROCESS_ADDRESSES": "one:1,two:1"}, True),
        ({"MEGASCALE_NUM_SLICES": "2"}, True),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "1"}, True),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, False),
    ],
)
def test_where_a_sweep_is_one_of_several_hosts(variables, many, monkeypatch):
    for name in ("JAX_NUM_PROCESSES", "KUBERNETES_SERVICE_HOST", "JOB_COMPLETION_INDEX", *gang.COUNTS, *gang.HOSTS):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(gang, "find_spec", lambda name: name == "kubernetes")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert launched() is many
    assert Local().slots() == 1 if many else Local(2).slots() == 2
    begun = []
    monkeypatch.setattr(jax.distributed, "is_initialized", lambda: False)
    monkeypatch.setattr(jax.distributed, "initialize", lambda **said: begun.append(said))
    devices.join()
    assert len(begun) == many


def test_one_process_is_a_gang_of_its_own():
    alone = Gang()
    assert alone.any(True)
    assert not alone.any(False)
    assert alone.told(None) is None
