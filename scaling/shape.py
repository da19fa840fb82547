"""Shape: what a model is, and everything that can be counted from it before it is built."""

from __future__ import annotations

import math
from bisect import bisect, bisect_left
from dataclasses import dataclass
from functools import cache, lru_cache
from operator import attrgetter
from typing import NamedTuple

#: Widest depth that `Shape.near` looks at; GPT-3 has 96 layers.
MAX_DEPTH = 128


@dataclass(frozen=True)
class Shape:
    """A decoder-only transformer: `depth` blocks of `width`, with `heads` heads of width `width / heads`.

    Token embedding and output head are two matrices; the positions are rotary and every normalisation is
    free of parameters except one gain a head for queries, so the counts below are the whole of the model.

    Raises ValueError where no such model can be built.
    """

    depth: int
    width: int
    heads: int
    vocab: int = 256
    context: int = 64
    mlp_ratio: int = 4

    def __post_init__(self) -> None:
        for name in ("depth", "width", "heads", "vocab", "context", "mlp_ratio"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} = {value!r}: a shape needs a whole number of at least 1.")
        if self.width % self.heads or (self.width // self.heads) % 2:
            raise ValueError(
                f"width {self.width} with {self.heads} heads: rotary positions need an even head width. "
                f"Use heads = {default_heads(self.width) if self.width % 2 == 0 else 1} or an even width."
            )

    @classmethod
    def of_depth(cls, depth: int, *, vocab: int = 256, context: int = 64) -> Shape:
        """The shape that the one dial gives: width 16 depth^1.3 (16, 40, 64, 96, 128, ... 1000 at 24)."""
        if depth < 1:
            raise ValueError(f"depth = {depth}: the dial starts at 1.")
        return cls.of_width(depth, dial_width(depth), vocab=vocab, context=context)

    @classmethod
    def of_width(cls, depth: int, width: int, *, vocab: int = 256, context: int = 64) -> Shape:
        """The shape of this depth and width, with the head width that `default_heads` picks."""
        return cls(depth=depth, width=width, heads=default_heads(width), vocab=vocab, context=context)

    @classmethod
    def near(cls, N: float, *, vocab: int = 256, context: int = 64) -> Shape:
        """The buildable shape whose parameter count is nearest to N, among shapes close to the dial.

        Widths are round numbers within a factor 1.6 of the dial's width for their depth. Of the shapes within 5% of
        N the one closest to the dial is taken, so neighbouring N give neighbouring shapes.
        Raises ValueError where the smallest or largest shape is more than 1.5 times off.
        """
        if not math.isfinite(N) or N <= 0:
            raise ValueError(f"N = {N}: a model needs a positive number of parameters.")
        ladder, log_N = _ladder(vocab, context), math.log(N)
        above = bisect(ladder, log_N, key=_log_N)
        nearest = min(ladder[max(above - 1, 0) : above + 1], key=lambda rung: abs(rung.log_N - log_N))
        off = abs(nearest.log_N - log_N)
        if off > math.log(1.5):
            raise ValueError(
                f"N = {N:.3g} cannot be built with a vocabulary of {vocab}: the nearest shape has {nearest.shape.N:,} "
                "parameters. Ask for another N, or give depth and width."
            )
        reach = max(0.05, off)
        close = ladder[bisect_left(ladder, log_N - reach, key=_log_N) : bisect(ladder, log_N + reach, key=_log_N)] or [
            nearest
        ]
        return min(close, key=lambda rung: (rung.off_dial, abs(rung.log_N - log_N))).shape

    @property
    def head_width(self) -> int:
        """Width of one head."""
        return self.width // self.heads

    @property
    def N_blocks(self) -> int:
        """Parameters of the blocks' matrix products: 4 width^2 of attention and 2 mlp_ratio width^2 of MLP a block."""
        return self.depth * (4 + 2 * self.mlp_ratio) * self.width**2

    @property
    def N_gains(self) -> int:
        """Parameters that are in no matrix product: one query gain a head."""
        return self.depth * self.heads

    @property
    def N_embedding(self) -> int:
        """Parameters of the token embedding (the output head is counted apart)."""
        return self.vocab * self.width

    @property
    def N_head(self) -> int:
        """Parameters of the output head."""
        return self.vocab * self.width

    @property
    def N(self) -> int:
        """All parameters."""
        return self.N_blocks + self.N_gains + self.N_embedding + self.N_head

    @property
    def N_nonembedding(self) -> int:
        """Parameters without the token embedding and the output head (Kaplan et al. 2020)."""
        return self.N_blocks + self.N_gains

    @property
    def N_matmul(self) -> int:
        """Parameters in a matrix product: blocks and head (Porian et al. 2024)."""
        return self.N_blocks + self.N_head

    @property
    def flops_per_token(self) -> int:
        """Training FLOPs a token, forward and backward: 6 N_matmul + 6 depth context width.

        The second term is causal attention, half of the full 12 L S W (PaLM, Chowdhery et al. 2022, appendix B).
        Normalisations, activations and the embedding's look-up are left out, as is usual.
        """
        return 6 * self.N_matmul + 6 * self.depth * self.context * self.width

    @property
    def flops_per_token_6n(self) -> int:
        """Training FLOPs a token by the rule of thumb 6N."""
        return 6 * self.N

    def training_bytes(self, batch_tokens: int, *, bytes_per_activation: int = 4) -> int:
        """Estimated bytes to train: 16 a parameter (fp32 weights, gradient, two moments) and the kept activations.

        Activations: per token and block 34 half-words of width and 5 of heads x context (Korthikanti et al. 2022,
        equation 2, given for 2-byte numbers), and the logits with their gradient.
        """
        per_block = (34 * self.width + 5 * self.heads * self.context) * bytes_per_activation // 2
        logits = 2 * self.vocab * bytes_per_activation
        return 16 * self.N + batch_tokens * (self.depth * per_block + logits)


def dial_width(depth: int) -> int:
    """Width that the dial gives to a depth: 16 depth^1.3, rounded to a width that hardware likes."""
    return _round_width(16 * depth**1.3)


@cache
def default_heads(width: int) -> int:
    """Number of heads whose head width (an even number) is nearest to 16, 32 from width 96, 64 from width 512."""
    target = 16 if width < 96 else 32 if width < 512 else 64
    choices = [h for h in range(1, width // 2 + 1) if width % h == 0 and (width // h) % 2 == 0]
    if not choices:
        raise ValueError(f"width = {width}: rotary positions need an even width.")
    return min(choices, key=lambda h: (abs(math.log(width / h / target)), h))


def _width_step(width: float) -> int:
    return 2 if width < 16 else 4 if width < 64 else 8 if width < 128 else 32 if width < 512 else 64


def _round_width(width: float) -> int:
    step = _width_step(width)
    return max(8, round(width / step) * step)


class _Rung(NamedTuple):
    """A shape of the ladder, with the log of its count and how far its width is from the dial's, in logs."""

    log_N: float
    off_dial: float
    shape: Shape


_log_N = attrgetter("log_N")


@lru_cache(maxsize=8)
def _ladder(vocab: int, context: int) -> tuple[_Rung, ...]:
    """Every shape near the dial, smallest count first.

    It begins at depth 2: one block cannot look up what followed the last time, and the law of a family that begins with
    such models bends where they end (runs/LOG.md).
    """
    rungs = []
    for depth in range(2, MAX_DEPTH + 1):
        dial = 16 * depth**1.3
        width = 8 if depth == 2 else _round_width(dial / 1.6)
        while width <= 1.6 * dial:
            shape = Shape.of_width(depth, width, vocab=vocab, context=context)
            rungs.append(_Rung(math.log(shape.N), abs(math.log(width / dial)), shape))
            width += _width_step(width)
    return tuple(sorted(rungs, key=_log_N))
