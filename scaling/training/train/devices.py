"""Which devices a run is laid out over: the rows of a batch are split, and so are large matrices; all else is copied.

Sharding is jax's own: what is written here are placements, and the compiler adds the communication.
"""

from __future__ import annotations

import os
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from scaling.training.gang import launched

#: Arrays of the state with at least this many numbers are split over the devices; smaller ones are copied to each.
SPLIT_SIZE = 2**16


def join() -> None:
    """Join the processes of one run, where a launcher began several: by jax's own detection (Slurm, MPI, Kubernetes, TPU pods).

    To be called before jax is used otherwise; does nothing in a process that was begun alone.
    """
    if launched() and not jax.distributed.is_initialized():
        number, process = os.environ.get("JAX_NUM_PROCESSES"), os.environ.get("JAX_PROCESS_ID")
        # jax reads JAX_COORDINATOR_ADDRESS itself; the two numbers it leaves to the caller.
        jax.distributed.initialize(
            num_processes=int(number) if number else None, process_id=int(process) if process else None
        )


def is_first() -> bool:
    """Whether this process writes what the run has to say: the first of a run's, or its only one."""
    return jax.process_index() == 0


def mesh_for(rows: int) -> Mesh | None:
    """The devices that a run with batches of this many windows is laid out over; None where that is one.

    In one process, as many as divide the rows. In several it is all of them, since none may leave the run, and where they do
    not divide the rows each computes the whole batch.
    """
    devices = jax.devices()
    count = max(n for n in range(1, len(devices) + 1) if rows % n == 0)
    count = len(devices) if jax.process_count() > 1 else count
    return Mesh(np.array(devices[:count]), ("data",)) if count > 1 else None


def whole(mesh: Mesh) -> NamedSharding:
    """A copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def split(mesh: Mesh, axis: int, size: int) -> NamedSharding:
    """Split along one axis of this size; a copy on every device where they do not divide it."""
    return NamedSharding(mesh, PartitionSpec(*[None] * axis, "data")) if size % mesh.size == 0 else whole(mesh)


def rows(mesh: Mesh | None, count: int) -> NamedSharding | None:
    """How so many rows are split; None where there is one device, or where the devices do not divide them."""
    return split(mesh, 0, count) if mesh and count % mesh.size == 0 else None


def state_sharding(mesh: Mesh, leaf: Any) -> NamedSharding:
    """Where a leaf of the state lies: a large one is split along its longest axis that the devices divide (fully sharded)."""
    fitting = [axis for axis, size in enumerate(leaf.shape) if size % mesh.size == 0]
    if leaf.size < SPLIT_SIZE or not fitting:
        return whole(mesh)
    longest = max(fitting, key=lambda axis: leaf.shape[axis])
    return split(mesh, longest, leaf.shape[longest])


def place(array: np.ndarray, sharding: NamedSharding | None) -> jax.Array:
    """An array that every process has, on the devices."""
    if sharding is None or jax.process_count() == 1:
        return jax.device_put(array, sharding)
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])
