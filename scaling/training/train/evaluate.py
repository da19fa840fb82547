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

#: Consecutive parts of the held-out tokens whose mean losses a record keeps. Windows of one document are alike, so that an
#: error over windows would be too small; parts are longer than most documents.
PARTS = 32


def evaluate(
    params: model.Params, spec: RunSpec, corpus: Corpus, programs: Programs | None = None
) -> tuple[float, float | None]:
    """Mean loss on the spec's held-out tokens, nats per token, and its standard error (see `standard_error`)."""
    programs = programs or compiled.programs(spec.shape, spec.recipe, ids_of(corpus))
    windows = corpus.evaluation(spec.eval_tokens, spec.shape.context)
    losses = evaluate_windows(programs, params, windows, spec.shape.context)
    return float(losses.mean()), standard_error(losses)


def evaluate_windows(programs: Programs, params: model.Params, windows: np.ndarray, context: int) -> np.ndarray:
    """Mean loss of each window [W, context + 1], nats per token, float64 [W], or [P, W] for P runs at once."""
    rows = max(1, compiled.EVAL_BATCH_TOKENS // context)
    starts = range(0, len(windows), rows)
    losses = [np.asarray(programs.evaluate(params, padded(windows[at : at + rows], rows))) for at in starts]
    return np.concatenate(losses, axis=-1)[..., : len(windows)].astype(np.float64)


def parts(loss_W: np.ndarray) -> np.ndarray:
    """Mean loss of each of PARTS consecutive parts of the windows, as equal as can be, [PARTS] or one a window."""
    return np.array([part.mean() for part in np.array_split(loss_W, min(PARTS, len(loss_W)))])


def standard_error(loss_W: np.ndarray) -> float | None:
    """Standard error of the mean loss over windows [W], from the scatter of their `parts`; None for one window."""
    each = parts(loss_W)
    return float(each.std(ddof=1) / math.sqrt(len(each))) if len(each) > 1 else None


def further(programs: Programs, params: Any, spec: RunSpec, corpus: Corpus) -> dict[str, np.ndarray]:
    """Loss of each window of each further held-out set, by its name."""
    context = spec.shape.context
    return {
        name: evaluate_windows(programs, params, corpus.further(name, spec.eval_tokens, context), context)
        for name in corpus.heldouts
    }
