"""train(spec, corpus) -> Run: one run; measure(spec, corpus): how fast it is here."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from scaling.grid import RunSpec
from scaling.runs import Run
from scaling.training.corpus import Corpus
from scaling.training.train import checkpoint
from scaling.training.train import programs as compiled
from scaling.training.train.course import Course, Watch
from scaling.training.train.errors import Diverged
from scaling.training.train.feed import Feed, ids_of
from scaling.training.train.schedule import chunk_steps, fork


def train(
    spec: RunSpec,
    corpus: Corpus,
    *,
    checkpoints: Path | None = None,
    watch: Watch | None = None,
    stopping: Callable[[], bool] = lambda: False,
    keep: bool = False,
) -> Run:
    """Train one spec and return its record; a run that diverges gives a record with status "failed".

    With `checkpoints`, a folder, the state is kept there at most every minute, and a run whose state is there goes
    on from it, to the same loss to the bit (on one device kind, thread count and set of versions). It is dropped when the run
    ends, unless asked to `keep` the last. When `stopping` says so, at the end of a chunk, the state is kept and
    Interrupted raised.
    Raises ValueError where the corpus is not the spec's, or its vocabulary is larger than the shape's; OutOfMemory, which says
    what would fit; DeviceLost; OSError where a checkpoint cannot be written.
    """
    kept = checkpoints / spec.id if checkpoints else None
    course = Course([spec], corpus, kept=kept, watch=watch, stopping=stopping)
    try:
        course.advance(fork(spec))
        course.advance(spec.steps)
    except Diverged:
        keep = False
    run = course.records()[0]
    if keep:
        course.keep()
    else:
        checkpoint.drop(kept)
    return run


def measure(spec: RunSpec, corpus: Corpus, *, seconds: float = 1.0) -> tuple[float, float]:
    """Training tokens per second of a spec on this machine, measured for some seconds, and the seconds of compiling."""
    compiling = time.perf_counter()
    ids = ids_of(corpus)
    programs = compiled.programs(spec.shape, spec.recipe, ids)
    compile_seconds = time.perf_counter() - compiling
    length = chunk_steps(spec.shape, spec.recipe.batch_tokens)
    data = Feed(corpus, [spec], ids, programs.mesh)(0, length, length)
    rates = np.zeros(length, np.float32)
    state, _ = programs.advance(programs.fresh([0]), data, rates, 1)
    jax.block_until_ready(state)
    begin, done = time.perf_counter(), 0
    while done == 0 or time.perf_counter() - begin < seconds:
        state, losses = programs.advance(state, data, rates, length)
        losses.block_until_ready()
        done += 1
    return done * length * spec.recipe.batch_tokens / (time.perf_counter() - begin), compile_seconds
