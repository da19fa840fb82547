"""Work: what is to be computed, from a published model or from counts: FLOPs of training and serving, and memory."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from scaling.planning.cost.architectures import (
    Architecture,
    Memory,
    serving_memory,
    training_memory,
)


@dataclass(frozen=True)
class Work:
    """Training a model of N parameters (N_active of them met by a token) on D tokens, and serving D_served.

    `flops` is 6 N_active D, the count that utilisations refer to; `flops_exact` counts attention and leaves the embedding
    out, where the architecture is known.
    """

    architecture: Architecture | None = None
    N: float | None = None
    N_active: float | None = None
    D: float | None = None
    D_served: float = 0.0
    flops: float | None = None
    flops_exact: float | None = None

    @classmethod
    def of(
        cls,
        model: str | None = None,
        *,
        flops: float | None = None,
        params: float | None = None,
        active_params: float | None = None,
        tokens: float | None = None,
        inference_tokens: float | None = None,
    ) -> Work:
        """The work that a model's name, or counts, describe. Raises ValueError for two that contradict."""
        for name, value in (
            ("flops", flops), ("params", params), ("active-params", active_params), ("tokens", tokens),
            ("inference-tokens", inference_tokens),
        ):  # fmt: skip
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"{name} = {value:g}: needed a positive number.")
        architecture = None if model is None else Architecture.named(model)
        if architecture is not None and params is not None:
            raise ValueError(
                f"{model} has {architecture.N:,} parameters, and --params {params:g} says another: give one."
            )
        if params is not None and active_params is not None and active_params > params:
            raise ValueError(
                f"active-params = {active_params:g} of params = {params:g}: a token cannot meet more than all."
            )
        N = params if architecture is None else float(architecture.N)
        active = active_params or (N if architecture is None else float(architecture.N_active))
        D = tokens or (None if architecture is None or flops is not None else architecture.tokens)
        if flops is not None and active is not None and D is not None:
            raise ValueError(f"--flops {flops:g} and 6ND = {6 * active * D:.3g} of the model say it twice: give one.")
        if inference_tokens is not None and active is None:
            raise ValueError("--inference-tokens needs --params (or a model): serving takes 2N FLOPs a token.")
        if flops is None and active is not None and D is not None:
            flops = 6.0 * active * D
        exact = None if architecture is None or D is None else float(architecture.flops_per_token() * D)
        return cls(architecture, N, active, D, inference_tokens or 0.0, flops, exact)

    @property
    def serving_flops(self) -> float:
        """2 N_active FLOPs a served token."""
        return 2.0 * (self.N_active or 0.0) * self.D_served

    @property
    def total_flops(self) -> float | None:
        """FLOPs of training and serving together."""
        return None if self.flops is None and not self.serving_flops else (self.flops or 0.0) + self.serving_flops

    @property
    def note(self) -> str:
        """How the FLOPs were counted, for people."""
        parts = [] if self.N is None or self.D is None else ["6ND"]
        if self.flops_exact is not None:
            parts.append(f"exact, causal: {self.flops_exact:.4g}".replace("e+", "e"))
        if self.serving_flops:
            parts.append(f"of which serving {self.serving_flops:.4g}".replace("e+", "e"))
        return f"  ({'; '.join(parts)})" if parts else ""

    def memory(self, precision: str, serve_precision: str | None, sequences: float) -> Footprint | None:
        """Bytes to train and to serve; None where the number of parameters is not known.

        Raises ValueError for a number of sequences (contexts in flight) that is not positive.
        """
        if not 0 < sequences < float("inf"):
            raise ValueError(f"sequences = {sequences:g}: needed a positive number of contexts in flight.")
        if self.N is None:
            return None
        training = None
        if precision not in ("int8", "int4"):
            training = training_memory(self.N, precision, self.architecture, sequences)
        return Footprint(training, serving_memory(self.N, serve_precision or precision, self.architecture))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "N": self.N,
            "N_active": self.N_active,
            "D": self.D,
            "flops_6nd": self.flops if self.D is not None else None,
            "flops_exact": self.flops_exact,
            "flops_serving": self.serving_flops,
        }


@dataclass(frozen=True)
class Footprint:
    """Memory to train and to serve."""

    training: Memory | None
    serving: Memory

    def rows(self, memory_gb: float | None) -> list[tuple[str, str, str]]:
        """Label, GB and least number of devices, for people."""
        rows = []
        devices = lambda memory, remat=None: "-" if memory_gb is None else f"{memory.devices(memory_gb, remat):,}"  # noqa: E731
        if self.training is not None:
            rows += [
                ("weights", _gb(self.training.weights), ""),
                ("gradients", _gb(self.training.gradients), ""),
                ("optimiser", _gb(self.training.optimiser), ""),
                ("training state", _gb(self.training.state), devices(self.training)),
            ]
            for remat, size in (self.training.activations or {}).items():
                rows.append((f"  + activations, remat {remat}", _gb(size), devices(self.training, remat)))
        rows.append(("served weights", _gb(self.serving.weights), devices(self.serving)))
        if self.serving.cache_per_token is not None:
            rows.append(("  + cache a token", _gb(self.serving.cache_per_token), ""))
        return rows

    def to_json(self, memory_gb: float | None, remat: str) -> dict[str, Any]:
        """Plain JSON values; bytes."""
        plain = asdict(self)
        for name, memory in (("training", self.training), ("serving", self.serving)):
            if memory is not None and memory_gb is not None:
                plain[name]["devices"] = memory.devices(memory_gb, remat)
        return plain


def _gb(size: float) -> str:
    return f"{size / 1e9:,.1f}" if size >= 1e8 else f"{size / 1e9:.3g}"
