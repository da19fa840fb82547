"""The folder of runs as the only contract: claims, dead workers, several drivers, Ray and Slurm."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from slurm import install

from scaling.cli import main
from scaling.cli.sweep import executor_of
from scaling.grid import Grid
from scaling.runs import Run, record_paths
from scaling.training import sweep as sweeps
from scaling.training.executors import Local, Slurm
from scaling.training.executors.engine import worker_environment
from scaling.training.state import TRIES, Claims, Failures, Held, Lost, gone, process
from scaling.training.worker import Queue


@pytest.fixture(scope="module")
def grid(text_folder) -> Grid:
    """Two trunks of three branches, a second each."""
    table = {
        "corpus": str(text_folder),
        "budgets": [1e8, 3e8, 9e8],
        "sizes": [{"depth": 1, "width": 8}, {"depth": 1, "width": 16}],
        "context": 16,
        "schedule": "wsd",
        "eval_tokens": 512,
        "epochs": 1000,
    }
    return Grid.of(table, name="tiny")


def elsewhere(claims: Claims, lock: str) -> None:
    """Let a claim look as if a process on another machine had written it."""
    path = claims.all()[lock].path
    said = json.loads(path.read_text())
    path.write_text(json.dumps({**said, "process": {**said["process"], "machine": "another"}}))


def test_only_one_of_many_gets_a_claim(tmp_path):
    claims = Claims(tmp_path)
    first = claims.take(["a", "b"], "one")
    assert first
    assert Claims(tmp_path).take(["b", "c"], "two") is None
    assert "c" not in Claims(tmp_path).all()  # nothing, where not all
    first.release()
    assert Claims(tmp_path).take(["b", "c"], "two")


def test_a_claim_expires_on_the_watchers_clock_whatever_the_owners_says(tmp_path):
    """A minute without a heartbeat on the watcher's own clock; the times that files carry are never looked at."""
    now = [0.0]
    owner = Claims(tmp_path).take(["a"], "one")
    watcher = Claims(tmp_path, lease_seconds=60, clock=lambda: now[0])
    elsewhere(watcher, "a")
    os.utime(watcher.all()["a"].path, (1, 1))  # as by a clock that is 50 years behind
    assert "a" in watcher.live()
    now[0] = 59.0
    assert watcher.take(["a"], "two") is None
    owner.beat()
    elsewhere(watcher, "a")
    now[0] = 118.0
    assert "a" in watcher.live()
    now[0] = 179.0
    assert watcher.take(["a"], "two")
    with pytest.raises(Lost):
        owner.require()
    owner.release()  # takes nothing from the new owner
    assert watcher.all()["a"].worker == "two"


def test_a_process_that_is_gone_holds_nothing(tmp_path):
    code = f"from scaling.training.state import Claims; Claims({str(tmp_path)!r}).take(['a'], 'dead')"
    subprocess.run([sys.executable, "-c", code], check=True)
    claims = Claims(tmp_path)
    assert claims.all()["a"].worker == "dead"
    assert claims.live() == {}
    assert claims.take(["a"], "heir").paths[0].name == "a.1"
    assert not gone(process())


def test_failures_are_counted_and_forgotten(tmp_path):
    failures = Failures(tmp_path)
    for number in range(TRIES):
        failures.add("task", f"reason {number}")
    assert failures.of("task") == ["reason 0", "reason 1", "reason 2"]
    failures.forget("task")
    assert failures.of("task") == []


def driver(grid: Grid, folder, processes: int = 1, env: dict[str, str] | None = None) -> subprocess.Popen:
    """A driver in a process group of its own."""
    (folder.parent / "grid.toml").write_text(grid.toml())
    command = [sys.executable, "-m", "scaling", "sweep", str(folder.parent / "grid.toml"), "--out", str(folder)]
    command = [*command, "--devices", str(processes)]
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True, env=env
    )


def losses(folder) -> dict[str, float]:
    return {path.stem: Run.read(path).loss for path in record_paths(folder)}


@pytest.fixture(scope="module")
def undisturbed(grid, tmp_path_factory) -> dict[str, float]:
    """The losses of a sweep that nobody disturbs."""
    folder = tmp_path_factory.mktemp("undisturbed") / "runs"
    sweeps.sweep(grid, folder, Local(1))
    return losses(folder)


def test_two_drivers_share_a_folder(grid, undisturbed, tmp_path):
    two = [driver(grid, tmp_path / "runs") for _ in range(2)]
    for each in two:
        _, complaint = each.communicate(timeout=240)
        assert each.returncode == 0, complaint
    assert losses(tmp_path / "runs") == undisturbed
    state = tmp_path / "runs" / ".sweep"
    assert [*state.glob("claims/*"), *state.glob("failures/*"), *state.glob("queue-*")] == []  # nothing is left behind


def first_claim(folder) -> Held:
    """The first claim that a worker of the folder holds: a run has begun, and not yet ended."""
    until = time.monotonic() + 120
    while time.monotonic() < until:
        for held in Claims(folder).live().values():
            return held
        time.sleep(0.01)
    raise AssertionError(f"{folder}: nobody has claimed anything")


def test_clocks_that_disagree_by_a_day_cost_nothing(grid, undisturbed, tmp_path):
    """Two drivers on one folder, one and its workers with the clock a day off: no lease is broken, no loss another."""
    (tmp_path / "sitecustomize.py").write_text("import time\nplain = time.time\ntime.time = lambda: plain() - 1e5\n")
    two = [driver(grid, tmp_path / "runs", env={**os.environ, **more}) for more in ({"PYTHONPATH": str(tmp_path)}, {})]
    for each in two:
        _, complaint = each.communicate(timeout=240)
        assert each.returncode == 0, complaint
    assert losses(tmp_path / "runs") == undisturbed


def workers_of(folder) -> set[int]:
    """The processes that hold claims."""
    return {held.said["process"]["pid"] for held in Claims(folder).live().values()}


@pytest.mark.slow
def test_kill_9_at_random_moments_loses_nothing(grid, undisturbed, tmp_path):
    """The driver and its workers are killed 20 times; every loss is the undisturbed one, to the bit, and written once."""
    folder, rng, written = tmp_path / "runs", random.Random(0), {}
    for _ in range(20):
        process = driver(grid, folder)
        until = time.monotonic() + rng.uniform(0.5, 6.0)
        while time.monotonic() < until and process.poll() is None:
            time.sleep(0.02)
        for pid in workers_of(folder):
            os.kill(pid, signal.SIGKILL)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        for path in record_paths(folder):
            assert written.setdefault(path.stem, path.stat().st_mtime_ns) == path.stat().st_mtime_ns
    last = driver(grid, folder)
    assert last.communicate(timeout=240)[0] is None
    assert last.returncode == 0
    assert losses(folder) == undisturbed
    assert all(written[id] == (folder / f"{id}.json").stat().st_mtime_ns for id in written)


def test_slurm_jobs_are_workers_on_the_folder(grid, undisturbed, tmp_path):
    """submitit's own local executor runs the jobs."""
    pytest.importorskip("submitit")
    plan = sweeps.sweep(grid, tmp_path / "runs", Slurm(devices=1, cluster="local", options={"timeout_min": 10}))
    assert {id: run.loss for id, run in plan.records.items()} == undisturbed


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Slurm's commands, for this machine."""
    pytest.importorskip("submitit")
    folder = install(tmp_path / "slurm")
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_NODELIST", "localhost")
    return folder


def test_the_script_that_sbatch_is_given_asks_for_what_was_asked_for(slurm, tmp_path):
    """An array of so many at once, put into the queue again, warned before its end; and the options."""
    (slurm / "srun").write_text("#!/bin/sh\n")  # the jobs do nothing
    options = {"mem_gb": 8, "timeout_min": 240, "gpus_per_node": 1, "slurm_partition": "gpu"}
    engine = executor_of("slurm:" + ",".join(f"{key}={value}" for key, value in options.items()), 2)
    engine.start_many(Queue(tmp_path / "runs" / ".sweep" / "queue.json", tmp_path, ()), 4)
    (script,) = slurm.glob("*.sbatch")
    lines = script.read_text().splitlines()
    wanted = ["array=0-3%2", "requeue", "signal=USR2@90", "open-mode=append", "job-name=scaling", "time=240"]
    wanted += ["gpus-per-node=1", "partition=gpu", "mem=8GB"]
    assert [f"#SBATCH --{each}" for each in wanted if f"#SBATCH --{each}" not in lines] == []
    assert f"{sys.executable} -u -m submitit.core._submit" in lines[-1]


def test_an_option_that_sbatch_does_not_know_is_named(slurm, tmp_path):
    engine = executor_of("slurm:slurm_partitoin=gpu", 2)
    with pytest.raises(ValueError, match=r"executor slurm: .*partitoin"):
        engine.start_many(Queue(tmp_path / "runs" / ".sweep" / "queue.json", tmp_path, ()), 1)


@pytest.mark.slow
def test_a_slurm_job_at_its_time_limit_goes_on_in_the_queue(grid, undisturbed, slurm, tmp_path):
    """The real script, with a step that is warned as Slurm warns it: state kept, job put into the queue again, nothing failed."""

    def warn() -> Path:
        """The step of the first job that trains something, warned."""
        group = os.getpgid(first_claim(tmp_path / "runs").said["process"]["pid"])
        (step,) = [step for step in slurm.glob("*.step") if step.read_text() == str(group)]
        os.killpg(group, signal.SIGUSR2)
        return step

    options = {"timeout_min": 10, "slurm_signal_delay_s": 90}
    with ThreadPoolExecutor(1) as aside:
        warned = aside.submit(warn)
        plan = sweeps.sweep(grid, tmp_path / "runs", Slurm(devices=2, options=options, poll_seconds=0.05))
    assert {id: run.loss for id, run in plan.records.items()} == undisturbed
    assert warned.result().with_suffix(".requeued").exists()
    assert not list((tmp_path / "runs" / ".sweep").glob("failures/*"))


def test_the_slurm_job_goes_on_after_its_time_limit(grid, corpus, tmp_path):
    submitit = pytest.importorskip("submitit")
    from scaling.training.executors.remote import SlurmWork

    again = SlurmWork("queue.json", "name").checkpoint()
    assert isinstance(again, submitit.helpers.DelayedSubmission)
    assert (again.function.queue, again.function.name) == ("queue.json", "name")


@pytest.mark.slow
def test_ray_goes_on_when_a_worker_is_killed(grid, undisturbed, tmp_path):
    pytest.importorskip("ray")
    code = (
        "import sys\nfrom scaling.grid import Grid\nfrom scaling.training.executors import Ray\n"
        "from scaling.training.sweep import sweep\n"
        "plan = sweep(Grid.read(sys.argv[1]), sys.argv[2], Ray(devices=2))\n"
        "assert not plan.failed and len(plan.records) == 6, plan.failed\n"
    )
    (tmp_path / "grid.toml").write_text(grid.toml())
    command = [sys.executable, "-c", code, str(tmp_path / "grid.toml"), str(tmp_path / "runs")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as sweeping:
        os.kill(first_claim(tmp_path / "runs").said["process"]["pid"], signal.SIGKILL)
        _, complaint = sweeping.communicate(timeout=300)
    assert sweeping.returncode == 0, complaint
    assert losses(tmp_path / "runs") == undisturbed


@pytest.mark.parametrize(
    ("name", "says"),
    [("dask", "needed local, ray"), ("slurm:timeout_min", "needed slurm:KEY=VALUE"), ("local:x", "needed local, ray")],
)
def test_an_unknown_executor_is_named(name, says):
    with pytest.raises(ValueError, match=says):
        executor_of(name, None)


@pytest.mark.parametrize(("name", "module"), [("ray", "ray"), ("slurm", "submitit")])
def test_an_engine_that_is_not_installed_names_its_extra(name, module, grid, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, module, None)
    (tmp_path / "grid.toml").write_text(grid.toml())
    assert main(["sweep", str(tmp_path / "grid.toml"), "--out", str(tmp_path / "runs"), "--executor", name]) == 2
    assert f"pip install 'isoflop[{name}]'" in capsys.readouterr().err.strip().splitlines()[-1]


def test_no_cluster_is_one_line(grid, tmp_path, capsys):
    pytest.importorskip("submitit")
    (tmp_path / "grid.toml").write_text(grid.toml())
    assert main(["sweep", str(tmp_path / "grid.toml"), "--out", str(tmp_path / "runs"), "--executor", "slurm"]) == 2
    assert "executor slurm: no" in capsys.readouterr().err.strip().splitlines()[-1]


def test_a_queue_that_is_gone_ends_its_workers(tmp_path):
    with pytest.raises(ValueError, match="does not share the folder"):
        Queue.read(tmp_path / "queue.json")


def test_cells_are_chosen_by_what_they_are(grid, tmp_path):
    plan = sweeps.plan(grid, tmp_path / "runs")
    assert {spec.shape.width for spec in plan.only("width=8,C>2e8").missing} == {8}
    assert len(plan.only("C=3e8").missing) == 2
    assert plan.within(plan.flops / 2).flops <= plan.flops / 2
    with pytest.raises(ValueError, match="none of the 6 cells"):
        plan.only("seed=9")
    with pytest.raises(ValueError, match="needed conditions"):
        plan.only("size")


def test_workers_get_large_pages_unless_the_user_tuned_malloc(monkeypatch):
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    assert worker_environment()["GLIBC_TUNABLES"] == "glibc.malloc.hugetlb=1"
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.arena_max=1")
    assert worker_environment()["GLIBC_TUNABLES"] == "glibc.malloc.arena_max=1"
