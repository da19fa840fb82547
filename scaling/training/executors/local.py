"""Local: worker processes on this machine, one a core on CPU, one a device elsewhere.

Two pinned processes train tiny models 1.5 to 2.2 times as fast as one process that may use both cores (benchmarks/README.md).
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import uuid
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

from scaling.grid import RunSpec
from scaling.training.executors.engine import Ending, Engine, Started, worker_environment
from scaling.training.gang import launched
from scaling.training.worker import Queue

#: Packages that bring jax an accelerator.
PLUGINS = ("jax_cuda12_plugin", "jax_cuda13_plugin", "jax_rocm60_plugin", "jax_rocm7_plugin", "jax_plugins", "libtpu")

#: Where the system shows GPUs.
DEVICES = Path("/dev")


@dataclass
class Local(Engine):
    """Worker processes on this machine, `devices` at once: cores on CPU (all of them), GPUs (all of them), or one for a TPU.

    Where the same sweep was started on several hosts that train each run together, one process, with all that is here.
    """

    devices: int | None = None
    lease_seconds: float = Engine.lease_seconds
    _workers: list[_Process] = field(default_factory=list, init=False, repr=False)
    _starts: Counter[_Place] = field(default_factory=Counter, init=False, repr=False)

    def slots(self) -> int:
        """One a place."""
        return len(self._places)

    @property
    def workers(self) -> int:
        """How many cells train at once, if there are as many."""
        return self.slots()

    @property
    def pack_bytes(self) -> float:
        """Memory of one GPU, in bytes, for packs; 0 on CPU, where training at once gains nothing, and over several hosts."""
        return _gpu_bytes() if accelerated() and not launched() else 0.0

    def start(self, queue: Queue) -> Started:
        """A process in a free place."""
        self._workers = [worker for worker in self._workers if worker.process.poll() is None]
        free = Counter(self._places) - Counter(worker.place for worker in self._workers)
        # one that was left least often, so that a place without a device is tried last
        place = min(free, key=self._starts.__getitem__, default=_Place())
        self._starts[place] += 1
        self._workers.append(_Process(place, queue))
        return self._workers[-1]

    def measure(self, specs: Sequence[RunSpec], corpus: Path) -> dict[str, tuple[float, float]]:
        """Tokens per second and seconds of compiling of each spec, measured in one worker on a second of training."""
        place = self._places[0]
        command = [sys.executable, "-m", "scaling.training.worker", "--measure", str(corpus)]
        command += [str(place.core)] if place.core is not None else []
        lines = "".join(json.dumps(asdict(spec)) + "\n" for spec in specs)
        done = subprocess.run(
            command, input=lines, capture_output=True, text=True, env={**worker_environment(), **place.variables}
        )
        answers = [line for line in done.stdout.splitlines() if line.startswith("[")]
        if done.returncode or len(answers) != len(specs):
            raise RuntimeError(f"the worker that measures died: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
        return {spec.id: tuple(json.loads(line)) for spec, line in zip(specs, answers)}

    @cached_property
    def _places(self) -> list[_Place]:
        if launched():
            return [_Place(gang=True)]
        if accelerated():
            gpus = _gpus()
            if not gpus:
                return [_Place()] * (self.devices or 1)
            count = self.devices or len(gpus)
            return [_Place(gpu=gpus[i % len(gpus)]) for i in range(count)]
        cores = usable_cores()
        wanted = self.devices or len(cores)
        return [_Place(core=cores[i] if wanted <= len(cores) and wanted > 1 else None) for i in range(wanted)]


@dataclass(frozen=True)
class _Place:
    """Where a worker runs: a core of its own, or a GPU, as CUDA names it; neither leaves the choice to the system."""

    core: int | None = None
    gpu: str | None = None
    gang: bool = False

    @property
    def variables(self) -> dict[str, str]:
        """The environment that names its device."""
        return {"CUDA_VISIBLE_DEVICES": self.gpu} if self.gpu else {}


class _Process(Started):
    """One worker process."""

    def __init__(self, place: _Place, queue: Queue) -> None:
        self.place, self.name = place, uuid.uuid4().hex[:12]
        command = [sys.executable, "-m", "scaling.training.worker", str(queue.path), self.name]
        command += ["--core", str(place.core)] if place.core is not None else []
        command += ["--needs", "gpu"] if place.gpu else []
        command += ["--gang"] if place.gang else []
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,  # closes when this process dies, and the worker stops cleanly
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**worker_environment(), **place.variables},
            start_new_session=True,  # Ctrl-C reaches the driver alone, which stops its workers in order
        )
        self.complaints: deque[str] = deque(maxlen=20)
        self.complaining = threading.Thread(target=self._collect, daemon=True)
        self.complaining.start()

    def ended(self) -> Ending | None:
        """See `Started`."""
        status = self.process.poll()
        if status is None:
            return None
        self.complaining.join(1)
        return Ending(status, self.complaints[-1] if self.complaints else "")

    def ask_to_stop(self) -> None:
        """See `Started`."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)

    def stop(self, seconds: float) -> None:
        """See `Started`."""
        assert self.process.stdin
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        with suppress(BrokenPipeError):
            self.process.stdin.close()

    def _collect(self) -> None:
        assert self.process.stderr
        with self.process.stderr as lines:
            self.complaints.extend(line.strip() for line in lines if line.strip())


def accelerated() -> bool:
    """Whether jax has an accelerator's package here, and may use it; the accelerator itself is not touched."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") == "" and not find_spec("libtpu")
    return any(find_spec(name) for name in PLUGINS) and os.environ.get("JAX_PLATFORMS") != "cpu" and not hidden


def usable_cores() -> list[int]:
    """The processor cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA names them.

    Where nvidia-smi does not say, CUDA's numbers: those of /dev are the machine's, and CUDA counts what a container has from 0.
    """
    if (named := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name for name in named.split(",") if name]
    found = [path for path in DEVICES.glob("nvidia[0-9]*") if re.fullmatch(r"nvidia\d+", path.name)]
    if not found:
        return []
    ids = _asked("uuid")
    return ids if ids and all(id.startswith("GPU-") for id in ids) else [str(number) for number in range(len(found))]


def _gpu_bytes() -> float:
    """Memory of the smallest GPU here, in bytes, as nvidia-smi says; 0 where it says nothing, and then nothing is packed."""
    try:
        return min(map(float, _asked("memory.total"))) * 2**20
    except ValueError:
        return 0.0


def _asked(what: str) -> list[str]:
    """What nvidia-smi says of each GPU; nothing where it does not answer."""
    command = ["nvidia-smi", f"--query-gpu={what}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [] if done.returncode else [line.strip() for line in done.stdout.splitlines() if line.strip()]
