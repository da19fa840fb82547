"""Status: how a sweep goes, as its folder tells it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scaling.grid import RunSpec
from scaling.runs import Run
from scaling.training.state import Claims, recorded
from scaling.training.sweep.speeds import Speeds, makespan
from scaling.training.tasks import Task


@dataclass(frozen=True)
class Now:
    """Where a worker is: the cell, its steps done, the mean loss of the last ones, seconds trained, its pace, its machine."""

    spec: RunSpec
    step: int = 0
    loss: float | None = None
    seconds: float = 0.0
    steps_per_second: float | None = None
    where: str = ""

    @property
    def tokens_per_second(self) -> float:
        """Tokens per second since the worker took the cell up; 0 before that is known."""
        return (self.steps_per_second or 0.0) * self.spec.recipe.batch_tokens


@dataclass
class Status:
    """How a sweep goes, for people, as its folder tells it: counts of cells, and what each worker is at."""

    folder: Path
    cells: Mapping[str, RunSpec]
    tasks: Sequence[Task]
    records: dict[str, Run]
    begin: float = field(default_factory=time.perf_counter)
    now: dict[str, Now] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.flops = float(sum(task.flops for task in self.tasks))
        self._task_of = {spec.id: task for task in self.tasks for spec in task.specs}
        self._claims = Claims(self.folder)
        self._measured: set[int] = set()

    def look(self) -> None:
        """Read what is new in the folder."""
        for id in recorded(self.folder) & self.cells.keys() - self.records.keys():
            self.records[id] = Run.read(self.folder / f"{id}.json")
        self.now = {}
        for held in self._claims.live().values():
            said = held.said["now"]
            if said.get("id") in self.cells and said["id"] not in self.records:
                where = held.said["process"]["machine"].split()[0]
                self.now[held.worker] = Now(
                    self.cells[said["id"]],
                    said["step"],
                    said["loss"],
                    said["seconds"],
                    said.get("steps_per_second"),
                    where,
                )

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
        return sum(task.flops_of(self.records) for task in self.tasks) + sum(self._under_way().values())

    @property
    def tokens_per_second(self) -> float:
        """Tokens per second over all workers."""
        return sum(now.tokens_per_second for now in self.now.values())

    @property
    def flops_per_second(self) -> float:
        """FLOP/s over all workers."""
        return sum(now.tokens_per_second * now.spec.shape.flops_per_token for now in self.now.values())

    @property
    def speeds(self) -> Speeds:
        """What was measured so far: by the records of these cells, and by those that are trained now."""
        return Speeds.of(self.records.values(), self.now.values())

    @property
    def seconds_left(self) -> float | None:
        """Time left: what is left of each task at the measured speed of its shape, over the workers; None before any is."""
        speeds, begun = self.speeds, self._under_way()
        if not speeds.flops_per_second:
            return None
        left = [(task.missing(self.records), begun.get(task.id, 0.0)) for task in self.tasks]
        seconds = (speeds.seconds(task, done) or 0.0 for task, done in left if task)
        return makespan(seconds, len(self.now))

    def order(self) -> tuple[Task, ...] | None:
        """The tasks, the longest first as measured; None where no shape was measured for the first time since the last call."""
        speeds = self.speeds
        if not speeds.flops_per_second.keys() - self._measured:
            return None
        self._measured |= speeds.flops_per_second.keys()
        return speeds.longest_first(self.tasks)

    def _under_way(self) -> dict[str, float]:
        """FLOPs done of the tasks that are trained now, beside those that their records count, by the tasks' ids."""
        done: dict[str, float] = {}
        for now in self.now.values():
            if task := self._task_of.get(now.spec.id):
                steps = max(0, now.step - task.reached(self.records)) * (len(task.specs) if task.kind == "pack" else 1)
                done[task.id] = done.get(task.id, 0.0) + steps * now.spec.C / now.spec.steps
        return done


Watch = Callable[[Status], None]
