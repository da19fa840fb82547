"""A worker: claims tasks of a queue one after another, trains them, writes their records, until nothing is left to claim.

`python -m scaling.training.worker QUEUE NAME`. It needs nothing but the shared folder: engines only start it. It stops
cleanly, with its state kept and its claim released, on SIGTERM, when the queue's file is gone, and, where its standard input is
a pipe, when that closes.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scaling.grid import RunSpec
from scaling.runs import Run, write_whole
from scaling.training.state import LEASE_SECONDS, STATE, TRIES, Claim, Claims, Failures, Lost, process, recorded
from scaling.training.tasks import Task, unfinished

if TYPE_CHECKING:
    from scaling.training.corpus import Corpus
    from scaling.training.train import Tracker

#: Exit status of a worker that cannot write into the folder; its last line says why.
EXIT_CANNOT_WRITE = 74

#: What the system says where nothing can be written any more.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)


@dataclass(frozen=True)
class Queue:
    """The tasks of one driver, in order, as a file in the folder of runs; its workers stop when it is gone."""

    path: Path
    corpus: Path
    tasks: tuple[Task, ...]
    lease_seconds: float = LEASE_SECONDS

    @property
    def folder(self) -> Path:
        """The folder of runs."""
        return self.path.parents[1]

    @classmethod
    def write(cls, folder: Path, corpus: Path, tasks: Sequence[Task], lease_seconds: float) -> Queue:
        """A new queue in the folder."""
        path = folder.absolute() / STATE / f"queue-{uuid.uuid4().hex[:12]}.json"
        said = [{"kind": task.kind, "specs": [asdict(spec) for spec in task.specs]} for task in tasks]
        queue = cls(path, corpus, tuple(tasks), lease_seconds)
        content = {"corpus": str(corpus.absolute()), "tasks": said, "lease_seconds": lease_seconds, "driver": process()}
        write_whole(path, json.dumps(content))
        return queue

    @classmethod
    def read(cls, path: Path) -> Queue:
        """The queue in a file. Raises ValueError where the file cannot be seen from here."""
        try:
            said = json.loads(path.read_text())
        except FileNotFoundError:
            raise ValueError(
                f"{path}: not there. Its driver has ended, or this machine does not share the folder of runs."
            ) from None
        tasks = [Task(row["kind"], tuple(map(RunSpec.from_json, row["specs"]))) for row in said["tasks"]]
        return cls(path, Path(said["corpus"]), tuple(tasks), said["lease_seconds"])


class Worker:
    """One worker on one queue."""

    def __init__(self, queue: Queue, name: str, corpus: Corpus, stopping: Callable[[], bool]) -> None:
        self.queue, self.name, self.corpus, self.stopping = queue, name, corpus, stopping
        self.claims = Claims(queue.folder, lease_seconds=queue.lease_seconds)
        self.failures = Failures(queue.folder)
        self.trackers: list[Tracker] | None = None

    def run(self) -> None:
        """Train what can be claimed, the first of the queue first, until nothing can."""
        left: Sequence[Task] = self.queue.tasks
        while not self.stopping() and (left := unfinished(left, self.queue.folder)):
            for task in left:
                claim = self.claims.take(task.locks, self.name)
                if claim:
                    break
            else:
                return
            with claim.kept(min(5.0, self.queue.lease_seconds / 4)):
                task = task.missing(recorded(self.queue.folder))  # done between our look and our claim
                if task:
                    self._attend(task, claim)

    def _attend(self, task: Task, claim: Claim) -> None:
        """Train a claimed task; what fails is noted, and recorded as failed when it was tried often enough."""
        from scaling.training.train import DeviceLost, Interrupted

        tried = self.failures.of(task.id)
        if len(tried) >= TRIES:
            self._give_up(task, claim, f"failed {len(tried)} times, last: {tried[-1]}")
            return
        try:
            self._train(task, claim)
            self.failures.forget(task.id)
        except (Interrupted, Lost):
            return
        except ValueError as error:  # the spec's fault: it would fail again
            self._give_up(task, claim, _reason(error))
        except Exception as error:
            if _cannot_write(error) or isinstance(error, DeviceLost):  # this process is of no more use
                raise
            self.failures.add(task.id, _reason(error))

    def _train(self, task: Task, claim: Claim) -> None:
        from scaling.training import train as trainer

        if self.trackers is None:
            self.trackers = trainer.chosen_trackers(self.queue.folder / STATE)
        trackers = self.trackers

        def watch(progress: trainer.Progress) -> None:
            for tracker in trackers:
                tracker.step(progress)
            claim.told(
                id=progress.spec.id,
                step=progress.step,
                loss=progress.loss,
                seconds=progress.seconds,
                compile_seconds=progress.compile_seconds,
            )

        def done(run: Run) -> None:
            claim.require()
            if run.id not in recorded(self.queue.folder):
                run.write(self.queue.folder)
            for tracker in trackers:
                tracker.end(run)

        claim.beat(id=task.specs[0].id, step=0, loss=None, seconds=0.0, compile_seconds=0.0)
        checkpoints = self.queue.folder / STATE / "checkpoints"
        how = {"checkpoints": checkpoints, "watch": watch, "stopping": self.stopping}
        if task.kind == "trunk":
            trainer.train_branches(task.specs, self.corpus, done=done, **how)
        elif task.kind == "pack":
            trainer.train_many(task.specs, self.corpus, done=done, **how)
        else:
            done(trainer.train(task.specs[0], self.corpus, **how))

    def _give_up(self, task: Task, claim: Claim, reason: str) -> None:
        claim.require()
        done = recorded(self.queue.folder)
        for spec in task.specs:
            if spec.id not in done:
                Run.of(spec, status="failed", reason=reason).write(self.queue.folder)


def main(argv: Sequence[str] | None = None) -> int:
    """A worker's life."""
    parser = argparse.ArgumentParser(prog="python -m scaling.training.worker")
    parser.add_argument("queue", type=Path)
    parser.add_argument("name", nargs="?", default=uuid.uuid4().hex[:12])
    parser.add_argument("--core", type=int, help="run on this core alone")
    args = parser.parse_args(argv)
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    threading.Thread(target=_stop_at_end_of_input, args=(stopping,), daemon=True).start()
    try:
        queue = Queue.read(args.queue)
        corpus = _begin(queue.corpus, args.core)
        Worker(queue, args.name, corpus, _Stopping(stopping, queue.path)).run()
    except (ValueError, OSError) as error:
        where = f"{error.filename}: " if isinstance(error, OSError) and error.filename else ""
        print(f"{where}{getattr(error, 'strerror', None) or error}", file=sys.stderr)
        return EXIT_CANNOT_WRITE if _cannot_write(error) else 1
    return 0


class _Stopping:
    """True once this worker is to stop; looks for the queue's file at most once a second."""

    def __init__(self, asked: threading.Event, queue: Path) -> None:
        self.asked, self.queue, self.looked = asked, queue, time.monotonic()

    def __call__(self) -> bool:
        if not self.asked.is_set() and time.monotonic() - self.looked > 1.0:
            self.looked = time.monotonic()
            if not self.queue.exists():
                self.asked.set()
        return self.asked.is_set()


def measure(argv: Sequence[str]) -> int:
    """Measure the specs on standard input, one a line: tokens per second and seconds of compiling, a JSON line each."""
    corpus = _begin(Path(argv[0]), int(argv[1]) if len(argv) > 1 else None)
    from scaling.training.train import measure

    for line in sys.stdin:
        rate, compile_seconds = measure(RunSpec.from_json(json.loads(line)), corpus)
        print(json.dumps([rate, compile_seconds]), flush=True)
    return 0


def _begin(corpus: Path, core: int | None) -> Corpus:
    """Take a core, set jax up, load the corpus. Raises ValueError where it cannot be seen from here."""
    if core is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})  # before jax starts, which then takes one thread
    import jax

    from scaling.training.corpus import Corpus, cache_folder

    jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    if not corpus.is_dir():
        raise ValueError(
            f"{corpus}: no such corpus on this machine. Set SCALING_CACHE to a folder that all of them share."
        )
    return Corpus.load(corpus)


def _stop_at_end_of_input(stopping: threading.Event) -> None:
    """A driver that dies closes the pipe; what is no pipe says nothing."""
    if sys.stdin and not sys.stdin.isatty() and os.environ.get("SCALING_WORKER_INPUT") == "pipe":
        sys.stdin.read()
        stopping.set()


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _cannot_write(error: BaseException | None) -> bool:
    """Whether an error, or one behind it, says that nothing can be written any more."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in FULL:
            return True
        if os.strerror(errno.ENOSPC) in str(error):  # from a library that wraps it
            return True
        error = error.__cause__ or error.__context__
    return False


if __name__ == "__main__":
    sys.exit(measure(sys.argv[2:]) if sys.argv[1:2] == ["--measure"] else main())
