"""train_branches(specs, corpus): runs that differ in their tokens alone, as one trunk and a decayed branch for each.

A wsd run's rates are its longer siblings' until its decay begins (Haegele et al. 2024): up to there one training serves them
all, and each record's loss is what `train` gives for its spec alone, to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from scaling.grid import RunSpec
from scaling.runs import Run
from scaling.training.corpus import Corpus
from scaling.training.train import checkpoint
from scaling.training.train.cost import Meter, PeakMemory
from scaling.training.train.course import Course, Watch
from scaling.training.train.errors import Diverged
from scaling.training.train.schedule import fork


def train_branches(
    specs: Sequence[RunSpec],
    corpus: Corpus,
    *,
    checkpoints: Path | None = None,
    watch: Watch | None = None,
    stopping: Callable[[], bool] = lambda: False,
    done: Callable[[Run], None] = lambda run: None,
    keep: bool = False,
) -> list[Run]:
    """Train wsd specs that differ in `tokens` alone, and return their records, shortest first; `done` is given each at once.

    The trunk's state is kept as that of a run is; it never gets ahead of a branch that `done` has not seen, so that a kill
    at any moment loses no more than a run's does. The last states of the branches are kept where asked to `keep` them. A
    record's `flops_spent` and `seconds` are those of its own decay and of the trunk's stretch since the sibling before. A trunk
    that diverges leaves failed records for all branches after.
    Raises what `train` raises, and ValueError where the specs have no trunk in common.
    """
    specs = sorted(specs, key=lambda spec: spec.tokens)
    if len({spec.trunk for spec in specs}) != 1 or specs[0].trunk is None:
        raise ValueError(
            f"{len(specs)} specs of {len({spec.trunk for spec in specs})} trunks: branches are runs with schedule 'wsd' that "
            "differ in their tokens alone. Train the others one by one."
        )
    kept = checkpoints / specs[0].trunk if checkpoints else None
    trunk = Course([specs[-1]], corpus, kept=kept, watch=watch, stopping=stopping, latest=fork(specs[0]))
    records: list[Run] = []
    for number, spec in enumerate(specs):
        try:
            trunk.advance(fork(spec))
        except Diverged:
            for each in specs[number:]:
                trunk.specs = [each]
                records.append(trunk.records(trunk.step - trunk.counted)[0])
                done(records[-1])
                _counted(trunk)
            break
        own = checkpoints / spec.id if checkpoints else None
        records.append(_decayed(trunk, spec, own, keep))
        done(records[-1])
        _counted(trunk)
        if checkpoint.last_step(kept) == trunk.step:  # kept while it decayed: say what is counted now
            trunk.keep()
        if not keep:
            checkpoint.drop(own)
    checkpoint.drop(kept)
    return records


def _decayed(trunk: Course, spec: RunSpec, kept: Path | None, keep: bool) -> Run:
    """The record of the run that decays from where the trunk is."""

    def pause(_: Course) -> None:  # a branch is never kept without the trunk that the next one needs
        if checkpoint.last_step(trunk.kept) != trunk.step:
            trunk.keep()

    branch = trunk.branch(spec, kept)
    branch.pause = pause
    with suppress(Diverged):
        branch.advance(spec.steps)
        if keep:
            branch.keep()
    return branch.records(branch.step - trunk.counted)[0]


def _counted(trunk: Course) -> None:
    """Let the next record begin to count here."""
    trunk.counted, trunk.seconds, trunk.compile_seconds = trunk.step, 0.0, 0.0
    trunk.meter, trunk.memory = Meter(), PeakMemory()
