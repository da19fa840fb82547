"""Recipe: how a model is trained, and the rules that choose one from its shape and tokens."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from scaling.shape import Shape, is_finite

SCHEDULES = ("linear", "cosine", "constant", "wsd")
COOLDOWNS = ("1-sqrt", "linear")
PRECISIONS = ("float32", "bfloat16")

#: A run of fewer steps is flagged in its plan and record: so few favour small N.
FEW_STEPS = 500

#: A batch has fewer tokens than this; a larger one is a mistake in a rule's powers.
MOST_TOKENS = 2**63


@dataclass(frozen=True)
class Recipe:
    """Everything about a run's optimisation that changes its loss.

    `learning_rate` is the peak; `warmup_tokens` rise linearly to it, then `schedule` says how it falls. "linear": to 0 at the
    last step. "cosine": half a cosine to a tenth (Hoffmann et al. 2022). "constant": not at all. "wsd": it stays, and over
    the last `decay_share` of the steps falls to 0 as 1 - sqrt of the share gone by, or linearly where `cooldown` says so
    (Haegele et al. 2024). With `remat` the blocks' activations are computed again for the gradient, not kept. `balance_loss`
    weighs the balance of experts, where there are some (Fedus et al. 2021). AdamW with decoupled weight decay scaled by the
    learning rate (Loshchilov and Hutter 2019).
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
    decay_share: float = 0.2
    cooldown: str = "1-sqrt"
    remat: bool = False
    balance_loss: float = 0.01

    def __post_init__(self) -> None:
        numbers = ("learning_rate", "batch_tokens", "warmup_tokens", "beta1", "beta2", "weight_decay", "clip", "z_loss",
                   "decay_share", "balance_loss")  # fmt: skip
        for name in numbers:
            _require(is_finite(getattr(self, name)), name, getattr(self, name), "a number")
        for name in ("batch_tokens", "warmup_tokens"):
            value = getattr(self, name)
            _require(value == int(value), name, value, "a whole number")
            object.__setattr__(self, name, int(value))  # 1e5 is 100000, and has its id
        _require(self.batch_tokens < MOST_TOKENS, "batch_tokens", self.batch_tokens, "fewer than 2^63")
        for name in ("learning_rate", "batch_tokens", "clip"):
            _require(getattr(self, name) > 0, name, getattr(self, name), "a positive number")
        for name in ("warmup_tokens", "weight_decay", "z_loss", "balance_loss"):
            _require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        for name in ("beta1", "beta2"):
            _require(0 <= getattr(self, name) < 1, name, getattr(self, name), "a number in [0, 1)")
        _require(isinstance(self.remat, bool), "remat", self.remat, "true or false")
        _require(0 < self.decay_share <= 1, "decay_share", self.decay_share, "a number in (0, 1]")
        _require(self.cooldown in COOLDOWNS, "cooldown", self.cooldown, f"one of {', '.join(COOLDOWNS)}")
        _require(self.schedule in SCHEDULES, "schedule", self.schedule, f"one of {', '.join(SCHEDULES)}")
        _require(self.precision in PRECISIONS, "precision", self.precision, f"one of {', '.join(PRECISIONS)}")


def _require(holds: bool, name: str, found: object, needed: str, table: str = "recipe") -> None:
    if not holds:
        raise ValueError(f"{table}.{name} = {found!r}: needed {needed}.")


@dataclass(frozen=True)
class Rule:
    """A recipe for every shape and number of tokens: learning rate, batch, warm-up, betas and weight decay as power laws.

    Batch in tokens: `batch` N^`batch_N` D^`batch_D`, but no more than leaves `steps_least` steps, rounded to a power of two of
    windows, `windows_least` of them at least. Rate: `rate` N^`rate_N` D^`rate_D`
    width^`rate_width`, no more than `rate_most`, times (batch / 256)^`rate_batch`. N is the shape's count named `count`, without
    the experts that a token does not visit. N of the blocks grows as depth width^2, so `rate_N` = -1/2 is 1/width at one depth
    only; along a ladder, where depth rises too, it falls faster. `rate_width` = -1 is 1/width at every depth.
    Warm-up: the share `warmup` of the tokens, but no more than `warmup_most` tokens a parameter (Porian et al. 2024).
    1 - beta2: (1 - `beta2`) (batch / 256)^`beta2_batch`; with 1, the second moment forgets over as many tokens at every batch
    (Marek et al. 2025, arXiv 2507.07101). Weight decay: `weight_decay` N^`weight_decay_N` D^`weight_decay_D`.
    """

    rate: float
    batch: float
    rate_N: float = 0.0
    rate_D: float = 0.0
    rate_width: float = 0.0
    rate_batch: float = 0.0
    rate_most: float = math.inf
    batch_N: float = 0.0
    batch_D: float = 0.0
    steps_least: float = 0.0
    windows_least: float = 2
    count: str = "N_blocks"
    warmup: float = 0.05
    warmup_most: float = 1.0
    beta1: float = Recipe.beta1
    beta2: float = Recipe.beta2
    beta2_batch: float = 0.0
    weight_decay: float = Recipe.weight_decay
    weight_decay_N: float = 0.0
    weight_decay_D: float = 0.0

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name == "count":
                needed = f"one of {', '.join(COUNTS)}"
                _require(value in COUNTS, each.name, value, needed, "rule")
            else:
                endless = each.name in ("rate_most", "warmup_most") and value == math.inf  # no limit
                _require(is_finite(value) or endless, each.name, value, "a number", "rule")
        for name in ("rate", "batch", "rate_most"):
            _require(getattr(self, name) > 0, name, getattr(self, name), "a positive number", "rule")
        for name in ("warmup_most", "weight_decay", "steps_least"):
            _require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more", "rule")
        _require(self.windows_least >= 1, "windows_least", self.windows_least, "1 or more", "rule")
        for name in ("warmup", "beta1", "beta2"):
            _require(0 <= getattr(self, name) < 1, name, getattr(self, name), "a number in [0, 1)", "rule")

    def __call__(self, shape: Shape, tokens: float, batch_tokens: int | None = None) -> Recipe:
        """The recipe of a run of this shape and D = `tokens`, for the batch that is given, or else the rule's own.

        Raises ValueError for a batch that is no positive number, and where a power law is too large or too near 0 for a number.
        """
        where = _where(shape, tokens)
        N = self.N(shape)
        batch = self._batch(shape, tokens) if batch_tokens is None else batch_tokens
        _require(is_finite(batch) and batch > 0, "batch_tokens", batch, "a positive number")
        rate = min(self.rate_most, self._scaled("rate", self.rate, where, N=N, D=tokens, width=shape.width))
        rate = self._scaled("rate", rate, where, batch=batch / 256)
        decay = self._scaled("weight_decay", self.weight_decay, where, N=N, D=tokens)
        return Recipe(
            learning_rate=_three_digits(rate),
            batch_tokens=batch,
            warmup_tokens=int(min(self.warmup * tokens, self.warmup_most * shape.N)),
            beta1=self.beta1,
            beta2=self.beta2_at(batch),
            weight_decay=_three_digits(decay) if self.weight_decay_N or self.weight_decay_D else self.weight_decay,
        )

    def wanted_batch(self, shape: Shape, tokens: float) -> float:
        """Tokens of a batch before it is rounded to windows. Raises ValueError where the power laws give no number."""
        batch = self._scaled("batch", self.batch, _where(shape, tokens), N=self.N(shape), D=tokens)
        return min(batch, tokens / self.steps_least) if self.steps_least else batch

    def beta2_at(self, batch_tokens: int) -> float:
        """beta2 at a batch of so many tokens."""
        where = f"batches of {batch_tokens:,} tokens"
        forgets = self._scaled("beta2", 1 - self.beta2, where, batch=batch_tokens / 256)
        return max(0.0, 1 - forgets) if self.beta2_batch else self.beta2

    def _batch(self, shape: Shape, tokens: float) -> int:
        """The rule's own batch, in tokens. Raises ValueError where it is too large to be one."""
        wanted = max(self.windows_least * shape.context, self.wanted_batch(shape, tokens))
        if wanted >= MOST_TOKENS:
            raise ValueError(
                f"rule.batch and windows_least give {wanted:.3g} tokens a batch at {_where(shape, tokens)}: needed fewer than "
                "2^63. Give less, or powers nearer to 0."
            )
        return _batch_tokens(shape, wanted)

    def _scaled(self, name: str, value: float, where: str, **bases: float) -> float:
        """`value` times the powers of the bases, each by the field of its name: of `rate` and N, N^`rate_N`.

        Raises ValueError naming the field, the powers and `where`, if that is too large or too near 0 for a number.
        """
        scaled = value
        try:
            for base, size in bases.items():
                scaled *= size ** float(getattr(self, f"{name}_{base}"))
        except OverflowError:
            scaled = math.inf
        if not (0 < scaled < math.inf or scaled == value):
            powers = {f"{name}_{base}": getattr(self, f"{name}_{base}") for base in bases}
            said = ", ".join(f"{power} = {exponent:g}" for power, exponent in powers.items() if exponent)
            raise ValueError(
                f"rule.{name} = {getattr(self, name):g} with {said} is too {'near 0' if scaled == 0 else 'large'} at {where}. "
                "Give powers nearer to 0."
            )
        return scaled

    def N(self, shape: Shape) -> int:
        """The count that the powers are of: the parameters that one token meets."""
        return getattr(shape, self.count) - (0 if self.count == "N_matmul" else shape.N_idle)


#: The parameter counts that a rule may be a function of.
COUNTS = ("N", "N_blocks", "N_nonembedding", "N_matmul")

#: The root of D, and 15,000 steps at least: over 26 cells, two or three batches and three seeds the best batch leaves 15,300 +-
#: 1,500 steps wherever that is fewer tokens than the root's (benchmarks/batches.py).
_VALLEY_BATCH = {"batch": 0.209, "batch_D": 0.5, "steps_least": 15_000, "windows_least": 1}

#: The rules by the name that a grid.toml gives them. `valley`, the default, was measured on bytes of Python and on a planted
#: language from 1e11 to 3e12 FLOPs (benchmarks/README.md, runs/LOG.md), where the best rate falls as N^-.47 and N^-.34 (+- .02)
#: and as D^-.15 and D^-.18 (+- .02). `step-law`: Li et al. 2025, arXiv 2503.04715, N without embedding. `porian`: Porian et
#: al. 2024, as Li et al. 2025 tabulate them, N with the head. These two were measured at 1e18 FLOPs and more: at 1e12 they
#: disagree wildly.
#: `width`: rate ~ 1/width, the width scaling of Yang et al. 2022, arXiv 2203.03466, with valley's batch. It equals valley at
#: depth 2, width 48, D = 2.26e6: the middle size of runs/valleys-python's 1e12 FLOPs.
RULES: dict[str, Rule] = {
    "valley": Rule(rate=10.6, rate_N=-0.45, rate_D=-0.15, rate_batch=0.5, rate_most=0.03, **_VALLEY_BATCH),
    "width": Rule(rate=0.416, rate_width=-1.0, rate_batch=0.5, **_VALLEY_BATCH),
    "step-law": Rule(rate=1.79, rate_N=-0.713, rate_D=0.307, batch=0.58, batch_D=0.571, count="N_nonembedding"),
    "porian": Rule(rate=3.7, rate_N=-0.36, batch=0.7576, batch_N=0.703, count="N_matmul"),
}


def _where(shape: Shape, tokens: float) -> str:
    return f"N = {shape.N:,} and D = {tokens:.4g} tokens"


def _three_digits(value: float) -> float:
    return float(f"{value:.3g}")


def _batch_tokens(shape: Shape, wanted: float) -> int:
    """The power-of-two number of whole windows nearest to `wanted` tokens, which are a window or more."""
    return shape.context * 2 ** round(math.log2(wanted / shape.context))
