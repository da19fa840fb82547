"""Schedule: the learning rate of each step, and the steps of each dispatch. Functions of the spec, and of the kind of device."""

from __future__ import annotations

import math
from itertools import pairwise

import jax
import numpy as np

from scaling.grid import RunSpec
from scaling.shape import Shape

#: A chunk is the power of two of steps that comes nearest to this many FLOPs, and at most MOST_STEPS. On CPU every dispatch
#: gets fresh memory from the system: at one step a dispatch its page faults are 20% of the time at N = 3e6. On an accelerator
#: a dispatch, and reading its losses, cost a millisecond, in which it does a hundred times as much.
CHUNK_FLOPS, ACCELERATED_CHUNK_FLOPS, MOST_STEPS = 2e11, 2e13, 256

#: Where a cosine ends, as a share of its peak (Hoffmann et al. 2022).
COSINE_END = 0.1


def learning_rates(spec: RunSpec) -> np.ndarray:
    """The learning rate of each step, float32 [steps]: linear warm-up to the peak, then what `Recipe.schedule` says.

    A wsd run's rates before its decay are those of every longer sibling.
    """
    recipe, step = spec.recipe, np.arange(spec.steps) + 0.5
    warmup = recipe.warmup_tokens / recipe.batch_tokens
    rise = np.minimum(1.0, step / max(warmup, 0.5))
    gone = np.clip((step - warmup) / max(spec.steps - warmup, 1.0), 0.0, 1.0)
    if recipe.schedule == "linear":
        fall = np.minimum(1.0, (spec.steps - step) / max(spec.steps - warmup, 1.0))
    elif recipe.schedule == "cosine":
        fall = COSINE_END + (1 - COSINE_END) * (1 + np.cos(np.pi * gone)) / 2
    elif recipe.schedule == "wsd":
        gone = np.maximum(0.0, (step - fork(spec)) / spec.decay_steps)
        fall = 1 - (np.sqrt(gone) if recipe.cooldown == "1-sqrt" else gone)
    else:
        fall = np.ones(spec.steps)
    return (recipe.learning_rate * np.minimum(rise, fall)).astype(np.float32)


def fork(spec: RunSpec) -> int:
    """The step at which a wsd run leaves its trunk; the last step of other runs."""
    return spec.steps - spec.decay_steps if spec.trunk else spec.steps


def chunk_steps(shape: Shape, batch_tokens: int) -> int:
    """Steps in one dispatch: a function of the shape, the batch and the kind of device alone."""
    wanted = CHUNK_FLOPS if jax.default_backend() == "cpu" else ACCELERATED_CHUNK_FLOPS
    return int(min(MOST_STEPS, 2 ** max(0, round(math.log2(wanted / (shape.flops_per_token * batch_tokens))))))


def chunks(first: int, until: int, length: int) -> list[tuple[int, int]]:
    """(first step, steps) of the dispatches from step `first` until step `until`.

    They end at multiples of `length`, whatever `first` is, so that a run that goes on replays the dispatches that it was in.
    """
    edges = [first, *range((first // length + 1) * length, until, length), until]
    return [(low, high - low) for low, high in pairwise(edges) if high > low]
