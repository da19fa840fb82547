"""Recipe: how a model is trained, and the rules that choose one from its shape and tokens."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from scaling.shape import Shape

SCHEDULES = ("linear",)
PRECISIONS = ("float32", "bfloat16")

#: A run of fewer steps is flagged in its plan and record: its batch is too large for its tokens.
FEW_STEPS = 500


@dataclass(frozen=True)
class Recipe:
    """Everything about a run's optimisation that changes its loss.

    `learning_rate` is the peak; `warmup_tokens` rise linearly to it, then `schedule` brings it to 0 at the last
    step. AdamW with decoupled weight decay scaled by the learning rate (Loshchilov and Hutter 2019).
    """

    learning_rate: float
    batch_tokens: int
    warmup_tokens: int
    schedule: str = "linear"
    beta1: float = 0.9
    beta2: float = 0.99
    weight_decay: float = 0.01
    clip: float = 1.0
    z_loss: float = 0.0
    precision: str = "float32"

    def __post_init__(self) -> None:
        numbers = ("learning_rate", "batch_tokens", "warmup_tokens", "beta1", "beta2", "weight_decay", "clip", "z_loss")
        for name in numbers:
            value = getattr(self, name)
            _require(isinstance(value, int | float) and math.isfinite(value), name, value, "a number")
        for name in ("batch_tokens", "warmup_tokens"):
            _require(getattr(self, name) == int(getattr(self, name)), name, getattr(self, name), "a whole number")
        for name in ("learning_rate", "batch_tokens", "clip"):
            _require(getattr(self, name) > 0, name, getattr(self, name), "a positive number")
        for name in ("warmup_tokens", "weight_decay", "z_loss"):
            _require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        for name in ("beta1", "beta2"):
            _require(0 <= getattr(self, name) < 1, name, getattr(self, name), "a number in [0, 1)")
        _require(self.schedule in SCHEDULES, "schedule", self.schedule, f"one of {', '.join(SCHEDULES)}")
        _require(self.precision in PRECISIONS, "precision", self.precision, f"one of {', '.join(PRECISIONS)}")


def _require(holds: bool, name: str, found: object, needed: str) -> None:
    if not holds:
        raise ValueError(f"recipe.{name} = {found!r}: needed {needed}.")


Rule = Callable[[Shape, float], Recipe]


def valley(shape: Shape, tokens: float) -> Recipe:
    """The default rule, measured on bytes of Python from 1e11 to 1e12 FLOPs (runs/LOG.md).

    Batch: 256 tokens at D = 1.5e6, growing as D^.5, a power of two of windows. Rate: 2.1 / sqrt(parameters of the blocks)
    at 256 tokens, no more than .03, times sqrt(batch / 256).
    """
    batch = _batch_tokens(shape, 256 * (tokens / 1.5e6) ** 0.5)
    rate = min(0.03, 2.1 / math.sqrt(shape.N_blocks)) * math.sqrt(batch / 256)
    return Recipe(learning_rate=float(f"{rate:.3g}"), batch_tokens=batch, warmup_tokens=warmup(shape, tokens))


def step_law(shape: Shape, tokens: float) -> Recipe:
    """Li et al. 2025: learning rate 1.79 N^-.713 D^.307, batch .58 D^.571 tokens, N without embedding."""
    return replace(
        valley(shape, tokens),
        learning_rate=1.79 * shape.N_nonembedding**-0.713 * tokens**0.307,
        batch_tokens=_batch_tokens(shape, 0.58 * tokens**0.571),
    )


#: The rules by the name that a grid.toml gives them.
RULES: dict[str, Rule] = {"valley": valley, "step-law": step_law}


def warmup(shape: Shape, tokens: float) -> int:
    """Warm-up in tokens: 5% of the run, but no more than N tokens (Porian et al. 2024)."""
    return int(min(0.05 * tokens, shape.N))


def _batch_tokens(shape: Shape, wanted: float) -> int:
    """The power-of-two number of whole windows nearest to `wanted` tokens, at least 2 windows."""
    windows = max(2.0, wanted / shape.context)
    return shape.context * 2 ** round(math.log2(windows))
