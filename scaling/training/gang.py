"""Gang: the processes of one worker, where a run is laid out over several hosts. The first alone claims, and tells the others.

A gang is begun where the same sweep is started several times at once: by srun or mpirun, as a Kubernetes indexed job, on the
hosts of a TPU pod, or with JAX_NUM_PROCESSES, JAX_PROCESS_ID and JAX_COORDINATOR_ADDRESS; and as a Slurm job of several tasks.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from importlib.util import find_spec

import numpy as np

from scaling.grid import RunSpec
from scaling.training.tasks import Task

#: Bytes that a message is a multiple of: each length is a program of its own.
PIECE = 4096


#: Where a launcher says how many processes it began. Slurm sets its own for the tasks of a step, not for a batch script.
COUNTS = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE", "MEGASCALE_NUM_SLICES")

#: Where the hosts of a TPU pod are listed.
HOSTS = ("TPU_PROCESS_ADDRESSES", "TPU_WORKER_HOSTNAMES")


def launched() -> bool:
    """Whether this process is one of several that were started to work as one.

    JAX_NUM_PROCESSES says so where it is set: 1 lets each work for itself. A Kubernetes indexed job is asked for by installing
    the package that jax needs there, for it does not tell its pods how many they are.
    """
    said = os.environ.get("JAX_NUM_PROCESSES")
    if said is not None:
        return _several(said)
    indexed = "KUBERNETES_SERVICE_HOST" in os.environ and "JOB_COMPLETION_INDEX" in os.environ
    return (
        any(_several(os.environ.get(name, "1")) for name in COUNTS)
        or any("," in os.environ.get(name, "") for name in HOSTS)
        or (indexed and find_spec("kubernetes") is not None)
    )


def _several(number: str) -> bool:
    return number.isdigit() and int(number) > 1


@dataclass(frozen=True)
class Gang:
    """The processes of a worker, or its only one: `first` is whether this is the one that claims and writes."""

    first: bool = True
    many: bool = False

    @classmethod
    def join(cls) -> Gang:
        """Join the others, before jax is used otherwise. Raises ValueError where they do not come."""
        import jax

        from scaling.training.train import devices

        try:
            devices.join()
        except Exception as error:
            raise ValueError(
                f"the processes of this run did not meet: {' '.join(str(error).split())[:300]} Say where with "
                "JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID, or let each work alone with JAX_NUM_PROCESSES=1."
            ) from None
        return cls(devices.is_first(), jax.process_count() > 1)

    def any(self, said: bool) -> bool:
        """Whether any of its processes says so; all call this together."""
        if not self.many:
            return said
        from jax.experimental import multihost_utils

        return bool(multihost_utils.process_allgather(np.array(said)).any())

    def told(self, task: Task | None) -> Task | None:
        """What the first process gives here, in every process; all call this together."""
        if not self.many:
            return task
        from jax.experimental import multihost_utils

        said = json.dumps(task and {"kind": task.kind, "specs": [asdict(spec) for spec in task.specs]}).encode()
        said = said.ljust(-(-len(said) // PIECE) * PIECE)
        length = int(multihost_utils.broadcast_one_to_all(np.int32(len(said))))
        sent = np.frombuffer(said.ljust(length)[:length], np.uint8)  # what the others say is not listened to
        heard = json.loads(np.asarray(multihost_utils.broadcast_one_to_all(sent), np.uint8).tobytes())
        return heard and Task(heard["kind"], tuple(map(RunSpec.from_json, heard["specs"])))
