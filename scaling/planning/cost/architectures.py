"""Architecture: a transformer as papers describe it, and what can be counted: parameters, FLOPs, bytes, devices."""

from __future__ import annotations

import csv
import difflib
import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from scaling.hardware import BYTES

#: Bytes a parameter while training with Adam: weights, gradient, and two moments with the fp32 master copy.
TRAINING_BYTES = {"fp32": (4, 4, 8), "tf32": (4, 4, 8), "bf16": (2, 2, 12), "fp8": (2, 2, 12)}
REMATS = ("none", "selective", "full")


@dataclass(frozen=True)
class Architecture:
    """A decoder-only transformer; `experts` MLPs a layer, of which a token visits `active_experts`.

    N counts every parameter (memory); N_active those that a token meets (FLOPs).
    """

    name: str
    layers: int
    width: int
    heads: int
    kv_heads: int
    head_width: int
    mlp_width: int
    gated: bool
    vocab: int
    context: int
    tied: bool
    positions: str
    bias: bool
    norm: str
    experts: int = 1
    active_experts: int = 1
    tokens: float | None = None
    source: str = ""

    @classmethod
    def named(cls, name: str) -> Architecture:
        """A published model. Raises ValueError with the nearest names."""
        table = _table()
        found = table.get(name.lower())
        if found is None:
            near = difflib.get_close_matches(name.lower(), table, 3, 0.4) or list(table)
            raise ValueError(f"unknown model {name!r}; the nearest are {', '.join(near)}. Or give --params.")
        return found

    def _layer(self, experts: int) -> int:
        """Matrix-product parameters of one layer with this many experts, without the router."""
        attention = 2 * self.width * self.heads * self.head_width + 2 * self.width * self.kv_heads * self.head_width
        return attention + experts * (3 if self.gated else 2) * self.width * self.mlp_width

    @property
    def _router(self) -> int:
        return self.width * self.experts if self.experts > 1 else 0

    @property
    def _vectors(self) -> int:
        """Parameters of a layer that are in no matrix product: biases and normalisations."""
        norm = 2 * (2 if self.norm == "layer" else 1) * self.width
        if not self.bias:
            return norm
        attention = self.heads * self.head_width + 2 * self.kv_heads * self.head_width + self.width
        return norm + attention + self.experts * (self.mlp_width * (2 if self.gated else 1) + self.width)

    def _count(self, experts: int) -> int:
        embedding = self.vocab * self.width * (1 if self.tied else 2)
        positions = self.context * self.width if self.positions == "learned" else 0
        final_norm = (2 if self.norm == "layer" else 1) * self.width
        return self.layers * (self._layer(experts) + self._router + self._vectors) + embedding + positions + final_norm

    @property
    def N(self) -> int:
        """All parameters, exactly."""
        return self._count(self.experts)

    @property
    def N_active(self) -> int:
        """Parameters that one token meets."""
        return self._count(self.active_experts)

    def flops_per_token(self, attention: str = "causal") -> int:
        """Training FLOPs a token: 6 (N_layers + width vocab) + 12 layers context heads head_width, half of it causal."""
        products = self.layers * (self._layer(self.active_experts) + self._router) + self.width * self.vocab
        full = 12 * self.layers * self.context * self.heads * self.head_width
        return 6 * products + (full if attention == "full" else full // 2)

    def cache_bytes_per_token(self, precision: str = "bf16") -> float:
        """Bytes of keys and values that serving keeps a token."""
        return 2 * self.layers * self.kv_heads * self.head_width * BYTES[precision]

    def activation_bytes(self, sequences: float, remat: str = "none") -> float:
        """Bytes of 16-bit activations of `sequences` whole contexts (Korthikanti et al. 2022, equations 2, 5, 6)."""
        if remat not in REMATS:
            raise ValueError(f"remat = {remat!r}: needed one of {', '.join(REMATS)}.")
        base = self.context * sequences * self.width * self.layers
        scores = 5 * self.heads * self.context / self.width
        return base * {"none": 34 + scores, "selective": 34.0, "full": 2.0}[remat]


@dataclass(frozen=True)
class Memory:
    """Bytes that a model takes, by what they hold; activations and cache are None where the architecture is not known."""

    weights: float
    gradients: float
    optimiser: float
    activations: dict[str, float] | None
    cache_per_token: float | None

    @property
    def state(self) -> float:
        """Bytes of weights, gradients and optimiser together."""
        return self.weights + self.gradients + self.optimiser

    def devices(self, memory_gb: float, remat: str | None = None) -> int:
        """The least number of devices that holds the state, and the activations of `remat` where one is named.

        Everything is fully sharded and nothing is kept back for the runtime.
        """
        total = self.state + (self.activations or {}).get(remat or "", 0.0)
        return max(1, math.ceil(total / (memory_gb * 1e9)))


def training_memory(
    N: float, precision: str = "bf16", architecture: Architecture | None = None, sequences: float = 1
) -> Memory:
    """Bytes to train N parameters with Adam; `sequences` contexts are in flight over all devices together."""
    if precision not in TRAINING_BYTES:
        raise ValueError(f"precision = {precision!r}: training needs one of {', '.join(TRAINING_BYTES)}.")
    weights, gradients, optimiser = TRAINING_BYTES[precision]
    activations = None
    if architecture is not None:
        scale = BYTES["fp32"] / BYTES["bf16"] if precision in ("fp32", "tf32") else 1.0
        activations = {remat: scale * architecture.activation_bytes(sequences, remat) for remat in REMATS}
    cache_bytes = None if architecture is None else architecture.cache_bytes_per_token(_served(precision))
    return Memory(weights * N, gradients * N, optimiser * N, activations, cache_bytes)


def serving_memory(N: float, precision: str = "bf16", architecture: Architecture | None = None) -> Memory:
    """Bytes to serve N parameters: weights in `precision`, and the cache a token where the architecture is known."""
    cache_bytes = None if architecture is None else architecture.cache_bytes_per_token(_served(precision))
    return Memory(BYTES[precision] * N, 0.0, 0.0, None, cache_bytes)


def _served(precision: str) -> str:
    """Precision of keys and values: weights of 4 bits keep a 16-bit cache."""
    return "bf16" if precision == "int4" else precision


@cache
def _table() -> dict[str, Architecture]:
    """Published architectures by name and alias."""
    with Path(__file__).with_name("architectures.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    found: dict[str, Architecture] = {}
    for row in rows:
        architecture = Architecture(**{key: _value(key, text) for key, text in row.items() if key != "aliases"})
        for name in (row["name"], *filter(None, row["aliases"].split(";"))):
            found[name] = architecture
    return found


def published() -> tuple[Architecture, ...]:
    """Every published architecture of the table."""
    return tuple(dict.fromkeys(_table().values()))


def _value(key: str, text: str) -> Any:
    if key in ("name", "positions", "norm", "source"):
        return text
    if key in ("gated", "tied", "bias"):
        return text == "yes"
    return (float(text) if text else None) if key == "tokens" else int(text)
