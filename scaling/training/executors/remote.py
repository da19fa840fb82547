"""Ray and Slurm: the same workers, started by an engine on other machines. Both need the folder of runs, and the corpus' cache
(SCALING_CACHE), at one path on all of them; the folder owns all state, the engine none.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scaling.training.executors.engine import Ending, Engine, Started, worker_environment
from scaling.training.state import STATE
from scaling.training.worker import Queue

#: How often a Slurm job is put into the queue again after its time limit, before the driver has to start another.
MOST_TIMEOUTS = 1000


@dataclass
class Ray(Engine):
    """Workers as tasks of a Ray cluster: the one at `address`, the one this machine is in, else one started here.

    `devices` at once, by default as many as the cluster has GPUs, or cores where it has none; each is given one. A task
    that is lost with its node is started again and counts against no cell.
    """

    address: str | None = None
    devices: int | None = None
    resource: str | None = None
    lease_seconds: float = Engine.lease_seconds
    poll_seconds: float = 0.5

    def slots(self) -> int:
        """What the cluster has now, or `devices`."""
        ray = self._ray()
        return self.devices or max(1, int(ray.cluster_resources().get(self._resource(), 0)))

    def start(self, queue: Queue) -> Started:
        """One task."""
        ray, resource = self._ray(), self._resource()
        amount = {"GPU": {"num_gpus": 1}, "CPU": {"num_cpus": 1}}.get(resource, {"resources": {resource: 1}})
        task = ray.remote(max_retries=0, **amount)(run_worker)
        name = uuid.uuid4().hex[:12]
        return _RayTask(name, task.remote(str(queue.path), name, "gpu" if resource == "GPU" else None))

    def _resource(self) -> str:
        if self.resource:
            return self.resource
        has = self._ray().cluster_resources()
        return next((kind for kind in ("GPU", "TPU") if has.get(kind)), "CPU")

    def _ray(self) -> Any:
        try:
            import ray  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise ValueError("executor ray: Ray is not installed. `pip install 'isoflop[ray]'` brings it.") from None
        if not ray.is_initialized():
            os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
            os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's 15 starves its workers on a machine that is busy
            named = self.address or os.environ.get("RAY_ADDRESS")
            try:
                ray.init(address=named or "auto", log_to_driver=False, logging_level="error")
            except (ConnectionError, ValueError, RuntimeError) as error:
                if named:
                    raise ValueError(f"executor ray: no cluster answers at {named} ({_first_line(error)}).") from None
                try:
                    ray.init(log_to_driver=False, logging_level="error", include_dashboard=False)
                except Exception as error:  # Ray says it so where its processes do not come up in time
                    raise ValueError(
                        f"executor ray: no cluster is running, and none could be started here ({_first_line(error)})."
                    ) from None
        return ray


@dataclass
class _RayTask(Started):
    name: str
    task: Any

    def ended(self) -> Ending | None:
        """See `Started`: a lost node is nobody's fault, a crash is the cell's."""
        import ray  # pyright: ignore[reportMissingImports]

        if not ray.wait([self.task], timeout=0)[0]:
            return None
        try:
            return Ending(*ray.get(self.task))
        except ray.exceptions.WorkerCrashedError as error:
            return Ending(None, _first_line(error))
        except ray.exceptions.RayError as error:
            return Ending(None, _first_line(error), preempted=True)

    def ask_to_stop(self) -> None:
        """Nothing to do: the queue's file is gone, and the worker stops."""

    def stop(self, seconds: float) -> None:
        """See `Started`."""
        import ray  # pyright: ignore[reportMissingImports]

        if not ray.wait([self.task], timeout=seconds)[0]:
            ray.cancel(self.task, force=True)


@dataclass
class Slurm(Engine):
    """Workers as jobs of a Slurm array, through submitit: `devices` of them, each with the `options` that sbatch is given.

    A job that reaches its time limit or is preempted keeps its state and is put into the queue again, as often as need be.
    `options` are submitit's, e.g. slurm_partition, timeout_min, gpus_per_node; where they ask for several tasks a job (nodes,
    tasks_per_node), these train each run together. `cluster` is "slurm", or "local" for this machine.
    """

    devices: int = 8
    options: Mapping[str, Any] = field(default_factory=dict)
    cluster: str = "slurm"
    lease_seconds: float = Engine.lease_seconds
    poll_seconds: float = 1.0

    def slots(self) -> int:
        """As many as asked for."""
        return self.devices

    def start(self, queue: Queue) -> Started:
        """One job."""
        return self.start_many(queue, 1)[0]

    def start_many(self, queue: Queue, count: int) -> list[Started]:
        """One job array of so many workers."""
        needs = "gpu" if any("gpu" in name and asked for name, asked in self.options.items()) else None
        jobs = [SlurmWork(str(queue.path), uuid.uuid4().hex[:12], needs) for _ in range(count)]
        executor = self.executor(queue.folder)
        try:
            with executor.batch():
                started = [executor.submit(job) for job in jobs]
        except (FileNotFoundError, RuntimeError, subprocess.CalledProcessError) as error:
            raise ValueError(
                f"executor slurm: no job could be submitted ({_first_line(error)}). Is sbatch here?"
            ) from None
        return [_SlurmJob(job.name, one) for job, one in zip(jobs, started)]

    def executor(self, folder: Path) -> Any:
        """submitit's executor, with its logs beside the folder's state."""
        try:
            import submitit
        except ImportError:
            raise ValueError(
                "executor slurm: submitit is not installed. `pip install 'isoflop[slurm]'` brings it."
            ) from None
        try:
            executor = submitit.AutoExecutor(
                folder=folder / STATE / "slurm", cluster=self.cluster, slurm_max_num_timeout=MOST_TIMEOUTS
            )
        except RuntimeError as error:
            raise ValueError(f"executor slurm: no Slurm here ({_first_line(error)}).") from None
        more = {"requeue": True, **self.options.get("slurm_additional_parameters", {})}
        parameters = {"name": "scaling", "slurm_array_parallelism": self.devices, **self.options}
        try:
            executor.update_parameters(**{**parameters, "slurm_additional_parameters": more})
        except (NameError, ValueError, TypeError) as error:
            raise ValueError(f"executor slurm: {_first_line(error)}") from None
        return executor


@dataclass
class _SlurmJob(Started):
    name: str
    job: Any

    def ended(self) -> Ending | None:
        """See `Started`: only a job that failed by itself counts against its cell."""
        if not self.job.done():
            return None
        try:
            return Ending(*self.job.results()[0])  # of several tasks, the first has the last word
        except Exception as error:
            own = self.job.state in ("FAILED", "OUT_OF_MEMORY", "FINISHED", "INTERRUPTED")
            return Ending(None, f"{self.job.state}: {_first_line(error)}", preempted=not own)

    def ask_to_stop(self) -> None:
        """Nothing to do for a running job: the queue's file is gone, and its worker stops."""

    def stop(self, seconds: float) -> None:
        """See `Started`; a job that still waits is cancelled."""
        until = time.monotonic() + seconds
        while not self.job.done() and self.job.state not in ("PENDING", "UNKNOWN") and time.monotonic() < until:
            time.sleep(0.5)
        if not self.job.done():
            self.job.cancel()


class SlurmWork:
    """One job: a worker, which at the time limit keeps its state before the job is put into the queue again."""

    def __init__(self, queue: str, name: str, needs: str | None = None) -> None:
        self.queue, self.name, self.needs = queue, name, needs
        self.process: subprocess.Popen | None = None

    def __call__(self) -> tuple[int, str]:
        """How the worker ended."""
        import submitit

        self.process = start_worker(self.queue, self.name, gang_of(submitit.JobEnvironment()), self.needs)
        return ended_worker(self.process)

    def checkpoint(self) -> Any:
        """What submitit runs on its warning: stop the worker cleanly, then go on in a job like this one."""
        import submitit

        if self.process:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait()
        return submitit.helpers.DelayedSubmission(SlurmWork(self.queue, self.name, self.needs))


def gang_of(job: Any) -> dict[str, str]:
    """What jax is told where a submitit job has several tasks: where they meet, how many, and which this one is."""
    if job.num_tasks == 1:
        return {}
    port = 61_440 + int(job.raw_job_id) % 4096  # as jax chooses it on Slurm: each job on a node its own
    return {
        "JAX_COORDINATOR_ADDRESS": f"{job.hostnames[0]}:{port}",
        "JAX_NUM_PROCESSES": str(job.num_tasks),
        "JAX_PROCESS_ID": str(job.global_rank),
    }


def run_worker(queue: str, name: str, needs: str | None = None) -> tuple[int, str]:
    """A worker in a process of its own, which stops cleanly when this one dies; its exit status and last words."""
    return ended_worker(start_worker(queue, name, needs=needs))


def start_worker(
    queue: str, name: str, gang: Mapping[str, str] | None = None, needs: str | None = None
) -> subprocess.Popen:
    """The process of a worker; of one of a gang's, where there are variables that tell it where the others are.

    `needs` is the platform that it ends without, e.g. "gpu".
    """
    command = [sys.executable, "-m", "scaling.training.worker", queue, name]
    return subprocess.Popen(
        command + (["--gang"] if gang else []) + (["--needs", needs] if needs else []),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**worker_environment(), **(gang or {})},
    )


def ended_worker(process: subprocess.Popen) -> tuple[int, str]:
    """Wait for a worker: its exit status and last words."""
    assert process.stderr
    words = [line.strip() for line in process.stderr if line.strip()]
    return process.wait(), words[-1] if words else ""


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
