"""Plan: what is missing in a folder, in which order, how much; plan(grid, folder): its plan, or what stands against it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaling.grid import EVAL_TOKENS, Grid, RunSpec
from scaling.recipe import FEW_STEPS
from scaling.runs import Run, read_object, record_paths
from scaling.training.sweep import sharing
from scaling.training.sweep.checks import require_enough_text, require_no_twins, require_same, require_same_heldouts
from scaling.training.sweep.choice import chosen
from scaling.training.sweep.index import glance
from scaling.training.sweep.speeds import Speeds
from scaling.training.tasks import Task, tasks_of

if TYPE_CHECKING:
    from scaling.training.corpus import Corpus  # brings jax, which looking at finished runs need not wait for


@dataclass(frozen=True)
class Plan:
    """What a sweep of a grid into a folder is: its cells, and which of them have a record already.

    `digest` is the corpus' ; `corpus` itself is None where no cell is missing, so that finished runs can be looked at
    where their text is not.
    """

    grid: Grid
    folder: Path
    digest: str
    corpus: Corpus | None
    specs: tuple[RunSpec, ...]
    records: Mapping[str, Run]
    strangers: int = 0
    chosen: frozenset[str] | None = None

    @property
    def missing(self) -> tuple[RunSpec, ...]:
        """The cells to train, in the order of their tasks."""
        return tuple(spec for task in self.tasks for spec in task.specs if spec.id not in self.records)

    @cached_property
    def tasks(self) -> tuple[Task, ...]:
        """What is left to train, runs and trunks with their branches: the longest first by the speeds that records tell."""
        chosen = (spec for spec in self.specs if self.chosen is None or spec.id in self.chosen)
        left = tasks_of([spec for spec in chosen if spec.id not in self.records])
        return Speeds.of(self.records.values()).longest_first(left)

    def only(self, conditions: str) -> Plan:
        """The plan of the missing cells that meet all of these conditions, such as "N<1e6,seed=0" (see `chosen`)."""
        met = chosen(self.specs, conditions)
        return replace(self, chosen=frozenset(spec.id for spec in met if self.chosen is None or spec.id in self.chosen))

    def within(self, flops: float) -> Plan:
        """The plan of the cheapest missing tasks that take at most so many FLOPs together."""
        met, spent = set(), 0
        for task in sorted(self.tasks, key=lambda task: task.flops):
            spent += task.flops
            if spent <= flops:
                met |= {spec.id for spec in task.specs}
        return replace(self, chosen=frozenset(met))

    @property
    def memory_bytes(self) -> int:
        """Estimated bytes that the largest missing run takes while it trains."""
        return max((spec.training_bytes for spec in self.missing), default=0)

    @property
    def failed(self) -> tuple[Run, ...]:
        """The records of the cells that failed."""
        return tuple(run for run in self.records.values() if run.status == "failed")

    @property
    def flops(self) -> int:
        """Training FLOPs still to be spent: branches share their trunk's."""
        return sum(task.flops for task in self.tasks)

    @property
    def share_of_single(self) -> float:
        """What the whole grid costs, over the cost of one run a cell: below 1 where branches share a trunk."""
        return sharing.share(self.specs)

    @cached_property
    def share_as_branches(self) -> float:
        """What the whole grid would cost under schedule "wsd", over the cost of one run a cell."""
        return sharing.share(sharing.as_branches(self.grid, self.digest))

    @property
    def lengths(self) -> int:
        """The most lengths that one size is trained for."""
        return sharing.most_lengths(self.specs)

    @property
    def share_by_spacing(self) -> dict[float, float]:
        """The same by the closed form, were the lengths of a size so many times apart: to pick budgets by."""
        decay_share = max((spec.recipe.decay_share for spec in self.specs), default=1.0)
        return sharing.by_spacing(self.lengths, decay_share)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is doubtful about the cells: too few steps, warm-ups that never end, repeated text."""
        few = [spec for spec in self.specs if spec.steps < FEW_STEPS]
        said = []
        if self.strangers:
            said.append(
                f"{self.strangers} records in {self.folder} belong to no cell of this grid; `scaling fit` reads them too."
            )
        if few:
            worst = min(few, key=lambda spec: spec.steps)
            least = all(spec.recipe.batch_tokens == spec.shape.context for spec in few)
            why = (
                "one window is the least batch there is: shorten the context, raise the budget or leave these sizes out"
            )
            said.append(
                f"{len(few)} of {len(self.specs)} cells take fewer than {FEW_STEPS} steps (N = {worst.shape.N:,}: "
                f"{worst.steps}), which favours small N: {why if least else 'their batch is too large for their tokens'}."
            )
        said += self._endless_warmups() + self._shared_batches()
        if self.grid.eval_tokens < EVAL_TOKENS:
            times = math.sqrt(EVAL_TOKENS / self.grid.eval_tokens)
            said.append(
                f"{self.grid.eval_tokens:,} held-out tokens: a loss's standard error is {times:.1f} times that of "
                f"{EVAL_TOKENS:,}, which is a tenth of a valley .04 (planted) to .08 nats (Python) deep; "
                "`scaling isoflop` shows each valley's."
            )
        repeated = [epochs for spec in self.specs if (epochs := self._epochs(spec)) > 1]
        if repeated:
            said.append(
                f"{len(repeated)} of {len(self.specs)} cells repeat their text, up to {max(repeated):.2f} epochs."
            )
        return tuple(said)

    def _endless_warmups(self) -> list[str]:
        """Cells whose rate still rises when they end, so that it never falls."""
        endless = [spec for spec in self.specs if spec.recipe.warmup_tokens >= spec.tokens]
        if not endless:
            return []
        worst = max(endless, key=lambda spec: spec.recipe.warmup_tokens / spec.tokens)
        return [
            f"{len(endless)} of {len(self.specs)} cells end before their warm-up does (N = {worst.shape.N:,}, "
            f"D = {worst.tokens:,}, warmup_tokens = {worst.recipe.warmup_tokens:,}): their learning rate never falls, which "
            "costs loss. Give fewer warmup_tokens, or none for the rule's."
        ]

    def _shared_batches(self) -> list[str]:
        """What branches of a trunk pay for its one batch, which is the rule's for the longest of them."""
        if "batch_tokens" in self.grid.axes or self.grid.fixes("batch_tokens"):
            return []
        times = [spec.recipe.batch_tokens / self.grid.first_rule(spec.shape, spec.tokens).batch_tokens
                 for spec in self.specs if spec.trunk]  # fmt: skip
        large = [each for each in times if each >= 4]
        if not large:
            return []
        return [
            f"{len(large)} of {len(self.specs)} cells share a trunk whose batch is 4 to {max(large):g} times what the rule "
            "gives for their own tokens, which costs them loss: take lengths of a size that are nearer to each other."
        ]

    def _epochs(self, spec: RunSpec) -> float:
        if spec.id in self.records:
            return self.records[spec.id].epochs
        return self.corpus.epochs(spec.tokens, spec.shape.context) if self.corpus else 0.0


def plan(grid: Grid, folder: str | Path, *, text: bool = True, brief: bool = False) -> Plan:
    """The plan of a grid into a folder: the corpus that its runs were begun on, and the records at hand.

    Without `text` the corpus of a folder that was begun is not opened; `brief` records are those of `glance`.
    Raises ValueError for a folder that belongs to another grid, a damaged record, a corpus that cannot be read or
    has changed, a run that needs more tokens than the grid's epochs allow, and a size that cannot be built.
    """
    folder = Path(folder)
    require_same(folder / "grid.toml", grid)
    digest, corpus = _begun(folder).get("digest"), None
    if digest is None:
        from scaling.training.corpus import Corpus

        corpus = Corpus.of(grid.corpus, **grid.data)
        digest = corpus.digest
    specs = grid.specs(digest)
    records = glance(folder) if brief else {path.stem: Run.read(path) for path in record_paths(folder)}
    wanted = {spec.id for spec in specs}
    strangers = {
        id: Run.read(folder / f"{id}.json") if brief else run for id, run in records.items() if id not in wanted
    }
    require_no_twins(folder, specs, strangers)
    own = {id: run for id, run in records.items() if id in wanted}
    found = Plan(grid, folder, digest, corpus, specs, own, len(strangers))
    return with_corpus(found) if text else found


def with_corpus(found: Plan) -> Plan:
    """The plan with its corpus, where a cell is missing. Raises ValueError for a corpus that is not what it was, or too small."""
    missing = [spec for spec in found.specs if spec.id not in found.records]
    if not missing:
        return found
    corpus = found.corpus
    if corpus is None:
        from scaling.training.corpus import Corpus

        corpus = Corpus.of_digest(found.digest, found.grid.corpus, **found.grid.data)
        require_same_heldouts(_begun(found.folder).get("heldouts", {}), corpus)
    require_enough_text(found.grid, corpus, missing)
    return replace(found, corpus=corpus)


def _begun(folder: Path) -> dict[str, Any]:
    """What corpus.json says of the corpus that the folder's runs were begun on; nothing in a new folder."""
    begun = folder / "corpus.json"
    if not begun.exists():
        return {}
    remedy = "It names the corpus of the runs; restore it."
    return read_object(begun, "digest", lacks="no digest", remedy=remedy)
