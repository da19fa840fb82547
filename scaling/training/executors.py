"""Executors: who trains the cells. When `run` returns, every finished spec has its record in the folder.

`Local` starts worker processes on this machine, one a core on CPU: two pinned processes train tiny models 2.6
times as fast as one process with two threads (benchmarks/README.md). A worker is
`python -m scaling.training.executors`; it reads a spec a line on its standard input and answers with events.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from scaling.grid import RunSpec
from scaling.runs import Run

#: A cell whose worker dies is given to another worker until it has been tried this often.
TRIES = 3

#: Packages that bring jax an accelerator.
PLUGINS = ("jax_cuda12_plugin", "jax_cuda13_plugin", "jax_rocm60_plugin", "jax_rocm7_plugin", "jax_plugins", "libtpu")

#: Folder inside a folder of runs for what is not a result: checkpoints.
STATE = ".sweep"

#: Seconds a worker is given to write its checkpoint after it was asked to stop.
STOP_SECONDS = 60.0


@dataclass(frozen=True)
class Event:
    """What a worker says: `kind` is start, progress, done, failed, or measured; `seconds` are those trained so far."""

    kind: str
    id: str
    worker: int
    step: int = 0
    loss: float | None = None
    seconds: float = 0.0
    compile_seconds: float = 0.0
    tokens_per_second: float | None = None
    reason: str | None = None


Report = Callable[[Event], None]


class Executor(Protocol):
    """Trains specs: afterwards each has `<folder>/<id>.json`, finished or failed."""

    def run(self, specs: Sequence[RunSpec], folder: Path, corpus: Path, report: Report) -> None:
        """Train the specs, in this order, on the cached corpus in folder `corpus`."""
        ...


@dataclass(frozen=True)
class Local:
    """Worker processes on this machine: on CPU one a core, each pinned to its own; else one for all devices."""

    processes: int | None = None

    def run(self, specs: Sequence[RunSpec], folder: Path, corpus: Path, report: Report) -> None:
        """See `Executor.run`. A KeyboardInterrupt stops the workers, which keep their state, and goes on up."""
        waiting = deque(specs)
        tries: Counter[str] = Counter()
        said: queue.Queue[tuple[_Worker, dict[str, Any] | None]] = queue.Queue()
        workers = [_Worker(slot, core, folder, corpus, said) for slot, core in enumerate(self._cores()[: len(specs)])]
        for worker in workers:
            worker.give(waiting.popleft())
        try:
            while workers:
                worker, message = said.get()
                if worker not in workers:
                    continue
                if message is not None:
                    report(Event(worker=worker.slot, **message))
                    if message["kind"] not in ("done", "failed"):
                        continue
                else:
                    workers.remove(worker)
                    spec = worker.spec
                    tries[spec.id] += 1
                    if tries[spec.id] < TRIES:
                        waiting.appendleft(spec)
                    else:
                        reason = f"its worker died {TRIES} times, last with {worker.ending()}."
                        Run.of(spec, status="failed", reason=reason).write(folder)
                        report(Event("failed", spec.id, worker.slot, reason=reason))
                    worker.stop(0)
                    worker = _Worker(worker.slot, worker.core, folder, corpus, said)
                    workers.append(worker)
                if waiting:
                    worker.give(waiting.popleft())
                else:
                    workers.remove(worker)
                    worker.stop(STOP_SECONDS)
        finally:
            for worker in workers:
                worker.ask_to_stop()
            for worker in workers:
                worker.stop(STOP_SECONDS)

    @property
    def workers(self) -> int:
        """How many cells train at once, if there are as many."""
        return len(self._cores())

    def measure(self, specs: Sequence[RunSpec], corpus: Path) -> dict[str, Event]:
        """Tokens per second and seconds of compiling of each spec, measured in one worker on a second of training."""
        said: queue.Queue[tuple[_Worker, dict[str, Any] | None]] = queue.Queue()
        worker = _Worker(0, self._cores()[0], Path(), corpus, said)
        try:
            measured = {}
            for spec in specs:
                worker.give(spec, measure=True)
                message = said.get()[1]
                if message is None:
                    raise RuntimeError(f"the worker that measures died with {worker.ending()}.")
                measured[spec.id] = Event(worker=0, **message)
            return measured
        finally:
            worker.ask_to_stop()
            worker.stop(STOP_SECONDS)

    def _cores(self) -> list[int | None]:
        """The core of each worker; None leaves the choice to the system."""
        if any(find_spec(name) for name in PLUGINS) and os.environ.get("JAX_PLATFORMS") != "cpu":
            return [None] * (self.processes or 1)
        cores = usable_cores()
        wanted = self.processes or len(cores)
        return [cores[i] if wanted <= len(cores) and wanted > 1 else None for i in range(wanted)]


class _Worker:
    """One worker process, and the spec that it is training."""

    def __init__(self, slot: int, core: int | None, folder: Path, corpus: Path, said: queue.Queue) -> None:
        self.slot, self.core = slot, core
        command = [sys.executable, "-m", "scaling.training.executors", str(folder), str(corpus)]
        self.process = subprocess.Popen(
            command + ([str(core)] if core is not None else []),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C reaches the driver alone, which stops its workers in order
        )
        self.complaints: deque[str] = deque(maxlen=20)
        threading.Thread(target=self._listen, args=(said,), daemon=True).start()
        self.complaining = threading.Thread(target=self._collect, daemon=True)
        self.complaining.start()

    def give(self, spec: RunSpec, *, measure: bool = False) -> None:
        """Send one spec, to train or only to measure."""
        self.spec = spec
        assert self.process.stdin
        with suppress(BrokenPipeError):  # it died; its end of output says so to the driver
            self.process.stdin.write(json.dumps({"spec": asdict(spec), "measure": measure}) + "\n")
            self.process.stdin.flush()

    def ask_to_stop(self) -> None:
        """Ask for a clean stop: state kept at the end of the chunk."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)

    def stop(self, seconds: float) -> None:
        """Wait for its end, and after `seconds` end it."""
        assert self.process.stdin
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def ending(self) -> str:
        """How it ended, with the last thing that it complained of."""
        status = self.process.wait()
        self.complaining.join(1)
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        return f"{how}: {self.complaints[-1]}" if self.complaints else how

    def _listen(self, said: queue.Queue) -> None:
        assert self.process.stdout
        with self.process.stdout as lines:
            for line in lines:
                try:
                    said.put((self, json.loads(line)))
                except json.JSONDecodeError:  # a library that prints
                    self.complaints.append(line.strip())
        said.put((self, None))

    def _collect(self) -> None:
        assert self.process.stderr
        with self.process.stderr as lines:
            self.complaints.extend(line.strip() for line in lines if line.strip())


def usable_cores() -> list[int]:
    """The processor cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def work(folder: Path, corpus_folder: Path, core: int | None) -> None:
    """A worker's life: read a spec a line from standard input, train it, write its record, say so."""
    if core is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})  # before jax starts, which then takes one thread
    import jax

    from scaling.training.corpus import Corpus, cache_folder
    from scaling.training.train import Interrupted, Progress, measure, train

    jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    corpus = Corpus.load(corpus_folder)
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())

    def watch(progress: Progress) -> None:
        seconds = {"seconds": progress.seconds, "compile_seconds": progress.compile_seconds}
        _say("progress", progress.spec.id, step=progress.step, loss=progress.loss, **seconds)

    for line in sys.stdin:
        task = json.loads(line)
        spec = RunSpec.from_json(task["spec"])
        if task["measure"]:
            rate, compile_seconds = measure(spec, corpus)
            _say("measured", spec.id, tokens_per_second=rate, compile_seconds=compile_seconds)
            continue
        _say("start", spec.id)
        checkpoints = folder / STATE / "checkpoints"
        try:
            run = train(spec, corpus, checkpoints=checkpoints, watch=watch, stopping=stopping.is_set)
        except Interrupted:
            return
        except Exception as error:
            run = Run.of(spec, status="failed", reason=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
        run.write(folder)
        took = {"seconds": run.seconds or 0.0, "compile_seconds": run.compile_seconds or 0.0}
        _say(run.status, spec.id, step=run.steps, loss=run.loss, reason=run.reason, **took)
        if stopping.is_set():
            return


def _say(kind: str, id: str, **event: Any) -> None:
    try:
        print(json.dumps({"kind": kind, "id": id, **event}), flush=True)
    except BrokenPipeError:  # the driver is gone: stop here, the state of this cell is kept
        os._exit(1)


if __name__ == "__main__":
    work(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else None)
