"""train_many(specs, corpus): runs of one shape and batch that differ in rate, seed and data order, trained at once."""

from __future__ import annotations

import functools
import hashlib
import json
import time
from collections.abc import Callable, Container, Sequence
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np

from scaling.grid import RunSpec
from scaling.runs import Run, cache_folder, to_json, write_whole
from scaling.shape import MEMORY_SHARE
from scaling.training.corpus import Corpus
from scaling.training.train import checkpoint, cost
from scaling.training.train import programs as compiled
from scaling.training.train.course import Course, Watch
from scaling.training.train.errors import Diverged, OutOfMemory
from scaling.training.train.feed import Feed, ids_of
from scaling.training.train.programs import How, compiled_in
from scaling.training.train.schedule import chunk_steps


def train_many(
    specs: Sequence[RunSpec],
    corpus: Corpus,
    *,
    checkpoints: Path | None = None,
    watch: Watch | None = None,
    stopping: Callable[[], bool] = lambda: False,
    done: Callable[[Run], None] = lambda run: None,
    keep: bool = False,
    how: How | None = None,
    trained: Container[str] = (),
) -> list[Run]:
    """Train specs of one shape, batch and number of steps at once, and return their records in order.

    `how` is "vmap" or "map", by default whichever is measured faster on this device kind. As many are trained at once as
    its memory holds by estimate, and half as many where that turns out too many. A run that diverges leaves the others be.
    Of what is split so, a part whose runs all have records, by their ids in `trained`, is left out.
    Each record's `seconds` are its equal part of the pack's. The last state of all is kept where asked to `keep` it.
    Raises what `train` raises, and ValueError where the specs differ in what is compiled in.
    """
    specs = list(specs)
    if all(spec.id in trained for spec in specs):
        return []
    if len({_alike(spec) for spec in specs}) != 1:
        raise ValueError(
            f"{len(specs)} specs that differ in more than seed, learning rate, warm-up and schedule cannot be trained at once. "
            "Group them by shape, batch, tokens and the rest of their recipe."
        )
    spec = specs[0]
    most = max(1, int(MEMORY_SHARE * cost.memory_bytes() / spec.training_bytes))
    options = {"checkpoints": checkpoints, "watch": watch, "stopping": stopping, "done": done, "how": how, "keep": keep}
    parts = functools.partial(train_many, corpus=corpus, trained=trained, **options)
    if len(specs) > most:
        return [run for at in range(0, len(specs), most) for run in parts(specs[at : at + most])]
    try:
        return _train_pack(specs, corpus, **options)
    except Exception as error:  # it may turn out while compiling, while both ways are measured, or in training
        if len(specs) == 1 or not (isinstance(error, OutOfMemory) or cost.is_out_of_memory(error)):
            raise
    checkpoint.drop(_kept(specs, checkpoints))  # its parts begin anew, each in a folder of its own
    half = len(specs) // 2
    return parts(specs[:half]) + parts(specs[half:])


def faster(spec: RunSpec, corpus: Corpus, runs: int) -> How:
    """Whether so many runs like this one are faster under vmap or one after another in a dispatch; measured once, then kept.

    On CPU it is "map": vmap gives nothing there (benchmarks/README.md), and the losses of one by one are kept to the bit.
    """
    if jax.default_backend() == "cpu":
        return "map"
    like = [jax.devices()[0].device_kind, repr(spec.shape), repr(compiled_in(spec.recipe)), runs, jax.__version__]
    path = cache_folder() / "packs" / f"{hashlib.sha256(repr(like).encode()).hexdigest()[:16]}.json"
    if not path.exists():
        seconds = {how: chunk_seconds(spec, corpus, runs, how) for how in ("vmap", "map")}
        write_whole(path, to_json({"device": like[0], "runs": runs, "N": spec.shape.N, "seconds": seconds}))
    seconds = json.loads(path.read_text())["seconds"]
    return min(seconds, key=seconds.get)


def _train_pack(specs, corpus, *, checkpoints, watch, stopping, done, keep, how) -> list[Run]:
    kept = _kept(specs, checkpoints)
    if len(specs) > 1:
        how = _begun(kept) or how or faster(specs[0], corpus, len(specs))
        if kept:
            write_whole(kept / "how.json", to_json({"how": how}))
    course = Course(specs, corpus, kept=kept, watch=watch, stopping=stopping, how=how or "vmap")
    try:
        course.advance(specs[0].steps)
    except Diverged:
        keep = False
    runs = course.records()
    if keep:
        course.keep()  # before any run has its record, which would leave nothing to go on with
    for run in runs:
        done(run)
    if not keep:
        checkpoint.drop(kept)
    return runs


def _kept(specs: Sequence[RunSpec], checkpoints: Path | None) -> Path | None:
    """Where the state of a pack is kept; None where nothing is."""
    pack = hashlib.sha256(" ".join(spec.id for spec in specs).encode()).hexdigest()[:16]
    return checkpoints / pack if checkpoints else None


def _begun(kept: Path | None) -> How | None:
    """How a pack that goes on was begun: the other way would not give its bits."""
    path = kept / "how.json" if kept else None
    return json.loads(path.read_text())["how"] if path and path.exists() else None


def _alike(spec: RunSpec) -> RunSpec:
    return replace(spec, seed=0, recipe=compiled_in(spec.recipe))


def chunk_seconds(spec: RunSpec, corpus: Corpus, runs: int, how: How, least: float = 0.0) -> float:
    """Seconds of one chunk of so many runs, without compiling: the mean of as many as take `least` seconds."""
    ids, length = ids_of(corpus), chunk_steps(spec.shape, spec.recipe.batch_tokens)
    programs = compiled.programs(spec.shape, spec.recipe, ids, runs, how)
    specs = [replace(spec, seed=seed) for seed in range(runs)]
    data, rates = Feed(corpus, specs, ids, None)(0, length, length), np.zeros((runs, length))
    state, _ = programs.advance(programs.fresh(np.arange(runs)), data, rates, 1)
    jax.block_until_ready(state)
    begin, done = time.perf_counter(), 0
    while done == 0 or time.perf_counter() - begin < least:
        state, _ = programs.advance(state, data, rates, length)
        jax.block_until_ready(state)
        done += 1
    return (time.perf_counter() - begin) / done
