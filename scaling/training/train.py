"""train(spec, corpus) -> Run: the compiled step, the chunks it runs in, evaluation, checkpoint and resume.

Many steps run in one dispatch. A chunk's first step and length are functions of the absolute step alone, its
trip count, learning rates and tokens are data: one program a shape serves every budget, rate and seed, and a run
that goes on from a checkpoint replays the very same chunks.
"""

from __future__ import annotations

import functools
import math
import platform
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from scaling.grid import RunSpec
from scaling.recipe import FEW_STEPS, Recipe
from scaling.runs import Run
from scaling.shape import Shape
from scaling.training import model
from scaling.training.corpus import Corpus
from scaling.training.executors import usable_cores

#: A chunk is the power of two of steps that comes nearest to this many FLOPs, and at most MOST_STEPS. On CPU every dispatch
#: gets fresh memory from the system: at one step a dispatch its page faults are 20% of the time at N = 3e6.
CHUNK_FLOPS, MOST_STEPS = 2e11, 256

#: Points of the loss curve, log-spaced in tokens.
CURVE_POINTS = 48

#: Held-out tokens in one call of the model.
EVAL_BATCH_TOKENS = 4096

#: Seconds between checkpoints of one run, and before its first.
CHECKPOINT_SECONDS = 60.0


class Diverged(Exception):
    """A run whose loss is no longer a number, or is worse than guessing."""


class Interrupted(Exception):
    """A run that was asked to stop, and has kept its state."""


@dataclass(frozen=True)
class Progress:
    """Where a run is: steps done, the mean loss of the last chunk, seconds trained so far, seconds of compiling."""

    spec: RunSpec
    step: int
    loss: float
    seconds: float
    compile_seconds: float


Watch = Callable[[Progress], None]


def train(
    spec: RunSpec,
    corpus: Corpus,
    *,
    checkpoints: Path | None = None,
    watch: Watch | None = None,
    stopping: Callable[[], bool] = lambda: False,
) -> Run:
    """Train one spec and return its record; a run that diverges gives a record with status "failed".

    With `checkpoints`, a folder, the state is kept there at most every minute, and a run whose state is there goes
    on from it, to the same loss to the bit (on one device kind, thread count and set of versions). When `stopping`
    says so, at the end of a chunk, the state is kept and Interrupted raised.
    Raises ValueError where the corpus is not the spec's, or its vocabulary is larger than the shape's.
    """
    if corpus.digest != spec.digest:
        raise ValueError(f"spec {spec.id} needs the corpus of digest {spec.digest}, and was given {corpus.digest}.")
    if corpus.vocab > spec.shape.vocab:
        raise ValueError(
            f"corpus {corpus.name!r} has {corpus.vocab} token ids; the shape has vocab {spec.shape.vocab}."
        )
    compiling = time.perf_counter()
    programs = _programs(spec.shape, spec.recipe.batch_tokens, _static(spec.recipe))
    begin = time.perf_counter()
    kept = checkpoints / spec.id if checkpoints else None
    state, losses, seconds_before = _restored(kept, programs.fresh(spec.seed))
    rates, length = learning_rates(spec), chunk_steps(spec.shape, spec.recipe.batch_tokens)
    saved = begin
    try:
        for first in range(len(losses), spec.steps, length):
            count = min(length, spec.steps - first)
            tokens = corpus.batches(spec.seed, first, count, spec.recipe.batch_tokens, spec.shape.context)
            rate = rates[first : first + count]
            state, chunk = programs.advance(state, _padded(tokens, length), _padded(rate, length), count)
            losses = np.concatenate([losses, np.asarray(chunk)[:count]])
            _require_finite(losses, spec)
            now = time.perf_counter()
            seconds = seconds_before + now - begin
            if watch:
                watch(Progress(spec, len(losses), float(losses[first:].mean()), seconds, begin - compiling))
            if kept and (stopping() or now - saved > CHECKPOINT_SECONDS) and len(losses) < spec.steps:
                _save(kept, state, losses, seconds)
                saved = now
            if stopping():
                raise Interrupted
        evaluating = time.perf_counter()
        loss, loss_se = evaluate(state["params"], spec, corpus, programs)
        if not loss < math.log(spec.shape.vocab) + 0.1:
            raise Diverged(f"held-out loss {loss:.3f} is worse than guessing, {math.log(spec.shape.vocab):.3f}")
    except Diverged as diverged:
        return Run.of(spec, status="failed", reason=f"diverged: {diverged}.", curve=_curve(spec, losses), **_machine())
    if kept:
        shutil.rmtree(kept, ignore_errors=True)
    seconds = seconds_before + evaluating - begin
    return Run.of(
        spec,
        status="done",
        loss=loss,
        loss_se=loss_se,
        bits_per_byte=loss / math.log(2) / corpus.bytes_per_token,
        epochs=corpus.epochs(spec.tokens, spec.shape.context),
        seconds=seconds,
        compile_seconds=begin - compiling,
        eval_seconds=time.perf_counter() - evaluating,
        tokens_per_second=spec.tokens / seconds,
        curve=_curve(spec, losses),
        flags=[f"few steps: {spec.steps}, fewer than {FEW_STEPS}"] if spec.steps < FEW_STEPS else [],
        **_machine(),
    )


def measure(spec: RunSpec, corpus: Corpus, *, seconds: float = 1.0) -> tuple[float, float]:
    """Training tokens per second of a spec on this machine, measured for some seconds, and the seconds of compiling."""
    compiling = time.perf_counter()
    programs = _programs(spec.shape, spec.recipe.batch_tokens, _static(spec.recipe))
    compile_seconds = time.perf_counter() - compiling
    length = chunk_steps(spec.shape, spec.recipe.batch_tokens)
    tokens = corpus.batches(spec.seed, 0, length, spec.recipe.batch_tokens, spec.shape.context)
    rates = np.zeros(length, np.float32)
    state, _ = programs.advance(programs.fresh(0), tokens, rates, 1)
    begin, chunks = time.perf_counter(), 0
    while chunks == 0 or time.perf_counter() - begin < seconds:
        state, losses = programs.advance(state, tokens, rates, length)
        losses.block_until_ready()
        chunks += 1
    return chunks * length * spec.recipe.batch_tokens / (time.perf_counter() - begin), compile_seconds


def learning_rates(spec: RunSpec) -> np.ndarray:
    """The learning rate of each step, float32 [steps]: linear warm-up to the peak, then linear to 0 after the last."""
    step = np.arange(spec.steps) + 0.5
    warmup = spec.recipe.warmup_tokens / spec.recipe.batch_tokens
    rise = np.minimum(1.0, step / max(warmup, 0.5))
    fall = np.minimum(1.0, (spec.steps - step) / max(spec.steps - warmup, 1.0))
    return (spec.recipe.learning_rate * np.minimum(rise, fall)).astype(np.float32)


def chunk_steps(shape: Shape, batch_tokens: int) -> int:
    """Steps in one dispatch: a function of the shape and the batch alone."""
    flops = shape.flops_per_token * batch_tokens
    return int(min(MOST_STEPS, 2 ** max(0, round(math.log2(CHUNK_FLOPS / flops)))))


def evaluate(
    params: model.Params, spec: RunSpec, corpus: Corpus, programs: Programs | None = None
) -> tuple[float, float]:
    """Mean loss on the spec's held-out tokens, nats per token, and its standard error over windows."""
    programs = programs or _programs(spec.shape, spec.recipe.batch_tokens, _static(spec.recipe))
    windows = corpus.evaluation(spec.eval_tokens, spec.shape.context)
    loss = evaluate_windows(programs, params, windows, spec.shape.context)
    return float(loss.mean()), float(loss.std(ddof=1) / math.sqrt(len(loss))) if len(loss) > 1 else math.inf


def evaluate_windows(programs: Programs, params: model.Params, windows: np.ndarray, context: int) -> np.ndarray:
    """Mean loss of each window [W, context + 1], nats per token, float64 [W]."""
    rows = max(1, EVAL_BATCH_TOKENS // context)
    starts = range(0, len(windows), rows)
    losses = [np.asarray(programs.evaluate(params, _padded(windows[at : at + rows], rows))) for at in starts]
    return np.concatenate(losses)[: len(windows)].astype(np.float64)


@dataclass(frozen=True)
class Programs:
    """The compiled programs of one shape, batch and optimiser.

    advance(state, tokens [S, B, T + 1], rates [S], count) -> (state, loss [S]); evaluate(params, tokens [B, T + 1])
    -> loss of each window [B]; fresh(seed) -> state.
    """

    fresh: Callable[[int], Any]
    advance: Callable[..., Any]
    evaluate: Callable[..., Any]


def _static(recipe: Recipe) -> tuple[float | str, ...]:
    """The part of a recipe that is compiled in; the rest is data."""
    return (recipe.beta1, recipe.beta2, recipe.weight_decay, recipe.clip, recipe.z_loss, recipe.precision)


@functools.lru_cache(maxsize=64)
def _programs(shape: Shape, batch_tokens: int, static: tuple[Any, ...]) -> Programs:
    beta1, beta2, weight_decay, clip, z_loss, precision = static
    optimiser = optax.chain(
        optax.clip_by_global_norm(clip),
        optax.scale_by_adam(beta1, beta2),
        optax.add_decayed_weights(weight_decay),
    )

    def window_losses(params, token_BT):
        """Loss and squared log-normaliser of every token, [B, T]."""
        token_BT = token_BT.astype(jnp.int32)
        cast = jax.tree.map(lambda leaf: leaf.astype(precision), params)
        logits_XV = model.logits(cast, token_BT[:, :-1], shape).astype(jnp.float32)
        loss_X, log_z_X = model.cross_entropy(logits_XV, token_BT[:, 1:].reshape(-1))
        return loss_X.reshape(-1, shape.context), log_z_X

    def objective(params, token_BT):
        loss_BT, log_z_X = window_losses(params, token_BT)
        loss = loss_BT.mean()
        return loss + z_loss * jnp.square(log_z_X).mean() if z_loss else loss, loss

    def advance(state, token_SBT, rate_S, count):
        def step(i, carry):
            params, optimiser_state, loss_S = carry
            gradient, loss = jax.grad(objective, has_aux=True)(params, token_SBT[i])
            update, optimiser_state = optimiser.update(gradient, optimiser_state, params)
            params = jax.tree.map(lambda p, u: p - rate_S[i] * u, params, update)
            return params, optimiser_state, loss_S.at[i].set(loss)

        carry = (state["params"], state["optimiser"], jnp.zeros_like(rate_S))
        params, optimiser_state, loss_S = jax.lax.fori_loop(0, count, step, carry)
        return {"params": params, "optimiser": optimiser_state}, loss_S

    def fresh(seed):
        params = model.init(shape, jax.random.key(seed))
        return {"params": params, "optimiser": optimiser.init(params)}

    state = jax.eval_shape(fresh, 0)
    rows, steps = batch_tokens // shape.context, chunk_steps(shape, batch_tokens)
    token = functools.partial(jax.ShapeDtypeStruct, dtype=np.uint8)
    rates, count = jax.ShapeDtypeStruct((steps,), np.float32), jax.ShapeDtypeStruct((), np.int32)
    eval_rows = max(1, EVAL_BATCH_TOKENS // shape.context)
    compiled_advance = (
        jax.jit(advance, donate_argnums=0).lower(state, token((steps, rows, shape.context + 1)), rates, count).compile()
    )
    compiled_evaluate = (
        jax.jit(lambda params, token_BT: window_losses(params, token_BT)[0].mean(-1))
        .lower(state["params"], token((eval_rows, shape.context + 1)))
        .compile()
    )
    compiled_fresh = jax.jit(fresh).lower(jax.ShapeDtypeStruct((), np.int32)).compile()
    return Programs(
        fresh=lambda seed: compiled_fresh(np.int32(seed)),
        advance=lambda state, tokens, rates, count: compiled_advance(state, tokens, rates, np.int32(count)),
        evaluate=compiled_evaluate,
    )


def _padded(rows: np.ndarray, length: int) -> np.ndarray:
    """`rows` with zeros behind, so that a last chunk has the shape of the others."""
    if len(rows) == length:
        return rows
    return np.concatenate([rows, np.zeros((length - len(rows), *rows.shape[1:]), rows.dtype)])


def _curve(spec: RunSpec, losses: np.ndarray) -> list[list[float]]:
    """Log-spaced [tokens, loss] points: the mean training loss since the point before."""
    finite = losses[: int(np.argmin(np.isfinite(losses)))] if not np.isfinite(losses).all() else losses
    if not len(finite):
        return []
    edges = np.unique(np.geomspace(1, len(finite), CURVE_POINTS).round().astype(int))
    means = np.diff(np.concatenate([[0.0], np.cumsum(finite, dtype=np.float64)[edges - 1]])) / np.diff(edges, prepend=0)
    return [[int(edge) * spec.recipe.batch_tokens, round(float(mean), 5)] for edge, mean in zip(edges, means)]


def _machine() -> dict[str, Any]:
    """The device and the versions that a record names."""
    device = jax.devices()[0]
    kind = device.device_kind
    if device.platform == "cpu":
        kind = f"cpu: {platform.processor() or platform.machine()}, {len(usable_cores())} core(s)"
    return {
        "device": kind,
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("isoflop", "jax", "jaxlib", "numpy", "optax")},
        },
    }


def _require_finite(losses: np.ndarray, spec: RunSpec) -> None:
    if not np.isfinite(losses).all():
        good = int(np.argmin(np.isfinite(losses)))
        raise Diverged(f"the loss is not a number after step {good} of {spec.steps}, the last good one")


def _restored(folder: Path | None, fresh: Any) -> tuple[Any, np.ndarray, float]:
    """The state to go on from, the losses of the steps before it and the seconds that they took."""
    steps = [int(path.name) for path in folder.iterdir() if path.name.isdigit()] if folder and folder.exists() else []
    if not folder or not steps:
        return fresh, np.zeros(0, np.float32), 0.0
    import orbax.checkpoint as ocp  # heavy, and most runs never need it

    like = {"state": fresh, "losses": np.zeros(max(steps), np.float32), "seconds": np.zeros(1)}
    with ocp.StandardCheckpointer() as checkpointer:
        kept = checkpointer.restore((folder / str(max(steps))).absolute(), like)
    return kept["state"], np.asarray(kept["losses"]), float(kept["seconds"][0])


def _save(folder: Path, state: Any, losses: np.ndarray, seconds: float) -> None:
    """Keep the state, whole or not at all (orbax renames what it has written), and drop the one before."""
    import orbax.checkpoint as ocp

    before = list(folder.iterdir()) if folder.exists() else []
    kept = {"state": state, "losses": losses, "seconds": np.array([seconds])}
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save((folder / str(len(losses))).absolute(), kept, force=True)
        checkpointer.wait_until_finished()
    for path in before:
        shutil.rmtree(path, ignore_errors=True)
