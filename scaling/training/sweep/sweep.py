"""plan(grid, folder): what is missing, in which order, how much; sweep(grid, folder): train it, show how it goes."""

from __future__ import annotations

import json
import math
import operator
import os
import re
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaling.grid import EVAL_TOKENS, Grid, IsoFlop, RunSpec
from scaling.recipe import FEW_STEPS, Recipe
from scaling.runs import Run, record_paths, to_json, write_whole
from scaling.shape import Shape
from scaling.training.executors import Executor, Local
from scaling.training.state import STATE, Claims, Failures, recorded
from scaling.training.tasks import Task, tasks_of, unfinished

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
        """What is left to train, the longest first: runs, and trunks with their branches."""
        chosen = (spec for spec in self.specs if self.chosen is None or spec.id in self.chosen)
        return tasks_of([spec for spec in chosen if spec.id not in self.records])

    def only(self, conditions: str) -> Plan:
        """The plan of the missing cells that meet all of these conditions, such as "N<1e6,seed=0" (see `chosen`)."""
        met = chosen(self.specs, conditions)
        return replace(self, chosen=frozenset(spec.id for spec in met if self.chosen is None or spec.id in self.chosen))

    def within(self, flops: float) -> Plan:
        """The plan of the cheapest missing tasks that take at most so many FLOPs together."""
        met, spent = set(), 0
        for task in reversed(self.tasks):
            spent += task.flops
            if spent <= flops:
                met |= {spec.id for spec in task.specs}
        return replace(self, chosen=frozenset(met))

    @property
    def memory_bytes(self) -> int:
        """Estimated bytes that the largest missing run takes while it trains."""
        return max((spec.shape.training_bytes(spec.recipe.batch_tokens) for spec in self.missing), default=0)

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
        return sum(task.flops for task in tasks_of(self.specs)) / max(1, sum(spec.C for spec in self.specs))

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
        if self.grid.eval_tokens < EVAL_TOKENS:
            times = math.sqrt(EVAL_TOKENS / self.grid.eval_tokens)
            said.append(
                f"{self.grid.eval_tokens:,} held-out tokens: the standard error is {times:.1f} times that of {EVAL_TOKENS:,}, "
                "which keep it under a tenth of a valley's depth."
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


def plan(grid: Grid, folder: str | Path, *, text: bool = True) -> Plan:
    """The plan of a grid into a folder: the corpus that its runs were begun on, and the records at hand.

    Without `text` a folder that was begun is only looked at, and its corpus not opened.
    Raises ValueError for a folder that belongs to another grid, a damaged record, a corpus that cannot be read or
    has changed, a run that needs more tokens than the grid's epochs allow, and a size that cannot be built.
    """
    folder = Path(folder)
    _require_same(folder / "grid.toml", grid)
    digest, corpus = _digest_begun(folder), None
    if digest is None:
        from scaling.training.corpus import Corpus

        corpus = Corpus.of(grid.corpus, **grid.data)
        digest = corpus.digest
    specs = grid.specs(digest)
    records = {path.stem: Run.read(path) for path in record_paths(folder)}
    wanted = {spec.id for spec in specs}
    strangers = {id: run for id, run in records.items() if id not in wanted}
    _require_no_twins(folder, specs, strangers)
    own = {id: run for id, run in records.items() if id in wanted}
    missing = [spec for spec in specs if spec.id not in own]
    if missing and corpus is None and text:
        from scaling.training.corpus import Corpus

        corpus = Corpus.of_digest(digest, grid.corpus, **grid.data)
    if missing and corpus:
        _require_enough_text(grid, corpus, missing)
    return Plan(grid, folder, digest, corpus, specs, own, len(strangers))


def _require_enough_text(grid: Grid, corpus: Corpus, specs: Sequence[RunSpec]) -> None:
    for shape in {spec.shape.context: spec.shape for spec in specs}.values():
        corpus.evaluation(grid.eval_tokens, shape.context)
        for name in corpus.heldouts:
            corpus.further(name, grid.eval_tokens, shape.context)
    small = min((spec.shape for spec in specs), key=lambda shape: shape.vocab)
    if corpus.vocab > small.vocab:
        raise ValueError(
            f"corpus {corpus.name!r} has {corpus.vocab:,} token ids, and the grid's sizes a vocabulary of {small.vocab:,}. "
            f"Set vocab = {corpus.vocab}."
        )
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
    speeds = Speeds(
        {
            probes[id].shape.flops_per_token: rate * probes[id].shape.flops_per_token
            for id, (rate, _) in measured.items()
        }
    )
    seconds = sum(speeds.seconds(task) or 0.0 for task in todo.tasks)
    programs = {(spec.shape, spec.recipe.batch_tokens) for spec in specs}
    seconds += len(programs) * max(compile_seconds for _, compile_seconds in measured.values())
    return seconds / min(executor.workers, len(todo.tasks))


@dataclass(frozen=True)
class Speeds:
    """Measured training FLOP/s by a shape's FLOPs a token: what a task would take."""

    flops_per_second: Mapping[int, float]

    @classmethod
    def of(cls, records: Iterable[Run]) -> Speeds:
        """The speeds that records tell."""
        rates: dict[int, list[float]] = {}
        for run in records:
            if run.tokens_per_second:
                rates.setdefault(run.C // run.D, []).append(run.tokens_per_second * (run.C // run.D))
        return cls({flops: sum(each) / len(each) for flops, each in rates.items()})

    def seconds(self, task: Task) -> float | None:
        """Seconds of training and evaluating a task, at the speed of the nearest measured shape; None where none is."""
        if not self.flops_per_second:
            return None
        each = task.specs[0].shape.flops_per_token
        nearest = min(self.flops_per_second, key=lambda flops: abs(math.log(flops / each)))
        work = task.flops + sum(spec.eval_tokens for spec in task.specs) * each / 3
        return work / self.flops_per_second[nearest]


@dataclass(frozen=True)
class Now:
    """Where a worker is: the cell, its steps done, the mean loss of the last ones, seconds trained, and its machine."""

    spec: RunSpec
    step: int = 0
    loss: float | None = None
    seconds: float = 0.0
    where: str = ""


@dataclass
class Status:
    """How a sweep goes, for people, as its folder tells it: counts of cells, and what each worker is at."""

    folder: Path
    cells: Mapping[str, RunSpec]
    tasks: Sequence[Task]
    records: dict[str, Run]
    workers: int = 1
    begin: float = field(default_factory=time.perf_counter)
    now: dict[str, Now] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.flops = float(sum(task.flops for task in self.tasks))
        self._own = {id: flops for task in self.tasks for id, flops in task.own_flops.items()}
        self._claims = Claims(self.folder)

    def look(self) -> None:
        """Read what is new in the folder."""
        for id in recorded(self.folder) & self.cells.keys() - self.records.keys():
            self.records[id] = Run.read(self.folder / f"{id}.json")
        self.now = {}
        for held in self._claims.live().values():
            said = held.said["now"]
            if said.get("id") in self.cells and said["id"] not in self.records:
                where = held.said["process"]["machine"].split()[0]
                self.now[held.worker] = Now(self.cells[said["id"]], said["step"], said["loss"], said["seconds"], where)

    @property
    def total(self) -> int:
        """Cells."""
        return len(self.cells)

    @property
    def failed(self) -> int:
        """Cells whose record says that they failed."""
        return sum(run.status == "failed" for run in self.records.values())

    @property
    def done(self) -> int:
        """Cells with a loss."""
        return len(self.records) - self.failed

    @property
    def flops_spent(self) -> float:
        """FLOPs of the cells finished since `begin` and of the steps done of the others."""
        done = sum(flops for id, flops in self._own.items() if id in self.records)
        return done + sum(self._own.get(now.spec.id, 0) * now.step / now.spec.steps for now in self.now.values())

    @property
    def tokens_per_second(self) -> float:
        """Tokens per second over all workers, each cell's mean so far."""
        return sum(now.step * now.spec.recipe.batch_tokens / now.seconds for now in self.now.values() if now.seconds)

    @property
    def flops_per_second(self) -> float:
        """FLOP/s over all workers, each cell's mean so far."""
        return sum(now.spec.C * now.step / now.spec.steps / now.seconds for now in self.now.values() if now.seconds)

    @property
    def seconds_left(self) -> float | None:
        """Time left: what is left of each task at the measured speed of its shape, over the workers; None before any is."""
        speeds = Speeds.of(run for run in self.records.values() if run.id in self._own)
        left = [task.missing(self.records) for task in self.tasks]
        seconds = [each for task in left if task and (each := speeds.seconds(task)) is not None]
        spent = sum(now.seconds for now in self.now.values())
        return max(0.0, sum(seconds) - spent) / max(1, len(self.now)) if seconds else None


Watch = Callable[[Status], None]


def sweep(grid: Grid, folder: str | Path, executor: Executor | None = None, watch: Watch = lambda status: None) -> Plan:
    """Train the cells of a grid that have no record in the folder, and return the plan as it is then.

    Each record is written when its run ends, so what was computed is never lost: called again, or after a
    KeyboardInterrupt, it goes on at the first missing cell, and inside that at its last kept state.
    Raises what `plan` raises, and OSError where the folder cannot be written.
    """
    return carry_out(plan(grid, folder), executor, watch)


def carry_out(todo: Plan, executor: Executor | None = None, watch: Watch = lambda status: None) -> Plan:
    """Train what a plan says is missing, and return the plan as it is then: see `sweep`."""
    if todo.corpus is None:
        return todo
    _claim(todo, todo.corpus)
    cells = [spec for spec in todo.specs if todo.chosen is None or spec.id in todo.chosen]
    return replace(todo, records={**todo.records, **train_specs(cells, todo.folder, todo.corpus, executor, watch)})


def retry_failed(todo: Plan) -> Plan:
    """The plan in which the cells that failed are missing again; their records are put aside into `.sweep/failed`."""
    aside, tasks = (
        todo.folder / STATE / "failed",
        {spec.id: task.id for task in tasks_of(todo.specs) for spec in task.specs},
    )
    for run in todo.failed:
        aside.mkdir(parents=True, exist_ok=True)
        os.replace(todo.folder / f"{run.id}.json", aside / f"{run.id}.{uuid.uuid4().hex[:8]}.json")
        Failures(todo.folder).forget(tasks[run.id])
        Failures(todo.folder).forget(run.id)
    return plan(todo.grid, todo.folder) if todo.failed else todo


#: What a condition may name, beside the fields of the recipe and of the shape.
FIELDS = {"N": lambda spec: spec.shape.N, "D": lambda spec: spec.tokens, "C": lambda spec: spec.C,
          "D/N": lambda spec: spec.tokens / spec.shape.N, "seed": lambda spec: spec.seed, "id": lambda spec: spec.id}  # fmt: skip
_HOLDS = {"<=": operator.le, ">=": operator.ge, "!=": operator.ne, "<": operator.lt, ">": operator.gt, "=": operator.eq}


def chosen(specs: Sequence[RunSpec], conditions: str) -> list[RunSpec]:
    """The specs that meet every condition: "field op value", commas between; C compares to 1%, as grids round D to batches.

    Raises ValueError for a condition that cannot be read, and where no spec meets them.
    """
    met = list(specs)
    for condition in conditions.split(","):
        found = re.fullmatch(r"\s*([\w/]+)\s*(<=|>=|!=|<|>|=)\s*(\S+)\s*", condition)
        names = [*FIELDS, *(f.name for f in fields(Shape)), *(f.name for f in fields(Recipe))]
        if not found or found[1] not in names:
            raise ValueError(
                f"--only {condition!r}: needed conditions such as N<1e6, seed=0 or id=ab12..; fields: {', '.join(names)}."
            )
        name, holds, value = found[1], _HOLDS[found[2]], _value(found[3])
        met = [spec for spec in met if holds(_near(_field(spec, name), value), value)]
    if not met:
        raise ValueError(f"--only {conditions!r}: none of the {len(specs)} cells is meant.")
    return met


def _field(spec: RunSpec, name: str) -> Any:
    if name in FIELDS:
        return FIELDS[name](spec)
    return getattr(spec.shape, name) if hasattr(spec.shape, name) else getattr(spec.recipe, name)


def _near(found: Any, value: Any) -> Any:
    """The value itself where a number is within 1% of it, so that C=1e12 means the cells of that budget."""
    if isinstance(found, str) or isinstance(value, str):
        return str(found)
    return value if abs(found - value) <= 0.01 * abs(value) and isinstance(value, float) else found


def _value(word: str) -> Any:
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return word


def train_specs(
    specs: Sequence[RunSpec],
    folder: Path,
    corpus: Corpus,
    executor: Executor | None = None,
    watch: Watch = lambda status: None,
) -> dict[str, Run]:
    """Train the specs that have no record in the folder, the longest tasks first, and return the records of all by id."""
    executor = executor or Local()
    folder.mkdir(parents=True, exist_ok=True)
    cells = {spec.id: spec for spec in specs}
    records = {id: Run.read(folder / f"{id}.json") for id in recorded(folder) & cells.keys()}
    tasks = unfinished(tasks_of(specs, pack_bytes=getattr(executor, "pack_bytes", 0.0)), str(folder))
    status = Status(folder, cells, tasks, records)

    def look() -> None:
        status.look()
        watch(status)

    if tasks:
        executor.run(tasks, folder, corpus.folder, look)
        status.look()
    return status.records


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
