"""A worker: claims tasks of a queue one after another, trains them, writes their records, until nothing is left to claim.

`python -m scaling.training.worker QUEUE NAME`. It needs nothing but the shared folder: engines only start it. It stops cleanly,
with its state kept and its claim released, on SIGTERM, on a scheduler's warning (SIGUSR1, SIGUSR2), when the queue's file is
gone, and, where its standard input is a pipe, when that closes. With --gang it is one of several that train each run together.
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
from scaling.runs import Run, cache_folder, write_whole
from scaling.training.gang import Gang
from scaling.training.state import KEEP, LEASE_SECONDS, STATE, TRIES, Claim, Claims, Failures, Lost, process, recorded
from scaling.training.tasks import Task, unfinished

if TYPE_CHECKING:
    from scaling.training.corpus import Corpus
    from scaling.training.train import Progress, Tracker, Watch

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

    @property
    def _order(self) -> Path:
        return self.path.with_suffix(".order")

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

    def reorder(self, tasks: Sequence[Task]) -> None:
        """Say in which order the tasks are to be claimed from now on."""
        write_whole(self._order, json.dumps([task.id for task in tasks]))

    def ordered(self, tasks: Sequence[Task]) -> Sequence[Task]:
        """These tasks in the order that was said last."""
        try:
            place = {id: number for number, id in enumerate(json.loads(self._order.read_text()))}
        except FileNotFoundError:
            return tasks
        return sorted(tasks, key=lambda task: place.get(task.id, len(place)))

    def remove(self) -> None:
        """Take the files away: its workers stop."""
        self.path.unlink(missing_ok=True)
        self._order.unlink(missing_ok=True)


class Worker:
    """One worker on one queue, or a process of one that is a gang."""

    def __init__(
        self, queue: Queue, name: str, corpus: Corpus, stopping: Callable[[], bool], gang: Gang | None = None
    ) -> None:
        self.queue, self.name, self.corpus, self.stopping = queue, name, corpus, stopping
        self.gang = gang or Gang()
        self.claims = Claims(queue.folder, lease_seconds=queue.lease_seconds)
        self.failures = Failures(queue.folder)
        self.trackers: list[Tracker] | None = None
        self.left: Sequence[Task] = queue.tasks

    def run(self) -> bool:
        """Train what can be claimed, the first of the queue first, until nothing can.

        False where a gang has come apart: what fails in one process leaves the others waiting, so that all must end.
        """
        while not self.gang.any(self.stopping()):
            task, claim = self._claimed() if self.gang.first else (None, None)
            task = self.gang.told(task)
            if task is None:
                return True
            if claim is None:
                sound = self._follow(task)
            else:
                with claim.kept(min(5.0, self.queue.lease_seconds / 4)):
                    sound = self._attend(task, claim)
            if not sound and self.gang.many:
                return False
        return True

    def _claimed(self) -> tuple[Task, Claim] | tuple[None, None]:
        """The first task that can be claimed, and the claim; none where nothing is free."""
        self.left = self.queue.ordered(unfinished(self.left, self.queue.folder))
        for task in self.left:
            claim = self.claims.take(task.locks, self.name)
            if claim is None:
                continue
            left = task.missing(recorded(self.queue.folder))  # done between our look and our claim
            tried = self.failures.of(task.id)
            if left and len(tried) < TRIES:
                return left, claim
            if left:
                self._give_up(left, claim, f"failed {len(tried)} times, last: {tried[-1]}")
            claim.release()
        return None, None

    def _attend(self, task: Task, claim: Claim) -> bool:
        """Train a claimed task, and note what fails; whether it came to its end, or to a stop that all processes agreed on."""
        from scaling.training.train import DeviceLost, Interrupted

        try:
            self._train(task, claim)
            self.failures.forget(task.id)
            return True
        except Interrupted:
            return True
        except Lost:
            return False
        except Exception as error:
            if _cannot_write(error) or isinstance(error, DeviceLost):  # this process is of no more use
                raise
            if isinstance(error, ValueError):  # the spec's fault: it would fail again
                self._give_up(task, claim, _reason(error))
            else:
                self.failures.add(task.id, _reason(error))
        return False

    def _follow(self, task: Task) -> bool:
        """Train with the first process of the gang, which alone writes."""
        from scaling.training.train import Interrupted

        try:
            self._begin(task, done=lambda run: None)
        except Interrupted:
            return True
        except Exception as error:
            print(_reason(error), file=sys.stderr)
            return False
        return True

    def _train(self, task: Task, claim: Claim) -> None:
        from scaling.training import train as trainer

        if self.trackers is None:
            self.trackers = trainer.chosen_trackers(self.queue.folder / STATE)
        trackers, pace = self.trackers, _Pace()

        def watch(progress: trainer.Progress) -> None:
            for tracker in trackers:
                tracker.step(progress)
            claim.told(
                id=progress.spec.id,
                step=progress.step,
                loss=progress.loss,
                seconds=progress.seconds,
                compile_seconds=progress.compile_seconds,
                steps_per_second=pace(progress, len(task.specs) if task.kind == "pack" else 1),
            )

        def done(run: Run) -> None:
            claim.require()
            if run.id not in recorded(self.queue.folder):
                run.write(self.queue.folder)
            for tracker in trackers:
                tracker.end(run)

        claim.beat(id=task.specs[0].id, step=0, loss=None, seconds=0.0, compile_seconds=0.0)
        self._begin(task, done=done, watch=watch)

    def _begin(self, task: Task, done: Callable[[Run], None], watch: Watch | None = None) -> None:
        from scaling.training import train as trainer

        checkpoints = self.queue.folder / STATE / "checkpoints"
        keep = (self.queue.folder / STATE / KEEP).exists()
        how = {"checkpoints": checkpoints, "watch": watch, "stopping": self.stopping, "keep": keep}
        if task.kind == "trunk":
            trainer.train_branches(task.specs, self.corpus, done=done, **how)
        elif task.kind == "pack":
            trainer.train_many(task.specs, self.corpus, done=done, trained=recorded(self.queue.folder), **how)
        else:
            done(trainer.train(task.specs[0], self.corpus, **how))

    def _give_up(self, task: Task, claim: Claim, reason: str) -> None:
        claim.require()
        done = recorded(self.queue.folder)
        for spec in task.specs:
            if spec.id not in done:
                Run.of(spec, status="failed", reason=reason).write(self.queue.folder)
        self.failures.forget(task.id)  # the records say it now; none who wants them tried again knows a pack's id


class _Pace:
    """Steps per second of a cell and those trained `at_once` with it, from the first that this worker trained; None before."""

    def __init__(self) -> None:
        self.first: dict[str, Progress] = {}

    def __call__(self, progress: Progress, at_once: int) -> float | None:
        first = self.first.setdefault(progress.spec.id, progress)
        if progress.seconds < first.seconds or progress.step < first.step:  # a trunk counts anew after each branch
            first = self.first[progress.spec.id] = progress
        seconds = progress.seconds - first.seconds
        return at_once * (progress.step - first.step) / seconds if seconds > 0 else None


def main(argv: Sequence[str] | None = None) -> int:
    """A worker's life."""
    parser = argparse.ArgumentParser(prog="python -m scaling.training.worker")
    parser.add_argument("queue", type=Path)
    parser.add_argument("name", nargs="?", default=uuid.uuid4().hex[:12])
    parser.add_argument("--core", type=int, help="run on this core alone")
    parser.add_argument(
        "--gang", action="store_true", help="train each run together with the other processes of this job"
    )
    parser.add_argument("--needs", metavar="PLATFORM", help="end where jax has no device of it, e.g. gpu")
    args = parser.parse_args(argv)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):  # schedulers warn a whole process group
        signal.signal(number, lambda *_: stopping.set())
    threading.Thread(target=_stop_at_end_of_input, args=(stopping,), daemon=True).start()
    try:
        queue = Queue.read(args.queue)
        _set_up_jax(args.core)
        gang = Gang.join() if args.gang else Gang()
        _require_device(args.needs)
        corpus = _corpus(queue.corpus)
        sound = Worker(queue, args.name, corpus, _Stopping(stopping, queue.path), gang).run()
    except (ValueError, OSError) as error:
        where = f"{error.filename}: " if isinstance(error, OSError) and error.filename else ""
        print(f"{where}{getattr(error, 'strerror', None) or error}", file=sys.stderr)
        return EXIT_CANNOT_WRITE if _cannot_write(error) else 1
    if not sound:
        sys.stderr.flush()
        os._exit(0 if gang.first else 1)  # what jax does at the end would wait for the others, which wait for this one
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
    _set_up_jax(int(argv[1]) if len(argv) > 1 else None)
    corpus = _corpus(Path(argv[0]))
    from scaling.training.train import measure

    for line in sys.stdin:
        rate, compile_seconds = measure(RunSpec.from_json(json.loads(line)), corpus)
        print(json.dumps([rate, compile_seconds]), flush=True)
    return 0


def _set_up_jax(core: int | None) -> None:
    """Take a core, and set jax up before it starts."""
    if core is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})  # before jax starts, which then takes one thread
    import jax

    jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def _require_device(platform: str | None) -> None:
    """Raise ValueError where jax has no device here, or none of the platform: no cell is to blame for that."""
    import jax

    try:
        found = jax.devices()[0].platform
    except Exception as error:  # whatever a plugin raises
        raise ValueError(
            f"jax has no device here ({_reason(error)}). Needed {platform or 'one'}; see JAX_PLATFORMS and CUDA_VISIBLE_DEVICES."
        ) from None
    if platform and found != platform:
        raise ValueError(
            f"jax has only a {found} here. Needed a {platform}: see that its driver answers and that jax's build for it is "
            "installed, or set JAX_PLATFORMS=cpu to train without."
        )


def _corpus(folder: Path) -> Corpus:
    """The corpus in a folder. Raises ValueError where it cannot be seen from here."""
    from scaling.training.corpus import Corpus

    if not folder.is_dir():
        raise ValueError(
            f"{folder}: no such corpus on this machine. Set SCALING_CACHE to a folder that all of them share."
        )
    return Corpus.load(folder)


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
        error = error.__cause__ or error.__context__
    return False


if __name__ == "__main__":
    sys.exit(measure(sys.argv[2:]) if sys.argv[1:2] == ["--measure"] else main())
