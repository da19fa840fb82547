"""RunSpec: one run, fixed completely; its id is the hash of what it says."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache, cached_property
from typing import Any

from scaling.recipe import Recipe, Rule
from scaling.shape import Shape

#: Held-out tokens that every run of a sweep is evaluated on.
EVAL_TOKENS = 262_144


@dataclass(frozen=True)
class RunSpec:
    """What a run is: the same spec gives the same loss. `id` is the hash of its content.

    `tokens` is D, a whole number of batches. `corpus` is a name or path for people; `digest` is what counts.
    """

    shape: Shape
    recipe: Recipe
    corpus: str
    digest: str
    tokens: int
    seed: int = 0
    eval_tokens: int = EVAL_TOKENS

    @cached_property
    def id(self) -> str:
        """First 16 hex digits of the SHA-256 of what the spec says: all but the corpus' name and fields at their default.

        A field that is added later, with today's behaviour as its default, so leaves the ids of old runs as they are.
        A default is never changed: it would give two runs one id.
        """
        return _hash(self, ("corpus",))

    @cached_property
    def trunk(self) -> str | None:
        """What a wsd run shares with its siblings, the runs that differ from it in `tokens` alone; None for other schedules.

        Until its own decay begins, such a run is the first stretch of the longest of them.
        """
        return _hash(self, ("corpus", "tokens")) if self.recipe.schedule == "wsd" else None

    @property
    def decay_steps(self) -> int:
        """Steps of the decay at the end of a wsd run, at least one; those before are its trunk's."""
        return max(1, round(self.recipe.decay_share * self.steps))

    @property
    def training_bytes(self) -> int:
        """Estimated bytes that the run takes while it trains, by `Shape.training_bytes`."""
        narrow = self.recipe.precision == "bfloat16"
        return self.shape.training_bytes(self.recipe.batch_tokens, narrow=narrow, remat=self.recipe.remat)

    @property
    def steps(self) -> int:
        """Optimiser steps."""
        return self.tokens // self.recipe.batch_tokens

    @property
    def C(self) -> int:
        """Exact training FLOPs."""
        return self.shape.flops_per_token * self.tokens

    @classmethod
    def from_json(cls, spec: Mapping[str, Any]) -> RunSpec:
        """The spec that `dataclasses.asdict` wrote."""
        return cls(**{**spec, "shape": Shape(**spec["shape"]), "recipe": Recipe(**spec["recipe"])})


def _hash(spec: RunSpec, without: tuple[str, ...]) -> str:
    """First 16 hex digits of the SHA-256 of what a spec says, without some fields."""
    content = {key: value for key, value in said(spec).items() if key not in without}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def said(part: RunSpec | Shape | Recipe | Rule) -> dict[str, Any]:
    """The fields of a spec or rule that differ from their defaults, those of a shape and recipe in tables of their own.

    Kept in the object, as a cached_property is: thousands of specs share a shape and a recipe.
    """
    kept = vars(part)
    if "_said" not in kept:
        pairs = ((name, getattr(part, name), default) for name, default in _defaults(type(part)))
        kept["_said"] = {
            name: said(value) if isinstance(value, Shape | Recipe) else value
            for name, value, default in pairs
            if value != default
        }
    return kept["_said"]


@cache
def _defaults(kind: type) -> tuple[tuple[str, Any], ...]:
    return tuple((each.name, each.default) for each in fields(kind))
