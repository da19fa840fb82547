"""Executor and Engine: a driver starts workers through an engine, watches the folder, and stops when nothing is left."""

from __future__ import annotations

import errno
import os
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from scaling.training.state import LEASE_SECONDS, TRIES, Claims, Failures
from scaling.training.tasks import Task, unfinished
from scaling.training.worker import EXIT_CANNOT_WRITE, Queue

#: Seconds a worker is given to write its checkpoint after it was asked to stop.
STOP_SECONDS = 60.0

#: A look at a large folder takes a while, and is then taken less often, but as often as this.
MOST_POLL_SECONDS = 5.0

#: Lets glibc (from 2.35) ask for large pages: 250 times fewer page faults a step at N = 3e6 on CPU, to the same bits.
LARGE_PAGES = "glibc.malloc.hugetlb=1"

#: Looks at the folder; the tasks in a new order, the first to be claimed first, where there is one.
Look = Callable[[], Sequence[Task] | None]


class Executor(Protocol):
    """Trains tasks: when `run` returns, each of their cells has its `<folder>/<id>.json`, finished or failed."""

    def run(self, tasks: Sequence[Task], folder: Path, corpus: Path, look: Look) -> None:
        """Train the tasks, in this order or that which `look` gives when it is called, on the cached corpus in `corpus`."""
        ...


@dataclass(frozen=True)
class Ending:
    """How a worker ended: its exit status where known, what it said last, and whether the machine is to blame."""

    status: int | None = 0
    said: str = ""
    preempted: bool = False

    @property
    def why(self) -> str:
        """The ending in words."""
        how = "it was lost" if self.status is None else f"exit status {self.status}"
        if self.status is not None and self.status < 0:
            how = f"signal {-self.status}"
        return f"{how}: {self.said}" if self.said else how


class Started(ABC):
    """A worker that an engine has started, by its name."""

    name: str

    @abstractmethod
    def ended(self) -> Ending | None:
        """How it ended; None while it lives."""

    @abstractmethod
    def ask_to_stop(self) -> None:
        """Ask for a clean stop: state kept at the end of the chunk."""

    @abstractmethod
    def stop(self, seconds: float) -> None:
        """Wait for its end, and after `seconds` end it."""


class Engine(ABC):
    """What starts workers: on this machine, on a cluster."""

    #: Seconds between two looks at the folder and the workers.
    poll_seconds = 0.2
    lease_seconds = LEASE_SECONDS

    @abstractmethod
    def slots(self) -> int:
        """How many workers can live at once, now."""

    @abstractmethod
    def start(self, queue: Queue) -> Started:
        """Start one worker on a queue."""

    def start_many(self, queue: Queue, count: int) -> list[Started]:
        """Start so many workers."""
        return [self.start(queue) for _ in range(count)]

    def run(self, tasks: Sequence[Task], folder: Path, corpus: Path, look: Look) -> None:
        """See `Executor.run`. Whatever ends it, the workers are stopped cleanly, with their state kept.

        Waits for what other drivers hold. Raises OSError where the folder cannot be written, and ValueError where
        workers end before they have claimed anything; while others train, no more are started.
        """
        queue = Queue.write(folder, corpus, tasks, self.lease_seconds)
        claims, left = Claims(folder, lease_seconds=self.lease_seconds), unfinished(tasks, folder)
        workers: list[Started] = []
        fruitless, said = 0, ""
        try:
            while left:
                began = time.monotonic()
                claims.void_expired()
                for worker, ending in [(each, end) for each in workers if (end := each.ended())]:
                    workers.remove(worker)
                    worker.stop(0)
                    at_work = _attribute(worker, ending, left, claims, folder)
                    fruitless = 0 if at_work or ending.status == 0 else fruitless + 1
                    if fruitless >= TRIES:
                        said = f"{fruitless} workers in a row ended before they had a cell, the last with {ending.why}."
                        if not workers:
                            raise ValueError(said)
                live = claims.live()
                free = sum(not any(lock in live for lock in task.locks) for task in left)
                names = {held.worker for held in live.values()}
                coming = sum(worker.name not in names for worker in workers)
                if said and coming < len(workers):
                    warnings.warn(f"{said} No more are started while others train.", stacklevel=2)
                    said = ""
                wanted = min(free - coming, self.slots() - len(workers))
                if wanted > 0 and fruitless < TRIES:
                    workers += self.start_many(queue, wanted)
                if order := look():
                    queue.reorder(order)
                time.sleep(min(max(self.poll_seconds, 20 * (time.monotonic() - began)), MOST_POLL_SECONDS))
                left = unfinished(left, folder)
            look()
        finally:
            queue.remove()
            if left:
                for worker in workers:
                    worker.ask_to_stop()
            for worker in workers:
                worker.stop(STOP_SECONDS)


def _attribute(worker: Started, ending: Ending, left: Sequence[Task], claims: Claims, folder: Path) -> bool:
    """Note what a dead worker was at, and free it; whether it was at anything. A clean end holds nothing."""
    held = {lock: claim for lock, claim in claims.all().items() if claim.worker == worker.name}
    for claim in held.values():
        claims.void(claim)
    if ending.status == EXIT_CANNOT_WRITE:
        raise OSError(
            errno.EIO, f"a worker cannot write ({ending.said}). Once it can, the same command goes on", str(folder)
        )
    if not ending.preempted and ending.status != 0:
        for task in left:
            if any(lock in held for lock in task.locks):
                Failures(folder).add(task.id, f"its worker died with {ending.why}")
    return bool(held)


def worker_environment() -> dict[str, str]:
    """The environment of a worker: this process' own, large pages, and the word that its input is a pipe which closes with its
    starter."""
    return {"GLIBC_TUNABLES": LARGE_PAGES, **os.environ, "SCALING_WORKER_INPUT": "pipe"}
