"""Task: what a worker trains at once; tasks_of(specs): how the cells of a sweep are grouped into tasks."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from scaling.grid import RunSpec
from scaling.shape import MEMORY_SHARE
from scaling.training.state import recorded

Kind = Literal["run", "trunk", "pack"]


@dataclass(frozen=True)
class Task:
    """One run; one trunk with its branches, shortest first; or a pack of runs that differ in rate and seed alone."""

    kind: Kind
    specs: tuple[RunSpec, ...]

    @cached_property
    def id(self) -> str:
        """A run's id, a trunk's, or the hash of a pack's ids: the same in every driver that groups alike."""
        if self.kind == "trunk":
            return str(self.specs[0].trunk)
        if self.kind == "run":
            return self.specs[0].id
        return hashlib.sha256(" ".join(spec.id for spec in self.specs).encode()).hexdigest()[:16]

    @property
    def locks(self) -> tuple[str, ...]:
        """What must be claimed to train it: the trunk, or every cell, so that drivers that group otherwise exclude each other."""
        return (self.id,) if self.kind == "trunk" else tuple(sorted(spec.id for spec in self.specs))

    @cached_property
    def own_flops(self) -> Mapping[str, int]:
        """Training FLOPs that each cell adds, by its id: a branch's decay, and the trunk's stretch since the sibling before.

        A trunk's cells together cost the longest run and the decays of the others.
        """
        if self.kind != "trunk":
            return {spec.id: spec.C for spec in self.specs}
        own, reached = {}, 0
        for spec in self.specs:
            fork = spec.steps - spec.decay_steps
            own[spec.id] = _flops(spec, max(0, fork - reached) + spec.decay_steps)
            reached = max(reached, fork)
        return own

    @cached_property
    def flops(self) -> int:
        """Training FLOPs of the whole task."""
        return sum(self.own_flops.values())

    def flops_of(self, done: Container[str]) -> int:
        """Training FLOPs of those of its cells that have one of these ids."""
        return sum(flops for id, flops in self.own_flops.items() if id in done)

    def reached(self, done: Container[str]) -> int:
        """Steps of the trunk that the cells with these ids count as theirs; 0 where there is no trunk."""
        forks = (spec.steps - spec.decay_steps for spec in self.specs if spec.id in done)
        return max(forks, default=0) if self.kind == "trunk" else 0

    def missing(self, done: Container[str]) -> Task | None:
        """What is left of it where these ids have records: fewer branches, but a pack is whole; None where nothing is."""
        left = tuple(spec for spec in self.specs if spec.id not in done)
        if not left or self.kind == "pack" or len(left) == len(self.specs):
            return self if left else None
        return replace(self, specs=left)


def tasks_of(specs: Sequence[RunSpec], *, pack_bytes: float = 0.0) -> tuple[Task, ...]:
    """The tasks of these cells, the most FLOPs first, so that no worker is left alone with a long one at the end.

    Cells with one trunk are one task. Runs of one shape and length that differ in rate and seed are packed, as many as are
    estimated to fit into `pack_bytes`; 0 packs nothing. Packs are formed from all cells of a sweep, not from what is missing.
    """
    trunks: dict[str, list[RunSpec]] = defaultdict(list)
    alike: dict[RunSpec, list[RunSpec]] = defaultdict(list)
    tasks: list[Task] = []
    for spec in specs:
        if spec.trunk:
            trunks[spec.trunk].append(spec)
        elif not pack_bytes:
            tasks.append(Task("run", (spec,)))
        else:
            recipe = replace(spec.recipe, learning_rate=1.0, warmup_tokens=0)
            alike[replace(spec, recipe=recipe, seed=0)].append(spec)
    tasks += [Task("trunk", tuple(sorted(branches, key=lambda spec: spec.tokens))) for branches in trunks.values()]
    for like, group in alike.items():
        most = max(1, int(MEMORY_SHARE * pack_bytes / like.training_bytes))
        for first in range(0, len(group), most):
            pack = tuple(group[first : first + most])
            tasks.append(Task("pack" if len(pack) > 1 else "run", pack))
    return tuple(sorted(tasks, key=lambda task: (-task.flops, -task.specs[0].shape.N, task.id)))


def unfinished(tasks: Iterable[Task], folder: str) -> list[Task]:
    """What is left of the tasks, in their order, by the records in the folder."""
    done = recorded(folder)
    return [left for task in tasks if (left := task.missing(done))]


def _flops(spec: RunSpec, steps: int) -> int:
    return spec.shape.flops_per_token * spec.recipe.batch_tokens * steps
