"""sweep(grid, folder): train what a folder lacks of a grid, and show how it goes."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from scaling.grid import Grid, RunSpec
from scaling.runs import Run, to_json, write_whole
from scaling.training.executors import Executor, Local
from scaling.training.state import STATE, Failures, recorded
from scaling.training.sweep.plan import Plan, plan, with_corpus
from scaling.training.sweep.speeds import Speeds, makespan
from scaling.training.sweep.status import Status, Watch
from scaling.training.tasks import Task, tasks_of, unfinished

if TYPE_CHECKING:
    from scaling.training.corpus import Corpus


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
    trained = train_specs(cells, todo.folder, todo.corpus, executor, watch, known=todo.records)
    return replace(todo, records={**todo.records, **trained})


def retrying(todo: Plan) -> Plan:
    """The plan in which the chosen cells that failed are missing again; nothing is touched yet."""
    failed = {run.id for run in todo.failed if todo.chosen is None or run.id in todo.chosen}
    return with_corpus(replace(todo, records={id: run for id, run in todo.records.items() if id not in failed}))


def retry_failed(todo: Plan) -> Plan:
    """The same, with the records of those cells put aside into `.sweep/failed`, and their failures forgotten."""
    again, failures = retrying(todo), Failures(todo.folder)
    tasks = {spec.id: task.id for task in tasks_of(todo.specs) for spec in task.specs}
    for id in todo.records.keys() - again.records.keys():
        aside = todo.folder / STATE / "failed" / f"{id}.{uuid.uuid4().hex[:8]}.json"
        aside.parent.mkdir(parents=True, exist_ok=True)
        os.replace(todo.folder / f"{id}.json", aside)
        failures.forget(tasks[id])
        failures.forget(id)
    return again


def train_specs(
    specs: Sequence[RunSpec],
    folder: Path,
    corpus: Corpus,
    executor: Executor | None = None,
    watch: Watch = lambda status: None,
    *,
    known: Mapping[str, Run] | None = None,
) -> dict[str, Run]:
    """Train the specs that have no record in the folder, and return the records of all by id; those `known` are not read.

    The longest tasks come first: by FLOPs, and by measured speed as soon as there is one.
    """
    executor = executor or Local()
    folder.mkdir(parents=True, exist_ok=True)
    cells, known = {spec.id: spec for spec in specs}, known or {}
    records = {id: known.get(id) or Run.read(folder / f"{id}.json") for id in recorded(folder) & cells.keys()}
    tasks = tasks_of(specs, pack_bytes=getattr(executor, "pack_bytes", 0.0))
    left = Speeds.of(records.values()).longest_first(unfinished(tasks, folder))
    status = Status(folder, cells, left, records)

    def look() -> Sequence[Task] | None:
        status.look()
        watch(status)
        return status.order()

    if left:
        executor.run(left, folder, corpus.folder, look)
        status.look()
    return status.records


def estimate_seconds(todo: Plan, executor: Local) -> float:
    """Wall-clock seconds that a plan would take here: throughput measured at up to three of its shapes.

    Compiling is counted once for each shape and batch.
    """
    specs = sorted(todo.missing, key=lambda spec: spec.shape.flops_per_token)
    if not specs or todo.corpus is None:
        return 0.0
    probes = {specs[i].id: specs[i] for i in (0, len(specs) // 2, len(specs) - 1)}
    measured = executor.measure(list(probes.values()), todo.corpus.folder)
    each = {id: probes[id].shape.flops_per_token for id in measured}
    speeds = Speeds(dict(sorted((each[id], rate * each[id]) for id, (rate, _) in measured.items())))
    programs = {(spec.shape, spec.recipe.batch_tokens) for spec in specs}
    compiling = len(programs) * max(compile_seconds for _, compile_seconds in measured.values())
    workers = min(executor.workers, len(todo.tasks))
    return makespan((speeds.seconds(task) or 0.0 for task in todo.tasks), workers) + compiling / workers


def _claim(todo: Plan, corpus: Corpus) -> None:
    """Make the folder this grid's, with a grid.toml and a corpus.json."""
    folder = todo.folder
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "grid.toml").exists():
        write_whole(folder / "grid.toml", todo.grid.toml())
    if not (folder / "corpus.json").exists():
        contexts = tuple(sorted({spec.shape.context for spec in todo.specs}))
        write_whole(folder / "corpus.json", to_json(corpus.summary(contexts)))
