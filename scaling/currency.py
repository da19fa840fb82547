"""Currency: how FLOPs follow from N, the same way as in the runs that a law was fitted to."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from scaling.shape import Shape

#: Copies of vocabulary x width in each count of parameters: embedding and head, neither, the head alone.
EMBEDDINGS = {"N": 2, "N_nonembedding": 0, "N_matmul": 1}

#: The dial of `Shape.of_depth`: width = WIDTH depth^GROWTH. Below LEAST_DEPTH the ladder of shapes has that depth, narrower; the
#: two meet as (LEAST_DEPTH^BEND + depth^BEND)^(1/BEND), for a corner would be one in every best size, too.
WIDTH, GROWTH, LEAST_DEPTH, BEND = 16.0, 1.3, 2.0, 8


@dataclass(frozen=True)
class Currency:
    """What C counts ("6ND" or "exact") and what N counts; a budget in C is spent as flops_per_token(N) x D.

    Exact FLOPs depend on the shape, so N is taken along the dial of `Shape.of_depth` with its depth made continuous:
    blocks 12 x w^2, embedding and head V w each, attention 6 x T w, for depth x and w = 16 x^1.3; near depth 2, where the
    ladder of shapes ends, the depth stays there and the width alone falls. Real shapes lie within a few percent of it;
    `--shape` snaps to one and counts that one, which is then held in `shape`. `active` is the share of N that a token meets,
    below 1 for a mixture of experts whose law counts all of them.
    """

    flops: str = "6ND"
    count: str = "N"
    vocab: int = 256
    context: int = 64
    shape: Shape | None = None
    active: float = 1.0

    def __post_init__(self) -> None:
        if self.flops not in ("6ND", "exact"):
            raise ValueError(f"flops = {self.flops!r}: needed 6ND or exact.")
        if self.count not in EMBEDDINGS:
            raise ValueError(f"count = {self.count!r}: needed one of {', '.join(EMBEDDINGS)}.")
        if not 0 < self.active <= 1:
            raise ValueError(f"active share = {self.active:g}: needed a share of the parameters in (0, 1].")
        if self.active < 1 and self.flops == "exact":
            raise ValueError("an active share below 1 is counted in 6ND: exact FLOPs are those of dense shapes.")

    def flops_per_token(self, N: Any) -> Any:
        """Training FLOPs a token of a model with this count; a third of it is the forward pass, for serving."""
        if self.shape is not None:
            return float(self.shape.flops_per_token) + 0.0 * N
        if self.flops == "6ND":
            return 6.0 * self.active * N
        depth, width = self._dial(N)
        return 6.0 * (12 * depth * width**2 + self.vocab * width + depth * self.context * width)

    def _dial(self, N: Any) -> tuple[Any, Any]:
        """(depth, width) at which the count is N, not rounded."""
        depth = (LEAST_DEPTH**BEND + self._depth(N) ** BEND) ** (1 / BEND)
        embedding, blocks = EMBEDDINGS[self.count] * self.vocab, 12 * depth  # N = blocks w^2 + embedding w
        return depth, (np.sqrt(embedding**2 + 4 * blocks * N) - embedding) / (2 * blocks)

    def _depth(self, N: Any) -> Any:
        """Depth on the dial, not rounded, at which the count is N: Newton on log N, convex, from above."""
        share = EMBEDDINGS[self.count] * self.vocab * WIDTH
        log_N = np.log(N)
        log_depth = (log_N - math.log(12 * WIDTH**2)) / (1 + 2 * GROWTH)
        for _ in range(12 if share else 0):
            blocks = 12 * WIDTH**2 * np.exp((1 + 2 * GROWTH) * log_depth)
            embedding = share * np.exp(GROWTH * log_depth)
            slope = ((1 + 2 * GROWTH) * blocks + GROWTH * embedding) / (blocks + embedding)
            step = (np.log(blocks + embedding) - log_N) / slope
            log_depth = log_depth - step
            if np.max(np.abs(step), initial=0.0) < 1e-15:
                break
        return np.exp(log_depth)

    def built(self, shape: Shape) -> Currency:
        """The exact currency of one shape."""
        return replace(self, flops="exact", shape=shape)

    def of_shape(self, shape: Shape) -> int:
        """This currency's count of a shape."""
        return getattr(shape, self.count)

    def snap(self, N: float) -> Shape:
        """The buildable shape whose count is nearest to N."""
        whole = N
        if self.count != "N":
            whole = N + (2 - EMBEDDINGS[self.count]) * self.vocab * self._dial(N)[1]
        return Shape.near(float(whole), vocab=self.vocab, context=self.context)

    def __str__(self) -> str:
        counts = {"N": "all parameters", "N_nonembedding": "non-embedding parameters", "N_matmul": "blocks and head"}
        if self.flops == "6ND":
            share = "" if self.active == 1 else f", {self.active:.3g} of them active: C = 6 x {self.active:.3g} ND"
            return f"C = 6ND, N counts {counts[self.count]}{share}"
        return (
            f"C in exact FLOPs (causal; vocabulary {self.vocab}, context {self.context}), N counts {counts[self.count]}"
        )
