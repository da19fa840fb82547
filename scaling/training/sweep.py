"""plan(grid, folder): what is missing, in which order, how much; sweep(grid, folder): train it, show how it goes."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from scaling.grid import Grid, IsoFlop, RunSpec
from scaling.recipe import FEW_STEPS, Recipe
from scaling.runs import Run, record_paths, to_json, write_whole
from scaling.training.corpus import Corpus
from scaling.training.executors import Event, Executor, Local


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

    @property
    def missing(self) -> tuple[RunSpec, ...]:
        """The cells to train, the longest first."""
        return _longest_first(spec for spec in self.specs if spec.id not in self.records)

    @property
    def failed(self) -> tuple[Run, ...]:
        """The records of the cells that failed."""
        return tuple(run for run in self.records.values() if run.status == "failed")

    @property
    def flops(self) -> int:
        """Training FLOPs still to be spent."""
        return sum(spec.C for spec in self.missing)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is doubtful about the cells: too few steps, repeated text."""
        few = [spec for spec in self.specs if spec.steps < FEW_STEPS]
        said = []
        if self.strangers:
            said.append(
                f"{self.strangers} records in {self.folder} belong to no cell of this grid; `scaling fit` reads them too."
            )
        if few:
            worst = min(few, key=lambda spec: spec.steps)
            said.append(
                f"{len(few)} of {len(self.specs)} cells take fewer than {FEW_STEPS} steps (N = {worst.shape.N:,}: "
                f"{worst.steps}): their batch is too large for their tokens, which favours small N."
            )
        repeated = [epochs for spec in self.specs if (epochs := self._epochs(spec)) > 1]
        if repeated:
            said.append(
                f"{len(repeated)} of {len(self.specs)} cells repeat their text, up to {max(repeated):.2f} epochs."
            )
        return tuple(said)

    def _epochs(self, spec: RunSpec) -> float:
        if spec.id in self.records:
            return self.records[spec.id].epochs
        return self.corpus.epochs(spec.tokens, spec.shape.context) if self.corpus else 0.0


def plan(grid: Grid, folder: str | Path) -> Plan:
    """The plan of a grid into a folder: the corpus that its runs were begun on, and the records at hand.

    Raises ValueError for a folder that belongs to another grid, a damaged record, a corpus that cannot be read or
    has changed, a run that needs more tokens than the grid's epochs allow, and a size that cannot be built.
    """
    folder = Path(folder)
    _require_same(folder / "grid.toml", grid)
    digest, corpus = _digest_begun(folder), None
    if digest is None:
        corpus = Corpus.of(grid.corpus)
        digest = corpus.digest
    specs = grid.specs(digest)
    records = {path.stem: Run.read(path) for path in record_paths(folder)}
    wanted = {spec.id for spec in specs}
    strangers = {id: run for id, run in records.items() if id not in wanted}
    _require_no_twins(folder, specs, strangers)
    own = {id: run for id, run in records.items() if id in wanted}
    missing = [spec for spec in specs if spec.id not in own]
    if missing and corpus is None:
        corpus = Corpus.of_digest(digest, grid.corpus)
    if missing and corpus:
        _require_enough_text(grid, corpus, missing)
    return Plan(grid, folder, digest, corpus, specs, own, len(strangers))


def _require_enough_text(grid: Grid, corpus: Corpus, specs: Sequence[RunSpec]) -> None:
    corpus.evaluation(grid.eval_tokens, specs[0].shape.context)
    for spec in specs:
        epochs = corpus.epochs(spec.tokens, spec.shape.context)
        if epochs > grid.epochs:
            raise ValueError(
                f"N = {spec.shape.N:,} at C = {spec.C:.3g} needs {spec.tokens:,} tokens, and corpus {corpus.name!r} has "
                f"{len(corpus.train):,} to train on: that is {epochs:.2f} epochs, and the grid allows {grid.epochs:g}. Give more "
                f"text, drop the size, or set epochs = {math.ceil(epochs)} to allow repetition (it is recorded)."
            )


def estimate_seconds(todo: Plan, executor: Local) -> float:
    """Wall-clock seconds that a plan would take here: throughput measured at up to three of its shapes.

    Other shapes take the FLOP/s of the measured shape nearest in FLOPs a token. Compiling is counted once for each
    shape and batch, evaluation at three times the speed of training.
    """
    specs = sorted(todo.missing, key=lambda spec: spec.shape.flops_per_token)
    if not specs or todo.corpus is None:
        return 0.0
    probes = {specs[i].id: specs[i] for i in (0, len(specs) // 2, len(specs) - 1)}
    measured = executor.measure(list(probes.values()), todo.corpus.folder)
    flops_rate = {
        probes[id].shape.flops_per_token: (event.tokens_per_second or 0.0) * probes[id].shape.flops_per_token
        for id, event in measured.items()
    }
    seconds = 0.0
    for spec in specs:
        nearest = min(flops_rate, key=lambda flops: abs(math.log(flops / spec.shape.flops_per_token)))
        work = spec.C + spec.eval_tokens * spec.shape.flops_per_token / 3
        seconds += work / flops_rate[nearest]
    programs = {(spec.shape, spec.recipe.batch_tokens) for spec in specs}
    seconds += len(programs) * max(event.compile_seconds for event in measured.values())
    return seconds / min(executor.workers, len(specs))


@dataclass
class Status:
    """How a sweep goes, for people: counts of cells, and the latest of each cell that is in training."""

    total: int
    done: int
    failed: int
    flops: float
    begin: float = field(default_factory=time.perf_counter)
    flops_done: float = 0.0
    now: dict[int, tuple[RunSpec, Event]] = field(default_factory=dict)
    rates: dict[int, float] = field(default_factory=dict)

    @property
    def flops_spent(self) -> float:
        """FLOPs of the cells finished here and of the steps done of the others."""
        return self.flops_done + sum(spec.C * event.step / spec.steps for spec, event in self.now.values())

    @property
    def tokens_per_second(self) -> float:
        """Tokens per second over all workers, each cell's mean so far."""
        return sum(
            event.step * s.recipe.batch_tokens / event.seconds for s, event in self.now.values() if event.seconds
        )

    @property
    def flops_per_second(self) -> float:
        """FLOP/s over all workers, each cell's mean so far."""
        return sum(s.C * event.step / s.steps / event.seconds for s, event in self.now.values() if event.seconds)

    @property
    def seconds_left(self) -> float | None:
        """Time left at the rate of the sweep so far, compiling included; None before anything was done."""
        spent = self.flops_spent
        return (self.flops - spent) * (time.perf_counter() - self.begin) / spent if spent else None


Watch = Callable[[Status], None]


def sweep(grid: Grid, folder: str | Path, executor: Executor | None = None, watch: Watch = lambda status: None) -> Plan:
    """Train the cells of a grid that have no record in the folder, and return the plan as it is then.

    Each record is written when its run ends, so what was computed is never lost: called again, or after a
    KeyboardInterrupt, it goes on at the first missing cell, and inside that at its last kept state.
    Raises what `plan` raises, and OSError where the folder cannot be written.
    """
    todo = plan(grid, folder)
    if todo.corpus is None:
        return todo
    _claim(todo, todo.corpus)
    return replace(todo, records=train_specs(todo.specs, todo.folder, todo.corpus, executor, watch))


def train_specs(
    specs: Sequence[RunSpec],
    folder: Path,
    corpus: Corpus,
    executor: Executor | None = None,
    watch: Watch = lambda status: None,
) -> dict[str, Run]:
    """Train the specs that have no record in the folder, the longest first, and return the records of all by id."""
    folder.mkdir(parents=True, exist_ok=True)
    cells = {spec.id: spec for spec in specs}
    records = {path.stem: Run.read(path) for path in record_paths(folder) if path.stem in cells}
    missing = _longest_first(spec for spec in cells.values() if spec.id not in records)
    failed = sum(run.status == "failed" for run in records.values())
    status = Status(len(cells), len(records) - failed, failed, float(sum(spec.C for spec in missing)))

    def report(event: Event) -> None:
        spec = cells[event.id]
        if event.kind in ("done", "failed"):
            status.done += event.kind == "done"
            status.failed += event.kind == "failed"
            status.flops_done += spec.C
            status.now.pop(event.worker, None)
        else:
            status.now[event.worker] = (spec, event)
        watch(status)

    if missing:
        (executor or Local()).run(missing, folder, corpus.folder, report)
    return records | {spec.id: Run.read(folder / f"{spec.id}.json") for spec in missing}


def _longest_first(specs: Iterable[RunSpec]) -> tuple[RunSpec, ...]:
    """The order of training: no worker is left alone with a long run at the end."""
    return tuple(sorted(specs, key=lambda spec: (-spec.C, -spec.shape.N, spec.id)))


def _digest_begun(folder: Path) -> str | None:
    """The digest of the corpus that the folder's runs were begun on; None in a new folder."""
    begun = folder / "corpus.json"
    if not begun.exists():
        return None
    try:
        return json.loads(begun.read_text())["digest"]
    except (json.JSONDecodeError, KeyError, UnicodeDecodeError) as error:
        raise ValueError(f"{begun}: damaged ({error}). It names the corpus of the runs; restore it.") from None


def _claim(todo: Plan, corpus: Corpus) -> None:
    """Make the folder this grid's, with a grid.toml and a corpus.json."""
    folder = todo.folder
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "grid.toml").exists():
        write_whole(folder / "grid.toml", todo.grid.toml())
    if not (folder / "corpus.json").exists():
        contexts = tuple(sorted({spec.shape.context for spec in todo.specs}))
        write_whole(folder / "corpus.json", to_json(corpus.summary(contexts)))


def _require_same(path: Path, now: Grid) -> None:
    """Refuse a folder whose grid.toml is of another grid; a folder without one is free."""
    before = Grid.read(path) if path.exists() else now
    for each in fields(Grid):
        old, new = getattr(before, each.name), getattr(now, each.name)
        if each.name not in ("name", "corpus") and old != new:
            raise ValueError(
                f"{path.parent} belongs to another grid: its {each.name} is {_short(old)}, this one's is {_short(new)}. "
                f"Give another --out, or edit {path} and sweep that."
            )


def _require_no_twins(folder: Path, specs: tuple[RunSpec, ...], strangers: Mapping[str, Run]) -> None:
    """Refuse records of the same shape, seed and budget as a cell, but trained otherwise: they would mix in a fit."""
    cells = {(spec.shape, spec.seed, f"{spec.C:.1e}"): spec for spec in specs}
    for id, run in strangers.items():
        was = RunSpec.from_json(run.spec)
        now = cells.get((was.shape, was.seed, f"{was.C:.1e}"))
        if now:
            raise ValueError(
                f"{folder}: record {id} is of a cell of this grid, trained otherwise: {_difference(was, now)}. The grid, the "
                "rule or the corpus has changed since. Sweep into another folder, or move the old records away."
            )


def _difference(was: RunSpec, now: RunSpec) -> str:
    pairs = [(each.name, getattr(was.recipe, each.name), getattr(now.recipe, each.name)) for each in fields(Recipe)]
    pairs += [(name, getattr(was, name), getattr(now, name)) for name in ("digest", "tokens", "eval_tokens")]
    return ", ".join(f"{name} was {old}, is now {new}" for name, old, new in pairs if old != new)


def _short(value: Any) -> str:
    if isinstance(value, tuple) and value and isinstance(value[0], IsoFlop):
        value = [(f"{curve.budget:.3g}", [shape.N for shape in curve.shapes]) for curve in value]
    text = str(value)
    return text if len(text) < 120 else text[:117] + "..."
