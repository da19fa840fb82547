"""Feed: where the batches of a run come from. The ids lie on the device and are gathered there, or come chunk by chunk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from scaling.grid import RunSpec
from scaling.training.corpus import Corpus
from scaling.training.train import devices

#: Share of a device's memory that the training ids may take; those of a larger corpus come chunk by chunk.
RESIDENT_SHARE = 0.2

#: Where a device does not tell its memory (CPU): ids up to this many bytes are placed there.
RESIDENT_BYTES = 2**28


class Ids(NamedTuple):
    """The type of the ids, and how many of them lie on the device; `resident` 0 where they come in windows."""

    dtype: str
    resident: int = 0


def ids_of(corpus: Corpus) -> Ids:
    """How the ids of a corpus reach the device."""
    if corpus.train is None or not hasattr(corpus, "starts"):
        return Ids(str(corpus.batches(0, 0, 1, 2, 1).dtype))
    limit = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
    most = RESIDENT_SHARE * limit if limit else RESIDENT_BYTES
    fits = corpus.train.nbytes <= most and corpus.train.size < 2**31  # starts are int32
    return Ids(str(corpus.train.dtype), corpus.train.size if fits else 0)


class Feed:
    """The batches of some runs of one shape and batch; several runs' have a leading axis P."""

    def __init__(self, corpus: Corpus, specs: Sequence[RunSpec], ids: Ids, mesh: Any) -> None:
        self.corpus, self.specs, self.mesh = corpus, specs, mesh
        self.resident = _placed(corpus, mesh) if ids.resident else None

    def __call__(self, first: int, count: int, length: int) -> dict[str, jax.Array]:
        """What the compiled step reads at steps [first, first + count), with zeros up to `length` steps."""
        recipe, context = self.specs[0].recipe, self.specs[0].shape.context
        draw = self.corpus.starts if self.resident is not None else self.corpus.batches
        drawn = [draw(spec.seed, first, count, recipe.batch_tokens, context) for spec in self.specs]
        if self.resident is not None:
            drawn = [starts.astype(np.int32) for starts in drawn]
        rows = [padded(each, length) for each in drawn]
        rows = rows[0] if len(rows) == 1 else np.stack(rows)
        axis = rows.ndim - (1 if self.resident is not None else 2)
        split = devices.split(self.mesh, axis, rows.shape[axis]) if self.mesh else None
        placed = devices.place(rows, split)
        return {"tokens": placed} if self.resident is None else {"ids": self.resident, "starts": placed}


def abstract(ids: Ids, steps: int, rows: int, context: int, runs: int) -> dict[str, jax.ShapeDtypeStruct]:
    """The shapes of what `Feed` gives."""
    lead = (runs, steps, rows) if runs > 1 else (steps, rows)
    if not ids.resident:
        return {"tokens": jax.ShapeDtypeStruct((*lead, context + 1), ids.dtype)}
    return {"ids": jax.ShapeDtypeStruct((ids.resident,), ids.dtype), "starts": jax.ShapeDtypeStruct(lead, np.int32)}


def batch(data: dict[str, jax.Array], step: jax.Array, context: int) -> jax.Array:
    """The windows of one step of a chunk, [B, context + 1]."""
    if "tokens" in data:
        return data["tokens"][step]
    return data["ids"][data["starts"][step][:, None] + jnp.arange(context + 1)[None, :]]


def padded(rows: Any, length: int) -> Any:
    """`rows` with zeros behind, so that a last chunk has the shape of the others."""
    if len(rows) == length:
        return rows
    rows = np.asarray(rows)
    return np.concatenate([rows, np.zeros((length - len(rows), *rows.shape[1:]), rows.dtype)])


_resident: dict[tuple[str, int], jax.Array] = {}


def _placed(corpus: Corpus, mesh: Any) -> jax.Array:
    """The training ids of a corpus on the device, placed once: the runs of a worker share them."""
    key = (corpus.digest, mesh.size if mesh else 1)
    if key not in _resident:
        _resident.clear()
        _resident[key] = devices.place(np.asarray(corpus.train), devices.whole(mesh) if mesh else None)
    return _resident[key]
