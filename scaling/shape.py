"""Shape: what a model is, and everything that can be counted from it before it is built."""

from __future__ import annotations

import math
import sys
from bisect import bisect, bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from operator import attrgetter
from typing import Any, NamedTuple, TypeGuard

#: Share of a device's memory that runs may take by the estimate of `Shape.training_bytes`.
MEMORY_SHARE = 0.8

#: The deepest and the widest shape that `Shape.near` looks at; GPT-3 has 96 layers of width 12,288.
MAX_DEPTH, MAX_WIDTH = 128, 16_384


POSITIONS = ("rotary", "learned")
MLPS = ("gelu", "relu2", "swiglu")


@dataclass(frozen=True)
class Aspect:
    """How wide a ladder is at each depth: `width` depth^`power`. Aspect(64, 1) is a constant width/depth of 64, as GPT-2's.

    Raises ValueError for a width that is not positive, or a power outside 0 to 4.
    """

    width: float = 16
    power: float = 1.3

    def __post_init__(self) -> None:
        for name, most in (("width", MAX_WIDTH), ("power", 4)):
            value = getattr(self, name)
            if not is_number(value) or not 0 <= value <= most or (name == "width" and value == 0):
                least = "a positive number up to" if name == "width" else "a number from 0 to"
                raise ValueError(f"aspect.{name} = {value!r}: needed {least} {most}.")

    def __call__(self, depth: float) -> float:
        """Width at a depth, not rounded."""
        return self.width * depth**self.power


@dataclass(frozen=True)
class Shape:
    """A decoder-only transformer: `depth` blocks of `width`, with `heads` heads of width `width / heads`.

    Token embedding and output head are two matrices, or one where `tied`. Positions are rotary or learned. An MLP is
    `mlp_ratio` widths wide, rounded to a whole number (8/3 gives a SwiGLU the size of two matrices of ratio 4): GELU or
    squared ReLU between two matrices, or SwiGLU with three (Shazeer 2020). Heads share
    `kv_heads` keys and values (Ainslie et al. 2023); None is one for each. With `experts`, a block has that many MLPs
    and a token visits `experts_per_token` of them (Shazeer et al. 2017). Every normalisation is free of parameters
    except one gain a head for queries, so the counts below are the whole of the model.

    Raises ValueError where no such model can be built.
    """

    depth: int
    width: int
    heads: int
    vocab: int = 256
    context: int = 64
    mlp_ratio: float = 4
    tied: bool = False
    positions: str = "rotary"
    mlp: str = "gelu"
    kv_heads: int | None = None
    experts: int = 0
    experts_per_token: int = 0

    def __post_init__(self) -> None:
        for name in ("depth", "width", "heads", "vocab", "context"):
            _require_whole(name, getattr(self, name), 1)
        if not is_number(self.mlp_ratio) or not 0.5 <= self.mlp_ratio * self.width < math.inf:
            raise ValueError(f"mlp_ratio = {self.mlp_ratio!r}: a shape needs a positive number, such as 4 or 2.6667.")
        if self.mlp_ratio == int(self.mlp_ratio):
            object.__setattr__(self, "mlp_ratio", int(self.mlp_ratio))  # 4.0 is 4, and has its id
        self._require_heads()
        if not isinstance(self.tied, bool):
            raise ValueError(f"tied = {self.tied!r}: needed true or false.")
        for name, known in (("positions", POSITIONS), ("mlp", MLPS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} = {getattr(self, name)!r}: needed one of {', '.join(known)}.")
        if self.kv_heads is not None:
            _require_whole("kv_heads", self.kv_heads, 1)
            if self.heads % self.kv_heads:
                raise ValueError(f"kv_heads = {self.kv_heads}: needed a divisor of the {self.heads} heads.")
        for name in ("experts", "experts_per_token"):
            _require_whole(name, getattr(self, name), 0)
        if self.experts == 1 or not (bool(self.experts) <= self.experts_per_token <= self.experts):
            raise ValueError(
                f"experts = {self.experts} with experts_per_token = {self.experts_per_token}: needed at least 2 experts "
                "and 1 to all of them a token, or neither."
            )

    def _require_heads(self) -> None:
        """Refuse heads that do not divide the width, and those whose width cannot be turned in pairs."""
        if self.width % self.heads:
            raise ValueError(
                f"width {self.width} with {self.heads} heads: needed heads that divide the width. Use heads = "
                f"{default_heads(self.width)}."
            )
        if self.positions == "rotary" and self.head_width % 2:
            use = "an even width" if self.width % 2 else f"heads = {default_heads(self.width)}"
            raise ValueError(
                f"width {self.width} with heads of width {self.head_width}: rotary positions need an even head width. "
                f"Use {use}, or positions = 'learned'."
            )

    @classmethod
    def of_depth(cls, depth: int, *, aspect: Aspect | None = None, **options: Any) -> Shape:
        """The shape that the one dial gives: width 16 depth^1.3 (16, 40, 64, 96, 128, ... 1000 at 24), or `aspect`'s.

        Any further field may be given by name: vocab, context, mlp, ..., and `head_width`.
        """
        _require_whole("depth", depth, 1)
        return cls.of_width(depth, dial_width(depth, aspect, options.get("head_width")), **options)

    @classmethod
    def of_width(cls, depth: int, width: int, *, head_width: int | None = None, **options: Any) -> Shape:
        """The shape of this depth and width, with heads of `head_width`, or of the width that `default_heads` picks.

        Where `kv_heads` does not divide the heads, the nearest number below that does is taken.
        """
        _require_whole("width", width, 1)
        heads = options.pop("heads", None)
        if heads is not None and head_width is not None:
            raise ValueError(f"heads = {heads!r} and head_width = {head_width!r}: give one of them.")
        if head_width is not None:
            heads = _heads_of(width, head_width)
        elif heads is None:
            heads = default_heads(width)
        _require_whole("heads", heads, 1)
        kv_heads = options.pop("kv_heads", None)
        if kv_heads is not None:
            _require_whole("kv_heads", kv_heads, 1)
            kv_heads = max(each for each in range(1, min(kv_heads, heads) + 1) if heads % each == 0)
        return cls(depth=depth, width=width, heads=heads, kv_heads=kv_heads, **options)

    @classmethod
    def near(cls, N: float, **options: Any) -> Shape:
        """The buildable shape whose parameter count is nearest to N, among shapes close to the dial.

        Any field but width and heads may be given by name, and is that of every shape of the ladder. `aspect` is the dial,
        `head_width` the width of every head, of which all widths are then multiples; with `depth` only the width changes.
        Widths are round numbers within a factor 1.6 of the dial's width for their depth. Of the shapes within 5% of
        N the one closest to the dial is taken, so neighbouring N give neighbouring shapes.
        Raises ValueError where the smallest or largest shape is more than 1.5 times off.
        """
        if not math.isfinite(N) or N <= 0:
            raise ValueError(f"N = {N}: a model needs a positive number of parameters.")
        for name in options:
            if name in ("width", "heads"):
                raise ValueError(f"{name}: `Shape.near` chooses it. Give depth and width to fix the shape instead.")
        if options.get("depth") and options.get("aspect"):
            raise ValueError("depth and aspect both say how deep a shape of this N is. Give one of them.")
        ladder, log_N = _ladder(tuple(sorted(options.items()))), math.log(N)
        above = bisect(ladder, log_N, key=_log_N)
        nearest = min(ladder[max(above - 1, 0) : above + 1], key=lambda rung: abs(rung.log_N - log_N))
        off = abs(nearest.log_N - log_N)
        if off > math.log(1.5):
            raise ValueError(
                f"N = {N:.3g} cannot be built with a vocabulary of {nearest.shape.vocab}: the nearest shape has "
                f"{nearest.shape.N:,} parameters. Ask for another N, or give depth and width."
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
    def kv_width(self) -> int:
        """Width of the keys, and of the values, of all heads together."""
        return self.head_width * (self.kv_heads or self.heads)

    @property
    def mlp_width(self) -> int:
        """Width inside an MLP."""
        return round(self.mlp_ratio * self.width)

    def _block(self, mlps: int) -> int:
        """Parameters of a block's matrix products with this many MLPs: 4 width^2 of attention, less for grouped queries,
        2 (SwiGLU: 3) mlp_ratio width^2 for each MLP, and the router."""
        attention = 2 * self.width * (self.width + self.kv_width)
        mlp = (3 if self.mlp == "swiglu" else 2) * self.width * self.mlp_width
        return attention + mlps * mlp + self.width * self.experts

    @property
    def N_blocks(self) -> int:
        """Parameters of the blocks' matrix products, every expert's among them."""
        return self.depth * self._block(self.experts or 1)

    @property
    def N_idle(self) -> int:
        """Parameters that one token does not meet: those of the experts that it does not visit."""
        return self.N_blocks - self.depth * self._block(self.experts_per_token or 1)

    @property
    def N_gains(self) -> int:
        """Parameters of the blocks that are in no matrix product: one query gain a head."""
        return self.depth * self.heads

    @property
    def N_embedding(self) -> int:
        """Parameters of the token embedding (the output head is counted apart)."""
        return self.vocab * self.width

    @property
    def N_positions(self) -> int:
        """Parameters of learned positions."""
        return self.context * self.width if self.positions == "learned" else 0

    @property
    def N_head(self) -> int:
        """Parameters of the output head; none of its own where it is tied to the embedding."""
        return 0 if self.tied else self.vocab * self.width

    @property
    def N(self) -> int:
        """All parameters."""
        return self.N_blocks + self.N_gains + self.N_embedding + self.N_positions + self.N_head

    @property
    def N_active(self) -> int:
        """Parameters that one token meets: all but the experts that it does not visit."""
        return self.N - self.N_idle

    @property
    def N_nonembedding(self) -> int:
        """Parameters without embeddings of tokens and positions and the output head (Kaplan et al. 2020)."""
        return self.N_blocks + self.N_gains

    @property
    def N_matmul(self) -> int:
        """Parameters that a token meets in a matrix product: blocks and head, tied or not (Porian et al. 2024)."""
        return self.depth * self._block(self.experts_per_token or 1) + self.vocab * self.width

    @property
    def flops_per_token(self) -> int:
        """Training FLOPs a token, forward and backward: 6 N_matmul + 6 depth context width.

        The second term is causal attention, half of the full 12 L S W (PaLM, Chowdhery et al. 2022, appendix B).
        Normalisations, activations and the embedding's look-up are left out, as is usual; of the experts, those visited count.
        """
        return 6 * self.N_matmul + 6 * self.depth * self.context * self.width

    @property
    def flops_per_token_6n(self) -> int:
        """Training FLOPs a token by the rule of thumb 6N, N being what the token meets."""
        return 6 * self.N_active

    def training_bytes(self, batch_tokens: int, *, narrow: bool = False, remat: bool = False) -> int:
        """Estimated bytes to train: 16 a parameter (fp32 weights, gradient, two moments) and the kept activations.

        Activations: per token and block 34 half-words of width and 5 of heads x context (Korthikanti et al. 2022,
        equation 2, given for 2-byte numbers, which are those of `narrow`), and the logits with their gradient. With `remat`
        the inputs of the blocks are kept, and the activations of one.
        """
        bytes_per_activation = 2 if narrow else 4
        per_block = (34 * self.width + 5 * self.heads * self.context) * bytes_per_activation // 2
        logits = 2 * self.vocab * bytes_per_activation
        blocks = self.depth * self.width * bytes_per_activation + per_block if remat else self.depth * per_block
        return 16 * self.N + batch_tokens * (blocks + logits)


def dial_width(depth: int, aspect: Aspect | None = None, head_width: int | None = None) -> int:
    """Width that the dial gives to a depth: 16 depth^1.3 or `aspect`'s, rounded to a width that hardware likes."""
    return _round_width((aspect or Aspect())(depth), head_width)


@cache
def default_heads(width: int) -> int:
    """Number of heads whose head width is nearest to 16, 32 from width 96, 64 from width 512: an even number where it can be."""
    target = 16 if width < 96 else 32 if width < 512 else 64
    choices = [h for h in range(1, width + 1) if width % h == 0]
    choices = [h for h in choices if (width // h) % 2 == 0] or choices
    return min(choices, key=lambda h: (abs(math.log(width / h / target)), h))


def _heads_of(width: int, head_width: int) -> int:
    """Number of heads of this width. Raises ValueError where they do not fill the width."""
    _require_whole("head_width", head_width, 1)
    if width % head_width:
        raise ValueError(
            f"width {width} with head_width = {head_width}: needed a multiple. Use width = {_round_width(width, head_width)}."
        )
    return width // head_width


def is_number(value: object) -> TypeGuard[float]:
    """Whether this is a number, and not true or false; it may be infinite."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_finite(value: object) -> TypeGuard[float]:
    """Whether this is a number, and one that a float holds: neither infinite, nor a whole number of over 308 digits."""
    return is_number(value) and abs(value) <= sys.float_info.max


def _require_whole(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} = {value!r}: a shape needs a whole number of at least {least}.")


def _width_step(width: float, head_width: int | None = None) -> int:
    """Between neighbouring widths: a round number, and a multiple of the head width where that is given."""
    step = 2 if width < 16 else 4 if width < 64 else 8 if width < 128 else 32 if width < 512 else 64
    return _multiple(step, head_width)


def _multiple(least: int, head_width: int | None) -> int:
    return least if head_width is None else math.ceil(least / head_width) * head_width


def _round_width(width: float, head_width: int | None = None) -> int:
    step = _width_step(width, head_width)
    return max(_multiple(8, head_width), round(width / step) * step)


class _Rung(NamedTuple):
    """A shape of the ladder, with the log of its count and how far its width is from the dial's, in logs."""

    log_N: float
    off_dial: float
    shape: Shape


_log_N = attrgetter("log_N")


@lru_cache(maxsize=32)
def _ladder(options: tuple[tuple[str, Any], ...]) -> tuple[_Rung, ...]:
    """Every shape near the dial with these options, smallest count first.

    It begins at depth 2: one block cannot look up what followed the last time, and the law of a family that begins with
    such models bends where they end (runs/LOG.md).
    """
    fields = dict(options)
    depth, aspect, head_width = (
        fields.pop("depth", None),
        fields.pop("aspect", None) or Aspect(),
        fields.get("head_width"),
    )
    for name, value in (("depth", depth), ("head_width", head_width)):
        if value is not None:
            _require_whole(name, value, 1)
    rungs = []
    for each in range(2, MAX_DEPTH + 1) if depth is None else (depth,):
        dial = aspect(each)
        for width in _widths(dial, head_width, all_widths=depth is not None, narrow=each == 2):
            shape = Shape.of_width(each, width, **fields)
            rungs.append(_Rung(math.log(shape.N), 0.0 if depth else abs(math.log(width / dial)), shape))
    if not rungs:
        raise ValueError(
            f"width {aspect.width:g} depth^{aspect.power:g} is below {_multiple(8, head_width)} at every depth up to "
            f"{MAX_DEPTH}. Give a larger aspect.width."
        )
    return tuple(sorted(rungs, key=_log_N))


def _widths(dial: float, head_width: int | None, *, all_widths: bool, narrow: bool) -> Iterator[int]:
    """The round widths within a factor 1.6 of the dial's, or all of them; all narrower ones, too, where `narrow`.

    Where heads of a fixed width leave large steps, the factor is larger by as much, so that depths fill the gaps.
    """
    width = _multiple(8, head_width) if all_widths or narrow or head_width else _round_width(dial / 1.6)
    while width <= MAX_WIDTH:
        step = _width_step(width, head_width)
        reach = 1.6 * (1 + step / width) ** 2 if head_width else 1.6
        if not all_widths and width > reach * dial:
            return
        if all_widths or narrow or not head_width or width >= dial / reach:
            yield width
        width += step
