"""Checkpoints: the state of a run, kept whole or not at all, and read again."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np

from scaling.training.train import devices
from scaling.training.train.cost import is_out_of_memory

#: What the system says where a disk that is shared cannot be read just now.
TRANSIENT = (errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EACCES, errno.ENOTCONN)


def save(folder: Path, step: int, kept: dict[str, Any]) -> None:
    """Keep a state as `<folder>/<step>`, and drop those before. Orbax renames what it has written.

    Raises OSError where it cannot be written; what was kept before stays.
    """
    import orbax.checkpoint as ocp  # heavy, and most runs never need it

    before = [path for path in folder.glob("*") if path.is_dir()] if devices.is_first() else []
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save((folder / str(step)).absolute(), kept, force=True)
            checkpointer.wait_until_finished()
    except BaseException as error:
        if devices.is_first() and folder.exists():
            for path in set(folder.iterdir()) - set(before):
                shutil.rmtree(path, ignore_errors=True)
        full = os.strerror(errno.ENOSPC)
        if isinstance(error, Exception) and full in str(error):  # which the store tells at length, as a ValueError
            raise OSError(errno.ENOSPC, full, str(folder)) from error
        raise
    for path in before:
        if path.name != str(step):
            shutil.rmtree(path, ignore_errors=True)


def last_step(folder: Path | None) -> int | None:
    """The step of the state that is kept in a folder; None where none is."""
    if folder is None or not folder.exists():
        return None
    return max((int(path.name) for path in folder.iterdir() if path.name.isdigit()), default=None)


def restore(folder: Path, step: int, like: dict[str, Any]) -> dict[str, Any]:
    """The state kept at a step. `like` has its arrays' shapes and places.

    Raises ValueError where it is damaged; the system's and the device's own errors, which say nothing of it, pass.
    """
    import orbax.checkpoint as ocp

    try:
        with ocp.StandardCheckpointer() as checkpointer:
            return checkpointer.restore((folder / str(step)).absolute(), like)
    except Exception as error:
        if (isinstance(error, OSError) and error.errno in TRANSIENT) or is_out_of_memory(error):
            raise
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{folder / str(step)}: a checkpoint that cannot be read ({type(error).__name__}: {reason}). Delete {folder}; the "
            "run then begins anew."
        ) from error


def drop(folder: Path | None) -> None:
    """Forget what was kept."""
    if folder and devices.is_first():
        shutil.rmtree(folder, ignore_errors=True)


def numbers(**values: Any) -> dict[str, np.ndarray]:
    """Plain numbers as arrays, which is what orbax keeps."""
    return {name: np.asarray(value) for name, value in values.items()}


def same_place(state: Any) -> Any:
    """The shapes, types and places of a state."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), state)
