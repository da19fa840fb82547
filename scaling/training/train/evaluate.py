"""Evaluation: the loss on the same held-out tokens for every run, and on further held-out sets by name."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from scaling.grid import RunSpec
from scaling.training import model
from scaling.training.corpus import Corpus
from scaling.training.train import programs as compiled
from scaling.training.train.feed import ids_of, padded
from scaling.training.train.programs import Programs


def evaluate(
    params: model.Params, spec: RunSpec, corpus: Corpus, programs: Programs | None = None
) -> tuple[float, float]:
    """Mean loss on the spec's held-out tokens, nats per token, and its standard error over windows."""
    programs = programs or compiled.programs(spec.shape, spec.recipe, ids_of(corpus))
    windows = corpus.evaluation(spec.eval_tokens, spec.shape.context)
    return mean_and_error(evaluate_windows(programs, params, windows, spec.shape.context))


def evaluate_windows(programs: Programs, params: model.Params, windows: np.ndarray, context: int) -> np.ndarray:
    """Mean loss of each window [W, context + 1], nats per token, float64 [W], or [P, W] for P runs at once."""
    rows = max(1, compiled.EVAL_BATCH_TOKENS // context)
    starts = range(0, len(windows), rows)
    losses = [np.asarray(programs.evaluate(params, padded(windows[at : at + rows], rows))) for at in starts]
    return np.concatenate(losses, axis=-1)[..., : len(windows)].astype(np.float64)


def mean_and_error(loss_W: np.ndarray) -> tuple[float, float]:
    """The mean over windows and its standard error, infinite for one window."""
    return float(loss_W.mean()), float(loss_W.std(ddof=1) / math.sqrt(len(loss_W))) if len(loss_W) > 1 else math.inf


def further(programs: Programs, params: Any, spec: RunSpec, corpus: Corpus) -> dict[str, np.ndarray]:
    """Loss of each window of each further held-out set, by its name."""
    context = spec.shape.context
    return {
        name: evaluate_windows(programs, params, corpus.further(name, spec.eval_tokens, context), context)
        for name in corpus.heldouts
    }
