"""What a folder of runs holds beside its records: who trains what, and what failed. The one contract of all drivers.

Everything is a file in `<folder>/.sweep`, made atomically, so that workers on any machine that sees the folder agree. A
claim is `claims/<cell>.<generation>`, made by a hard link that fails where it exists; its owner writes it anew every few
seconds. Nobody compares clocks: a claim has expired when its content has not changed for LEASE_SECONDS of the *observer's* own
clock, or at once where its process can be seen to be gone. The next owner makes the next generation, and an owner
that finds one above its own has lost the claim and writes nothing more.
"""

from __future__ import annotations

import json
import os
import socket
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from scaling.runs import record_names

#: Folder inside a folder of runs for what is not a result: checkpoints, claims, failures.
STATE = ".sweep"

#: A file there: the last checkpoint of each run is kept in STATE/checkpoints when the run is done.
KEEP = "keep-checkpoints"

#: A claim that has not changed for this long, on the clock of whoever watches it, has expired.
LEASE_SECONDS = 60.0

#: Seconds between the heartbeats of a claim.
BEAT_SECONDS = 5.0

#: A task that has failed this often is recorded as failed.
TRIES = 3


class Lost(Exception):
    """A claim that somebody else holds now."""


def recorded(folder: str | Path) -> set[str]:
    """The ids of the cells that have a record in the folder."""
    return {name.removesuffix(".json") for name in record_names(folder)}


@dataclass(frozen=True)
class Held:
    """A claim as it lies in the folder: `path`, its `generation`, and what its owner wrote."""

    path: Path
    generation: int
    said: dict[str, Any]

    @property
    def token(self) -> str:
        """What tells this claim from every other."""
        return self.said.get("token", "")

    @property
    def worker(self) -> str:
        """The name of the worker that holds it."""
        return self.said.get("worker", "")


class Claims:
    """The claims in a folder of runs, as one process sees them."""

    def __init__(
        self,
        folder: str | Path,
        *,
        lease_seconds: float = LEASE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.place = Path(folder) / STATE / "claims"
        self.lease_seconds, self.clock = lease_seconds, clock
        self._seen: dict[tuple[Path, str], tuple[int, float]] = {}

    def all(self) -> dict[str, Held]:
        """The newest claim of every cell or trunk that has one, live or not, by its lock."""
        newest: dict[str, Held] = {}
        for path in self._paths():
            lock, _, number = path.name.partition(".")
            if number.isdigit() and (lock not in newest or newest[lock].generation < int(number)):
                with suppress(FileNotFoundError, json.JSONDecodeError):  # released meanwhile; cut short by a full disk
                    newest[lock] = Held(path, int(number), json.loads(path.read_text()))
        return newest

    def live(self) -> dict[str, Held]:
        """The claims that hold: not void, not of a process that is gone, and changed within the lease."""
        void = {path.name for path in self._paths() if path.suffix == ".void"}
        return {lock: held for lock, held in self.all().items() if self._holds(held, void)}

    def take(self, locks: Iterable[str], worker: str) -> Claim | None:
        """Claim all of these, or nothing: None where one of them is held."""
        wanted, live, before = sorted(locks), self.live(), self.all()
        if any(lock in live for lock in wanted):
            return None
        claim = Claim(self, worker)
        for lock in wanted:
            generation = before[lock].generation + 1 if lock in before else 0
            if not claim.add(self.place / f"{lock}.{generation}"):
                claim.release()
                return None
        return claim

    def void(self, held: Held) -> None:
        """Say that a claim holds no more: its owner is gone, or has not been heard of for the lease."""
        _write(held.path.with_name(f"{held.path.name}.{held.token}.void"), {})

    def void_expired(self) -> None:
        """Make void what has expired here, so that who looks for the first time need not wait for the lease."""
        live = self.live()
        for lock, held in self.all().items():
            if lock not in live:
                self.void(held)

    def _paths(self) -> list[Path]:
        return list(self.place.iterdir()) if self.place.is_dir() else []

    def _holds(self, held: Held, void: set[str]) -> bool:
        if f"{held.path.name}.{held.token}.void" in void or gone(held.said.get("process")):
            return False
        key, beat, now = (held.path, held.token), held.said.get("beat", 0), self.clock()
        if key not in self._seen or self._seen[key][0] != beat:
            self._seen[key] = (beat, now)
        return now - self._seen[key][1] < self.lease_seconds


class Claim:
    """What this process holds: its files, written anew by `beat`, and whether it still holds them."""

    def __init__(self, claims: Claims, worker: str) -> None:
        self.claims, self.worker, self.token = claims, worker, uuid.uuid4().hex[:12]
        self.paths: list[Path] = []
        self.lost = False
        self._beats, self._now, self._written = 0, {}, _awake()
        self._lock = threading.Lock()

    def add(self, path: Path) -> bool:
        """Make one claim file; False where somebody else was first."""
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(dir=path.parent, prefix=".claim", suffix=".partial")
        try:
            with os.fdopen(handle, "w") as file:
                file.write(self._content())
            os.link(partial, path)
        except FileExistsError:
            return False
        finally:
            os.unlink(partial)
        self.paths.append(path)
        return True

    def beat(self, **now: Any) -> None:
        """Write that this process lives, and how far it is; sets `lost` where the claim is somebody else's."""
        with self._lock:
            self._now = now or self._now
            self._beats += 1
            if self.lost or not all(self._mine(path) for path in self.paths):
                self.lost = True
                return
            with suppress(OSError):  # a full disk: the record will say so
                for path in self.paths:
                    _replace(path, self._content())
                self._written = _awake()

    def told(self, **now: Any) -> None:
        """`beat`, at most once a second. Raises Lost where the claim is somebody else's."""
        if _awake() - self._written > 1.0:
            self.beat(**now)
        if self.lost:
            raise Lost

    def require(self) -> None:
        """Raise Lost where the claim is somebody else's, looked up now."""
        self.beat()
        if self.lost:
            raise Lost

    @contextmanager
    def kept(self, seconds: float = BEAT_SECONDS) -> Iterator[None]:
        """Heartbeats from a thread while the block runs; then the claim is released."""
        end = threading.Event()

        def beats() -> None:
            while not end.wait(seconds):
                self.beat()

        thread = threading.Thread(target=beats, daemon=True)
        thread.start()
        try:
            yield
        finally:
            end.set()
            thread.join()
            self.release()

    def release(self) -> None:
        """Give the claim back: its files go, with those of the owners before."""
        for path in [] if self.lost else self.paths:
            lock, _, number = path.name.partition(".")
            for other in path.parent.glob(f"{lock}.*"):
                generation = other.name.split(".")[1]
                if generation.isdigit() and int(generation) <= int(number):
                    other.unlink(missing_ok=True)
        self.paths = []

    def _mine(self, path: Path) -> bool:
        lock, _, number = path.name.partition(".")
        if path.with_name(f"{path.name}.{self.token}.void").exists() or not path.exists():
            return False
        others = (other.name.partition(".")[2] for other in path.parent.glob(f"{lock}.*"))
        return not any(other.isdigit() and int(other) > int(number) for other in others)

    def _content(self) -> str:
        said = {"worker": self.worker, "token": self.token, "beat": self._beats, "process": process(), "now": self._now}
        return json.dumps(said)


class Failures:
    """How often each task of a folder has failed, and why: one file a failure, so that nobody overwrites another's."""

    def __init__(self, folder: str | Path) -> None:
        self.place = Path(folder) / STATE / "failures"

    def add(self, task: str, reason: str) -> None:
        """Note one failure."""
        number = len(self.of(task))
        _write(self.place / f"{task}.{number}.{uuid.uuid4().hex[:8]}", {"reason": reason})

    def of(self, task: str) -> list[str]:
        """The reasons so far, in order."""
        return [json.loads(path.read_text())["reason"] for path in sorted(self.place.glob(f"{task}.*"))]

    def forget(self, task: str) -> None:
        """Start counting again."""
        for path in self.place.glob(f"{task}.*"):
            path.unlink(missing_ok=True)


@cache
def _machine() -> str:
    """What two processes that can see each other's ids have in common: host name, boot and process namespace."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def process() -> dict[str, Any]:
    """This process, so that another on the same machine can tell whether it is gone."""
    return {"machine": _machine(), "pid": os.getpid(), "born": _born(os.getpid())}


def gone(who: dict[str, Any] | None) -> bool:
    """True where that process ran on this machine and is no more; False where it lives or cannot be seen from here."""
    if not who or who["machine"] != _machine() or who["born"] is None:
        return False
    return _born(who["pid"]) != who["born"]


def _born(pid: int) -> int | None:
    """When a process began, in ticks since boot; None where it is gone, or where there is no /proc."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if stat[0] in "ZX" else int(stat[19])  # a zombie is gone


def _awake() -> float:
    """Seconds on a clock that goes on while the machine sleeps, where there is one."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def _write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    _replace(path, json.dumps(content))


def _replace(path: Path, content: str) -> None:
    """Write a small file whole. Not synced: what is lost with the machine's power is a claim that nobody holds."""
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        partial.write_text(content)
        os.replace(partial, path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
